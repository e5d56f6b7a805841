//! [`Output`]: where a verb writes its result, and a file that is there whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write, stdout};
use std::path::{Path, PathBuf};

use super::VerbError;

const BUFFER_BYTES: usize = 1 << 18;

/// Stdout, or a file that gets its name when it is whole.
#[derive(Debug)]
pub(super) enum Output {
    Stdout(BufWriter<Stdout>),
    File { to: BufWriter<File>, temporary: Temporary, path: PathBuf },
}

/// Removes an unfinished file.
#[derive(Debug)]
pub(super) struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What is left of it has a name that says so.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Output {
    /// Opens stdout for `-`, else a file.
    ///
    /// # Errors
    /// The file is there already and `replace` is false, or it cannot be made.
    pub fn create(name: &str, replace: bool) -> Result<Self, VerbError> {
        if name == "-" {
            return Ok(Self::Stdout(BufWriter::with_capacity(BUFFER_BYTES, stdout())));
        }
        let path = PathBuf::from(name);
        if !replace && path.symlink_metadata().is_ok() {
            return Err(VerbError::Exists { path });
        }
        let mut temporary = path.clone().into_os_string();
        temporary.push(".partial");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|source| VerbError::File {
            op: "open",
            path: temporary.clone(),
            source,
        })?;
        let to = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Self::File { to, temporary: Temporary(Some(temporary)), path })
    }

    /// Whether a person would see the bytes.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout(_)) && stdout().is_terminal()
    }

    /// What it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout(_) => "stdout".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// An error of writing to it.
    pub fn error(&self, source: io::Error) -> VerbError {
        match self {
            Self::Stdout(_) => VerbError::Stdout(source),
            Self::File { path, .. } => VerbError::File { op: "write", path: path.clone(), source },
        }
    }

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn commit(mut self) -> Result<(), VerbError> {
        let result = self.flush().and_then(|()| match &mut self {
            Self::Stdout(_) => Ok(()),
            Self::File { to, temporary, path } => {
                to.get_ref().sync_all()?;
                if let Some(from) = temporary.0.take() {
                    std::fs::rename(from, &*path)?;
                }
                sync_folder_of(path)
            }
        });
        result.map_err(|source| self.error(source))
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(to) => to.write(bytes),
            Self::File { to, .. } => to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(to) => to.flush(),
            Self::File { to, .. } => to.flush(),
        }
    }
}
