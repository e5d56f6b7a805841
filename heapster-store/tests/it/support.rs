//! What the tests share: a clock that is stepped, a store in memory, and reading everything back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use heapster_core::series::Row;
use heapster_core::storage::{Columns, Selector, Snapshot, collect};
use heapster_core::{Labels, MetricValue, TimeRange, Timestamp, Value};
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Clock, Store, StoreOptions};

/// Where the stores in memory lie.
pub const DIR: &str = "/data/store";
/// 2018-07-26T12:00:00Z, the start of all tests.
pub const NOON: i64 = 1_532_606_400_000;
pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// Every sample of a store: set and column, then time.
pub type Contents = BTreeMap<(String, String), BTreeMap<i64, Bits>>;
/// A value that is compared by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bits {
    Int(i64),
    Float(u64),
}

impl From<Value> for Bits {
    fn from(value: Value) -> Self {
        match value {
            Value::Int(value) => Self::Int(value),
            Value::Float(value) => Self::Float(value.to_bits()),
        }
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct TestClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { wall: AtomicI64::new(NOON), monotonic: AtomicU64::new(0) })
    }

    /// Time passes.
    pub fn step(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.monotonic.fetch_add(millis as u64, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
    }

    pub fn millis(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::SeqCst))
    }
}

/// Options for a store in memory.
pub fn options(vfs: &FaultyVfs, clock: &Arc<TestClock>) -> StoreOptions {
    StoreOptions { vfs: Arc::new(vfs.clone()), clock: clock.clone(), ..StoreOptions::default() }
}

pub fn open(vfs: &FaultyVfs, clock: &Arc<TestClock>) -> Store {
    Store::open(DIR, options(vfs, clock)).unwrap()
}

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A row of the pod of that name.
pub fn row<V: Into<Value>>(pod: &str, cells: impl IntoIterator<Item = (&'static str, V)>) -> Row {
    let labels = Labels::from_iter([("type", "pod"), ("pod_name", pod)]);
    let cells = cells.into_iter().map(|(name, value)| (name.into(), MetricValue::gauge(value)));
    Row { labels, cells: cells.collect() }
}

/// Everything in a snapshot.
pub fn contents(snapshot: &dyn Snapshot) -> Contents {
    contents_in(snapshot, TimeRange::ALL)
}

/// Everything of a range.
pub fn contents_in(snapshot: &dyn Snapshot, range: TimeRange) -> Contents {
    let selector = Selector { matchers: Vec::new(), columns: Columns::All, range };
    let mut contents = Contents::new();
    for set in snapshot.select(&selector).unwrap() {
        for (index, column) in set.columns().iter().enumerate() {
            let samples = collect(&*set, index).unwrap();
            assert!(samples.is_sorted_by(|(a, _), (b, _)| a < b), "each time once, in order");
            let samples: BTreeMap<_, _> =
                samples.into_iter().map(|(at, value)| (at.as_millis(), value.into())).collect();
            if !samples.is_empty() {
                let key = (set.labels().to_string(), column.name.to_string());
                assert!(contents.insert(key, samples).is_none(), "each column once");
            }
        }
    }
    contents
}

/// Puts a row into the expected contents.
pub fn expect(contents: &mut Contents, millis: i64, row: &Row) {
    for (name, metric) in &row.cells {
        let key = (row.labels.to_string(), name.to_string());
        contents.entry(key).or_default().insert(millis, metric.value.into());
    }
}

/// Damages both copies of a segment's footer, so that it does not open.
pub fn ruin(vfs: &FaultyVfs, segment: &Path) {
    let len = vfs.files()[segment].len();
    // They end with the trailer at the end of the file, and where the row groups begin.
    for end in [320, len] {
        vfs.flip_bit(segment, end - 30, 0).unwrap();
    }
}
