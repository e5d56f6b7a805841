//! The jobs of the process that is killed, starved and lied to.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use heapster_store::{Ack, Error, Store, StoreOptions};

use super::script::{Expected, Outcome, script, work};
use crate::support::*;

pub const JOB_VARIABLE: &str = "HEAPSTER_STORE_KERNEL_JOB";
pub const DIR_VARIABLE: &str = "HEAPSTER_STORE_KERNEL_DIR";
/// Goes through the script.
pub const SCRIPT: &str = "script";
/// Appends until it is killed or refused too often.
pub const APPEND: &str = "append";
/// Appends [`SOME`] batches.
pub const APPEND_SOME: &str = "append some";
/// Opens the store, says so, and holds it until its input ends.
pub const HOLD: &str = "hold";

/// Refusals after which [`APPEND`] ends.
const REFUSALS_MAX: usize = 30;
/// Batches from one flush to the next.
const FLUSH: i64 = 400;
/// Batches of [`APPEND_SOME`].
const SOME: i64 = 420;
/// Pods of a batch of [`APPEND`].
const PODS: i64 = 20;

/// Not a test of its own: the process that the tests start.
#[test]
fn that_is_started_by_the_tests() {
    let Ok(job) = std::env::var(JOB_VARIABLE) else { return };
    let dir = PathBuf::from(std::env::var_os(DIR_VARIABLE).unwrap());
    match &*job {
        SCRIPT => go_through_the_script(&dir),
        APPEND => append(&dir, i64::MAX),
        APPEND_SOME => append(&dir, SOME),
        HOLD => hold(&dir),
        other => panic!("{other} is no job"),
    }
}

/// Says something in one line, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// The variant of an error, and what was tried.
fn kind(error: &Error) -> String {
    let debug = format!("{error:?}");
    let variant: String = debug.chars().take_while(|c| c.is_alphanumeric()).collect();
    match error {
        Error::Io { op, .. } => format!("{variant}:{op}"),
        _ => variant,
    }
}

fn go_through_the_script(dir: &Path) {
    let clock = TestClock::new();
    let (mut store, mut expected) = (None, Expected::default());
    for (number, part) in script().iter().enumerate() {
        say(&format!("began {number}"));
        let result = work(part, dir, &clock, &mut store);
        let is_done = result.is_ok();
        expected.take(part, if is_done { Outcome::Acknowledged } else { Outcome::Unknown });
        match result {
            Ok(()) => say(&format!("done {number}")),
            Err(error) => say(&format!("failed {number} {}", kind(&error))),
        }
        if let Some(store) = &store {
            // Reads go on whatever happens.
            expected.check(&contents(&store.snapshot()), &format!("in the process at {number}"));
            let stats = store.stats();
            if let Some(op) = stats.poisoned_by {
                say(&format!("poisoned {op}"));
                assert!(stats.last_error.is_some(), "nobody is told why");
            }
        }
    }
    say("finished");
}

/// The rows of a batch of [`APPEND`].
pub fn batch(number: i64) -> Vec<heapster_core::series::Row> {
    let names: Vec<_> = (0..PODS).map(|pod| format!("pod-{pod}")).collect();
    names.iter().map(|name| row(name, [("m", number), ("n", number * 7)])).collect()
}

/// Time of a batch of [`APPEND`].
pub fn batch_time(number: i64) -> i64 {
    NOON + number * 1_000
}

/// Every fifth batch is durable.
pub fn is_durable(number: i64) -> bool {
    number % 5 == 0
}

pub fn plain_options() -> StoreOptions {
    StoreOptions { clock: TestClock::new(), future_max: None, ..StoreOptions::default() }
}

/// The batches of [`APPEND`] in a store: whole, each with its values, no other.
pub fn batches_in(store: &Store) -> Vec<i64> {
    let mut found: std::collections::BTreeMap<i64, i64> = Default::default();
    for ((_, column), samples) in contents(&store.snapshot()) {
        for (millis, value) in samples {
            let number = (millis - NOON) / 1_000;
            let wanted = if column == "m" { number } else { number * 7 };
            assert_eq!((millis, value), (batch_time(number), Bits::Int(wanted)), "{column}");
            *found.entry(number).or_default() += 1;
        }
    }
    assert!(found.values().all(|cells| *cells == PODS * 2), "half a batch: {found:?}");
    found.into_keys().collect()
}

fn append(dir: &Path, batches: i64) {
    let store = match Store::open(dir, plain_options()) {
        Ok(store) => store,
        Err(error) => return say(&format!("refused open {}", kind(&error))),
    };
    let first = batches_in(&store).last().map_or(0, |last| last + 1);
    say(&format!("first {first}"));
    let mut refusals = 0;
    for number in first..first.saturating_add(batches) {
        let ack = if is_durable(number) { Ack::Durable } else { Ack::Buffered };
        let appended = store.append_rows(at(batch_time(number)), &batch(number), ack);
        let is_full = matches!(appended, Err(Error::DiskFull { .. }));
        match appended {
            Ok(_) => say(&format!("acknowledged {number}")),
            Err(error) => {
                let why = store.stats().last_error.unwrap_or_default();
                say(&format!("refused {number} {} because {why}", kind(&error)));
                refusals += 1;
            }
        }
        if (is_full || number % FLUSH == FLUSH - 1)
            && let Err(error) = store.flush()
        {
            say(&format!("unflushed {number} {} because {error}", kind(&error)));
        }
        if refusals == REFUSALS_MAX {
            break;
        }
    }
    say(&format!("batches {}", batches_in(&store).len()));
}

fn hold(dir: &Path) {
    let _store = match Store::open(dir, plain_options()) {
        Ok(store) => store,
        Err(error) => return say(&format!("refused open {}: {error}", kind(&error))),
    };
    say("opened");
    let mut line = String::new();
    let _ = std::io::stdin().lock().read_line(&mut line);
}
