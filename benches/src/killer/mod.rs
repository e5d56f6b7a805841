//! The `kill -9` campaign: a real server that clients push samples to is killed at random moments
//! and started again; whatever it acknowledged must be there, bit for bit, and nothing else.
//!
//! The directory is read from here, beside the server that writes it: a second process, as the
//! store promises it. Clients go on pushing meanwhile.

mod check;
mod client;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use heapster_store::{Clock, SystemClock};
use http::Method;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::check::{Checked, Extent};
use self::client::{Client, Journals};
use crate::cluster_sim::random::Random;
use crate::fetch;
use crate::load::process::{Server, ServerCommand};
use crate::load::server_view::ServerView;

/// What a server may take to answer after it was killed.
const READY_MAX: Duration = Duration::from_secs(60);
/// What it may take to end when it is asked to.
const TERMINATE_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);
const METRICS_EVERY: Duration = Duration::from_millis(250);
const PROGRESS_EVERY: u64 = 10;
/// Everything that was ever stored is checked each time that many cycles have passed.
const FULL_CHECK_EVERY: u64 = 50;
/// What the other checks look at.
const RECENT: Duration = Duration::from_secs(90);

/// How often to kill, and what.
#[derive(Args, Clone, Debug)]
pub struct KillerOptions {
    /// The server to kill.
    #[arg(long, default_value = "target/release/heapster")]
    pub heapster: PathBuf,
    /// How often it is killed.
    #[arg(long, default_value_t = 20)]
    pub cycles: u64,
    /// Seed of the moments and the values.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Clients that push at one time.
    #[arg(long, default_value_t = 4)]
    pub clients: u32,
    /// Ask the server to end (SIGTERM) instead; it must do so in order within ten seconds.
    #[arg(long)]
    pub sigterm: bool,
    /// Where the server keeps its data; a folder that is removed afterwards unless given.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Further flags for the server, after `--`.
    #[arg(last = true)]
    pub server_flags: Vec<String>,
}

/// The outcome of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    cycles: u64,
    acknowledged_samples: u64,
    checked: Checked,
    ready: Vec<Duration>,
    /// How long the server took to end when it was asked to.
    ended: Vec<Duration>,
    flushes: u64,
    compactions: u64,
    errors: Vec<String>,
}

impl Campaign {
    /// Whether the server kept its promise, and there was something to keep.
    pub fn is_good(&self) -> bool {
        let kept = self.checked.lost == 0 && self.checked.invented == 0;
        kept && self.errors.is_empty() && self.acknowledged_samples > 0
    }

    fn ready_ms(&self) -> (u128, u128) {
        let mut ready = self.ready.clone();
        ready.sort_unstable();
        let median = ready.get(ready.len() / 2).map_or(0, Duration::as_millis);
        (median, ready.last().map_or(0, Duration::as_millis))
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, max) = self.ready_ms();
        let Checked { lost, invented, read, .. } = &self.checked;
        writeln!(f, "cycles                  {}", self.cycles)?;
        writeln!(f, "acknowledged samples    {}", self.acknowledged_samples)?;
        writeln!(f, "samples read back       {read}")?;
        writeln!(f, "lost                    {lost}")?;
        writeln!(f, "invented                {invented}")?;
        writeln!(f, "ready again, median     {median} ms")?;
        writeln!(f, "ready again, longest    {max} ms")?;
        if let Some(longest) = self.ended.iter().max() {
            writeln!(f, "ended, longest          {} ms", longest.as_millis())?;
        }
        writeln!(f, "flushes, at least       {}", self.flushes)?;
        writeln!(f, "merges, at least        {}", self.compactions)?;
        for what in self.checked.examples.iter().chain(&self.errors) {
            writeln!(f, "! {what}")?;
        }
        Ok(())
    }
}

/// Runs a campaign; tells its progress on stderr.
///
/// # Errors
/// The server cannot be started at all, or this machine refuses something. What the server does
/// wrong is in the outcome.
pub async fn run(options: &KillerOptions) -> io::Result<Campaign> {
    let scratch = tempfile::tempdir()?;
    let data_dir = options.data_dir.clone().unwrap_or_else(|| scratch.path().join("data"));
    // Small heads, so that flushes and merges are under way when the server dies.
    let mut arguments = vec!["--source=none".to_owned(), "--head-size-max=1MiB".to_owned()];
    arguments.extend(options.server_flags.iter().cloned());
    let command = ServerCommand {
        binary: options.heapster.clone(),
        arguments,
        log: scratch.path().join("server.log"),
        data_dir: data_dir.clone(),
    };
    let mut random = Random::of(options.seed, "killer");
    let journals = Arc::new(Journals::new(options.clients, options.seed));
    let mut campaign = Campaign::default();
    eprintln!("seed {}, {} cycles", options.seed, options.cycles);
    while campaign.cycles < options.cycles && campaign.errors.is_empty() {
        if random.chance(0.05) {
            // The recovery is killed as well.
            let mut server = command.start()?;
            sleep(Duration::from_millis(random.below(40))).await;
            server.kill()?;
        }
        let is_full = (campaign.cycles + 1).is_multiple_of(FULL_CHECK_EVERY);
        let life = match random.below(10) {
            0 => 2_500 + random.below(4_000),
            _ => 20 + random.below(2_000),
        };
        let extent = if is_full { Extent::All } else { Extent::Recent(RECENT) };
        let life = Duration::from_millis(life);
        let plan = Plan { life, extent, is_orderly: options.sigterm };
        live_and_die(&command, &journals, plan, &mut campaign).await?;
        campaign.cycles += 1;
        campaign.acknowledged_samples = journals.acknowledged_samples();
        if campaign.cycles.is_multiple_of(PROGRESS_EVERY) {
            let Campaign { cycles, acknowledged_samples, checked, .. } = &campaign;
            eprintln!(
                "{cycles:>5} of {}: {acknowledged_samples} samples acknowledged, {} lost, {} \
                 invented, ready in {} ms at the median",
                options.cycles,
                checked.lost,
                checked.invented,
                campaign.ready_ms().0,
            );
        }
    }
    let last = look(&data_dir, Arc::clone(&journals), Extent::All).await;
    campaign.take(last);
    let log = std::fs::read_to_string(&command.log)?;
    let bad = log.lines().filter(|line| is_bad(line)).take(10);
    campaign.errors.extend(bad.map(|line| format!("the server said: {line}")));
    Ok(campaign)
}

/// Lines that a server that is only ever killed has no reason for.
fn is_bad(line: &str) -> bool {
    ["\"level\":\"ERROR\"", "\"level\":\"WARN\"", "panicked at"]
        .iter()
        .any(|bad| line.contains(bad))
}

/// What happens in one life of the server.
#[derive(Clone, Copy, Debug)]
struct Plan {
    life: Duration,
    extent: Extent,
    /// Whether the server is asked to end.
    is_orderly: bool,
}

/// Starts the server, checks what it has while clients push, and ends it.
async fn live_and_die(
    command: &ServerCommand,
    journals: &Arc<Journals>,
    plan: Plan,
    campaign: &mut Campaign,
) -> io::Result<()> {
    let Plan { life, extent, is_orderly } = plan;
    let clock = SystemClock::new();
    let mut server = command.start()?;
    match wait_until_ready(&mut server, &clock).await? {
        Ok(took) => campaign.ready.push(took),
        Err(why) => {
            campaign.errors.push(why);
            return Ok(());
        }
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..journals.clients() {
        let client = Client::new(Arc::clone(journals), number, server.address());
        clients.spawn(client.push_until(Arc::clone(&is_over)));
    }
    let (data_dir, own) = (command.data_dir.clone(), Arc::clone(journals));
    let checking = tokio::spawn(async move { look(&data_dir, own, extent).await });
    let born = clock.monotonic();
    let view = ServerView { address: server.address() };
    let (mut flushes, mut compactions) = (0.0, 0.0);
    loop {
        let left = (born + life).saturating_sub(clock.monotonic());
        if left < METRICS_EVERY {
            sleep(left).await;
            break;
        }
        sleep(METRICS_EVERY).await;
        if let Ok(Some(count)) = view.metric("heapster_store_flushes_total").await {
            flushes = count;
        }
        if let Ok(Some(count)) = view.metric("heapster_store_compactions_total").await {
            compactions = count;
        }
    }
    if let Some(status) = server.ended()? {
        campaign.errors.push(format!("the server ended by itself: {status}"));
    }
    if is_orderly {
        is_over.store(true, Ordering::Release);
        let (status, took) = server.terminate(TERMINATE_MAX).await?;
        if !status.success() {
            campaign
                .errors
                .push(format!("asked to end, the server did so after {took:?}: {status}"));
        }
        campaign.ended.push(took);
    } else {
        server.kill()?;
        is_over.store(true, Ordering::Release);
    }
    campaign.flushes += flushes as u64;
    campaign.compactions += compactions as u64;
    while let Some(ended) = clients.join_next().await {
        if let Err(why) = ended.map_err(io::Error::other)? {
            campaign.errors.push(why);
        }
    }
    campaign.take(checking.await.map_err(io::Error::other)?);
    Ok(())
}

async fn wait_until_ready(
    server: &mut Server,
    clock: &SystemClock,
) -> io::Result<Result<Duration, String>> {
    loop {
        let healthz = fetch(Method::GET, server.address(), "/healthz", READY_MAX).await;
        let took = clock.monotonic();
        if healthz.is_ok_and(|answer| answer.status == 200) {
            return Ok(Ok(took));
        }
        if let Some(status) = server.ended()? {
            return Ok(Err(format!("the server did not start again: {status}")));
        }
        if took > READY_MAX {
            return Ok(Err(format!("the server is not ready after {took:?}")));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Reads the directory on a thread that may block.
async fn look(data_dir: &Path, journals: Arc<Journals>, extent: Extent) -> Result<Checked, String> {
    let data_dir = data_dir.to_owned();
    let check = move || check::check(&data_dir, &journals, extent);
    let checked = tokio::task::spawn_blocking(check).await.map_err(|error| error.to_string())?;
    checked.map_err(|error| format!("the directory cannot be read: {error}"))
}

impl Campaign {
    fn take(&mut self, checked: Result<Checked, String>) {
        match checked {
            Ok(checked) => self.checked.add(checked),
            Err(why) => self.errors.push(why),
        }
    }
}
