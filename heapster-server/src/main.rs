//! The binary `heapster`: reads the command line, runs, turns the outcome into an exit code.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use heapster_server::app::{self, AppError};
use heapster_server::cli::{self, Command, Config, VerbCall};
use heapster_server::telemetry::logging;
use heapster_server::verbs;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

const USAGE: u8 = 2;

fn main() -> ExitCode {
    if let Err(error) = survive_full_files() {
        complain(&error, error.advice());
        return ExitCode::FAILURE;
    }
    let arguments = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let environment = |name: &str| std::env::var(name).ok();
    match cli::command(arguments, &environment) {
        Ok(Command::Help) => print(&cli::help()),
        Ok(Command::HelpOf(verb)) => print(&cli::help_of(verb)),
        Ok(Command::Verb(call)) => run(&call),
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
            ExitCode::from(USAGE)
        }
    }
}

/// Runs a verb for a store's directory.
fn run(call: &VerbCall) -> ExitCode {
    match verbs::run(call) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            complain(&error, &error.advice());
            ExitCode::from(error.exit_code())
        }
    }
}

fn complain(error: &(dyn std::error::Error + 'static), advice: &str) {
    let _ = writeln!(std::io::stderr(), "heapster: {}", logging::chain(error));
    let _ = writeln!(std::io::stderr(), "{advice}");
}

/// Prints to stdout; a reader that went away (`heapster help | head`) is no failure.
fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn serve(config: &Config) -> ExitCode {
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}. {}", logging::chain(&error), error.advice());
            ExitCode::from(error.exit_code())
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
