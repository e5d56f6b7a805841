//! How a process grows by its active series.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::START;
use super::child::Worker;
use super::lab::Lab;
use super::row::Row;
use crate::load::ProcessUsage;
use crate::workload::{COLUMNS_OF_CONTAINER, Churn, Containers, Filling, LabelSize};

/// As many as the other engines were measured with.
const SCRAPES: usize = 40;
const SCRAPES_PER_HOUR_OF_DAY: usize = 2;

/// Fills a store with scrapes of containers.
#[derive(Args, Clone, Debug)]
pub struct MemoryWork {
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    containers: usize,
    #[arg(long)]
    scrapes: usize,
    #[arg(long)]
    step_s: u64,
    /// Five labels instead of twelve.
    #[arg(long)]
    short_labels: bool,
    /// Containers are replaced.
    #[arg(long)]
    churn: bool,
    /// The head is never flushed for its size.
    #[arg(long)]
    keep: bool,
}

impl MemoryWork {
    pub(super) fn run(&self) -> io::Result<Value> {
        let own = || Ok::<_, io::Error>(ProcessUsage::of(std::process::id())?.anonymous_bytes);
        let empty = own()?;
        let scrapes_per_hour = 3600 / self.step_s as usize;
        let churn = Churn { scrapes_per_hour, scrapes: self.scrapes };
        let containers = Containers {
            count: self.containers,
            labels: if self.short_labels { LabelSize::Short } else { LabelSize::Kubernetes },
            churn: self.churn.then_some(churn),
        };
        let mut filling = Filling::begin_with(&self.folder, |mut options| {
            if self.keep {
                options.head_bytes_max = usize::MAX;
            }
            options
        })?;
        let (mut most, mut most_head) = (0, 0);
        for scrape in 0..self.scrapes {
            let at = START.saturating_add(Duration::from_secs(self.step_s * scrape as u64));
            for node in 0..containers.nodes() {
                // Made and dropped one by one, so that batches are not what grows.
                filling.append(&containers.batch(node, at, scrape))?;
                if node % 100 == 0 {
                    most = most.max(own()?);
                }
            }
            filling.maintain()?;
            let stats = filling.store.stats();
            most_head = most_head.max(stats.head_bytes);
            most = most.max(own()?);
        }
        let stats = filling.store.stats();
        Ok(json!({
            "most": most - empty,
            "end": own()?.saturating_sub(empty),
            "head_most": most_head,
            "samples_per_cpu_second": filling.cost.samples_per_cpu_second(),
            "maintain_s": filling.cost.maintain_cpu.as_secs_f64(),
            "flushes": stats.flushes,
            "segment_bytes": stats.segment_bytes,
            "wal_bytes_per_sample": filling.cost.wal_bytes_per_sample(),
        }))
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "memory".to_owned(),
            format!("--folder={}", self.folder.display()),
            format!("--containers={}", self.containers),
            format!("--scrapes={}", self.scrapes),
            format!("--step-s={}", self.step_s),
        ];
        for (is_set, name) in
            [(self.short_labels, "--short-labels"), (self.churn, "--churn"), (self.keep, "--keep")]
        {
            if is_set {
                arguments.push(name.into());
            }
        }
        arguments
    }
}

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let containers = lab.scaled(166_667, 10_000);
    let series = containers * COLUMNS_OF_CONTAINER;
    let work = |name: &str| {
        Ok::<_, io::Error>(MemoryWork {
            folder: lab.folder(name)?,
            containers,
            scrapes: SCRAPES,
            step_s: 60,
            short_labels: false,
            churn: false,
            keep: false,
        })
    };
    let day = 24 * SCRAPES_PER_HOUR_OF_DAY;
    let step_s = 3600 / SCRAPES_PER_HOUR_OF_DAY as u64;
    let short = MemoryWork { short_labels: true, keep: true, ..work("memory-short")? };
    let kept = MemoryWork { keep: true, ..work("memory-kept")? };
    let normal = MemoryWork { scrapes: SCRAPES / 2, ..work("memory")? };
    let churn = MemoryWork { churn: true, scrapes: day, step_s, ..work("memory-churn")? };
    let mut rows = Vec::new();
    for (name, work) in [
        ("5 labels, 40 scrapes in the head", short),
        ("12 labels, 40 scrapes in the head", kept),
        ("12 labels, 20 scrapes, flushed by default", normal),
        ("12 labels, a day with churn, flushed by default", churn),
    ] {
        lab.progress(name);
        let found = Worker::start(&work.arguments())?.hear()?;
        let number = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
        let mut row = Row::new(name, number("most") / series as f64, "bytes/series")
            .at_most(400.0)
            .stretch(200.0);
        if work.short_labels {
            row = row.peers(3192.0, 1347.0);
        }
        rows.push(row.note(format!(
            "{series} series; {:.0} at the end; head says {:.0}; {} flushes; append {:.2} M samples/CPU-s, maintenance {:.1} s",
            number("end") / series as f64,
            number("head_most") / series as f64,
            number("flushes"),
            number("samples_per_cpu_second") / 1e6,
            number("maintain_s"),
        )));
        std::fs::remove_dir_all(&work.folder)?;
    }
    Ok(rows)
}
