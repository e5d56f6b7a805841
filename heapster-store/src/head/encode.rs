//! [`Encoder`]: turns rows into the payload of a log record.
//!
//! It knows which texts, columns, layouts and sets the file has defined so far, and nothing else:
//! what rows are coded against is the [`Applier`]'s. Nothing that it defines for a batch is final
//! until the record is in the log; [`Encoder::undo`] forgets it.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use heapster_core::series::RowRef;
use heapster_core::storage::Column;
use heapster_core::{Labels, MetricKind, MetricValue, Text};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::Layout;
use super::apply::{Applier, SetTail};
use super::row::{COLUMNS_MAX, Cells, Tail};
use crate::options::Rejected;
use crate::tier::MARK;
use crate::wal::bytes::{put_text, put_varint, zigzag};
use crate::wal::format::RECORD_HEADER_BYTES;

/// Labels of a set at most, and bytes of all of them. Beyond this somebody stores documents.
const LABELS_MAX: usize = 128;
const LABEL_BYTES_MAX: usize = 64 << 10;
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
    /// Numbers in `symbol_list`, by the hash of the text.
    symbols: HashTable<u32>,
    symbol_list: Vec<Text>,
    columns: HashMap<(u32, MetricKind), u32>,
    column_list: Vec<(u32, MetricKind)>,
    layouts: HashMap<Arc<[u32]>, u32>,
    layout_list: Vec<Defined>,
    /// Hash of the labels and number of each set.
    sets: HashTable<(u64, u32)>,
    /// What is known of each set.
    known: Vec<Known>,
    /// The labels that metrics of their own brought to sets; see [`Known::own`].
    owns: HashMap<Labels, u32>,
    own_list: Vec<Labels>,
    sets_max: usize,
    batch: Batch,
    guess: Guess,
    hashed: Vec<u8>,
    cells: Cells,
    row: Vec<u8>,
    record: Vec<u8>,
}

/// What the encoder remembers of a set.
///
/// Batches of one collector bring the same sets in the same order. So a set is first looked for
/// where it was last time, behind the set that came before it, which costs one comparison instead
/// of a hash. A set of labelled metrics is not even compared as a whole: its labels are those of
/// the plain set and its own, and the plain set was compared just before.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Sequence of the last batch with a row of it.
    last_seq: u64,
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
    layout: Layout,
    /// Of each position the one whose cell came next last time; at the end the one that came first.
    next: Box<[u16]>,
}

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
    /// Sequence of the first batch of the call.
    call_seq: u64,
    seq: u64,
    time: i64,
    symbols_start: usize,
    columns_start: usize,
    layouts_start: usize,
    sets_start: usize,
    /// New sets: hash, labels and layout.
    new_sets: Vec<(u64, Labels, u32)>,
    /// Bytes of the texts and layouts that are new.
    new_bytes: usize,
    definitions: Vec<u8>,
    changes: Vec<u8>,
    change_count: u64,
    rows: Vec<u8>,
    row_count: u64,
    last_set: i64,
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
            symbol_list: Vec::new(),
            columns: HashMap::new(),
            column_list: Vec::new(),
            layouts: HashMap::new(),
            layout_list: Vec::new(),
            sets: HashTable::new(),
            known: Vec::new(),
            owns: HashMap::new(),
            own_list: Vec::new(),
            sets_max,
            batch: Batch::default(),
            guess: Guess { first: NONE, previous: NONE, plain: None },
            hashed: Vec::new(),
            cells: Cells::default(),
            row: Vec::new(),
            record: Vec::new(),
        }
    }

    /// Begins the batches of one call; `seq` is greater than any before.
    pub fn begin_call(&mut self, seq: u64, time: i64) {
        if self.batch.is_open {
            // The caller's iterator of rows panicked.
            self.undo();
        }
        self.batch.call_seq = seq;
        self.guess.previous = NONE;
        self.guess.plain = None;
        self.begin(seq, time);
    }

    /// Begins a batch; `seq` is greater than any before.
    pub fn begin(&mut self, seq: u64, time: i64) {
        let batch = &mut self.batch;
        batch.is_open = true;
        batch.seq = seq;
        batch.time = time;
        batch.symbols_start = self.symbol_list.len();
        batch.columns_start = self.column_list.len();
        batch.layouts_start = self.layout_list.len();
        batch.sets_start = self.known.len();
        batch.new_sets.clear();
        batch.new_bytes = 0;
        batch.definitions.clear();
        batch.changes.clear();
        batch.change_count = 0;
        batch.rows.clear();
        batch.row_count = 0;
        batch.last_set = 0;
    }

    /// Whether the batch has no row.
    pub fn is_empty(&self) -> bool {
        self.batch.row_count == 0
    }

    /// Bytes of the batch so far, roughly.
    pub fn bytes(&self) -> usize {
        let batch = &self.batch;
        batch.new_bytes + batch.definitions.len() + batch.changes.len() + batch.rows.len()
    }

    /// Adds a row to the batch.
    pub fn add(&mut self, applier: &Applier, row: &RowRef<'_>) -> Result<RowOutcome, NotAdded> {
        if row.cells.is_empty() {
            return Ok(RowOutcome::default());
        }
        match self.guessed(applier, row) {
            Some(set) => self.add_to(applier, set, row.cells),
            None => self.look_up_and_add(applier, row),
        }
    }

    /// The set of a row if it comes where it came last time.
    fn guessed(&mut self, applier: &Applier, row: &RowRef<'_>) -> Option<u32> {
        let guess = match self.guess.previous {
            NONE => self.guess.first,
            previous => self.known.get(previous as usize)?.next,
        };
        let known = self.known.get(guess as usize)?;
        let is_it = match row.own {
            None => applier.set(guess)?.set.labels == *row.labels,
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

    /// Adds a row whose set is known by its labels alone, or not at all.
    fn look_up_and_add(
        &mut self,
        applier: &Applier,
        row: &RowRef<'_>,
    ) -> Result<RowOutcome, NotAdded> {
        let labels = row.stored_labels();
        let hash = self.hash(&labels).map_err(NotAdded::Rejected)?;
        let (set, result) = match self.find(applier, hash, &labels) {
            Some(set) => (set, self.add_to(applier, set, row.cells)),
            None if self.known.len() >= self.sets_max => {
                return Err(NotAdded::Rejected(Rejected::TooManySets));
            }
            None => {
                let (set, outcome) = self.add_new(hash, &labels, row.cells)?;
                (set, Ok(outcome))
            }
        };
        self.remember(set, row);
        result
    }

    /// Keeps where a row of the set came, for the next call.
    fn remember(&mut self, set: u32, row: &RowRef<'_>) {
        match self.guess.previous {
            NONE => self.guess.first = set,
            previous => self.known[previous as usize].next = set,
        }
        self.guess.previous = set;
        let Some(own) = row.own else {
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
        hash: u64,
        labels: &Labels,
        cells: &[(&Text, MetricValue)],
    ) -> Result<(u32, RowOutcome), NotAdded> {
        // The set before most likely looks the same.
        let layout = self.batch.new_sets.last().map(|(_, _, layout)| *layout);
        let layout = match layout.filter(|layout| self.fill(*layout, cells, true)) {
            Some(layout) => layout,
            None => self.wider_layout(None, cells).map_err(NotAdded::Rejected)?,
        };
        let accepted = self.cells.count() as u64;
        let set = self.define_set(hash, labels, layout);
        self.known[set as usize].last_seq = self.batch.seq;
        self.put_row(set, None, &Tail::default());
        Ok((set, RowOutcome { accepted, ..RowOutcome::default() }))
    }

    fn add_to(
        &mut self,
        applier: &Applier,
        set: u32,
        cells: &[(&Text, MetricValue)],
    ) -> Result<RowOutcome, NotAdded> {
        if self.known[set as usize].last_seq >= self.batch.call_seq {
            return Err(NotAdded::Repeated(set));
        }
        let tail = applier.set(set).expect("bug: a set of an earlier batch is not in the head");
        let mut layout = tail.layout;
        if !self.fill(layout, cells, false) {
            layout = self.wider_layout(Some(layout), cells).map_err(NotAdded::Rejected)?;
        }
        let mut outcome = RowOutcome::default();
        let mut late = None;
        if !tail.main.is_empty() && self.batch.time <= tail.main.time {
            self.compare(tail, &mut outcome);
            if self.cells.count() == 0 {
                return Ok(outcome);
            }
            late = Some(run_before(&tail.late, self.batch.time));
        }
        outcome.accepted = self.cells.count() as u64;
        let fresh = Tail::default();
        let run = match late {
            None => &tail.main,
            Some(run) => tail.late.get(run).unwrap_or(&fresh),
        };
        let known = &mut self.known[set as usize];
        known.last_seq = self.batch.seq;
        // A change is said again with each restart: a damaged record must not cost more than the
        // rows up to there.
        if tail.layout != layout || (known.has_new_layout && run.restarts_next()) {
            known.has_new_layout = true;
            self.batch.change_count += 1;
            put_varint(&mut self.batch.changes, u64::from(set));
            put_varint(&mut self.batch.changes, u64::from(layout));
        }
        self.put_row(set, late, run);
        Ok(outcome)
    }

    /// The texts that the batch defines.
    pub fn new_symbols(&self) -> &[Text] {
        &self.symbol_list[self.batch.symbols_start..]
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
        put_varint(&mut record, batch.change_count);
        record.extend_from_slice(&batch.changes);
        put_varint(&mut record, batch.row_count);
        record.extend_from_slice(&batch.rows);
        if batch.rows.capacity() > BUFFER_BYTES_KEPT {
            self.batch.rows = Vec::new();
        }
        self.record = record;
    }

    /// What [`Encoder::finish`] made.
    pub fn record(&mut self) -> &mut [u8] {
        &mut self.record
    }

    /// The payload in it.
    pub fn payload(&self) -> &[u8] {
        self.record.get(RECORD_HEADER_BYTES..).unwrap_or_default()
    }

    /// Keeps what the batch defined: its record is in the log and applied.
    pub fn settle(&mut self) {
        self.batch.is_open = false;
    }

    /// Forgets what the batch defined: its record did not get into the log.
    pub fn undo(&mut self) {
        let batch = &mut self.batch;
        batch.is_open = false;
        for number in batch.symbols_start..self.symbol_list.len() {
            let hash = rapidhash_v3_seeded(self.symbol_list[number].as_bytes(), &self.secrets);
            if let Ok(entry) = self.symbols.find_entry(hash, |own| *own == number as u32) {
                entry.remove();
            }
        }
        self.symbol_list.truncate(batch.symbols_start);
        for column in self.column_list.drain(batch.columns_start..) {
            self.columns.remove(&column);
        }
        for defined in self.layout_list.drain(batch.layouts_start..) {
            self.layouts.remove(&defined.numbers);
        }
        for (index, (hash, _, _)) in batch.new_sets.drain(..).enumerate() {
            let number = (batch.sets_start + index) as u32;
            if let Ok(entry) = self.sets.find_entry(hash, |(_, own)| *own == number) {
                entry.remove();
            }
        }
        self.known.truncate(batch.sets_start);
        if batch.row_count == 0 {
            return;
        }
        let sets = self.known.len() as u32;
        for known in &mut self.known {
            // The next batch carries the same sequence, and no set has a row in it yet.
            if known.last_seq == batch.seq {
                known.last_seq = 0;
            }
            // The number will be that of another set.
            if known.plain >= sets {
                known.plain = NONE;
            }
        }
        self.guess.previous = NONE;
        self.guess.plain = None;
        self.batch.row_count = 0;
    }

    /// Checks the labels' limits and hashes them.
    fn hash(&mut self, labels: &Labels) -> Result<u64, Rejected> {
        self.hashed.clear();
        for label in labels {
            self.hashed.extend_from_slice(&(label.name.len() as u32).to_le_bytes());
            self.hashed.extend_from_slice(label.name.as_bytes());
            self.hashed.extend_from_slice(&(label.value.len() as u32).to_le_bytes());
            self.hashed.extend_from_slice(label.value.as_bytes());
        }
        if labels.len() > LABELS_MAX || self.hashed.len() > LABEL_BYTES_MAX + 8 * LABELS_MAX {
            return Err(Rejected::LabelsTooLarge);
        }
        Ok(rapidhash_v3_seeded(&self.hashed, &self.secrets))
    }

    fn find(&self, applier: &Applier, hash: u64, labels: &Labels) -> Option<u32> {
        let batch = &self.batch;
        let is_same = |(own_hash, number): &(u64, u32)| {
            *own_hash == hash
                && match (*number as usize).checked_sub(batch.sets_start) {
                    Some(new) => batch.new_sets[new].1 == *labels,
                    None => applier.set(*number).is_some_and(|tail| tail.set.labels == *labels),
                }
        };
        self.sets.find(hash, is_same).map(|(_, number)| *number)
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

    /// Puts the cells in the order of a layout that has the columns of `base` in their places and
    /// those of the cells.
    fn wider_layout(
        &mut self,
        base: Option<u32>,
        cells: &[(&Text, MetricValue)],
    ) -> Result<u32, Rejected> {
        let layout = self.layout_with(base, cells)?;
        assert!(self.fill(layout, cells, false), "bug: a layout lacks a column of its row");
        Ok(layout)
    }

    /// A layout that has the columns of `base` in their places and those of the cells.
    fn layout_with(
        &mut self,
        base: Option<u32>,
        cells: &[(&Text, MetricValue)],
    ) -> Result<u32, Rejected> {
        let base = base.and_then(|number| self.layout_list.get(number as usize));
        let mut columns = base.map_or_else(Vec::new, |base| base.layout.columns.to_vec());
        let mut positions: HashMap<Text, usize> = HashMap::with_capacity(columns.len());
        positions.extend(columns.iter().enumerate().map(|(at, c)| (c.name.clone(), at)));
        for (name, metric) in cells {
            if name.is_empty() || name.len() > COLUMN_NAME_BYTES_MAX || name.contains(MARK) {
                return Err(Rejected::ColumnName);
            }
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
        let numbers: Arc<[u32]> = columns.iter().map(|column| self.column(column)).collect();
        if let Some(known) = self.layouts.get(&numbers) {
            return Ok(*known);
        }
        let number = self.layout_list.len() as u32;
        self.batch.new_bytes += NUMBER_BYTES_MAX * (numbers.len() + 1);
        self.layouts.insert(Arc::clone(&numbers), number);
        let mut next: Box<[u16]> = (1..=columns.len() as u16 + 1).collect();
        next[columns.len()] = 0;
        self.layout_list.push(Defined { numbers, layout: Layout::new(columns), next });
        Ok(number)
    }

    fn column(&mut self, column: &Column) -> u32 {
        let key = (self.symbol(&column.name), column.kind);
        *self.columns.entry(key).or_insert_with(|| {
            self.column_list.push(key);
            self.batch.new_bytes += NUMBER_BYTES_MAX + 1;
            (self.column_list.len() - 1) as u32
        })
    }

    fn symbol(&mut self, text: &Text) -> u32 {
        let hash = rapidhash_v3_seeded(text.as_bytes(), &self.secrets);
        let list = &self.symbol_list;
        if let Some(known) = self.symbols.find(hash, |number| list[*number as usize] == *text) {
            return *known;
        }
        let number = list.len() as u32;
        self.batch.new_bytes += NUMBER_BYTES_MAX + text.len();
        let secrets = &self.secrets;
        self.symbols.insert_unique(hash, number, |number| {
            rapidhash_v3_seeded(list[*number as usize].as_bytes(), secrets)
        });
        self.symbol_list.push(text.clone());
        number
    }

    fn define_set(&mut self, hash: u64, labels: &Labels, layout: u32) -> u32 {
        let number = self.known.len() as u32;
        put_varint(&mut self.batch.definitions, u64::from(layout));
        put_varint(&mut self.batch.definitions, labels.len() as u64);
        for label in labels {
            let (name, value) = (self.symbol(&label.name), self.symbol(&label.value));
            put_varint(&mut self.batch.definitions, u64::from(name));
            put_varint(&mut self.batch.definitions, u64::from(value));
        }
        self.sets.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        self.batch.new_sets.push((hash, labels.clone(), layout));
        self.known.push(Known {
            last_seq: 0,
            next: NONE,
            plain: NONE,
            own: NONE,
            has_new_layout: false,
        });
        number
    }

    /// Counts the cells that the set already has for the batch's time and leaves out those that
    /// would change nothing.
    fn compare(&mut self, tail: &SetTail, outcome: &mut RowOutcome) {
        let is_last_row = tail.late.is_empty() && self.batch.time == tail.main.time;
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

    fn put_row(&mut self, set: u32, late: Option<usize>, run: &Tail) {
        let batch = &mut self.batch;
        let delta = zigzag(i64::from(set) - batch.last_set);
        batch.last_set = i64::from(set);
        put_varint(&mut batch.rows, delta << 1 | u64::from(late.is_some()));
        if let Some(run) = late {
            put_varint(&mut batch.rows, run as u64);
        }
        self.row.clear();
        run.encode(batch.seq, batch.time, &self.cells, &mut self.row);
        put_varint(&mut batch.rows, self.row.len() as u64);
        batch.rows.extend_from_slice(&self.row);
        batch.row_count += 1;
    }

    fn put_definitions(&self, record: &mut Vec<u8>) {
        let batch = &self.batch;
        let begin = |record: &mut Vec<u8>, start: usize, count: usize| {
            put_varint(record, start as u64);
            put_varint(record, count as u64);
        };
        let symbols = &self.symbol_list[batch.symbols_start..];
        begin(record, batch.symbols_start, symbols.len());
        symbols.iter().for_each(|text| put_text(record, text));
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

/// Names of the catalogue are the same memory everywhere, so most comparisons end at the pointer.
#[inline]
fn is_same_text(a: &Text, b: &Text) -> bool {
    let (a, b) = (a.as_str(), b.as_str());
    a.len() == b.len() && (std::ptr::eq(a.as_ptr(), b.as_ptr()) || a == b)
}

/// The late run that ends nearest before a time, or the number of a new one.
///
/// A row goes to the run that ends nearest before it and a new run begins before the ends of all
/// others, so the ends of the runs never rise.
fn run_before(runs: &[Tail], time: i64) -> usize {
    debug_assert!(runs.is_sorted_by(|a, b| a.time >= b.time));
    runs.partition_point(|run| run.time >= time)
}
