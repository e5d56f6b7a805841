//! Bytes on the disk once everything is compacted.

use std::io;
use std::path::Path;
use std::time::Duration;

use heapster_core::DataBatch;
use heapster_core::storage::Columns;

use super::lab::Lab;
use super::row::Row;
use crate::cluster_sim::SimOptions;
use crate::load::DiskUsage;
use crate::workload::{
    Filling, GENERATED_COLUMNS, RECORDED_COLUMNS, RecordedBatches, SimulatedBatches, read_all,
};

const SIMULATED_STEP: Duration = Duration::from_secs(60);

/// A data set on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnDisk {
    pub samples: u64,
    /// As flushed, before any compaction.
    pub flushed_bytes: u64,
    pub bytes: u64,
    /// CPU time of compaction.
    pub compact_cpu: Duration,
}

impl OnDisk {
    pub(super) fn bytes_per_sample(self) -> f64 {
        self.bytes as f64 / self.samples as f64
    }
}

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let filled = lab.filled()?;
    let all = filled.disk;
    rows.push(normal("GEN", all).at_most(1.70).peers(3.07, 2.05));
    rows.push(cold(lab, "GEN", &filled.folder, all)?.at_most(1.40).stretch(1.30));
    let data = lab.generated()?;
    let mut alone = Vec::new();
    for (index, column) in GENERATED_COLUMNS.iter().enumerate() {
        let batches = data.batches(index..index + 1);
        alone.push((column.metric, put(lab, column.metric, batches)?.1));
    }
    rows.extend(by_column("GEN", all, &alone));

    if lab.options.recorded.exists() {
        let recorded = RecordedBatches::open(&lab.options.recorded)?;
        let (folder, all) = put(lab, "REAL", recorded.clone())?;
        rows.push(normal("REAL", all).at_most(2.70).peers(5.80, 3.46));
        rows.push(cold(lab, "REAL", &folder, all)?.at_most(2.40).stretch(2.25));
        let mut alone = Vec::new();
        for (index, name) in RECORDED_COLUMNS.into_iter().enumerate() {
            let batches = recorded.clone().with_columns(index..index + 1);
            alone.push((name, put(lab, &format!("REAL {name}"), batches)?.1));
        }
        rows.extend(by_column("REAL", all, &alone));
    } else {
        lab.progress("REAL is left out: the recording is not there");
    }

    let options = SimOptions { nodes: lab.scaled(20, 5), ..SimOptions::default() };
    let minutes = lab.scaled(24 * 60, 120);
    let batches = SimulatedBatches::new(&options, super::START, SIMULATED_STEP).take(minutes);
    let (folder, all) = put(lab, "SIM", batches)?;
    rows.push(normal("SIM", all).note(format!(
        "{} nodes, all metrics a server keeps; as flushed {:.2}",
        options.nodes,
        all.flushed_bytes as f64 / all.samples as f64
    )));
    rows.push(cold(lab, "SIM", &folder, all)?);
    Ok(rows)
}

fn normal(name: &str, disk: OnDisk) -> Row {
    Row::new(format!("{name}, compacted"), disk.bytes_per_sample(), "bytes/sample").note(format!(
        "as flushed {:.3}; compaction {:.0} ns CPU/sample",
        disk.flushed_bytes as f64 / disk.samples as f64,
        disk.compact_cpu.as_nanos() as f64 / disk.samples as f64
    ))
}

/// The same store once its days are old.
fn cold(lab: &mut Lab, name: &str, folder: &Path, warm: OnDisk) -> io::Result<Row> {
    lab.progress(&format!("{name}, encoded for size"));
    let copy = lab.copy_of(folder)?;
    let (samples, cpu) = super::lab::make_cold(&copy)?;
    if samples != warm.samples {
        lab.failures.push(format!("{name}: {} samples became {samples} when cold", warm.samples));
    }
    let bytes = DiskUsage::of(&copy)?.total_bytes();
    std::fs::remove_dir_all(&copy)?;
    let per_sample = |amount: f64| amount / warm.samples as f64;
    let row = Row::new(format!("{name}, cold"), per_sample(bytes as f64), "bytes/sample");
    Ok(row.note(format!("re-encoding {:.0} ns CPU/sample", per_sample(cpu.as_nanos() as f64))))
}

/// A data set through a store of its own, compacted and closed.
fn put(
    lab: &mut Lab,
    name: &str,
    batches: impl Iterator<Item = DataBatch>,
) -> io::Result<(std::path::PathBuf, OnDisk)> {
    lab.progress(&format!("{name} on the disk"));
    let folder = lab.folder(&name.replace('/', "-"))?;
    let mut filling = Filling::begin(&folder)?;
    for batch in batches {
        filling.append(&batch)?;
    }
    let (store, disk) = compact(filling, &folder)?;
    let read = read_all(&store.snapshot(), Columns::All).map_err(io::Error::other)?;
    if read != disk.samples {
        lab.failures.push(format!("{name}: of {} samples {read} came back", disk.samples));
    }
    store.close().map_err(io::Error::other)?;
    Ok((folder, disk))
}

/// Flushes and compacts a store; its size after both.
pub(super) fn compact(
    filling: Filling,
    folder: &Path,
) -> io::Result<(heapster_store::Store, OnDisk)> {
    let (store, samples) = (filling.store, filling.cost.offered);
    store.flush().map_err(io::Error::other)?;
    let flushed_bytes = DiskUsage::of(folder)?.total_bytes();
    let (compacted, compact_cpu) = crate::measure::cpu_of(|| store.compact_all());
    let _ = compacted.map_err(io::Error::other)?;
    let bytes = DiskUsage::of(folder)?.total_bytes();
    Ok((store, OnDisk { samples, flushed_bytes, bytes, compact_cpu }))
}

/// What each column costs.
///
/// A store of one column has the cost of the column and what all columns share: sets with their
/// labels, index, clocks. With `n` columns the stores of one have the shared part `n` times, the store
/// of all has it once; so the difference is `n - 1` times the shared part.
fn by_column(name: &str, all: OnDisk, alone: &[(&str, OnDisk)]) -> Vec<Row> {
    let sum: u64 = alone.iter().map(|(_, disk)| disk.bytes).sum();
    let shared = (sum as f64 - all.bytes as f64) / (alone.len() as f64 - 1.0);
    let column = |(metric, disk): &(&str, OnDisk)| {
        let own = (disk.bytes as f64 - shared) / disk.samples as f64;
        Row::new(format!("{name}, {metric}"), own, "bytes/sample")
    };
    let mut rows: Vec<Row> = alone.iter().map(column).collect();
    let shared = shared / all.samples as f64;
    let row = Row::new(format!("{name}, labels, index and clocks"), shared, "bytes/sample");
    rows.push(row.note("from stores of one column each"));
    rows
}
