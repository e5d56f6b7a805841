//! [`StoreSnapshot`]: a consistent view of heads and segments.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashSet;
use heapster_core::storage::{
    BucketSelection, BucketSelector, Damage, SelectedSet, Selector, Snapshot, StorageError,
};
use heapster_core::{Text, TimeRange, Timestamp};

use crate::cardinality::{Cardinality, PartCardinality, Tally};
use crate::error::Result;
use crate::head::{FoundHeadSet, Head};
use crate::manifest::Manifest;
use crate::quarantine::{Losses, Quarantine};
use crate::segment::{Hidden, Segment, TierCensus};
use crate::selection;
use crate::tier::TierState;
use crate::tombstone::Tombstone;

/// What the store consists of at one moment; replaced as a whole.
#[derive(Clone, Debug)]
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
    /// What of the segments could not be read; one for the life of the store.
    pub quarantine: Arc<Quarantine>,
}

impl View {
    /// The view of a manifest whose segments are these, in the order of their numbers.
    pub fn new(
        manifest: &Manifest,
        segments: Vec<Arc<Segment>>,
        heads: Vec<Arc<Head>>,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        let is_raw = |segment: &Arc<Segment>| segment.info().tier == 0;
        let (mut segments, mut rollups): (Vec<_>, Vec<_>) = segments.into_iter().partition(is_raw);
        for list in [&mut segments, &mut rollups] {
            list.sort_by_key(|segment| segment.info().id);
        }
        let (tombstones, tiers) = (manifest.tombstones.clone(), manifest.tiers.clone());
        let raw_from = manifest.raw_from;
        let (tombstones, tiers) = (tombstones.into(), tiers.into());
        Self { segments, rollups, heads, tombstones, tiers, raw_from, quarantine }
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

    /// What is deleted of a segment and would else be seen in a range.
    pub fn hidden_of(&self, segment: &Segment, range: &TimeRange) -> Result<Vec<Hidden>> {
        let near = self.tombstones.iter().filter(|tombstone| tombstone.range.overlaps(range));
        near.filter_map(|tombstone| segment.hidden_by(tombstone).transpose()).collect()
    }
}

/// A view of a store that later writes do not change.
#[derive(Clone)]
pub struct StoreSnapshot {
    view: Arc<View>,
    /// The last batch that belongs to the snapshot.
    seq: u64,
    /// What its reads had to go without.
    losses: Arc<Losses>,
}

impl StoreSnapshot {
    pub(crate) fn new(view: Arc<View>, seq: u64) -> Self {
        let losses = Arc::new(Losses::new(Arc::clone(&view.quarantine)));
        Self { view, seq, losses }
    }

    pub(crate) fn losses(&self) -> &Arc<Losses> {
        &self.losses
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

    /// How many sets there are and what makes them many; at most `limit` names and pairs of each
    /// kind.
    ///
    /// # Errors
    /// The index could not be read.
    ///
    /// # Cost
    /// Grows with the distinct names and values of labels, not with samples.
    pub fn cardinality(&self, limit: usize) -> Result<Cardinality> {
        let mut tally = Tally::default();
        for segment in &self.view.segments {
            let mut part = PartCardinality::new(limit);
            segment.count_sets(&mut part)?;
            tally.add(part);
        }
        for head in &self.view.heads {
            let mut part = PartCardinality::new(limit);
            head.count_sets(&mut part);
            tally.add(part);
        }
        Ok(tally.finish(limit))
    }

    /// Names out of every part of the store, sorted, each once.
    fn names(
        &self,
        selector: &Selector,
        of_segment: impl Fn(&Segment, &[Hidden]) -> Result<Vec<Text>>,
        of_set: impl Fn(&FoundHeadSet, &mut Vec<Text>),
    ) -> Result<Vec<Text>, StorageError> {
        let mut names = Vec::new();
        for segment in &self.view.segments {
            if segment.range().overlaps(&selector.range) {
                let hidden = self.view.hidden_of(segment, &selector.range);
                let of_segment = hidden.and_then(|hidden| of_segment(segment, &hidden));
                names.extend(of_segment.map_err(StorageError::new)?);
            }
        }
        for head in &self.view.heads {
            for found in head.select(selector, self.seq) {
                let mut columns = found.layout.columns.iter();
                if columns.any(|column| selector.columns.contains(&column.name)) {
                    of_set(&found, &mut names);
                }
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
        selection::select(&self.view, self.seq, selector, &self.losses).map_err(StorageError::new)
    }

    fn column_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        self.names(
            selector,
            |segment, hidden| segment.column_names(selector, hidden),
            |found, names| {
                let columns = found.layout.columns.iter().map(|column| &column.name);
                names.extend(columns.filter(|name| selector.columns.contains(name)).cloned());
            },
        )
    }

    fn label_names(&self, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        self.names(
            selector,
            |segment, hidden| segment.label_names(selector, hidden),
            |found, names| names.extend(found.set.label_texts().map(|(name, _)| name.clone())),
        )
    }

    fn label_values(&self, label: &str, selector: &Selector) -> Result<Vec<Text>, StorageError> {
        self.names(
            selector,
            |segment, hidden| segment.label_values(label, selector, hidden),
            |found, names| names.extend(found.set.label(label).cloned()),
        )
    }

    fn bounds(&self) -> Option<TimeRange> {
        let segments = self.view.segments.iter().map(|segment| segment.range());
        let heads = self.view.heads.iter().filter_map(|head| head.bounds());
        segments.chain(heads).reduce(|a, b| TimeRange::new(a.start.min(b.start), a.end.max(b.end)))
    }

    fn select_buckets(&self, selector: &BucketSelector) -> Result<BucketSelection, StorageError> {
        crate::tier::select_buckets(self, &self.view, selector)
    }

    fn damage(&self) -> Vec<Damage> {
        self.losses.list()
    }
}

impl fmt::Debug for StoreSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSnapshot").field("seq", &self.seq).finish_non_exhaustive()
    }
}
