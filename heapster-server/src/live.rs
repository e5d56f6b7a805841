//! [`Live`]: the newest batch and what everything uses, shared by the sink that stored the batch and
//! the APIs that list from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::series::{
    COLLECTION_START_COLUMN, ENTITY_CREATE_COLUMN, SCRAPE_COLUMN, is_time_column, split_labels,
};
use heapster_core::storage::{
    Columns, Samples, SelectedSet, Selector, Snapshot, Storage, StorageError,
};
use heapster_core::{
    DataBatch, EntityKey, LabeledMetric, Matcher, MetricSet, MetricValue, NanoTime, Text,
    TimeRange, Timestamp, Value, key,
};
use heapster_query::{Budget, Cancel, Limits};
use parking_lot::RwLock;

use crate::usage::past::{self, Scope};
use crate::usage::{Board, Rules};

/// The newest batch that the store has acknowledged, and the rates that it and those before it make.
///
/// A batch is published only after it was stored, so a list never names what a query cannot find.
#[derive(Debug, Default)]
pub struct Live {
    latest: RwLock<Option<Arc<DataBatch>>>,
    board: RwLock<Arc<Board>>,
    rules: Rules,
}

impl Live {
    /// Nothing yet; rates will be made by these rules.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// The newest batch, or `None` before the first.
    pub fn latest(&self) -> Option<Arc<DataBatch>> {
        self.latest.read().clone()
    }

    /// What nodes and containers use, as of the newest batch.
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board.read())
    }

    /// How rates are made.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Takes over what was shown before a restart: the newest batch and the board after it.
    pub fn resume(&self, batch: Arc<DataBatch>, board: Board) {
        *self.latest.write() = Some(batch);
        *self.board.write() = Arc::new(board);
    }

    /// Publishes a stored batch, whatever its timestamp: the last one stored is the newest. One
    /// batch at a time.
    pub fn publish(&self, batch: Arc<DataBatch>) {
        let board = Arc::new(self.board().after(&batch, self.rules));
        *self.board.write() = board;
        let before = self.latest.write().replace(batch);
        // Freeing a large batch takes a while; readers must not wait for it.
        drop(before);
    }
}

/// How far before the newest sample the newest batch is looked for. Samples that are not part of a
/// batch may be newer, such as those other programs push.
const BATCH_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Rebuilds the newest batch from the store, and the board after it, so that a restarted server lists
/// names and derives rates without a gap. `None` when the store holds no batch of the last hour of its data.
///
/// What a store does not keep is lost: sets without any metric or time, and the order of labelled
/// metrics, which come ordered by their labels and names.
///
/// # Errors
/// The store could not be read.
pub fn restore(
    storage: &dyn Storage,
    rules: Rules,
) -> Result<Option<(DataBatch, Board)>, StorageError> {
    let snapshot = storage.snapshot()?;
    let Some(batch) = newest_batch(&*snapshot)? else { return Ok(None) };
    // Nobody waits, and it is as much as the server holds anyway.
    let limits = Limits { samples_max: usize::MAX, ..Limits::default() };
    let mut budget = Budget::new(limits, Cancel::default());
    let (scope, at) = (Scope::All, batch.timestamp);
    let board = past::board_at(&*snapshot, &scope, at, None, rules, &mut budget);
    Ok(Some((batch, board.map_err(StorageError::new)?)))
}

fn newest_batch(snapshot: &dyn Snapshot) -> Result<Option<DataBatch>, StorageError> {
    let Some(bounds) = snapshot.bounds() else { return Ok(None) };
    // Nearly always the newest sample is of a batch; then only one moment is read.
    let batch = batch_at(snapshot, bounds.end)?;
    if !batch.sets.is_empty() {
        return Ok(Some(batch));
    }
    let recent = TimeRange::new(bounds.end.saturating_sub(BATCH_AGE_MAX), bounds.end);
    match newest_of_entities(snapshot, recent)? {
        Some(at) => Ok(Some(batch_at(snapshot, at)?)),
        None => Ok(None),
    }
}

fn entities(range: TimeRange) -> Selector {
    let matchers = vec![Matcher::not_equal(key::TYPE, "")];
    Selector { matchers, columns: Columns::All, range }
}

fn newest_of_entities(
    snapshot: &dyn Snapshot,
    range: TimeRange,
) -> Result<Option<Timestamp>, StorageError> {
    let mut newest = None;
    let mut samples = Samples::default();
    for set in snapshot.select(&entities(range))? {
        if EntityKey::from_labels(&split_labels(set.labels()).0).is_none() {
            continue;
        }
        for column in 0..set.columns().len() {
            let mut cursor = set.read(column);
            while let Some(run) = cursor.next_run()? {
                if newest.is_some_and(|newest| run.last <= newest) {
                    continue;
                }
                // A bound may lie after the last sample, which only decoding tells.
                let last = match run.summary {
                    Some(_) => Some(run.last),
                    None => {
                        cursor.decode(&mut samples)?;
                        samples.timestamps.last().copied()
                    }
                };
                newest = newest.max(last);
            }
        }
    }
    Ok(newest)
}

fn batch_at(snapshot: &dyn Snapshot, at: Timestamp) -> Result<DataBatch, StorageError> {
    let mut batch = DataBatch::new(at);
    // A label of a metric may hide one of its set, so labelled rows wait for the plain ones.
    let mut labeled: BTreeMap<EntityKey, MetricSet> = BTreeMap::new();
    for stored in snapshot.select(&entities(TimeRange::new(at, at)))? {
        let (labels, own) = split_labels(stored.labels());
        let Some(key) = EntityKey::from_labels(&labels) else { continue };
        let cells = cells_of(&*stored)?;
        if cells.is_empty() {
            continue;
        }
        let sets = if own.is_empty() { &mut batch.sets } else { &mut labeled };
        let set = sets.entry(key).or_insert_with(|| MetricSet { labels, ..MetricSet::default() });
        for (name, metric) in cells {
            if own.is_empty() {
                set_plain(set, &name, metric);
            } else {
                set.labeled_metrics.push(LabeledMetric { name, labels: own.clone(), metric });
            }
        }
    }
    for (key, set) in labeled {
        match batch.sets.get_mut(&key) {
            Some(plain) => plain.labeled_metrics = set.labeled_metrics,
            None => {
                batch.sets.insert(key, set);
            }
        }
    }
    Ok(batch)
}

fn set_plain(set: &mut MetricSet, name: &Text, metric: MetricValue) {
    if !is_time_column(name) {
        set.metrics.set(name.clone(), metric);
        return;
    }
    let Value::Int(nanos) = metric.value else { return };
    let time = Some(NanoTime::from_nanos(nanos));
    match name.as_str() {
        COLLECTION_START_COLUMN => set.collection_start_time = time,
        ENTITY_CREATE_COLUMN => set.entity_create_time = time,
        SCRAPE_COLUMN => set.scrape_time = time,
        _ => {}
    }
}

/// The columns of a set with their first sample in its range.
fn cells_of(set: &dyn SelectedSet) -> Result<Vec<(Text, MetricValue)>, StorageError> {
    let mut cells = Vec::with_capacity(set.columns().len());
    let mut samples = Samples::default();
    for (index, column) in set.columns().iter().enumerate() {
        let mut cursor = set.read(index);
        while cursor.next_run()?.is_some() {
            cursor.decode(&mut samples)?;
            if let Some((_, value)) = samples.iter().next() {
                let metric = MetricValue { value, kind: column.kind };
                cells.push((column.name.clone(), metric));
                break;
            }
        }
    }
    Ok(cells)
}
