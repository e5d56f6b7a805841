//! Copies of a store: backups, what is restored from them, and snapshots by hard links.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::vfs::{RealVfs, Vfs};
use heapster_store::{
    Ack, CopyReport, Error, Progress, ReaderOptions, Result, Retention, Severity, Store,
    StoreOptions, StoreReader, TierOptions, backup, check, restore,
};

use crate::support::*;

const BACKUP: &str = "/saved/store";
const NEW: &str = "/new/store";

fn append(store: &Store, batch: i64) {
    let rows = ["a", "b"].map(|pod| row(pod, [("m", batch), ("n", batch * 7)]));
    let _ = store.append_rows(at(NOON + batch * 1_000), &rows, Ack::Durable).unwrap();
}

/// A store with two segments and batches in its log: 5 in all.
fn filled(vfs: &FaultyVfs, clock: &Arc<TestClock>) -> Store {
    let store = open(vfs, clock);
    for batch in 0..5 {
        append(&store, batch);
        if batch == 1 || batch == 2 {
            store.flush().unwrap();
        }
    }
    store
}

fn shared(vfs: &FaultyVfs) -> Arc<dyn Vfs> {
    Arc::new(vfs.clone())
}

fn back_up(vfs: &FaultyVfs) -> Result<CopyReport> {
    backup(&shared(vfs), DIR, BACKUP, &mut |_| {})
}

fn read(vfs: &FaultyVfs, dir: &str) -> Result<Contents> {
    let reader = StoreReader::open(dir, ReaderOptions { vfs: shared(vfs) })?;
    assert!(reader.open_report().is_complete(), "{:?}", reader.open_report());
    Ok(contents(&reader.snapshot()))
}

/// The contents after the first so many batches.
fn after(batches: i64) -> Contents {
    let mut expected = Contents::new();
    for batch in 0..batches {
        for pod in ["a", "b"] {
            let row = row(pod, [("m", batch), ("n", batch * 7)]);
            expect(&mut expected, NOON + batch * 1_000, &row);
        }
    }
    expected
}

/// How many whole batches these are; nothing else is in them.
fn batches_of(found: &Contents) -> i64 {
    let batches = found.values().next().map_or(0, |samples| samples.len() as i64);
    assert_eq!(*found, after(batches));
    batches
}

fn files_in(vfs: &FaultyVfs, dir: &str) -> Vec<PathBuf> {
    vfs.files().into_keys().filter(|path| path.starts_with(dir)).collect()
}

#[test]
fn what_is_restored_from_a_backup_is_the_store_as_it_was() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = filled(&vfs, &clock);
    let mut told: Vec<Progress> = Vec::new();
    let report = backup(&shared(&vfs), DIR, BACKUP, &mut |progress| told.push(progress)).unwrap();
    assert!(report.is_complete() && report.segments_copied == 2 && report.bytes_copied > 0);
    assert_eq!(report.bytes, report.bytes_copied);
    assert!(told.is_sorted_by_key(|progress| progress.bytes_done));
    let last = told.last().unwrap();
    assert_eq!((last.bytes_done, last.bytes_total), (report.bytes, report.bytes));
    assert_eq!(read(&vfs, BACKUP).unwrap(), after(5));

    append(&store, 5);
    let report = restore(&shared(&vfs), BACKUP, NEW, &mut |_| {}).unwrap();
    assert!(report.is_complete());
    let restored = Store::open(NEW, options(&vfs, &clock)).unwrap();
    assert_eq!(contents(&restored.snapshot()), after(5));
    assert!(restored.open_report().is_complete() && !restored.open_report().is_new);
    append(&restored, 5);
    restored.flush().unwrap();
    assert_eq!(contents(&restored.snapshot()), after(6));
    assert_eq!(read(&vfs, BACKUP).unwrap(), after(5), "the backup stays what it is");
}

#[test]
fn a_backup_is_brought_up_to_date_by_what_is_new() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let options = StoreOptions {
        retention: Retention::Age(Duration::from_secs(3_600)),
        ..options(&vfs, &clock)
    };
    let store = Store::open(DIR, options).unwrap();
    append(&store, 0);
    store.flush().unwrap();
    append(&store, 1);
    let first = back_up(&vfs).unwrap();
    assert_eq!((first.segments_copied, first.segments_kept), (1, 0));
    let again = back_up(&vfs).unwrap();
    assert_eq!((again.segments_copied, again.segments_kept, again.bytes), (0, 1, first.bytes));
    append(&store, 2);
    store.flush().unwrap();
    append(&store, 3);
    let third = back_up(&vfs).unwrap();
    assert_eq!((third.segments_copied, third.segments_kept), (1, 1));
    assert!(third.bytes_copied < third.bytes);
    assert_eq!(read(&vfs, BACKUP).unwrap(), after(4));
    // Retention deletes the segments of the store, and so those of its backup.
    clock.step(2 * HOUR);
    for hour in 0..30 {
        clock.step(HOUR);
        let _ = store.append_rows(at(clock.millis()), &[row("c", [("m", hour)])], Ack::Buffered);
        store.maintain().unwrap();
    }
    store.flush().unwrap();
    let last = back_up(&vfs).unwrap();
    let segments = files_in(&vfs, BACKUP).into_iter();
    let segments = segments.filter(|path| path.extension().is_some_and(|e| e == "seg")).count();
    assert_eq!(segments as u64, last.segments_copied + last.segments_kept);
    assert_eq!(read(&vfs, BACKUP).unwrap(), contents(&store.snapshot()));
}

/// Runs a copy and dies at every call; `check` gets what is there after the cut and at which call.
fn die_everywhere(
    prepare: impl Fn(&FaultyVfs) -> Store,
    copy: impl Fn(&FaultyVfs, &Store) -> Result<CopyReport>,
    check: impl Fn(&FaultyVfs, &str),
) {
    let calls = {
        let vfs = FaultyVfs::new();
        let store = prepare(&vfs);
        let start = vfs.changes();
        copy(&vfs, &store).unwrap();
        check(&vfs, "to the end");
        vfs.changes() - start
    };
    assert!(calls > 15, "{calls}");
    for n in 0..calls {
        for cut in [None, Some(PowerCut::DropUnsynced), Some(PowerCut::Torn(n))] {
            let vfs = FaultyVfs::new();
            let store = prepare(&vfs);
            vfs.crash_at(vfs.changes() + n);
            // What dies while leftovers are removed has done its work.
            let _ = copy(&vfs, &store);
            match cut {
                Some(cut) => vfs.cut_power(cut),
                None => vfs.restart(),
            }
            check(&vfs, &format!("died at {n}, {cut:?}"));
        }
    }
}

#[test]
fn a_first_backup_that_dies_leaves_nothing_that_looks_whole_and_the_next_run_finishes_it() {
    let clock = TestClock::new();
    die_everywhere(
        |vfs| filled(vfs, &clock),
        |vfs, _| back_up(vfs),
        |vfs, context| {
            if let Ok(found) = read(vfs, BACKUP) {
                assert_eq!(found, after(5), "{context}");
            }
            if files_in(vfs, BACKUP).iter().any(|path| path.ends_with("BACKUP")) {
                let refused = Store::open(BACKUP, options(vfs, &clock)).unwrap_err();
                assert!(matches!(refused, Error::NotAStore { .. }), "{context}");
            } else {
                assert!(files_in(vfs, BACKUP).is_empty(), "{context}");
            }
            back_up(vfs).unwrap();
            assert_eq!(read(vfs, BACKUP).unwrap(), after(5), "{context}");
        },
    );
}

#[test]
fn a_later_backup_that_dies_leaves_the_one_of_before_or_more() {
    let clock = TestClock::new();
    let prepare = |vfs: &FaultyVfs| {
        let store = filled(vfs, &clock);
        back_up(vfs).unwrap();
        append(&store, 5);
        store.flush().unwrap();
        append(&store, 6);
        // The next log begins, and the one before is not in a segment yet.
        vfs.refuse_names_ending_with(Some(".seg.tmp"));
        store.flush().unwrap_err();
        vfs.refuse_names_ending_with(None);
        append(&store, 7);
        store
    };
    die_everywhere(
        prepare,
        |vfs, _| back_up(vfs),
        |vfs, context| {
            let batches = batches_of(&read(vfs, BACKUP).unwrap());
            assert!((5..=8).contains(&batches), "{context}: {batches}");
            back_up(vfs).unwrap();
            assert_eq!(batches_of(&read(vfs, BACKUP).unwrap()), 8, "{context}");
            let leftover = files_in(vfs, BACKUP)
                .into_iter()
                .find(|path| path.extension().is_some_and(|extension| extension == "tmp"));
            assert_eq!(leftover, None, "{context}");
        },
    );
}

#[test]
fn a_restore_that_dies_leaves_nothing_that_opens_with_less() {
    let clock = TestClock::new();
    let prepare = |vfs: &FaultyVfs| {
        let store = filled(vfs, &clock);
        back_up(vfs).unwrap();
        store
    };
    let copy = |vfs: &FaultyVfs, _: &Store| restore(&shared(vfs), BACKUP, NEW, &mut |_| {});
    die_everywhere(prepare, copy, |vfs, context| {
        if let Ok(found) = read(vfs, NEW) {
            assert_eq!(found, after(5), "{context}");
        }
        assert_eq!(read(vfs, BACKUP).unwrap(), after(5), "{context}");
    });
}

#[test]
fn a_snapshot_that_dies_leaves_nothing_that_opens_with_less_and_the_store_as_it_was() {
    let clock = TestClock::new();
    let copy = |_: &FaultyVfs, store: &Store| store.snapshot_to(NEW);
    die_everywhere(
        |vfs| filled(vfs, &clock),
        copy,
        |vfs, context| {
            if let Ok(found) = read(vfs, NEW) {
                assert_eq!(found, after(5), "{context}");
            }
            vfs.restart();
            assert_eq!(contents(&open(vfs, &clock).snapshot()), after(5), "{context}");
        },
    );
}

#[test]
fn a_backup_is_not_opened_as_a_store_and_the_text_says_what_to_do() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    filled(&vfs, &clock);
    back_up(&vfs).unwrap();
    let before = vfs.files();
    let refused = Store::open(BACKUP, options(&vfs, &clock)).unwrap_err();
    assert!(refused.to_string().contains("restore it"), "{refused}");
    assert_eq!(vfs.files(), before);
}

#[test]
fn nothing_is_written_over_something_else() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = filled(&vfs, &clock);
    back_up(&vfs).unwrap();
    let other = Store::open("/data/other", options(&vfs, &clock)).unwrap();
    append(&other, 0);
    let copy = |source: &str, to: &str| backup(&shared(&vfs), source, to, &mut |_| {}).unwrap_err();
    let before = vfs.files();
    // A store's directory, also its own.
    assert!(matches!(copy(DIR, "/data/other"), Error::NotEmpty { .. }));
    assert!(matches!(copy(DIR, DIR), Error::NotEmpty { .. }));
    let refused = restore(&shared(&vfs), BACKUP, DIR, &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("give a new or an empty directory"), "{refused}");
    assert!(matches!(store.snapshot_to("/data/other"), Err(Error::NotEmpty { .. })));
    // The backup of another store.
    assert!(matches!(copy("/data/other", BACKUP), Error::WrongBackup { .. }));
    let is_elsewhere = |path: &PathBuf| !path.starts_with(DIR);
    assert!(
        vfs.files()
            .into_iter()
            .filter(|(path, _)| is_elsewhere(path))
            .eq(before.clone().into_iter().filter(|(path, _)| is_elsewhere(path)))
    );
    drop(other);
    // A backup that is newer than what the store has become.
    append(&store, 5);
    store.flush().unwrap();
    back_up(&vfs).unwrap();
    drop(store);
    for (path, bytes) in before.iter().filter(|(path, _)| path.ends_with("MANIFEST")) {
        let copy = path.with_extension("copy");
        for path in [path, &copy] {
            if path.starts_with(DIR) {
                vfs.remove(path).unwrap();
                let file = vfs.create_new(path).unwrap();
                heapster_store::vfs::write_all_at(&*file, bytes, 0).unwrap();
            }
        }
    }
    let refused = back_up(&vfs).unwrap_err();
    assert!(refused.to_string().contains("newer than the store"), "{refused}");
    // Two at once.
    let _held = vfs.lock(&Path::new(BACKUP).join("LOCK")).unwrap();
    assert!(matches!(back_up(&vfs).unwrap_err(), Error::Locked { .. }));
}

fn segments_of(vfs: &FaultyVfs, dir: &str) -> Vec<PathBuf> {
    let mut files = files_in(vfs, dir);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files
}

#[test]
fn a_damaged_segment_is_told_copied_as_it_is_and_does_not_replace_a_sound_copy() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = filled(&vfs, &clock);
    let [first, second] = &*segments_of(&vfs, DIR) else { panic!("two segments") };
    // A byte of a row group, which opening does not look at.
    vfs.flip_bit(first, 330, 1).unwrap();
    let report = back_up(&vfs).unwrap();
    assert_eq!((report.segments_copied, report.damaged.len()), (2, 1));
    assert!(report.damaged[0].range.is_some() && report.damaged[0].reason.contains("row group"));
    let copy = &segments_of(&vfs, BACKUP)[0];
    assert_eq!(vfs.files()[copy], vfs.files()[first]);
    // Sound again in the store, and gone from it: the backup has what it has.
    vfs.flip_bit(first, 330, 1).unwrap();
    vfs.flip_bit(copy, 330, 1).unwrap();
    vfs.remove(second).unwrap();
    let report = back_up(&vfs).unwrap();
    assert_eq!((report.segments_kept, report.damaged.len()), (2, 0));
    assert_eq!(read(&vfs, BACKUP).unwrap(), after(5));
    // Missing at both: told, and the rest is copied.
    vfs.remove(&segments_of(&vfs, BACKUP)[1]).unwrap();
    let report = back_up(&vfs).unwrap();
    assert_eq!((report.segments_kept, report.damaged.len()), (1, 1));
    assert_eq!(read(&vfs, BACKUP).unwrap().values().next().unwrap().len(), 4);
    drop(store);
}

#[test]
fn a_destination_that_does_not_hold_what_was_written_is_told() {
    for suffix in [".seg.tmp", ".wal.tmp"] {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let _store = filled(&vfs, &clock);
        let files = vfs.clone();
        vfs.before_sync(move || {
            let path = files_in(&files, BACKUP).into_iter();
            for path in path.filter(|path| path.to_string_lossy().ends_with(suffix)) {
                files.flip_bit(&path, 30, 1)?;
            }
            Ok(())
        });
        let error = back_up(&vfs).unwrap_err();
        assert!(error.is_corruption(), "{error:?}");
        assert!(matches!(read(&vfs, BACKUP).unwrap_err(), Error::NotAStore { .. }));
    }
}

#[test]
fn a_full_destination_is_an_error_that_leaves_the_backup_of_before() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = filled(&vfs, &clock);
    back_up(&vfs).unwrap();
    append(&store, 5);
    store.flush().unwrap();
    let used: usize = vfs.files().values().map(Vec::len).sum();
    for room in [0, 100, 300] {
        vfs.set_capacity(Some(used + room));
        assert!(matches!(back_up(&vfs).unwrap_err(), Error::DiskFull { .. }), "{room}");
        assert_eq!(read(&vfs, BACKUP).unwrap(), after(5));
    }
    vfs.set_capacity(None);
    back_up(&vfs).unwrap();
    assert_eq!(read(&vfs, BACKUP).unwrap(), after(6));
}

#[test]
fn a_snapshot_by_links_is_a_store_of_its_own() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| dir.path().join(name));
    let real = || StoreOptions { clock: TestClock::new(), ..StoreOptions::default() };
    let store = Store::open(&data, real()).unwrap();
    (0..5).for_each(|batch| append(&store, batch));
    let report = store.snapshot_to(&copy).unwrap();
    assert_eq!((report.segments_linked, report.segments_copied, report.bytes_copied), (1, 0, 0));
    append(&store, 5);
    let opened = Store::open(&copy, real()).unwrap();
    assert_eq!(contents(&opened.snapshot()), after(5));
    (5..9).for_each(|batch| append(&opened, batch));
    opened.flush().unwrap();
    assert_eq!(contents(&store.snapshot()), after(6));
    let names: Vec<_> = std::fs::read_dir(copy.join("segments/raw")).unwrap().collect();
    let links = names.into_iter().map(|name| name.unwrap().metadata().unwrap().nlink());
    assert_eq!(links.collect::<std::collections::BTreeSet<_>>(), [1, 2].into());
    // A reader's snapshot has the log as well.
    drop(opened);
    let reader = StoreReader::open(&data, ReaderOptions::default()).unwrap();
    let third = dir.path().join("third");
    reader.snapshot_to(&third).unwrap();
    assert_eq!(contents(&Store::open(&third, real()).unwrap().snapshot()), after(6));
}

#[test]
fn where_links_are_refused_or_the_file_is_gone_a_snapshot_is_copied() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    vfs.refuse_links();
    let store = filled(&vfs, &clock);
    let report = store.snapshot_to(NEW).unwrap();
    assert_eq!((report.segments_linked, report.segments_copied), (0, 3));
    assert_eq!(read(&vfs, NEW).unwrap(), after(5));

    // The writer has deleted what a reader still has open.
    let dir = tempfile::tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| dir.path().join(name));
    let real = || StoreOptions { clock: TestClock::new(), ..StoreOptions::default() };
    let store = Store::open(&data, real()).unwrap();
    (0..5).for_each(|batch| append(&store, batch));
    store.flush().unwrap();
    let reader = StoreReader::open(&data, ReaderOptions::default()).unwrap();
    for name in std::fs::read_dir(data.join("segments/raw")).unwrap() {
        RealVfs.remove(&name.unwrap().path()).unwrap();
    }
    let report = reader.snapshot_to(&copy).unwrap();
    assert_eq!((report.segments_linked, report.segments_copied), (0, 1));
    assert_eq!(contents(&Store::open(&copy, real()).unwrap().snapshot()), after(5));
}

#[test]
fn copies_made_while_a_store_is_written_are_beginnings_of_it() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    append(&store, 0);
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 1.. {
                append(&store, batch);
                if batch % 7 == 0 {
                    store.flush().unwrap();
                }
                if is_done.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let mut backed_up = 0;
        for copy in 0..8 {
            back_up(&vfs).unwrap();
            let batches = batches_of(&read(&vfs, BACKUP).unwrap());
            assert!(batches >= backed_up);
            backed_up = batches;
            let dir = format!("/copies/{copy}");
            store.snapshot_to(&dir).unwrap();
            assert!(batches_of(&read(&vfs, &dir).unwrap()) >= backed_up);
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn the_tiers_of_a_store_are_read_copied_and_checked_with_it() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let tiers = vec![TierOptions {
        resolution: Duration::from_secs(300),
        retention: Retention::Forever,
        retention_bytes: None,
    }];
    let with_tiers = || StoreOptions { tiers: tiers.clone(), ..options(&vfs, &clock) };
    let store = Store::open(DIR, with_tiers()).unwrap();
    for minute in 0..3 * 24 * 60 {
        clock.step(MINUTE);
        let _ = store.append_rows(at(clock.millis()), &[row("a", [("m", minute)])], Ack::Buffered);
    }
    store.flush().unwrap();
    while !store.roll_up().unwrap().is_idle() {}
    let built = store.stats().tiers;
    assert!(built[0].segments > 0 && built[0].samples > 0, "{built:?}");

    let tiers_in = |dir: &str| {
        let reader = StoreReader::open(dir, ReaderOptions { vfs: shared(&vfs) }).unwrap();
        reader.stats().tiers
    };
    assert_eq!(tiers_in(DIR), built);
    back_up(&vfs).unwrap();
    restore(&shared(&vfs), BACKUP, NEW, &mut |_| {}).unwrap();
    let restored = Store::open(NEW, with_tiers()).unwrap();
    assert_eq!(restored.stats().tiers, built);
    assert_eq!(contents(&restored.snapshot()), contents(&store.snapshot()));
    assert!(store.snapshot_to("/snap").unwrap().segments_linked > built[0].segments);
    let segments = store.stats().segments + built[0].segments;
    for dir in [DIR, BACKUP, "/snap"] {
        let report = check(&shared(&vfs), dir, &mut |_| {}).unwrap();
        assert_eq!((report.segments, report.findings), (segments, Vec::new()), "{dir}");
    }
    // What a tier has lost is to be built again, and until then not answered from it.
    let is_of_tier = |path: &&PathBuf| !path.starts_with(Path::new(BACKUP).join("segments/raw"));
    let lost = segments_of(&vfs, BACKUP).iter().find(is_of_tier).cloned().unwrap();
    ruin(&vfs, &lost);
    assert!(tiers_in(BACKUP)[0].stale_ranges > built[0].stale_ranges);
    let report = check(&shared(&vfs), BACKUP, &mut |_| {}).unwrap();
    assert_eq!(report.worst(), Some(Severity::Damage));
    let report = restore(&shared(&vfs), BACKUP, "/again", &mut |_| {}).unwrap();
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(tiers_in("/again")[0].stale_ranges, tiers_in(BACKUP)[0].stale_ranges);
}

#[test]
fn what_cannot_be_made_or_read_is_an_error() {
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let dir = tempfile::tempdir().unwrap();
    let nothing = dir.path().join("nothing");
    let error = backup(&vfs, &nothing, dir.path().join("saved"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
    assert!(!dir.path().join("saved").exists(), "nothing is made for nothing");
    let data = dir.path().join("data");
    let store = Store::open(&data, StoreOptions::default()).unwrap();
    let error = backup(&vfs, &data, "/proc/heapster", &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let error = store.snapshot_to(&file).unwrap_err();
    let kind = match error {
        Error::Io { source, .. } => source.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind, io::ErrorKind::NotADirectory);
}

#[test]
fn a_power_cut_does_not_bring_batches_of_an_earlier_backup_back_into_a_finished_one() {
    let (faulty, clock) = (FaultyVfs::new(), TestClock::new());
    let vfs: Arc<dyn Vfs> = Arc::new(faulty.clone());
    let store = open(&faulty, &clock);
    // Backed up before it is on the disk of the store.
    let _ = store.append_rows(at(NOON), [&row("lost", [("m", 1)])], Ack::Buffered).unwrap();
    backup(&vfs, DIR, "/backup", &mut |_| {}).unwrap();
    drop(store);
    faulty.cut_power(PowerCut::DropUnsynced);
    let store = open(&faulty, &clock);
    let _ = store.append_rows(at(NOON), [&row("kept", [("m", 2)])], Ack::Durable).unwrap();
    backup(&vfs, DIR, "/backup", &mut |_| {}).unwrap();
    drop(store);
    faulty.cut_power(PowerCut::DropUnsynced);
    let options = ReaderOptions { vfs };
    let found = contents(&StoreReader::open("/backup", options).unwrap().snapshot());
    let sets: Vec<_> = found.keys().map(|(set, _)| set.clone()).collect();
    assert!(sets.len() == 1 && sets[0].contains("kept"), "{sets:?}");
}
