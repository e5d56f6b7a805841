//! Integers that often stay as they are: runs, and a bit for each value that says whether it moved.

use std::cell::Cell;
use std::ops::Range;

use crate::chunk::packed::{self, len_i64, len_u64};
use crate::chunk::tag::Tag;
use crate::codec::bits::{BitReader, BitWriter, mask};
use crate::codec::{ByteReader, Decoded, Malformed, put_i64, put_u64};

/// When at most one of so many values equals the one before, a bit for each does not pay.
const STAY_VALUES_MAX: usize = 8;

/// Bytes of the runs.
pub(super) fn len_of_runs(values: &[i64]) -> usize {
    let mut previous = 0_i64;
    let lens = values.chunk_by(|a, b| a == b).map(|run| {
        let value = run.first().copied().unwrap_or(previous);
        let step = value.wrapping_sub(previous);
        previous = value;
        len_i64(step).saturating_add(len_u64(run.len() as u64))
    });
    lens.sum()
}

/// Appends the body of [`Codec::Runs`].
pub(super) fn put_runs(values: &[i64], out: &mut Vec<u8>) {
    let mut previous = 0_i64;
    for run in values.chunk_by(|a, b| a == b) {
        let value = run.first().copied().unwrap_or(previous);
        put_i64(out, value.wrapping_sub(previous));
        put_u64(out, run.len() as u64);
        previous = value;
    }
}

/// Calls back for each run of equal values of [`Codec::Runs`]; they add up to `count`.
pub(super) fn for_each_run(
    mut body: ByteReader<'_>,
    count: usize,
    mut each: impl FnMut(i64, usize),
) -> Decoded<()> {
    let mut left = count;
    let mut value = 0_i64;
    while left > 0 {
        value = value.wrapping_add(body.i64()?);
        let len = body.len_up_to(left)?;
        if len == 0 {
            return Err(Malformed::Bytes("a run is empty"));
        }
        each(value, len);
        left = left.saturating_sub(len);
    }
    body.finish()
}

/// Decodes the values of `rows` of [`Codec::Runs`] into as many slots.
pub(super) fn decode_runs(
    body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    mut into: &mut [i64],
) -> Decoded<()> {
    let mut at = 0_usize;
    for_each_run(body, count, |value, len| {
        let end = at.saturating_add(len);
        let wanted = end.min(rows.end).saturating_sub(at.max(rows.start));
        let (slots, rest) =
            std::mem::take(&mut into).split_at_mut_checked(wanted).unwrap_or_default();
        slots.fill(value);
        into = rest;
        at = end;
    })
}

/// How values that often stay would be written.
pub(super) struct Changes {
    /// One value of each run.
    packed: packed::Plan,
    /// How many bytes it takes.
    pub cost: usize,
}

impl Changes {
    /// `None` when hardly any value equals the one before it; `values` has two that differ.
    pub(super) fn new(values: &[i64]) -> Option<Self> {
        let moves = pairs(values).filter(|(a, b)| a != b).count();
        let stays = values.len().saturating_sub(moves).saturating_sub(1);
        if stays.saturating_mul(STAY_VALUES_MAX) < values.len() {
            return None;
        }
        let mut distinct = Vec::with_capacity(moves.saturating_add(1));
        distinct.extend(values.first());
        distinct.extend(pairs(values).filter(|(a, b)| a != b).map(|(_, b)| *b));
        let packed = packed::Plan::new(&distinct);
        let bits = values.len().saturating_sub(1).div_ceil(8);
        let cost = packed.cost.saturating_add(bits).saturating_add(1);
        Some(Self { packed, cost })
    }

    /// Appends the body of [`Codec::Changes`].
    pub(super) fn put(&self, values: &[i64], out: &mut Vec<u8>) {
        let mut bits = BitWriter::new(out);
        pairs(values).for_each(|(a, b)| bits.put(u64::from(a != b), 1));
        bits.finish();
        out.push(self.packed.tag().to_byte());
        self.packed.put(out);
    }
}

fn pairs(values: &[i64]) -> impl Iterator<Item = (&i64, &i64)> {
    values.iter().zip(values.iter().skip(1))
}

/// Decodes the values of `rows` of [`Codec::Changes`] into as many slots.
pub(super) fn decode_changes(
    mut body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    into: &mut [i64],
) -> Decoded<()> {
    let followers = count.saturating_sub(1);
    let moves = Moves { bytes: body.take(followers.div_ceil(8))? };
    let tag = Tag::from_byte(body.u8()?)?;
    let distinct = moves.before(count);
    if !tag.codec.is_packed() || tag.summary || moves.word(followers) != 0 {
        return Err(Malformed::Bytes("changes are encoded in a way that is not allowed"));
    }
    let Some(last) = rows.len().checked_sub(1) else { return Ok(()) };
    let low = moves.before(rows.start.saturating_add(1));
    let high = moves.before(rows.start.saturating_add(last).saturating_add(1));
    let wanted = low..high.saturating_add(1);
    // The values that differ go to the end, from where they never are overtaken.
    let mut from = into.len().saturating_sub(wanted.len());
    let different = into.get_mut(from..).unwrap_or_default();
    packed::decode(tag, body, distinct.saturating_add(1), wanted, different)?;
    let all = Cell::from_mut(into).as_slice_of_cells();
    let value = |from: usize| all.get(from).map_or(0, Cell::get);
    let Some((first, later)) = all.split_first() else { return Ok(()) };
    first.set(value(from));
    for (index, slots) in later.chunks(Moves::WORD).enumerate() {
        let mut word = moves.word(rows.start.saturating_add(index.saturating_mul(Moves::WORD)));
        for slot in slots {
            from = from.wrapping_add((word & 1) as usize);
            word >>= 1;
            slot.set(value(from));
        }
    }
    Ok(())
}

/// A bit for each value but the first: whether it differs from the one before.
struct Moves<'a> {
    bytes: &'a [u8],
}

impl Moves<'_> {
    /// Bits that [`Moves::word`] gives at least.
    const WORD: usize = BitReader::PEEKED as usize;

    /// The bits from one on; past the end there are zeros.
    fn word(&self, at: usize) -> u64 {
        let mut bits = BitReader::new(self.bytes);
        bits.skip(at as u32);
        bits.peek()
    }

    /// How many of the first `rows` values differ from the one before.
    fn before(&self, rows: usize) -> usize {
        let bits = rows.saturating_sub(1);
        let whole = self.bytes.get(..bits >> 3).unwrap_or(self.bytes);
        let (words, bytes) = whole.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word).count_ones() as usize);
        let bytes = bytes.iter().map(|byte| byte.count_ones() as usize);
        let part = self.word(bits & !7) & mask((bits & 7) as u32);
        words.chain(bytes).sum::<usize>().saturating_add(part.count_ones() as usize)
    }
}
