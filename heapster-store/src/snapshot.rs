//! [`StoreSnapshot`]: a consistent view of heads and segments, and the merge that reading is.
//!
//! Sources are ranked: segments by their number, then heads by their generation. Where two have a
//! cell for the same moment, the later source wins, and within a head the later batch.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashSet;
use heapster_core::storage::{
    BucketSelection, BucketSelector, Column, ColumnCursor, Run, Samples, SelectedSet, Selector,
    Snapshot, StorageError,
};
use heapster_core::{Labels, Text, TimeRange, Timestamp, Value};

use crate::error::Result;
use crate::head::{Head, HeadSet, latest_of_each_time};
use crate::manifest::Manifest;
use crate::segment::{Segment, SegmentRun, TierCensus};
use crate::tier::TierState;
use crate::tombstone::Tombstone;

/// What the store consists of at one moment; replaced as a whole.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "deletion comes next")]
pub(crate) struct View {
    /// Those of raw samples, in the order of their numbers.
    pub segments: Vec<Arc<Segment>>,
    /// Those of the other tiers, in the order of their numbers.
    pub rollups: Vec<Arc<Segment>>,
    /// In the order of their generations; the last one takes rows.
    pub heads: Vec<Arc<Head>>,
    /// What is hidden in segments; the manifest's.
    pub tombstones: Arc<[Tombstone]>,
    /// How far the tiers are built; the manifest's.
    pub tiers: Arc<[TierState]>,
    /// From when on no raw sample was dropped for its age; the manifest's.
    pub raw_from: Option<Timestamp>,
}

impl View {
    /// The view of a manifest whose segments are these, in the order of their numbers.
    pub fn new(manifest: &Manifest, segments: Vec<Arc<Segment>>, heads: Vec<Arc<Head>>) -> Self {
        let is_raw = |segment: &Arc<Segment>| segment.info().tier == 0;
        let (mut segments, mut rollups): (Vec<_>, Vec<_>) = segments.into_iter().partition(is_raw);
        for list in [&mut segments, &mut rollups] {
            list.sort_by_key(|segment| segment.info().id);
        }
        let (tombstones, tiers) = (manifest.tombstones.clone(), manifest.tiers.clone());
        let raw_from = manifest.raw_from;
        let (tombstones, tiers) = (tombstones.into(), tiers.into());
        Self { segments, rollups, heads, tombstones, tiers, raw_from }
    }

    /// The segments of a tier.
    pub fn rollups_of(&self, state: &TierState) -> impl Iterator<Item = &Arc<Segment>> {
        self.rollups.iter().filter(|segment| segment.info().tier == state.tier)
    }

    /// How many segments the other view has not.
    pub fn segments_not_in(&self, other: &Self) -> usize {
        let ids = |view: &Self| -> HashSet<u64> {
            let all = view.segments.iter().chain(&view.rollups);
            all.map(|segment| segment.info().id).collect()
        };
        ids(self).difference(&ids(other)).count()
    }
}

/// A view of a store that later writes do not change.
#[derive(Clone)]
pub struct StoreSnapshot {
    view: Arc<View>,
    /// The last batch that belongs to the snapshot.
    seq: u64,
}

/// Where a selected set has rows.
enum Part {
    Segment { segment: Arc<Segment>, set: u32 },
    Head { set: Arc<HeadSet> },
}

struct Selected {
    labels: Labels,
    columns: Vec<Column>,
    /// Ascending in rank.
    parts: Vec<Part>,
    range: TimeRange,
    seq: u64,
}

impl StoreSnapshot {
    pub(crate) fn new(view: Arc<View>, seq: u64) -> Self {
        Self { view, seq }
    }

    /// What the segments of each tier hold and in which encodings, raw samples first. Reads the
    /// head of every chunk, so it costs about as much as reading all files once.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when an index is damaged.
    pub fn census(&self) -> Result<Vec<TierCensus>> {
        let tiers = self.view.tiers.iter().map(|tier| (tier.tier, Some(tier.resolution)));
        let mut census = vec![TierCensus::new(0, None)];
        census.extend(tiers.map(|(tier, resolution)| TierCensus::new(tier, resolution)));
        for segment in self.view.segments.iter().chain(&self.view.rollups) {
            let tier = segment.info().tier;
            match census.iter_mut().find(|census| census.tier == tier) {
                Some(census) => census.add(segment)?,
                None => {
                    let mut unknown = TierCensus::new(tier, None);
                    unknown.add(segment)?;
                    census.push(unknown);
                }
            }
        }
        Ok(census)
    }

    fn find(&self, selector: &Selector) -> Result<Vec<Arc<dyn SelectedSet>>> {
        let mut found: Vec<(Labels, Part, Vec<Column>)> = Vec::new();
        for segment in &self.view.segments {
            if !range_of(segment).overlaps(&selector.range) {
                continue;
            }
            for set in segment.select(selector)? {
                let mut columns = segment.columns(set)?;
                columns.retain(|column| selector.columns.contains(&column.name));
                let part = Part::Segment { segment: Arc::clone(segment), set };
                found.push((segment.labels(set)?, part, columns));
            }
        }
        for head in &self.view.heads {
            let sets = head.select(selector, self.seq);
            found.extend(
                sets.into_iter().map(|(set, columns)| (set.labels(), Part::Head { set }, columns)),
            );
        }
        // Stable, so that the parts of a set stay in the order of their rank.
        found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut selected: Vec<Selected> = Vec::new();
        for (labels, part, columns) in found {
            match selected.last_mut().filter(|last| last.labels == labels) {
                Some(last) => {
                    last.parts.push(part);
                    // The newest kind counts, so the new columns go in front of equal old ones.
                    last.columns.splice(0..0, columns);
                }
                None => {
                    let (range, seq) = (selector.range, self.seq);
                    selected.push(Selected { labels, columns, parts: vec![part], range, seq });
                }
            }
        }
        let finish = |mut set: Selected| -> Arc<dyn SelectedSet> {
            set.columns.sort_by(|a, b| a.name.cmp(&b.name));
            set.columns.dedup_by(|later, first| later.name == first.name);
            Arc::new(set)
        };
        selected.retain(|set| !set.columns.is_empty());
        Ok(selected.into_iter().map(finish).collect())
    }

    /// Names out of every part of the store, sorted, each once.
    fn names(
        &self,
        selector: &Selector,
        of_segment: impl Fn(&Segment) -> Result<Vec<Text>>,
        of_set: impl Fn(&HeadSet, &[Column], &mut Vec<Text>),
    ) -> Result<Vec<Text>, StorageError> {
        let mut names = Vec::new();
        for segment in &self.view.segments {
            if range_of(segment).overlaps(&selector.range) {
                names.extend(of_segment(segment).map_err(StorageError::new)?);
            }
        }
        for head in &self.view.heads {
            for (set, columns) in head.select(selector, self.seq) {
                of_set(&set, &columns, &mut names);
            }
            names.sort_unstable();
            names.dedup();
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

impl Snapshot for StoreSnapshot {
    fn select(&self, selector: &Selector) -> Result<Vec<Arc<dyn SelectedSet>>, StorageError> {
        self.find(selector).map_err(StorageError::new)
    }

    fn column_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        self.names(
            selector,
            |segment| segment.column_names(selector),
            |_, columns, names| names.extend(columns.iter().map(|column| column.name.clone())),
        )
    }

    fn label_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        self.names(
            selector,
            |segment| segment.label_names(selector),
            |set, _, names| names.extend(set.label_texts().map(|(name, _)| name.clone())),
        )
    }

    fn label_values(&self, label: &str, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        self.names(
            selector,
            |segment| segment.label_values(label, selector),
            |set, _, names| names.extend(set.label(label).cloned()),
        )
    }

    fn bounds(&self) -> Option<TimeRange> {
        let segments = self.view.segments.iter().map(|segment| range_of(segment));
        let heads = self.view.heads.iter().filter_map(|head| head.bounds());
        segments.chain(heads).reduce(|a, b| TimeRange::new(a.start.min(b.start), a.end.max(b.end)))
    }

    fn select_buckets(&self, selector: &BucketSelector) -> Result<BucketSelection, StorageError> {
        crate::tier::select_buckets(self, &self.view, selector)
    }
}

impl SelectedSet for Selected {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, column: usize) -> Box<dyn ColumnCursor + '_> {
        let column = &self.columns[column];
        let mut cursor =
            Cursor { range: self.range, sources: Vec::new(), at: 0..0, failures: Vec::new() };
        for (rank, part) in self.parts.iter().enumerate() {
            match part {
                Part::Segment { segment, set } => {
                    match segment.runs(*set, &column.name, self.range) {
                        Ok(runs) => cursor.sources.extend(runs.into_iter().map(|run| Source {
                            run: run.run,
                            rank,
                            samples: From::Segment(segment, run),
                        })),
                        Err(error) => cursor.failures.push(StorageError::new(error)),
                    }
                }
                Part::Head { set } => {
                    let read = set.read(std::slice::from_ref(column), self.range, self.seq);
                    let samples = read.into_iter().next().unwrap_or_default();
                    if let (Some(first), Some(last)) =
                        (samples.timestamps.first(), samples.timestamps.last())
                    {
                        let run = Run { first: *first, last: *last, summary: None };
                        cursor.sources.push(Source { run, rank, samples: From::Memory(samples) });
                    }
                }
            }
        }
        cursor.sources.sort_by_key(|source| (source.run.first, source.rank));
        Box::new(cursor)
    }
}

/// Merges the sources of one column: those that overlap in time are given out as one run.
struct Cursor<'a> {
    range: TimeRange,
    /// In the order of their first time.
    sources: Vec<Source<'a>>,
    /// The sources of the current run.
    at: std::ops::Range<usize>,
    failures: Vec<StorageError>,
}

struct Source<'a> {
    run: Run,
    rank: usize,
    samples: From<'a>,
}

enum From<'a> {
    Segment(&'a Segment, SegmentRun),
    Memory(Samples),
}

impl ColumnCursor for Cursor<'_> {
    fn next_run(&mut self) -> Result<Option<Run>, StorageError> {
        if let Some(failure) = self.failures.pop() {
            return Err(failure);
        }
        let start = self.at.end;
        let Some(first) = self.sources.get(start) else {
            self.at = start..start;
            return Ok(None);
        };
        let mut run = first.run;
        let mut end = start + 1;
        while let Some(next) = self.sources.get(end).filter(|next| next.run.first <= run.last) {
            run.last = run.last.max(next.run.last);
            run.summary = None;
            end += 1;
        }
        self.at = start..end;
        Ok(Some(run))
    }

    fn decode(&mut self, into: &mut Samples) -> Result<(), StorageError> {
        let sources = &mut self.sources[self.at.clone()];
        if let [source] = sources {
            return source.decode(self.range, into);
        }
        let mut cells: Vec<(i64, u64, Value)> = Vec::new();
        let mut failure = None;
        for source in sources {
            match source.decode(self.range, into) {
                Ok(()) => cells.extend(
                    into.iter().map(|(at, value)| (at.as_millis(), source.rank as u64, value)),
                ),
                Err(error) => failure = Some(error),
            }
        }
        *into = latest_of_each_time(cells);
        failure.map_or(Ok(()), Err)
    }
}

impl Source<'_> {
    fn decode(&self, range: TimeRange, into: &mut Samples) -> Result<(), StorageError> {
        match &self.samples {
            From::Segment(segment, run) => {
                segment.decode(run, range, into).map_err(StorageError::new)
            }
            From::Memory(samples) => {
                into.timestamps.clone_from(&samples.timestamps);
                into.values.clone_from(&samples.values);
                Ok(())
            }
        }
    }
}

fn range_of(segment: &Segment) -> TimeRange {
    let info = segment.info();
    TimeRange::new(Timestamp::from_millis(info.first), Timestamp::from_millis(info.last))
}

impl fmt::Debug for StoreSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSnapshot").field("seq", &self.seq).finish_non_exhaustive()
    }
}
