//! A second process reads a store that another one writes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use heapster_core::storage::Snapshot;
use heapster_core::{Matcher, TimeRange};
use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::vfs::{DirEntry, Mapping, Vfs, VfsFile};
use heapster_store::{Ack, Error, ReaderOptions, Result, Store, StoreOptions, StoreReader};

use crate::support::*;

fn reader_of(vfs: &FaultyVfs) -> Result<StoreReader> {
    StoreReader::open(DIR, ReaderOptions { vfs: Arc::new(vfs.clone()) })
}

/// Appends batch number `batch`: two pods that always have the same number of samples.
fn append(store: &Store, batch: i64) {
    let rows = ["a", "b"].map(|pod| row(pod, [("m", batch), ("n", batch * 7)]));
    let _ = store.append_rows(at(NOON + batch * 1_000), &rows, Ack::Buffered).unwrap();
}

/// A pod whose samples are deleted again.
const DELETED: &str = "gone";

/// How many batches a snapshot shows, all of them whole and in order from the first one.
fn whole_batches(snapshot: &dyn Snapshot) -> i64 {
    let mut found = contents(snapshot);
    found.retain(|(labels, _), _| !labels.contains(DELETED));
    let len = found.values().map(BTreeMap::len).max().unwrap_or(0);
    assert_eq!(found.len(), if len == 0 { 0 } else { 4 });
    for ((_, column), samples) in &found {
        assert_eq!(samples.len(), len, "a batch is not whole");
        for (batch, (millis, value)) in samples.iter().enumerate() {
            let batch = batch as i64;
            let expected = if column == "m" { batch } else { batch * 7 };
            assert_eq!((*millis, *value), (NOON + batch * 1_000, Bits::Int(expected)));
        }
    }
    len as i64
}

/// What a reader's calls pass through: before each of them something may happen.
#[derive(Clone, Debug)]
struct Watched {
    inner: FaultyVfs,
    calls: Arc<AtomicUsize>,
    before: Arc<Mutex<Before>>,
}

#[derive(Default)]
struct Before(Option<Box<dyn FnMut(usize) + Send>>);

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Before")
    }
}

#[derive(Debug)]
struct WatchedFile(Box<dyn VfsFile>, Watched);

impl Watched {
    fn new(inner: &FaultyVfs) -> Self {
        Self { inner: inner.clone(), calls: Arc::default(), before: Arc::default() }
    }

    fn call(&self) -> &FaultyVfs {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(before) = &mut self.before.lock().unwrap().0 {
            before(number);
        }
        &self.inner
    }
}

const NOT_FOR_READERS: &str = "a reader changes nothing";

impl Vfs for Watched {
    fn create_new(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        panic!("{NOT_FOR_READERS}")
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(WatchedFile(self.call().open(path)?, self.clone())))
    }
    fn open_for_write(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        panic!("{NOT_FOR_READERS}")
    }
    fn map(&self, path: &Path) -> io::Result<Box<dyn Mapping>> {
        self.call().map(path)
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.call().list(path)
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn std::fmt::Debug + Send + Sync>> {
        panic!("{NOT_FOR_READERS}")
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.call().free_bytes(path)
    }
}

impl VfsFile for WatchedFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.call();
        self.0.read_at(into, offset)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        panic!("{NOT_FOR_READERS}")
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
    fn size(&self) -> io::Result<u64> {
        self.1.call();
        self.0.size()
    }
    fn sync(&self) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
    fn drop_cache(&self) -> io::Result<()> {
        panic!("{NOT_FOR_READERS}")
    }
}

#[test]
fn a_reader_shows_the_store_as_of_its_last_refresh_and_changes_nothing() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    (0..3).for_each(|batch| append(&store, batch));
    store.flush().unwrap();
    (3..5).for_each(|batch| append(&store, batch));
    let watched = Watched::new(&vfs);
    let reader = StoreReader::open(DIR, ReaderOptions { vfs: Arc::new(watched) }).unwrap();
    let first = reader.snapshot();
    assert_eq!(whole_batches(&first), 5);
    assert_eq!(contents(&first), contents(&store.snapshot()));
    assert!(!reader.refresh().unwrap().has_news());

    append(&store, 5);
    assert_eq!(whole_batches(&reader.snapshot()), 5, "nothing moves without a refresh");
    let report = reader.refresh().unwrap();
    assert_eq!((report.batches, report.samples, report.segments_added), (1, 4, 0));
    let second = reader.snapshot();
    store.flush().unwrap();
    let report = reader.refresh().unwrap();
    assert_eq!((report.batches, report.segments_added, report.segments_removed), (0, 1, 0));
    assert_eq!(reader.stats().segments, 2);
    assert_eq!([&first, &second, &reader.snapshot()].map(|s| whole_batches(s)), [5, 6, 6]);

    drop(store);
    vfs.restart();
    let changes = vfs.changes();
    assert_eq!(whole_batches(&reader_of(&vfs).unwrap().snapshot()), 6, "no writer is needed");
    assert_eq!(vfs.changes(), changes);
}

#[test]
fn whatever_the_writer_does_between_two_calls_of_a_reader_no_batch_is_lost_or_doubled() {
    // At each call of a refresh: appends on both sides of a flush, which deletes the log that the
    // reader may be about to open, or of one that comes no further than beginning the next log, or
    // of merges that delete all segments there were.
    let doings = ["flush", "flush that fails", "merge"];
    for (is_first, doing) in
        [true, false].into_iter().flat_map(|is| doings.map(|doing| (is, doing)))
    {
        let mut at_call = 0;
        loop {
            let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
            let store = Arc::new(open(&vfs, &clock));
            let acknowledged = Arc::new(AtomicI64::new(0));
            let grow = {
                let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
                move |batches| {
                    for _ in 0..batches {
                        append(&store, acknowledged.load(Ordering::SeqCst));
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                }
            };
            for _ in 0..2 {
                grow(2);
                store.flush().unwrap();
            }
            grow(2);
            let watched = Watched::new(&vfs);
            let options = ReaderOptions { vfs: Arc::new(watched.clone()) };
            let reader = (!is_first).then(|| StoreReader::open(DIR, options.clone()).unwrap());
            grow(2);
            let start = watched.calls.load(Ordering::SeqCst);
            let before = acknowledged.load(Ordering::SeqCst);
            let has_happened = Arc::new(AtomicUsize::new(0));
            {
                let (store, grow) = (Arc::clone(&store), grow.clone());
                let (vfs, has_happened) = (vfs.clone(), Arc::clone(&has_happened));
                watched.before.lock().unwrap().0 = Some(Box::new(move |number| {
                    if number == start + at_call {
                        has_happened.store(1, Ordering::SeqCst);
                        grow(1);
                        match doing {
                            "flush" => drop(store.flush().unwrap()),
                            "merge" => drop(store.compact_all().unwrap()),
                            _ => {
                                vfs.refuse_names_ending_with(Some(".seg.tmp"));
                                store.flush().unwrap_err();
                            }
                        }
                        grow(1);
                    }
                }));
            }
            let reader = match reader {
                Some(reader) => reader.refresh().map(|_| reader).unwrap(),
                None => StoreReader::open(DIR, options).unwrap(),
            };
            watched.before.lock().unwrap().0 = None;
            let shown = whole_batches(&reader.snapshot());
            let after = acknowledged.load(Ordering::SeqCst);
            assert!((before..=after).contains(&shown), "call {at_call}: {before} {shown} {after}");
            reader.refresh().unwrap();
            assert_eq!(whole_batches(&reader.snapshot()), after, "call {at_call}");
            if has_happened.load(Ordering::SeqCst) == 0 {
                assert!(at_call > 8, "the refresh makes calls");
                break;
            }
            at_call += 1;
        }
    }
}

#[test]
fn a_batch_of_the_next_log_is_never_shown_without_the_last_one_of_the_log_before() {
    // The refresh begins when the next log is there and the one before still takes a batch. It is
    // held at each of its calls until the next log has batches.
    let mut at_call = 0;
    loop {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = Arc::new(open(&vfs, &clock));
        (0..2).for_each(|batch| append(&store, batch));
        let watched = Watched::new(&vfs);
        let reader = StoreReader::open(DIR, ReaderOptions { vfs: Arc::new(watched.clone()) });
        let reader = Arc::new(reader.unwrap());
        let start = watched.calls.load(Ordering::SeqCst);
        let ((say_held, held), (let_go, go)) = (channel(), channel::<()>());
        let say_done = say_held.clone();
        watched.before.lock().unwrap().0 = Some(Box::new(move |number| {
            if number == start + at_call {
                say_held.send(true).unwrap();
                go.recv().unwrap();
            }
        }));
        let reading = Arc::new(Mutex::new(None));
        let was_held = Arc::new(AtomicUsize::new(0));
        {
            let (store, reader) = (Arc::downgrade(&store), Arc::clone(&reader));
            let (reading, was_held) = (Arc::clone(&reading), Arc::clone(&was_held));
            let held = Mutex::new(held);
            let files = vfs.clone();
            vfs.before_sync(move || {
                let mut reading = reading.lock().unwrap();
                let is_log = |path: &PathBuf| path.extension().is_some_and(|e| e == "wal");
                if reading.is_none() && files.files().into_keys().filter(is_log).count() == 2 {
                    let (reader, say_done) = (Arc::clone(&reader), say_done.clone());
                    *reading = Some(std::thread::spawn(move || {
                        reader.refresh().unwrap();
                        let _ = say_done.send(false);
                    }));
                    let is_held = held.lock().unwrap().recv().unwrap();
                    was_held.store(usize::from(is_held), Ordering::SeqCst);
                    append(&store.upgrade().unwrap(), 2);
                }
                Ok(())
            });
        }
        vfs.refuse_names_ending_with(Some(".seg.tmp"));
        store.flush().unwrap_err();
        (3..5).for_each(|batch| append(&store, batch));
        let _ = let_go.send(());
        let reading = reading.lock().unwrap().take();
        reading.unwrap().join().unwrap();
        assert!((2..=5).contains(&whole_batches(&reader.snapshot())), "call {at_call}");
        reader.refresh().unwrap();
        assert_eq!(whole_batches(&reader.snapshot()), 5);
        if was_held.load(Ordering::SeqCst) == 0 {
            assert!(at_call > 8, "the refresh makes calls");
            break;
        }
        at_call += 1;
    }
}

#[test]
fn a_reader_that_looks_at_every_sync_of_the_writer_sees_every_state_whole() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    append(&store, 0);
    let reader = reader_of(&vfs).unwrap();
    let (shown, looks) = (Arc::new(AtomicI64::new(1)), Arc::new(AtomicUsize::new(0)));
    {
        let (shown, looks) = (Arc::clone(&shown), Arc::clone(&looks));
        vfs.before_sync(move || {
            reader.refresh().unwrap();
            let batches = whole_batches(&reader.snapshot());
            assert!(batches >= shown.swap(batches, Ordering::SeqCst));
            looks.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
    }
    for batch in 1..40 {
        append(&store, batch);
        assert!(shown.load(Ordering::SeqCst) <= batch + 1);
        match batch % 4 {
            0 => drop(store.flush().unwrap()),
            2 => drop(store.maintain().unwrap()),
            _ => {}
        }
    }
    assert!(looks.load(Ordering::SeqCst) > 50);
}

#[test]
fn a_writer_that_crashed_and_began_again_is_followed_past_what_it_left_half_written() {
    for cut in [None, Some(PowerCut::DropUnsynced), Some(PowerCut::Torn(7))] {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = open(&vfs, &clock);
        (0..3).for_each(|batch| append(&store, batch));
        store.sync().unwrap();
        // The next record reaches the disk by half.
        vfs.crash_at(vfs.changes());
        let rows = [row("a", [("m", 3), ("n", 21)]), row("b", [("m", 3), ("n", 21)])];
        store.append_rows(at(NOON + 3_000), &rows, Ack::Buffered).unwrap_err();
        drop(store);
        match cut {
            Some(cut) => vfs.cut_power(cut),
            None => vfs.restart(),
        }
        let reader = reader_of(&vfs).unwrap();
        assert_eq!(whole_batches(&reader.snapshot()), 3);
        assert!(reader.open_report().is_complete());
        let store = open(&vfs, &clock);
        (3..6).for_each(|batch| append(&store, batch));
        reader.refresh().unwrap();
        assert_eq!(whole_batches(&reader.snapshot()), 6);
        store.flush().unwrap();
        reader.refresh().unwrap();
        assert_eq!(whole_batches(&reader.snapshot()), 6);
    }
}

#[test]
fn a_record_that_the_writer_took_back_is_not_shown() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    append(&store, 0);
    let reader = reader_of(&vfs).unwrap();
    let used: usize = vfs.files().values().map(Vec::len).sum();
    vfs.set_capacity(Some(used + 20));
    let rows = ["a", "b"].map(|pod| row(pod, [("m", 1), ("n", 7)]));
    let refused = store.append_rows(at(NOON + 1_000), &rows, Ack::Buffered).unwrap_err();
    assert!(matches!(refused, Error::DiskFull { .. }));
    reader.refresh().unwrap();
    assert_eq!(whole_batches(&reader.snapshot()), 1);
    vfs.set_capacity(None);
    append(&store, 1);
    reader.refresh().unwrap();
    assert_eq!(whole_batches(&reader.snapshot()), 2);
}

fn segments_of(vfs: &FaultyVfs) -> Vec<PathBuf> {
    vfs.files().into_keys().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect()
}

#[test]
fn a_damaged_missing_or_unreadable_segment_is_told_and_the_rest_is_served() {
    for case in ["damaged", "missing", "unreadable"] {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = open(&vfs, &clock);
        for hour in 0..2 {
            let _ = store.append_rows(at(NOON + hour), &[row("a", [("m", hour)])], Ack::Buffered);
            store.flush().unwrap();
        }
        let first = segments_of(&vfs).remove(0);
        match case {
            "damaged" => ruin(&vfs, &first),
            "missing" => vfs.remove(&first).unwrap(),
            _ => vfs.refuse_reads_of(Some(&first)),
        }
        let before = vfs.files();
        let reader = reader_of(&vfs).unwrap();
        assert_eq!(contents(&reader.snapshot()).values().next().unwrap().len(), 1, "{case}");
        let report = reader.open_report();
        assert_eq!(report.unavailable.len(), 1, "{case}");
        assert_eq!(report.unavailable[0].range.unwrap().start, at(NOON));
        assert_eq!(vfs.files(), before);
        // What the system gives back later is served from then on.
        vfs.refuse_reads_of(None);
        let report = reader.refresh().unwrap();
        assert_eq!(report.segments_added, usize::from(case == "unreadable"), "{case}");
    }
}

#[test]
fn damage_in_a_log_is_counted_and_costs_a_reader_what_it_costs_a_restart() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    (0..5).for_each(|batch| append(&store, batch));
    store.sync().unwrap();
    let log = vfs.files().into_keys().find(|path| path.extension().is_some_and(|e| e == "wal"));
    let (log, before) = (log.unwrap(), reader_of(&vfs).unwrap());
    assert_eq!(before.open_report().replayed_batches, 5);
    drop(store);
    let len = vfs.files()[&log].len();
    vfs.flip_bit(&log, len - 40, 3).unwrap();
    vfs.restart();
    let reader = reader_of(&vfs).unwrap();
    let (found, report) = (contents(&reader.snapshot()), reader.open_report());
    assert!(report.damaged_bytes > 0 && !report.is_complete());
    let store = open(&vfs, &clock);
    assert_eq!(found, contents(&store.snapshot()));
    assert_eq!(report.damaged_bytes, store.open_report().damaged_bytes);
    assert_eq!(report.lost_rows, store.open_report().lost_rows);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_as_it_is() {
    let vfs = FaultyVfs::new();
    assert!(matches!(reader_of(&vfs).unwrap_err(), Error::NotAStore { .. }));
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    drop(open(&vfs, &clock));
    for name in ["MANIFEST", "MANIFEST.copy"] {
        vfs.flip_bit(&Path::new(DIR).join(name), 30, 0).unwrap();
    }
    assert!(reader_of(&vfs).unwrap_err().is_corruption());
}

#[test]
fn a_store_that_was_put_in_the_place_of_another_is_shown_instead() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    (0..4).for_each(|batch| append(&store, batch));
    let reader = reader_of(&vfs).unwrap();
    drop(store);
    vfs.restart();
    for path in vfs.files().into_keys() {
        vfs.remove(&path).unwrap();
    }
    let store = open(&vfs, &clock);
    append(&store, 0);
    let reader = match reader.refresh() {
        // The old files cannot be read any more in this life of the machine.
        Err(_) => reader_of(&vfs).unwrap(),
        Ok(_) => reader,
    };
    assert_eq!(whole_batches(&reader.snapshot()), 1);
}

// Real processes on real files. The test starts its own binary again.

const DIR_VARIABLE: &str = "HEAPSTER_STORE_TEST_READ_DIR";

fn real_options() -> StoreOptions {
    StoreOptions { clock: TestClock::new(), future_max: None, ..StoreOptions::default() }
}

fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("reader::{test}"), "--nocapture"]);
    command.env(DIR_VARIABLE, dir).stdout(Stdio::piped());
    command
}

/// Not a test of its own: the process that writes until it is killed.
#[test]
fn child_that_appends_flushes_and_maintains() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let store = Store::open(dir, real_options()).unwrap();
    let first = whole_batches(&store.snapshot());
    println!("\nacknowledged {first}");
    for batch in first..first + 100_000 {
        append(&store, batch);
        println!("acknowledged {}", batch + 1);
        match batch % 23 {
            3 => {
                let gone = row(DELETED, [("m", batch)]);
                let _ = store.append_rows(at(NOON + batch), &[gone], Ack::Buffered).unwrap();
            }
            5 => {
                let matchers = [Matcher::equal("pod_name", DELETED)];
                store.delete(&matchers, TimeRange::ALL).unwrap();
            }
            7 => drop(store.flush().unwrap()),
            15 => drop(store.maintain().unwrap()),
            21 => drop(store.compact_all().unwrap()),
            _ => {}
        }
    }
}

struct Writer {
    process: Child,
    acknowledged: Arc<AtomicI64>,
}

impl Writer {
    fn start(dir: &Path) -> Self {
        let mut process = child("child_that_appends_flushes_and_maintains", dir).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let acknowledged = Arc::new(AtomicI64::new(-1));
        let told = Arc::clone(&acknowledged);
        std::thread::spawn(move || {
            for line in lines.map_while(io::Result::ok) {
                if let Some((_, batches)) = line.split_once("acknowledged ") {
                    told.store(batches.trim().parse().unwrap(), Ordering::SeqCst);
                }
            }
        });
        let writer = Self { process, acknowledged };
        while writer.acknowledged() < 0 {
            std::thread::yield_now();
        }
        writer
    }

    fn acknowledged(&self) -> i64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_reader_beside_a_writer_that_is_killed_and_restarted_shows_every_batch_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut writer = Writer::start(&path);
    let reader = StoreReader::open(&path, ReaderOptions::default()).unwrap();
    let (mut shown, mut looks) = (0, 0);
    for round in 1..=3 {
        let until = shown + 70 + round * 17;
        while shown < until {
            let at_least = writer.acknowledged();
            reader.refresh().unwrap();
            let batches = whole_batches(&reader.snapshot());
            assert!(batches >= at_least && batches >= shown, "{batches}, {at_least}, {shown}");
            shown = batches;
            looks += 1;
        }
        writer.kill();
        reader.refresh().unwrap();
        let left = whole_batches(&reader.snapshot());
        assert!(left >= shown);
        shown = left;
        writer = Writer::start(&path);
        assert_eq!(
            reader.refresh().map(|_| whole_batches(&reader.snapshot()) >= left).ok(),
            Some(true)
        );
    }
    writer.kill();
    assert!(looks > 20, "{looks}");
    assert!(reader.open_report().is_complete(), "{:?}", reader.open_report());
    reader.refresh().unwrap();
    let store = Store::open(&path, real_options()).unwrap();
    assert_eq!(contents(&reader.snapshot()), contents(&store.snapshot()));
}

fn open_files_and_maps() -> (usize, usize) {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (files, maps.lines().filter(|line| line.contains(".seg")).count())
}

/// Not a test of its own: a process in which nothing else opens files.
#[test]
fn child_that_refreshes_a_thousand_times() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let store = Store::open(&dir, real_options()).unwrap();
    append(&store, 0);
    store.flush().unwrap();
    let reader = StoreReader::open(&dir, ReaderOptions::default()).unwrap();
    append(&store, 1);
    reader.refresh().unwrap();
    let before = open_files_and_maps();
    let mut segments = 1;
    for batch in 2..1_002 {
        append(&store, batch);
        if batch % 25 == 0 {
            store.flush().unwrap();
            segments += 1;
        }
        assert!(reader.refresh().unwrap().has_news());
    }
    assert_eq!(whole_batches(&reader.snapshot()), 1_002);
    // One map in the store and one in the reader for each segment.
    let after = open_files_and_maps();
    assert_eq!(after, (before.0, before.1 + 2 * (segments - 1)));
    let reader = Arc::new(reader);
    for _ in 0..1_000 {
        assert!(!reader.refresh().unwrap().has_news());
        StoreReader::open(&dir, ReaderOptions::default()).unwrap();
    }
    assert_eq!(open_files_and_maps(), after);
    println!("\nall is closed again");
}

#[test]
fn a_thousand_refreshes_leak_no_descriptor_and_no_map() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let output = child("child_that_refreshes_a_thousand_times", &path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("all is closed again"), "{text}");
}

/// Not a test of its own: a process of another user.
#[test]
fn child_that_reads_what_it_may_not_write() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let refused = std::fs::write(Path::new(&dir).join("LOCK"), "").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    let reader = StoreReader::open(dir, ReaderOptions::default()).unwrap();
    assert_eq!(whole_batches(&reader.snapshot()), 5);
    println!("\nread by another user");
}

#[test]
fn a_user_who_may_only_read_can_read() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    if std::fs::metadata(dir.path()).unwrap().uid() != 0 {
        // Only root can become somebody else.
        return;
    }
    let path = dir.path().join("store");
    let store = Store::open(&path, real_options()).unwrap();
    for batch in 0..5 {
        append(&store, batch);
        if batch == 2 {
            store.flush().unwrap();
        }
    }
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut all = vec![dir.path().to_owned()];
    while let Some(path) = all.pop() {
        let is_dir = path.is_dir();
        allow(&path, if is_dir { 0o755 } else { 0o444 });
        if is_dir {
            all.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    // The test's own binary may lie where the other user has no access.
    let binary = dir.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    allow(&binary, 0o755);
    let mut command = Command::new(binary);
    command.args(["--exact", "reader::child_that_reads_what_it_may_not_write", "--nocapture"]);
    let output = command.env(DIR_VARIABLE, &path).uid(NOBODY).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("read by another user"), "{text}");
}
