//! Copies of a store: [`backup`], [`restore`], and snapshots by hard links.
//!
//! All of them write one state of a store into a directory, and the manifest is what makes it one:
//! until it is there under its name, the directory is the copy of before, or nothing that opens.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heapster_core::TimeRange;

use crate::error::{Error, Result, with_causes};
use crate::manifest::Manifest;
use crate::paths::{BACKUP, Paths, parse_wal, temporary};
use crate::planted::{self, Bug};
use crate::reader::{Missing, ReaderOptions, State, StoreReader};
use crate::recovery::{
    list_or_nothing, make_dir, make_name_durable, range_of, remove_leftovers, take_lock,
};
use crate::segment::{Segment, SegmentInfo};
use crate::stats::Quarantined;
use crate::store::Store;
use crate::tier;
use crate::vfs::{Vfs, VfsFile, read_exact_at, remove_if_there, write_all_at};

/// Bytes that are copied at once, and after which progress is told.
const STEP_BYTES: u64 = 1 << 20;
/// What may lie in a directory that a store is copied to: what a file system puts into its root,
/// and what a copy leaves that died before it wrote anything.
const EMPTY_NAMES: [&str; 2] = ["lost+found", "LOCK"];
/// The text of the file that tells a backup from a store.
const BACKUP_TEXT: &str =
    "A backup of a heapster store. To use it, restore it into another directory.\n";

/// How far a copy or a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done with.
    pub bytes_done: u64,
    /// Bytes there are in all.
    pub bytes_total: u64,
}

/// What a copy of a store consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Segments that are a hard link to the source's file.
    pub segments_linked: u64,
    /// Segments that were copied.
    pub segments_copied: u64,
    /// Segments that the destination had already.
    pub segments_kept: u64,
    /// Bytes that were written to copy segments and logs.
    pub bytes_copied: u64,
    /// Bytes of all segments and logs of the copy.
    pub bytes: u64,
    /// Files of the source that are damaged or missing. One that could be opened was copied as it
    /// is, so that what is sound in it is kept; of a log, the records before its end.
    pub damaged: Vec<Quarantined>,
}

impl CopyReport {
    /// Whether the source was sound, and so the copy is.
    pub fn is_complete(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// Copies a store into a directory that holds its backup, while it is written or not.
///
/// The destination is missing, empty, or a backup of the same store, which is brought up to date:
/// segments that it has already (by number, length and checksum, and checked but for their row
/// groups) are kept, others copied, what the store does not have any more is deleted. The backup is
/// what [`StoreReader`] shows when the call begins. It can be read with a [`StoreReader`]; to write
/// to it, [`restore`] it. Checksums are verified in the bytes that were read back.
///
/// A run that fails or dies leaves the backup of before, one of a moment between that and this, or,
/// the first time, a directory that does not open; the next run goes on with what it finds.
///
/// # Errors
/// [`Error::NotEmpty`]: something else is in the destination. [`Error::WrongBackup`]: it holds the
/// backup of another store, or a newer one. [`Error::Locked`]: another backup writes it.
/// [`Error::DiskFull`], [`Error::Io`]; [`Error::Corrupt`] when the destination does not hold what
/// was written to it; and those of [`StoreReader::open`].
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use heapster_store::vfs::{RealVfs, Vfs};
/// use heapster_store::{Store, StoreOptions, backup, restore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let [data, saved, new] = ["data", "saved", "new"].map(|name| dir.path().join(name));
/// let server = Store::open(&data, StoreOptions::default())?;
/// let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
/// let report = backup(&vfs, &data, &saved, &mut |_| {})?;
/// assert!(report.is_complete());
/// restore(&vfs, &saved, &new, &mut |_| {})?;
/// Store::open(&new, StoreOptions::default())?;
/// # drop(server);
/// # Ok(())
/// # }
/// ```
pub fn backup(
    vfs: &Arc<dyn Vfs>,
    source: impl AsRef<Path>,
    destination: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<CopyReport> {
    let original = Original::open(vfs, source.as_ref())?;
    let (vfs, paths) = (&**vfs, Paths::new(destination.as_ref()));
    mark_as_backup(vfs, &paths)?;
    let _lock = take_lock(vfs, &paths)?;
    let before = Manifest::load(vfs, &paths)?.map(|loaded| loaded.manifest);
    let wrong = before.as_ref().and_then(|before| {
        if before.store_id != original.manifest.store_id {
            Some("it holds the backup of another store")
        } else {
            (before.number > original.manifest.number).then_some("it is newer than the store")
        }
    });
    if let Some(what) = wrong {
        return Err(Error::WrongBackup { path: paths.root().to_owned(), what });
    }
    Copier::new(vfs, &paths, How::Copy, progress).copy(original, before)
}

/// Makes a store out of a backup, or out of another store, whether somebody writes to it or not.
///
/// The directory is missing or empty. It becomes a store of its own: backups of it need a
/// destination of their own. Checksums are verified in the bytes that were read back. A run that
/// fails or dies leaves a directory that does not open as a store; empty it to try again.
///
/// # Errors
/// [`Error::NotEmpty`], and otherwise as [`backup`].
pub fn restore(
    vfs: &Arc<dyn Vfs>,
    backup: impl AsRef<Path>,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<CopyReport> {
    Original::open(vfs, backup.as_ref())?.found_store(&**vfs, dir.as_ref(), How::Copy, progress)
}

impl Store {
    /// Makes a copy of the store in a directory, which is missing or empty, by hard links where the
    /// file system has them and by copying where not. Everything appended so far is in it.
    ///
    /// The copy is a store of its own and opens by itself. Linked files have one place on the disk:
    /// damage to it is damage to both. Appends and reads go on meanwhile.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], those of [`Store::flush`], and what the system says. Then the directory
    /// does not open as a store.
    ///
    /// # Cost
    /// A flush, and some system calls for each segment.
    pub fn snapshot_to(&self, dir: impl AsRef<Path>) -> Result<CopyReport> {
        let original = {
            let mut upkeep = self.upkeep.lock();
            self.flush_heads(&mut upkeep)?;
            let view = self.current_view();
            let segments = view.segments.iter().chain(&view.rollups).cloned().collect();
            let manifest = upkeep.manifest.clone();
            Original { manifest, segments, missing: Vec::new(), logs: Vec::new() }
        };
        original.found_store(&*self.options.vfs, dir.as_ref(), How::Link, &mut |_| {})
    }
}

impl StoreReader {
    /// Makes a copy of the store as of the last refresh, as [`Store::snapshot_to`] does. The writer
    /// is not asked: what is not in segments yet is copied as its log.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], and what the system says. Then the directory does not open as a store.
    pub fn snapshot_to(&self, dir: impl AsRef<Path>) -> Result<CopyReport> {
        let original = Original::of(&self.state.lock());
        original.found_store(&*self.vfs, dir.as_ref(), How::Link, &mut |_| {})
    }
}

/// What is copied. It stays readable whatever its writer deletes.
struct Original {
    manifest: Manifest,
    segments: Vec<Arc<Segment>>,
    /// Segments that could not be opened, with the reason.
    missing: Vec<Missing>,
    logs: Vec<LogPart>,
}

/// A log file up to its last whole record.
struct LogPart {
    generation: u64,
    file: Arc<dyn VfsFile>,
    len: u64,
    damaged_bytes: u64,
    range: Option<TimeRange>,
}

/// How segments get into the copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Link,
    Copy,
}

impl Original {
    fn open(vfs: &Arc<dyn Vfs>, dir: &Path) -> Result<Self> {
        let reader = StoreReader::open(dir, ReaderOptions { vfs: Arc::clone(vfs) })?;
        let original = Self::of(&reader.state.lock());
        Ok(original)
    }

    fn of(state: &State) -> Self {
        let logs = state.logs.iter().map(|log| LogPart {
            generation: log.generation,
            file: Arc::clone(&log.file),
            len: log.follower.offset(),
            damaged_bytes: log.follower.damaged_bytes,
            range: log.follower.head().bounds(),
        });
        Self {
            manifest: state.manifest.clone(),
            segments: state.segments.clone(),
            missing: state.missing.clone(),
            logs: logs.collect(),
        }
    }

    /// Copies it into an empty directory as a store of its own.
    fn found_store(
        mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        how: How,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<CopyReport> {
        let paths = Paths::new(dir);
        let is_made = make_dir(vfs, dir)?;
        make_name_durable(vfs, dir, is_made)?;
        check_is_empty(vfs, dir)?;
        let _lock = take_lock(vfs, &paths)?;
        self.manifest.store_id = vfs.random_number();
        Copier::new(vfs, &paths, how, progress).copy(self, None)
    }
}

fn check_is_empty(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    let entries = vfs.list(dir).map_err(|source| Error::io("list", dir, source))?;
    match entries.iter().all(|entry| EMPTY_NAMES.contains(&&*entry.name)) {
        true => Ok(()),
        false => Err(Error::NotEmpty { path: dir.to_owned() }),
    }
}

/// Makes an empty directory one for a backup; refuses one with something else in it.
fn mark_as_backup(vfs: &dyn Vfs, paths: &Paths) -> Result<()> {
    let (dir, mark) = (paths.root(), &paths.backup_mark());
    let is_made = make_dir(vfs, dir)?;
    make_name_durable(vfs, dir, is_made)?;
    if list_or_nothing(vfs, dir)?.iter().any(|entry| entry.name == BACKUP) {
        return Ok(());
    }
    check_is_empty(vfs, dir)?;
    let failed = |op: &'static str| move |source| Error::io(op, mark, source);
    let file = vfs.create_new(mark).map_err(failed("create"))?;
    // The name alone tells; the text is for people.
    let _ = write_all_at(&*file, BACKUP_TEXT.as_bytes(), 0);
    vfs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))
}

/// The first damaged place of a segment.
fn first_damage(segment: &Segment) -> Option<Error> {
    let mut first = None;
    let mut found = |error| {
        first.get_or_insert(error);
    };
    segment.check_index(&mut found);
    segment.check_groups(&mut found);
    first
}

/// Writes one copy.
struct Copier<'a> {
    vfs: &'a dyn Vfs,
    paths: &'a Paths,
    how: How,
    tell: &'a mut dyn FnMut(Progress),
    progress: Progress,
    report: CopyReport,
}

impl<'a> Copier<'a> {
    fn new(
        vfs: &'a dyn Vfs,
        paths: &'a Paths,
        how: How,
        tell: &'a mut dyn FnMut(Progress),
    ) -> Self {
        let (progress, report) = (Progress::default(), CopyReport::default());
        Self { vfs, paths, how, tell, progress, report }
    }

    /// Copies everything; `before` is the manifest that the destination has.
    fn copy(mut self, original: Original, before: Option<Manifest>) -> Result<CopyReport> {
        let Original { mut manifest, segments, missing, logs } = original;
        let segment_bytes: u64 = manifest.segments.iter().map(|info| info.len).sum();
        self.progress.bytes_total = segment_bytes + logs.iter().map(|log| log.len).sum::<u64>();
        self.advance(0);
        let dirs = self.create_dirs(&manifest)?;
        let (mut held, mut left_out) = (Vec::new(), Vec::new());
        for info in manifest.segments {
            let segment = segments.iter().find(|segment| segment.info().id == info.id);
            if self.bring_segment(&info, segment.map(|segment| &**segment))? {
                self.report.bytes += info.len;
                held.push(info);
                continue;
            }
            let missing = missing.iter().find(|missing| missing.info.id == info.id);
            let reason = missing.map_or("it could not be opened", |missing| &missing.reason);
            let path = self.paths.segment(info.tier, info.id);
            self.note_damage(&path, Some(range_of(&info)), reason);
            left_out.push(info);
        }
        manifest.segments = held;
        for info in left_out {
            tier::mark_stale_in(&mut manifest, info.tier, range_of(&info));
        }
        for dir in &dirs {
            self.sync_dir(dir)?;
        }
        let mut names = Vec::new();
        for log in &logs {
            names.extend(self.bring_log(log)?);
        }
        match before {
            // Nothing opens before the manifest is there.
            None => {
                self.show_logs(&names)?;
                self.publish(&manifest)?;
            }
            // With the manifest of before, new logs would follow a gap. With the new one, those of
            // before are an earlier state of the same.
            Some(before) => {
                if before != manifest {
                    self.publish(&manifest)?;
                }
                self.show_logs(&names)?;
            }
        }
        self.remove_others(&manifest, &names)?;
        Ok(self.report)
    }

    fn advance(&mut self, bytes: u64) {
        self.progress.bytes_done += bytes;
        (self.tell)(self.progress);
    }

    /// Gives the directories in the order in which their names become durable.
    fn create_dirs(&self, manifest: &Manifest) -> Result<Vec<PathBuf>> {
        let paths = self.paths;
        let mut dirs: Vec<PathBuf> = vec![paths.tier_dir(0), paths.wal_dir()];
        dirs.extend(manifest.segments.iter().map(|info| paths.tier_dir(info.tier)));
        dirs.sort();
        dirs.dedup();
        for dir in &dirs {
            self.vfs.create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
        }
        dirs.extend([paths.segments_dir(), paths.root().to_owned()]);
        Ok(dirs)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.vfs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))
    }

    /// Brings a segment into the copy; whether it is there now.
    fn bring_segment(&mut self, info: &SegmentInfo, source: Option<&Segment>) -> Result<bool> {
        let target = self.paths.segment(info.tier, info.id);
        if Segment::open(self.vfs, &target, info).is_ok() {
            self.report.segments_kept += 1;
            self.advance(info.len);
            return Ok(true);
        }
        let Some(source) = source else {
            self.advance(info.len);
            return Ok(false);
        };
        remove_if_there(self.vfs, &target).map_err(|e| Error::io("remove", &target, e))?;
        // Many reasons are possible, also that the writer has just deleted it; the copy does always.
        if self.how == How::Link && self.vfs.hard_link(source.path(), &target).is_ok() {
            self.report.segments_linked += 1;
            self.advance(info.len);
            return Ok(true);
        }
        let unfinished = temporary(&target);
        self.copy_segment(info, source, &unfinished).inspect_err(|_| {
            let _ = self.vfs.remove(&unfinished);
        })?;
        self.rename(&unfinished, &target)?;
        self.report.segments_copied += 1;
        Ok(true)
    }

    fn copy_segment(&mut self, info: &SegmentInfo, source: &Segment, path: &Path) -> Result<()> {
        let read = |offset, len| source.bytes(offset, len).map(std::borrow::Cow::into_owned);
        self.write_copy(path, info.len, read)?;
        let copy = Segment::open(self.vfs, path, info)?;
        let Some(differs) = first_damage(&copy) else { return Ok(()) };
        // Only what is damaged at the source may be so in the copy.
        let damage = first_damage(source).ok_or(differs)?;
        self.note_damage(source.path(), Some(range_of(info)), &with_causes(&damage));
        Ok(())
    }

    /// Writes the sound part of a log under its temporary name; gives its own name.
    fn bring_log(&mut self, log: &LogPart) -> Result<Option<PathBuf>> {
        let target = self.paths.wal(log.generation);
        if log.damaged_bytes > 0 {
            let what = format!("{} of its bytes are damaged", log.damaged_bytes);
            self.note_damage(&target, log.range, &what);
        }
        if log.len == 0 {
            return Ok(None);
        }
        let unfinished = temporary(&target);
        let read = |offset, len: u64| {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
            let read = read_exact_at(&*log.file, &mut bytes, offset);
            read.map(|()| bytes).map_err(|source| Error::io("read", &target, source))
        };
        self.write_copy(&unfinished, log.len, read).inspect_err(|_| {
            let _ = self.vfs.remove(&unfinished);
        })?;
        self.report.bytes += log.len;
        Ok(Some(target))
    }

    /// Writes what `read` gives for each offset and length into a new file, makes it durable, and
    /// compares what the disk then has.
    fn write_copy(
        &mut self,
        path: &Path,
        len: u64,
        read: impl Fn(u64, u64) -> Result<Vec<u8>>,
    ) -> Result<()> {
        let failed = |op: &'static str| move |source| Error::io(op, path, source);
        remove_if_there(self.vfs, path).map_err(failed("remove"))?;
        let file = self.vfs.create_new(path).map_err(failed("create"))?;
        let mut written = crc32fast::Hasher::new();
        let steps = || (0..len).step_by(STEP_BYTES as usize);
        for offset in steps() {
            let bytes = read(offset, STEP_BYTES.min(len - offset))?;
            written.update(&bytes);
            write_all_at(&*file, &bytes, offset).map_err(failed("write"))?;
            self.report.bytes_copied += bytes.len() as u64;
            self.advance(bytes.len() as u64);
        }
        if !planted::has(Bug::CopyNotSynced) {
            file.sync().map_err(failed("sync"))?;
        }
        file.drop_cache().map_err(failed("drop the cache of"))?;
        let mut found = crc32fast::Hasher::new();
        let mut bytes = Vec::new();
        for offset in steps() {
            bytes.resize(STEP_BYTES.min(len - offset) as usize, 0);
            read_exact_at(&*file, &mut bytes, offset).map_err(failed("read"))?;
            found.update(&bytes);
        }
        match found.finalize() == written.finalize() {
            true => Ok(()),
            false => Err(Error::corrupt(path, 0, "it does not hold what was written")),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.vfs.rename(from, to).map_err(|source| Error::io("rename", to, source))
    }

    fn show_logs(&self, names: &[PathBuf]) -> Result<()> {
        // From the oldest on: what a crash leaves is a beginning.
        names.iter().try_for_each(|name| self.rename(&temporary(name), name))?;
        self.sync_dir(&self.paths.wal_dir())
    }

    fn publish(&self, manifest: &Manifest) -> Result<()> {
        manifest.prepare(self.vfs, self.paths)?;
        Manifest::publish(self.vfs, self.paths)
    }

    /// Removes what the source does not have any more, and what earlier runs left.
    fn remove_others(&self, manifest: &Manifest, logs: &[PathBuf]) -> Result<()> {
        let dir = self.paths.wal_dir();
        let generations = list_or_nothing(self.vfs, &dir)?;
        let generations = generations.iter().filter_map(|entry| parse_wal(&entry.name));
        let gone: Vec<u64> =
            generations.filter(|generation| !logs.contains(&self.paths.wal(*generation))).collect();
        remove_leftovers(self.vfs, self.paths, manifest, &gone)?;
        // A log of before that a power cut brings back would show batches that its store has lost.
        if gone.is_empty() || planted::has(Bug::OldLogsComeBack) {
            return Ok(());
        }
        self.sync_dir(&dir)
    }

    fn note_damage(&mut self, path: &Path, range: Option<TimeRange>, reason: &str) {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let reason = reason.to_owned();
        self.report.damaged.push(Quarantined { file, range, reason });
    }
}
