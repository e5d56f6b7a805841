//! [`Exporter`]: one sink's exports, timed, counted and guarded against panics and hangs.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use heapster_core::DataBatch;
use heapster_core::Text;
use heapster_core::pipeline::{Sink, SinkError};
use heapster_store::Clock;
use tokio::time::timeout;
use tracing::warn;

use crate::telemetry::logging::chain;
use crate::telemetry::rate_limit::RateLimit;
use crate::telemetry::{Family, FamilyKind, Registry};

const LAST_TIME: Family = Family {
    name: "heapster_exporter_last_time_seconds",
    help: "Last time Heapster exported data since unix epoch in seconds.",
    kind: FamilyKind::Gauge,
};
const DURATION: Family = Family {
    name: "heapster_exporter_duration_milliseconds",
    help: "Time spent exporting data to sink in milliseconds.",
    kind: FamilyKind::Summary,
};
const FAILURES: Family = Family {
    name: "heapster_exporter_failures_total",
    help: "Batches that a sink did not take, by exporter.",
    kind: FamilyKind::Counter,
};
const DROPPED: Family = Family {
    name: "heapster_exporter_dropped_batches_total",
    help: "Batches that were dropped because a sink was too slow, by exporter.",
    kind: FamilyKind::Counter,
};

/// One line per sink and kind of trouble in this time.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// A sink with the self metrics of its exports.
pub(super) struct Exporter {
    sink: Arc<dyn Sink>,
    name: Text,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    failure_lines: RateLimit,
    drop_lines: RateLimit,
}

impl Exporter {
    pub(super) fn new(sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, registry: Arc<Registry>) -> Self {
        let name = sink.name();
        // Known from the start, so that an alert on their rise has something to compare with.
        registry.add(&FAILURES, &[("exporter", &name)], 0);
        registry.add(&DROPPED, &[("exporter", &name)], 0);
        let (failure_lines, drop_lines) = (RateLimit::new(LOG_PERIOD), RateLimit::new(LOG_PERIOD));
        Self { sink, name, clock, registry, failure_lines, drop_lines }
    }

    /// Hands the sink a batch. A failure is counted and logged here; only a fatal one is returned.
    ///
    /// An export that outlasts `limit` is abandoned.
    ///
    /// # Errors
    /// The sink will never take a batch again.
    pub(super) async fn export(
        &self,
        batch: Arc<DataBatch>,
        limit: Option<Duration>,
    ) -> Result<(), SinkError> {
        let (at, started) = (batch.timestamp, self.clock.monotonic());
        let export = AssertUnwindSafe(async { self.sink.export(batch).await }).catch_unwind();
        let outcome = match limit {
            Some(limit) => timeout(limit, export).await.map_err(|_| limit),
            None => Ok(export.await),
        };
        let labels = [("exporter", self.name.as_str())];
        let took = self.clock.monotonic().saturating_sub(started);
        self.registry.observe(&DURATION, &labels, took.as_secs_f64() * 1000.0);
        let why = match outcome {
            Ok(Ok(Ok(()))) => {
                let now = self.clock.now().as_millis() as f64 / 1000.0;
                self.registry.set(&LAST_TIME, &labels, now);
                return Ok(());
            }
            Ok(Ok(Err(error))) if error.is_fatal() => {
                self.registry.add(&FAILURES, &labels, 1);
                return Err(error);
            }
            Ok(Ok(Err(error))) => chain(&error),
            Ok(Err(_)) => "bug: the sink panicked".to_owned(),
            Err(limit) => format!("no end within {limit:?}, abandoned"),
        };
        self.registry.add(&FAILURES, &labels, 1);
        if let Some(earlier) = self.failure_lines.admit(self.clock.monotonic()) {
            let name = &self.name;
            warn!("Failed to push data to sink: {name}: batch of {at}: {why}{}", more(earlier));
        }
        Ok(())
    }

    /// Counts batches that the sink never saw.
    pub(super) fn count_dropped(&self, batches: u64) {
        self.registry.add(&DROPPED, &[("exporter", self.name.as_str())], batches);
        if batches > 0
            && let Some(earlier) = self.drop_lines.admit(self.clock.monotonic())
        {
            let name = &self.name;
            warn!("{name} is too slow: {batches} batches dropped{}", more(earlier));
        }
    }

    /// Tells the sink to flush what it buffers, waiting at most `limit`.
    pub(super) async fn stop(&self, limit: Duration) {
        let stop = AssertUnwindSafe(async { self.sink.stop().await }).catch_unwind();
        let why = match timeout(limit, stop).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => chain(&error),
            Ok(Err(_)) => "bug: the sink panicked".to_owned(),
            Err(_) => format!("no end within {limit:?}"),
        };
        warn!("Failed to stop sink: {}: {why}", self.name);
    }
}

fn more(earlier: u64) -> String {
    if earlier == 0 { String::new() } else { format!(" (and {earlier} times before)") }
}
