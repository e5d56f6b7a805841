//! Every kind of system call that changes a file kills the process, or fails, under `strace`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use heapster_store::{Error, Store};

use super::child::SCRIPT;
use super::script::{Expected, Outcome, Work, options, script, snapshot_dir};
use super::{child, quick_dir, rounds, skip, succeeds};
use crate::support::*;

/// The calls by which the store changes files, whatever the architecture calls them.
const CALLS: &str =
    "/^(pwrite64|fdatasync|fsync|rename.*|unlink.*|ftruncate|link.*|mkdir.*|openat)$";
/// Of each call, this many places are tried unless `HEAPSTER_KERNEL_ROUNDS` says more.
const PLACES: usize = 8;

/// How a process ended, and what it said before.
struct Told {
    output: Output,
    /// By its number, each part of the script that was begun: whether it was acknowledged.
    parts: Vec<(usize, bool)>,
    /// What it said of errors.
    failures: Vec<String>,
    /// Parts that were acknowledged between a poisoned store and the next open.
    acknowledged_poisoned: Vec<usize>,
    poisoned: Vec<String>,
}

impl Told {
    fn is_finished(&self) -> bool {
        self.output.status.success() && self.text().contains("\nfinished")
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn everything(&self) -> String {
        format!("{}\n{}", self.text(), String::from_utf8_lossy(&self.output.stderr))
    }
}

/// Lets a process go through the script under `strace` with these options.
fn run_traced(strace: &[&str], log: &Path, dir: &Path) -> Told {
    let mut with = vec!["strace", "-f", "-qq", "-o", log.to_str().unwrap()];
    with.extend(strace);
    let output = child(&with, SCRIPT, dir).output().unwrap();
    let script = script();
    let (mut parts, mut failures) = (Vec::new(), Vec::new());
    let (mut poisoned, mut acknowledged_poisoned, mut is_poisoned) =
        (Vec::new(), Vec::new(), false);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // The harness begins its line about the test without ending it.
        let mut words = line
            .split_whitespace()
            .skip_while(|word| !matches!(*word, "began" | "done" | "failed" | "poisoned"));
        let (Some(word), Some(rest)) = (words.next(), words.next()) else { continue };
        match word {
            "poisoned" => {
                is_poisoned = true;
                poisoned.push(rest.to_owned());
            }
            _ => {
                let number: usize = rest.parse().unwrap();
                match word {
                    "began" => parts.push((number, false)),
                    "done" => {
                        parts.last_mut().unwrap().1 = true;
                        is_poisoned &= !matches!(script[number], Work::Reopen);
                        if is_poisoned && script[number].writes() {
                            acknowledged_poisoned.push(number);
                        }
                    }
                    _ => failures.push(line.to_owned()),
                }
            }
        }
    }
    Told { output, parts, failures, acknowledged_poisoned, poisoned }
}

/// What the parent opens afterwards contains everything the child was told, and the store goes on.
fn check_after(dir: &Path, told: &Told, context: &str) {
    let script = script();
    let mut expected = Expected::default();
    for (number, is_done) in &told.parts {
        let outcome = if *is_done { Outcome::Acknowledged } else { Outcome::Unknown };
        expected.take(&script[*number], outcome);
    }
    let clock = TestClock::new();
    let store = Store::open(dir, options(&clock)).unwrap();
    assert!(store.open_report().is_complete(), "{context}: {:?}", store.open_report());
    expected.check(&contents(&store.snapshot()), context);
    let more = Work::Append {
        ack: heapster_store::Ack::Durable,
        millis: NOON + 20 * DAY,
        rows: vec![row("more", [("m", 1)])],
    };
    let mut store = Some(store);
    for part in [more, Work::Flush, Work::CompactAll, Work::RollUp, Work::Reopen] {
        super::script::work(&part, dir, &clock, &mut store).unwrap();
        expected.take(&part, Outcome::Acknowledged);
    }
    let store = store.unwrap();
    expected.check(&contents(&store.snapshot()), context);
    assert!(store.verify().is_empty(), "{context}");
    let snapshot = snapshot_dir(dir);
    let was_made = told
        .parts
        .iter()
        .any(|(number, is_done)| *is_done && matches!(script[*number], Work::SnapshotTo));
    match Store::open(&snapshot, options(&clock)) {
        Ok(copy) => assert!(copy.open_report().is_complete() && copy.verify().is_empty()),
        Err(Error::NotAStore { .. } | Error::Io { .. }) if !was_made => {}
        Err(error) => panic!("{context}: {error:?}"),
    }
}

/// The numbers, from 1 on, of each call that changes a file, in a run that nothing disturbs.
fn changing_calls() -> Option<BTreeMap<String, Vec<usize>>> {
    let dir = quick_dir();
    let log = dir.path().join("log");
    if !succeeds("strace", &["-f", "-qq", "-o", "/dev/null", "true"]) {
        return skip("strace is missing or may not trace");
    }
    let told = run_traced(&["-e", &format!("trace={CALLS}")], &log, &dir.path().join("store"));
    assert!(told.is_finished() && told.failures.is_empty(), "{}", told.everything());
    check_after(&dir.path().join("store"), &told, "undisturbed");
    // `strace` counts the calls of each thread by itself; the store has one.
    let log = fs::read_to_string(log).unwrap();
    let mut threads: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in log.lines() {
        let (thread, call) = line.split_once(char::is_whitespace).unwrap();
        threads.entry(thread).or_default().push(call.trim_start());
    }
    let calls = threads
        .into_values()
        .max_by_key(|calls| calls.iter().filter(|call| call.starts_with("pwrite64")).count());
    let mut numbers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls.unwrap() {
        let (name, args) = call.split_once('(').unwrap();
        let count = counts.entry(name).or_default();
        *count += 1;
        if name != "openat" || args.contains("O_CREAT") {
            numbers.entry(name.to_owned()).or_default().push(*count);
        }
    }
    Some(numbers)
}

/// Some of the numbers, spread evenly, the first and the last among them.
fn some_of(numbers: &[usize], places: usize) -> Vec<usize> {
    let places = rounds(places).clamp(1, numbers.len());
    let mut chosen: Vec<_> = (0..places)
        .map(|place| numbers[place * (numbers.len() - 1) / (places - 1).max(1)])
        .collect();
    chosen.dedup();
    chosen
}

#[test]
fn a_process_that_is_killed_at_any_call_has_lost_nothing_it_was_told_is_safe() {
    let Some(calls) = changing_calls() else { return };
    let total: usize = calls.values().map(Vec::len).sum();
    assert!(total > 300 && calls.len() >= 8, "the script does all kinds of work: {calls:?}");
    let mut killed = 0;
    for (call, numbers) in &calls {
        for number in some_of(numbers, PLACES) {
            let dir = quick_dir();
            let (store, context) = (dir.path().join("store"), format!("killed at {call} {number}"));
            let inject = format!("inject={call}:signal=SIGKILL:when={number}");
            let trace = format!("trace={call}");
            let told = run_traced(&["-e", &trace, "-e", &inject], Path::new("/dev/null"), &store);
            assert!(told.failures.is_empty(), "{context}: {}", told.everything());
            assert!(!told.is_finished(), "{context}: it lives");
            killed += usize::from(told.output.status.signal() == Some(9));
            check_after(&store, &told, &context);
        }
    }
    println!("killed {killed} times at {total} calls of {} kinds", calls.len());
    assert!(killed >= 8);
}

/// Lets one call fail and goes through the rest of the script.
fn fail(call: &str, error: &str, when: &str) -> Told {
    let dir = quick_dir();
    let (store, context) = (dir.path().join("store"), format!("{call} {error} {when}"));
    let inject = format!("inject={call}:error={error}:when={when}");
    let trace = format!("trace={call}");
    let told = run_traced(&["-e", &trace, "-e", &inject], Path::new("/dev/null"), &store);
    assert!(told.is_finished(), "{context}: {}", told.everything());
    assert_eq!(told.acknowledged_poisoned, [0; 0], "{context}: {}", told.everything());
    check_after(&store, &told, &context);
    told
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_reads_go_on() {
    let Some(calls) = changing_calls() else { return };
    let script = script();
    for error in ["EIO", "ENOSPC"] {
        let mut poisoned = 0;
        for call in ["fdatasync", "fsync"] {
            let first = 1..=rounds(20).min(calls[call].len());
            // All that later ones could tell, the first twenty tell; the rest are spread.
            for number in first.step_by(if error == "EIO" { 1 } else { 3 }) {
                let told = fail(call, error, &number.to_string());
                let context = format!("{call} {error} {number}: {:?}", told.failures);
                let failed: Vec<usize> = told.parts.iter().filter(|p| !p.1).map(|p| p.0).collect();
                assert!(!failed.is_empty(), "the failure was told: {context}");
                poisoned += usize::from(!told.poisoned.is_empty());
                // A copy that fails does not concern the store, nor one that is not open.
                let is_other = |part: &usize| {
                    matches!(script[*part], Work::SnapshotTo | Work::Reopen) || *part == 0
                };
                assert!(!told.poisoned.is_empty() || failed.iter().all(is_other), "{context}");
            }
        }
        assert!(poisoned >= 8, "{poisoned}");
    }
    // A disk that is gone for good.
    let told = fail("fdatasync", "EIO", "12+");
    assert!(told.poisoned.len() > 10, "{:?}", told.failures);
}

#[test]
fn calls_that_are_interrupted_make_no_difference() {
    if changing_calls().is_none() {
        return;
    }
    for call in ["pwrite64", "pread64", "fdatasync", "fsync", "ftruncate"] {
        // The loader of programs, which reads first, does not try again.
        let when = if call == "pread64" { "20+3" } else { "1+3" };
        let told = fail(call, "EINTR", when);
        assert!(told.failures.is_empty(), "{call}: {:?}", told.failures);
        let script = script().len();
        assert_eq!(told.parts.iter().filter(|part| part.1).count(), script, "{call}");
    }
}

#[test]
fn a_call_that_fails_once_is_an_error_with_a_name_and_what_comes_later_works() {
    let Some(calls) = changing_calls() else { return };
    let last = script().iter().rposition(|part| matches!(part, Work::Append { .. })).unwrap();
    let cases = [
        ("pwrite64", "EIO", "Io:write"),
        ("pwrite64", "ENOSPC", "DiskFull"),
        ("pwrite64", "EFBIG", "DiskFull"),
        ("openat", "ENOSPC", "DiskFull"),
        ("openat", "EMFILE", "Io:"),
        ("ftruncate", "EIO", ""),
        ("rename", "ENOSPC", "DiskFull"),
        ("rename", "EROFS", "Io:rename"),
        ("unlink", "EROFS", ""),
    ];
    for (call, error, kind) in cases {
        // Under another name on this architecture.
        let Some(numbers) = calls.get(call) else { continue };
        let mut told_kind = kind.is_empty();
        for number in some_of(numbers, PLACES / 2) {
            let told = fail(call, error, &number.to_string());
            told_kind |= told.failures.iter().any(|failure| failure.contains(kind));
            let is_done = told.parts.contains(&(last, true));
            let is_poisoned = !told.poisoned.is_empty();
            assert!(is_done || is_poisoned, "{call} {error} {number}: {:?}", told.failures);
            if call == "pwrite64" {
                // The beginning of the record is cut off again.
                assert!(!is_poisoned, "{error} {number}: {:?}", told.failures);
            }
        }
        assert!(told_kind, "{call} {error} was never told as {kind}");
    }
    // A disk that takes nothing from some moment on.
    for (call, error) in [("pwrite64", "ENOSPC"), ("pwrite64", "EIO"), ("openat", "EROFS")] {
        let middle = calls[call][calls[call].len() / 2];
        let told = fail(call, error, &format!("{middle}+"));
        assert!(told.failures.len() > 10, "{call} {error}: {:?}", told.failures);
    }
}
