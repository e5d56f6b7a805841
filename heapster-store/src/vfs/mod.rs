//! The file system as the store sees it: a small trait, so that tests can lose, tear and refuse.
//!
//! Every method may fail, and a process may die at every call. Nothing else in this crate touches
//! files. Paths are relative to the current directory or absolute, as given to `Store::open`.

pub mod faulty;
mod real;

use std::fmt::Debug;
use std::io;
use std::ops::Deref;
use std::path::Path;

pub use real::RealVfs;

/// A file system.
pub trait Vfs: Debug + Send + Sync {
    /// Creates a file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is one, or what the system says.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the system says.
    fn open_for_write(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// Maps a whole immutable file for reading. The file is never written or cut again, only
    /// unlinked; an empty file gives an empty mapping.
    ///
    /// # Errors
    /// What the system says; the caller falls back to reading.
    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>>;

    /// Renames a file, replacing the target. Durable only after [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name on the same file system. Durable only after [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the name is taken, or what the system says: many file
    /// systems have no links, none has them to another. The caller falls back to copying.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Unlinks a file. Durable only after [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its missing parents; fine if it is there.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says. After an error nothing is known about what is durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no particular order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Takes an exclusive lock on a file, creating it if need be; it lasts until the guard drops.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when another process or guard holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>>;

    /// Bytes an unprivileged process may still write to the file system that holds the path.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// A number that no other call, process or machine is likely to get: stores and log files are
    /// told apart by such. A file system for tests draws them from a seed.
    fn random_number(&self) -> u64 {
        number_of_the_system()
    }
}

/// A number seeded by the operating system.
fn number_of_the_system() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(())
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory. Names that are not UTF-8 are never ours and are left out.
    pub name: String,
    /// Length of the file in bytes; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// An open file. Reads and writes carry their offset, so there is no cursor to share.
pub trait VfsFile: Debug + Send + Sync {
    /// Reads up to `into.len()` bytes at an offset; fewer only at the end of the file or after an
    /// interruption, 0 at or beyond the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of the bytes at an offset and says how many.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;

    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    /// What the system says. After an error nothing is known about what is durable.
    fn sync(&self) -> io::Result<()>;

    /// Asks the system to forget its cached copy of the file, so that the next read shows what the
    /// disk has. Only a request.
    ///
    /// # Errors
    /// What the system says.
    fn drop_cache(&self) -> io::Result<()>;
}

/// The bytes of a mapped file; unmapped when dropped.
pub trait Mapping: Deref<Target = [u8]> + Debug + Send + Sync {}

/// Unlinks a file; fine if it is not there.
pub(crate) fn remove_if_there(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    match vfs.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Opens a file for reading, if it is there.
pub(crate) fn open_if_there(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<Box<dyn VfsFile>>> {
    match vfs.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes all of `bytes` at `offset`, however many calls it takes.
///
/// # Errors
/// What the system says; [`io::ErrorKind::WriteZero`] when it takes no more bytes.
pub fn write_all_at(file: &dyn VfsFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads up to `into.len()` bytes at `offset`, however many calls it takes; fewer only where the file
/// ends. Gives how many.
///
/// # Errors
/// What the system says.
pub fn read_up_to_at(file: &dyn VfsFile, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads exactly `into.len()` bytes at `offset`, however many calls it takes.
///
/// # Errors
/// What the system says; [`io::ErrorKind::UnexpectedEof`] when the file ends before.
pub fn read_exact_at(file: &dyn VfsFile, into: &mut [u8], offset: u64) -> io::Result<()> {
    let is_whole = read_up_to_at(file, into, offset)? == into.len();
    if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
