//! Merging of segments: what is read stays the same, whatever is merged and whatever goes wrong.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::{Ack, LateWindow, Result, Retention, Store, StoreOptions};

use crate::support::*;

const MIDNIGHT: i64 = NOON + 12 * HOUR;

fn raw_segments(vfs: &FaultyVfs) -> Vec<PathBuf> {
    let is_raw = |path: &PathBuf| path.starts_with(Path::new(DIR).join("segments/raw"));
    vfs.files().into_keys().filter(is_raw).collect()
}

/// Appends a row of some pods each minute up to a time, and maintains the store.
fn run_until(store: &Store, clock: &Arc<TestClock>, end: i64, expected: &mut Contents) {
    while clock.millis() < end {
        clock.step(MINUTE);
        let now = clock.millis();
        let names = ["a", "b", if now < MIDNIGHT { "c" } else { "d" }];
        // One of the pods misses a scrape now and then.
        let scraped = names.iter().skip(usize::from(now / MINUTE % 97 == 0));
        let rows: Vec<_> = scraped.map(|pod| row(pod, [("m", now / MINUTE), ("n", 7)])).collect();
        let _ = store.append_rows(at(now), &rows, Ack::Memory).unwrap();
        rows.iter().for_each(|row| expect(expected, now, row));
        store.maintain().unwrap();
    }
}

/// Compacts until nothing is due; gives how many merges it took.
fn compact(store: &Store) -> usize {
    let mut merges = 0;
    while !store.compact().unwrap().is_idle() {
        merges += 1;
        assert!(merges < 1_000, "compaction comes to an end");
    }
    merges
}

#[test]
fn a_flush_writes_a_segment_for_each_day() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let options = StoreOptions { late_window: LateWindow::Any, ..options(&vfs, &clock) };
    let store = Store::open(DIR, options.clone()).unwrap();
    let mut expected = Contents::new();
    // More days than are written at the same time, and the sets meet them in different orders.
    for day in [140_i64, 3, 5].into_iter().chain(10..138) {
        for (pod, minute) in [("a", 0), ("b", 1), ("a", 2 * day)] {
            let (millis, row) = (NOON - day * DAY + minute * MINUTE, row(pod, [("m", day)]));
            let _ = store.append_rows(at(millis), [&row], Ack::Memory).unwrap();
            expect(&mut expected, millis, &row);
        }
    }
    store.flush().unwrap();
    assert_eq!(store.stats().segments, 131);
    assert!(contents(&store.snapshot()) == expected);
    drop(store);
    let store = Store::open(DIR, options).unwrap();
    assert!(store.open_report().is_complete());
    assert!(contents(&store.snapshot()) == expected);
    assert!(store.verify().is_empty());
}

#[test]
fn retention_is_exact_to_a_day() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(Duration::from_secs(86_400));
    let options = StoreOptions { retention, ..options(&vfs, &clock) };
    let store = Store::open(DIR, options).unwrap();
    let mut expected = Contents::new();
    run_until(&store, &clock, MIDNIGHT + 2 * HOUR, &mut expected);
    assert!(compact(&store) > 0);
    run_until(&store, &clock, MIDNIGHT + DAY - MINUTE, &mut expected);
    assert!(contents(&store.snapshot()) == expected);
    run_until(&store, &clock, MIDNIGHT + DAY, &mut expected);
    for samples in expected.values_mut() {
        samples.retain(|at, _| *at >= MIDNIGHT);
    }
    expected.retain(|_, samples| !samples.is_empty());
    assert!(contents(&store.snapshot()) == expected);
}

#[test]
fn days_become_one_segment_each_and_every_sample_is_rewritten_three_times_at_most() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    let mut written = 0;
    for hour in 1..=5 * 24 {
        run_until(&store, &clock, NOON + hour * HOUR, &mut expected);
        loop {
            let (snapshot, before) = (store.snapshot(), store.stats());
            let report = store.compact().unwrap();
            if report.is_idle() {
                break;
            }
            written += report.samples_out;
            assert_eq!(report.samples_in, report.samples_out);
            assert!(report.bytes_out < report.bytes_in || report.merged_segments == 1);
            assert!(contents(&snapshot) == expected, "a snapshot outlives its segments");
            assert!(contents(&store.snapshot()) == expected);
            assert_eq!(store.stats().segment_samples, before.segment_samples);
        }
    }
    let samples: usize = expected.values().map(std::collections::BTreeMap::len).sum();
    assert!(written <= 3 * samples as u64, "{written} of {samples}");
    // Five days are over, of which the last one is not settled before an hour of the next.
    let stats = store.stats();
    assert!((5..=9).contains(&stats.segments), "{stats:?}");
    assert_eq!(raw_segments(&vfs).len() as u64, stats.segments);
    assert!(store.verify().is_empty());
    drop(store);
    let store = open(&vfs, &clock);
    assert!(contents(&store.snapshot()) == expected);
}

#[test]
fn the_later_of_two_segments_wins_cell_by_cell_also_when_merged() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    clock.step(HOUR);
    let mut expected = Contents::new();
    let mut append = |millis: i64, row: heapster_core::series::Row| {
        let _ = store.append_rows(at(millis), [&row], Ack::Memory).unwrap();
        expect(&mut expected, millis, &row);
    };
    for minute in 0..30 {
        append(NOON + minute * MINUTE, row("a", [("m", 1), ("n", 1)]));
    }
    store.flush().unwrap();
    append(NOON + 40 * MINUTE, row("b", [("m", 2)]));
    append(NOON + 10 * MINUTE, row("a", [("m", 2), ("o", 2)]));
    append(NOON + 15 * MINUTE, row("a", [("n", 0.5)]));
    append(NOON + 45 * MINUTE / 2, row("a", [("n", 2)]));
    store.flush().unwrap();
    append(NOON + 10 * MINUTE, row("a", [("o", 3)]));
    store.flush().unwrap();
    let report = store.compact_all().unwrap();
    assert_eq!((report.merged_segments, report.samples_in - report.samples_out), (3, 3));
    assert_eq!(store.stats().segments, 1);
    assert!(contents(&store.snapshot()) == expected);
}

#[test]
fn what_is_flushed_while_segments_are_merged_is_later_than_the_merge() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = Arc::new(open(&vfs, &clock));
    let mut expected = Contents::new();
    for (minute, value) in [(0, 1), (1, 1), (0, 2)] {
        let row = row("a", [("m", value)]);
        let _ = store.append_rows(at(NOON + minute * MINUTE), [&row], Ack::Memory).unwrap();
        expect(&mut expected, NOON + minute * MINUTE, &row);
        store.flush().unwrap();
    }
    // No lock is held that an append, a sync, a flush, maintenance or a reader waits for.
    let is_first = AtomicBool::new(true);
    let (inner, weak) = (row("a", [("m", 3)]), Arc::downgrade(&store));
    let expected_inside = expected.clone();
    expect(&mut expected, NOON + MINUTE, &inner);
    vfs.before_sync(move || {
        if let Some(store) = weak.upgrade()
            && is_first.swap(false, Ordering::SeqCst)
        {
            assert!(contents(&store.snapshot()) == expected_inside);
            let _ = store.append_rows(at(NOON + MINUTE), [&inner], Ack::Durable).unwrap();
            store.flush().unwrap();
            store.maintain().unwrap();
        }
        Ok(())
    });
    assert_eq!(store.compact_all().unwrap().merged_segments, 3 + 2);
    assert!(contents(&store.snapshot()) == expected);
    drop(store);
    vfs.restart();
    assert_eq!(contents(&open(&vfs, &clock).snapshot()), expected);
}

#[test]
fn a_segment_that_expires_while_it_is_merged_does_not_come_back() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(Duration::from_secs(86_400));
    let store = Store::open(DIR, StoreOptions { retention, ..options(&vfs, &clock) }).unwrap();
    for minute in 0..2 {
        let row = row("a", [("m", minute)]);
        let _ = store.append_rows(at(NOON + minute * MINUTE), [&row], Ack::Memory).unwrap();
        store.flush().unwrap();
    }
    store.maintain().unwrap();
    let store = Arc::new(store);
    let (weak, is_first, ahead) = (Arc::downgrade(&store), AtomicBool::new(true), clock.clone());
    vfs.before_sync(move || {
        if let Some(store) = weak.upgrade()
            && is_first.swap(false, Ordering::SeqCst)
        {
            ahead.step(2 * DAY);
            assert_eq!(store.maintain().unwrap().expired_segments, 2);
        }
        Ok(())
    });
    assert!(store.compact_all().unwrap().is_idle());
    assert!(contents(&store.snapshot()).is_empty());
    assert!(raw_segments(&vfs).is_empty());
}

#[test]
fn a_merge_waits_for_room_on_the_disk() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    run_until(&store, &clock, MIDNIGHT, &mut expected);
    vfs.set_capacity(Some(32 << 20));
    let report = store.compact_all().unwrap();
    assert!(report.lacks_room && report.is_idle());
    vfs.set_capacity(None);
    assert!(!store.compact_all().unwrap().is_idle());
    assert!(contents(&store.snapshot()) == expected);
}

#[test]
fn a_merge_that_failed_leaves_no_trace_and_is_tried_again_after_a_while() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    run_until(&store, &clock, MIDNIGHT + 2 * HOUR, &mut expected);
    let before = raw_segments(&vfs);
    vfs.refuse_names_ending_with(Some(".seg.tmp"));
    assert!(store.compact().is_err());
    assert!(store.stats().last_error.is_some());
    vfs.refuse_names_ending_with(None);
    assert!(store.compact().unwrap().is_idle(), "it waits");
    assert_eq!(raw_segments(&vfs), before);
    clock.step(10_000);
    assert!(compact(&store) > 0);
    assert!(contents(&store.snapshot()) == expected);
}

#[test]
fn background_work_that_is_stopped_leaves_everything_as_it_was() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    run_until(&store, &clock, MIDNIGHT, &mut expected);
    store.stop_background();
    assert!(store.compact_all().unwrap().is_idle());
    assert!(contents(&store.snapshot()) == expected);
}

#[test]
fn a_damaged_row_group_costs_itself_and_its_file_is_kept() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut expected = Contents::new();
    let store = open(&vfs, &clock);
    run_until(&store, &clock, MIDNIGHT + 2 * HOUR, &mut expected);
    store.flush().unwrap();
    drop(store);
    let damaged = raw_segments(&vfs)[1].clone();
    let bytes = vfs.files()[&damaged].clone();
    // The first row group lies behind the footer: it is that of pod a.
    vfs.flip_bit(&damaged, 320 + 4 + 9, 3).unwrap();
    let store = open(&vfs, &clock);
    assert!(store.open_report().is_complete());
    let report = store.compact_all().unwrap();
    assert_eq!(report.damaged_segments, 1);
    let found = contents(&store.snapshot());
    let mut lost = 0;
    for (key, samples) in &expected {
        for (at, value) in samples {
            match found[key].get(at) {
                Some(read) => assert_eq!(read, value),
                None => lost += 1,
            }
        }
    }
    assert!((1..=2 * 120).contains(&lost), "{lost} of a row group of two columns and two hours");
    let stats = store.stats();
    assert_eq!(stats.quarantined_files, 1);
    assert!(stats.last_error.unwrap().contains("checksum"));
    let kept = Path::new(DIR).join("quarantine").join(damaged.file_name().unwrap());
    assert_eq!(vfs.files()[&kept].len(), bytes.len());
    assert!(store.verify().is_empty());
}

#[test]
fn a_segment_with_a_damaged_index_is_served_whole_and_written_anew() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut expected = Contents::new();
    let store = open(&vfs, &clock);
    run_until(&store, &clock, MIDNIGHT, &mut expected);
    store.flush().unwrap();
    while !store.compact().unwrap().is_idle() {}
    drop(store);
    let damaged = raw_segments(&vfs)[0].clone();
    let len = vfs.files()[&damaged].len();
    vfs.flip_bit(&damaged, len - 30, 3).unwrap();
    let store = open(&vfs, &clock);
    let report = store.open_report();
    assert!(report.is_complete());
    let [index] = &*report.damaged_indexes else { panic!("{report:?}") };
    assert!(damaged.ends_with(&index.file) && index.reason.contains("its copy is used"));
    assert_eq!(store.stats().damaged_indexes, 1);
    assert!(contents(&store.snapshot()) == expected);
    assert!(!store.verify().is_empty());
    assert!(store.compact().unwrap().merged_segments > 0);
    assert_eq!((store.stats().damaged_indexes, store.stats().quarantined_files), (0, 0));
    assert!(contents(&store.snapshot()) == expected);
    assert!(store.verify().is_empty());
    assert!(!vfs.files().contains_key(&damaged));
}

/// Appends over two days, with late rows, and compacts; stops at the first error.
fn workload(vfs: &FaultyVfs, clock: &Arc<TestClock>, acknowledged: &mut Contents) -> Result<()> {
    let cold_after = Some(Duration::ZERO);
    let flush_window = Duration::from_secs(3_600);
    let options = StoreOptions { cold_after, flush_window, ..options(vfs, clock) };
    let store = Store::open(DIR, options)?;
    for step in 0..16 {
        clock.step(90 * MINUTE);
        let now = clock.millis();
        for (millis, value) in [(now, step), (now - 50 * MINUTE, -step), (now - MINUTE, step)] {
            let rows = [row("a", [("m", value), ("n", 1)]), row("b", [("m", value)])];
            let _ = store.append_rows(at(millis), &rows, Ack::Durable)?;
            rows.iter().for_each(|row| expect(acknowledged, millis, row));
        }
        store.maintain()?;
        store.compact()?;
    }
    store.compact_all()?;
    store.close()
}

#[test]
fn a_crash_at_any_call_while_segments_are_merged_loses_nothing() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut expected = Contents::new();
    workload(&vfs, &clock, &mut expected).unwrap();
    let store = open(&vfs, &clock);
    assert!(contents(&store.snapshot()) == expected);
    assert_eq!(store.stats().segments, 2);
    for n in 0..vfs.changes() {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let mut acknowledged = Contents::new();
        vfs.crash_at(n);
        let _ = workload(&vfs, &clock, &mut acknowledged);
        match n % 3 {
            0 => vfs.restart(),
            1 => vfs.cut_power(PowerCut::DropUnsynced),
            _ => vfs.cut_power(PowerCut::Torn(n)),
        }
        let store = open(&vfs, &clock);
        assert!(store.open_report().is_complete(), "crash at {n}: {:?}", store.open_report());
        let found = contents(&store.snapshot());
        for (key, samples) in &acknowledged {
            for (at, value) in samples {
                assert_eq!(found[key].get(at), Some(value), "crash at {n}: {key:?} at {at}");
            }
        }
        for (key, samples) in &found {
            for (at, value) in samples {
                assert_eq!(expected[key].get(at), Some(value), "crash at {n}: {key:?} at {at}");
            }
        }
        assert_eq!(raw_segments(&vfs).len() as u64, store.stats().segments, "crash at {n}");
        store.compact_all().unwrap();
        assert!(contents(&store.snapshot()) == found, "crash at {n}");
        assert!(store.verify().is_empty());
    }
}

#[test]
fn an_error_at_any_call_while_segments_are_merged_loses_nothing() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut expected = Contents::new();
    workload(&vfs, &clock, &mut expected).unwrap();
    for n in 0..vfs.changes() {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let mut acknowledged = Contents::new();
        vfs.fail_at(n, std::io::ErrorKind::Other);
        let _ = workload(&vfs, &clock, &mut acknowledged);
        vfs.cut_power(PowerCut::DropUnsynced);
        let store = open(&vfs, &clock);
        assert!(store.open_report().is_complete(), "error at {n}: {:?}", store.open_report());
        let found = contents(&store.snapshot());
        for (key, samples) in &acknowledged {
            for (at, value) in samples {
                assert_eq!(found[key].get(at), Some(value), "error at {n}: {key:?} at {at}");
            }
        }
        assert_eq!(raw_segments(&vfs).len() as u64, store.stats().segments, "error at {n}");
    }
}
