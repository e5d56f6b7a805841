//! `heapster-simulate`: the simulator from the command line.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use heapster_simulator::{Campaign, Found, Progress, Script, run_seed, shorten};

/// Lets a store die at every call of the file system, and compares what is left with what was
/// acknowledged.
#[derive(Debug, Parser)]
#[command(name = "heapster-simulate")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs seeds one after the other until one fails.
    Soak {
        /// The first seed; give what the last run printed to go on.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// How many seeds.
        #[arg(long, default_value_t = u64::MAX)]
        seeds: u64,
        /// Stops once that many images were opened.
        #[arg(long)]
        images: Option<u64>,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Runs one seed and prints what happens in it.
    Seed {
        /// The seed.
        seed: u64,
        /// Leaves steps out of a script that fails as long as it still fails.
        #[arg(long)]
        shorten: bool,
    },
    /// Plants each bug in turn and counts the seeds that it takes to find it.
    #[cfg(feature = "planted-bugs")]
    Hunt {
        /// Seeds after which a bug counts as not found.
        #[arg(long, default_value_t = 20_000)]
        seeds: u64,
        /// Threads.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
        /// Only the bugs whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
    },
}

fn main() -> ExitCode {
    // A panic is a finding with a seed; its own text would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    match Arguments::parse().verb {
        Verb::Soak { first, seeds, images, jobs } => {
            soak(&Campaign { first, seeds, jobs, images_max: images, crash_points_max: None })
        }
        Verb::Seed { seed, shorten } => one(seed, shorten),
        #[cfg(feature = "planted-bugs")]
        Verb::Hunt { seeds, jobs, only } => hunt(seeds, jobs, &only),
    }
}

/// Prints a line for each bug; a failure when one is not found.
#[cfg(feature = "planted-bugs")]
fn hunt(seeds: u64, jobs: usize, only: &str) -> ExitCode {
    use heapster_store::planted::Bug;

    let mut missed = 0;
    let is_wanted = |bug: &Bug| format!("{bug:?}").contains(only);
    for bug in Bug::ALL.iter().copied().filter(is_wanted) {
        let trophy = heapster_simulator::hunt(bug, seeds, jobs);
        let name = format!("{bug:?}");
        match trophy.found {
            Some(found) => {
                let Found { seed, failure } = found;
                let what: String = failure.what.chars().take(100).collect();
                println!(
                    "{name:20} found after {:4} seeds, {:7} images, by seed {seed}: {what}",
                    trophy.seeds, trophy.tally.images
                );
            }
            None => {
                missed += 1;
                println!("{name:20} NOT FOUND in {} seeds: {}", trophy.seeds, bug.what());
            }
        }
        let _ = std::io::stdout().flush();
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch for people")]
fn now() -> Instant {
    Instant::now()
}

fn soak(campaign: &Campaign) -> ExitCode {
    let started = now();
    let last_told = Mutex::new(started);
    let print = |progress: &Progress| {
        let seconds = started.elapsed().as_secs_f64().max(0.001);
        let Progress { done_before, seeds, tally } = progress;
        let rate = tally.images as f64 / seconds;
        println!(
            "{seconds:8.0} s  {seeds} seeds, {} crash points, {} images ({rate:.0}/s on {} threads), \
             {} calls of the store; go on with --first {done_before}",
            tally.crash_points, tally.images, campaign.jobs, tally.steps
        );
        let _ = std::io::stdout().flush();
    };
    let result = campaign.run(&|progress| {
        let mut last = last_told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() >= Duration::from_secs(10) {
            *last = now();
            print(progress);
        }
    });
    match result {
        Ok(progress) => {
            print(&progress);
            println!("no promise was broken");
            ExitCode::SUCCESS
        }
        Err(found) => {
            let (Found { seed, failure }, progress) = *found;
            print(&progress);
            println!("seed {seed} breaks a promise: {}", failure.what);
            println!("to see it happen: target/simulate/heapster-simulate seed {seed} --shorten");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, wants_short: bool) -> ExitCode {
    let mut script = Script::of(seed);
    if wants_short && run_seed(seed, false).is_err() {
        script = shorten(&script, 2_000);
    }
    match heapster_simulator::run(&script, true) {
        Ok(tally) => {
            println!("seed {seed}, {} steps: {tally:?}", script.steps());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("seed {seed}, {} steps\n{failure}", script.steps());
            ExitCode::FAILURE
        }
    }
}
