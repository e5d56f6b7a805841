//! [`Stats`], and the reports of the store's verbs: plain numbers for people and for metrics.

use std::sync::atomic::Ordering;
use std::time::Duration;

use heapster_core::{TimeRange, Timestamp};

use crate::error::with_causes;
use crate::head::Head;
use crate::options::RejectedCounts;
use crate::quarantine::QuarantinedGroup;
use crate::recovery::range_of;
use crate::segment::Segment;
use crate::snapshot::View;
use crate::tier::TierState;

/// Where a store stands. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Label sets in memory. A set that was flushed and still gets rows counts once.
    pub head_sets: u64,
    /// Columns of those sets: the active series.
    pub head_columns: u64,
    /// Samples in memory.
    pub head_samples: u64,
    /// Memory of the head, roughly.
    pub head_bytes: u64,
    /// Generations in memory: the one that takes rows and those that wait for a flush.
    pub head_generations: u64,
    /// Length of the log files that a restart would replay.
    pub wal_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Length of all segments.
    pub segment_bytes: u64,
    /// Samples in segments; one that was sent again after a flush counts twice.
    pub segment_samples: u64,
    /// Samples taken since the store was opened.
    pub appended_samples: u64,
    /// Samples left out because the head had them.
    pub duplicate_samples: u64,
    /// Samples taken that replace another value of the head.
    pub replaced_samples: u64,
    /// Samples refused, by reason.
    pub rejected_samples: RejectedCounts,
    /// Batches written to the log.
    pub batches: u64,
    /// Successful syncs of the log.
    pub syncs: u64,
    /// Segments written since the store was opened.
    pub flushes: u64,
    /// Segments deleted because of their age or for want of room in the budget.
    pub expired_segments: u64,
    /// Merges of segments.
    pub compactions: u64,
    /// Segments that went into these merges.
    pub compacted_segments: u64,
    /// Length of these segments.
    pub compacted_bytes_in: u64,
    /// Length of what the merges wrote.
    pub compacted_bytes_out: u64,
    /// Samples that merges left out because they were deleted.
    pub deleted_samples: u64,
    /// Samples that imports wrote.
    pub imported_samples: u64,
    /// Deletions that some segment still has samples of. Readers do not see these.
    pub tombstones: u64,
    /// Files that were found damaged or missing, when the store was opened or since.
    pub quarantined_files: u64,
    /// Row groups of segments that could not be read. Answers are without them; the rest is served.
    pub quarantined_row_groups: u64,
    /// Samples that these have at most.
    pub quarantined_samples_max: u64,
    /// The newest of these row groups, at most a hundred, in the order in which they were met.
    pub quarantine: Vec<QuarantinedGroup>,
    /// Segments whose index is damaged and that are served out of its other copy.
    pub damaged_indexes: u64,
    /// The tiers, from the finest to the coarsest.
    pub tiers: Vec<TierStats>,
    /// Whether deletions wait because the clock misbehaved (decision 0009).
    pub is_clock_suspect: bool,
    /// The operation whose failure made the store read-only.
    pub poisoned_by: Option<&'static str>,
    /// The last error of an append or of maintenance, printed with its causes.
    pub last_error: Option<String>,
}

impl Stats {
    /// What a view has in memory and in segments.
    pub(crate) fn of(view: &View) -> Self {
        let sum = |of: fn(&Head) -> u64| view.heads.iter().map(|head| of(head)).sum();
        let infos = || view.segments.iter().map(|segment| segment.info());
        let all = view.segments.iter().chain(&view.rollups);
        let quarantine = view.quarantine.summary();
        Self {
            quarantined_row_groups: quarantine.groups,
            quarantined_samples_max: quarantine.samples_max,
            quarantine: quarantine.newest,
            damaged_indexes: all.filter(|segment| !segment.index_faults().is_empty()).count()
                as u64,
            head_sets: sum(|head| head.sets.load(Ordering::Relaxed) as u64),
            head_columns: sum(|head| head.columns.load(Ordering::Relaxed) as u64),
            head_samples: sum(|head| head.samples.load(Ordering::Relaxed)),
            head_bytes: sum(|head| head.bytes.load(Ordering::Relaxed) as u64),
            head_generations: view.heads.len() as u64,
            wal_bytes: sum(|head| head.wal_bytes.load(Ordering::Relaxed)),
            segments: view.segments.len() as u64,
            segment_bytes: infos().map(|info| info.len).sum(),
            segment_samples: infos().map(|info| info.samples).sum(),
            tiers: TierStats::of(view),
            ..Self::default()
        }
    }
}

/// What an append did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "samples may have been refused"]
pub struct AppendReport {
    /// Samples that are now in the store.
    pub accepted: u64,
    /// Samples that the store had with the same value. Counted for what is in memory; beyond that
    /// the sample is accepted and merged when read.
    pub duplicate: u64,
    /// Those of the accepted that replaced another value of the same moment.
    pub replaced: u64,
    /// Samples refused, by reason.
    pub rejected: RejectedCounts,
}

impl AppendReport {
    /// Adds what another append did.
    pub fn add_all(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.duplicate += other.duplicate;
        self.replaced += other.replaced;
        self.rejected.add_all(&other.rejected);
    }
}

/// What one step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaintenanceReport {
    /// Whether the head became a segment.
    pub flushed: bool,
    /// Segments deleted because of their age or for want of room in the budget.
    pub expired_segments: usize,
}

/// What one unit of background work did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// Segments that were merged into one, or into none when all their samples were deleted.
    pub merged_segments: usize,
    /// Length of these segments in bytes.
    pub bytes_in: u64,
    /// Length of what was written in bytes.
    pub bytes_out: u64,
    /// Samples that were read.
    pub samples_in: u64,
    /// Samples that were written: the others were deleted, or there twice.
    pub samples_out: u64,
    /// Samples that were deleted.
    pub deleted_samples: u64,
    /// Merged segments of which something was damaged and is lost. The files are kept in
    /// `quarantine/`.
    pub damaged_segments: usize,
    /// Deletions that are complete now.
    pub tombstones_done: usize,
    /// Whether a merge is due for which the disk has not enough room: its inputs' length and 64 MiB.
    pub lacks_room: bool,
}

impl CompactReport {
    /// Whether nothing was done, because nothing is due or possible now.
    pub fn is_idle(&self) -> bool {
        self.merged_segments == 0 && self.tombstones_done == 0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.merged_segments += other.merged_segments;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.samples_in += other.samples_in;
        self.samples_out += other.samples_out;
        self.deleted_samples += other.deleted_samples;
        self.damaged_segments += other.damaged_segments;
        self.tombstones_done += other.tombstones_done;
        self.lacks_room |= other.lacks_room;
    }
}

/// What a refresh of a [`crate::StoreReader`] brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefreshReport {
    /// Batches that are newly shown out of logs. One that came to a segment before the reader saw
    /// it in a log is not counted here.
    pub batches: u64,
    /// Samples of those batches.
    pub samples: u64,
    /// Segments that are newly shown.
    pub segments_added: usize,
    /// Segments that are not part of the store any more.
    pub segments_removed: usize,
}

impl RefreshReport {
    /// Whether a snapshot may show something else than one of before.
    pub fn has_news(&self) -> bool {
        *self != Self::default()
    }
}

/// What one unit of building tiers did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RollUpReport {
    /// Resolution of the tier that was built; `None` when nothing was done.
    pub resolution: Option<Duration>,
    /// The range of time whose samples were read.
    pub range: Option<TimeRange>,
    /// Label sets of the segment that was written.
    pub sets: u64,
    /// Buckets of its columns, also those that it had before.
    pub buckets: u64,
    /// Its length in bytes.
    pub bytes_out: u64,
    /// Damaged runs of samples that were left out. They are still where they were.
    pub damaged_runs: u64,
    /// Damaged runs of older buckets that were left out. Their file is kept in `quarantine/`.
    pub damaged_buckets: u64,
    /// Columns that were left out because their set has more than 4,681.
    pub skipped_columns: u64,
    /// The first damage.
    pub damage: Option<String>,
}

impl RollUpReport {
    /// Whether nothing was done, because nothing is due or possible now.
    pub fn is_idle(&self) -> bool {
        self.resolution.is_none()
    }
}

/// Where a tier stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// Length of a bucket.
    pub resolution: Duration,
    /// Segments.
    pub segments: u64,
    /// Length of all segments.
    pub bytes: u64,
    /// Stored aggregates: one for each aggregate of each bucket of each column.
    pub samples: u64,
    /// Buckets that end at or before this moment are built; `None` when none is.
    pub built_to: Option<Timestamp>,
    /// Ranges that have to be built again, because samples came late or were deleted.
    pub stale_ranges: u64,
}

impl TierStats {
    fn of(view: &View) -> Vec<Self> {
        let of = |state: &TierState| {
            let infos = || view.rollups_of(state).map(|segment| segment.info());
            Self {
                resolution: state.resolution,
                segments: infos().count() as u64,
                bytes: infos().map(|info| info.len).sum(),
                samples: infos().map(|info| info.samples).sum(),
                built_to: Some(state.built_to).filter(|to| *to > Timestamp::MIN),
                stale_ranges: state.stale.len() as u64,
            }
        };
        let mut tiers: Vec<Self> = view.tiers.iter().map(of).collect();
        tiers.sort_by_key(|tier| tier.resolution);
        tiers
    }
}

/// What a deletion found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteReport {
    /// Segments with sets and times that are concerned; with none there was nothing to delete.
    pub segments: usize,
}

/// What an import did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Samples that were taken. The next two are found when a part is complete, and not counted here
    /// any more.
    pub accepted: u64,
    /// Samples that the part had with the same value. Samples that an earlier part or the store has
    /// are accepted, and merged when read.
    pub duplicate: u64,
    /// Samples in whose place the part has a later one with another value.
    pub replaced: u64,
    /// Samples refused, by reason.
    pub rejected: RejectedCounts,
    /// Parts that were written: each became visible and durable as a whole.
    pub parts: u64,
    /// Segments that were written.
    pub segments: u64,
    /// Samples that were written.
    pub written: u64,
}

/// What was found when the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenReport {
    /// Whether there was no store before.
    pub is_new: bool,
    /// Batches read back from the log.
    pub replayed_batches: u64,
    /// Samples read back from the log.
    pub replayed_samples: u64,
    /// Bytes behind the last whole record of a log file: batches that were being written when the
    /// process died. Not an error.
    pub torn_bytes: u64,
    /// Bytes of the log that are damaged. What was in them is lost.
    pub damaged_bytes: u64,
    /// Rows behind a damaged record that depended on it and are lost with it.
    pub lost_rows: u64,
    /// Batches that are missing between the end of one log file and the beginning of the next: a
    /// file ends before its time.
    pub missing_batches: u64,
    /// Files that were damaged or missing. The rest of the store is served.
    pub quarantined: Vec<Quarantined>,
    /// Segments that the system did not let us read. They stay where they are and are tried again
    /// by the next open; the rest of the store is served.
    pub unavailable: Vec<Quarantined>,
    /// Segments whose index is damaged. Nothing of them is lost: the other copy is used.
    pub damaged_indexes: Vec<DamagedIndex>,
}

impl OpenReport {
    /// Whether everything that was acknowledged is there.
    pub fn is_complete(&self) -> bool {
        let is_log_whole = self.damaged_bytes == 0 && self.lost_rows == 0;
        let is_log_whole = is_log_whole && self.missing_batches == 0;
        is_log_whole && self.quarantined.is_empty() && self.unavailable.is_empty()
    }
}

/// A segment whose index is damaged and of which nothing is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamagedIndex {
    /// Name of the file, which stays where it is until a merge writes the segment anew.
    pub file: String,
    /// The range of time the file covers.
    pub range: TimeRange,
    /// What is wrong with it.
    pub reason: String,
}

impl DamagedIndex {
    /// What a segment that was opened has to tell.
    pub(crate) fn of(segment: &Segment) -> Option<Self> {
        let fault = segment.index_faults().first()?;
        let file = segment.path().file_name().unwrap_or_default().to_string_lossy();
        let reason = format!("its index is damaged and its copy is used: {}", with_causes(fault));
        Some(Self { file: file.into_owned(), range: range_of(segment.info()), reason })
    }
}

/// A file the store does without.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Name of the file; it lies in `quarantine/` unless it is missing or unavailable.
    pub file: String,
    /// The range of time the file covered.
    pub range: Option<TimeRange>,
    /// What is wrong with it.
    pub reason: String,
}
