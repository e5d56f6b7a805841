//! `kill -9` of a real process under load, on real files.
//!
//! The test starts its own binary again with [`DIR_VARIABLE`] set; that process appends and prints
//! each batch it was told is safe, until it is killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use heapster_store::{Ack, Store, StoreOptions};

use crate::support::*;

const DIR_VARIABLE: &str = "HEAPSTER_STORE_TEST_DIR";
const PODS: usize = 50;

fn rows(batch: i64) -> Vec<heapster_core::series::Row> {
    let names: Vec<_> = (0..PODS).map(|pod| format!("pod-{pod}")).collect();
    names.iter().map(|name| row(name, [("m", batch), ("n", batch * 7)])).collect()
}

fn real_options() -> StoreOptions {
    StoreOptions { clock: TestClock::new(), future_max: None, ..StoreOptions::default() }
}

/// Not a test of its own: the process that is killed.
#[test]
fn child_that_appends_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let store = Store::open(dir, real_options()).unwrap();
    let first = store.snapshot();
    let first =
        contents(&first).values().map(std::collections::BTreeMap::len).max().unwrap_or(0) as i64;
    for batch in first.. {
        let ack = if batch % 5 == 0 { Ack::Durable } else { Ack::Buffered };
        let _ = store.append_rows(at(NOON + batch * 1_000), &rows(batch), ack).unwrap();
        println!("acknowledged {batch}");
        if batch % 40 == 39 {
            store.flush().unwrap();
        }
    }
}

#[test]
fn a_killed_process_has_lost_nothing_it_was_told_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut acknowledged = -1;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::child_that_appends_until_it_is_killed", "--nocapture"])
            .env(DIR_VARIABLE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let Some((_, batch)) = line.split_once("acknowledged ") else { continue };
            acknowledged = batch.trim().parse().unwrap();
            seen += 1;
            if seen == 60 + round * 13 {
                child.kill().unwrap();
                // What it still managed to say before it died counts too.
            }
        }
        child.wait().unwrap();
        let store = Store::open(&path, real_options()).unwrap();
        assert!(store.open_report().is_complete(), "{:?}", store.open_report());
        let found = contents(&store.snapshot());
        assert_eq!(found.len(), PODS * 2);
        for ((_, column), samples) in &found {
            assert!(samples.len() as i64 > acknowledged, "{} of {acknowledged}", samples.len());
            for (batch, (millis, value)) in samples.iter().enumerate() {
                let batch = batch as i64;
                let expected = if column == "m" { batch } else { batch * 7 };
                assert_eq!((*millis, *value), (NOON + batch * 1_000, Bits::Int(expected)));
            }
        }
    }
    assert!(acknowledged > 300);
}
