//! Variable-length integers as the log and the head's rows use them, and a reader that cannot panic.

/// Bytes that are not what was written: too short, too long, or a number out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub &'static str);

/// Appends an integer in groups of seven bits, the lowest first.
#[inline]
pub(crate) fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    if value < 0x80 {
        into.push(value as u8);
        return;
    }
    if value < 1 << WORD_VARINT_BITS {
        // All bytes at once, and those that are too many cut off again.
        let len = (u64::BITS - value.leading_zeros()).div_ceil(7) as usize;
        let more = MORE_BITS & ((1 << (8 * (len - 1))) - 1);
        into.extend_from_slice(&(spread_groups(value) | more).to_le_bytes());
        into.truncate(into.len() - size_of::<u64>() + len);
        return;
    }
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Bits of the integers whose groups of seven fit into a word.
const WORD_VARINT_BITS: u32 = 56;
/// In each byte the bit that says that another one follows.
const MORE_BITS: u64 = 0x8080_8080_8080_8080;

/// Puts each group of seven bits into a byte of its own.
#[inline]
const fn spread_groups(value: u64) -> u64 {
    let value = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let value = value & 0x0000_3fff_0000_3fff | (value & 0x0fff_c000_0fff_c000) << 2;
    value & 0x007f_007f_007f_007f | (value & 0x3f80_3f80_3f80_3f80) << 1
}

/// The inverse of [`spread_groups`]; the top bits of the bytes do not count.
#[inline]
const fn gather_groups(value: u64) -> u64 {
    let value = value & 0x007f_007f_007f_007f | (value & 0x7f00_7f00_7f00_7f00) >> 1;
    let value = value & 0x0000_3fff_0000_3fff | (value & 0x3fff_0000_3fff_0000) >> 2;
    value & 0x0fff_ffff | (value & 0x0fff_ffff_0000_0000) >> 4
}

/// Appends a text: its length and its bytes.
pub(crate) fn put_text(into: &mut Vec<u8>, text: &str) {
    put_varint(into, text.len() as u64);
    into.extend_from_slice(text.as_bytes());
}

/// Maps small integers of both signs to small ones without sign.
#[inline]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads front to back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        if let Some(word) = self.0.first_chunk() {
            let word = u64::from_le_bytes(*word);
            let last = !word & MORE_BITS;
            if last != 0 {
                let len = last.trailing_zeros() as usize / 8 + 1;
                self.0 = self.0.get(len..).unwrap_or_default();
                return Ok(gather_groups(word & (u64::MAX >> (u64::BITS as usize - 8 * len))));
            }
        }
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7_u32;
        loop {
            let byte = self.byte()?;
            // The tenth byte holds the one bit that is left.
            if shift == 63 && byte > 1 {
                return Err(Malformed("a number has more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    #[inline]
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        self.varint().map(unzigzag)
    }

    /// A number of things of which each takes at least one byte of what is left, so that a damaged
    /// count cannot make anybody allocate.
    pub fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.varint()?;
        match usize::try_from(count) {
            Ok(count) if count <= self.0.len() => Ok(count),
            _ => Err(Malformed("a count is greater than what follows")),
        }
    }

    /// A number that indexes a table.
    pub fn index(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed("an index has more than 32 bits"))
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.count()?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_integer_comes_back(value: u64, signed: i64, cut in 0_u32..64) {
            let (value, signed) = (value >> cut, signed >> cut);
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(bytes.len(), (64 - (value | 1).leading_zeros()).div_ceil(7) as usize);
            put_varint(&mut bytes, zigzag(signed));
            for behind in [0, 20] {
                bytes.resize(bytes.len() + behind, 0xff);
                let mut reader = Reader::new(&bytes);
                prop_assert_eq!(reader.varint(), Ok(value));
                prop_assert_eq!(reader.signed(), Ok(signed));
                prop_assert_eq!(reader.0.len(), behind);
            }
        }
    }

    #[test]
    fn a_number_without_end_is_refused() {
        assert!(Reader::new(&[0xff; 11]).varint().is_err());
        assert!(Reader::new(&[0x80]).varint().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0x03]).count().is_err());
    }
}
