//! The program `heapster`: reads a command line, runs, and says how it went.
//!
//! Apart from the binary, so that whatever else ships it runs the same verbs.

use std::io::Write;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::app::{self, AppError};
use crate::cli::{self, Command, Config, VerbCall};
use crate::telemetry::logging;
use crate::verbs;

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const USAGE: u8 = 2;

/// Runs the program with the arguments behind its name, and gives its exit code. It handles the
/// signals of the process, and ends the process at the second one.
pub fn run(arguments: impl IntoIterator<Item = String>) -> u8 {
    if let Err(error) = survive_full_files() {
        complain(&error, error.advice());
        return FAILURE;
    }
    let environment = |name: &str| std::env::var(name).ok();
    match cli::command(arguments, &environment) {
        Ok(Command::Help) => print(&cli::help()),
        Ok(Command::HelpOf(verb)) => print(&cli::help_of(verb)),
        Ok(Command::Verb(call)) => run_verb(&call),
        Ok(Command::Version) => print(&cli::version()),
        Ok(Command::Serve(config, notes)) => {
            logging::init(config.log_format, config.log_level);
            for note in notes {
                warn!("{note}");
            }
            serve(&config)
        }
        Err(error) => {
            complain(&error, &format!("Run `{}` for the flags.", error.help_command()));
            USAGE
        }
    }
}

/// Runs a verb for a store's directory.
fn run_verb(call: &VerbCall) -> u8 {
    match verbs::run(call) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            complain(&error, &error.advice());
            error.exit_code()
        }
    }
}

fn complain(error: &(dyn std::error::Error + 'static), advice: &str) {
    let _ = writeln!(std::io::stderr(), "heapster: {}", logging::chain(error));
    let _ = writeln!(std::io::stderr(), "{advice}");
}

/// Prints to stdout; a reader that went away (`heapster help | head`) is no failure.
fn print(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    SUCCESS
}

fn serve(config: &Config) -> u8 {
    let outcome = runtime(config).and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let stop = CancellationToken::new();
            stop_on_signals(&stop)?;
            app::serve(config, stop).await
        });
        // A thread that hangs on a disk must not keep the process.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => SUCCESS,
        Err(error) => {
            error!("{}. {}", logging::chain(&error), error.advice());
            error.exit_code()
        }
    }
}

fn runtime(config: &Config) -> Result<Runtime, AppError> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = config.threads {
        builder.worker_threads(threads.get());
    }
    let runtime = builder.thread_name("heapster").enable_all().build();
    runtime.map_err(|source| AppError::System { what: "start the runtime", source })
}

/// A write beyond the limit on the size of files gives an error, which the store takes for a full
/// disk, instead of a death by SIGXFSZ. SIGPIPE is ignored by Rust's start-up.
fn survive_full_files() -> Result<(), AppError> {
    // Nobody asks the flag: that the signal is handled is what counts.
    let registered = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    registered.map(drop).map_err(|source| AppError::System { what: "handle signals", source })
}

/// The first SIGTERM or SIGINT stops in order, the second one at once.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), AppError> {
    let listen =
        |kind| signal(kind).map_err(|source| AppError::System { what: "handle signals", source });
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => info!("got SIGTERM"),
                _ = interrupt.recv() => info!("got SIGINT"),
            }
            if stop.is_cancelled() {
                warn!("ending at once");
                std::process::exit(1);
            }
            stop.cancel();
        }
    });
    Ok(())
}
