//! [`FanOut`]: asks all sources of an interval at once and closes the batch on time.
//!
//! The batch closes when every source has answered, with data or without, and at the latest at the
//! deadline. A source that hangs is missing from its batch and delays nothing else: it is abandoned
//! at the deadline. A source that gave nothing is a suspect until it does; suspects share a quarter
//! of the places in flight, so that many dead nodes cannot hold the places of the living.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use heapster_core::DataBatch;
use heapster_core::pipeline::{Interval, Scrape, Source, SourceProvider};
use heapster_store::Clock;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use crate::telemetry::logging::chain;
use crate::telemetry::rate_limit::RateLimit;
use crate::telemetry::{Family, FamilyKind, Registry};

const LAST_TIME: Family = Family {
    name: "heapster_scraper_last_time_seconds",
    help: "Last time Heapster performed a scrape since unix epoch in seconds.",
    kind: FamilyKind::Gauge,
};
const DURATION: Family = Family {
    name: "heapster_scraper_duration_milliseconds",
    help: "Time spent scraping sources in milliseconds.",
    kind: FamilyKind::Summary,
};
const FAILURES: Family = Family {
    name: "heapster_scraper_failures_total",
    help: "Scrapes that gave nothing, by reason: error, panic, timeout or no_place (too many others \
           hung).",
    kind: FamilyKind::Counter,
};
const REJECTS: Family = Family {
    name: "heapster_scraper_rejects_total",
    help: "Pieces of otherwise good scrapes that could not be used.",
    kind: FamilyKind::Counter,
};
const SOURCES: Family = Family {
    name: "heapster_scraper_sources",
    help: "Sources of the last round.",
    kind: FamilyKind::Gauge,
};

/// Scrapes start spread over this much time per source, …
const SPREAD_PER_SOURCE: Duration = Duration::from_millis(8);
/// … and over this much time at most.
const SPREAD_MAX: Duration = Duration::from_secs(4);

/// How many failing sources one log line names.
const NAMED_MAX: usize = 5;

/// Bounds of one fan-out.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start of a round until its batch closes.
    pub deadline: Duration,
    /// Scrapes under way at any one time, over all rounds. A quarter of them serves sources that
    /// last time did not answer.
    pub in_flight_max: usize,
}

/// Asks sources; shared by overlapping rounds.
pub struct FanOut {
    provider: Arc<dyn SourceProvider>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    /// Places for sources in good standing, and for those that did not answer last time.
    places: Arc<Semaphore>,
    suspect_places: Arc<Semaphore>,
    known: Mutex<Known>,
    reject_lines: RateLimit,
}

/// What earlier rounds have shown, by the name of a source.
#[derive(Debug, Default)]
struct Known {
    /// The sources of the last round.
    names: HashSet<String>,
    /// Those that gave nothing when last asked.
    failing: HashSet<String>,
    /// Those that gave nothing when a scrape of them last began.
    suspects: HashSet<String>,
}

/// Why a source gave nothing.
enum Miss {
    Error(String),
    Panic,
    Timeout,
    /// The deadline came before a place was free.
    NoPlace,
}

impl Miss {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::NoPlace => "no_place",
        }
    }
}

impl FanOut {
    /// A fan-out over the sources that `provider` lists at the start of each round.
    pub fn new(
        provider: Arc<dyn SourceProvider>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        registry: Arc<Registry>,
    ) -> Self {
        let suspect_places = (limits.in_flight_max / 4).max(1);
        let places = limits.in_flight_max.saturating_sub(suspect_places).max(1);
        Self {
            provider,
            limits,
            clock,
            registry,
            places: Arc::new(Semaphore::new(places)),
            suspect_places: Arc::new(Semaphore::new(suspect_places)),
            known: Mutex::default(),
            reject_lines: RateLimit::new(Duration::from_secs(60)),
        }
    }

    /// The batch of an interval: what the sources gave until the deadline, stamped with the
    /// interval's end. Of two sets with one key the one that arrived later wins.
    pub async fn scrape(&self, interval: Interval) -> DataBatch {
        let deadline = Instant::now() + self.limits.deadline;
        let sources = self.list_sources();
        let mut tasks = JoinSet::new();
        let mut open: BTreeMap<usize, (String, Arc<AtomicBool>)> = BTreeMap::new();
        for (index, source) in sources.iter().enumerate() {
            let begun = Arc::new(AtomicBool::new(false));
            open.insert(index, (source.name().to_owned(), Arc::clone(&begun)));
            let delay = self.delay(source.name(), sources.len(), interval);
            tasks.spawn(self.ask(index, Arc::clone(source), delay, interval, begun));
        }

        let mut batch = DataBatch::new(interval.end);
        let mut misses: Vec<(String, Miss)> = Vec::new();
        let mut rejects: Vec<String> = Vec::new();
        // A task fails only when it is cancelled, since panics are caught inside.
        while let Ok(Some(done)) = timeout_at(deadline, tasks.join_next()).await {
            let Ok((index, outcome)) = done else { continue };
            let (name, _) = open.remove(&index).unwrap_or_default();
            match outcome {
                Ok(scrape) => {
                    batch.sets.extend(scrape.sets);
                    rejects.extend(scrape.rejects.into_iter().map(|why| format!("{name}: {why}")));
                }
                Err(miss) => misses.push((name, miss)),
            }
        }
        tasks.abort_all();
        misses.extend(open.into_values().map(|(name, begun)| {
            (name, if begun.load(Ordering::Relaxed) { Miss::Timeout } else { Miss::NoPlace })
        }));
        self.report_rejects(&rejects);
        self.remember(&sources, &misses);
        batch
    }

    fn list_sources(&self) -> Vec<Arc<dyn Source>> {
        catch_unwind(AssertUnwindSafe(|| self.provider.sources())).unwrap_or_else(|_| {
            self.registry.add(&FAILURES, &[("reason", "panic")], 1);
            warn!("could not list sources: the provider panicked; this round has none");
            Vec::new()
        })
    }

    /// The task that asks one source.
    fn ask(
        &self,
        index: usize,
        source: Arc<dyn Source>,
        delay: Duration,
        interval: Interval,
        begun: Arc<AtomicBool>,
    ) -> impl Future<Output = (usize, Result<Scrape, Miss>)> + use<> {
        let places =
            if self.is_suspect(source.name()) { &self.suspect_places } else { &self.places };
        let (places, clock) = (Arc::clone(places), Arc::clone(&self.clock));
        let registry = Arc::clone(&self.registry);
        async move {
            sleep(delay).await;
            // The semaphore is never closed; without a place the scrape would still be right.
            let _place = places.acquire_owned().await;
            begun.store(true, Ordering::Relaxed);
            let started = clock.monotonic();
            let scrape = AssertUnwindSafe(async { source.scrape(interval).await }).catch_unwind();
            let outcome = match scrape.await {
                Ok(Ok(scrape)) => Ok(scrape),
                Ok(Err(error)) => Err(Miss::Error(chain(&error))),
                Err(_) => Err(Miss::Panic),
            };
            let labels = [("source", source.name())];
            let took = clock.monotonic().saturating_sub(started);
            registry.observe(&DURATION, &labels, took.as_secs_f64() * 1000.0);
            registry.set(&LAST_TIME, &labels, clock.now().as_millis() as f64 / 1000.0);
            (index, outcome)
        }
    }

    fn is_suspect(&self, name: &str) -> bool {
        self.known.lock().suspects.contains(name)
    }

    /// When a source's scrape starts: always the same for a name, so that the samples of a node are
    /// evenly spaced. Suspects come in another order each round, so that none waits for ever.
    fn delay(&self, name: &str, sources: usize, interval: Interval) -> Duration {
        let per_source =
            SPREAD_PER_SOURCE.saturating_mul(u32::try_from(sources).unwrap_or(u32::MAX));
        let spread = per_source.min(SPREAD_MAX).min(self.limits.deadline / 4);
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        if self.is_suspect(name) {
            interval.end.hash(&mut hasher);
        }
        spread.mul_f64(hasher.finish() as f64 / u64::MAX as f64)
    }

    fn report_rejects(&self, rejects: &[String]) {
        self.registry.add(&REJECTS, &[], rejects.len() as u64);
        for reject in rejects {
            debug!("rejected a piece of a scrape: {reject}");
        }
        if let Some(first) = rejects.first()
            && let Some(earlier) = self.reject_lines.admit(self.clock.monotonic())
        {
            let count = rejects.len();
            warn!(
                "rejected {count} pieces of this round's scrapes ({earlier} rounds with more \
                   were not logged), such as {first}"
            );
        }
    }

    /// Counts what went wrong, logs what changed and drops self metrics of sources that went away.
    fn remember(&self, sources: &[Arc<dyn Source>], misses: &[(String, Miss)]) {
        self.registry.set(&SOURCES, &[], sources.len() as f64);
        for (_, miss) in misses {
            self.registry.add(&FAILURES, &[("reason", miss.reason())], 1);
        }
        let names: HashSet<String> =
            sources.iter().map(|source| source.name().to_owned()).collect();
        let failing: HashSet<String> = misses.iter().map(|(name, _)| name.clone()).collect();
        let mut known = self.known.lock();
        let suspects = misses
            .iter()
            .filter(|(name, miss)| match miss {
                Miss::NoPlace => known.suspects.contains(name),
                Miss::Error(_) | Miss::Panic | Miss::Timeout => true,
            })
            .map(|(name, _)| name.clone())
            .collect();
        let before = std::mem::replace(&mut *known, Known { names, failing, suspects });

        for gone in before.names.difference(&known.names) {
            self.registry.forget(&DURATION, "source", gone);
            self.registry.forget(&LAST_TIME, "source", gone);
        }
        let recovered = before
            .failing
            .difference(&known.failing)
            .filter(|name| known.names.contains(*name))
            .count();
        drop(known);
        if recovered > 0 {
            info!("{recovered} sources answer again");
        }
        let new: Vec<&(String, Miss)> =
            misses.iter().filter(|(name, _)| !before.failing.contains(name)).collect();
        if !new.is_empty() {
            let (failed, all) = (misses.len(), sources.len());
            let clauses = new.iter().take(NAMED_MAX).map(|(name, miss)| self.clause(name, miss));
            let clauses = clauses.collect::<Vec<_>>().join("; ");
            let more = match new.len().saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            warn!("{failed} of {all} sources are missing from this round; new: {clauses}{more}");
        }
    }

    fn clause(&self, name: &str, miss: &Miss) -> String {
        match miss {
            Miss::Error(error) => format!("{name}: {error}"),
            Miss::Panic => format!("{name}: bug: the source panicked"),
            Miss::Timeout => format!("{name}: no answer within {:?}", self.limits.deadline),
            Miss::NoPlace => format!("{name}: not asked, too many others hang"),
        }
    }
}
