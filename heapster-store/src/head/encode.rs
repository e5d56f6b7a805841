//! [`Encoder`]: turns rows into the payload of a log record.
//!
//! It knows which texts, columns, layouts and sets the file has defined so far, and nothing else:
//! what rows are coded against is the [`Applier`]'s. Nothing that it defines for a batch is final
//! until the record is in the log; [`Encoder::undo`] forgets it.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{HashMap, HashTable};
use heapster_core::storage::Column;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Value};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::Layout;
use super::apply::{Applier, SetTail};
use super::row::COLUMNS_MAX;
use crate::options::Rejected;
use crate::wal::bytes::{put_text, put_varint, zigzag};
use crate::wal::format::RECORD_HEADER_BYTES;

/// Labels of a set at most, and bytes of all of them. Beyond this somebody stores documents.
const LABELS_MAX: usize = 128;
const LABEL_BYTES_MAX: usize = 64 << 10;
/// Bytes of a column's name at most.
const COLUMN_NAME_BYTES_MAX: usize = 1 << 10;

/// Defines and codes the rows of one log file.
pub(crate) struct Encoder {
    secrets: RapidSecrets,
    symbols: HashMap<Text, u32>,
    symbol_list: Vec<Text>,
    columns: HashMap<(u32, MetricKind), u32>,
    column_list: Vec<(u32, MetricKind)>,
    layouts: HashMap<Arc<[u32]>, u32>,
    layout_list: Vec<(Arc<[u32]>, Arc<Layout>)>,
    /// Hash of the labels and number of each set.
    sets: HashTable<(u64, u32)>,
    /// Sequence of the last batch with a row of each set.
    last_seq: Vec<u64>,
    sets_max: usize,
    batch: Batch,
    hashed: Vec<u8>,
    cells: Vec<Option<Value>>,
    row: Vec<u8>,
}

/// What the current batch has brought so far.
#[derive(Default)]
struct Batch {
    seq: u64,
    time: i64,
    symbols_start: usize,
    columns_start: usize,
    layouts_start: usize,
    sets_start: usize,
    /// New sets: hash, labels and layout.
    new_sets: Vec<(u64, Labels, u32)>,
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
    /// The batch has a row of the set; this one belongs into a batch after it.
    Repeated,
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
            symbols: HashMap::new(),
            symbol_list: Vec::new(),
            columns: HashMap::new(),
            column_list: Vec::new(),
            layouts: HashMap::new(),
            layout_list: Vec::new(),
            sets: HashTable::new(),
            last_seq: Vec::new(),
            sets_max,
            batch: Batch::default(),
            hashed: Vec::new(),
            cells: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Begins a batch; `seq` is greater than any before.
    pub fn begin(&mut self, seq: u64, time: i64) {
        let batch = &mut self.batch;
        batch.seq = seq;
        batch.time = time;
        batch.symbols_start = self.symbol_list.len();
        batch.columns_start = self.column_list.len();
        batch.layouts_start = self.layout_list.len();
        batch.sets_start = self.last_seq.len();
        batch.new_sets.clear();
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

    /// Bytes of rows so far.
    pub fn row_bytes(&self) -> usize {
        self.batch.rows.len()
    }

    /// Adds a row to the batch.
    pub fn add(
        &mut self,
        applier: &Applier,
        labels: &Labels,
        cells: &[(Text, MetricValue)],
    ) -> Result<RowOutcome, NotAdded> {
        if cells.is_empty() {
            return Ok(RowOutcome::default());
        }
        let hash = self.hash(labels).map_err(NotAdded::Rejected)?;
        let (set, mut layout) = match self.find(applier, hash, labels) {
            Some(set) if self.last_seq[set as usize] == self.batch.seq => {
                return Err(NotAdded::Repeated);
            }
            Some(set) => (Some(set), self.layout_of(applier, set)),
            None if self.last_seq.len() >= self.sets_max => {
                return Err(NotAdded::Rejected(Rejected::TooManySets));
            }
            // The set before most likely looks the same.
            None => (None, self.batch.new_sets.last().map(|(_, _, layout)| *layout)),
        };
        if !self.fill(layout, cells, set.is_none()) {
            let base = if set.is_some() { layout } else { None };
            let number = self.layout_with(base, cells).map_err(NotAdded::Rejected)?;
            layout = Some(number);
            assert!(self.fill(layout, cells, false), "bug: a layout lacks a column of its row");
        }
        let layout = layout.expect("bug: a row without a layout");
        let tail = set.and_then(|set| applier.set(set));
        let mut outcome = RowOutcome::default();
        let mut late = None;
        if let Some(tail) = tail
            && !tail.main.is_empty()
            && self.batch.time <= tail.main.time
        {
            self.compare(tail, &mut outcome);
            if self.cells.iter().all(Option::is_none) {
                return Ok(outcome);
            }
            late = Some(run_before(&tail.late, self.batch.time));
        }
        outcome.accepted = self.cells.iter().flatten().count() as u64;
        let set = match set {
            None => self.define_set(hash, labels, layout),
            Some(set) => {
                if applier.set(set).is_some_and(|tail| tail.layout != layout) {
                    self.batch.change_count += 1;
                    put_varint(&mut self.batch.changes, u64::from(set));
                    put_varint(&mut self.batch.changes, u64::from(layout));
                }
                set
            }
        };
        self.last_seq[set as usize] = self.batch.seq;
        self.put_row(set, late, tail);
        Ok(outcome)
    }

    /// The record of the batch, with room for the record's header in front.
    pub fn finish(&mut self) -> Vec<u8> {
        let batch = &self.batch;
        let mut record = vec![0; RECORD_HEADER_BYTES];
        record.reserve(64 + batch.definitions.len() + batch.changes.len() + batch.rows.len());
        put_varint(&mut record, batch.seq);
        put_varint(&mut record, zigzag(batch.time));
        self.put_definitions(&mut record);
        put_varint(&mut record, batch.change_count);
        record.extend_from_slice(&batch.changes);
        put_varint(&mut record, batch.row_count);
        record.extend_from_slice(&batch.rows);
        record
    }

    /// Forgets what the batch defined: its record did not get into the log.
    pub fn undo(&mut self) {
        let batch = &mut self.batch;
        for text in self.symbol_list.drain(batch.symbols_start..) {
            self.symbols.remove(&text);
        }
        for column in self.column_list.drain(batch.columns_start..) {
            self.columns.remove(&column);
        }
        for (columns, _) in self.layout_list.drain(batch.layouts_start..) {
            self.layouts.remove(&columns);
        }
        for (index, (hash, _, _)) in batch.new_sets.drain(..).enumerate() {
            let number = (batch.sets_start + index) as u32;
            if let Ok(entry) = self.sets.find_entry(hash, |(_, own)| *own == number) {
                entry.remove();
            }
        }
        self.last_seq.truncate(batch.sets_start);
        // The next batch carries the same sequence, and no set has a row in it yet.
        for seq in self.last_seq.iter_mut().filter(|seq| **seq == batch.seq) {
            *seq = 0;
        }
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

    fn layout_of(&self, applier: &Applier, set: u32) -> Option<u32> {
        applier.set(set).map(|tail| tail.layout)
    }

    /// Puts the cells in the order of a layout; `false` when it lacks one of them or, with
    /// `is_exact`, has one more.
    fn fill(&mut self, layout: Option<u32>, cells: &[(Text, MetricValue)], is_exact: bool) -> bool {
        let Some((_, layout)) = layout.and_then(|number| self.layout_list.get(number as usize))
        else {
            return false;
        };
        let columns = &layout.columns;
        if is_exact && columns.len() != cells.len() {
            return false;
        }
        self.cells.clear();
        self.cells.resize(columns.len(), None);
        let mut next = 0;
        for (name, metric) in cells {
            // Rows of a set nearly always come with their cells in the same order.
            let position = match columns.get(next) {
                Some(column) if column.name == *name => Some(next),
                _ => layout.position(name),
            };
            match position {
                Some(position) if columns[position].kind == metric.kind => {
                    self.cells[position] = Some(metric.value);
                    next = position + 1;
                }
                _ => return false,
            }
        }
        true
    }

    /// A layout that has the columns of `base` in their places and those of the cells.
    fn layout_with(
        &mut self,
        base: Option<u32>,
        cells: &[(Text, MetricValue)],
    ) -> Result<u32, Rejected> {
        let base = base.and_then(|number| self.layout_list.get(number as usize));
        let mut columns = base.map_or_else(Vec::new, |(_, layout)| layout.columns.to_vec());
        let mut positions: HashMap<Text, usize> = HashMap::with_capacity(columns.len());
        positions.extend(columns.iter().enumerate().map(|(at, c)| (c.name.clone(), at)));
        for (name, metric) in cells {
            if name.is_empty() || name.len() > COLUMN_NAME_BYTES_MAX {
                return Err(Rejected::ColumnName);
            }
            match positions.get(name) {
                Some(position) => columns[*position].kind = metric.kind,
                None => {
                    positions.insert(name.clone(), columns.len());
                    columns.push(Column { name: name.clone(), kind: metric.kind });
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
        self.layouts.insert(Arc::clone(&numbers), number);
        self.layout_list.push((numbers, Arc::new(Layout::new(columns))));
        Ok(number)
    }

    fn column(&mut self, column: &Column) -> u32 {
        let key = (self.symbol(&column.name), column.kind);
        *self.columns.entry(key).or_insert_with(|| {
            self.column_list.push(key);
            (self.column_list.len() - 1) as u32
        })
    }

    fn symbol(&mut self, text: &Text) -> u32 {
        if let Some(known) = self.symbols.get(text) {
            return *known;
        }
        let number = self.symbol_list.len() as u32;
        self.symbols.insert(text.clone(), number);
        self.symbol_list.push(text.clone());
        number
    }

    fn define_set(&mut self, hash: u64, labels: &Labels, layout: u32) -> u32 {
        let number = self.last_seq.len() as u32;
        put_varint(&mut self.batch.definitions, u64::from(layout));
        put_varint(&mut self.batch.definitions, labels.len() as u64);
        for label in labels {
            let (name, value) = (self.symbol(&label.name), self.symbol(&label.value));
            put_varint(&mut self.batch.definitions, u64::from(name));
            put_varint(&mut self.batch.definitions, u64::from(value));
        }
        self.sets.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        self.batch.new_sets.push((hash, labels.clone(), layout));
        self.last_seq.push(0);
        number
    }

    /// Counts the cells that the set already has for the batch's time and leaves out those that
    /// would change nothing.
    fn compare(&mut self, tail: &SetTail, outcome: &mut RowOutcome) {
        let is_last_row = tail.late.is_empty() && self.batch.time == tail.main.time;
        let known: Vec<Option<Value>> = if is_last_row {
            (0..tail.main.width()).map(|column| tail.main.cell(column)).collect()
        } else {
            tail.set.cells_at(self.batch.time)
        };
        for (cell, known) in self.cells.iter_mut().zip(known) {
            match (*cell, known) {
                (Some(new), Some(old)) if new == old => {
                    *cell = None;
                    outcome.duplicate += 1;
                }
                (Some(_), Some(_)) => outcome.replaced += 1,
                _ => {}
            }
        }
    }

    fn put_row(&mut self, set: u32, late: Option<usize>, tail: Option<&SetTail>) {
        let batch = &mut self.batch;
        let delta = zigzag(i64::from(set) - batch.last_set);
        batch.last_set = i64::from(set);
        put_varint(&mut batch.rows, delta << 1 | u64::from(late.is_some()));
        if let Some(run) = late {
            put_varint(&mut batch.rows, run as u64);
        }
        let fresh = super::row::Tail::default();
        let tail = match (tail, late) {
            (None, _) => &fresh,
            (Some(tail), None) => &tail.main,
            (Some(tail), Some(run)) => tail.late.get(run).unwrap_or(&fresh),
        };
        self.row.clear();
        tail.encode(batch.seq, batch.time, &self.cells, &mut self.row);
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
        for (columns, _) in layouts {
            put_varint(record, columns.len() as u64);
            columns.iter().for_each(|column| put_varint(record, u64::from(*column)));
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

/// The late run that ends nearest before a time, or the number of a new one.
fn run_before(runs: &[super::row::Tail], time: i64) -> usize {
    let before = runs.iter().enumerate().filter(|(_, run)| run.time < time);
    before.max_by_key(|(_, run)| run.time).map_or(runs.len(), |(index, _)| index)
}
