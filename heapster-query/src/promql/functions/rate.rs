//! Rates, differences and slopes.

use heapster_core::Timestamp;

use super::over::{Number, Stretch};
use super::sum::Kahan;

/// How far the samples of a window, two at least, are carried on to its edges: what of an increase
/// follows from times alone.
///
/// Samples rarely lie on the edges. So the slope is taken to hold on both sides, as far as half a
/// distance between samples where they begin or end well within the window, and for a counter not
/// below zero. Prometheus 3 cuts at half a distance first.
///
/// All are milliseconds, since only proportions matter.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Reach {
    to_start: f64,
    sampled: f64,
    to_end: f64,
    /// What an increase grows by when it is carried on as far.
    factor: f64,
}

impl Reach {
    /// The reach of samples at these times, two at least, in the window `(start_ms, end_ms]`.
    pub fn of(times: &[Timestamp], start_ms: i64, end_ms: i64) -> Self {
        let first_ms = times[0].as_millis();
        let last_ms = times[times.len() - 1].as_millis();
        let mut to_start = (first_ms - start_ms) as f64;
        let mut to_end = (end_ms - last_ms) as f64;
        let sampled = (last_ms - first_ms) as f64;
        let average = sampled / (times.len() - 1) as f64;
        let threshold = average * 1.1;
        if to_start >= threshold {
            to_start = average / 2.0;
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        Self { to_start, sampled, to_end, factor: (sampled + to_start + to_end) / sampled }
    }

    /// The increase in the whole window of a counter that began with `first`.
    #[inline]
    pub fn of_counter(&self, first: f64, increase: f64) -> f64 {
        let Self { to_start, sampled, to_end, factor } = *self;
        // Not before the moment at which it would have been zero; divided only where that matters.
        if first >= 0.0 && sampled * first < to_start * increase {
            let to_start = sampled * (first / increase);
            return increase * ((sampled + to_start + to_end) / sampled);
        }
        increase * factor
    }

    /// The difference in the whole window of a gauge.
    #[inline]
    pub fn of_gauge(&self, difference: f64) -> f64 {
        difference * self.factor
    }
}

/// From the last two samples only.
pub(super) fn instant<T: Number>(stretch: &Stretch<'_, T>, is_rate: bool) -> Option<f64> {
    let [.., before, last] = stretch.values else { return None };
    let [.., before_at, last_at] = stretch.times else { return None };
    if !is_rate {
        return Some(last.minus(*before));
    }
    // A counter that fell began at zero.
    let increase = if last < before { last.float() } else { last.minus(*before) };
    Some(increase / ((last_at.as_millis() - before_at.as_millis()) as f64 / 1000.0))
}

/// Slope per second and value at a moment of the line that fits the samples best by squares.
pub(super) fn regression<T: Number>(
    stretch: &Stretch<'_, T>,
    origin_ms: i64,
) -> Option<(f64, f64)> {
    let count = stretch.values.len();
    if count < 2 {
        return None;
    }
    let first = stretch.first();
    if stretch.values.iter().all(|value| *value == first) {
        let value = first.float();
        return Some(if value.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, value) });
    }
    let (mut x_sum, mut y_sum) = (Kahan::default(), Kahan::default());
    let (mut xy_sum, mut xx_sum) = (Kahan::default(), Kahan::default());
    for (at, value) in stretch.times.iter().zip(stretch.values) {
        let (x, y) = ((at.as_millis() - origin_ms) as f64 / 1000.0, value.float());
        x_sum.add(x);
        y_sum.add(y);
        xy_sum.add(x * y);
        xx_sum.add(x * x);
    }
    let n = count as f64;
    let (x_sum, y_sum) = (x_sum.value(), y_sum.value());
    let covariance = xy_sum.value() - x_sum * y_sum / n;
    let variance = xx_sum.value() - x_sum * x_sum / n;
    let slope = covariance / variance;
    Some((slope, y_sum / n - slope * x_sum / n))
}
