//! [`FanOut`]: asks all sources of an interval at once and closes the batch on time.
//!
//! The batch closes when every source has answered, with data or without, or when those that have
//! not are overdue ([`Patience`]), and at the latest at the deadline. A source that hangs is missing
//! from its batch and delays nothing else. Its scrape runs on to the deadline: the late answer is
//! dropped, but shows that the source is slow rather than dead. A source that gave nothing is a
//! suspect until it does; suspects share a quarter of the places in flight, so that many dead nodes
//! cannot hold the places of the living.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use heapster_core::DataBatch;
use heapster_core::pipeline::{Interval, Scrape, Source, SourceProvider};
use heapster_store::Clock;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::patience::{Awaited, Patience};
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
    help: "Scrapes that gave nothing, by reason: error, panic, timeout (no answer before the batch \
           closed) or no_place (too many others hung).",
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

/// How long a batch stays open once the collector is told to stop.
const CLOSING_MAX: Duration = Duration::from_millis(1_500);

/// How many failing sources one log line names.
const NAMED_MAX: usize = 5;

/// Bounds of one fan-out.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the start of a round until its batch closes at the latest, and its scrapes end.
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
    known: Arc<Mutex<Known>>,
    /// Scrapes that go on after their batch was closed, one task per round.
    stragglers: Mutex<JoinSet<()>>,
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
    /// How long the last answer of each took.
    usual: HashMap<String, Duration>,
}

impl Known {
    /// A source has answered after its batch was closed: slow, but no suspect.
    fn answered_late(&mut self, name: &str, took: Duration) {
        self.suspects.remove(name);
        if self.names.contains(name) {
            self.usual.insert(name.to_owned(), took);
        }
    }
}

/// Why a source gave nothing.
enum Miss {
    Error(String),
    Panic,
    /// The batch was closed after this time.
    Timeout(Duration),
    /// The deadline came before a place was free.
    NoPlace,
}

/// What came of asking one source.
struct Answer {
    index: usize,
    /// From the start of its scrape.
    took: Duration,
    outcome: Result<Scrape, Miss>,
}

impl Miss {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Panic => "panic",
            Self::Timeout(_) => "timeout",
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
            known: Arc::default(),
            stragglers: Mutex::default(),
            reject_lines: RateLimit::new(Duration::from_secs(60)),
        }
    }

    /// The batch of an interval: what the sources gave until it closed, stamped with the interval's
    /// end. Of two sets with one key the one that arrived later wins. Once `closing` is cancelled
    /// the batch closes within 1.5 s, with what it has by then.
    pub async fn scrape(&self, interval: Interval, closing: &CancellationToken) -> DataBatch {
        let started = Instant::now();
        let deadline = started + self.limits.deadline;
        let sources = self.list_sources();
        let spread = self.spread(sources.len());
        let mut tasks = JoinSet::new();
        let mut awaited = Vec::with_capacity(sources.len());
        for (index, source) in sources.iter().enumerate() {
            let one = self.awaited(source.name());
            let delay = delay(&one, spread, interval);
            tasks.spawn(self.ask(index, Arc::clone(source), delay, deadline, interval, &one));
            awaited.push(one);
        }
        let mut patience = Patience::new(started, deadline, spread, awaited);

        let mut sets = Vec::new();
        let mut usual: Vec<(String, Duration)> = Vec::new();
        let mut misses: Vec<(String, Miss)> = Vec::new();
        let mut rejects: Vec<String> = Vec::new();
        let mut is_closing = false;
        loop {
            let until = patience.until(Instant::now());
            let answer = tokio::select! {
                biased;
                done = tasks.join_next() => match done {
                    Some(Ok(answer)) => answer,
                    // A task fails only when it is cancelled, since panics are caught inside.
                    Some(Err(_)) => continue,
                    None => break,
                },
                () = closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    patience.close_by(Instant::now() + CLOSING_MAX);
                    continue;
                }
                () = sleep_until(until) => {
                    // A source that has begun meanwhile gets its time as well.
                    let now = Instant::now();
                    if patience.until(now) <= now { break } else { continue }
                }
            };
            let took = answer.outcome.is_ok().then_some(answer.took);
            let Some(Awaited { name, .. }) = patience.settle(answer.index, took, Instant::now())
            else {
                continue;
            };
            match answer.outcome {
                Ok(scrape) => {
                    sets.extend(scrape.sets);
                    rejects.extend(scrape.rejects.into_iter().map(|why| format!("{name}: {why}")));
                    usual.push((name, answer.took));
                }
                Err(miss) => misses.push((name, miss)),
            }
        }
        let waited = patience.waited(Instant::now());
        let open = patience.into_open();
        misses.extend(open.values().map(|source| {
            let has_begun = source.begun.get().is_some();
            (source.name.clone(), if has_begun { Miss::Timeout(waited) } else { Miss::NoPlace })
        }));
        self.report_rejects(&rejects);
        self.remember(&sources, usual, &misses);
        self.leave_behind(tasks, open);
        // Sorted and built at once, which is cheaper than to find a place for each set.
        DataBatch { timestamp: interval.end, sets: sets.into_iter().collect() }
    }

    /// Lets the scrapes of a closed batch go on to their deadline, to see which sources are alive.
    fn leave_behind(&self, mut tasks: JoinSet<Answer>, open: BTreeMap<usize, Awaited>) {
        let mut stragglers = self.stragglers.lock();
        while stragglers.try_join_next().is_some() {}
        if open.is_empty() {
            return;
        }
        let known = Arc::clone(&self.known);
        stragglers.spawn(async move {
            while let Some(done) = tasks.join_next().await {
                let Ok(answer) = done else { continue };
                if let (Some(source), Ok(_)) = (open.get(&answer.index), &answer.outcome) {
                    known.lock().answered_late(&source.name, answer.took);
                }
            }
        });
    }

    /// What is known of a source before it is asked.
    fn awaited(&self, name: &str) -> Awaited {
        let known = self.known.lock();
        Awaited {
            name: name.to_owned(),
            is_suspect: known.suspects.contains(name),
            usual: known.usual.get(name).copied(),
            begun: Arc::default(),
        }
    }

    fn list_sources(&self) -> Vec<Arc<dyn Source>> {
        catch_unwind(AssertUnwindSafe(|| self.provider.sources())).unwrap_or_else(|_| {
            self.registry.add(&FAILURES, &[("reason", "panic")], 1);
            warn!("could not list sources: the provider panicked; this round has none");
            Vec::new()
        })
    }

    /// The task that asks one source; ends at the deadline.
    fn ask(
        &self,
        index: usize,
        source: Arc<dyn Source>,
        delay: Duration,
        deadline: Instant,
        interval: Interval,
        awaited: &Awaited,
    ) -> impl Future<Output = Answer> + use<> {
        let places = if awaited.is_suspect { &self.suspect_places } else { &self.places };
        let (places, clock) = (Arc::clone(places), Arc::clone(&self.clock));
        let (registry, begun) = (Arc::clone(&self.registry), Arc::clone(&awaited.begun));
        async move {
            sleep(delay).await;
            // The semaphore is never closed; without a place the scrape would still be right.
            let Ok(_place) = timeout_at(deadline, places.acquire_owned()).await else {
                return Answer { index, took: Duration::ZERO, outcome: Err(Miss::NoPlace) };
            };
            let (moment, started) = (Instant::now(), clock.monotonic());
            let _ = begun.set(moment);
            let scrape = AssertUnwindSafe(async { source.scrape(interval).await }).catch_unwind();
            let outcome = match timeout_at(deadline, scrape).await {
                Ok(Ok(Ok(scrape))) => Ok(scrape),
                Ok(Ok(Err(error))) => Err(Miss::Error(chain(&error))),
                Ok(Err(_)) => Err(Miss::Panic),
                Err(_) => Err(Miss::Timeout(moment.elapsed())),
            };
            let labels = [("source", source.name())];
            let took = clock.monotonic().saturating_sub(started);
            registry.observe(&DURATION, &labels, took.as_secs_f64() * 1000.0);
            registry.set(&LAST_TIME, &labels, clock.now().as_millis() as f64 / 1000.0);
            Answer { index, took: moment.elapsed(), outcome }
        }
    }

    /// Over how much time the scrapes of a round begin.
    fn spread(&self, sources: usize) -> Duration {
        let per_source =
            SPREAD_PER_SOURCE.saturating_mul(u32::try_from(sources).unwrap_or(u32::MAX));
        per_source.min(SPREAD_MAX).min(self.limits.deadline / 4)
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
    fn remember(
        &self,
        sources: &[Arc<dyn Source>],
        took: Vec<(String, Duration)>,
        misses: &[(String, Miss)],
    ) {
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
                Miss::Error(_) | Miss::Panic | Miss::Timeout(_) => true,
            })
            .map(|(name, _)| name.clone())
            .collect();
        let mut usual = std::mem::take(&mut known.usual);
        usual.extend(took);
        usual.retain(|name, _| names.contains(name));
        let before = std::mem::replace(&mut *known, Known { names, failing, suspects, usual });

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
            let clauses = new.iter().take(NAMED_MAX).map(|(name, miss)| clause(name, miss));
            let clauses = clauses.collect::<Vec<_>>().join("; ");
            let more = match new.len().saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            warn!("{failed} of {all} sources are missing from this round; new: {clauses}{more}");
        }
    }
}

/// When a source's scrape starts: always the same for a name, so that the samples of a node are
/// evenly spaced. Suspects come in another order each round, so that none waits for ever.
fn delay(source: &Awaited, spread: Duration, interval: Interval) -> Duration {
    let mut hasher = DefaultHasher::new();
    source.name.hash(&mut hasher);
    if source.is_suspect {
        interval.end.hash(&mut hasher);
    }
    spread.mul_f64(hasher.finish() as f64 / u64::MAX as f64)
}

fn clause(name: &str, miss: &Miss) -> String {
    match miss {
        Miss::Error(error) => format!("{name}: {error}"),
        Miss::Panic => format!("{name}: bug: the source panicked"),
        Miss::Timeout(waited) => format!("{name}: no answer within {waited:.1?}"),
        Miss::NoPlace => format!("{name}: not asked, too many others hang"),
    }
}
