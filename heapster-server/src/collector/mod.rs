//! [`Collector`]: rounds of scraping, processing and exporting, one per aligned interval.
//!
//! ```text
//! Schedule ─ interval ─→ FanOut ─ batch ─→ Pipeline ─┬→ SinkQueue → sink …
//!            (up to three at once)  (in order)       └→ the store, waited for
//! ```
//!
//! Up to three rounds scrape at once; their batches reach the processors in the order in which the
//! rounds began, one at a time. The store is not behind a queue: a round ends when the store has
//! taken its batch, so a slow disk slows the rounds down instead of losing data. When all places
//! are taken for half a resolution, the round is left out, counted and logged.

mod export;
mod fan_out;
mod patience;
mod pipeline;
mod scheduler;
mod sink_queue;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use heapster_core::DataBatch;
use heapster_core::pipeline::{BoxFuture, Interval, Processor, Sink, SinkError, SourceProvider};
use heapster_store::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use crate::telemetry::{Family, FamilyKind, Registry};

use export::Exporter;
pub use fan_out::{FanOut, Limits};
pub use pipeline::Pipeline;
pub use scheduler::{Schedule, Step};
use sink_queue::SinkQueue;

const ROUNDS: Family = Family {
    name: "heapster_collector_rounds_total",
    help: "Rounds of collection, by result: done, dropped (no batch came of it), left_out (all \
           places were taken) or skipped (the interval passed unseen).",
    kind: FamilyKind::Counter,
};

/// Bounds and pace of a collector.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Length of an interval: one batch each. The command line accepts no less than five seconds.
    pub resolution: Duration,
    /// Rounds under way at any one time.
    pub rounds_max: usize,
    /// Longest time from the start of a round until its batch closes; less when the resolution is
    /// short, see [`Options::deadline`].
    pub scrape_timeout: Duration,
    /// Scrapes under way at any one time.
    pub scrapes_max: usize,
    /// Batches that wait for a busy sink before further ones are dropped.
    pub queue_batches: usize,
    /// Longest time one export to a queued sink may take.
    pub export_timeout: Duration,
}

impl Options {
    /// The usual bounds at a resolution.
    pub fn new(resolution: Duration) -> Self {
        Self {
            resolution,
            rounds_max: 3,
            scrape_timeout: Duration::from_secs(20),
            scrapes_max: 256,
            queue_batches: 8,
            export_timeout: Duration::from_secs(20),
        }
    }

    /// When a batch closes at the latest, counted from the start of its round: the scrape timeout,
    /// or a tenth (at most a second) less than the resolution.
    pub fn deadline(&self) -> Duration {
        let slack = Duration::from_secs(1).min(self.resolution / 10);
        self.scrape_timeout.min(self.resolution.saturating_sub(slack))
    }
}

/// What a collector connects.
pub struct Parts {
    /// Lists the sources of a round.
    pub sources: Arc<dyn SourceProvider>,
    /// The first round begins when this has resolved.
    pub ready: BoxFuture<'static, ()>,
    /// The processors in their order.
    pub processors: Vec<Box<dyn Processor>>,
    /// The sink that each round waits for.
    pub store: Option<Arc<dyn Sink>>,
    /// The sinks behind queues.
    pub sinks: Vec<Arc<dyn Sink>>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Takes the self metrics.
    pub registry: Arc<Registry>,
}

/// How long stopping may take, step by step.
#[derive(Clone, Copy, Debug)]
pub struct StopLimits {
    /// For the rounds under way to reach their sinks.
    pub rounds: Duration,
    /// For the sinks to work off their queues, all at once.
    pub sinks: Duration,
}

impl Default for StopLimits {
    fn default() -> Self {
        Self { rounds: Duration::from_secs(4), sinks: Duration::from_secs(2) }
    }
}

/// A running collector. Dropping it without [`Collector::stop`] ends it without a flush.
pub struct Collector {
    /// Begins no more rounds and closes the batches under way.
    stop: CancellationToken,
    /// Gives up the rounds that are under way.
    abandon: CancellationToken,
    rounds: AbortOnDropHandle<()>,
    work: AbortOnDropHandle<Vec<SinkQueue>>,
    failed: mpsc::Receiver<SinkError>,
}

/// A round whose scrape is under way. Its place is free again when it is dropped.
struct Round {
    interval: Interval,
    scrape: AbortOnDropHandle<DataBatch>,
    _place: OwnedSemaphorePermit,
}

impl Collector {
    /// Starts collecting; must be called within a tokio runtime.
    pub fn start(parts: Parts, options: Options) -> Self {
        let Parts { sources, ready, processors, store, sinks, clock, registry } = parts;
        let limits = Limits { deadline: options.deadline(), in_flight_max: options.scrapes_max };
        let fan_out = FanOut::new(sources, limits, Arc::clone(&clock), Arc::clone(&registry));
        let exporter = |sink| Exporter::new(sink, Arc::clone(&clock), Arc::clone(&registry));
        let (fatal, failed) = mpsc::channel(1);
        let queues = sinks
            .into_iter()
            .map(|sink| {
                let (capacity, limit) = (options.queue_batches, options.export_timeout);
                SinkQueue::start(exporter(sink), capacity, limit, fatal.clone())
            })
            .collect();
        let work = Work {
            pipeline: Some(Pipeline::new(processors, Arc::clone(&clock), Arc::clone(&registry))),
            queues,
            store: store.map(exporter),
            registry: Arc::clone(&registry),
            fatal,
        };
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        let (begun, waiting) = mpsc::channel(options.rounds_max.max(1));
        let rounds = Rounds {
            fan_out: Arc::new(fan_out),
            places: Arc::new(Semaphore::new(options.rounds_max.max(1))),
            resolution: options.resolution,
            clock,
            registry,
            closing: stop.clone(),
            begun,
        };
        Self {
            rounds: AbortOnDropHandle::new(tokio::spawn(rounds.run(ready))),
            work: AbortOnDropHandle::new(tokio::spawn(work.run(waiting, abandon.clone()))),
            stop,
            abandon,
            failed,
        }
    }

    /// Waits until a sink reports that no batch can succeed any more; then the process should end.
    pub async fn failed(&mut self) -> SinkError {
        match self.failed.recv().await {
            Some(error) => error,
            None => SinkError::fatal("bug: the collector ended by itself"),
        }
    }

    /// Begins no more rounds, closes the batches of those under way with what has arrived, hands
    /// them to the sinks, works off the queues and stops the sinks. Takes little more than the limits together, whatever sources and sinks do; what is
    /// not done by then is abandoned and logged.
    pub async fn stop(self, limits: StopLimits) {
        self.stop.cancel();
        let mut work = self.work;
        let ended = match timeout(limits.rounds, &mut work).await {
            Ok(ended) => ended,
            Err(_) => {
                let waited = limits.rounds;
                warn!("the last round did not end within {waited:?} and is abandoned");
                self.abandon.cancel();
                work.await
            }
        };
        match ended {
            Ok(queues) => {
                join_all(queues.into_iter().map(|queue| queue.stop(limits.sinks))).await;
            }
            Err(_) => error!("bug: the collector panicked; its queues are lost"),
        }
        drop(self.rounds);
    }
}

/// Begins rounds when they are due.
struct Rounds {
    fan_out: Arc<FanOut>,
    places: Arc<Semaphore>,
    resolution: Duration,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    /// Begins no more rounds and closes the batches under way.
    closing: CancellationToken,
    begun: mpsc::Sender<Round>,
}

impl Rounds {
    async fn run(self, ready: BoxFuture<'static, ()>) {
        let mut ready = Some(ready);
        let mut schedule = Schedule::new(self.resolution);
        let rounds = async {
            loop {
                match schedule.step(self.clock.now()) {
                    Step::Wait(wait) => sleep(wait).await,
                    Step::Run { interval, skipped } => {
                        self.registry.add(&ROUNDS, &[("result", "skipped")], skipped);
                        if let Some(ready) = ready.take() {
                            ready.await;
                        }
                        if !self.begin(interval).await {
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = rounds => {}
        }
    }

    /// Begins a round as soon as there is a place; `false` when nobody takes rounds any more.
    async fn begin(&self, interval: Interval) -> bool {
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(Ok(place)) = timeout(self.resolution / 2, place).await else {
            self.registry.add(&ROUNDS, &[("result", "left_out")], 1);
            let end = interval.end;
            warn!("Spent too long waiting for housekeeping to start; no batch for {end}");
            return true;
        };
        let fan_out = Arc::clone(&self.fan_out);
        let closing = self.closing.clone();
        let scrape = tokio::spawn(async move { fan_out.scrape(interval, &closing).await });
        let scrape = AbortOnDropHandle::new(scrape);
        self.begun.send(Round { interval, scrape, _place: place }).await.is_ok()
    }
}

/// Takes rounds in their order and brings their batches to the sinks.
struct Work {
    /// Absent only while a batch is being processed.
    pipeline: Option<Pipeline>,
    queues: Vec<SinkQueue>,
    store: Option<Exporter>,
    registry: Arc<Registry>,
    fatal: mpsc::Sender<SinkError>,
}

impl Work {
    /// Ends when no round can come any more or all are abandoned; gives back the queues to be
    /// stopped.
    async fn run(
        mut self,
        mut rounds: mpsc::Receiver<Round>,
        abandon: CancellationToken,
    ) -> Vec<SinkQueue> {
        tokio::select! {
            () = abandon.cancelled() => {}
            () = self.work_off(&mut rounds) => {}
        }
        self.queues
    }

    async fn work_off(&mut self, rounds: &mut mpsc::Receiver<Round>) {
        while let Some(mut round) = rounds.recv().await {
            let scraped = (&mut round.scrape).await;
            let batch = match scraped {
                Ok(batch) => self.process(batch).await,
                Err(_) => {
                    let end = round.interval.end;
                    error!("bug: the round for {end} panicked; it has no batch");
                    None
                }
            };
            let result = if batch.is_some() { "done" } else { "dropped" };
            if let Some(batch) = batch {
                self.export(Arc::new(batch)).await;
            }
            self.registry.add(&ROUNDS, &[("result", result)], 1);
        }
    }

    /// Runs the processors away from the threads that serve requests: a batch of a large cluster
    /// takes them a while.
    async fn process(&mut self, batch: DataBatch) -> Option<DataBatch> {
        let mut pipeline = self.pipeline.take()?;
        let run: JoinHandle<_> = tokio::task::spawn_blocking(move || {
            let batch = pipeline.run(batch);
            (pipeline, batch)
        });
        // Panics are caught inside; the task fails only when the runtime shuts down.
        let (pipeline, batch) = run.await.ok()?;
        self.pipeline = Some(pipeline);
        batch
    }

    async fn export(&mut self, batch: Arc<DataBatch>) {
        for queue in &self.queues {
            queue.offer(&batch);
        }
        if let Some(store) = &self.store
            && let Err(error) = store.export(batch, None).await
        {
            // A full channel holds a fatal error already.
            let _ = self.fatal.try_send(error);
        }
    }
}
