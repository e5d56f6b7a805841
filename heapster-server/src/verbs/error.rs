//! [`VerbError`]: why a verb failed, what the user can do, and the exit code.

use std::io;
use std::path::PathBuf;

use heapster_core::storage::StorageError;
use heapster_store::Error as StoreError;

use crate::cli::UsageError;
use crate::transfer::ReadError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerbError {
    /// The command line is not usable.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The directory cannot be opened.
    #[error("could not open the store in {}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// A store cannot be copied.
    #[error("could not {verb} {} to {}", from.display(), to.display())]
    Copy {
        /// What was asked.
        verb: &'static str,
        /// The original.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
        /// What the store said.
        source: StoreError,
    },
    /// The store cannot be read.
    #[error("could not read the store")]
    Read(#[source] StorageError),
    /// The store could not do what was asked.
    #[error("could not {what}")]
    Store {
        /// What was asked.
        what: &'static str,
        /// What the store said.
        source: StoreError,
    },
    /// A file other than those of the store.
    #[error("could not {op} {}", path.display())]
    File {
        /// What was tried.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file to write is there already.
    #[error("{} is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file to read is not usable.
    #[error("could not import {file}")]
    Input {
        /// The file.
        file: String,
        /// Why.
        source: ReadError,
    },
    /// A file to read has too many bad lines.
    #[error("stopped in {file} at line {line}: {count} lines were bad")]
    BadLines {
        /// The file.
        file: String,
        /// The last line that was looked at.
        line: u64,
        /// Bad lines in all files.
        count: u64,
    },
    /// An expression cannot be read; the text has the place marked.
    #[error("{0}")]
    Query(String),
    /// A query has no answer.
    #[error("{0}")]
    Unanswered(String),
    /// A server cannot be asked.
    #[error("could not ask {url}: {why}")]
    Server {
        /// Its address.
        url: String,
        /// Why.
        why: String,
    },
    /// Stdout cannot be written.
    #[error("could not write to stdout")]
    Stdout(#[source] io::Error),
}

impl VerbError {
    /// The exit code: 1 failed, 2 what the command line names is not usable, 3 the store is in use,
    /// 4 it is of a newer version.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Open { source, .. } | Self::Store { source, .. } | Self::Copy { source, .. } => {
                match source {
                    StoreError::Locked { .. } => 3,
                    StoreError::UnsupportedVersion { .. } => 4,
                    StoreError::NotAStore { .. }
                    | StoreError::NotEmpty { .. }
                    | StoreError::WrongBackup { .. } => 2,
                    _ if matches!(self, Self::Open { .. }) => 2,
                    _ => 1,
                }
            }
            Self::Usage(_)
            | Self::Query(_)
            | Self::Exists { .. }
            | Self::File { op: "open", .. } => 2,
            Self::Input { source: ReadError::Unusable(_), .. } => 2,
            Self::Read(_)
            | Self::File { .. }
            | Self::Input { .. }
            | Self::BadLines { .. }
            | Self::Unanswered(_)
            | Self::Server { .. }
            | Self::Stdout(_) => 1,
        }
    }

    /// What the user can do about it.
    pub fn advice(&self) -> String {
        match self {
            Self::Usage(error) => {
                format!("Run `{}` for what is accepted.", error.help_command())
            }
            Self::Open { source, .. } | Self::Store { source, .. } | Self::Copy { source, .. } => {
                advice_on(source).to_owned()
            }
            Self::Read(_) => "Run `heapster check` on the directory.".to_owned(),
            Self::File { .. } => "Check path, owner, permissions and room on the disk.".to_owned(),
            Self::Exists { .. } => "Choose another name, or give --force.".to_owned(),
            Self::Input { .. } => "What came before it is in the store; to import the file again \
                                   does no harm."
                .to_owned(),
            Self::BadLines { .. } => "What came before is in the store. Mend the file and import \
                                      it again, which does no harm, or give --skip-bad."
                .to_owned(),
            Self::Query(_) => "docs/promql.md describes the language.".to_owned(),
            Self::Unanswered(_) => "Ask for fewer series, a shorter range or a longer step, or \
                                    mend the query."
                .to_owned(),
            Self::Server { .. } => "Check --url and whether the server runs, or ask the directory \
                                    of its store with --data-dir."
                .to_owned(),
            Self::Stdout(_) => "Check where stdout leads.".to_owned(),
        }
    }
}

fn advice_on(error: &StoreError) -> &'static str {
    match error {
        StoreError::Locked { .. } => "Stop the process that has it open, then try again.",
        StoreError::UnsupportedVersion { .. } => "Use the version of heapster that wrote it.",
        StoreError::Corrupt { .. } => {
            "Run `heapster check` on the directory, or restore it from a backup."
        }
        StoreError::DiskFull { .. } => "Make room, then try again.",
        StoreError::NotAStore { .. } => {
            "Give the directory that the server has as --data-dir, or a backup of it."
        }
        StoreError::NotEmpty { .. } | StoreError::WrongBackup { .. } => {
            "A backup needs a directory that is missing, empty, or holds a backup of the same \
             store; a restore one that is missing or empty."
        }
        StoreError::Unsettled { .. } => "Try again.",
        _ => "Check path, owner and permissions.",
    }
}
