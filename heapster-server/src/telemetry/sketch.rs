//! [`Summary`]: quantiles over the last ten minutes in little memory, with sum and count.
//!
//! Observations are counted in bins whose bounds grow by 2 %, so a quantile is at most 1 % off,
//! whatever the distribution. Only bins that were hit take memory, and there are at most 1,800 of
//! them. The window is made of five age buckets; the oldest is forgotten as a whole.

use std::time::Duration;

/// The quantiles rendered, with the spelling of the label.
pub const QUANTILES: [(f64, &str); 3] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")];

const AGE_BUCKETS: usize = 5;
const AGE_BUCKET_SECONDS: u64 = 120;

const GROWTH: f64 = 1.02;
/// Values outside these bounds share the outermost bins.
const LEAST: f64 = 1e-3;
const GREATEST: f64 = 1e12;

/// A summary of observations.
#[derive(Debug, Default)]
pub struct Summary {
    sum: f64,
    count: u64,
    buckets: [AgeBucket; AGE_BUCKETS],
}

/// The observations of two minutes.
#[derive(Debug, Default)]
struct AgeBucket {
    /// Which two minutes since the clock's start, counted from 1; 0 is none.
    period: u64,
    bins: Bins,
}

/// Counts by bin, sorted by bin, with the extremes seen.
#[derive(Debug, Default)]
struct Bins {
    counts: Vec<(i16, u64)>,
    min: f64,
    max: f64,
}

impl Summary {
    /// Adds an observation made `now` (monotonic); one that is not finite is ignored.
    pub fn observe(&mut self, now: Duration, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.sum += value;
        self.count += 1;
        let period = period(now);
        let bucket = &mut self.buckets[(period % AGE_BUCKETS as u64) as usize];
        if bucket.period != period {
            *bucket = AgeBucket { period, bins: Bins::default() };
        }
        bucket.bins.add(bin(value), 1, value, value);
    }

    /// The quantiles of [`QUANTILES`] over the last eight to ten minutes, NaN without observations.
    pub fn quantiles(&self, now: Duration) -> [f64; QUANTILES.len()] {
        let newest = period(now);
        let mut merged = Bins::default();
        for bucket in &self.buckets {
            if bucket.period > 0 && bucket.period + AGE_BUCKETS as u64 > newest {
                for (bin, count) in &bucket.bins.counts {
                    merged.add(*bin, *count, bucket.bins.min, bucket.bins.max);
                }
            }
        }
        QUANTILES.map(|(quantile, _)| merged.quantile(quantile))
    }

    /// The sum of all observations ever.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The number of all observations ever.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl Bins {
    fn add(&mut self, bin: i16, count: u64, min: f64, max: f64) {
        if self.counts.is_empty() {
            (self.min, self.max) = (min, max);
        }
        (self.min, self.max) = (self.min.min(min), self.max.max(max));
        match self.counts.binary_search_by_key(&bin, |(own, _)| *own) {
            Ok(index) => self.counts[index].1 += count,
            Err(index) => self.counts.insert(index, (bin, count)),
        }
    }

    /// The value at the rank ⌈q·n⌉, as CKMS summaries define it.
    fn quantile(&self, quantile: f64) -> f64 {
        let total: u64 = self.counts.iter().map(|(_, count)| count).sum();
        let rank = (quantile * total as f64).ceil() as u64;
        let mut seen = 0;
        for (bin, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return middle(*bin).clamp(self.min, self.max);
            }
        }
        f64::NAN
    }
}

fn period(now: Duration) -> u64 {
    now.as_secs() / AGE_BUCKET_SECONDS + 1
}

/// The bin of a value; everything up to [`LEAST`], zero and negatives included, is bin 0.
fn bin(value: f64) -> i16 {
    if value <= LEAST {
        return 0;
    }
    ((value.min(GREATEST) / LEAST).ln() / GROWTH.ln()).floor() as i16 + 1
}

/// The geometric middle of a bin.
fn middle(bin: i16) -> f64 {
    if bin == 0 { 0.0 } else { LEAST * GROWTH.powf(f64::from(bin) - 0.5) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut summary = Summary::default();
        for value in 1..=10_000 {
            summary.observe(Duration::ZERO, f64::from(value));
        }
        for ((quantile, _), got) in QUANTILES.iter().zip(summary.quantiles(Duration::ZERO)) {
            let exact = quantile * 10_000.0;
            assert!((got / exact - 1.0).abs() <= 0.0101, "{quantile}: {got}");
        }
        assert_eq!((summary.count(), summary.sum()), (10_000, 50_005_000.0));
    }

    #[test]
    fn the_oldest_two_minutes_age_out_first() {
        let mut summary = Summary::default();
        summary.observe(Duration::from_secs(10), 1.0);
        summary.observe(Duration::from_secs(130), 100.0);
        assert_eq!(summary.quantiles(Duration::from_secs(599)), [1.0, 100.0, 100.0]);
        assert_eq!(summary.quantiles(Duration::from_secs(600)), [100.0, 100.0, 100.0]);
        assert!(summary.quantiles(Duration::from_secs(720))[0].is_nan());
    }

    #[test]
    fn memory_is_bounded_whatever_is_observed() {
        let mut summary = Summary::default();
        let mut value = 1e-300;
        while value < 1e300 {
            summary.observe(Duration::ZERO, value);
            summary.observe(Duration::ZERO, -value);
            value *= 1.001;
        }
        assert!(summary.buckets[1].bins.counts.len() <= 1_800);
    }
}
