//! From the samples of one column to a value for each step.

use std::ops::Range;

use heapster_core::storage::{ColumnCursor, Run, Samples, Sum, Summary, Values};
use heapster_core::{Timestamp, Value};

use super::super::functions::{Average, Kahan, Number, Stretch, over};
use super::super::grid::is_present;
use super::super::meter::Meter;
use super::super::plan::OverFunction;
use super::frames::{self, Frame, Frames};
use super::window::{Windows, append, note_drops, settle};
use crate::error::QueryError;

/// Samples that are looked at, the same ones again and again where windows overlap, before it is checked
/// that the answer is still wanted.
const CHECKED_SAMPLES: usize = 100_000;

/// Memory that is used again for column after column.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    samples: Samples,
    sliding: Sliding,
    states: Vec<State>,
}

/// What windows need beside samples.
#[derive(Debug, Default)]
struct Sliding {
    /// Samples of earlier runs that windows reach back to.
    carried: Samples,
    drops: Vec<usize>,
    frames: Frames,
}

/// A function of windows and what it needs.
#[derive(Clone, Copy)]
pub(super) struct Over<'a> {
    pub function: OverFunction,
    pub windows: Windows,
    /// Its own number for each step.
    pub params: Option<&'a [f64]>,
    pub meter: &'a Meter,
}

/// Writes the newest sample of each window, or its time in seconds, unless it says that the series
/// has ended.
pub(super) fn latest(
    cursor: &mut dyn ColumnCursor,
    windows: &Windows,
    wants_time: bool,
    meter: &Meter,
    scratch: &mut Scratch,
    out: &mut [f64],
) -> Result<(), QueryError> {
    let samples = &mut scratch.samples;
    while let Some(run) = cursor.next_run()? {
        let steps = windows.steps_of(run.first.as_millis(), run.last.as_millis());
        if steps.is_empty() {
            continue;
        }
        cursor.decode(samples)?;
        meter.touch(samples.timestamps.len())?;
        let mut after = 0;
        for step in steps {
            let (start, end) = windows.of(step);
            after = frames::advance(&samples.timestamps, after, end);
            let Some(newest) = after.checked_sub(1) else { continue };
            let at = samples.timestamps[newest].as_millis();
            if at > start {
                let value = samples.values.get(newest).as_f64();
                let is_time = wants_time && is_present(value);
                out[step] = if is_time { at as f64 / 1000.0 } else { value };
            }
        }
    }
    Ok(())
}

impl Over<'_> {
    /// Writes the function's value of each window.
    pub fn column(
        &self,
        cursor: &mut dyn ColumnCursor,
        scratch: &mut Scratch,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        if is_folded(self.function) {
            self.fold(cursor, scratch, out)
        } else {
            self.slide(cursor, scratch, out)
        }
    }

    /// Writes the function's value of each window of samples that are in memory: those of a subquery.
    pub fn samples(
        &self,
        samples: impl Iterator<Item = (i64, f64)> + Clone,
        scratch: &mut Scratch,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        let Scratch { samples: own, sliding, .. } = scratch;
        let times = samples.clone().map(|(at, _)| Timestamp::from_millis(at));
        own.timestamps.restart().extend(times);
        own.values = Values::Floats(samples.map(|(_, value)| value).collect());
        self.evaluate(own, false, 0..out.len(), sliding, out)
    }

    /// Goes from run to run: for functions that look at all samples of a window. Windows that reach
    /// back behind a run are evaluated on a copy of what they see, all others on the run itself.
    fn slide(
        &self,
        cursor: &mut dyn ColumnCursor,
        scratch: &mut Scratch,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        let Scratch { samples, sliding, .. } = scratch;
        let windows = &self.windows;
        let mut carried = std::mem::take(&mut sliding.carried);
        carried.timestamps.restart();
        let mut next = cursor.next_run()?;
        let mut step = 0;
        while step < out.len() {
            let (start, end) = windows.of(step);
            let Some(run) = next.filter(|run| run.first.as_millis() <= end) else {
                let until =
                    next.map_or(out.len(), |run| windows.ended_before(run.first.as_millis()));
                self.evaluate(&carried, false, step..until, sliding, out)?;
                step = until;
                continue;
            };
            if run.last.as_millis() <= start {
                next = cursor.next_run()?;
                continue;
            }
            cursor.decode(samples)?;
            self.meter.touch(samples.timestamps.len())?;
            let is_changed = settle(samples);
            let is_rising = !is_changed && run.summary.is_some_and(|summary| summary.resets == 0);
            next = cursor.next_run()?;
            let until = next.map_or(out.len(), |run| windows.ended_before(run.first.as_millis()));
            let until = until.max(step);
            let gone = frames::advance(&carried.timestamps, 0, start);
            forget(&mut carried, gone);
            let mut taken = 0;
            if let Some(newest) = carried.timestamps.last() {
                let alone = windows.begun_before(newest.as_millis()).clamp(step, until);
                if let Some(last) = (step..alone).next_back() {
                    let (_, end) = windows.of(last);
                    taken = frames::advance(&samples.timestamps, 0, end);
                    append(&mut carried, samples, 0..taken);
                    self.evaluate(&carried, false, step..alone, sliding, out)?;
                    step = alone;
                }
            }
            self.evaluate(samples, is_rising, step..until, sliding, out)?;
            step = until;
            if step < out.len() {
                let (start, _) = windows.of(step);
                let gone = frames::advance(&carried.timestamps, 0, start);
                forget(&mut carried, gone);
                let from = frames::advance(&samples.timestamps, taken, start);
                append(&mut carried, samples, from..samples.timestamps.len());
            }
        }
        sliding.carried = carried;
        Ok(())
    }

    /// Writes the function's value of each window of some steps. `is_rising` says that no value is less
    /// than the one before.
    fn evaluate(
        &self,
        samples: &Samples,
        is_rising: bool,
        steps: Range<usize>,
        sliding: &mut Sliding,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        // Windows that begin after the last sample have none.
        let Some(newest) = samples.timestamps.last() else { return Ok(()) };
        let steps = steps.start..steps.end.min(self.windows.begun_before(newest.as_millis()));
        if steps.is_empty() {
            return Ok(());
        }
        let Sliding { drops, frames, .. } = sliding;
        drops.clear();
        if self.function.needs_drops() && !is_rising {
            note_drops(&samples.values, drops);
        }
        let times = &samples.timestamps;
        let wants_reach = self.function.needs_reach();
        let frames = frames.of(times, &self.windows, steps.clone(), wants_reach);
        match &samples.values {
            Values::Ints(values) => self.each_window(times, values, drops, frames, steps, out),
            Values::Floats(values) => self.each_window(times, values, drops, frames, steps, out),
            // Settled samples have none.
            Values::Mixed(_) => Ok(()),
        }
    }

    fn each_window<T: Number>(
        &self,
        times: &[Timestamp],
        values: &[T],
        drops: &[usize],
        frames: &[Frame],
        steps: Range<usize>,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        let each = EachWindow { over: self, times, values, drops, frames };
        let seconds = self.windows.range_ms as f64 / 1000.0;
        match self.function {
            OverFunction::Rate => each.write_increases(steps, out, |increase| increase / seconds),
            OverFunction::Increase => each.write_increases(steps, out, |increase| increase),
            OverFunction::Delta => {
                each.write_differences(steps, out);
                Ok(())
            }
            _ => each.write(steps, out),
        }
    }

    /// Adds run after run to the windows they lie in: for functions that can be put together from
    /// parts. A run that lies whole in its windows is known by its summary and not decoded.
    fn fold(
        &self,
        cursor: &mut dyn ColumnCursor,
        scratch: &mut Scratch,
        out: &mut [f64],
    ) -> Result<(), QueryError> {
        let Scratch { samples, states, sliding } = scratch;
        states.clear();
        states.resize(out.len(), State::Empty);
        while let Some(run) = cursor.next_run()? {
            let steps = self.windows.steps_of(run.first.as_millis(), run.last.as_millis());
            if steps.is_empty() {
                continue;
            }
            if let Some(summary) = self.whole(&run, steps.start, steps.end - 1) {
                self.meter.touch(usize::try_from(summary.count).unwrap_or(usize::MAX))?;
                states[steps]
                    .iter_mut()
                    .for_each(|state| state.add_summary(self.function, &summary));
                continue;
            }
            cursor.decode(samples)?;
            self.meter.touch(samples.timestamps.len())?;
            settle(samples);
            let frames =
                sliding.frames.of(&samples.timestamps, &self.windows, steps.clone(), false);
            for (step, frame) in steps.zip(frames) {
                let Frame { from, to, .. } = *frame;
                if from == to {
                    continue;
                }
                match &samples.values {
                    Values::Ints(values) => states[step].add_ints(self.function, &values[from..to]),
                    Values::Floats(values) => states[step].add(self.function, &values[from..to]),
                    // Settled samples have none.
                    Values::Mixed(_) => {}
                }
            }
        }
        for (out, state) in out.iter_mut().zip(states) {
            if let Some(value) = state.value() {
                *out = value;
            }
        }
        Ok(())
    }

    /// The summary of a run, if it may stand for its samples in all windows that it lies in.
    fn whole(&self, run: &Run, first_step: usize, last_step: usize) -> Option<Summary> {
        let summary = run.summary?;
        let (_, end) = self.windows.of(first_step);
        let (start, _) = self.windows.of(last_step);
        let is_within = start < run.first.as_millis() && run.last.as_millis() <= end;
        let is_exact = match summary.sum {
            Sum::Int(_) => true,
            // Of floats the sum is rounded otherwise than here; were a marker of staleness among
            // them, it would be NaN.
            Sum::Float(sum) => {
                !sum.is_nan() && !matches!(self.function, OverFunction::Sum | OverFunction::Avg)
            }
        };
        (is_within && is_exact).then_some(summary)
    }
}

/// A function of the windows of samples that are in memory.
struct EachWindow<'o, 'd, T> {
    over: &'o Over<'o>,
    times: &'d [Timestamp],
    values: &'d [T],
    drops: &'d [usize],
    /// Of the steps that are to be written.
    frames: &'d [Frame],
}

impl<T: Number> EachWindow<'_, '_, T> {
    /// Writes what follows from the increases of a counter.
    #[inline]
    fn write_increases(
        &self,
        steps: Range<usize>,
        out: &mut [f64],
        finish: impl Fn(f64) -> f64,
    ) -> Result<(), QueryError> {
        let mut drops = DropsWithin::default();
        let mut patience = Patience::new(self.over.meter);
        for (out, frame) in out[steps].iter_mut().zip(self.frames) {
            let [first, .., last] = self.values[frame.from..frame.to] else { continue };
            let increase = if self.drops.is_empty() {
                last.minus(first)
            } else {
                let within = drops.advance(self.drops, frame.from..frame.to);
                patience.spend(within.len())?;
                T::increase(first, last, within.iter().map(|at| self.values[at - 1]))
            };
            *out = finish(frame.reach.of_counter(first.float(), increase));
        }
        Ok(())
    }

    /// Writes the differences of a gauge.
    fn write_differences(&self, steps: Range<usize>, out: &mut [f64]) {
        for (out, frame) in out[steps].iter_mut().zip(self.frames) {
            let [first, .., last] = self.values[frame.from..frame.to] else { continue };
            *out = frame.reach.of_gauge(last.minus(first));
        }
    }

    /// Writes what a function makes of the samples of each window.
    fn write(&self, steps: Range<usize>, out: &mut [f64]) -> Result<(), QueryError> {
        let Over { function, windows, params, meter } = self.over;
        let mut drops = DropsWithin::default();
        let mut patience = Patience::new(meter);
        for (step, frame) in steps.zip(self.frames) {
            let Frame { from, to, .. } = *frame;
            if from == to {
                continue;
            }
            patience.spend(to - from)?;
            let stretch = Stretch {
                times: &self.times[from..to],
                values: &self.values[from..to],
                resets: drops.advance(self.drops, from..to).len(),
                now_ms: windows.grid.time_ms(step),
                param: params.map_or(0.0, |params| params[step]),
            };
            if let Some(value) = over(*function, &stretch) {
                out[step] = value;
            }
        }
        Ok(())
    }
}

/// Looks from time to time whether the answer is still wanted.
struct Patience<'m> {
    meter: &'m Meter,
    spent: usize,
}

impl<'m> Patience<'m> {
    fn new(meter: &'m Meter) -> Self {
        Self { meter, spent: 0 }
    }

    /// Notes that samples were looked at.
    #[inline]
    fn spend(&mut self, samples: usize) -> Result<(), QueryError> {
        self.spent += samples;
        if self.spent > CHECKED_SAMPLES {
            self.spent = 0;
            self.meter.check()?;
        }
        Ok(())
    }
}

/// Which falls lie in the current window; windows only move forward.
#[derive(Default)]
struct DropsWithin {
    from: usize,
    to: usize,
}

impl DropsWithin {
    /// Those in a window. A fall counts when both its samples are in it.
    #[inline]
    fn advance<'d>(&mut self, drops: &'d [usize], window: Range<usize>) -> &'d [usize] {
        while drops.get(self.from).is_some_and(|at| *at <= window.start) {
            self.from += 1;
        }
        self.to = self.to.max(self.from);
        while drops.get(self.to).is_some_and(|at| *at < window.end) {
            self.to += 1;
        }
        &drops[self.from..self.to]
    }
}

/// Lets go of the oldest samples.
fn forget(samples: &mut Samples, count: usize) {
    if count == 0 {
        return;
    }
    samples.timestamps.make_mut().drain(..count);
    match &mut samples.values {
        Values::Ints(values) => drop(values.drain(..count)),
        Values::Floats(values) => drop(values.drain(..count)),
        Values::Mixed(values) => drop(values.drain(..count)),
    }
}

/// Whether the function of a window follows from those of its parts.
fn is_folded(function: OverFunction) -> bool {
    matches!(
        function,
        OverFunction::Count
            | OverFunction::Present
            | OverFunction::First
            | OverFunction::Last
            | OverFunction::Min
            | OverFunction::Max
            | OverFunction::Sum
            | OverFunction::Avg
    )
}

/// What is known of a window so far.
#[derive(Clone, Copy, Debug)]
enum State {
    Empty,
    Count(u64),
    Value(f64),
    /// Sum and number of integers, for a sum.
    ExactSum(i128),
    /// Sum and number of integers, for a mean.
    ExactMean(i128, u64),
    Sum(Kahan),
    Mean(Average),
}

impl State {
    fn value(&self) -> Option<f64> {
        Some(match *self {
            Self::Empty => return None,
            Self::Count(count) => count as f64,
            Self::Value(value) => value,
            Self::ExactSum(sum) => sum as f64,
            Self::ExactMean(sum, count) => sum as f64 / count as f64,
            Self::Sum(sum) => sum.value(),
            Self::Mean(mean) => mean.value(),
        })
    }

    fn add_summary(&mut self, function: OverFunction, summary: &Summary) {
        let exact = match summary.sum {
            Sum::Int(sum) => Some(sum),
            Sum::Float(_) => None,
        };
        match (function, exact) {
            (OverFunction::Sum | OverFunction::Avg, Some(sum)) => {
                self.add_exact(function, sum, summary.count);
            }
            (OverFunction::Count, _) => self.add_count(summary.count),
            (OverFunction::Min, _) => self.add_value(function, summary.min.as_f64()),
            (OverFunction::Max, _) => self.add_value(function, summary.max.as_f64()),
            (OverFunction::First, _) => self.add_value(function, summary.first.as_f64()),
            _ => self.add_value(function, summary.last.as_f64()),
        }
    }

    fn add_ints(&mut self, function: OverFunction, values: &[i64]) {
        match function {
            OverFunction::Sum | OverFunction::Avg => {
                let sum = values.iter().map(|value| i128::from(*value)).sum();
                self.add_exact(function, sum, values.len() as u64);
            }
            _ => self.add(function, values),
        }
    }

    /// Adds samples; there is at least one.
    fn add<T: Number>(&mut self, function: OverFunction, values: &[T]) {
        match function {
            OverFunction::Count => self.add_count(values.len() as u64),
            OverFunction::Min => self.add_value(function, T::least(values).float()),
            OverFunction::Max => self.add_value(function, T::greatest(values).float()),
            OverFunction::First => self.add_value(function, values[0].float()),
            OverFunction::Sum => {
                let mut sum = match *self {
                    Self::Sum(sum) => sum,
                    Self::ExactSum(sum) => Kahan::new(sum as f64),
                    _ => Kahan::default(),
                };
                values.iter().for_each(|value| sum.add(value.float()));
                *self = Self::Sum(sum);
            }
            OverFunction::Avg => {
                let mut mean = match *self {
                    Self::Mean(mean) => mean,
                    Self::ExactMean(sum, count) => Average::of(sum as f64, count as f64),
                    _ => Average::default(),
                };
                values.iter().for_each(|value| mean.add(value.float()));
                *self = Self::Mean(mean);
            }
            _ => self.add_value(function, values[values.len() - 1].float()),
        }
    }

    fn add_count(&mut self, more: u64) {
        let count = if let Self::Count(count) = *self { count } else { 0 };
        *self = Self::Count(count + more);
    }

    fn add_exact(&mut self, function: OverFunction, more: i128, count: u64) {
        match (self, function) {
            (Self::ExactSum(sum), _) => *sum = sum.saturating_add(more),
            (Self::ExactMean(sum, own), _) => {
                (*sum, *own) = (sum.saturating_add(more), *own + count);
            }
            (Self::Sum(sum), _) => sum.add(more as f64),
            (Self::Mean(mean), _) => mean.join(Average::of(more as f64, count as f64)),
            (state, OverFunction::Avg) => *state = Self::ExactMean(more, count),
            (state, _) => *state = Self::ExactSum(more),
        }
    }

    fn add_value(&mut self, function: OverFunction, value: f64) {
        *self = Self::Value(match (function, *self) {
            (OverFunction::Present, _) => 1.0,
            // Any number replaces NaN.
            (OverFunction::Min, Self::Value(own)) => own.min(value),
            (OverFunction::Max, Self::Value(own)) => own.max(value),
            (OverFunction::First, Self::Value(own)) => own,
            _ => value,
        });
    }
}

/// The newest sample of the one window of a set's column, unless it says that the series has ended.
pub(super) fn newest(sample: Option<(Timestamp, Value)>, wants_time: bool) -> Option<f64> {
    let (at, value) = sample?;
    if value.is_stale() {
        return None;
    }
    Some(if wants_time { at.as_millis() as f64 / 1000.0 } else { value.as_f64() })
}
