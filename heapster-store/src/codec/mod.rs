//! Bytes and numbers: little-endian integers, varints, bits and salted checksums.
//!
//! The readers here take arbitrary bytes. They never panic, and what they cannot read they report
//! as [`Malformed`]; where in which file that was is added by the caller that knows it.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub(crate) mod bits;
mod bytes;
mod checksum;
pub(crate) mod fields;

pub(crate) use bytes::{ByteReader, put_i64, put_i128, put_u64, touch, unzigzag, zigzag};
pub(crate) use checksum::salted_crc32;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// They break a rule of the format.
    Bytes(&'static str),
    /// They name a codec or a kind this program does not know.
    Unknown(u8),
}

/// Result of a decoder.
pub(crate) type Decoded<T> = Result<T, Malformed>;

/// The bytes of the first worked example on a format page.
#[cfg(test)]
pub(crate) fn hex_example(page: &str) -> Vec<u8> {
    nth_hex_example(page, 0)
}

/// The bytes of a worked example on a format page: its block of `hex`, explanations left out.
#[cfg(test)]
pub(crate) fn nth_hex_example(page: &str, index: usize) -> Vec<u8> {
    let block = page.split("```hex\n").skip(1).nth(index);
    let block = block.and_then(|rest| rest.split("```").next());
    let bytes = block.unwrap_or_default().lines().flat_map(|line| {
        line.split("  ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .map(|byte| u8::from_str_radix(byte, 16))
    });
    bytes.collect::<Result<_, _>>().unwrap_or_default()
}
