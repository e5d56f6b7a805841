//! Quantiles and fractions of classic histograms: cumulative counts below bounds.

/// The count of observations up to a bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Bucket {
    pub bound: f64,
    pub count: f64,
}

/// Differences between counts that are only rounding, relative to them.
const SMALL_DIFFERENCE: f64 = 1e-12;

/// Sorts, merges equal bounds and makes counts rise. `None` when they are no histogram: without an
/// infinite bucket or with less than two. Tells whether counts fell by more than rounding does.
fn prepare(buckets: &mut Vec<Bucket>) -> Option<bool> {
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return None;
    }
    buckets.dedup_by(|later, first| {
        let is_same = later.bound == first.bound;
        if is_same {
            first.count += later.count;
        }
        is_same
    });
    let mut fell = false;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let difference = (bucket.count - before).abs();
        let scale = bucket.count.abs() + before.abs();
        if difference <= SMALL_DIFFERENCE * scale {
            bucket.count = before;
        } else if bucket.count < before {
            fell = true;
            bucket.count = before;
        }
        before = bucket.count;
    }
    (buckets.len() >= 2).then_some(fell)
}

/// The quantile, linear within a bucket, and whether the counts had to be repaired.
pub(in super::super) fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    let Some(repaired) = prepare(buckets) else { return (f64::NAN, false) };
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if observations == 0.0 || observations.is_nan() {
        return (f64::NAN, repaired);
    }
    let rank = q * observations;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank);
    if at == last {
        return (buckets[last - 1].bound, repaired);
    }
    if at == 0 && buckets[0].bound <= 0.0 {
        return (buckets[0].bound, repaired);
    }
    let (start, below) = match at {
        0 => (0.0, 0.0),
        _ => (buckets[at - 1].bound, buckets[at - 1].count),
    };
    let Bucket { bound, count } = buckets[at];
    (start + (bound - start) * ((rank - below) / (count - below)), repaired)
}

/// The share of observations between two values, linear within a bucket.
pub(in super::super) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if prepare(buckets).is_none() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    let observations = buckets[buckets.len() - 1].count;
    if observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets) - rank_of(lower, buckets)) / observations
}

/// How many observations are at most a value.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let last = buckets.len() - 1;
    let at = buckets.partition_point(|bucket| bucket.bound < value);
    if at > last {
        return buckets[last].count;
    }
    if value == buckets[at].bound {
        return buckets[at].count;
    }
    let (start, below) = match at {
        0 if buckets[0].bound > 0.0 => (0.0, 0.0),
        0 => (f64::NEG_INFINITY, 0.0),
        _ => (buckets[at - 1].bound, buckets[at - 1].count),
    };
    if value <= start {
        return below;
    }
    let Bucket { bound, count } = buckets[at];
    // Nothing is known of how observations lie in a bucket without an end.
    if start.is_infinite() || bound.is_infinite() {
        return below;
    }
    below + (count - below) * ((value - start) / (bound - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    #[test]
    fn quantiles_are_linear_within_a_bucket() {
        let of = |q, pairs: &[(f64, f64)]| quantile(q, &mut buckets(pairs));
        let inf = f64::INFINITY;
        let three = [(0.1, 5.0), (0.2, 7.0), (inf, 12.0)];
        assert_eq!(of(0.25, &three), (0.06, false));
        assert_eq!(of(0.5, &three).0, 0.15000000000000002);
        assert_eq!(of(0.9, &three).0, 0.2, "beyond the last bound");
        assert_eq!(of(0.1, &[(-1.0, 5.0), (inf, 5.0)]).0, -1.0);
        assert!(of(0.5, &[(0.1, 5.0)]).0.is_nan());
        assert!(of(0.5, &[(inf, 5.0)]).0.is_nan());
        assert!(of(0.5, &[(1.0, 0.0), (inf, 0.0)]).0.is_nan());
        assert_eq!(of(-1.0, &three).0, -inf);
        assert_eq!(of(1.5, &three).0, inf);
    }

    #[test]
    fn counts_that_fall_are_repaired_and_told() {
        let inf = f64::INFINITY;
        assert!(quantile(0.5, &mut buckets(&[(1.0, 5.0), (2.0, 3.0), (inf, 6.0)])).1);
        let rounding = 5.0 * (1.0 - 1e-15);
        assert!(!quantile(0.5, &mut buckets(&[(1.0, 5.0), (2.0, rounding), (inf, 6.0)])).1);
    }

    #[test]
    fn fractions_are_linear_within_a_bucket() {
        let mut all = buckets(&[(1.0, 4.0), (2.0, 8.0), (f64::INFINITY, 10.0)]);
        assert_eq!(fraction(0.0, 1.0, &mut all), 0.4);
        assert_eq!(fraction(0.5, 1.5, &mut all), 0.4);
        assert_eq!(fraction(f64::NEG_INFINITY, f64::INFINITY, &mut all), 1.0);
        assert_eq!(fraction(2.0, 1.0, &mut all), 0.0);
    }
}
