//! The head: recent rows in memory, backed by one log file.
//!
//! A head belongs to a *generation*. The newest takes rows; older ones are frozen and wait to become
//! a segment. One writer changes a head (through [`apply::Applier`]), many read it.
//!
//! Locks, in the order they are taken: the index, the queue of new sets, the state of one set. Each
//! is held for a bounded time that depends on one set, never on a batch or a query; the index is
//! the exception, and the writer never takes it.

pub(crate) mod apply;
pub(crate) mod encode;
pub(crate) mod handle;
mod index;
pub(crate) mod row;
mod symbols;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use heapster_core::storage::{Column, Samples, Selector, Values};
use heapster_core::{Labels, Text, TimeRange, Timestamp, Value};
use parking_lot::{Mutex, RwLock};

use crate::cardinality::PartCardinality;
use crate::wal::bytes::Reader;
use index::Index;
use row::Tail;
use symbols::Symbols;

/// The columns of a set in the order they were first seen; shared by sets that look alike.
#[derive(Debug)]
pub(crate) struct Layout {
    pub columns: Box<[Column]>,
    /// Positions in the order of names.
    sorted: Box<[u16]>,
}

impl Layout {
    /// A layout; at most [`row::COLUMNS_MAX`] columns, each name once.
    pub fn new(columns: Vec<Column>) -> Self {
        let mut sorted: Box<[u16]> = (0..columns.len() as u16).collect();
        sorted.sort_by(|a, b| columns[usize::from(*a)].name.cmp(&columns[usize::from(*b)].name));
        Self { columns: columns.into(), sorted }
    }

    fn has_each_name_once(&self) -> bool {
        let name = |position: &u16| &self.columns[usize::from(*position)].name;
        self.sorted.windows(2).all(|pair| name(&pair[0]) != name(&pair[1]))
    }

    /// The position of a column.
    pub fn position(&self, name: &str) -> Option<usize> {
        let by_name = |position: &u16| self.columns[usize::from(*position)].name.as_str().cmp(name);
        let found = self.sorted.binary_search_by(by_name).ok()?;
        Some(usize::from(self.sorted[found]))
    }
}

/// One generation of recent rows.
#[derive(Debug)]
pub(crate) struct Head {
    /// Number of the generation and of its log file.
    pub generation: u64,
    /// The texts of the labels.
    symbols: Arc<Symbols>,
    /// Sets that the index does not know yet. The writer only pushes here, so that it never waits
    /// for a query.
    queue: Mutex<Vec<Arc<HeadSet>>>,
    index: RwLock<Index>,
    /// Bytes of memory, roughly: sets with their labels and index, rows, and what the writer keeps.
    pub bytes: AtomicUsize,
    pub sets: AtomicUsize,
    pub columns: AtomicUsize,
    pub samples: AtomicU64,
    /// Length of the log file.
    pub wal_bytes: AtomicU64,
    oldest: AtomicI64,
    newest: AtomicI64,
}

/// One set of a head.
#[derive(Debug)]
pub(crate) struct HeadSet {
    symbols: Arc<Symbols>,
    labels: LabelNumbers,
    /// Sequence of the batch that brought the set.
    first_seq: u64,
    state: Mutex<SetState>,
}

/// A set that a selector found.
#[derive(Clone, Debug)]
pub(crate) struct FoundHeadSet {
    pub set: Arc<HeadSet>,
    /// The columns it had.
    pub layout: Arc<Layout>,
    /// At or before its oldest row in the range, and at or after its newest.
    pub first: i64,
    pub last: i64,
}

/// The symbols of name and value of each label, in the order of the names. There are as many of
/// these as sets, and most texts are in many sets.
type LabelNumbers = Box<[[u32; 2]]>;

#[derive(Debug)]
struct SetState {
    layout: Arc<Layout>,
    main: RunBytes,
    rare: Option<Box<Rare>>,
}

/// What few sets have.
#[derive(Debug, Default)]
struct Rare {
    /// Layouts of before, each with the sequence of the batch that ended it.
    older: Vec<(u64, Arc<Layout>)>,
    /// Rows that came late. Their runs overlap the main one in time.
    late: Vec<RunBytes>,
}

/// Bytes a run grows by at least.
const GROWTH_MIN: usize = 32;

/// Coded rows in the order of time, which is also that of their batches.
#[derive(Clone, Debug, Default)]
struct RunBytes {
    bytes: Vec<u8>,
    first: i64,
    last: i64,
}

impl Head {
    /// An empty head.
    pub fn new(generation: u64) -> Self {
        Self {
            generation,
            symbols: Arc::default(),
            queue: Mutex::default(),
            index: RwLock::default(),
            bytes: AtomicUsize::new(0),
            sets: AtomicUsize::new(0),
            columns: AtomicUsize::new(0),
            samples: AtomicU64::new(0),
            wal_bytes: AtomicU64::new(0),
            oldest: AtomicI64::new(i64::MAX),
            newest: AtomicI64::new(i64::MIN),
        }
    }

    /// Whether the head has no rows.
    pub fn is_empty(&self) -> bool {
        self.bounds().is_none()
    }

    /// Time of the oldest and the newest row.
    pub fn bounds(&self) -> Option<TimeRange> {
        let (oldest, newest) =
            (self.oldest.load(Ordering::Acquire), self.newest.load(Ordering::Acquire));
        (oldest <= newest)
            .then(|| TimeRange::new(Timestamp::from_millis(oldest), Timestamp::from_millis(newest)))
    }

    /// Makes the index know every set. Called by readers, and by maintenance so that a query after
    /// many new sets need not do it all.
    pub fn catch_up(&self) {
        if self.queue.lock().is_empty() {
            return;
        }
        let mut index = self.index.write();
        let new = std::mem::take(&mut *self.queue.lock());
        index.add(new);
    }

    /// The sets that satisfy the selector's matchers as of batch `seq` and have rows near its
    /// range, in the order of labels.
    pub fn select(&self, selector: &Selector, seq: u64) -> Vec<FoundHeadSet> {
        if !self.bounds().is_some_and(|bounds| bounds.overlaps(&selector.range)) {
            return Vec::new();
        }
        self.catch_up();
        let found = self.index.read().select(&selector.matchers);
        let as_of_seq = found.into_iter().filter(|set| set.first_seq <= seq);
        as_of_seq.filter_map(|set| set.found(selector.range, seq)).collect()
    }

    /// Tells `of` how many sets have each metric and each label.
    pub fn count_sets(&self, of: &mut PartCardinality) {
        self.catch_up();
        self.index.read().count_sets(of);
    }

    /// Every set, in the order of labels.
    pub fn all_sets(&self) -> Vec<Arc<HeadSet>> {
        self.catch_up();
        self.index.read().select(&[])
    }

    fn push(&self, set: Arc<HeadSet>) {
        self.queue.lock().push(set);
    }

    fn extend_bounds(&self, oldest: i64, newest: i64) {
        self.oldest.fetch_min(oldest, Ordering::AcqRel);
        self.newest.fetch_max(newest, Ordering::AcqRel);
    }
}

impl HeadSet {
    /// A set without rows; the symbols of its labels are known.
    fn new(
        symbols: Arc<Symbols>,
        labels: LabelNumbers,
        layout: Arc<Layout>,
        first_seq: u64,
    ) -> Self {
        let state = SetState { layout, main: RunBytes::default(), rare: None };
        Self { symbols, labels, first_seq, state: Mutex::new(state) }
    }

    /// The labels; made for the caller.
    pub fn labels(&self) -> Labels {
        self.label_texts().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Name and value of each label, in the order of the names.
    pub fn label_texts(&self) -> impl Iterator<Item = (&Text, &Text)> {
        (0..self.labels.len()).filter_map(|index| self.label_at(index))
    }

    /// Name and value of the label at a place in the order of the names.
    pub fn label_at(&self, index: usize) -> Option<(&Text, &Text)> {
        let [name, value] = self.labels.get(index)?.map(|number| self.symbols.get(number));
        Some(name.zip(value).expect("bug: a set has a label without a text"))
    }

    /// The value of a label, or `None` when the label is absent.
    pub fn label(&self, name: &str) -> Option<&Text> {
        self.label_texts().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// Whether these are the labels of the set.
    pub fn has_labels(&self, labels: &Labels) -> bool {
        self.labels.len() == labels.len()
            && self.label_texts().zip(labels).all(|((name, value), label)| {
                is_same_text(name, &label.name) && is_same_text(value, &label.value)
            })
    }

    /// The order of the labels of two sets, which is that of [`Labels`].
    pub fn cmp_labels(&self, other: &Self) -> std::cmp::Ordering {
        let is_one_head = Arc::ptr_eq(&self.symbols, &other.symbols);
        let mut both = self.labels.iter().zip(&other.labels);
        // Numbers are equal far more often than texts are compared.
        let same = both.position(|(own, other)| !is_one_head || own != other);
        let same = same.unwrap_or(self.labels.len().min(other.labels.len()));
        self.label_texts().skip(same).cmp(other.label_texts().skip(same))
    }

    /// The set as of batch `seq`; `None` when no run comes near the range.
    fn found(self: Arc<Self>, range: TimeRange, seq: u64) -> Option<FoundHeadSet> {
        let state = self.state.lock();
        let near = || state.runs().filter(|run| run.overlaps(range));
        let first = near().map(|run| run.first).min()?;
        let last = near().map(|run| run.last).max()?;
        let layout = state.layout_at(seq);
        drop(state);
        Some(FoundHeadSet { set: self, layout, first, last })
    }

    /// The columns after the last batch.
    pub fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.state.lock().layout)
    }

    /// Reads columns as of batch `seq`: for each name its samples in the range.
    ///
    /// The lock is held to copy the coded rows, not to decode them.
    pub fn read(&self, columns: &[Column], range: TimeRange, seq: u64) -> Vec<Samples> {
        let (layout, runs) = {
            let state = self.state.lock();
            let near = state.runs().filter(|run| run.overlaps(range));
            (Arc::clone(&state.layout), near.cloned().collect::<Vec<_>>())
        };
        let positions: Vec<_> = columns.iter().map(|c| layout.position(&c.name)).collect();
        if let [run] = &*runs {
            let mut samples = vec![Samples::default(); columns.len()];
            run.for_each_row(range, seq, |tail| {
                for (position, into) in positions.iter().zip(&mut samples) {
                    if let Some(value) = position.and_then(|position| tail.cell(position)) {
                        into.timestamps.make_mut().push(Timestamp::from_millis(tail.time));
                        push_value(&mut into.values, value);
                    }
                }
            });
            return samples;
        }
        let mut cells = vec![Vec::new(); columns.len()];
        for run in &runs {
            run.for_each_row(range, seq, |tail| {
                for (position, into) in positions.iter().zip(&mut cells) {
                    if let Some(value) = position.and_then(|position| tail.cell(position)) {
                        into.push((tail.time, tail.seq, value));
                    }
                }
            });
        }
        cells.into_iter().map(latest_of_each_time).collect()
    }

    /// The cells written so far for one moment, by column; a later batch hides an earlier one.
    fn cells_at(&self, time: i64) -> Vec<Option<Value>> {
        let moment = Timestamp::from_millis(time);
        let range = TimeRange::new(moment, moment);
        let mut cells: Vec<Option<(u64, Value)>> = Vec::new();
        // Under the lock, without a copy: the run is decoded to this moment and no further.
        let state = self.state.lock();
        for run in state.runs().filter(|run| run.overlaps(range)) {
            run.for_each_row(range, u64::MAX, |tail| {
                cells.resize(cells.len().max(tail.width()), None);
                for (column, cell) in cells.iter_mut().enumerate() {
                    let Some(value) = tail.cell(column) else { continue };
                    if cell.is_none_or(|(seq, _)| seq < tail.seq) {
                        *cell = Some((tail.seq, value));
                    }
                }
            });
        }
        cells.into_iter().map(|cell| cell.map(|(_, value)| value)).collect()
    }
}

impl SetState {
    fn runs(&self) -> impl Iterator<Item = &RunBytes> {
        let late = self.rare.iter().flat_map(|rare| &rare.late);
        std::iter::once(&self.main).chain(late).filter(|run| !run.bytes.is_empty())
    }

    fn layout_at(&self, seq: u64) -> Arc<Layout> {
        let mut older = self.rare.iter().flat_map(|rare| &rare.older);
        let older = older.find(|(until, _)| seq < *until);
        Arc::clone(older.map_or(&self.layout, |(_, layout)| layout))
    }

    /// Changes the layout from batch `seq` on; gives the one before.
    fn change_layout(&mut self, seq: u64, layout: &Arc<Layout>) -> Arc<Layout> {
        let old = std::mem::replace(&mut self.layout, Arc::clone(layout));
        self.rare.get_or_insert_default().older.push((seq, Arc::clone(&old)));
        old
    }

    /// A late run by its number.
    fn late_run(&mut self, run: usize) -> &mut RunBytes {
        let late = &mut self.rare.get_or_insert_default().late;
        if run >= late.len() {
            late.resize(run + 1, RunBytes::default());
        }
        &mut late[run]
    }
}

impl RunBytes {
    fn overlaps(&self, range: TimeRange) -> bool {
        self.first <= range.end.as_millis() && range.start.as_millis() <= self.last
    }

    /// The last row.
    fn tail(&self) -> Tail {
        let mut tail = Tail::default();
        let mut reader = Reader::new(&self.bytes);
        while !reader.is_empty() {
            tail.decode(&mut reader).expect("bug: a row in memory does not decode (W5)");
        }
        tail
    }

    /// Calls `row` for the rows in the range that batch `seq` or an earlier one brought.
    fn for_each_row(&self, range: TimeRange, seq: u64, mut row: impl FnMut(&Tail)) {
        let mut tail = Tail::default();
        let mut reader = Reader::new(&self.bytes);
        while !reader.is_empty() {
            // Every row was coded here or decoded once before it was let in.
            tail.decode(&mut reader).expect("bug: a row in memory does not decode (W5)");
            if tail.seq > seq || tail.time > range.end.as_millis() {
                break;
            }
            if tail.time >= range.start.as_millis() {
                row(&tail);
            }
        }
    }

    /// Appends coded rows; grows by a quarter, since most runs end at a length nobody knows, but by
    /// some rows, so that a young run is not moved with each.
    fn append(&mut self, row: &[u8]) -> usize {
        let before = self.bytes.capacity();
        if self.bytes.capacity() - self.bytes.len() < row.len() {
            self.bytes.reserve_exact(row.len() + GROWTH_MIN.max(self.bytes.len() / 4));
        }
        self.bytes.extend_from_slice(row);
        self.bytes.capacity() - before
    }
}

/// Names of the catalogue are the same memory everywhere, so most comparisons end at the pointer.
#[inline]
fn is_same_text(a: &Text, b: &Text) -> bool {
    let (a, b) = (a.as_str(), b.as_str());
    a.len() == b.len() && (std::ptr::eq(a.as_ptr(), b.as_ptr()) || a == b)
}

/// Sorts cells by time and keeps the one of the latest batch for each moment.
pub(crate) fn latest_of_each_time(mut cells: Vec<(i64, u64, Value)>) -> Samples {
    cells.sort_unstable_by_key(|(time, seq, _)| (*time, *seq));
    let mut samples = Samples::default();
    for (index, (time, _, value)) in cells.iter().enumerate() {
        if cells.get(index + 1).is_none_or(|(next, _, _)| next != time) {
            samples.timestamps.make_mut().push(Timestamp::from_millis(*time));
            push_value(&mut samples.values, *value);
        }
    }
    samples
}

/// Appends a value; the vector becomes a mixed one when the kind of number changes.
pub(crate) fn push_value(values: &mut Values, value: Value) {
    match (&mut *values, value) {
        (Values::Ints(ints), Value::Int(value)) => ints.push(value),
        (Values::Floats(floats), Value::Float(value)) => floats.push(value),
        (Values::Mixed(mixed), value) => mixed.push(value),
        (Values::Ints(ints), Value::Float(value)) if ints.is_empty() => {
            *values = Values::Floats(vec![value]);
        }
        (Values::Floats(floats), Value::Int(value)) if floats.is_empty() => {
            *values = Values::Ints(vec![value]);
        }
        _ => {
            let mut mixed: Vec<_> = (0..values.len()).map(|index| values.get(index)).collect();
            mixed.push(value);
            *values = Values::Mixed(mixed);
        }
    }
}
