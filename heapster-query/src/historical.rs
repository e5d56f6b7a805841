//! Series and aggregates of one metric of one entity, as Heapster's APIs ask for them.
//!
//! An entity's samples may lie in several stored sets, since its labels change over time; they are
//! answered as one series. Everything streams: a raw answer holds its points, an aggregate holds one
//! accumulator per bucket, and only medians and percentiles hold samples, those of the buckets that
//! are still open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use heapster_core::labels::key;
use heapster_core::series::{is_time_column, own_names};
use heapster_core::storage::{
    Columns, Run, Samples, SelectedSet, Selector, Snapshot, Sum, Summary,
};
use heapster_core::{Labels, Matcher, Text, TimeRange, Timestamp, Value};

use crate::budget::Budget;
use crate::error::QueryError;

/// One sample of an answer.
pub type Point = (Timestamp, Value);

/// Which series is asked for: one metric of one entity.
#[derive(Clone, Debug)]
pub struct Target {
    matchers: Vec<Matcher>,
    metric: Text,
}

impl Target {
    /// The plain metric of that name, of the entity that the matchers select.
    pub fn plain(mut entity: Vec<Matcher>, metric: impl Into<Text>) -> Self {
        entity.push(plain_only());
        Self { matchers: entity, metric: metric.into() }
    }

    /// The labelled metric of that name whose own labels are exactly these.
    pub fn labeled(mut entity: Vec<Matcher>, own: &Labels, metric: impl Into<Text>) -> Self {
        for label in own {
            entity.push(Matcher::equal(label.name.clone(), label.value.clone()));
        }
        entity.push(Matcher::equal(key::LABELED, own_names(own)));
        Self { matchers: entity, metric: metric.into() }
    }

    fn select(
        &self,
        snapshot: &dyn Snapshot,
        range: TimeRange,
    ) -> Result<Vec<Arc<dyn SelectedSet>>, QueryError> {
        if is_time_column(&self.metric) || range.is_empty() {
            return Ok(Vec::new());
        }
        Ok(snapshot.select(&Selector {
            matchers: self.matchers.clone(),
            columns: Columns::Named(self.metric.clone()),
            range,
        })?)
    }
}

/// The condition that selects the sets of plain metrics.
pub fn plain_only() -> Matcher {
    Matcher::equal(key::LABELED, "")
}

/// The samples of a series in order of time, each time once.
///
/// # Ordering
/// By time. Should two stored sets of the entity have a sample at the same time, that of the set
/// whose labels sort first is given.
///
/// # Errors
/// [`QueryError::TooLarge`] when the budget does not suffice; [`QueryError::Storage`].
pub fn raw(
    snapshot: &dyn Snapshot,
    target: &Target,
    range: TimeRange,
    budget: &mut Budget,
) -> Result<Vec<Point>, QueryError> {
    let sets = target.select(snapshot, range)?;
    let mut points: Vec<Point> = Vec::new();
    let mut sorted = true;
    for set in &sets {
        let mut cursor = set.read(0);
        let mut samples = Samples::default();
        while cursor.next_run()?.is_some() {
            cursor.decode(&mut samples)?;
            budget.take_samples(samples.timestamps.len())?;
            budget.take_points(samples.timestamps.len())?;
            if let (Some(last), Some(first)) = (points.last(), samples.timestamps.first()) {
                sorted &= last.0 < *first;
            }
            points.extend(samples.iter());
        }
    }
    if !sorted {
        points.sort_by_key(|point| point.0);
        points.dedup_by_key(|point| point.0);
    }
    Ok(points)
}

/// Names of the metrics of an entity in a range, sorted; those of times are left out.
///
/// # Errors
/// [`QueryError::TooLarge`] when the budget does not suffice; [`QueryError::Storage`].
pub fn metric_names(
    snapshot: &dyn Snapshot,
    matchers: Vec<Matcher>,
    range: TimeRange,
    budget: &mut Budget,
) -> Result<Vec<Text>, QueryError> {
    budget.check_cancelled()?;
    let selector = Selector { matchers, columns: Columns::All, range };
    let mut names = snapshot.column_names(&selector)?;
    names.retain(|name| !is_time_column(name));
    take_names(names, budget)
}

/// Values of a label over the sets that satisfy the matchers, whenever they were stored; sorted,
/// none of them empty.
///
/// # Errors
/// [`QueryError::TooLarge`] when the budget does not suffice; [`QueryError::Storage`].
pub fn label_values(
    snapshot: &dyn Snapshot,
    label: &str,
    matchers: Vec<Matcher>,
    budget: &mut Budget,
) -> Result<Vec<Text>, QueryError> {
    budget.check_cancelled()?;
    let selector = Selector { matchers, columns: Columns::All, range: TimeRange::ALL };
    let mut values = snapshot.label_values(label, &selector)?;
    values.retain(|value| !value.is_empty());
    take_names(values, budget)
}

fn take_names(names: Vec<Text>, budget: &mut Budget) -> Result<Vec<Text>, QueryError> {
    budget.check_cancelled()?;
    budget.take_points(names.len())?;
    Ok(names)
}

/// An aggregate that Heapster's historical API knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregation {
    /// Arithmetic mean.
    Average,
    /// Greatest value.
    Max,
    /// Least value.
    Min,
    /// Middle value; the mean of the middle two when their number is even.
    Median,
    /// Number of samples.
    Count,
    /// Nearest-rank percentile, in percent.
    Percentile(u8),
}

impl Aggregation {
    /// The aggregate of that name on the wire, such as `max` or `95-perc`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "average" => Self::Average,
            "max" => Self::Max,
            "min" => Self::Min,
            "median" => Self::Median,
            "count" => Self::Count,
            "50-perc" => Self::Percentile(50),
            "95-perc" => Self::Percentile(95),
            "99-perc" => Self::Percentile(99),
            _ => return None,
        })
    }

    fn needs_samples(self) -> bool {
        matches!(self, Self::Median | Self::Percentile(_))
    }
}

/// Aggregates of the samples of one bucket of time; there is at least one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// First moment of the bucket: a multiple of the bucket's size since the epoch, or the start of
    /// the range when there is only one bucket.
    pub start: Timestamp,
    /// Number of samples, whether asked for or not.
    pub count: u64,
    /// What was asked for, in the order it was asked in, each once; without [`Aggregation::Count`].
    pub values: Vec<(Aggregation, Value)>,
}

impl Bucket {
    /// What it takes of [`crate::Limits::points_max`].
    pub fn points(&self) -> usize {
        1 + self.values.len()
    }

    /// The value of an aggregate, if it was asked for.
    pub fn value(&self, aggregation: Aggregation) -> Option<Value> {
        self.values.iter().find(|(own, _)| *own == aggregation).map(|(_, value)| *value)
    }
}

/// Aggregates of a series by bucket of time, in order of time; buckets without samples are left out.
///
/// Without `bucket` the whole range is one bucket. Values of an aggregate are integers when they are
/// whole in every bucket of the answer, otherwise floats in every bucket: so the original's answers
/// went through its database, and clients have learned to expect it.
///
/// # Units and shape
/// Values are in the metric's unit. Percentiles are nearest-rank: of `n` sorted samples the one at
/// `round(n · p / 100)`, counted from one.
///
/// # Errors
/// [`QueryError::TooLarge`] when the budget does not suffice; [`QueryError::Storage`].
pub fn aggregate(
    snapshot: &dyn Snapshot,
    target: &Target,
    range: TimeRange,
    bucket: Option<Duration>,
    aggregations: &[Aggregation],
    budget: &mut Budget,
) -> Result<Vec<Bucket>, QueryError> {
    let sets = target.select(snapshot, range)?;
    let grid = Grid::new(range, bucket);
    let aggregations = each_once(aggregations);
    let mut buckets = Buckets::new(&aggregations, sets.len() <= 1);
    let mut samples = Samples::default();
    for set in &sets {
        let mut cursor = set.read(0);
        while let Some(run) = cursor.next_run()? {
            if let Some((start, summary)) = grid.whole_run(&run, buckets.hold_samples) {
                budget.take_samples(1)?;
                buckets.at(start, budget)?.add_summary(&summary);
                continue;
            }
            cursor.decode(&mut samples)?;
            budget.take_samples(samples.timestamps.len())?;
            for (at, value) in samples.iter() {
                buckets.add(grid.bucket_of(at), value, budget)?;
            }
        }
    }
    buckets.finish(budget)
}

/// The aggregations in their order without repetitions, which would only multiply the work.
fn each_once(aggregations: &[Aggregation]) -> Vec<Aggregation> {
    let mut seen = BTreeSet::new();
    aggregations.iter().copied().filter(|aggregation| seen.insert(*aggregation)).collect()
}

/// Where buckets begin.
struct Grid {
    start: Timestamp,
    size_ms: Option<i64>,
}

impl Grid {
    fn new(range: TimeRange, bucket: Option<Duration>) -> Self {
        let size_ms = bucket
            .map(|size| i64::try_from(size.as_millis()).unwrap_or(i64::MAX))
            .filter(|size| *size > 0);
        Self { start: range.start, size_ms }
    }

    fn bucket_of(&self, at: Timestamp) -> Timestamp {
        match self.size_ms {
            Some(size) => {
                Timestamp::from_millis(at.as_millis().div_euclid(size).saturating_mul(size))
            }
            None => self.start,
        }
    }

    /// The bucket and the summary of a run that need not be decoded.
    fn whole_run(&self, run: &Run, hold_samples: bool) -> Option<(Timestamp, Summary)> {
        let summary = run.summary.filter(|_| !hold_samples)?;
        let start = self.bucket_of(run.first);
        (start == self.bucket_of(run.last)).then_some((start, summary))
    }
}

#[derive(Debug, Default)]
struct Accumulator {
    count: u64,
    sum: Option<Sum>,
    min: Option<Value>,
    max: Option<Value>,
    samples: Vec<Value>,
    finished: Vec<(Aggregation, Value)>,
}

impl Accumulator {
    fn add(&mut self, value: Value) {
        self.count += 1;
        self.add_sum(match value {
            Value::Int(value) => Sum::Int(value.into()),
            Value::Float(value) => Sum::Float(value),
        });
        self.add_extremes(value, value);
    }

    fn add_summary(&mut self, summary: &Summary) {
        self.count += summary.count;
        self.add_sum(summary.sum);
        self.add_extremes(summary.min, summary.max);
    }

    fn add_sum(&mut self, other: Sum) {
        self.sum = Some(match (self.sum, other) {
            (None, sum) => sum,
            (Some(Sum::Int(a)), Sum::Int(b)) => Sum::Int(a.saturating_add(b)),
            (Some(a), b) => Sum::Float(sum_as_f64(a) + sum_as_f64(b)),
        });
    }

    fn add_extremes(&mut self, least: Value, greatest: Value) {
        // NaN counts as greater than every number, but is the maximum only when there is no other.
        self.min = Some(self.min.map_or(least, |own| lesser(own, least)));
        self.max = Some(self.max.map_or(greatest, |own| {
            match (own.as_f64().is_nan(), greatest.as_f64().is_nan()) {
                (true, _) => greatest,
                (_, true) => own,
                _ if own.numeric_cmp(greatest).is_lt() => greatest,
                _ => own,
            }
        }));
    }

    /// Computes the aggregates and lets the samples go; later calls change nothing.
    fn finish(&mut self, aggregations: &[Aggregation]) {
        if !self.finished.is_empty() {
            return;
        }
        self.samples.sort_by(|a, b| a.numeric_cmp(*b));
        self.finished = aggregations
            .iter()
            .filter_map(|aggregation| Some((*aggregation, self.value(*aggregation)?)))
            .collect();
        self.samples = Vec::new();
    }

    fn value(&self, aggregation: Aggregation) -> Option<Value> {
        match aggregation {
            Aggregation::Average => {
                self.sum.map(|sum| Value::Float(sum_as_f64(sum) / self.count as f64))
            }
            Aggregation::Max => self.max,
            Aggregation::Min => self.min,
            Aggregation::Median => median(&self.samples),
            Aggregation::Count => None,
            Aggregation::Percentile(percent) => percentile(&self.samples, percent),
        }
    }
}

fn lesser(a: Value, b: Value) -> Value {
    if b.numeric_cmp(a).is_lt() { b } else { a }
}

fn sum_as_f64(sum: Sum) -> f64 {
    match sum {
        Sum::Int(sum) => sum as f64,
        Sum::Float(sum) => sum,
    }
}

fn median(sorted: &[Value]) -> Option<Value> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle.checked_sub(1)?)?;
    Some(Value::Float(match (lower, upper) {
        (Value::Int(a), Value::Int(b)) => {
            let sum = i128::from(a) + i128::from(b);
            // Whole when it can be, so that no digit is lost beyond 2^53.
            match i64::try_from(sum / 2) {
                Ok(half) if sum % 2 == 0 => return Some(Value::Int(half)),
                _ => sum as f64 / 2.0,
            }
        }
        (a, b) => a.as_f64() / 2.0 + b.as_f64() / 2.0,
    }))
}

fn percentile(sorted: &[Value], percent: u8) -> Option<Value> {
    // Rounded half up, in integers: round(n · p / 100) = floor((n · p + 50) / 100).
    let rank = (sorted.len() * usize::from(percent) + 50) / 100;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// The buckets of an answer, found while the samples stream by.
struct Buckets<'a> {
    aggregations: &'a [Aggregation],
    /// Whether samples come in order of time, so that a bucket left behind is complete.
    in_order: bool,
    hold_samples: bool,
    /// The bucket the last sample fell into.
    current: Option<(Timestamp, Accumulator)>,
    parked: BTreeMap<Timestamp, Accumulator>,
    /// Samples held in all accumulators.
    held: usize,
}

impl<'a> Buckets<'a> {
    fn new(aggregations: &'a [Aggregation], in_order: bool) -> Self {
        Self {
            aggregations,
            in_order,
            hold_samples: aggregations.iter().any(|aggregation| aggregation.needs_samples()),
            current: None,
            parked: BTreeMap::new(),
            held: 0,
        }
    }

    fn add(
        &mut self,
        start: Timestamp,
        value: Value,
        budget: &mut Budget,
    ) -> Result<(), QueryError> {
        if self.hold_samples {
            self.held += 1;
            budget.check_held(self.held)?;
        }
        let hold_samples = self.hold_samples;
        let accumulator = self.at(start, budget)?;
        accumulator.add(value);
        if hold_samples {
            accumulator.samples.push(value);
        }
        Ok(())
    }

    /// The accumulator of a bucket, made when there is none.
    fn at(
        &mut self,
        start: Timestamp,
        budget: &mut Budget,
    ) -> Result<&mut Accumulator, QueryError> {
        if self.current.as_ref().is_none_or(|(current, _)| *current != start) {
            self.park();
            let next = match self.parked.remove(&start) {
                Some(parked) => parked,
                None => {
                    budget.take_points(self.points_per_bucket())?;
                    Accumulator::default()
                }
            };
            self.current = Some((start, next));
        }
        Ok(&mut self.current.get_or_insert_with(|| (start, Accumulator::default())).1)
    }

    fn park(&mut self) {
        let Some((start, mut accumulator)) = self.current.take() else { return };
        if self.in_order {
            self.held -= accumulator.samples.len();
            accumulator.finish(self.aggregations);
        }
        self.parked.insert(start, accumulator);
    }

    /// As [`Bucket::points`] will say when the bucket is made.
    fn points_per_bucket(&self) -> usize {
        let is_value = |aggregation: &&Aggregation| **aggregation != Aggregation::Count;
        1 + self.aggregations.iter().filter(is_value).count()
    }

    fn finish(mut self, budget: &Budget) -> Result<Vec<Bucket>, QueryError> {
        self.park();
        let mut buckets = Vec::with_capacity(self.parked.len());
        while let Some((start, mut accumulator)) = self.parked.pop_first() {
            budget.check_cancelled()?;
            accumulator.finish(self.aggregations);
            let values = accumulator.finished;
            buckets.push(Bucket { start, count: accumulator.count, values });
        }
        unify(&mut buckets, budget)?;
        Ok(buckets)
    }
}

/// Makes the values of each aggregate integers in all buckets, or floats in all.
fn unify(buckets: &mut [Bucket], budget: &Budget) -> Result<(), QueryError> {
    let mut fractional = BTreeSet::new();
    for bucket in &*buckets {
        budget.check_cancelled()?;
        for (aggregation, value) in &bucket.values {
            if whole(*value).is_none() {
                fractional.insert(*aggregation);
            }
        }
    }
    for bucket in buckets {
        budget.check_cancelled()?;
        for (aggregation, value) in &mut bucket.values {
            *value = match whole(*value) {
                Some(int) if !fractional.contains(aggregation) => Value::Int(int),
                _ => Value::Float(value.as_f64()),
            };
        }
    }
    Ok(())
}

/// The integer that a value is, if it is one.
fn whole(value: Value) -> Option<i64> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Value::Int(int) => Some(int),
        Value::Float(float) => (float.fract() == 0.0 && (-TWO_TO_63..TWO_TO_63).contains(&float))
            .then_some(float as i64),
    }
}

#[cfg(test)]
mod tests {
    use heapster_core::MetricValue;
    use heapster_core::series::Row;
    use heapster_core::storage::{MemoryStorage, Storage};

    use super::*;
    use crate::budget::{Cancel, Limits};

    const EVERYTHING: [Aggregation; 8] = [
        Aggregation::Average,
        Aggregation::Max,
        Aggregation::Min,
        Aggregation::Median,
        Aggregation::Count,
        Aggregation::Percentile(50),
        Aggregation::Percentile(95),
        Aggregation::Percentile(99),
    ];

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn put(store: &MemoryStorage, second: i64, labels: &[(&str, &str)], value: Value) {
        let labels = Labels::from_iter(labels.iter().copied());
        let cells = vec![("m".into(), MetricValue::gauge(value))];
        store.append(at(second), &[Row { labels, cells }]);
    }

    fn store_of(values: &[Value]) -> MemoryStorage {
        let store = MemoryStorage::new();
        for (second, value) in values.iter().enumerate() {
            put(&store, second as i64, &[("type", "node")], *value);
        }
        store
    }

    fn target() -> Target {
        Target::plain(vec![Matcher::equal("type", "node")], "m")
    }

    fn ask(
        store: &MemoryStorage,
        range: TimeRange,
        bucket: Option<u64>,
        aggregations: &[Aggregation],
    ) -> Vec<Bucket> {
        let snapshot = store.snapshot().unwrap();
        let bucket = bucket.map(Duration::from_secs);
        let mut budget = Budget::default();
        aggregate(&*snapshot, &target(), range, bucket, aggregations, &mut budget).unwrap()
    }

    #[test]
    fn a_summary_gives_the_same_answer_as_its_samples() {
        let values: Vec<Value> = (0..100).map(|i| Value::Int((i * 37) % 23 - 5)).collect();
        let store = store_of(&values);
        let some = [Aggregation::Average, Aggregation::Max, Aggregation::Min];
        for (start, end) in [(0, 99), (3, 80), (16, 31)] {
            for bucket in [None, Some(7), Some(16), Some(64)] {
                let range = TimeRange::new(at(start), at(end));
                let fast = ask(&store, range, bucket, &some);
                let slow = ask(&store, range, bucket, &EVERYTHING);
                assert!(!fast.is_empty());
                assert_eq!(fast.len(), slow.len());
                for (a, b) in fast.iter().zip(&slow) {
                    assert_eq!((a.start, a.count), (b.start, b.count));
                    for aggregation in some {
                        assert_eq!(a.value(aggregation), b.value(aggregation));
                    }
                }
            }
        }
    }

    #[test]
    fn buckets_begin_at_multiples_of_their_size_and_a_single_one_at_the_start() {
        let store = store_of(&[1, 2, 3, 4, 5, 6, 7].map(Value::Int));
        let range = TimeRange::new(at(1), at(5));
        let starts = |bucket| -> Vec<_> {
            ask(&store, range, bucket, &EVERYTHING).iter().map(|b| (b.start, b.count)).collect()
        };
        assert_eq!(starts(Some(4)), [(at(0), 3), (at(4), 2)]);
        assert_eq!(starts(None), [(at(1), 5)]);
    }

    #[test]
    fn percentiles_are_nearest_rank_and_a_median_may_lie_between() {
        let store = store_of(&[40, 10, 30, 20, 50, 61].map(Value::Int));
        let bucket = &ask(&store, TimeRange::ALL, None, &EVERYTHING)[0];
        assert_eq!(bucket.value(Aggregation::Percentile(50)), Some(Value::Int(30)));
        assert_eq!(bucket.value(Aggregation::Percentile(95)), Some(Value::Int(61)));
        assert_eq!(bucket.value(Aggregation::Median), Some(Value::Int(35)));
        assert_eq!(bucket.value(Aggregation::Average), Some(Value::Float(211.0 / 6.0)));
    }

    #[test]
    fn an_aggregate_is_whole_in_every_bucket_or_in_none() {
        let store = store_of(&[1.0, 3.0, 2.0, 2.5].map(Value::Float));
        let buckets = ask(&store, TimeRange::ALL, Some(2), &EVERYTHING);
        let of = |aggregation| -> Vec<_> {
            buckets.iter().map(|bucket| bucket.value(aggregation).unwrap()).collect()
        };
        assert_eq!(of(Aggregation::Min), [Value::Int(1), Value::Int(2)]);
        assert_eq!(of(Aggregation::Max), [Value::Float(3.0), Value::Float(2.5)]);
    }

    #[test]
    fn a_series_goes_on_when_the_labels_of_its_entity_change() {
        let store = MemoryStorage::new();
        for second in 0..40 {
            let version = if second < 15 { "z" } else { "a" };
            let labels = [("type", "node"), ("labels", version)];
            put(&store, second, &labels, Value::Int(second));
            put(&store, second, &[("type", "node"), (key::LABELED, "x"), ("x", "1")], 0.into());
        }
        let snapshot = store.snapshot().unwrap();
        let points = raw(&*snapshot, &target(), TimeRange::ALL, &mut Budget::default()).unwrap();
        let expected: Vec<Point> = (0..40).map(|s| (at(s), Value::Int(s))).collect();
        assert_eq!(points, expected);
        let buckets = ask(&store, TimeRange::ALL, Some(10), &EVERYTHING);
        let medians: Vec<_> = buckets.iter().map(|b| b.value(Aggregation::Median)).collect();
        assert_eq!(medians, [4.5, 14.5, 24.5, 34.5].map(|m| Some(Value::Float(m))));

        let own = Labels::from_iter([("x", "1")]);
        let labeled = Target::labeled(vec![Matcher::equal("type", "node")], &own, "m");
        let points = raw(&*snapshot, &labeled, TimeRange::ALL, &mut Budget::default()).unwrap();
        assert_eq!(points.len(), 40);
        assert!(points.iter().all(|point| point.1 == Value::Int(0)));
    }

    #[test]
    fn not_a_number_is_the_extreme_only_of_nothing_else() {
        let store = store_of(&[f64::NAN, 1.0, f64::NAN].map(Value::Float));
        let bucket = &ask(&store, TimeRange::ALL, None, &[Aggregation::Max, Aggregation::Min])[0];
        assert_eq!(bucket.value(Aggregation::Max), Some(Value::Int(1)));
        assert_eq!(bucket.value(Aggregation::Min), Some(Value::Int(1)));
    }

    #[test]
    fn a_query_ends_at_its_limits_and_when_it_is_cancelled() {
        let store = store_of(&[Value::Int(1); 100]);
        let snapshot = store.snapshot().unwrap();
        let try_with = |limits: Limits, cancel: Cancel| {
            let mut budget = Budget::new(limits, cancel.clone());
            let bucket = Some(Duration::from_secs(1));
            let range = TimeRange::ALL;
            let aggregated =
                aggregate(&*snapshot, &target(), range, bucket, &EVERYTHING, &mut budget);
            let mut budget = Budget::new(limits, cancel);
            (aggregated.err(), raw(&*snapshot, &target(), range, &mut budget).err())
        };
        let few = Limits { points_max: 99, ..Limits::default() };
        let (a, b) = try_with(few, Cancel::default());
        assert!(matches!(a, Some(QueryError::TooLarge { what: "points", limit: 99 })), "{a:?}");
        assert!(matches!(b, Some(QueryError::TooLarge { what: "points", limit: 99 })), "{b:?}");
        let few = Limits { samples_max: 50, ..Limits::default() };
        let (a, b) = try_with(few, Cancel::default());
        assert!(matches!(a, Some(QueryError::TooLarge { what: "samples", .. })), "{a:?}");
        assert!(matches!(b, Some(QueryError::TooLarge { what: "samples", .. })), "{b:?}");
        let cancel = Cancel::default();
        cancel.cancel();
        let (a, b) = try_with(Limits::default(), cancel);
        assert!(matches!((a, b), (Some(QueryError::Cancelled), Some(QueryError::Cancelled))));
    }

    #[test]
    fn a_repeated_aggregation_is_answered_and_paid_for_once() {
        let store = store_of(&[Value::Int(1); 10]);
        let snapshot = store.snapshot().unwrap();
        let repeated = [Aggregation::Max, Aggregation::Count, Aggregation::Min].repeat(1000);
        let aggregate_within = |points_max| {
            let limits = Limits { points_max, ..Limits::default() };
            let mut budget = Budget::new(limits, Cancel::default());
            let bucket = Some(Duration::from_secs(1));
            aggregate(&*snapshot, &target(), TimeRange::ALL, bucket, &repeated, &mut budget)
        };
        let buckets = aggregate_within(30).unwrap();
        let values = [Aggregation::Max, Aggregation::Min].map(|own| (own, Value::Int(1)));
        assert!(buckets.iter().all(|bucket| bucket.values == values && bucket.points() == 3));
        let error = aggregate_within(29).unwrap_err();
        assert!(matches!(error, QueryError::TooLarge { what: "points", limit: 29 }), "{error:?}");
    }

    #[test]
    fn lists_of_names_keep_to_the_budget() {
        let store = MemoryStorage::new();
        for name in ["a", "b", "c"] {
            let labels = Labels::from_iter([("type", "node"), ("nodename", name)]);
            let cells = vec![(name.into(), MetricValue::gauge(1))];
            store.append(at(1), &[Row { labels, cells }]);
        }
        let snapshot = store.snapshot().unwrap();
        let matchers = || vec![Matcher::equal("type", "node")];
        let both = |points_max, cancel: Cancel| {
            let limits = Limits { points_max, ..Limits::default() };
            let mut budget = Budget::new(limits, cancel.clone());
            let names = metric_names(&*snapshot, matchers(), TimeRange::ALL, &mut budget);
            let mut budget = Budget::new(limits, cancel);
            [names, label_values(&*snapshot, "nodename", matchers(), &mut budget)]
        };
        for names in both(3, Cancel::default()) {
            assert_eq!(names.unwrap(), ["a", "b", "c"]);
        }
        for names in both(2, Cancel::default()) {
            assert!(matches!(names, Err(QueryError::TooLarge { what: "points", limit: 2 })));
        }
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(both(3, cancel).iter().all(|names| matches!(names, Err(QueryError::Cancelled))));
    }

    #[test]
    fn the_columns_of_times_are_not_metrics() {
        let store = MemoryStorage::new();
        let time = heapster_core::series::SCRAPE_COLUMN;
        let cells = ["m", time].map(|name| (name.into(), MetricValue::gauge(1)));
        let labels = Labels::from_iter([("type", "node")]);
        store.append(at(1), &[Row { labels, cells: cells.into() }]);
        let snapshot = store.snapshot().unwrap();
        let matchers = vec![Matcher::equal("type", "node")];
        let names =
            metric_names(&*snapshot, matchers.clone(), TimeRange::ALL, &mut Budget::default());
        let names = names.unwrap();
        assert_eq!(names, ["m"]);
        let hidden = Target::plain(matchers, time);
        assert!(
            raw(&*snapshot, &hidden, TimeRange::ALL, &mut Budget::default()).unwrap().is_empty()
        );
    }
}
