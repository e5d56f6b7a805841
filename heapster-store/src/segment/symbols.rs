//! Symbols: every string of a segment, sorted, each once, known by its rank.
//!
//! Eight strings make a block; within it each string says how much it shares with the one before.

use heapster_core::Text;

use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use crate::segment::table::{Table, TableBuilder};

const BLOCK_SYMBOLS: u32 = 8;
/// Longest string. Longer ones do not occur; the limit bounds what a damaged length can cost.
pub(super) const SYMBOL_LEN_MAX: usize = 1 << 24;

/// The section of strings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbols<'a> {
    count: u32,
    blocks: Table<'a>,
}

/// Reads strings one after the other; quick when their ranks rise.
#[derive(Debug)]
pub(super) struct SymbolReader<'a> {
    symbols: Symbols<'a>,
    /// The string that was read last.
    symbol: Vec<u8>,
    /// What follows it in its block.
    rest: ByteReader<'a>,
    /// Rank of the string that follows.
    next: u32,
}

/// Appends the section. `sorted` is sorted bytewise, each string once.
pub(super) fn encode(sorted: &[Text], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&u32::try_from(sorted.len()).ok()?.to_le_bytes());
    let mut blocks = TableBuilder::new();
    let mut entry = Vec::new();
    for block in sorted.chunks(BLOCK_SYMBOLS as usize) {
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
        if blocks.len() != count.div_ceil(BLOCK_SYMBOLS) {
            return Err(Malformed::Bytes("the symbols do not fill their blocks"));
        }
        Ok(Self { count, blocks })
    }

    /// Checks that every string can be read, so that nobody needs to wonder later.
    pub(super) fn check(&self) -> Decoded<()> {
        // Lengths below 128 are ASCII as well; anything else is read in full.
        let is_ascii = self.blocks.bytes().is_ascii();
        let mut symbol = Vec::new();
        for block in 0..self.blocks.len() {
            let mut reader = ByteReader::new(self.blocks.get(block)?);
            let mut len = 0_usize;
            symbol.clear();
            let left = self.count.saturating_sub(block.saturating_mul(BLOCK_SYMBOLS));
            for _ in 0..left.min(BLOCK_SYMBOLS) {
                if is_ascii {
                    let shared = reader.len_up_to(len)?;
                    len = shared.saturating_add(suffix(&mut reader)?.len());
                } else {
                    next(&mut reader, &mut symbol)?;
                    text_of(&symbol)?;
                }
            }
            reader.finish()?;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> u32 {
        self.count
    }

    pub(super) fn reader(&self) -> SymbolReader<'a> {
        let (symbol, rest) = (Vec::new(), ByteReader::new(&[]));
        SymbolReader { symbols: *self, symbol, rest, next: 0 }
    }

    /// The string of a rank.
    pub(super) fn get(&self, rank: u32) -> Decoded<Text> {
        self.reader().get(rank).map(Text::from)
    }

    /// The rank of a string.
    pub(super) fn find(&self, wanted: &str) -> Decoded<Option<u32>> {
        self.search(wanted.as_bytes()).map(Result::ok)
    }

    /// The ranks of the strings that begin with a text.
    pub(super) fn beginning_with(&self, prefix: &str) -> Decoded<std::ops::Range<u32>> {
        let start = match self.search(prefix.as_bytes())? {
            Ok(rank) | Err(rank) => rank,
        };
        // The first text that is greater than all of them; no text has the byte 255.
        let mut after = prefix.as_bytes().to_vec();
        let end = match after.last_mut() {
            None => self.count,
            Some(last) => {
                *last = last.saturating_add(1);
                match self.search(&after)? {
                    Ok(rank) | Err(rank) => rank,
                }
            }
        };
        Ok(start..end)
    }

    /// The rank of a string, or, as an error, that of the first greater one.
    fn search(&self, wanted: &[u8]) -> Decoded<Result<u32, u32>> {
        // The last block whose first string is not greater.
        let (mut low, mut high) = (0, self.blocks.len());
        while low < high {
            let middle = low.midpoint(high);
            let mut reader = ByteReader::new(self.blocks.get(middle)?);
            // The first of a block shares nothing.
            reader.u64()?;
            if suffix(&mut reader)? <= wanted {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        let Some(block) = low.checked_sub(1) else { return Ok(Err(0)) };
        let start = block.saturating_mul(BLOCK_SYMBOLS);
        let end = self.count.min(start.saturating_add(BLOCK_SYMBOLS));
        let mut reader = ByteReader::new(self.blocks.get(block)?);
        let mut symbol = Vec::new();
        for rank in start..end {
            next(&mut reader, &mut symbol)?;
            match symbol.as_slice().cmp(wanted) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(Ok(rank)),
                std::cmp::Ordering::Greater => return Ok(Err(rank)),
            }
        }
        Ok(Err(end))
    }
}

impl SymbolReader<'_> {
    /// The string of a rank.
    pub(super) fn get(&mut self, rank: u32) -> Decoded<&str> {
        if rank >= self.symbols.count {
            return Err(Malformed::Bytes("a symbol does not exist"));
        }
        if self.next == rank.saturating_add(1) {
            return text_of(&self.symbol);
        }
        let block = rank / BLOCK_SYMBOLS;
        let is_ahead = self.next <= rank && self.next / BLOCK_SYMBOLS == block;
        // At the start of a block what is left is of the block before.
        if !is_ahead || self.next.is_multiple_of(BLOCK_SYMBOLS) {
            self.symbol.clear();
            self.rest = ByteReader::new(self.symbols.blocks.get(block)?);
            self.next = block.saturating_mul(BLOCK_SYMBOLS);
        }
        while self.next <= rank {
            next(&mut self.rest, &mut self.symbol)?;
            self.next = self.next.saturating_add(1);
        }
        text_of(&self.symbol)
    }
}

fn text_of(symbol: &[u8]) -> Decoded<&str> {
    std::str::from_utf8(symbol).map_err(|_| Malformed::Bytes("a symbol is not UTF-8"))
}

/// Turns one string of a block into the next.
fn next(reader: &mut ByteReader<'_>, symbol: &mut Vec<u8>) -> Decoded<()> {
    let shared = reader.len_up_to(symbol.len())?;
    symbol.truncate(shared);
    symbol.extend_from_slice(suffix(reader)?);
    Ok(())
}

/// What a string does not share with the one before.
fn suffix<'a>(reader: &mut ByteReader<'a>) -> Decoded<&'a [u8]> {
    let len = reader.len_up_to(SYMBOL_LEN_MAX)?;
    reader.take(len)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_found_by_rank_text_and_beginning(
            texts in prop::collection::btree_set("[abü\u{10ffff}]{0,4}", 0..60),
            wanted in "[abü\u{10ffff}]{0,3}",
            ranks in prop::collection::vec(any::<prop::sample::Index>(), 20),
        ) {
            let texts: BTreeSet<String> = texts;
            let sorted: Vec<Text> = texts.iter().map(Text::from).collect();
            let mut section = Vec::new();
            encode(&sorted, &mut section).unwrap();
            let symbols = Symbols::parse(&section).unwrap();
            prop_assert_eq!(symbols.check(), Ok(()));
            let rank = sorted.iter().position(|text| *text == wanted.as_str());
            prop_assert_eq!(symbols.find(&wanted), Ok(rank.map(|rank| rank as u32)));
            let found = symbols.beginning_with(&wanted).unwrap();
            let expected: Vec<_> = sorted.iter().filter(|t| t.starts_with(&wanted)).collect();
            let found: Vec<_> = sorted.iter().take(found.end as usize).skip(found.start as usize).collect();
            prop_assert_eq!(found, expected);
            let mut reader = symbols.reader();
            for rank in ranks.iter().filter(|_| !sorted.is_empty()).map(|rank| rank.index(sorted.len())) {
                prop_assert_eq!(reader.get(rank as u32), Ok(sorted[rank].as_str()));
                prop_assert_eq!(symbols.get(rank as u32), Ok(sorted[rank].clone()));
            }
            prop_assert!(reader.get(sorted.len() as u32).is_err());
        }

        #[test]
        fn random_symbols_are_refused_or_readable(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Ok(symbols) = Symbols::parse(&bytes) && symbols.check().is_ok() {
                let mut reader = symbols.reader();
                prop_assert!((0..symbols.len()).all(|rank| reader.get(rank).is_ok()));
            }
        }
    }
}
