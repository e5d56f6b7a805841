//! [`Windows`]: where the window of each step lies, and the samples in it.

use std::ops::Range;

use heapster_core::Timestamp;
use heapster_core::storage::{Samples, Times, Values};

use super::super::grid::{Grid, is_present};
use super::super::key::Key;
use super::super::plan::{Shift, Window};
use super::table::Table;
use super::{Evaluator, source};
use crate::error::QueryError;

/// For each step a stretch of time: open on the left, closed on the right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub grid: Grid,
    pub shift: Shift,
    pub range_ms: i64,
}

impl Windows {
    /// `(start, end]` of a step.
    pub fn of(&self, step: usize) -> (i64, i64) {
        let end = self.shift.apply(self.grid.time_ms(step));
        (end - self.range_ms, end)
    }

    /// `(start, end]` of each of some steps.
    pub fn of_all(&self, steps: Range<usize>) -> impl Iterator<Item = (i64, i64)> + use<> {
        let stride = if self.shift.at_ms.is_some() { 0 } else { self.grid.step_ms };
        let (mut start, mut end) = self.of(steps.start);
        steps.map(move |_| {
            let window = (start, end);
            (start, end) = (start.saturating_add(stride), end.saturating_add(stride));
            window
        })
    }

    /// The first and the last moment that lie in any window.
    pub fn bounds(&self) -> (i64, i64) {
        let (start, _) = self.of(0);
        let (_, end) = self.of(self.grid.count - 1);
        (start + 1, end)
    }

    /// How many steps end before a moment.
    pub fn ended_before(&self, moment_ms: i64) -> usize {
        let (_, end) = self.of(0);
        self.steps_from(end, moment_ms)
    }

    /// How many steps begin before a moment.
    pub fn begun_before(&self, moment_ms: i64) -> usize {
        let (start, _) = self.of(0);
        self.steps_from(start, moment_ms)
    }

    /// The steps whose windows have a moment of `first..=last`.
    pub fn steps_of(&self, first: i64, last: i64) -> Range<usize> {
        let from = self.ended_before(first);
        from..self.begun_before(last).max(from)
    }

    /// How many steps lie before a moment when the first lies at `origin_ms`.
    fn steps_from(&self, origin_ms: i64, moment_ms: i64) -> usize {
        let Grid { step_ms, count, .. } = self.grid;
        if origin_ms >= moment_ms {
            return 0;
        }
        if self.shift.at_ms.is_some() {
            return count;
        }
        let steps = (moment_ms - origin_ms - 1) / step_ms + 1;
        usize::try_from(steps).map_or(count, |steps| steps.min(count))
    }
}

/// Takes in what a cursor gives: without staleness markers, which in a window are no samples, and with
/// floats in place of both kinds of number. Says whether anything was taken out.
pub(super) fn settle(samples: &mut Samples) -> bool {
    let Samples { timestamps, values } = samples;
    let is_changed = match values {
        Values::Ints(_) => false,
        Values::Floats(floats) => keep(timestamps, floats, |value| is_present(*value)),
        Values::Mixed(mixed) => keep(timestamps, mixed, |value| !value.is_stale()),
    };
    if let Values::Mixed(mixed) = values {
        // Without the markers they may be integers all.
        let ints: Option<Vec<i64>> = mixed.iter().map(|value| value.as_int()).collect();
        *values = match ints {
            Some(ints) => Values::Ints(ints),
            None => Values::Floats(mixed.iter().map(|value| value.as_f64()).collect()),
        };
    }
    is_changed
}

/// Leaves the values that are wanted, with their times. Says whether any was not.
fn keep<T>(times: &mut Times, values: &mut Vec<T>, is_wanted: impl Fn(&T) -> bool) -> bool {
    if values.iter().all(&is_wanted) {
        return false;
    }
    let mut wanted = values.iter().map(&is_wanted);
    times.make_mut().retain(|_| wanted.next() == Some(true));
    values.retain(is_wanted);
    true
}

/// Appends samples that come later, keeping integers as long as all are.
pub(super) fn append(own: &mut Samples, more: &Samples, rows: Range<usize>) {
    if rows.is_empty() {
        return;
    }
    if own.timestamps.is_empty() {
        own.values = match &more.values {
            Values::Ints(_) => Values::Ints(Vec::new()),
            _ => Values::Floats(Vec::new()),
        };
    }
    own.timestamps.make_mut().extend_from_slice(&more.timestamps[rows.clone()]);
    match (&mut own.values, &more.values) {
        (Values::Ints(own), Values::Ints(more)) => own.extend_from_slice(&more[rows]),
        (Values::Floats(own), more) => own.extend(rows.map(|row| more.get(row).as_f64())),
        (own, more) => {
            let mut floats: Vec<f64> = (0..own.len()).map(|row| own.get(row).as_f64()).collect();
            floats.extend(rows.map(|row| more.get(row).as_f64()));
            *own = Values::Floats(floats);
        }
    }
}

/// Notes where values are less than the one before.
pub(super) fn note_drops(values: &Values, drops: &mut Vec<usize>) {
    fn note<T: PartialOrd>(values: &[T], drops: &mut Vec<usize>) {
        let falls = |(index, pair): (usize, &[T])| (pair[1] < pair[0]).then_some(index + 1);
        drops.extend(values.windows(2).enumerate().filter_map(falls));
    }
    match values {
        Values::Ints(values) => note(values, drops),
        Values::Floats(values) => note(values, drops),
        // Settled samples have none.
        Values::Mixed(_) => {}
    }
}

/// A series of raw samples.
pub(in super::super) struct RawSeries {
    pub key: Key,
    pub points: Vec<(Timestamp, f64)>,
}

/// The table a subquery looks at, and its grid; `None` when it has no step.
pub(super) fn inner_table<'a>(
    evaluator: &Evaluator<'a>,
    window: &Window,
    windows: Windows,
) -> Result<Option<(Table<'a>, Grid)>, QueryError> {
    let Window::Subquery { of, step_ms, .. } = window else { return Ok(None) };
    let (first, last) = windows.bounds();
    // Steps are multiples of their distance since the epoch.
    let start = first.div_euclid(*step_ms) * step_ms;
    let start = if start < first { start + step_ms } else { start };
    match Grid::up_to(start, last, *step_ms) {
        Some(grid) => {
            let _held = evaluator.meter.hold(1, grid.count)?;
            Ok(Some((evaluator.table(of, grid)?, grid)))
        }
        None => Ok(None),
    }
}

/// The samples in the one window of a grid of one step.
pub(super) fn samples(
    evaluator: &Evaluator<'_>,
    window: &Window,
    grid: Grid,
) -> Result<Vec<RawSeries>, QueryError> {
    let windows = Windows { grid, shift: window.shift(), range_ms: window.range_ms() };
    let (first, last) = windows.bounds();
    let mut all = Vec::new();
    let mut held = evaluator.meter.hold(0, 0)?;
    if let Window::Select { select, .. } = window {
        for found in source::find(evaluator, select, first, last)?.list {
            let mut cursor = found.set.read(found.column);
            held.grow(1, 0)?;
            let mut points = Vec::new();
            let mut samples = Samples::default();
            while cursor.next_run()?.is_some() {
                cursor.decode(&mut samples)?;
                evaluator.meter.touch(samples.timestamps.len())?;
                settle(&mut samples);
                held.grow_list::<(Timestamp, f64)>(samples.timestamps.len())?;
                points.reserve(samples.timestamps.len());
                let scale = found.view.as_ref().map_or(1.0, |view| view.scale());
                let within =
                    samples.iter().filter(|(at, _)| (first..=last).contains(&at.as_millis()));
                points.extend(within.map(|(at, value)| (at, value.as_f64() * scale)));
            }
            if !points.is_empty() {
                all.push(RawSeries { key: found.key(), points });
            }
        }
    } else if let Some((table, inner)) = inner_table(evaluator, window, windows)? {
        for series in table.series {
            let points = series.values.iter().enumerate().filter(|(_, value)| is_present(**value));
            let points: Vec<_> = points
                .map(|(step, value)| (Timestamp::from_millis(inner.time_ms(step)), *value))
                .collect();
            if !points.is_empty() {
                all.push(RawSeries { key: series.key, points });
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_stretch_are_those_whose_window_meets_it() {
        for (range_ms, step_ms, offset_ms) in [(10, 5, 0), (5, 10, 3), (10, 10, -7), (1, 3, 0)] {
            let grid = Grid { start_ms: -20, step_ms, count: 9 };
            let shift = Shift { at_ms: None, offset_ms };
            let windows = Windows { grid, shift, range_ms };
            for first in -60..90 {
                for last in first..first + 12 {
                    let meets = |step: &usize| {
                        let (start, end) = windows.of(*step);
                        (first..=last).any(|at| start < at && at <= end)
                    };
                    let expected: Vec<usize> = (0..grid.count).filter(meets).collect();
                    let steps: Vec<usize> = windows.steps_of(first, last).collect();
                    assert_eq!(steps, expected, "{windows:?} {first} {last}");
                    assert!(windows.of_all(2..9).eq((2..9).map(|step| windows.of(step))));
                    let before = (0..grid.count).filter(|step| windows.of(*step).1 < first).count();
                    assert_eq!(windows.ended_before(first), before, "{windows:?} {first}");
                }
            }
        }
    }
}
