//! The merge itself: set by set in the order of labels, of each set row group by row group.
//!
//! At no time more than the rows of one set are in memory, and of these only what overlaps in time
//! and one row group.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use heapster_core::{Labels, TimeRange};

use crate::error::{Error, Result, with_causes};
use crate::flush::DAY;
use crate::quarantine::Losses;
use crate::rows::SetRows;
use crate::segment::{Hidden, RowGroup, Segment, SegmentWriter};
use crate::tombstone::Tombstone;

/// Most rows of a row group that a merge writes: large enough to compress well, small enough that a
/// short query does not read much.
pub(crate) const ROWS_MAX: usize = 2_048;

/// One of the segments that are merged.
#[derive(Debug)]
pub(crate) struct Input {
    pub segment: Arc<Segment>,
    /// What is deleted of it.
    deleted: Vec<Hidden>,
    /// The first row group that is damaged.
    pub damage: Option<String>,
}

/// What a merge did to the samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Samples that are read.
    pub read: u64,
    /// Samples that are written.
    pub written: u64,
    /// Samples left out because they were deleted.
    pub deleted: u64,
    /// Samples left out because a later segment has one for the same moment.
    pub replaced: u64,
}

impl Input {
    pub fn new(segment: Arc<Segment>, tombstones: &[Tombstone]) -> Result<Self> {
        let deleted = tombstones.iter().filter_map(|one| segment.hidden_by(one).transpose());
        let deleted = deleted.collect::<Result<_>>()?;
        Ok(Self { segment, deleted, damage: None })
    }

    /// Copies a row group as it is, unless it is damaged. Whoever calls it has seen that nothing of it
    /// is deleted.
    fn copy(
        &mut self,
        labels: &Labels,
        group: &RowGroup,
        writer: &mut SegmentWriter<'_>,
        tally: &mut Tally,
        losses: &Losses,
    ) -> Result<()> {
        match self.segment.encoded(group) {
            Ok(encoded) => {
                tally.read += encoded.samples;
                tally.written += encoded.samples;
                writer.push_encoded(labels, &encoded)
            }
            Err(error) => self.note_damage(group, error, losses),
        }
    }

    /// Remembers damage; other errors are handed on.
    fn note_damage(&mut self, group: &RowGroup, error: Error, losses: &Losses) -> Result<()> {
        losses.note(&self.segment, group, &error);
        if !error.is_corruption() {
            return Err(error);
        }
        self.damage.get_or_insert_with(|| with_causes(&error));
        Ok(())
    }

    /// The ranges of a row group whose rows are deleted.
    fn deleted_of(&self, group: &RowGroup) -> Vec<TimeRange> {
        let touching = self.deleted.iter().filter(|hidden| hidden.touches(group));
        touching.map(|hidden| hidden.range).collect()
    }

    /// Rows of a row group that are not deleted; `None` when there are none or they are damaged.
    fn rows(
        &mut self,
        labels: &Labels,
        group: &RowGroup,
        tally: &mut Tally,
        losses: &Losses,
    ) -> Result<Option<SetRows>> {
        let rows = match self.segment.rows(labels, group) {
            Ok(rows) => rows,
            Err(error) => return self.note_damage(group, error, losses).map(|()| None),
        };
        let read = rows.samples();
        tally.read += read;
        let left = rows.without(&self.deleted_of(group));
        tally.deleted += read - left.as_ref().map_or(0, SetRows::samples);
        Ok(left)
    }
}

/// The next set of each input: labels, rank and number. The smallest labels come first, then the
/// smallest rank.
type Queue = BinaryHeap<Reverse<(Labels, usize, u32)>>;

/// Merges segments, given in the order of their numbers; `None` when `is_stopped` said so.
pub(crate) fn merge(
    inputs: &mut [Input],
    writer: &mut SegmentWriter<'_>,
    losses: &Losses,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Option<Tally>> {
    let mut tally = Tally::default();
    let mut next = Queue::new();
    for rank in 0..inputs.len() {
        push_set(&mut next, inputs, rank, 0, None)?;
    }
    while let Some(Reverse((labels, rank, set))) = next.pop() {
        if is_stopped() {
            return Ok(None);
        }
        let mut parts = vec![(rank, set)];
        push_set(&mut next, inputs, rank, set + 1, Some(&labels))?;
        while let Some(Reverse((_, rank, set))) =
            next.peek().filter(|Reverse((other, ..))| *other == labels).cloned()
        {
            next.pop();
            parts.push((rank, set));
            push_set(&mut next, inputs, rank, set + 1, Some(&labels))?;
        }
        merge_set(&labels, &parts, inputs, writer, losses, &mut tally)?;
    }
    let kept = tally.written + tally.deleted + tally.replaced;
    assert_eq!(tally.read, kept, "bug: a merge loses samples (invariant P2)");
    Ok(Some(tally))
}

/// Queues a set of an input, if there is one of that number; `before` are the labels of the one before.
fn push_set(
    next: &mut Queue,
    inputs: &[Input],
    rank: usize,
    set: u32,
    before: Option<&Labels>,
) -> Result<()> {
    let segment = &inputs[rank].segment;
    if set < segment.sets() {
        let labels = segment.labels(set)?;
        if before >= Some(&labels) {
            return Err(Error::corrupt(segment.path(), 0, "the sets are not sorted by labels"));
        }
        next.push(Reverse((labels, rank, set)));
    }
    Ok(())
}

/// Merges the row groups of one set; `parts` are the inputs that have it, by rank, and its number
/// there.
fn merge_set(
    labels: &Labels,
    parts: &[(usize, u32)],
    inputs: &mut [Input],
    writer: &mut SegmentWriter<'_>,
    losses: &Losses,
    tally: &mut Tally,
) -> Result<()> {
    let mut groups: Vec<(usize, RowGroup)> = Vec::new();
    for (rank, set) in parts {
        let of_part = inputs[*rank].segment.row_groups(*set)?;
        groups.extend(of_part.into_iter().map(|group| (*rank, group)));
    }
    groups.sort_by_key(|(rank, group)| (group.first, *rank));
    let mut pending = Pending { step: step_of(&groups), rows: None };
    let mut groups = groups.into_iter().peekable();
    while let Some(first) = groups.next() {
        let mut last = first.1.last;
        let mut together = vec![first];
        while let Some(next) = groups.next_if(|(_, group)| group.first <= last) {
            last = last.max(next.1.last);
            together.push(next);
        }
        let until = groups.peek().map_or(i64::MAX, |(_, group)| group.first);
        if let [(rank, group)] = &*together
            && pending.is_group_of_its_own(group, until)
            && inputs[*rank].segment.info().is_cold == writer.is_cold()
            && inputs[*rank].deleted_of(group).is_empty()
        {
            inputs[*rank].copy(labels, group, writer, tally, losses)?;
            continue;
        }
        together.sort_by_key(|(rank, _)| *rank);
        let mut all = Vec::with_capacity(together.len());
        for (rank, group) in &together {
            all.extend(inputs[*rank].rows(labels, group, tally, losses)?);
        }
        let before: u64 = all.iter().map(SetRows::samples).sum();
        let Some(merged) = SetRows::merge(all) else { continue };
        tally.replaced += before - merged.samples();
        pending.add(merged);
        pending.write(until, writer, tally)?;
    }
    pending.write(i64::MAX, writer, tally)
}

/// Rows that are not written yet, because more may come that belong to the same row group.
///
/// Row groups are cut at multiples of a step of time rather than at numbers of rows, so that sets
/// that are scraped together go on sharing a clock when one of them misses a row.
struct Pending {
    step: i64,
    rows: Option<SetRows>,
}

impl Pending {
    /// Whether a row group would be written as it is, when the next one begins at `until`.
    fn is_group_of_its_own(&self, group: &RowGroup, until: i64) -> bool {
        let end = self.end_of_step(group.first);
        self.rows.is_none() && group.last < end && end <= until && group.rows <= ROWS_MAX
    }

    fn end_of_step(&self, at: i64) -> i64 {
        at.div_euclid(self.step).saturating_add(1).saturating_mul(self.step)
    }

    fn add(&mut self, later: SetRows) {
        match &mut self.rows {
            Some(rows) => rows.append(later),
            None => self.rows = Some(later),
        }
    }

    /// Writes the row groups to which no row comes any more if the next one is not before `until`.
    fn write(
        &mut self,
        until: i64,
        writer: &mut SegmentWriter<'_>,
        tally: &mut Tally,
    ) -> Result<()> {
        let Some(rows) = &self.rows else { return Ok(()) };
        let all = &rows.timestamps;
        let mut start = 0;
        while let Some(first) = all.get(start) {
            let end = self.end_of_step(*first);
            let in_step = all.iter().skip(start).take(ROWS_MAX).take_while(|at| **at < end).count();
            if until < end && in_step < ROWS_MAX {
                break;
            }
            let group = start..start + in_step;
            start = group.end;
            if group.len() == all.len() {
                push(rows, writer, tally)?;
            } else {
                push(&rows.slice(group), writer, tally)?;
            }
        }
        if start > 0 {
            let left = start..all.len();
            self.rows = (!left.is_empty()).then(|| rows.slice(left));
        }
        Ok(())
    }
}

fn push(rows: &SetRows, writer: &mut SegmentWriter<'_>, tally: &mut Tally) -> Result<()> {
    tally.written += rows.samples();
    if rows.columns.is_empty() { Ok(()) } else { writer.push(rows) }
}

/// The longest half, quarter … of a day in which a set has at most [`ROWS_MAX`] rows at the rate it
/// has here.
fn step_of(groups: &[(usize, RowGroup)]) -> i64 {
    let rows: usize = groups.iter().map(|(_, group)| group.rows).sum();
    let first = groups.iter().map(|(_, group)| group.first).min().unwrap_or(0);
    let last = groups.iter().map(|(_, group)| group.last).max().unwrap_or(0);
    let (intervals, span) = (rows.saturating_sub(1) as i128, i128::from(last) - i128::from(first));
    let mut step = DAY;
    while step % 2 == 0 && intervals * i128::from(step) > ROWS_MAX as i128 * span.max(1) {
        step /= 2;
    }
    step
}
