//! `heapster-killer`: kills a heapster server over and over and checks that it keeps its promise.

use std::process::ExitCode;

use clap::Parser;
use heapster_benches::killer::{KillerOptions, run};

/// Pushes samples to a heapster server, kills it with SIGKILL at random moments, starts it again,
/// and checks that all it acknowledged is there, bit for bit, and nothing else.
///
/// Exits with 1 when a sample is lost or invented, or when the server misbehaves otherwise.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    killer: KillerOptions,
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let campaign = runtime.block_on(run(&arguments.killer))?;
    print!("{campaign}");
    Ok(if campaign.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
