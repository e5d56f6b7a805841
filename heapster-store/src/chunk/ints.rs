//! Integers: constant, runs, or scaled and packed as offsets, deltas or deltas of deltas.
//!
//! All differences wrap around, so every `i64` survives next to every other one.

use crate::chunk::tag::{Codec, Tag};
use crate::codec::bits::{BitReader, BitWriter, mask};
use crate::codec::{ByteReader, Decoded, Malformed, put_i64, put_u64, zigzag};

/// A run of equal values costs at least two bytes; with fewer values per run packing is cheaper.
const RUN_VALUES_MIN: usize = 2;
/// An exception costs at least two bytes; narrower fields with more exceptions never pay.
const EXCEPTION_VALUES_MIN: usize = 3;
/// When at most one of so many values equals the one before, a bit for each does not pay.
const STAY_VALUES_MAX: usize = 8;
/// Of so many smallest residuals one may be taken for an outlier below the base.
const LOW_OUTLIERS_MAX: usize = 4;

/// Appends the body of the cheapest encoding and says how it is encoded. `values` is not empty.
pub(super) fn encode(values: &[i64], out: &mut Vec<u8>) -> Tag {
    let Some((&first, rest)) = values.split_first() else { return Tag::plain(Codec::Constant) };
    if rest.iter().all(|value| *value == first) {
        put_i64(out, first);
        return Tag::plain(Codec::Constant);
    }
    let scaled = Scaled::new(values, first);
    let mut best = Plan::new(Codec::Offsets, scaled.units.clone());
    let deltas = differences(&scaled.units);
    let curves = Plan::new(Codec::Curves, differences(&deltas));
    let deltas = Plan::new(Codec::Deltas, deltas);
    if deltas.cost < best.cost {
        best = deltas;
    }
    if curves.cost < best.cost {
        best = curves;
    }
    if let Some(cost) = cost_of_runs(values)
        && cost <= best.cost.saturating_add(scaled.cost)
    {
        put_runs(values, out);
        return Tag::plain(Codec::Runs);
    }
    let start = out.len();
    put_i64(out, first);
    if scaled.scale > 1 {
        put_u64(out, scaled.scale);
    }
    if best.codec == Codec::Curves {
        // The first unit is zero, so the second one is the first delta.
        put_i64(out, scaled.units.get(1).copied().unwrap_or(0));
    }
    let patched = best.put(out);
    if let Some(mut changes) = changes(values)
        && changes.len() < out.len().saturating_sub(start)
    {
        out.truncate(start);
        out.append(&mut changes);
        return Tag::plain(Codec::Changes);
    }
    Tag { codec: best.codec, scaled: scaled.scale > 1, patched, summary: false }
}

/// The body of [`Codec::Changes`], unless hardly any value equals the one before it.
fn changes(values: &[i64]) -> Option<Vec<u8>> {
    let pairs = || values.iter().zip(values.iter().skip(1));
    let stays = pairs().filter(|(a, b)| a == b).count();
    if stays.saturating_mul(STAY_VALUES_MAX) < values.len() {
        return None;
    }
    let mut body = Vec::new();
    let mut bits = BitWriter::new(&mut body);
    pairs().for_each(|(a, b)| bits.put(u64::from(a != b), 1));
    bits.finish();
    let distinct: Vec<i64> =
        values.chunk_by(|a, b| a == b).filter_map(|run| run.first().copied()).collect();
    let mut inner = Vec::new();
    // No neighbours are equal in there, so this does not come here again.
    body.push(encode(&distinct, &mut inner).to_byte());
    body.append(&mut inner);
    Some(body)
}

/// Values as multiples of their greatest common divisor, counted from the first value.
struct Scaled {
    scale: u64,
    units: Vec<i64>,
    cost: usize,
}

impl Scaled {
    fn new(values: &[i64], first: i64) -> Self {
        let mut units: Vec<i64> = values.iter().map(|value| value.wrapping_sub(first)).collect();
        let mut scale = 0;
        for unit in &units {
            scale = gcd(scale, unit.unsigned_abs());
            if scale == 1 {
                break;
            }
        }
        // 2^63 is the one divisor that is no `i64`; half of it divides as well.
        let divisor = i64::try_from(scale).unwrap_or(1 << 62).max(1);
        if divisor > 1 {
            for unit in &mut units {
                *unit = unit.checked_div(divisor).unwrap_or(*unit);
            }
        }
        let scale = divisor.unsigned_abs();
        let cost = len_i64(first).saturating_add(if scale > 1 { len_u64(scale) } else { 0 });
        Self { scale, units, cost }
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

fn differences(values: &[i64]) -> Vec<i64> {
    values.iter().zip(values.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a)).collect()
}

/// How a list of residuals would be packed, and what that costs.
struct Plan {
    codec: Codec,
    residuals: Vec<i64>,
    base: i64,
    width: u32,
    exceptions: usize,
    /// Estimated bytes, the first value and scale left out.
    cost: usize,
}

impl Plan {
    fn new(codec: Codec, residuals: Vec<i64>) -> Self {
        let smallest = smallest(&residuals);
        let smallest = smallest.get(..residuals.len()).unwrap_or(&smallest);
        let least = smallest.first().copied().unwrap_or(0);
        let (mut base, (mut width, mut exceptions, mut cost)) = (least, packing(&residuals, least));
        // A counter's reset is one residual far below all others. Taking the next one as the base
        // makes it an exception instead of widening every field.
        let steps = smallest.iter().zip(smallest.iter().skip(1));
        if let Some((low, high)) = steps.max_by_key(|(low, high)| low.abs_diff(**high))
            && low != high
        {
            let (other_width, other_exceptions, other_cost) = packing(&residuals, *high);
            if other_cost < cost {
                (base, width, exceptions, cost) =
                    (*high, other_width, other_exceptions, other_cost);
            }
        }
        let first_delta = if codec == Codec::Curves { 3 } else { 0 };
        let cost = cost.saturating_add(len_i64(base)).saturating_add(first_delta);
        Self { codec, residuals, base, width, exceptions, cost }
    }

    /// Appends base, width, exceptions and fields; says whether there are exceptions.
    fn put(&self, out: &mut Vec<u8>) -> bool {
        put_i64(out, self.base);
        out.push(self.width as u8);
        let offsets = || self.residuals.iter().map(|r| r.wrapping_sub(self.base).cast_unsigned());
        if self.exceptions > 0 {
            put_u64(out, self.exceptions as u64);
            let mut next = 0;
            for (index, offset) in offsets().enumerate() {
                if offset & mask(self.width) != offset {
                    put_u64(out, (index as u64).wrapping_sub(next));
                    put_u64(out, offset.wrapping_shr(self.width));
                    next = (index as u64).wrapping_add(1);
                }
            }
        }
        let mut bits = BitWriter::new(out);
        for offset in offsets() {
            bits.put(offset, self.width);
        }
        bits.finish();
        self.exceptions > 0
    }
}

/// The cheapest width for residuals counted from a base: width, exceptions, bytes.
fn packing(residuals: &[i64], base: i64) -> (u32, usize, usize) {
    let mut of_width = [0_usize; 65];
    for residual in residuals {
        let bits = bits_of(residual.wrapping_sub(base).cast_unsigned());
        if let Some(count) = of_width.get_mut(bits as usize) {
            *count = count.saturating_add(1);
        }
    }
    let widest =
        (0..=64_u32).rev().find(|bits| of_width.get(*bits as usize).is_some_and(|n| *n > 0));
    let widest = widest.unwrap_or(0);
    let mut best = (widest, 0, usize::MAX);
    // Widths beyond the current one that occur, with their counts: mostly a handful.
    let mut wider = [(0_usize, 0_usize); 65];
    let mut wider_len = 0_usize;
    let mut exceptions = 0_usize;
    for width in (0..=widest).rev() {
        let bits = (width as usize).saturating_add(1);
        if let (Some(count), Some(slot)) = (of_width.get(bits), wider.get_mut(wider_len))
            && *count > 0
        {
            *slot = (bits, *count);
            wider_len = wider_len.saturating_add(1);
            exceptions = exceptions.saturating_add(*count);
        }
        let mut patches = usize::from(exceptions > 0);
        for (bits, count) in wider.iter().take(wider_len) {
            let high = bits.saturating_sub(width as usize).div_ceil(7);
            patches = patches.saturating_add(count.saturating_mul(high.saturating_add(1)));
        }
        if patches >= best.2 {
            // Narrower fields only have more and longer exceptions.
            break;
        }
        let fields = residuals.len().saturating_mul(width as usize).div_ceil(8);
        let bytes = patches.saturating_add(fields);
        if bytes < best.2 {
            best = (width, exceptions, bytes);
        }
        if exceptions > residuals.len() / EXCEPTION_VALUES_MIN {
            break;
        }
    }
    best
}

/// The smallest values in order, one more than [`LOW_OUTLIERS_MAX`]; with fewer values the rest is
/// the greatest integer.
fn smallest(values: &[i64]) -> [i64; LOW_OUTLIERS_MAX + 1] {
    let mut smallest = [i64::MAX; LOW_OUTLIERS_MAX + 1];
    for value in values {
        if let Some(last) = smallest.last_mut()
            && value < last
        {
            *last = *value;
            smallest.sort_unstable();
        }
    }
    smallest
}

fn bits_of(value: u64) -> u32 {
    64_u32.wrapping_sub(value.leading_zeros())
}

fn len_u64(value: u64) -> usize {
    (bits_of(value).max(1) as usize).div_ceil(7)
}

fn len_i64(value: i64) -> usize {
    len_u64(zigzag(value))
}

fn cost_of_runs(values: &[i64]) -> Option<usize> {
    let runs = values.chunk_by(|a, b| a == b);
    let mut cost = 0_usize;
    let mut count = 0_usize;
    let mut previous = 0_i64;
    for run in runs {
        let value = run.first().copied().unwrap_or(previous);
        count = count.saturating_add(1);
        cost = cost
            .saturating_add(len_i64(value.wrapping_sub(previous)))
            .saturating_add(len_u64(run.len() as u64));
        previous = value;
    }
    (count.saturating_mul(RUN_VALUES_MIN) <= values.len()).then_some(cost)
}

fn put_runs(values: &[i64], out: &mut Vec<u8>) {
    let mut previous = 0_i64;
    for run in values.chunk_by(|a, b| a == b) {
        let value = run.first().copied().unwrap_or(previous);
        put_i64(out, value.wrapping_sub(previous));
        put_u64(out, run.len() as u64);
        previous = value;
    }
}

/// Decodes `count` integers and appends them.
pub(super) fn decode(
    tag: Tag,
    mut body: ByteReader<'_>,
    count: usize,
    into: &mut Vec<i64>,
) -> Decoded<()> {
    into.reserve(count);
    match tag.codec {
        Codec::Constant | Codec::Runs => for_each_run(tag, body, count, |value, len| {
            into.resize(into.len().saturating_add(len), value);
        }),
        Codec::Offsets | Codec::Deltas | Codec::Curves => {
            let first = body.i64()?;
            let scale = if tag.scaled { body.u64()?.cast_signed() } else { 1 };
            let start = into.len();
            let mut unit = 0_i64;
            match tag.codec {
                Codec::Offsets => unpack(tag, body, count, into)?,
                Codec::Deltas => {
                    into.push(0);
                    unpack(tag, body, count.saturating_sub(1), into)?;
                    for value in into.iter_mut().skip(start) {
                        unit = unit.wrapping_add(*value);
                        *value = unit;
                    }
                }
                _ => {
                    let mut delta = body.i64()?;
                    if count < 2 {
                        return Err(Malformed::Bytes("one value has no delta"));
                    }
                    into.push(0);
                    into.push(0);
                    unpack(tag, body, count.saturating_sub(2), into)?;
                    for value in into.iter_mut().skip(start).skip(1) {
                        delta = delta.wrapping_add(*value);
                        unit = unit.wrapping_add(delta);
                        *value = unit;
                    }
                }
            }
            for value in into.iter_mut().skip(start) {
                *value = first.wrapping_add(value.wrapping_mul(scale));
            }
            Ok(())
        }
        Codec::Changes => decode_changes(body, count, into),
        _ => Err(Malformed::Bytes("integers are encoded as floats")),
    }
}

fn decode_changes(mut body: ByteReader<'_>, count: usize, into: &mut Vec<i64>) -> Decoded<()> {
    let followers = count.saturating_sub(1);
    let changes = body.take(followers.div_ceil(8))?;
    let distinct_count = changes.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
    let tag = Tag::from_byte(body.u8()?)?;
    if tag.summary || tag.codec == Codec::Changes || distinct_count > followers {
        return Err(Malformed::Bytes("changes are encoded in a way that is not allowed"));
    }
    let mut distinct = Vec::new();
    decode(tag, body, distinct_count.saturating_add(1), &mut distinct)?;
    let mut distinct = distinct.into_iter();
    let mut value = distinct.next().unwrap_or(0);
    into.push(value);
    let mut bits = BitReader::new(changes);
    for _ in 0..followers {
        if bits.get(1)? == 1 {
            value = distinct.next().unwrap_or(value);
        }
        into.push(value);
    }
    bits.finish()
}

/// Calls back for each run of equal values, when the encoding has them; they add up to `count`.
pub(super) fn for_each_run(
    tag: Tag,
    mut body: ByteReader<'_>,
    count: usize,
    mut each: impl FnMut(i64, usize),
) -> Decoded<()> {
    if tag.codec == Codec::Constant {
        each(body.i64()?, count);
        return body.finish();
    }
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

/// Appends `count` residuals, base added.
fn unpack(tag: Tag, mut body: ByteReader<'_>, count: usize, into: &mut Vec<i64>) -> Decoded<()> {
    let base = body.i64()?;
    let width = u32::from(body.u8()?);
    if width > 64 {
        return Err(Malformed::Bytes("a field is wider than 64 bits"));
    }
    let start = into.len();
    let exceptions = if tag.patched { body.len_up_to(count)? } else { 0 };
    if exceptions > 0 && width > 63 {
        return Err(Malformed::Bytes("a full field has an exception"));
    }
    let mut list = body;
    for _ in 0..exceptions {
        body.u64()?;
        body.u64()?;
    }
    let mut bits = BitReader::new(body.rest());
    if width == 0 {
        into.resize(start.saturating_add(count), base);
    } else {
        for _ in 0..count {
            into.push(base.wrapping_add(bits.get(width)?.cast_signed()));
        }
    }
    bits.finish()?;
    let mut next = start;
    for _ in 0..exceptions {
        let index = next.saturating_add(list.len_up_to(count)?);
        let high = list.u64()?;
        let value = into.get_mut(index).ok_or(Malformed::Bytes("an exception has no value"))?;
        *value = value.wrapping_add(high.wrapping_shl(width).cast_signed());
        next = index.saturating_add(1);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: every width is tried, the widest first.
    fn packing_by_trying(residuals: &[i64], base: i64) -> (u32, usize, usize) {
        let bits: Vec<u32> =
            residuals.iter().map(|r| bits_of(r.wrapping_sub(base).cast_unsigned())).collect();
        let widest = bits.iter().copied().max().unwrap_or(0);
        let mut best = (widest, 0, usize::MAX);
        for width in (0..=widest).rev() {
            let wider = || bits.iter().filter(|bits| **bits > width);
            let exceptions = wider().count();
            let patches: usize = wider().map(|bits| 1 + (bits - width).div_ceil(7) as usize).sum();
            let fields = (residuals.len() * width as usize).div_ceil(8);
            let bytes = fields + patches + usize::from(exceptions > 0);
            if bytes < best.2 {
                best = (width, exceptions, bytes);
            }
            if exceptions > residuals.len() / EXCEPTION_VALUES_MIN {
                break;
            }
        }
        best
    }

    proptest! {
        #[test]
        fn the_width_is_that_of_trying_them_all(
            values in prop::collection::vec((any::<i64>(), 0_u32..64), 0..130),
            base in prop_oneof![Just(0), any::<i64>()],
        ) {
            let values: Vec<i64> = values.iter().map(|(value, shift)| value >> shift).collect();
            prop_assert_eq!(packing(&values, base), packing_by_trying(&values, base));
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let count = sorted.len().min(LOW_OUTLIERS_MAX + 1);
            prop_assert_eq!(&smallest(&values)[..count], &sorted[..count]);
        }
    }
}
