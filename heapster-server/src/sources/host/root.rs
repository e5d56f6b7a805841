//! [`Root`]: the directory below which everything is read, and the only file that opens any.
//!
//! A root other than `/` is a recorded tree or a host mounted into a container. Its symbolic links
//! are resolved as if it were `/`, so that none leads out of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// Largest file that is read. The mount table of a host with thousands of containers stays below.
const FILE_BYTES_MAX: usize = 4 << 20;
const BUFFER_BYTES_MIN: usize = 16 << 10;

/// Opened without waiting: a pipe in a recorded tree must not hang the scrape.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// An open directory that stands for the machine's `/`.
#[derive(Debug)]
pub(super) struct Root {
    dir: OwnedFd,
    is_machine: bool,
}

impl Root {
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_machine = path.canonicalize()? == Path::new("/");
        let dir = rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { dir, is_machine })
    }

    /// Whether this is the real `/` of the process, whose own view of `/proc` is then the host's.
    pub fn is_machine(&self) -> bool {
        self.is_machine
    }

    /// Whether a path exists.
    pub fn has(&self, path: &str) -> bool {
        self.open_at(path, OFlags::PATH | OFlags::CLOEXEC).is_ok()
    }

    /// Opens whatever is at a path for `fstat`-like calls; neither reads it nor waits for it.
    pub fn locate(&self, path: &str) -> io::Result<OwnedFd> {
        Ok(self.open_at(path, OFlags::PATH | OFlags::CLOEXEC)?)
    }

    /// Opens a directory.
    pub fn dir(&self, path: &str) -> io::Result<File> {
        Ok(self.open_at(path, READ | OFlags::DIRECTORY)?.into())
    }

    /// Reads a file into the buffer.
    pub fn read<'b>(&self, path: &str, buffer: &'b mut Buffer) -> io::Result<&'b [u8]> {
        buffer.fill_from(&self.open_at(path, READ)?)
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = match path.trim_start_matches('/') {
            "" => ".",
            relative => relative,
        };
        if self.is_machine {
            return openat(&self.dir, path, flags, Mode::empty());
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.dir, path, flags, Mode::empty(), resolve) {
            // Kernels before 5.6 and some sandboxes lack the call.
            Err(Errno::NOSYS | Errno::PERM) => self.open_stepwise(path, flags),
            outcome => outcome,
        }
    }

    /// Opens a path one name at a time and refuses every symbolic link, and `..`.
    fn open_stepwise(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = self.dir.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            if parent == ".." {
                return Err(Errno::XDEV);
            }
            at = openat(&at, parent, step, Mode::empty())?;
        }
        if name == ".." {
            return Err(Errno::XDEV);
        }
        openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty())
    }
}

/// Reads a file that lies directly in an open directory; a symbolic link is refused.
pub(super) fn read_in<'b>(dir: &File, name: &str, buffer: &'b mut Buffer) -> io::Result<&'b [u8]> {
    buffer.fill_from(&openat(dir, name, READ | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Calls `each` with the name of every directory in `dir`, links to directories left out, until it
/// returns `false`.
pub(super) fn each_dir(dir: File, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let file = dir.try_clone()?;
    let mut entries = Dir::new(OwnedFd::from(dir))?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            // Some file systems do not say in the listing.
            FileType::Unknown => openat(
                &file,
                entry.file_name(),
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .is_ok(),
            _ => false,
        };
        if is_dir && !each(name) {
            break;
        }
    }
    Ok(())
}

/// Whether an error only says that there is no such file, which is often normal.
pub(super) fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::NOENT, Errno::NOTDIR, Errno::OPNOTSUPP];
    error.raw_os_error().is_some_and(|code| absent.iter().any(|errno| errno.raw_os_error() == code))
}

/// Whether an error says that a cgroup was removed while it was read.
pub(super) fn is_vanished(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// Memory for file contents, used again for every file.
#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    fn fill_from(&mut self, file: &OwnedFd) -> io::Result<&[u8]> {
        if self.0.is_empty() {
            self.0.resize(BUFFER_BYTES_MIN, 0);
        }
        let mut len = 0;
        loop {
            let read = match rustix::io::read(file, &mut self.0[len..]) {
                Err(Errno::INTR) => continue,
                outcome => outcome?,
            };
            if read == 0 {
                return Ok(&self.0[..len]);
            }
            len += read;
            if len == self.0.len() {
                if len >= FILE_BYTES_MAX {
                    return Err(io::Error::new(
                        io::ErrorKind::FileTooLarge,
                        format!("it is longer than {FILE_BYTES_MAX} bytes"),
                    ));
                }
                self.0.resize(len * 2, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(root: &Root, path: &str) -> io::Result<String> {
        root.read(path, &mut Buffer::default()).map(|bytes| String::from_utf8_lossy(bytes).into())
    }

    #[test]
    fn links_are_resolved_inside_the_root_and_never_lead_out_of_it() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "no").unwrap();
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("usr/lib")).unwrap();
        std::fs::write(tree.path().join("usr/lib/os-release"), "yes").unwrap();
        std::fs::create_dir(tree.path().join("etc")).unwrap();
        symlink("/usr/lib/os-release", tree.path().join("etc/os-release")).unwrap();
        symlink(outside.path().join("secret"), tree.path().join("etc/escape")).unwrap();
        let up = format!("../../../../../..{}/secret", outside.path().display());
        symlink(&up, tree.path().join("etc/up")).unwrap();
        symlink("loop", tree.path().join("etc/loop")).unwrap();
        let root = Root::open(tree.path()).unwrap();
        assert_eq!(read(&root, "/etc/os-release").unwrap(), "yes");
        for path in ["etc/escape", "etc/up", "etc/loop", &up, &format!("etc/{up}")] {
            assert!(read(&root, path).is_err(), "{path}");
            assert!(root.open_stepwise(path, READ).is_err(), "{path}");
        }
        assert!(root.open_stepwise("usr/lib/os-release", READ).is_ok());
    }

    #[test]
    fn a_file_without_end_is_refused_and_a_pipe_does_not_block() {
        let machine = Root::open(Path::new("/")).unwrap();
        let error = read(&machine, "dev/zero").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let tree = tempfile::tempdir().unwrap();
        let fifo = rustix::fs::mknodat(
            rustix::fs::CWD,
            tree.path().join("pipe"),
            FileType::Fifo,
            Mode::RUSR,
            0,
        );
        assert!(fifo.is_ok());
        assert_eq!(read(&Root::open(tree.path()).unwrap(), "pipe").unwrap(), "");
    }
}
