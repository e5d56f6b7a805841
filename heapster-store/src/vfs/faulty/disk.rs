//! [`Disk`]: what files are for those that read them, and what of it would survive.
//!
//! A file has its *live* bytes, which a read shows, and its *durable* ones. Between the two stand the
//! *pending* effects: writes and cuts that no sync has made durable. Names have the same three, in
//! one queue for the whole disk. A power cut keeps the durable part and any part of what is pending.
//! Contents are shared between clones until one of them is changed, so a clone costs little.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::coin::Coin;

/// What a disk writes as one: a torn write keeps or loses whole sectors.
const SECTOR_BYTES: usize = 512;

/// Number of a file, whatever its names are.
pub(super) type InodeNumber = usize;

/// Files in memory that know what would survive.
#[derive(Clone, Default)]
pub(super) struct Disk {
    inodes: BTreeMap<InodeNumber, Arc<Inode>>,
    next_inode: InodeNumber,
    pub live: Arc<Names>,
    durable: Arc<Names>,
    /// Changes of names that are not durable, in their order.
    pending: Vec<NameEffect>,
}

/// Names of files and directories.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub files: BTreeMap<PathBuf, InodeNumber>,
    pub dirs: BTreeSet<PathBuf>,
}

#[derive(Clone, Default)]
struct Inode {
    live: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<Effect>,
}

/// A change of a file's bytes.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    Write(usize, Arc<[u8]>),
    SetLen(usize),
}

/// A change of names.
#[derive(Clone, Debug)]
pub(super) enum NameEffect {
    Link(PathBuf, InodeNumber),
    Unlink(PathBuf),
    /// Seen whole or not at all.
    Rename(PathBuf, PathBuf, InodeNumber),
    MakeDir(PathBuf),
}

/// What a call that a crash may interrupt is about to do.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Syncs change nothing that a read shows.
    Sync,
    Bytes(InodeNumber, Effect),
    Name(NameEffect),
}

/// What a sync that failed has done to the pages that it could not write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedSync {
    /// They are still to be written; the next sync tries again.
    #[default]
    Keeps,
    /// The cache has them, but calls them written: the next sync succeeds without them, and they are
    /// gone once the cache is dropped. So do ext4 and XFS (Rebello et al., ATC 2020).
    Forgets,
    /// They are thrown away: a read shows what the disk has. So does Btrfs.
    Reverts,
}

/// What survives when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// Only what was synced.
    DropUnsynced,
    /// What was synced, and of the rest whatever the seed says: each sector as any of the writes to
    /// it left it, now and then torn inside; the length of a file ahead of its bytes or behind them;
    /// of the names a beginning of their changes, or any of these.
    Torn(u64),
}

impl Names {
    pub fn has_dir(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || path == Path::new("/") || self.dirs.contains(path)
    }

    fn apply(&mut self, effect: &NameEffect) {
        match effect {
            NameEffect::Link(path, inode) => drop(self.files.insert(path.clone(), *inode)),
            NameEffect::Unlink(path) => drop(self.files.remove(path)),
            NameEffect::Rename(from, to, inode) => {
                if self.files.get(from) == Some(inode) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *inode);
            }
            NameEffect::MakeDir(path) => drop(self.dirs.insert(path.clone())),
        }
    }

    /// Lets go of what cannot be reached because a directory above it is not there.
    fn prune(&mut self) {
        let all = self.dirs.clone();
        let is_there = |path: &Path| path == Path::new("/") || all.contains(path);
        let is_reached = |path: &PathBuf| {
            path.ancestors().skip(1).all(|dir| dir.as_os_str().is_empty() || is_there(dir))
        };
        self.dirs.retain(is_reached);
        self.files.retain(|path, _| is_reached(path));
    }
}

impl NameEffect {
    /// Whether it is an entry of a directory.
    fn is_in(&self, dir: &Path) -> bool {
        let is_in = |path: &Path| path.parent() == Some(dir);
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::MakeDir(path) => is_in(path),
            Self::Rename(from, to, _) => is_in(from) || is_in(to),
        }
    }
}

impl Effect {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => {
                let end = offset + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

impl Inode {
    fn sync(&mut self) {
        let mut durable = Arc::clone(&self.durable);
        for effect in self.pending.drain(..) {
            effect.apply(Arc::make_mut(&mut durable));
        }
        self.durable = durable;
    }

    /// What the file is after a power cut that keeps a part of what is pending.
    fn tear(&self, coin: &mut Coin) -> Vec<u8> {
        let mut versions = vec![Vec::clone(&self.durable)];
        for effect in &self.pending {
            let mut next = versions.last().cloned().unwrap_or_default();
            effect.apply(&mut next);
            versions.push(next);
        }
        // How much of what was not synced has reached the disk by itself.
        let kept_percent = coin.pick(&[0, 10, 50, 90, 100]);
        let version = |coin: &mut Coin| match coin.percent(kept_percent) {
            true => versions.len() - 1 - coin.below(2).min(versions.len() - 1),
            false => coin.below(2) * coin.below(versions.len()),
        };
        let len = versions[version(coin)].len();
        // Where the length arrived before the bytes there is what lay there before.
        let filler = coin.pick(&[0, 0, 0xa5]);
        let mut kept = vec![filler; len];
        let common = len.min(self.durable.len());
        kept[..common].copy_from_slice(&self.durable[..common]);
        for start in (0..len).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(len);
            let source = &versions[version(coin)];
            let sector = source.get(start..end.min(source.len())).unwrap_or_default();
            // Now and then torn inside the sector.
            let written = match coin.below(16) {
                0 => coin.below(sector.len() + 1),
                _ => sector.len(),
            };
            kept[start..start + written].copy_from_slice(&sector[..written]);
        }
        kept
    }
}

impl Disk {
    /// A disk that holds files, all of it durable.
    pub fn with_files(files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut disk = Self::default();
        let mut names = Names::default();
        for (path, bytes) in files {
            names.dirs.extend(path.ancestors().skip(1).map(Path::to_path_buf));
            let bytes = Arc::new(bytes.clone());
            let inode = Inode { live: Arc::clone(&bytes), durable: bytes, pending: Vec::new() };
            disk.inodes.insert(disk.next_inode, Arc::new(inode));
            names.files.insert(path.clone(), disk.next_inode);
            disk.next_inode += 1;
        }
        disk.live = Arc::new(names);
        disk.durable = Arc::clone(&disk.live);
        disk
    }

    /// A new file without a name.
    pub fn add_inode(&mut self) -> InodeNumber {
        let number = self.next_inode;
        self.inodes.insert(number, Arc::default());
        self.next_inode += 1;
        number
    }

    pub fn inode_of(&self, path: &Path) -> io::Result<InodeNumber> {
        self.live.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub fn bytes(&self, inode: InodeNumber) -> &Arc<Vec<u8>> {
        &self.inodes[&inode].live
    }

    /// Bytes in all files that have a name.
    pub fn used(&self) -> usize {
        let inodes: BTreeSet<InodeNumber> = self.live.files.values().copied().collect();
        inodes.into_iter().map(|inode| self.bytes(inode).len()).sum()
    }

    fn inode_mut(&mut self, number: InodeNumber) -> &mut Inode {
        let inode = self.inodes.get_mut(&number);
        Arc::make_mut(inode.expect("bug: there is no such file"))
    }

    /// Carries out a change; nothing of it is durable yet.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Sync => {}
            Change::Bytes(number, effect) => {
                let inode = self.inode_mut(number);
                effect.apply(Arc::make_mut(&mut inode.live));
                inode.pending.push(effect);
            }
            Change::Name(effect) => {
                Arc::make_mut(&mut self.live).apply(&effect);
                self.pending.push(effect);
            }
        }
    }

    pub fn sync(&mut self, inode: InodeNumber) {
        self.inode_mut(inode).sync();
    }

    /// Lets a sync fail; whether bytes are lost that were to be written.
    pub fn fail_sync(&mut self, inode: InodeNumber, how: FailedSync) -> bool {
        let inode = self.inode_mut(inode);
        if how == FailedSync::Keeps || inode.pending.is_empty() {
            return false;
        }
        inode.pending.clear();
        if how == FailedSync::Reverts {
            inode.live = Arc::clone(&inode.durable);
        }
        true
    }

    /// Reads show from now on what the disk has, and what is yet to be written to it.
    pub fn drop_cache(&mut self, inode: InodeNumber) {
        let inode = self.inode_mut(inode);
        let mut live = Arc::clone(&inode.durable);
        for effect in &inode.pending {
            effect.apply(Arc::make_mut(&mut live));
        }
        inode.live = live;
    }

    /// Makes the entries of a directory durable; a rename from or to it as a whole.
    pub fn sync_dir(&mut self, dir: &Path) {
        let durable = Arc::make_mut(&mut self.durable);
        self.pending.retain(|effect| {
            let is_done = effect.is_in(dir);
            if is_done {
                durable.apply(effect);
            }
            !is_done
        });
    }

    /// The machine lost its power and starts again.
    pub fn cut_power(&mut self, cut: PowerCut) {
        match cut {
            PowerCut::DropUnsynced => {
                for number in self.inodes.keys().copied().collect::<Vec<_>>() {
                    let inode = self.inode_mut(number);
                    inode.pending.clear();
                    inode.live = Arc::clone(&inode.durable);
                }
            }
            PowerCut::Torn(seed) => self.tear(&mut Coin::new(seed)),
        }
        self.pending.clear();
        let durable = Arc::make_mut(&mut self.durable);
        durable.prune();
        self.live = Arc::clone(&self.durable);
        let named: BTreeSet<InodeNumber> = self.live.files.values().copied().collect();
        self.inodes.retain(|number, _| named.contains(number));
    }

    fn tear(&mut self, coin: &mut Coin) {
        let durable = Arc::make_mut(&mut self.durable);
        // A file system with a journal keeps a beginning; without one, anything.
        if coin.percent(50) {
            let kept = coin.below(self.pending.len() + 1);
            self.pending[..kept].iter().for_each(|effect| durable.apply(effect));
        } else {
            let kept_percent = coin.pick(&[10, 50, 90]);
            let kept = self.pending.iter().filter(|_| coin.percent(kept_percent));
            kept.for_each(|effect| durable.apply(effect));
        }
        for number in self.inodes.keys().copied().collect::<Vec<_>>() {
            let inode = self.inode_mut(number);
            if !inode.pending.is_empty() {
                inode.durable = Arc::new(inode.tear(coin));
                inode.pending.clear();
            }
            inode.live = Arc::clone(&inode.durable);
        }
    }

    /// Changes the bytes of a file as a disk does that breaks: at once and for good.
    ///
    /// # Errors
    /// There is no such file.
    pub fn damage(&mut self, path: &Path, damage: impl Fn(&mut Vec<u8>)) -> io::Result<()> {
        let number = self.inode_of(path)?;
        let inode = self.inode_mut(number);
        damage(Arc::make_mut(&mut inode.live));
        damage(Arc::make_mut(&mut inode.durable));
        if !inode.pending.is_empty() {
            // The next sync writes what is shown, not what was once written.
            let whole = Effect::Write(0, inode.live.as_slice().into());
            inode.pending = vec![Effect::SetLen(inode.live.len()), whole];
        }
        Ok(())
    }

    /// Every file and its live bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = self.live.files.iter();
        files.map(|(path, inode)| (path.clone(), Vec::clone(self.bytes(*inode)))).collect()
    }
}
