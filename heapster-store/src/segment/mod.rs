//! Segments: immutable files that hold the rows of many sets for one stretch of time of one tier.

mod census;
mod clock_cache;
mod clocks;
mod format;
mod index;
mod label_reader;
mod lists;
mod postings;
mod read;
mod reader;
mod reseal;
mod row_group;
mod rows;
mod select;
mod sets;
mod source;
mod symbols;
mod table;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use census::{CodecCensus, TierCensus};
pub(crate) use clock_cache::ClockCache;
pub(crate) use label_reader::LabelReader;
pub(crate) use read::GroupColumn;
pub(crate) use reader::{EncodedGroup, RowGroup, Segment};
pub(crate) use reseal::{fold, reseal_groups, unfold};
pub(crate) use rows::GroupReader;
pub(crate) use select::{Found, Hidden};
pub(crate) use writer::SegmentWriter;

/// What the manifest remembers of a segment: enough to refuse a wrong or stale file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    /// Number of the segment, unique in the store's life; part of every checksum in the file.
    pub id: u64,
    /// The tier it belongs to; 0 holds raw samples.
    pub tier: u8,
    /// Whether its chunks are encoded for size rather than for speed.
    pub is_cold: bool,
    /// Length of the file in bytes.
    pub len: u64,
    /// Checksum of the footer, which holds the checksums of all sections.
    pub crc: u32,
    /// Time of the oldest row, milliseconds since the epoch.
    pub first: i64,
    /// Time of the newest row, milliseconds since the epoch.
    pub last: i64,
    /// Number of sets.
    pub sets: u64,
    /// Number of samples.
    pub samples: u64,
}
