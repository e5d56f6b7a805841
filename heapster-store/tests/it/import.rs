//! Bulk import: any time, any order, in parts that are there whole or not at all.

use heapster_core::{DataBatch, EntityKey, EntityType, Labels, MetricSet, MetricValue};
use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::{Ack, ImportReport, Rejected, Result, Retention, Store, StoreOptions};

use crate::support::*;

/// Milliseconds of the first day of year 1.
const YEAR_ONE: i64 = -62_135_596_800_000;

#[test]
fn rows_of_any_time_and_order_are_there_when_the_import_is_finished() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    let mut import = store.import();
    let mut sent = 0;
    for step in 0..2_000_i64 {
        // A permutation of the minutes of some days.
        let millis = NOON - (step * 907 % 2_000) * 3 * MINUTE;
        let rows = [row("a", [("m", step), ("n", 1)]), row("b", [("m", step as f64)])];
        let rows = &rows[..1 + usize::from(step % 3 == 0)];
        import.push_rows(at(millis), rows).unwrap();
        rows.iter().for_each(|row| expect(&mut expected, millis, row));
        sent += rows.iter().map(|row| row.cells.len() as u64).sum::<u64>();
    }
    for millis in [YEAR_ONE, YEAR_ONE + 1, 0] {
        let old = row("old", [("m", 1)]);
        import.push_rows(at(millis), [&old]).unwrap();
        expect(&mut expected, millis, &old);
        sent += 1;
    }
    assert!(contents(&store.snapshot()).is_empty(), "nothing is seen before it is safe");
    let report = import.finish().unwrap();
    assert_eq!((report.accepted, report.written), (sent, sent));
    assert_eq!((report.duplicate, report.replaced, report.parts), (0, 0, 1));
    assert_eq!(report.segments, 5 + 2);
    assert!(contents(&store.snapshot()) == expected);
    vfs.cut_power(PowerCut::DropUnsynced);
    let store = open(&vfs, &clock);
    assert!(contents(&store.snapshot()) == expected);
    let _ = store.compact_all().unwrap();
    assert!(contents(&store.snapshot()) == expected);
    assert!(store.verify().is_empty());
}

#[test]
fn what_is_imported_wins_over_what_was_there_and_a_later_append_over_it() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    clock.step(HOUR);
    let mut expected = Contents::new();
    let append = |minute: i64, value: i64, expected: &mut Contents| {
        let row = row("a", [("m", value), ("n", 0)]);
        let _ = store.append_rows(at(NOON + minute * MINUTE), [&row], Ack::Memory).unwrap();
        expect(expected, NOON + minute * MINUTE, &row);
    };
    append(0, 1, &mut expected);
    store.flush().unwrap();
    (0..5).for_each(|minute| append(minute, 1, &mut expected));
    let mut import = store.import();
    for (minute, value) in [(4, 2), (3, 2), (3, 2), (2, 7), (2, 2), (0, 2)] {
        let row = row("a", [("m", value)]);
        import.push_rows(at(NOON + minute * MINUTE), [&row]).unwrap();
        expect(&mut expected, NOON + minute * MINUTE, &row);
    }
    let report = import.finish().unwrap();
    assert_eq!((report.accepted, report.duplicate, report.replaced), (4, 1, 1));
    append(4, 3, &mut expected);
    assert!(contents(&store.snapshot()) == expected);
    let _ = store.compact_all().unwrap();
    assert!(contents(&store.snapshot()) == expected);
}

#[test]
fn batches_of_metric_sets_are_imported_as_they_are_appended() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut batch = DataBatch::new(at(NOON));
    let mut set = MetricSet::new(EntityType::Pod);
    set.labels.set("pod_name", "web");
    set.metrics.set("memory/usage", MetricValue::gauge(7));
    let own = Labels::from_iter([("resource_id", "Volume:a")]);
    set.push_labeled("filesystem/usage", &own, 5);
    batch.sets.insert(EntityKey::pod("shop", "web"), set);
    let appended = open(&vfs, &clock);
    let _ = appended.append(&batch, Ack::Memory).unwrap();
    let expected = contents(&appended.snapshot());
    drop(appended);
    let vfs = FaultyVfs::new();
    let store = open(&vfs, &clock);
    let mut import = store.import();
    import.push(&batch).unwrap();
    assert_eq!(import.finish().unwrap().accepted, 2);
    assert_eq!(contents(&store.snapshot()), expected);
}

#[test]
fn what_would_expire_at_once_or_is_beyond_a_limit_is_refused_and_counted() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(std::time::Duration::from_secs(86_400));
    let store = Store::open(DIR, StoreOptions { retention, ..options(&vfs, &clock) }).unwrap();
    let mut import = store.import();
    let small = row("a", [("m", 1)]);
    import.push_rows(at(NOON - DAY - 1), [&small]).unwrap();
    import.push_rows(at(NOON + HOUR), [&small]).unwrap();
    let long: &'static str = Box::leak("x".repeat(1_025).into_boxed_str());
    import.push_rows(at(NOON), [&row("a", [(long, 1)]), &row("a", [("", 1)])]).unwrap();
    import.push_rows(at(NOON), [&row(&"x".repeat(70_000), [("m", 1)])]).unwrap();
    let wide = (0..4_097).map(|n| (&*Box::leak(format!("c{n}").into_boxed_str()), 1));
    import.push_rows(at(NOON), [&row("b", wide)]).unwrap();
    import.push_rows(at(NOON), [&small, &row("c", [("m", 1), ("m", 2), ("m", 2)])]).unwrap();
    let report = import.finish().unwrap();
    assert_eq!((report.accepted, report.replaced, report.duplicate), (2, 1, 1));
    let refused: Vec<_> = report.rejected.iter().collect();
    let count = |reason| report.rejected.get(reason);
    assert_eq!(count(Rejected::TooOld) + count(Rejected::TooFarAhead), 2, "{refused:?}");
    assert_eq!((count(Rejected::ColumnName), count(Rejected::LabelsTooLarge)), (2, 1));
    assert_eq!(count(Rejected::TooManyColumns), 4_097);
    let found = contents(&store.snapshot());
    let values: Vec<_> = found.values().flat_map(|samples| samples.values()).collect();
    assert_eq!(values, [&Bits::Int(1), &Bits::Int(2)]);
}

#[test]
fn a_part_that_could_not_be_written_is_kept_and_written_later() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut import = store.import();
    let row = row("a", [("m", 1)]);
    import.push_rows(at(NOON - 9 * DAY), [&row]).unwrap();
    vfs.refuse_names_ending_with(Some(".seg.tmp"));
    assert!(import.finish().is_err() && import.finish().is_err());
    assert!(contents(&store.snapshot()).is_empty());
    vfs.refuse_names_ending_with(None);
    import.push_rows(at(NOON - 8 * DAY), [&row]).unwrap();
    let report = import.finish().unwrap();
    assert_eq!((report.accepted, report.written, report.parts), (2, 2, 2));
    let mut expected = Contents::new();
    [9, 8].iter().for_each(|day| expect(&mut expected, NOON - day * DAY, &row));
    assert_eq!(contents(&store.snapshot()), expected);
}

#[test]
fn more_than_fits_into_memory_becomes_several_parts() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut import = store.import();
    let names: Vec<String> = (0..500).map(|pod| format!("pod-{pod}")).collect();
    let columns: Vec<&'static str> =
        (0..100).map(|n| &*Box::leak(format!("column-{n}").into_boxed_str())).collect();
    let mut sent = 0;
    while import.report().parts < 2 {
        let cells = || columns.iter().map(|name| (*name, sent as i64));
        let rows: Vec<_> = names.iter().map(|name| row(name, cells())).collect();
        import.push_rows(at(NOON - DAY + sent as i64), &rows).unwrap();
        sent += 50_000;
    }
    let report = import.finish().unwrap();
    assert_eq!((report.accepted, report.written, report.parts), (sent, sent, 3));
    // 64 MiB hold about eight million numbers.
    assert!((14_000_000..18_000_000).contains(&sent), "{sent}");
    assert_eq!(store.stats().imported_samples, sent);
    assert_eq!(store.stats().segment_samples, sent);
}

fn workload(store: &Store, imported: &mut Contents) -> Result<ImportReport> {
    let mut import = store.import();
    let mut report = ImportReport::default();
    for part in 0..3 {
        for day in 0..3 {
            let millis = NOON - 30 * DAY + day * DAY + part * HOUR;
            import.push_rows(at(millis), [&row("a", [("m", part)]), &row("b", [("m", day)])])?;
        }
        report = import.finish()?;
        for day in 0..3 {
            let millis = NOON - 30 * DAY + day * DAY + part * HOUR;
            expect(imported, millis, &row("a", [("m", part)]));
            expect(imported, millis, &row("b", [("m", day)]));
        }
        let _ = store.compact_all()?;
    }
    Ok(report)
}

#[test]
fn a_crash_at_any_call_leaves_whole_parts() {
    let run = |vfs: &FaultyVfs| {
        let (clock, mut imported) = (TestClock::new(), Contents::new());
        let store = Store::open(DIR, options(vfs, &clock));
        let report = store.and_then(|store| workload(&store, &mut imported));
        (clock, imported, report.is_ok())
    };
    let vfs = FaultyVfs::new();
    assert!(run(&vfs).2);
    for n in 0..vfs.changes() {
        let vfs = FaultyVfs::new();
        vfs.crash_at(n);
        let (clock, imported, _) = run(&vfs);
        let cut = if n % 2 == 0 { PowerCut::DropUnsynced } else { PowerCut::Torn(n) };
        vfs.cut_power(cut);
        let store = open(&vfs, &clock);
        assert!(store.open_report().is_complete(), "crash at {n}: {:?}", store.open_report());
        let found = contents(&store.snapshot());
        for (key, samples) in &imported {
            for (at, value) in samples {
                assert_eq!(found[key].get(at), Some(value), "crash at {n}: {key:?} at {at}");
            }
        }
        let count: usize = found.values().map(std::collections::BTreeMap::len).sum();
        assert_eq!(count % 6, 0, "crash at {n}: {count} samples are not whole parts");
    }
}
