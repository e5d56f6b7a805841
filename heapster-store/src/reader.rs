//! [`StoreReader`]: a store's directory, read while another process writes it.
//!
//! It takes no lock and writes nothing. How it comes to a consistent state is in decision 0015; the
//! order of the steps in [`State::look`] is what it hangs on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heapster_core::storage::{Snapshot, Storage, StorageError};
use parking_lot::{Mutex, RwLock};

use crate::error::{Error, Result, with_causes};
use crate::follower::Follower;
use crate::manifest::{Manifest, Stamp};
use crate::paths::Paths;
use crate::quarantine::Quarantine;
use crate::recovery::{list_wals, range_of, shown};
use crate::segment::{Segment, SegmentInfo};
use crate::snapshot::{StoreSnapshot, View};
use crate::stats::{DamagedIndex, OpenReport, Quarantined, RefreshReport, Stats};
use crate::vfs::{RealVfs, Vfs, VfsFile, open_if_there};

/// How often a refresh begins again because the writer replaced the manifest meanwhile. Each time
/// it keeps what it has, so the next one is shorter.
const LOOKS_MAX: usize = 50;

/// Options of a [`StoreReader`].
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// The file system. Default: the operating system's.
    pub vfs: Arc<dyn Vfs>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { vfs: Arc::new(RealVfs) }
    }
}

/// A store that another process may be writing, for reading only. Share it in an `Arc`.
///
/// It shows the store as of the last [`StoreReader::refresh`]: a beginning of what the writer
/// appended, in whole batches, whatever the writer flushes, merges or deletes meanwhile. The writer
/// does not notice it. It needs no more than the permission to read, and no writer need be there.
///
/// # Cost
/// The rows that are not in segments yet are in memory here as well as in the writer.
#[derive(Debug)]
pub struct StoreReader {
    pub(crate) vfs: Arc<dyn Vfs>,
    paths: Paths,
    /// Taken by one refresh at a time, before `shown`.
    pub(crate) state: Mutex<State>,
    shown: RwLock<Shown>,
}

/// What snapshots are made of.
#[derive(Clone, Debug)]
struct Shown {
    view: Arc<View>,
    /// Sequence of the last batch.
    seq: u64,
    /// Of the manifest.
    stamp: Option<Stamp>,
    /// Batches and samples read out of logs so far.
    read: (u64, u64),
}

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Of the manifest; `None` while not all that it names is open.
    stamp: Option<Stamp>,
    pub manifest: Manifest,
    /// Of all tiers, in the order of their numbers.
    pub segments: Vec<Arc<Segment>>,
    /// Segments that the manifest names and that could not be opened.
    pub missing: Vec<Missing>,
    /// In the order of their generations.
    pub logs: Vec<Log>,
    /// Batches and samples read out of logs so far, also of logs that are closed again.
    read: (u64, u64),
    /// What of the segments could not be read.
    quarantine: Arc<Quarantine>,
}

/// A segment that could not be opened.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub info: SegmentInfo,
    pub reason: String,
    /// Whether the same file may open later.
    may_open: bool,
}

/// A log file that stays open.
#[derive(Debug)]
pub(crate) struct Log {
    pub generation: u64,
    path: PathBuf,
    pub file: Arc<dyn VfsFile>,
    pub follower: Follower,
}

impl StoreReader {
    /// Opens the store in a directory for reading.
    ///
    /// Damage does not keep it from opening: see [`StoreReader::open_report`].
    ///
    /// # Errors
    /// [`Error::NotAStore`]: there is no manifest in the directory. [`Error::UnsupportedVersion`]: a
    /// newer heapster wrote it. [`Error::Corrupt`]: both copies of the manifest are damaged.
    /// [`Error::Unsettled`]: the writer changed the store each time it was read; try again.
    /// [`Error::Io`]: what the system said.
    ///
    /// # Cost
    /// Opens every segment and reads the logs, as opening the store would.
    ///
    /// # Examples
    /// ```
    /// use heapster_core::storage::Snapshot;
    /// use heapster_store::{ReaderOptions, Store, StoreOptions, StoreReader};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let server = Store::open(dir.path(), StoreOptions::default())?;
    /// let reader = StoreReader::open(dir.path(), ReaderOptions::default())?;
    /// // … the server appends …
    /// if reader.refresh()?.has_news() {
    ///     println!("{:?}", reader.snapshot().bounds());
    /// }
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(dir: impl AsRef<Path>, options: ReaderOptions) -> Result<Self> {
        let (vfs, paths) = (options.vfs, Paths::new(dir.as_ref()));
        let mut state = State::default();
        state.refresh(&*vfs, &paths)?;
        let shown = state.shown();
        Ok(Self { vfs, paths, state: Mutex::new(state), shown: RwLock::new(shown) })
    }

    /// Shows what the writer did since the last time. Snapshots taken before stay as they are.
    ///
    /// # Errors
    /// As [`StoreReader::open`]. What was shown before is still shown.
    ///
    /// # Cost
    /// A few system calls when nothing is new; else what the new data costs.
    pub fn refresh(&self) -> Result<RefreshReport> {
        let mut state = self.state.lock();
        state.refresh(&*self.vfs, &self.paths)?;
        let before = self.shown.read().clone();
        if state.is_as_in(&before) {
            return Ok(RefreshReport::default());
        }
        let now = state.shown();
        *self.shown.write() = now.clone();
        Ok(RefreshReport {
            batches: now.read.0 - before.read.0,
            samples: now.read.1 - before.read.1,
            segments_added: now.view.segments_not_in(&before.view),
            segments_removed: before.view.segments_not_in(&now.view),
        })
    }

    /// A consistent view of the store as of the last refresh; later ones do not change it.
    pub fn snapshot(&self) -> StoreSnapshot {
        let Shown { view, seq, .. } = self.shown.read().clone();
        StoreSnapshot::new(view, seq)
    }

    /// Numbers for people and for metrics. What a writer counts is zero.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.shown.read().view)
    }

    /// What is in the logs, damaged or missing, as of the last refresh. Nothing is moved: what is
    /// not served is listed as unavailable and lies where it was.
    pub fn open_report(&self) -> OpenReport {
        let state = self.state.lock();
        let mut report = OpenReport::default();
        for log in &state.logs {
            log.follower.add_to(&mut report);
        }
        report.unavailable.extend(state.missing.iter().map(|missing| Quarantined {
            file: format!("{:016x}.seg", missing.info.id),
            range: Some(range_of(&missing.info)),
            reason: missing.reason.clone(),
        }));
        let segments = state.segments.iter();
        report.damaged_indexes.extend(segments.filter_map(|segment| DamagedIndex::of(segment)));
        report
    }
}

impl Storage for StoreReader {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        Ok(Arc::new(StoreReader::snapshot(self)))
    }
}

impl State {
    /// Looks until one state of the store was seen whole, and reads what is new in it.
    pub fn refresh(&mut self, vfs: &dyn Vfs, paths: &Paths) -> Result<()> {
        for _ in 0..LOOKS_MAX {
            let Some(lens) = self.look(vfs, paths)? else { continue };
            for (log, len) in self.logs.iter_mut().zip(lens) {
                let follower = &mut log.follower;
                let (batches, samples) = (follower.batches, follower.samples);
                let result = follower.read(&log.path, &*log.file, len);
                self.read.0 += follower.batches - batches;
                self.read.1 += follower.samples - samples;
                result?;
                follower.head().catch_up();
            }
            return Ok(());
        }
        Err(Error::Unsettled { path: paths.root().to_owned() })
    }

    /// Opens what the store consists of and gives the lengths up to which the logs count. `None`
    /// when the manifest was replaced meanwhile, so that files may be gone that were not opened yet.
    ///
    /// Once it gives lengths, everything is open, and nothing that is deleted from then on matters.
    fn look(&mut self, vfs: &dyn Vfs, paths: &Paths) -> Result<Option<Vec<u64>>> {
        let stamp = Stamp::take(vfs, paths)?;
        let is_current = || Ok::<_, Error>(Stamp::take(vfs, paths)? == stamp);
        if self.stamp.as_ref() != Some(&stamp)
            || self.missing.iter().any(|missing| missing.may_open)
        {
            let manifest = read_manifest(vfs, paths)?;
            if manifest.store_id != self.manifest.store_id {
                // Somebody put another store in its place.
                (self.segments, self.logs) = Default::default();
            }
            self.stamp = None;
            self.manifest = manifest;
            if !self.open_segments(vfs, paths, &is_current)? {
                return Ok(None);
            }
        }
        if !self.open_logs(vfs, paths)? {
            return Ok(None);
        }
        // A record in a newer log was written when the older one was at its end: so the newest first.
        let mut lens = Vec::with_capacity(self.logs.len());
        for log in self.logs.iter().rev() {
            let len = log.file.size().map_err(|source| Error::io("read", &log.path, source))?;
            lens.push(len);
        }
        lens.reverse();
        if !is_current()? {
            return Ok(None);
        }
        self.stamp = Some(stamp);
        Ok(Some(lens))
    }

    /// Opens the segments of the manifest; `false` when one is gone because the manifest is not the
    /// current one any more.
    fn open_segments(
        &mut self,
        vfs: &dyn Vfs,
        paths: &Paths,
        is_current: &dyn Fn() -> Result<bool>,
    ) -> Result<bool> {
        let mut segments = Vec::with_capacity(self.manifest.segments.len());
        let mut missing = Vec::new();
        for info in &self.manifest.segments {
            let known = self.segments.binary_search_by_key(&info.id, |known| known.info().id);
            let known = known.ok().map(|index| &self.segments[index]);
            if let Some(known) = known.filter(|known| known.info() == info) {
                segments.push(Arc::clone(known));
                continue;
            }
            match Segment::open(vfs, &paths.segment(info.tier, info.id), info) {
                Ok(segment) => segments.push(Arc::new(segment)),
                Err(error @ (Error::Io { .. } | Error::Corrupt { .. })) => {
                    if is_missing(&error) && !is_current()? {
                        // What was opened is kept for the next look.
                        self.segments.extend(segments);
                        self.segments.sort_by_key(|segment| segment.info().id);
                        self.segments.dedup_by_key(|segment| segment.info().id);
                        return Ok(false);
                    }
                    let may_open = !error.is_corruption() && !is_missing(&error);
                    let reason = with_causes(&error);
                    missing.push(Missing { info: info.clone(), reason, may_open });
                }
                Err(error) => return Err(error),
            }
        }
        (self.segments, self.missing) = (segments, missing);
        Ok(true)
    }

    /// Opens the logs that count and closes those that do not; `false` when one went meanwhile.
    fn open_logs(&mut self, vfs: &dyn Vfs, paths: &Paths) -> Result<bool> {
        let counting = || -> Result<Vec<u64>> {
            let mut generations = list_wals(vfs, paths)?;
            generations.retain(|generation| *generation >= self.manifest.wal_floor);
            Ok(generations)
        };
        let generations = counting()?;
        let is_known = |generation: &u64| self.log(*generation).is_ok();
        // Two that were made during the listing may show the later one alone, but not twice.
        if !generations.iter().all(is_known) && counting()? != generations {
            return Ok(false);
        }
        self.logs.retain(|log| generations.binary_search(&log.generation).is_ok());
        for generation in generations {
            let Err(index) = self.log(generation) else { continue };
            let path = paths.wal(generation);
            let file = open_if_there(vfs, &path);
            let Some(file) = file.map_err(|source| Error::io("open", &path, source))? else {
                return Ok(false);
            };
            let follower = Follower::new(generation);
            self.logs.insert(index, Log { generation, path, file: file.into(), follower });
        }
        Ok(true)
    }

    /// The index of a log, or where it belongs.
    fn log(&self, generation: u64) -> Result<usize, usize> {
        self.logs.binary_search_by_key(&generation, |log| log.generation)
    }

    fn shown(&self) -> Shown {
        let heads = self.logs.iter().map(|log| Arc::clone(log.follower.head())).collect();
        let missing: Vec<_> = self.missing.iter().map(|missing| missing.info.clone()).collect();
        self.quarantine.keep_those_of(|id| self.manifest.names(id));
        let (manifest, quarantine) =
            (shown(&self.manifest, &missing), Arc::clone(&self.quarantine));
        let view = Arc::new(View::new(&manifest, self.segments.clone(), heads, quarantine));
        let seq = self.logs.iter().map(|log| log.follower.last_seq).max().unwrap_or(0);
        Shown { view, seq, stamp: self.stamp.clone(), read: self.read }
    }

    /// Whether snapshots show what was read last.
    fn is_as_in(&self, shown: &Shown) -> bool {
        let generations = self.logs.iter().map(|log| log.generation);
        let is_same_logs = generations.eq(shown.view.heads.iter().map(|head| head.generation));
        // One that could not be opened at first makes them more without another manifest.
        let segments = shown.view.segments.len() + shown.view.rollups.len();
        let is_same_manifest = self.stamp == shown.stamp && self.segments.len() == segments;
        is_same_manifest && is_same_logs && self.read == shown.read
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// The manifest of a directory that must have one.
pub(crate) fn read_manifest(vfs: &dyn Vfs, paths: &Paths) -> Result<Manifest> {
    match Manifest::load(vfs, paths)? {
        Some(loaded) => Ok(loaded.manifest),
        None => {
            let path = paths.root().to_owned();
            Err(Error::NotAStore { path, what: "it has no MANIFEST".into() })
        }
    }
}
