//! [`Encoder`]: turns rows into the payload of a log record.
//!
//! It finds the number of a text, a column, a layout and a set; what stands behind the number, and
//! what rows are coded against, is the [`Applier`]'s. Nothing of a batch is in the head before its
//! record is in the log: then [`Encoder::settle`] puts it there, else [`Encoder::undo`] forgets it.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::{HashMap, HashTable};
use heapster_core::series::RowRef;
use heapster_core::storage::Column;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Value};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::apply::{Applier, CodedRow, LATE_RUNS_MAX, SetTail, Tally};
use super::handle::{ColumnList, SetHandle};
use super::row::{COLUMNS_MAX, Cells, Tail};
use super::{LabelNumbers, Layout, is_same_text};
use crate::options::Rejected;
use crate::tier::MARK;
use crate::wal::bytes::{Reader, put_text, put_varint, zigzag};
use crate::wal::format::RECORD_HEADER_BYTES;

/// Labels of a set at most, and bytes of all of them. Beyond this somebody stores documents.
pub(crate) const LABELS_MAX: usize = 128;
pub(crate) const LABEL_BYTES_MAX: usize = 64 << 10;
/// Bytes of a column's name at most.
const COLUMN_NAME_BYTES_MAX: usize = 1 << 10;

/// Bytes of a number in a definition at most.
const NUMBER_BYTES_MAX: usize = 5;
/// A buffer that grew beyond this is given back after the batch.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
/// No set.
const NONE: u32 = u32::MAX;

/// Defines and codes the rows of one log file.
pub(crate) struct Encoder {
    secrets: RapidSecrets,
    /// Hash and number of each symbol.
    symbols: HashTable<Numbered>,
    columns: HashMap<(u32, MetricKind), u32>,
    column_list: Vec<(u32, MetricKind)>,
    layouts: HashMap<Arc<[u32]>, u32>,
    layout_list: Vec<Defined>,
    /// Hash of the labels and number of each set.
    sets: HashTable<Numbered>,
    /// What is known of each set.
    known: Vec<Known>,
    /// The labels that metrics of their own brought to sets; see [`Known::own`].
    owns: HashMap<Labels, u32>,
    own_list: Vec<Labels>,
    /// Where the cells of handles go.
    dense: Dense,
    /// What handles remember with the number of their set: no number has ever stood for two sets
    /// in the same era.
    era: u32,
    sets_max: usize,
    /// Number of the current call.
    call: u32,
    batch: Batch,
    guess: Guess,
    hashed: Vec<u8>,
    cells: Cells,
    record: Vec<u8>,
}

/// An entry of a hash table: a part of the hash, so that tables grow without hashing anything
/// again, and the number of the thing.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    hash: u32,
    number: u32,
}

impl Numbered {
    /// The hash as the table wants it: spread over all bits.
    fn spread(&self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What the encoder remembers of a set.
///
/// Batches of one collector bring the same sets in the same order. So a set is first looked for
/// where it was last time, behind the set that came before it, which costs one comparison instead
/// of a hash. A set of labelled metrics is not even compared as a whole: its labels are those of
/// the plain set and its own, and the plain set was compared just before.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// [`Labels::identity`] of the labels the caller last gave for it, or 0.
    identity: u64,
    /// The last call with a row of it, or 0.
    call: u32,
    /// The set whose row came next last time.
    next: u32,
    /// The plain set that its labels are made of, and the number of its own ones; or [`NONE`].
    plain: u32,
    own: u32,
    /// Whether its layout has changed.
    has_new_layout: bool,
}

/// A layout, with the order in which its cells come.
struct Defined {
    numbers: Arc<[u32]>,
    layout: Arc<Layout>,
    /// Of each position the one whose cell came next last time; at the end the one that came first.
    next: Box<[u16]>,
}

/// For lists of columns of handles and layouts: of each column its position in the layout, or
/// [`NOWHERE`].
#[derive(Default)]
struct Dense {
    positions: HashMap<(u64, u32), Arc<[u16]>>,
    /// The last one, since most rows look like the one before.
    last: Option<(u64, u32, Arc<[u16]>)>,
}

/// No position: the layout does not have the column, or not as that kind.
const NOWHERE: u16 = u16::MAX;

/// Where the rows of the current call stand in the order of the last one.
#[derive(Debug)]
struct Guess {
    /// The set whose row came first last time.
    first: u32,
    /// The set of the row before.
    previous: u32,
    /// The last plain set, with the labels the caller gave for it.
    plain: Option<(Labels, u32)>,
}

/// What the current batch has brought so far.
#[derive(Default)]
struct Batch {
    /// Whether it is neither in the log nor forgotten.
    is_open: bool,
    seq: u64,
    time: i64,
    symbols_start: u32,
    columns_start: usize,
    layouts_start: usize,
    sets_start: usize,
    new_symbols: Vec<Text>,
    new_sets: Vec<NewSet>,
    /// Bytes of the texts and layouts that are new.
    new_bytes: usize,
    /// The definitions of the sets as the record has them.
    definitions: Vec<u8>,
    /// Sets and their new layouts.
    changes: Vec<(u32, u32)>,
    /// The rows as the record has them, and where in there.
    rows: Vec<u8>,
    row_list: Vec<NewRow>,
    last_set: i64,
}

struct NewSet {
    hash: u32,
    labels: Labels,
    numbers: LabelNumbers,
    layout: u32,
    /// Its row in this batch.
    tail: Tail,
}

struct NewRow {
    set: u32,
    /// Number of the late run, or [`NONE`].
    late: u32,
    /// The coded row.
    start: u32,
    len: u32,
    samples: u32,
    /// Bytes that the tail of its run grew by.
    grown: u32,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowOutcome {
    /// Samples that are in the batch.
    pub accepted: u64,
    /// Samples that the store had with the same value; left out.
    pub duplicate: u64,
    /// Those of the accepted that take the place of another value of the same moment.
    pub replaced: u64,
}

/// Why a row is not in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdded {
    /// The call has brought a row of this set; what the row adds belongs into a batch after it.
    Repeated(u32),
    /// The store does not take it.
    Rejected(Rejected),
}

impl Encoder {
    /// An encoder of a file without records.
    pub fn new(sets_max: usize) -> Self {
        // Labels come from outside: with a known seed somebody could make them collide.
        let seed = std::hash::RandomState::new().hash_one(0_u8);
        Self {
            secrets: RapidSecrets::seed(seed),
            symbols: HashTable::new(),
            columns: HashMap::new(),
            column_list: Vec::new(),
            layouts: HashMap::new(),
            layout_list: Vec::new(),
            sets: HashTable::new(),
            known: Vec::new(),
            owns: HashMap::new(),
            own_list: Vec::new(),
            dense: Dense::default(),
            era: next_era(),
            sets_max,
            call: 0,
            batch: Batch::default(),
            guess: Guess { first: NONE, previous: NONE, plain: None },
            hashed: Vec::new(),
            cells: Cells::default(),
            record: Vec::new(),
        }
    }

    /// Begins the batches of one call; `seq` is greater than any before.
    pub fn begin_call(&mut self, applier: &mut Applier, seq: u64, time: i64) {
        if self.batch.is_open {
            // The caller's iterator of rows panicked.
            self.undo(applier);
        }
        self.call = self.call.wrapping_add(1);
        if self.call == 0 {
            self.known.iter_mut().for_each(|known| known.call = 0);
            self.call = 1;
        }
        self.guess.previous = NONE;
        self.guess.plain = None;
        self.begin(applier, seq, time);
    }

    /// Begins a batch; `seq` is greater than any before.
    pub fn begin(&mut self, applier: &Applier, seq: u64, time: i64) {
        let batch = &mut self.batch;
        batch.is_open = true;
        batch.seq = seq;
        batch.time = time;
        batch.symbols_start = applier.symbols();
        batch.columns_start = self.column_list.len();
        batch.layouts_start = self.layout_list.len();
        batch.sets_start = self.known.len();
        batch.new_symbols.clear();
        batch.new_sets.clear();
        batch.new_bytes = 0;
        batch.definitions.clear();
        batch.changes.clear();
        batch.rows.clear();
        batch.row_list.clear();
        batch.last_set = 0;
    }

    /// Whether the batch has no row.
    pub fn is_empty(&self) -> bool {
        self.batch.row_list.is_empty()
    }

    /// Bytes of the batch so far, roughly.
    pub fn bytes(&self) -> usize {
        let batch = &self.batch;
        let changes = batch.changes.len() * 2 * NUMBER_BYTES_MAX;
        batch.new_bytes + batch.definitions.len() + changes + batch.rows.len()
    }

    /// Adds a row to the batch.
    pub fn add(&mut self, applier: &mut Applier, row: &RowRef<'_>) -> Result<RowOutcome, NotAdded> {
        if row.cells.is_empty() {
            return Ok(RowOutcome::default());
        }
        match self.guessed(applier, row) {
            Some(set) => self.add_to(applier, set, row.cells),
            None => self.look_up_and_add(applier, row).1,
        }
    }

    /// Adds a row by its handle: a value or none for each of the handle's columns.
    pub fn add_dense(
        &mut self,
        applier: &mut Applier,
        handle: &SetHandle,
        values: &[Option<Value>],
    ) -> Result<RowOutcome, NotAdded> {
        let set = handle.place(self.era);
        if let Some(layout) = set.and_then(|set| Some(applier.set(set)?.layout))
            && let Some(set) = set
            && self.fill_dense(layout, handle.columns(), values)
        {
            self.check_is_first(set)?;
            if self.cells.count() == 0 {
                return Ok(RowOutcome::default());
            }
            return self.add_cells(applier, set, layout);
        }
        let mut cells = Vec::new();
        handle.cells(values, &mut cells);
        if cells.is_empty() {
            return Ok(RowOutcome::default());
        }
        let row = RowRef { labels: handle.labels(), own: None, cells: &cells };
        let (set, result) = self.look_up_and_add(applier, &row);
        if let Some(set) = set {
            handle.set_place(self.era, set);
        }
        result
    }

    /// The set of a row if it comes where it came last time.
    fn guessed(&mut self, applier: &Applier, row: &RowRef<'_>) -> Option<u32> {
        let guess = match self.guess.previous {
            NONE => self.guess.first,
            previous => self.known.get(previous as usize)?.next,
        };
        let known = self.known.get_mut(guess as usize)?;
        let is_it = match row.own {
            None => {
                let identity = row.labels.identity().map_or(0, u64::from);
                let is_it = (identity != 0 && known.identity == identity)
                    || applier.set(guess)?.set.has_labels(row.labels);
                if is_it {
                    known.identity = identity;
                }
                is_it
            }
            Some(own) => {
                self.guess.plain_of(row) == Some(known.plain)
                    && self.own_list.get(known.own as usize)? == own
            }
        };
        if !is_it {
            return None;
        }
        self.guess.previous = guess;
        if row.own.is_none() {
            self.guess.plain = Some((row.labels.clone(), guess));
        }
        Some(guess)
    }

    /// Adds a row whose set is known by its labels alone, or not at all; gives the set, too.
    fn look_up_and_add(
        &mut self,
        applier: &mut Applier,
        row: &RowRef<'_>,
    ) -> (Option<u32>, Result<RowOutcome, NotAdded>) {
        let labels = row.stored_labels();
        let hash = match self.hash(&labels) {
            Ok(hash) => hash,
            Err(reason) => return (None, Err(NotAdded::Rejected(reason))),
        };
        let (set, result) = match self.find(applier, hash, &labels) {
            Some(set) => (set, self.add_to(applier, set, row.cells)),
            None if self.known.len() >= self.sets_max => {
                return (None, Err(NotAdded::Rejected(Rejected::TooManySets)));
            }
            None => match self.add_new(applier, hash, &labels, row.cells) {
                Ok((set, outcome)) => (set, Ok(outcome)),
                Err(reason) => return (None, Err(NotAdded::Rejected(reason))),
            },
        };
        self.remember(set, row);
        (Some(set), result)
    }

    /// Keeps where a row of the set came, for the next call.
    fn remember(&mut self, set: u32, row: &RowRef<'_>) {
        match self.guess.previous {
            NONE => self.guess.first = set,
            previous => self.known[previous as usize].next = set,
        }
        self.guess.previous = set;
        let Some(own) = row.own else {
            self.known[set as usize].identity = row.labels.identity().map_or(0, u64::from);
            self.guess.plain = Some((row.labels.clone(), set));
            return;
        };
        let Some(plain) = self.guess.plain_of(row) else { return };
        let next = self.own_list.len() as u32;
        let own_number = *self.owns.entry_ref(own).or_insert_with(|| {
            self.own_list.push(own.clone());
            next
        });
        let known = &mut self.known[set as usize];
        (known.plain, known.own) = (plain, own_number);
    }

    fn add_new(
        &mut self,
        applier: &Applier,
        hash: u32,
        labels: &Labels,
        cells: &[(&Text, MetricValue)],
    ) -> Result<(u32, RowOutcome), Rejected> {
        // The set before most likely looks the same.
        let layout = self.batch.new_sets.last().map(|set| set.layout);
        let layout = match layout.filter(|layout| self.fill(*layout, cells, true)) {
            Some(layout) => layout,
            None => self.wider_layout(applier, None, cells)?,
        };
        let accepted = self.cells.count() as u64;
        let set = self.define_set(applier, hash, labels, layout);
        let mut tail = Tail::default();
        self.put_row(set, None, &mut tail);
        if let Some(new) = self.batch.new_sets.last_mut() {
            new.tail = tail;
        }
        Ok((set, RowOutcome { accepted, ..RowOutcome::default() }))
    }

    fn add_to(
        &mut self,
        applier: &mut Applier,
        set: u32,
        cells: &[(&Text, MetricValue)],
    ) -> Result<RowOutcome, NotAdded> {
        self.check_is_first(set)?;
        let tail = applier.set(set).expect("bug: a set of an earlier batch is not in the head");
        let mut layout = tail.layout;
        if !self.fill(layout, cells, false) {
            let base = Some(layout);
            layout = self.wider_layout(applier, base, cells).map_err(NotAdded::Rejected)?;
        }
        self.add_cells(applier, set, layout)
    }

    /// Refuses a second row of a set in one call.
    fn check_is_first(&self, set: u32) -> Result<(), NotAdded> {
        match self.known[set as usize].call == self.call {
            true => Err(NotAdded::Repeated(set)),
            false => Ok(()),
        }
    }

    /// Adds a row of a set of an earlier batch: its cells in that layout.
    fn add_cells(
        &mut self,
        applier: &mut Applier,
        set: u32,
        layout: u32,
    ) -> Result<RowOutcome, NotAdded> {
        let tail = applier.set_mut(set).expect("bug: a set of an earlier batch is not in the head");
        let mut outcome = RowOutcome::default();
        let mut late = None;
        if !tail.main.is_empty() && self.batch.time <= tail.main.time {
            self.compare(tail, &mut outcome);
            if self.cells.count() == 0 {
                return Ok(outcome);
            }
            let run = run_before(tail.late(), self.batch.time);
            if run == LATE_RUNS_MAX {
                return Err(NotAdded::Rejected(Rejected::OutOfOrder));
            }
            late = Some(run);
        }
        outcome.accepted = self.cells.count() as u64;
        let is_other = tail.layout != layout;
        let run = tail.run_mut(late).expect("bug: a late run is neither there nor the next one");
        // A change is said again with each restart: a damaged record must not cost more than the
        // rows up to there.
        let known = &mut self.known[set as usize];
        if is_other || (known.has_new_layout && run.restarts_next()) {
            known.has_new_layout = true;
            self.batch.changes.push((set, layout));
        }
        self.put_row(set, late, run);
        Ok(outcome)
    }

    /// Makes the record of the batch, with room for the record's header in front.
    pub fn finish(&mut self) {
        let mut record = std::mem::take(&mut self.record);
        if record.capacity() > BUFFER_BYTES_KEPT {
            record = Vec::new();
        }
        record.clear();
        let batch = &self.batch;
        record.reserve(RECORD_HEADER_BYTES + 64 + self.bytes());
        record.resize(RECORD_HEADER_BYTES, 0);
        put_varint(&mut record, batch.seq);
        put_varint(&mut record, zigzag(batch.time));
        self.put_definitions(&mut record);
        put_varint(&mut record, batch.changes.len() as u64);
        for (set, layout) in &batch.changes {
            put_varint(&mut record, u64::from(*set));
            put_varint(&mut record, u64::from(*layout));
        }
        put_varint(&mut record, batch.row_list.len() as u64);
        record.extend_from_slice(&batch.rows);
        self.record = record;
    }

    /// What [`Encoder::finish`] made.
    pub fn record(&mut self) -> &mut [u8] {
        &mut self.record
    }

    /// The payload in it.
    #[cfg(test)]
    pub fn payload(&self) -> &[u8] {
        self.record.get(RECORD_HEADER_BYTES..).unwrap_or_default()
    }

    /// Puts the batch into the head: its record is in the log. What it does there is what
    /// [`Applier::apply`] does with the payload, without reading it.
    pub fn settle(&mut self, applier: &mut Applier) {
        let batch = &mut self.batch;
        batch.is_open = false;
        batch.new_symbols.drain(..).for_each(|text| applier.add_symbol(text));
        for (symbol, kind) in &self.column_list[batch.columns_start..] {
            let name = applier.symbol(*symbol).cloned();
            applier.add_column(name.map(|name| Column { name, kind: *kind }));
        }
        for defined in &self.layout_list[batch.layouts_start..] {
            applier.add_layout(Some(Arc::clone(&defined.layout)));
        }
        for new in batch.new_sets.drain(..) {
            applier.add_set(batch.seq, new.layout, Some(new.numbers), new.tail);
        }
        for (set, layout) in &batch.changes {
            applier.change_layout(batch.seq, *set, *layout);
        }
        let mut tally = Tally::default();
        for row in &batch.row_list {
            let (start, end) = (row.start as usize, (row.start + row.len) as usize);
            let coded = CodedRow {
                late: (row.late != NONE).then_some(row.late as usize),
                bytes: &batch.rows[start..end],
                time: batch.time,
                samples: u64::from(row.samples),
                grown: row.grown as usize,
            };
            let set = applier.set(row.set).expect("bug: our own batch lacks a set (W5)");
            assert!(set.keep(&coded, &mut tally), "bug: our own row does not follow its run (W3)");
        }
        applier.count(&tally);
        if batch.rows.capacity() > BUFFER_BYTES_KEPT {
            (batch.rows, batch.row_list, batch.new_sets) = Default::default();
        }
    }

    /// Forgets the batch: its record did not get into the log.
    pub fn undo(&mut self, applier: &mut Applier) {
        let batch = &mut self.batch;
        batch.is_open = false;
        for (index, text) in batch.new_symbols.drain(..).enumerate() {
            let hash = hash_of(text.as_bytes(), &self.secrets);
            remove(&mut self.symbols, hash, batch.symbols_start + index as u32);
        }
        for column in self.column_list.drain(batch.columns_start..) {
            self.columns.remove(&column);
        }
        if !batch.new_sets.is_empty() || self.layout_list.len() > batch.layouts_start {
            // The numbers will be those of other sets and layouts.
            self.era = next_era();
            self.dense = Dense::default();
        }
        for defined in self.layout_list.drain(batch.layouts_start..) {
            self.layouts.remove(&defined.numbers);
        }
        let sets = batch.sets_start as u32;
        for (index, new) in batch.new_sets.drain(..).enumerate() {
            remove(&mut self.sets, new.hash, sets + index as u32);
        }
        self.known.truncate(batch.sets_start);
        if batch.row_list.is_empty() {
            return;
        }
        for row in batch.row_list.drain(..).filter(|row| row.set < sets) {
            applier.set_mut(row.set).into_iter().for_each(SetTail::restore);
        }
        for known in &mut self.known {
            // The number will be that of another set.
            if known.plain >= sets {
                known.plain = NONE;
            }
        }
        self.guess.previous = NONE;
        self.guess.plain = None;
    }

    /// Checks the labels' limits and hashes them.
    fn hash(&mut self, labels: &Labels) -> Result<u32, Rejected> {
        self.hashed.clear();
        for label in labels {
            self.hashed.extend_from_slice(&(label.name.len() as u32).to_le_bytes());
            self.hashed.extend_from_slice(label.name.as_bytes());
            self.hashed.extend_from_slice(&(label.value.len() as u32).to_le_bytes());
            self.hashed.extend_from_slice(label.value.as_bytes());
        }
        check_sizes(labels.len(), self.hashed.len() - 8 * labels.len())?;
        Ok(hash_of(&self.hashed, &self.secrets))
    }

    fn find(&self, applier: &Applier, hash: u32, labels: &Labels) -> Option<u32> {
        let batch = &self.batch;
        let is_same = |own: &Numbered| {
            own.hash == hash
                && match (own.number as usize).checked_sub(batch.sets_start) {
                    Some(new) => batch.new_sets[new].labels == *labels,
                    None => applier.set(own.number).is_some_and(|tail| tail.set.has_labels(labels)),
                }
        };
        self.sets.find(Numbered { hash, number: 0 }.spread(), is_same).map(|own| own.number)
    }

    /// Puts the cells in the order of a layout; `false` when it lacks one of them or, with
    /// `is_exact`, has one more.
    fn fill(&mut self, layout: u32, cells: &[(&Text, MetricValue)], is_exact: bool) -> bool {
        let Some(Defined { layout, next, .. }) = self.layout_list.get_mut(layout as usize) else {
            return false;
        };
        let columns = &layout.columns;
        if is_exact && columns.len() != cells.len() {
            return false;
        }
        self.cells.clear(columns.len());
        let mut previous = columns.len();
        for (name, metric) in cells {
            // Rows of sets that look alike come with their cells in the same order.
            let guess = usize::from(next[previous]);
            let position = match columns.get(guess) {
                Some(column) if is_same_text(&column.name, name) => guess,
                _ => match layout.position(name) {
                    Some(position) => position,
                    None => return false,
                },
            };
            if columns[position].kind != metric.kind {
                return false;
            }
            self.cells.set(position, metric.value);
            next[previous] = position as u16;
            previous = position;
        }
        true
    }

    /// Puts a handle's values in the order of a layout; `false` when it lacks one of them.
    fn fill_dense(&mut self, layout: u32, list: &ColumnList, values: &[Option<Value>]) -> bool {
        let key = (list.id(), layout);
        let positions = match &self.dense.last {
            Some((list, layout, positions)) if (*list, *layout) == key => positions,
            _ => {
                let Some(defined) = self.layout_list.get(layout as usize) else { return false };
                let new = || list.positions_in(&defined.layout, NOWHERE);
                let known = self.dense.positions.entry(key).or_insert_with(new);
                &self.dense.last.insert((key.0, key.1, Arc::clone(known))).2
            }
        };
        let Some(defined) = self.layout_list.get(layout as usize) else { return false };
        self.cells.clear(defined.layout.columns.len());
        for (position, value) in positions.iter().zip(values) {
            let Some(value) = value else { continue };
            if *position == NOWHERE {
                return false;
            }
            self.cells.set(usize::from(*position), *value);
        }
        true
    }

    /// Puts the cells in the order of a layout that has the columns of `base` in their places and
    /// those of the cells.
    fn wider_layout(
        &mut self,
        applier: &Applier,
        base: Option<u32>,
        cells: &[(&Text, MetricValue)],
    ) -> Result<u32, Rejected> {
        let layout = self.layout_with(applier, base, cells)?;
        assert!(self.fill(layout, cells, false), "bug: a layout lacks a column of its row");
        Ok(layout)
    }

    /// A layout that has the columns of `base` in their places and those of the cells.
    fn layout_with(
        &mut self,
        applier: &Applier,
        base: Option<u32>,
        cells: &[(&Text, MetricValue)],
    ) -> Result<u32, Rejected> {
        let base = base.and_then(|number| self.layout_list.get(number as usize));
        let mut columns = base.map_or_else(Vec::new, |base| base.layout.columns.to_vec());
        let mut positions: HashMap<Text, usize> = HashMap::with_capacity(columns.len());
        positions.extend(columns.iter().enumerate().map(|(at, c)| (c.name.clone(), at)));
        for (name, metric) in cells {
            check_column_name(name)?;
            match positions.get(name.as_str()) {
                Some(position) => columns[*position].kind = metric.kind,
                None => {
                    positions.insert((*name).clone(), columns.len());
                    columns.push(Column { name: (*name).clone(), kind: metric.kind });
                }
            }
        }
        if columns.len() > COLUMNS_MAX {
            return Err(Rejected::TooManyColumns);
        }
        let numbers: Arc<[u32]> =
            columns.iter().map(|column| self.column(applier, column)).collect();
        if let Some(known) = self.layouts.get(&numbers) {
            return Ok(*known);
        }
        let number = self.layout_list.len() as u32;
        self.batch.new_bytes += NUMBER_BYTES_MAX * (numbers.len() + 1);
        self.layouts.insert(Arc::clone(&numbers), number);
        let mut next: Box<[u16]> = (1..=columns.len() as u16 + 1).collect();
        next[columns.len()] = 0;
        let layout = Arc::new(Layout::new(columns));
        self.layout_list.push(Defined { numbers, layout, next });
        Ok(number)
    }

    fn column(&mut self, applier: &Applier, column: &Column) -> u32 {
        let key = (self.symbol(applier, &column.name), column.kind);
        *self.columns.entry(key).or_insert_with(|| {
            self.column_list.push(key);
            self.batch.new_bytes += NUMBER_BYTES_MAX + 1;
            (self.column_list.len() - 1) as u32
        })
    }

    fn symbol(&mut self, applier: &Applier, text: &Text) -> u32 {
        let batch = &mut self.batch;
        let hash = hash_of(text.as_bytes(), &self.secrets);
        let is_same = |own: &Numbered| {
            own.hash == hash
                && match own.number.checked_sub(batch.symbols_start) {
                    Some(new) => batch.new_symbols[new as usize] == *text,
                    None => applier.symbol(own.number) == Some(text),
                }
        };
        let mut entry = Numbered { hash, number: 0 };
        if let Some(known) = self.symbols.find(entry.spread(), is_same) {
            return known.number;
        }
        entry.number = batch.symbols_start + batch.new_symbols.len() as u32;
        batch.new_bytes += NUMBER_BYTES_MAX + text.len();
        batch.new_symbols.push(text.clone());
        self.symbols.insert_unique(entry.spread(), entry, Numbered::spread);
        entry.number
    }

    fn define_set(&mut self, applier: &Applier, hash: u32, labels: &Labels, layout: u32) -> u32 {
        let number = self.known.len() as u32;
        let numbers = self.label_numbers(applier, labels);
        let definitions = &mut self.batch.definitions;
        put_varint(definitions, u64::from(layout));
        put_varint(definitions, numbers.len() as u64);
        numbers
            .as_flattened()
            .iter()
            .for_each(|symbol| put_varint(definitions, u64::from(*symbol)));
        let entry = Numbered { hash, number };
        self.sets.insert_unique(entry.spread(), entry, Numbered::spread);
        let (labels, tail) = (labels.clone(), Tail::default());
        self.batch.new_sets.push(NewSet { hash, labels, numbers, layout, tail });
        self.known.push(Known {
            identity: 0,
            call: 0,
            next: NONE,
            plain: NONE,
            own: NONE,
            has_new_layout: false,
        });
        number
    }

    /// The symbols of labels. The set before most likely has the same names and some of the values.
    fn label_numbers(&mut self, applier: &Applier, labels: &Labels) -> LabelNumbers {
        let before = self.batch.new_sets.len().checked_sub(1);
        let numbers = labels.iter().enumerate().map(|(index, label)| {
            let same = before.and_then(|before| {
                let set = self.batch.new_sets.get(before)?;
                Some((set.labels.iter().nth(index)?, *set.numbers.get(index)?))
            });
            let name = same.filter(|(same, _)| is_same_text(&same.name, &label.name));
            let value = same.filter(|(same, _)| is_same_text(&same.value, &label.value));
            let (name, value) = (name.map(|(_, numbers)| numbers[0]), value.map(|(_, n)| n[1]));
            [
                name.unwrap_or_else(|| self.symbol(applier, &label.name)),
                value.unwrap_or_else(|| self.symbol(applier, &label.value)),
            ]
        });
        numbers.collect()
    }

    /// Counts the cells that the set already has for the batch's time and leaves out those that
    /// would change nothing.
    fn compare(&mut self, tail: &SetTail, outcome: &mut RowOutcome) {
        let is_last_row = tail.late().is_empty() && self.batch.time == tail.main.time;
        let older = if is_last_row { Vec::new() } else { tail.set.cells_at(self.batch.time) };
        for column in 0..self.cells.width() {
            let Some(new) = self.cells.get(column) else { continue };
            let old = match is_last_row {
                true => tail.main.cell(column),
                false => older.get(column).copied().flatten(),
            };
            if old == Some(new) {
                self.cells.remove(column);
                outcome.duplicate += 1;
            } else if old.is_some() {
                outcome.replaced += 1;
            }
        }
    }

    /// Codes the cells as the next row of a run.
    fn put_row(&mut self, set: u32, late: Option<usize>, run: &mut Tail) {
        let batch = &mut self.batch;
        let delta = zigzag(i64::from(set) - batch.last_set);
        batch.last_set = i64::from(set);
        put_varint(&mut batch.rows, delta << 1 | u64::from(late.is_some()));
        if let Some(run) = late {
            put_varint(&mut batch.rows, run as u64);
        }
        let before = run.heap_bytes();
        let decoded = cfg!(debug_assertions).then(|| run.clone());
        // Nearly every row is so short that its length takes one byte.
        let mut start = batch.rows.len() + 1;
        batch.rows.push(0);
        run.encode(batch.seq, batch.time, &self.cells, &mut batch.rows);
        let len = batch.rows.len() - start;
        if len < 0x80 {
            batch.rows[start - 1] = len as u8;
        } else {
            let mut varint = Vec::new();
            put_varint(&mut varint, len as u64);
            start += varint.len() - 1;
            batch.rows.splice(start - varint.len()..start - varint.len() + 1, varint);
        }
        if let Some(mut decoded) = decoded {
            let read = decoded.decode(&mut Reader::new(&batch.rows[start..]));
            debug_assert!(read.is_ok() && decoded == *run, "bug: a row is read as another one");
        }
        batch.row_list.push(NewRow {
            set,
            late: late.map_or(NONE, |run| run as u32),
            start: start as u32,
            len: len as u32,
            samples: self.cells.count() as u32,
            grown: run.heap_bytes().saturating_sub(before) as u32,
        });
        self.known[set as usize].call = self.call;
    }

    fn put_definitions(&self, record: &mut Vec<u8>) {
        let batch = &self.batch;
        let begin = |record: &mut Vec<u8>, start: usize, count: usize| {
            put_varint(record, start as u64);
            put_varint(record, count as u64);
        };
        begin(record, batch.symbols_start as usize, batch.new_symbols.len());
        batch.new_symbols.iter().for_each(|text| put_text(record, text));
        let columns = &self.column_list[batch.columns_start..];
        begin(record, batch.columns_start, columns.len());
        for (symbol, kind) in columns {
            put_varint(record, u64::from(*symbol));
            record.push(match kind {
                MetricKind::Cumulative => 1,
                MetricKind::Gauge => 2,
                MetricKind::Delta => 3,
            });
        }
        let layouts = &self.layout_list[batch.layouts_start..];
        begin(record, batch.layouts_start, layouts.len());
        for Defined { numbers, .. } in layouts {
            put_varint(record, numbers.len() as u64);
            numbers.iter().for_each(|column| put_varint(record, u64::from(*column)));
        }
        begin(record, batch.sets_start, batch.new_sets.len());
        record.extend_from_slice(&batch.definitions);
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("sets", &self.sets.len()).finish_non_exhaustive()
    }
}

impl Guess {
    /// The set with the labels of the row's metric set, if its plain row came just before.
    fn plain_of(&self, row: &RowRef<'_>) -> Option<u32> {
        let (labels, set) = self.plain.as_ref()?;
        // The comparison ends at the shared pointer.
        (labels == row.labels).then_some(*set)
    }
}

/// Checks the limits of a set's labels.
pub(crate) fn check_labels(labels: &Labels) -> Result<(), Rejected> {
    check_sizes(labels.len(), labels.iter().map(|l| l.name.len() + l.value.len()).sum())
}

fn check_sizes(labels: usize, bytes: usize) -> Result<(), Rejected> {
    let is_too_large = labels > LABELS_MAX || bytes > LABEL_BYTES_MAX;
    if is_too_large { Err(Rejected::LabelsTooLarge) } else { Ok(()) }
}

/// Checks the limits of the columns of a handle.
pub(crate) fn check_columns(columns: &[(Text, MetricKind)]) -> Result<(), Rejected> {
    if columns.len() > COLUMNS_MAX {
        return Err(Rejected::TooManyColumns);
    }
    let mut names: Vec<&Text> = columns.iter().map(|(name, _)| name).collect();
    names.iter().try_for_each(|name| check_column_name(name))?;
    names.sort_unstable();
    let is_twice = names.windows(2).any(|pair| pair[0] == pair[1]);
    if is_twice { Err(Rejected::ColumnName) } else { Ok(()) }
}

/// Refuses a name that is empty, too long or could be that of an aggregate.
pub(crate) fn check_column_name(name: &str) -> Result<(), Rejected> {
    let is_fine = (1..=COLUMN_NAME_BYTES_MAX).contains(&name.len()) && !name.contains(MARK);
    if is_fine { Ok(()) } else { Err(Rejected::ColumnName) }
}

/// Eras of all stores of the process.
static ERAS: AtomicU32 = AtomicU32::new(0);

fn next_era() -> u32 {
    ERAS.fetch_add(1, Ordering::Relaxed)
}

fn hash_of(bytes: &[u8], secrets: &RapidSecrets) -> u32 {
    rapidhash_v3_seeded(bytes, secrets) as u32
}

fn remove(table: &mut HashTable<Numbered>, hash: u32, number: u32) {
    let entry = Numbered { hash, number };
    if let Ok(found) = table.find_entry(entry.spread(), |own| own.number == number) {
        found.remove();
    }
}

/// The late run that ends nearest before a time, or the number of a new one.
///
/// A row goes to the run that ends nearest before it and a new run begins before the ends of all
/// others, so the ends of the runs never rise.
fn run_before(runs: &[Tail], time: i64) -> usize {
    debug_assert!(runs.is_sorted_by(|a, b| a.time >= b.time));
    runs.partition_point(|run| run.time >= time)
}
