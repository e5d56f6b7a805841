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
use crate::segment::format::Section;
use crate::segment::lists::ColumnRef;
use crate::segment::reader::{Segment, body_of};
use crate::segment::row_group;
use crate::segment::sets::GroupRef;

/// A row group whose checksum was right.
#[derive(Debug)]
pub(crate) struct GroupReader<'a> {
    segment: &'a Segment,
    group: GroupRef,
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
        self.metric_ranks()?.into_iter().map(|rank| Ok((rank, self.text(rank)?))).collect()
    }

    /// How many row groups a set has.
    ///
    /// # Errors
    /// As [`Segment::columns`].
    pub(crate) fn group_count(&self, set: u32) -> Result<usize> {
        Ok(self.groups(set)?.len())
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
        let Some(group) = self.groups(set)?.get(index).copied() else { return Ok(None) };
        if !self.overlaps(group.clock, range)? {
            return Ok(None);
        }
        let columns = self.column_refs(group.columns)?;
        let bytes = self.group_bytes(set, index, &group)?;
        let mut times = Vec::new();
        self.clocks()?
            .decode(group.clock, &mut times)
            .map_err(|malformed| self.malformed(Section::Clocks, malformed))?;
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
        Ok(Some(Cells { present: cells.present, values }))
    }
}
