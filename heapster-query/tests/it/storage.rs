//! The stores that queries are tried on, and putting samples into them.

use std::collections::BTreeMap;
use std::sync::Arc;

use heapster_core::series::Row;
use heapster_core::storage::{MemoryStorage, Snapshot, Storage};
use heapster_core::{Labels, MetricKind, MetricValue, Text, Timestamp, Value};
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, LateWindow, Store, StoreOptions};

use crate::script::Series;

/// Where samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain maps, with runs of 16 samples.
    Memory,
    /// The store, all in its head.
    Head,
    /// The store, flushed after each load, with whole numbers as integers.
    Segments,
}

pub const KINDS: [Kind; 3] = [Kind::Memory, Kind::Head, Kind::Segments];

/// A store of some kind.
pub enum Data {
    Memory(MemoryStorage),
    Store { store: Box<Store>, kind: Kind },
}

impl Data {
    pub fn new(kind: Kind) -> Self {
        if kind == Kind::Memory {
            return Self::Memory(MemoryStorage::new());
        }
        let options = StoreOptions {
            vfs: Arc::new(FaultyVfs::new()),
            late_window: LateWindow::Any,
            future_max: None,
            ..StoreOptions::default()
        };
        Self::Store { store: Box::new(Store::open("/store", options).unwrap()), kind }
    }

    pub fn load(&self, series: &[Series]) {
        let mut rows: BTreeMap<i64, BTreeMap<Labels, Row>> = BTreeMap::new();
        let as_ints = matches!(self, Self::Store { kind: Kind::Segments, .. });
        for (labels, values) in series {
            let mut labels = labels.clone();
            let name = labels.remove("__name__").unwrap_or_default();
            for (at, value) in values {
                let metric =
                    MetricValue { value: stored(*value, as_ints), kind: MetricKind::Gauge };
                let row = rows
                    .entry(*at)
                    .or_default()
                    .entry(labels.clone())
                    .or_insert_with(|| Row { labels: labels.clone(), cells: Vec::new() });
                row.cells.push((Text::clone(&name), metric));
            }
        }
        for (at, rows) in rows {
            let at = Timestamp::from_millis(at);
            match self {
                Self::Memory(memory) => {
                    memory.append(at, &rows.into_values().collect::<Vec<_>>());
                }
                Self::Store { store, .. } => {
                    let report = store.append_rows(at, rows.values(), Ack::Memory).unwrap();
                    assert_eq!(report.rejected.total(), 0);
                }
            }
        }
        if let Self::Store { store, kind: Kind::Segments } = self {
            store.flush().unwrap();
        }
    }

    pub fn snapshot(&self) -> Arc<dyn Snapshot> {
        match self {
            Self::Memory(memory) => memory.snapshot().unwrap(),
            Self::Store { store, .. } => Storage::snapshot(&**store).unwrap(),
        }
    }
}

/// As an integer where it is one; the sign of zero would be lost.
fn stored(value: f64, as_int: bool) -> Value {
    let is_int =
        value.fract() == 0.0 && value.abs() < 1e15 && !(value == 0.0 && value.is_sign_negative());
    if as_int && is_int { Value::Int(value as i64) } else { Value::Float(value) }
}
