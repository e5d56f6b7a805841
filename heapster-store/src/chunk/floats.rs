//! Floats: constant, scaled decimals or bit patterns through the integers, or XOR with the value
//! before.

use std::ops::Range;

use crate::chunk::packed::len_u64;
use crate::chunk::tag::{Codec, Tag};
use crate::chunk::{Effort, ints, xor};
use crate::codec::{ByteReader, Decoded, Malformed, put_u64};

/// Beyond 2^53 not every integer is a float.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// Powers of ten that decimals are tried with. All are exact floats, so that dividing by one gives
/// the float nearest to the decimal, whatever the machine.
const POWERS_OF_TEN: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Set in the byte of the power when there are exceptions.
const HAS_EXCEPTIONS: u8 = 0x80;
/// One of so many values may be no decimal; more never pay.
const EXCEPTION_VALUES_MIN: usize = 8;
/// About the bytes of an exception, and of a decimal place more.
const EXCEPTION_COST: usize = 10;
const PLACE_COST_BITS: usize = 3;
/// So many values are asked how many decimal places they have.
const SAMPLED_VALUES: usize = 64;
/// Decimals of at most so many bytes a value are not compared with the other ways, unless the
/// smallest chunk is wanted.
const GOOD_DECIMAL: usize = 4;
/// One of so many bytes is given for fields of one width, which decode much faster than XOR, unless
/// the smallest chunk is wanted.
const FAST_BYTES: usize = 32;

/// Appends the body of the cheapest encoding and says how it is encoded. `values` is not empty.
pub(super) fn encode(values: &[f64], effort: Effort, out: &mut Vec<u8>) -> Tag {
    // Equality here is that of bits, so that NaN equals itself and 0.0 differs from -0.0.
    let patterns: &[u64] = bytemuck::must_cast_slice(values);
    let Some((first, rest)) = patterns.split_first() else { return Tag::plain(Codec::Xor) };
    if rest.iter().all(|pattern| pattern == first) {
        out.extend_from_slice(&first.to_le_bytes());
        return Tag::plain(Codec::FloatConstant);
    }
    let decimals = Decimals::new(values);
    let decimal_plan = decimals.as_ref().map(|decimals| {
        let plan = ints::Plan::new(&decimals.integers, effort);
        let exceptions = match effort {
            Effort::Fast => decimals.exceptions_len_about(),
            Effort::Small => decimals.exceptions_len(),
        };
        let cost = plan.cost.saturating_add(exceptions).saturating_add(2);
        (decimals, plan, cost)
    });
    if let Some((decimals, plan, cost)) = &decimal_plan
        && effort == Effort::Fast
        && *cost <= values.len().saturating_mul(GOOD_DECIMAL)
    {
        decimals.put(plan, out);
        return Tag::plain(Codec::Decimals);
    }
    let pattern_plan = ints::Plan::new(bytemuck::must_cast_slice(patterns), effort);
    let pattern_cost = pattern_plan.cost.saturating_add(1);
    let xor_cost = xor::len_of(patterns);
    let fast_max = match effort {
        Effort::Fast => xor_cost.saturating_add(xor_cost / FAST_BYTES),
        Effort::Small => xor_cost,
    };
    if let Some((decimals, plan, cost)) = &decimal_plan
        && *cost <= pattern_cost
        && *cost <= fast_max
    {
        decimals.put(plan, out);
        return Tag::plain(Codec::Decimals);
    }
    if pattern_cost <= fast_max {
        pattern_plan.put_with_tag(out);
        return Tag::plain(Codec::Patterns);
    }
    xor::put(patterns, out);
    Tag::plain(Codec::Xor)
}

/// Values as integers divided by a power of ten.
struct Decimals {
    power: u8,
    integers: Vec<i64>,
    /// Runs of equal values that are no such decimals: place, length, bits. In their places are
    /// the integers before them.
    exceptions: Vec<(usize, usize, u64)>,
}

impl Decimals {
    /// `None` when too many values are no decimals of a few places.
    fn new(values: &[f64]) -> Option<Self> {
        let power = cheapest_power(values)?;
        let scale = POWERS_OF_TEN.get(power).copied()?;
        let runs_max = (values.len() / EXCEPTION_VALUES_MIN).saturating_add(1);
        let mut integers = Vec::with_capacity(values.len());
        let mut exceptions: Vec<(usize, usize, u64)> = Vec::new();
        let mut last = values.iter().find_map(|value| as_decimal(*value, scale))?;
        for (place, value) in values.iter().enumerate() {
            if let Some(integer) = as_decimal(*value, scale) {
                last = integer;
            } else {
                let bits = value.to_bits();
                let is_full = exceptions.len() >= runs_max;
                match exceptions.last_mut() {
                    Some((start, len, of_run))
                        if *of_run == bits && start.saturating_add(*len) == place =>
                    {
                        *len = len.saturating_add(1);
                    }
                    _ if is_full => return None,
                    _ => exceptions.push((place, 1, bits)),
                }
            }
            integers.push(last);
        }
        Some(Self { power: power as u8, integers, exceptions })
    }

    /// How many bytes the exceptions take.
    fn exceptions_len(&self) -> usize {
        if self.exceptions.is_empty() {
            return 0;
        }
        let mut len = len_u64(self.exceptions.len() as u64);
        let mut end = 0_usize;
        for (place, run, _) in &self.exceptions {
            let gap = len_u64(place.saturating_sub(end) as u64);
            len = len.saturating_add(gap).saturating_add(len_u64(*run as u64)).saturating_add(8);
            end = place.saturating_add(*run);
        }
        len
    }

    /// About how many bytes the exceptions take.
    fn exceptions_len_about(&self) -> usize {
        self.exceptions.len().saturating_mul(EXCEPTION_COST)
    }

    /// Appends the body of [`Codec::Decimals`].
    fn put(&self, plan: &ints::Plan<'_>, out: &mut Vec<u8>) {
        if self.exceptions.is_empty() {
            out.push(self.power);
        } else {
            out.push(self.power | HAS_EXCEPTIONS);
            put_u64(out, self.exceptions.len() as u64);
            let mut end = 0_usize;
            for (place, len, bits) in &self.exceptions {
                put_u64(out, place.saturating_sub(end) as u64);
                put_u64(out, *len as u64);
                out.extend_from_slice(&bits.to_le_bytes());
                end = place.saturating_add(*len);
            }
        }
        plan.put_with_tag(out);
    }
}

/// The power of ten with which decimals and exceptions take the fewest bytes, judged by a sample.
fn cheapest_power(values: &[f64]) -> Option<usize> {
    let mut of_power = [0_usize; POWERS_OF_TEN.len()];
    let step = values.len().div_ceil(SAMPLED_VALUES).max(1);
    let mut sampled = 0_usize;
    for value in values.iter().step_by(step) {
        sampled = sampled.saturating_add(1);
        let fits = |scale: &f64| as_decimal(*value, *scale).is_some();
        let power = POWERS_OF_TEN.iter().position(fits);
        if let Some(count) = power.and_then(|power| of_power.get_mut(power)) {
            *count = count.saturating_add(1);
        }
    }
    let mut decimals = 0_usize;
    let costs =
        of_power.iter().enumerate().filter(|(_, count)| **count > 0).map(|(power, count)| {
            decimals = decimals.saturating_add(*count);
            let others = sampled.saturating_sub(decimals).saturating_mul(EXCEPTION_COST * 8);
            let places = sampled.saturating_mul(power).saturating_mul(PLACE_COST_BITS);
            (others.saturating_add(places), power)
        });
    costs.min().map(|(_, power)| power)
}

/// The integer that gives the value, bit for bit, when it is divided by the scale.
#[inline]
fn as_decimal(value: f64, scale: f64) -> Option<i64> {
    let scaled = value * scale;
    if scaled.is_nan() || scaled.abs() > EXACT_INTEGER_MAX {
        return None;
    }
    // Towards the nearest; the conversion cuts off.
    let integer = (scaled + 0.5_f64.copysign(scaled)) as i64;
    (integer as f64 / scale).to_bits().eq(&value.to_bits()).then_some(integer)
}

/// Decodes the values of `rows`, which lie below `count`, into as many slots.
pub(super) fn decode(
    tag: Tag,
    mut body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    into: &mut [f64],
) -> Decoded<()> {
    match tag.codec {
        Codec::FloatConstant => {
            into.fill(f64::from_bits(body.fixed_u64()?));
            body.finish()
        }
        Codec::Decimals => decode_decimals(body, count, rows, into),
        Codec::Patterns => decode_inner(body, count, rows, bytemuck::must_cast_slice_mut(into)),
        Codec::Xor => {
            let is_all = rows.end == count;
            xor::decode(body.rest(), rows.start, bytemuck::must_cast_slice_mut(into), is_all)
        }
        _ => Err(Malformed::Bytes("floats are encoded as integers")),
    }
}

fn decode_decimals(
    mut body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    into: &mut [f64],
) -> Decoded<()> {
    let power = body.u8()?;
    let scale = POWERS_OF_TEN
        .get(usize::from(power & !HAS_EXCEPTIONS))
        .ok_or(Malformed::Bytes("a decimal has too many places"))?;
    let runs = if power & HAS_EXCEPTIONS == 0 { 0 } else { body.len_up_to(count)? };
    let mut exceptions = body;
    for _ in 0..runs {
        body.len_up_to(count)?;
        body.len_up_to(count)?;
        body.fixed_u64()?;
    }
    decode_inner(body, count, rows.clone(), bytemuck::must_cast_slice_mut(into))?;
    for slot in into.iter_mut() {
        *slot = slot.to_bits().cast_signed() as f64 / scale;
    }
    let mut end = 0_usize;
    for _ in 0..runs {
        let start = end.saturating_add(exceptions.len_up_to(count)?);
        end = start.saturating_add(exceptions.len_up_to(count)?);
        let value = f64::from_bits(exceptions.fixed_u64()?);
        if end > count {
            return Err(Malformed::Bytes("an exception has no value"));
        }
        let from = start.max(rows.start).saturating_sub(rows.start);
        let to = end.min(rows.end).saturating_sub(rows.start);
        into.get_mut(from..to).unwrap_or_default().fill(value);
    }
    Ok(())
}

/// Decodes tag and body of a chunk of integers.
fn decode_inner(
    mut body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    into: &mut [i64],
) -> Decoded<()> {
    let tag = super::inner_tag(body.u8()?)?;
    ints::decode(tag, body, count, rows, into)
}
