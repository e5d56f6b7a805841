//! [`FaultyVfs`]: files in memory that know what would survive a power cut, and that fail on demand.
//!
//! Each file has a live view (what a read shows, the page cache) and a durable one (what `sync`
//! made safe). Names have the same two views, by directory. A test lets a workload run until the
//! n-th call that changes something, cuts the power there, and opens the store again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{DirEntry, Mapping, Vfs, VfsFile, write_all_at};

/// What a disk writes as one: a torn write keeps or loses whole sectors.
const SECTOR_BYTES: usize = 512;

/// A file system in memory with faults. Clones are the same file system.
#[derive(Clone, Debug, Default)]
pub struct FaultyVfs(Arc<Mutex<State>>);

/// What a test does before a file is synced.
type SyncHook = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// What survives when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// Only what was synced.
    DropUnsynced,
    /// What was synced, and of the rest each name and each sector by the throw of a seeded coin.
    Torn(u64),
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    live: Names,
    durable: Names,
    locks: BTreeSet<PathBuf>,
    /// Handles of an earlier life of the "machine" must not touch the files any more.
    life: u64,
    changes: u64,
    crash_at: Option<u64>,
    failures: BTreeMap<u64, io::ErrorKind>,
    capacity: Option<usize>,
    /// No file of such a name can be created.
    refused_suffix: Option<String>,
    /// Hard links are refused.
    has_no_links: bool,
    before_sync: Option<SyncHook>,
    /// A file that the disk does not give out.
    unreadable: Option<PathBuf>,
    is_crashed: bool,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
}

struct FaultyFile {
    vfs: FaultyVfs,
    inode: usize,
    life: u64,
    is_writable: bool,
}

#[derive(Debug)]
struct FaultyMapping(Vec<u8>);

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

    /// How many calls that change something (write, sync, create, rename, …) there were so far.
    pub fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// Dies at the call number `n` (the first has number 0): that call does a part of its work at
    /// most, and it and every later call fail until [`FaultyVfs::restart`] or
    /// [`FaultyVfs::cut_power`].
    pub fn crash_at(&self, n: u64) {
        self.0.lock().crash_at = Some(n);
    }

    /// Lets the call number `n` fail once with that kind of error, without effect.
    pub fn fail_at(&self, n: u64, kind: io::ErrorKind) {
        self.0.lock().failures.insert(n, kind);
    }

    /// Limits the bytes in all files; writes beyond fail as on a full disk. `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.0.lock().capacity = bytes;
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
        let mut state = self.0.lock();
        state.begin_life();
    }

    /// The machine lost its power and starts again.
    pub fn cut_power(&self, cut: PowerCut) {
        let mut state = self.0.lock();
        match cut {
            PowerCut::DropUnsynced => state.live = state.durable.clone(),
            PowerCut::Torn(seed) => state.tear(&mut Coin(seed)),
        }
        if cut == PowerCut::DropUnsynced {
            for inode in &mut state.inodes {
                inode.live = inode.durable.clone();
            }
        }
        state.begin_life();
    }

    /// Flips one bit of a file, in both views.
    ///
    /// # Errors
    /// There is no such file or byte.
    pub fn flip_bit(&self, path: &Path, offset: usize, bit: u8) -> io::Result<()> {
        let mut state = self.0.lock();
        let inode = state.inode_of(path)?;
        let Inode { live, durable } = &mut state.inodes[inode];
        let mask = 1 << (bit % 8);
        *live.get_mut(offset).ok_or(io::ErrorKind::InvalidInput)? ^= mask;
        if let Some(byte) = durable.get_mut(offset) {
            *byte ^= mask;
        }
        Ok(())
    }

    /// Every file and its live bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.0.lock();
        let files = state.live.files.iter();
        files.map(|(path, inode)| (path.clone(), state.inodes[*inode].live.clone())).collect()
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
    fn change(&mut self) -> io::Result<bool> {
        self.alive()?;
        let number = self.changes;
        self.changes += 1;
        if let Some(kind) = self.failures.remove(&number) {
            return Err(kind.into());
        }
        if self.crash_at.is_some_and(|at| number >= at) {
            self.is_crashed = true;
            return Ok(false);
        }
        Ok(true)
    }

    /// As [`State::change`] for calls that cannot be done by half.
    fn whole_change(&mut self) -> io::Result<()> {
        if self.change()? { Ok(()) } else { Err(crashed()) }
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_crashed { Err(crashed()) } else { Ok(()) }
    }

    fn readable(&self, path: &Path) -> io::Result<()> {
        let is_bad = self.unreadable.as_deref() == Some(path);
        if is_bad { Err(io::Error::other("a bad sector")) } else { Ok(()) }
    }

    fn inode_of(&self, path: &Path) -> io::Result<usize> {
        self.live.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn parent_exists(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if !self.live.has_dir(parent) => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        }
    }

    fn used(&self) -> usize {
        let inodes: BTreeSet<usize> = self.live.files.values().copied().collect();
        inodes.into_iter().map(|inode| self.inodes[inode].live.len()).sum()
    }

    fn tear(&mut self, coin: &mut Coin) {
        let mut survived = self.durable.clone();
        let paths: BTreeSet<PathBuf> =
            self.live.files.keys().chain(self.durable.files.keys()).cloned().collect();
        for path in paths {
            let (live, durable) = (self.live.files.get(&path), self.durable.files.get(&path));
            if live != durable && coin.throw() {
                match live {
                    Some(inode) => survived.files.insert(path, *inode),
                    None => survived.files.remove(&path),
                };
            }
        }
        survived.dirs.extend(self.live.dirs.iter().filter(|_| coin.throw()).cloned());
        // A name implies the directories above it.
        for path in survived.files.keys().cloned().collect::<Vec<_>>() {
            survived.dirs.extend(path.ancestors().skip(1).map(Path::to_path_buf));
        }
        self.live = survived.clone();
        self.durable = survived;
        for inode in &mut self.inodes {
            if inode.live == inode.durable {
                continue;
            }
            let mut kept = inode.durable.clone();
            // A file's length may be ahead of its bytes.
            if coin.throw() {
                kept.resize(inode.live.len(), 0);
            }
            for (index, sector) in inode.live.chunks(SECTOR_BYTES).enumerate() {
                let start = index * SECTOR_BYTES;
                let end = (start + sector.len()).min(kept.len());
                if start < end && coin.throw() {
                    kept[start..end].copy_from_slice(&sector[..end - start]);
                }
            }
            inode.live = kept.clone();
            inode.durable = kept;
        }
    }
}

impl Names {
    fn has_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path == Path::new("/") || self.dirs.contains(path)
    }
}

/// A small generator of coin throws (SplitMix64), so that a seed gives the same tear again.
struct Coin(u64);

impl Coin {
    fn throw(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 1
    }
}

fn crashed() -> io::Error {
    io::Error::other("the machine has crashed")
}

impl Vfs for FaultyVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.0.lock();
        state.whole_change()?;
        state.parent_exists(path)?;
        if state.live.files.contains_key(path) || state.live.dirs.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let is_refused = |suffix: &String| path.to_string_lossy().ends_with(suffix);
        if state.refused_suffix.as_ref().is_some_and(is_refused) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.live.files.insert(path.to_owned(), inode);
        Ok(self.file(inode, state.life, true))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let state = self.0.lock();
        state.alive()?;
        state.readable(path)?;
        Ok(self.file(state.inode_of(path)?, state.life, false))
    }

    fn open_for_write(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let state = self.0.lock();
        state.alive()?;
        Ok(self.file(state.inode_of(path)?, state.life, true))
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        let state = self.0.lock();
        state.alive()?;
        state.readable(path)?;
        let inode = state.inode_of(path)?;
        Ok(Box::new(FaultyMapping(state.inodes[inode].live.clone())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.whole_change()?;
        state.parent_exists(to)?;
        let inode = state.live.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.live.files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.whole_change()?;
        if state.has_no_links {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        state.parent_exists(to)?;
        let inode = state.inode_of(from)?;
        if state.live.files.contains_key(to) || state.live.dirs.contains(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.live.files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.whole_change()?;
        match state.live.files.remove(path) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.whole_change()?;
        for dir in path.ancestors() {
            if state.live.files.contains_key(dir) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        state.live.dirs.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.whole_change()?;
        if !state.live.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let state = &mut *state;
        let is_in = |name: &Path| name.parent() == Some(path);
        state.durable.files.retain(|name, _| !is_in(name));
        let files = state.live.files.iter().filter(|(name, _)| is_in(name));
        state.durable.files.extend(files.map(|(name, inode)| (name.clone(), *inode)));
        let dirs = state.live.dirs.iter().filter(|name| is_in(name));
        state.durable.dirs.extend(dirs.cloned());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.0.lock();
        state.alive()?;
        if state.live.files.contains_key(path) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !state.live.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name_in = |name: &Path| {
            let own = name.file_name()?.to_str()?.to_owned();
            (name.parent() == Some(path)).then_some(own)
        };
        let files = state.live.files.iter().filter_map(|(name, inode)| {
            let len = state.inodes[*inode].live.len() as u64;
            name_in(name).map(|name| DirEntry { name, len, is_dir: false })
        });
        let dirs =
            state.live.dirs.iter().filter_map(|name| {
                name_in(name).map(|name| DirEntry { name, len: 0, is_dir: true })
            });
        Ok(files.chain(dirs).collect())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let mut state = self.0.lock();
        state.alive()?;
        state.parent_exists(path)?;
        if !state.live.files.contains_key(path) {
            let inode = state.inodes.len();
            state.inodes.push(Inode::default());
            state.live.files.insert(path.to_owned(), inode);
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
        let free = state.capacity.map(|bytes| bytes.saturating_sub(state.used()) as u64);
        Ok(free.unwrap_or(u64::MAX))
    }
}

impl FaultyVfs {
    /// A file system that holds these files, as [`FaultyVfs::files`] gives them, all on the disk.
    pub fn with_files(files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let vfs = Self::new();
        for (path, bytes) in files {
            let dir = path.parent().unwrap_or(Path::new("/"));
            let made = vfs.create_dir_all(dir).and_then(|()| {
                let file = vfs.create_new(path)?;
                write_all_at(&*file, bytes, 0)?;
                file.sync()
            });
            let made = made.and_then(|()| dir.ancestors().try_for_each(|dir| vfs.sync_dir(dir)));
            made.unwrap_or_else(|error| panic!("bug: {}: {error}", path.display()));
        }
        vfs
    }

    fn file(&self, inode: usize, life: u64, is_writable: bool) -> Box<dyn VfsFile> {
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
        let state = self.vfs.0.lock();
        self.alive(&state)?;
        let live = &state.inodes[self.inode].live;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
        let len = into.len().min(live.len() - start);
        into[..len].copy_from_slice(&live[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        if !self.is_writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let is_whole = state.change()?;
        let mut len = if is_whole { bytes.len() } else { bytes.len() / 2 };
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let old = state.inodes[self.inode].live.len();
        if let Some(capacity) = state.capacity {
            let room = capacity.saturating_sub(state.used()) + old.saturating_sub(start);
            len = len.min(room);
        }
        let live = &mut state.inodes[self.inode].live;
        if len > 0 {
            live.resize(old.max(start + len), 0);
            live[start..start + len].copy_from_slice(&bytes[..len]);
        }
        match len {
            _ if !is_whole => Err(crashed()),
            0 if !bytes.is_empty() => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(len),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        state.whole_change()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        state.inodes[self.inode].live.resize(len, 0);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.vfs.0.lock();
        self.alive(&state)?;
        Ok(state.inodes[self.inode].live.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let hook = self.vfs.0.lock().before_sync.clone();
        hook.map_or(Ok(()), |hook| hook())?;
        let mut state = self.vfs.0.lock();
        self.alive(&state)?;
        state.whole_change()?;
        let inode = &mut state.inodes[self.inode];
        inode.durable.clone_from(&inode.live);
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.alive(&self.vfs.0.lock())
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
        f.debug_struct("State").field("files", &self.live.files).finish_non_exhaustive()
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
