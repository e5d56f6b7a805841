//! Floats: constant, scaled decimals through the integers, or XOR with the value before.
//!
//! The XOR form is that of Gorilla (Pelkonen et al., VLDB 2015), section 4.1.2.

use crate::chunk::ints;
use crate::chunk::tag::{Codec, Tag};
use crate::codec::bits::{BitReader, BitWriter};
use crate::codec::{ByteReader, Decoded, Malformed};

/// Beyond 2^53 not every integer is a float.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// Powers of ten that decimals are tried with. All are exact floats, so that dividing by one gives
/// the float nearest to the decimal, whatever the machine.
const POWERS_OF_TEN: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// The paper's limit: leading zeros have five bits.
const LEADING_ZEROS_MAX: u32 = 31;

/// Appends the body of the cheapest encoding and says how it is encoded. `values` is not empty.
pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) -> Tag {
    // Equality here is that of bits, so that NaN equals itself and 0.0 differs from -0.0.
    let patterns: &[u64] = bytemuck::must_cast_slice(values);
    let Some((first, rest)) = patterns.split_first() else { return Tag::plain(Codec::Xor) };
    if rest.iter().all(|pattern| pattern == first) {
        out.extend_from_slice(&first.to_le_bytes());
        return Tag::plain(Codec::FloatConstant);
    }
    let mut xor = Vec::new();
    put_xor(patterns, &mut xor);
    if let Some((power, integers)) = decimals(values) {
        let mut inner = Vec::new();
        let tag = ints::encode(&integers, &mut inner);
        if inner.len().saturating_add(2) <= xor.len() {
            out.extend_from_slice(&[power, tag.to_byte()]);
            out.append(&mut inner);
            return Tag::plain(Codec::Decimals);
        }
    }
    out.append(&mut xor);
    Tag::plain(Codec::Xor)
}

/// The least power of ten that makes integers of all values without losing a bit.
fn decimals(values: &[f64]) -> Option<(u8, Vec<i64>)> {
    let mut integers = Vec::with_capacity(values.len());
    'powers: for (power, scale) in (0_u8..).zip(POWERS_OF_TEN) {
        integers.clear();
        for value in values {
            let scaled = (value * scale).round();
            if !scaled.is_finite() || scaled.abs() > EXACT_INTEGER_MAX {
                // A greater power makes it only larger.
                return None;
            }
            let integer = scaled as i64;
            if (integer as f64 / scale).to_bits() != value.to_bits() {
                continue 'powers;
            }
            integers.push(integer);
        }
        return Some((power, integers));
    }
    None
}

fn put_xor(patterns: &[u64], out: &mut Vec<u8>) {
    let mut writer = BitWriter::new(out);
    let mut previous = 0_u64;
    let mut window: Option<(u32, u32)> = None;
    for (index, bits) in patterns.iter().enumerate() {
        let xor = bits ^ previous;
        previous = *bits;
        if index == 0 {
            writer.put(*bits, 64);
            continue;
        }
        if xor == 0 {
            writer.put(0, 1);
            continue;
        }
        writer.put(1, 1);
        let leading = xor.leading_zeros().min(LEADING_ZEROS_MAX);
        let trailing = xor.trailing_zeros();
        if let Some((window_leading, window_trailing)) = window
            && leading >= window_leading
            && trailing >= window_trailing
        {
            writer.put(0, 1);
            writer
                .put(xor.wrapping_shr(window_trailing), width_of(window_leading, window_trailing));
            continue;
        }
        let width = width_of(leading, trailing);
        writer.put(1, 1);
        writer.put(u64::from(leading), 5);
        writer.put(u64::from(width.wrapping_sub(1)), 6);
        writer.put(xor.wrapping_shr(trailing), width);
        window = Some((leading, trailing));
    }
    writer.finish();
}

fn width_of(leading: u32, trailing: u32) -> u32 {
    64_u32.wrapping_sub(leading).wrapping_sub(trailing)
}

/// Decodes `count` floats and appends them.
pub(super) fn decode(
    tag: Tag,
    mut body: ByteReader<'_>,
    count: usize,
    into: &mut Vec<f64>,
) -> Decoded<()> {
    into.reserve(count);
    match tag.codec {
        Codec::FloatConstant => {
            let value = f64::from_bits(body.fixed_u64()?);
            body.finish()?;
            into.resize(into.len().saturating_add(count), value);
            Ok(())
        }
        Codec::Decimals => {
            let scale = POWERS_OF_TEN
                .get(usize::from(body.u8()?))
                .ok_or(Malformed::Bytes("a decimal has too many places"))?;
            let inner = Tag::from_byte(body.u8()?)?;
            if inner.summary {
                return Err(Malformed::Bytes("an inner chunk has a summary"));
            }
            let mut integers = Vec::new();
            ints::decode(inner, body, count, &mut integers)?;
            into.extend(integers.iter().map(|integer| *integer as f64 / scale));
            Ok(())
        }
        Codec::Xor => get_xor(body.rest(), count, into),
        _ => Err(Malformed::Bytes("floats are encoded as integers")),
    }
}

fn get_xor(bytes: &[u8], count: usize, into: &mut Vec<f64>) -> Decoded<()> {
    let mut reader = BitReader::new(bytes);
    let mut bits = reader.get(64)?;
    into.push(f64::from_bits(bits));
    let mut window: Option<(u32, u32)> = None;
    for _ in 1..count {
        if reader.get(1)? == 1 {
            if reader.get(1)? == 1 {
                let leading = reader.get(5)? as u32;
                let width = (reader.get(6)? as u32).wrapping_add(1);
                let trailing = 64_u32
                    .checked_sub(leading.saturating_add(width))
                    .ok_or(Malformed::Bytes("a float has more than 64 bits"))?;
                window = Some((width, trailing));
            }
            let (width, trailing) =
                window.ok_or(Malformed::Bytes("a float refers to a window before the first"))?;
            bits ^= reader.get(width)?.wrapping_shl(trailing);
        }
        into.push(f64::from_bits(bits));
    }
    reader.finish()
}
