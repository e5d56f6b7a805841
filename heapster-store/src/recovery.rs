//! Opening a store: what is there, what of it is sound, and what a crash left lying about.
//!
//! Nothing is changed before everything was read and found to be ours. Of log files of an
//! earlier life no byte changes: what no mark calls synced is written over itself, their heads are
//! frozen, and new batches go to a new file. Reopening twice therefore shows the same as reopening
//! once.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use heapster_core::{TimeRange, Timestamp};

use crate::error::{Error, Result, with_causes};
use crate::flush::create_wal;
use crate::follower::Follower;
use crate::head::Head;
use crate::head::apply::Applier;
use crate::head::encode::Encoder;
use crate::maintenance::Upkeep;
use crate::manifest::{Loaded, Manifest};
use crate::options::StoreOptions;
use crate::paths::{BACKUP, Paths, TEMPORARY, parse_segment, parse_tier, parse_wal};
use crate::planted::{self, Bug};
use crate::reserve::Reserve;
use crate::retention::ClockWatch;
use crate::segment::{Segment, SegmentInfo};
use crate::snapshot::View;
use crate::stats::{DamagedIndex, OpenReport, Quarantined};
use crate::store::{Parts, Store, Writer};
use crate::tier;
use crate::vfs::{DirEntry, Vfs, VfsFile, read_exact_at, write_all_at};

pub(crate) fn open(dir: &Path, options: StoreOptions) -> Result<Store> {
    match open_once(dir, options.clone()) {
        // To open a store is how its retention gets to run, so it must be possible on a full disk.
        Err(Error::DiskFull { .. }) if give_up_reserve(dir, &*options.vfs) => {
            open_once(dir, options)
        }
        result => result,
    }
}

/// Removes what a store keeps for a full disk; whether there was something.
fn give_up_reserve(dir: &Path, vfs: &dyn Vfs) -> bool {
    let paths = Paths::new(dir);
    // Whoever has the lock needs the reserve.
    take_lock(vfs, &paths).is_ok_and(|_lock| Reserve::default().give_up(vfs, &paths))
}

fn open_once(dir: &Path, options: StoreOptions) -> Result<Store> {
    tier::check(&options.tiers)?;
    let vfs = Arc::clone(&options.vfs);
    let vfs = &*vfs;
    let paths = Paths::new(dir);
    let is_made = make_dir(vfs, dir)?;
    check_is_ours(vfs, &paths)?;
    // Before the lock, which may have to be created: a store we cannot read is left as it is.
    Manifest::load(vfs, &paths)?;
    let lock = take_lock(vfs, &paths)?;
    let mut opened = OpenReport::default();
    let loaded = Manifest::load(vfs, &paths)?;
    opened.is_new = loaded.is_none();
    if opened.is_new {
        make_name_durable(vfs, dir, is_made)?;
        create_dirs(vfs, &paths)?;
    }
    let Loaded { mut manifest, needs_repair: mut is_dirty, may_be_stale } =
        loaded.unwrap_or_else(|| {
            let store_id = vfs.random_number();
            let manifest = Manifest { store_id, next_segment: 1, ..Manifest::default() };
            Loaded { manifest, needs_repair: true, may_be_stale: false }
        });
    let (segments, missing, unavailable) = open_segments(vfs, &paths, &manifest, &mut opened)?;
    let replayed = replay(vfs, &paths, manifest.wal_floor, &mut opened)?;

    if !opened.is_new && !planted::has(Bug::ManifestNotSettled) {
        // The one who wrote the manifest may have died before its name was durable. Until it is, a
        // power cut brings back the one before, which names what is about to be removed.
        vfs.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))?;
    }
    // From here on the directory is changed.
    if !opened.is_new {
        // Many tools that copy directories leave out empty ones.
        create_missing_dirs(vfs, &paths)?;
    }
    for (path, tail) in &replayed.tails {
        relog(vfs, path, tail.clone())?;
    }
    is_dirty |= !missing.is_empty();
    for (info, reason) in missing {
        opened.quarantined.push(quarantine(vfs, &paths, &info, reason)?);
        manifest.segments.retain(|segment| segment.id != info.id);
        // Where its raw samples are still there, it is built again.
        tier::mark_stale_in(&mut manifest, info.tier, range_of(&info));
    }
    is_dirty |= tier::reconcile(&mut manifest, &options.tiers)?;
    for (generation, reason) in &replayed.unreadable {
        let file = set_aside(vfs, &paths, &paths.wal(*generation))?;
        let reason = reason.map(str::to_owned);
        opened.quarantined.extend(reason.map(|reason| Quarantined { file, range: None, reason }));
    }
    if may_be_stale {
        set_unnamed_aside(vfs, &paths, &mut manifest, &mut opened)?;
    }
    remove_leftovers(vfs, &paths, &manifest, &replayed.empty)?;
    if is_dirty {
        manifest.number += 1;
        manifest.prepare(vfs, &paths)?;
        Manifest::publish(vfs, &paths)?;
    }
    let newest_generation = replayed.heads.last().map_or(0, |head| head.generation);
    let generation = newest_generation.max(replayed.last_generation).max(manifest.wal_floor) + 1;
    let head = Arc::new(Head::new(generation));
    let wal = create_wal(vfs, &paths, generation)?;
    let mut reserve = Reserve::default();
    reserve.keep(vfs, &paths, manifest.to_bytes().len());
    head.wal_bytes.store(wal.len(), Ordering::Relaxed);
    let writer = Writer {
        wal,
        encoder: Encoder::new(options.sets_max),
        applier: Applier::new(Arc::clone(&head)),
        next_seq: replayed.last_seq + 1,
    };
    // Only a help for people: a full disk must not keep the store from opening.
    let _ = say_who_holds_it(vfs, &paths);
    let mut heads = replayed.heads;
    heads.push(head);
    let quarantine = Arc::default();
    let view = View::new(&shown(&manifest, &unavailable), segments, heads, quarantine);
    let newest = newest_sample(&view);
    let (now, monotonic) = (options.clock.now(), options.clock.monotonic());
    let upkeep = Upkeep {
        watch: ClockWatch::new(now, monotonic, newest, manifest.clock_probation),
        reserve,
        last_flush: monotonic,
        is_frozen_pending: false,
        retry_from: Duration::ZERO,
        damaged_generations: replayed.damaged,
        damaged_segments: Vec::new(),
        blocked: tier::blocked_by(&manifest, &unavailable),
        manifest,
        unavailable,
    };
    Ok(Store::from_parts(Parts { options, paths, upkeep, writer, view, opened, lock }))
}

/// What readers are told of a manifest: what a tier lacks because some of its segments cannot be read
/// now is answered from finer ones. The store itself does not build it again, since it may come back.
pub(crate) fn shown<'a>(manifest: &'a Manifest, unavailable: &[SegmentInfo]) -> Cow<'a, Manifest> {
    let mut manifest = Cow::Borrowed(manifest);
    for info in unavailable.iter().filter(|info| info.tier > 0) {
        tier::mark_stale_in(manifest.to_mut(), info.tier, range_of(info));
    }
    manifest
}

/// Creates the directory and its missing parents, and says whether it was missing; their names are
/// not durable yet.
pub(crate) fn make_dir(vfs: &dyn Vfs, dir: &Path) -> Result<bool> {
    match vfs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => return Ok(false),
    }
    vfs.create_dir_all(dir).map_err(|source| Error::io("create", dir, source))?;
    Ok(true)
}

/// Makes the name of a directory durable, and those of all above it: whoever made them may have died
/// before they were. `is_made` when the directory itself was made just now.
pub(crate) fn make_name_durable(vfs: &dyn Vfs, dir: &Path, is_made: bool) -> Result<()> {
    if planted::has(Bug::PathNotSynced) {
        return Ok(());
    }
    for (distance, parent) in dir.ancestors().skip(1).enumerate() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match vfs.sync_dir(parent) {
            // Far above, or around a directory that somebody made for us, may be what we cannot open.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied
                    && (distance > 0 || !is_made) => {}
            Err(error) if distance > 0 && cannot_be_ours(&error) => {}
            result => result.map_err(|source| Error::io("sync", parent, source))?,
        }
    }
    Ok(())
}

/// Whether a directory is on a file system that nobody can have made a name in, or that has no sync of
/// directories.
fn cannot_be_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), InvalidInput | ReadOnlyFilesystem | Unsupported)
}

/// Refuses a directory that something else lives in.
fn check_is_ours(vfs: &dyn Vfs, paths: &Paths) -> Result<()> {
    let dir = paths.root();
    let not_ours = |what: String| Error::NotAStore { path: dir.to_owned(), what: what.into() };
    let entries = match vfs.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(not_ours("it is a file; give a directory".to_owned()));
        }
        Err(source) => return Err(Error::io("list", dir, source)),
    };
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if has(BACKUP) {
        return Err(not_ours("it is a backup; restore it into another directory".to_owned()));
    }
    if has("MANIFEST") || has("MANIFEST.copy") {
        return Ok(());
    }
    if let Some(foreign) = entries.iter().find(|entry| !Paths::is_own(&entry.name)) {
        let name = &foreign.name;
        return Err(not_ours(format!("it contains {name:?}; give an empty directory")));
    }
    // A store writes its manifest before anything else.
    for sub in [paths.wal_dir(), paths.tier_dir(0)] {
        if list_or_nothing(vfs, &sub)?.iter().any(|entry| !entry.is_dir) {
            let what = "it has data but no MANIFEST; restore the manifest from a backup";
            return Err(not_ours(what.to_owned()));
        }
    }
    Ok(())
}

pub(crate) fn take_lock(
    vfs: &dyn Vfs,
    paths: &Paths,
) -> Result<Box<dyn std::fmt::Debug + Send + Sync>> {
    let path = paths.lock();
    vfs.lock(&path).map_err(|source| {
        if source.kind() != io::ErrorKind::WouldBlock {
            return Error::io("lock", &path, source);
        }
        let text = read_whole(vfs, &path, 256).unwrap_or_default();
        let holder = String::from_utf8_lossy(&text).trim().to_owned();
        let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
        Error::Locked { path, holder }
    })
}

/// Writes into the lock file who we are, for the message of those who come second.
fn say_who_holds_it(vfs: &dyn Vfs, paths: &Paths) -> io::Result<()> {
    let host = rustix::system::uname();
    let text = format!("process {} on {}\n", std::process::id(), host.nodename().to_string_lossy());
    let file = vfs.open_for_write(&paths.lock())?;
    file.set_len(0)?;
    write_all_at(&*file, text.as_bytes(), 0)
}

fn create_dirs(vfs: &dyn Vfs, paths: &Paths) -> Result<()> {
    for dir in [paths.wal_dir(), paths.tier_dir(0)] {
        vfs.create_dir_all(&dir).map_err(|source| Error::io("create", &dir, source))?;
    }
    for dir in [paths.segments_dir(), paths.root().to_owned()] {
        vfs.sync_dir(&dir).map_err(|source| Error::io("sync", &dir, source))?;
    }
    Ok(())
}

/// Creates the directories of a store whose manifest is there.
fn create_missing_dirs(vfs: &dyn Vfs, paths: &Paths) -> Result<()> {
    let is_there = |dir: &Path| match vfs.list(dir) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(Error::io("list", dir, source)),
        Ok(_) => Ok(true),
    };
    let both = is_there(&paths.wal_dir())? && is_there(&paths.tier_dir(0))?;
    if both { Ok(()) } else { create_dirs(vfs, paths) }
}

/// Segments that are damaged or gone, with the reason.
type Missing = Vec<(SegmentInfo, String)>;
/// Segments that the system does not let us read now.
type Unavailable = Vec<SegmentInfo>;

/// Opens the segments of the manifest; those that are damaged or gone are given with the reason.
/// Those that the system does not let us read now are left where they are.
fn open_segments(
    vfs: &dyn Vfs,
    paths: &Paths,
    manifest: &Manifest,
    opened: &mut OpenReport,
) -> Result<(Vec<Arc<Segment>>, Missing, Unavailable)> {
    let (mut segments, mut missing, mut unavailable) = (Vec::new(), Vec::new(), Vec::new());
    for info in &manifest.segments {
        match Segment::open(vfs, &paths.segment(info.tier, info.id), info) {
            Ok(segment) => {
                opened.damaged_indexes.extend(DamagedIndex::of(&segment));
                segments.push(Arc::new(segment));
            }
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                missing.push((info.clone(), "the file is missing".to_owned()));
            }
            Err(error) if error.is_corruption() => missing.push((info.clone(), error.to_string())),
            Err(error @ Error::Io { .. }) => {
                unavailable.push(info.clone());
                opened.unavailable.push(Quarantined {
                    file: format!("{:016x}.seg", info.id),
                    range: Some(range_of(info)),
                    reason: with_causes(&error),
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok((segments, missing, unavailable))
}

struct Replayed {
    /// Heads that have rows, in the order of their generations.
    heads: Vec<Arc<Head>>,
    last_seq: u64,
    last_generation: u64,
    /// Files that are worth keeping when their rows are in a segment.
    damaged: Vec<u64>,
    /// Files without a row that may have had some, with what to report.
    unreadable: Vec<(u64, Option<&'static str>)>,
    /// Files that no row was written to.
    empty: Vec<u64>,
    /// What of the files no mark calls synced.
    tails: Vec<(PathBuf, Range<u64>)>,
}

fn replay(vfs: &dyn Vfs, paths: &Paths, floor: u64, opened: &mut OpenReport) -> Result<Replayed> {
    let mut generations = list_wals(vfs, paths)?;
    let last_generation = generations.last().copied().unwrap_or(0);
    generations.retain(|generation| *generation >= floor);
    let mut replayed = Replayed {
        heads: Vec::new(),
        last_seq: 0,
        last_generation,
        damaged: Vec::new(),
        unreadable: Vec::new(),
        empty: Vec::new(),
        tails: Vec::new(),
    };
    for generation in generations {
        let path = paths.wal(generation);
        let mut log = Follower::new(generation);
        let file = open_wal(vfs, &path)?;
        let len = file.size().map_err(|source| Error::io("read", &path, source))?;
        log.read(&path, &*file, len)?;
        if replayed.last_seq > 0 {
            let missing = log.first_seq.saturating_sub(replayed.last_seq + 1);
            opened.missing_batches += missing;
        }
        replayed.last_seq = replayed.last_seq.max(log.last_seq);
        log.add_to(opened);
        if log.marked < log.batches_end {
            replayed.tails.push((path, log.marked..log.batches_end));
        }
        let is_odd = log.damaged_bytes > 0 || log.is_tail_odd;
        if log.is_unreadable {
            let reason = Some("its header and records are damaged");
            replayed.unreadable.push((generation, reason));
        } else if !log.head().is_empty() {
            replayed.damaged.extend(is_odd.then_some(generation));
            replayed.heads.push(Arc::clone(log.head()));
        } else if is_odd {
            let reason = (log.damaged_bytes > 0).then_some("all of its records are damaged");
            replayed.unreadable.push((generation, reason));
        } else {
            replayed.empty.push(generation);
        }
    }
    Ok(replayed)
}

/// Generations that have a log file, in their order.
pub(crate) fn list_wals(vfs: &dyn Vfs, paths: &Paths) -> Result<Vec<u64>> {
    let names = list_or_nothing(vfs, &paths.wal_dir())?;
    let mut generations: Vec<u64> =
        names.iter().filter_map(|entry| parse_wal(&entry.name)).collect();
    generations.sort_unstable();
    Ok(generations)
}

/// Opens a log file so that it is read as the disk has it.
///
/// After a failed sync the cache may show bytes that the disk does not have. So it is synced first
/// and its cache dropped.
fn open_wal(vfs: &dyn Vfs, path: &Path) -> Result<Box<dyn VfsFile>> {
    let failed = |op: &'static str| move |source| Error::io(op, path, source);
    let file = vfs.open(path).map_err(failed("open"))?;
    if planted::has(Bug::CacheTrusted) {
        return Ok(file);
    }
    file.sync().map_err(failed("sync"))?;
    file.drop_cache().map_err(failed("drop the cache of"))?;
    Ok(file)
}

/// Writes a part of a log file over itself and syncs it.
///
/// After a failed sync the cache may show bytes that the disk does not have, call them written, and
/// not let go of them when it is asked to. What was read is about to be shown, and what is appended
/// from now on must not outlive it.
fn relog(vfs: &dyn Vfs, path: &Path, part: Range<u64>) -> Result<()> {
    /// Bytes that are written at once.
    const STEP_BYTES: u64 = 1 << 20;
    if planted::has(Bug::TailNotRelogged) || planted::has(Bug::CacheTrusted) {
        return Ok(());
    }
    let failed = |op: &'static str| move |source| Error::io(op, path, source);
    let file = vfs.open_for_write(path).map_err(failed("open"))?;
    let mut from = part.start;
    while from < part.end {
        let mut bytes = vec![0; (part.end - from).min(STEP_BYTES) as usize];
        read_exact_at(&*file, &mut bytes, from).map_err(failed("read"))?;
        write_all_at(&*file, &bytes, from).map_err(failed("write"))?;
        from += bytes.len() as u64;
    }
    file.sync().map_err(failed("sync"))
}

fn quarantine(
    vfs: &dyn Vfs,
    paths: &Paths,
    info: &SegmentInfo,
    reason: String,
) -> Result<Quarantined> {
    let file = set_aside(vfs, paths, &paths.segment(info.tier, info.id))?;
    Ok(Quarantined { file, range: Some(range_of(info)), reason })
}

/// Times of the first and the last row of a segment.
pub(crate) fn range_of(info: &SegmentInfo) -> TimeRange {
    TimeRange::new(Timestamp::from_millis(info.first), Timestamp::from_millis(info.last))
}

/// Keeps segments that only the lost copy of the manifest may have named.
fn set_unnamed_aside(
    vfs: &dyn Vfs,
    paths: &Paths,
    manifest: &mut Manifest,
    opened: &mut OpenReport,
) -> Result<()> {
    for tier in tiers(vfs, paths)? {
        for entry in list_or_nothing(vfs, &paths.tier_dir(tier))? {
            let Some(id) = parse_segment(&entry.name).filter(|_| !entry.is_dir) else { continue };
            if manifest.segments.iter().any(|segment| segment.tier == tier && segment.id == id) {
                continue;
            }
            let file = set_aside(vfs, paths, &paths.segment(tier, id))?;
            let reason = "a copy of the manifest is damaged, and the other does not name it";
            opened.quarantined.push(Quarantined { file, range: None, reason: reason.to_owned() });
            manifest.next_segment = manifest.next_segment.max(id.saturating_add(1));
        }
    }
    Ok(())
}

/// The tiers that have a directory, raw included.
fn tiers(vfs: &dyn Vfs, paths: &Paths) -> Result<Vec<u8>> {
    let entries = list_or_nothing(vfs, &paths.segments_dir())?;
    Ok(entries.iter().filter_map(|entry| parse_tier(&entry.name)).collect())
}

/// Moves a file into `quarantine/`, if it is there, and gives its new name. Nothing that lies there
/// already is replaced.
pub(crate) fn set_aside(vfs: &dyn Vfs, paths: &Paths, path: &Path) -> Result<String> {
    let dir = paths.quarantine_dir();
    vfs.create_dir_all(&dir).map_err(|source| Error::io("create", &dir, source))?;
    let taken = list_or_nothing(vfs, &dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_free = |name: &String| taken.iter().all(|entry| entry.name != *name);
    let others = (1..).map(|number: u64| format!("{name}.{number}"));
    let name = std::iter::once(name.clone()).chain(others).find(is_free).unwrap_or_default();
    match vfs.rename(path, &dir.join(&name)) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io("rename", path, source));
        }
        _ => {}
    }
    // A move that a power cut undoes is made again by the next open.
    let _ = [dir.as_path(), paths.root()].map(|dir| vfs.sync_dir(dir));
    Ok(name)
}

/// Removes what a crash left: unfinished files, segments no manifest names, log files that are in
/// segments. They are never adopted. What cannot be removed is not worth failing for.
pub(crate) fn remove_leftovers(
    vfs: &dyn Vfs,
    paths: &Paths,
    manifest: &Manifest,
    empty: &[u64],
) -> Result<()> {
    let remove = |dir: &Path, is_leftover: &dyn Fn(&DirEntry) -> bool| -> Result<()> {
        for entry in list_or_nothing(vfs, dir)? {
            if !entry.is_dir && (entry.name.ends_with(TEMPORARY) || is_leftover(&entry)) {
                let _ = vfs.remove(&dir.join(&entry.name));
            }
        }
        Ok(())
    };
    remove(paths.root(), &|_| false)?;
    remove(&paths.wal_dir(), &|entry| {
        let is_needless = |number| number < manifest.wal_floor || empty.contains(&number);
        parse_wal(&entry.name).is_some_and(is_needless)
    })?;
    for tier in tiers(vfs, paths)? {
        remove(&paths.tier_dir(tier), &|entry| {
            let is_named = |id| manifest.segments.iter().any(|s| s.tier == tier && s.id == id);
            parse_segment(&entry.name).is_some_and(|id| !is_named(id))
        })?;
    }
    Ok(())
}

fn newest_sample(view: &View) -> Option<Timestamp> {
    let segments = view.segments.iter().map(|s| Timestamp::from_millis(s.info().last));
    let heads = view.heads.iter().filter_map(|head| head.bounds());
    segments.chain(heads.map(|bounds| bounds.end)).max()
}

pub(crate) fn list_or_nothing(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<DirEntry>> {
    match vfs.list(dir) {
        Ok(entries) => Ok(entries),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::io("list", dir, source)),
    }
}

fn read_whole(vfs: &dyn Vfs, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = vfs.open(path)?;
    let len = usize::try_from(file.size()?).unwrap_or(usize::MAX).min(bytes_max);
    let mut bytes = vec![0; len];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(bytes)
}
