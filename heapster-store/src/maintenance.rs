//! The explicit upkeep of a store: sync, flush when it is due, drop what is past its time, verify.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::TimeRange;

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::planted::{self, Bug};
use crate::recovery::{set_aside, shown};
use crate::reserve::Reserve;
use crate::retention::{ClockWatch, Limits, expired};
use crate::segment::{Segment, SegmentInfo};
use crate::snapshot::View;
use crate::stats::MaintenanceReport;
use crate::store::Store;
use crate::tier::{TierState, limits_of, oldest_needed};

/// How much of the clock's probation a restart forgets at most.
const PROBATION_STEP: Duration = Duration::from_secs(3600);

/// What maintenance works on; one thread at a time.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub manifest: Manifest,
    pub reserve: Reserve,
    pub watch: ClockWatch,
    /// Monotonic time of the last flush, or of the opening.
    pub last_flush: Duration,
    /// The last flush froze a head and then failed: its heads are flushed before another is frozen,
    /// so that generations do not pile up.
    pub is_frozen_pending: bool,
    /// Monotonic time before which a flush that fell due is not tried again.
    pub retry_from: Duration,
    /// Generations whose log file is damaged and is kept in quarantine.
    pub damaged_generations: Vec<u64>,
    /// Segments that are damaged and are kept in quarantine once the manifest does not name them.
    pub damaged_segments: Vec<u64>,
    /// Segments that the system did not let us read when the store was opened.
    pub unavailable: Vec<SegmentInfo>,
    /// Stale ranges of tiers, by the tier's number, that are not built again before the store is
    /// opened the next time: their samples are damaged, or their buckets may come back.
    pub blocked: Vec<(u8, TimeRange)>,
}

impl Upkeep {
    /// The states of the tiers as far as something is to be done about them.
    pub fn states_to_build(&self) -> Vec<TierState> {
        let mut states = self.manifest.tiers.clone();
        for (tier, range) in &self.blocked {
            if let Some(state) = states.iter_mut().find(|state| state.tier == *tier) {
                state.mark_built(*range);
            }
        }
        states
    }
}

impl Store {
    /// Does one step of upkeep: syncs the log, flushes the head when it is due, drops segments past
    /// their time. Call it about once a second, from one thread or several.
    ///
    /// # Errors
    /// What [`Store::sync`] and [`Store::flush`] say, or that the manifest could not be replaced.
    /// Nothing acknowledged is lost; except after [`Error::Poisoned`] the next call tries again.
    ///
    /// # Cost
    /// A sync, and about 100 ns per sample when a flush is due. Appends and reads go on meanwhile.
    pub fn maintain(&self) -> Result<MaintenanceReport> {
        let result = self.sync().and_then(|()| self.maintain_synced());
        result.inspect_err(|error| self.note(error))
    }

    fn maintain_synced(&self) -> Result<MaintenanceReport> {
        let mut upkeep = self.upkeep.lock();
        let view = self.current_view();
        for head in &view.heads {
            head.catch_up();
        }
        let is_due = self.is_flush_due(&upkeep, &view) && self.may_flush_again(&upkeep);
        let flushed = if is_due { self.flush_heads(&mut upkeep) } else { Ok(false) };
        // Also when the flush failed: what retention deletes may be the room that was missing.
        let expired_segments = self.retain(&mut upkeep);
        if !upkeep.reserve.is_whole() {
            self.keep_reserve(&mut upkeep);
        }
        Ok(MaintenanceReport { flushed: flushed?, expired_segments: expired_segments? })
    }

    fn retain(&self, upkeep: &mut Upkeep) -> Result<usize> {
        self.check_poison()?;
        let (now, monotonic) = self.time();
        let is_trusted = upkeep.watch.look(now, monotonic);
        let is_suspect = upkeep.watch.is_suspect();
        self.counters.lock().is_clock_suspect = is_suspect;
        let mut manifest = upkeep.manifest.clone();
        manifest.clock_probation = upkeep.watch.probation(monotonic);
        let is_clock_news = {
            let (before, now) = (upkeep.manifest.clock_probation, manifest.clock_probation);
            before.is_zero() != now.is_zero() || before.abs_diff(now) >= PROBATION_STEP
        };
        let trusted = (is_trusted || planted::has(Bug::ClockBelieved)).then_some(now);
        let tiers: BTreeSet<u8> = manifest.segments.iter().map(|segment| segment.tier).collect();
        for tier in tiers {
            let of_tier: Vec<_> = manifest.segments.iter().filter(|s| s.tier == tier).collect();
            let needed_from = oldest_needed(&upkeep.states_to_build(), &self.options.tiers);
            let is_awaited = tier == 0 && !planted::has(Bug::TiersNotAwaited);
            let needed_from = Some(needed_from).filter(|_| is_awaited);
            let limits = self.limits(&manifest, tier);
            let gone = expired(&of_tier, limits, trusted, needed_from);
            manifest.expire(&gone);
        }
        let expired = upkeep.manifest.segments.len() - manifest.segments.len();
        if expired == 0 && !is_clock_news {
            return Ok(0);
        }
        self.publish(upkeep, manifest, Vec::new())?;
        self.counters.lock().expired_segments += expired as u64;
        Ok(expired)
    }

    /// How much of a tier is kept.
    fn limits(&self, manifest: &Manifest, tier: u8) -> Limits {
        match tier {
            0 => Limits { age: self.options.retention, bytes: self.options.retention_bytes },
            tier => limits_of(manifest, tier, &self.options.tiers),
        }
    }

    /// Makes a manifest the store's, then shows readers what it names, then deletes the files of the
    /// segments it does not name any more. `added` are those it names for the first time.
    pub(crate) fn publish(
        &self,
        upkeep: &mut Upkeep,
        mut manifest: Manifest,
        added: Vec<Arc<Segment>>,
    ) -> Result<()> {
        manifest.number += 1;
        self.replace_manifest(upkeep, &manifest)?;
        upkeep.manifest = manifest;
        let gone = {
            let mut view = self.view.write();
            let all = view.segments.iter().chain(&view.rollups).cloned().chain(added);
            let (named, gone): (Vec<_>, Vec<Arc<Segment>>) =
                all.partition(|segment| upkeep.manifest.names(segment.info().id));
            let heads = view.heads.iter();
            let heads = heads.filter(|head| head.generation >= upkeep.manifest.wal_floor);
            let shown = shown(&upkeep.manifest, &upkeep.unavailable);
            let quarantine = Arc::clone(&view.quarantine);
            *view = Arc::new(View::new(&shown, named, heads.cloned().collect(), quarantine));
            gone
        };
        self.current_view().quarantine.keep_those_of(|id| upkeep.manifest.names(id));
        let vfs = &*self.options.vfs;
        for segment in gone {
            // A reader may still map it. What cannot be removed now is removed at the next open.
            if upkeep.damaged_segments.contains(&segment.info().id) {
                let _ = set_aside(vfs, &self.paths, segment.path());
            } else {
                let _ = vfs.remove(segment.path());
            }
        }
        self.keep_reserve(upkeep);
        Ok(())
    }

    /// Removes the files of segments that did not become part of the store.
    pub(crate) fn discard(&self, segments: &[Arc<Segment>]) {
        // After a failed rename nobody knows whether the manifest names them.
        if self.check_poison().is_ok() {
            for segment in segments {
                let _ = self.options.vfs.remove(segment.path());
            }
        }
    }

    fn replace_manifest(&self, upkeep: &mut Upkeep, manifest: &Manifest) -> Result<()> {
        let vfs = &*self.options.vfs;
        let prepare = || {
            let prepared = manifest.prepare(vfs, &self.paths);
            prepared.inspect_err(|error| self.poison_if_sync(error))
        };
        let publish = || Manifest::publish(vfs, &self.paths).inspect_err(|_| self.poison("rename"));
        match prepare() {
            Err(full @ Error::DiskFull { .. }) => {
                // Appends would take the room.
                let _writer = self.writer.lock();
                if !upkeep.reserve.give_up(vfs, &self.paths) {
                    return Err(full);
                }
                prepare()?;
                publish()?;
                // The room of the manifest before.
                upkeep.reserve.keep(vfs, &self.paths, manifest.to_bytes().len());
                Ok(())
            }
            prepared => prepared.and_then(|()| publish()),
        }
    }

    /// Makes what is missing of the reserve.
    fn keep_reserve(&self, upkeep: &mut Upkeep) {
        let Upkeep { reserve, manifest, .. } = upkeep;
        let vfs = &*self.options.vfs;
        // What deletion freed, before appends take it.
        let _writer = (!reserve.is_whole()).then(|| self.writer.lock());
        reserve.keep(vfs, &self.paths, manifest.to_bytes().len());
    }

    /// Poisons the store when the error is a failed sync.
    pub(crate) fn poison_if_sync(&self, error: &Error) {
        if let Error::Io { op: "sync", .. } = error {
            self.poison("sync");
        }
    }

    /// Checks every segment: all checksums, and that every chunk decodes. Gives what is wrong, an
    /// error for each damaged segment.
    ///
    /// # Cost
    /// Reads and decodes the whole store.
    pub fn verify(&self) -> Vec<Error> {
        let view = self.current_view();
        let all = view.segments.iter().chain(&view.rollups);
        all.filter_map(|segment| segment.verify().err()).collect()
    }
}
