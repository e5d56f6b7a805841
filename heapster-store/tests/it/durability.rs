//! What survives which crash: the machine dies at every call that changes a file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use heapster_core::series::Row;
use heapster_store::vfs::Vfs;
use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::{Ack, Error, Result, Retention, Severity, Store, StoreOptions, check};

use crate::support::*;

/// What a workload was told, and what it tried without being told.
#[derive(Default)]
struct Journal {
    acknowledged: Contents,
    /// Every value that was ever sent, acknowledged or not.
    sent: BTreeMap<(String, String), BTreeMap<i64, Vec<Bits>>>,
}

impl Journal {
    fn append(&mut self, store: &Store, millis: i64, rows: &[Row], ack: Ack) -> Result<()> {
        let mut one = Contents::new();
        rows.iter().for_each(|row| expect(&mut one, millis, row));
        for (key, samples) in &one {
            for (millis, value) in samples {
                let sent = self.sent.entry(key.clone()).or_default();
                sent.entry(*millis).or_default().push(*value);
            }
        }
        let report = store.append_rows(at(millis), rows, ack)?;
        assert_eq!(report.rejected.total(), 0);
        for (key, samples) in one {
            self.acknowledged.entry(key).or_default().extend(samples);
        }
        Ok(())
    }

    /// Everything acknowledged is there, bit for bit or overwritten by a later attempt, and nothing
    /// is there that was never sent.
    fn check(&self, found: &Contents, context: &str) {
        for (key, samples) in &self.acknowledged {
            for (millis, value) in samples {
                let read = found.get(key).and_then(|samples| samples.get(millis));
                let read = read.unwrap_or_else(|| panic!("{context}: lost {key:?} at {millis}"));
                let sent = &self.sent[key][millis];
                let acknowledged = sent.iter().rposition(|sent| sent == value).unwrap();
                assert!(sent[acknowledged..].contains(read), "{context}: wrong {key:?} {millis}");
            }
        }
        for (key, samples) in found {
            for (millis, value) in samples {
                let sent = self.sent.get(key).and_then(|sent| sent.get(millis));
                assert!(
                    sent.is_some_and(|sent| sent.contains(value)),
                    "{context}: invented {key:?} at {millis}"
                );
            }
        }
    }
}

/// Opens, appends in order and late, flushes, retains, reopens; stops at the first error.
fn workload(
    vfs: &FaultyVfs,
    clock: &Arc<TestClock>,
    ack: Ack,
    journal: &mut Journal,
) -> Result<()> {
    for life in 0..2 {
        let store = Store::open(DIR, options(vfs, clock))?;
        for step in 0..6 {
            clock.step(MINUTE);
            let now = clock.millis();
            let value = life * 100 + step;
            let rows = [
                row("a", [("m", value), ("n", 1)]),
                row(["b", "c"][step as usize % 2], [("m", value)]),
            ];
            journal.append(&store, now, &rows, ack)?;
            journal.append(&store, now, &[row("a", [("x", value as f64 / 3.0)])], ack)?;
            journal.append(&store, now - 3 * MINUTE / 2, &[row("a", [("m", -value)])], ack)?;
            if step == 3 {
                store.flush()?;
            }
            store.maintain()?;
        }
        journal.append(&store, clock.millis(), &[row("a", [("m", 7)])], ack)?;
        store.close()?;
    }
    Ok(())
}

fn changes_of_workload() -> u64 {
    let vfs = FaultyVfs::new();
    let mut journal = Journal::default();
    workload(&vfs, &TestClock::new(), Ack::Durable, &mut journal).unwrap();
    journal.check(&contents(&open(&vfs, &TestClock::new()).snapshot()), "without a crash");
    vfs.changes()
}

fn crash_everywhere(ack: Ack, crash: impl Fn(&FaultyVfs, u64)) {
    let last = changes_of_workload();
    assert!(last > 100, "the workload touches the disk");
    for n in 0..last {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let mut journal = Journal::default();
        vfs.crash_at(n);
        let _ = workload(&vfs, &clock, ack, &mut journal);
        crash(&vfs, n);
        // Recovery may die as well, up to twice.
        for again in [n % 7, n % 13] {
            vfs.crash_at(vfs.changes() + again);
            let _ = Store::open(DIR, options(&vfs, &clock));
            crash(&vfs, n + 1);
        }
        let context = format!("crash at {n}");
        let store = open(&vfs, &clock);
        let found = contents(&store.snapshot());
        journal.check(&found, &context);
        assert!(store.open_report().is_complete(), "{context}: {:?}", store.open_report());
        // The store goes on: it takes rows, flushes, and shows the same after another reopen.
        clock.step(MINUTE);
        let now = clock.millis();
        journal.append(&store, now, &[row("z", [("m", 1)])], Ack::Durable).unwrap();
        store.flush().unwrap();
        drop(store);
        vfs.restart();
        journal.check(&contents(&open(&vfs, &clock).snapshot()), &context);
    }
}

#[test]
fn durable_batches_survive_a_power_cut_at_any_call() {
    crash_everywhere(Ack::Durable, |vfs, _| vfs.cut_power(PowerCut::DropUnsynced));
}

#[test]
fn durable_batches_survive_torn_writes_at_any_call() {
    crash_everywhere(Ack::Durable, |vfs, n| vfs.cut_power(PowerCut::Torn(n)));
}

#[test]
fn buffered_batches_survive_the_death_of_the_process_at_any_call() {
    crash_everywhere(Ack::Buffered, |vfs, _| vfs.restart());
}

#[test]
fn buffered_batches_survive_a_power_cut_once_they_were_maintained() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut journal = Journal::default();
    journal.append(&store, NOON, &[row("a", [("m", 1)])], Ack::Buffered).unwrap();
    store.maintain().unwrap();
    vfs.cut_power(PowerCut::DropUnsynced);
    journal.check(&contents(&open(&vfs, &clock).snapshot()), "after maintenance");
}

#[test]
fn an_error_at_any_call_loses_nothing_that_was_acknowledged() {
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        for n in 0..changes_of_workload() {
            let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
            let mut journal = Journal::default();
            vfs.fail_at(n, kind);
            let _ = workload(&vfs, &clock, Ack::Durable, &mut journal);
            vfs.cut_power(PowerCut::DropUnsynced);
            let store = open(&vfs, &clock);
            journal.check(&contents(&store.snapshot()), &format!("{kind} at {n}"));
            assert!(store.open_report().is_complete());
        }
    }
}

#[test]
fn a_failed_sync_poisons_the_writer_and_reads_go_on() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let row = row("a", [("m", 1)]);
    let _ = store.append_rows(at(NOON), [&row], Ack::Buffered).unwrap();
    vfs.fail_at(vfs.changes(), io::ErrorKind::Other);
    assert!(matches!(store.sync(), Err(Error::Io { op: "sync", .. })));
    let refused = store.append_rows(at(NOON + 1), [&row], Ack::Memory).unwrap_err();
    assert!(matches!(refused, Error::Poisoned { op: "sync" }));
    assert!(matches!(store.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(store.flush(), Err(Error::Poisoned { .. })));
    assert_eq!(contents(&store.snapshot()).len(), 1);
    assert_eq!(store.stats().poisoned_by, Some("sync"));
    assert!(store.stats().last_error.unwrap().contains("could not sync"));
}

#[test]
fn a_full_disk_refuses_batches_until_there_is_room_and_loses_none() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut journal = Journal::default();
    let used: usize = vfs.files().values().map(Vec::len).sum();
    vfs.set_capacity(Some(used + 2_000));
    let (mut taken, mut refused) = (0, 0);
    for round in 0..100 {
        clock.step(MINUTE);
        let names: Vec<String> = (0..5).map(|pod| format!("pod-{round}-{pod}")).collect();
        let rows: Vec<_> = names.iter().map(|name| row(name, [("m", round)])).collect();
        match journal.append(&store, clock.millis(), &rows, Ack::Durable) {
            Ok(()) => taken += 1,
            Err(Error::DiskFull { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        if round == 50 {
            assert!(matches!(store.flush(), Err(Error::DiskFull { .. })));
            vfs.set_capacity(None);
        }
    }
    assert!(taken > 50 && refused > 10, "{taken} taken, {refused} refused");
    journal.check(&contents(&store.snapshot()), "before the reopen");
    store.flush().unwrap();
    drop(store);
    vfs.cut_power(PowerCut::DropUnsynced);
    journal.check(&contents(&open(&vfs, &clock).snapshot()), "after the reopen");
}

#[test]
fn a_sync_that_finds_the_disk_full_poisons_whoever_called_it() {
    let prepare = || {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = open(&vfs, &clock);
        let _ = store.append_rows(at(NOON), [&row("a", [("m", 1)])], Ack::Durable).unwrap();
        (vfs, store)
    };
    let (vfs, store) = prepare();
    let before = vfs.changes();
    store.flush().unwrap();
    let calls = vfs.changes() - before;
    let mut poisoned = 0;
    for n in 0..calls {
        let (vfs, store) = prepare();
        vfs.fail_at(vfs.changes() + n, io::ErrorKind::StorageFull);
        match store.flush() {
            Err(Error::Io { op: "sync", .. }) => {
                poisoned += 1;
                assert!(store.stats().poisoned_by.is_some(), "call {n}");
            }
            _ => assert_ne!(store.stats().poisoned_by, Some("sync"), "call {n}"),
        }
    }
    assert!(poisoned >= 5, "{poisoned}");
}

#[test]
fn no_sync_counts_after_one_that_failed_also_when_they_run_at_once() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let (entered, wait_entered) = std::sync::mpsc::channel();
    let (other, wait_other) = std::sync::mpsc::channel();
    let wait_other = std::sync::Mutex::new(wait_other);
    let calls = std::sync::atomic::AtomicU64::new(0);
    vfs.before_sync(move || match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        // The append's sync fails, but only after another one had the time to succeed.
        0 => {
            entered.send(()).unwrap();
            let patience = std::time::Duration::from_millis(300);
            let _ = wait_other.lock().unwrap().recv_timeout(patience);
            Err(io::ErrorKind::Other.into())
        }
        // The header of the next log file.
        1 => Ok(()),
        _ => {
            let _ = other.send(());
            Ok(())
        }
    });
    let row = row("a", [("m", 1)]);
    let (appended, flushed) = std::thread::scope(|scope| {
        let append = scope.spawn(|| store.append_rows(at(NOON), [&row], Ack::Durable));
        wait_entered.recv().unwrap();
        let flushed = store.flush();
        (append.join().unwrap(), flushed)
    });
    assert!(matches!(appended, Err(Error::Io { op: "sync", .. })), "{appended:?}");
    assert!(matches!(flushed, Err(Error::Poisoned { op: "sync" })), "{flushed:?}");
}

#[test]
fn durable_appends_that_wait_at_the_same_time_share_one_sync() {
    const WRITERS: u64 = 8;
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let syncs = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (entered, wait_entered) = std::sync::mpsc::channel();
    let (go, wait_go) = std::sync::mpsc::channel();
    let wait_go = std::sync::Mutex::new(wait_go);
    vfs.before_sync({
        let syncs = Arc::clone(&syncs);
        move || {
            // The first sync takes until everybody else has appended.
            if syncs.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
                entered.send(()).unwrap();
                wait_go.lock().unwrap().recv().unwrap();
            }
            Ok(())
        }
    });
    std::thread::scope(|scope| {
        let append = |writer: u64| {
            let name = format!("pod-{writer}");
            let row = row(&name, [("m", writer as i64)]);
            assert_eq!(store.append_rows(at(NOON), [&row], Ack::Durable).unwrap().accepted, 1);
        };
        scope.spawn(move || append(0));
        wait_entered.recv().unwrap();
        (1..WRITERS).for_each(|writer| drop(scope.spawn(move || append(writer))));
        while store.stats().batches < WRITERS {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
    });
    assert_eq!(syncs.load(std::sync::atomic::Ordering::SeqCst), 2);
    vfs.cut_power(PowerCut::DropUnsynced);
    assert_eq!(contents(&open(&vfs, &clock).snapshot()).len() as u64, WRITERS);
}

#[test]
fn with_a_full_disk_retention_goes_on_and_generations_do_not_pile_up() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(std::time::Duration::from_secs(3 * 86_400));
    let store = Store::open(DIR, StoreOptions { retention, ..options(&vfs, &clock) }).unwrap();
    let mut journal = Journal::default();
    journal.append(&store, clock.millis(), &[row("a", [("m", 1)])], Ack::Durable).unwrap();
    store.flush().unwrap();
    clock.step(2 * DAY);
    store.maintain().unwrap();
    clock.step(DAY - HOUR);
    let mut late = Journal::default();
    for _ in 0..2 {
        clock.step(3 * HOUR);
        late.append(&store, clock.millis(), &[row("b", [("m", 1)])], Ack::Durable).unwrap();
    }
    // The manifests fit, a segment does not.
    vfs.refuse_names_ending_with(Some(".seg.tmp"));
    assert!(matches!(store.maintain(), Err(Error::DiskFull { .. })));
    assert_eq!(store.stats().expired_segments, 1, "what is past its time makes room");
    for _ in 0..20 {
        assert!(matches!(store.flush(), Err(Error::DiskFull { .. })));
        clock.step(1000);
        late.append(&store, clock.millis(), &[row("a", [("m", 1)])], Ack::Memory).unwrap();
    }
    assert_eq!(store.stats().head_generations, 2);
    late.check(&contents(&store.snapshot()), "on the full disk");
    vfs.refuse_names_ending_with(None);
    store.flush().unwrap();
    assert_eq!(store.stats().head_generations, 1);
    late.check(&contents(&store.snapshot()), "with room again");
}

/// A store with a segment that is past its time and a log; no byte more fits.
fn full_with_something_to_expire() -> (FaultyVfs, Arc<TestClock>, StoreOptions, Journal) {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(std::time::Duration::from_secs(3 * 86_400));
    let options = StoreOptions { retention, ..options(&vfs, &clock) };
    let store = Store::open(DIR, options.clone()).unwrap();
    let _ = store.append_rows(at(NOON), [&row("a", [("m", 1)])], Ack::Durable).unwrap();
    store.flush().unwrap();
    let mut journal = Journal::default();
    clock.step(2 * DAY);
    journal.append(&store, clock.millis(), &[row("b", [("m", 1)])], Ack::Durable).unwrap();
    drop(store);
    vfs.restart();
    clock.step(DAY - HOUR);
    let used: usize = vfs.files().values().map(Vec::len).sum();
    vfs.set_capacity(Some(used));
    (vfs, clock, options, journal)
}

#[test]
fn on_a_disk_without_a_byte_of_room_a_store_opens_and_deletes_what_is_past_its_time() {
    let (vfs, clock, options, mut journal) = full_with_something_to_expire();
    let reserves = |vfs: &FaultyVfs| {
        let files = vfs.files().into_keys();
        files.filter(|path| path.to_string_lossy().contains("RESERVE.")).count()
    };
    assert_eq!(reserves(&vfs), 3);
    let store = Store::open(DIR, options.clone()).unwrap();
    let fill = |store: &Store, journal: &mut Journal| {
        for number in 0_u64.. {
            let name = format!("{number:a<300}");
            match journal.append(store, clock.millis(), &[row(&name, [("m", 1)])], Ack::Memory) {
                Ok(()) => {}
                Err(Error::DiskFull { .. }) => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    fill(&store, &mut journal);
    clock.step(2 * MINUTE);
    store.maintain().unwrap();
    for _ in 0..5 {
        clock.step(HOUR);
        let _ = store.maintain();
        fill(&store, &mut journal);
    }
    assert_eq!(store.stats().expired_segments, 1);
    journal.check(&contents(&store.snapshot()), "on the full disk");
    drop(store);
    vfs.restart();
    let store = Store::open(DIR, options).unwrap();
    journal.check(&contents(&store.snapshot()), "after the reopen");
    vfs.set_capacity(None);
    store.maintain().unwrap();
    assert_eq!(reserves(&vfs), 3, "it is made again");
    store.flush().unwrap();
    journal.check(&contents(&store.snapshot()), "with room again");
}

#[test]
fn what_becomes_free_on_a_full_disk_is_for_the_flush_before_it_is_for_batches() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut journal = Journal::default();
    let mut append = |minute: i64| {
        clock.step(MINUTE);
        let row = row("a", [("m", minute), ("n", minute * minute)]);
        journal.append(&store, clock.millis(), &[row], Ack::Memory)
    };
    (0..500).for_each(|minute| append(minute).unwrap());
    let used = || vfs.files().values().map(Vec::len).sum::<usize>();
    vfs.set_capacity(Some(used() + 40));
    assert!(matches!(store.flush(), Err(Error::DiskFull { .. })));
    // Enough for many batches, and not for the segment.
    vfs.set_capacity(Some(used() + 500));
    assert!(matches!(append(500), Err(Error::DiskFull { .. })));
    assert!(matches!(store.flush(), Err(Error::DiskFull { .. })));
    let log = store.stats().wal_bytes as usize;
    vfs.set_capacity(Some(used() + log - 1));
    assert!(store.flush().unwrap());
    assert!(store.stats().wal_bytes < 100, "the log is gone");
    (500..600).for_each(|minute| append(minute).unwrap());
    journal.check(&contents(&store.snapshot()), "with room again");
}

#[test]
fn a_crash_at_any_call_of_giving_up_the_reserve_loses_nothing() {
    let work = |clock: &TestClock, options: &StoreOptions| -> Result<()> {
        let store = Store::open(DIR, options.clone())?;
        for _ in 0..3 {
            clock.step(HOUR);
            store.maintain()?;
        }
        Ok(())
    };
    let (vfs, clock, options, _) = full_with_something_to_expire();
    let before = vfs.changes();
    work(&clock, &options).unwrap();
    let calls = vfs.changes() - before;
    assert!(calls > 20, "{calls}");
    for n in 0..calls {
        for cut in [None, Some(PowerCut::DropUnsynced), Some(PowerCut::Torn(n))] {
            let (vfs, clock, options, journal) = full_with_something_to_expire();
            vfs.crash_at(vfs.changes() + n);
            let _ = work(&clock, &options);
            match cut {
                Some(cut) => vfs.cut_power(cut),
                None => vfs.restart(),
            }
            let store = Store::open(DIR, options.clone()).unwrap();
            assert!(store.open_report().is_complete(), "crash at {n}, {cut:?}");
            let found = contents(&store.snapshot());
            let context = format!("crash at {n}, {cut:?}");
            for (key, samples) in &journal.acknowledged {
                assert_eq!(found.get(key), Some(samples), "{context}");
            }
        }
    }
}

#[test]
fn a_flush_that_failed_is_tried_again_after_a_while_and_memory_stays_bounded() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = Store::open(DIR, StoreOptions { head_bytes_max: 1 << 20, ..options(&vfs, &clock) })
        .unwrap();
    let mut refused = None;
    for batch in 0..100 {
        let names: Vec<String> = (0..200).map(|pod| format!("pod-{batch}-{pod}")).collect();
        let rows: Vec<_> = names.iter().map(|name| row(name, [("m", batch)])).collect();
        if batch == 1 {
            // The log may grow, segments may not be made.
            vfs.refuse_names_ending_with(Some(".seg.tmp"));
        }
        if let Err(error) = store.append_rows(at(NOON), &rows, Ack::Memory) {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(Error::DiskFull { .. })), "{refused:?}");
    let one = row("a", [("m", 1)]);
    let again = store.append_rows(at(NOON), [&one], Ack::Memory).unwrap_err();
    assert!(matches!(again, Error::MemoryFull { .. }) && again.is_retryable(), "{again}");
    vfs.refuse_names_ending_with(None);
    clock.step(11_000);
    assert_eq!(store.append_rows(at(NOON), [&one], Ack::Memory).unwrap().accepted, 1);
    assert_eq!(store.stats().segments, 1);
}

#[test]
fn a_damaged_log_costs_the_records_it_touches_and_those_that_depend_on_them() {
    let rows = |minute: i64| [row("a", [("m", minute)]), row("b", [("m", minute)])];
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    for minute in 0..200 {
        clock.step(MINUTE);
        let _ = store.append_rows(at(clock.millis()), &rows(minute), Ack::Durable).unwrap();
        rows(minute).iter().for_each(|row| expect(&mut expected, clock.millis(), row));
    }
    drop(store);
    let wal = vfs.files().into_keys().find(|path| path.extension().is_some_and(|e| e == "wal"));
    let wal = wal.unwrap();
    let len = vfs.files()[&wal].len();
    vfs.flip_bit(&wal, len / 2, 3).unwrap();
    let store = open(&vfs, &clock);
    let report = store.open_report();
    assert!(!report.is_complete() && report.damaged_bytes > 0, "{report:?}");
    let found = contents(&store.snapshot());
    for (key, samples) in &found {
        assert!(samples.iter().all(|(at, value)| expected[key].get(at) == Some(value)));
        // Half of the file is before the damage, and runs restart every 64 rows.
        assert!(samples.len() >= 200 - 1 - 64, "{key:?}: {}", samples.len());
        assert_eq!(samples.last_key_value(), expected[key].last_key_value());
    }
    assert_eq!(found.len(), 2);
    // The damaged file is kept for a closer look once its rows are in a segment.
    store.flush().unwrap();
    assert!(vfs.files().keys().any(|path| path.starts_with(format!("{DIR}/quarantine"))));
    drop(store);
    let again = open(&vfs, &clock);
    assert_eq!(contents(&again.snapshot()), found);
    assert!(again.open_report().is_complete());
}

#[test]
fn normal_ageing_deletes_exactly_the_expired_segments() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(std::time::Duration::from_secs(3 * 86_400));
    let store = Store::open(DIR, StoreOptions { retention, ..options(&vfs, &clock) }).unwrap();
    let mut expected = Contents::new();
    for day in 0..10 {
        let row = row("a", [("m", day)]);
        let _ = store.append_rows(at(clock.millis()), [&row], Ack::Durable).unwrap();
        expect(&mut expected, clock.millis(), &row);
        store.flush().unwrap();
        clock.step(DAY);
        store.maintain().unwrap();
        let floor = clock.millis() - 3 * DAY;
        expected.values_mut().for_each(|samples| *samples = samples.split_off(&floor));
        assert_eq!(contents(&store.snapshot()), expected, "day {day}");
    }
    assert_eq!(store.stats().expired_segments, 7);
    let files = vfs.files();
    let segments = files.keys().filter(|path| path.extension().is_some_and(|e| e == "seg"));
    assert_eq!(segments.count(), 3);
}

#[test]
fn a_clock_a_year_ahead_deletes_nothing() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(std::time::Duration::from_secs(3 * 86_400));
    let aged = || StoreOptions { retention, ..options(&vfs, &clock) };
    let store = Store::open(DIR, aged()).unwrap();
    let _ = store.append_rows(at(NOON), [&row("a", [("m", 1)])], Ack::Durable).unwrap();
    store.flush().unwrap();
    let before = contents(&store.snapshot());
    clock.step(HOUR);
    store.maintain().unwrap();
    clock.jump(365 * DAY);
    for _ in 0..20 {
        clock.step(HOUR);
        assert_eq!(store.maintain().unwrap().expired_segments, 0);
    }
    assert!(store.stats().is_clock_suspect);
    // A restart does not launder the clock, nor do samples of the wrong time.
    let _ = store.append_rows(at(clock.millis()), [&row("a", [("m", 2)])], Ack::Durable).unwrap();
    drop(store);
    let store = Store::open(DIR, aged()).unwrap();
    clock.step(HOUR);
    assert_eq!(store.maintain().unwrap().expired_segments, 0);
    let wrong = contents(&store.snapshot());
    assert!(
        before.iter().all(|(key, samples)| samples.iter().all(|s| wrong[key].contains_key(s.0)))
    );
    // The clock is put right, and real time goes on.
    clock.jump(-365 * DAY);
    store.maintain().unwrap();
    let report =
        store.append_rows(at(clock.millis()), [&row("a", [("m", 3)])], Ack::Durable).unwrap();
    assert_eq!(report.accepted, 1, "samples of the wrong time do not shut out the right ones");
}

#[test]
fn a_sync_covers_batches_of_a_head_whose_flush_failed() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut journal = Journal::default();
    journal.append(&store, NOON, &[row("a", [("m", 1)])], Ack::Buffered).unwrap();
    // Room for the header of the next log file, not for a segment.
    let used: usize = vfs.files().values().map(Vec::len).sum();
    vfs.set_capacity(Some(used + 40));
    assert!(matches!(store.flush(), Err(Error::DiskFull { .. })));
    assert_eq!(store.stats().head_generations, 2);
    store.sync().unwrap();
    vfs.cut_power(PowerCut::DropUnsynced);
    vfs.set_capacity(None);
    journal.check(&contents(&open(&vfs, &clock).snapshot()), "after the sync");
}

#[test]
fn a_batch_that_did_not_fit_is_cut_off_again_or_else_ends_all_writing() {
    let big = row("a name that does not fit into what is left of the disk", [("m", 1)]);
    for cut_fails in [false, true] {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = open(&vfs, &clock);
        let used: usize = vfs.files().values().map(Vec::len).sum();
        vfs.set_capacity(Some(used + 30));
        if cut_fails {
            // The first write takes 30 bytes, the second none, the third call cuts.
            vfs.fail_at(vfs.changes() + 2, io::ErrorKind::Other);
        }
        let refused = store.append_rows(at(NOON), [&big], Ack::Memory).unwrap_err();
        assert!(matches!(refused, Error::DiskFull { .. }));
        vfs.set_capacity(None);
        if cut_fails {
            let again = store.append_rows(at(NOON), [&big], Ack::Memory);
            assert!(matches!(again, Err(Error::Poisoned { op: "write" })));
        } else {
            drop(store);
            assert_eq!(open(&vfs, &clock).open_report().torn_bytes, 0);
        }
    }
}

#[test]
fn a_crash_between_the_two_manifests_and_damage_to_one_later_lose_nothing() {
    let rows = [row("a", [("m", 1), ("n", 2)])];
    let prepare = || {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = open(&vfs, &clock);
        let mut journal = Journal::default();
        journal.append(&store, NOON, &rows, Ack::Durable).unwrap();
        (vfs, clock, store, journal)
    };
    let (vfs, _, store, _) = prepare();
    let before = vfs.changes();
    store.flush().unwrap();
    let calls = vfs.changes() - before;
    for n in 0..calls {
        for damaged in ["MANIFEST", "MANIFEST.copy"] {
            let (vfs, clock, store, journal) = prepare();
            vfs.crash_at(vfs.changes() + n);
            let _ = store.flush();
            drop(store);
            vfs.restart();
            drop(open(&vfs, &clock));
            vfs.restart();
            vfs.flip_bit(&Path::new(DIR).join(damaged), 20, 0).unwrap();
            let store = open(&vfs, &clock);
            journal.check(&contents(&store.snapshot()), &format!("crash at {n}, {damaged}"));
        }
    }
}

#[test]
fn segments_that_only_a_damaged_manifest_names_are_kept_and_told() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let manifest = Path::new(DIR).join("MANIFEST.copy");
    let old = vfs.files()[&manifest].clone();
    let _ = store.append_rows(at(NOON), [&row("a", [("m", 1)])], Ack::Durable).unwrap();
    store.flush().unwrap();
    drop(store);
    // The copy stayed behind, and then the newer one was damaged.
    vfs.remove(&manifest).unwrap();
    let file = vfs.create_new(&manifest).unwrap();
    heapster_store::vfs::write_all_at(&*file, &old, 0).unwrap();
    vfs.flip_bit(&Path::new(DIR).join("MANIFEST"), 20, 0).unwrap();
    let store = open(&vfs, &clock);
    let [told] = &*store.open_report().quarantined else { panic!("one file") };
    assert!(vfs.files().contains_key(&Path::new(DIR).join("quarantine").join(&told.file)));
    // The number is not used again.
    let _ = store.append_rows(at(NOON), [&row("a", [("m", 2)])], Ack::Durable).unwrap();
    store.flush().unwrap();
    assert!(vfs.files().keys().all(|path| !path.ends_with(format!("segments/raw/{}", told.file))));
}

#[test]
fn a_suspect_clock_is_trusted_after_a_day_also_when_the_process_restarts_often() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(std::time::Duration::from_secs(3 * 86_400));
    let aged = || StoreOptions { retention, ..options(&vfs, &clock) };
    let store = Store::open(DIR, aged()).unwrap();
    let _ = store.append_rows(at(NOON), [&row("a", [("m", 1)])], Ack::Durable).unwrap();
    store.flush().unwrap();
    drop(store);
    clock.step(30 * DAY);
    let (mut hours, mut expired) = (0, 0);
    while expired == 0 {
        assert!(hours < 48, "it never deletes");
        let store = Store::open(DIR, aged()).unwrap();
        let row = row("a", [("m", hours)]);
        let _ = store.append_rows(at(clock.millis()), [&row], Ack::Durable).unwrap();
        for _ in 0..5 {
            clock.step(HOUR);
            hours += 1;
            expired += store.maintain().unwrap().expired_segments;
        }
    }
    assert!(hours >= 24, "{hours}");
}

#[test]
fn a_power_cut_keeps_a_beginning_of_what_was_appended_and_is_no_damage() {
    for seed in 0..200 {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = open(&vfs, &clock);
        for batch in 0..12 {
            // Longer than a sector, and no row refers to an earlier batch but by its column.
            let pod = format!("{batch:02}-{}", "x".repeat(700));
            let _ = store.append_rows(at(NOON), [&row(&pod, [("m", 1)])], Ack::Buffered).unwrap();
            if batch == 3 {
                store.sync().unwrap();
            }
        }
        drop(store);
        vfs.cut_power(PowerCut::Torn(seed));
        let store = open(&vfs, &clock);
        assert!(store.open_report().is_complete(), "seed {seed}: {:?}", store.open_report());
        let found = contents(&store.snapshot());
        let is_there = |batch| found.keys().any(|(set, _)| set.contains(&format!("{batch:02}-x")));
        let there: Vec<bool> = (0..12).map(is_there).collect();
        assert!(there[..4].iter().all(|is_there| *is_there), "seed {seed}: {there:?}");
        assert!(there.is_sorted_by(|before, after| before >= after), "seed {seed}: {there:?}");
    }
}

#[test]
fn a_directory_that_a_failed_open_made_has_a_durable_name_once_a_store_is_in_it() {
    for failing in 0..6 {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        vfs.fail_at(failing, io::ErrorKind::Other);
        drop(Store::open(DIR, options(&vfs, &clock)));
        vfs.restart();
        let mut journal = Journal::default();
        let store = open(&vfs, &clock);
        journal.append(&store, NOON, &[row("a", [("m", 1)])], Ack::Durable).unwrap();
        drop(store);
        vfs.cut_power(PowerCut::DropUnsynced);
        let found = contents(&open(&vfs, &clock).snapshot());
        journal.check(&found, &format!("after call {failing} failed"));
    }
}

#[test]
fn recovery_removes_nothing_that_a_power_cut_would_ask_for_again() {
    let merged = |vfs: &FaultyVfs, clock: &Arc<TestClock>, journal: &mut Journal| {
        let store = open(vfs, clock);
        for value in 0..3 {
            clock.step(MINUTE);
            journal
                .append(&store, clock.millis(), &[row("a", [("m", value)])], Ack::Durable)
                .unwrap();
            store.flush().unwrap();
        }
        let before = vfs.changes();
        (before, store)
    };
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let (before, store) = merged(&vfs, &clock, &mut Journal::default());
    assert_eq!(store.compact_all().unwrap().merged_segments, 3);
    let calls = vfs.changes() - before;
    for call in 0..calls {
        // The process dies in the merge, and the machine in the recovery.
        for again in 0..16 {
            let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
            let mut journal = Journal::default();
            let (before, store) = merged(&vfs, &clock, &mut journal);
            vfs.crash_at(before + call);
            drop(store.compact_all());
            drop(store);
            vfs.restart();
            vfs.crash_at(vfs.changes() + again);
            drop(Store::open(DIR, options(&vfs, &clock)));
            // Names of files that are gone are gone; that of the manifest is not durable by itself.
            vfs.cut_power(PowerCut::Torn(call * 16 + again));
            let store = open(&vfs, &clock);
            let context = format!("call {call}, then {again}");
            assert!(store.open_report().is_complete(), "{context}: {:?}", store.open_report());
            journal.check(&contents(&store.snapshot()), &context);
        }
    }
}

#[test]
fn what_a_store_shows_after_a_failed_sync_and_a_restart_is_on_the_disk() {
    use heapster_store::vfs::faulty::{FailedSync, Noise};
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut journal = Journal::default();
    journal.append(&store, NOON, &[row("a", [("m", 1)])], Ack::Buffered).unwrap();
    // The cache keeps what the disk did not take, and calls it written.
    vfs.set_failed_sync(FailedSync::Forgets);
    vfs.fail_at(vfs.changes(), io::ErrorKind::Other);
    assert!(matches!(store.sync(), Err(Error::Io { op: "sync", .. })));
    drop(store);
    vfs.restart();
    // Nor does it let go of it when it is asked to.
    vfs.set_noise(Noise { kept_caches: 100, ..Noise::default() }, 0);
    let store = open(&vfs, &clock);
    journal.check(&contents(&store.snapshot()), "after the restart");
    journal.append(&store, NOON + 1, &[row("a", [("m", 2)])], Ack::Durable).unwrap();
    drop(store);
    vfs.cut_power(PowerCut::DropUnsynced);
    journal.check(&contents(&open(&vfs, &clock).snapshot()), "after the power cut");
}

#[test]
fn a_log_file_that_ends_before_its_time_is_told_by_the_next_one() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    for batch in 0..4 {
        let store = open(&vfs, &clock);
        for row_of in 0..3 {
            let row = row("a", [("m", batch * 3 + row_of)]);
            let at = at(NOON + batch * MINUTE + row_of);
            let _ = store.append_rows(at, [&row], Ack::Durable).unwrap();
        }
        drop(store);
        vfs.restart();
    }
    let is_log = |path: &Path| path.extension().is_some_and(|name| name == "wal");
    let logs: Vec<_> = vfs.files().into_iter().filter(|(path, _)| is_log(path)).collect();
    assert_eq!(logs.len(), 4);
    // Of the first nobody knows where it should begin, of the last where it should end.
    for (index, (path, bytes)) in logs.iter().enumerate().take(3).skip(1) {
        let vfs = FaultyVfs::with_files(&vfs.files());
        // Half of the file: at least a batch of the three is gone.
        vfs.damage(path, |file| file.truncate(bytes.len() / 2)).unwrap();
        let shared: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let checked = check(&shared, DIR, &mut |_| {}).unwrap();
        let damage = checked.findings.iter().find(|one| one.severity == Severity::Damage);
        let damage = damage.expect("it is damage");
        assert!(damage.what.contains("before the next one begins"), "log {index}: {damage:?}");
        let store = open(&vfs, &clock);
        let report = store.open_report();
        let found: usize = contents(&store.snapshot()).values().map(BTreeMap::len).sum();
        let missing = format!("ends {} batches", 12 - found);
        assert!(damage.what.contains(&missing), "log {index}: {damage:?}");
        assert!(found < 12 && !report.is_complete(), "log {index}: {found} found, {report:?}");
        assert_eq!(report.missing_batches, 12 - found as u64, "log {index}");
    }
}

#[test]
fn a_store_is_made_below_directories_that_cannot_be_synced_but_not_past_a_disk_that_fails() {
    use io::ErrorKind::{InvalidInput, Other, PermissionDenied, ReadOnlyFilesystem};
    // The first calls make the directory, then sync /data, then /.
    for (call, kind, is_made) in [
        (1, PermissionDenied, false),
        (2, PermissionDenied, true),
        (2, InvalidInput, true),
        (2, ReadOnlyFilesystem, true),
        (1, ReadOnlyFilesystem, false),
        (1, Other, false),
        (2, Other, false),
    ] {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        vfs.fail_at(call, kind);
        let opened = Store::open(DIR, options(&vfs, &clock));
        assert_eq!(opened.is_ok(), is_made, "call {call}, {kind}: {:?}", opened.err());
    }
    // Somebody else made the directory, below one that we may pass but not open.
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    vfs.create_dir_all(Path::new(DIR)).unwrap();
    vfs.fail_at(1, PermissionDenied);
    drop(Store::open(DIR, options(&vfs, &clock)).unwrap());
}
