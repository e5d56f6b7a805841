//! [`Applier`]: puts the payload of a log record into a head. The same code serves the batch that
//! was just written and the log that is replayed, so what a restart shows is what was there before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use heapster_core::storage::Column;
use heapster_core::{Label, Labels, MetricKind, Text, Timestamp};

use super::row::{COLUMNS_MAX, ROW_BYTES_MAX, Tail};
use super::{Head, HeadSet, Layout, RunBytes};
use crate::wal::bytes::{Malformed, Reader};

/// Memory of a set besides its labels, rows and last values: its place in the head, in the writer's
/// tables and in the index.
const SET_BYTES: usize = 360;
/// Memory of a label: its entry and its share of the postings.
const LABEL_BYTES: usize = 56;

/// What a record numbers: it refers to texts, columns, layouts and sets that it or an earlier
/// record of the same file defined. `None` where the record that defined it is lost.
#[derive(Debug)]
pub(crate) struct Applier {
    pub head: Arc<Head>,
    symbols: Vec<Option<Text>>,
    columns: Vec<Option<Column>>,
    layouts: Vec<Option<Arc<Layout>>>,
    sets: Vec<Option<SetTail>>,
    /// Definitions that can have been lost at most: none while nothing of the file was damaged.
    pub lost_max: usize,
}

/// What the next row of a set is coded against.
#[derive(Debug)]
pub(crate) struct SetTail {
    pub set: Arc<HeadSet>,
    /// Number of the layout, or [`LAYOUT_UNKNOWN`].
    pub layout: u32,
    pub main: Tail,
    pub late: Vec<Tail>,
}

const LAYOUT_UNKNOWN: u32 = u32::MAX;

/// What a record brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub seq: u64,
    pub rows: u64,
    pub samples: u64,
    /// Rows that refer to something a damaged record defined.
    pub lost_rows: u64,
}

impl Applier {
    /// An applier of a file that nothing was read from yet.
    pub fn new(head: Arc<Head>) -> Self {
        Self {
            head,
            lost_max: 0,
            symbols: Vec::new(),
            columns: Vec::new(),
            layouts: Vec::new(),
            sets: Vec::new(),
        }
    }

    /// A set by its number in the file.
    pub fn set(&self, number: u32) -> Option<&SetTail> {
        self.sets.get(number as usize)?.as_ref()
    }

    /// Applies a payload.
    ///
    /// # Errors
    /// The payload is not one; what came before the bad byte stays applied.
    pub fn apply(&mut self, payload: &[u8]) -> Result<Applied, Malformed> {
        let mut reader = Reader::new(payload);
        let mut applied = Applied { seq: reader.varint()?, ..Applied::default() };
        let at = reader.signed()?;
        if Timestamp::checked_from_millis(at).is_none() {
            return Err(Malformed("a batch's time is outside the years 1 to 9999"));
        }
        self.define_symbols(&mut reader)?;
        self.define_columns(&mut reader)?;
        self.define_layouts(&mut reader)?;
        self.define_sets(applied.seq, &mut reader)?;
        self.change_layouts(applied.seq, &mut reader)?;
        self.apply_rows(&mut applied, &mut reader)?;
        self.head.samples.fetch_add(applied.samples, Ordering::Relaxed);
        if reader.is_empty() { Ok(applied) } else { Err(Malformed("bytes follow the last row")) }
    }

    fn define_symbols(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let count = begin_definitions(&mut self.symbols, self.lost_max, reader)?;
        let mut bytes = 0;
        for _ in 0..count {
            let text = reader.text()?;
            // A text of up to 23 bytes is stored in place.
            bytes += 24 + if text.len() > 23 { text.len() + 16 } else { 0 };
            self.symbols.push(Some(Text::from(text)));
        }
        self.head.bytes.fetch_add(bytes * 2, Ordering::Relaxed);
        Ok(())
    }

    fn define_columns(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..begin_definitions(&mut self.columns, self.lost_max, reader)? {
            let name = self.symbol(reader.index()?);
            let kind = match reader.byte()? {
                1 => MetricKind::Cumulative,
                2 => MetricKind::Gauge,
                3 => MetricKind::Delta,
                _ => return Err(Malformed("a column is of an unknown kind")),
            };
            self.columns.push(name.map(|name| Column { name, kind }));
        }
        Ok(())
    }

    fn define_layouts(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..begin_definitions(&mut self.layouts, self.lost_max, reader)? {
            let width = reader.count()?;
            if width > COLUMNS_MAX {
                return Err(Malformed("a layout has too many columns"));
            }
            let mut columns = Vec::with_capacity(width);
            for _ in 0..width {
                let number = reader.index()?;
                columns.extend(self.columns.get(number as usize).cloned().flatten());
            }
            self.head.bytes.fetch_add(width * 48, Ordering::Relaxed);
            let layout = (columns.len() == width).then(|| Layout::new(columns));
            self.layouts.push(layout.filter(Layout::has_each_name_once).map(Arc::new));
        }
        Ok(())
    }

    fn define_sets(&mut self, seq: u64, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..begin_definitions(&mut self.sets, self.lost_max, reader)? {
            let layout = reader.index()?;
            let count = reader.count()?;
            let mut labels = Vec::with_capacity(count.min(64));
            for _ in 0..count {
                let name = self.symbol(reader.index()?);
                let value = self.symbol(reader.index()?);
                labels.extend(name.zip(value).map(|(name, value)| Label { name, value }));
            }
            let known = self.layouts.get(layout as usize).cloned().flatten();
            let set = known.filter(|_| labels.len() == count).map(|known| {
                let labels: Labels = labels.into_iter().map(|l| (l.name, l.value)).collect();
                let bytes = SET_BYTES + labels.len() * LABEL_BYTES;
                self.head.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.head.sets.fetch_add(1, Ordering::Relaxed);
                self.head.columns.fetch_add(known.columns.len(), Ordering::Relaxed);
                let set = Arc::new(HeadSet::new(labels, known, seq));
                self.head.push(Arc::clone(&set));
                SetTail { set, layout, main: Tail::default(), late: Vec::new() }
            });
            self.sets.push(set);
        }
        Ok(())
    }

    fn change_layouts(&mut self, seq: u64, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..reader.count()? {
            let (number, layout) = (reader.index()?, reader.index()?);
            let Some(Some(tail)) = self.sets.get_mut(number as usize) else { continue };
            let Some(Some(known)) = self.layouts.get(layout as usize) else {
                tail.layout = LAYOUT_UNKNOWN;
                continue;
            };
            tail.layout = layout;
            let mut state = tail.set.state.lock();
            let old = std::mem::replace(&mut state.layout, Arc::clone(known));
            let added = known.columns.len().saturating_sub(old.columns.len());
            self.head.columns.fetch_add(added, Ordering::Relaxed);
            state.older.push((seq, old));
        }
        Ok(())
    }

    fn apply_rows(
        &mut self,
        applied: &mut Applied,
        reader: &mut Reader<'_>,
    ) -> Result<(), Malformed> {
        let mut number = 0_i64;
        let mut bytes = 0;
        for _ in 0..reader.count()? {
            let head = reader.varint()?;
            number = number.wrapping_add(crate::wal::bytes::unzigzag(head >> 1));
            let late = if head & 1 == 1 { Some(reader.index()? as usize) } else { None };
            let len = reader.count()?;
            if len > ROW_BYTES_MAX {
                return Err(Malformed("a row is too long"));
            }
            let row = reader.bytes(len)?;
            let set = usize::try_from(number).ok().and_then(|number| self.sets.get_mut(number));
            let kept = set.and_then(Option::as_mut).and_then(|set| {
                let layout = self.layouts.get(set.layout as usize)?.as_ref()?;
                set.push(applied.seq, late, layout, row)
            });
            match kept {
                Some(kept) => {
                    applied.rows += 1;
                    applied.samples += kept.samples;
                    bytes += kept.bytes;
                    self.head.extend_bounds(kept.time);
                }
                None => applied.lost_rows += 1,
            }
        }
        self.head.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn symbol(&self, number: u32) -> Option<Text> {
        self.symbols.get(number as usize).cloned().flatten()
    }
}

struct Kept {
    samples: u64,
    bytes: usize,
    time: i64,
}

impl SetTail {
    /// Adds a row to the main run or a late one; `None` when it depends on a row that is lost.
    fn push(&mut self, seq: u64, late: Option<usize>, layout: &Layout, row: &[u8]) -> Option<Kept> {
        if late.is_some_and(|run| run == self.late.len()) {
            self.late.push(Tail::default());
        }
        let tail = match late {
            None => &mut self.main,
            Some(run) => self.late.get_mut(run)?,
        };
        let before = tail.heap_bytes();
        let mut reader = Reader::new(row);
        let is_sound = tail.decode(&mut reader).is_ok()
            && reader.is_empty()
            && tail.seq == seq
            && tail.width() <= layout.columns.len();
        let mut state = self.set.state.lock();
        let run = match late {
            None => &mut state.main,
            Some(run) => {
                if run >= state.late.len() {
                    state.late.resize(run + 1, RunBytes::default());
                }
                state.late.get_mut(run)?
            }
        };
        let is_first = run.bytes.is_empty();
        if !is_sound || (!is_first && tail.time <= run.last) {
            // Only a row that restarts may follow.
            *tail = Tail::default();
            return None;
        }
        let samples = (0..tail.width()).filter(|column| tail.has(*column)).count() as u64;
        if is_first {
            run.first = tail.time;
        }
        run.last = tail.time;
        let bytes = run.append(row) + tail.heap_bytes().saturating_sub(before);
        Some(Kept { samples, bytes, time: tail.time })
    }
}

/// Reads where a table of definitions goes on and how many follow; fills the gap of lost ones.
fn begin_definitions<T>(
    table: &mut Vec<Option<T>>,
    lost_max: usize,
    reader: &mut Reader<'_>,
) -> Result<usize, Malformed> {
    let start = reader.index()? as usize;
    let count = reader.count()?;
    if start < table.len() || start - table.len() > lost_max {
        return Err(Malformed("definitions do not go on where the last ones ended"));
    }
    if count > 0 {
        table.resize_with(start, || None);
    }
    Ok(count)
}
