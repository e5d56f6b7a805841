//! [`WalWriter`]: appends records to one log file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::vfs::{Vfs, VfsFile, write_all_at};
use crate::wal::format::{PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_MAGIC};
use crate::wal::{file_header, record_crc};

/// A log file that takes records.
#[derive(Debug)]
pub(crate) struct WalWriter {
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    file_id: u64,
    len: u64,
}

/// A record that could not be written.
#[derive(Debug)]
pub(crate) struct AppendFailed {
    pub error: Error,
    /// Whether a part of it may be left in the file, so that nothing may be appended any more.
    pub leaves_debris: bool,
}

impl WalWriter {
    /// Creates the file. Its name is durable only after the directory was synced.
    pub fn create(vfs: &dyn Vfs, path: PathBuf, file_id: u64) -> Result<Self> {
        let file = vfs.create_new(&path).map_err(|source| Error::io("create", &path, source))?;
        let header = file_header(file_id);
        if let Err(source) = write_all_at(&*file, &header, 0) {
            // An unfinished file says nothing and is removed at the next open if not now.
            let _ = vfs.remove(&path);
            return Err(Error::io("write", &path, source));
        }
        Ok(Self { file: file.into(), path, file_id, len: header.len() as u64 })
    }

    /// Appends a record: `record` begins with room for the record's header.
    ///
    /// The bytes are with the operating system afterwards, not yet on the disk.
    pub fn append(&mut self, record: &mut [u8]) -> Result<(), AppendFailed> {
        let (header, payload) = record.split_at_mut(RECORD_HEADER_BYTES);
        if payload.len() > PAYLOAD_BYTES_MAX {
            let (path, max) = (self.path.clone(), PAYLOAD_BYTES_MAX as u64);
            let error = Error::TooLarge { path, what: "bytes of a batch", max };
            return Err(AppendFailed { error, leaves_debris: false });
        }
        header[..4].copy_from_slice(&RECORD_MAGIC);
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[8..].copy_from_slice(&record_crc(self.file_id, self.len, payload).to_le_bytes());
        match write_all_at(&*self.file, record, self.len) {
            Ok(()) => {
                self.len += record.len() as u64;
                Ok(())
            }
            Err(source) if planted::has(Bug::DebrisKept) => {
                self.len = self.file.size().unwrap_or(self.len);
                let error = Error::io("write", &self.path, source);
                Err(AppendFailed { error, leaves_debris: false })
            }
            Err(source) => {
                let leaves_debris = self.file.set_len(self.len).is_err();
                Err(AppendFailed { error: Error::io("write", &self.path, source), leaves_debris })
            }
        }
    }

    /// The file, to be synced without holding up appends.
    pub fn file(&self) -> Arc<dyn VfsFile> {
        Arc::clone(&self.file)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::faulty::FaultyVfs;

    #[test]
    fn a_record_beyond_the_limit_is_refused_and_leaves_nothing() {
        let vfs = FaultyVfs::new();
        let mut writer = WalWriter::create(&vfs, "/w".into(), 9).unwrap();
        let len = writer.len();
        let mut record = vec![0; RECORD_HEADER_BYTES + PAYLOAD_BYTES_MAX + 1];
        let failed = writer.append(&mut record).unwrap_err();
        assert!(matches!(failed.error, Error::TooLarge { .. }) && !failed.leaves_debris);
        assert_eq!((writer.len(), writer.file().size().unwrap()), (len, len));
    }
}
