//! A store against a map, driven by bytes: appends by rows and by handles, late, repeated and
//! replaced, deletions, imports, merges, reopenings, and deaths and power cuts in the midst of
//! them. The fuzz target `store_model` and the test of its corpus run it.
//!
//! `model.rs` draws its operations from a fixed mix; here the fuzzer looks for the mix that goes
//! where no other went.

use std::mem;
use std::sync::Arc;

use heapster_core::series::Row;
use heapster_core::{Labels, Matcher, MetricKind, MetricValue, TimeRange, Value};
use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::{
    Ack, Error, LateWindow, ReaderOptions, Result, SetHandle, Store, StoreOptions, StoreReader,
    StoreSnapshot,
};

use crate::support::*;

/// More operations find nothing that fewer do not.
const OPS_MAX: usize = 48;
const SETS: u8 = 4;
const COLUMNS: [&str; 5] = ["c0", "c1", "c2", "c3", "c4"];

/// Takes numbers off the front; zeros when there is nothing left.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn up_to(&mut self, max: u8) -> u8 {
        self.byte() % (max + 1)
    }

    fn long(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A moment within four days, mostly within some hours, at which others happen too.
    fn moment(&mut self) -> i64 {
        let minute = match self.byte() {
            byte @ 0..=199 => i64::from(byte),
            byte => (i64::from(byte) - 228) * 200 + i64::from(self.byte()),
        };
        NOON + minute * MINUTE
    }

    fn value(&mut self) -> Value {
        match self.byte() {
            byte @ 0..=127 => Value::Int(i64::from(byte % 8)),
            byte @ 128..=191 => Value::Float(f64::from(byte) / 8.0),
            192..=207 => Value::Int(self.long().cast_signed()),
            208..=223 => Value::Float(f64::from_bits(self.long())),
            224..=239 => Value::Float(-0.0),
            _ => Value::Float(f64::from_bits(0x7ff0_0000_0000_0002)),
        }
    }

    fn kind(&mut self) -> MetricKind {
        [MetricKind::Gauge, MetricKind::Cumulative, MetricKind::Delta][usize::from(self.up_to(2))]
    }

    fn rows(&mut self) -> Vec<Row> {
        (0..self.up_to(5)).map(|_| self.row()).collect()
    }

    fn row(&mut self) -> Row {
        let (set, columns) = (self.byte() % SETS, self.byte());
        let mut cells = Vec::new();
        for (bit, name) in COLUMNS.iter().enumerate().filter(|(bit, _)| columns >> bit & 1 == 1) {
            // One kind of a column in most rows.
            let kind = if columns >> 5 == 7 { self.kind() } else { MetricKind::Gauge };
            let value = if bit == 4 { Value::Int(1 << 53 | 1) } else { self.value() };
            cells.push(((*name).into(), MetricValue { value, kind }));
        }
        Row { labels: labels_of(set), cells }
    }
}

fn labels_of(set: u8) -> Labels {
    Labels::from_iter([("set", format!("s{set}")), ("empty", String::new())])
}

#[derive(Clone, Debug)]
enum Op {
    Append(i64, Vec<Row>, Ack),
    /// A row of each of these sets: values of the columns of its handle.
    Dense(i64, Vec<(u8, Vec<Option<Value>>)>, Ack),
    Import(Vec<(i64, Vec<Row>)>),
    Delete(Option<u8>, TimeRange),
    Flush,
    Sync,
    Maintain,
    Compact,
    CompactAll,
    Close,
}

impl Op {
    fn read(input: &mut Input<'_>) -> Self {
        match input.byte() % 20 {
            0..=7 => Self::Append(input.moment(), input.rows(), ack(input)),
            8..=10 => {
                let moment = input.moment();
                let rows = (0..input.up_to(3)).map(|_| (input.byte() % SETS, dense(input)));
                let rows = rows.collect();
                Self::Dense(moment, rows, ack(input))
            }
            11 => {
                let batches = (0..input.up_to(4)).map(|_| (input.moment(), input.rows()));
                Self::Import(batches.collect())
            }
            12 => {
                let set = Some(input.byte()).filter(|byte| *byte < 200).map(|byte| byte % SETS);
                let (start, len) = (input.moment(), i64::from(input.byte()));
                Self::Delete(set, TimeRange::new(at(start), at(start + len * MINUTE)))
            }
            13 => Self::Flush,
            14 => Self::Sync,
            15 => Self::Maintain,
            16 | 17 => Self::Compact,
            18 => Self::CompactAll,
            _ => Self::Close,
        }
    }

    /// What the contents are once it is done.
    fn apply(&self, contents: &mut Contents) {
        match self {
            Self::Append(millis, rows, _) => {
                rows.iter().for_each(|row| expect(contents, *millis, row));
            }
            Self::Dense(millis, rows, _) => {
                for (set, values) in rows {
                    expect(contents, *millis, &dense_row(*set, values));
                }
            }
            Self::Import(batches) => {
                for (millis, rows) in batches {
                    rows.iter().for_each(|row| expect(contents, *millis, row));
                }
            }
            Self::Delete(set, range) => {
                let name = set.map(|set| format!("\"s{set}\""));
                for ((labels, _), samples) in contents.iter_mut() {
                    if name.as_ref().is_none_or(|name| labels.contains(name)) {
                        samples.retain(|millis, _| !range.contains(at(*millis)));
                    }
                }
                contents.retain(|_, samples| !samples.is_empty());
            }
            _ => {}
        }
    }

    /// Whether everything appended before and by it is on the disk once it is done.
    fn is_durable(&self) -> bool {
        match self {
            Self::Append(_, _, ack) | Self::Dense(_, _, ack) => *ack == Ack::Durable,
            Self::Flush | Self::Sync | Self::Maintain | Self::CompactAll | Self::Close => true,
            Self::Import(_) | Self::Delete(..) | Self::Compact => false,
        }
    }

    /// Whether it survives a power cut by itself: rows that were appended before may be lost yet.
    fn is_durable_alone(&self) -> bool {
        matches!(self, Self::Import(_) | Self::Delete(..))
    }

    /// Leaves of each set one row: of several, a crash may keep the first ones.
    fn without_repeats(mut self) -> Self {
        let mut seen = Vec::new();
        let mut is_new = |set: String| {
            let is_new = !seen.contains(&set);
            seen.push(set);
            is_new
        };
        match &mut self {
            Self::Append(_, rows, _) => rows.retain(|row| is_new(row.labels.to_string())),
            Self::Dense(_, rows, _) => rows.retain(|(set, _)| is_new(set.to_string())),
            _ => {}
        }
        self
    }
}

fn ack(input: &mut Input<'_>) -> Ack {
    if input.byte().is_multiple_of(4) { Ack::Durable } else { Ack::Buffered }
}

/// Values of the columns of a handle.
fn dense(input: &mut Input<'_>) -> Vec<Option<Value>> {
    let present = input.byte();
    (0..COLUMNS.len()).map(|bit| (present >> bit & 1 == 1).then(|| input.value())).collect()
}

fn dense_row(set: u8, values: &[Option<Value>]) -> Row {
    let cells = COLUMNS.iter().zip(values).filter_map(|(name, value)| {
        value.map(|value| ((*name).into(), MetricValue { value, kind: MetricKind::Gauge }))
    });
    Row { labels: labels_of(set), cells: cells.collect() }
}

/// How a life of the store ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Death,
    PowerCut(PowerCut),
}

/// A store, and what it should hold.
struct Machine {
    vfs: FaultyVfs,
    clock: Arc<TestClock>,
    store: Option<Store>,
    handles: Vec<SetHandle>,
    now: Contents,
    /// What a power cut may bring back besides: each state since the last that was on the disk.
    since_durable: Vec<Contents>,
    /// Views that were taken earlier and must not change.
    views: Vec<(StoreSnapshot, Contents)>,
}

impl Machine {
    fn new() -> Self {
        let mut machine = Self {
            vfs: FaultyVfs::new(),
            clock: TestClock::new(),
            store: None,
            handles: Vec::new(),
            now: Contents::new(),
            since_durable: Vec::new(),
            views: Vec::new(),
        };
        machine.open();
        machine
    }

    fn open(&mut self) {
        let options = StoreOptions {
            late_window: LateWindow::Any,
            future_max: None,
            ..options(&self.vfs, &self.clock)
        };
        let store = Store::open(DIR, options).expect("it opens after whatever happened");
        assert!(store.open_report().is_complete(), "{:?}", store.open_report());
        let columns = COLUMNS.map(|name| (name.into(), MetricKind::Gauge));
        let handle = |set| store.register(&labels_of(set), &columns).unwrap();
        self.handles = (0..SETS).map(handle).collect();
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    fn shown(&self) -> Contents {
        contents(&self.store().snapshot())
    }

    /// Does it to the store alone.
    fn try_op(&mut self, op: &Op) -> Result<()> {
        if matches!(op, Op::Close) {
            return self.store.take().map_or(Ok(()), Store::close);
        }
        let store = self.store();
        match op {
            Op::Append(millis, rows, ack) => {
                let sent: usize = rows.iter().map(|row| row.cells.len()).sum();
                let report = store.append_rows(at(*millis), rows, *ack)?;
                assert_eq!(report.accepted + report.duplicate, sent as u64);
            }
            Op::Dense(millis, rows, ack) => {
                let rows = rows.iter();
                let rows =
                    rows.map(|(set, values)| (&self.handles[usize::from(*set)], &values[..]));
                let report = store.append_dense(at(*millis), rows, *ack)?;
                assert_eq!(report.rejected.total(), 0);
            }
            Op::Import(batches) => {
                let mut import = store.import();
                for (millis, rows) in batches {
                    import.push_rows(at(*millis), rows)?;
                }
                let report = import.finish()?;
                assert_eq!((report.accepted, report.rejected.total()), (report.written, 0));
            }
            Op::Delete(set, range) => {
                let matcher = match set {
                    Some(set) => Matcher::equal("set", format!("s{set}")),
                    None => Matcher::regex("set", ".*").unwrap(),
                };
                let _ = store.delete(&[matcher], *range)?;
            }
            Op::Flush => drop(store.flush()?),
            Op::Sync => store.sync()?,
            Op::Maintain => drop(store.maintain()?),
            Op::Compact => drop(store.compact()?),
            Op::CompactAll => drop(store.compact_all()?),
            Op::Close => unreachable!("closing was done above"),
        }
        Ok(())
    }

    /// Takes what it did into what is expected.
    fn note(&mut self, op: &Op) {
        let mut next = self.now.clone();
        op.apply(&mut next);
        let before = mem::replace(&mut self.now, next);
        if op.is_durable() {
            self.since_durable.clear();
        } else if op.is_durable_alone() {
            self.since_durable.iter_mut().for_each(|contents| op.apply(contents));
        } else {
            // What a batch repeats of a set is a record of its own.
            let mut first = before.clone();
            op.clone().without_repeats().apply(&mut first);
            self.since_durable.extend([before, first]);
        }
    }

    fn run(&mut self, op: &Op) {
        self.try_op(op).unwrap_or_else(|error: Error| panic!("{op:?}: {error}"));
        self.note(op);
        if self.store.is_none() {
            self.open();
        }
    }

    /// The machine dies at a call that changes a file, in the midst of `op` if that makes so many.
    fn die_during(&mut self, op: &Op, calls: u64, end: End) {
        self.vfs.crash_at(self.vfs.changes() + calls);
        let is_done = self.try_op(op).is_ok();
        let before = self.now.clone();
        if is_done {
            self.note(op);
        }
        let mut allowed = vec![self.now.clone()];
        if !is_done {
            let mut after = before;
            op.apply(&mut after);
            allowed.push(after);
        }
        match end {
            End::Death => self.vfs.restart(),
            End::PowerCut(cut) => {
                self.vfs.cut_power(cut);
                if !is_done && op.is_durable_alone() {
                    let mut after = self.since_durable.clone();
                    after.iter_mut().for_each(|contents| op.apply(contents));
                    allowed.append(&mut after);
                }
                allowed.append(&mut self.since_durable);
            }
        }
        // Views of the dead process went with it.
        self.views.clear();
        self.store = None;
        self.open();
        let found = self.shown();
        assert!(
            allowed.contains(&found),
            "after {op:?} and {end:?} (done: {is_done})\nfound {found:?}\nallowed {allowed:?}"
        );
        self.now = found;
        self.since_durable.clear();
    }

    /// Another process reads the same.
    fn read_from_outside(&self) {
        let options = ReaderOptions { vfs: Arc::new(self.vfs.clone()) };
        let reader = StoreReader::open(DIR, options).expect("a reader opens beside the writer");
        assert_eq!(contents(&reader.snapshot()), self.now, "a reader shows something else");
    }

    fn check(&self, range: TimeRange) {
        assert_eq!(self.shown(), self.now);
        let mut clipped = self.now.clone();
        for samples in clipped.values_mut() {
            samples.retain(|millis, _| range.contains(at(*millis)));
        }
        clipped.retain(|_, samples| !samples.is_empty());
        assert_eq!(contents_in(&self.store().snapshot(), range), clipped);
        for (view, expected) in &self.views {
            assert_eq!(&contents(view), expected, "an old view changed");
        }
        let damaged = self.store().verify();
        assert!(damaged.is_empty(), "{damaged:?}");
    }
}

/// Runs the operations that the bytes say.
///
/// # Panics
/// The store does not do as the map does.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mut machine = Machine::new();
    for _ in 0..OPS_MAX {
        if input.0.is_empty() {
            break;
        }
        machine.clock.step(17 * MINUTE);
        match input.byte() {
            0..=199 => {
                let op = Op::read(&mut input);
                machine.run(&op);
            }
            200..=229 => {
                let (calls, end, seed) = (input.up_to(60), input.byte(), input.long());
                let end = match end % 3 {
                    0 => End::Death,
                    1 => End::PowerCut(PowerCut::DropUnsynced),
                    _ => End::PowerCut(PowerCut::Torn(seed)),
                };
                let op = Op::read(&mut input).without_repeats();
                machine.die_during(&op, u64::from(calls), end);
            }
            230..=239 => machine.read_from_outside(),
            240..=247 => {
                let view = machine.store().snapshot();
                machine.views.push((view, machine.now.clone()));
            }
            _ => {
                let start = input.moment();
                machine.check(TimeRange::new(at(start), at(start + 90 * MINUTE)));
            }
        }
    }
    let start = input.moment();
    machine.check(TimeRange::new(at(start), at(start + 90 * MINUTE)));
    machine.run(&Op::Flush);
    machine.run(&Op::CompactAll);
    machine.check(TimeRange::ALL);
}
