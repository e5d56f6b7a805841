//! `heapster-workload`: what the store costs on known data sets.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use heapster_benches::report::{ChildWork, LabOptions, Report, Section};

/// Puts data sets through a store and reports what that costs, beside goals and other engines.
///
/// Exits with 1 when an answer was wrong or a section could not run.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only these sections.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Section>,
    /// Small data: done in a minute, good for a look.
    #[arg(long)]
    quick: bool,
    /// The recorded data set; its rows are left out where it is not there.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/nezha_k8s_pods.npz"))]
    recorded: PathBuf,
    /// Folder that the generator of the generated data set wrote.
    #[arg(long, env = "HEAPSTER_GENERATED")]
    generated: Option<PathBuf>,
    /// The server that is asked over HTTP.
    #[arg(long, default_value = "target/release/heapster")]
    heapster: PathBuf,
    /// Where to put the stores; a temporary folder by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Form of the report.
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
    #[command(subcommand)]
    child: Option<ChildWork>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(child) = arguments.child {
        child.run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let sections =
        if arguments.only.is_empty() { Section::value_variants().to_vec() } else { arguments.only };
    let options = LabOptions {
        is_quick: arguments.quick,
        generated: arguments.generated,
        recorded: arguments.recorded,
        heapster: arguments.heapster,
        folder: arguments.folder,
    };
    let report = Report::measure(options, &sections)?;
    match arguments.output {
        Form::Json => println!("{:#}", report.to_json()),
        Form::Table => print!("{report}"),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
