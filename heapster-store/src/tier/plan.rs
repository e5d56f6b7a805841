//! What answers a question by buckets: which stretch of time comes from which tier, which from raw
//! samples.
//!
//! The coarsest tier that answers exactly goes first, finer ones take what it does not cover, and
//! raw samples the rest. Where these are no longer kept, the finest tier that reaches back answers,
//! and the plan says that it is not exact.

use heapster_core::storage::{Aggregates, STEP_MAX};
use heapster_core::{TimeRange, Timestamp};

use crate::tier::TierState;

/// A stretch of time in milliseconds; the end is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: i64,
    pub end: i64,
}

/// What a tier can answer.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub tier: u8,
    /// Length of a bucket in milliseconds.
    pub resolution: i64,
    /// Where it says what raw samples would, in order of time. Bounds are those of buckets.
    exact: Vec<Span>,
    /// Where it has buckets at all.
    available: Span,
}

/// A stretch of the range and what answers it; no tier is raw samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub span: Span,
    pub tier: Option<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In order of time, without overlap.
    pub pieces: Vec<Piece>,
    pub is_exact: bool,
}

/// What is asked, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub range: TimeRange,
    /// Length of a bucket in milliseconds; `None` for one bucket of the whole range.
    pub bucket: Option<i64>,
    pub wanted: Aggregates,
    /// Raw samples from here on are all there.
    pub raw_from: Option<Timestamp>,
}

impl Span {
    pub fn of(range: TimeRange) -> Self {
        Self { start: range.start.as_millis(), end: range.end.as_millis().saturating_add(1) }
    }

    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    pub fn intersect(&self, other: &Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    /// The closed range; not of an empty span.
    pub fn range(&self) -> TimeRange {
        let end = Timestamp::from_millis(self.end.saturating_sub(1));
        TimeRange::new(Timestamp::from_millis(self.start), end)
    }

    /// The whole steps within.
    fn shrunk_to(&self, step: i64) -> Self {
        Self { start: ceil(self.start, step), end: floor(self.end, step) }
    }

    /// The whole steps around.
    pub fn grown_to(&self, step: i64) -> Self {
        Self { start: floor(self.start, step), end: ceil(self.end, step) }
    }

    /// What is left without another.
    fn minus(&self, other: &Self) -> impl Iterator<Item = Self> {
        let common = self.intersect(other);
        let cut = if common.is_empty() { Self { start: self.end, end: self.end } } else { common };
        let before = Self { start: self.start, end: cut.start };
        let after = Self { start: cut.end, end: self.end };
        [before, after].into_iter().filter(|span| !span.is_empty())
    }
}

/// The last multiple of a step at or before a moment.
pub(super) fn floor(at: i64, step: i64) -> i64 {
    at.div_euclid(step).saturating_mul(step)
}

/// The first multiple of a step at or behind a moment.
pub(super) fn ceil(at: i64, step: i64) -> i64 {
    let before = floor(at, step);
    if before == at { at } else { before.saturating_add(step) }
}

impl Level {
    /// What a tier can answer whose oldest bucket starts at `first`. It knows nothing of samples
    /// `in_memory`.
    pub fn new(state: &TierState, first: i64, in_memory: &[TimeRange], wanted: Aggregates) -> Self {
        let resolution = state.resolution.as_millis() as i64;
        let built_to = state.built_to.as_millis();
        let from = complete_from(Some(state.complete_from), wanted);
        let mut exact = vec![Span { start: ceil(from, resolution), end: built_to }];
        exact.retain(|span| !span.is_empty());
        let mut state = state.clone();
        in_memory.iter().for_each(|range| state.mark_stale(*range));
        for stale in &state.stale {
            let stale = Span::of(*stale).grown_to(resolution);
            exact = exact.iter().flat_map(|span| span.minus(&stale)).collect();
        }
        let available = Span { start: first, end: built_to };
        Self { tier: state.tier, resolution, exact, available }
    }
}

/// From when on everything is known. A step may begin in a sample before the range.
fn complete_from(from: Option<Timestamp>, wanted: Aggregates) -> i64 {
    match from.filter(|from| *from > Timestamp::MIN) {
        None => Timestamp::MIN.as_millis(),
        Some(from) if wanted.contains(Aggregates::INCREASE) => {
            from.saturating_add(STEP_MAX).as_millis()
        }
        Some(from) => from.as_millis(),
    }
}

/// Decides what answers; `levels` from the coarsest to the finest.
pub(super) fn plan(question: &Question, levels: &[Level]) -> Plan {
    let asked = Span::of(question.range);
    let mut plan = Plan { pieces: Vec::new(), is_exact: true };
    let mut open = vec![asked];
    for level in levels.iter().filter(|level| question.suits(level)) {
        let mut left = Vec::new();
        for span in open {
            let mut rest = vec![span];
            for exact in &level.exact {
                let taken = span.intersect(exact).shrunk_to(level.resolution);
                if !taken.is_empty() {
                    plan.pieces.push(Piece { span: taken, tier: Some(level.tier) });
                    rest = rest.iter().flat_map(|span| span.minus(&taken)).collect();
                }
            }
            left.append(&mut rest);
        }
        open = left;
    }
    let raw_from = complete_from(question.raw_from, question.wanted);
    for span in open {
        plan.fill(span, asked, raw_from, levels);
    }
    plan.pieces.sort_by_key(|piece| piece.span.start);
    plan
}

impl Question {
    /// Whether the buckets of a tier make those that are asked for, without loss.
    fn suits(&self, level: &Level) -> bool {
        match self.bucket {
            Some(bucket) if self.wanted.contains(Aggregates::PERCENTILES) => {
                bucket == level.resolution
            }
            Some(bucket) => bucket % level.resolution == 0,
            None => !self.wanted.contains(Aggregates::PERCENTILES),
        }
    }
}

impl Plan {
    /// Answers a stretch that no tier answers exactly.
    fn fill(&mut self, span: Span, asked: Span, raw_from: i64, levels: &[Level]) {
        let mut at = span.start;
        while at < span.end {
            if at >= raw_from {
                self.pieces.push(Piece { span: Span { start: at, end: span.end }, tier: None });
                return;
            }
            self.is_exact = false;
            // The first bucket of the range may begin before it; others would be counted twice.
            let reaches = |level: &&Level| {
                let from = match at == asked.start {
                    true => floor(at, level.resolution),
                    false => at,
                };
                level.available.start <= from && at < level.available.end
            };
            let coarse = levels.iter().rposition(|level| reaches(&level));
            let (end, tier) = match coarse.and_then(|index| levels.get(index)) {
                Some(level) => {
                    let end = ceil(raw_from.min(span.end), level.resolution);
                    (end.min(level.available.end), Some(level.tier))
                }
                None => (raw_from, None),
            };
            // A finer one may begin before that.
            let finer = levels.get(coarse.map_or(0, |index| index + 1)..).unwrap_or_default();
            let starts = finer.iter().map(|level| level.available.start);
            let end = starts.filter(|start| *start > at).fold(end, Ord::min);
            let end = end.min(span.end);
            self.pieces.push(Piece { span: Span { start: at, end }, tier });
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn state(tier: u8, resolution: i64, built_to: i64) -> TierState {
        TierState {
            tier,
            resolution: Duration::from_millis(resolution as u64),
            complete_from: Timestamp::MIN,
            built_to: at(built_to),
            stale: Vec::new(),
        }
    }

    /// Hours from day 0, five minutes from day 50, raw from day 80, all but raw up to day 99.
    fn levels(wanted: Aggregates) -> Vec<Level> {
        let hours = state(2, HOUR, 99 * DAY);
        let minutes = TierState { complete_from: at(50 * DAY), ..state(1, 5 * MINUTE, 99 * DAY) };
        vec![Level::new(&hours, 0, &[], wanted), Level::new(&minutes, 50 * DAY, &[], wanted)]
    }

    fn ask(start: i64, end: i64, bucket: Option<i64>, wanted: Aggregates) -> Plan {
        let range = TimeRange::new(at(start), at(end - 1));
        let question = Question { range, bucket, wanted, raw_from: Some(at(80 * DAY)) };
        plan(&question, &levels(wanted))
    }

    fn pieces(plan: &Plan) -> Vec<(i64, i64, Option<u8>)> {
        plan.pieces.iter().map(|piece| (piece.span.start, piece.span.end, piece.tier)).collect()
    }

    #[test]
    fn the_coarsest_tier_that_divides_the_bucket_answers_and_raw_samples_the_rest() {
        let plan = ask(90 * DAY, 100 * DAY, Some(2 * HOUR), Aggregates::MAX);
        assert!(plan.is_exact);
        let expected = [(90 * DAY, 99 * DAY, Some(2)), (99 * DAY, 100 * DAY, None)];
        assert_eq!(pieces(&plan), expected);
        let plan = ask(90 * DAY, 100 * DAY, Some(10 * MINUTE), Aggregates::MAX);
        let expected = [(90 * DAY, 99 * DAY, Some(1)), (99 * DAY, 100 * DAY, None)];
        assert_eq!(pieces(&plan), expected);
        let plan = ask(90 * DAY, 100 * DAY, Some(7 * MINUTE), Aggregates::MAX);
        assert_eq!((plan.is_exact, pieces(&plan)), (true, vec![(90 * DAY, 100 * DAY, None)]));
    }

    #[test]
    fn edges_that_cut_a_bucket_come_from_what_is_finer() {
        let (start, end) = (90 * DAY + 7 * MINUTE, 91 * DAY + 12 * MINUTE);
        let plan = ask(start, end, Some(HOUR), Aggregates::MAX);
        assert!(plan.is_exact);
        let expected = [
            (start, 90 * DAY + 10 * MINUTE, None),
            (90 * DAY + 10 * MINUTE, 90 * DAY + HOUR, Some(1)),
            (90 * DAY + HOUR, 91 * DAY, Some(2)),
            (91 * DAY, 91 * DAY + 10 * MINUTE, Some(1)),
            (91 * DAY + 10 * MINUTE, end, None),
        ];
        assert_eq!(pieces(&plan), expected);
    }

    #[test]
    fn percentiles_come_from_a_tier_of_exactly_that_bucket_or_from_raw_samples() {
        let wanted = Aggregates::PERCENTILES;
        let plan = ask(90 * DAY, 91 * DAY, Some(HOUR), wanted);
        assert_eq!((plan.is_exact, pieces(&plan)), (true, vec![(90 * DAY, 91 * DAY, Some(2))]));
        for bucket in [Some(2 * HOUR), None] {
            let plan = ask(90 * DAY, 91 * DAY, bucket, wanted);
            assert_eq!((plan.is_exact, pieces(&plan)), (true, vec![(90 * DAY, 91 * DAY, None)]));
        }
        let plan = ask(60 * DAY, 61 * DAY, Some(2 * HOUR), wanted);
        assert_eq!((plan.is_exact, pieces(&plan)), (false, vec![(60 * DAY, 61 * DAY, Some(1))]));
    }

    #[test]
    fn where_only_a_coarser_tier_reaches_back_the_answer_is_not_exact() {
        let plan = ask(40 * DAY, 90 * DAY, Some(7 * MINUTE), Aggregates::SUM);
        assert!(!plan.is_exact);
        let expected = [
            (40 * DAY, 50 * DAY, Some(2)),
            (50 * DAY, 80 * DAY, Some(1)),
            (80 * DAY, 90 * DAY, None),
        ];
        assert_eq!(pieces(&plan), expected);
        let plan = ask(-DAY, DAY, Some(7 * MINUTE), Aggregates::SUM);
        let expected = [(-DAY, 0, None), (0, DAY, Some(2))];
        assert_eq!((plan.is_exact, pieces(&plan)), (false, expected.to_vec()));
    }

    #[test]
    fn an_increase_needs_the_day_before() {
        let at_edge = ask(80 * DAY, 81 * DAY, Some(7 * MINUTE), Aggregates::INCREASE);
        assert!(!at_edge.is_exact);
        let behind = ask(81 * DAY, 82 * DAY, Some(7 * MINUTE), Aggregates::INCREASE);
        assert_eq!((behind.is_exact, pieces(&behind)), (true, vec![(81 * DAY, 82 * DAY, None)]));
    }

    #[test]
    fn stale_buckets_do_not_answer_while_raw_samples_can() {
        let stale = TimeRange::new(at(90 * DAY + 90 * MINUTE), at(90 * DAY + 91 * MINUTE));
        let hours = TierState { stale: vec![stale], ..state(2, HOUR, 99 * DAY) };
        let levels = [Level::new(&hours, 0, &[], Aggregates::MAX)];
        let question = |day| Question {
            range: TimeRange::new(at(day * DAY), at(day * DAY + 4 * HOUR - 1)),
            bucket: Some(HOUR),
            wanted: Aggregates::MAX,
            raw_from: Some(at(90 * DAY)),
        };
        let plan = plan(&question(90), &levels);
        let (one, two) = (90 * DAY + HOUR, 90 * DAY + 2 * HOUR);
        let expected =
            [(90 * DAY, one, Some(2)), (one, two, None), (two, 90 * DAY + 4 * HOUR, Some(2))];
        assert_eq!((plan.is_exact, pieces(&plan)), (true, expected.to_vec()));
    }
}
