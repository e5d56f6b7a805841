//! [`ByteReader`], the checked cursor over bytes, and the writers of what it reads.

use super::{Decoded, Malformed};

const ENDS_EARLY: Malformed = Malformed::Bytes("the bytes end too early");
const VARINT_TOO_LONG: Malformed = Malformed::Bytes("a variable-length integer is too long");

/// Small magnitudes of either sign become small numbers: 0, −1, 1, −2 become 0, 1, 2, 3.
pub(crate) fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ value.wrapping_shr(63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

/// Appends an integer of one to ten bytes: seven bits each, least significant first.
pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed integer of one to ten bytes.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// Appends a signed integer of one to nineteen bytes.
pub(crate) fn put_i128(out: &mut Vec<u8>, value: i128) {
    let mut rest = (value.wrapping_shl(1) ^ value.wrapping_shr(127)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Bytes that a processor loads at once, or a multiple of them.
const CACHE_LINE: usize = 64;

/// Loads bytes that are about to be read. All are asked for at the same time, whereas a reader that goes
/// from one number to the next would wait for each.
pub(crate) fn touch(bytes: &[u8]) {
    let lines = bytes.iter().step_by(CACHE_LINE);
    std::hint::black_box(lines.fold(0, |all, byte| all ^ byte));
}

/// Reads bytes front to back; every read is checked against the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByteReader<'a> {
    bytes: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Fails unless everything has been read.
    pub(crate) fn finish(&self) -> Decoded<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed::Bytes("bytes are left over")) }
    }

    pub(crate) fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(ENDS_EARLY)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(ENDS_EARLY)?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Decoded<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn fixed_u16(&mut self) -> Decoded<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn fixed_u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn fixed_u64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn fixed_i64(&mut self) -> Decoded<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// What [`put_u64`] wrote.
    #[inline]
    pub(crate) fn u64(&mut self) -> Decoded<u64> {
        if let Some((&byte, rest)) = self.bytes.split_first()
            && byte < 0x80
        {
            self.bytes = rest;
            return Ok(u64::from(byte));
        }
        if let Some(value) = self.medium_u64() {
            return Ok(value);
        }
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(VARINT_TOO_LONG);
            }
            value |= bits.wrapping_shl(shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(VARINT_TOO_LONG)
    }

    /// A variable-length integer of up to eight bytes that lies before others, all at once.
    #[inline]
    fn medium_u64(&mut self) -> Option<u64> {
        let word = u64::from_le_bytes(*self.bytes.first_chunk::<8>()?);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return None;
        }
        // From the first bit to the first byte without the sign that more follow.
        let bits = word & (ends ^ ends.wrapping_sub(1)) & 0x7f7f_7f7f_7f7f_7f7f;
        let pairs = bits & 0x007f_007f_007f_007f | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        let value = fours & 0x0000_0000_0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4;
        let len = (ends.trailing_zeros() >> 3).wrapping_add(1) as usize;
        self.bytes = self.bytes.get(len..).unwrap_or_default();
        Some(value)
    }

    /// What [`put_i64`] wrote.
    pub(crate) fn i64(&mut self) -> Decoded<i64> {
        self.u64().map(unzigzag)
    }

    /// What [`put_i128`] wrote.
    pub(crate) fn i128(&mut self) -> Decoded<i128> {
        if let Some(value) = self.medium_u64() {
            return Ok(i128::from(unzigzag(value)));
        }
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.u8()?;
            let bits = u128::from(byte & 0x7f);
            if shift == 126 && bits > 3 {
                return Err(VARINT_TOO_LONG);
            }
            value |= bits.wrapping_shl(shift);
            if byte < 0x80 {
                let sign = (value & 1).cast_signed().wrapping_neg();
                return Ok((value >> 1).cast_signed() ^ sign);
            }
        }
        Err(VARINT_TOO_LONG)
    }

    /// A variable-length integer that must not exceed `max`.
    pub(crate) fn u32_up_to(&mut self, max: u32) -> Decoded<u32> {
        match u32::try_from(self.u64()?) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(Malformed::Bytes("a number is larger than it may be")),
        }
    }

    /// A length or count in memory that must not exceed `max`.
    pub(crate) fn len_up_to(&mut self, max: usize) -> Decoded<usize> {
        match usize::try_from(self.u64()?) {
            Ok(value) if value <= max => Ok(value),
            _ => Err(Malformed::Bytes("a length is larger than it may be")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_survive(a: u64, b: i64, c: i128, shift in 0_u32..128) {
            let (a, b, c) = (a >> (shift % 64), b >> (shift % 64), c >> shift);
            let mut out = Vec::new();
            put_u64(&mut out, a);
            put_i64(&mut out, b);
            put_i128(&mut out, c);
            let mut reader = ByteReader::new(&out);
            prop_assert_eq!((reader.u64(), reader.i64(), reader.i128()), (Ok(a), Ok(b), Ok(c)));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn the_extremes_survive() {
        for value in [0, 1, -1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
            for wide in [i128::from(value), i128::MIN, i128::MAX] {
                let mut out = Vec::new();
                put_i128(&mut out, wide);
                assert_eq!(ByteReader::new(&out).i128(), Ok(wide));
            }
        }
        let mut out = Vec::new();
        put_u64(&mut out, u64::MAX);
        assert_eq!(out.len(), 10);
        assert_eq!(ByteReader::new(&out).u64(), Ok(u64::MAX));
    }

    #[test]
    fn an_integer_of_too_many_bits_is_refused() {
        assert_eq!(ByteReader::new(&[0xff; 9]).u64(), Err(ENDS_EARLY));
        assert_eq!(ByteReader::new(&[0xff; 11]).u64(), Err(VARINT_TOO_LONG));
        assert_eq!(ByteReader::new(&[0xff; 20]).i128(), Err(VARINT_TOO_LONG));
    }
}
