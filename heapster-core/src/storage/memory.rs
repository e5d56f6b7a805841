//! [`MemoryStorage`]: the storage port over plain maps.
//!
//! The reference against which real stores are compared, and enough for tests and small embedders.
//! It keeps everything, answers by looking at every set, and forgets all when dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use super::{
    Column, ColumnCursor, Run, Samples, SelectedSet, Selector, Snapshot, Storage, StorageError,
    Sum, Summary, Values,
};
use crate::labels::Labels;
use crate::matcher::Matcher;
use crate::series::{Row, rows_of};
use crate::value::{MetricKind, Value};
use crate::{DataBatch, Text, TimeRange, Timestamp};

/// Samples of a run. Small, so that tests meet several runs and runs cut by a range.
const RUN_SAMPLES: usize = 16;

/// A store in memory, without limits, index or persistence.
///
/// Appends replace what a column had at the same time, and may come in any order. A snapshot shares
/// its data with the store until the store changes it.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    sets: RwLock<Arc<Sets>>,
}

type Sets = BTreeMap<Labels, Arc<Set>>;

#[derive(Clone, Debug, Default)]
struct Set {
    columns: BTreeMap<Text, Arc<ColumnData>>,
}

#[derive(Clone, Debug, Default)]
struct ColumnData {
    kind: MetricKind,
    /// Sorted by time, each time once.
    samples: Vec<(Timestamp, Value)>,
}

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores every set of a batch as [`rows_of`] maps it.
    pub fn append_batch(&self, batch: &DataBatch) {
        for set in batch.sets.values() {
            self.append(batch.timestamp, &rows_of(set));
        }
    }

    /// Stores rows under one time.
    pub fn append(&self, at: Timestamp, rows: &[Row]) {
        let mut guard = self.sets.write().unwrap_or_else(PoisonError::into_inner);
        let sets = Arc::make_mut(&mut guard);
        for row in rows {
            let set = Arc::make_mut(sets.entry(row.labels.clone()).or_default());
            for (name, metric) in &row.cells {
                let column = Arc::make_mut(set.columns.entry(name.clone()).or_default());
                column.kind = metric.kind;
                match column.samples.binary_search_by_key(&at, |sample| sample.0) {
                    Ok(index) => column.samples[index].1 = metric.value,
                    Err(index) => column.samples.insert(index, (at, metric.value)),
                }
            }
        }
    }
}

impl Storage for MemoryStorage {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        let sets = Arc::clone(&self.sets.read().unwrap_or_else(PoisonError::into_inner));
        Ok(Arc::new(MemorySnapshot { sets }))
    }
}

#[derive(Debug)]
struct MemorySnapshot {
    sets: Arc<Sets>,
}

impl MemorySnapshot {
    /// The sets and columns a selector finds; sets without a column are left out.
    fn found<'a>(&'a self, selector: &'a Selector) -> impl Iterator<Item = Found<'a>> + 'a {
        self.sets.iter().filter(|(labels, _)| matches(&selector.matchers, labels)).filter_map(
            |(labels, set)| {
                let columns: Vec<_> = set
                    .columns
                    .iter()
                    .filter(|(name, data)| {
                        selector.columns.contains(name) && !data.within(selector.range).is_empty()
                    })
                    .collect();
                (!columns.is_empty()).then_some(Found { labels, columns })
            },
        )
    }
}

struct Found<'a> {
    labels: &'a Labels,
    columns: Vec<(&'a Text, &'a Arc<ColumnData>)>,
}

fn matches(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.value(matcher.name())))
}

impl ColumnData {
    /// Indices of the samples in a range.
    fn within(&self, range: TimeRange) -> Range<usize> {
        let start = self.samples.partition_point(|sample| sample.0 < range.start);
        let end = self.samples.partition_point(|sample| sample.0 <= range.end);
        start..end.max(start)
    }
}

impl Snapshot for MemorySnapshot {
    fn select(&self, selector: &Selector) -> Result<Vec<Arc<dyn SelectedSet>>, StorageError> {
        Ok(self
            .found(selector)
            .map(|found| {
                let (columns, data) = found
                    .columns
                    .into_iter()
                    .map(|(name, data)| {
                        (Column { name: name.clone(), kind: data.kind }, Arc::clone(data))
                    })
                    .unzip();
                let labels = found.labels.clone();
                let range = selector.range;
                Arc::new(MemorySet { labels, columns, data, range }) as Arc<dyn SelectedSet>
            })
            .collect())
    }

    fn column_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        let names: BTreeSet<&Text> =
            self.found(selector).flat_map(|found| found.columns.into_iter().map(|c| c.0)).collect();
        Ok(names.into_iter().cloned().collect())
    }

    fn label_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        let names: BTreeSet<&Text> =
            self.found(selector).flat_map(|found| found.labels.iter().map(|l| &l.name)).collect();
        Ok(names.into_iter().cloned().collect())
    }

    fn label_values(&self, label: &str, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        let values: BTreeSet<&Text> =
            self.found(selector).filter_map(|found| found.labels.get(label)).collect();
        Ok(values.into_iter().cloned().collect())
    }

    fn bounds(&self) -> Option<TimeRange> {
        let mut bounds: Option<TimeRange> = None;
        for data in self.sets.values().flat_map(|set| set.columns.values()) {
            let (Some(first), Some(last)) = (data.samples.first(), data.samples.last()) else {
                continue;
            };
            let own = TimeRange::new(first.0, last.0);
            bounds =
                Some(bounds.map_or(own, |all| {
                    TimeRange::new(all.start.min(own.start), all.end.max(own.end))
                }));
        }
        bounds
    }
}

struct MemorySet {
    labels: Labels,
    columns: Vec<Column>,
    data: Vec<Arc<ColumnData>>,
    range: TimeRange,
}

impl SelectedSet for MemorySet {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, column: usize) -> Box<dyn ColumnCursor + '_> {
        let data = &self.data[column];
        let wanted = data.within(self.range);
        Box::new(MemoryCursor { samples: &data.samples, run: wanted.start..wanted.start, wanted })
    }
}

/// Runs lie at multiples of [`RUN_SAMPLES`]; one that the range cuts has no summary, as in a store
/// whose summaries are kept with its chunks.
struct MemoryCursor<'a> {
    samples: &'a [(Timestamp, Value)],
    run: Range<usize>,
    wanted: Range<usize>,
}

impl ColumnCursor for MemoryCursor<'_> {
    fn next_run(&mut self) -> Result<Option<Run>, StorageError> {
        let start = self.run.end;
        let chunk_start = start - start % RUN_SAMPLES;
        let chunk_end = (chunk_start + RUN_SAMPLES).min(self.samples.len());
        self.run = start..chunk_end.min(self.wanted.end);
        let samples = &self.samples[self.run.clone()];
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(None) };
        let whole = self.run == (chunk_start..chunk_end);
        let summary = if whole { summarize(samples) } else { None };
        Ok(Some(Run { first: first.0, last: last.0, summary }))
    }

    fn decode(&mut self, into: &mut Samples) -> Result<(), StorageError> {
        let samples = &self.samples[self.run.clone()];
        into.timestamps.restart().extend(samples.iter().map(|sample| sample.0));
        into.values = values_of(samples);
        Ok(())
    }
}

fn values_of(samples: &[(Timestamp, Value)]) -> Values {
    if let Some(ints) = samples.iter().map(|sample| sample.1.as_int()).collect() {
        return Values::Ints(ints);
    }
    let floats: Option<Vec<f64>> = samples
        .iter()
        .map(|sample| match sample.1 {
            Value::Float(value) => Some(value),
            Value::Int(_) => None,
        })
        .collect();
    match floats {
        Some(floats) => Values::Floats(floats),
        None => Values::Mixed(samples.iter().map(|sample| sample.1).collect()),
    }
}

/// The exact summary of a run; `None` for no samples.
fn summarize(samples: &[(Timestamp, Value)]) -> Option<Summary> {
    let (first, last) = (samples.first()?.1, samples.last()?.1);
    let number = || samples.iter().map(|sample| sample.1).filter(|value| !value.as_f64().is_nan());
    let sum = match values_of(samples) {
        Values::Ints(ints) => Sum::Int(ints.into_iter().map(i128::from).sum()),
        Values::Floats(floats) => Sum::Float(floats.into_iter().sum()),
        Values::Mixed(values) => Sum::Float(values.into_iter().map(Value::as_f64).sum()),
    };
    let resets = samples
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if b.1.numeric_cmp(a.1).is_lt()))
        .count();
    Some(Summary {
        count: samples.len() as u64,
        first,
        last,
        min: number().min_by(|a, b| a.numeric_cmp(*b)).unwrap_or(first),
        max: number().max_by(|a, b| a.numeric_cmp(*b)).unwrap_or(first),
        sum,
        resets: resets as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Columns, collect};
    use crate::value::MetricValue;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn row(pod: &str, value: i64) -> Row {
        Row {
            labels: Labels::from_iter([("pod", pod)]),
            cells: vec![("m".into(), MetricValue::gauge(value))],
        }
    }

    fn selector(range: TimeRange) -> Selector {
        Selector { matchers: vec![Matcher::equal("pod", "a")], columns: Columns::All, range }
    }

    #[test]
    fn samples_come_back_in_order_of_time_and_the_later_append_wins() {
        let store = MemoryStorage::new();
        for (second, value) in [(3, 30), (1, 10), (2, 20), (2, 21)] {
            store.append(at(second), &[row("a", value), row("b", 0)]);
        }
        let snapshot = store.snapshot().unwrap();
        store.append(at(4), &[row("a", 40)]);
        let sets = snapshot.select(&selector(TimeRange::ALL)).unwrap();
        assert_eq!(sets.len(), 1);
        let expected: Vec<_> = [(1, 10), (2, 21), (3, 30)].map(|(s, v)| (at(s), v.into())).into();
        assert_eq!(collect(&*sets[0], 0).unwrap(), expected);
        assert_eq!(snapshot.bounds(), Some(TimeRange::new(at(1), at(3))));
    }

    #[test]
    fn a_summary_is_only_given_for_a_run_the_range_does_not_cut() {
        let store = MemoryStorage::new();
        for second in 0..40 {
            store.append(at(second), &[row("a", second)]);
        }
        let snapshot = store.snapshot().unwrap();
        let sets = snapshot.select(&selector(TimeRange::new(at(5), at(33)))).unwrap();
        let mut cursor = sets[0].read(0);
        let mut samples = Samples::default();
        let mut runs = Vec::new();
        while let Some(run) = cursor.next_run().unwrap() {
            cursor.decode(&mut samples).unwrap();
            runs.push((run.first, run.last, run.summary.map(|s| (s.count, s.sum))));
            assert_eq!(samples.timestamps.first(), Some(&run.first));
        }
        let whole = Some((16, Sum::Int((16..32).sum())));
        assert_eq!(runs, [(at(5), at(15), None), (at(16), at(31), whole), (at(32), at(33), None)]);
    }

    #[test]
    fn names_and_values_are_those_of_the_range() {
        let store = MemoryStorage::new();
        store.append(at(1), &[row("a", 1)]);
        store.append(at(9), &[row("b", 1)]);
        let snapshot = store.snapshot().unwrap();
        let all = Selector {
            matchers: Vec::new(),
            columns: Columns::All,
            range: TimeRange::new(at(2), at(9)),
        };
        assert_eq!(snapshot.label_values("pod", &all).unwrap(), ["b"]);
        assert_eq!(snapshot.column_names(&all).unwrap(), ["m"]);
        assert_eq!(snapshot.label_names(&all).unwrap(), ["pod"]);
    }
}
