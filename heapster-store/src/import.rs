//! [`Import`]: old data in bulk. Rows of any time are collected in columns and written as segments,
//! past the log and the head.
//!
//! A part is written while `background` is held: a merge must know every segment with a lower number
//! than its own.

use hashbrown::HashMap;
use heapster_core::series::{Row, RowRef, visit_rows};
use heapster_core::storage::Values;
use heapster_core::{DataBatch, Labels, MetricKind, MetricValue, Text, TimeRange, Timestamp};

use crate::error::Result;
use crate::flush::DAY;
use crate::head::encode::{LABEL_BYTES_MAX, LABELS_MAX, check_column_name};
use crate::head::push_value;
use crate::head::row::COLUMNS_MAX;
use crate::options::{Rejected, Retention};
use crate::recovery::range_of;
use crate::rows::{ColumnRows, SetRows};
use crate::stats::ImportReport;
use crate::store::Store;

/// Memory that is collected before a part is written.
const PART_BYTES: usize = 64 << 20;
/// Memory of a set, and of each of its columns, besides rows, roughly.
const SET_BYTES: usize = 400;
const COLUMN_BYTES: usize = 120;

/// Takes data of any time, in any order, and writes it to a store; made by [`Store::import`].
///
/// What is pushed is collected in memory, about 64 MiB of it, and then written as one *part*: a
/// segment for each day. A part becomes durable and visible as a whole. After a crash the parts
/// before it are there, and nothing of it; to import everything again does no harm. When an
/// `Import` is dropped without [`Import::finish`], what was not written yet is lost.
///
/// Where a sample of the same moment is there already, the imported one wins. Within an import the
/// later push wins.
#[derive(Debug)]
pub struct Import<'a> {
    store: &'a Store,
    sets: HashMap<Labels, SetBuffer>,
    bytes: usize,
    /// Rows that could not be written yet, in the order of labels.
    part: Vec<SetRows>,
    report: ImportReport,
}

/// The rows of a set as they come.
#[derive(Debug, Default)]
struct SetBuffer {
    times: Vec<i64>,
    /// Sorted by name.
    columns: Vec<ColumnBuffer>,
}

#[derive(Debug)]
struct ColumnBuffer {
    name: Text,
    kind: MetricKind,
    /// Rows with a value; `None` as long as every row has one.
    present: Option<Vec<u32>>,
    values: Values,
}

/// Cells of which only the last is kept.
#[derive(Clone, Copy, Default)]
struct Repeated {
    duplicate: u64,
    replaced: u64,
}

impl Repeated {
    fn add(&mut self, is_same: bool) {
        if is_same {
            self.duplicate += 1;
        } else {
            self.replaced += 1;
        }
    }
}

impl ImportReport {
    /// Counts cells of which only the last is kept.
    fn count(&mut self, repeated: Repeated) {
        let Repeated { duplicate, replaced } = repeated;
        self.accepted -= duplicate + replaced;
        self.duplicate += duplicate;
        self.replaced += replaced;
    }
}

impl Store {
    /// Begins an import of old data: of any time, in any order, and much of it. It does not go
    /// through the log and does not touch [`crate::StoreOptions::late_window`].
    ///
    /// Segments that overlap are merged by [`Store::compact`]; [`Store::compact_all`] at the end
    /// does it at once. While a part is written, compaction waits.
    pub fn import(&self) -> Import<'_> {
        let (sets, part) = (HashMap::new(), Vec::new());
        Import { store: self, sets, bytes: 0, part, report: ImportReport::default() }
    }

    /// Why an import does not take samples of that time.
    fn import_refusal(&self, at: Timestamp) -> Option<Rejected> {
        let now = self.options.clock.now();
        let is_ahead = self.options.future_max.is_some_and(|max| at > now.saturating_add(max));
        let is_expired = match self.options.retention {
            Retention::Forever => false,
            Retention::Age(age) => at < now.saturating_sub(age),
        };
        match (is_ahead, is_expired) {
            (true, _) => Some(Rejected::TooFarAhead),
            (_, true) => Some(Rejected::TooOld),
            _ => None,
        }
    }

    /// Writes rows of sets, in the order of labels, into segments of a day each and makes them part
    /// of the store, all at once; gives how many segments.
    fn write_part(&self, part: &[SetRows]) -> Result<usize> {
        self.check_poison()?;
        let times = || part.iter().flat_map(|rows| &rows.timestamps).copied();
        let mut days: Vec<i64> = times().map(|at| at.div_euclid(DAY)).collect();
        days.sort_unstable();
        days.dedup();
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(0) };
        let bounds = TimeRange::new(Timestamp::from_millis(first), Timestamp::from_millis(last));
        let _background = self.background.lock();
        let first_id = {
            let mut upkeep = self.upkeep.lock();
            // What is in memory would get a higher number later, and win.
            let in_memory = |head: &std::sync::Arc<crate::head::Head>| {
                head.bounds().is_some_and(|of_head| of_head.overlaps(&bounds))
            };
            if self.current_view().heads.iter().any(in_memory) {
                self.flush_heads(&mut upkeep)?;
            }
            let first_id = upkeep.manifest.next_segment;
            upkeep.manifest.next_segment += days.len() as u64;
            first_id
        };
        let segments = self.write_days(first_id, &|show| part.iter().try_for_each(&mut *show))?;
        assert_eq!(segments.len(), days.len(), "bug: numbers of segments are used twice (I1)");
        let mut upkeep = self.upkeep.lock();
        let mut manifest = upkeep.manifest.clone();
        manifest.add(&segments);
        for segment in &segments {
            manifest.mark_stale(range_of(segment.info()));
        }
        let published = self.publish(&mut upkeep, manifest, segments.clone());
        published.inspect_err(|_| self.discard(&segments))?;
        self.saw(bounds.end);
        Ok(segments.len())
    }
}

impl Import<'_> {
    /// Takes all metric sets of a batch.
    ///
    /// Samples that retention would delete at once, and those that [`Store::append`] would refuse
    /// for another reason than being late, are refused and counted.
    ///
    /// # Errors
    /// As [`Store::flush`], when what was collected before could not be written. Nothing of this
    /// batch was taken then; what was taken before is kept and written by a later call.
    pub fn push(&mut self, batch: &DataBatch) -> Result<()> {
        self.make_room()?;
        let refusal = self.store.import_refusal(batch.timestamp);
        let visited = visit_rows(batch.sets.values(), |row| {
            self.add(batch.timestamp, &row, refusal);
            Ok::<_, std::convert::Infallible>(())
        });
        visited.unwrap_or_else(|never| match never {});
        Ok(())
    }

    /// Takes rows that share one timestamp, in any order.
    ///
    /// # Errors
    /// As [`Import::push`].
    pub fn push_rows<'r>(
        &mut self,
        at: Timestamp,
        rows: impl IntoIterator<Item = &'r Row>,
    ) -> Result<()> {
        self.make_room()?;
        let refusal = self.store.import_refusal(at);
        let mut cells: Vec<(&Text, MetricValue)> = Vec::new();
        for row in rows {
            cells.clear();
            cells.extend(row.cells.iter().map(|(name, metric)| (name, *metric)));
            self.add(at, &RowRef { labels: &row.labels, own: None, cells: &cells }, refusal);
        }
        Ok(())
    }

    /// What was done so far.
    pub fn report(&self) -> &ImportReport {
        &self.report
    }

    /// Writes what is left. When it returns `Ok`, everything that was taken survives a power cut
    /// and is seen by new snapshots.
    ///
    /// # Errors
    /// As [`Store::flush`]. What was taken and not written is kept; call it again.
    pub fn finish(&mut self) -> Result<ImportReport> {
        while !(self.part.is_empty() && self.sets.is_empty()) {
            self.write()?;
        }
        Ok(self.report)
    }

    fn make_room(&mut self) -> Result<()> {
        if self.bytes >= PART_BYTES || !self.part.is_empty() { self.write() } else { Ok(()) }
    }

    fn add(&mut self, at: Timestamp, row: &RowRef<'_>, refusal: Option<Rejected>) {
        let samples = row.cells.len() as u64;
        if samples == 0 {
            return;
        }
        if let Err(reason) = refusal.map_or_else(|| self.take(at, row), Err) {
            self.report.rejected.add(reason, samples);
        }
    }

    fn take(&mut self, at: Timestamp, row: &RowRef<'_>) -> Result<(), Rejected> {
        row.cells.iter().try_for_each(|(name, _)| check_column_name(name))?;
        let joined = row.own.map(|_| row.stored_labels());
        let labels = joined.as_ref().unwrap_or(row.labels);
        let set = match self.sets.get_mut(labels) {
            Some(set) => set,
            None => {
                let bytes: usize = labels.iter().map(|l| l.name.len() + l.value.len()).sum();
                if labels.len() > LABELS_MAX || bytes > LABEL_BYTES_MAX {
                    return Err(Rejected::LabelsTooLarge);
                }
                self.bytes += SET_BYTES + bytes;
                self.sets.entry(labels.clone()).or_default()
            }
        };
        let mut repeated = Repeated::default();
        self.bytes += set.push(at.as_millis(), row.cells, &mut repeated)?;
        self.report.accepted += row.cells.len() as u64;
        self.report.count(repeated);
        Ok(())
    }

    /// Writes the part that could not be written before, or else what was collected since.
    fn write(&mut self) -> Result<()> {
        if self.part.is_empty() {
            self.bytes = 0;
            let mut sets: Vec<_> = self.sets.drain().collect();
            sets.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (labels, set) in sets {
                let mut repeated = Repeated::default();
                self.part.extend(set.into_rows(labels, &mut repeated));
                self.report.count(repeated);
            }
        }
        if self.part.is_empty() {
            return Ok(());
        }
        let written = self.store.write_part(&self.part);
        let segments = written.inspect_err(|error| self.store.note(error))?;
        let samples: u64 = self.part.iter().map(SetRows::samples).sum();
        self.part = Vec::new();
        self.report.parts += 1;
        self.report.segments += segments as u64;
        self.report.written += samples;
        self.store.counters.lock().imported_samples += samples;
        Ok(())
    }
}

impl SetBuffer {
    /// Adds a row; gives how much memory that takes. A name that comes twice counts once, the last
    /// time.
    fn push(
        &mut self,
        at: i64,
        cells: &[(&Text, MetricValue)],
        repeated: &mut Repeated,
    ) -> Result<usize, Rejected> {
        if self.columns.len() + cells.len() > COLUMNS_MAX {
            let new = cells.iter().filter(|(name, _)| self.find(name).is_err()).count();
            if self.columns.len() + new > COLUMNS_MAX {
                return Err(Rejected::TooManyColumns);
            }
        }
        let row = self.times.len() as u32;
        let mut bytes = size_of::<i64>();
        let mut next = 0;
        for (name, metric) in cells {
            // The cells of the rows of a set are in the same order as a rule.
            let place = match self.columns.get(next) {
                Some(column) if column.name == **name => next,
                _ => self.find(name).unwrap_or_else(|place| {
                    let present = (row > 0).then(Vec::new);
                    let (name, kind) = ((*name).clone(), metric.kind);
                    let values = Values::default();
                    self.columns.insert(place, ColumnBuffer { name, kind, present, values });
                    bytes += COLUMN_BYTES;
                    place
                }),
            };
            next = place + 1;
            bytes += self.columns[place].push(row, *metric, repeated);
        }
        self.times.push(at);
        Ok(bytes)
    }

    fn find(&self, name: &Text) -> Result<usize, usize> {
        self.columns.binary_search_by(|column| column.name.cmp(name))
    }

    /// The rows in the order of time; of cells for the same moment the last one is kept.
    fn into_rows(self, labels: Labels, repeated: &mut Repeated) -> Option<SetRows> {
        let Self { times, columns } = self;
        let is_sorted = times.is_sorted_by(|a, b| a < b);
        let mut timestamps = times.clone();
        if !is_sorted {
            timestamps.sort_unstable();
            timestamps.dedup();
        }
        let rows = times.len();
        // Where each row goes, where they have to be moved.
        let place = |row: u32| timestamps.partition_point(|at| *at < times[row as usize]) as u32;
        let places: Vec<u32> =
            if is_sorted { Vec::new() } else { (0..rows as u32).map(place).collect() };
        let columns = columns.into_iter().map(|column| {
            let column = column.whole(rows as u32);
            let column = if is_sorted { column } else { column.moved(&places, repeated) };
            let present = column.present.filter(|present| present.len() < timestamps.len());
            ColumnRows { present, name: column.name, kind: column.kind, values: column.values }
        });
        let columns: Vec<_> = columns.collect();
        (!columns.is_empty()).then_some(SetRows { labels, timestamps, columns })
    }
}

impl ColumnBuffer {
    fn push(&mut self, row: u32, metric: MetricValue, repeated: &mut Repeated) -> usize {
        self.kind = metric.kind;
        let count = self.values.len() as u32;
        let last = match &self.present {
            Some(present) => present.last().copied(),
            None => count.checked_sub(1),
        };
        if last == Some(row) {
            // The name came twice in the row.
            repeated.add(self.values.get(count as usize - 1) == metric.value);
            self.pop();
        } else if let Some(present) = &mut self.present {
            present.push(row);
        } else if count < row {
            self.present = Some((0..count).chain([row]).collect());
        }
        push_value(&mut self.values, metric.value);
        size_of::<i64>() + self.present.as_ref().map_or(0, |_| size_of::<u32>())
    }

    fn pop(&mut self) {
        match &mut self.values {
            Values::Ints(values) => drop(values.pop()),
            Values::Floats(values) => drop(values.pop()),
            Values::Mixed(values) => drop(values.pop()),
        }
    }

    /// The column with its rows said, unless it has all of `rows`.
    fn whole(mut self, rows: u32) -> Self {
        let count = self.values.len() as u32;
        if self.present.is_none() && count < rows {
            self.present = Some((0..count).collect());
        }
        self
    }

    /// The column with its rows put elsewhere; of cells that meet there the last one is kept.
    fn moved(self, places: &[u32], repeated: &mut Repeated) -> Self {
        let place_of = |index: usize| match &self.present {
            Some(present) => places[present[index] as usize],
            None => places[index],
        };
        let mut cells: Vec<(u32, usize)> =
            (0..self.values.len()).map(|index| (place_of(index), index)).collect();
        cells.sort_unstable();
        let (mut present, mut values) = (Vec::new(), Values::default());
        for (number, (place, index)) in cells.iter().enumerate() {
            let value = self.values.get(*index);
            match cells.get(number + 1).filter(|(next, _)| next == place) {
                Some((_, next)) => repeated.add(self.values.get(*next) == value),
                None => {
                    present.push(*place);
                    push_value(&mut values, value);
                }
            }
        }
        Self { present: Some(present), values, ..self }
    }
}
