//! [`Table`]: a list of byte strings with random access, the building block of the sections.

use crate::codec::{ByteReader, Decoded, Malformed};

/// A list of byte strings: count, offsets, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    offsets: &'a [u8],
    bytes: &'a [u8],
}

/// Collects the entries of a [`Table`].
#[derive(Debug)]
pub(super) struct TableBuilder {
    ends: Vec<u32>,
    bytes: Vec<u8>,
    is_full: bool,
}

const OUTSIDE: Malformed = Malformed::Bytes("an entry lies outside its table");

impl<'a> Table<'a> {
    /// Reads a table that fills `bytes`. Entries are checked when they are asked for.
    pub(super) fn parse(bytes: &'a [u8]) -> Decoded<Self> {
        let mut reader = ByteReader::new(bytes);
        let count = reader.fixed_u32()? as usize;
        let offsets = reader.take(count.saturating_mul(4))?;
        Ok(Self { offsets, bytes: reader.rest() })
    }

    pub(super) fn len(&self) -> u32 {
        (self.offsets.len() / 4) as u32
    }

    /// The bytes of all entries.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn get(&self, index: u32) -> Decoded<&'a [u8]> {
        let end = fixed_u32_at(self.offsets, index as usize).ok_or(OUTSIDE)?;
        let start = match index.checked_sub(1) {
            Some(before) => fixed_u32_at(self.offsets, before as usize).ok_or(OUTSIDE)?,
            None => 0,
        };
        self.bytes.get(start as usize..end as usize).ok_or(OUTSIDE)
    }
}

/// The `index`-th of a row of little-endian 32-bit integers.
pub(super) fn fixed_u32_at(bytes: &[u8], index: usize) -> Option<u32> {
    let start = index.checked_mul(4)?;
    bytes.get(start..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

impl TableBuilder {
    pub(super) fn new() -> Self {
        Self { ends: Vec::new(), bytes: Vec::new(), is_full: false }
    }

    pub(super) fn push(&mut self, entry: &[u8]) {
        self.bytes.extend_from_slice(entry);
        match u32::try_from(self.bytes.len()) {
            Ok(end) => self.ends.push(end),
            Err(_) => self.is_full = true,
        }
    }

    /// Appends the table; `None` when it does not fit offsets of 32 bits.
    pub(super) fn finish(&self, out: &mut Vec<u8>) -> Option<()> {
        if self.is_full {
            return None;
        }
        out.extend_from_slice(&u32::try_from(self.ends.len()).ok()?.to_le_bytes());
        for end in &self.ends {
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(&self.bytes);
        Some(())
    }
}
