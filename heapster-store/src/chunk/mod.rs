//! Chunks: the values of one column in one row group, encoded in the cheapest known way.
//!
//! A chunk does not know how many values it has; whoever refers to it does. The layout is described
//! in `docs/format/chunk.md`.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod entropy;
mod floats;
mod ints;
mod packed;
mod repeats;
mod summary;
mod tag;
mod times;
mod xor;

#[cfg(test)]
mod tests;

use std::ops::Range;

use heapster_core::Value;
use heapster_core::storage::{Summary, Values};

use crate::codec::bits::BitWriter;
use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use tag::{Codec, Tag};

pub(crate) use summary::{is_same as is_same_summary, summarize};
pub(crate) use times::{decode as decode_times, encode as encode_times};

/// Most rows of a row group, hence most values of a chunk.
pub(crate) const CHUNK_VALUES_MAX: usize = 65_536;
/// The greatest codec number this program knows.
pub(crate) const CODEC_MAX: u8 = Codec::Entropy as u8;
/// From so many values on a chunk stores its summary. Fewer are decoded as fast as a summary is
/// read, and it would cost them a tenth of their size.
const SUMMARY_VALUES_MIN: usize = 128;
/// Runs of at most so many bytes are walked as fast as a summary is read.
const WALKED_BYTES_MAX: usize = 16;

/// What an encoder looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Small chunks that are quickly made and read.
    Fast,
    /// The smallest chunks, for data that is old and seldom read.
    Small,
}

/// Appends a chunk. `values` has from 1 to [`CHUNK_VALUES_MAX`] values.
pub(crate) fn encode(values: &Values, effort: Effort, out: &mut Vec<u8>) {
    assert!(
        (1..=CHUNK_VALUES_MAX).contains(&values.len()),
        "bug: a chunk of {} values (invariant C1)",
        values.len()
    );
    let mut body = Vec::new();
    let mut tag = match values {
        Values::Ints(values) => ints::Plan::new(values, effort).put(&mut body),
        Values::Floats(values) => floats::encode(values, effort, &mut body),
        Values::Mixed(values) => encode_mixed(values, effort, &mut body),
    };
    let summary = match tag.codec {
        _ if values.len() < SUMMARY_VALUES_MIN => None,
        Codec::Constant | Codec::Mixed => None,
        Codec::FloatConstant if follows_from_constant(values) => None,
        Codec::Runs if body.len() <= WALKED_BYTES_MAX => None,
        _ => summarize(values),
    };
    tag.summary = summary.is_some();
    out.push(tag.to_byte());
    if let Some(summary) = summary {
        summary::put(&summary, out);
    }
    out.append(&mut body);
}

/// Whether the summary of equal floats is found without adding them up.
fn follows_from_constant(values: &Values) -> bool {
    let Values::Floats(floats) = values else { return false };
    floats.first().is_some_and(|value| summary::of_constant(*value, floats.len()).is_some())
}

fn encode_mixed(values: &[Value], effort: Effort, out: &mut Vec<u8>) -> Tag {
    let ints: Vec<i64> = values.iter().filter_map(|value| value.as_int()).collect();
    let floats: Vec<f64> = values
        .iter()
        .filter_map(|value| match value {
            Value::Int(_) => None,
            Value::Float(value) => Some(*value),
        })
        .collect();
    if floats.is_empty() {
        return ints::Plan::new(&ints, effort).put(out);
    }
    if ints.is_empty() {
        return floats::encode(&floats, effort, out);
    }
    let mut kinds = BitWriter::new(out);
    values.iter().for_each(|value| kinds.put(u64::from(matches!(value, Value::Float(_))), 1));
    kinds.finish();
    let mut body = Vec::new();
    let tag = ints::Plan::new(&ints, effort).put(&mut body);
    put_u64(out, body.len() as u64);
    out.push(tag.to_byte());
    out.append(&mut body);
    let tag = floats::encode(&floats, effort, &mut body);
    out.push(tag.to_byte());
    out.append(&mut body);
    Tag::plain(Codec::Mixed)
}

/// Decodes a chunk of `count` values; replaces what `into` holds and reuses its memory.
///
/// # Errors
/// [`Malformed`], after which `into` holds nothing of use.
pub(crate) fn decode(chunk: &[u8], count: usize, into: &mut Values) -> Decoded<()> {
    decode_rows(chunk, count, 0..count, into)
}

/// Decodes the values of `rows` of a chunk of `count` values; replaces what `into` holds and reuses
/// its memory. Only the units of the chunk that the rows touch are decoded, as far as its codec has
/// units.
///
/// # Errors
/// [`Malformed`], after which `into` holds nothing of use. What is not decoded may be malformed all
/// the same. That the rows do not lie below `count` is an error too.
pub(crate) fn decode_rows(
    chunk: &[u8],
    count: usize,
    rows: Range<usize>,
    into: &mut Values,
) -> Decoded<()> {
    if !(1..=CHUNK_VALUES_MAX).contains(&count) {
        return Err(Malformed::Bytes("a chunk has no values or too many"));
    }
    if rows.start > rows.end || rows.end > count {
        return Err(Malformed::Bytes("a chunk has fewer values than are wanted"));
    }
    let mut body = ByteReader::new(chunk);
    let tag = Tag::from_byte(body.u8()?)?;
    if tag.summary {
        summary::get(&mut body, count)?;
    }
    match tag.codec {
        Codec::FloatConstant | Codec::Decimals | Codec::Patterns | Codec::Xor => {
            if !matches!(into, Values::Floats(_)) {
                *into = Values::Floats(Vec::new());
            }
            let Values::Floats(floats) = into else { return Ok(()) };
            floats.resize(rows.len(), 0.0);
            floats::decode(tag, body, count, rows, floats)
        }
        Codec::Mixed => {
            *into = Values::Mixed(decode_mixed(body, count, rows)?);
            Ok(())
        }
        _ => {
            if !matches!(into, Values::Ints(_)) {
                *into = Values::Ints(Vec::new());
            }
            let Values::Ints(ints) = into else { return Ok(()) };
            ints.resize(rows.len(), 0);
            ints::decode(tag, body, count, rows, ints)
        }
    }
}

fn decode_mixed(mut body: ByteReader<'_>, count: usize, rows: Range<usize>) -> Decoded<Vec<Value>> {
    let kinds = body.take(count.div_ceil(8))?;
    let is_float = |index: usize| {
        let byte = kinds.get(index >> 3).copied().unwrap_or(0);
        byte.wrapping_shr((index & 7) as u32) & 1 == 1
    };
    let floats_before = |row: usize| (0..row).filter(|index| is_float(*index)).count();
    let floats_count = floats_before(count);
    let ints_count = count.saturating_sub(floats_count);
    if floats_count == 0 || ints_count == 0 {
        return Err(Malformed::Bytes("mixed values are all of one kind"));
    }
    let float_rows = floats_before(rows.start)..floats_before(rows.end);
    let int_rows =
        rows.start.saturating_sub(float_rows.start)..rows.end.saturating_sub(float_rows.end);
    let len = body.len_up_to(chunk_len_max(count))?;
    let tag = inner_tag(body.u8()?)?;
    let mut ints = vec![0; int_rows.len()];
    ints::decode(tag, ByteReader::new(body.take(len)?), ints_count, int_rows, &mut ints)?;
    let tag = inner_tag(body.u8()?)?;
    let mut floats = vec![0.0; float_rows.len()];
    floats::decode(tag, body, floats_count, float_rows, &mut floats)?;
    let (mut ints, mut floats) = (ints.into_iter(), floats.into_iter());
    let value = |index| {
        if is_float(index) { floats.next().map(Value::Float) } else { ints.next().map(Value::Int) }
    };
    rows.map(value).collect::<Option<_>>().ok_or(Malformed::Bytes("a mixed value is missing"))
}

fn inner_tag(byte: u8) -> Decoded<Tag> {
    let tag = Tag::from_byte(byte)?;
    if tag.summary {
        return Err(Malformed::Bytes("an inner chunk has a summary"));
    }
    Ok(tag)
}

/// What the encoding of a chunk is called in docs/format/chunk.md.
///
/// # Errors
/// [`Malformed`] when the chunk is empty or its codec is not known.
pub(crate) fn codec_name(chunk: &[u8]) -> Decoded<&'static str> {
    Ok(Tag::from_byte(ByteReader::new(chunk).u8()?)?.codec.name())
}

/// More bytes than any encoding of so many values takes.
pub(crate) fn chunk_len_max(count: usize) -> usize {
    count.saturating_mul(24).saturating_add(256)
}

/// The summary of a chunk of `count` values, when it is stored or costs next to nothing.
///
/// # Errors
/// [`Malformed`] when the head of the chunk cannot be read.
pub(crate) fn stored_summary(chunk: &[u8], count: usize) -> Decoded<Option<Summary>> {
    let mut body = ByteReader::new(chunk);
    let tag = Tag::from_byte(body.u8()?)?;
    if tag.summary {
        return summary::get(&mut body, count).map(Some);
    }
    if !(1..=CHUNK_VALUES_MAX).contains(&count) {
        return Err(Malformed::Bytes("a chunk has no values or too many"));
    }
    match tag.codec {
        Codec::Constant => Ok(summary::of_runs([(body.i64()?, count)])),
        Codec::Runs => {
            let mut runs = Vec::new();
            repeats::for_each_run(body, count, |value, len| runs.push((value, len)))?;
            Ok(summary::of_runs(runs))
        }
        Codec::FloatConstant => {
            let value = f64::from_bits(body.fixed_u64()?);
            let summary = summary::of_constant(value, count);
            Ok(summary.or_else(|| summary::of_floats(std::iter::repeat_n(value, count))))
        }
        _ => Ok(None),
    }
}
