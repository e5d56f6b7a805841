//! Deletion: what is gone stays gone, what is not meant stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heapster_core::{Matcher, TimeRange};
use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::{Ack, Error, Result, Store};

use crate::support::*;

/// Appends a row of three pods each minute from one time to another.
fn append(store: &Store, clock: &TestClock, minutes: i64, expected: &mut Contents) -> Result<()> {
    for _ in 0..minutes {
        clock.step(MINUTE);
        let now = clock.millis();
        let rows = ["a", "ab", "b"].map(|pod| row(pod, [("m", now / MINUTE), ("n", 1)]));
        let _ = store.append_rows(at(now), &rows, Ack::Durable)?;
        rows.iter().for_each(|row| expect(expected, now, row));
    }
    Ok(())
}

/// Takes from the expected contents what a deletion does.
fn forget(contents: &mut Contents, is_meant: impl Fn(&str) -> bool, from: i64, to: i64) {
    for ((labels, _), samples) in contents.iter_mut() {
        if is_meant(labels) {
            samples.retain(|at, _| !(from..=to).contains(at));
        }
    }
    contents.retain(|_, samples| !samples.is_empty());
}

fn range(from: i64, to: i64) -> TimeRange {
    TimeRange::new(at(from), at(to))
}

fn pod(name: &str) -> [Matcher; 1] {
    [Matcher::equal("pod_name", name)]
}

#[test]
fn deleted_samples_are_gone_and_no_others() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    append(&store, &clock, 30, &mut expected).unwrap();
    store.flush().unwrap();
    append(&store, &clock, 30, &mut expected).unwrap();
    let (from, to) = (NOON + 20 * MINUTE, NOON + 40 * MINUTE);
    // In a segment and in memory, both ends included.
    assert_eq!(store.delete(&pod("a"), range(from, to)).unwrap().segments, 2);
    forget(&mut expected, |labels| labels.contains("\"a\""), from, to);
    let all_of_ab = [Matcher::regex("pod_name", "a.+").unwrap(), Matcher::equal("type", "pod")];
    assert_eq!(store.delete(&all_of_ab, TimeRange::ALL).unwrap().segments, 2);
    forget(&mut expected, |labels| labels.contains("\"ab\""), i64::MIN, i64::MAX);
    // What comes later is not concerned, also of the same times.
    let again = row("a", [("m", 99)]);
    let _ = store.append_rows(at(from), [&again], Ack::Memory).unwrap();
    expect(&mut expected, from, &again);
    assert_eq!(store.stats().tombstones, 2);
    assert!(contents(&store.snapshot()) == expected, "hidden at once");
    let report = store.compact_all().unwrap();
    assert_eq!((report.deleted_samples, report.tombstones_done), (2 * 21 + 2 * 60, 2));
    assert!(contents(&store.snapshot()) == expected);
    assert_eq!((store.stats().tombstones, store.stats().deleted_samples), (0, 162));
    drop(store);
    let store = open(&vfs, &clock);
    assert!(contents(&store.snapshot()) == expected);
    assert!(store.verify().is_empty());
}

#[test]
fn a_deletion_in_a_merged_day_leaves_the_row_groups_of_others_as_they_are() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    for _ in 0..3 {
        append(&store, &clock, 60, &mut expected).unwrap();
        store.flush().unwrap();
    }
    let _ = store.compact_all().unwrap();
    let _ = store.delete(&pod("ab"), TimeRange::ALL).unwrap();
    forget(&mut expected, |labels| labels.contains("\"ab\""), i64::MIN, i64::MAX);
    assert!(contents(&store.snapshot()) == expected);
    let report = store.compact_all().unwrap();
    assert_eq!((report.samples_in, report.samples_out), (3 * 360, 2 * 360));
    assert!(contents(&store.snapshot()) == expected);
    assert!(store.verify().is_empty());
}

#[test]
fn everything_is_deleted_only_when_that_is_said() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    append(&store, &clock, 10, &mut expected).unwrap();
    assert!(matches!(store.delete(&[], TimeRange::ALL), Err(Error::NoMatchers)));
    assert!(contents(&store.snapshot()) == expected);
    let every_set = [Matcher::regex("type", ".*").unwrap()];
    assert_eq!(store.delete(&every_set, TimeRange::ALL).unwrap().segments, 1);
    assert!(contents(&store.snapshot()).is_empty());
    let _ = store.compact_all().unwrap();
    assert!(contents(&store.snapshot()).is_empty());
    assert_eq!(store.stats().segments, 0);
    append(&store, &clock, 1, &mut expected).unwrap();
    assert_eq!(contents(&store.snapshot()).len(), 6);
}

#[test]
fn to_delete_what_is_not_there_leaves_no_trace() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    append(&store, &clock, 10, &mut Contents::new()).unwrap();
    let before = vfs.files();
    assert_eq!(store.delete(&pod("x"), TimeRange::ALL).unwrap().segments, 0);
    assert_eq!(store.delete(&pod("a"), range(NOON - DAY, NOON)).unwrap().segments, 0);
    assert_eq!(store.delete(&pod("a"), range(NOON + HOUR, NOON)).unwrap().segments, 0);
    assert!(vfs.files() == before, "not even a flush");
}

#[test]
fn too_many_deletions_at_once_are_refused_and_the_same_one_counts_once() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    append(&store, &clock, 10, &mut Contents::new()).unwrap();
    let delete = |n: i64| store.delete(&pod("a"), range(NOON + n, NOON + HOUR));
    for n in (0..1_000).chain(0..1_000) {
        assert_eq!(delete(n).unwrap().segments, 1);
    }
    assert_eq!(store.stats().tombstones, 1_000);
    assert!(matches!(delete(1_000), Err(Error::TooLarge { max: 1_000, .. })));
    assert_eq!(store.compact_all().unwrap().tombstones_done, 1_000);
    assert_eq!(delete(1_000).unwrap().segments, 0);
}

#[test]
fn a_deletion_while_segments_are_merged_is_not_lost() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = Arc::new(open(&vfs, &clock));
    let mut expected = Contents::new();
    for _ in 0..3 {
        append(&store, &clock, 10, &mut expected).unwrap();
        store.flush().unwrap();
    }
    let (weak, is_first) = (Arc::downgrade(&store), AtomicBool::new(true));
    vfs.before_sync(move || {
        if let Some(store) = weak.upgrade()
            && is_first.swap(false, Ordering::SeqCst)
        {
            assert_eq!(store.delete(&pod("a"), TimeRange::ALL).unwrap().segments, 3);
        }
        Ok(())
    });
    let report = store.compact_all().unwrap();
    forget(&mut expected, |labels| labels.contains("\"a\""), i64::MIN, i64::MAX);
    assert_eq!((report.deleted_samples, report.tombstones_done), (60, 1));
    assert!(contents(&store.snapshot()) == expected);
}

/// Appends, deletes and compacts; stops at the first error. Of each deletion that was confirmed the
/// number is noted.
fn workload(store: &Store, clock: &TestClock, sent: &mut Contents, done: &mut usize) -> Result<()> {
    append(store, clock, 5, sent)?;
    store.flush()?;
    append(store, clock, 5, sent)?;
    let _ = store.delete(&pod("a"), TimeRange::ALL)?;
    *done = 1;
    append(store, clock, 2, sent)?;
    let _ = store.compact_all()?;
    let _ = store.delete(&pod("b"), range(NOON, NOON + 11 * MINUTE))?;
    *done = 2;
    let _ = store.compact_all()?;
    Ok(())
}

#[test]
fn a_crash_at_any_call_brings_nothing_back_that_was_deleted_and_takes_nothing_else() {
    let run = |vfs: &FaultyVfs| {
        let clock = TestClock::new();
        let (mut sent, mut done) = (Contents::new(), 0);
        if let Ok(store) = Store::open(DIR, options(vfs, &clock)) {
            let _ = workload(&store, &clock, &mut sent, &mut done);
        }
        (clock, sent, done)
    };
    let vfs = FaultyVfs::new();
    assert_eq!(run(&vfs).2, 2);
    for n in 0..vfs.changes() {
        let vfs = FaultyVfs::new();
        vfs.crash_at(n);
        let (clock, acknowledged, done) = run(&vfs);
        let cut = if n % 2 == 0 { PowerCut::DropUnsynced } else { PowerCut::Torn(n) };
        vfs.cut_power(cut);
        let store = open(&vfs, &clock);
        assert!(store.open_report().is_complete(), "crash at {n}: {:?}", store.open_report());
        let found = contents(&store.snapshot());
        let _ = store.compact_all().unwrap();
        assert!(contents(&store.snapshot()) == found, "crash at {n}");
        // The next deletion may have happened without anybody being told.
        let mut must_be = acknowledged.clone();
        forget(&mut must_be, |l| l.contains("\"a\""), i64::MIN, NOON + 10 * MINUTE);
        forget(&mut must_be, |l| l.contains("\"b\"") && done > 0, NOON, NOON + 11 * MINUTE);
        for (key, samples) in &must_be {
            for (at, value) in samples {
                let read = found.get(key).and_then(|samples| samples.get(at));
                assert_eq!(read, Some(value), "crash at {n}: {key:?} at {at}");
            }
        }
        let times_of = |pod: &str| -> Vec<i64> {
            let of_pod = found.iter().filter(|((labels, _), _)| labels.contains(pod));
            of_pod.flat_map(|(_, samples)| samples.keys().copied()).collect()
        };
        if done > 0 {
            assert!(times_of("\"a\"").iter().all(|at| *at > NOON + 10 * MINUTE), "crash at {n}");
        }
        if done > 1 {
            assert!(times_of("\"b\"").iter().all(|at| *at > NOON + 11 * MINUTE), "crash at {n}");
        }
    }
}
