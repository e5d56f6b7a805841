//! Many series through the store: what one costs in memory, and in time when it is new.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use heapster_core::series::Row;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Timestamp, key, metric};
use heapster_store::{Ack, Clock, SetHandle, Store, StoreOptions, SystemClock};
use serde_json::{Value, json};

use super::store::BatchClock;
use crate::load::ProcessUsage;
use crate::measure::thread_cpu;

/// Midnight UTC, so that windows of the store are whole.
const START: Timestamp = Timestamp::from_millis(1_700_006_400_000);
const RESOLUTION: Duration = Duration::from_secs(60);
/// Sets of one pod: its containers.
const SETS_PER_POD: usize = 2;
const PODS_PER_NODE: usize = 30;
const PODS_PER_NAMESPACE: usize = 200;
const PODS_PER_DEPLOYMENT: usize = 3;

/// Columns of every set, and whether they count.
const COLUMNS: [(&str, bool); 6] = [
    (metric::CPU_USAGE, true),
    (metric::MEMORY_WORKING_SET, false),
    (metric::MEMORY_RSS, false),
    (metric::NETWORK_RX, true),
    (metric::NETWORK_TX, true),
    (metric::EPHEMERAL_STORAGE_USAGE, false),
];

/// Size and shape of a run.
#[derive(Args, Clone, Debug)]
pub struct SeriesOptions {
    /// Label sets of 12 labels and 6 columns each; 166,667 are a million series.
    #[arg(long, default_value_t = 166_667)]
    pub sets: usize,
    /// Scrapes of all sets, a minute apart.
    #[arg(long, default_value_t = 40)]
    pub scrapes: usize,
    /// Sets in one append.
    #[arg(long, default_value_t = 5_000)]
    pub batch: usize,
    /// Sets that are replaced by new ones with each scrape.
    #[arg(long, default_value_t = 0)]
    pub replaced: usize,
    /// Labels are made anew for each scrape, as a collector does that decodes answers.
    #[arg(long)]
    pub fresh_labels: bool,
    /// Rows are appended by handle.
    #[arg(long, conflicts_with = "fresh_labels")]
    pub handles: bool,
    /// MiB of memory after which the store flushes; its default when left out.
    #[arg(long)]
    pub head_mib: Option<usize>,
    /// Seconds of data after which the store flushes; its default when left out.
    #[arg(long)]
    pub window: Option<u64>,
    /// A second thread runs maintenance all the time.
    #[arg(long)]
    pub maintain: bool,
}

/// What a run cost.
#[derive(Clone, Debug, Default)]
pub struct SeriesRun {
    series: u64,
    samples: u64,
    accepted: u64,
    /// CPU time of the first scrape, which defines every set, with its maintenance.
    first_cpu: Duration,
    /// CPU time of the others.
    next_cpu: Duration,
    next_samples: u64,
    /// The longest single append by the wall clock.
    worst_append: Duration,
    /// Growth of the process's own memory since the empty store: at its greatest, and at the end.
    grown_max: u64,
    grown_end: u64,
    /// What the store says it had in memory at the end.
    head_bytes: u64,
    flushes: u64,
    log_bytes: u64,
    reopen: Duration,
    reopen_cpu: Duration,
    replayed: u64,
}

impl SeriesRun {
    /// Runs scrapes through a store in `folder`, which must be empty, and reopens it.
    ///
    /// Labels and rows are made before the first measurement, so that they do not count.
    ///
    /// # Errors
    /// The store refuses to work, or this machine cannot be measured.
    pub fn measure(options: &SeriesOptions, folder: &Path) -> io::Result<Self> {
        let clock = Arc::new(BatchClock::new());
        clock.set(START);
        let mut store_options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
        if let Some(mib) = options.head_mib {
            store_options.head_bytes_max = mib << 20;
        }
        if let Some(seconds) = options.window {
            store_options.flush_window = Duration::from_secs(seconds);
        }
        let mut cluster = Cluster::new(options.sets);
        let store = Store::open(folder, store_options.clone()).map_err(io::Error::other)?;
        let memory = || Ok::<_, io::Error>(ProcessUsage::of(std::process::id())?.anonymous_bytes);
        let empty = memory()?;
        let mut run = Self { series: (options.sets * COLUMNS.len()) as u64, ..Self::default() };
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            if options.maintain {
                scope.spawn(|| {
                    while !is_done.load(Ordering::Relaxed) {
                        // An error shows as refused samples.
                        let _ = store.maintain();
                        std::thread::sleep(Duration::from_millis(10));
                    }
                });
            }
            let result = (0..options.scrapes).try_for_each(|scrape| {
                cluster.step(scrape, options);
                if options.handles {
                    run.first_cpu += cluster.register(&store)?;
                }
                let at = START.saturating_add(RESOLUTION * scrape as u32);
                clock.set(at);
                run.scrape(&store, at, scrape, &cluster, options)?;
                if !options.maintain {
                    let before = thread_cpu();
                    store.maintain().map_err(io::Error::other)?;
                    if scrape == 0 {
                        // New sets get into the index.
                        run.first_cpu += thread_cpu() - before;
                    }
                }
                run.grown_end = memory()?.saturating_sub(empty);
                run.grown_max = run.grown_max.max(run.grown_end);
                Ok::<_, io::Error>(())
            });
            is_done.store(true, Ordering::Relaxed);
            result
        })?;
        let stats = store.stats();
        run.head_bytes = stats.head_bytes;
        run.flushes = stats.flushes;
        run.log_bytes = stats.wal_bytes;
        // Dropped without a flush, as by a process that dies.
        drop(store);
        let (wall, before) = (SystemClock::new(), thread_cpu());
        let store = Store::open(folder, store_options).map_err(io::Error::other)?;
        run.reopen = wall.monotonic();
        run.reopen_cpu = thread_cpu() - before;
        run.replayed = store.open_report().replayed_samples;
        Ok(run)
    }

    fn scrape(
        &mut self,
        store: &Store,
        at: Timestamp,
        scrape: usize,
        cluster: &Cluster,
        options: &SeriesOptions,
    ) -> io::Result<()> {
        let batch = options.batch.max(1);
        for (number, rows) in cluster.rows.chunks(batch).enumerate() {
            let (wall, before) = (SystemClock::new(), thread_cpu());
            let report = if options.handles {
                let dense = cluster.dense[number * batch..].iter().take(batch);
                let rows = dense.map(|(handle, values)| (handle, &values[..]));
                store.append_dense(at, rows, Ack::Buffered)
            } else {
                store.append_rows(at, rows, Ack::Buffered)
            };
            let report = report.map_err(io::Error::other)?;
            let cpu = thread_cpu() - before;
            self.worst_append = self.worst_append.max(wall.monotonic());
            let samples = (rows.len() * COLUMNS.len()) as u64;
            if scrape == 0 {
                self.first_cpu += cpu;
            } else {
                self.next_cpu += cpu;
                self.next_samples += samples;
            }
            self.samples += samples;
            self.accepted += report.accepted;
        }
        Ok(())
    }

    /// Whether the store took every sample.
    pub fn is_complete(&self) -> bool {
        self.samples == self.accepted
    }

    fn rows(&self) -> [(&'static str, f64); 13] {
        let per_series = |bytes: u64| bytes as f64 / self.series.max(1) as f64;
        let seconds = |duration: Duration| duration.as_secs_f64();
        [
            ("series", self.series as f64),
            ("samples_accepted", self.accepted as f64),
            ("new_series_per_cpu_second", self.series as f64 / seconds(self.first_cpu).max(1e-9)),
            (
                "append_ns_per_sample",
                seconds(self.next_cpu) * 1e9 / self.next_samples.max(1) as f64,
            ),
            ("worst_append_ms", seconds(self.worst_append) * 1e3),
            ("process_bytes_per_series_max", per_series(self.grown_max)),
            ("process_bytes_per_series", per_series(self.grown_end)),
            ("head_bytes_per_series", per_series(self.head_bytes)),
            ("flushes", self.flushes as f64),
            ("log_mib", self.log_bytes as f64 / f64::from(1 << 20)),
            ("reopen_seconds", seconds(self.reopen)),
            ("reopen_cpu_seconds", seconds(self.reopen_cpu)),
            ("replayed_samples", self.replayed as f64),
        ]
    }

    /// The numbers as JSON.
    pub fn to_json(&self) -> Value {
        let rows = self.rows().into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        Value::Object(rows.collect())
    }
}

/// A table of two columns.
impl fmt::Display for SeriesRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows().iter().try_for_each(|(name, value)| writeln!(f, "  {name:<30} {value:.3}"))
    }
}

/// Containers with the labels a Kubernetes cluster gives them.
struct Cluster {
    rows: Vec<Row>,
    /// The rows by handle, if they are appended so.
    dense: Vec<(SetHandle, [Option<heapster_core::Value>; COLUMNS.len()])>,
    /// The number of the container that each row is about.
    numbers: Vec<usize>,
    next_number: usize,
    random: u64,
}

impl Cluster {
    fn new(sets: usize) -> Self {
        let mut cluster = Self {
            rows: Vec::new(),
            dense: Vec::with_capacity(sets),
            numbers: Vec::new(),
            next_number: sets,
            random: 1,
        };
        let names = COLUMNS.map(|(name, is_counter)| (Text::from_static(name), is_counter));
        cluster.numbers.extend(0..sets);
        cluster.rows.extend((0..sets).map(|number| {
            Row {
                labels: labels_of(number, number),
                cells: names
                    .iter()
                    .map(|(name, is_counter)| {
                        let zero = 0_i64;
                        let value = if *is_counter {
                            MetricValue::cumulative(zero)
                        } else {
                            MetricValue::gauge(zero)
                        };
                        (name.clone(), value)
                    })
                    .collect(),
            }
        }));
        cluster
    }

    /// The next scrape's values and, where asked for, labels.
    fn step(&mut self, scrape: usize, options: &SeriesOptions) {
        if scrape > 0 {
            for _ in 0..options.replaced {
                let row = self.next_random() as usize % self.rows.len();
                self.numbers[row] = self.next_number;
                self.next_number += 1;
                self.rows[row].labels = labels_of(row, self.numbers[row]);
            }
        }
        for row in 0..self.rows.len() {
            if options.fresh_labels {
                self.rows[row].labels = labels_of(row, self.numbers[row]);
            }
            for column in 0..COLUMNS.len() {
                let random = self.next_random();
                let cell = &mut self.rows[row].cells[column].1.value;
                let old = cell.as_int().unwrap_or(0);
                *cell = value_after(old, column, random).into();
            }
        }
    }

    /// Registers the sets that are new, and puts the values where handles have them. Returns the
    /// CPU time of the first.
    fn register(&mut self, store: &Store) -> io::Result<Duration> {
        let columns = COLUMNS.map(|(name, is_counter)| {
            let kind = if is_counter { MetricKind::Cumulative } else { MetricKind::Gauge };
            (Text::from_static(name), kind)
        });
        let before = thread_cpu();
        for (index, row) in self.rows.iter().enumerate() {
            let known = self.dense.get(index).map(|(handle, _)| handle.labels());
            if known.and_then(Labels::identity) == row.labels.identity() && known.is_some() {
                continue;
            }
            let handle = store.register(&row.labels, &columns).map_err(io::Error::other)?;
            match self.dense.get_mut(index) {
                Some(dense) => dense.0 = handle,
                None => self.dense.push((handle, [None; COLUMNS.len()])),
            }
        }
        let cpu = thread_cpu() - before;
        for (row, (_, values)) in self.rows.iter().zip(&mut self.dense) {
            *values = std::array::from_fn(|column| Some(row.cells[column].1.value));
        }
        Ok(cpu)
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Processor time and traffic rise by noise; memory moves in pages, and every other time not at
/// all; files hardly ever change.
fn value_after(old: i64, column: usize, random: u64) -> i64 {
    let noise = (random >> 16) as i64;
    match column {
        0 => old + 500_000_000 + noise % 400_000_000,
        1 | 2 if old == 0 => (50_000 + noise % 50_000) * 4096,
        1 | 2 if random.is_multiple_of(2) => old + (noise % 64 - 32) * 4096,
        3 | 4 if !random.is_multiple_of(4) => old + noise % 200_000,
        5 if old == 0 => (1_000 + noise % 1_000) * 4096,
        5 if random.is_multiple_of(20) => old + 4096,
        _ => old,
    }
}

/// Labels of a container at a place of the cluster.
fn labels_of(place: usize, number: usize) -> Labels {
    let pod = number / SETS_PER_POD;
    let (node, namespace) = (place / SETS_PER_POD / PODS_PER_NODE, pod / PODS_PER_NAMESPACE);
    let deployment = pod / PODS_PER_DEPLOYMENT;
    let uuid = |kind: u64, number: usize| {
        let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ kind);
        format!("{:08x}-{:04x}-4{:03x}-8000-{:012x}", mixed >> 32, mixed & 0xffff, kind, number)
    };
    let hash = (deployment as u64 + 7).wrapping_mul(0x9e37_79b9) & 0xffff_ffff;
    let pod_name = format!("service-{deployment}-{hash:08x}-{:05x}", pod * 31 % 0x10_0000);
    let container = ["app", "istio-proxy"][number % SETS_PER_POD];
    let node_name = format!("gke-production-pool-{:x}-{node:04}", node % 7);
    [
        (key::TYPE, "pod_container".to_owned()),
        (key::NAMESPACE_NAME, format!("team-{namespace}")),
        (key::NAMESPACE_ID, uuid(1, namespace)),
        (key::POD_NAME, pod_name),
        (key::POD_ID, uuid(2, pod)),
        ("pod_namespace", format!("team-{namespace}")),
        (key::CONTAINER_NAME, container.to_owned()),
        (
            key::CONTAINER_BASE_IMAGE,
            format!("registry.example.com/team/{container}:v1.{}", deployment % 50),
        ),
        (key::NODENAME, node_name.clone()),
        (key::HOSTNAME, node_name),
        (key::HOST_ID, format!("{:019}", node as u64 * 1_000_003)),
        (
            key::LABELS,
            format!("app:service-{deployment},pod-template-hash:{hash:08x},team:team-{namespace}"),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (Text::from_static(name), Text::from(value)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_is_complete_and_its_sets_are_distinct() {
        let options = SeriesOptions {
            sets: 100,
            scrapes: 5,
            batch: 30,
            replaced: 3,
            fresh_labels: true,
            handles: false,
            head_mib: None,
            window: None,
            maintain: true,
        };
        let folder = tempfile::tempdir().unwrap();
        let run = SeriesRun::measure(&options, folder.path()).unwrap();
        assert!(run.is_complete() && run.replayed == run.samples, "{run}");
        let labels: std::collections::BTreeSet<_> = (0..100).map(|n| labels_of(n, n)).collect();
        assert!(labels.len() == 100 && labels.iter().all(|labels| labels.len() == 12));
    }
}
