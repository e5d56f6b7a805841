//! [`Frames`]: where the window of each step lies among the times of samples.
//!
//! Series that are scraped together have the same times, so what follows from these alone is found
//! out once for all of them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use heapster_core::Timestamp;
use heapster_core::storage::{Times, TimesId};

use super::super::functions::Reach;
use super::window::Windows;

/// From so many bytes of frames and clocks on all are forgotten: the steps of a day by five minutes for some three
/// hundred clocks of as many samples.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// Clocks that are remembered at most to have been met.
const MET_MAX: usize = 1 << 14;

/// The samples of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frame {
    pub from: usize,
    pub to: usize,
    /// Of two samples or more, for functions that need it.
    pub reach: Reach,
}

/// The frames of clocks that were met more than once, for one list of windows. Of most clocks there is
/// one series only, where containers come and go.
#[derive(Debug, Default)]
pub(super) struct Frames {
    known: HashMap<(TimesId, Range<usize>), Known>,
    /// Clocks that were met once. They are not held, so another may take the place of one, which then
    /// counts as met and is kept too early.
    met: HashSet<(TimesId, Range<usize>)>,
    kept_bytes: usize,
    own: Vec<Frame>,
}

#[derive(Debug)]
struct Known {
    frames: Vec<Frame>,
    /// Held, since times are told apart only as long as they are.
    _times: Times,
}

impl Frames {
    /// The frames of some steps.
    pub fn of(
        &mut self,
        times: &Times,
        windows: &Windows,
        steps: Range<usize>,
        wants_reach: bool,
    ) -> &[Frame] {
        let Self { known, met, kept_bytes, own } = self;
        let make = || frames(times, windows, steps.clone(), wants_reach);
        let bytes = times.shared_bytes() + steps.len() * size_of::<Frame>();
        if let Some(id) = times.id().filter(|_| bytes <= KEPT_BYTES_MAX) {
            if *kept_bytes > KEPT_BYTES_MAX {
                known.clear();
                *kept_bytes = 0;
            }
            match known.entry((id, steps.clone())) {
                Entry::Occupied(place) => return &place.into_mut().frames,
                Entry::Vacant(place) if met.remove(place.key()) => {
                    *kept_bytes += bytes;
                    let known = Known { frames: make().collect(), _times: times.clone() };
                    return &place.insert(known).frames;
                }
                Entry::Vacant(place) => {
                    if met.len() == MET_MAX {
                        met.clear();
                    }
                    met.insert(place.into_key());
                }
            }
        }
        own.clear();
        own.extend(make());
        own
    }
}

fn frames(
    times: &[Timestamp],
    windows: &Windows,
    steps: Range<usize>,
    wants_reach: bool,
) -> impl Iterator<Item = Frame> {
    let (mut from, mut to) = (Mark::default(), Mark::default());
    windows.of_all(steps).map(move |(start_ms, end_ms)| {
        to.advance(times, end_ms);
        from.advance(times, start_ms);
        let (from, to) = (from.at.min(to.at), to.at);
        let reach = match &times[from..to] {
            within @ [_, _, ..] if wants_reach => Reach::of(within, start_ms, end_ms),
            _ => Reach::default(),
        };
        Frame { from, to, reach }
    })
}

/// A place among times that only moves forward.
#[derive(Debug, Default)]
struct Mark {
    at: usize,
    /// How far it moved last.
    stride: usize,
}

impl Mark {
    /// Moves to the first time after a moment. Samples that are as regular as the steps are found at
    /// once: as far away as last time.
    #[inline]
    fn advance(&mut self, times: &[Timestamp], moment_ms: i64) {
        let is_before = |index: usize| times.get(index).map(|at| at.as_millis() <= moment_ms);
        let guess = self.at + self.stride;
        if self.stride > 0 && is_before(guess - 1) == Some(true) && is_before(guess) != Some(true) {
            self.at = guess;
            return;
        }
        let found = advance(times, self.at, moment_ms);
        self.stride = found - self.at;
        self.at = found;
    }
}

/// The first index from `at` on whose time is after a moment.
///
/// Steps and samples are evenly spaced as a rule, but which of the two are further apart differs, so
/// the distance is doubled until it is too far and then halved.
pub(super) fn advance(times: &[Timestamp], at: usize, moment_ms: i64) -> usize {
    let is_before = |index: usize| times.get(index).is_some_and(|at| at.as_millis() <= moment_ms);
    if !is_before(at) {
        return at;
    }
    let mut reach = 1;
    while is_before(at + reach) {
        reach *= 2;
    }
    let end = (at + reach).min(times.len());
    let from = at + reach / 2;
    from + times[from..end].partition_point(|at| at.as_millis() <= moment_ms)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::super::grid::Grid;
    use super::super::super::plan::Shift;
    use super::*;

    fn times(millis: impl Iterator<Item = i64>) -> Vec<Timestamp> {
        millis.map(Timestamp::from_millis).collect()
    }

    #[test]
    fn advancing_finds_the_first_time_after_a_moment() {
        let times = times((0..50).map(|at| at * 3));
        for at in 0..50 {
            for moment in -1..160 {
                let expected =
                    (at..50).find(|index| times[*index].as_millis() > moment).unwrap_or(50);
                assert_eq!(advance(&times, at, moment), expected);
                for stride in [0, 1, 3, 7, expected - at, usize::from(expected > at)] {
                    let mut mark = Mark { at, stride };
                    mark.advance(&times, moment);
                    assert_eq!((mark.at, mark.stride), (expected, expected - at));
                }
            }
        }
    }

    #[test]
    fn frames_are_those_of_the_times_they_are_asked_of_also_when_clocks_come_and_go() {
        let grid = Grid { start_ms: 0, step_ms: 7, count: 30 };
        let windows = Windows { grid, shift: Shift::default(), range_ms: 20 };
        let mut known = Frames::default();
        for round in 0..4 {
            for distance in [3, 5, 11, 11] {
                let all: Arc<[Timestamp]> = times((0..60).map(|at| at * distance)).into();
                for (rows, steps) in [(0..60, 0..30), (round..40, 0..30), (round..40, 2..30)] {
                    let times = Times::shared(Arc::clone(&all), rows);
                    let found = known.of(&times, &windows, steps.clone(), false);
                    assert_eq!(found.len(), steps.len());
                    for (frame, step) in found.iter().zip(steps) {
                        let (start, end) = windows.of(step);
                        let within = |at: &&Timestamp| (start + 1..=end).contains(&at.as_millis());
                        let expected: Vec<_> = times.iter().filter(within).copied().collect();
                        assert_eq!(times[frame.from..frame.to], expected);
                    }
                }
            }
        }
    }
}
