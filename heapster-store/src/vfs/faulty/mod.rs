//! [`FaultyVfs`]: files in memory that know what would survive a power cut, and that fail on demand.
//!
//! Each file has a live view (what a read shows, the page cache) and a durable one (what `sync`
//! made safe). Names have the same two views, by directory. A test lets a workload run until the
//! n-th call that changes something, cuts the power there, and opens the store again; or it lets
//! every such call be remembered as a [`Moment`], and looks afterwards at what each would have left.

mod coin;
mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, Mapping, Vfs, VfsFile};
use disk::{Change, Disk, Effect, InodeNumber, NameEffect};

pub use coin::Coin;
pub use disk::{FailedSync, PowerCut};

/// A file system in memory with faults. Clones are the same file system.
#[derive(Clone, Debug, Default)]
pub struct FaultyVfs(Arc<Mutex<State>>);

/// What a test does before a file is synced.
type SyncHook = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// Faults that come by chance, in percent of the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Reads and writes that move fewer bytes than they were asked to, or none because of a signal.
    pub short: u32,
    /// Reads, openings, mappings and listings that a disk refuses.
    pub read_errors: u32,
    /// Mappings that are refused though a read would work.
    pub map_errors: u32,
    /// Requests to drop a file's cache that are not heeded.
    pub kept_caches: u32,
}

/// The state of a file system when a call that changes something began.
#[derive(Clone)]
pub struct Moment {
    disk: Disk,
    /// What the call was about to do.
    change: Change,
    /// Number of the call.
    pub number: u64,
}

/// How a process or a machine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process alone; a write that it was in has moved a part of its bytes, as the seed says.
    Kill(u64),
    /// The machine.
    PowerCut(PowerCut),
}

#[derive(Default)]
struct State {
    disk: Disk,
    locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life of the "machine" must not touch the files any more.
    life: u64,
    changes: u64,
    crash_at: Option<u64>,
    failures: BTreeMap<u64, io::ErrorKind>,
    failed_sync: FailedSync,
    noise: Noise,
    coin: Option<Coin>,
    /// What [`Vfs::random_number`] gives.
    numbers: Option<Coin>,
    moments: Option<Vec<Moment>>,
    capacity: Option<usize>,
    /// No file of such a name can be created.
    refused_suffix: Option<String>,
    /// Hard links are refused.
    has_no_links: bool,
    before_sync: Option<SyncHook>,
    /// A file that the disk does not give out.
    unreadable: Option<PathBuf>,
    is_crashed: bool,
    /// Calls that were refused because of a fault.
    faults: u64,
    /// A sync that failed has lost bytes.
    has_forgotten: bool,
}

struct FaultyFile {
    vfs: FaultyVfs,
    inode: InodeNumber,
    life: u64,
    is_writable: bool,
}

#[derive(Debug)]
struct FaultyMapping(Arc<Vec<u8>>);

struct FaultyLock {
    vfs: FaultyVfs,
    path: PathBuf,
    life: u64,
}

impl FaultyVfs {
    /// An empty file system with endless room.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file system that holds these files, as [`FaultyVfs::files`] gives them, all on the disk.
    pub fn with_files(files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        Self::with_disk(Disk::with_files(files))
    }

    /// A file system of its own with the same files; they are shared until one of them is changed.
    pub fn fork(&self) -> Self {
        Self::with_disk(self.0.lock().disk.clone())
    }

    fn with_disk(disk: Disk) -> Self {
        Self(Arc::new(Mutex::new(State { disk, ..State::default() })))
    }

    /// Draws the numbers that are to be unlike all others from a seed, so that a run can be repeated.
    pub fn seed_numbers(&self, seed: u64) {
        self.0.lock().numbers = Some(Coin::new(seed));
    }

    /// How many calls that change something (write, sync, create, rename, …) there were so far.
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// Remembers from now on, or no more, the moment of every call that changes something.
    pub fn remember_moments(&self, wanted: bool) {
        self.0.lock().moments = wanted.then(Vec::new);
    }

    /// The moments since the last time, in their order.
    pub fn take_moments(&self) -> Vec<Moment> {
        self.0.lock().moments.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Dies at the call number `n` (the first has number 0): that call does a part of its work at
    /// most, and it and every later call fail until [`FaultyVfs::restart`] or
    /// [`FaultyVfs::cut_power`].
    pub fn crash_at(&self, n: u64) {
        self.0.lock().crash_at = Some(n);
    }

    /// Whether it died.
    pub fn is_crashed(&self) -> bool {
        self.0.lock().is_crashed
    }

    /// How many calls were refused because of a fault or for want of room.
    pub fn faults(&self) -> u64 {
        self.0.lock().faults
    }

    /// Whether a sync that failed has lost bytes since the last time that this was asked.
    pub fn take_forgotten(&self) -> bool {
        std::mem::take(&mut self.0.lock().has_forgotten)
    }

    /// Lets the call number `n` fail once with that kind of error, without effect; the sync of a file
    /// as [`FaultyVfs::set_failed_sync`] says.
    pub fn fail_at(&self, n: u64, kind: io::ErrorKind) {
        self.0.lock().failures.insert(n, kind);
    }

    /// What a sync that fails does to what it should have written.
    pub fn set_failed_sync(&self, how: FailedSync) {
        self.0.lock().failed_sync = how;
    }

    /// Faults by chance from now on.
    pub fn set_noise(&self, noise: Noise, seed: u64) {
        let mut state = self.0.lock();
        state.noise = noise;
        state.coin = Some(Coin::new(seed));
    }

    /// Limits the bytes in all files; writes beyond fail as on a full disk. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.0.lock().capacity = bytes;
    }

    /// Bytes in all files.
    pub fn used_bytes(&self) -> usize {
        self.0.lock().disk.used()
    }

    /// Lets the creation of files whose name ends so fail as on a full disk. `None` lifts it.
    pub fn refuse_names_ending_with(&self, suffix: Option<&str>) {
        self.0.lock().refused_suffix = suffix.map(str::to_owned);
    }

    /// Refuses hard links, as a file system without them does.
    pub fn refuse_links(&self) {
        self.0.lock().has_no_links = true;
    }

    /// Lets opening that file fail as a disk with a bad sector does. `None` lifts it.
    pub fn refuse_reads_of(&self, path: Option<&Path>) {
        self.0.lock().unreadable = path.map(Path::to_path_buf);
    }

    /// Calls that before each sync of a file, which fails when it does. Other threads go on
    /// meanwhile.
    pub fn before_sync(&self, hook: impl Fn() -> io::Result<()> + Send + Sync + 'static) {
        self.0.lock().before_sync = Some(Arc::new(hook));
    }

    /// The process died and starts again: files are as last written, locks are free, old handles dead.
    pub fn restart(&self) {
        self.0.lock().begin_life();
    }

    /// The machine lost its power and starts again.
    pub fn cut_power(&self, cut: PowerCut) {
        let mut state = self.0.lock();
        state.disk.cut_power(cut);
        state.begin_life();
    }

    /// Flips one bit of a file, in both views.
    ///
    /// # Errors
    /// There is no such file or byte.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) -> io::Result<()> {
        let mut state = self.0.lock();
        let inode = state.disk.inode_of(path)?;
        if offset >= state.disk.bytes(inode).len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        state.disk.damage(path, |bytes| {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1 << (bit % 8);
            }
        })
    }

    /// Changes the bytes of a file, in both views, as a disk does that breaks.
    ///
    /// # Errors
    /// There is no such file.
    pub fn damage(&self, path: &Path, damage: impl Fn(&mut Vec<u8>)) -> io::Result<()> {
        self.0.lock().disk.damage(path, damage)
    }

    /// Every file and its live bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.0.lock().disk.files()
    }
}

impl Moment {
    /// What is left when the process or the machine dies in the call.
    pub fn after(&self, crash: Crash) -> FaultyVfs {
        let mut disk = self.disk.clone();
        match crash {
            Crash::Kill(seed) => {
                let mut coin = Coin::new(seed);
                match self.change.clone() {
                    Change::Bytes(inode, Effect::Write(offset, bytes)) => {
                        let written = bytes[..coin.below(bytes.len() + 1)].into();
                        disk.apply(Change::Bytes(inode, Effect::Write(offset, written)));
                    }
                    change if coin.percent(50) => disk.apply(change),
                    _ => {}
                }
            }
            Crash::PowerCut(cut) => {
                disk.apply(self.change.clone());
                disk.cut_power(cut);
            }
        }
        FaultyVfs::with_disk(disk)
    }
}

impl State {
    fn begin_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.crash_at = None;
        self.is_crashed = false;
        self.failures.clear();
    }

    /// Counts a call that changes something. `Ok(false)` means: do half of it, then be dead.
    fn begin(&mut self, change: &Change) -> io::Result<bool> {
        self.alive()?;
        let number = self.changes;
        self.changes += 1;
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { disk: self.disk.clone(), change: change.clone(), number });
        }
        if let Some(kind) = self.failures.remove(&number) {
            self.faults += 1;
            return Err(kind.into());
        }
        if self.crash_at.is_some_and(|at| number >= at) {
            self.is_crashed = true;
            return Ok(false);
        }
        Ok(true)
    }

    /// As [`State::begin`] for calls that cannot be done by half.
    fn begin_whole(&mut self, change: &Change) -> io::Result<()> {
        if self.begin(change)? { Ok(()) } else { Err(crashed()) }
    }

    /// As [`State::begin_whole`] for a call that is refused when it is not allowed: then a crash in
    /// it changes nothing.
    fn begin_allowed(&mut self, change: &Change, allowed: io::Result<()>) -> io::Result<()> {
        self.begin_whole(if allowed.is_ok() { change } else { &Change::Sync })?;
        allowed
    }

    /// Whether a file may get that name.
    fn may_name(&self, path: &Path) -> io::Result<()> {
        self.parent_exists(path)?;
        if self.is_taken(path) { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_crashed { Err(crashed()) } else { Ok(()) }
    }

    /// Whether a fault comes that many times in a hundred.
    fn chance(&mut self, percent: u32) -> bool {
        percent > 0 && self.coin.as_mut().is_some_and(|coin| coin.percent(percent))
    }

    fn read_chance(&mut self) -> io::Result<()> {
        let is_refused = self.chance(self.noise.read_errors);
        self.faults += u64::from(is_refused);
        if is_refused { Err(io::Error::other("a bad sector")) } else { Ok(()) }
    }

    fn readable(&mut self, path: &Path) -> io::Result<()> {
        let is_bad = self.unreadable.as_deref() == Some(path);
        if is_bad { Err(io::Error::other("a bad sector")) } else { self.read_chance() }
    }

    /// How many of some bytes a read or a write moves.
    fn moved(&mut self, len: usize) -> io::Result<usize> {
        if len > 1 && self.chance(self.noise.short) {
            let coin = self.coin.as_mut().map_or(0, |coin| coin.below(len));
            return if coin == 0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(coin) };
        }
        Ok(len)
    }

    fn is_taken(&self, path: &Path) -> bool {
        self.disk.live.files.contains_key(path) || self.disk.live.dirs.contains(path)
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if !self.disk.live.has_dir(parent) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
    }
}

fn crashed() -> io::Error {
    io::Error::other("the machine has crashed")
}

impl Vfs for FaultyVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.0.lock();
        let ends = |suffix: &String| path.to_string_lossy().ends_with(suffix);
        let mut allowed = state.may_name(path);
        if state.refused_suffix.as_ref().is_some_and(ends) {
            allowed = allowed.and(Err(io::ErrorKind::StorageFull.into()));
        }
        let inode = state.disk.add_inode();
        let change = Change::Name(NameEffect::Link(path.to_owned(), inode));
        state.begin_allowed(&change, allowed)?;
        state.disk.apply(change);
        Ok(self.file(inode, state.life, true))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.0.lock();
        state.alive()?;
        state.readable(path)?;
        Ok(self.file(state.disk.inode_of(path)?, state.life, false))
    }

    fn open_for_write(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let state = self.0.lock();
        state.alive()?;
        Ok(self.file(state.disk.inode_of(path)?, state.life, true))
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        let mut state = self.0.lock();
        state.alive()?;
        state.readable(path)?;
        let percent = state.noise.map_errors;
        if state.chance(percent) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let inode = state.disk.inode_of(path)?;
        Ok(Box::new(FaultyMapping(Arc::clone(state.disk.bytes(inode)))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        let inode = state.disk.inode_of(from);
        let number = *inode.as_ref().unwrap_or(&0);
        let change = Change::Name(NameEffect::Rename(from.to_owned(), to.to_owned(), number));
        let allowed = state.parent_exists(to).and(inode.map(drop));
        state.begin_allowed(&change, allowed)?;
        state.disk.apply(change);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.alive()?;
        let inode = state.disk.inode_of(from);
        let number = *inode.as_ref().unwrap_or(&0);
        let change = Change::Name(NameEffect::Link(to.to_owned(), number));
        let has_links: io::Result<()> =
            if state.has_no_links { Err(io::ErrorKind::CrossesDevices.into()) } else { Ok(()) };
        let allowed = has_links.and(inode.map(drop)).and(state.may_name(to));
        state.begin_allowed(&change, allowed)?;
        state.disk.apply(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.disk.live.files.contains_key(path) {
            let change = Change::Name(NameEffect::Unlink(path.to_owned()));
            state.begin_whole(&change)?;
            state.disk.apply(change);
            return Ok(());
        }
        state.begin_whole(&Change::Sync)?;
        Err(io::ErrorKind::NotFound.into())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin_whole(&Change::Sync)?;
        let is_file = |dir: &Path| state.disk.live.files.contains_key(dir);
        if path.ancestors().any(is_file) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut dirs: Vec<_> = path.ancestors().collect();
        dirs.reverse();
        for dir in dirs {
            if !state.disk.live.has_dir(dir) {
                state.disk.apply(Change::Name(NameEffect::MakeDir(dir.to_owned())));
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.begin_whole(&Change::Sync)?;
        if !state.disk.live.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.disk.sync_dir(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.0.lock();
        state.alive()?;
        state.read_chance()?;
        let live = &state.disk.live;
        if live.files.contains_key(path) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !live.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name_in = |name: &Path| {
            let own = name.file_name()?.to_str()?.to_owned();
            (name.parent() == Some(path)).then_some(own)
        };
        let files = live.files.iter().filter_map(|(name, inode)| {
            let len = state.disk.bytes(*inode).len() as u64;
            name_in(name).map(|name| DirEntry { name, len, is_dir: false })
        });
        let dirs = live
            .dirs
            .iter()
            .filter_map(|name| name_in(name).map(|name| DirEntry { name, len: 0, is_dir: true }));
        Ok(files.chain(dirs).collect())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let mut state = self.0.lock();
        state.alive()?;
        state.parent_exists(path)?;
        if !state.disk.live.files.contains_key(path) {
            let inode = state.disk.add_inode();
            state.disk.apply(Change::Name(NameEffect::Link(path.to_owned(), inode)));
        }
        if !state.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = state.life;
        Ok(Box::new(FaultyLock { vfs: self.clone(), path: path.to_owned(), life }))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        state.alive()?;
        let free = state.capacity.map(|bytes| bytes.saturating_sub(state.disk.used()) as u64);
        Ok(free.unwrap_or(u64::MAX))
    }

    fn random_number(&self) -> u64 {
        let mut state = self.0.lock();
        state.numbers.get_or_insert_with(|| Coin::new(super::number_of_the_system())).number()
    }
}

impl FaultyVfs {
    fn file(&self, inode: InodeNumber, life: u64, is_writable: bool) -> Box<dyn VfsFile> {
        Box::new(FaultyFile { vfs: self.clone(), inode, life, is_writable })
    }
}

impl FaultyFile {
    fn alive(&self, state: &State) -> io::Result<()> {
        state.alive()?;
        if state.life == self.life { Ok(()) } else { Err(crashed()) }
    }
}

impl VfsFile for FaultyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        state.read_chance()?;
        let live = Arc::clone(state.disk.bytes(self.inode));
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
        let len = state.moved(into.len().min(live.len() - start))?;
        into[..len].copy_from_slice(&live[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        if !self.is_writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let effect =
            |len: usize| Change::Bytes(self.inode, Effect::Write(start, bytes[..len].into()));
        let is_whole = state.begin(&effect(bytes.len()))?;
        let mut len = if is_whole { state.moved(bytes.len())? } else { bytes.len() / 2 };
        if let Some(capacity) = state.capacity {
            let old = state.disk.bytes(self.inode).len();
            let room = capacity.saturating_sub(state.disk.used()) + old.saturating_sub(start);
            len = len.min(room);
        }
        if len > 0 {
            state.disk.apply(effect(len));
        }
        match len {
            _ if !is_whole => Err(crashed()),
            0 if !bytes.is_empty() => {
                state.faults += 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(len),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let change = Change::Bytes(self.inode, Effect::SetLen(len));
        state.begin_whole(&change)?;
        state.disk.apply(change);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.vfs.0.lock();
        self.alive(&state)?;
        Ok(state.disk.bytes(self.inode).len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let hook = self.vfs.0.lock().before_sync.clone();
        hook.map_or(Ok(()), |hook| hook())?;
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        let begun = state.begin_whole(&Change::Sync);
        if begun.is_err() && !state.is_crashed {
            let how = state.failed_sync;
            state.has_forgotten |= state.disk.fail_sync(self.inode, how);
        }
        begun?;
        state.disk.sync(self.inode);
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        let percent = state.noise.kept_caches;
        if !state.chance(percent) {
            state.disk.drop_cache(self.inode);
        }
        Ok(())
    }
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.vfs.0.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

impl Deref for FaultyMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping for FaultyMapping {}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("files", &self.disk.live.files).finish_non_exhaustive()
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = format!("{:.80?}", self.change);
        f.debug_struct("Moment").field("number", &self.number).field("change", &change).finish()
    }
}

impl fmt::Debug for FaultyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFile").field("inode", &self.inode).finish_non_exhaustive()
    }
}

impl fmt::Debug for FaultyLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyLock").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::write_all_at;

    #[test]
    fn only_synced_bytes_under_synced_names_survive_a_power_cut() {
        let vfs = FaultyVfs::new();
        let dir = Path::new("/d");
        vfs.create_dir_all(dir).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        let file = vfs.create_new(&dir.join("a")).unwrap();
        write_all_at(&*file, b"one", 0).unwrap();
        file.sync().unwrap();
        vfs.sync_dir(dir).unwrap();
        write_all_at(&*file, b"two", 3).unwrap();
        vfs.create_new(&dir.join("b")).unwrap();
        vfs.rename(&dir.join("a"), &dir.join("c")).unwrap();
        vfs.cut_power(PowerCut::DropUnsynced);
        let expected = BTreeMap::from([(dir.join("a"), b"one".to_vec())]);
        assert_eq!(vfs.files(), expected);
        assert!(file.sync().is_err(), "a handle of the old life is dead");
    }

    #[test]
    fn a_link_is_a_second_name_that_survives_a_power_cut_once_its_directory_is_synced() {
        let vfs = FaultyVfs::new();
        let [a, b, c] = ["/d/a", "/d/b", "/d/c"].map(Path::new);
        vfs.create_dir_all(Path::new("/d")).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        let file = vfs.create_new(a).unwrap();
        write_all_at(&*file, b"one", 0).unwrap();
        file.sync().unwrap();
        vfs.hard_link(a, b).unwrap();
        vfs.sync_dir(Path::new("/d")).unwrap();
        vfs.hard_link(a, c).unwrap();
        let taken = vfs.hard_link(a, b).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        vfs.remove(a).unwrap();
        vfs.sync_dir(Path::new("/d")).unwrap();
        vfs.hard_link(b, a).unwrap();
        vfs.cut_power(PowerCut::DropUnsynced);
        let expected = [b, c].map(|path| (path.to_owned(), b"one".to_vec()));
        assert_eq!(vfs.files(), BTreeMap::from(expected));
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_then_refuses() {
        let vfs = FaultyVfs::new();
        let file = vfs.create_new(Path::new("/a")).unwrap();
        vfs.set_capacity(Some(4));
        assert_eq!(file.write_at(b"abcdef", 0).unwrap(), 4);
        assert_eq!(file.write_at(b"ef", 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
