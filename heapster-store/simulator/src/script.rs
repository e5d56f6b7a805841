//! [`Script`]: what happens in one run, drawn from a seed before it begins, so that it can be
//! printed, repeated and shortened.
//!
//! Each seed enables only some kinds of calls and faults: rare combinations meet more often when the
//! others keep out of their way.

use std::io;
use std::time::Duration;

use heapster_core::Value;
use heapster_store::vfs::faulty::{Coin, Crash, FailedSync, Noise, PowerCut};
use heapster_store::{Ack, LateWindow, Retention, StoreOptions, TierOptions};

use crate::contents::{COLUMNS, SETS};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What happens in one run.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it was drawn from; also decides how each image is torn.
    pub seed: u64,
    /// Options of the store.
    pub knobs: Knobs,
    /// From one opening of the store to the next.
    pub lives: Vec<Life>,
}

/// Options of the store that scripts vary.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// How long raw samples are kept.
    pub retention: Retention,
    /// How many bytes of them.
    pub retention_bytes: Option<u64>,
    /// Tiers of aggregates.
    pub tiers: Vec<TierOptions>,
    /// Span of data after which the head is flushed.
    pub flush_window: Duration,
    /// When a day is encoded for size.
    pub cold_after: Option<Duration>,
    /// How late samples may come.
    pub late_window: LateWindow,
    /// How far samples may be ahead.
    pub future_max: Option<Duration>,
}

impl Knobs {
    /// The options of a store.
    pub fn options(&self) -> StoreOptions {
        let Self { retention, retention_bytes, tiers, flush_window, cold_after, .. } = self.clone();
        StoreOptions {
            retention,
            retention_bytes,
            tiers,
            flush_window,
            cold_after,
            late_window: self.late_window,
            future_max: self.future_max,
            ..StoreOptions::default()
        }
    }
}

/// From one opening of the store to the next.
#[derive(Clone, Debug)]
pub struct Life {
    /// Calls, in their order.
    pub steps: Vec<Step>,
    /// Calls of the file system that fail, counted from the opening.
    pub failures: Vec<(u64, io::ErrorKind)>,
    /// What a sync does that fails.
    pub failed_sync: FailedSync,
    /// Faults by chance, once the store is open.
    pub noise: Noise,
    /// How it ends.
    pub end: End,
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// The store is closed, or dropped.
    Close,
    /// It dies between two calls.
    Crash(Crash),
    /// It dies at that call of the file system, counted from the opening.
    CrashInside(u64, Crash),
}

/// Values of some columns of a set.
pub type Cells = (u8, Vec<(u8, Value)>);

/// One call of the store, or something that happens to it.
#[derive(Clone, Debug)]
pub enum Step {
    /// Rows of that many milliseconds after now, with labels or by handle.
    Append {
        /// Milliseconds after now.
        after_ms: i64,
        /// One row for each set.
        rows: Vec<Cells>,
        /// What is asked for.
        ack: Ack,
        /// Whether by handle.
        is_dense: bool,
    },
    /// Old rows in bulk.
    Import(Vec<(i64, Vec<Cells>)>),
    /// A set, or all, and a range of milliseconds after now.
    Delete(Option<u8>, i64, i64),
    /// [`heapster_store::Store::sync`].
    Sync,
    /// [`heapster_store::Store::maintain`].
    Maintain,
    /// [`heapster_store::Store::flush`].
    Flush,
    /// [`heapster_store::Store::compact`].
    Compact,
    /// [`heapster_store::Store::compact_all`].
    CompactAll,
    /// [`heapster_store::Store::roll_up`], until nothing is due.
    RollUp,
    /// [`heapster_store::Store::snapshot_to`] a new directory.
    SnapshotTo,
    /// [`heapster_store::backup`] into one and the same directory.
    Backup,
    /// Another process refreshes its view.
    Refresh,
    /// [`heapster_store::check`].
    Check,
    /// Everything is read.
    Read,
    /// Aggregates are compared with what the samples say.
    Aggregate,
    /// Time passes.
    Pass(i64),
    /// The wall clock is set.
    Jump(i64),
    /// The disk has room for that many more bytes, or for any number.
    Room(Option<usize>),
}

impl Script {
    /// The script of a seed.
    pub fn of(seed: u64) -> Self {
        let mut coin = Coin::new(seed ^ 0x5eed_0f5c_817f);
        let ages = coin.percent(15);
        let knobs = knobs(&mut coin, ages);
        let swarm = Swarm::new(&mut coin, &knobs, ages);
        let lives = (0..1 + coin.below(3)).map(|_| swarm.life(&mut coin)).collect();
        Self { seed, knobs, lives }
    }

    /// Whether tiers stay exact when raw samples go: nothing older than these comes or is deleted.
    pub fn keeps_tiers_whole(&self) -> bool {
        let changes_old =
            |step: &Step| matches!(step, Step::Import(_) | Step::Delete(..) | Step::Jump(_));
        let is_late = self.knobs.late_window == LateWindow::Any;
        let mut steps = self.lives.iter().flat_map(|life| &life.steps);
        !is_late && self.knobs.retention_bytes.is_none() && !steps.any(changes_old)
    }

    /// How many steps there are in all lives.
    pub fn steps(&self) -> usize {
        self.lives.iter().map(|life| life.steps.len()).sum()
    }
}

/// A seed whose data `ages` keeps raw samples for days and aggregates for good, and does nothing by
/// which what a tier says of samples that are gone could become unclear.
fn knobs(coin: &mut Coin, ages: bool) -> Knobs {
    let tier = |seconds| TierOptions {
        resolution: Duration::from_secs(seconds),
        retention: Retention::Forever,
        retention_bytes: None,
    };
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let tiers = match coin.below(3) {
        kind if ages || kind == 0 => vec![tier(300), tier(3600)],
        1 if coin.percent(50) => vec![tier(600)],
        _ => Vec::new(),
    };
    Knobs {
        retention: match coin.below(3) {
            kind if ages || kind == 0 => Retention::Age(days(1 + coin.below(3) as u64)),
            _ => Retention::Forever,
        },
        retention_bytes: (!ages && coin.percent(8)).then_some(4_000),
        tiers,
        flush_window: Duration::from_secs(coin.pick(&[60, 600, 7_200])),
        cold_after: coin.pick(&[None, Some(Duration::ZERO), Some(days(1))]),
        late_window: match !ages && coin.percent(50) {
            true => LateWindow::Any,
            false => LateWindow::Within(Duration::from_secs(3_600)),
        },
        future_max: coin.percent(50).then_some(Duration::from_secs(600)),
    }
}

/// What one seed does often, seldom or never.
struct Swarm {
    /// Kinds of steps, each as often as its weight.
    steps: Vec<Kind>,
    acks: Vec<Ack>,
    late_percent: u32,
    dense_percent: u32,
    steps_max: usize,
    has_long_times: bool,
    has_failures: bool,
    has_noise: bool,
    has_exact_floats: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Append,
    Import,
    Delete,
    Sync,
    Maintain,
    Flush,
    Compact,
    CompactAll,
    RollUp,
    SnapshotTo,
    Backup,
    Refresh,
    Check,
    Read,
    Aggregate,
    Pass,
    Jump,
    Room,
}

impl Swarm {
    fn new(coin: &mut Coin, knobs: &Knobs, ages: bool) -> Self {
        let changes_old = [(Kind::Import, 3), (Kind::Delete, 3), (Kind::Jump, 1)];
        let rare = [
            (Kind::Sync, 4),
            (Kind::Maintain, 8),
            (Kind::Flush, 5),
            (Kind::Compact, 5),
            (Kind::CompactAll, 3),
            (Kind::SnapshotTo, 1),
            (Kind::Backup, 1),
            (Kind::Refresh, 3),
            (Kind::Check, 1),
            (Kind::Read, 4),
            (Kind::Pass, 6),
            (Kind::Room, 2),
        ];
        let mut steps = vec![Kind::Append; 20];
        let changes_old = changes_old.into_iter().filter(|_| !ages);
        if coin.percent(10) {
            steps.extend([Kind::SnapshotTo, Kind::Backup, Kind::Backup, Kind::Backup]);
        }
        for (kind, weight) in rare.into_iter().chain(changes_old) {
            if coin.percent(60) {
                steps.extend(std::iter::repeat_n(kind, weight));
            }
        }
        if !knobs.tiers.is_empty() {
            steps.extend([Kind::RollUp; 5]);
            steps.extend([Kind::Aggregate; 3]);
        }
        let acks = [Ack::Durable, Ack::Buffered, Ack::Memory];
        let acks = match coin.below(4) {
            0 => vec![Ack::Durable],
            1 => vec![Ack::Buffered],
            _ => acks.to_vec(),
        };
        Self {
            steps,
            acks,
            late_percent: coin.pick(&[0, 20, 60]),
            dense_percent: coin.pick(&[0, 30, 100]),
            steps_max: coin.pick(&[6, 15, 40]),
            has_long_times: ages || coin.percent(50),
            has_failures: coin.percent(40),
            has_noise: coin.percent(20),
            has_exact_floats: !knobs.tiers.is_empty(),
        }
    }

    fn life(&self, coin: &mut Coin) -> Life {
        let steps: Vec<Step> =
            (0..2 + coin.below(self.steps_max)).map(|_| self.step(coin)).collect();
        let mut failures = Vec::new();
        if self.has_failures {
            for _ in 0..coin.below(4) {
                let kinds =
                    [io::ErrorKind::Other, io::ErrorKind::StorageFull, io::ErrorKind::Interrupted];
                failures.push((coin.below(12 * steps.len()) as u64, coin.pick(&kinds)));
            }
        }
        let noise = Noise {
            short: coin.pick(&[0, 5, 40]),
            read_errors: coin.pick(&[0, 0, 2]),
            map_errors: coin.pick(&[0, 0, 50, 100]),
            kept_caches: coin.pick(&[0, 50]),
        };
        let crash = match coin.below(4) {
            0 => Crash::PowerCut(PowerCut::DropUnsynced),
            1 => Crash::PowerCut(PowerCut::Torn(coin.number())),
            _ => Crash::Kill(coin.number()),
        };
        let calls = coin.below(10 * steps.len()) as u64;
        Life {
            steps,
            failures,
            failed_sync: coin.pick(&[
                FailedSync::Keeps,
                FailedSync::Forgets,
                FailedSync::Forgets,
                FailedSync::Reverts,
            ]),
            noise: if self.has_noise { noise } else { Noise::default() },
            end: match coin.below(4) {
                0 => End::Close,
                1 => End::CrashInside(calls, crash),
                _ => End::Crash(crash),
            },
        }
    }

    fn step(&self, coin: &mut Coin) -> Step {
        match coin.pick(&self.steps) {
            Kind::Append => {
                let after_ms = match coin.percent(self.late_percent) {
                    true => -(coin.below(2 * HOUR as usize) as i64),
                    false => -(coin.below(3) as i64),
                };
                let is_dense = coin.percent(self.dense_percent);
                Step::Append {
                    after_ms,
                    rows: self.rows(coin),
                    ack: self.acks[coin.below(self.acks.len())],
                    is_dense,
                }
            }
            Kind::Import => {
                let batches = 1 + coin.below(6);
                let old = |coin: &mut Coin| -(coin.below(3 * DAY as usize) as i64);
                Step::Import((0..batches).map(|_| (old(coin), self.rows(coin))).collect())
            }
            Kind::Delete => {
                let set = coin.percent(70).then(|| coin.below(SETS.into()) as u8);
                let from = -(coin.below(4 * HOUR as usize) as i64);
                Step::Delete(set, from, from + coin.below(2 * HOUR as usize) as i64)
            }
            Kind::Sync => Step::Sync,
            Kind::Maintain => Step::Maintain,
            Kind::Flush => Step::Flush,
            Kind::Compact => Step::Compact,
            Kind::CompactAll => Step::CompactAll,
            Kind::RollUp => Step::RollUp,
            Kind::SnapshotTo => Step::SnapshotTo,
            Kind::Backup => Step::Backup,
            Kind::Refresh => Step::Refresh,
            Kind::Check => Step::Check,
            Kind::Read => Step::Read,
            Kind::Aggregate => Step::Aggregate,
            Kind::Pass => Step::Pass(match self.has_long_times {
                true => coin.pick(&[MINUTE, HOUR, 6 * HOUR, DAY, 2 * DAY]),
                false => coin.pick(&[1_000, 11_000, MINUTE, 10 * MINUTE]),
            }),
            Kind::Jump => Step::Jump(coin.pick(&[-DAY, -HOUR, HOUR, 3650 * DAY, -3650 * DAY])),
            Kind::Room => Step::Room(coin.percent(60).then(|| coin.pick(&[0, 30, 300, 3_000]))),
        }
    }

    fn rows(&self, coin: &mut Coin) -> Vec<Cells> {
        let mut sets: Vec<u8> = (0..SETS).filter(|_| coin.percent(35)).collect();
        if sets.is_empty() {
            sets.push(coin.below(SETS.into()) as u8);
        }
        let row = |set: u8| (set, self.cells(coin));
        sets.into_iter().map(row).collect()
    }

    fn cells(&self, coin: &mut Coin) -> Vec<(u8, Value)> {
        let mut columns: Vec<u8> = (0..COLUMNS).filter(|_| coin.percent(40)).collect();
        if columns.is_empty() {
            columns.push(coin.below(COLUMNS.into()) as u8);
        }
        columns.into_iter().map(|column| (column, self.value(coin))).collect()
    }

    fn value(&self, coin: &mut Coin) -> Value {
        let number = coin.number();
        match coin.below(10) {
            0..=4 => Value::Int((number % 100) as i64),
            5 if self.has_exact_floats => Value::Int((number >> 20) as i64),
            5 => Value::Int(number as i64),
            6 => Value::Float(f64::from((number % 4000) as u32) / 2.0),
            7 if self.has_exact_floats => Value::Float(f64::NAN),
            7 => Value::Float(f64::from_bits(number)),
            8 => Value::Float(f64::from_bits(0x7ff0_0000_0000_0002)),
            _ => Value::Float(-0.0),
        }
    }
}
