//! How long a store takes to be ready.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use heapster_store::{Store, StoreOptions};
use serde_json::json;

use super::START;
use super::child::{ChildData, Worker, say};
use super::lab::{Lab, load_generated};
use super::row::Row;
use crate::measure::{Durations, wall_of};
use crate::workload::{COLUMNS_OF_CONTAINER, Containers, Filling, GENERATED_COLUMNS, LabelSize};

const OPENINGS: usize = 7;
/// Scrapes of the many containers.
const SCRAPES: usize = 10;

/// Fills a store until it is killed.
#[derive(Args, Clone, Debug)]
pub struct FillWork {
    #[arg(long)]
    folder: PathBuf,
    #[command(flatten)]
    data: ChildData,
    /// That many containers instead of the generated set.
    #[arg(long)]
    containers: Option<usize>,
}

impl FillWork {
    pub(super) fn run(&self) -> io::Result<()> {
        let mut filling = Filling::begin(&self.folder)?;
        match self.containers {
            Some(count) => {
                let containers = Containers { count, labels: LabelSize::Kubernetes, churn: None };
                for scrape in 0..SCRAPES {
                    let at = START.saturating_add(Duration::from_secs(60 * scrape as u64));
                    for node in 0..containers.nodes() {
                        filling.append(&containers.batch(node, at, scrape))?;
                    }
                }
            }
            None => {
                let data = load_generated(self.data.generated.as_deref(), self.data.slots)?;
                for batch in data.batches(0..GENERATED_COLUMNS.len()) {
                    filling.append(&batch)?;
                }
            }
        }
        let stats = filling.store.stats();
        say(&json!({"samples": filling.cost.accepted, "wal_bytes": stats.wal_bytes}))?;
        loop {
            std::thread::park();
        }
    }
}

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let many = lab.scaled(166_667, 10_000);
    for containers in [None, Some(many)] {
        let folder = lab.folder(if containers.is_some() { "open-many" } else { "open" })?;
        let name = containers.map_or("GEN".to_owned(), |count| {
            format!("{} k series", count * COLUMNS_OF_CONTAINER / 1000)
        });
        lab.progress(&format!("filling {name}"));
        let mut arguments = vec![
            "fill".to_owned(),
            format!("--folder={}", folder.display()),
            format!("--slots={}", lab.slots()),
        ];
        arguments.extend(containers.map(|count| format!("--containers={count}")));
        if let Some(generated) = &lab.options.generated {
            arguments.push(format!("--generated={}", generated.display()));
        }
        let mut worker = Worker::start(&arguments)?;
        let said = worker.hear()?;
        worker.kill()?;
        // What the child had is read back from the log each time, as nothing is flushed between.
        let killed = openings(&folder)?;
        let store = open(&folder)?;
        let report = store.open_report();
        let replayed = report.replayed_samples;
        if !report.is_complete() {
            lab.failures.push(format!("{name} is not complete after a kill: {report:?}"));
        }
        store.close().map_err(io::Error::other)?;
        let closed = openings(&folder)?;
        let after_close = Row::new(format!("{name}, after a close"), closed.as_secs_f64(), "s");
        let after_kill = Row::new(format!("{name}, after kill -9"), killed.as_secs_f64(), "s")
            .note(format!("{replayed} samples replayed from {} bytes", said["wal_bytes"]));
        if containers.is_none() {
            rows.push(after_close.at_most(0.1).peers(1.5, 0.5));
            rows.push(after_kill.at_most(1.0).peers(1.5, 0.5));
        } else {
            rows.extend([after_close, after_kill]);
        }
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(rows)
}

fn open(folder: &Path) -> io::Result<Store> {
    Store::open(folder, StoreOptions::default()).map_err(io::Error::other)
}

/// The median; every store is dropped as it was opened.
fn openings(folder: &Path) -> io::Result<Duration> {
    let mut durations = Durations::default();
    for _ in 0..OPENINGS {
        let (store, wall) = wall_of(|| open(folder));
        drop(store?);
        durations.push(wall);
    }
    Ok(durations.median())
}
