//! `heapster-load`: what a heapster server costs on a simulated cluster.

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::load::{LoadOptions, run};

/// Runs a heapster server against a simulated cluster and reports CPU, memory and disk.
///
/// Exits with 1 when batches were lost or the server reported errors.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    load: LoadOptions,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    sim: SimOptions,
}

#[derive(Args)]
struct Output {
    /// Form of the report on stdout.
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Table,
    Json,
}

fn main() -> std::io::Result<ExitCode> {
    // Whoever simulates by hand wants known ports; here any free ones do.
    let command = Arguments::command()
        .mut_arg("api_port", |port| port.default_value("0"))
        .mut_arg("kubelet_port", |port| port.default_value("0"));
    let arguments =
        Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(run(&arguments.sim, &arguments.load))?;
    match arguments.output.output {
        Form::Table => print!("{report}"),
        Form::Json => println!("{:#}", report.to_json()),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
