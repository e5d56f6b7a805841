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
/// Memory of a late run besides its rows and last values.
const LATE_RUN_BYTES: usize = size_of::<Tail>() + size_of::<RunBytes>();
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
    /// Late runs taken for lost so far.
    lost_runs: usize,
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
            lost_runs: 0,
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
        self.apply_sharing(payload, &[])
    }

    /// Applies a payload whose symbols the caller has as texts, so that they are in memory once.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub fn apply_sharing(&mut self, payload: &[u8], texts: &[Text]) -> Result<Applied, Malformed> {
        let mut reader = Reader::new(payload);
        let mut applied = Applied { seq: reader.varint()?, ..Applied::default() };
        let at = reader.signed()?;
        if Timestamp::checked_from_millis(at).is_none() {
            return Err(Malformed("a batch's time is outside the years 1 to 9999"));
        }
        self.define_symbols(&mut reader, texts)?;
        self.define_columns(&mut reader)?;
        self.define_layouts(&mut reader)?;
        self.define_sets(applied.seq, &mut reader)?;
        self.change_layouts(applied.seq, &mut reader)?;
        self.apply_rows(&mut applied, &mut reader)?;
        self.head.samples.fetch_add(applied.samples, Ordering::Relaxed);
        if reader.is_empty() { Ok(applied) } else { Err(Malformed("bytes follow the last row")) }
    }

    fn define_symbols(&mut self, reader: &mut Reader<'_>, texts: &[Text]) -> Result<(), Malformed> {
        let count = begin_definitions(&mut self.symbols, self.lost_max, reader)?;
        let mut bytes = 0;
        for index in 0..count {
            let text = reader.text()?;
            // A text of up to 23 bytes is stored in place; two tables have each.
            bytes += 56 + if text.len() > 23 { text.len() + 16 } else { 0 };
            let shared = texts.get(index).filter(|shared| **shared == text);
            self.symbols.push(Some(shared.cloned().unwrap_or_else(|| Text::from(text))));
        }
        self.head.bytes.fetch_add(bytes, Ordering::Relaxed);
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
            if tail.layout == layout {
                // Said again for those who lost the first time.
                continue;
            }
            tail.layout = layout;
            let old = tail.set.state.lock().change_layout(seq, known);
            let added = known.columns.len().saturating_sub(old.columns.len());
            self.head.columns.fetch_add(added, Ordering::Relaxed);
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
        let (mut oldest, mut newest) = (i64::MAX, i64::MIN);
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
                let lost_max = self.lost_max.saturating_sub(self.lost_runs);
                self.lost_runs += set.make_room(late, lost_max)?;
                set.push(applied.seq, late, layout, row)
            });
            match kept {
                Some(kept) => {
                    applied.rows += 1;
                    applied.samples += kept.samples;
                    bytes += kept.bytes;
                    oldest = oldest.min(kept.time);
                    newest = newest.max(kept.time);
                }
                None => applied.lost_rows += 1,
            }
        }
        self.head.bytes.fetch_add(bytes, Ordering::Relaxed);
        if oldest <= newest {
            self.head.extend_bounds(oldest, newest);
        }
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
    /// Makes the late run of a row and those before it whose beginning a damaged record had; gives
    /// how many are lost. `None` when there are more than the file can have lost.
    fn make_room(&mut self, late: Option<usize>, lost_max: usize) -> Option<usize> {
        let lost = match late {
            Some(run) if run >= self.late.len() => run - self.late.len(),
            _ => return Some(0),
        };
        if lost > lost_max {
            return None;
        }
        self.late.resize_with(self.late.len() + lost + 1, Tail::default);
        Some(lost)
    }

    /// Adds a row to the main run or a late one; `None` when it depends on a row that is lost.
    fn push(&mut self, seq: u64, late: Option<usize>, layout: &Layout, row: &[u8]) -> Option<Kept> {
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
            Some(run) => state.late_run(run),
        };
        let is_first = run.bytes.is_empty();
        if !is_sound || (!is_first && tail.time <= run.last) {
            // Only a row that restarts may follow.
            *tail = Tail::default();
            return None;
        }
        if is_first {
            run.first = tail.time;
        }
        run.last = tail.time;
        let mut bytes = run.append(row) + tail.heap_bytes().saturating_sub(before);
        if is_first && late.is_some() {
            bytes += LATE_RUN_BYTES;
        }
        Some(Kept { samples: tail.count() as u64, bytes, time: tail.time })
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

#[cfg(test)]
mod tests {
    use heapster_core::MetricValue;
    use heapster_core::series::RowRef;

    use super::*;
    use crate::head::encode::Encoder;

    /// Payloads of a log in the order they were written.
    struct Log {
        encoder: Encoder,
        applier: Applier,
        payloads: Vec<Vec<u8>>,
    }

    impl Log {
        fn new() -> Self {
            let applier = Applier::new(Arc::new(Head::new(1)));
            Self { encoder: Encoder::new(10), applier, payloads: Vec::new() }
        }

        fn append(&mut self, pod: &str, time: i64, names: &[&'static str]) {
            let labels = Labels::from_iter([("pod_name", pod)]);
            let names: Vec<Text> = names.iter().map(|name| Text::from_static(name)).collect();
            let cells: Vec<_> = names.iter().map(|name| (name, MetricValue::gauge(time))).collect();
            self.encoder.begin_call(self.payloads.len() as u64 + 1, time);
            let row = RowRef { labels: &labels, own: None, cells: &cells };
            let outcome = self.encoder.add(&self.applier, &row).unwrap();
            assert_eq!(outcome.accepted, cells.len() as u64);
            self.encoder.finish();
            let payload = self.encoder.payload().to_vec();
            self.applier.apply(&payload).unwrap();
            self.encoder.settle();
            self.payloads.push(payload);
        }

        /// Numbers of the batches whose row is lost when the log is read without one of them.
        fn lost_without(&self, missing: usize) -> Vec<usize> {
            let mut applier = Applier::new(Arc::new(Head::new(1)));
            applier.lost_max = self.payloads[missing].len();
            let mut lost = Vec::new();
            for (number, payload) in self.payloads.iter().enumerate() {
                if number == missing || applier.apply(payload).unwrap().lost_rows > 0 {
                    lost.push(number);
                }
            }
            lost
        }
    }

    #[test]
    fn a_lost_change_of_a_layout_costs_no_more_than_the_rows_to_the_next_restart() {
        let mut log = Log::new();
        // The layout that is changed to is known from another set.
        log.append("db", 0, &["m", "n"]);
        log.append("web", 0, &["m"]);
        for time in 1..150 {
            log.append("web", time, &["m", "n"]);
        }
        // The set restarts with its 65th row.
        assert_eq!(log.lost_without(2), (2..65).collect::<Vec<_>>());
    }

    #[test]
    fn the_lost_beginning_of_a_late_run_costs_neither_it_nor_the_next_ones() {
        let mut log = Log::new();
        log.append("web", 1_000, &["m"]);
        // The second run begins before the first one ends.
        log.append("web", 500, &["m"]);
        (0..100).for_each(|late| log.append("web", 100 + late, &["m"]));
        assert_eq!(log.lost_without(1), [1]);
        assert_eq!(log.lost_without(2), (2..66).collect::<Vec<_>>());
    }
}
