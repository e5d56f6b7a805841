//! [`Store`]: open, append, snapshot, maintain, close. Recovery is in [`crate::recovery`], flushing
//! in [`crate::flush`], retention in [`crate::maintenance`].
//!
//! Locks, in the order they are taken: `background`, `upkeep`, `writer`, `sync`, `view`, then those of a head.
//! `view` and `counters` are held for a copy only. Readers take `view` and a head's locks, never
//! `writer`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use heapster_core::series::{Row, RowRef, visit_rows};
use heapster_core::storage::{Snapshot, Storage, StorageError};
use heapster_core::{DataBatch, Labels, MetricKind, MetricValue, Text, Timestamp, Value};
use parking_lot::{Mutex, RwLock};

use crate::compaction::Background;
use crate::error::{Error, Result, with_causes};
use crate::head::Head;
use crate::head::apply::Applier;
use crate::head::encode::{Encoder, NotAdded, check_columns, check_labels};
use crate::head::handle::{ColumnLists, SetHandle};
use crate::maintenance::Upkeep;
use crate::options::{Ack, LateWindow, Rejected, StoreOptions};
use crate::paths::Paths;
use crate::planted::{self, Bug};
use crate::snapshot::{StoreSnapshot, View};
use crate::stats::{AppendReport, CompactReport, OpenReport, Stats};
use crate::vfs::VfsFile;
use crate::wal::writer::WalWriter;

/// A batch is cut into records of about this many bytes: a record is written, checked and lost as
/// one.
const RECORD_BYTES: usize = 16 << 20;
/// An append flushes by itself when memory reaches this multiple of the ceiling: maintenance does
/// not run or cannot keep up.
const BACK_PRESSURE: usize = 2;
/// How far ahead of the clock the newest sample may be for the late window, where
/// [`StoreOptions::future_max`] says nothing.
const FUTURE_SLACK: Duration = Duration::from_secs(600);

/// An embedded store of metric sets in one directory. Share it in an `Arc`.
///
/// The store starts no threads: call [`Store::maintain`] about once a second, and [`Store::compact`]
/// from a thread of its own.
#[derive(Debug)]
pub struct Store {
    pub(crate) options: StoreOptions,
    pub(crate) paths: Paths,
    /// Held for a whole unit of background work, so that there is one at a time.
    pub(crate) background: Mutex<Background>,
    pub(crate) upkeep: Mutex<Upkeep>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) sync: Mutex<Synced>,
    pub(crate) view: RwLock<Arc<View>>,
    /// Sequence of the last batch that snapshots see.
    visible: AtomicU64,
    /// Time of the newest sample; `i64::MIN` when there is none.
    newest: AtomicI64,
    poisoned_by: OnceLock<&'static str>,
    /// Whether the last flush did not fit on the disk.
    pub(crate) lacks_room: AtomicBool,
    /// Whether background work is to end.
    pub(crate) is_stopped: AtomicBool,
    pub(crate) counters: Mutex<Counters>,
    columns: Mutex<ColumnLists>,
    /// Number of the store in this process: [`ColumnLists::store`].
    number: u64,
    pub(crate) opened: OpenReport,
    /// Held as long as the store lives. Last, so that it goes last.
    _lock: Box<dyn std::fmt::Debug + Send + Sync>,
}

/// What appends change.
#[derive(Debug)]
pub(crate) struct Writer {
    pub wal: WalWriter,
    pub encoder: Encoder,
    pub applier: Applier,
    pub next_seq: u64,
}

/// The log file that takes records, and how much of it is on the disk. Whoever syncs holds it.
#[derive(Debug)]
pub(crate) struct Synced {
    /// Every batch up to here is on the disk.
    pub seq: u64,
    /// The current file; those before it are on the disk as a whole.
    pub file: Arc<dyn VfsFile>,
    pub path: PathBuf,
    /// The head whose log the file is.
    pub head: Arc<Head>,
}

impl Synced {
    /// All batches up to `seq` are on the disk and the next ones go to the writer's file.
    pub fn new(seq: u64, writer: &Writer) -> Self {
        let (file, path) = (writer.wal.file(), writer.wal.path().to_owned());
        Self { seq, file, path, head: Arc::clone(&writer.applier.head) }
    }
}

/// Numbers since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub appended: AppendReport,
    pub batches: u64,
    pub syncs: u64,
    pub flushes: u64,
    pub expired_segments: u64,
    pub compactions: u64,
    pub compacted: CompactReport,
    pub imported_samples: u64,
    pub is_clock_suspect: bool,
    pub last_error: Option<String>,
}

/// What [`crate::recovery`] hands over.
pub(crate) struct Parts {
    pub options: StoreOptions,
    pub paths: Paths,
    pub upkeep: Upkeep,
    pub writer: Writer,
    pub view: View,
    pub opened: OpenReport,
    pub lock: Box<dyn std::fmt::Debug + Send + Sync>,
}

impl Store {
    /// Opens the store in a directory, which is made when it is missing.
    ///
    /// What was acknowledged before a crash is there again. Damage does not keep the store from
    /// opening: see [`Store::open_report`].
    ///
    /// # Errors
    /// [`Error::Locked`]: another process has it open. [`Error::NotAStore`]: the directory holds
    /// something else. [`Error::UnsupportedVersion`]: a newer heapster wrote it. In these cases
    /// nothing in the directory was changed. [`Error::Corrupt`]: both copies of the manifest are
    /// damaged; restore the directory. [`Error::Io`], [`Error::DiskFull`]: what the system said.
    pub fn open(dir: impl AsRef<Path>, options: StoreOptions) -> Result<Self> {
        crate::recovery::open(dir.as_ref(), options.within_bounds())
    }

    pub(crate) fn from_parts(parts: Parts) -> Self {
        let seq = parts.writer.next_seq - 1;
        let segments = parts.view.segments.iter().map(|segment| segment.info().last);
        let heads = parts.view.heads.iter().filter_map(|head| head.bounds());
        let newest = segments.chain(heads.map(|bounds| bounds.end.as_millis())).max();
        let columns = ColumnLists::new();
        Self {
            options: parts.options,
            paths: parts.paths,
            background: Mutex::default(),
            upkeep: Mutex::new(parts.upkeep),
            sync: Mutex::new(Synced::new(seq, &parts.writer)),
            writer: Mutex::new(parts.writer),
            view: RwLock::new(Arc::new(parts.view)),
            visible: AtomicU64::new(seq),
            newest: AtomicI64::new(newest.unwrap_or(i64::MIN)),
            poisoned_by: OnceLock::new(),
            lacks_room: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            counters: Mutex::default(),
            number: columns.store(),
            columns: Mutex::new(columns),
            opened: parts.opened,
            _lock: parts.lock,
        }
    }

    /// Appends all metric sets of a batch.
    ///
    /// Snapshots taken after this returns see the batch whole; one taken while it runs sees nothing
    /// of it, or, when the batch is so large that it was cut, its first part.
    ///
    /// # Units and shape
    /// The batch's timestamp holds for all its samples. How sets become rows is said in
    /// [`heapster_core::series`].
    ///
    /// # Ordering
    /// Any order within [`StoreOptions::late_window`]. A sample that is there already with the same
    /// value is ignored; with another value the later append wins.
    ///
    /// # Errors
    /// Refused samples are not an error, they are in the report. [`Error::DiskFull`]: nothing of the
    /// rest of the batch was taken; append it again once there is room. [`Error::MemoryFull`]: as
    /// well, once a flush succeeds. [`Error::Poisoned`]: reopen the store. After any error a part of the batch may be in the store; to append it again is
    /// harmless.
    ///
    /// # Panics
    /// Never, unless an invariant of the store is broken.
    pub fn append(&self, batch: &DataBatch, ack: Ack) -> Result<AppendReport> {
        let rows = |add: &mut Add<'_>| visit_rows(batch.sets.values(), |row| add(Given::Row(row)));
        self.append_all(batch.timestamp, rows, ack)
    }

    /// Appends rows that share one timestamp, in any order.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub fn append_rows<'a>(
        &self,
        at: Timestamp,
        rows: impl IntoIterator<Item = &'a Row>,
        ack: Ack,
    ) -> Result<AppendReport> {
        let rows = |add: &mut Add<'_>| {
            let mut cells: Vec<(&Text, MetricValue)> = Vec::new();
            rows.into_iter().try_for_each(|row| {
                cells.clear();
                cells.extend(row.cells.iter().map(|(name, metric)| (name, *metric)));
                add(Given::Row(RowRef { labels: &row.labels, own: None, cells: &cells }))
            })
        };
        self.append_all(at, rows, ack)
    }

    /// Prepares appends to one set by [`Store::append_dense`]: its labels, and the names and kinds
    /// of the columns that rows will have, in the order of their values.
    ///
    /// Nothing is written, and the set need not be in the store. A set may have several handles, with
    /// other columns for example.
    ///
    /// # Errors
    /// [`Error::Unregistrable`]: the labels or columns are beyond the limits.
    pub fn register(&self, labels: &Labels, columns: &[(Text, MetricKind)]) -> Result<SetHandle> {
        let checked = check_labels(labels).and_then(|()| check_columns(columns));
        checked.map_err(|reason| Error::Unregistrable { reason })?;
        Ok(SetHandle::new(labels.clone(), &mut self.columns.lock(), columns))
    }

    /// Appends rows that share one timestamp, in any order: the fastest way.
    ///
    /// # Units and shape
    /// A row has a value, or `None`, for each column of its handle, in the order in which they were
    /// registered.
    ///
    /// # Errors
    /// [`Error::ForeignHandle`], [`Error::RowWidth`]: a part of the rows before that one may be in
    /// the store. Else as [`Store::append`].
    ///
    /// # Cost
    /// The first row of a set after a flush looks its labels up; the others hash nothing and
    /// allocate nothing. Rows in the order of the rows before are the fastest.
    pub fn append_dense<'a>(
        &self,
        at: Timestamp,
        rows: impl IntoIterator<Item = (&'a SetHandle, &'a [Option<Value>])>,
        ack: Ack,
    ) -> Result<AppendReport> {
        let rows = |add: &mut Add<'_>| {
            rows.into_iter().try_for_each(|(handle, values)| {
                if !handle.belongs_to(self.number) {
                    return Err(Error::ForeignHandle);
                }
                if values.len() != handle.width() {
                    let (given, expected) = (values.len(), handle.width());
                    return Err(Error::RowWidth { given, expected });
                }
                add(Given::Dense(handle, values))
            })
        };
        self.append_all(at, rows, ack)
    }

    /// Appends the rows that `rows` hands to what it is given.
    fn append_all(
        &self,
        at: Timestamp,
        rows: impl FnOnce(&mut Add<'_>) -> Result<()>,
        ack: Ack,
    ) -> Result<AppendReport> {
        self.check_poison()?;
        self.apply_back_pressure()?;
        self.leave_room_for_flush()?;
        let mut report = AppendReport::default();
        if let Some(reason) = self.refusal(at) {
            rows(&mut |row| {
                report.rejected.add(reason, row.samples());
                Ok(())
            })?;
            self.counters.lock().appended.add_all(&report);
            return Ok(report);
        }
        let result = {
            let mut writer = self.writer.lock();
            self.write(&mut writer, at, rows, &mut report)
        };
        self.counters.lock().appended.add_all(&report);
        let last_seq = result.inspect_err(|error| self.note(error))?;
        if ack == Ack::Durable && !planted::has(Bug::DurableWithoutSync) {
            self.sync_to(last_seq)?;
        }
        Ok(report)
    }

    /// Writes batch after batch: usually one, more when rows repeat a set or are very many.
    fn write(
        &self,
        writer: &mut Writer,
        at: Timestamp,
        rows: impl FnOnce(&mut Add<'_>) -> Result<()>,
        report: &mut AppendReport,
    ) -> Result<u64> {
        // All rows of the call share one time, so what is repeated of a set is one row more.
        let mut repeated: HashMap<u32, Repeated> = HashMap::new();
        let mut pending = AppendReport::default();
        writer.begin_call(at);
        let added = rows(&mut |row| {
            if let Some(set) = writer.add(&row, &mut pending) {
                row.with_cells(|row| {
                    let labels = || Repeated { labels: row.stored_labels(), cells: HashMap::new() };
                    repeated.entry(set).or_insert_with(labels).merge(row.cells, &mut pending);
                });
            }
            if writer.encoder.bytes() > RECORD_BYTES {
                self.commit(writer, at, &mut pending, report)?;
                writer.begin(at);
            }
            Ok(())
        });
        if added.is_err() {
            // The caller's rows are at fault, or the log: nothing of this record happened.
            writer.undo();
        }
        added?;
        self.commit(writer, at, &mut pending, report)?;
        if repeated.is_empty() {
            return Ok(writer.next_seq - 1);
        }
        writer.begin_call(at);
        let mut cells = Vec::new();
        for row in repeated.values() {
            cells.clear();
            cells.extend(row.cells.iter().map(|(name, metric)| (name, *metric)));
            let row = RowRef { labels: &row.labels, own: None, cells: &cells };
            let again = writer.add(&Given::Row(row), &mut pending);
            assert_eq!(again, None, "bug: a merged row is not the only one of its set");
            if writer.encoder.bytes() > RECORD_BYTES {
                self.commit(writer, at, &mut pending, report)?;
                writer.begin(at);
            }
        }
        self.commit(writer, at, &mut pending, report)?;
        Ok(writer.next_seq - 1)
    }

    /// Puts the current batch into the log, then into the head, then before the readers.
    fn commit(
        &self,
        writer: &mut Writer,
        at: Timestamp,
        pending: &mut AppendReport,
        report: &mut AppendReport,
    ) -> Result<()> {
        // Another thread's sync may have failed since this append began.
        self.check_poison().inspect_err(|_| writer.undo())?;
        if writer.encoder.is_empty() {
            writer.undo();
            report.add_all(&std::mem::take(pending));
            return Ok(());
        }
        writer.encoder.finish();
        if let Err(failed) = writer.wal.append(writer.encoder.record()) {
            writer.undo();
            if failed.leaves_debris {
                self.poison("write");
            }
            // What was refused stays refused; the rest did not happen.
            report.rejected.add_all(&pending.rejected);
            return Err(failed.error);
        }
        writer.encoder.settle(&mut writer.applier);
        let seq = writer.next_seq;
        writer.next_seq += 1;
        writer.applier.head.wal_bytes.store(writer.wal.len(), Ordering::Release);
        self.newest.fetch_max(at.as_millis(), Ordering::AcqRel);
        self.visible.store(seq, Ordering::Release);
        report.add_all(&std::mem::take(pending));
        self.counters.lock().batches += 1;
        Ok(())
    }

    /// Why the store does not take samples of that time.
    fn refusal(&self, at: Timestamp) -> Option<Rejected> {
        let now = self.options.clock.now();
        if self.options.future_max.is_some_and(|ahead| at > now.saturating_add(ahead)) {
            return Some(Rejected::TooFarAhead);
        }
        let newest = self.newest_believed();
        match (self.options.late_window, newest) {
            (LateWindow::Within(window), Some(newest)) if at < newest.saturating_sub(window) => {
                Some(Rejected::TooOld)
            }
            _ => None,
        }
    }

    /// Time of the newest sample, but not of those that a wrong clock once let in: these must not
    /// shut out those of the right time.
    pub(crate) fn newest_believed(&self) -> Option<Timestamp> {
        let newest = self.newest.load(Ordering::Acquire);
        let ahead = self.options.future_max.unwrap_or(FUTURE_SLACK);
        let believed = self.options.clock.now().saturating_add(ahead);
        (newest != i64::MIN).then(|| Timestamp::from_millis(newest).min(believed))
    }

    /// Remembers the time of the newest sample that something else than an append brought.
    pub(crate) fn saw(&self, newest: Timestamp) {
        self.newest.fetch_max(newest.as_millis(), Ordering::AcqRel);
    }

    fn apply_back_pressure(&self) -> Result<()> {
        let bytes_max = self.options.head_bytes_max.saturating_mul(BACK_PRESSURE);
        let is_over = || head_bytes(&self.current_view()) > bytes_max;
        if !is_over() {
            return Ok(());
        }
        let mut upkeep = self.upkeep.lock();
        // Whoever had `upkeep` before may have flushed.
        if !is_over() {
            return Ok(());
        }
        if !self.may_flush_again(&upkeep) {
            return Err(Error::MemoryFull { max: bytes_max });
        }
        self.flush_heads(&mut upkeep).map(drop)
    }

    /// Refuses batches while a flush waits for room: what becomes free is for the flush, after which
    /// the logs go. Else these would take it all, and never go.
    fn leave_room_for_flush(&self) -> Result<()> {
        if !self.lacks_room.load(Ordering::Relaxed) {
            return Ok(());
        }
        let view = self.current_view();
        let logs: u64 = view.heads.iter().map(|h| h.wal_bytes.load(Ordering::Relaxed)).sum();
        // In a segment their rows take less as a rule.
        let needed = logs.saturating_mul(2);
        let path = self.paths.wal_dir();
        let free = self.options.vfs.free_bytes(&path);
        // Should it not be told, the write will tell.
        if free.is_ok_and(|free| free < needed) { Err(Error::DiskFull { path }) } else { Ok(()) }
    }

    /// Makes everything appended so far survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::DiskFull`] the first time; the store takes nothing more and says
    /// [`Error::Poisoned`] from then on, because nobody knows what is on the disk.
    pub fn sync(&self) -> Result<()> {
        self.check_poison()?;
        // Whatever is being written is not acknowledged yet.
        self.sync_to(self.visible.load(Ordering::Acquire))
    }

    /// Syncs the log unless somebody else has done it since batch `seq`. Appends go on meanwhile,
    /// and all that wait for the same sync share the next one.
    fn sync_to(&self, seq: u64) -> Result<()> {
        let mut synced = self.sync.lock();
        if synced.seq >= seq {
            return self.check_poison();
        }
        let len = self.sync_held(&mut synced)?;
        let path = synced.path.clone();
        drop(synced);
        // An append that runs now need not wait: a later sync leaves a mark as well.
        if let Some(mut writer) = self.writer.try_lock()
            && writer.wal.path() == path
        {
            self.mark_synced(&mut writer, len);
        }
        Ok(())
    }

    /// Writes into the log how much of it is on the disk, so that damage can be told from what a
    /// power cut leaves. Nobody is told that it is there, so it may fail.
    pub(crate) fn mark_synced(&self, writer: &mut Writer, len: u64) {
        let mut record = vec![0; crate::wal::format::RECORD_HEADER_BYTES];
        crate::wal::put_mark(&mut record, len);
        if let Err(failed) = writer.wal.append(&mut record)
            && failed.leaves_debris
        {
            self.poison("write");
            self.note(&failed.error);
        }
        writer.applier.head.wal_bytes.store(writer.wal.len(), Ordering::Release);
    }

    /// Syncs the log file up to the last batch that is written, and gives the length up to there.
    /// A failure poisons the store before anybody else can sync: the system reports a lost write
    /// once and calls the next sync a success.
    pub(crate) fn sync_held(&self, synced: &mut Synced) -> Result<u64> {
        self.check_poison()?;
        // Both are set behind the write, and whoever changes the file holds `synced`.
        let last = self.visible.load(Ordering::Acquire);
        let len = synced.head.wal_bytes.load(Ordering::Acquire);
        let mut result = synced.file.sync();
        if result.is_err() && planted::has(Bug::SyncRetried) {
            result = synced.file.sync();
        }
        result.map_err(|source| {
            self.poison("sync");
            let error = Error::io("sync", &synced.path, source);
            self.note(&error);
            error
        })?;
        self.counters.lock().syncs += 1;
        synced.seq = synced.seq.max(last);
        Ok(len)
    }

    /// A consistent view of everything appended so far; later writes do not change it.
    pub fn snapshot(&self) -> StoreSnapshot {
        // The view first: a batch that is seen was put into a head that the view has or that is
        // newer than it, never into one that the view has lost.
        let view = self.current_view();
        StoreSnapshot::new(view, self.visible.load(Ordering::Acquire))
    }

    pub(crate) fn current_view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// Numbers for people and for metrics. Cheap: it asks no file.
    pub fn stats(&self) -> Stats {
        let view = self.current_view();
        let mut counters = self.counters.lock();
        if let Some(reason) = view.quarantine.take_untold() {
            counters.last_error = Some(reason);
        }
        Stats {
            appended_samples: counters.appended.accepted,
            duplicate_samples: counters.appended.duplicate,
            replaced_samples: counters.appended.replaced,
            rejected_samples: counters.appended.rejected,
            batches: counters.batches,
            syncs: counters.syncs,
            flushes: counters.flushes,
            expired_segments: counters.expired_segments,
            compactions: counters.compactions,
            compacted_segments: counters.compacted.merged_segments as u64,
            compacted_bytes_in: counters.compacted.bytes_in,
            compacted_bytes_out: counters.compacted.bytes_out,
            deleted_samples: counters.compacted.deleted_samples,
            imported_samples: counters.imported_samples,
            tombstones: view.tombstones.len() as u64,
            quarantined_files: self.opened.quarantined.len() as u64
                + counters.compacted.damaged_segments as u64,
            is_clock_suspect: counters.is_clock_suspect,
            poisoned_by: self.poisoned_by.get().copied(),
            last_error: counters.last_error.clone(),
            ..Stats::of(&view)
        }
    }

    /// What was found when the store was opened.
    pub fn open_report(&self) -> &OpenReport {
        &self.opened
    }

    /// The options the store was opened with, within their bounds.
    pub fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// Syncs and closes the store; a large head is flushed, so that the next open is quick.
    ///
    /// Dropping a store instead loses nothing that was acknowledged.
    ///
    /// # Errors
    /// What [`Store::sync`] or [`Store::flush`] says. The store is closed all the same.
    pub fn close(self) -> Result<()> {
        /// A log of this length is replayed in some 20 ms.
        const QUICK_REPLAY_BYTES: u64 = 4 << 20;
        self.sync()?;
        if self.stats().wal_bytes > QUICK_REPLAY_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// The operation whose failure ended writing for good, if one did; see [`Error::Poisoned`].
    pub fn poisoned_by(&self) -> Option<&'static str> {
        self.poisoned_by.get().copied()
    }

    pub(crate) fn check_poison(&self) -> Result<()> {
        match self.poisoned_by.get() {
            Some(op) => Err(Error::Poisoned { op }),
            None => Ok(()),
        }
    }

    pub(crate) fn poison(&self, op: &'static str) {
        if planted::has(Bug::PoisonIgnored) {
            return;
        }
        // The first failure is the one worth telling.
        let _ = self.poisoned_by.set(op);
    }

    /// Remembers an error for [`Stats::last_error`]; what only follows from an earlier one does not
    /// hide that.
    pub(crate) fn note(&self, error: &Error) {
        let last = &mut self.counters.lock().last_error;
        if last.is_none() || !matches!(error, Error::Poisoned { .. }) {
            *last = Some(with_causes(error));
        }
    }

    /// Wall and monotonic time.
    pub(crate) fn time(&self) -> (Timestamp, Duration) {
        (self.options.clock.now(), self.options.clock.monotonic())
    }
}

impl Storage for Store {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        Ok(Arc::new(Store::snapshot(self)))
    }
}

/// What takes the rows of a call one by one.
type Add<'a> = dyn FnMut(Given<'_>) -> Result<()> + 'a;

/// A row as the caller gives it.
enum Given<'a> {
    Row(RowRef<'a>),
    Dense(&'a SetHandle, &'a [Option<Value>]),
}

impl Given<'_> {
    /// Number of samples.
    fn samples(&self) -> u64 {
        match self {
            Given::Row(row) => row.cells.len() as u64,
            Given::Dense(_, values) => values.iter().flatten().count() as u64,
        }
    }

    /// The row with names and labels.
    fn with_cells<R>(&self, then: impl FnOnce(&RowRef<'_>) -> R) -> R {
        match self {
            Given::Row(row) => then(row),
            Given::Dense(handle, values) => {
                let mut cells = Vec::new();
                handle.cells(values, &mut cells);
                then(&RowRef { labels: handle.labels(), own: None, cells: &cells })
            }
        }
    }
}

/// What a call brought of a set after its first row.
struct Repeated {
    labels: Labels,
    cells: HashMap<Text, MetricValue>,
}

impl Repeated {
    /// Adds cells of a later row, which win, and counts those that nobody will see.
    fn merge(&mut self, cells: &[(&Text, MetricValue)], report: &mut AppendReport) {
        for (name, metric) in cells {
            let Some(before) = self.cells.insert((*name).clone(), *metric) else { continue };
            if before.value == metric.value {
                report.duplicate += 1;
            } else {
                report.accepted += 1;
                report.replaced += 1;
            }
        }
    }
}

impl Writer {
    fn begin_call(&mut self, at: Timestamp) {
        self.encoder.begin_call(&mut self.applier, self.next_seq, at.as_millis());
    }

    fn begin(&mut self, at: Timestamp) {
        self.encoder.begin(&self.applier, self.next_seq, at.as_millis());
    }

    fn undo(&mut self) {
        self.encoder.undo(&mut self.applier);
    }

    /// Adds a row to the batch and its outcome to the report; gives the set of a row that has to
    /// wait because the call already had one of the set.
    fn add(&mut self, row: &Given<'_>, report: &mut AppendReport) -> Option<u32> {
        let added = match row {
            Given::Row(row) => self.encoder.add(&mut self.applier, row),
            Given::Dense(handle, values) => {
                self.encoder.add_dense(&mut self.applier, handle, values)
            }
        };
        match added {
            Ok(outcome) => {
                report.accepted += outcome.accepted;
                report.duplicate += outcome.duplicate;
                report.replaced += outcome.replaced;
            }
            Err(NotAdded::Rejected(reason)) => report.rejected.add(reason, row.samples()),
            Err(NotAdded::Repeated(set)) => return Some(set),
        }
        None
    }
}

/// Memory of all heads.
pub(crate) fn head_bytes(view: &View) -> usize {
    view.heads.iter().map(|head| head.bytes.load(Ordering::Relaxed)).sum()
}

const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Store>();
    is_shared::<StoreSnapshot>();
};
