//! `heapster-series`: what the store costs per series: memory, new series, replay.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use heapster_benches::workload::{SeriesOptions, SeriesRun};

/// Appends scrapes of many sets to a store and reports what a series costs.
///
/// Exits with 1 when a sample was refused.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    series: SeriesOptions,
    /// Where to put the store; a temporary folder by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = match &arguments.folder {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let run = SeriesRun::measure(&arguments.series, folder.path())?;
    if arguments.json {
        println!("{:#}", run.to_json());
    } else {
        print!("{run}");
    }
    Ok(if run.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
