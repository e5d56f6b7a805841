//! Two processes and one directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use heapster_store::{Ack, Error, ReaderOptions, Store, StoreReader};

use super::child::{HOLD, batch, batch_time, batches_in, plain_options};
use super::{child, files, quick_dir};
use crate::support::*;

/// Starts a process that opens the store; gives the line it says.
fn hold(dir: &Path) -> (Child, String) {
    let mut child = child(&[], HOLD, dir).stdin(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.filter(|line| line.contains("opened") || line.contains("refused"));
    let said =
        said.map(|line| line[line.find("opened").or(line.find("refused")).unwrap()..].to_owned());
    let said = said.take(1).last().unwrap_or_default();
    (child, said)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    #[expect(clippy::disallowed_methods, reason = "the promise is about real time")]
    let began = Instant::now();
    let result = work();
    (result, began.elapsed())
}

#[test]
fn a_second_writer_is_refused_at_once_by_name_and_changes_no_byte_until_the_first_is_gone() {
    let dir = quick_dir();
    let dir = dir.path().join("store");
    let store = Store::open(&dir, plain_options()).unwrap();
    for number in 0..100 {
        let _ = store.append_rows(at(batch_time(number)), &batch(number), Ack::Durable).unwrap();
        if number == 60 {
            store.flush().unwrap();
        }
    }
    // Another process comes second.
    let before = files(&dir);
    let (mut second, said) = hold(&dir);
    second.wait().unwrap();
    let own = format!("process {} on", std::process::id());
    assert!(said.starts_with("refused open Locked") && said.contains(&own), "{said}");
    assert!(said.contains(dir.to_str().unwrap()), "{said}");
    assert!(files(&dir) == before, "it changed something");
    drop(store);
    // Another process comes first.
    let (mut first, said) = hold(&dir);
    assert_eq!(said, "opened");
    let before = files(&dir);
    let (refused, took) = timed(|| Store::open(&dir, plain_options()));
    let Err(Error::Locked { path, holder }) = refused else { panic!("{refused:?}") };
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(path, dir.join("LOCK"));
    assert!(holder.contains(&format!("process {}", first.id())), "{holder}");
    assert!(files(&dir) == before, "it changed something");
    // A reader needs no lock.
    let reader = StoreReader::open(&dir, ReaderOptions::default()).unwrap();
    assert_eq!(contents(&reader.snapshot()).len(), 40);
    assert!(files(&dir) == before, "a reader changed something");
    // The lock goes with the process, however it ends.
    first.kill().unwrap();
    first.wait().unwrap();
    let store = Store::open(&dir, plain_options()).unwrap();
    assert_eq!(batches_in(&store).len(), 100);
    drop(store);
    assert!(
        fs::read_to_string(dir.join("LOCK")).unwrap().contains(&std::process::id().to_string())
    );
}
