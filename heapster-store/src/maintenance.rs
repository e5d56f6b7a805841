//! The explicit upkeep of a store: sync, flush the head into a segment, drop what is past its time.
//!
//! The order of a flush is what durability hangs on: the segment is written under a temporary name
//! and synced, renamed, its directory synced; then the manifest names it; only then the log files
//! go. A crash between any two of these leaves files that the next open removes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heapster_core::storage::{Column, Values};
use heapster_core::{Labels, TimeRange};

use crate::error::{Error, Result};
use crate::head::apply::Applier;
use crate::head::encode::Encoder;
use crate::head::{Head, HeadSet, latest_of_each_time, push_value};
use crate::manifest::Manifest;
use crate::paths::temporary;
use crate::recovery::set_aside;
use crate::retention::{ClockWatch, is_expired};
use crate::rows::{ColumnRows, SetRows};
use crate::segment::{Segment, SegmentInfo, SegmentWriter};
use crate::snapshot::View;
use crate::stats::MaintenanceReport;
use crate::store::{Store, head_bytes};
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

/// How much of the clock's probation a restart forgets at most.
const PROBATION_STEP: Duration = Duration::from_secs(3600);

/// What maintenance works on; one thread at a time.
#[derive(Debug)]
pub(crate) struct Upkeep {
    pub manifest: Manifest,
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
        Ok(MaintenanceReport { flushed: flushed?, expired_segments: expired_segments? })
    }

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

    fn is_flush_due(&self, upkeep: &Upkeep, view: &View) -> bool {
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
        manifest.number += 1;
        manifest.wal_floor = active.generation;
        let mut segments = view.segments.clone();
        if let Some(segment) = sealed {
            manifest.next_segment += 1;
            manifest.segments.push(segment.info().clone());
            segments.push(Arc::new(segment));
        }
        self.replace_manifest(&manifest)?;
        upkeep.manifest = manifest;
        upkeep.is_frozen_pending = false;
        upkeep.last_flush = self.options.clock.monotonic();
        *self.view.write() = Arc::new(View { segments, heads: vec![Arc::clone(active)] });
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
        // Most of the log is synced while appends go on, the rest while they wait.
        self.sync()?;
        let mut writer = self.writer.lock();
        self.sync_writer(&writer)?;
        let head = Arc::new(Head::new(generation));
        head.wal_bytes.store(wal.len(), Ordering::Relaxed);
        writer.wal = wal;
        writer.encoder = Encoder::new(self.options.sets_max);
        writer.applier = Applier::new(Arc::clone(&head));
        let mut view = self.view.write();
        let mut heads = view.heads.clone();
        heads.push(head);
        *view = Arc::new(View { segments: view.segments.clone(), heads });
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
        match vfs.remove(&unfinished) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &unfinished, source));
            }
            _ => {}
        }
        let mut sets: Vec<Arc<HeadSet>> = Vec::new();
        for head in heads {
            sets.extend(head.all_sets());
        }
        // Stable: the sets of one label set stay in the order of their generations.
        sets.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut writer = SegmentWriter::create(vfs, &unfinished, id, 0)?;
        for same in sets.chunk_by(|a, b| a.labels == b.labels) {
            if let Some(rows) = rows_of_set(same) {
                writer.push(&rows)?;
            }
        }
        writer.finish()
    }

    fn retain(&self, upkeep: &mut Upkeep) -> Result<usize> {
        self.check_poison()?;
        let (now, monotonic) = self.time();
        let is_trusted = upkeep.watch.look(now, monotonic);
        let is_suspect = upkeep.watch.is_suspect();
        self.counters.lock().is_clock_suspect = is_suspect;
        let retention = self.options.retention;
        let mut manifest = upkeep.manifest.clone();
        manifest.clock_probation = upkeep.watch.probation(monotonic);
        let is_clock_news = {
            let (before, now) = (upkeep.manifest.clock_probation, manifest.clock_probation);
            before.is_zero() != now.is_zero() || before.abs_diff(now) >= PROBATION_STEP
        };
        if is_trusted {
            manifest.segments.retain(|segment| !is_expired(segment, retention, now));
        }
        let expired = upkeep.manifest.segments.len() - manifest.segments.len();
        if expired == 0 && !is_clock_news {
            return Ok(0);
        }
        manifest.number += 1;
        self.replace_manifest(&manifest)?;
        upkeep.manifest = manifest;
        let is_kept = |segment: &Arc<Segment>| {
            upkeep.manifest.segments.iter().any(|kept| kept.id == segment.info().id)
        };
        let gone: Vec<_> = {
            let mut view = self.view.write();
            let (segments, gone) = view.segments.iter().cloned().partition(is_kept);
            *view = Arc::new(View { segments, heads: view.heads.clone() });
            gone
        };
        for segment in gone {
            // A reader may still map it. What cannot be removed now is removed at the next open.
            let _ = self.options.vfs.remove(segment.path());
        }
        self.counters.lock().expired_segments += expired as u64;
        Ok(expired)
    }

    fn replace_manifest(&self, manifest: &Manifest) -> Result<()> {
        let vfs = &*self.options.vfs;
        manifest.prepare(vfs, &self.paths).inspect_err(|error| self.poison_if_sync(error))?;
        Manifest::publish(vfs, &self.paths).inspect_err(|_| self.poison("rename"))
    }

    /// Poisons the store when the error is a failed sync.
    fn poison_if_sync(&self, error: &Error) {
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
        view.segments.iter().filter_map(|segment| segment.verify().err()).collect()
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
pub(crate) fn create_wal(
    vfs: &dyn crate::vfs::Vfs,
    paths: &crate::paths::Paths,
    generation: u64,
) -> Result<WalWriter> {
    use std::hash::BuildHasher;
    let file_id = std::hash::RandomState::new().hash_one(generation);
    let path = paths.wal(generation);
    // A file of that number can only be left from an attempt that failed half-way.
    match vfs.remove(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io("remove", &path, source));
        }
        _ => {}
    }
    let wal = WalWriter::create(vfs, path, file_id)?;
    // Before any record, so that a header that is not whole later was damaged.
    wal.file().sync().map_err(|source| Error::io("sync", wal.path(), source))?;
    let dir = paths.wal_dir();
    vfs.sync_dir(&dir).map_err(|source| Error::io("sync", &dir, source))?;
    Ok(wal)
}

/// All rows of one label set; `same` in the order of generations.
fn rows_of_set(same: &[Arc<HeadSet>]) -> Option<SetRows> {
    let labels: Labels = same.first()?.labels.clone();
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
