//! Deletion: a [`Tombstone`] hides what was deleted until compaction has left it out.

use std::sync::Arc;

use heapster_core::storage::{Columns, Selector};
use heapster_core::{Matcher, TimeRange};

use crate::compaction::hides_any;
use crate::error::{Error, Result};
use crate::maintenance::Upkeep;
use crate::planted::{self, Bug};
use crate::recovery::range_of;
use crate::segment::Segment;
use crate::stats::DeleteReport;
use crate::store::Store;

/// Deletions that may wait for compaction at the same time: readers look at each of them.
const TOMBSTONES_MAX: usize = 1_000;

/// Hides samples of older segments until compaction has left them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// Only segments with a lower number have rows that it hides; later ones were written after it.
    pub segments_below: u64,
    /// The sets it is about: those that satisfy all of these.
    pub matchers: Vec<Matcher>,
    /// The range of time it is about, both ends included.
    pub range: TimeRange,
}

impl Store {
    /// Deletes the samples of a range of time, both ends included, of all sets that satisfy every
    /// matcher: all columns of them. What was appended before the call is deleted, also when it is
    /// in memory yet; what is appended while it runs or afterwards is not.
    ///
    /// When this returns, the deletion survives a power cut and new snapshots do not show the
    /// samples. The bytes leave the disk with the next merges, see [`Store::compact`]. Aggregates
    /// are built again from what is left.
    ///
    /// # Errors
    /// [`Error::NoMatchers`] for no matchers, because that would be everything; who wants that says
    /// so with one that every set satisfies, such as `type=~".*"`. [`Error::TooLarge`] when 1,000
    /// deletions wait for compaction. [`Error::DiskFull`], [`Error::Io`], [`Error::Corrupt`]:
    /// nothing was deleted. [`Error::Poisoned`]: reopen the store and look.
    ///
    /// # Cost
    /// A flush when samples in memory are concerned; otherwise a look at the index of each segment
    /// and a new manifest.
    pub fn delete(&self, matchers: &[Matcher], range: TimeRange) -> Result<DeleteReport> {
        if matchers.is_empty() {
            return Err(Error::NoMatchers);
        }
        self.check_poison()?;
        if range.is_empty() {
            return Ok(DeleteReport::default());
        }
        let deleted = self.delete_with(&mut self.upkeep.lock(), matchers, range);
        deleted.inspect_err(|error| self.note(error))
    }

    fn delete_with(
        &self,
        upkeep: &mut Upkeep,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<DeleteReport> {
        let selector = Selector { matchers: matchers.to_vec(), columns: Columns::All, range };
        let has_any =
            |head: &Arc<_>| !crate::head::Head::select(head, &selector, u64::MAX).is_empty();
        let skips_head = planted::has(Bug::DeletionSkipsHead);
        if !skips_head && self.current_view().heads.iter().any(has_any) {
            self.flush_heads(upkeep)?;
        }
        let segments_below = upkeep.manifest.next_segment;
        let tombstone = Tombstone { segments_below, matchers: selector.matchers, range };
        let view = self.current_view();
        let mut report = DeleteReport::default();
        let mut manifest = upkeep.manifest.clone();
        for segment in view.segments.iter().chain(&view.rollups) {
            if hides_any(std::slice::from_ref(&tombstone), segment, &view.tiers)? {
                report.segments += 1;
                match view.tiers.iter().find(|state| state.tier == segment.info().tier) {
                    Some(tier) => manifest.mark_stale(overlap(tier.starts_in(range), segment)),
                    None => manifest.mark_stale(overlap(range, segment)),
                }
            }
        }
        if report.segments == 0 {
            return Ok(report);
        }
        // One of the same sets and times is about more segments now, and nothing else.
        manifest.tombstones.retain(|old| {
            let of = |tombstone: &Tombstone| (tombstone.matchers.clone(), tombstone.range);
            of(old) != of(&tombstone)
        });
        if manifest.tombstones.len() >= TOMBSTONES_MAX {
            let (path, what) = (self.paths.manifest(), "deletions that wait for compaction");
            return Err(Error::TooLarge { path, what, max: TOMBSTONES_MAX as u64 });
        }
        manifest.tombstones.push(tombstone);
        self.publish(upkeep, manifest, Vec::new())?;
        Ok(report)
    }
}

/// The part of a range that a segment has.
fn overlap(range: TimeRange, segment: &Segment) -> TimeRange {
    let of_segment = range_of(segment.info());
    TimeRange::new(range.start.max(of_segment.start), range.end.min(of_segment.end))
}
