//! The source `prometheus`: whatever exposes metrics as Prometheus reads them.
//!
//! ```text
//! config ─ job ─┬ discovery ─→ target ─→ scraper ─ client ─→ exposition ─→ target memory ─→ intake
//!               └ relabel rules ──↑──────────────────────────────────────────────↑
//! ```
//!
//! It is no [`Source`](heapster_core::pipeline::Source) of the collector's rounds: each job has an
//! interval of its own, and what a target says are series with labels rather than entities of a
//! cluster. So its samples go to the store as pushed ones do, through the
//! [`Intake`], beside a collector or without one. In reading order:
//! [`config`] says what is scraped, `target` makes targets of it, `scraper` asks each at its own
//! pace, [`crate::exposition`] reads answers, and [`target_memory`] turns them into samples.

mod client;
pub mod config;
mod discovery;
pub mod relabel;
mod scraper;
mod target;
pub mod target_memory;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::Labels;
use heapster_store::Clock;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::client::TargetClient;
use self::config::{JobConfig, TargetGroup};
use self::discovery::DiscoveredFiles;
use self::scraper::{JobShared, Scraper, Shared};
use self::target::targets_of;
use crate::intake::Intake;
use crate::metadata::MetadataRegistry;
use crate::sources::kubelet::tls::TlsError;
use crate::targets::{TargetRegistry, TargetState};
use crate::telemetry::Registry;
use crate::telemetry::rate_limit::RateLimit;

/// Scrapes under way at any one time, as the collector has it.
const SCRAPES_MAX: usize = 256;
/// One line about targets that change in this time.
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// Why scraping cannot start.
#[derive(Debug, thiserror::Error)]
#[error("could not set up job {job:?}")]
pub struct SetupError {
    /// Name of the job.
    pub job: String,
    /// What is wrong with its certificates.
    pub source: TlsError,
}

/// What scraping works with.
pub struct Parts {
    /// Takes the samples.
    pub intake: Arc<Intake>,
    /// Takes what targets say of their metrics.
    pub metadata: Arc<MetadataRegistry>,
    /// Says which targets there are and how they are.
    pub targets: Arc<TargetRegistry>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Takes the self metrics.
    pub registry: Arc<Registry>,
}

/// Jobs that are being scraped. Dropping it without [`Scraping::stop`] leaves them running.
pub struct Scraping {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Scraping {
    /// Starts scraping; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`]; nothing is scraped then.
    pub fn start(jobs: Vec<JobConfig>, parts: Parts) -> Result<Self, SetupError> {
        let Parts { intake, metadata, targets, clock, registry } = parts;
        let shared = Arc::new(Shared {
            intake,
            metadata,
            clock: Arc::clone(&clock),
            registry,
            places: Semaphore::new(SCRAPES_MAX),
            lines: RateLimit::new(LOG_PERIOD),
        });
        let mut ready = Vec::with_capacity(jobs.len());
        for config in jobs {
            let client = TargetClient::new(&config, Arc::clone(&clock))
                .map_err(|source| SetupError { job: config.name.clone(), source })?;
            ready.push(Arc::new(JobShared { config, client, refusal: Mutex::default() }));
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for job in ready {
            let running = RunningJob {
                shared: Arc::clone(&shared),
                job,
                targets: Arc::clone(&targets),
                scrapers: HashMap::new(),
                tasks: tasks.clone(),
                stop: stop.clone(),
            };
            tasks.spawn(running.run());
        }
        tasks.close();
        Ok(Self { stop, tasks })
    }

    /// Asks nobody any more, and waits until what is being stored is stored, but not longer than
    /// `limit`. Series do not end by that: after a restart they go on.
    pub async fn stop(self, limit: Duration) {
        self.stop.cancel();
        if timeout(limit, self.tasks.wait()).await.is_err() {
            warn!("scrapes did not end within {limit:?} and are abandoned");
        }
    }
}

/// A job and the scrapers of its targets.
struct RunningJob {
    shared: Arc<Shared>,
    job: Arc<JobShared>,
    targets: Arc<TargetRegistry>,
    scrapers: HashMap<(String, Labels), RunningScraper>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct RunningScraper {
    target: Arc<TargetState>,
    gone: CancellationToken,
}

impl RunningJob {
    async fn run(mut self) {
        let files = self.job.config.files.clone();
        let refresh = files.iter().map(|files| files.refresh).min();
        let mut discovered = DiscoveredFiles::default();
        let mut is_first = true;
        loop {
            let looked = files.clone();
            let look = tokio::task::spawn_blocking(move || {
                discovered.look(&looked);
                discovered
            });
            // It fails only when the program ends.
            let Ok(looked) = look.await else { return };
            discovered = looked;
            self.update(discovered.groups(), is_first);
            is_first = false;
            let wait = async {
                match refresh {
                    Some(refresh) => sleep(refresh).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// Starts scrapers of new targets and ends those of targets that are gone.
    fn update<'a>(&mut self, discovered: impl Iterator<Item = &'a TargetGroup>, is_first: bool) {
        let config = &self.job.config;
        let mut groups = config.groups.clone();
        groups.extend(discovered.cloned());
        let found = targets_of(config, &groups);
        for why in &found.errors {
            if is_first {
                warn!("job {:?}: {why}", config.name);
            }
        }
        let (limit, count) = (config.limits.targets, found.active.len());
        *self.job.refusal.lock() = (limit > 0 && count > limit)
            .then(|| format!("target_limit exceeded: {count} targets, at most {limit}"));
        let mut scrapers = HashMap::with_capacity(count);
        let mut active = Vec::with_capacity(count);
        for target in found.active {
            let key = (target.url.clone(), target.labels.clone());
            let running = self.scrapers.remove(&key).unwrap_or_else(|| self.begin(target));
            active.push(Arc::clone(&running.target));
            scrapers.insert(key, running);
        }
        let ended = std::mem::replace(&mut self.scrapers, scrapers);
        ended.values().for_each(|running| running.gone.cancel());
        if is_first || !ended.is_empty() {
            info!("job {:?} has {count} targets", config.name);
        }
        self.targets.set(&config.name, active, found.dropped);
    }

    fn begin(&self, target: TargetState) -> RunningScraper {
        let (target, gone) = (Arc::new(target), CancellationToken::new());
        let scraper =
            Scraper::new(Arc::clone(&self.shared), Arc::clone(&self.job), Arc::clone(&target));
        self.tasks.spawn(scraper.run(gone.clone(), self.stop.clone()));
        RunningScraper { target, gone }
    }
}
