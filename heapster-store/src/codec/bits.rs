//! Bit strings: the first bit is the least significant bit of the first byte.
//!
//! Both sides work on a 64-bit word that is refilled or emptied in whole bytes, so that a field
//! costs a few shifts however it lies in the bytes.

use super::{Decoded, Malformed};

const ENDS_EARLY: Malformed = Malformed::Bytes("the bits end too early");
/// A field of at most this many bits always fits beside what is left of a word.
const HALF: u32 = 32;

/// The lowest `width` bits set; `width` up to 64.
pub(crate) fn mask(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { 1_u64.wrapping_shl(width).wrapping_sub(1) }
}

/// Appends fields of bits to bytes.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    word: u64,
    used: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, word: 0, used: 0 }
    }

    /// Appends the lowest `width` bits of `value`; `width` up to 64.
    #[inline]
    pub(crate) fn put(&mut self, value: u64, width: u32) {
        if width > HALF {
            self.put_short(value, HALF);
            self.put_short(value >> HALF, width.wrapping_sub(HALF));
        } else {
            self.put_short(value, width);
        }
    }

    #[inline]
    fn put_short(&mut self, value: u64, width: u32) {
        // At most 31 bits are used here, so the word has room for the field.
        self.word |= (value & mask(width)).wrapping_shl(self.used);
        self.used = self.used.wrapping_add(width);
        if self.used >= HALF {
            self.out.extend_from_slice(&(self.word as u32).to_le_bytes());
            self.word >>= HALF;
            self.used = self.used.wrapping_sub(HALF);
        }
    }

    /// Writes out the last bits; the rest of their byte is zero.
    pub(crate) fn finish(self) {
        let bytes = self.word.to_le_bytes();
        let len = self.used.div_ceil(8) as usize;
        self.out.extend_from_slice(bytes.get(..len).unwrap_or_default());
    }
}

/// Reads fields of bits from bytes.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    word: u64,
    available: u32,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, word: 0, available: 0 }
    }

    /// The next `width` bits; `width` up to 64.
    #[inline]
    pub(crate) fn get(&mut self, width: u32) -> Decoded<u64> {
        if width <= HALF {
            return self.get_short(width);
        }
        let low = self.get_short(HALF)?;
        let high = self.get_short(width.wrapping_sub(HALF))?;
        Ok(low | high.wrapping_shl(HALF))
    }

    #[inline]
    fn get_short(&mut self, width: u32) -> Decoded<u64> {
        if self.available < width {
            self.refill();
            if self.available < width {
                return Err(ENDS_EARLY);
            }
        }
        let value = self.word & mask(width);
        self.word >>= width;
        self.available = self.available.wrapping_sub(width);
        Ok(value)
    }

    /// Fills the word to at least 56 bits as long as there are bytes. `available` is below 32 here.
    #[inline]
    fn refill(&mut self) {
        if let Some(next) = self.bytes.first_chunk::<8>() {
            self.word |= u64::from_le_bytes(*next).wrapping_shl(self.available);
            let taken = 63_u32.wrapping_sub(self.available) >> 3;
            self.bytes = self.bytes.get(taken as usize..).unwrap_or_default();
            self.available = self.available.wrapping_add(taken.wrapping_mul(8));
            // Bits above `available` belong to a byte that is read again.
            self.word &= mask(self.available);
            return;
        }
        while self.available <= 56 {
            let Some((&byte, rest)) = self.bytes.split_first() else { return };
            self.word |= u64::from(byte).wrapping_shl(self.available);
            self.available = self.available.wrapping_add(8);
            self.bytes = rest;
        }
    }

    /// Fails unless only the zero bits that fill up the last byte are left.
    pub(crate) fn finish(&self) -> Decoded<()> {
        if self.bytes.is_empty() && self.available < 8 && self.word == 0 {
            Ok(())
        } else {
            Err(Malformed::Bytes("bits are left over"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_of_any_width_survive(fields in prop::collection::vec((any::<u64>(), 0_u32..=64), 0..200)) {
            let mut out = Vec::new();
            let mut writer = BitWriter::new(&mut out);
            for (value, width) in &fields {
                writer.put(*value, *width);
            }
            writer.finish();
            let bits: usize = fields.iter().map(|(_, width)| *width as usize).sum();
            prop_assert_eq!(out.len(), bits.div_ceil(8));
            let mut reader = BitReader::new(&out);
            for (value, width) in &fields {
                prop_assert_eq!(reader.get(*width), Ok(value & mask(*width)));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let mut reader = BitReader::new(&[1, 2, 3]);
        assert_eq!(reader.get(20), Ok(0x3_0201 & mask(20)));
        assert_eq!(reader.get(5), Err(ENDS_EARLY));
        assert_eq!(reader.get(4), Ok(0));
        assert_eq!(reader.get(64), Err(ENDS_EARLY));
    }
}
