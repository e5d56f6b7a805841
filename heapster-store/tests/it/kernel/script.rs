//! A script with every kind of work a store does, and what may and must be found after each part of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::series::Row;
use heapster_core::{Matcher, TimeRange};
use heapster_store::{Ack, LateWindow, Result, Retention, Store, StoreOptions, TierOptions};

use crate::support::*;

/// How long raw samples are kept.
const KEPT: i64 = 3 * DAY;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Work {
    Append {
        ack: Ack,
        millis: i64,
        rows: Vec<Row>,
    },
    Import {
        millis: i64,
        rows: Vec<Row>,
    },
    /// Of all samples of a pod.
    Delete(&'static str),
    Sync,
    Flush,
    CompactAll,
    RollUp,
    Maintain,
    /// Into the directory beside the store's.
    SnapshotTo,
    /// Drops the store and opens it again.
    Reopen,
    /// Reads everything and compares.
    Read,
    /// Lets time pass.
    Step(i64),
}

impl Work {
    /// Whether a poisoned store must not say that it did this. A roll-up says nothing for a while
    /// after any failure.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::RollUp | Self::Reopen | Self::Read | Self::Step(_))
    }
}

/// The options of a store that goes through the script.
pub fn options(clock: &Arc<TestClock>) -> StoreOptions {
    let tier = TierOptions {
        resolution: Duration::from_secs(300),
        retention: Retention::Forever,
        retention_bytes: None,
    };
    StoreOptions {
        clock: clock.clone(),
        retention: Retention::Age(Duration::from_millis(KEPT as u64)),
        tiers: vec![tier],
        late_window: LateWindow::Any,
        future_max: None,
        ..StoreOptions::default()
    }
}

/// Some days of work.
pub fn script() -> Vec<Work> {
    let mut script = Vec::new();
    let mut now = NOON;
    let mut value = 0;
    for day in 0..5 {
        for batch in 0..6 {
            value += 1;
            let rows = vec![
                row("a", [("m", value), ("n", -value)]),
                row(["b", "c"][batch % 2], [("m", value)]),
                row("gone", [("m", value)]),
                row("f", [("x", value as f64 / 7.0)]),
            ];
            let ack = [Ack::Durable, Ack::Buffered, Ack::Memory][batch % 3];
            script.push(Work::Append { ack, millis: now, rows });
            if batch == 3 {
                // Late, and over what is there.
                let rows = vec![row("a", [("m", 1_000 + value), ("late", value)])];
                script.push(Work::Append { ack: Ack::Durable, millis: now - MINUTE, rows });
            }
            script.push(Work::Step(MINUTE));
            now += MINUTE;
            if batch == 1 {
                script.push(Work::Maintain);
            }
        }
        let import = || Work::Import {
            millis: NOON + day * HOUR,
            rows: vec![row("imported", [("m", day), ("n", 7)]), row("b", [("i", day)])],
        };
        let of_day = match day {
            0 => vec![Work::Flush, import(), Work::RollUp],
            1 => vec![Work::Sync, Work::Reopen, Work::Flush, Work::SnapshotTo],
            2 => vec![Work::Delete("gone"), import(), Work::Flush, Work::CompactAll],
            3 => vec![Work::RollUp, Work::RollUp, Work::Reopen, import()],
            _ => vec![Work::Delete("c"), Work::CompactAll, Work::RollUp],
        };
        script.extend(of_day);
        script.extend([Work::Read, Work::Step(DAY - 6 * MINUTE), Work::Maintain, Work::Read]);
        now += DAY - 6 * MINUTE;
    }
    let rows = vec![row("last", [("m", 1)])];
    script.push(Work::Append { ack: Ack::Durable, millis: now, rows });
    script.push(Work::Read);
    script
}

/// Does one thing.
pub fn work(
    work: &Work,
    dir: &Path,
    clock: &Arc<TestClock>,
    store: &mut Option<Store>,
) -> Result<()> {
    if let Work::Step(millis) = work {
        clock.step(*millis);
        return Ok(());
    }
    if matches!(work, Work::Reopen) {
        *store = None;
    }
    if store.is_none() {
        *store = Some(Store::open(dir, options(clock))?);
    }
    let store = store.as_ref().unwrap();
    match work {
        Work::Append { ack, millis, rows } => {
            let report = store.append_rows(at(*millis), rows, *ack)?;
            assert_eq!(report.rejected.total(), 0);
        }
        Work::Import { millis, rows } => {
            let mut import = store.import();
            import.push_rows(at(*millis), rows)?;
            let report = import.finish()?;
            assert_eq!(report.rejected.total(), 0);
        }
        Work::Delete(pod) => {
            store.delete(&[Matcher::equal("pod_name", *pod)], TimeRange::ALL)?;
        }
        Work::Sync => store.sync()?,
        Work::Flush => drop(store.flush()?),
        Work::CompactAll => drop(store.compact_all()?),
        Work::RollUp => drop(store.roll_up()?),
        Work::Maintain => drop(store.maintain()?),
        Work::SnapshotTo => drop(store.snapshot_to(snapshot_dir(dir))?),
        Work::Reopen | Work::Read | Work::Step(_) => {}
    }
    Ok(())
}

pub fn snapshot_dir(dir: &Path) -> std::path::PathBuf {
    dir.with_extension("snapshot")
}

/// What became of a part of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// It was begun; nobody was told how it ended, or that it failed.
    Unknown,
}

/// What a store that went through a part of the script may and must contain.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    cells: BTreeMap<(String, String, i64), Cell>,
    now: i64,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    may_be: Vec<Bits>,
    must_be: bool,
}

impl Expected {
    /// Takes a part of the script into account.
    pub fn take(&mut self, work: &Work, outcome: Outcome) {
        let is_sure = outcome == Outcome::Acknowledged;
        match work {
            Work::Append { ack, millis, rows } => {
                self.put(*millis, rows, is_sure && *ack != Ack::Memory, is_sure);
            }
            Work::Import { millis, rows } => self.put(*millis, rows, is_sure, is_sure),
            Work::Delete(pod) => {
                let pod = format!("{pod:?}");
                for ((labels, ..), cell) in &mut self.cells {
                    if labels.contains(&pod) {
                        cell.must_be = false;
                        if is_sure {
                            cell.may_be.clear();
                        }
                    }
                }
            }
            Work::Step(millis) => self.now += millis,
            Work::Maintain => {
                let floor = NOON + self.now - KEPT;
                for ((.., millis), cell) in &mut self.cells {
                    cell.must_be &= *millis >= floor;
                }
            }
            _ => {}
        }
    }

    fn put(&mut self, millis: i64, rows: &[Row], must_be: bool, is_last: bool) {
        let mut batch = Contents::new();
        rows.iter().for_each(|row| expect(&mut batch, millis, row));
        for ((labels, column), samples) in batch {
            let cell = self.cells.entry((labels, column, millis)).or_default();
            // What is not promised may be lost, and then the value before is there.
            if must_be && is_last {
                cell.may_be.clear();
            }
            cell.must_be |= must_be;
            cell.may_be.extend(samples.values());
        }
    }

    /// Everything that was acknowledged is there, bit for bit, and nothing else.
    pub fn check(&self, found: &Contents, context: &str) {
        for (key, cell) in self.cells.iter().filter(|(_, cell)| cell.must_be) {
            let (labels, column, millis) = key.clone();
            let read = found.get(&(labels, column)).and_then(|samples| samples.get(&millis));
            assert!(read.is_some_and(|read| cell.may_be.contains(read)), "{context}: lost {key:?}");
        }
        for ((labels, column), samples) in found {
            for (millis, value) in samples {
                let key = (labels.clone(), column.clone(), *millis);
                let cell = self.cells.get(&key);
                assert!(
                    cell.is_some_and(|cell| cell.may_be.contains(value)),
                    "{context}: invented {key:?} {value:?}"
                );
            }
        }
    }
}
