//! Reading arrays of numbers out of a `.npz` file: a ZIP archive of NumPy arrays.
//!
//! Only what the recorded data set needs: entries that are stored or deflated, one dimension,
//! little-endian 64-bit numbers and 16-bit integers.

use std::io::{self, Read};

use flate2::read::DeflateDecoder;

const END_SIGNATURE: &[u8] = b"PK\x05\x06";
const ENTRY_SIGNATURE: &[u8] = b"PK\x01\x02";
const END_LENGTH: usize = 22;
const ENTRY_LENGTH: usize = 46;
const LOCAL_LENGTH: usize = 30;
/// No array of the data set is larger.
const ARRAY_BYTES_MAX: u64 = 1 << 30;

/// The archive.
pub(crate) struct Npz {
    bytes: Vec<u8>,
}

impl Npz {
    /// Wraps the bytes of a file.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// A column of 64-bit integers.
    pub(crate) fn ints(&self, name: &str) -> io::Result<Vec<i64>> {
        let (kind, data) = self.array(name)?;
        match kind.as_str() {
            "<i8" => {
                Ok(data.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
            }
            "<i2" => Ok(data
                .as_chunks()
                .0
                .iter()
                .map(|bytes| i64::from(i16::from_le_bytes(*bytes)))
                .collect()),
            _ => Err(invalid(&format!("{name} holds {kind}, not integers"))),
        }
    }

    /// A column of 64-bit floats.
    pub(crate) fn floats(&self, name: &str) -> io::Result<Vec<f64>> {
        match self.array(name)? {
            (kind, data) if kind == "<f8" => {
                Ok(data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
            }
            (kind, _) => Err(invalid(&format!("{name} holds {kind}, not floats"))),
        }
    }

    /// Type and data of an array.
    fn array(&self, name: &str) -> io::Result<(String, Vec<u8>)> {
        let file = self.file(&format!("{name}.npy"))?;
        let broken = || invalid(&format!("{name} is not a NumPy array"));
        if file.get(..6) != Some(b"\x93NUMPY") {
            return Err(broken());
        }
        let header_at = if file.get(6) == Some(&1) { 10 } else { 12 };
        let length = if header_at == 10 {
            usize::from(u16_at(&file, 8).ok_or_else(broken)?)
        } else {
            u32_at(&file, 8).ok_or_else(broken)? as usize
        };
        let header = file.get(header_at..header_at + length).ok_or_else(broken)?;
        let header = String::from_utf8_lossy(header);
        let kind = header.split_once("'descr': '").and_then(|(_, rest)| rest.split_once('\''));
        let kind = kind.ok_or_else(broken)?.0.to_owned();
        Ok((kind, file[header_at + length..].to_vec()))
    }

    fn file(&self, name: &str) -> io::Result<Vec<u8>> {
        let broken = || invalid("not a ZIP archive");
        let bytes = &self.bytes;
        let end = bytes.windows(END_LENGTH).rposition(|window| window.starts_with(END_SIGNATURE));
        let end = end.ok_or_else(broken)?;
        let count = u16_at(bytes, end + 10).ok_or_else(broken)?;
        let mut at = u32_at(bytes, end + 16).ok_or_else(broken)? as usize;
        for _ in 0..count {
            let entry = bytes.get(at..at + ENTRY_LENGTH).ok_or_else(broken)?;
            if !entry.starts_with(ENTRY_SIGNATURE) {
                return Err(broken());
            }
            let number = |offset| u16_at(entry, offset).map_or(0, usize::from);
            let (name_length, extra, comment) = (number(28), number(30), number(32));
            let own_name = bytes.get(at + ENTRY_LENGTH..at + ENTRY_LENGTH + name_length);
            if own_name == Some(name.as_bytes()) {
                let compressed = u32_at(entry, 20).ok_or_else(broken)? as usize;
                let local = u32_at(entry, 42).ok_or_else(broken)? as usize;
                return self.extract(number(10), local, compressed).ok_or_else(broken)?;
            }
            at += ENTRY_LENGTH + name_length + extra + comment;
        }
        Err(invalid(&format!("the archive has no {name}")))
    }

    fn extract(
        &self,
        method: usize,
        local: usize,
        compressed: usize,
    ) -> Option<io::Result<Vec<u8>>> {
        let name_length = usize::from(u16_at(&self.bytes, local + 26)?);
        let extra = usize::from(u16_at(&self.bytes, local + 28)?);
        let from = local + LOCAL_LENGTH + name_length + extra;
        let data = self.bytes.get(from..from.checked_add(compressed)?)?;
        Some(match method {
            0 => Ok(data.to_vec()),
            8 => {
                let mut file = Vec::new();
                let read = DeflateDecoder::new(data).take(ARRAY_BYTES_MAX).read_to_end(&mut file);
                read.map(|_| file)
            }
            _ => Err(invalid("the archive uses an unknown compression")),
        })
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
