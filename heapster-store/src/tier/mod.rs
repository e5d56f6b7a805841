//! Tiers: aggregates of raw samples by buckets of time, kept longer than these.
//!
//! A tier is a resolution. Its segments are ordinary ones whose rows are buckets and whose columns
//! are aggregates. They are built from raw samples, day by day once a day is over, and built again
//! where samples came late or went.

mod build;
mod columns;
mod ladder;
mod plan;
mod read;
mod stale;
mod units;

use std::time::Duration;

use heapster_core::{TimeRange, Timestamp};

pub(crate) use columns::MARK;
pub(crate) use ladder::{check, reconcile};
pub(crate) use read::select_buckets;
pub(crate) use stale::{blocked_by, limits_of, mark_stale_in, oldest_needed};

/// How far a tier is built, as the manifest remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TierState {
    /// Number of the tier, from 1; 0 is raw.
    pub tier: u8,
    /// Length of a bucket; not zero, whole milliseconds.
    pub resolution: Duration,
    /// Buckets that start before this moment are gone, or were made when raw samples were.
    pub complete_from: Timestamp,
    /// Buckets that end at or before this moment are built.
    pub built_to: Timestamp,
    /// Ranges before it whose buckets have to be built again, because samples came late or went.
    pub stale: Vec<TimeRange>,
}

impl TierState {
    /// The start of the bucket that a moment belongs to.
    pub fn bucket_of(&self, at: Timestamp) -> Timestamp {
        Timestamp::from_millis(plan::floor(at.as_millis(), self.resolution.as_millis() as i64))
    }

    /// Where the buckets start that share a moment with a range.
    pub fn starts_in(&self, range: TimeRange) -> TimeRange {
        TimeRange::new(self.bucket_of(range.start), range.end)
    }
}
