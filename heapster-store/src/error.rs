//! Errors of this crate. A variant exists where a caller would act differently.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The environment refused an operation on a file.
    #[error("could not {op} {}", path.display())]
    Io {
        /// What was tried: a verb such as "read" or "rename".
        op: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system that holds the store is full, or a quota or the limit on the size of files is
    /// used up.
    #[error("could not write {}: no space is left", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Bytes on disk are not what was written. Nothing is guessed; the rest of the store is served.
    #[error("{} is corrupt at byte {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file the damaged part begins.
        offset: u64,
        /// What was expected or found.
        what: Cow<'static, str>,
    },
    /// The file was written by a version of heapster this one does not know.
    #[error("could not read {}: its format version is {found}, the newest known is {max}", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version or the codec number the file carries.
        found: u32,
        /// The newest version this program reads.
        max: u32,
    },
    /// The data is beyond a limit of the file format.
    #[error("could not write {}: more than {max} {what}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// A write or a sync failed before, so nothing is known about what is on disk.
    #[error("store is read-only after a failed {op}; reopen it")]
    Poisoned {
        /// The operation that failed.
        op: &'static str,
    },
    /// Memory is at twice its ceiling, and what it holds cannot be flushed: see
    /// [`crate::Stats::last_error`]. Nothing is taken until a flush succeeds.
    #[error("memory is full: {max} bytes are waiting for a flush that fails")]
    MemoryFull {
        /// The bytes at which nothing more is taken.
        max: usize,
    },
    /// A [`crate::SetHandle`] was used with another store than the one that gave it.
    #[error("could not append: the handle of a set belongs to another store")]
    ForeignHandle,
    /// A row does not have as many values as its [`crate::SetHandle`] has columns.
    #[error("could not append: a row has {given} values, its set was registered with {expected}")]
    RowWidth {
        /// Values of the row.
        given: usize,
        /// Columns of the handle.
        expected: usize,
    },
    /// Labels or columns that no row can be stored with.
    #[error("could not register a set: {reason}")]
    Unregistrable {
        /// What is wrong with them.
        reason: crate::Rejected,
    },
    /// A deletion names no condition, and would delete everything.
    #[error("a deletion needs a matcher; to delete everything, give one that every set satisfies")]
    NoMatchers,
    /// Another process writes to the store.
    #[error("could not lock {}: {holder} holds it", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// A reader found the manifest replaced each time it had read the files that it names.
    #[error("{} changes too fast to be read", path.display())]
    Unsettled {
        /// The directory of the store.
        path: PathBuf,
    },
    /// The options contradict each other or themselves.
    #[error("options are not usable: {what}")]
    InvalidOptions {
        /// What is wrong.
        what: Cow<'static, str>,
    },
    /// A copy of a store needs a directory for itself.
    #[error("{} is not empty; give a new or an empty directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds a backup that this one must not replace.
    #[error("could not replace the backup in {}: {what}; give another directory", path.display())]
    WrongBackup {
        /// The directory.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// The directory holds something, but not a store.
    #[error("{} is not a heapster store: {what}", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What was found or missing.
        what: Cow<'static, str>,
    },
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of the file system; a full disk gets its own variant. Not when a sync says so: then
    /// bytes that were taken are lost.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
                if op != "sync" =>
            {
                Self::DiskFull { path: path.to_owned() }
            }
            _ => Self::Io { op, path: path.to_owned(), source },
        }
    }

    /// Damaged bytes.
    pub(crate) fn corrupt(path: &Path, offset: u64, what: impl Into<Cow<'static, str>>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what: what.into() }
    }

    /// Whether bytes on disk are damaged: restore the file or let the store do without it.
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }

    /// Whether the same call may succeed later, once the environment has been put right.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::DiskFull { .. }
                | Self::Locked { .. }
                | Self::MemoryFull { .. }
                | Self::Unsettled { .. }
        )
    }
}

/// An error with its causes, for reports.
pub(crate) fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_other_refusals() {
        let path = Path::new("segments/raw/1");
        let full = Error::io("write", path, io::ErrorKind::StorageFull.into());
        assert_eq!(full.to_string(), "could not write segments/raw/1: no space is left");
        for full in [io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge] {
            assert!(matches!(Error::io("write", path, full.into()), Error::DiskFull { .. }));
            assert!(matches!(Error::io("sync", path, full.into()), Error::Io { .. }));
        }
        let denied = Error::io("open", path, io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.to_string(), "could not open segments/raw/1");
        assert!(full.is_retryable() && denied.is_retryable() && !denied.is_corruption());
    }

    #[test]
    fn corruption_says_where_and_what() {
        let error = Error::corrupt(Path::new("a.seg"), 17, "checksum differs");
        assert_eq!(error.to_string(), "a.seg is corrupt at byte 17: checksum differs");
        assert!(error.is_corruption() && !error.is_retryable());
    }
}
