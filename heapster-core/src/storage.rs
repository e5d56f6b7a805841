//! The storage port: how the query engine and the APIs see a store, whichever it is.
//!
//! A snapshot is a consistent view that later writes do not change. It is asked for *sets* by
//! matchers and range; a set's columns are then streamed as runs of samples in time order. Every
//! run carries a summary where one is exact, so that an aggregate over a whole run need not decode
//! it.

mod buckets;
mod memory;
mod times;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

pub use buckets::{
    Aggregates, Bucket, BucketCursor, BucketSelection, BucketSelector, BucketSet, BucketSource,
    Grid, Increase, Percentiles, Rollup, STEP_MAX, collect_buckets, raw_buckets,
};
pub use memory::MemoryStorage;
pub use times::{Times, TimesId};

use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::value::{MetricKind, Value};
use crate::{Text, TimeRange, Timestamp};

/// Why stored data could not be read.
///
/// The port's users cannot repair anything; they report the clause and its cause once.
#[derive(Debug)]
pub struct StorageError(Box<dyn Error + Send + Sync>);

impl StorageError {
    /// Wraps a store's own error.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// The store's own error.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Which columns of the matching sets are wanted.
#[derive(Clone, Debug, Default)]
pub enum Columns {
    /// Every metric. The columns of a set's times ([`crate::series::is_time_column`]) are included.
    #[default]
    All,
    /// The metric of exactly that name.
    Named(Text),
    /// The metrics whose name satisfies the matcher; the matcher's label name is not looked at.
    Matching(Matcher),
}

impl Columns {
    /// Whether a column of that name is wanted.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(wanted) => wanted == name,
            Self::Matching(matcher) => matcher.matches(name),
        }
    }
}

/// What to read: sets by their labels, columns by their name, samples by their time.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Conditions on the labels of a set; all must hold. None selects every set.
    pub matchers: Vec<Matcher>,
    /// The columns wanted.
    pub columns: Columns,
    /// The range, both ends included.
    pub range: TimeRange,
}

/// A store that can be read.
pub trait Storage: Send + Sync {
    /// A consistent view of everything acknowledged before the call. Never waits for writers.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError>;
}

/// A consistent view of a store; stays valid and unchanged as long as it is held.
pub trait Snapshot: Send + Sync {
    /// The sets that satisfy the selector and have one of its columns in its range, each label set
    /// once, ordered by labels. A listed column may still turn out to be empty in the range when
    /// read, since only bounds are looked at here.
    ///
    /// # Errors
    /// The index could not be read.
    fn select(&self, selector: &Selector) -> Result<Vec<Arc<dyn SelectedSet>>, StorageError>;

    /// Names of the columns that `selector` would find, sorted, each once.
    ///
    /// # Errors
    /// The index could not be read.
    fn column_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError>;

    /// Names of the labels of the sets that `selector` would find, sorted, each once.
    ///
    /// # Errors
    /// The index could not be read.
    fn label_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError>;

    /// Values of one label over the sets that `selector` would find, sorted, each once; sets
    /// without the label add nothing.
    ///
    /// # Errors
    /// The index could not be read.
    fn label_values(&self, label: &str, selector: &Selector) -> Result<Vec<Text>, StorageError>;

    /// Time of the oldest and the newest sample; `None` when there is none.
    fn bounds(&self) -> Option<TimeRange>;

    /// The sets that satisfy the selector, with its columns aggregated by buckets of time, and from
    /// what. A store with tiers answers from the coarsest that is exact.
    ///
    /// # Errors
    /// The index could not be read.
    fn select_buckets(&self, selector: &BucketSelector) -> Result<BucketSelection, StorageError> {
        let sources = vec![BucketSource { range: selector.range, resolution: None }];
        Ok(BucketSelection { sets: raw_buckets(self, selector)?, sources, is_exact: true })
    }

    /// What the reads of this snapshot had to go without so far: a list of bounded length, empty when
    /// every answer was whole. A store that finds damage leaves it out and says so here rather than
    /// failing the read; ask after the last read.
    fn damage(&self) -> Vec<Damage> {
        Vec::new()
    }
}

/// Stored samples that a read had to go without, because they are damaged or could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Labels of their set; `None` when they may be of any set.
    pub labels: Option<Labels>,
    /// From the first to the last moment they may be of.
    pub range: TimeRange,
    /// What is wrong and where.
    pub reason: String,
}

/// A column of a selected set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// The metric's name.
    pub name: Text,
    /// How it behaves over time, as last written.
    pub kind: MetricKind,
}

/// A set that a selector found.
pub trait SelectedSet: Send + Sync {
    /// Labels of the set.
    fn labels(&self) -> &Labels;

    /// The value of one label; `None` when the set has none of that name. A store overrides it to make
    /// no other.
    fn label(&self, name: &str) -> Option<Text> {
        self.labels().get(name).cloned()
    }

    /// The columns the selector asked for and the set has, sorted by name.
    fn columns(&self) -> &[Column];

    /// Streams the samples of `columns()[column]` in the selector's range.
    ///
    /// # Panics
    /// When `column` is not an index of [`SelectedSet::columns`].
    fn read(&self, column: usize) -> Box<dyn ColumnCursor + '_>;

    /// The newest sample of `columns()[column]` in the selector's range; `None` when there is none.
    /// A store overrides it to decode no more than it has to, so damage to older runs may stay
    /// unnoticed.
    ///
    /// # Errors
    /// As [`ColumnCursor::next_run`] and [`ColumnCursor::decode`].
    ///
    /// # Panics
    /// When `column` is not an index of [`SelectedSet::columns`].
    fn last(&self, column: usize) -> Result<Option<(Timestamp, Value)>, StorageError> {
        let mut cursor = self.read(column);
        let mut samples = Samples::default();
        let mut last = None;
        while let Some(run) = cursor.next_run()? {
            if let Some(summary) = run.summary {
                last = Some((run.last, summary.last));
            } else {
                cursor.decode(&mut samples)?;
                last = samples.iter().next_back().or(last);
            }
        }
        Ok(last)
    }
}

/// Walks over one column's runs of samples: in time order, without overlap, each timestamp once.
pub trait ColumnCursor {
    /// Steps to the next run; `None` at the end.
    ///
    /// # Errors
    /// The run is damaged or cannot be read, unless the store leaves such runs out
    /// ([`Snapshot::damage`]). The cursor may be stepped on: it skips that run.
    fn next_run(&mut self) -> Result<Option<Run>, StorageError>;

    /// Decodes the run that [`ColumnCursor::next_run`] stepped to; replaces what `into` holds.
    ///
    /// # Errors
    /// The run is damaged or cannot be read. The cursor may be stepped on.
    fn decode(&mut self, into: &mut Samples) -> Result<(), StorageError>;

    /// How many samples [`ColumnCursor::decode`] would give. For runs without a summary: a store
    /// overrides it to decode no values where it can.
    ///
    /// # Errors
    /// The run is damaged or cannot be read. The cursor may be stepped on.
    fn count(&mut self) -> Result<u64, StorageError> {
        let mut samples = Samples::default();
        self.decode(&mut samples)?;
        Ok(samples.timestamps.len() as u64)
    }
}

/// What is known of a run without decoding it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Time of the first sample, or a bound at or before it when `summary` is `None`.
    pub first: Timestamp,
    /// Time of the last sample, or a bound at or after it when `summary` is `None`.
    pub last: Timestamp,
    /// Present when it describes exactly the samples that `decode` would give.
    pub summary: Option<Summary>,
}

/// Exact aggregates of a run of samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Number of samples, at least one.
    pub count: u64,
    /// The oldest value.
    pub first: Value,
    /// The newest value.
    pub last: Value,
    /// The least value; NaN only when every value is.
    pub min: Value,
    /// The greatest value; NaN only when every value is.
    pub max: Value,
    /// The sum.
    pub sum: Sum,
    /// How often a value was less than the one before it.
    pub resets: u64,
}

/// A sum that does not overflow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sum {
    /// Exact sum of integers.
    Int(i128),
    /// Sum of floats in the order of time.
    Float(f64),
}

impl Sum {
    /// The sum of both; exact when both are of integers.
    pub fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Self::Int(a.saturating_add(b)),
            (a, b) => Self::Float(a.as_f64() + b.as_f64()),
        }
    }

    /// The sum as a float, rounded to nearest.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(sum) => sum as f64,
            Self::Float(sum) => sum,
        }
    }
}

impl From<Value> for Sum {
    fn from(value: Value) -> Self {
        match value {
            Value::Int(value) => Self::Int(value.into()),
            Value::Float(value) => Self::Float(value),
        }
    }
}

/// Decoded samples; reuse one to read many runs without allocating.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Times, strictly rising.
    pub timestamps: Times,
    /// As many values.
    pub values: Values,
}

/// Values of a run: all of one kind in nearly every case.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Integers only.
    Ints(Vec<i64>),
    /// Floats only.
    Floats(Vec<f64>),
    /// Both: the metric changed from one to the other.
    Mixed(Vec<Value>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Ints(Vec::new())
    }
}

impl Values {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Mixed(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at an index.
    ///
    /// # Panics
    /// When `index` is not less than [`Values::len`].
    pub fn get(&self, index: usize) -> Value {
        match self {
            Self::Ints(values) => Value::Int(values[index]),
            Self::Floats(values) => Value::Float(values[index]),
            Self::Mixed(values) => values[index],
        }
    }
}

impl Samples {
    /// The samples as pairs.
    pub fn iter(
        &self,
    ) -> impl ExactSizeIterator<Item = (Timestamp, Value)> + DoubleEndedIterator + '_ {
        self.timestamps.iter().enumerate().map(|(index, at)| (*at, self.values.get(index)))
    }

    /// Takes the samples before a moment out.
    pub fn split_off_before(&mut self, moment: Timestamp) -> Self {
        let before = self.timestamps.partition_point(|at| *at < moment);
        let timestamps = self.timestamps.make_mut().drain(..before).collect();
        let values = match &mut self.values {
            Values::Ints(values) => Values::Ints(values.drain(..before).collect()),
            Values::Floats(values) => Values::Floats(values.drain(..before).collect()),
            Values::Mixed(values) => Values::Mixed(values.drain(..before).collect()),
        };
        Self { timestamps, values }
    }
}

/// Reads a whole column into memory: every sample of the selector's range.
///
/// For answers that hold the samples anyway, such as a raw series.
///
/// # Errors
/// As [`ColumnCursor::next_run`] and [`ColumnCursor::decode`].
pub fn collect(
    set: &dyn SelectedSet,
    column: usize,
) -> Result<Vec<(Timestamp, Value)>, StorageError> {
    let mut cursor = set.read(column);
    let mut samples = Samples::default();
    let mut all = Vec::new();
    while cursor.next_run()?.is_some() {
        cursor.decode(&mut samples)?;
        all.extend(samples.iter());
    }
    Ok(all)
}
