//! [`Pipeline`]: the processors in their order, one batch at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use heapster_core::DataBatch;
use heapster_core::pipeline::Processor;
use heapster_store::Clock;
use tracing::error;

use crate::telemetry::{Family, FamilyKind, Registry};

const DURATION: Family = Family {
    name: "heapster_processor_duration_milliseconds",
    help: "The Time spent in a processor in milliseconds.",
    kind: FamilyKind::Summary,
};
const FAILURES: Family = Family {
    name: "heapster_processor_failures_total",
    help: "Batches that a processor could not process and that were dropped.",
    kind: FamilyKind::Counter,
};

/// The processors every batch passes.
pub struct Pipeline {
    processors: Vec<Box<dyn Processor>>,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
}

impl Pipeline {
    /// A pipeline of these processors in this order.
    pub fn new(
        processors: Vec<Box<dyn Processor>>,
        clock: Arc<dyn Clock>,
        registry: Arc<Registry>,
    ) -> Self {
        Self { processors, clock, registry }
    }

    /// The processed batch, or `None` when a processor failed or panicked: then the batch is
    /// dropped, logged and counted, and the next one is tried afresh.
    pub fn run(&mut self, mut batch: DataBatch) -> Option<DataBatch> {
        for processor in &mut self.processors {
            let name = processor.name();
            let labels = [("processor", name)];
            let started = self.clock.monotonic();
            let outcome = catch_unwind(AssertUnwindSafe(|| processor.process(&mut batch)));
            let took = self.clock.monotonic().saturating_sub(started);
            self.registry.observe(&DURATION, &labels, took.as_secs_f64() * 1000.0);
            let why = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "bug: it panicked".to_owned(),
            };
            self.registry.add(&FAILURES, &labels, 1);
            let at = batch.timestamp;
            error!("Error in processor: {name}: {why}; the batch of {at} is dropped");
            return None;
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use heapster_core::{EntityKey, EntityType, MetricSet, ProcessError, Text, Timestamp};

    use super::*;
    use crate::telemetry::test_clock::ManualClock;

    /// Adds a set named after itself, or fails.
    struct Step(&'static str, fn() -> Result<(), ProcessError>);

    impl Processor for Step {
        fn name(&self) -> &'static str {
            self.0
        }

        fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
            (self.1)()?;
            let key = EntityKey::node(format!("{}-{}", batch.sets.len(), self.0));
            batch.sets.insert(key, MetricSet::new(EntityType::Node));
            Ok(())
        }
    }

    fn run(second: fn() -> Result<(), ProcessError>) -> (Option<Vec<String>>, String) {
        let registry = Arc::new(Registry::default());
        let steps: Vec<Box<dyn Processor>> =
            vec![Box::new(Step("first", || Ok(()))), Box::new(Step("second", second))];
        let mut pipeline =
            Pipeline::new(steps, Arc::new(ManualClock::default()), Arc::clone(&registry));
        let batch = pipeline.run(DataBatch::new(Timestamp::EPOCH));
        (batch.map(|batch| batch.sets.keys().map(ToString::to_string).collect()), registry.render())
    }

    #[test]
    fn processors_run_in_their_order_and_are_timed() {
        let (sets, metrics) = run(|| Ok(()));
        assert_eq!(sets.unwrap(), ["node:0-first", "node:1-second"]);
        let line = "heapster_processor_duration_milliseconds_count{processor=\"second\"} 1\n";
        assert!(metrics.contains(line), "{metrics}");
    }

    #[test]
    fn a_failing_or_panicking_processor_costs_its_batch_only() {
        let mixed = || Err(ProcessError::MixedTypes { metric: Text::from_static("m") });
        for second in [mixed, || panic!("on purpose")] {
            let (sets, metrics) = run(second);
            assert_eq!(sets, None);
            let line = "heapster_processor_failures_total{processor=\"second\"} 1\n";
            assert!(metrics.contains(line), "{metrics}");
        }
    }
}
