//! Limits of the process: the length of a file, open files.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use heapster_store::Store;

use super::child::{APPEND, APPEND_SOME, batches_in, plain_options};
use super::{child, quick_dir, skip, succeeds};

/// Sent to a process that makes a file longer than it may.
const SIGXFSZ: i32 = 25;

fn lines<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    // The harness begins its line about the test without ending it.
    text.lines().filter_map(move |line| line.find(word).map(|start| &line[start..]))
}

/// What was acknowledged is there, and nothing that was not appended; gives what was acknowledged.
fn check(dir: &Path, output: &Output, context: &str) -> Vec<i64> {
    let text = String::from_utf8_lossy(&output.stdout);
    let acknowledged = lines(&text, "acknowledged ");
    let acknowledged = acknowledged.filter_map(|line| line.split_whitespace().nth(1)?.parse().ok());
    let acknowledged: Vec<i64> = acknowledged.collect();
    let store = Store::open(dir, plain_options()).unwrap();
    assert!(store.open_report().is_complete(), "{context}: {:?}", store.open_report());
    let found = batches_in(&store);
    for number in &acknowledged {
        assert!(found.contains(number), "{context}: lost {number}");
    }
    acknowledged
}

fn has_prlimit() -> bool {
    succeeds("prlimit", &["--fsize=1000000", "true"]) || skip::<()>("prlimit is missing").is_some()
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk_and_the_next_log_goes_on() {
    if !has_prlimit() {
        return;
    }
    let limited = ["sh", "-c", "trap '' XFSZ; exec prlimit --fsize=20000 \"$@\"", "sh"];
    let dir = quick_dir();
    let store = dir.path().join("store");
    let output = child(&limited, APPEND, &store).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let refusals: Vec<&str> = lines(&text, "refused ").collect();
    assert!(
        refusals.len() == 30 && refusals.iter().all(|line| line.contains(" DiskFull ")),
        "{text}"
    );
    let acknowledged = check(&store, &output, "a limit of the file's length");
    let last_refused: i64 = refusals[28].split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(acknowledged.iter().any(|number| *number > last_refused), "it went on: {text}");
}

#[test]
fn a_process_that_a_limit_kills_has_lost_nothing_it_was_told_is_safe() {
    if !has_prlimit() {
        return;
    }
    let dir = quick_dir();
    let store = dir.path().join("store");
    let output = child(&["prlimit", "--fsize=66000"], APPEND, &store).output().unwrap();
    assert_eq!(output.status.signal(), Some(SIGXFSZ), "{output:?}");
    assert!(check(&store, &output, "killed").len() > 300);
}

#[test]
fn few_open_files_are_an_error_with_a_name_and_lose_nothing() {
    if !has_prlimit() {
        return;
    }
    let dir = quick_dir();
    let store = dir.path().join("store");
    let (mut refused, mut finished) = (0, 0);
    for files in 4..=24 {
        let context = format!("{files} files");
        let limit = format!("--nofile={files}");
        let output = child(&["prlimit", &limit], APPEND_SOME, &store).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{context}: {output:?}");
        for word in ["refused ", "unflushed "] {
            for line in lines(&text, word) {
                assert!(line.contains("Io:") || line.contains("Poisoned"), "{context}: {line}");
            }
            refused += lines(&text, word).count();
        }
        finished += lines(&text, "batches ").count();
        check(&store, &output, &context);
    }
    assert!(refused > 0 && finished > 5, "{refused} refused, {finished} finished");
}

#[test]
fn a_process_that_runs_out_of_open_files_goes_on_in_its_log_and_loses_nothing() {
    if !has_prlimit() {
        return;
    }
    for files in [1, 8, 9, 10] {
        let dir = quick_dir();
        let store = dir.path().join("store");
        let mut child = child(&[], APPEND, &store).spawn().unwrap();
        let mut output = Vec::new();
        let (mut acknowledged, mut unflushed, mut is_poisoned) = (0, 0, false);
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
            output.extend_from_slice(line.as_bytes());
            output.push(b'\n');
            if line.starts_with("acknowledged") {
                acknowledged += 1;
                if acknowledged == 500 {
                    // From now on: not even one more.
                    let pid = format!("--pid={}", child.id());
                    assert!(succeeds("prlimit", &[&pid, &format!("--nofile={files}")]));
                }
            }
            // The limit may come between the name of a segment and the sync of its directory, for which
            // that has to be opened.
            is_poisoned = line.contains("refused");
            let is_in_between = line.contains("segments") && line.contains("Too many open files");
            assert!(!is_poisoned || is_in_between, "{files} files: {line}");
            if line.starts_with("unflushed") {
                assert!(line.contains("Io:"), "{files} files: {line}");
                unflushed += 1;
            }
            if unflushed == 3 || acknowledged == 4_000 || is_poisoned {
                let _ = child.kill();
                break;
            }
        }
        let status = child.wait().unwrap();
        assert!(unflushed == 3 || files > 1 || is_poisoned, "{files} files: {unflushed}");
        let output = Output { status, stdout: output, stderr: Vec::new() };
        let found = check(&store, &output, &format!("{files} files")).len();
        assert!(found > 1_000 || is_poisoned && found > 400, "{found}");
    }
}
