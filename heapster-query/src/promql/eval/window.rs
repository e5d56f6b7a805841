//! [`Windows`]: where the window of each step lies, and the samples in it.

use std::ops::Range;

use heapster_core::storage::{ColumnCursor, Samples, Values};
use heapster_core::{Timestamp, Value};

use super::super::grid::{Grid, is_present};
use super::super::key::Key;
use super::super::meter::Meter;
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

    /// The first and the last moment that lie in any window.
    pub fn bounds(&self) -> (i64, i64) {
        let (start, _) = self.of(0);
        let (_, end) = self.of(self.grid.count - 1);
        (start + 1, end)
    }

    /// How many steps end before a moment, if the first one does.
    pub fn steps_before(&self, moment: i64) -> usize {
        let (_, end) = self.of(0);
        if self.shift.at_ms.is_some() {
            return self.grid.count;
        }
        let step = self.grid.step_ms;
        let index = (moment - end + step - 1) / step;
        usize::try_from(index).map_or(0, |index| index.min(self.grid.count))
    }

    /// The steps whose windows have a moment of `first..=last`.
    pub fn steps_of(&self, first: i64, last: i64) -> Range<usize> {
        let (start, end) = self.of(0);
        let count = self.grid.count;
        if self.shift.at_ms.is_some() {
            return if end >= first && start < last.max(first) { 0..count } else { 0..0 };
        }
        let step = self.grid.step_ms;
        // The first step that ends at `first` or later, and the first that begins at `last` or later.
        let from = if end >= first { 0 } else { (first - end + step - 1) / step };
        let to = if start >= last { 0 } else { (last - start + step - 1) / step };
        let clamped = |index: i64| usize::try_from(index).map_or(count, |index| index.min(count));
        let (from, to) = (clamped(from), clamped(to));
        from..to.max(from)
    }
}

/// Decoded samples of a column that slide along with the windows.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub times: Vec<Timestamp>,
    pub values: Values,
    /// Where values fall, counted from the first sample that ever was in the buffer.
    pub drops: Vec<usize>,
    /// How many samples have left it.
    pub gone: usize,
    pub marks: Marks,
    wants_drops: bool,
    scratch: Samples,
}

/// Where the current window lies in a [`Buffer`].
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub from: usize,
    pub to: usize,
    /// How far the window's ends moved last.
    from_stride: usize,
    to_stride: usize,
    drops_from: usize,
    drops_to: usize,
}

impl Marks {
    /// Moves on to a window; windows only move forward.
    #[inline]
    pub fn seek(
        &mut self,
        times: &[Timestamp],
        (drops, gone): (&[usize], usize),
        (start_ms, end_ms): (i64, i64),
    ) {
        self.to = advance_evenly(times, self.to, end_ms, &mut self.to_stride);
        self.from = advance_evenly(times, self.from, start_ms, &mut self.from_stride);
        self.from = self.from.min(self.to);
        if self.drops_to == drops.len() && self.drops_from == drops.len() {
            return;
        }
        // A fall counts when both its samples are in the window.
        let (first, last) = (gone + self.from, gone + self.to);
        while drops.get(self.drops_from).is_some_and(|at| *at <= first) {
            self.drops_from += 1;
        }
        self.drops_to = self.drops_to.max(self.drops_from);
        while drops.get(self.drops_to).is_some_and(|at| *at < last) {
            self.drops_to += 1;
        }
    }

    /// The falls in the current window, out of all.
    pub fn drops<'d>(&self, drops: &'d [usize]) -> &'d [usize] {
        &drops[self.drops_from..self.drops_to]
    }
}

impl Buffer {
    /// Forgets everything; the next column begins.
    pub fn reset(&mut self, wants_drops: bool) {
        self.times.clear();
        self.drops.clear();
        (self.gone, self.marks) = (0, Marks::default());
        self.wants_drops = wants_drops;
    }

    /// Takes samples that are in memory already.
    pub fn fill(&mut self, times: impl Iterator<Item = i64>, values: impl Iterator<Item = f64>) {
        self.times.extend(times.map(Timestamp::from_millis));
        match &mut self.values {
            Values::Floats(own) => {
                own.clear();
                own.extend(values);
            }
            other => *other = Values::Floats(values.collect()),
        }
        self.note_drops(0);
    }

    /// Decodes the run a cursor stands at, behind what is there. `is_rising` says that no value of it
    /// is less than the one before.
    pub fn load(
        &mut self,
        cursor: &mut dyn ColumnCursor,
        is_rising: bool,
        meter: &Meter,
    ) -> Result<(), QueryError> {
        cursor.decode(&mut self.scratch)?;
        meter.touch(self.scratch.timestamps.len())?;
        remove_stale(&mut self.scratch);
        self.forget();
        let known = self.times.len();
        if known == 0 {
            std::mem::swap(&mut self.times, &mut self.scratch.timestamps);
            std::mem::swap(&mut self.values, &mut self.scratch.values);
            if let Values::Mixed(values) = &self.values {
                self.values = Values::Floats(values.iter().map(|value| value.as_f64()).collect());
            }
        } else {
            self.times.extend_from_slice(&self.scratch.timestamps);
            append(&mut self.values, &self.scratch.values);
        }
        if self.wants_drops {
            match is_rising {
                // Only where the runs meet.
                true => self.note_drops_in(known, known + 1),
                false => self.note_drops(known),
            }
        }
        Ok(())
    }

    /// Lets go of what lies before the current window.
    fn forget(&mut self) {
        let marks = &mut self.marks;
        let gone = marks.from;
        if gone == 0 {
            return;
        }
        self.times.drain(..gone);
        match &mut self.values {
            Values::Ints(values) => drop(values.drain(..gone)),
            Values::Floats(values) => drop(values.drain(..gone)),
            Values::Mixed(values) => drop(values.drain(..gone)),
        }
        self.drops.drain(..marks.drops_from);
        marks.drops_to -= marks.drops_from;
        marks.drops_from = 0;
        self.gone += gone;
        marks.to -= gone;
        marks.from = 0;
    }

    fn note_drops(&mut self, from: usize) {
        if self.wants_drops {
            self.note_drops_in(from, self.times.len());
        }
    }

    /// Notes the falls at indices `from..to`.
    fn note_drops_in(&mut self, from: usize, to: usize) {
        let (from, to) = (from.max(1), to.min(self.times.len()));
        let (drops, gone) = (&mut self.drops, self.gone);
        match &self.values {
            Values::Ints(values) => push_drops(values, from..to, gone, drops),
            Values::Floats(values) => push_drops(values, from..to, gone, drops),
            Values::Mixed(_) => {}
        }
    }

    /// Moves on to a window; windows only move forward.
    pub fn seek(&mut self, window: (i64, i64)) {
        self.marks.seek(&self.times, (&self.drops, self.gone), window);
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

/// As [`advance`]. Samples that are as regular as the steps are found at once: as far from `at` as last
/// time, which `stride` keeps.
#[inline]
fn advance_evenly(times: &[Timestamp], at: usize, moment_ms: i64, stride: &mut usize) -> usize {
    let is_before = |index: usize| times.get(index).map(|at| at.as_millis() <= moment_ms);
    let guess = at + *stride;
    if *stride > 0 && is_before(guess - 1) == Some(true) && is_before(guess) != Some(true) {
        return guess;
    }
    let found = advance(times, at, moment_ms);
    *stride = found - at;
    found
}

fn push_drops<T: PartialOrd>(
    values: &[T],
    indices: Range<usize>,
    gone: usize,
    drops: &mut Vec<usize>,
) {
    if indices.is_empty() {
        return;
    }
    let pairs = values[indices.start - 1..indices.end].windows(2);
    for (offset, pair) in pairs.enumerate() {
        if pair[1] < pair[0] {
            drops.push(gone + indices.start + offset);
        }
    }
}

/// Appends values, keeping integers as long as all are.
fn append(own: &mut Values, more: &Values) {
    match (&mut *own, more) {
        (Values::Ints(own), Values::Ints(more)) => own.extend_from_slice(more),
        (Values::Floats(own), Values::Floats(more)) => own.extend_from_slice(more),
        (own, more) => {
            let float = |values: &Values| -> Vec<f64> {
                (0..values.len()).map(|index| values.get(index).as_f64()).collect()
            };
            let mut floats = float(own);
            floats.extend(float(more));
            *own = Values::Floats(floats);
        }
    }
}

/// Takes staleness markers out: in a window they are no samples.
pub(super) fn remove_stale(samples: &mut Samples) {
    let is_stale = match &samples.values {
        Values::Ints(_) => false,
        Values::Floats(values) => values.iter().any(|value| !is_present(*value)),
        Values::Mixed(values) => values.iter().any(|value| value.is_stale()),
    };
    if !is_stale {
        return;
    }
    let kept = |value: Value| !value.is_stale();
    let keep: Vec<bool> = samples.iter().map(|(_, value)| kept(value)).collect();
    let mut flags = keep.iter();
    samples.timestamps.retain(|_| flags.next().copied().unwrap_or(true));
    let mut flags = keep.iter();
    match &mut samples.values {
        Values::Ints(_) => {}
        Values::Floats(values) => values.retain(|_| flags.next().copied().unwrap_or(true)),
        Values::Mixed(values) => values.retain(|_| flags.next().copied().unwrap_or(true)),
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
            let mut points = Vec::new();
            let mut samples = Samples::default();
            while cursor.next_run()?.is_some() {
                cursor.decode(&mut samples)?;
                evaluator.meter.touch(samples.timestamps.len())?;
                remove_stale(&mut samples);
                held.grow(1, samples.timestamps.len())?;
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
                    let before = (0..grid.count).filter(|step| windows.of(*step).1 < first).count();
                    assert_eq!(windows.steps_before(first), before, "{windows:?} {first}");
                }
            }
        }
    }

    #[test]
    fn advancing_finds_the_first_time_after_a_moment() {
        let times: Vec<_> = (0..50).map(|at| Timestamp::from_millis(at * 3)).collect();
        for at in 0..50 {
            for moment in -1..160 {
                let expected =
                    (at..50).find(|index| times[*index].as_millis() > moment).unwrap_or(50);
                assert_eq!(advance(&times, at, moment), expected);
                for mut stride in [0, 1, 3, 7, expected - at, usize::from(expected > at)] {
                    let found = advance_evenly(&times, at, moment, &mut stride);
                    assert_eq!((found, found - at), (expected, stride));
                }
            }
        }
    }
}
