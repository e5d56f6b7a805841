//! [`Applier`]: what a batch does to a head. [`Applier::apply`] reads it from the payload of a log
//! record; the writer of that record knows it already and says it step by step. Both go through the
//! same steps, so what a restart shows is what was there before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use heapster_core::storage::Column;
use heapster_core::{MetricKind, Text, Timestamp};

use super::row::{COLUMNS_MAX, ROW_BYTES_MAX, Tail};
use super::{Head, HeadSet, LabelNumbers, Layout, RunBytes};
use crate::wal::bytes::{Malformed, Reader};

/// Late runs of a set at most: each is merged by every read of the set. They are as many as the
/// longest row of samples of which each is older than the one before.
pub(crate) const LATE_RUNS_MAX: usize = 256;

/// Memory of a set besides its labels, rows and last values: itself, the writer's two entries, its
/// places in the table of hashes and in the index, and what the allocator adds to its four blocks.
const SET_BYTES: usize = size_of::<HeadSet>() + size_of::<SetTail>() + 48 + 24 + 64;
/// Memory of a late run besides its rows and last values.
const LATE_RUN_BYTES: usize = size_of::<Tail>() + size_of::<RunBytes>();
/// Memory of a label of a set: its numbers and its share of the postings.
const LABEL_BYTES: usize = 8 + 6;
/// Memory of a text besides a copy that is not stored in place: its slot, its place in the table of
/// hashes, and an entry of the index with postings of its own.
const SYMBOL_BYTES: usize = 32 + 16 + 104;
/// The longest text that is stored in place.
const INLINE_TEXT_BYTES: usize = 23;

/// What a record numbers: it refers to texts, columns, layouts and sets that it or an earlier
/// record of the same file defined. `None` where the record that defined it is lost.
#[derive(Debug)]
pub(crate) struct Applier {
    pub head: Arc<Head>,
    /// Number of the next symbol; the texts are the head's.
    symbols: u32,
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
    late: Box<[Tail]>,
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

/// A coded row on its way into the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodedRow<'a> {
    /// Number of the late run it belongs to, if it is late.
    pub late: Option<usize>,
    pub bytes: &'a [u8],
    pub time: i64,
    pub samples: u64,
    /// Bytes that the tail of its run grew by.
    pub grown: usize,
}

/// What rows add to a head as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tally {
    pub rows: u64,
    pub samples: u64,
    bytes: usize,
    oldest: i64,
    newest: i64,
}

impl Applier {
    /// An applier of a file that nothing was read from yet.
    pub fn new(head: Arc<Head>) -> Self {
        Self {
            head,
            lost_max: 0,
            lost_runs: 0,
            symbols: 0,
            columns: Vec::new(),
            layouts: Vec::new(),
            sets: Vec::new(),
        }
    }

    /// A set by its number in the file.
    pub fn set(&self, number: u32) -> Option<&SetTail> {
        self.sets.get(number as usize)?.as_ref()
    }

    /// A set by its number in the file.
    pub fn set_mut(&mut self, number: u32) -> Option<&mut SetTail> {
        self.sets.get_mut(number as usize)?.as_mut()
    }

    /// A symbol by its number in the file.
    pub fn symbol(&self, number: u32) -> Option<&Text> {
        self.head.symbols.get(number)
    }

    /// Number of symbols.
    pub fn symbols(&self) -> u32 {
        self.symbols
    }

    pub fn add_symbol(&mut self, text: Text) {
        let copy = if text.len() > INLINE_TEXT_BYTES { text.len() + 32 } else { 0 };
        self.head.bytes.fetch_add(SYMBOL_BYTES + copy, Ordering::Relaxed);
        self.head.symbols.set(self.symbols, text);
        self.symbols += 1;
    }

    pub fn add_column(&mut self, column: Option<Column>) {
        self.columns.push(column);
    }

    pub fn add_layout(&mut self, layout: Option<Arc<Layout>>) {
        let width = layout.as_ref().map_or(0, |layout| layout.columns.len());
        self.head.bytes.fetch_add(width * 48, Ordering::Relaxed);
        self.layouts.push(layout);
    }

    /// Adds a set whose symbols are there; `None` for the labels of one that is lost.
    pub fn add_set(&mut self, seq: u64, layout: u32, labels: Option<LabelNumbers>, main: Tail) {
        let known = self.layouts.get(layout as usize).cloned().flatten();
        let set = known.zip(labels).map(|(known, labels)| {
            let bytes = SET_BYTES + labels.len() * LABEL_BYTES;
            self.head.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.head.sets.fetch_add(1, Ordering::Relaxed);
            self.head.columns.fetch_add(known.columns.len(), Ordering::Relaxed);
            let symbols = Arc::clone(&self.head.symbols);
            let set = Arc::new(HeadSet::new(symbols, labels, known, seq));
            self.head.push(Arc::clone(&set));
            SetTail { set, layout, main, late: Box::default() }
        });
        self.sets.push(set);
    }

    pub fn change_layout(&mut self, seq: u64, number: u32, layout: u32) {
        let Some(Some(tail)) = self.sets.get_mut(number as usize) else { return };
        let Some(Some(known)) = self.layouts.get(layout as usize) else {
            tail.layout = LAYOUT_UNKNOWN;
            return;
        };
        if tail.layout == layout {
            // Said again for those who lost the first time.
            return;
        }
        tail.layout = layout;
        let old = tail.set.state.lock().change_layout(seq, known);
        let added = known.columns.len().saturating_sub(old.columns.len());
        self.head.columns.fetch_add(added, Ordering::Relaxed);
    }

    /// Adds what rows brought to the numbers of the head.
    pub fn count(&self, tally: &Tally) {
        self.head.samples.fetch_add(tally.samples, Ordering::Relaxed);
        self.head.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
        if tally.oldest <= tally.newest {
            self.head.extend_bounds(tally.oldest, tally.newest);
        }
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
        self.read_symbols(&mut reader)?;
        self.read_columns(&mut reader)?;
        self.read_layouts(&mut reader)?;
        self.read_sets(applied.seq, &mut reader)?;
        for _ in 0..reader.count()? {
            self.change_layout(applied.seq, reader.index()?, reader.index()?);
        }
        let mut tally = Tally::default();
        let read = self.read_rows(&mut applied, &mut tally, &mut reader);
        (applied.rows, applied.samples) = (tally.rows, tally.samples);
        self.count(&tally);
        read?;
        if reader.is_empty() { Ok(applied) } else { Err(Malformed("bytes follow the last row")) }
    }

    fn read_symbols(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let (start, count) = read_begin(self.symbols as usize, self.lost_max, reader)?;
        if count > 0 {
            self.symbols = start;
        }
        for _ in 0..count {
            self.add_symbol(Text::from(reader.text()?));
        }
        Ok(())
    }

    fn read_columns(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..begin_definitions(&mut self.columns, self.lost_max, reader)? {
            let name = self.symbol(reader.index()?).cloned();
            let kind = match reader.byte()? {
                1 => MetricKind::Cumulative,
                2 => MetricKind::Gauge,
                3 => MetricKind::Delta,
                _ => return Err(Malformed("a column is of an unknown kind")),
            };
            self.add_column(name.map(|name| Column { name, kind }));
        }
        Ok(())
    }

    fn read_layouts(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
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
            let layout = (columns.len() == width).then(|| Layout::new(columns));
            self.add_layout(layout.filter(Layout::has_each_name_once).map(Arc::new));
        }
        Ok(())
    }

    fn read_sets(&mut self, seq: u64, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..begin_definitions(&mut self.sets, self.lost_max, reader)? {
            let layout = reader.index()?;
            let count = reader.count()?;
            let mut labels = Vec::with_capacity(count.min(64));
            for _ in 0..count {
                labels.push([reader.index()?, reader.index()?]);
            }
            let names = labels.iter().map(|[name, _]| self.symbol(*name));
            let is_known = names.clone().all(|name| name.is_some())
                && labels.iter().all(|[_, value]| self.symbol(*value).is_some());
            if is_known && !names.is_sorted_by(|a, b| a < b) {
                return Err(Malformed("labels are not in the order of their names"));
            }
            let labels = is_known.then(|| labels.into_boxed_slice());
            self.add_set(seq, layout, labels, Tail::default());
        }
        Ok(())
    }

    fn read_rows(
        &mut self,
        applied: &mut Applied,
        tally: &mut Tally,
        reader: &mut Reader<'_>,
    ) -> Result<(), Malformed> {
        let mut number = 0_i64;
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
                set.decode(applied.seq, late, layout, row, tally)
            });
            if kept.is_none() {
                applied.lost_rows += 1;
            }
        }
        Ok(())
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self { rows: 0, samples: 0, bytes: 0, oldest: i64::MAX, newest: i64::MIN }
    }
}

impl SetTail {
    /// The late runs in the order of their numbers.
    pub fn late(&self) -> &[Tail] {
        &self.late
    }

    /// A run; the next late one is begun.
    pub fn run_mut(&mut self, late: Option<usize>) -> Option<&mut Tail> {
        match late {
            None => Some(&mut self.main),
            Some(run) => {
                if run == self.late.len() {
                    self.begin_late_runs(1);
                }
                self.late.get_mut(run)
            }
        }
    }

    fn begin_late_runs(&mut self, count: usize) {
        let mut late = std::mem::take(&mut self.late).into_vec();
        late.resize_with(late.len() + count, Tail::default);
        self.late = late.into();
    }

    /// Makes the late run of a row and those before it whose beginning a damaged record had; gives
    /// how many are lost. `None` when there are more than the file can have lost, or than a set has.
    fn make_room(&mut self, late: Option<usize>, lost_max: usize) -> Option<usize> {
        let lost = match late {
            Some(run) if run >= self.late.len() => run - self.late.len(),
            _ => return Some(0),
        };
        if lost > lost_max || late >= Some(LATE_RUNS_MAX) {
            return None;
        }
        self.begin_late_runs(lost + 1);
        Some(lost)
    }

    /// Steps to a coded row and keeps it; `None` when it depends on a row that is lost.
    fn decode(
        &mut self,
        seq: u64,
        late: Option<usize>,
        layout: &Layout,
        row: &[u8],
        tally: &mut Tally,
    ) -> Option<()> {
        let tail = self.run_mut(late)?;
        let before = tail.heap_bytes();
        let mut reader = Reader::new(row);
        let is_sound = tail.decode(&mut reader).is_ok()
            && reader.is_empty()
            && tail.seq == seq
            && tail.width() <= layout.columns.len();
        let coded = CodedRow {
            late,
            bytes: row,
            time: tail.time,
            samples: tail.count() as u64,
            grown: tail.heap_bytes().saturating_sub(before),
        };
        if is_sound && self.keep(&coded, tally) {
            return Some(());
        }
        // Only a row that restarts may follow.
        *self.run_mut(late)? = Tail::default();
        None
    }

    /// Puts a row into the head; `false` when its run has a row of that time or a later one.
    pub fn keep(&self, row: &CodedRow<'_>, tally: &mut Tally) -> bool {
        let mut state = self.set.state.lock();
        let run = match row.late {
            None => &mut state.main,
            Some(run) => state.late_run(run),
        };
        let is_first = run.bytes.is_empty();
        if !is_first && row.time <= run.last {
            return false;
        }
        if is_first {
            run.first = row.time;
            tally.bytes += if row.late.is_some() { LATE_RUN_BYTES } else { 0 };
        }
        run.last = row.time;
        tally.bytes += run.append(row.bytes) + row.grown;
        tally.rows += 1;
        tally.samples += row.samples;
        tally.oldest = tally.oldest.min(row.time);
        tally.newest = tally.newest.max(row.time);
        true
    }

    /// Makes the tails those of the rows in the head, whatever they were stepped to.
    pub fn restore(&mut self) {
        let state = self.set.state.lock();
        self.main = state.main.tail();
        let late = state.rare.iter().flat_map(|rare| &rare.late);
        self.late = late.map(RunBytes::tail).collect();
    }
}

/// Reads where a table of definitions goes on and how many follow.
fn read_begin(
    known: usize,
    lost_max: usize,
    reader: &mut Reader<'_>,
) -> Result<(u32, usize), Malformed> {
    let start = reader.index()?;
    let count = reader.count()?;
    let lost = (start as usize).checked_sub(known);
    if lost.is_none_or(|lost| lost > lost_max) {
        return Err(Malformed("definitions do not go on where the last ones ended"));
    }
    // The greatest number says that there is none.
    if count >= (u32::MAX - start) as usize {
        return Err(Malformed("definitions have more than 32 bits"));
    }
    Ok((start, count))
}

/// Reads where a table of definitions goes on and how many follow; fills the gap of lost ones.
fn begin_definitions<T>(
    table: &mut Vec<Option<T>>,
    lost_max: usize,
    reader: &mut Reader<'_>,
) -> Result<usize, Malformed> {
    let (start, count) = read_begin(table.len(), lost_max, reader)?;
    if count > 0 {
        table.resize_with(start as usize, || None);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use heapster_core::series::RowRef;
    use heapster_core::{Labels, MetricValue, TimeRange, Value};
    use proptest::prelude::*;

    use super::*;
    use crate::head::encode::Encoder;
    use crate::vfs::faulty::FaultyVfs;
    use crate::wal::replay::{Opened, Records};
    use crate::wal::writer::WalWriter;

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
            let seq = self.payloads.len() as u64 + 1;
            self.encoder.begin_call(&mut self.applier, seq, time);
            let row = RowRef { labels: &labels, own: None, cells: &cells };
            let outcome = self.encoder.add(&mut self.applier, &row).unwrap();
            assert_eq!(outcome.accepted, cells.len() as u64);
            self.encoder.finish();
            self.payloads.push(self.encoder.payload().to_vec());
            self.encoder.settle(&mut self.applier);
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

    /// Everything there is in a head and in the writer's tables.
    fn everything(applier: &Applier) -> String {
        let symbols = (0..applier.symbols).map(|number| applier.symbol(number));
        format!("{applier:?} {:?}", symbols.collect::<Vec<_>>())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        /// New sets and columns, late rows, duplicates, gaps, batches that the log refuses.
        #[test]
        fn a_batch_does_to_the_head_what_reading_its_record_does(
            batches in prop::collection::vec(
                (
                    0_i64..150,
                    prop::collection::vec(
                        (0_u8..6, prop::collection::vec((0_u8..6, -3_i64..3), 1..5)),
                        1..6,
                    ),
                    prop::bool::weighted(0.1),
                ),
                1..100,
            ),
        ) {
            let mut applier = Applier::new(Arc::new(Head::new(1)));
            let mut replayed = Applier::new(Arc::new(Head::new(1)));
            let mut encoder = Encoder::new(10);
            let mut seq = 1;
            for (time, rows, is_refused) in batches {
                let before = is_refused.then(|| everything(&applier));
                encoder.begin_call(&mut applier, seq, time);
                for (pod, cells) in rows {
                    let labels = Labels::from_iter([("pod", format!("{pod}")), ("type", "p".into())]);
                    let names: Vec<Text> =
                        cells.iter().map(|(name, _)| Text::from(format!("m{name}"))).collect();
                    let mut cells: Vec<_> = names
                        .iter()
                        .zip(&cells)
                        .map(|(name, (_, value))| match value {
                            2 => (name, MetricValue::gauge(0.5)),
                            value => (name, MetricValue::gauge(*value)),
                        })
                        .collect();
                    cells.sort_by_key(|(name, _)| *name);
                    cells.dedup_by_key(|(name, _)| *name);
                    let row = RowRef { labels: &labels, own: None, cells: &cells };
                    // A set that comes twice is the store's business.
                    let _ = encoder.add(&mut applier, &row);
                }
                if is_refused || encoder.is_empty() {
                    encoder.undo(&mut applier);
                    if let Some(before) = before {
                        prop_assert_eq!(everything(&applier), before);
                    }
                    continue;
                }
                encoder.finish();
                let payload = encoder.payload().to_vec();
                encoder.settle(&mut applier);
                let applied = replayed.apply(&payload).unwrap();
                prop_assert_eq!((applied.seq, applied.lost_rows), (seq, 0));
                seq += 1;
            }
            prop_assert_eq!(everything(&replayed), everything(&applier));
        }

        #[test]
        fn any_bytes_are_refused_or_applied_but_never_panic(
            seq in 1_u8..4,
            payload in prop::collection::vec(
                prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..200),
            lost_max in 0_usize..20,
        ) {
            let mut applier = Applier::new(Arc::new(Head::new(1)));
            applier.lost_max = lost_max;
            let _ = applier.apply(&[&[seq], &payload[..]].concat());
            applier.head.catch_up();
        }
    }

    /// A log file with new texts, columns, layouts and sets, a wider layout, a gap, floats, a late
    /// row, and a replaced value.
    fn a_log_file() -> Vec<u8> {
        let (float, nan) = (Value::Float(0.1), Value::Float(f64::from_bits(0x7ff0_0000_0000_0002)));
        let batches: [(i64, &[Cells<'_>]); 5] = [
            (
                60_000,
                &[
                    ("web", &[("cpu", Value::Int(1 << 53 | 1)), ("load", float)]),
                    ("db", &[("cpu", Value::Int(2))]),
                ],
            ),
            (120_000, &[("web", &[("cpu", Value::Int(-1)), ("load", nan)])]),
            (180_000, &[("web", &[("load", Value::Int(7))]), ("db", &[("cpu", Value::Int(3))])]),
            (240_000, &[("db", &[("cpu", Value::Int(3)), ("memory", Value::Int(4096))])]),
            (90_000, &[("web", &[("cpu", Value::Int(5))]), ("db", &[("cpu", Value::Int(6))])]),
        ];
        let vfs = FaultyVfs::new();
        let mut wal = WalWriter::create(&vfs, "/w".into(), 9).unwrap();
        let mut applier = Applier::new(Arc::new(Head::new(1)));
        let mut encoder = Encoder::new(10);
        for (seq, (time, rows)) in (1..).zip(batches) {
            encoder.begin_call(&mut applier, seq, time);
            for (pod, cells) in rows {
                let labels = Labels::from_iter([("type", "pod"), ("pod_name", pod)]);
                let names: Vec<Text> = cells.iter().map(|(name, _)| Text::from(*name)).collect();
                let kind = |name: &Text| match name.as_str() {
                    "cpu" => MetricKind::Cumulative,
                    _ => MetricKind::Gauge,
                };
                let values = names.iter().zip(*cells);
                let cells: Vec<_> = values
                    .map(|(name, (_, value))| {
                        (name, MetricValue { value: *value, kind: kind(name) })
                    })
                    .collect();
                let row = RowRef { labels: &labels, own: None, cells: &cells };
                encoder.add(&mut applier, &row).unwrap();
            }
            encoder.finish();
            wal.append(encoder.record()).unwrap();
            encoder.settle(&mut applier);
        }
        vfs.files().remove(Path::new("/w")).unwrap()
    }

    type Cells<'a> = (&'a str, &'a [(&'a str, Value)]);

    #[test]
    fn a_log_file_of_version_1_is_read_and_written_to_the_byte() {
        let fixture = include_bytes!("../../testdata/v1/wal_batches");
        assert_eq!(a_log_file(), fixture);
        let Opened::Records(records) = Records::open(Path::new("/w"), fixture).unwrap() else {
            panic!("the fixture is not a log file");
        };
        let mut applier = Applier::new(Arc::new(Head::new(1)));
        for payload in records {
            assert_eq!(applier.apply(payload).unwrap().lost_rows, 0);
        }
        let mut found = Vec::new();
        for set in applier.head.all_sets() {
            let columns = set.layout().columns.to_vec();
            let samples = set.read(&columns, TimeRange::ALL, u64::MAX);
            for (column, samples) in columns.iter().zip(samples) {
                let values = samples.iter().map(|(at, value)| (at.as_millis() / 1000, value));
                let name = format!("{} {} {}", set.labels(), column.name, column.kind);
                found.push((name, values.collect::<Vec<_>>()));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let (int, float) = (Value::Int, |bits| Value::Float(f64::from_bits(bits)));
        let expected = [
            (
                r#"{pod_name="db", type="pod"} cpu cumulative"#,
                vec![(60, int(2)), (90, int(6)), (180, int(3)), (240, int(3))],
            ),
            (r#"{pod_name="db", type="pod"} memory gauge"#, vec![(240, int(4096))]),
            (
                r#"{pod_name="web", type="pod"} cpu cumulative"#,
                vec![(60, int((1 << 53) + 1)), (90, int(5)), (120, int(-1))],
            ),
            (
                r#"{pod_name="web", type="pod"} load gauge"#,
                vec![
                    (60, float(0.1_f64.to_bits())),
                    (120, float(0x7ff0_0000_0000_0002)),
                    (180, int(7)),
                ],
            ),
        ];
        assert_eq!(found, expected.map(|(name, values)| (name.to_owned(), values)));
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
