//! [`MetricSet`], [`LabeledMetric`] and [`DataBatch`]: what one scrape of everything yields.

use std::collections::BTreeMap;

use crate::labels::Labels;
use crate::value::{MetricValue, Value};
use crate::{EntityKey, EntityType, NanoTime, Text, Timestamp};

/// The plain metrics of a set: name → value, sorted by name, each name once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<(Text, MetricValue)>);

/// About as many plain metrics as a container has; room for them is made at once.
const USUAL_METRICS: usize = 18;
const MORE_METRICS: usize = 10;

/// A container has two file systems of five metrics each.
const USUAL_LABELED_METRICS: usize = 10;

impl Metrics {
    /// No metrics.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The metric of that name.
    pub fn get(&self, name: &str) -> Option<MetricValue> {
        self.position(name).ok().map(|index| self.0[index].1)
    }

    /// The integer under that name; `None` when absent or a float.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|metric| metric.value.as_int())
    }

    /// Whether the metric is there.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Sets a metric, replacing what was there.
    pub fn set(&mut self, name: impl Into<Text>, metric: MetricValue) {
        let name = name.into();
        // Decoders add in order, so the search is rarely needed.
        if self.0.last().is_none_or(|(last, _)| *last < name) {
            self.make_room();
            self.0.push((name, metric));
            return;
        }
        match self.position(&name) {
            Ok(index) => self.0[index].1 = metric,
            Err(index) => {
                self.make_room();
                self.0.insert(index, (name, metric));
            }
        }
    }

    /// Grows by little: a batch holds thousands of these lists, and nearly all have the same length.
    fn make_room(&mut self) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(if self.0.is_empty() { USUAL_METRICS } else { MORE_METRICS });
        }
    }

    /// Sets a metric whose name is known at compile time, without allocating for the name.
    pub fn set_static(&mut self, name: &'static str, metric: MetricValue) {
        self.set(Text::from_static(name), metric);
    }

    /// Removes a metric and returns it.
    pub fn remove(&mut self, name: &str) -> Option<MetricValue> {
        self.position(name).ok().map(|index| self.0.remove(index).1)
    }

    /// The metrics in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Text, MetricValue)> {
        self.0.iter().map(|(name, metric)| (name, *metric))
    }

    /// How many metrics there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_str().cmp(name))
    }
}

/// A metric with labels of its own: the usage of one file system, the traffic of one disk.
///
/// `labels` are the metric's alone; those of the set are not repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct LabeledMetric {
    /// The metric's name.
    pub name: Text,
    /// The metric's own labels, such as `resource_id="/"`.
    pub labels: Labels,
    /// The number and its kind.
    pub metric: MetricValue,
}

/// Everything known about one entity at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricSet {
    /// Labels of the entity; at least `type`.
    pub labels: Labels,
    /// Since when the entity's counters run: the start of the container or kubelet.
    pub collection_start_time: Option<NanoTime>,
    /// Since when the entity exists: the pod's start time; survives restarts.
    pub entity_create_time: Option<NanoTime>,
    /// When the kubelet took the sample. Unknown for sets made up of others.
    pub scrape_time: Option<NanoTime>,
    /// Metrics without labels of their own.
    pub metrics: Metrics,
    /// Metrics with labels of their own, in the order the source gave them.
    pub labeled_metrics: Vec<LabeledMetric>,
}

impl MetricSet {
    /// An empty set of an entity of that type: its only label is `type`.
    pub fn new(entity_type: EntityType) -> Self {
        let mut set = Self::default();
        set.labels.set_static(crate::key::TYPE, Text::from_static(entity_type.as_str()));
        set
    }

    /// The type its label names.
    pub fn entity_type(&self) -> Option<EntityType> {
        EntityType::from_label(self.labels.value(crate::key::TYPE))
    }

    /// Adds a labelled gauge.
    pub fn push_labeled(&mut self, name: &'static str, labels: &Labels, value: impl Into<Value>) {
        if self.labeled_metrics.capacity() == 0 {
            self.labeled_metrics.reserve(USUAL_LABELED_METRICS);
        }
        self.labeled_metrics.push(LabeledMetric {
            name: Text::from_static(name),
            labels: labels.clone(),
            metric: MetricValue::gauge(value),
        });
    }
}

/// All metric sets of one scrape of everything, under one aligned timestamp.
///
/// The map is ordered by key, so whatever is derived from a batch comes in a stable order.
#[derive(Clone, Debug, PartialEq)]
pub struct DataBatch {
    /// The end of the aligned interval the batch belongs to; the same for all sets.
    pub timestamp: Timestamp,
    /// The sets by entity.
    pub sets: BTreeMap<EntityKey, MetricSet>,
}

impl DataBatch {
    /// A batch without sets.
    pub const fn new(timestamp: Timestamp) -> Self {
        Self { timestamp, sets: BTreeMap::new() }
    }
}
