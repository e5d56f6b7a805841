//! [`check`]: everything of a store's directory is read and verified, and nothing is changed.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heapster_core::TimeRange;

use crate::backup::Progress;
use crate::error::{Error, Result, with_causes};
use crate::follower::Follower;
use crate::manifest::Manifest;
use crate::paths::{Paths, TEMPORARY, parse_segment, parse_wal};
use crate::recovery::{list_or_nothing, list_wals, range_of};
use crate::segment::{Segment, SegmentInfo};
use crate::vfs::{DirEntry, Vfs, open_if_there};

/// Damaged places told of one file; more are counted.
const PLACES_MAX: usize = 20;
/// How often the manifest is followed when the writer replaces it during the check.
const ROUNDS_MAX: usize = 10;
/// Looks at the two copies of the manifest until they are the same: the writer replaces one after
/// the other.
const COPIES_LOOKS: usize = 20;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong: leftovers, or what a running writer is about to do.
    Note,
    /// Nothing that counts is lost, but something was, or is not as it should be.
    Warning,
    /// Bytes that count are damaged or missing.
    Damage,
}

/// One thing that [`check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, relative to the directory of the store.
    pub file: PathBuf,
    /// Where in the file, in bytes, if it is one place.
    pub offset: Option<u64>,
    /// What was found.
    pub what: String,
    /// What follows from it.
    pub consequence: String,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
}

/// What [`check`] found and looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// In the order of the check: manifest, segments, logs, what else lies there.
    pub findings: Vec<Finding>,
    /// Segments of the store.
    pub segments: u64,
    /// Samples in those segments.
    pub samples: u64,
    /// Batches in logs.
    pub batches: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

impl CheckReport {
    /// The worst severity; `None` when nothing was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Damage => "damage",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.what)?;
        let rest = [&self.consequence, &self.advice].into_iter().filter(|text| !text.is_empty());
        rest.into_iter().try_for_each(|text| write!(f, "; {text}"))
    }
}

/// Verifies a store or a backup: both copies of the manifest, every checksum, every chunk and every
/// record of the logs, and says what else lies in the directory. Nothing is changed, no lock is
/// taken, and a server may be writing meanwhile.
///
/// # Errors
/// [`Error::NotAStore`]: there is neither a manifest nor a segment. [`Error::UnsupportedVersion`]: a
/// newer heapster wrote the manifest. [`Error::Io`] when a directory cannot be listed. What is wrong
/// with a file is a finding.
///
/// # Panics
/// Never, whatever the files hold.
///
/// # Cost
/// Reads and decodes the whole store; a log file at a time is in memory.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use heapster_store::vfs::{RealVfs, Vfs};
/// use heapster_store::{Severity, Store, StoreOptions, check};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// Store::open(dir.path(), StoreOptions::default())?.close()?;
/// let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
/// let report = check(&vfs, dir.path(), &mut |_| {})?;
/// report.findings.iter().for_each(|finding| println!("{finding}"));
/// assert!(report.worst() < Some(Severity::Warning));
/// # Ok(())
/// # }
/// ```
pub fn check(
    vfs: &Arc<dyn Vfs>,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport> {
    let paths = Paths::new(dir.as_ref());
    let mut checker = Checker {
        vfs: &**vfs,
        paths: &paths,
        tell: progress,
        progress: Progress::default(),
        report: CheckReport::default(),
        is_manifest_sure: true,
    };
    checker.check()?;
    Ok(checker.report)
}

struct Checker<'a> {
    vfs: &'a dyn Vfs,
    paths: &'a Paths,
    tell: &'a mut dyn FnMut(Progress),
    progress: Progress,
    report: CheckReport,
    /// Whether both copies of the manifest are sound, so that what they do not name is not wanted.
    is_manifest_sure: bool,
}

const RESTORE: &str = "restore it from a backup while no server runs";

impl Checker<'_> {
    fn check(&mut self) -> Result<()> {
        self.progress.bytes_total = self.bytes_in_all()?;
        self.advance(0);
        match self.check_manifests()? {
            Some(manifest) => {
                self.check_manifest(&manifest);
                let manifest = self.check_segments(manifest)?;
                self.check_logs(&manifest)?;
                self.check_names(&manifest)?;
            }
            None => self.check_without_manifest()?,
        }
        self.check_quarantine()?;
        // What was deleted or grew meanwhile makes no difference at the end.
        self.progress.bytes_total = self.progress.bytes_done;
        self.advance(0);
        Ok(())
    }

    /// Length of what will be read, as of now.
    fn bytes_in_all(&self) -> Result<u64> {
        let root = self.paths.root();
        let entries = match self.vfs.list(root) {
            Ok(entries) => entries,
            Err(source) => return Err(Error::io("list", root, source)),
        };
        let is_manifest = |entry: &&DirEntry| entry.name.starts_with("MANIFEST");
        let mut bytes: u64 = entries.iter().filter(is_manifest).map(|entry| entry.len).sum();
        for dir in [vec![self.paths.wal_dir()], self.tier_dirs()?].concat() {
            let entries = list_or_nothing(self.vfs, &dir)?;
            bytes += entries.iter().map(|entry| entry.len).sum::<u64>();
        }
        Ok(bytes)
    }

    fn advance(&mut self, bytes: u64) {
        self.report.bytes += bytes;
        self.progress.bytes_done += bytes;
        self.progress.bytes_total = self.progress.bytes_total.max(self.progress.bytes_done);
        (self.tell)(self.progress);
    }

    /// Reads both copies of the manifest and gives the one that counts.
    fn check_manifests(&mut self) -> Result<Option<Manifest>> {
        let mut copies = self.read_manifests();
        for _ in 0..COPIES_LOOKS {
            let [Ok(Some(first)), Ok(Some(second))] = &copies else { break };
            if first == second {
                break;
            }
            std::thread::yield_now();
            copies = self.read_manifests();
        }
        let is_other_sound = [&copies[1], &copies[0]].map(|copy| matches!(copy, Ok(Some(_))));
        let numbers = copies.each_ref().map(|copy| match copy {
            Ok(Some(manifest)) => Some(manifest.number),
            _ => None,
        });
        for (path, (copy, is_other_sound)) in
            self.paths.manifests().iter().zip(copies.iter().zip(is_other_sound))
        {
            self.advance(self.len_of(path));
            let (consequence, advice) = if is_other_sound {
                (
                    "the other copy is used; should this one have been the newer, what only it \
                     named is set aside when the store is opened",
                    "open the store, which writes both copies again",
                )
            } else {
                ("the store does not open", RESTORE)
            };
            match copy {
                Ok(Some(_)) => {}
                Ok(None) if !is_other_sound => {}
                Ok(None) => {
                    self.is_manifest_sure = false;
                    self.note(Severity::Warning, path, None, "it is missing", consequence, advice);
                }
                Err(Error::UnsupportedVersion { path, found, max }) => {
                    let (path, found, max) = (path.clone(), *found, *max);
                    return Err(Error::UnsupportedVersion { path, found, max });
                }
                Err(error) => {
                    self.is_manifest_sure = false;
                    self.note_error(path, error, consequence, advice);
                }
            }
        }
        if let [Some(first), Some(second)] = numbers
            && first != second
        {
            let what = format!("its number is {second}, that of MANIFEST {first}");
            let consequence = "the greater number counts; a crash came between the two";
            let path = self.paths.manifest_copy();
            self.note(Severity::Note, &path, None, &what, consequence, "");
        }
        let sound = copies.into_iter().filter_map(|copy| copy.ok().flatten());
        Ok(sound.reduce(|a, b| if b.number > a.number { b } else { a }))
    }

    /// Length of a file; 0 when it cannot be told.
    fn len_of(&self, path: &Path) -> u64 {
        let file = open_if_there(self.vfs, path).ok().flatten();
        file.and_then(|file| file.size().ok()).unwrap_or(0)
    }

    fn read_manifests(&self) -> [Result<Option<Manifest>>; 2] {
        self.paths.manifests().map(|path| Manifest::read(self.vfs, &path))
    }

    /// Checks what the manifest says against itself.
    fn check_manifest(&mut self, manifest: &Manifest) {
        let path = self.paths.manifest();
        let tiers: BTreeSet<u8> = manifest.tiers.iter().map(|tier| tier.tier).collect();
        let mut odd: Vec<String> = Vec::new();
        for info in &manifest.segments {
            if info.tier > 0 && !tiers.contains(&info.tier) {
                odd.push(format!("segment {:016x} is of a tier that is not there", info.id));
            }
            if info.first > info.last || info.sets == 0 || info.samples < info.sets {
                odd.push(format!("what it says of segment {:016x} cannot be", info.id));
            }
        }
        for tier in &manifest.tiers {
            if tier.stale.iter().any(|range| range.start > range.end) {
                odd.push(format!("a stale range of tier {} ends before it begins", tier.tier));
            }
        }
        for tombstone in &manifest.tombstones {
            if tombstone.segments_below > manifest.next_segment
                || tombstone.range.start > tombstone.range.end
            {
                odd.push("a tombstone is about what is not there".to_owned());
            }
        }
        for what in odd {
            let consequence = "queries that need it may fail or be wrong";
            let advice = "report a bug with the two MANIFEST files";
            self.note(Severity::Warning, &path, None, &what, consequence, advice);
        }
    }

    /// Checks every segment; follows the manifest while a writer replaces it, and gives the last.
    fn check_segments(&mut self, mut manifest: Manifest) -> Result<Manifest> {
        let mut checked = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            for info in &manifest.segments {
                if checked.insert(info.id) {
                    self.check_segment(info)?;
                }
            }
            let Some(loaded) = Manifest::load(self.vfs, self.paths)? else { break };
            let is_done = loaded.manifest.segments.iter().all(|info| checked.contains(&info.id));
            manifest = loaded.manifest;
            if is_done {
                return Ok(manifest);
            }
        }
        let what = "the store changes faster than it is checked";
        let consequence = "segments made during the check were not all checked";
        let path = self.paths.manifest();
        self.note(Severity::Note, &path, None, what, consequence, "check again");
        Ok(manifest)
    }

    fn check_segment(&mut self, info: &SegmentInfo) -> Result<()> {
        let path = self.paths.segment(info.tier, info.id);
        let segment = match Segment::open(self.vfs, &path, info) {
            Ok(segment) => segment,
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let now = Manifest::load(self.vfs, self.paths)?;
                if now.is_none_or(|now| now.manifest.names(info.id)) {
                    let lost = format!("its samples are not served: {}", told(range_of(info)));
                    self.note(Severity::Damage, &path, None, "it is missing", &lost, RESTORE);
                }
                return Ok(());
            }
            Err(error) => {
                let range = told(range_of(info));
                let lost = match &error {
                    Error::Corrupt { .. } => format!(
                        "it is set aside when the store is opened, and its samples are not \
                         served: {range}"
                    ),
                    Error::UnsupportedVersion { .. } => "the store does not open".to_owned(),
                    _ => format!("its samples are not served until it can be read: {range}"),
                };
                self.note_error(&path, &error, &lost, RESTORE);
                self.count_segment(info);
                return Ok(());
            }
        };
        self.count_segment(info);
        let mut faults = Vec::new();
        segment.check_index(&mut |error| faults.push(error));
        for error in &faults {
            let served = "nothing is lost, it is there a second time; the same damage to the other \
                          copy would cost the segment";
            let advice = "it is written anew by the next merge of the segment, or restore it from a \
                          backup while no server runs";
            self.note_error(&path, error, served, advice);
        }
        let mut damaged = Vec::new();
        let mut more = 0_usize;
        segment.check_groups(&mut |error| {
            if damaged.len() < PLACES_MAX { damaged.push(error) } else { more += 1 }
        });
        // What no checksum tells: whether it decodes, and whether all that is derived fits.
        if damaged.is_empty() {
            damaged.extend(segment.verify_content().err());
        }
        let lost =
            format!("some of its samples are not served: {}; the others are", told(range_of(info)));
        for error in &damaged {
            self.note_error(&path, error, &lost, RESTORE);
        }
        if more > 0 {
            let what = format!("{more} more row groups are damaged");
            self.note(Severity::Damage, &path, None, &what, &lost, RESTORE);
        }
        Ok(())
    }

    fn count_segment(&mut self, info: &SegmentInfo) {
        self.report.segments += 1;
        self.report.samples += info.samples;
        self.advance(info.len);
    }

    fn check_logs(&mut self, manifest: &Manifest) -> Result<()> {
        let generations = list_wals(self.vfs, self.paths)?;
        // The number of the last batch of the log before, and where it is; nothing where that is not
        // known.
        let mut before: Option<(u64, PathBuf)> = None;
        for generation in generations {
            let path = self.paths.wal(generation);
            if generation < manifest.wal_floor {
                let consequence = "its rows are in segments; it goes when the store is opened";
                self.note(Severity::Note, &path, None, "it is left over", consequence, "");
                continue;
            }
            let Some(log) = self.check_log(generation, &path)? else {
                before = None;
                continue;
            };
            if log.last_seq == 0 {
                // What is damaged was told.
                before = before.filter(|_| log.damaged_bytes == 0);
                continue;
            }
            if let Some((last_seq, path)) = &before
                && log.first_seq > last_seq + 1
            {
                let missing = log.first_seq - last_seq - 1;
                let what = format!("it ends {missing} batches before the next one begins");
                self.note(Severity::Damage, path, None, &what, "they are lost", RESTORE);
            }
            before = Some((log.last_seq, path));
        }
        Ok(())
    }

    /// Reads a log; `None` when it cannot be read, or is gone.
    fn check_log(&mut self, generation: u64, path: &Path) -> Result<Option<Follower>> {
        let mut log = Follower::new(generation);
        let read = open_if_there(self.vfs, path)
            .map_err(|source| Error::io("open", path, source))
            .and_then(|file| {
                let Some(file) = file else { return Ok(None) };
                let len = file.size().map_err(|source| Error::io("read", path, source))?;
                log.read(path, &*file, len).map(|()| Some(len))
            });
        match read {
            Ok(Some(len)) => self.advance(len),
            // It is in a segment by now.
            Ok(None) => return Ok(None),
            Err(error) => {
                self.note_error(path, &error, "the store does not open", RESTORE);
                return Ok(None);
            }
        }
        self.report.batches += log.batches;
        if log.damaged_bytes > 0 {
            let what = match log.is_unreadable {
                true => "its header and records are damaged".to_owned(),
                false => format!("{} of its bytes are damaged", log.damaged_bytes),
            };
            let lost = format!(
                "the batches in them are lost, and {} rows behind them; the rest is served",
                log.lost_rows
            );
            let advice = "the file is kept in quarantine/ once its rows are in a segment";
            self.note(Severity::Damage, path, log.damaged_at, &what, &lost, advice);
        }
        if log.torn_bytes > 0 {
            let severity = if log.is_tail_odd { Severity::Warning } else { Severity::Note };
            let what = match log.is_tail_odd {
                true => format!("its last {} bytes are no records", log.torn_bytes),
                false => format!("its last {} bytes are a record not yet whole", log.torn_bytes),
            };
            let consequence = "they are being written, or a crash came while they were; nobody was \
                               told that they are safe";
            self.note(severity, path, Some(log.offset()), &what, consequence, "");
        }
        Ok(Some(log))
    }

    /// Says what lies in the directories of the store and is not part of it.
    fn check_names(&mut self, manifest: &Manifest) -> Result<()> {
        let paths = self.paths;
        self.check_dir(paths.root(), &|name| Paths::is_own(name).then_some(Belongs::Yes))?;
        // Logs that count or are left over were told of.
        self.check_dir(&paths.wal_dir(), &|name| parse_wal(name).map(|_| Belongs::Yes))?;
        for dir in self.tier_dirs()? {
            self.check_dir(&dir, &|name| {
                let id = parse_segment(name)?;
                let info = manifest.segments.iter().find(|info| info.id == id);
                let is_here = info.is_some_and(|info| paths.tier_dir(info.tier) == dir);
                Some(if is_here { Belongs::Yes } else { Belongs::Unnamed })
            })?;
        }
        Ok(())
    }

    fn tier_dirs(&self) -> Result<Vec<PathBuf>> {
        let segments = self.paths.segments_dir();
        let mut entries = list_or_nothing(self.vfs, &segments)?;
        entries.retain(|entry| entry.is_dir);
        let mut dirs: Vec<PathBuf> =
            entries.iter().map(|entry| segments.join(&entry.name)).collect();
        dirs.sort();
        Ok(dirs)
    }

    fn check_dir(&mut self, dir: &Path, belongs: &dyn Fn(&str) -> Option<Belongs>) -> Result<()> {
        let mut entries = list_or_nothing(self.vfs, dir)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            let is_unfinished = entry.name.ends_with(TEMPORARY);
            let belongs = if is_unfinished { None } else { belongs(&entry.name) };
            let (severity, what, consequence, advice) = match belongs {
                Some(Belongs::Yes) => continue,
                Some(Belongs::Unnamed) if self.is_manifest_sure => (
                    Severity::Note,
                    "the manifest does not name it",
                    "a running writer has just made it or is about to delete it; else it goes \
                     when the store is opened",
                    "",
                ),
                Some(Belongs::Unnamed) => (
                    Severity::Warning,
                    "the manifest that is left does not name it",
                    "it may belong to the store; it is set aside when the store is opened",
                    RESTORE,
                ),
                None if is_unfinished => (
                    Severity::Note,
                    "it is unfinished",
                    "a running writer writes it; else it goes when the store is opened",
                    "",
                ),
                None => (Severity::Note, "it is not of the store", "it is left alone", ""),
            };
            self.note(severity, &dir.join(&entry.name), None, what, consequence, advice);
        }
        Ok(())
    }

    /// Both copies of the manifest are gone: says what of the segments is sound.
    fn check_without_manifest(&mut self) -> Result<()> {
        let mut is_store = self.report.worst() == Some(Severity::Damage);
        for dir in self.tier_dirs()? {
            for entry in list_or_nothing(self.vfs, &dir)? {
                if parse_segment(&entry.name).is_none() {
                    continue;
                }
                is_store = true;
                self.advance(entry.len);
                let state = self.state_of(&dir.join(&entry.name));
                let consequence = "no manifest says whether it belongs to the store";
                let path = dir.join(&entry.name);
                self.note(Severity::Warning, &path, None, &state, consequence, RESTORE);
            }
        }
        if !is_store {
            let path = self.paths.root().to_owned();
            return Err(Error::NotAStore { path, what: "it has no MANIFEST".into() });
        }
        Ok(())
    }

    /// Says what was set aside earlier.
    fn check_quarantine(&mut self) -> Result<()> {
        let dir = self.paths.quarantine_dir();
        let mut entries = list_or_nothing(self.vfs, &dir)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let path = dir.join(&entry.name);
            let what = if entry.name.contains(".seg") {
                format!("it was set aside; {}", self.state_of(&path))
            } else {
                "it was set aside".to_owned()
            };
            let consequence = "the store does without it";
            let advice = "restore what it covers from a backup, then delete it";
            self.note(Severity::Warning, &path, None, &what, consequence, advice);
        }
        Ok(())
    }

    /// What a segment that no manifest names says of itself.
    fn state_of(&self, path: &Path) -> String {
        let segment = match Segment::open_unnamed(self.vfs, path) {
            Ok(segment) => segment,
            Err(error) => return format!("it does not open: {}", what_of(&error).1),
        };
        let (info, mut damaged) = (segment.info(), 0_usize);
        segment.check_groups(&mut |_| damaged += 1);
        let range = told(range_of(info));
        match (damaged, segment.verify()) {
            (0, Ok(())) => format!("it is a sound segment of {} samples, {range}", info.samples),
            (0, Err(error)) => format!("it is a segment, {range}, but {}", what_of(&error).1),
            (damaged, _) => format!("it is a segment, {range}, with {damaged} damaged row groups"),
        }
    }

    fn note_error(&mut self, path: &Path, error: &Error, consequence: &str, advice: &str) {
        let (offset, what) = what_of(error);
        self.note(Severity::Damage, path, offset, &what, consequence, advice);
    }

    fn note(
        &mut self,
        severity: Severity,
        path: &Path,
        offset: Option<u64>,
        what: &str,
        consequence: &str,
        advice: &str,
    ) {
        self.report.findings.push(Finding {
            severity,
            file: path.strip_prefix(self.paths.root()).unwrap_or(path).to_owned(),
            offset,
            what: what.to_owned(),
            consequence: consequence.to_owned(),
            advice: advice.to_owned(),
        });
    }
}

/// What a name in a directory of the store has to do with it.
enum Belongs {
    Yes,
    /// It is a segment, but not one of the manifest.
    Unnamed,
}

/// Where an error is, and what it says besides the file.
fn what_of(error: &Error) -> (Option<u64>, String) {
    match error {
        Error::Corrupt { offset, what, .. } => (Some(*offset), what.to_string()),
        Error::Io { op, source, .. } => (None, format!("could not {op} it: {source}")),
        Error::UnsupportedVersion { found, .. } => {
            (None, format!("it is damaged or of a newer heapster: format {found} is not known"))
        }
        other => (None, with_causes(other)),
    }
}

fn told(range: TimeRange) -> String {
    format!("{} to {}", range.start, range.end)
}
