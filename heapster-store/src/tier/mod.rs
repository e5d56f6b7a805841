//! Tiers: aggregates of raw samples by buckets of time, kept longer than these.

use std::time::Duration;

use heapster_core::{TimeRange, Timestamp};

/// How far a tier is built, as the manifest remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TierState {
    /// Number of the tier, from 1; 0 is raw.
    pub tier: u8,
    /// Length of a bucket; not zero, whole milliseconds.
    pub resolution: Duration,
    /// Buckets that end at or before this moment are built.
    pub built_to: Timestamp,
    /// Ranges before it whose buckets have to be built again, because samples came late or went.
    pub stale: Vec<TimeRange>,
}
