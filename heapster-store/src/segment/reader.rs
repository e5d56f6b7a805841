//! [`Segment`]: an open segment.

use std::path::Path;

use heapster_core::storage::{Column, Run, Samples, Selector};
use heapster_core::{Labels, Text, TimeRange};

use crate::error::Result;
use crate::rows::SetRows;
use crate::segment::SegmentInfo;
use crate::vfs::Vfs;

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    info: SegmentInfo,
}

/// One chunk of a column, as [`Segment::runs`] found it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentRun {
    /// The samples' bounds. The summary is there only when the whole chunk lies in the range.
    pub run: Run,
}

impl Segment {
    /// Opens a segment and checks its length, footer and index sections.
    pub fn open(vfs: &dyn Vfs, path: &Path, expected: &SegmentInfo) -> Result<Self> {
        let _ = (vfs, path);
        Ok(Self { info: expected.clone() })
    }

    pub fn info(&self) -> &SegmentInfo {
        &self.info
    }

    pub fn path(&self) -> &Path {
        unimplemented!()
    }

    /// Numbers of the sets that satisfy the selector, ascending, which is the order of labels.
    pub fn select(&self, selector: &Selector) -> Result<Vec<u32>> {
        let _ = selector;
        unimplemented!()
    }

    pub fn labels(&self, set: u32) -> Result<Labels> {
        let _ = set;
        unimplemented!()
    }

    pub fn columns(&self, set: u32) -> Result<Vec<Column>> {
        let _ = set;
        unimplemented!()
    }

    pub fn column_names(&self, selector: &Selector) -> Result<Vec<Text>> {
        let _ = selector;
        unimplemented!()
    }

    pub fn label_names(&self, selector: &Selector) -> Result<Vec<Text>> {
        let _ = selector;
        unimplemented!()
    }

    pub fn label_values(&self, label: &str, selector: &Selector) -> Result<Vec<Text>> {
        let _ = (label, selector);
        unimplemented!()
    }

    /// The chunks of one column that overlap the range, in time order.
    pub fn runs(&self, set: u32, column: &str, range: TimeRange) -> Result<Vec<SegmentRun>> {
        let _ = (set, column, range);
        unimplemented!()
    }

    /// Decodes a run, clipped to the range; replaces what `into` holds.
    pub fn decode(&self, run: &SegmentRun, range: TimeRange, into: &mut Samples) -> Result<()> {
        let _ = (run, range, into);
        unimplemented!()
    }

    /// The whole row groups of a set, in time order.
    pub fn rows(&self, set: u32) -> Result<Vec<SetRows>> {
        let _ = set;
        unimplemented!()
    }

    /// Checks every checksum and decodes every chunk.
    pub fn verify(&self) -> Result<()> {
        unimplemented!()
    }
}
