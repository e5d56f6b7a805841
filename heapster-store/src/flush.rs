//! Flushing: the head becomes a segment for each day it has rows of.
//!
//! The order is what durability hangs on: the segments are written under temporary names and synced,
//! renamed, their directory synced; then the manifest names them; only then the log files go. A
//! crash between any two of these leaves files that the next open removes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heapster_core::storage::{Column, Values};
use heapster_core::{Labels, TimeRange};

use crate::chunk::Effort;
use crate::error::{Error, Result};
use crate::head::apply::Applier;
use crate::head::encode::Encoder;
use crate::head::{Head, HeadSet, latest_of_each_time, push_value};
use crate::maintenance::Upkeep;
use crate::paths::{Paths, temporary};
use crate::planted::{self, Bug};
use crate::recovery::{range_of, set_aside};
use crate::rows::{ColumnRows, SetRows};
use crate::segment::{Segment, SegmentInfo, SegmentWriter};
use crate::snapshot::View;
use crate::store::{Store, Synced, Writer, head_bytes};
use crate::vfs::{Vfs, remove_if_there};
use crate::wal::writer::WalWriter;

/// Generations in memory before they are flushed whatever their size: a process that keeps dying
/// leaves one each time.
const GENERATIONS_MAX: usize = 8;
/// A full window is flushed when a quarter of its length has passed since the last flush, so that
/// an import of old data does not make a segment each second.
const WINDOW_PATIENCE: u32 = 4;
/// After a flush that failed, on a full disk for example, the next one waits this long. One that is
/// asked for does not.
pub(crate) const RETRY_WAIT: Duration = Duration::from_secs(10);
/// Milliseconds of a day.
pub(crate) const DAY: i64 = 86_400_000;
/// Segments that are written at the same time: each needs an open file and some memory.
const WRITERS_MAX: usize = 64;

/// What shows its sets, in the order of their labels, to what it is given; may be called again.
type Sets<'a> = dyn Fn(&mut dyn FnMut(&SetRows) -> Result<()>) -> Result<()> + 'a;

impl Store {
    /// Whether enough time has passed since a flush failed.
    pub(crate) fn may_flush_again(&self, upkeep: &Upkeep) -> bool {
        self.options.clock.monotonic() >= upkeep.retry_from
    }

    /// Moves what is in memory into a segment, whether it is due or not. `false` when there was
    /// nothing.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`]: the rows stay in memory and in the log; the next flush
    /// tries again. [`Error::Poisoned`]: reopen the store.
    pub fn flush(&self) -> Result<bool> {
        self.flush_heads(&mut self.upkeep.lock())
    }

    pub(crate) fn is_flush_due(&self, upkeep: &Upkeep, view: &View) -> bool {
        if head_bytes(view) >= self.options.head_bytes_max || view.heads.len() > GENERATIONS_MAX {
            return true;
        }
        let bounds = view.heads.iter().filter_map(|head| head.bounds());
        let Some(bounds) =
            bounds.reduce(|a, b| TimeRange::new(a.start.min(b.start), a.end.max(b.end)))
        else {
            return false;
        };
        let window = self.options.flush_window;
        let is_window_full = bounds.end.truncate(window) > bounds.start.truncate(window);
        let waited = self.options.clock.monotonic().saturating_sub(upkeep.last_flush);
        is_window_full && waited >= window / WINDOW_PATIENCE
    }

    pub(crate) fn flush_heads(&self, upkeep: &mut Upkeep) -> Result<bool> {
        let flushed = self.flush_all(upkeep);
        self.lacks_room.store(matches!(flushed, Err(Error::DiskFull { .. })), Ordering::Relaxed);
        if let Err(error) = &flushed {
            self.note(error);
            upkeep.retry_from = self.options.clock.monotonic() + RETRY_WAIT;
        }
        flushed
    }

    fn flush_all(&self, upkeep: &mut Upkeep) -> Result<bool> {
        self.check_poison()?;
        let was_pending = upkeep.is_frozen_pending && self.flush_frozen(upkeep)?;
        self.rotate()?;
        upkeep.is_frozen_pending = true;
        Ok(self.flush_frozen(upkeep)? || was_pending)
    }

    fn flush_frozen(&self, upkeep: &mut Upkeep) -> Result<bool> {
        let view = self.current_view();
        let Some((active, frozen)) = view.heads.split_last() else { return Ok(false) };
        if frozen.is_empty() {
            upkeep.is_frozen_pending = false;
            return Ok(false);
        }
        let sealed = self.seal(upkeep.manifest.next_segment, frozen)?;
        let mut manifest = upkeep.manifest.clone();
        manifest.wal_floor = active.generation;
        manifest.add(&sealed);
        for segment in &sealed {
            manifest.mark_stale(range_of(segment.info()));
        }
        if planted::has(Bug::WalRemovedFirst) {
            frozen.iter().for_each(|head| self.drop_wal(upkeep, head.generation));
        }
        let published = self.publish(upkeep, manifest, sealed.clone());
        published.inspect_err(|_| self.discard(&sealed))?;
        upkeep.is_frozen_pending = false;
        upkeep.last_flush = self.options.clock.monotonic();
        self.counters.lock().flushes += 1;
        for head in frozen {
            self.drop_wal(upkeep, head.generation);
        }
        Ok(true)
    }

    /// Freezes the active head, if it has rows, and begins the next generation.
    fn rotate(&self) -> Result<()> {
        let (generation, is_empty) = {
            let writer = self.writer.lock();
            (writer.applier.head.generation + 1, writer.applier.head.is_empty())
        };
        if is_empty {
            return Ok(());
        }
        // Only the holder of `upkeep` makes generations, so the number is still free.
        let vfs = &*self.options.vfs;
        let wal = create_wal(vfs, &self.paths, generation)
            .inspect_err(|error| self.poison_if_sync(error))?;
        let head = Arc::new(Head::new(generation));
        head.wal_bytes.store(wal.len(), Ordering::Relaxed);
        let encoder = Encoder::new(self.options.sets_max);
        let applier = Applier::new(Arc::clone(&head));
        // Most of the log is synced while appends go on, the rest while they wait.
        self.sync()?;
        let old = {
            let mut writer = self.writer.lock();
            let mut synced = self.sync.lock();
            if synced.seq + 1 < writer.next_seq {
                let len = self.sync_held(&mut synced)?;
                self.mark_synced(&mut writer, len);
            }
            let next = Writer { wal, encoder, applier, next_seq: writer.next_seq };
            let old = std::mem::replace(&mut *writer, next);
            *synced = Synced::new(synced.seq, &writer);
            let mut view = self.view.write();
            let mut heads = view.heads.clone();
            heads.push(head);
            *view = Arc::new(View { heads, ..View::clone(&view) });
            old
        };
        // Taking the tables of many sets apart takes longer than an append may wait.
        drop(old);
        Ok(())
    }

    /// Writes heads into segments and opens them.
    fn seal(&self, first_id: u64, heads: &[Arc<Head>]) -> Result<Vec<Arc<Segment>>> {
        let mut sets: Vec<Arc<HeadSet>> = Vec::new();
        for head in heads {
            sets.extend(head.all_sets());
        }
        // Stable: the sets of one label set stay in the order of their generations.
        sets.sort_by(|a, b| a.cmp_labels(b));
        self.write_days(first_id, &|show| {
            for same in sets.chunk_by(|a, b| a.cmp_labels(b).is_eq()) {
                if let Some(rows) = rows_of_set(same) {
                    show(&rows)?;
                }
            }
            Ok(())
        })
    }

    /// Writes sets into one raw segment for each UTC day, numbered from `first_id` on, and opens
    /// them. They are durable, but not part of the store before a manifest names them.
    pub(crate) fn write_days(&self, first_id: u64, sets: &Sets<'_>) -> Result<Vec<Arc<Segment>>> {
        let mut infos: Vec<SegmentInfo> = Vec::new();
        let mut done = BTreeSet::new();
        loop {
            let next_id = first_id + infos.len() as u64;
            let result = self.write_some_days(next_id, sets, &mut done);
            let (written, is_all) = result.inspect_err(|_| {
                infos.iter().for_each(|info| self.remove_unfinished(info.tier, info.id));
            })?;
            infos.extend(written);
            if is_all {
                break;
            }
        }
        self.name_segments(&infos)
    }

    /// Writes the first days that are not done yet, under temporary names; whether that is all.
    fn write_some_days(
        &self,
        first_id: u64,
        sets: &Sets<'_>,
        done: &mut BTreeSet<i64>,
    ) -> Result<(Vec<SegmentInfo>, bool)> {
        let mut writers: BTreeMap<i64, SegmentWriter<'_>> = BTreeMap::new();
        let mut is_all = true;
        let mut next_id = first_id;
        let mut write = || {
            sets(&mut |rows| {
                let day_of = |at: &i64| at.div_euclid(DAY);
                let mut start = 0;
                for of_day in rows.timestamps.chunk_by(|a, b| day_of(a) == day_of(b)) {
                    let rows_of_day = start..start + of_day.len();
                    start = rows_of_day.end;
                    let Some(day) = of_day.first().map(day_of) else { continue };
                    if done.contains(&day) {
                        continue;
                    }
                    if !writers.contains_key(&day) {
                        if writers.len() == WRITERS_MAX {
                            is_all = false;
                            continue;
                        }
                        next_id += 1;
                        let writer = self.create_segment(0, next_id - 1, Effort::Fast)?;
                        writers.insert(day, writer);
                    }
                    let Some(writer) = writers.get_mut(&day) else { continue };
                    if of_day.len() == rows.timestamps.len() {
                        writer.push(rows)?;
                    } else {
                        writer.push(&rows.slice(rows_of_day))?;
                    }
                }
                Ok(())
            })?;
            done.extend(writers.keys());
            // In the order of their numbers, which is not that of the days.
            let mut infos = Vec::new();
            for writer in std::mem::take(&mut writers).into_values() {
                infos.push(writer.finish().inspect_err(|error| self.poison_if_sync(error))?);
            }
            infos.sort_by_key(|info| info.id);
            Ok(infos)
        };
        let written = write();
        if written.is_err() {
            // Also the one that could not be created, of which something may be there. The next
            // number may be somebody else's.
            (first_id..next_id).for_each(|id| self.remove_unfinished(0, id));
        }
        Ok((written?, is_all))
    }

    /// Begins a segment under a temporary name.
    pub(crate) fn create_segment(
        &self,
        tier: u8,
        id: u64,
        effort: Effort,
    ) -> Result<SegmentWriter<'_>> {
        let vfs = &*self.options.vfs;
        let unfinished = temporary(&self.paths.segment(tier, id));
        remove_if_there(vfs, &unfinished).map_err(|e| Error::io("remove", &unfinished, e))?;
        SegmentWriter::create(vfs, &unfinished, id, tier, effort)
    }

    /// Removes what is left of a segment that was not finished.
    pub(crate) fn remove_unfinished(&self, tier: u8, id: u64) {
        let _ = self.options.vfs.remove(&temporary(&self.paths.segment(tier, id)));
    }

    /// Gives finished segments of one tier their names, durably, and opens them.
    pub(crate) fn name_segments(&self, infos: &[SegmentInfo]) -> Result<Vec<Arc<Segment>>> {
        let vfs = &*self.options.vfs;
        let path_of = |info: &SegmentInfo| self.paths.segment(info.tier, info.id);
        for path in infos.iter().map(path_of) {
            vfs.rename(&temporary(&path), &path).map_err(|source| {
                self.poison("rename");
                Error::io("rename", &path, source)
            })?;
        }
        let dirs: BTreeSet<_> = infos.iter().map(|info| self.paths.tier_dir(info.tier)).collect();
        for dir in dirs.iter().filter(|_| !planted::has(Bug::SegmentDirNotSynced)) {
            vfs.sync_dir(dir).map_err(|source| {
                self.poison("sync");
                Error::io("sync", dir, source)
            })?;
        }
        let open = |info: &SegmentInfo| Segment::open(vfs, &path_of(info), info).map(Arc::new);
        infos.iter().map(open).collect()
    }

    /// Removes a log file whose rows are in a segment; a damaged one goes to quarantine instead.
    /// What cannot be removed now is removed at the next open.
    fn drop_wal(&self, upkeep: &mut Upkeep, generation: u64) {
        let vfs = &*self.options.vfs;
        let path = self.paths.wal(generation);
        let damaged = upkeep.damaged_generations.iter().position(|damaged| *damaged == generation);
        match damaged {
            Some(index) => {
                upkeep.damaged_generations.swap_remove(index);
                let _ = set_aside(vfs, &self.paths, &path);
            }
            None => drop(vfs.remove(&path)),
        }
    }
}

/// Creates the log file of a generation and makes its name durable.
pub(crate) fn create_wal(vfs: &dyn Vfs, paths: &Paths, generation: u64) -> Result<WalWriter> {
    let path = paths.wal(generation);
    // A file of that number can only be left from an attempt that failed half-way.
    remove_if_there(vfs, &path).map_err(|source| Error::io("remove", &path, source))?;
    let wal = WalWriter::create(vfs, path, vfs.random_number())?;
    // Before any record, so that a header that is not whole later was damaged.
    if !planted::has(Bug::WalHeaderNotSynced) {
        wal.file().sync().map_err(|source| Error::io("sync", wal.path(), source))?;
    }
    if !planted::has(Bug::WalDirNotSynced) {
        let dir = paths.wal_dir();
        vfs.sync_dir(&dir).map_err(|source| Error::io("sync", &dir, source))?;
    }
    Ok(wal)
}

/// All rows of one label set; `same` in the order of generations.
fn rows_of_set(same: &[Arc<HeadSet>]) -> Option<SetRows> {
    let labels: Labels = same.first()?.labels();
    let mut columns: Vec<Column> = Vec::new();
    // The newest generation first, so that its kind is kept.
    for set in same.iter().rev() {
        columns.extend(set.layout().columns.iter().cloned());
    }
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    columns.dedup_by(|later, first| later.name == first.name);
    let mut samples: Vec<_> = Vec::with_capacity(columns.len());
    let read = |set: &HeadSet| set.read(&columns, TimeRange::ALL, u64::MAX);
    if let [set] = same {
        samples = read(set);
    } else {
        let mut cells = vec![Vec::new(); columns.len()];
        for (rank, set) in same.iter().enumerate() {
            for (column, into) in read(set).iter().zip(&mut cells) {
                let rank = if planted::has(Bug::OlderWins) { same.len() - rank } else { rank };
                into.extend(column.iter().map(|(at, value)| (at.as_millis(), rank as u64, value)));
            }
        }
        samples.extend(cells.into_iter().map(latest_of_each_time));
    }
    let mut timestamps: Vec<i64> = Vec::new();
    for column in &samples {
        let is_same = timestamps.len() == column.timestamps.len()
            && column.timestamps.iter().zip(&timestamps).all(|(a, b)| a.as_millis() == *b);
        if !is_same {
            timestamps.extend(column.timestamps.iter().map(|at| at.as_millis()));
            timestamps.sort_unstable();
            timestamps.dedup();
        }
    }
    if timestamps.is_empty() {
        return None;
    }
    let with_values = columns.into_iter().zip(samples).filter(|(_, s)| !s.timestamps.is_empty());
    let columns = with_values.map(|(column, samples)| {
        let present = (samples.timestamps.len() != timestamps.len()).then(|| {
            let row_of = |at: i64| timestamps.partition_point(|other| *other < at) as u32;
            samples.timestamps.iter().map(|at| row_of(at.as_millis())).collect()
        });
        let mut values = samples.values;
        if let Values::Mixed(mixed) = &values {
            let mut plain = Values::default();
            mixed.iter().for_each(|value| push_value(&mut plain, *value));
            values = plain;
        }
        ColumnRows { name: column.name, kind: column.kind, present, values }
    });
    let columns = columns.collect();
    Some(SetRows { labels, timestamps, columns })
}
