//! Units of building: which stretch of which tier is due.
//!
//! A segment of a tier holds a window of one, ten or a hundred days, so that few files arise and
//! each has a few hundred buckets of a column. A unit is some days of one window: its segment is
//! written anew, with what it had and the new days.

use std::time::Duration;

use heapster_core::{TimeRange, Timestamp};

use crate::segment::SegmentInfo;
use crate::tier::TierState;
use crate::tier::plan::{Span, ceil, floor};

const DAY: i64 = 86_400_000;
/// Days of a window, in order.
const WINDOWS: [i64; 3] = [1, 10, 100];
/// Buckets that make a window long enough.
const WINDOW_BUCKETS: i64 = 200;
/// Days of raw samples that one unit reads at most, so that it ends.
const UNIT_DAYS: i64 = 10;

/// Work that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// What the segment holds.
    pub window: Span,
    /// What of it is built from raw samples; the rest is kept.
    pub built: Span,
}

/// Length of a tier's window.
fn window_of(resolution: i64) -> i64 {
    let is_enough = |days: &&i64| **days * DAY >= WINDOW_BUCKETS * resolution;
    WINDOWS.iter().find(is_enough).unwrap_or(&WINDOWS[WINDOWS.len() - 1]) * DAY
}

/// The windows of a tier that a range has a part of.
pub(super) fn windows_around(resolution: Duration, range: TimeRange) -> TimeRange {
    let window = window_of(resolution.as_millis() as i64);
    Span::of(range).grown_to(window).range()
}

/// The next unit of a tier. `raw` are the raw segments; no more samples are expected before
/// `settled`.
pub(super) fn next_unit<'a>(
    state: &TierState,
    raw: impl Iterator<Item = &'a SegmentInfo>,
    settled: i64,
) -> Option<Unit> {
    let resolution = state.resolution.as_millis() as i64;
    let window = window_of(resolution);
    let window_at = |at: i64| Span { start: floor(at, window), end: floor(at, window) + window };
    let built_to = state.built_to.as_millis();
    // Days without samples are passed over.
    let oldest =
        raw.filter(|info| info.last >= built_to).map(|info| info.first.max(built_to)).min();
    let closed = floor(settled, DAY);
    if let Some(start) = oldest.map(|oldest| floor(oldest, DAY).max(built_to))
        && start < closed
    {
        let window = window_at(start);
        let end = window.end.min(closed).min(floor(start, DAY) + UNIT_DAYS * DAY);
        return Some(Unit { window, built: Span { start, end } });
    }
    let stale = Span::of(*state.stale.first()?).grown_to(resolution);
    let window = window_at(stale.start);
    let end = stale.end.min(window.end).min(ceil(built_to, resolution));
    let end = end.min(floor(stale.start, DAY) + UNIT_DAYS * DAY);
    Some(Unit { window, built: Span { start: stale.start, end } })
}

/// Where the settled time lies when the newest flushed sample and the clock say this.
pub(super) fn settled(newest: Timestamp, now: Timestamp, late: Duration) -> i64 {
    // A source that went silent must not keep its last day from being built.
    let silent = now.saturating_sub(Duration::from_millis(DAY.cast_unsigned()));
    newest.max(silent).saturating_sub(late).as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn state(resolution: i64, built_to: i64, stale: &[(i64, i64)]) -> TierState {
        let at = Timestamp::from_millis;
        TierState {
            tier: 1,
            resolution: Duration::from_millis(resolution as u64),
            complete_from: Timestamp::MIN,
            built_to: at(built_to),
            stale: stale.iter().map(|(start, end)| TimeRange::new(at(*start), at(*end))).collect(),
        }
    }

    fn raw(first: i64, last: i64) -> SegmentInfo {
        SegmentInfo {
            id: 1,
            tier: 0,
            is_cold: false,
            len: 0,
            crc: 0,
            first,
            last,
            sets: 1,
            samples: 1,
        }
    }

    fn next(state: &TierState, raw: &[SegmentInfo], settled: i64) -> Option<(Span, Span)> {
        next_unit(state, raw.iter(), settled).map(|unit| (unit.window, unit.built))
    }

    fn days(start: i64, end: i64) -> Span {
        Span { start: start * DAY, end: end * DAY }
    }

    #[test]
    fn windows_have_some_hundred_buckets() {
        for (resolution, days) in [(1000, 1), (300_000, 1), (600_000, 10), (HOUR, 10), (DAY, 100)] {
            assert_eq!(window_of(resolution), days * DAY);
        }
    }

    #[test]
    fn days_are_built_once_they_are_settled_and_empty_ones_are_passed_over() {
        let old = Timestamp::MIN.as_millis();
        let segments = [raw(20 * DAY + HOUR, 21 * DAY - 1), raw(38 * DAY, 42 * DAY)];
        let minutes = |built_to| state(300_000, built_to, &[]);
        let settled = 40 * DAY + HOUR;
        let built = |state: &TierState| next(state, &segments, settled);
        assert_eq!(built(&minutes(old)), Some((days(20, 21), days(20, 21))));
        assert_eq!(built(&minutes(21 * DAY)), Some((days(38, 39), days(38, 39))));
        assert_eq!(built(&minutes(39 * DAY)), Some((days(39, 40), days(39, 40))));
        assert_eq!(built(&minutes(40 * DAY)), None);
        let hours = |built_to| state(HOUR, built_to, &[]);
        assert_eq!(built(&hours(old)), Some((days(20, 30), days(20, 30))));
        assert_eq!(built(&hours(30 * DAY)), Some((days(30, 40), days(38, 40))));
        assert_eq!(next(&hours(38 * DAY), &segments, 39 * DAY), Some((days(30, 40), days(38, 39))));
        assert_eq!(next(&hours(old), &[], settled), None);
        let days_tier = state(DAY, old, &[]);
        assert_eq!(next(&days_tier, &segments, settled), Some((days(0, 100), days(20, 30))));
    }

    #[test]
    fn stale_buckets_are_built_again_window_by_window() {
        let hours = state(HOUR, 40 * DAY, &[(9 * DAY + 90_000, 12 * DAY)]);
        let first = Span { start: 9 * DAY, end: 10 * DAY };
        assert_eq!(next(&hours, &[], 40 * DAY), Some((days(0, 10), first)));
        let rest = state(HOUR, 40 * DAY, &[(10 * DAY, 12 * DAY)]);
        let second = Span { start: 10 * DAY, end: 12 * DAY + HOUR };
        assert_eq!(next(&rest, &[], 40 * DAY), Some((days(10, 20), second)));
    }
}
