//! What changes of raw samples do to tiers: ranges become stale, and raw samples are kept longer.

use heapster_core::storage::STEP_MAX;
use heapster_core::{TimeRange, Timestamp};

use crate::manifest::Manifest;
use crate::options::TierOptions;
use crate::planted::{self, Bug};
use crate::recovery::range_of;
use crate::retention::Limits;
use crate::segment::SegmentInfo;
use crate::tier::TierState;
use crate::tier::units::windows_around;

/// Ranges of a list; beyond that the nearest are joined.
const RANGES_MAX: usize = 64;

/// Tells a tier that its own buckets of a range went.
pub(crate) fn mark_stale_in(manifest: &mut Manifest, tier: u8, range: TimeRange) {
    if let Some(state) = manifest.tiers.iter_mut().find(|state| state.tier == tier) {
        let end = range.end.saturating_add(state.resolution);
        state.mark_stale(TimeRange::new(range.start, end));
    }
}

/// The ranges of tiers that must not be built again while some segments cannot be read: the windows
/// of these. Their buckets would be there twice once the segments are back.
pub(crate) fn blocked_by(manifest: &Manifest, unavailable: &[SegmentInfo]) -> Vec<(u8, TimeRange)> {
    let of_tier = |info: &SegmentInfo| {
        let state = manifest.tiers.iter().find(|state| state.tier == info.tier)?;
        Some((info.tier, windows_around(state.resolution, range_of(info))))
    };
    unavailable.iter().filter_map(of_tier).collect()
}

/// The moment from which on raw samples must not be dropped, since a tier of the ladder has not
/// taken them yet.
pub(crate) fn oldest_needed(states: &[TierState], ladder: &[TierOptions]) -> Timestamp {
    let is_grown = |state: &&TierState| ladder.iter().any(|t| t.resolution == state.resolution);
    let needed = states.iter().filter(is_grown).flat_map(|state| {
        let stale = state.stale.iter().map(|range| range.start);
        stale.chain([state.built_to])
    });
    // The first step of a bucket begins before it.
    needed.min().map_or(Timestamp::MAX, |needed| needed.saturating_sub(STEP_MAX))
}

/// How much of a tier is kept; all of one that is not in the ladder.
pub(crate) fn limits_of(manifest: &Manifest, tier: u8, ladder: &[TierOptions]) -> Limits {
    let state = manifest.tiers.iter().find(|state| state.tier == tier);
    let own = state.and_then(|s| ladder.iter().find(|tier| tier.resolution == s.resolution));
    own.map_or(Limits::default(), |own| Limits { age: own.retention, bytes: own.retention_bytes })
}

impl TierState {
    /// The buckets of a range, and those into which a step from it leads, are to be built again.
    pub(crate) fn mark_stale(&mut self, range: TimeRange) {
        if planted::has(Bug::TierNotStale) {
            return;
        }
        let end = range.end.saturating_add(STEP_MAX);
        let last_built = Timestamp::from_millis(self.built_to.as_millis().saturating_sub(1));
        let range = TimeRange::new(range.start, end.min(last_built));
        if !range.is_empty() {
            add_range(&mut self.stale, range);
        }
    }

    /// The buckets of a range were built again.
    pub(crate) fn mark_built(&mut self, range: TimeRange) {
        let mut left = Vec::with_capacity(self.stale.len() + 1);
        for stale in &self.stale {
            let before = Timestamp::from_millis(range.start.as_millis().saturating_sub(1));
            let after = Timestamp::from_millis(range.end.as_millis().saturating_add(1));
            let parts = [
                TimeRange::new(stale.start, stale.end.min(before)),
                TimeRange::new(stale.start.max(after), stale.end),
            ];
            left.extend(parts.into_iter().filter(|part| !part.is_empty()));
        }
        self.stale = left;
    }
}

/// Adds a range to a list that is in order of time and without overlap.
fn add_range(ranges: &mut Vec<TimeRange>, range: TimeRange) {
    ranges.push(range);
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|later, first| {
        let meets = later.start.as_millis() <= first.end.as_millis().saturating_add(1);
        if meets {
            first.end = first.end.max(later.end);
        }
        meets
    });
    while ranges.len() > RANGES_MAX {
        let gap = |pair: &[TimeRange]| pair[1].start.saturating_since(pair[0].end);
        let nearest = ranges.windows(2).enumerate().min_by_key(|(_, pair)| gap(pair));
        let Some((index, _)) = nearest else { return };
        let later = ranges.remove(index + 1);
        ranges[index].end = later.end;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end))
    }

    #[test]
    fn ranges_are_joined_where_they_meet_and_the_nearest_when_they_are_many() {
        let mut ranges = Vec::new();
        for (start, end) in [(10, 19), (40, 49), (20, 25), (5, 12)] {
            add_range(&mut ranges, range(start, end));
        }
        assert_eq!(ranges, [range(5, 25), range(40, 49)]);
        let mut ranges = Vec::new();
        for start in 0..1000 {
            add_range(&mut ranges, range(start * 10, start * 10 + start % 7));
        }
        assert_eq!(ranges.len(), RANGES_MAX);
        let covers = |at: i64| ranges.iter().any(|r| r.contains(Timestamp::from_millis(at)));
        assert!((0..1000).all(|start| covers(start * 10) && covers(start * 10 + start % 7)));
    }

    #[test]
    fn only_what_is_built_gets_stale_and_what_was_built_again_is_not() {
        let day = STEP_MAX.as_millis() as i64;
        let mut state = TierState {
            tier: 1,
            resolution: Duration::from_secs(60),
            complete_from: Timestamp::MIN,
            built_to: Timestamp::from_millis(10 * day),
            stale: Vec::new(),
        };
        state.mark_stale(range(10 * day, 11 * day));
        assert_eq!(state.stale, []);
        state.mark_stale(range(3 * day, 4 * day - 1));
        assert_eq!(state.stale, [range(3 * day, 5 * day - 1)]);
        state.mark_stale(range(9 * day, 20 * day));
        state.mark_built(range(3 * day, 4 * day - 1));
        assert_eq!(state.stale, [range(4 * day, 5 * day - 1), range(9 * day, 10 * day - 1)]);
    }
}
