//! A load run from start to end: simulate, serve, watch, kill, recover, end.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use heapster_core::Timestamp;
use heapster_store::{Clock, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

use super::process::{DiskUsage, Server, ServerCommand};
use super::report::{Cycle, Recovery, Report};
use super::server_view::{SAMPLES_APPENDED, ServerView};
use crate::cluster_sim::{SimOptions, Simulator};
use crate::parse_duration;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
const TERMINATE_PATIENCE: Duration = Duration::from_secs(60);
const RECOVERY_PATIENCE: Duration = Duration::from_secs(60);
const RECOVERY_LOOK_EVERY: Duration = Duration::from_millis(5);
const HISTORY: Duration = Duration::from_secs(3600);
/// Lines of the server's log that are quoted in the report.
const QUOTED_LINES_MAX: usize = 10;

/// What to load and for how long.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// The server to measure.
    #[arg(long, default_value = "target/release/heapster")]
    pub heapster: PathBuf,
    /// How long to let it run.
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    pub duration: Duration,
    /// Resolution of the server.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub resolution: Duration,
    /// Where the server keeps its data; a folder that is removed afterwards unless given.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Kill the server at the end, start it again and see what it remembers.
    #[arg(long)]
    pub kill9: bool,
    /// Further flags for the server, after `--`.
    #[arg(last = true)]
    pub server_flags: Vec<String>,
}

/// Runs the load and reports. Ctrl-C and SIGTERM end the run early, with a report.
///
/// # Errors
/// The simulator or the server cannot be started, or this machine cannot be measured. What goes
/// wrong with the server later is in the report.
pub async fn run(sim: &SimOptions, options: &LoadOptions) -> io::Result<Report> {
    if options.resolution < Duration::from_secs(1) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the resolution is too fine"));
    }
    let simulator = Simulator::start(sim).await?;
    let scratch = tempfile::tempdir()?;
    let source = format!(
        "--source=kubernetes.summary_api:http://{}?inClusterConfig=false&useServiceAccount=false\
         &kubeletPort={}&kubeletHttps=false",
        simulator.api_address(),
        simulator.kubelet_port(),
    );
    let mut arguments = vec![source, format!("--metric-resolution={:?}", options.resolution)];
    arguments.extend(options.server_flags.iter().cloned());
    let command = ServerCommand {
        binary: options.heapster.clone(),
        arguments,
        data_dir: options.data_dir.clone().unwrap_or_else(|| scratch.path().join("data")),
        log: scratch.path().join("server.log"),
    };
    std::fs::create_dir_all(&command.data_dir)?;
    let clock = SystemClock::new();
    let server = command.start()?;
    let report = Report {
        nodes: sim.nodes,
        pods: sim.nodes * sim.pods_per_node,
        containers: sim.nodes * sim.pods_per_node * sim.containers_per_pod,
        resolution: options.resolution,
        ..Report::default()
    };
    let mut run = Run { started_at: clock.now(), clock, command, server, report };
    run.watch(options.duration).await?;
    if options.kill9 {
        run.kill_and_recover().await?;
    }
    run.end().await?;
    Ok(run.report)
}

struct Run {
    clock: SystemClock,
    started_at: Timestamp,
    command: ServerCommand,
    server: Server,
    report: Report,
}

/// The server when a batch became visible.
struct Look {
    batch: Timestamp,
    cpu: Duration,
    samples: Option<f64>,
}

impl Run {
    fn view(&self) -> ServerView {
        ServerView { address: self.server.address() }
    }

    /// Watches the server for a while and notes each cycle.
    async fn watch(&mut self, duration: Duration) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let began = self.clock.monotonic();
        let mut next_progress = PROGRESS_EVERY;
        let mut previous: Option<Look> = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            }
            let elapsed = self.clock.monotonic() - began;
            if elapsed >= duration {
                break;
            }
            if let Some(status) = self.server.ended()? {
                self.report.errors.push(format!("the server ended early: {status}"));
                break;
            }
            self.look(&mut previous).await?;
            if elapsed >= next_progress {
                self.print_progress(elapsed, duration)?;
                next_progress += PROGRESS_EVERY;
            }
        }
        self.report.duration = self.clock.monotonic() - began;
        self.finish_watch(previous).await
    }

    /// Looks whether the batch of the last interval is there. Asks only while it is not, so that
    /// the asking costs the server next to nothing.
    async fn look(&mut self, previous: &mut Option<Look>) -> io::Result<()> {
        let expected = self.clock.now().truncate(self.report.resolution);
        let known = previous.as_ref().map_or(self.started_at, |look| look.batch);
        if expected <= known {
            return Ok(());
        }
        // Errors are normal while the server starts; a server that never answers shows no batches.
        let Ok(Some(batch)) = self.view().newest_batch(expected).await else { return Ok(()) };
        if batch <= known {
            return Ok(());
        }
        let latency = self.clock.now().saturating_since(batch);
        let samples = self.view().metric(SAMPLES_APPENDED).await.ok().flatten();
        let look = Look { batch, cpu: self.server.usage()?.cpu, samples };
        if let Some(before) = &*previous {
            let step = look.batch.saturating_since(before.batch).as_millis();
            let intervals = (step / self.report.resolution.as_millis()).clamp(1, 1000) as u32;
            let grown = look.samples.zip(before.samples).map(|(now, then)| now - then);
            self.report.cycles.push(Cycle {
                cpu: (look.cpu - before.cpu) / intervals,
                latency,
                samples: grown.map(|samples| samples / f64::from(intervals)),
            });
        }
        *previous = Some(look);
        Ok(())
    }

    async fn finish_watch(&mut self, last: Option<Look>) -> io::Result<()> {
        let first = self.started_at.truncate(self.report.resolution);
        let ended = self.clock.now().truncate(self.report.resolution);
        let span = ended.saturating_since(first).as_millis();
        self.report.intervals = (span / self.report.resolution.as_millis()) as usize;
        if self.server.ended()?.is_none() {
            self.report.usage = self.server.usage()?;
            self.report.disk = DiskUsage::of(&self.command.data_dir)?;
            self.report.sets = self.view().set_count().await.ok();
            match self.view().batches(self.started_at).await {
                Ok(batches) => self.report.batches = batches.len(),
                Err(error) => self.report.errors.push(format!("no batches to count: {error}")),
            }
            let samples = self.view().metric(SAMPLES_APPENDED).await.ok().flatten();
            self.report.samples = samples.or(last.and_then(|look| look.samples));
        }
        Ok(())
    }

    fn print_progress(&self, elapsed: Duration, duration: Duration) -> io::Result<()> {
        let usage = self.server.usage()?;
        eprintln!(
            "{:>5.0} of {:.0} s: {} cycles, {:.2} s cpu, {:.1} MiB resident",
            elapsed.as_secs_f64(),
            duration.as_secs_f64(),
            self.report.cycles.len(),
            usage.cpu.as_secs_f64(),
            usage.resident_bytes as f64 / (1 << 20) as f64,
        );
        Ok(())
    }

    /// Kills the server, starts it again on the same data and waits for its memory to come back.
    async fn kill_and_recover(&mut self) -> io::Result<()> {
        let since = self.clock.now().saturating_sub(HISTORY);
        let before = match self.view().batches(since).await {
            Ok(before) => before,
            Err(error) => {
                self.report.errors.push(format!("no batches before kill -9: {error}"));
                return Ok(());
            }
        };
        self.server.kill()?;
        let killed = self.clock.monotonic();
        self.server = self.command.start()?;
        let mut answered_after = None;
        let mut missing: BTreeSet<Timestamp> = before.clone();
        loop {
            let elapsed = self.clock.monotonic() - killed;
            if let Ok(after) = self.view().batches(since).await {
                answered_after.get_or_insert(self.clock.monotonic() - killed);
                missing = before.difference(&after).copied().collect();
            }
            if missing.is_empty() && answered_after.is_some() || elapsed > RECOVERY_PATIENCE {
                break;
            }
            if let Some(status) = self.server.ended()? {
                self.report.errors.push(format!("the server ended after kill -9: {status}"));
                break;
            }
            tokio::time::sleep(RECOVERY_LOOK_EVERY).await;
        }
        let now = self.clock.monotonic() - killed;
        self.report.recovery = Some(Recovery {
            answered_after: answered_after.unwrap_or(now),
            complete_after: missing.is_empty().then_some(now),
            batches_before: before.len(),
            missing: missing.len(),
        });
        Ok(())
    }

    /// Ends the server and takes the last measurements.
    async fn end(&mut self) -> io::Result<()> {
        let (status, took) = self.server.terminate(TERMINATE_PATIENCE).await?;
        self.report.end = Some((took, status.success()));
        self.report.disk_after_end = DiskUsage::of(&self.command.data_dir)?;
        let log = std::fs::read_to_string(&self.command.log)?;
        let errors: Vec<&str> = log.lines().filter(|line| is_error(line)).collect();
        self.report.errors.extend(errors.iter().take(QUOTED_LINES_MAX).map(|line| (*line).into()));
        if errors.len() > QUOTED_LINES_MAX {
            self.report.errors.push(format!("and {} more", errors.len() - QUOTED_LINES_MAX));
        }
        // What a server that cannot start says may come before there is a log.
        if !status.success() && errors.is_empty() {
            self.report.errors.extend(log.lines().last().map(Into::into));
        }
        Ok(())
    }
}

fn is_error(line: &str) -> bool {
    line.contains("\"level\":\"ERROR\"") || line.contains(" ERROR ") || line.contains("panicked at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_found_in_both_forms_of_the_log() {
        assert!(is_error(r#"{"timestamp":"2026-11-20T11:00:00Z","level":"ERROR","message":"x"}"#));
        assert!(is_error("2026-11-20T11:00:00Z ERROR could not write"));
        assert!(is_error("thread 'main' panicked at src/main.rs:1:1:"));
        assert!(!is_error(r#"{"level":"WARN","message":"no ERRORS yet"}"#));
    }

    async fn run_with(binary: &str) -> io::Result<Report> {
        let options = LoadOptions {
            heapster: binary.into(),
            duration: Duration::from_secs(20),
            resolution: Duration::from_secs(60),
            data_dir: None,
            kill9: true,
            server_flags: Vec::new(),
        };
        let sim = SimOptions { nodes: 1, pods_per_node: 1, ..SimOptions::default() };
        run(&sim, &options).await
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_started_is_named() {
        let error = run_with("/nowhere/heapster").await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/heapster"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_ends_early_makes_a_bad_report_at_once() {
        let report = run_with("/bin/false").await.unwrap();
        assert!(!report.is_good());
        assert!(report.duration < Duration::from_secs(10));
        assert!(report.errors[0].contains("ended early"), "{:?}", report.errors);
    }
}
