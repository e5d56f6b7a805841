//! [`Cardinality`]: how many sets there are, and which names and labels make them many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use heapster_core::Text;

/// How many sets there are, and what makes them many.
///
/// Counts are those of the part of the store that has the most: a head or a segment, so a span of
/// hours to a day. That is what is active at one time, rather than all that ever was. Nothing but
/// indexes is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cardinality {
    /// Sets.
    pub sets: u64,
    /// Columns of all sets, each a series.
    pub series: u64,
    /// The labels with the most values, most first.
    pub labels: Vec<LabelCardinality>,
    /// The metrics that the most sets have, most first.
    pub metrics: Vec<MetricCardinality>,
    /// The pairs of label and value that the most sets have, most first.
    pub pairs: Vec<PairCardinality>,
}

/// How many values and sets a label has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCardinality {
    /// The label's name.
    pub name: Text,
    /// Distinct values.
    pub values: u64,
    /// Sets that have the label.
    pub sets: u64,
}

/// How many sets have a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricCardinality {
    /// The metric's name.
    pub name: Text,
    /// Sets that have it, each a series.
    pub sets: u64,
}

/// How many sets have a label with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairCardinality {
    /// The label's name.
    pub name: Text,
    /// Its value.
    pub value: Text,
    /// Sets that have the label with this value.
    pub sets: u64,
}

/// The counts of one part of the store.
#[derive(Debug)]
pub(crate) struct PartCardinality {
    pub sets: u64,
    /// How many of each kind are wanted.
    pub limit: usize,
    series: u64,
    labels: Vec<LabelCardinality>,
    metrics: Vec<MetricCardinality>,
    pairs: Vec<PairCardinality>,
}

impl PartCardinality {
    pub fn new(limit: usize) -> Self {
        let (labels, metrics, pairs) = (Vec::new(), Vec::new(), Vec::new());
        Self { sets: 0, limit, series: 0, labels, metrics, pairs }
    }

    pub fn label(&mut self, label: LabelCardinality) {
        self.labels.push(label);
    }

    pub fn metric(&mut self, name: Text, sets: u64) {
        self.series = self.series.saturating_add(sets);
        self.metrics.push(MetricCardinality { name, sets });
    }

    pub fn pair(&mut self, name: Text, value: Text, sets: u64) {
        self.pairs.push(PairCardinality { name, value, sets });
    }
}

/// The most of all parts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sets: u64,
    series: u64,
    labels: HashMap<Text, (u64, u64)>,
    metrics: HashMap<Text, u64>,
    pairs: HashMap<(Text, Text), u64>,
}

impl Tally {
    pub fn add(&mut self, part: PartCardinality) {
        self.sets = self.sets.max(part.sets);
        self.series = self.series.max(part.series);
        for LabelCardinality { name, values, sets } in part.labels {
            let most = self.labels.entry(name).or_default();
            *most = (most.0.max(values), most.1.max(sets));
        }
        for MetricCardinality { name, sets } in part.metrics {
            let most = self.metrics.entry(name).or_default();
            *most = sets.max(*most);
        }
        for PairCardinality { name, value, sets } in part.pairs {
            let most = self.pairs.entry((name, value)).or_default();
            *most = sets.max(*most);
        }
    }

    /// The names and pairs with the most, at most `limit` of each.
    pub fn finish(self, limit: usize) -> Cardinality {
        let labels = self.labels.into_iter();
        let labels = labels.map(|(name, (values, sets))| LabelCardinality { name, values, sets });
        let metrics = self.metrics.into_iter();
        let metrics = metrics.map(|(name, sets)| MetricCardinality { name, sets });
        let pairs = self.pairs.into_iter();
        let pairs = pairs.map(|((name, value), sets)| PairCardinality { name, value, sets });
        Cardinality {
            sets: self.sets,
            series: self.series,
            labels: sorted(labels, limit, |label| (Reverse(label.values), label.name.clone())),
            metrics: sorted(metrics, limit, |metric| (Reverse(metric.sets), metric.name.clone())),
            pairs: sorted(pairs, limit, |pair| {
                (Reverse(pair.sets), (pair.name.clone(), pair.value.clone()))
            }),
        }
    }
}

fn sorted<T, K: Ord>(all: impl Iterator<Item = T>, limit: usize, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_by_cached_key(key);
    all.truncate(limit);
    all
}

/// Keeps the items with the greatest counts.
#[derive(Debug)]
pub(crate) struct Most<T> {
    limit: usize,
    /// The least first.
    kept: BinaryHeap<Reverse<(u64, T)>>,
}

impl<T: Ord> Most<T> {
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: BinaryHeap::new() }
    }

    pub fn add(&mut self, count: u64, item: T) {
        self.kept.push(Reverse((count, item)));
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    /// The counts with their items, the greatest first.
    pub fn into_sorted(self) -> Vec<(u64, T)> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(kept)| kept).collect()
    }
}
