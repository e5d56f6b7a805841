//! Functions of a stretch of samples.

use heapster_core::Timestamp;

use super::super::plan::OverFunction;
use super::rate::instant;
use super::sum::{Average, Kahan};
use super::{math, rate};

/// A value of a column: an exact integer or a float.
pub(in super::super) trait Number: Copy + PartialOrd {
    fn float(self) -> f64;
    /// The difference, exact before it is rounded once.
    fn minus(self, other: Self) -> f64;
    fn is_nan(self) -> bool;
    fn sum(values: &[Self]) -> f64;
    fn mean(values: &[Self]) -> f64;
    /// `last - first + corrections`, where the corrections are the values before each drop.
    fn increase(first: Self, last: Self, before_drops: impl Iterator<Item = Self>) -> f64;
    fn least(values: &[Self]) -> Self;
    fn greatest(values: &[Self]) -> Self;
}

impl Number for i64 {
    fn float(self) -> f64 {
        self as f64
    }

    #[inline]
    fn minus(self, other: Self) -> f64 {
        match self.checked_sub(other) {
            Some(difference) => difference as f64,
            None => (i128::from(self) - i128::from(other)) as f64,
        }
    }

    fn is_nan(self) -> bool {
        false
    }

    fn sum(values: &[Self]) -> f64 {
        // A run has at most 2^32 samples, so the sum stays within 128 bits.
        values.iter().map(|value| i128::from(*value)).sum::<i128>() as f64
    }

    fn mean(values: &[Self]) -> f64 {
        Self::sum(values) / values.len() as f64
    }

    fn increase(first: Self, last: Self, before_drops: impl Iterator<Item = Self>) -> f64 {
        let corrections: i128 = before_drops.map(i128::from).sum();
        (i128::from(last) - i128::from(first) + corrections) as f64
    }

    fn least(values: &[Self]) -> Self {
        best(values, Self::min).unwrap_or(0)
    }

    fn greatest(values: &[Self]) -> Self {
        best(values, Self::max).unwrap_or(0)
    }
}

/// The best of integers. Four at a time, since each comparison waits for the one before.
fn best(values: &[i64], pick: impl Fn(i64, i64) -> i64) -> Option<i64> {
    let (fours, rest) = values.as_chunks::<4>();
    let of_fours = fours
        .iter()
        .copied()
        .reduce(|own, more| [0, 1, 2, 3].map(|lane| pick(own[lane], more[lane])));
    of_fours.into_iter().flatten().chain(rest.iter().copied()).reduce(pick)
}

impl Number for f64 {
    fn float(self) -> f64 {
        self
    }

    fn minus(self, other: Self) -> f64 {
        self - other
    }

    fn is_nan(self) -> bool {
        self.is_nan()
    }

    fn sum(values: &[Self]) -> f64 {
        let mut sum = Kahan::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.value()
    }

    fn mean(values: &[Self]) -> f64 {
        let mut mean = Average::default();
        values.iter().for_each(|value| mean.add(*value));
        mean.value()
    }

    fn increase(first: Self, last: Self, before_drops: impl Iterator<Item = Self>) -> f64 {
        before_drops.fold(last - first, |increase, before| increase + before)
    }

    fn least(values: &[Self]) -> Self {
        // Any number replaces NaN.
        values.iter().copied().fold(f64::NAN, f64::min)
    }

    fn greatest(values: &[Self]) -> Self {
        values.iter().copied().fold(f64::NAN, f64::max)
    }
}

/// The samples of one series in a window; there is at least one.
pub(in super::super) struct Stretch<'a, T> {
    pub times: &'a [Timestamp],
    pub values: &'a [T],
    /// How often a value is less than the one before it. Only known to functions that need it.
    pub resets: usize,
    /// The moment of evaluation, which `offset` and `@` set apart from the window's end.
    pub now_ms: i64,
    /// The function's own number.
    pub param: f64,
}

impl<T: Number> Stretch<'_, T> {
    pub fn first(&self) -> T {
        self.values[0]
    }

    pub fn last(&self) -> T {
        self.values[self.values.len() - 1]
    }

    fn floats(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|value| value.float())
    }
}

/// What a function gives for a window; `None` where it gives nothing.
pub(in super::super) fn over<T: Number>(
    function: OverFunction,
    stretch: &Stretch<'_, T>,
) -> Option<f64> {
    let values = stretch.values;
    Some(match function {
        // Follow from the ends of the stretch and their reach.
        OverFunction::Rate | OverFunction::Increase | OverFunction::Delta => return None,
        OverFunction::InstantRate => instant(stretch, true)?,
        OverFunction::InstantDelta => instant(stretch, false)?,
        OverFunction::Derivative => rate::regression(stretch, stretch.times[0].as_millis())?.0,
        OverFunction::PredictLinear => {
            let (slope, intercept) = rate::regression(stretch, stretch.now_ms)?;
            slope * stretch.param + intercept
        }
        OverFunction::Changes => {
            let differs =
                |pair: &[T]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
            values.windows(2).filter(|pair| differs(pair)).count() as f64
        }
        OverFunction::Resets => stretch.resets as f64,
        OverFunction::Avg => T::mean(values),
        OverFunction::Min => T::least(values).float(),
        OverFunction::Max => T::greatest(values).float(),
        OverFunction::Sum => T::sum(values),
        OverFunction::Count => values.len() as f64,
        OverFunction::First => stretch.first().float(),
        OverFunction::Last => stretch.last().float(),
        OverFunction::Present => 1.0,
        OverFunction::Stddev => variance(stretch).sqrt(),
        OverFunction::Stdvar => variance(stretch),
        OverFunction::Quantile => {
            let mut sorted: Vec<f64> = stretch.floats().collect();
            math::quantile(stretch.param, &mut sorted)
        }
    })
}

/// The population's variance, from mean to mean with what is lost of both sums kept.
fn variance<T: Number>(stretch: &Stretch<'_, T>) -> f64 {
    let mut count = 0.0;
    let (mut mean, mut squares) = (Kahan::default(), Kahan::default());
    for value in stretch.floats() {
        count += 1.0;
        let delta = value - mean.value();
        mean.add(delta / count);
        squares.add(delta * (value - mean.value()));
    }
    squares.value() / count
}
