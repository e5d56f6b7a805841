//! Summaries of chunks: computed, stored and read back.

use heapster_core::Value;
use heapster_core::storage::{Sum, Summary, Values};

use crate::codec::bits::bits_of;
use crate::codec::{ByteReader, Decoded, Malformed, put_i64, put_i128, put_u64};

/// The summary of values of one kind; `None` of mixed values or none at all.
pub(crate) fn summarize(values: &Values) -> Option<Summary> {
    match values {
        Values::Ints(values) => of_runs(values.iter().map(|value| (*value, 1))),
        Values::Floats(values) => of_floats(values.iter().copied()),
        Values::Mixed(_) => None,
    }
}

/// Whether two summaries are the same to the bit; a NaN sum equals itself.
pub(crate) fn is_same(a: &Summary, b: &Summary) -> bool {
    let sums = match (a.sum, b.sum) {
        (Sum::Int(a), Sum::Int(b)) => a == b,
        (Sum::Float(a), Sum::Float(b)) => a.to_bits() == b.to_bits(),
        _ => false,
    };
    sums && Summary { sum: Sum::Int(0), ..*a } == Summary { sum: Sum::Int(0), ..*b }
}

/// The summary of integers given as values and how often each is repeated.
pub(super) fn of_runs(runs: impl IntoIterator<Item = (i64, usize)>) -> Option<Summary> {
    let mut runs = runs.into_iter();
    let (first, len) = runs.next()?;
    let mut count = len as u64;
    let mut sum = i128::from(first).wrapping_mul(len as i128);
    let (mut last, mut min, mut max, mut resets) = (first, first, first, 0_u64);
    for (value, len) in runs {
        count = count.wrapping_add(len as u64);
        sum = sum.wrapping_add(i128::from(value).wrapping_mul(len as i128));
        resets = resets.wrapping_add(u64::from(value < last));
        (min, max, last) = (min.min(value), max.max(value), value);
    }
    Some(Summary {
        count,
        first: Value::Int(first),
        last: Value::Int(last),
        min: Value::Int(min),
        max: Value::Int(max),
        sum: Sum::Int(sum),
        resets,
    })
}

/// The summary of floats in the order of time.
pub(super) fn of_floats(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
    let mut values = values.into_iter();
    let first = values.next()?;
    let (mut count, mut resets) = (1_u64, 0_u64);
    let (mut last, mut min, mut max, mut sum) = (first, first, first, first);
    for value in values {
        count = count.wrapping_add(1);
        sum += value;
        resets = resets.wrapping_add(u64::from(value < last));
        // A NaN is kept only as long as nothing else has come.
        if value < min || min.is_nan() && !value.is_nan() {
            min = value;
        }
        if value > max || max.is_nan() && !value.is_nan() {
            max = value;
        }
        last = value;
    }
    Some(Summary {
        count,
        first: Value::Float(first),
        last: Value::Float(last),
        min: Value::Float(min),
        max: Value::Float(max),
        sum: Sum::Float(sum),
        resets,
    })
}

/// The summary of a float that is repeated; `None` when its sum can only be found by adding up.
pub(super) fn of_constant(value: f64, count: usize) -> Option<Summary> {
    let zeros = (value.to_bits() | 1 << f64::MANTISSA_DIGITS.wrapping_sub(1)).trailing_zeros();
    let sum = match value.is_nan() {
        true if count == 1 => value,
        true => value + value,
        // With so few digits no sum on the way there is rounded.
        false if zeros >= bits_of(count as u64) => value * count as f64,
        false => return None,
    };
    let value = Value::Float(value);
    Some(Summary {
        count: count as u64,
        first: value,
        last: value,
        min: value,
        max: value,
        sum: Sum::Float(sum),
        resets: 0,
    })
}

const INTS: u8 = 1;
const FLOATS: u8 = 2;

/// Appends a summary, the count left out.
pub(super) fn put(summary: &Summary, out: &mut Vec<u8>) {
    match (summary.first, summary.last, summary.min, summary.max, summary.sum) {
        (Value::Int(first), Value::Int(last), Value::Int(min), Value::Int(max), Sum::Int(sum)) => {
            out.push(INTS);
            put_i64(out, first);
            put_i64(out, last.wrapping_sub(first));
            put_u64(out, first.abs_diff(min));
            put_u64(out, max.abs_diff(first));
            put_i128(out, sum.wrapping_sub(all_like(first, summary.count)));
        }
        (first, last, min, max, sum) => {
            let sum = match sum {
                Sum::Int(sum) => sum as f64,
                Sum::Float(sum) => sum,
            };
            out.push(FLOATS);
            for value in [first.as_f64(), last.as_f64(), min.as_f64(), max.as_f64(), sum] {
                // Short fractions leave the low bits zero; reversed they are short varints.
                put_u64(out, value.to_bits().reverse_bits());
            }
        }
    }
    put_u64(out, summary.resets);
}

/// Reads what [`put`] appended.
pub(super) fn get(body: &mut ByteReader<'_>, count: usize) -> Decoded<Summary> {
    let count = count as u64;
    match body.u8()? {
        INTS => {
            let first = body.i64()?;
            let last = first.wrapping_add(body.i64()?);
            let min = first.wrapping_sub(body.u64()?.cast_signed());
            let max = first.wrapping_add(body.u64()?.cast_signed());
            let sum = body.i128()?.wrapping_add(all_like(first, count));
            let resets = body.u64()?;
            Ok(Summary {
                count,
                first: Value::Int(first),
                last: Value::Int(last),
                min: Value::Int(min),
                max: Value::Int(max),
                sum: Sum::Int(sum),
                resets,
            })
        }
        FLOATS => {
            let mut float = || body.u64().map(|bits| f64::from_bits(bits.reverse_bits()));
            let (first, last, min, max, sum) = (float()?, float()?, float()?, float()?, float()?);
            Ok(Summary {
                count,
                first: Value::Float(first),
                last: Value::Float(last),
                min: Value::Float(min),
                max: Value::Float(max),
                sum: Sum::Float(sum),
                resets: body.u64()?,
            })
        }
        0 => Err(Malformed::Bytes("a summary has the reserved kind 0")),
        unknown => Err(Malformed::Unknown(unknown)),
    }
}

/// The sum there would be if every value were the first one.
fn all_like(first: i64, count: u64) -> i128 {
    i128::from(first).wrapping_mul(i128::from(count))
}
