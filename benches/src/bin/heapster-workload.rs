//! `heapster-workload`: what the store costs on known data sets.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::parse_duration;
use heapster_benches::workload::{GeneratedBatches, RecordedBatches, SimulatedBatches, StoreRun};
use heapster_core::Timestamp;

/// Midnight UTC, so that windows of the store are whole.
const START: Timestamp = Timestamp::from_millis(1_700_006_400_000);

/// Appends data sets to a store and reports bytes and nanoseconds per sample.
///
/// Without --set: the simulated cluster, the recording if it is there, the generated set if its
/// folder is given. Exits with 1 when a sample did not come back.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only these data sets.
    #[arg(long, value_enum)]
    set: Vec<DataSet>,
    /// Nodes of the simulated cluster, of 30 pods with 2 containers each.
    #[arg(long, default_value_t = 20)]
    nodes: usize,
    /// Pods that each of the nodes runs.
    #[arg(long, default_value_t = 30)]
    pods_per_node: usize,
    /// Span of the simulated data.
    #[arg(long, default_value = "6h", value_parser = parse_duration)]
    span: Duration,
    /// Distance of two batches of the simulated cluster.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    resolution: Duration,
    /// Seed of the simulated cluster.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Span of data after which the store makes a segment.
    #[arg(long, default_value = "2h", value_parser = parse_duration)]
    flush_window: Duration,
    /// The recorded data set.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/nezha_k8s_pods.npz"))]
    recorded: PathBuf,
    /// Folder that the generator of the generated data set wrote.
    #[arg(long)]
    generated: Option<PathBuf>,
    /// Where to put the stores; a temporary folder by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Form of the report.
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DataSet {
    Simulated,
    Recorded,
    Generated,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let wanted = |set| arguments.set.is_empty() || arguments.set.contains(&set);
    let mut runs = Vec::new();
    if wanted(DataSet::Simulated) {
        runs.push(simulated(&arguments)?);
    }
    if wanted(DataSet::Recorded) {
        if arguments.recorded.exists() || arguments.set.contains(&DataSet::Recorded) {
            let batches = RecordedBatches::open(&arguments.recorded)?;
            runs.push(in_folder(&arguments, |folder| {
                StoreRun::measure("REAL, recorded pods", batches, folder, arguments.flush_window)
            })?);
        } else {
            eprintln!("skipped: there is no {}", arguments.recorded.display());
        }
    }
    if wanted(DataSet::Generated) {
        if let Some(source) = &arguments.generated {
            let batches = GeneratedBatches::open(source)?;
            runs.push(in_folder(&arguments, |folder| {
                StoreRun::measure(
                    "GEN, generated containers",
                    batches,
                    folder,
                    arguments.flush_window,
                )
            })?);
        } else {
            eprintln!("skipped: --generated FOLDER names no generated data");
        }
    }
    if arguments.output == Form::Json {
        let all: Vec<_> = runs.iter().map(StoreRun::to_json).collect();
        println!("{:#}", serde_json::Value::from(all));
    } else {
        runs.iter().for_each(|run| print!("{run}"));
    }
    let complete = runs.iter().all(StoreRun::is_complete);
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn simulated(arguments: &Arguments) -> std::io::Result<StoreRun> {
    let options = SimOptions {
        nodes: arguments.nodes,
        pods_per_node: arguments.pods_per_node,
        seed: arguments.seed,
        ..SimOptions::default()
    };
    let step = arguments.resolution.as_millis().max(1);
    let count = (arguments.span.as_millis() / step) as usize;
    let batches = SimulatedBatches::new(&options, START, arguments.resolution).take(count);
    let name = format!("SIM, {} nodes of {} pods", options.nodes, options.pods_per_node);
    in_folder(arguments, |folder| StoreRun::measure(&name, batches, folder, arguments.flush_window))
}

/// Runs in a fresh folder that is removed afterwards.
fn in_folder(
    arguments: &Arguments,
    run: impl FnOnce(&Path) -> std::io::Result<StoreRun>,
) -> std::io::Result<StoreRun> {
    let folder = match &arguments.folder {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    run(folder.path())
}
