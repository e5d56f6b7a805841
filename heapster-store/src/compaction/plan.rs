//! Which segments are merged next: a function of what the manifest knows of them.
//!
//! Segments are ranked by their numbers: where two have a cell for the same moment, that of the
//! higher number counts. What a merge writes has the highest number of all, so a merge takes, with
//! a segment, every later one that overlaps it in time (invariant P1).

use std::collections::BTreeMap;

use crate::chunk::Effort;
use crate::flush::DAY;
use crate::segment::SegmentInfo;

/// Segments of about the same size that may pile up in a window that still gets rows.
const PILE_MAX: usize = 8;
/// In a window that gets no rows any more, small segments wait until together they are this fraction
/// of the largest, so that a few late rows do not cost a day's rewriting each time.
const SMALL_FRACTION: u64 = 8;

/// What a plan is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    /// The segments of raw samples.
    pub segments: &'a [SegmentInfo],
    /// Numbers of those that have rows which a tombstone hides, rising.
    pub hidden: &'a [u64],
    /// Before this time, in milliseconds, no more rows are expected.
    pub settled: i64,
    /// Days that ended at or before this time are encoded for size.
    pub cold: Option<i64>,
    /// Length in milliseconds of the windows that are merged before their day is over.
    pub window: i64,
    /// Whether small segments are merged into large ones at once.
    pub is_thorough: bool,
}

/// Segments to merge into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Their numbers, rising.
    pub inputs: Vec<u64>,
    /// How the result is encoded.
    pub effort: Effort,
}

/// The merges that are due, most urgent first. They may share segments: once one was done, the
/// others are to be planned again.
pub(crate) fn plan(situation: &Situation<'_>) -> Vec<Merge> {
    let mut days: BTreeMap<i64, Vec<&SegmentInfo>> = BTreeMap::new();
    for segment in situation.segments {
        days.entry(segment.first.div_euclid(DAY)).or_default().push(segment);
    }
    let is_hidden = |segment: &&&SegmentInfo| situation.hidden.binary_search(&segment.id).is_ok();
    let deletions = days.values().filter_map(|day| {
        let hit: Vec<_> = day.iter().filter(is_hidden).copied().collect();
        (!hit.is_empty()).then(|| situation.merge(&hit))
    });
    let windows = days.values().flat_map(|day| situation.plan_day(day));
    deletions.chain(windows).collect()
}

impl Situation<'_> {
    fn plan_day(&self, day: &[&SegmentInfo]) -> Vec<Merge> {
        let Some(start) = day.first().map(|segment| day_start(segment)) else { return Vec::new() };
        if self.settled >= start.saturating_add(DAY) {
            return self.is_worth_it(day).then(|| self.merge(day)).into_iter().collect();
        }
        let mut windows: BTreeMap<i64, Vec<&SegmentInfo>> = BTreeMap::new();
        for segment in day {
            let window = segment.first.saturating_sub(start) / self.window;
            windows.entry(window).or_default().push(segment);
        }
        let mut merges = Vec::new();
        for (window, segments) in windows {
            let end = start.saturating_add(self.window.saturating_mul(window + 1));
            if self.settled >= end {
                merges.extend(self.is_worth_it(&segments).then(|| self.merge(&segments)));
                continue;
            }
            let mut sizes: BTreeMap<u32, Vec<&SegmentInfo>> = BTreeMap::new();
            for segment in segments {
                // Powers of eight: what was merged of one pile belongs to the next one.
                sizes.entry(segment.len.max(1).ilog2() / 3).or_default().push(segment);
            }
            let piles = sizes.values().filter(|pile| pile.len() > PILE_MAX);
            merges.extend(piles.map(|pile| self.merge(pile)));
        }
        merges
    }

    /// Whether the segments of a window without further rows should be one, or be smaller.
    fn is_worth_it(&self, segments: &[&SegmentInfo]) -> bool {
        let sum = |segments: &mut dyn Iterator<Item = &&SegmentInfo>| -> u64 {
            segments.map(|segment| segment.len).sum()
        };
        let total = sum(&mut segments.iter());
        let largest = segments.iter().map(|segment| segment.len).max().unwrap_or(0);
        let is_enough = |part: u64, of: u64| part.saturating_mul(SMALL_FRACTION) >= of;
        let is_piled = segments.len() > PILE_MAX || is_enough(total - largest, largest);
        let is_several = segments.len() > 1 && (self.is_thorough || is_piled);
        let warm = sum(&mut segments.iter().filter(|segment| !segment.is_cold));
        let is_to_be_cold = segments.iter().any(|segment| self.is_to_be_cold(segment));
        is_several || is_to_be_cold && warm > 0 && (self.is_thorough || is_enough(warm, total))
    }

    fn is_to_be_cold(&self, segment: &SegmentInfo) -> bool {
        let end = day_start(segment).saturating_add(DAY);
        self.settled >= end && self.cold.is_some_and(|cold| end <= cold)
    }

    /// The merge of some segments and those that have to be merged with them (P1).
    fn merge(&self, segments: &[&SegmentInfo]) -> Merge {
        let mut inputs: Vec<&SegmentInfo> = segments.to_vec();
        let mut next = 0;
        while let Some(input) = inputs.get(next).copied() {
            next += 1;
            for other in self.segments {
                let overlaps = other.first <= input.last && input.first <= other.last;
                let is_new = inputs.iter().all(|known| known.id != other.id);
                if other.id > input.id && overlaps && is_new {
                    inputs.push(other);
                }
            }
        }
        inputs.sort_by_key(|input| input.id);
        let is_small = inputs.iter().any(|input| input.is_cold || self.is_to_be_cold(input));
        let effort = if is_small { Effort::Small } else { Effort::Fast };
        Merge { inputs: inputs.iter().map(|input| input.id).collect(), effort }
    }
}

/// Begin of the UTC day a segment belongs to.
fn day_start(segment: &SegmentInfo) -> i64 {
    segment.first.div_euclid(DAY).saturating_mul(DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000;

    fn segment(id: u64, first: i64, last: i64, len: u64) -> SegmentInfo {
        let (tier, is_cold, crc, sets, samples) = (0, false, 0, 1, 1);
        SegmentInfo { id, tier, is_cold, len, crc, first, last, sets, samples }
    }

    /// Segments of two hours each, the first one at the epoch.
    fn of_hours(count: i64) -> Vec<SegmentInfo> {
        let one = |i: i64| segment(i as u64 + 1, 2 * i * HOUR, 2 * (i + 1) * HOUR - 1, 1_000);
        (0..count).map(one).collect()
    }

    fn situation(segments: &[SegmentInfo], settled: i64) -> Situation<'_> {
        let (hidden, cold, window) = (&[][..], None, 8 * HOUR);
        Situation { segments, hidden, settled, cold, window, is_thorough: false }
    }

    fn inputs(situation: &Situation<'_>) -> Vec<Vec<u64>> {
        plan(situation).into_iter().map(|merge| merge.inputs).collect()
    }

    #[test]
    fn windows_are_merged_once_they_are_settled_and_then_their_day() {
        let segments = of_hours(11);
        assert!(inputs(&situation(&segments, 8 * HOUR - 1)).is_empty());
        assert_eq!(inputs(&situation(&segments, 8 * HOUR)), [[1, 2, 3, 4]]);
        let merged = [
            segment(12, 0, 8 * HOUR - 1, 3_000),
            segment(13, 8 * HOUR, 16 * HOUR - 1, 3_000),
            segment(14, 16 * HOUR, DAY - 1, 3_000),
        ];
        assert!(inputs(&situation(&merged, DAY - 1)).is_empty());
        assert_eq!(inputs(&situation(&merged, DAY)), [[12, 13, 14]]);
    }

    #[test]
    fn a_day_that_was_missed_is_merged_at_once() {
        let days = of_hours(25);
        let merges = inputs(&situation(&days, 2 * DAY));
        assert_eq!(merges, [(1..=12).collect::<Vec<_>>(), (13..=24).collect()]);
    }

    #[test]
    fn an_open_window_is_merged_when_segments_of_a_size_pile_up() {
        let of_minutes = |count: i64| -> Vec<_> {
            (0..count).map(|i| segment(i as u64 + 2, i * 60_000, i * 60_000 + 1, 1_000)).collect()
        };
        let mut segments = of_minutes(8);
        segments.insert(0, segment(1, -10, -5, 100_000));
        assert!(inputs(&situation(&segments, 0)).is_empty());
        let mut segments = of_minutes(9);
        segments.push(segment(99, HOUR, 2 * HOUR, 100_000));
        assert_eq!(inputs(&situation(&segments, 0)), [(2..=10).collect::<Vec<_>>()]);
    }

    #[test]
    fn a_few_late_rows_do_not_rewrite_a_day_each_time() {
        let mut segments = vec![segment(1, 0, DAY - 1, 80_000)];
        segments.push(segment(2, HOUR, 2 * HOUR, 9_000));
        assert!(inputs(&situation(&segments, DAY)).is_empty());
        let thorough = Situation { is_thorough: true, ..situation(&segments, DAY) };
        assert_eq!(inputs(&thorough), [[1, 2]]);
        segments.push(segment(3, HOUR, 2 * HOUR, 1_000));
        assert_eq!(inputs(&situation(&segments, DAY)), [[1, 2, 3]]);
    }

    #[test]
    fn a_settled_day_of_age_is_encoded_for_size_once() {
        let mut segments = of_hours(24);
        fn cold(segments: &[SegmentInfo]) -> Situation<'_> {
            Situation { cold: Some(DAY), ..situation(segments, 2 * DAY) }
        }
        let merges = plan(&cold(&segments));
        let efforts: Vec<_> = merges.iter().map(|merge| merge.effort).collect();
        assert_eq!(efforts, [Effort::Small, Effort::Fast]);
        segments = vec![segment(1, 0, DAY - 1, 80_000)];
        assert_eq!(inputs(&cold(&segments)), [[1]]);
        segments[0].is_cold = true;
        assert!(inputs(&cold(&segments)).is_empty());
        segments.push(segment(2, HOUR, 2 * HOUR, 9_000));
        assert!(inputs(&cold(&segments)).is_empty());
        let merges = plan(&Situation { hidden: &[1], cold: None, ..cold(&segments) });
        assert_eq!(merges, [Merge { inputs: vec![1, 2], effort: Effort::Small }]);
    }

    #[test]
    fn what_is_deleted_goes_first() {
        let segments = of_hours(5);
        let hidden = Situation { hidden: &[5], ..situation(&segments, 8 * HOUR) };
        assert_eq!(inputs(&hidden), [vec![5], vec![1, 2, 3, 4]]);
    }

    proptest! {
        #[test]
        fn no_later_segment_that_overlaps_an_input_is_left_out(
            spans in prop::collection::vec((0..3 * DAY, 0..DAY, 1_u64..10_000), 1..40),
            settled in 0..4 * DAY,
            hidden in prop::collection::btree_set(1_u64..40, 0..3),
            is_thorough in any::<bool>(),
        ) {
            let segments: Vec<_> = (1..).zip(spans).map(|(id, (first, span, len))| {
                segment(id, first, (first + span).min((first / DAY + 1) * DAY - 1), len)
            }).collect();
            let hidden: Vec<u64> = hidden.into_iter().collect();
            let situation =
                Situation { hidden: &hidden, is_thorough, ..situation(&segments, settled) };
            for merge in plan(&situation) {
                prop_assert!(merge.inputs.is_sorted_by(|a, b| a < b));
                let is_input = |id| merge.inputs.contains(&id);
                for input in segments.iter().filter(|s| is_input(s.id)) {
                    let overlaps = |s: &&SegmentInfo| s.first <= input.last && input.first <= s.last;
                    let later = segments.iter().filter(|s| s.id > input.id).filter(overlaps);
                    prop_assert!(later.into_iter().all(|s| is_input(s.id)));
                }
            }
        }
    }
}
