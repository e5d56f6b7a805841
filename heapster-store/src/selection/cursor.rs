//! [`Cursor`]: walks over the runs of one column of a selected set.

use std::ops::Range;

use heapster_core::Value;
use heapster_core::storage::{ColumnCursor, Run, Samples, StorageError};

use super::{Part, Selected};
use crate::head::latest_of_each_time;

/// Merges the parts of one column: those that overlap in time are given out as one run.
pub(super) struct Cursor<'a> {
    set: &'a Selected,
    column: usize,
    /// The parts of the current run, among them such as have not the column.
    at: Range<usize>,
}

impl<'a> Cursor<'a> {
    /// A cursor before the first run.
    pub fn new(set: &'a Selected, column: usize) -> Self {
        Self::at(set, column, 0..0)
    }

    /// A cursor at the run of these parts.
    pub fn at(set: &'a Selected, column: usize, at: Range<usize>) -> Self {
        Self { set, column, at }
    }

    /// The parts of the current run.
    fn current(&self) -> impl Iterator<Item = &'a Part> + use<'a> {
        let (set, column) = (self.set, self.column);
        set.parts()[self.at.clone()].iter().filter(move |part| set.has(part, column))
    }
}

/// The next run of a column at or after part `from`: its parts, among them such as have not the
/// column, and whether only one has it.
pub(super) fn next_run(set: &Selected, column: usize, from: usize) -> Option<(Range<usize>, bool)> {
    let parts = set.parts();
    let start = from + parts[from..].iter().position(|part| set.has(part, column))?;
    let mut last = parts[start].last();
    let (mut end, mut is_alone) = (start + 1, true);
    while let Some(next) = parts.get(end).filter(|next| next.first() <= last) {
        if set.has(next, column) {
            last = last.max(next.last());
            is_alone = false;
        }
        end += 1;
    }
    Some((start..end, is_alone))
}

impl ColumnCursor for Cursor<'_> {
    fn next_run(&mut self) -> Result<Option<Run>, StorageError> {
        let Some((parts, is_alone)) = next_run(self.set, self.column, self.at.end) else {
            self.at = self.at.end..self.at.end;
            return Ok(None);
        };
        self.at = parts;
        let mut current = self.current();
        let Some(first) = current.next() else { return Ok(None) };
        if is_alone {
            return Ok(Some(self.set.run(first, self.column)));
        }
        let mut run = self.set.bounds(first);
        for part in current {
            run.last = run.last.max(self.set.bounds(part).last);
        }
        Ok(Some(run))
    }

    fn decode(&mut self, into: &mut Samples) -> Result<(), StorageError> {
        let mut parts = self.current();
        let Some(first) = parts.next() else {
            *into = Samples::default();
            return Ok(());
        };
        let Some(second) = parts.next() else {
            self.set.decode(first, self.column, into);
            return Ok(());
        };
        let mut cells: Vec<(i64, u64, Value)> = Vec::new();
        for part in [first, second].into_iter().chain(parts) {
            let rank = u64::from(part.source);
            self.set.decode(part, self.column, into);
            cells.extend(into.iter().map(|(at, value)| (at.as_millis(), rank, value)));
        }
        *into = latest_of_each_time(cells);
        Ok(())
    }

    fn count(&mut self) -> Result<u64, StorageError> {
        let mut parts = self.current();
        if let (Some(part), None) = (parts.next(), parts.next())
            && let Some(count) = self.set.count(part, self.column)
        {
            return Ok(count);
        }
        let mut samples = Samples::default();
        self.decode(&mut samples)?;
        Ok(samples.timestamps.len() as u64)
    }
}
