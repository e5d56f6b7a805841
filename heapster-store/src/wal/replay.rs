//! Reading a log file back: records one by one, past damage where there is any.
//!
//! A file that ends in the middle of a record has a *torn tail*: the crash came while it was
//! written, and nobody was told that it was safe. Damage with a good record behind it is something
//! else: it is counted as lost, and reading goes on at that record.

use std::path::Path;

use crate::error::{Error, Result};
use crate::wal::format::{
    FILE_HEADER_BYTES, MAGIC, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_MAGIC, VERSION,
};
use crate::wal::{file_header, record_crc};

/// The records of one log file.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    file_id: u64,
    offset: usize,
    /// Bytes in damaged stretches that had a good record behind them.
    pub damaged_bytes: u64,
    /// Bytes behind the last good record.
    pub torn_bytes: u64,
}

impl<'a> Records<'a> {
    /// Reads the header. `None` when the file is too short to have one: it was just created when
    /// the crash came, or its header is damaged and nothing in it can be trusted.
    pub fn open(path: &Path, bytes: &'a [u8]) -> Result<Option<Self>> {
        let Some(header) = bytes.first_chunk::<FILE_HEADER_BYTES>() else { return Ok(None) };
        let (magic, rest) = header.split_at(MAGIC.len());
        let (version, rest) = rest.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b));
        let (version, file_id) = (number(version), number(rest.split_at(8).0));
        let is_sound =
            crc32fast::hash(header.split_at(20).0) == number(header.split_at(20).1) as u32;
        if magic != MAGIC || !is_sound {
            return Ok(None);
        }
        let found = u32::try_from(version).unwrap_or(u32::MAX);
        if found == 0 || found > VERSION {
            return Err(Error::UnsupportedVersion { path: path.to_owned(), found, max: VERSION });
        }
        debug_assert_eq!(*header, file_header(file_id));
        let offset = FILE_HEADER_BYTES;
        Ok(Some(Self { bytes, file_id, offset, damaged_bytes: 0, torn_bytes: 0 }))
    }

    fn record_at(&self, offset: usize) -> Option<&'a [u8]> {
        let (header, rest) = self.bytes.get(offset..)?.split_at_checked(RECORD_HEADER_BYTES)?;
        let (magic, rest_of_header) = header.split_first_chunk::<4>()?;
        let (len, crc) = rest_of_header.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        if *magic != RECORD_MAGIC || len > PAYLOAD_BYTES_MAX {
            return None;
        }
        let payload = rest.get(..len)?;
        let sound = record_crc(self.file_id, offset as u64, payload).to_le_bytes() == *crc;
        sound.then_some(payload)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.offset;
        let mut at = start;
        while at < self.bytes.len() {
            if let Some(payload) = self.record_at(at) {
                self.damaged_bytes += (at - start) as u64;
                self.offset = at + RECORD_HEADER_BYTES + payload.len();
                return Some(payload);
            }
            let behind = self.bytes.get(at + 1..).unwrap_or_default();
            match find(behind, RECORD_MAGIC) {
                Some(skipped) => at += 1 + skipped,
                None => break,
            }
        }
        self.torn_bytes += (self.bytes.len() - start) as u64;
        self.offset = self.bytes.len();
        None
    }
}

fn find(bytes: &[u8], magic: [u8; 4]) -> Option<usize> {
    bytes.windows(magic.len()).position(|window| window == magic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::Vfs;
    use crate::vfs::faulty::FaultyVfs;
    use crate::wal::writer::WalWriter;

    const PATH: &str = "/w";

    fn file_of(payloads: &[&[u8]]) -> Vec<u8> {
        let vfs = FaultyVfs::new();
        let mut writer = WalWriter::create(&vfs, PATH.into(), 9).unwrap();
        for payload in payloads {
            let mut record = vec![0; RECORD_HEADER_BYTES];
            record.extend_from_slice(payload);
            writer.append(&mut record).unwrap();
        }
        assert!(vfs.open(Path::new(PATH)).is_ok());
        vfs.files().remove(Path::new(PATH)).unwrap()
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, u64, u64) {
        let mut records = Records::open(Path::new(PATH), bytes).unwrap().unwrap();
        let payloads = records.by_ref().map(<[u8]>::to_vec).collect();
        (payloads, records.damaged_bytes, records.torn_bytes)
    }

    #[test]
    fn a_torn_tail_ends_the_file_at_the_last_good_record() {
        let whole = file_of(&[b"one", b"two", b"three"]);
        let two = file_of(&[b"one", b"two"]).len();
        for len in two..whole.len() {
            let (payloads, damaged, torn) = read(&whole[..len]);
            assert_eq!(payloads, [b"one".to_vec(), b"two".to_vec()], "cut to {len}");
            assert_eq!((damaged, torn), (0, (len - two) as u64));
        }
    }

    #[test]
    fn a_damaged_record_costs_itself_alone() {
        let whole = file_of(&[b"one", b"two", b"three"]);
        let (start, end) = (file_of(&[b"one"]).len(), file_of(&[b"one", b"two"]).len());
        for at in start..end {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let (payloads, damaged, torn) = read(&bytes);
            assert_eq!(payloads, [b"one".to_vec(), b"three".to_vec()], "byte {at}");
            assert_eq!((damaged, torn), ((end - start) as u64, 0));
        }
    }

    #[test]
    fn a_record_of_another_place_or_file_is_not_taken() {
        let whole = file_of(&[b"one", b"two"]);
        let first = FILE_HEADER_BYTES..file_of(&[b"one"]).len();
        let mut moved = whole.clone();
        moved.extend_from_slice(&whole[first]);
        assert_eq!(read(&moved).0.len(), 2);
    }

    #[test]
    fn a_newer_version_is_refused_and_a_damaged_header_gives_nothing() {
        let mut bytes = file_of(&[b"one"]);
        bytes[8] = 2;
        assert!(Records::open(Path::new(PATH), &bytes).unwrap().is_none());
        let crc = crc32fast::hash(&bytes[..20]).to_le_bytes();
        bytes[20..24].copy_from_slice(&crc);
        let refused = Records::open(Path::new(PATH), &bytes).unwrap_err();
        assert!(matches!(refused, Error::UnsupportedVersion { found: 2, max: 1, .. }));
    }
}
