//! Bit fields of one width: read eight at a time, without a branch for each.
//!
//! Eight fields of `W` bits are `W` bytes. With the width known to the compiler every field is a
//! load, a shift and a mask at a fixed place, so there is a reader for each width and a table of
//! them.

use super::bits::mask;
use super::{Decoded, Malformed};

/// Widest field.
pub(crate) const WIDTH_MAX: u32 = 64;
/// Fields that are read at once.
const GROUP: usize = 8;

/// Bytes of `count` fields; the last byte is filled up with zeros.
pub(crate) fn len_of(count: usize, width: u32) -> usize {
    count.saturating_mul(width as usize).div_ceil(8)
}

/// Reads as many fields as there are slots and adds `base` to each.
///
/// # Errors
/// [`Malformed`] when `bytes` is not as long as [`len_of`] says, the width is above [`WIDTH_MAX`],
/// or the bits that fill up the last byte are not zero.
pub(crate) fn unpack(bytes: &[u8], width: u32, base: i64, into: &mut [i64]) -> Decoded<()> {
    let reader =
        UNPACK.get(width as usize).ok_or(Malformed::Bytes("a field is wider than 64 bits"))?;
    if bytes.len() != len_of(into.len(), width) {
        return Err(Malformed::Bytes("there are more or fewer fields than values"));
    }
    let spare = bytes.len().wrapping_mul(8).wrapping_sub(into.len().wrapping_mul(width as usize));
    let last = bytes.last().copied().unwrap_or(0);
    if u64::from(last) & !mask(8_u32.wrapping_sub(spare as u32)) != 0 {
        return Err(Malformed::Bytes("bits are left over"));
    }
    reader(bytes, base, into);
    Ok(())
}

type Unpack = fn(&[u8], i64, &mut [i64]);

macro_rules! unpack_of_width {
    ($($width:literal)*) => { [fill, $(unpack_of::<$width>),*] };
}

#[rustfmt::skip]
static UNPACK: [Unpack; WIDTH_MAX as usize + 1] = unpack_of_width!(
     1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16
    17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
    33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48
    49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
);

/// Fields without bits.
fn fill(_: &[u8], base: i64, into: &mut [i64]) {
    into.fill(base);
}

fn unpack_of<const WIDTH: usize>(bytes: &[u8], base: i64, into: &mut [i64]) {
    let (slots, last_slots) = into.as_chunks_mut::<GROUP>();
    let whole = slots.len().wrapping_mul(WIDTH);
    for (group, slots) in bytes.as_chunks::<WIDTH>().0.iter().zip(slots) {
        unpack_group(group, base, slots);
    }
    if !last_slots.is_empty() {
        let rest = bytes.get(whole..).unwrap_or_default();
        let mut group = [0; WIDTH];
        for (to, from) in group.iter_mut().zip(rest) {
            *to = *from;
        }
        let mut values = [0; GROUP];
        unpack_group(&group, base, &mut values);
        for (slot, value) in last_slots.iter_mut().zip(values) {
            *slot = value;
        }
    }
}

#[inline(always)]
fn unpack_group<const WIDTH: usize>(group: &[u8; WIDTH], base: i64, slots: &mut [i64; GROUP]) {
    for (index, slot) in slots.iter_mut().enumerate() {
        *slot = base.wrapping_add(field(group, index).cast_signed());
    }
}

/// One field of a group; all but the loads is known to the compiler.
#[inline(always)]
fn field<const WIDTH: usize>(group: &[u8; WIDTH], index: usize) -> u64 {
    let bit = index.wrapping_mul(WIDTH);
    // The last word of the group is loaded for fields that begin in its midst.
    let at = (bit >> 3).min(WIDTH.saturating_sub(8));
    let shift = bit.wrapping_sub(at << 3) as u32;
    let mut value = word(group, at) >> shift;
    if (shift as usize).wrapping_add(WIDTH) > 64 {
        value |= word(group, at.wrapping_add(8)).wrapping_shl(64_u32.wrapping_sub(shift));
    }
    value & mask(WIDTH as u32)
}

/// Eight bytes from `at` on; beyond the group there are zeros.
#[inline(always)]
fn word(group: &[u8], at: usize) -> u64 {
    let rest = group.get(at..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(rest) {
                *to = *from;
            }
            u64::from_le_bytes(word)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bits::{BitReader, BitWriter};
    use super::*;

    proptest! {
        #[test]
        fn fields_of_every_width_are_those_of_the_bit_reader(
            values in prop::collection::vec(any::<u64>(), 0..140), width in 0_u32..=64, base: i64,
        ) {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            values.iter().for_each(|value| writer.put(*value, width));
            writer.finish();
            let mut fields = vec![7; values.len()];
            prop_assert_eq!(unpack(&bytes, width, base, &mut fields), Ok(()));
            let mut reader = BitReader::new(&bytes);
            for field in &fields {
                prop_assert_eq!(*field, base.wrapping_add(reader.get(width).cast_signed()));
            }
            prop_assert!(unpack(&bytes, 65, base, &mut fields).is_err());
            bytes.push(0);
            prop_assert!(unpack(&bytes, width, base, &mut fields).is_err());
            bytes.truncate(bytes.len().saturating_sub(2));
            prop_assert_eq!(unpack(&bytes, width, base, &mut fields).is_ok(), len_of(fields.len(), width) == 0);
        }
    }

    #[test]
    fn bits_that_are_left_over_are_an_error() {
        let mut fields = [0; 3];
        assert_eq!(unpack(&[0b0011_1111], 2, 0, &mut fields), Ok(()));
        assert_eq!(fields, [3; 3]);
        let left_over = Err(Malformed::Bytes("bits are left over"));
        assert_eq!(unpack(&[0b0111_1111], 2, 0, &mut fields), left_over);
    }
}
