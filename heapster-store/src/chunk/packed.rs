//! Packed integers: units of values as offsets, differences or differences of differences.
//!
//! Every unit has fields of its own width and knows what it begins with, so that it is decoded
//! without those before it. All differences wrap around, so every `i64` survives next to every
//! other one.

use std::ops::Range;

use crate::chunk::tag::{Codec, Tag};
use crate::codec::bits::{BitReader, BitWriter, bits_of};
use crate::codec::fields::{WIDTH_MAX, len_of, unpack};
use crate::codec::{ByteReader, Decoded, Malformed, put_i64, put_u64, touch, unzigzag, zigzag};

/// Values of a unit; the last one of a chunk may have fewer.
const UNIT: usize = 128;
/// Bits of an exception's place in its unit.
const PLACE_BITS: u32 = 7;
/// Set in the byte of the width when there are exceptions.
const HAS_EXCEPTIONS: u8 = 0x80;
/// One of so many values may be an exception; more never pay.
const EXCEPTION_VALUES_MIN: usize = 4;
/// Units in the middle of a longer chunk that the codec is chosen by.
const SAMPLED_UNITS: usize = 2;
/// When a codec's numbers take more than a bit for so many values more than another's, it is out.
const SPREAD_VALUES: usize = 1;
/// From so many rows on that are passed over it pays to ask for all units at once.
const TOUCHED_ROWS_MIN: usize = 2 * UNIT;
const CODECS: [Codec; 3] = [Codec::Offsets, Codec::Deltas, Codec::Curves];

/// How many values at the beginning of a unit are not packed.
fn order(codec: Codec) -> usize {
    match codec {
        Codec::Deltas => 1,
        Codec::Curves => 2,
        _ => 0,
    }
}

/// How integers would be packed, and what that costs.
pub(super) struct Plan {
    codec: Codec,
    first: i64,
    divisor: Divisor,
    /// The values less the first one, divided.
    multiples: Vec<i64>,
    units: Vec<UnitPlan>,
    /// How many bytes it takes.
    pub cost: usize,
}

impl Plan {
    /// `values` has at least two values that differ.
    pub(super) fn new(values: &[i64]) -> Self {
        let first = values.first().copied().unwrap_or(0);
        let divisor = Divisor::of(values, first);
        let multiples: Vec<i64> =
            values.iter().map(|value| divisor.divide(value.wrapping_sub(first))).collect();
        let sample = sample_of(&multiples);
        let mut best: Option<(Codec, Vec<UnitPlan>, usize)> = None;
        let spreads = CODECS.map(|codec| (codec, spread(codec, sample)));
        let narrow = spreads.iter().map(|(_, spread)| *spread).min().unwrap_or(0);
        let narrow = narrow.saturating_add(sample.len() / SPREAD_VALUES);
        for (codec, _) in spreads.into_iter().filter(|(_, spread)| *spread <= narrow) {
            let (units, cost) = plan_units(codec, sample);
            if best.as_ref().is_none_or(|(_, _, least)| cost < *least) {
                best = Some((codec, units, cost));
            }
        }
        let (codec, mut units, mut cost) = best.unwrap_or((Codec::Offsets, Vec::new(), 0));
        if sample.len() < multiples.len() {
            (units, cost) = plan_units(codec, &multiples);
        }
        let scale = if divisor.scale > 1 { len_u64(divisor.scale) } else { 0 };
        let cost = cost.saturating_add(len_i64(first)).saturating_add(scale);
        Self { codec, first, divisor, multiples, units, cost }
    }

    pub(super) fn tag(&self) -> Tag {
        Tag { codec: self.codec, scaled: self.divisor.scale > 1, summary: false }
    }

    /// The values less the first one, divided by their common divisor.
    pub(super) fn multiples(&self) -> &[i64] {
        &self.multiples
    }

    /// Appends first value and scale.
    pub(super) fn put_head(&self, out: &mut Vec<u8>) {
        put_i64(out, self.first);
        if self.divisor.scale > 1 {
            put_u64(out, self.divisor.scale);
        }
    }

    /// Appends the body.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.put_head(out);
        let mut state = State::default();
        let mut buffer = [0; UNIT];
        for (multiples, unit) in self.multiples.chunks(UNIT).zip(&self.units) {
            state.put(self.codec, multiples, unit.base, out);
            unit.put(residuals(self.codec, multiples, &mut buffer), out);
        }
    }
}

/// The part of a chunk that stands for all of it when the codec is chosen.
fn sample_of(multiples: &[i64]) -> &[i64] {
    let len = SAMPLED_UNITS.saturating_mul(UNIT);
    let start = multiples.len().saturating_sub(len) / 2;
    multiples.get(start..start.saturating_add(len)).unwrap_or(multiples)
}

fn plan_units(codec: Codec, multiples: &[i64]) -> (Vec<UnitPlan>, usize) {
    let mut buffer = [0; UNIT];
    let mut units = Vec::with_capacity(multiples.len().div_ceil(UNIT));
    let (mut state, mut heads) = (State::default(), Vec::new());
    let mut cost = 0_usize;
    for unit in multiples.chunks(UNIT) {
        let numbers = residuals(codec, unit, &mut buffer);
        let plan = UnitPlan::new(numbers);
        state.put(codec, unit, plan.base, &mut heads);
        cost = cost.saturating_add(plan.len(numbers.len()));
        units.push(plan);
    }
    (units, cost.saturating_add(heads.len()))
}

/// About how many bits the packed numbers take, without fields and exceptions.
fn spread(codec: Codec, multiples: &[i64]) -> usize {
    let mut buffer = [0; UNIT];
    let bits = multiples.chunks(UNIT).map(|unit| {
        let numbers = residuals(codec, unit, &mut buffer);
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        let mut middle =
            [at(numbers.len() / 4), at(numbers.len() / 2), at(numbers.len().saturating_mul(3) / 4)];
        middle.sort_unstable();
        let [_, middle, _] = middle;
        numbers.iter().map(|number| bits_of(number.abs_diff(middle)) as usize).sum::<usize>()
    });
    bits.sum()
}

/// What of a unit is packed.
fn residuals<'a>(codec: Codec, unit: &[i64], buffer: &'a mut [i64; UNIT]) -> &'a mut [i64] {
    let later = unit.iter().skip(1);
    let last = unit.iter().skip(2);
    let mut len = 0_usize;
    match codec {
        Codec::Deltas => {
            for ((slot, b), a) in buffer.iter_mut().zip(later).zip(unit) {
                *slot = b.wrapping_sub(*a);
                len = len.wrapping_add(1);
            }
        }
        Codec::Curves => {
            for (((slot, c), b), a) in buffer.iter_mut().zip(last).zip(later).zip(unit) {
                *slot = c.wrapping_sub(*b).wrapping_sub(b.wrapping_sub(*a));
                len = len.wrapping_add(1);
            }
        }
        _ => {
            for (slot, value) in buffer.iter_mut().zip(unit) {
                *slot = *value;
                len = len.wrapping_add(1);
            }
        }
    }
    buffer.get_mut(..len).unwrap_or_default()
}

/// The greatest common divisor of differences, and how to divide by it without dividing.
struct Divisor {
    scale: u64,
    twos: u32,
    /// The inverse of the odd part, modulo 2^64.
    inverse: u64,
}

impl Divisor {
    fn of(values: &[i64], first: i64) -> Self {
        let differences = || values.iter().map(|value| value.wrapping_sub(first));
        let bits = differences().fold(0, |bits, difference| bits | difference);
        // 2^63 is the one divisor that is no `i64`; half of it divides as well.
        let twos = bits.trailing_zeros().min(62);
        let (mut odd, mut inverse) = (0_u64, 0_u64);
        for difference in differences() {
            let multiple = difference.unsigned_abs().wrapping_shr(twos);
            // A multiple of an odd number, times its inverse, is what it is a multiple by.
            let is_multiple = multiple.wrapping_mul(inverse).checked_mul(odd) == Some(multiple);
            if multiple == 0 || odd != 0 && is_multiple {
                continue;
            }
            odd = gcd_of_odd(odd, multiple);
            inverse = inverse_of_odd(odd);
            if odd == 1 {
                break;
            }
        }
        Self { scale: odd.max(1).wrapping_shl(twos), twos, inverse: inverse.max(1) }
    }

    /// The quotient of a multiple.
    #[inline]
    fn divide(&self, multiple: i64) -> i64 {
        multiple.wrapping_shr(self.twos).wrapping_mul(self.inverse.cast_signed())
    }
}

/// The greatest odd number that divides both; `a` is odd or zero, `b` is not zero.
fn gcd_of_odd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        b = b.wrapping_shr(b.trailing_zeros());
        if a == 0 {
            return b;
        }
        (a, b) = (a.min(b), a.abs_diff(b));
    }
    a
}

/// By Newton's method; every step doubles the bits that are right, and three are from the start.
fn inverse_of_odd(odd: u64) -> u64 {
    (0..5)
        .fold(odd, |inverse, _| inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse))))
}

/// How the numbers of a unit are packed.
struct UnitPlan {
    base: i64,
    width: u32,
    exceptions: usize,
    /// Bits of an exception beyond its field.
    high_width: u32,
}

impl UnitPlan {
    /// The cheapest way for these numbers, which are left in another order.
    fn new(numbers: &mut [i64]) -> Self {
        numbers.sort_unstable();
        let sorted: &[i64] = numbers;
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0);
        let len = sorted.len();
        let (least, greatest) = (at(0), at(len.saturating_sub(1)));
        let mut best = Self { base: least, width: 0, exceptions: 0, high_width: 0 };
        let mut best_cost = usize::MAX;
        let mut narrowest = u32::MAX;
        // Numbers are left outside by their distance from the middle one, the farthest first.
        let median = at(len / 2);
        let (mut low, mut high) = (0_usize, len.saturating_sub(1));
        for exceptions in 0..=len / EXCEPTION_VALUES_MIN {
            let (base, top) = (at(low), at(high));
            let width = bits_of(top.abs_diff(base));
            if width < narrowest {
                narrowest = width;
                let high = |number: i64| zigzag(high_of(number.wrapping_sub(base), width));
                let high_width =
                    if exceptions == 0 { 0 } else { bits_of(high(least).max(high(greatest))) };
                let plan = Self { base, width, exceptions, high_width };
                let cost = plan.len(len);
                if cost < best_cost {
                    (best, best_cost) = (plan, cost);
                }
            }
            if width == 0 {
                break;
            }
            if median.abs_diff(base) > top.abs_diff(median) {
                low = low.wrapping_add(1);
            } else {
                high = high.wrapping_sub(1);
            }
        }
        best.count_exceptions(numbers);
        best
    }

    /// A field may hold more than the window it was made for, and far differences wrap around.
    fn count_exceptions(&mut self, numbers: &[i64]) {
        (self.exceptions, self.high_width) = (0, 0);
        for number in numbers {
            let high = high_of(number.wrapping_sub(self.base), self.width);
            if high != 0 {
                self.exceptions = self.exceptions.wrapping_add(1);
                self.high_width = self.high_width.max(bits_of(zigzag(high)));
            }
        }
    }

    /// Bytes of the unit, base left out.
    fn len(&self, count: usize) -> usize {
        let exceptions = match self.exceptions {
            0 => 0,
            some => 2_usize.saturating_add(len_of(some, PLACE_BITS.wrapping_add(self.high_width))),
        };
        1_usize.saturating_add(exceptions).saturating_add(len_of(count, self.width))
    }

    /// Appends width, exceptions and fields.
    fn put(&self, numbers: &[i64], out: &mut Vec<u8>) {
        let offsets = || numbers.iter().map(|number| number.wrapping_sub(self.base));
        if self.exceptions == 0 {
            out.push(self.width as u8);
        } else {
            out.extend_from_slice(&[
                self.width as u8 | HAS_EXCEPTIONS,
                self.exceptions.wrapping_sub(1) as u8,
                self.high_width as u8,
            ]);
            let mut bits = BitWriter::new(out);
            for (place, offset) in (0..).zip(offsets()) {
                let high = high_of(offset, self.width);
                if high != 0 {
                    bits.put(place, PLACE_BITS);
                    bits.put(zigzag(high), self.high_width);
                }
            }
            bits.finish();
        }
        let mut bits = BitWriter::new(out);
        offsets().for_each(|offset| bits.put(offset.cast_unsigned(), self.width));
        bits.finish();
    }
}

/// What of an offset does not fit into a field.
fn high_of(offset: i64, width: u32) -> i64 {
    if width < 64 { offset.wrapping_shr(width) } else { 0 }
}

/// Bytes of a variable-length integer.
pub(super) fn len_u64(value: u64) -> usize {
    (bits_of(value).max(1) as usize).div_ceil(7)
}

/// Bytes of a signed variable-length integer.
pub(super) fn len_i64(value: i64) -> usize {
    len_u64(zigzag(value))
}

/// What units begin with; each is stored as the difference from what the one before leads to
/// expect.
#[derive(Default)]
struct State {
    is_later: bool,
    /// First multiple.
    start: i64,
    /// From the start of the unit before to this one.
    step: i64,
    /// From the first multiple to the second.
    delta: i64,
    base: i64,
}

impl State {
    /// Appends what a unit begins with and its base.
    fn put(&mut self, codec: Codec, unit: &[i64], base: i64, out: &mut Vec<u8>) {
        let start = unit.first().copied().unwrap_or(0);
        if self.is_later && codec != Codec::Offsets {
            let step = start.wrapping_sub(self.start);
            put_i64(out, step.wrapping_sub(self.step));
            (self.start, self.step) = (start, step);
        }
        self.is_later = true;
        if let (Codec::Curves, Some(second)) = (codec, unit.get(1)) {
            let delta = second.wrapping_sub(start);
            put_i64(out, delta.wrapping_sub(self.delta));
            self.delta = delta;
        }
        put_i64(out, base.wrapping_sub(self.base));
        self.base = base;
    }

    /// Reads what [`State::put`] appended for a unit of `len` values.
    fn get(&mut self, codec: Codec, len: usize, body: &mut ByteReader<'_>) -> Decoded<()> {
        if self.is_later && codec != Codec::Offsets {
            self.step = self.step.wrapping_add(body.i64()?);
            self.start = self.start.wrapping_add(self.step);
        }
        self.is_later = true;
        if codec == Codec::Curves && len > 1 {
            self.delta = self.delta.wrapping_add(body.i64()?);
        }
        self.base = self.base.wrapping_add(body.i64()?);
        Ok(())
    }
}

/// Reads what [`Plan::put_head`] appended.
pub(super) fn get_head(tag: Tag, body: &mut ByteReader<'_>) -> Decoded<(i64, i64)> {
    let first = body.i64()?;
    let scale = if tag.scaled { body.u64()?.cast_signed() } else { 1 };
    Ok((first, scale))
}

/// Decodes the values of `rows`, which lie below `count`, into as many slots.
pub(super) fn decode(
    tag: Tag,
    mut body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    mut into: &mut [i64],
) -> Decoded<()> {
    let (first, scale) = get_head(tag, &mut body)?;
    if rows.start > TOUCHED_ROWS_MIN {
        touch(body.rest());
    }
    let mut state = State::default();
    let mut at = 0_usize;
    while at < rows.end {
        let len = count.saturating_sub(at).min(UNIT);
        let end = at.saturating_add(len);
        let unit = Unit::read(tag.codec, len, &mut state, &mut body)?;
        if end > rows.start {
            let from = rows.start.max(at);
            let wanted = rows.end.min(end).saturating_sub(from);
            let (slots, rest) = into.split_at_mut_checked(wanted).unwrap_or_default();
            into = rest;
            if wanted == len {
                unit.decode(tag.codec, first, scale, &state, slots)?;
            } else {
                let mut whole = [0; UNIT];
                let whole = whole.get_mut(..len).unwrap_or_default();
                unit.decode(tag.codec, first, scale, &state, whole)?;
                for (slot, value) in slots.iter_mut().zip(whole.iter().skip(from.wrapping_sub(at)))
                {
                    *slot = *value;
                }
            }
        }
        at = end;
    }
    if rows.end == count { body.finish() } else { Ok(()) }
}

/// The bytes of a unit.
struct Unit<'a> {
    width: u32,
    exceptions: usize,
    high_width: u32,
    /// The exceptions and what follows them, so that the last ones need no care of their own.
    exception_bits: &'a [u8],
    fields: &'a [u8],
}

impl<'a> Unit<'a> {
    fn read(
        codec: Codec,
        len: usize,
        state: &mut State,
        body: &mut ByteReader<'a>,
    ) -> Decoded<Self> {
        state.get(codec, len, body)?;
        let width = body.u8()?;
        let (mut exceptions, mut high_width) = (0, 0);
        if width & HAS_EXCEPTIONS != 0 {
            exceptions = usize::from(body.u8()?).wrapping_add(1);
            high_width = u32::from(body.u8()?);
        }
        let width = u32::from(width & !HAS_EXCEPTIONS);
        // A full field leaves nothing to an exception.
        let is_full = width == WIDTH_MAX && exceptions > 0;
        if width > WIDTH_MAX || exceptions > UNIT || high_width > WIDTH_MAX || is_full {
            return Err(Malformed::Bytes("a unit of packed integers is too wide"));
        }
        let exception_width = PLACE_BITS.wrapping_add(high_width);
        let exception_bits = body.rest();
        body.take(len_of(exceptions, exception_width))?;
        let fields = body.take(len_of(len.saturating_sub(order(codec)), width))?;
        Ok(Self { width, exceptions, high_width, exception_bits, fields })
    }

    /// Decodes into as many slots as the unit has values.
    fn decode(
        &self,
        codec: Codec,
        first: i64,
        scale: i64,
        state: &State,
        slots: &mut [i64],
    ) -> Decoded<()> {
        let head = order(codec).min(slots.len());
        let (_, packed) = slots.split_at_mut_checked(head).unwrap_or_default();
        // Offsets that are not scaled are the values once the first one is added.
        let is_plain = codec == Codec::Offsets && scale == 1;
        let base = if is_plain { state.base.wrapping_add(first) } else { state.base };
        unpack(self.fields, self.width, base, packed)?;
        self.patch(packed)?;
        let start = first.wrapping_add(state.start.wrapping_mul(scale));
        match codec {
            Codec::Deltas => sum(slots, start, scale),
            Codec::Curves => {
                if let Some(second) = slots.get_mut(1) {
                    *second = state.delta;
                }
                sum_twice(slots, start, scale);
            }
            _ if is_plain => {}
            _ => {
                for slot in slots {
                    *slot = first.wrapping_add(slot.wrapping_mul(scale));
                }
            }
        }
        Ok(())
    }

    fn patch(&self, packed: &mut [i64]) -> Decoded<()> {
        if self.exceptions == 0 {
            return Ok(());
        }
        let mut bits = BitReader::new(self.exception_bits);
        for _ in 0..self.exceptions {
            let place = bits.get(PLACE_BITS) as usize;
            let high = unzigzag(bits.get(self.high_width));
            let slot =
                packed.get_mut(place).ok_or(Malformed::Bytes("an exception has no value"))?;
            *slot = slot.wrapping_add(high.wrapping_shl(self.width));
        }
        Ok(())
    }
}

/// Differences become values; the first slot is the start whatever is in it.
fn sum(slots: &mut [i64], start: i64, scale: i64) {
    if scale == 1 {
        add_up(slots, start, |difference| difference);
    } else {
        add_up(slots, start, |difference| difference.wrapping_mul(scale));
    }
}

#[inline(always)]
fn add_up(slots: &mut [i64], start: i64, scaled: impl Fn(i64) -> i64) {
    let Some(first) = slots.first_mut() else { return };
    *first = 0;
    let mut value = start;
    // By fours, so that only one addition in four waits for the one before.
    let (fours, rest) = slots.as_chunks_mut::<4>();
    for four in fours {
        let [a, b, c, d] = four.map(&scaled);
        let (ab, cd) = (a.wrapping_add(b), c.wrapping_add(d));
        let parts = [a, ab, ab.wrapping_add(c), ab.wrapping_add(cd)];
        *four = parts.map(|part| value.wrapping_add(part));
        value = value.wrapping_add(ab.wrapping_add(cd));
    }
    for slot in rest {
        value = value.wrapping_add(scaled(*slot));
        *slot = value;
    }
}

/// Differences of differences become values; the second slot is the first difference.
fn sum_twice(slots: &mut [i64], start: i64, scale: i64) {
    if scale == 1 {
        add_up_twice(slots, start, |difference| difference);
    } else {
        add_up_twice(slots, start, |difference| difference.wrapping_mul(scale));
    }
}

#[inline(always)]
fn add_up_twice(slots: &mut [i64], start: i64, scaled: impl Fn(i64) -> i64) {
    let Some((first, rest)) = slots.split_first_mut() else { return };
    *first = start;
    let (mut value, mut difference) = (start, 0_i64);
    for slot in rest {
        difference = difference.wrapping_add(*slot);
        value = value.wrapping_add(scaled(difference));
        *slot = value;
    }
}
