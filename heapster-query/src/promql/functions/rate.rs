//! Rates, differences and slopes.

use super::over::{Number, Stretch};
use super::sum::Kahan;

/// The increase of a counter, or the difference of a gauge, carried on to the window's edges.
///
/// Samples rarely lie on the edges. So the slope is taken to hold on both sides, as far as half a
/// distance between samples where they begin or end well within the window, and for a counter not
/// below zero. Prometheus 3 cuts at half a distance first.
pub(super) fn extrapolated<T: Number>(stretch: &Stretch<'_, T>, is_counter: bool) -> Option<f64> {
    let count = stretch.values.len();
    if count < 2 {
        return None;
    }
    let (first, last) = (stretch.first(), stretch.last());
    let increase = match is_counter {
        true => T::increase(first, last, stretch.before_drops()),
        false => last.minus(first),
    };
    // In milliseconds, since only proportions matter.
    let first_ms = stretch.times[0].as_millis();
    let last_ms = stretch.times[count - 1].as_millis();
    let mut to_start = (first_ms - stretch.start_ms) as f64;
    let mut to_end = (stretch.end_ms - last_ms) as f64;
    let sampled = (last_ms - first_ms) as f64;
    let average = sampled / (count - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    // Not before the moment at which a counter would have been zero; divided only where that matters.
    if is_counter && first.float() >= 0.0 && sampled * first.float() < to_start * increase {
        to_start = sampled * (first.float() / increase);
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    Some(increase * ((sampled + to_start + to_end) / sampled))
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
