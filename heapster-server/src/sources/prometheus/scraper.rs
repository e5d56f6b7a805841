//! [`Scraper`]: asks one target at its own pace and stores what it answers.
//!
//! A target is asked at multiples of its interval plus an offset of its own, so that targets are
//! spread evenly and a sample's time does not depend on when we were started. It is never asked
//! twice at one time: a scrape that takes longer than the interval, or a store that is slow, leaves
//! scrapes out; none is made up for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use heapster_core::Timestamp;
use heapster_store::Clock;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::client::{Answer, TargetClient};
use super::config::JobConfig;
use super::target_memory::{Absorbed, TargetMemory};
use crate::intake::Intake;
use crate::metadata::MetadataRegistry;
use crate::targets::{Health, TargetState, TargetStatus};
use crate::telemetry::logging::chain;
use crate::telemetry::rate_limit::RateLimit;
use crate::telemetry::{Family, FamilyKind, Registry};

const SCRAPES: Family = Family {
    name: "heapster_target_scrapes_total",
    help: "Scrapes of targets, by job and result: good, failed, or refused (the store did not take \
           what a scrape brought).",
    kind: FamilyKind::Counter,
};

/// A scrape that begins so much late or less has the time at which it was to begin, as in Prometheus:
/// times that are evenly spaced cost nothing to store.
const TOLERANCE: Duration = Duration::from_millis(2);
/// No wait is longer, so that a jump of the wall clock is noticed.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What the scrapers of a server share.
pub(super) struct Shared {
    pub intake: Arc<Intake>,
    pub metadata: Arc<MetadataRegistry>,
    pub clock: Arc<dyn Clock>,
    pub registry: Arc<Registry>,
    /// Scrapes under way at any one time, from the first byte of a question to the last sample of
    /// its answer.
    pub places: Semaphore,
    /// Lines about targets that change.
    pub lines: RateLimit,
}

/// What the scrapers of a job share.
pub(super) struct JobShared {
    pub config: JobConfig,
    pub client: TargetClient,
    /// Why no target of the job is asked at the moment.
    pub refusal: Mutex<Option<String>>,
}

/// How waiting for a moment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    UntilDue,
    /// The clock was set back: the moment is further than it can be.
    InVain,
}

/// Asks one target.
pub(super) struct Scraper {
    shared: Arc<Shared>,
    job: Arc<JobShared>,
    target: Arc<TargetState>,
    memory: TargetMemory,
}

impl Scraper {
    pub(super) fn new(shared: Arc<Shared>, job: Arc<JobShared>, target: Arc<TargetState>) -> Self {
        Self { shared, job, target, memory: TargetMemory::default() }
    }

    /// Scrapes until `stop` is cancelled, or until the target is `gone`: then its series end.
    pub(super) async fn run(mut self, gone: CancellationToken, stop: CancellationToken) {
        let mut last = self.shared.clock.now();
        let offset = offset_of(&self.target);
        loop {
            let due = next_due(last, self.target.interval, offset);
            let waited = tokio::select! {
                () = stop.cancelled() => return,
                () = gone.cancelled() => return self.end().await,
                waited = self.wait_until(due) => waited,
            };
            if waited == Waited::InVain {
                last = self.shared.clock.now();
                continue;
            }
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.scrape(due) => ended,
            };
            let Some(scraper) = ended else { return };
            self = scraper;
            // What became due meanwhile is left out.
            last = self.shared.clock.now().max(due);
        }
    }

    async fn wait_until(&self, due: Timestamp) -> Waited {
        loop {
            let wait = due.saturating_since(self.shared.clock.now());
            if wait.is_zero() {
                return Waited::UntilDue;
            }
            if wait > self.target.interval {
                return Waited::InVain;
            }
            sleep(wait.min(WAIT_MAX)).await;
        }
    }

    /// Scrapes once; gives the scraper back, unless it broke.
    async fn scrape(self, due: Timestamp) -> Option<Self> {
        let place = Arc::clone(&self.shared);
        let _place = place.places.acquire().await.ok()?;
        let now = self.shared.clock.now();
        let at = if now.saturating_since(due) <= TOLERANCE { due } else { now };
        let begun = self.shared.clock.monotonic();
        let refusal = self.job.refusal.lock().clone();
        let answer = match refusal {
            Some(why) => Err(why),
            None => {
                let answer = self.job.client.fetch(&self.target.url, self.target.timeout).await;
                answer.map_err(|error| chain(&error))
            }
        };
        let took = self.shared.clock.monotonic().saturating_sub(begun);
        let url = self.target.url.clone();
        let stored = tokio::task::spawn_blocking(move || self.store(answer, at, took)).await;
        stored.inspect_err(|_| error!("bug: storing the answer of {url} broke off")).ok()
    }

    /// Stores what a scrape becomes; blocks.
    fn store(mut self, answer: Result<Answer, String>, at: Timestamp, took: Duration) -> Self {
        let Shared { intake, metadata, .. } = &*self.shared;
        let read = match &answer {
            Ok(answer) => Ok((&answer.body[..], answer.format)),
            Err(why) => Err(why.clone()),
        };
        let Absorbed { samples, error } =
            self.memory.absorb(&self.job.config, &self.target.labels, read, at, took, metadata);
        drop(answer);
        let rows = intake.rows(samples, self.memory.table());
        let pushed = intake.push(&rows);
        let (health, result, last_error) = match (error, pushed) {
            (Some(why), _) => (Health::Down, "failed", why),
            // Intake says in the log why the store refuses; the target is well.
            (None, Err(error)) => {
                (Health::Up, "refused", format!("the store did not take it: {}", chain(&error)))
            }
            (None, Ok(report)) => {
                let refused = report.rejected.iter().filter(|(_, samples)| *samples > 0);
                let refused = refused.map(|(reason, samples)| (reason.as_str(), samples));
                let refused: Vec<String> = refused
                    .chain(rows.refused.iter().copied())
                    .map(|(reason, samples)| format!("{samples} {reason}"))
                    .collect();
                let told = match refused.is_empty() {
                    true => String::new(),
                    false => format!("the store refused samples: {}", refused.join(", ")),
                };
                (Health::Up, "good", told)
            }
        };
        self.shared.registry.add(&SCRAPES, &[("job", &self.target.job), ("result", result)], 1);
        let status =
            TargetStatus { health, last_error, last_scrape: Some(at), last_duration: took };
        let before = self.target.set_status(status.clone());
        self.tell(&before, &status);
        self
    }

    /// Says when a target changes.
    fn tell(&self, before: &TargetStatus, now: &TargetStatus) {
        let is_news = before.health != now.health && now.health != Health::Unknown;
        if !is_news || before.health == Health::Unknown && now.health == Health::Up {
            return;
        }
        let Some(earlier) = self.shared.lines.admit(self.shared.clock.monotonic()) else { return };
        let (url, job) = (&self.target.url, &self.target.job);
        let others = match earlier {
            0 => String::new(),
            count => format!(" ({count} more changes of targets were not logged)"),
        };
        match now.health {
            Health::Down => {
                warn!("target {url} of job {job:?} is down: {}{others}", now.last_error);
            }
            _ => info!("target {url} of job {job:?} is up again{others}"),
        }
    }

    /// Ends the series of a target that is gone.
    async fn end(mut self) {
        let ended = tokio::task::spawn_blocking(move || {
            let samples = self.memory.end(self.shared.clock.now());
            let rows = self.shared.intake.rows(samples, self.memory.table());
            // Intake says in the log why the store refuses.
            let _ = self.shared.intake.push(&rows);
        });
        if ended.await.is_err() {
            error!("bug: ending the series of a target broke off");
        }
    }
}

/// How long after a multiple of its interval a target is asked: its own, and always the same.
fn offset_of(target: &TargetState) -> Duration {
    let mut hasher = DefaultHasher::new();
    (&target.url, &target.labels).hash(&mut hasher);
    let interval = target.interval.as_millis().max(1);
    Duration::from_millis((u128::from(hasher.finish()) % interval) as u64)
}

/// The first moment after `last` at which a target is due.
fn next_due(last: Timestamp, interval: Duration, offset: Duration) -> Timestamp {
    let aligned = last.saturating_sub(offset).truncate(interval).saturating_add(offset);
    if aligned > last { aligned } else { aligned.saturating_add(interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_due_once_an_interval_and_none_is_made_up_for() {
        let (interval, offset) = (Duration::from_secs(15), Duration::from_millis(4_321));
        let mut last = Timestamp::from_millis(1_700_000_000_000);
        let mut dues = Vec::new();
        for late_ms in [0, 3, 40_000, 0] {
            let due = next_due(last, interval, offset);
            dues.push(due.as_millis());
            last = due.saturating_add(Duration::from_millis(late_ms));
        }
        let first = dues[0];
        assert_eq!((first - 4_321) % 1_000, 0);
        assert!(first > 1_700_000_000_000 && first <= 1_700_000_015_000);
        assert_eq!(dues, [first, first + 15_000, first + 30_000, first + 75_000]);
    }

    #[test]
    fn the_ends_of_time_are_no_trouble() {
        for last in [Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX] {
            let due = next_due(last, Duration::from_secs(15), Duration::from_secs(7));
            assert!(due >= last);
        }
    }
}
