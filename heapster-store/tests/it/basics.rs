//! Append, read back, reopen.

use heapster_core::storage::{Columns, Selector};
use heapster_core::{DataBatch, EntityKey, EntityType, Matcher, MetricSet, MetricValue, TimeRange};
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, Rejected, Store, StoreOptions};

use crate::support::*;

#[test]
fn what_was_appended_is_read_back_before_and_after_a_reopen() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut expected = Contents::new();
    let store = open(&vfs, &clock);
    for minute in 0..100 {
        clock.step(MINUTE);
        let rows = [
            row("a", [("cpu/usage", 1_i64 << 53 | minute), ("memory/usage", 7)]),
            row("b", [("load", 0.1 * minute as f64), ("odd", f64::NAN)]),
        ];
        let report = store.append_rows(at(clock.millis()), &rows, Ack::Buffered).unwrap();
        assert_eq!((report.accepted, report.duplicate, report.rejected.total()), (4, 0, 0));
        rows.iter().for_each(|row| expect(&mut expected, clock.millis(), row));
    }
    assert_eq!(contents(&store.snapshot()), expected);
    drop(store);
    vfs.restart();
    let store = open(&vfs, &clock);
    assert_eq!(contents(&store.snapshot()), expected);
    assert_eq!(store.open_report().replayed_batches, 100);
    assert!(store.open_report().is_complete());
}

#[test]
fn a_batch_of_metric_sets_is_found_by_its_labels() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut batch = DataBatch::new(at(NOON));
    for name in ["web-1", "web-2", "db-1"] {
        let mut set = MetricSet::new(EntityType::Pod);
        set.labels.set("pod_name", name);
        set.metrics.set("memory/usage", MetricValue::gauge(name.len() as i64));
        let key = EntityKey::Pod { namespace: "shop".into(), pod: name.into() };
        batch.sets.insert(key, set);
    }
    assert_eq!(store.append(&batch, Ack::Memory).unwrap().accepted, 3);
    let names_of = |matchers: Vec<Matcher>| {
        let selector = Selector { matchers, columns: Columns::All, range: TimeRange::ALL };
        let sets = heapster_core::storage::Snapshot::select(&store.snapshot(), &selector).unwrap();
        sets.iter().map(|set| set.labels().value("pod_name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names_of(vec![]), ["db-1", "web-1", "web-2"]);
    assert_eq!(names_of(vec![Matcher::equal("pod_name", "web-2")]), ["web-2"]);
    assert_eq!(names_of(vec![Matcher::regex("pod_name", "web-.*").unwrap()]), ["web-1", "web-2"]);
    assert_eq!(names_of(vec![Matcher::not_equal("pod_name", "web-1")]), ["db-1", "web-2"]);
    assert_eq!(names_of(vec![Matcher::equal("nodename", "")]).len(), 3);
    assert_eq!(names_of(vec![Matcher::equal("nodename", "n")]).len(), 0);
}

#[test]
fn late_samples_are_merged_and_later_appends_win() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    for (minutes, pod_value, duplicate, replaced) in [
        (10, 1, 0, 0),
        (20, 2, 0, 0),
        (15, 3, 0, 0),
        (5, 4, 0, 0),
        (15, 3, 1, 0),
        (15, 9, 0, 1),
        (20, 2, 1, 0),
        (20, 8, 0, 1),
    ] {
        let millis = NOON - HOUR + minutes * MINUTE;
        let row = row("a", [("m", pod_value)]);
        let report = store.append_rows(at(millis), [&row], Ack::Memory).unwrap();
        assert_eq!((report.duplicate, report.replaced), (duplicate, replaced), "{minutes}");
        expect(&mut expected, millis, &row);
        assert_eq!(contents(&store.snapshot()), expected);
    }
    drop(store);
    assert_eq!(contents(&open(&vfs, &clock).snapshot()), expected);
}

#[test]
fn samples_outside_the_window_are_refused_by_reason() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let row = row("a", [("m", 1), ("n", 2)]);
    let append = |millis| store.append_rows(at(millis), [&row], Ack::Memory).unwrap().rejected;
    assert_eq!(append(NOON + 10 * MINUTE + 1).get(Rejected::TooFarAhead), 2);
    assert_eq!(append(NOON).total(), 0);
    assert_eq!(append(NOON - HOUR).total(), 0);
    assert_eq!(append(NOON - HOUR - 1).get(Rejected::TooOld), 2);
    assert_eq!(store.stats().rejected_samples.total(), 4);
    assert_eq!(store.stats().appended_samples, 4);
}

#[test]
fn a_snapshot_does_not_change() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let old = row("a", [("m", 1)]);
    let _ = store.append_rows(at(NOON), [&old], Ack::Memory).unwrap();
    let snapshot = store.snapshot();
    let before = contents(&snapshot);
    for (millis, pod, column) in
        [(NOON + 1, "a", "m"), (NOON - 1, "a", "m"), (NOON, "a", "n"), (NOON, "b", "m")]
    {
        let _ = store.append_rows(at(millis), [&row(pod, [(column, 2)])], Ack::Memory).unwrap();
    }
    assert_eq!(contents(&snapshot), before);
    assert_eq!(contents(&store.snapshot()).len(), 3);
}

#[test]
fn rows_that_repeat_a_set_in_one_call_are_all_kept_and_the_last_wins() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let rows =
        [row("a", [("m", 1)]), row("a", [("n", 2)]), row("a", [("m", 3)]), row("a", [("m", 3)])];
    let report = store.append_rows(at(NOON), &rows, Ack::Memory).unwrap();
    assert_eq!((report.accepted, report.replaced, report.duplicate), (3, 1, 1));
    let mut expected = Contents::new();
    rows.iter().for_each(|row| expect(&mut expected, NOON, row));
    assert_eq!(contents(&store.snapshot()), expected);
}

#[test]
fn one_sample_of_the_far_future_does_not_shut_out_those_of_today() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store =
        Store::open(DIR, StoreOptions { future_max: None, ..options(&vfs, &clock) }).unwrap();
    let row = row("a", [("m", 1)]);
    let far = store.append_rows(at(NOON + 3650 * DAY), [&row], Ack::Memory).unwrap();
    let today = store.append_rows(at(NOON), [&row], Ack::Memory).unwrap();
    assert_eq!((far.accepted, today.accepted), (1, 1));
    let old = store.append_rows(at(NOON - 2 * HOUR), [&row], Ack::Memory).unwrap();
    assert_eq!(old.rejected.total(), 1);
}

#[test]
fn a_set_that_a_call_repeats_ten_thousand_times_costs_two_records() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let rows: Vec<_> = (0..10_000).map(|value| row("a", [("m", value)])).collect();
    let report = store.append_rows(at(NOON), &rows, Ack::Memory).unwrap();
    assert_eq!((report.accepted, report.replaced, report.duplicate), (10_000, 9_999, 0));
    assert_eq!(store.stats().batches, 2);
    let mut expected = Contents::new();
    expect(&mut expected, NOON, &rows[9_999]);
    assert_eq!(contents(&store.snapshot()), expected);
}

#[test]
fn a_batch_of_huge_labels_is_cut_by_what_it_defines() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let rows: Vec<_> =
        (0..700).map(|pod| row(&format!("{pod}{}", "x".repeat(60_000)), [("m", 1)])).collect();
    let report = store.append_rows(at(NOON), &rows, Ack::Memory).unwrap();
    assert_eq!(report.accepted, 700);
    // 42 MB in records of about 16 MiB.
    assert_eq!(store.stats().batches, 3);
    drop(store);
    assert_eq!(contents(&open(&vfs, &clock).snapshot()).len(), 700);
}

#[test]
fn an_iterator_that_panics_leaves_the_store_as_it_was() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let first = row("a", [("m", 1)]);
    let rows = [row("b", [("m", 1), ("n", 2)]), row("c", [("o", 3)])];
    let half = rows.iter().chain(std::iter::once_with(|| panic!("the caller's own trouble")));
    let append = || store.append_rows(at(NOON), half, Ack::Memory);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(append)).is_err());
    let mut expected = Contents::new();
    for row in [&rows[1], &first, &rows[0]] {
        let _ = store.append_rows(at(NOON), [row], Ack::Memory).unwrap();
        expect(&mut expected, NOON, row);
        assert_eq!(contents(&store.snapshot()), expected);
    }
    drop(store);
    assert_eq!(contents(&open(&vfs, &clock).snapshot()), expected);
}
