//! Flushing: the head becomes a segment.
//!
//! The order is what durability hangs on: the segment is written under a temporary name and synced,
//! renamed, its directory synced; then the manifest names it; only then the log files go. A crash
//! between any two of these leaves files that the next open removes.

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
use crate::recovery::set_aside;
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
const RETRY_WAIT: Duration = Duration::from_secs(10);

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
        if flushed.is_err() {
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
        let sealed = if frozen.iter().all(|head| head.is_empty()) {
            None
        } else {
            Some(self.seal(upkeep.manifest.next_segment, frozen)?)
        };
        let mut manifest = upkeep.manifest.clone();
        manifest.wal_floor = active.generation;
        if let Some(segment) = &sealed {
            manifest.next_segment += 1;
            manifest.segments.push(segment.info().clone());
        }
        self.publish(upkeep, manifest, sealed.into_iter().map(Arc::new).collect())?;
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

    /// Writes heads into one segment and opens it.
    fn seal(&self, id: u64, heads: &[Arc<Head>]) -> Result<Segment> {
        let vfs = &*self.options.vfs;
        let path = self.paths.segment(0, id);
        let unfinished = temporary(&path);
        let info = self.write_segment(id, heads).inspect_err(|error| {
            let _ = vfs.remove(&unfinished);
            self.poison_if_sync(error);
        })?;
        vfs.rename(&unfinished, &path).map_err(|source| {
            self.poison("rename");
            Error::io("rename", &path, source)
        })?;
        let dir = self.paths.tier_dir(0);
        vfs.sync_dir(&dir).map_err(|source| {
            self.poison("sync");
            Error::io("sync", &dir, source)
        })?;
        Segment::open(vfs, &path, &info)
    }

    fn write_segment(&self, id: u64, heads: &[Arc<Head>]) -> Result<SegmentInfo> {
        let vfs = &*self.options.vfs;
        let unfinished = temporary(&self.paths.segment(0, id));
        remove_if_there(vfs, &unfinished).map_err(|e| Error::io("remove", &unfinished, e))?;
        let mut sets: Vec<Arc<HeadSet>> = Vec::new();
        for head in heads {
            sets.extend(head.all_sets());
        }
        // Stable: the sets of one label set stay in the order of their generations.
        sets.sort_by(|a, b| a.cmp_labels(b));
        let mut writer = SegmentWriter::create(vfs, &unfinished, id, 0, Effort::Fast)?;
        for same in sets.chunk_by(|a, b| a.cmp_labels(b).is_eq()) {
            if let Some(rows) = rows_of_set(same) {
                writer.push(&rows)?;
            }
        }
        writer.finish()
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
    use std::hash::BuildHasher;
    let file_id = std::hash::RandomState::new().hash_one(generation);
    let path = paths.wal(generation);
    // A file of that number can only be left from an attempt that failed half-way.
    remove_if_there(vfs, &path).map_err(|source| Error::io("remove", &path, source))?;
    let wal = WalWriter::create(vfs, path, file_id)?;
    // Before any record, so that a header that is not whole later was damaged.
    wal.file().sync().map_err(|source| Error::io("sync", wal.path(), source))?;
    let dir = paths.wal_dir();
    vfs.sync_dir(&dir).map_err(|source| Error::io("sync", &dir, source))?;
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
