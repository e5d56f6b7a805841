//! Symbols: every string of a segment, sorted, each once, known by its rank.
//!
//! Eight strings make a block; within it each string says how much it shares with the one before.

use heapster_core::Text;

use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use crate::segment::table::{Table, TableBuilder};

const BLOCK_SYMBOLS: usize = 8;
/// Longest string. Longer ones do not occur; the limit bounds what a damaged length can cost.
pub(super) const SYMBOL_LEN_MAX: usize = 1 << 24;

/// The section of strings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbols<'a> {
    count: u32,
    blocks: Table<'a>,
}

/// Appends the section. `sorted` is sorted bytewise, each string once.
pub(super) fn encode(sorted: &[Text], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&u32::try_from(sorted.len()).ok()?.to_le_bytes());
    let mut blocks = TableBuilder::new();
    let mut entry = Vec::new();
    for block in sorted.chunks(BLOCK_SYMBOLS) {
        entry.clear();
        let mut previous: &[u8] = &[];
        for symbol in block {
            let symbol = symbol.as_bytes();
            let shared = previous.iter().zip(symbol).take_while(|(a, b)| a == b).count();
            put_u64(&mut entry, shared as u64);
            put_u64(&mut entry, symbol.len().saturating_sub(shared) as u64);
            entry.extend_from_slice(symbol.get(shared..).unwrap_or_default());
            previous = symbol;
        }
        blocks.push(&entry);
    }
    blocks.finish(out)
}

impl<'a> Symbols<'a> {
    pub(super) fn parse(section: &'a [u8]) -> Decoded<Self> {
        let mut reader = ByteReader::new(section);
        let count = reader.fixed_u32()?;
        let blocks = Table::parse(reader.rest())?;
        if blocks.len() as usize != (count as usize).div_ceil(BLOCK_SYMBOLS) {
            return Err(Malformed::Bytes("the symbols do not fill their blocks"));
        }
        Ok(Self { count, blocks })
    }

    pub(super) fn len(&self) -> u32 {
        self.count
    }

    /// The string of a rank.
    pub(super) fn get(&self, rank: u32) -> Decoded<Text> {
        if rank >= self.count {
            return Err(Malformed::Bytes("a symbol does not exist"));
        }
        let mut reader = ByteReader::new(self.blocks.get(rank / BLOCK_SYMBOLS as u32)?);
        let mut symbol = Vec::new();
        for _ in 0..=rank % BLOCK_SYMBOLS as u32 {
            next(&mut reader, &mut symbol)?;
        }
        match std::str::from_utf8(&symbol) {
            Ok(symbol) => Ok(symbol.into()),
            Err(_) => Err(Malformed::Bytes("a symbol is not UTF-8")),
        }
    }

    /// The rank of a string.
    pub(super) fn find(&self, wanted: &str) -> Decoded<Option<u32>> {
        let wanted = wanted.as_bytes();
        // The last block whose first string is not greater.
        let (mut low, mut high) = (0, self.blocks.len());
        let mut symbol = Vec::new();
        while low < high {
            let middle = low.wrapping_add(high.wrapping_sub(low) / 2);
            symbol.clear();
            next(&mut ByteReader::new(self.blocks.get(middle)?), &mut symbol)?;
            if symbol.as_slice() <= wanted {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        let Some(block) = low.checked_sub(1) else { return Ok(None) };
        let start = block.saturating_mul(BLOCK_SYMBOLS as u32);
        let mut reader = ByteReader::new(self.blocks.get(block)?);
        symbol.clear();
        for rank in start..self.count.min(start.saturating_add(BLOCK_SYMBOLS as u32)) {
            next(&mut reader, &mut symbol)?;
            if symbol == wanted {
                return Ok(Some(rank));
            }
        }
        Ok(None)
    }
}

/// Turns one string of a block into the next.
fn next(reader: &mut ByteReader<'_>, symbol: &mut Vec<u8>) -> Decoded<()> {
    let shared = reader.len_up_to(symbol.len())?;
    let len = reader.len_up_to(SYMBOL_LEN_MAX)?;
    symbol.truncate(shared);
    symbol.extend_from_slice(reader.take(len)?);
    Ok(())
}
