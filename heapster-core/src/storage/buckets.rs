//! Aggregates by buckets of time: what a query asks for instead of samples, and what tiers keep.
//!
//! A bucket is `[start, start + size)` and starts at a multiple of its size since the epoch. What a
//! bucket says about its samples does not depend on where it was computed: from raw samples, from
//! the summaries of whole runs, or earlier when a tier was built. Only sums of floats may differ in
//! their last digits, because they depend on the order of additions.
//!
//! Staleness markers are not samples. A NaN is: it counts, it makes the sum NaN, and it is the
//! extreme only of nothing else; a counter's increase passes over it.

use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Column, ColumnCursor, Columns, Run, Samples, SelectedSet, Selector, Snapshot, StorageError,
    Sum, Summary, Values,
};
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::value::Value;
use crate::{TimeRange, Timestamp};

/// How old the sample before may be for the step from it to count as increase. A counter that was
/// silent for longer begins anew. It bounds how far before a range has to be read.
pub const STEP_MAX: Duration = Duration::from_secs(86_400);

/// Which aggregates of a bucket are wanted. The count of samples always is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Aggregates(u8);

impl Aggregates {
    /// The count alone.
    pub const NONE: Self = Self(0);
    /// [`Bucket::sum`].
    pub const SUM: Self = Self(1);
    /// [`Bucket::min`].
    pub const MIN: Self = Self(1 << 1);
    /// [`Bucket::max`].
    pub const MAX: Self = Self(1 << 2);
    /// [`Bucket::first`].
    pub const FIRST: Self = Self(1 << 3);
    /// [`Bucket::last`].
    pub const LAST: Self = Self(1 << 4);
    /// [`Bucket::increase`].
    pub const INCREASE: Self = Self(1 << 5);
    /// [`Bucket::percentiles`]. Unlike the others they cannot be made of those of smaller buckets.
    pub const PERCENTILES: Self = Self(1 << 6);
    /// Every one.
    pub const ALL: Self = Self((1 << 7) - 1);

    /// Whether all of `other` are wanted.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Aggregates {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Aggregates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["sum", "min", "max", "first", "last", "increase", "percentiles"];
        let wanted = names.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        f.debug_set().entries(wanted.map(|(_, name)| name)).finish()
    }
}

/// What to aggregate: as a [`super::Selector`], and how.
#[derive(Clone, Debug)]
pub struct BucketSelector {
    /// Conditions on the labels of a set; all must hold. None selects every set.
    pub matchers: Vec<Matcher>,
    /// The columns wanted.
    pub columns: Columns,
    /// The samples that are aggregated, both ends included. It may cut the first and the last
    /// bucket.
    pub range: TimeRange,
    /// Length of a bucket, whole milliseconds; `None` for one bucket of the whole range.
    pub bucket: Option<Duration>,
    /// What is wanted of each bucket. The more, the fewer tiers can answer.
    pub aggregates: Aggregates,
}

/// Where the buckets of an answer begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    start: Timestamp,
    size_ms: Option<i64>,
}

impl Grid {
    /// Buckets of a size; without one, or with zero, a single one that starts at `start`.
    pub fn new(start: Timestamp, size: Option<Duration>) -> Self {
        let size_ms = size
            .map(|size| i64::try_from(size.as_millis()).unwrap_or(i64::MAX))
            .filter(|size| *size > 0);
        Self { start, size_ms }
    }

    /// The bucket that a moment belongs to.
    pub fn bucket_of(&self, at: Timestamp) -> Timestamp {
        match self.size_ms {
            Some(size) => {
                Timestamp::from_millis(at.as_millis().div_euclid(size).saturating_mul(size))
            }
            None => self.start,
        }
    }

    /// The first millisecond behind a bucket.
    fn end_of(&self, start: Timestamp) -> i64 {
        self.size_ms.map_or(i64::MAX, |size| {
            start.as_millis().div_euclid(size).saturating_add(1).saturating_mul(size)
        })
    }
}

/// Aggregates of the samples of one bucket of time. What was not asked for is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// First moment of the bucket.
    pub start: Timestamp,
    /// Number of samples; at least one.
    pub count: u64,
    /// The sum.
    pub sum: Option<Sum>,
    /// The least value; NaN only when every value is.
    pub min: Option<Value>,
    /// The greatest value; NaN only when every value is.
    pub max: Option<Value>,
    /// The oldest value.
    pub first: Option<Value>,
    /// The newest value.
    pub last: Option<Value>,
    /// How far a counter rose.
    pub increase: Option<Increase>,
    /// Values by rank.
    pub percentiles: Option<Percentiles>,
}

/// How far a counter rose in a bucket.
///
/// It is the sum of the steps from each sample's predecessor to the sample; that of the first sample
/// of a bucket lies in an earlier bucket. So the increases of the buckets of a range add up to that
/// of the range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Increase {
    /// The rise. A value less than the one before counts as a rise from zero.
    pub by: Sum,
    /// How often a value was less than the one before.
    pub resets: u64,
}

/// Values by rank in the order of [`Value::numeric_cmp`], equal ones in the order of time.
///
/// Of `n` values the percentile `p` is the one at `round(n · p / 100)`, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The 50th percentile. When `n` is even, that is the lower of the two in the middle.
    pub p50: Value,
    /// The middle value; when `n` is even, the upper of the two.
    pub upper_middle: Value,
    /// The 95th percentile.
    pub p95: Value,
    /// The 99th percentile.
    pub p99: Value,
}

impl Bucket {
    /// A bucket of nothing but counted samples.
    pub fn new(start: Timestamp, count: u64) -> Self {
        Self {
            start,
            count,
            sum: None,
            min: None,
            max: None,
            first: None,
            last: None,
            increase: None,
            percentiles: None,
        }
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> Option<f64> {
        self.sum.map(|sum| sum.as_f64() / self.count as f64)
    }

    /// The middle value; the mean of the middle two when the count is even.
    pub fn median(&self) -> Option<Value> {
        self.percentiles.map(|by_rank| match self.count % 2 {
            1 => by_rank.p50,
            _ => mean_of_two(by_rank.p50, by_rank.upper_middle),
        })
    }

    /// Adds a bucket of later samples of the same series. What only one of them knows is lost, and
    /// so are the percentiles.
    pub fn merge(&mut self, later: &Self) {
        let both = |a: Option<Sum>, b: Option<Sum>| Some(a?.plus(b?));
        self.count += later.count;
        self.sum = both(self.sum, later.sum);
        self.min = self.min.zip(later.min).map(|(a, b)| lesser(a, b));
        self.max = self.max.zip(later.max).map(|(a, b)| greater(a, b));
        self.first = self.first.filter(|_| later.first.is_some());
        self.last = later.last.filter(|_| self.last.is_some());
        self.increase = self.increase.zip(later.increase).map(|(a, b)| a.plus(b));
        self.percentiles = None;
    }
}

impl Increase {
    const NONE: Self = Self { by: Sum::Int(0), resets: 0 };

    /// Both, one after the other.
    fn plus(self, later: Self) -> Self {
        Self { by: self.by.plus(later.by), resets: self.resets + later.resets }
    }

    /// The step from one value to the next.
    fn step(from: Value, to: Value) -> Self {
        if to.numeric_cmp(from).is_lt() {
            return Self { by: to.into(), resets: 1 };
        }
        let by = match (from, to) {
            (Value::Int(from), Value::Int(to)) => Sum::Int(i128::from(to) - i128::from(from)),
            (from, to) => Sum::Float(to.as_f64() - from.as_f64()),
        };
        Self { by, resets: 0 }
    }
}

fn mean_of_two(lower: Value, upper: Value) -> Value {
    Value::Float(match (lower, upper) {
        (Value::Int(a), Value::Int(b)) => {
            let sum = i128::from(a) + i128::from(b);
            // Whole when it can be, so that no digit is lost beyond 2^53.
            match i64::try_from(sum / 2) {
                Ok(half) if sum % 2 == 0 => return Value::Int(half),
                _ => sum as f64 / 2.0,
            }
        }
        (a, b) => a.as_f64() / 2.0 + b.as_f64() / 2.0,
    })
}

/// The lesser of two; the first of equals.
fn lesser(a: Value, b: Value) -> Value {
    if b.numeric_cmp(a).is_lt() { b } else { a }
}

/// The greater of two, the first of equals. NaN counts as greater than every number, but is the
/// maximum only when there is no other.
fn greater(a: Value, b: Value) -> Value {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a.numeric_cmp(b).is_lt() => b,
        _ => a,
    }
}

/// Where the `percent`-th percentile is among `count` sorted values, counted from zero.
///
/// # Panics
/// When `count` is zero.
fn rank_of(percent: usize, count: usize) -> usize {
    // Rounded half up, in integers: round(n · p / 100) = floor((n · p + 50) / 100).
    ((count * percent + 50) / 100).clamp(1, count) - 1
}

impl Percentiles {
    /// Of sorted values; `None` of none.
    fn of_sorted<T: Copy + Into<Value>>(sorted: &[T]) -> Option<Self> {
        let at = |index: usize| sorted.get(index).copied().map(Into::into);
        let rank = |percent| at(rank_of(percent, sorted.len().max(1)));
        let upper_middle = at(sorted.len() / 2)?;
        Some(Self { p50: rank(50)?, upper_middle, p95: rank(95)?, p99: rank(99)? })
    }

    /// The percentile of that number; `None` when it is not among those that are kept.
    pub fn percentile(&self, percent: u8) -> Option<Value> {
        match percent {
            50 => Some(self.p50),
            95 => Some(self.p95),
            99 => Some(self.p99),
            _ => None,
        }
    }

    /// Of values in the order of time.
    pub fn of(mut values: Vec<Value>) -> Option<Self> {
        values.sort_by(|a, b| a.numeric_cmp(*b));
        Self::of_sorted(&values)
    }

    /// A guess at the percentiles of several buckets together: of each kind the percentile of
    /// theirs, where each weighs as much as its bucket has samples. `None` when one lacks its own.
    pub fn estimate(parts: &[Bucket]) -> Option<Self> {
        let of = |percent: u64, own: fn(Self) -> Value| {
            let known = parts.iter().map(|part| Some((own(part.percentiles?), part.count)));
            let mut weighed: Vec<(Value, u64)> = known.collect::<Option<_>>()?;
            weighed.sort_by(|(a, _), (b, _)| a.numeric_cmp(*b));
            let count: u64 = weighed.iter().map(|(_, count)| count).sum();
            let mut left = ((u128::from(count) * u128::from(percent) + 50) / 100).max(1);
            for (value, weight) in &weighed {
                match left.checked_sub(u128::from(*weight)) {
                    Some(0) | None => return Some(*value),
                    Some(rest) => left = rest,
                }
            }
            weighed.last().map(|(value, _)| *value)
        };
        Some(Self {
            p50: of(50, |own| own.p50)?,
            upper_middle: of(50, |own| own.upper_middle)?,
            p95: of(95, |own| own.p95)?,
            p99: of(99, |own| own.p99)?,
        })
    }
}

/// Samples of an open bucket, as long as percentiles need them.
#[derive(Debug, Default)]
struct Held {
    ints: Vec<i64>,
    /// All of them, once one is not an integer.
    mixed: Vec<Value>,
}

impl Held {
    fn len(&self) -> usize {
        self.ints.len() + self.mixed.len()
    }

    fn push(&mut self, value: Value) {
        match value {
            Value::Int(int) if self.mixed.is_empty() => self.ints.push(int),
            value => {
                self.mixed.extend(self.ints.drain(..).map(Value::Int));
                self.mixed.push(value);
            }
        }
    }

    /// Gives the percentiles and lets the samples go.
    fn take(&mut self) -> Option<Percentiles> {
        self.ints.sort_unstable();
        // Stable: of equal values, such as both zeros, the older one comes first.
        self.mixed.sort_by(|a, b| a.numeric_cmp(*b));
        let found = match self.mixed.as_slice() {
            [] => Percentiles::of_sorted(&self.ints),
            mixed => Percentiles::of_sorted(mixed),
        };
        self.ints.clear();
        self.mixed.clear();
        found
    }
}

/// Turns the samples of one series, in order of time, into buckets.
#[derive(Debug)]
pub struct Rollup {
    grid: Grid,
    wanted: Aggregates,
    open: Option<Bucket>,
    /// First millisecond behind the open bucket.
    end: i64,
    held: Held,
    /// The newest sample that is a number.
    previous: Option<(Timestamp, Value)>,
}

impl Rollup {
    /// A rollup that has seen nothing.
    pub fn new(grid: Grid, wanted: Aggregates) -> Self {
        let held = Held::default();
        Self { grid, wanted, open: None, end: i64::MIN, held, previous: None }
    }

    /// Tells of the sample before the first one, which only counts as the start of a step.
    pub fn precede(&mut self, at: Timestamp, value: Value) {
        if !value.is_nan() {
            self.previous = Some((at, value));
        }
    }

    /// How many samples are held in memory.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Adds samples later than all before; appends the buckets that are complete.
    pub fn add(&mut self, samples: &Samples, into: &mut Vec<Bucket>) {
        let times = &samples.timestamps;
        let mut from = 0;
        while let Some(first) = times.get(from) {
            if first.as_millis() >= self.end {
                self.finish(into);
                self.end = self.grid.end_of(self.grid.bucket_of(*first));
            }
            let len = times[from..].iter().take_while(|at| at.as_millis() < self.end).count();
            let to = from + len;
            match &samples.values {
                Values::Ints(ints) if times[to - 1].saturating_since(*first) <= STEP_MAX => {
                    self.add_ints(&times[from..to], &ints[from..to]);
                }
                Values::Ints(ints) => {
                    let values = ints[from..to].iter().map(|int| Value::Int(*int));
                    times[from..to].iter().zip(values).for_each(|(at, v)| self.add_one(*at, v));
                }
                Values::Floats(floats) => {
                    let values = floats[from..to].iter().map(|float| Value::Float(*float));
                    times[from..to].iter().zip(values).for_each(|(at, v)| self.add_one(*at, v));
                }
                Values::Mixed(values) => {
                    let values = values[from..to].iter();
                    times[from..to].iter().zip(values).for_each(|(at, v)| self.add_one(*at, *v));
                }
            }
            from = to;
        }
    }

    /// Adds a run by its summary, without its samples; `false` when these are needed. Appends the
    /// bucket that is complete.
    pub fn add_summary(&mut self, run: &Run, into: &mut Vec<Bucket>) -> bool {
        let Some(summary) = run.summary else { return false };
        let start = self.grid.bucket_of(run.first);
        let is_whole = start == self.grid.bucket_of(run.last);
        // The sum of anything with a NaN is one.
        let is_plain = !matches!(summary.sum, Sum::Float(sum) if sum.is_nan());
        let has_steps = !self.wanted.contains(Aggregates::INCREASE)
            || summary.resets == 0 && run.last.saturating_since(run.first) <= STEP_MAX;
        let has_ranks = !self.wanted.contains(Aggregates::PERCENTILES) || is_constant(&summary);
        if !(is_whole && is_plain && has_steps && has_ranks) {
            return false;
        }
        if run.first.as_millis() >= self.end {
            self.finish(into);
            self.end = self.grid.end_of(start);
        }
        let mut increase = self.step_to(run.first, summary.first);
        if summary.count > 1 {
            increase = increase.plus(Increase::step(summary.first, summary.last));
        }
        if self.wanted.contains(Aggregates::PERCENTILES) {
            (0..summary.count).for_each(|_| self.held.push(summary.first));
        }
        self.extend(run.first, &summary, increase);
        self.previous = Some((run.last, summary.last));
        true
    }

    /// Completes the open bucket.
    pub fn finish(&mut self, into: &mut Vec<Bucket>) {
        let percentiles = self.held.take();
        let Some(mut bucket) = self.open.take() else { return };
        let wants = |aggregate| self.wanted.contains(aggregate);
        bucket.sum = bucket.sum.filter(|_| wants(Aggregates::SUM));
        bucket.min = bucket.min.filter(|_| wants(Aggregates::MIN));
        bucket.max = bucket.max.filter(|_| wants(Aggregates::MAX));
        bucket.first = bucket.first.filter(|_| wants(Aggregates::FIRST));
        bucket.last = bucket.last.filter(|_| wants(Aggregates::LAST));
        bucket.increase = bucket.increase.filter(|_| wants(Aggregates::INCREASE));
        bucket.percentiles = percentiles;
        into.push(bucket);
    }

    fn add_one(&mut self, at: Timestamp, value: Value) {
        if value.is_stale() {
            return;
        }
        let increase = if value.is_nan() {
            Increase::NONE
        } else {
            let step = self.step_to(at, value);
            self.previous = Some((at, value));
            step
        };
        if self.wanted.contains(Aggregates::PERCENTILES) {
            self.held.push(value);
        }
        let sum = value.into();
        let one =
            Summary { count: 1, first: value, last: value, min: value, max: value, sum, resets: 0 };
        self.extend(at, &one, increase);
    }

    /// Adds integers of the open bucket that span no more than [`STEP_MAX`].
    fn add_ints(&mut self, times: &[Timestamp], ints: &[i64]) {
        let (Some(first), Some(last)) = (ints.first().copied(), ints.last().copied()) else {
            return;
        };
        let (Some(first_at), Some(last_at)) = (times.first(), times.last()) else { return };
        let (mut min, mut max, mut sum) = (first, first, 0_i128);
        for int in ints {
            (min, max) = (min.min(*int), max.max(*int));
            sum += i128::from(*int);
        }
        let mut increase = self.step_to(*first_at, Value::Int(first));
        if self.wanted.contains(Aggregates::INCREASE) {
            let (mut lost, mut resets) = (0_i128, 0);
            for pair in ints.windows(2) {
                if pair[1] < pair[0] {
                    lost += i128::from(pair[0]);
                    resets += 1;
                }
            }
            // All steps together, but what resets lost.
            let by = Sum::Int(i128::from(last) - i128::from(first) + lost);
            increase = increase.plus(Increase { by, resets });
        }
        self.previous = Some((*last_at, Value::Int(last)));
        if self.wanted.contains(Aggregates::PERCENTILES) {
            if self.held.mixed.is_empty() {
                self.held.ints.extend_from_slice(ints);
            } else {
                self.held.mixed.extend(ints.iter().map(|int| Value::Int(*int)));
            }
        }
        let summary = Summary {
            count: ints.len() as u64,
            first: Value::Int(first),
            last: Value::Int(last),
            min: Value::Int(min),
            max: Value::Int(max),
            sum: Sum::Int(sum),
            resets: increase.resets,
        };
        self.extend(*first_at, &summary, increase);
    }

    /// The step to a number from the one before it.
    fn step_to(&self, at: Timestamp, value: Value) -> Increase {
        match self.previous {
            Some((before, from)) if at.saturating_since(before) <= STEP_MAX => {
                Increase::step(from, value)
            }
            _ => Increase::NONE,
        }
    }

    /// Adds to the open bucket, which is opened when there is none.
    fn extend(&mut self, at: Timestamp, summary: &Summary, increase: Increase) {
        let added = Bucket {
            start: self.grid.bucket_of(at),
            count: summary.count,
            sum: Some(summary.sum),
            min: Some(summary.min),
            max: Some(summary.max),
            first: Some(summary.first),
            last: Some(summary.last),
            increase: Some(increase),
            percentiles: None,
        };
        match &mut self.open {
            Some(bucket) => bucket.merge(&added),
            None => self.open = Some(added),
        }
    }
}

/// Whether all values of a run are the same to the bit. Zeros of either sign have no order, so they
/// do not tell.
fn is_constant(summary: &Summary) -> bool {
    let is_zero = matches!(summary.min, Value::Float(float) if float == 0.0);
    summary.min == summary.max && summary.first == summary.min && !is_zero
}

/// Sets and their buckets, and where these come from.
pub struct BucketSelection {
    /// Each label set once, ordered by labels.
    pub sets: Vec<Arc<dyn BucketSet>>,
    /// From what the buckets are made: stretches of the range in order of time, without overlap.
    pub sources: Vec<BucketSource>,
    /// Whether every bucket is what raw samples would give. It is not where raw samples are no
    /// longer kept and no tier is fine enough for the question.
    pub is_exact: bool,
}

/// A stretch of time and what answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketSource {
    /// The stretch, both ends included.
    pub range: TimeRange,
    /// Resolution of the tier; `None` for raw samples.
    pub resolution: Option<Duration>,
}

/// A set whose columns can be read by buckets.
pub trait BucketSet: Send + Sync {
    /// Labels of the set.
    fn labels(&self) -> &Labels;

    /// The columns the selector asked for and the set has, sorted by name. A listed column may still
    /// turn out to have no bucket.
    fn columns(&self) -> &[Column];

    /// Streams the buckets of `columns()[column]`.
    ///
    /// # Panics
    /// When `column` is not an index of [`BucketSet::columns`].
    fn read(&self, column: usize) -> Box<dyn BucketCursor + '_>;
}

/// Walks over the buckets of one column: in time order, each start once, none of them empty.
pub trait BucketCursor {
    /// Reads on and appends the buckets that are complete, perhaps none; gives how many samples or
    /// stored aggregates were read, and `None` at the end. One step reads one run of samples.
    ///
    /// # Errors
    /// A run is damaged or cannot be read. The cursor may be stepped on: it skips that run.
    fn step(&mut self, into: &mut Vec<Bucket>) -> Result<Option<usize>, StorageError>;

    /// How many samples it holds in memory for percentiles.
    fn held(&self) -> usize {
        0
    }
}

/// Reads all buckets of a column of a set.
///
/// # Errors
/// As [`BucketCursor::step`].
pub fn collect_buckets(set: &dyn BucketSet, column: usize) -> Result<Vec<Bucket>, StorageError> {
    let mut cursor = set.read(column);
    let mut all = Vec::new();
    while cursor.step(&mut all)?.is_some() {}
    Ok(all)
}

/// The sets that a selector finds, with buckets made of raw samples: what
/// [`Snapshot::select_buckets`] does where there are no tiers.
///
/// # Errors
/// As [`Snapshot::select`].
pub fn raw_buckets<S: Snapshot + ?Sized>(
    snapshot: &S,
    selector: &BucketSelector,
) -> Result<Vec<Arc<dyn BucketSet>>, StorageError> {
    let BucketSelector { range, aggregates, .. } = *selector;
    let mut read = range;
    if aggregates.contains(Aggregates::INCREASE) && !range.is_empty() {
        read.start = range.start.saturating_sub(STEP_MAX);
    }
    let (matchers, columns) = (selector.matchers.clone(), selector.columns.clone());
    let sets = snapshot.select(&Selector { matchers, columns, range: read })?;
    let grid = Grid::new(range.start, selector.bucket);
    let with_buckets = |set| -> Arc<dyn BucketSet> {
        Arc::new(RawBuckets { set, from: range.start, grid, wanted: aggregates })
    };
    Ok(sets.into_iter().map(with_buckets).collect())
}

/// A set whose buckets are made of its samples.
struct RawBuckets {
    set: Arc<dyn SelectedSet>,
    /// Samples before it are only looked at as the start of a step.
    from: Timestamp,
    grid: Grid,
    wanted: Aggregates,
}

impl BucketSet for RawBuckets {
    fn labels(&self) -> &Labels {
        self.set.labels()
    }

    fn columns(&self) -> &[Column] {
        self.set.columns()
    }

    fn read(&self, column: usize) -> Box<dyn BucketCursor + '_> {
        Box::new(RawBucketCursor {
            runs: self.set.read(column),
            from: self.from,
            rollup: Rollup::new(self.grid, self.wanted),
            samples: Samples::default(),
            is_finished: false,
        })
    }
}

struct RawBucketCursor<'a> {
    runs: Box<dyn ColumnCursor + 'a>,
    from: Timestamp,
    rollup: Rollup,
    samples: Samples,
    is_finished: bool,
}

impl BucketCursor for RawBucketCursor<'_> {
    fn step(&mut self, into: &mut Vec<Bucket>) -> Result<Option<usize>, StorageError> {
        if self.is_finished {
            return Ok(None);
        }
        let Some(run) = self.runs.next_run()? else {
            self.is_finished = true;
            self.rollup.finish(into);
            return Ok(None);
        };
        let is_within = run.first >= self.from;
        if is_within && self.rollup.add_summary(&run, into) {
            return Ok(Some(1));
        }
        self.runs.decode(&mut self.samples)?;
        let read = self.samples.timestamps.len();
        if !is_within {
            let before = self.samples.split_off_before(self.from);
            before.iter().for_each(|(at, value)| self.rollup.precede(at, value));
        }
        self.rollup.add(&self.samples, into);
        Ok(Some(read))
    }

    fn held(&self) -> usize {
        self.rollup.held()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::series::Row;
    use crate::storage::{MemoryStorage, Storage};
    use crate::value::MetricValue;

    const SECOND: i64 = 1000;

    /// Counters that reset, gauges, halves that add up exactly, both kinds, staleness, NaN.
    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            8 => (0_i64..50).prop_map(Value::Int),
            4 => (-40_i32..40).prop_map(|halves| Value::Float(f64::from(halves) / 2.0)),
            1 => Just(Value::Float(f64::NAN)),
            1 => Just(Value::Float(f64::from_bits(STALE))),
            1 => Just(Value::Float(-0.0)),
        ]
    }

    const STALE: u64 = 0x7ff0_0000_0000_0002;

    fn series(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<(i64, Value)>> {
        let gap = prop_oneof![30 => 1_i64..20, 1 => 80_000_i64..100_000];
        prop::collection::vec((gap, value), 1..150).prop_map(|steps| {
            let mut second = 0;
            let sample = |(gap, value)| {
                second += gap;
                (second * SECOND, value)
            };
            steps.into_iter().map(sample).collect()
        })
    }

    fn constants() -> impl Strategy<Value = Vec<(i64, Value)>> {
        (value(), 1_usize..60)
            .prop_map(|(value, len)| (0..len as i64).map(|s| (s * SECOND, value)).collect())
    }

    /// What the words of [`Bucket`] say, computed word by word.
    fn expected(samples: &[(i64, Value)], range: TimeRange, size: i64) -> Vec<Bucket> {
        let mut starts: Vec<i64> =
            samples.iter().map(|(at, _)| at.div_euclid(size) * size).collect();
        starts.dedup();
        let bucket = |start: i64| {
            let lies_in = |at: i64| {
                start <= at && at < start + size && range.contains(Timestamp::from_millis(at))
            };
            let own: Vec<(i64, Value)> =
                samples.iter().copied().filter(|(at, v)| lies_in(*at) && !v.is_stale()).collect();
            let values: Vec<Value> = own.iter().map(|(_, value)| *value).collect();
            let mut bucket = Bucket::new(Timestamp::from_millis(start), own.len() as u64);
            bucket.first = Some(*values.first()?);
            bucket.last = values.last().copied();
            bucket.sum = values.iter().map(|value| Sum::from(*value)).reduce(Sum::plus);
            bucket.min = values.iter().copied().reduce(lesser);
            bucket.max = values.iter().copied().reduce(greater);
            let numbers: Vec<_> = samples.iter().filter(|(_, v)| !v.is_nan()).collect();
            let mut increase = Increase::NONE;
            for pair in numbers.windows(2) {
                let ((before, from), (at, to)) = (pair[0], pair[1]);
                if lies_in(*at) && at - before <= 86_400 * SECOND {
                    increase = increase.plus(Increase::step(*from, *to));
                }
            }
            bucket.increase = Some(increase);
            let mut sorted = values;
            sorted.sort_by(|a, b| a.numeric_cmp(*b));
            let n = sorted.len();
            let rank = |p: usize| sorted[((n * p) as f64 / 100.0).round().max(1.0) as usize - 1];
            let upper_middle = sorted[n / 2];
            bucket.percentiles =
                Some(Percentiles { p50: rank(50), upper_middle, p95: rank(95), p99: rank(99) });
            Some(bucket)
        };
        starts.into_iter().filter_map(bucket).collect()
    }

    /// Buckets with the bits of their floats, so that NaNs compare.
    fn bits(buckets: &[Bucket]) -> Vec<String> {
        let sum = |sum: Sum| match sum {
            Sum::Int(sum) => format!("{sum}"),
            // A NaN's payload depends on the order of additions, and so does the sign of a zero.
            Sum::Float(sum) if sum.is_nan() => "NaN".to_owned(),
            Sum::Float(sum) => format!("{:x}", (sum + 0.0).to_bits()),
        };
        let one = |bucket: &Bucket| {
            let without = Bucket { sum: None, increase: None, ..*bucket };
            let increase = bucket.increase.map(|own| (sum(own.by), own.resets));
            format!("{without:?} {:?} {increase:?}", bucket.sum.map(sum))
        };
        buckets.iter().map(one).collect()
    }

    fn ask(samples: &[(i64, Value)], selector: &BucketSelector) -> Vec<Bucket> {
        let store = MemoryStorage::new();
        for (at, value) in samples {
            let cells = vec![("m".into(), MetricValue::gauge(*value))];
            let row = Row { labels: Labels::from_iter([("type", "node")]), cells };
            store.append(Timestamp::from_millis(*at), &[row]);
        }
        let selection = store.snapshot().unwrap().select_buckets(selector).unwrap();
        assert!(selection.is_exact);
        selection.sets.first().map_or_else(Vec::new, |set| collect_buckets(&**set, 0).unwrap())
    }

    proptest! {
        #[test]
        fn buckets_say_what_their_samples_say(
            samples in prop_oneof![
                series(value()),
                series(any::<i64>().prop_map(Value::Int)),
                constants(),
            ],
            size in 1_i64..200,
            from in 0_i64..500,
            len in 0_i64..200_000,
        ) {
            let at = |second: i64| Timestamp::from_millis(second * SECOND);
            let selector = BucketSelector {
                matchers: Vec::new(),
                columns: Columns::All,
                range: TimeRange::new(at(from), at(from + len)),
                bucket: Some(Duration::from_secs(size as u64)),
                aggregates: Aggregates::ALL,
            };
            let expected = expected(&samples, selector.range, size * SECOND);
            prop_assert_eq!(bits(&ask(&samples, &selector)), bits(&expected));
            // Without percentiles the summaries of runs are enough.
            let aggregates = Aggregates::SUM
                | Aggregates::MIN
                | Aggregates::MAX
                | Aggregates::FIRST
                | Aggregates::LAST
                | Aggregates::INCREASE;
            let fewer = BucketSelector { aggregates, ..selector.clone() };
            let without = |bucket: &Bucket| Bucket { percentiles: None, ..*bucket };
            let expected: Vec<_> = expected.iter().map(without).collect();
            prop_assert_eq!(bits(&ask(&samples, &fewer)), bits(&expected));
            // Small buckets make large ones.
            let large = BucketSelector { bucket: None, ..fewer };
            let whole = expected.into_iter().reduce(|mut whole, bucket| {
                whole.merge(&bucket);
                whole
            });
            let whole = whole.map(|whole| Bucket { start: large.range.start, ..whole });
            prop_assert_eq!(bits(&ask(&samples, &large)), bits(whole.as_slice()));
        }
    }

    #[test]
    fn a_guess_at_percentiles_weighs_buckets_by_their_samples() {
        let bucket = |count, value: i64| {
            let v = Value::Int(value);
            let same = Percentiles { p50: v, upper_middle: v, p95: v, p99: v };
            Bucket { percentiles: Some(same), ..Bucket::new(Timestamp::EPOCH, count) }
        };
        let parts = [bucket(90, 1), bucket(10, 100)];
        let guess = Percentiles::estimate(&parts).unwrap();
        assert_eq!((guess.p50, guess.p95), (Value::Int(1), Value::Int(100)));
        assert_eq!(Percentiles::estimate(&[parts[0], Bucket::new(Timestamp::EPOCH, 1)]), None);
    }
}
