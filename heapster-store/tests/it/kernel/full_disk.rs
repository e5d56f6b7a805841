//! A small file system in memory that is filled to the last byte, or the last name, again and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use heapster_store::{Ack, Error, Retention, Store, StoreOptions};

use super::{Mount, rounds};
use crate::support::*;

/// How long samples are kept; the file system is full before.
const KEPT: i64 = 2 * DAY;
/// Time between two batches.
const TICK: i64 = 10 * MINUTE;

/// A store whose owner appends, and what was acknowledged.
struct Owner {
    dir: PathBuf,
    clock: Arc<TestClock>,
    store: Option<Store>,
    acknowledged: Contents,
    batches: i64,
    /// Segments that expired in earlier lives of the store.
    expired_before: u64,
}

impl Owner {
    fn of(dir: PathBuf) -> Self {
        let (clock, acknowledged) = (TestClock::new(), Contents::new());
        let mut owner =
            Self { dir, clock, store: None, acknowledged, batches: 0, expired_before: 0 };
        owner.reopen("the first time");
        owner
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn expired(&self) -> u64 {
        self.expired_before + self.store.as_ref().map_or(0, |store| store.stats().expired_segments)
    }

    /// The process dies, and comes again.
    fn reopen(&mut self, context: &str) {
        self.expired_before = self.expired();
        self.store = None;
        let options = StoreOptions {
            clock: self.clock.clone(),
            retention: Retention::Age(Duration::from_millis(KEPT as u64)),
            future_max: None,
            ..StoreOptions::default()
        };
        let store = Store::open(&self.dir, options).unwrap_or_else(|e| panic!("{context}: {e:?}"));
        assert!(store.open_report().is_complete(), "{context}: {:?}", store.open_report());
        self.store = Some(store);
        self.check(context);
    }

    /// Time passes: upkeep, and a batch that takes some kilobytes also in a segment. `false` when it
    /// was refused.
    fn tick(&mut self) -> bool {
        self.clock.step(TICK);
        match self.store().maintain() {
            Ok(_) => {}
            Err(Error::DiskFull { path }) => assert!(path.starts_with(&self.dir)),
            Err(error) => panic!("{error:?}"),
        }
        self.batches += 1;
        let name = |pod: i64| {
            let mut name = format!("{}-{pod}-", self.batches);
            // No two alike, so that they compress badly.
            let mut state = (self.batches * 31 + pod) as u64;
            for _ in 0..10 {
                state =
                    state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                name.push_str(&format!("{state:016x}"));
            }
            name
        };
        let names: Vec<String> = (0..16).map(name).collect();
        let rows: Vec<_> = names.iter().map(|name| row(name, [("m", self.batches)])).collect();
        let ack = if self.batches % 4 == 0 { Ack::Durable } else { Ack::Buffered };
        match self.store().append_rows(at(self.clock.millis()), &rows, ack) {
            Ok(_) => {
                let now = self.clock.millis();
                rows.iter().for_each(|row| expect(&mut self.acknowledged, now, row));
                true
            }
            Err(Error::DiskFull { path }) => {
                assert!(path.starts_with(&self.dir), "{}", path.display());
                false
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What is not past its time is there, and nothing is there that was not acknowledged.
    fn check(&mut self, context: &str) {
        let floor = self.clock.millis() - KEPT;
        let found = contents(&self.store().snapshot());
        for (key, samples) in &self.acknowledged {
            for (millis, value) in samples.range(floor..) {
                let read = found.get(key).and_then(|samples| samples.get(millis));
                assert_eq!(read, Some(value), "{context}: {key:?} at {millis}");
            }
        }
        for (key, samples) in &found {
            for (millis, value) in samples {
                let sent = self.acknowledged.get(key).and_then(|samples| samples.get(millis));
                assert_eq!(sent, Some(value), "{context}: {key:?} at {millis}");
            }
        }
        // What is far past its time does not come back.
        self.acknowledged.retain(|_, samples| {
            *samples = samples.split_off(&(floor - 2 * KEPT));
            !samples.is_empty()
        });
    }
}

/// Fills what is left of a file system with files of others.
fn take_the_rest(dir: &Path) {
    for number in 0_u64.. {
        let path = dir.join(format!("other-{number}"));
        if path.exists() {
            continue;
        }
        if fs::write(path, [1; 4096]).is_err() {
            break;
        }
    }
}

fn remove_others(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_full_file_system_refuses_retains_and_resumes_again_and_again() {
    let Some(disk) = Mount::tmpfs("size=1m") else { return };
    let mut owner = Owner::of(disk.path().join("store"));
    for cycle in 0..rounds(20) {
        let context = format!("cycle {cycle}, batch {}", owner.batches);
        let mut taken = 0;
        while owner.tick() {
            taken += 1;
            assert!(taken < 5_000, "{context}: it does not get full");
        }
        owner.check(&format!("{context}, full"));
        if cycle % 3 == 1 {
            // Somebody takes the last byte.
            take_the_rest(disk.path());
        }
        if cycle % 4 == 2 {
            owner.reopen(&format!("{context}, opened on the full disk"));
        }
        let mut refused = 1;
        while !owner.tick() {
            refused += 1;
            assert!(refused < 2_000, "{context}: it does not resume: {:?}", owner.store().stats());
        }
        owner.check(&format!("{context}, resumed"));
        remove_others(disk.path());
    }
    assert!(owner.expired() > 20, "{}", owner.expired());
    assert_eq!(owner.store().stats().poisoned_by, None);
    owner.reopen("at the end");
}

#[test]
fn a_file_system_without_a_name_left_takes_batches_retains_and_opens() {
    let Some(disk) = Mount::tmpfs("size=16m,nr_inodes=60") else { return };
    let mut owner = Owner::of(disk.path().join("store"));
    for cycle in 0..rounds(3) {
        let context = format!("cycle {cycle}");
        // A day with a segment each two hours.
        (0..144).for_each(|_| assert!(owner.tick(), "{context}"));
        take_the_rest(disk.path());
        let no_name = fs::write(disk.path().join("one-more"), "").unwrap_err();
        assert_eq!(no_name.kind(), std::io::ErrorKind::StorageFull);
        let full = owner.store().flush().unwrap_err();
        assert!(matches!(full, Error::DiskFull { .. }), "{context}: {full:?}");
        owner.check(&context);
        owner.reopen(&format!("{context}, opened without a name"));
        let before = owner.expired();
        // Rows go to the log, which needs no name.
        (0..300).for_each(|_| assert!(owner.tick(), "{context}"));
        assert!(owner.expired() > before, "{context}: {:?}", owner.store().stats());
        owner.check(&format!("{context}, retained"));
        remove_others(disk.path());
        assert!(owner.store().flush().unwrap(), "{context}");
        owner.reopen(&format!("{context}, at its end"));
    }
}
