//! Reading one column of a row group: its summary, its samples in a range, its newest sample.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::ops::Range;

use heapster_core::storage::{Run, Samples, Values};
use heapster_core::{TimeRange, Timestamp, Value};

use crate::chunk;
use crate::error::Result;
use crate::segment::clock_cache::ClockCache;
use crate::segment::reader::{RowGroup, Segment, body_of};
use crate::segment::row_group::{self, Cells};

/// A column of a row group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupColumn<'a> {
    pub segment: &'a Segment,
    pub group: &'a RowGroup,
    /// How many columns the row group has.
    pub columns: usize,
    /// Which of them it is.
    pub column: usize,
}

impl GroupColumn<'_> {
    /// What is known without decoding values. The summary is there only when the whole chunk lies
    /// in the range and its summary is stored or costs next to nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when the row group is damaged,
    /// [`Error::Io`](crate::Error::Io),
    /// [`Error::UnsupportedVersion`](crate::Error::UnsupportedVersion).
    pub(crate) fn run(&self, range: &TimeRange, clocks: &ClockCache) -> Result<Run> {
        let TimeRange { start: mut first, end: mut last } = self.group.range();
        if first < range.start || range.end < last {
            let (first, last) = (first.max(range.start), last.min(range.end));
            return Ok(Run { first, last, summary: None });
        }
        let bytes = self.segment.group_bytes(self.group, true)?;
        let cells = self.cells(&bytes)?;
        let summary = chunk::stored_summary(cells.chunk, cells.count);
        let summary = summary.map_err(|bad| self.segment.malformed_group(self.group, bad))?;
        if let (Some(present), Some(_)) = (&cells.present, &summary) {
            // The bounds that go with a summary are the column's, not its clock's.
            let times = clocks.get(self.segment, self.group.group.clock)?;
            first = times.get(present.first).copied().unwrap_or(first);
            last = times.get(present.last).copied().unwrap_or(last);
        }
        Ok(Run { first, last, summary })
    }

    /// How many samples there are in the range.
    ///
    /// # Errors
    /// As [`GroupColumn::run`].
    pub(crate) fn count(&self, range: &TimeRange, clocks: &ClockCache) -> Result<u64> {
        let bytes = self.segment.group_bytes(self.group, true)?;
        let cells = self.cells(&bytes)?;
        let rows = self.rows_in(range, clocks)?;
        Ok(values_in(&cells, &rows).len() as u64)
    }

    /// Decodes the samples in the range; replaces what `into` holds.
    ///
    /// # Errors
    /// As [`GroupColumn::run`].
    pub(crate) fn decode(
        &self,
        range: &TimeRange,
        clocks: &ClockCache,
        into: &mut Samples,
    ) -> Result<()> {
        let bytes = self.segment.group_bytes(self.group, true)?;
        let cells = self.cells(&bytes)?;
        let times = clocks.get(self.segment, self.group.group.clock)?;
        let rows = rows_in(&times, range);
        self.decode_values(&cells, values_in(&cells, &rows), &mut into.values)?;
        match &cells.present {
            None => into.timestamps.share(times, rows),
            Some(present) => {
                let own = into.timestamps.restart();
                for run in present.runs() {
                    let run = run.start.max(rows.start)..run.end.min(rows.end);
                    own.extend_from_slice(times.get(run).unwrap_or_default());
                }
            }
        }
        Ok(())
    }

    /// The newest sample in the range.
    ///
    /// # Errors
    /// As [`GroupColumn::run`].
    pub(crate) fn last(
        &self,
        range: &TimeRange,
        clocks: &ClockCache,
        values: &mut Values,
    ) -> Result<Option<(Timestamp, Value)>> {
        let bytes = self.segment.group_bytes(self.group, true)?;
        let cells = self.cells(&bytes)?;
        let Some((newest, at)) = self.newest_in(&cells, range, clocks)? else { return Ok(None) };
        if newest.saturating_add(1) == cells.count {
            let summary = chunk::stored_summary(cells.chunk, cells.count)
                .map_err(|bad| self.segment.malformed_group(self.group, bad))?;
            if let Some(summary) = summary {
                return Ok(Some((at, summary.last)));
            }
        }
        self.decode_values(&cells, newest..newest.saturating_add(1), values)?;
        Ok((!values.is_empty()).then(|| (at, values.get(0))))
    }

    /// The place of the newest value in the range, and its time. The clock is asked only when the value
    /// in the last row is not the one.
    fn newest_in(
        &self,
        cells: &Cells<'_>,
        range: &TimeRange,
        clocks: &ClockCache,
    ) -> Result<Option<(usize, Timestamp)>> {
        let last_row = self.group.rows.saturating_sub(1);
        let last = Timestamp::from_millis(self.group.last);
        let has_last = cells.present.as_ref().is_none_or(|present| present.last == last_row);
        if has_last && range.contains(last) {
            return Ok(Some((cells.count.saturating_sub(1), last)));
        }
        let times = clocks.get(self.segment, self.group.group.clock)?;
        let rows = rows_in(&times, range);
        let Some(newest) = values_in(cells, &rows).next_back() else { return Ok(None) };
        let row = match &cells.present {
            None => newest,
            Some(present) => {
                let in_rows = present.runs().take_while(|run| run.start < rows.end).last();
                in_rows.map_or(newest, |run| run.end.min(rows.end).saturating_sub(1))
            }
        };
        Ok(Some((newest, times.get(row).copied().unwrap_or_default())))
    }

    fn cells<'b>(&self, bytes: &'b [u8]) -> Result<Cells<'b>> {
        row_group::cells(body_of(bytes), self.group.rows, self.columns, self.column)
            .map_err(|bad| self.segment.malformed_group(self.group, bad))
    }

    /// The rows in the range; asks the clock only when the range cuts it.
    fn rows_in(&self, range: &TimeRange, clocks: &ClockCache) -> Result<Range<usize>> {
        let own = self.group.range();
        if range.contains(own.start) && range.contains(own.end) {
            return Ok(0..self.group.rows);
        }
        Ok(rows_in(&clocks.get(self.segment, self.group.group.clock)?, range))
    }

    fn decode_values(
        &self,
        cells: &Cells<'_>,
        values: Range<usize>,
        into: &mut Values,
    ) -> Result<()> {
        chunk::decode_rows(cells.chunk, cells.count, values, into)
            .map_err(|bad| self.segment.malformed_group(self.group, bad))
    }
}

/// The rows of a clock that lie in a range.
fn rows_in(times: &[Timestamp], range: &TimeRange) -> Range<usize> {
    let is_whole = times.first().is_some_and(|first| range.start <= *first)
        && times.last().is_some_and(|last| *last <= range.end);
    if is_whole {
        return 0..times.len();
    }
    let start = times.partition_point(|at| *at < range.start);
    let end = times.partition_point(|at| *at <= range.end);
    start..end.max(start)
}

/// The places of the values of some rows among the values of a column.
fn values_in(cells: &Cells<'_>, rows: &Range<usize>) -> Range<usize> {
    let Some(present) = &cells.present else { return rows.clone() };
    let (mut start, mut end) = (0_usize, 0_usize);
    for run in present.runs() {
        let before = |row: usize| row.clamp(run.start, run.end).saturating_sub(run.start);
        start = start.saturating_add(before(rows.start));
        end = end.saturating_add(before(rows.end));
    }
    start..end
}
