//! Compaction: small segments become large ones, deletions reach the disk, old days get smaller.
//!
//! One unit of work is one merge. Its number is taken before its inputs are chosen, so that whatever
//! is flushed meanwhile has a higher one, and a deletion that comes meanwhile hides its output as
//! well. `background` is held for all of it, `upkeep` only to take the number and to commit; no lock
//! that appends or reads wait for is held while rows are merged. As with a flush the output is
//! durable under its name before the manifest names it, and only then the inputs go.

mod merge;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heapster_core::storage::{Columns, Selector};

use crate::error::{Error, Result};
use crate::flush::RETRY_WAIT;
use crate::options::LateWindow;
use crate::planted::{self, Bug};
use crate::quarantine::Losses;
use crate::segment::{Segment, SegmentInfo};
use crate::snapshot::View;
use crate::stats::CompactReport;
use crate::store::Store;
use crate::tier::{self, TierState};
use crate::tombstone::Tombstone;

use merge::{Input, Tally};
use plan::{Merge, Situation};

/// Room on the disk that a merge leaves.
const RESERVE_BYTES: u64 = 64 << 20;
/// Windows of flushing in a window that is merged before its day is over.
const FLUSHES_PER_WINDOW: u32 = 4;
/// How late rows come where [`LateWindow::Any`] says nothing.
const LATE_WINDOW: Duration = Duration::from_secs(3_600);

/// What background work remembers; one unit of it at a time.
#[derive(Debug, Default)]
pub(crate) struct Background {
    /// Monotonic time before which nothing is tried again after a failure.
    pub retry_from: Duration,
    /// Segments that cannot be merged, until the store is opened again.
    pub given_up: BTreeSet<u64>,
}

impl Store {
    /// Does one unit of background work: merges segments whose window is over into one, leaves out
    /// what was deleted, or encodes an old day for size. Does nothing when nothing is due, see
    /// [`CompactReport::is_idle`]. Call it again and again, from a thread of its own: a unit takes
    /// about as long as writing its inputs anew, up to a day of samples.
    ///
    /// Reads, appends, syncs and flushes go on meanwhile, and a snapshot reads the same before and
    /// after.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`]: nothing has changed; for ten seconds further calls do
    /// nothing. Inputs that the system refuses to read are left alone until the store is opened again.
    /// [`Error::Poisoned`]: reopen the store. What is damaged in the inputs is no error: it is left
    /// out, the damaged file is kept in `quarantine/`, and [`crate::Stats`] says so.
    pub fn compact(&self) -> Result<CompactReport> {
        let mut background = self.background.lock();
        if self.options.clock.monotonic() < background.retry_from {
            return Ok(CompactReport::default());
        }
        self.compact_once(&mut background, false)
    }

    /// Flushes, then merges all there is to merge, also what more rows may come to: at the end of an
    /// import or before a backup.
    ///
    /// # Errors
    /// As [`Store::flush`] and [`Store::compact`]; what was merged before stays merged.
    pub fn compact_all(&self) -> Result<CompactReport> {
        self.flush()?;
        let mut background = self.background.lock();
        let mut total = CompactReport::default();
        loop {
            let report = self.compact_once(&mut background, true)?;
            total.add(&report);
            if report.is_idle() || report.lacks_room {
                return Ok(total);
            }
        }
    }

    /// Lets a unit of background work that runs end soon, without a result, and later ones do
    /// nothing: for a program that is about to end.
    pub fn stop_background(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    fn compact_once(
        &self,
        background: &mut Background,
        is_thorough: bool,
    ) -> Result<CompactReport> {
        let result = self.drop_tombstones().and_then(|tombstones_done| {
            let report = self.compact_due(background, is_thorough)?;
            Ok(CompactReport { tombstones_done, ..report })
        });
        result.inspect_err(|error| {
            background.retry_from = self.options.clock.monotonic() + RETRY_WAIT;
            self.note(error);
        })
    }

    fn compact_due(&self, background: &mut Background, is_thorough: bool) -> Result<CompactReport> {
        self.check_poison()?;
        let has_work = |view: &View, background: &Background| -> Result<bool> {
            Ok(!self.due(view, background, is_thorough)?.is_empty())
        };
        if self.is_stopped() || !has_work(&self.current_view(), background)? {
            return Ok(CompactReport::default());
        }
        // First the number, then the choice: so every other segment the choice does not know of has
        // a higher number.
        let (id, view) = {
            let mut upkeep = self.upkeep.lock();
            let id = upkeep.manifest.next_segment;
            upkeep.manifest.next_segment += 1;
            (id, self.current_view())
        };
        let room = self.options.vfs.free_bytes(&self.paths.tier_dir(0));
        let room = room.map_err(|error| Error::io("ask for room in", self.paths.root(), error))?;
        let due = self.due(&view, background, is_thorough)?;
        let lacks_room = !due.is_empty();
        for Merge { inputs, effort } in due {
            let is_input = |segment: &&Arc<Segment>| inputs.contains(&segment.info().id);
            let segments: Vec<_> = view.segments.iter().filter(is_input).cloned().collect();
            let bytes: u64 = segments.iter().map(|segment| segment.info().len).sum();
            if room < bytes.saturating_add(RESERVE_BYTES) {
                continue;
            }
            let inputs = segments.into_iter().map(|segment| Input::new(segment, &view.tombstones));
            let mut inputs: Vec<Input> = inputs.collect::<Result<_>>()?;
            let losses = Losses::new(Arc::clone(&view.quarantine));
            let merged =
                self.write_merge(id, effort, &mut inputs, &losses).and_then(
                    |merged| match merged {
                        Some((tally, output)) => self.commit_merge(&inputs, tally, output),
                        None => Ok(CompactReport::default()),
                    },
                );
            return merged.inspect_err(|error| match error {
                Error::Io { op, .. } if *op != "read" => {}
                Error::DiskFull { .. } | Error::Poisoned { .. } => {}
                // The same would happen again; what cannot be read now may be there after a restart.
                _ => background.given_up.extend(inputs.iter().map(|i| i.segment.info().id)),
            });
        }
        Ok(CompactReport { lacks_room, ..CompactReport::default() })
    }

    fn due(&self, view: &View, background: &Background, is_thorough: bool) -> Result<Vec<Merge>> {
        let segments: Vec<SegmentInfo> = view.segments.iter().map(|s| s.info().clone()).collect();
        let mut hidden = Vec::new();
        for segment in &view.segments {
            // One with a damaged index is written anew as well, before the other copy is damaged.
            let is_faulty = !segment.index_faults().is_empty();
            if is_faulty || hides_any(&view.tombstones, segment, &view.tiers)? {
                hidden.push(segment.info().id);
            }
        }
        let window = self.options.flush_window * FLUSHES_PER_WINDOW;
        let now = self.options.clock.now();
        let cold = self.options.cold_after.map(|age| now.saturating_sub(age).as_millis());
        let mut due = plan::plan(&Situation {
            segments: &segments,
            hidden: &hidden,
            settled: if is_thorough { i64::MAX } else { self.settled(view) },
            cold,
            window: window.as_millis() as i64,
            is_thorough,
        });
        due.retain(|merge| merge.inputs.iter().all(|input| !background.given_up.contains(input)));
        Ok(due)
    }

    /// Before this time, in milliseconds, no more rows are expected.
    fn settled(&self, view: &View) -> i64 {
        let Some(newest) = self.newest_believed() else { return i64::MIN };
        let in_memory = view.heads.iter().filter_map(|head| head.bounds()).map(|b| b.start);
        in_memory.fold(newest.saturating_sub(self.late_window()), Ord::min).as_millis()
    }

    /// How late rows are expected.
    pub(crate) fn late_window(&self) -> Duration {
        match self.options.late_window {
            LateWindow::Within(window) => window,
            LateWindow::Any => LATE_WINDOW,
        }
    }

    /// Writes the merge of some segments under its name; `None` when it was stopped. The segment is
    /// `None` when no row is left.
    fn write_merge(
        &self,
        id: u64,
        effort: crate::chunk::Effort,
        inputs: &mut [Input],
        losses: &Losses,
    ) -> Result<Option<(Tally, Option<Arc<Segment>>)>> {
        let write = |inputs: &mut [Input]| -> Result<Option<(Tally, Option<SegmentInfo>)>> {
            let mut writer = self.create_segment(0, id, effort)?;
            let is_stopped = || self.is_stopped() || self.check_poison().is_err();
            match merge::merge(inputs, &mut writer, losses, &is_stopped)? {
                Some(tally) if tally.written > 0 => {
                    let info = writer.finish().inspect_err(|error| self.poison_if_sync(error))?;
                    Ok(Some((tally, Some(info))))
                }
                tally => Ok(tally.map(|tally| (tally, None))),
            }
        };
        let written = write(inputs);
        let Ok(Some((tally, Some(info)))) = written else {
            self.remove_unfinished(0, id);
            return written.map(|done| done.map(|(tally, _)| (tally, None)));
        };
        let output = self.name_segments(&[info])?;
        // The inputs are about to go, so what was written is read once.
        for segment in &output {
            segment.verify().inspect_err(|_| self.discard(&output))?;
        }
        Ok(Some((tally, output.into_iter().next())))
    }

    /// Makes the output of a merge part of the store instead of its inputs. Nothing happens when one
    /// of these went meanwhile: it was past its time, and its rows must not come back.
    fn commit_merge(
        &self,
        inputs: &[Input],
        tally: Tally,
        output: Option<Arc<Segment>>,
    ) -> Result<CompactReport> {
        let output: Vec<_> = output.into_iter().collect();
        let ids: BTreeSet<u64> = inputs.iter().map(|input| input.segment.info().id).collect();
        let mut upkeep = self.upkeep.lock();
        if !ids.iter().all(|id| upkeep.manifest.names(*id)) {
            self.discard(&output);
            return Ok(CompactReport::default());
        }
        let mut manifest = upkeep.manifest.clone();
        manifest.segments.retain(|segment| !ids.contains(&segment.id));
        manifest.add(&output);
        let damaged = inputs.iter().filter(|input| input.damage.is_some());
        upkeep.damaged_segments = damaged.map(|input| input.segment.info().id).collect();
        let report = CompactReport {
            merged_segments: inputs.len(),
            bytes_in: inputs.iter().map(|input| input.segment.info().len).sum(),
            bytes_out: output.iter().map(|segment| segment.info().len).sum(),
            samples_in: tally.read,
            samples_out: tally.written,
            deleted_samples: tally.deleted,
            damaged_segments: upkeep.damaged_segments.len(),
            ..CompactReport::default()
        };
        if planted::has(Bug::InputsRemovedFirst) {
            inputs.iter().for_each(|input| drop(self.options.vfs.remove(input.segment.path())));
        }
        let published = self.publish(&mut upkeep, manifest, output.clone());
        upkeep.damaged_segments.clear();
        published.inspect_err(|_| self.discard(&output))?;
        if report.damaged_segments > 0 {
            // What was damaged is gone, so tiers can be built of what is left.
            let unavailable = tier::blocked_by(&upkeep.manifest, &upkeep.unavailable);
            upkeep.blocked = unavailable;
        }
        let mut counters = self.counters.lock();
        counters.compacted.add(&report);
        counters.compactions += 1;
        if let Some(damage) = inputs.iter().find_map(|input| input.damage.clone()) {
            counters.last_error = Some(damage);
        }
        Ok(report)
    }

    /// Forgets the deletions that no segment has rows of any more; gives how many.
    fn drop_tombstones(&self) -> Result<usize> {
        let view = self.current_view();
        if view.tombstones.is_empty() {
            return Ok(0);
        }
        let mut done = Vec::new();
        for tombstone in view.tombstones.iter() {
            let all = || view.segments.iter().chain(&view.rollups);
            let is_needed =
                |segment| hides_any(std::slice::from_ref(tombstone), segment, &view.tiers);
            if planted::has(Bug::TombstonesForgotten) || !any(all(), is_needed)? {
                done.push(tombstone);
            }
        }
        if done.is_empty() {
            return Ok(0);
        }
        let mut upkeep = self.upkeep.lock();
        let mut manifest = upkeep.manifest.clone();
        manifest.tombstones.retain(|tombstone| !done.contains(&tombstone));
        self.publish(&mut upkeep, manifest, Vec::new())?;
        Ok(done.len())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

/// Whether a segment has sets that one of the tombstones hides rows of; in a tier a row is a bucket,
/// and hidden when some of it is deleted.
pub(crate) fn hides_any(
    tombstones: &[Tombstone],
    segment: &Arc<Segment>,
    tiers: &[TierState],
) -> Result<bool> {
    let tier = tiers.iter().find(|state| state.tier == segment.info().tier);
    any(tombstones, |tombstone| {
        let tombstone = match tier {
            Some(tier) => {
                &Tombstone { range: tier.starts_in(tombstone.range), ..tombstone.clone() }
            }
            None => tombstone,
        };
        let Tombstone { segments_below, matchers, range } = tombstone;
        if *segments_below <= segment.info().id {
            return Ok(false);
        }
        let (matchers, range) = (matchers.clone(), *range);
        let selector = Selector { matchers, columns: Columns::All, range };
        Ok(!segment.select(&selector)?.is_empty())
    })
}

fn any<T>(items: impl IntoIterator<Item = T>, test: impl Fn(T) -> Result<bool>) -> Result<bool> {
    for item in items {
        if test(item)? {
            return Ok(true);
        }
    }
    Ok(false)
}
