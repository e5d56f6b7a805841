//! Building tiers: raw samples become buckets, a unit at a time.
//!
//! As with compaction the number of the output is taken before the input is looked at, `background`
//! is held for the whole unit and `upkeep` only at its ends. What changes of the raw samples
//! meanwhile has a higher number and makes the output stale.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use heapster_core::series::is_time_column;
use heapster_core::storage::{
    Aggregates, Bucket, BucketCursor, BucketSelector, BucketSet, Column, Columns, STEP_MAX,
    Snapshot, StorageError, raw_buckets,
};
use heapster_core::{Labels, TimeRange, Timestamp};

use crate::chunk::Effort;
use crate::error::{Error, Result};
use crate::flush::RETRY_WAIT;
use crate::maintenance::Upkeep;
use crate::manifest::Manifest;
use crate::paths::Paths;
use crate::quarantine::Losses;
use crate::recovery::range_of;
use crate::rows::{ColumnRows, SetRows};
use crate::segment::{Segment, SegmentInfo, SegmentWriter};
use crate::snapshot::{StoreSnapshot, View};
use crate::stats::RollUpReport;
use crate::store::Store;
use crate::tier::TierState;
use crate::tier::columns::{self, Part};
use crate::tier::plan::Span;
use crate::tier::read::{TierSet, find_sets};
use crate::tier::stale::mark_stale_in;
use crate::tier::units::{Unit, next_unit, settled};
use crate::tombstone::Tombstone;

/// Cells that are made before they are written; bounds the memory of a set with many columns.
const CELLS_MAX: usize = 1 << 20;
/// Buckets of a row group at most.
const ROWS_MAX: usize = 2048;
/// Columns of a set whose aggregates fit into a row group; further ones are left out.
const COLUMNS_MAX: usize = 65_536 / Part::ALL.len();

/// What is to be done, and the view it was decided by.
struct Job {
    id: u64,
    view: Arc<View>,
    state: TierState,
    unit: Unit,
    /// The segments of the window; the output replaces them.
    old: Vec<Arc<Segment>>,
}

impl Store {
    /// Does one unit of building tiers: some days of one tier that are over, or that have changed
    /// since they were built. Does nothing when nothing is due, see [`RollUpReport::is_idle`]. Call
    /// it again and again, from the thread that calls [`Store::compact`]; a unit reads up to ten
    /// days of samples.
    ///
    /// Reads, appends, syncs and flushes go on meanwhile.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`]: nothing has changed; for ten seconds further calls do
    /// nothing. [`Error::Poisoned`]: reopen the store. Damaged samples are no error: they are left
    /// out, and the report counts the runs.
    pub fn roll_up(&self) -> Result<RollUpReport> {
        let mut background = self.background.lock();
        if self.options.clock.monotonic() < background.retry_from {
            return Ok(RollUpReport::default());
        }
        self.roll_up_once().inspect_err(|error| {
            background.retry_from = self.options.clock.monotonic() + RETRY_WAIT;
            self.note(error);
        })
    }

    fn roll_up_once(&self) -> Result<RollUpReport> {
        self.check_poison()?;
        if self.is_stopped() {
            return Ok(RollUpReport::default());
        }
        let job = {
            let mut upkeep = self.upkeep.lock();
            self.mark_damaged_buckets(&mut upkeep)?;
            let view = self.current_view();
            let Some((state, unit)) = self.next_job(&upkeep, &view) else {
                return Ok(RollUpReport::default());
            };
            let id = upkeep.manifest.next_segment;
            upkeep.manifest.next_segment += 1;
            let is_old = |segment: &&Arc<Segment>| {
                let info = segment.info();
                unit.window.start <= info.first && info.first < unit.window.end
            };
            let old = view.rollups_of(&state).filter(is_old).cloned().collect();
            Job { id, view, state, unit, old }
        };
        self.make_dir(job.state.tier)?;
        let mut report = RollUpReport::default();
        let losses = JobLosses::new(&job.view);
        let Some(output) = self.write_buckets(&job, &losses, &mut report)? else {
            return Ok(RollUpReport::default());
        };
        self.commit_buckets(&job, &losses, &output, report)
    }

    /// Lets the buckets that somebody could not read be built again.
    fn mark_damaged_buckets(&self, upkeep: &mut Upkeep) -> Result<()> {
        let quarantine = Arc::clone(&self.current_view().quarantine);
        let hits = quarantine.take_tier_hits();
        if hits.is_empty() {
            return Ok(());
        }
        let mut manifest = upkeep.manifest.clone();
        for hit in &hits {
            mark_stale_in(&mut manifest, hit.tier, hit.range);
        }
        self.publish(upkeep, manifest, Vec::new()).inspect_err(|_| quarantine.put_tier_hits(hits))
    }

    /// What is due first: new days before those to be built again.
    fn next_job(&self, upkeep: &Upkeep, view: &View) -> Option<(TierState, Unit)> {
        let raw = || view.segments.iter().map(|segment| segment.info());
        let newest = raw().map(|info| info.last).max().map(Timestamp::from_millis);
        let newest = newest.into_iter().chain(self.newest_believed()).min()?;
        let settled = settled(newest, self.options.clock.now(), self.late_window());
        let is_grown = |state: &&TierState| {
            self.options.tiers.iter().any(|tier| tier.resolution == state.resolution)
        };
        let states = upkeep.states_to_build();
        let states = || states.iter().filter(is_grown);
        let unit = |state: &TierState| Some((state.clone(), next_unit(state, raw(), settled)?));
        let is_new =
            |(state, unit): &(TierState, Unit)| unit.built.start >= state.built_to.as_millis();
        states().filter_map(unit).find(is_new).or_else(|| states().find_map(unit))
    }

    /// Makes a tier's directory and its name durable.
    fn make_dir(&self, tier: u8) -> Result<()> {
        let (vfs, dir) = (&*self.options.vfs, self.paths.tier_dir(tier));
        if vfs.list(&dir).is_ok() {
            return Ok(());
        }
        vfs.create_dir_all(&dir).map_err(|source| Error::io("create", &dir, source))?;
        let parent = self.paths.segments_dir();
        vfs.sync_dir(&parent).map_err(|source| Error::io("sync", &parent, source))
    }

    /// Writes the segment of a window under its name; nothing when it was stopped, no segment when
    /// there is no bucket.
    fn write_buckets(
        &self,
        job: &Job,
        losses: &JobLosses,
        report: &mut RollUpReport,
    ) -> Result<Option<Vec<Arc<Segment>>>> {
        let tier = job.state.tier;
        let write = |report: &mut RollUpReport| {
            let mut writer = self.create_segment(tier, job.id, Effort::Fast)?;
            let is_stopped = || self.is_stopped() || self.check_poison().is_err();
            if !build(job, &mut writer, losses, report, &is_stopped)? {
                return Ok(None);
            }
            losses.refuse_unavailable(&self.paths)?;
            losses.add_to(report);
            if report.buckets == 0 {
                return Ok(Some(Vec::new()));
            }
            let info = writer.finish().inspect_err(|error| self.poison_if_sync(error))?;
            Ok(Some(vec![info]))
        };
        let written = write(report);
        let infos = match written {
            Ok(Some(infos)) if !infos.is_empty() => infos,
            other => {
                self.remove_unfinished(tier, job.id);
                return other.map(|done| done.map(|_| Vec::new()));
            }
        };
        let output = self.name_segments(&infos)?;
        if !job.old.is_empty() {
            // The old segments are about to go, so what was written is read once.
            for segment in &output {
                segment.verify().inspect_err(|_| self.discard(&output))?;
            }
        }
        Ok(Some(output))
    }

    /// Makes the output part of the store instead of the old segments, and remembers how far the
    /// tier is built. Nothing happens when one of these went meanwhile: it was past its time, and
    /// its buckets must not come back.
    fn commit_buckets(
        &self,
        job: &Job,
        losses: &JobLosses,
        output: &[Arc<Segment>],
        mut report: RollUpReport,
    ) -> Result<RollUpReport> {
        let old: BTreeSet<u64> = job.old.iter().map(|segment| segment.info().id).collect();
        let mut upkeep = self.upkeep.lock();
        let mut manifest = upkeep.manifest.clone();
        let raw_from = manifest.raw_from;
        let state = manifest.tiers.iter_mut().find(|state| state.tier == job.state.tier);
        let (Some(state), true) = (state, old.iter().all(|id| upkeep.manifest.names(*id))) else {
            self.discard(output);
            return Ok(RollUpReport::default());
        };
        let built = job.unit.built.range();
        // What was dropped before it was built is missing for good.
        if let Some(lost) =
            raw_from.filter(|from| state.built_to < built.start && *from > state.built_to)
        {
            state.complete_from = state.complete_from.max(lost);
        }
        state.built_to = state.built_to.max(Timestamp::from_millis(job.unit.built.end));
        state.mark_built(built);
        for range in changes_since(&upkeep.manifest, job.id) {
            state.mark_stale(range);
        }
        // Buckets without some of their samples do not say what raw samples would.
        for damage in losses.raw().damage() {
            state.mark_stale(damage.range);
            let until = damage.range.end.saturating_add(STEP_MAX);
            upkeep.blocked.push((state.tier, TimeRange::new(damage.range.start, until)));
        }
        manifest.segments.retain(|segment| !old.contains(&segment.id));
        manifest.add(output);
        report.resolution = Some(job.state.resolution);
        report.range = Some(built);
        report.bytes_out = output.iter().map(|segment| segment.info().len).sum();
        if report.damaged_buckets > 0 {
            upkeep.damaged_segments = old.iter().copied().collect();
        }
        let published = self.publish(&mut upkeep, manifest, output.to_vec());
        upkeep.damaged_segments.clear();
        published.inspect_err(|_| self.discard(output))?;
        if let Some(damage) = report.damage.clone() {
            self.counters.lock().last_error = Some(damage);
        }
        Ok(report)
    }
}

/// The ranges of raw samples that came or went since that number was taken. Compaction moves samples
/// to higher numbers as well, but does not run meanwhile.
fn changes_since(manifest: &Manifest, id: u64) -> impl Iterator<Item = TimeRange> {
    let is_raw = move |segment: &&SegmentInfo| segment.tier == 0 && segment.id > id;
    let came = manifest.segments.iter().filter(is_raw).map(range_of);
    let is_later = move |tombstone: &&Tombstone| tombstone.segments_below > id;
    let went = manifest.tombstones.iter().filter(is_later).map(|tombstone| tombstone.range);
    came.chain(went)
}

/// What could not be read while a job was done.
struct JobLosses {
    /// What is in memory only is not built: a power cut could take it.
    flushed: StoreSnapshot,
    old: Arc<Losses>,
}

impl JobLosses {
    fn new(view: &View) -> Self {
        let flushed = View { heads: Vec::new(), ..view.clone() };
        let flushed = StoreSnapshot::new(Arc::new(flushed), u64::MAX);
        Self { flushed, old: Arc::new(Losses::new(Arc::clone(&view.quarantine))) }
    }

    /// The raw samples.
    fn raw(&self) -> &StoreSnapshot {
        &self.flushed
    }

    /// What the system refuses to read now may be there later, so nothing is built without it.
    fn refuse_unavailable(&self, paths: &Paths) -> Result<()> {
        if !self.raw().losses().has_unavailable() && !self.old.has_unavailable() {
            return Ok(());
        }
        let reason =
            self.raw().damage().into_iter().chain(self.old.list()).map(|d| d.reason).next();
        let source = io::Error::other(reason.unwrap_or_default());
        Err(Error::Io { op: "read", path: paths.segments_dir(), source })
    }

    fn add_to(&self, report: &mut RollUpReport) {
        report.damaged_runs += self.raw().losses().count();
        report.damaged_buckets += self.old.count();
        let mut all = self.raw().damage().into_iter().chain(self.old.list());
        report.damage = report.damage.take().or_else(|| all.next().map(|damage| damage.reason));
    }
}

/// What a window has of one label set.
#[derive(Default)]
struct Sources {
    raw: Option<Arc<dyn BucketSet>>,
    old: Option<Arc<TierSet>>,
}

/// Writes all buckets of a window; `false` when `is_stopped` said so.
fn build(
    job: &Job,
    writer: &mut SegmentWriter<'_>,
    losses: &JobLosses,
    report: &mut RollUpReport,
    is_stopped: &dyn Fn() -> bool,
) -> Result<bool> {
    let of = |span: Span| BucketSelector {
        matchers: Vec::new(),
        columns: Columns::All,
        range: span.range(),
        bucket: Some(job.state.resolution),
        aggregates: Aggregates::ALL,
    };
    let mut sets: BTreeMap<Labels, Sources> = BTreeMap::new();
    for raw in raw_buckets(losses.raw(), &of(job.unit.built)).map_err(own_error)? {
        let labels = raw.labels().clone();
        sets.entry(labels).or_default().raw = Some(raw);
    }
    let old = job.old.clone();
    let (tombstones, window) = (&job.view.tombstones, of(job.unit.window));
    for old in find_sets(&job.state, old, tombstones, &window, &losses.old)? {
        let labels = old.labels().clone();
        sets.entry(labels).or_default().old = Some(Arc::new(old));
    }
    for (labels, sources) in sets {
        if is_stopped() {
            return Ok(false);
        }
        let before = report.buckets;
        build_set(job, &labels, &sources, writer, report)?;
        report.sets += u64::from(report.buckets > before);
    }
    Ok(true)
}

fn build_set(
    job: &Job,
    labels: &Labels,
    sources: &Sources,
    writer: &mut SegmentWriter<'_>,
    report: &mut RollUpReport,
) -> Result<()> {
    let mut columns: Vec<Column> = Vec::new();
    columns.extend(sources.raw.iter().flat_map(|raw| raw.columns().iter().cloned()));
    columns.extend(sources.old.iter().flat_map(|old| old.columns().iter().cloned()));
    columns.retain(|column| !is_time_column(&column.name));
    // The newer kind comes first and is kept.
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    columns.dedup_by(|later, first| later.name == first.name);
    report.skipped_columns += columns.len().saturating_sub(COLUMNS_MAX) as u64;
    columns.truncate(COLUMNS_MAX);
    let mut mergers: Vec<(Column, Merger<'_>)> = Vec::with_capacity(columns.len());
    for column in columns {
        let raw = sources.raw.as_deref().and_then(|set| cursor_of(set, &column));
        let old = sources.old.as_deref().and_then(|set| cursor_of(set, &column));
        mergers.push((column, Merger::new(job, raw, old)));
    }
    let cells = mergers.len().max(1) * Part::ALL.len();
    let rows = (CELLS_MAX / cells).clamp(1, ROWS_MAX) as i64;
    let step = rows * job.state.resolution.as_millis() as i64;
    let window = job.unit.window;
    let mut start = window.start;
    while start < window.end {
        let end = window.end.min(start.saturating_add(step));
        let mut filled: Vec<(&Column, Vec<Bucket>)> = Vec::with_capacity(mergers.len());
        for (column, merger) in &mut mergers {
            let buckets = merger.take_before(end)?;
            if !buckets.is_empty() {
                filled.push((column, buckets));
            }
        }
        if let Some(rows) = rows_of(labels, &filled) {
            report.buckets += filled.iter().map(|(_, buckets)| buckets.len() as u64).sum::<u64>();
            writer.push(&rows)?;
        }
        start = end;
    }
    Ok(())
}

fn cursor_of<'a, S: BucketSet + ?Sized>(
    set: &'a S,
    column: &Column,
) -> Option<Box<dyn BucketCursor + 'a>> {
    let index = set.columns().binary_search_by(|own| own.name.cmp(&column.name)).ok()?;
    Some(set.read(index))
}

/// The rows of some columns' buckets; `None` of none.
fn rows_of(labels: &Labels, filled: &[(&Column, Vec<Bucket>)]) -> Option<SetRows> {
    let starts = filled.iter().flat_map(|(_, buckets)| buckets.iter().map(|b| b.start.as_millis()));
    let timestamps: Vec<i64> = match filled {
        [] => return None,
        [_] => starts.collect(),
        _ => starts.collect::<BTreeSet<i64>>().into_iter().collect(),
    };
    let mut rows = Vec::with_capacity(filled.len() * Part::ALL.len());
    for (column, buckets) in filled {
        let row_of = |bucket: &Bucket| {
            timestamps.partition_point(|start| *start < bucket.start.as_millis()) as u32
        };
        let present: Option<Vec<u32>> =
            (buckets.len() < timestamps.len()).then(|| buckets.iter().map(row_of).collect());
        for (part, values) in columns::encode(buckets) {
            let name = part.name_for(&column.name);
            rows.push(ColumnRows { name, kind: column.kind, present: present.clone(), values });
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Some(SetRows { labels: labels.clone(), timestamps, columns: rows })
}

/// The buckets of a column: new ones where they are built, old ones elsewhere.
struct Merger<'a> {
    new: Ready<'a>,
    old: Ready<'a>,
    built: Span,
    /// Old buckets that start before this are kept: not all of their samples are there any more.
    raw_from: i64,
}

/// Buckets that were read ahead of those that were taken.
struct Ready<'a> {
    cursor: Option<Box<dyn BucketCursor + 'a>>,
    buckets: Vec<Bucket>,
}

impl<'a> Merger<'a> {
    fn new(
        job: &Job,
        new: Option<Box<dyn BucketCursor + 'a>>,
        old: Option<Box<dyn BucketCursor + 'a>>,
    ) -> Self {
        let raw_from = job.view.raw_from.map_or(i64::MIN, Timestamp::as_millis);
        let ready = |cursor| Ready { cursor, buckets: Vec::new() };
        Self { new: ready(new), old: ready(old), built: job.unit.built, raw_from }
    }

    /// The buckets that start before a moment and were not taken yet.
    fn take_before(&mut self, end: i64) -> Result<Vec<Bucket>> {
        let new = self.new.take_before(end)?;
        let mut old = self.old.take_before(end)?;
        old.retain(|bucket| {
            let start = bucket.start.as_millis();
            let is_built = self.built.start <= start && start < self.built.end;
            !is_built || start < self.raw_from
        });
        // Old ones go first, and of two with the same start the first is kept.
        let mut all = old;
        all.extend(new);
        all.sort_by_key(|bucket| bucket.start);
        all.dedup_by_key(|bucket| bucket.start);
        Ok(all)
    }
}

impl Ready<'_> {
    fn take_before(&mut self, end: i64) -> Result<Vec<Bucket>> {
        while self.buckets.last().is_none_or(|last| last.start.as_millis() < end)
            && let Some(cursor) = &mut self.cursor
        {
            if cursor.step(&mut self.buckets).map_err(own_error)?.is_none() {
                self.cursor = None;
            }
        }
        let taken = self.buckets.partition_point(|bucket| bucket.start.as_millis() < end);
        Ok(self.buckets.drain(..taken).collect())
    }
}

/// The error that the port wrapped.
fn own_error(error: StorageError) -> Error {
    match error.into_inner().downcast::<Error>() {
        Ok(own) => *own,
        Err(other) => Error::Io {
            op: "read",
            path: std::path::PathBuf::new(),
            source: io::Error::other(other),
        },
    }
}
