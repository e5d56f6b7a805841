//! [`Budget`]: what one request may cost, and whether anyone still waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::QueryError;

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Samples read – default 50 million, the limit of Prometheus; about a second of work.
    pub samples_max: usize,
    /// Points of the answer, where a bucket counts as one and so does each of its values; names of
    /// a list count as well – default 500,000: up to 50 MB of JSON, and up to 110 MB while buckets
    /// are being filled.
    pub points_max: usize,
    /// Samples held at one time for medians and percentiles – default 4 million: 64 MB, up to twice
    /// that while a list of them grows.
    pub held_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { samples_max: 50_000_000, points_max: 500_000, held_max: 4_000_000 }
    }
}

/// A flag that ends a running query; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the query at its next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is left of the [`Limits`] of a request; shared by all its series.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    samples: usize,
    points: usize,
    cancel: Cancel,
}

impl Budget {
    /// A budget nothing was taken from yet.
    pub fn new(limits: Limits, cancel: Cancel) -> Self {
        Self { limits, samples: 0, points: 0, cancel }
    }

    /// Takes the reading of samples.
    ///
    /// # Errors
    /// [`QueryError::TooLarge`] when more are read than allowed, [`QueryError::Cancelled`] when
    /// nobody waits any more.
    pub fn take_samples(&mut self, count: usize) -> Result<(), QueryError> {
        self.check_cancelled()?;
        self.samples = self.samples.saturating_add(count);
        within(self.samples, self.limits.samples_max, "samples")
    }

    /// Takes points that were read once and are given again.
    ///
    /// # Errors
    /// [`QueryError::TooLarge`] when the answer becomes larger than allowed.
    pub fn repeat(&mut self, points: usize) -> Result<(), QueryError> {
        self.take_points(points)
    }

    /// Whether the answer is still wanted.
    pub(crate) fn check_cancelled(&self) -> Result<(), QueryError> {
        if self.cancel.is_cancelled() { Err(QueryError::Cancelled) } else { Ok(()) }
    }

    /// Takes points of the answer.
    pub(crate) fn take_points(&mut self, count: usize) -> Result<(), QueryError> {
        self.points = self.points.saturating_add(count);
        within(self.points, self.limits.points_max, "points")
    }

    /// Checks how many samples are held at this moment.
    pub(crate) fn check_held(&self, held: usize) -> Result<(), QueryError> {
        within(held, self.limits.held_max, "samples in memory")
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Limits::default(), Cancel::default())
    }
}

fn within(count: usize, limit: usize, what: &'static str) -> Result<(), QueryError> {
    if count > limit { Err(QueryError::TooLarge { what, limit }) } else { Ok(()) }
}
