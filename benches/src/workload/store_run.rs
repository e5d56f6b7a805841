//! One data set through the store: append, reopen, read, and what each costs.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use heapster_core::storage::{Columns, Samples, Selector, Snapshot, StorageError};
use heapster_core::{DataBatch, TimeRange, Timestamp};
use heapster_store::{Ack, Clock, Store, StoreOptions, SystemClock};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::sample_count;
use crate::load::{DiskUsage, ProcessUsage};

/// Batches are made ahead in groups of about this many samples, so that making them is not measured.
const GROUP_SAMPLES: u64 = 200_000;
/// Data time between two calls of maintenance.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60);

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

/// What a data set cost.
#[derive(Clone, Debug, Default)]
pub struct StoreRun {
    name: String,
    batches: u64,
    /// Samples the batches had.
    offered: u64,
    /// Samples the store took.
    accepted: u64,
    /// Samples that were read back after the last reopening.
    read: u64,
    /// CPU time of the appending thread.
    append_cpu: Duration,
    /// CPU time of maintenance, the last flush included.
    maintain_cpu: Duration,
    read_cpu: Duration,
    /// Most series in memory, and what the store says they took then.
    head_series: u64,
    head_bytes: u64,
    /// Growth of the process's own memory from the empty store to the fullest head. Includes the
    /// batches that were waiting.
    grown_bytes: u64,
    /// Until a store with an unflushed head is open again.
    reopen_with_log: Duration,
    /// Samples that were replayed then.
    replayed: u64,
    /// Until a flushed and closed store is open again.
    reopen_closed: Duration,
    disk: DiskUsage,
}

impl StoreRun {
    /// Runs the batches through a store in `folder`, which must be empty, with that
    /// [`StoreOptions::flush_window`].
    ///
    /// # Errors
    /// The store refuses to work, or this machine cannot be measured.
    pub fn measure(
        name: &str,
        batches: impl IntoIterator<Item = DataBatch>,
        folder: &Path,
        flush_window: Duration,
    ) -> io::Result<Self> {
        let clock = Arc::new(BatchClock::new());
        let mut run = Self { name: name.into(), ..Self::default() };
        let options = StoreOptions { flush_window, ..store_options(&clock) };
        let open = || Store::open(folder, options.clone()).map_err(io::Error::other);
        let store = open()?;
        let empty = ProcessUsage::of(std::process::id())?.anonymous_bytes;
        let mut batches = batches.into_iter().peekable();
        let mut maintained_at = Timestamp::MIN;
        while batches.peek().is_some() {
            let group = next_group(&mut batches);
            run.append(&store, &clock, &group, &mut maintained_at)?;
            let stats = store.stats();
            if stats.head_columns >= run.head_series {
                run.head_series = stats.head_columns;
                run.head_bytes = stats.head_bytes;
                let own = ProcessUsage::of(std::process::id())?.anonymous_bytes;
                run.grown_bytes = own.saturating_sub(empty);
            }
        }
        // Dropped without a flush, as by a process that dies.
        drop(store);
        let wall = SystemClock::new();
        let store = open()?;
        run.reopen_with_log = wall.monotonic();
        run.replayed = store.open_report().replayed_samples;

        let before = thread_cpu();
        store.flush().map_err(io::Error::other)?;
        run.maintain_cpu += thread_cpu() - before;
        store.close().map_err(io::Error::other)?;
        run.disk = DiskUsage::of(folder)?;

        let wall = SystemClock::new();
        let store = open()?;
        run.reopen_closed = wall.monotonic();
        let snapshot = store.snapshot();
        let before = thread_cpu();
        run.read = read_all(&snapshot, Columns::All).map_err(io::Error::other)?;
        run.read_cpu = thread_cpu() - before;
        Ok(run)
    }

    fn append(
        &mut self,
        store: &Store,
        clock: &BatchClock,
        group: &[DataBatch],
        maintained_at: &mut Timestamp,
    ) -> io::Result<()> {
        self.offered += group.iter().map(sample_count).sum::<u64>();
        self.batches += group.len() as u64;
        let mut began = thread_cpu();
        for batch in group {
            clock.set(batch.timestamp);
            let report = store.append(batch, Ack::Buffered).map_err(io::Error::other)?;
            self.accepted += report.accepted;
            if batch.timestamp.saturating_since(*maintained_at) >= MAINTAIN_EVERY {
                *maintained_at = batch.timestamp;
                let paused = thread_cpu();
                self.append_cpu += paused - began;
                store.maintain().map_err(io::Error::other)?;
                began = thread_cpu();
                self.maintain_cpu += began - paused;
            }
        }
        self.append_cpu += thread_cpu() - began;
        Ok(())
    }

    /// Whether every sample offered was read back.
    pub fn is_complete(&self) -> bool {
        self.offered == self.read
    }

    fn per_sample(&self, amount: f64) -> f64 {
        amount / self.offered.max(1) as f64
    }

    fn nanos_per_sample(&self, duration: Duration) -> f64 {
        self.per_sample(duration.as_secs_f64() * 1e9)
    }

    fn per_series(&self, bytes: u64) -> f64 {
        bytes as f64 / self.head_series.max(1) as f64
    }

    /// The numbers as JSON; durations are seconds.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "batches": self.batches,
            "samples": {"offered": self.offered, "accepted": self.accepted, "read": self.read},
            "append_ns_per_sample": self.nanos_per_sample(self.append_cpu),
            "maintain_ns_per_sample": self.nanos_per_sample(self.maintain_cpu),
            "read_ns_per_sample": self.nanos_per_sample(self.read_cpu),
            "disk_bytes": self.disk.total_bytes(),
            "disk_bytes_by_folder": self.disk.by_folder,
            "disk_bytes_per_sample": self.per_sample(self.disk.total_bytes() as f64),
            "head": {
                "series": self.head_series,
                "bytes_per_series": self.per_series(self.head_bytes),
                "process_bytes_per_series": self.per_series(self.grown_bytes),
            },
            "reopen_with_log_seconds": self.reopen_with_log.as_secs_f64(),
            "replayed_samples": self.replayed,
            "reopen_closed_seconds": self.reopen_closed.as_secs_f64(),
            "complete": self.is_complete(),
        })
    }
}

/// A table of two columns.
impl fmt::Display for StoreRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.offered.saturating_sub(self.read);
        writeln!(f, "{}", self.name)?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<28} {value}");
        row("samples / batches", format!("{} / {}, {lost} lost", self.offered, self.batches))?;
        row(
            "disk",
            format!(
                "{:.3} bytes/sample, {:.1} MiB in {} files",
                self.per_sample(self.disk.total_bytes() as f64),
                self.disk.total_bytes() as f64 / f64::from(1 << 20),
                self.disk.files,
            ),
        )?;
        row(
            "append",
            format!(
                "{:.1} ns/sample, and maintenance {:.1} ns/sample",
                self.nanos_per_sample(self.append_cpu),
                self.nanos_per_sample(self.maintain_cpu),
            ),
        )?;
        row("read everything", format!("{:.2} ns/sample", self.nanos_per_sample(self.read_cpu)))?;
        row(
            "head",
            format!(
                "{} series of {:.0} bytes (process: {:.0} bytes with waiting batches)",
                self.head_series,
                self.per_series(self.head_bytes),
                self.per_series(self.grown_bytes),
            ),
        )?;
        row(
            "reopen with a log",
            format!(
                "{:.3} s, {} samples replayed",
                self.reopen_with_log.as_secs_f64(),
                self.replayed
            ),
        )?;
        row("reopen after a close", format!("{:.3} s", self.reopen_closed.as_secs_f64()))
    }
}

fn next_group(batches: &mut impl Iterator<Item = DataBatch>) -> Vec<DataBatch> {
    let (mut group, mut samples) = (Vec::new(), 0);
    while samples < GROUP_SAMPLES
        && let Some(batch) = batches.next()
    {
        samples += sample_count(&batch);
        group.push(batch);
    }
    group
}

/// CPU time of this thread: what others do on the machine does not count.
pub(super) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_sim::SimOptions;
    use crate::workload::SimulatedBatches;

    #[test]
    fn every_sample_of_a_simulated_day_part_comes_back() {
        let options = SimOptions { nodes: 1, pods_per_node: 5, ..SimOptions::default() };
        let start = Timestamp::from_millis(1_700_000_000_000);
        let batches = SimulatedBatches::new(&options, start, Duration::from_secs(60)).take(30);
        let folder = tempfile::tempdir().unwrap();
        let run = StoreRun::measure("simulated", batches, folder.path(), Duration::from_secs(600))
            .unwrap();
        assert_eq!(run.batches, 30);
        // What a full window had is in a segment; the log has the rest.
        assert!(run.replayed > 0 && run.replayed < run.offered, "{run}");
        assert!(run.offered > 5_000 && run.is_complete(), "{run}");
        assert!(run.disk.folder_bytes("segments") > 0, "{:?}", run.disk);
    }
}
