//! The collector's contracts: sources make batches, processors change them, sinks take them.
//!
//! Processors are pure and synchronous. Sources and sinks wait for the world, so they return
//! futures; boxed ones from `std`, so that no runtime is part of the contract (decision 0001).

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::error::ProcessError;
use crate::{DataBatch, EntityKey, MetricSet, Text, Timestamp};

/// A future without a runtime's name on it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The aligned interval a scrape is for. Its batch is stamped with the interval's `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First moment of the interval.
    pub start: Timestamp,
    /// First moment after the interval, and the timestamp of its batch.
    pub end: Timestamp,
}

/// What one source yields for one interval.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The sets, by entity; of two with one key the later wins.
    pub sets: Vec<(EntityKey, MetricSet)>,
    /// What could not be used, one clause each, for the log and the counters. Good data beside a
    /// bad piece is kept.
    pub rejects: Vec<String>,
}

/// Why a source has nothing to give for an interval.
///
/// Prints one clause; its cause, if any, is [`Error::source`] and is not repeated in the text.
#[derive(Debug)]
pub struct SourceError {
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// An error with a message of its own.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// One endpoint that can be asked for metric sets: a kubelet, this host.
///
/// Called once per interval, possibly while an earlier call still runs. Dropping the future
/// abandons the scrape; the collector does so at its deadline.
pub trait Source: Send + Sync {
    /// A stable name for logs and self metrics, such as `kubelet_summary:10.0.0.1:10250`.
    fn name(&self) -> &str;
    /// Takes the sample for an interval.
    fn scrape(&self, interval: Interval) -> BoxFuture<'_, Result<Scrape, SourceError>>;
}

/// Lists the sources of the moment; asked at the start of every interval.
pub trait SourceProvider: Send + Sync {
    /// The sources to scrape now. Sources that cannot be scraped are reported by the provider
    /// itself (a node that is not ready) and left out.
    fn sources(&self) -> Vec<Arc<dyn Source>>;
}

/// One step that every batch passes. Runs in a fixed order, one batch at a time.
pub trait Processor: Send {
    /// The name in logs and self metrics, as the original's.
    fn name(&self) -> &'static str;
    /// Changes the batch in place.
    ///
    /// # Errors
    /// The batch cannot be processed and is dropped; the processor stays usable.
    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError>;
}

/// Why a sink did not take a batch.
#[derive(Debug)]
pub struct SinkError {
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    fatal: bool,
}

impl SinkError {
    /// This batch failed; the next one may succeed.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None, fatal: false }
    }

    /// No batch will succeed any more: the process must end and start afresh.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None, fatal: true }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Whether no later batch can succeed either.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// A consumer of processed batches. Each has a queue of its own, so it may be slow.
///
/// `export` is called with one batch at a time, in order of time. The batch is shared with the
/// other sinks and with the APIs.
pub trait Sink: Send + Sync {
    /// The name in logs and self metrics.
    fn name(&self) -> Text;
    /// Takes a batch; returns when the sink is done with it.
    fn export(&self, batch: Arc<DataBatch>) -> BoxFuture<'_, Result<(), SinkError>>;
    /// Flushes what is buffered; called once, after the last `export`.
    fn stop(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
