//! Reading by buckets: the pieces of a plan, each from its tier or from raw samples, joined set by
//! set.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use heapster_core::storage::{
    Aggregates, Bucket, BucketCursor, BucketSelection, BucketSelector, BucketSet, BucketSource,
    Column, Columns, Grid, Percentiles, Selector, StorageError, raw_buckets,
};
use heapster_core::{Labels, Text, TimeRange, Timestamp};

use crate::error::Result;
use crate::quarantine::Losses;
use crate::segment::{GroupReader, Segment};
use crate::snapshot::{StoreSnapshot, View};
use crate::tier::TierState;
use crate::tier::columns::{Part, Stored};
use crate::tier::plan::{Level, Piece, Plan, Question, plan};
use crate::tombstone::Tombstone;

/// Answers a question by buckets from tiers and raw samples.
pub(crate) fn select_buckets(
    snapshot: &StoreSnapshot,
    view: &View,
    selector: &BucketSelector,
) -> Result<BucketSelection, StorageError> {
    let Plan { pieces, is_exact } = plan_for(view, selector);
    let grid = Grid::new(selector.range.start, selector.bucket);
    let mut sources = Vec::with_capacity(pieces.len());
    let mut of_pieces: Vec<Vec<Arc<dyn BucketSet>>> = Vec::with_capacity(pieces.len());
    for Piece { span, tier } in &pieces {
        let mut of_piece = BucketSelector { range: span.range(), ..selector.clone() };
        let state = view.tiers.iter().find(|state| Some(state.tier) == *tier);
        let resolution = state.map(|state| state.resolution);
        sources.push(BucketSource { range: of_piece.range, resolution });
        let sets = match state {
            None => raw_buckets(snapshot, &of_piece)?,
            Some(state) => {
                if of_piece.range.start == selector.range.start {
                    // Should the range cut its first bucket, nothing finer is kept.
                    of_piece.range.start = state.bucket_of(of_piece.range.start);
                }
                tier_buckets(snapshot, view, state, &of_piece).map_err(StorageError::new)?
            }
        };
        // Buckets that are those asked for need not be joined.
        if pieces.len() == 1 && state.is_none_or(|s| selector.bucket == Some(s.resolution)) {
            return Ok(BucketSelection { sets, sources, is_exact });
        }
        of_pieces.push(sets);
    }
    let wanted = selector.aggregates;
    let join = |parts: Vec<Arc<dyn BucketSet>>| -> Arc<dyn BucketSet> {
        let labels = parts.first().map_or_else(Labels::new, |part| part.labels().clone());
        // The newest kind counts, so later columns go in front of equal older ones.
        let mut columns: Vec<Column> =
            parts.iter().rev().flat_map(|part| part.columns().iter().cloned()).collect();
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        columns.dedup_by(|later, first| later.name == first.name);
        Arc::new(Joined { labels, columns, parts, grid, wanted })
    };
    let joined = same_labels(of_pieces, |set| set.labels());
    Ok(BucketSelection { sets: joined.into_iter().map(join).collect(), sources, is_exact })
}

/// Puts together what has the same labels. Each list is in the order of labels, each label set once
/// in it; so are the groups, and in a group what comes from an earlier list comes first.
fn same_labels<T>(lists: Vec<Vec<T>>, labels: impl Fn(&T) -> &Labels) -> Vec<Vec<T>> {
    let mut lists: Vec<_> = lists.into_iter().map(|list| list.into_iter().peekable()).collect();
    let mut groups = Vec::new();
    loop {
        // Of equal ones the first list's is the least, so the others are compared with it.
        let mut least: Option<(usize, &Labels)> = None;
        let mut is_least = vec![false; lists.len()];
        for (index, list) in lists.iter_mut().enumerate() {
            let Some(next) = list.peek().map(&labels) else { continue };
            match least.map_or(Ordering::Less, |(_, least)| next.cmp(least)) {
                Ordering::Less => {
                    is_least.fill(false);
                    (least, is_least[index]) = (Some((index, next)), true);
                }
                Ordering::Equal => is_least[index] = true,
                Ordering::Greater => {}
            }
        }
        if least.is_none() {
            return groups;
        }
        let next = lists.iter_mut().zip(is_least).filter(|(_, is_least)| *is_least);
        groups.push(next.filter_map(|(list, _)| list.next()).collect());
    }
}

fn plan_for(view: &View, selector: &BucketSelector) -> Plan {
    let range = selector.range;
    if range.is_empty() {
        return Plan { pieces: Vec::new(), is_exact: true };
    }
    let wanted = selector.aggregates;
    let bucket = selector.bucket.map(|size| i64::try_from(size.as_millis()).unwrap_or(i64::MAX));
    let bucket = bucket.filter(|size| *size > 0);
    // What came late and is not flushed yet is in no bucket.
    let in_memory: Vec<TimeRange> = view.heads.iter().filter_map(|head| head.bounds()).collect();
    let level = |state| -> Option<Level> {
        let first = view.rollups_of(state).map(|segment| segment.info().first).min()?;
        Some(Level::new(state, first, &in_memory, wanted))
    };
    let mut levels: Vec<Level> = view.tiers.iter().filter_map(level).collect();
    levels.sort_by_key(|level| std::cmp::Reverse(level.resolution));
    plan(&Question { range, bucket, wanted, raw_from: view.raw_from }, &levels)
}

/// The sets of a tier with its own buckets that start in a range.
fn tier_buckets(
    snapshot: &StoreSnapshot,
    view: &View,
    state: &TierState,
    selector: &BucketSelector,
) -> Result<Vec<Arc<dyn BucketSet>>> {
    let mut segments: Vec<_> = view.rollups_of(state).cloned().collect();
    segments.sort_by_key(|segment| segment.info().first);
    let found = find_sets(state, segments, &view.tombstones, selector, snapshot.losses())?;
    Ok(found.into_iter().map(|set| -> Arc<dyn BucketSet> { Arc::new(set) }).collect())
}

/// The sets of some segments of one tier, given in order of time. What of them cannot be read later is
/// left out and noted with the losses.
pub(super) fn find_sets(
    state: &TierState,
    segments: Vec<Arc<Segment>>,
    tombstones: &[Tombstone],
    selector: &BucketSelector,
    losses: &Arc<Losses>,
) -> Result<Vec<TierSet>> {
    let columns = match &selector.columns {
        Columns::Named(name) => Columns::Named(Part::Count.name_for(name)),
        // The matcher is about names without a mark.
        Columns::All | Columns::Matching(_) => Columns::All,
    };
    let (matchers, range) = (selector.matchers.clone(), selector.range);
    let stored = Selector { matchers, columns, range };
    let mut of_segments: Vec<Vec<TierSet>> = Vec::with_capacity(segments.len());
    for segment in segments {
        let sets = segment.select(&stored)?;
        if sets.is_empty() {
            continue;
        }
        let file = Arc::new(TierFile::new(segment, selector)?);
        let mut lists: HashMap<Vec<u32>, Arc<[Column]>> = HashMap::new();
        let mut found = Vec::with_capacity(sets.len());
        for number in sets {
            let labels = file.segment.labels(number)?;
            let list = file.segment.column_lists(number, &range)?;
            let columns = match lists.get(&list) {
                Some(columns) => Arc::clone(columns),
                None => {
                    let columns = file.columns_of(number)?;
                    lists.insert(list, Arc::clone(&columns));
                    columns
                }
            };
            let hides = |tombstone: &&Tombstone| {
                tombstone.segments_below > file.segment.info().id
                    && tombstone.matchers.iter().all(|m| m.matches(labels.value(m.name())))
            };
            let hidden = tombstones.iter().filter(hides).map(|tombstone| tombstone.range).collect();
            let part = FilePart { file: Arc::clone(&file), number, hidden };
            found.push(TierSet {
                labels,
                columns,
                parts: vec![part],
                range,
                bucket: state.resolution - Duration::from_millis(1),
                wanted: selector.aggregates,
                losses: Arc::clone(losses),
            });
        }
        of_segments.push(found);
    }
    let join = |same: Vec<TierSet>| {
        same.into_iter().reduce(|mut set, later| {
            set.add(later);
            set
        })
    };
    let found = same_labels(of_segments, |set| &set.labels).into_iter().filter_map(join);
    Ok(found.filter(|set| !set.columns.is_empty()).collect())
}

/// A segment of a tier, and where in it the aggregates of the wanted columns are.
struct TierFile {
    segment: Arc<Segment>,
    /// The rank of each aggregate's name, by column, in the order of [`Part::ALL`].
    ranks: HashMap<Text, [Option<u32>; Part::ALL.len()]>,
}

impl TierFile {
    fn new(segment: Arc<Segment>, selector: &BucketSelector) -> Result<Self> {
        let mut ranks: HashMap<Text, [Option<u32>; Part::ALL.len()]> = HashMap::new();
        for (rank, name) in segment.ranked_columns()? {
            let Some((column, part)) = Part::parse(&name) else { continue };
            if selector.columns.contains(column) {
                ranks.entry(Text::from(column)).or_default()[part as usize] = Some(rank);
            }
        }
        Ok(Self { segment, ranks })
    }

    /// The raw columns that a set has aggregates of, those that are wanted.
    fn columns_of(&self, set: u32) -> Result<Arc<[Column]>> {
        let mut columns = Vec::new();
        for column in self.segment.columns(set)? {
            if let Some((name, Part::Count)) = Part::parse(&column.name)
                && let Some((name, _)) = self.ranks.get_key_value(name)
            {
                columns.push(Column { name: name.clone(), kind: column.kind });
            }
        }
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(columns.into())
    }
}

/// Where a set has buckets.
struct FilePart {
    file: Arc<TierFile>,
    number: u32,
    /// Buckets that share a moment with these are deleted.
    hidden: Vec<TimeRange>,
}

/// A set of a tier.
pub(super) struct TierSet {
    labels: Labels,
    columns: Arc<[Column]>,
    /// In order of time.
    parts: Vec<FilePart>,
    /// Where the buckets start.
    range: TimeRange,
    /// From the first to the last moment of a bucket.
    bucket: Duration,
    wanted: Aggregates,
    losses: Arc<Losses>,
}

impl TierSet {
    /// Adds the same set of a later segment.
    fn add(&mut self, later: Self) {
        self.parts.extend(later.parts);
        if self.columns != later.columns {
            // The newest kind counts, so the new columns go in front of equal old ones.
            let mut all: Vec<Column> =
                later.columns.iter().chain(self.columns.iter()).cloned().collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all.dedup_by(|later, first| later.name == first.name);
            self.columns = all.into();
        }
    }
}

impl BucketSet for TierSet {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, column: usize) -> Box<dyn BucketCursor + '_> {
        let column = &self.columns[column].name;
        Box::new(TierCursor { set: self, column, part: 0, group: 0 })
    }
}

/// Walks over the row groups of one column.
struct TierCursor<'a> {
    set: &'a TierSet,
    column: &'a Text,
    part: usize,
    group: usize,
}

impl BucketCursor for TierCursor<'_> {
    fn step(&mut self, into: &mut Vec<Bucket>) -> Result<Option<usize>, StorageError> {
        while let Some(part) = self.set.parts.get(self.part) {
            let segment = &part.file.segment;
            let groups = segment.row_groups(part.number).map_err(StorageError::new)?;
            let Some(group) = groups.get(self.group) else {
                (self.part, self.group) = (self.part + 1, 0);
                continue;
            };
            let index = self.group;
            self.group += 1;
            let read = segment.row_group(part.number, index, &self.set.range);
            let read = read.and_then(|opened| match opened {
                Some(opened) => self.read(part, &opened, into).map(Some),
                None => Ok(None),
            });
            match read {
                Ok(None) => {}
                Ok(Some(read)) => return Ok(Some(read)),
                Err(error) => self.set.losses.note(segment, group, &error),
            }
        }
        Ok(None)
    }
}

impl TierCursor<'_> {
    /// Appends the buckets of a row group that are in the range and not deleted; gives how many
    /// values were read.
    fn read(
        &self,
        part: &FilePart,
        group: &GroupReader<'_>,
        into: &mut Vec<Bucket>,
    ) -> Result<usize> {
        let Some(ranks) = part.file.ranks.get(self.column) else { return Ok(0) };
        let mut present = None;
        let mut read = 0;
        let stored = Stored::load(self.set.wanted, |wanted| {
            let Some(rank) = ranks[wanted as usize] else { return Ok(None) };
            let Some(cells) = group.read(rank)? else { return Ok(None) };
            read += cells.values.len();
            // The aggregates of a column have the same rows (T1).
            present = cells.present;
            Ok(Some(cells.values))
        })?;
        let all = 0..group.times.len() as u32;
        let rows = match present {
            None => vec![(all.start, all.end)],
            Some(runs) => runs,
        };
        let rows = rows.into_iter().flat_map(|(start, end)| start..end);
        let is_wanted = |(_, start): &(usize, Timestamp)| {
            let bucket = TimeRange::new(*start, start.saturating_add(self.set.bucket));
            self.set.range.contains(*start)
                && !part.hidden.iter().any(|hidden| hidden.overlaps(&bucket))
        };
        let start_of = |(index, row): (usize, u32)| {
            Some((index, Timestamp::from_millis(*group.times.get(row as usize)?)))
        };
        let rows = rows.enumerate().take(stored.len()).filter_map(start_of).filter(is_wanted);
        stored.append(&rows.collect::<Vec<_>>(), into);
        Ok(read)
    }
}

/// A set whose buckets come from several pieces of time or are made of smaller ones.
struct Joined {
    labels: Labels,
    columns: Vec<Column>,
    /// In order of time.
    parts: Vec<Arc<dyn BucketSet>>,
    grid: Grid,
    wanted: Aggregates,
}

impl BucketSet for Joined {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, column: usize) -> Box<dyn BucketCursor + '_> {
        let name = &self.columns[column].name;
        let cursor_of = |part: &'_ Arc<dyn BucketSet>| {
            part.columns().binary_search_by(|own| own.name.cmp(name)).ok()
        };
        let parts = self.parts.iter().filter_map(|part| Some(part.read(cursor_of(part)?)));
        let cursors: Vec<_> = parts.collect();
        Box::new(JoinedCursor {
            set: self,
            cursors,
            at: 0,
            open: None,
            parts: Vec::new(),
            read: Vec::new(),
        })
    }
}

struct JoinedCursor<'a> {
    set: &'a Joined,
    /// In order of time.
    cursors: Vec<Box<dyn BucketCursor + 'a>>,
    at: usize,
    open: Option<Bucket>,
    /// What the open bucket was made of, if its percentiles are wanted.
    parts: Vec<Bucket>,
    /// Memory for a step.
    read: Vec<Bucket>,
}

impl BucketCursor for JoinedCursor<'_> {
    fn step(&mut self, into: &mut Vec<Bucket>) -> Result<Option<usize>, StorageError> {
        while let Some(cursor) = self.cursors.get_mut(self.at) {
            let read = cursor.step(&mut self.read)?;
            let mut buckets = std::mem::take(&mut self.read);
            for bucket in buckets.drain(..) {
                self.add(bucket, into);
            }
            self.read = buckets;
            match read {
                Some(read) => return Ok(Some(read)),
                None => self.at += 1,
            }
        }
        self.close(into);
        Ok(None)
    }

    fn held(&self) -> usize {
        self.cursors.get(self.at).map_or(0, |cursor| cursor.held())
    }
}

impl JoinedCursor<'_> {
    fn add(&mut self, bucket: Bucket, into: &mut Vec<Bucket>) {
        let bucket = Bucket { start: self.set.grid.bucket_of(bucket.start), ..bucket };
        if self.open.is_some_and(|open| open.start != bucket.start) {
            self.close(into);
        }
        if self.set.wanted.contains(Aggregates::PERCENTILES) {
            self.parts.push(bucket);
        }
        match &mut self.open {
            Some(open) => open.merge(&bucket),
            None => self.open = Some(bucket),
        }
    }

    fn close(&mut self, into: &mut Vec<Bucket>) {
        let Some(mut bucket) = self.open.take() else { return };
        if self.parts.len() > 1 {
            bucket.percentiles = Percentiles::estimate(&self.parts);
        }
        self.parts.clear();
        into.push(bucket);
    }
}
