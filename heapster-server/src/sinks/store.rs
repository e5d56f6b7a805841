//! [`StoreSink`]: appends each batch to the store, then shows it to the APIs.

use std::sync::Arc;
use std::time::Duration;

use heapster_core::pipeline::{BoxFuture, Sink, SinkError};
use heapster_core::{DataBatch, Text, Timestamp};
use heapster_store::{AppendReport, Clock, Error};
use tracing::warn;

use crate::intake::Intake;
use crate::live::Live;
use crate::telemetry::rate_limit::RateLimit;

/// One line about refused samples in this time.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// The sink that every round waits for.
#[derive(Debug)]
pub struct StoreSink {
    intake: Arc<Intake>,
    live: Arc<Live>,
    clock: Arc<dyn Clock>,
    refusal_lines: RateLimit,
}

impl StoreSink {
    /// A sink that appends through `intake` and then publishes to `live`.
    pub fn new(intake: Arc<Intake>, live: Arc<Live>, clock: Arc<dyn Clock>) -> Self {
        Self { intake, live, clock, refusal_lines: RateLimit::new(LOG_PERIOD) }
    }

    fn report(&self, at: Timestamp, report: AppendReport) {
        let refused = report.rejected.total();
        if refused > 0
            && let Some(earlier) = self.refusal_lines.admit(self.clock.monotonic())
        {
            let reasons = report.rejected.iter().filter(|(_, samples)| *samples > 0);
            let reasons: Vec<String> =
                reasons.map(|(reason, samples)| format!("{samples} {reason}")).collect();
            let reasons = reasons.join(", ");
            warn!(
                "the store refused {refused} samples of the batch of {at} ({reasons}); \
                   {earlier} batches with refusals before it were not logged"
            );
        }
    }
}

impl Sink for StoreSink {
    fn name(&self) -> Text {
        Text::from_static("Store Sink")
    }

    fn export(&self, batch: Arc<DataBatch>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let intake = Arc::clone(&self.intake);
            let live = Arc::clone(&self.live);
            // The batch before is freed by the same thread, as large ones take a while.
            let append = move || {
                let (at, report) = (batch.timestamp, intake.append(&batch)?);
                // Shown, unless the store has nothing of it: lists never name what queries miss.
                if report.rejected.total() == 0 || report.accepted + report.duplicate > 0 {
                    live.publish(batch);
                }
                Ok((at, report))
            };
            match tokio::task::spawn_blocking(append).await {
                Ok(Ok((at, report))) => {
                    self.report(at, report);
                    Ok(())
                }
                Ok(Err(error @ Error::Poisoned { .. })) => {
                    Err(SinkError::fatal("the store takes no more data").caused_by(error))
                }
                Ok(Err(error)) => Err(SinkError::new("the batch is not stored").caused_by(error)),
                Err(error) => Err(SinkError::new("bug: the append broke off").caused_by(error)),
            }
        })
    }
}
