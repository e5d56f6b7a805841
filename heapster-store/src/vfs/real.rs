//! [`RealVfs`]: the operating system's files. The only `unsafe` code of heapster is the map here.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use memmap2::Mmap;

use super::{DirEntry, Mapping, Vfs, VfsFile};

/// Metrics name pods, users' labels and images: nobody but the owner may read them.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

#[derive(Debug)]
struct RealFile(File);

/// A file that is locked as long as this lives.
#[derive(Debug)]
struct RealLock(File);

/// An empty file cannot be mapped, so it is `None`.
#[derive(Debug)]
struct RealMapping(Option<Mmap>);

impl Vfs for RealVfs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(RealFile(File::open(path)?)))
    }

    fn open_for_write(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(RealFile(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    #[expect(unsafe_code, reason = "there is no other way to map a file")]
    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Box::new(RealMapping(None)));
        }
        // SAFETY: a mapped file must not shrink or change while it is mapped. The callers map only
        // sealed segments. No process that uses this crate writes or cuts one again; each of them
        // only links and unlinks it. The directory is its owner's alone unless the owner decides
        // otherwise, so nobody else does.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Box::new(RealMapping(Some(map))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_dir = metadata.is_dir();
            if let Ok(name) = entry.file_name().into_string() {
                let len = if is_dir { 0 } else { metadata.len() };
                entries.push(DirEntry { name, len, is_dir });
            }
        }
        Ok(entries)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let file = options.open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Box::new(RealLock(file)))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread has just started has the file open
        // as well, until its program is loaded.
        let _ = self.0.unlock();
    }
}

impl VfsFile for RealFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?)
    }
}

impl Deref for RealMapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Mapping for RealMapping {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::{read_exact_at, write_all_at};

    #[test]
    fn a_second_lock_would_block_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealVfs.lock(&path).unwrap();
        assert_eq!(RealVfs.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealVfs.lock(&path).unwrap();
    }

    #[test]
    fn a_lock_is_free_when_it_is_dropped_although_a_new_process_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let file = File::create(&path).unwrap();
        file.try_lock().unwrap();
        let _of_the_new_process = file.try_clone().unwrap();
        drop(RealLock(file));
        RealVfs.lock(&path).unwrap();
    }

    #[test]
    fn a_map_shows_what_was_written_and_an_empty_file_maps_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = RealVfs.create_new(&path).unwrap();
        assert_eq!(RealVfs.map(&path).unwrap().len(), 0);
        write_all_at(&*file, b"abc", 2).unwrap();
        assert_eq!(&RealVfs.map(&path).unwrap()[..], b"\0\0abc");
        let mut bytes = [0; 3];
        read_exact_at(&*file, &mut bytes, 2).unwrap();
        assert_eq!(&bytes, b"abc");
        let entry = DirEntry { name: "a".to_owned(), len: 5, is_dir: false };
        assert_eq!(RealVfs.list(dir.path()).unwrap(), [entry]);
    }
}
