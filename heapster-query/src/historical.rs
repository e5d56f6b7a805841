//! Series and aggregates of one metric of one entity, as Heapster's APIs ask for them.
//!
//! An entity's samples may lie in several stored sets, since its labels change over time; they are
//! answered as one series. Everything streams: a raw answer holds its points, an aggregate its
//! buckets, and only medians and percentiles hold samples, those of one bucket at a time. Where the
//! store keeps aggregates of its own, they answer instead of samples.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use heapster_core::labels::key;
use heapster_core::series::{is_time_column, own_names};
use heapster_core::storage::{
    self, Aggregates, BucketSelector, BucketSource, Columns, Percentiles, Samples, SelectedSet,
    Selector, Snapshot,
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
    /// Nearest-rank percentile: 50, 95 or 99 percent.
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

/// Buckets of an answer, and where they come from.
#[derive(Clone, Debug)]
pub struct Aggregated {
    /// In order of time; those without samples are left out.
    pub buckets: Vec<Bucket>,
    /// What answered which stretch of the range.
    pub sources: Vec<BucketSource>,
    /// Whether the values are what raw samples would give. They are not where the store keeps
    /// aggregates only, and coarser ones or of another kind than were asked for.
    pub is_exact: bool,
}

/// Aggregates of a series by bucket of time.
///
/// Without `bucket` the whole range is one bucket. Values of an aggregate are integers when they are
/// whole in every bucket of the answer, otherwise floats in every bucket: so the original's answers
/// went through its database, and clients have learned to expect it.
///
/// # Units and shape
/// Values are in the metric's unit. Percentiles are nearest-rank: of `n` sorted samples the one at
/// `round(n · p / 100)`, counted from one. Staleness markers are not samples.
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
) -> Result<Aggregated, QueryError> {
    let aggregations = each_once(aggregations);
    let mut answer = Aggregated { buckets: Vec::new(), sources: Vec::new(), is_exact: true };
    if is_time_column(&target.metric) || range.is_empty() {
        return Ok(answer);
    }
    let selection = snapshot.select_buckets(&BucketSelector {
        matchers: target.matchers.clone(),
        columns: Columns::Named(target.metric.clone()),
        range,
        bucket,
        aggregates: needed(&aggregations),
    })?;
    let mut series = Series::default();
    let points_per_bucket = 1 + aggregations.iter().filter(|own| is_value(**own)).count();
    let mut batch = Vec::new();
    for set in &selection.sets {
        let mut cursor = set.read(0);
        while let Some(read) = cursor.step(&mut batch)? {
            budget.take_samples(read)?;
            budget.check_held(cursor.held())?;
            for bucket in batch.drain(..) {
                series.add(bucket, points_per_bucket, budget)?;
            }
        }
        for bucket in batch.drain(..) {
            series.add(bucket, points_per_bucket, budget)?;
        }
    }
    answer.is_exact = selection.is_exact;
    answer.sources = selection.sources;
    if needed(&aggregations).contains(Aggregates::PERCENTILES) {
        let grid = BucketGrid { range, bucket };
        answer.is_exact &= series.rank_shared(snapshot, target, &grid, budget)?;
    }
    for (start, bucket) in &series.buckets {
        budget.check_cancelled()?;
        let values = aggregations.iter().filter_map(|own| Some((*own, value_of(bucket, *own)?)));
        answer.buckets.push(Bucket {
            start: *start,
            count: bucket.count,
            values: values.collect(),
        });
    }
    unify(&mut answer.buckets, budget)?;
    Ok(answer)
}

/// The aggregations in their order without repetitions, which would only multiply the work.
fn each_once(aggregations: &[Aggregation]) -> Vec<Aggregation> {
    let mut seen = BTreeSet::new();
    aggregations.iter().copied().filter(|aggregation| seen.insert(*aggregation)).collect()
}

/// Whether an aggregation has a value of its own in a bucket.
fn is_value(aggregation: Aggregation) -> bool {
    aggregation != Aggregation::Count
}

/// What has to be known of buckets.
fn needed(aggregations: &[Aggregation]) -> Aggregates {
    aggregations.iter().fold(Aggregates::NONE, |all, aggregation| {
        all | match aggregation {
            Aggregation::Average => Aggregates::SUM,
            Aggregation::Max => Aggregates::MAX,
            Aggregation::Min => Aggregates::MIN,
            Aggregation::Count => Aggregates::NONE,
            Aggregation::Median | Aggregation::Percentile(_) => Aggregates::PERCENTILES,
        }
    })
}

fn value_of(bucket: &storage::Bucket, aggregation: Aggregation) -> Option<Value> {
    match aggregation {
        Aggregation::Average => bucket.mean().map(Value::Float),
        Aggregation::Max => bucket.max,
        Aggregation::Min => bucket.min,
        Aggregation::Median => bucket.median(),
        Aggregation::Count => None,
        Aggregation::Percentile(percent) => bucket.percentiles?.percentile(percent),
    }
}

/// The buckets of one entity, of all its sets.
#[derive(Debug, Default)]
struct Series {
    buckets: BTreeMap<Timestamp, storage::Bucket>,
    /// Those that several sets have samples in, apart: percentiles do not add up.
    shared: BTreeMap<Timestamp, Vec<storage::Bucket>>,
}

/// Where the buckets of a question begin and end.
struct BucketGrid {
    range: TimeRange,
    bucket: Option<Duration>,
}

impl BucketGrid {
    /// The samples of a bucket.
    fn range_of(&self, start: Timestamp) -> TimeRange {
        let end = match self.bucket.filter(|size| !size.is_zero()) {
            Some(size) => start.saturating_add(size - Duration::from_millis(1)),
            None => self.range.end,
        };
        TimeRange::new(start.max(self.range.start), end.min(self.range.end))
    }
}

impl Series {
    fn add(
        &mut self,
        bucket: storage::Bucket,
        points: usize,
        budget: &mut Budget,
    ) -> Result<(), QueryError> {
        match self.buckets.entry(bucket.start) {
            Entry::Vacant(vacant) => {
                budget.take_points(points)?;
                vacant.insert(bucket);
            }
            Entry::Occupied(mut occupied) => {
                let shared = self.shared.entry(bucket.start);
                shared.or_insert_with(|| vec![*occupied.get()]).push(bucket);
                occupied.get_mut().merge(&bucket);
            }
        }
        Ok(())
    }

    /// Finds the percentiles of buckets that several sets share, from their samples; where these are
    /// not all there any more it guesses and gives `false`.
    fn rank_shared(
        &mut self,
        snapshot: &dyn Snapshot,
        target: &Target,
        grid: &BucketGrid,
        budget: &mut Budget,
    ) -> Result<bool, QueryError> {
        let mut is_exact = true;
        for (start, parts) in &self.shared {
            let Some(bucket) = self.buckets.get_mut(start) else { continue };
            let mut values = Vec::new();
            for set in target.select(snapshot, grid.range_of(*start))? {
                let mut cursor = set.read(0);
                let mut samples = Samples::default();
                while cursor.next_run()?.is_some() {
                    cursor.decode(&mut samples)?;
                    budget.take_samples(samples.timestamps.len())?;
                    values.extend(samples.iter().map(|(_, value)| value));
                    budget.check_held(values.len())?;
                }
            }
            values.retain(|value| !value.is_stale());
            let is_complete = values.len() as u64 == bucket.count;
            is_exact &= is_complete;
            bucket.percentiles =
                if is_complete { Percentiles::of(values) } else { Percentiles::estimate(parts) };
        }
        Ok(is_exact)
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
        aggregate(&*snapshot, &target(), range, bucket, aggregations, &mut budget).unwrap().buckets
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
        let buckets = aggregate_within(30).unwrap().buckets;
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
