//! [`GroupReader`]: one row group of a set, of which several columns are read.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::borrow::Cow;

use heapster_core::storage::Values;
use heapster_core::{Text, TimeRange};

use crate::chunk;
use crate::error::Result;
use crate::segment::lists::ColumnRef;
use crate::segment::reader::{RowGroup, Segment, body_of};
use crate::segment::row_group;

/// A row group whose checksum was right.
#[derive(Debug)]
pub(crate) struct GroupReader<'a> {
    segment: &'a Segment,
    group: RowGroup,
    bytes: Cow<'a, [u8]>,
    columns: &'a [ColumnRef],
    /// Time of each row, milliseconds since the epoch.
    pub times: Vec<i64>,
}

/// The values of a column in a row group.
#[derive(Debug)]
pub(crate) struct Cells {
    /// Runs of rows that have a value, start included, end excluded; `None` when every row has one.
    pub present: Option<Vec<(u32, u32)>>,
    pub values: Values,
}

impl Segment {
    /// The names of the segment's columns and their ranks, sorted by name.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn ranked_columns(&self) -> Result<Vec<(u32, Text)>> {
        self.index()?.metrics()
    }

    /// The `index`-th row group of a set; `None` when it lies outside a range.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when the index or the row group is damaged, [`crate::Error::Io`],
    /// [`crate::Error::UnsupportedVersion`].
    pub(crate) fn row_group(
        &self,
        set: u32,
        index: usize,
        range: &TimeRange,
    ) -> Result<Option<GroupReader<'_>>> {
        let Some(group) = self.row_groups(set)?.get(index).copied() else { return Ok(None) };
        if !group.range().overlaps(range) {
            return Ok(None);
        }
        let columns = &self.column_list(group.columns())?.refs;
        let bytes = self.group_bytes(&group, true)?;
        let mut times = Vec::new();
        self.decode_clock(group.group.clock, &mut times)?;
        Ok(Some(GroupReader { segment: self, group, bytes, columns, times }))
    }
}

impl GroupReader<'_> {
    /// Decodes the column whose name has that rank; `None` when there is no such column.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] when the row group is damaged,
    /// [`crate::Error::UnsupportedVersion`].
    pub(crate) fn read(&self, rank: u32) -> Result<Option<Cells>> {
        let Ok(index) = self.columns.binary_search_by_key(&rank, |column| column.name) else {
            return Ok(None);
        };
        let bad = |malformed| self.segment.malformed_group(&self.group, malformed);
        let body = body_of(&self.bytes);
        let cells = row_group::cells(body, self.times.len(), self.columns.len(), index);
        let cells = cells.map_err(bad)?;
        let mut values = Values::default();
        chunk::decode(cells.chunk, cells.count, &mut values).map_err(bad)?;
        let present = cells
            .present
            .map(|present| present.runs().map(|run| (run.start as u32, run.end as u32)).collect());
        Ok(Some(Cells { present, values }))
    }
}
