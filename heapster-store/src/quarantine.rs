//! [`Quarantine`]: the row groups that could not be read, known to all readers of a store.
//!
//! Whoever meets one goes on without it, says so here, and notes it with the snapshot it read
//! ([`Losses`]), so that an answer that lacks something can say what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use heapster_core::storage::Damage;
use heapster_core::{Labels, TimeRange};
use parking_lot::Mutex;

use crate::error::{Error, with_causes};
use crate::segment::{RowGroup, Segment};

/// Row groups told one by one; beyond that the oldest are only counted.
const LIST_MAX: usize = 100;
/// Ranges of tiers that wait for being built again; beyond that they are joined.
const TIER_HITS_MAX: usize = 64;

/// A row group that could not be read. The rest of its set and all others are served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuarantinedGroup {
    /// Counts those of the store since it was opened, from one, so that each is told once.
    pub number: u64,
    /// Name of the segment's file, which stays where it is.
    pub file: String,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// Labels of its set.
    pub labels: Labels,
    /// Time of its first and its last row.
    pub range: TimeRange,
    /// Samples it has at most: as many as cells.
    pub samples_max: u64,
    /// Whether the system refused to read it, so that it may be there later; else it is damaged.
    pub is_unavailable: bool,
    /// What is wrong with it.
    pub reason: String,
}

/// The row groups of a store that could not be read.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(Mutex<Known>);

/// Number of a segment, and where in it a row group begins.
type Key = (u64, u64);

#[derive(Debug, Default)]
struct Known {
    /// All of them, with how many samples they have at most. As many as the disk has damaged.
    groups: BTreeMap<Key, u64>,
    newest: VecDeque<(u64, QuarantinedGroup)>,
    /// How many there were since the store was opened.
    counted: u64,
    /// The newest reason that nobody has asked for yet.
    untold: Option<String>,
    tier_hits: Vec<TierHit>,
}

/// Buckets of a tier that could not be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TierHit {
    segment: u64,
    pub tier: u8,
    pub range: TimeRange,
}

/// What [`crate::Stats`] says of a quarantine.
#[derive(Debug)]
pub(crate) struct Summary {
    pub groups: u64,
    pub samples_max: u64,
    pub newest: Vec<QuarantinedGroup>,
}

impl Quarantine {
    /// Takes a row group up, unless it is known.
    fn add(&self, segment: &Segment, group: &RowGroup, error: &Error) {
        let key = key_of(segment, group);
        let mut known = self.0.lock();
        if known.groups.contains_key(&key) {
            return;
        }
        let columns = segment.columns_of_list(group.columns()).map_or(0, |columns| columns.len());
        let samples_max = (group.rows as u64).saturating_mul(columns as u64);
        let reason = with_causes(error);
        let file = segment.path().file_name().unwrap_or_default().to_string_lossy();
        known.groups.insert(key, samples_max);
        known.counted += 1;
        known.untold = Some(reason.clone());
        let entry = QuarantinedGroup {
            number: known.counted,
            file: file.into_owned(),
            offset: group.offset(),
            labels: segment.labels(group.set).unwrap_or_default(),
            range: group.range(),
            samples_max,
            is_unavailable: is_unavailable(error),
            reason,
        };
        known.newest.push_back((key.0, entry));
        if known.newest.len() > LIST_MAX {
            known.newest.pop_front();
        }
        let tier = segment.info().tier;
        if tier > 0 && !is_unavailable(error) {
            known.add_tier_hit(TierHit { segment: key.0, tier, range: group.range() });
        }
    }

    /// Forgets those of segments that are not part of the store any more.
    pub fn keep_those_of(&self, is_named: impl Fn(u64) -> bool) {
        let mut known = self.0.lock();
        known.groups.retain(|(segment, _), _| is_named(*segment));
        known.newest.retain(|(segment, _)| is_named(*segment));
        known.tier_hits.retain(|hit| is_named(hit.segment));
    }

    pub fn summary(&self) -> Summary {
        let known = self.0.lock();
        Summary {
            groups: known.groups.len() as u64,
            samples_max: known.groups.values().sum(),
            newest: known.newest.iter().map(|(_, entry)| entry.clone()).collect(),
        }
    }

    /// The newest reason, once.
    pub fn take_untold(&self) -> Option<String> {
        self.0.lock().untold.take()
    }

    /// The damaged buckets of tiers that nobody has asked for yet.
    pub fn take_tier_hits(&self) -> Vec<TierHit> {
        std::mem::take(&mut self.0.lock().tier_hits)
    }

    /// Gives back what was taken and could not be worked in.
    pub fn put_tier_hits(&self, hits: Vec<TierHit>) {
        let mut known = self.0.lock();
        hits.into_iter().for_each(|hit| known.add_tier_hit(hit));
    }
}

impl Known {
    fn add_tier_hit(&mut self, hit: TierHit) {
        let is_full = self.tier_hits.len() >= TIER_HITS_MAX;
        let same = |other: &&mut TierHit| (other.segment, other.tier) == (hit.segment, hit.tier);
        match self.tier_hits.iter_mut().find(same).filter(|_| is_full) {
            Some(other) => other.range = hull(other.range, hit.range),
            None => self.tier_hits.push(hit),
        }
    }
}

/// What the reads of one snapshot had to go without.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    quarantine: Arc<Quarantine>,
    own: Mutex<Own>,
}

#[derive(Debug, Default)]
struct Own {
    groups: BTreeSet<Key>,
    list: Vec<Damage>,
    /// From the first to the last moment of all of them.
    hull: Option<TimeRange>,
    has_unavailable: bool,
}

impl Losses {
    /// Nothing yet; what comes is told to a quarantine as well.
    pub fn new(quarantine: Arc<Quarantine>) -> Self {
        Self { quarantine, own: Mutex::default() }
    }

    /// A row group could not be read.
    pub fn note(&self, segment: &Segment, group: &RowGroup, error: &Error) {
        self.quarantine.add(segment, group, error);
        let mut own = self.own.lock();
        own.has_unavailable |= is_unavailable(error);
        if !own.groups.insert(key_of(segment, group)) {
            return;
        }
        let range = group.range();
        own.hull = Some(own.hull.map_or(range, |all| hull(all, range)));
        if own.list.len() < LIST_MAX {
            let labels = segment.labels(group.set).ok();
            own.list.push(Damage { labels, range, reason: with_causes(error) });
        }
    }

    /// How many row groups there are.
    pub fn count(&self) -> u64 {
        self.own.lock().groups.len() as u64
    }

    /// Whether the system refused to read one, which may be there later.
    pub fn has_unavailable(&self) -> bool {
        self.own.lock().has_unavailable
    }

    /// The first ones.
    pub fn list(&self) -> Vec<Damage> {
        let own = self.own.lock();
        let mut list = own.list.clone();
        if let Some(range) = own.hull.filter(|_| own.groups.len() > own.list.len()) {
            let more = own.groups.len() - own.list.len();
            list.push(Damage { labels: None, range, reason: format!("{more} more places") });
        }
        list
    }
}

fn key_of(segment: &Segment, group: &RowGroup) -> Key {
    (segment.info().id, group.offset())
}

fn is_unavailable(error: &Error) -> bool {
    matches!(error, Error::Io { .. })
}

fn hull(a: TimeRange, b: TimeRange) -> TimeRange {
    TimeRange::new(a.start.min(b.start), a.end.max(b.end))
}
