//! Timestamps: a strictly rising list, encoded like integers counted from its first moment.

use heapster_core::Timestamp;

use crate::chunk::{CHUNK_VALUES_MAX, Effort, ints, tag::Tag};
use crate::codec::{ByteReader, Decoded, Malformed};

/// Appends the timestamps counted from the first one, which the caller keeps.
pub(crate) fn encode(timestamps: &[i64], out: &mut Vec<u8>) {
    let first = timestamps.first().copied().unwrap_or(0);
    let since: Vec<i64> = timestamps.iter().map(|at| at.wrapping_sub(first)).collect();
    ints::Plan::new(&since, Effort::Fast).put_with_tag(out);
}

/// Decodes `count` timestamps; replaces what `into` holds.
///
/// # Errors
/// [`Malformed`] when they do not rise strictly from `first` or leave the supported years.
pub(crate) fn decode(bytes: &[u8], first: i64, count: usize, into: &mut Vec<i64>) -> Decoded<()> {
    if !(1..=CHUNK_VALUES_MAX).contains(&count) {
        return Err(Malformed::Bytes("a clock has no timestamps or too many"));
    }
    let mut body = ByteReader::new(bytes);
    let tag = Tag::from_byte(body.u8()?)?;
    if tag.summary {
        return Err(Malformed::Bytes("a clock has a summary"));
    }
    into.resize(count, 0);
    ints::decode(tag, body, count, 0..count, into)?;
    let supported = Timestamp::MIN.as_millis()..=Timestamp::MAX.as_millis();
    let mut previous = None;
    for at in into.iter_mut() {
        *at = first.wrapping_add(*at);
        if !supported.contains(at) || previous.is_some_and(|previous| previous >= *at) {
            return Err(Malformed::Bytes("timestamps do not rise or leave the supported years"));
        }
        previous = Some(*at);
    }
    if into.first() != Some(&first) {
        return Err(Malformed::Bytes("a clock does not begin at its first timestamp"));
    }
    Ok(())
}
