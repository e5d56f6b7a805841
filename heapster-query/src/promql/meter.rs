//! [`QueryLimits`] and the meter that keeps a running query within them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::budget::Cancel;
use crate::error::QueryError;

/// What one query may cost.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// How long a query may run – default 30 s. Needs [`Control::elapsed`]: the engine has no clock.
    pub timeout: Duration,
    /// Samples and points held at one time – default 50 million, the limit of Prometheus, which also
    /// counts what is held and not what is read.
    pub samples_max: usize,
    /// Bytes held at one time, estimated – default 512 MiB; intermediate results, windows and labels.
    pub memory_max_bytes: usize,
    /// Points of one series, for [`crate::promql::check_resolution`] – default 11,000 as in
    /// Prometheus: a week by the minute, a year by the hour.
    pub points_per_series_max: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            samples_max: 50_000_000,
            memory_max_bytes: 512 << 20,
            points_per_series_max: 11_000,
        }
    }
}

/// Tells the time since a query began; called from all its threads, about every thousand samples.
pub type Elapsed = Arc<dyn Fn() -> Duration + Send + Sync>;

/// How a running query is ended from outside.
#[derive(Clone, Default)]
pub struct Control {
    /// Ends the query at its next step.
    pub cancel: Cancel,
    /// Time since the query began; without it there is no time-out.
    pub elapsed: Option<Elapsed>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_clock = self.elapsed.is_some();
        f.debug_struct("Control")
            .field("cancel", &self.cancel)
            .field("has_clock", &has_clock)
            .finish()
    }
}

/// What a series costs beside its points: labels and their list.
const SERIES_BYTES: usize = 256;
const POINT_BYTES: usize = 8;
/// A value, what is known of its window so far, and where the window lies.
const STEP_SCRATCH_BYTES: usize = 128;

/// Counts what a query reads and holds; shared by its threads.
#[derive(Debug)]
pub(super) struct Meter {
    limits: QueryLimits,
    control: Control,
    touched: AtomicU64,
    held: AtomicUsize,
    peak: AtomicUsize,
    bytes: AtomicUsize,
}

impl Meter {
    pub fn new(limits: QueryLimits, control: Control) -> Self {
        let (touched, held, peak) = Default::default();
        Self { limits, control, touched, held, peak, bytes: AtomicUsize::new(0) }
    }

    /// Whether the answer is still wanted and in time.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.control.cancel.is_cancelled() {
            return Err(QueryError::Cancelled);
        }
        match &self.control.elapsed {
            Some(elapsed) if elapsed() > self.limits.timeout => Err(QueryError::TimedOut),
            _ => Ok(()),
        }
    }

    /// Notes samples that were read, or stood for by a summary.
    pub fn touch(&self, samples: usize) -> Result<(), QueryError> {
        self.touched.fetch_add(samples as u64, Ordering::Relaxed);
        self.check()
    }

    /// Takes room for series with so many points each, before they are made; the guard gives it back.
    pub fn hold(&self, series: usize, points: usize) -> Result<Held<'_>, QueryError> {
        let mut held = Held { meter: self, points: 0, bytes: 0 };
        held.grow(series, points)?;
        Ok(held)
    }

    /// Takes room for what a thread works with on so many steps; the guard gives it back.
    pub fn hold_scratch(&self, steps: usize) -> Result<Held<'_>, QueryError> {
        let mut held = Held { meter: self, points: 0, bytes: 0 };
        held.grow_by(0, steps.saturating_mul(STEP_SCRATCH_BYTES))?;
        Ok(held)
    }

    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

/// Room that is taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    meter: &'a Meter,
    points: usize,
    bytes: usize,
}

impl Held<'_> {
    /// Takes room for more series with so many points each.
    pub fn grow(&mut self, series: usize, points: usize) -> Result<(), QueryError> {
        let count = series.saturating_mul(points);
        let bytes =
            count.saturating_mul(POINT_BYTES).saturating_add(series.saturating_mul(SERIES_BYTES));
        self.grow_by(count, bytes)
    }

    /// Takes room for more entries of a list.
    pub fn grow_list<T>(&mut self, entries: usize) -> Result<(), QueryError> {
        self.grow_by(entries, entries.saturating_mul(size_of::<T>()))
    }

    /// Takes room for what is no sample, such as the value of a label that the query makes.
    pub fn grow_bytes(&mut self, bytes: usize) -> Result<(), QueryError> {
        self.meter.check()?;
        self.grow_by(0, bytes)
    }

    /// Whether the answer is still wanted and in time.
    pub fn check(&self) -> Result<(), QueryError> {
        self.meter.check()
    }

    fn grow_by(&mut self, count: usize, bytes: usize) -> Result<(), QueryError> {
        let meter = self.meter;
        let limits = &meter.limits;
        // Checked before it is added, so that sums cannot overflow.
        if count > limits.samples_max || bytes > limits.memory_max_bytes {
            return Err(self.refused(count));
        }
        self.points += count;
        self.bytes += bytes;
        let held = meter.held.fetch_add(count, Ordering::Relaxed) + count;
        let all_bytes = meter.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        meter.peak.fetch_max(held, Ordering::Relaxed);
        if held > limits.samples_max || all_bytes > limits.memory_max_bytes {
            return Err(self.refused(held));
        }
        Ok(())
    }

    /// Joins the room of another.
    pub fn join(&mut self, mut other: Self) {
        self.points += std::mem::take(&mut other.points);
        self.bytes += std::mem::take(&mut other.bytes);
    }

    fn refused(&self, count: usize) -> QueryError {
        let limits = &self.meter.limits;
        if count > limits.samples_max {
            QueryError::TooManySamples { limit: limits.samples_max }
        } else {
            QueryError::TooMuchMemory { limit_bytes: limits.memory_max_bytes }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.meter.held.fetch_sub(self.points, Ordering::Relaxed);
        self.meter.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
