//! Bit strings: the first bit is the least significant bit of the first byte.
//!
//! Both sides work on a 64-bit word that is loaded or stored in whole bytes, so that a field costs
//! a few shifts however it lies in the bytes. Fields that all have one width are read in [`fields`].
//!
//! [`fields`]: super::fields

use super::{Decoded, Malformed};

const ENDS_EARLY: Malformed = Malformed::Bytes("the bits end too early");
/// A field of at most this many bits always fits beside what is left of a word.
const HALF: u32 = 32;

/// The lowest `width` bits set; `width` up to 64.
pub(crate) fn mask(width: u32) -> u64 {
    if width >= 64 { u64::MAX } else { 1_u64.wrapping_shl(width).wrapping_sub(1) }
}

/// How many bits a number takes without its leading zeros.
pub(crate) fn bits_of(value: u64) -> u32 {
    64_u32.wrapping_sub(value.leading_zeros())
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
///
/// Past the end there are zeros, so that a field is read without asking whether it is there;
/// [`BitReader::finish`] tells.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits that have been read.
    at: usize,
}

impl<'a> BitReader<'a> {
    /// Bits of which [`BitReader::peek`] shows at least so many.
    pub(crate) const PEEKED: u32 = 57;

    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits, [`BitReader::PEEKED`] of them at least.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at >> 3..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(word) => u64::from_le_bytes(*word),
            None => last_word(rest),
        };
        word >> (self.at & 7)
    }

    /// Goes on by `width` bits.
    #[inline]
    pub(crate) fn skip(&mut self, width: u32) {
        self.at = self.at.wrapping_add(width as usize);
    }

    /// The next `width` bits; `width` up to 64.
    #[inline]
    pub(crate) fn get(&mut self, width: u32) -> u64 {
        if width <= Self::PEEKED {
            return self.get_short(width);
        }
        let low = self.get_short(HALF);
        let high = self.get_short(width.wrapping_sub(HALF));
        low | high.wrapping_shl(HALF)
    }

    #[inline]
    fn get_short(&mut self, width: u32) -> u64 {
        let value = self.peek() & mask(width);
        self.skip(width);
        value
    }

    /// Fails unless what was read was there, and only the zero bits that fill up the last byte are
    /// left.
    pub(crate) fn finish(&self) -> Decoded<()> {
        if self.at.div_ceil(8) > self.bytes.len() {
            return Err(ENDS_EARLY);
        }
        if self.at.div_ceil(8) == self.bytes.len() && (self.at & 7 == 0 || self.peek() == 0) {
            Ok(())
        } else {
            Err(Malformed::Bytes("bits are left over"))
        }
    }
}

/// Fewer than eight bytes, with zeros after them.
#[cold]
fn last_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word.wrapping_shl(8) | u64::from(*byte))
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
                prop_assert_eq!(reader.get(*width), value & mask(*width));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn reading_past_the_end_gives_zeros_and_an_error() {
        let mut reader = BitReader::new(&[1, 2, 3]);
        assert_eq!(reader.get(20), 0x3_0201);
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(reader.get(4), 0);
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(reader.get(64), 0);
        assert_eq!(reader.finish(), Err(ENDS_EARLY));
    }

    #[test]
    fn bits_that_are_left_over_are_an_error() {
        let mut reader = BitReader::new(&[1, 2, 3]);
        reader.skip(16);
        assert_eq!(reader.finish(), Err(Malformed::Bytes("bits are left over")));
        reader.skip(1);
        assert_eq!(reader.finish(), Err(Malformed::Bytes("bits are left over")));
        reader.skip(1);
        assert_eq!(reader.finish(), Ok(()));
    }
}
