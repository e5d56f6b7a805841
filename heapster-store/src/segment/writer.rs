//! [`SegmentWriter`]: writes a segment front to back.

use std::path::Path;

use crate::error::Result;
use crate::rows::SetRows;
use crate::segment::SegmentInfo;
use crate::vfs::Vfs;

/// Writes one segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter<'a> {
    _vfs: &'a dyn Vfs,
}

impl<'a> SegmentWriter<'a> {
    /// Creates the file.
    pub fn create(vfs: &'a dyn Vfs, path: &Path, id: u64, tier: u8) -> Result<Self> {
        let _ = (path, id, tier);
        Ok(Self { _vfs: vfs })
    }

    /// Adds rows. Sets come in ascending order of labels; the same labels may follow again with
    /// later times, which makes another row group.
    pub fn push(&mut self, rows: &SetRows) -> Result<()> {
        let _ = rows;
        unimplemented!()
    }

    /// Writes index and footer and syncs the file. The caller renames it and syncs the directory.
    pub fn finish(self) -> Result<SegmentInfo> {
        unimplemented!()
    }
}
