//! A store on the clock of its data, and filling it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use heapster_core::storage::{Columns, Samples, Selector, Snapshot, StorageError};
use heapster_core::{DataBatch, TimeRange, Timestamp};
use heapster_store::{Ack, AppendReport, Clock, Store, StoreOptions};

use super::{DenseBatches, sample_count};
use crate::measure::cpu_of;

/// Data time between two calls of maintenance: often enough for flushes on time, seldom enough that its
/// syncs do not take the time of the run.
const MAINTAIN_EVERY: Duration = Duration::from_secs(300);

/// A clock that says what the batches say: old data is not late, and what the store does every half
/// an hour it does after half an hour of data.
#[derive(Debug, Default)]
pub struct BatchClock {
    now_ms: AtomicI64,
}

impl BatchClock {
    /// A clock that begins at the epoch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock to the time of a batch; it does not go back.
    pub fn set(&self, now: Timestamp) {
        self.now_ms.fetch_max(now.as_millis(), Ordering::Relaxed);
    }
}

impl Clock for BatchClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.now().saturating_since(Timestamp::EPOCH)
    }
}

/// The store's defaults, on the clock of the batches.
pub fn store_options(clock: &Arc<BatchClock>) -> StoreOptions {
    StoreOptions { clock: clock.clone(), future_max: None, ..StoreOptions::default() }
}

/// Reads every sample of a store, as an export would; returns how many there are.
///
/// # Errors
/// Something cannot be read.
pub fn read_all(snapshot: &dyn Snapshot, columns: Columns) -> Result<u64, StorageError> {
    let selector = Selector { matchers: Vec::new(), columns, range: TimeRange::ALL };
    let mut samples = Samples::default();
    let mut count = 0;
    for set in snapshot.select(&selector)? {
        for column in 0..set.columns().len() {
            let mut cursor = set.read(column);
            while cursor.next_run()?.is_some() {
                cursor.decode(&mut samples)?;
                count += samples.timestamps.len() as u64;
            }
        }
    }
    Ok(count)
}

/// A store that is being filled with the acknowledgement [`Ack::Buffered`], and what that costs.
#[derive(Debug)]
pub struct Filling {
    /// The store.
    pub store: Store,
    /// Its clock.
    pub clock: Arc<BatchClock>,
    /// What it cost so far.
    pub cost: FillCost,
    maintained_at: Timestamp,
}

/// What filling a store cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct FillCost {
    /// Samples that the batches had.
    pub offered: u64,
    /// Samples that the store took.
    pub accepted: u64,
    /// CPU time of appending.
    pub append_cpu: Duration,
    /// CPU time of maintenance.
    pub maintain_cpu: Duration,
    /// Bytes written to the log.
    pub wal_bytes: u64,
}

impl Filling {
    /// Opens a store in a folder with its defaults.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn begin(folder: &Path) -> io::Result<Self> {
        Self::begin_with(folder, |options| options)
    }

    /// Opens a store in a folder with options that differ from the defaults.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn begin_with(
        folder: &Path,
        change: impl FnOnce(StoreOptions) -> StoreOptions,
    ) -> io::Result<Self> {
        let clock = Arc::new(BatchClock::new());
        let store = Store::open(folder, change(store_options(&clock))).map_err(io::Error::other)?;
        Ok(Self { store, clock, cost: FillCost::default(), maintained_at: Timestamp::MIN })
    }

    /// Appends a batch; the store is maintained after every minute of data.
    ///
    /// # Errors
    /// As [`Store::append`] and [`Store::maintain`].
    pub fn append(&mut self, batch: &DataBatch) -> io::Result<()> {
        self.append_timed(batch.timestamp, sample_count(batch), |store| {
            store.append(batch, Ack::Buffered).map_err(io::Error::other)
        })
    }

    /// Appends the batch of a node at a time by handle, and maintains as well.
    ///
    /// # Errors
    /// As [`Store::append_dense`] and [`Store::maintain`].
    pub fn append_dense(
        &mut self,
        batches: &mut DenseBatches<'_>,
        node: usize,
        time: usize,
    ) -> io::Result<()> {
        let at = batches.prepare(node, time);
        self.append_timed(at, batches.samples(), |store| batches.append(store))
    }

    fn append_timed(
        &mut self,
        at: Timestamp,
        samples: u64,
        append: impl FnOnce(&Store) -> io::Result<AppendReport>,
    ) -> io::Result<()> {
        self.clock.set(at);
        self.cost.offered += samples;
        let log_before = self.store.stats().wal_bytes;
        let (report, cpu) = cpu_of(|| append(&self.store));
        self.cost.append_cpu += cpu;
        self.cost.accepted += report?.accepted;
        // Less when the append had to flush.
        self.cost.wal_bytes += self.store.stats().wal_bytes.saturating_sub(log_before);
        if at.saturating_since(self.maintained_at) >= MAINTAIN_EVERY {
            self.maintained_at = at;
            self.maintain()?;
        }
        Ok(())
    }

    /// Maintains the store.
    ///
    /// # Errors
    /// As [`Store::maintain`].
    pub fn maintain(&mut self) -> io::Result<()> {
        let (done, cpu) = cpu_of(|| self.store.maintain());
        self.cost.maintain_cpu += cpu;
        done.map(drop).map_err(io::Error::other)
    }
}

impl FillCost {
    /// Samples appended in a second of CPU time.
    pub fn samples_per_cpu_second(&self) -> f64 {
        self.accepted as f64 / self.append_cpu.as_secs_f64().max(1e-9)
    }

    /// Bytes of the log per sample.
    pub fn wal_bytes_per_sample(&self) -> f64 {
        self.wal_bytes as f64 / self.accepted.max(1) as f64
    }
}
