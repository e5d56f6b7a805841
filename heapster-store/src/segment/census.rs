//! [`TierCensus`]: what the segments of a tier hold and in which encodings.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeMap;
use std::time::Duration;

use heapster_core::{TimeRange, Timestamp};

use crate::chunk;
use crate::error::Result;
use crate::segment::Segment;

/// What the segments of one tier hold. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierCensus {
    /// Number of the tier; 0 holds raw samples.
    pub tier: u8,
    /// Length of a bucket; `None` of raw samples.
    pub resolution: Option<Duration>,
    /// Segments.
    pub segments: u64,
    /// Those of the segments that are encoded for size rather than for speed.
    pub cold_segments: u64,
    /// Length of the segments.
    pub bytes: u64,
    /// Values of the segments; one that was sent again after a flush counts twice.
    pub values: u64,
    /// Times of the oldest and the newest row; `None` without segments.
    pub range: Option<TimeRange>,
    /// The encodings in use, by name.
    pub codecs: Vec<CodecCensus>,
    /// Row groups that are damaged and count only in `bytes` and `values`.
    pub damaged_groups: u64,
}

/// What one encoding holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodecCensus {
    /// The encoding, as docs/format/chunk.md calls it.
    pub codec: &'static str,
    /// Chunks.
    pub chunks: u64,
    /// Values of these chunks.
    pub values: u64,
    /// Length of these chunks.
    pub bytes: u64,
}

impl TierCensus {
    pub(crate) fn new(tier: u8, resolution: Option<Duration>) -> Self {
        Self { tier, resolution, ..Self::default() }
    }

    /// Adds a segment of the tier.
    ///
    /// # Errors
    /// Its index breaks a rule of the format.
    pub(crate) fn add(&mut self, segment: &Segment) -> Result<()> {
        let info = segment.info();
        self.segments = self.segments.saturating_add(1);
        self.cold_segments = self.cold_segments.saturating_add(u64::from(info.is_cold));
        self.bytes = self.bytes.saturating_add(info.len);
        self.values = self.values.saturating_add(info.samples);
        let (first, last) = (Timestamp::from_millis(info.first), Timestamp::from_millis(info.last));
        self.range = Some(match self.range {
            None => TimeRange::new(first, last),
            Some(range) => TimeRange::new(range.start.min(first), range.end.max(last)),
        });
        let mut codecs: BTreeMap<&'static str, CodecCensus> =
            self.codecs.drain(..).map(|codec| (codec.codec, codec)).collect();
        for set in 0..segment.sets() {
            for group in segment.row_groups(set)? {
                let counted = segment.visit_chunks(&group, |bytes, count| {
                    let codec = chunk::codec_name(bytes)?;
                    let census = codecs.entry(codec).or_default();
                    census.codec = codec;
                    census.chunks = census.chunks.saturating_add(1);
                    census.values = census.values.saturating_add(count as u64);
                    census.bytes = census.bytes.saturating_add(bytes.len() as u64);
                    Ok(())
                });
                let is_damaged = u64::from(counted.is_err());
                self.damaged_groups = self.damaged_groups.saturating_add(is_damaged);
            }
        }
        self.codecs = codecs.into_values().collect();
        Ok(())
    }
}
