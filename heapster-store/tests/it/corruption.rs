//! Whatever happens to one file of a store, it opens, and what it answers is what was stored, or it
//! says what it lacks.
//!
//! The sweep changes each byte of each file in turn. `make test` does it with a small store and a
//! stride; all bytes of a store of a megabyte take hours, a part of them minutes. `make sweep
//! STRIDE=499 FROM=0` changes every 499th, and another `FROM` others.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heapster_core::storage::{
    Aggregates, Bucket, BucketSelector, Columns, Damage, Samples, Selector, Snapshot, collect,
    collect_buckets,
};
use heapster_core::{Matcher, TimeRange, Timestamp, Value};
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{
    Ack, Clock, OpenReport, ReaderOptions, Retention, Stats, Store, StoreOptions, StoreReader,
    StoreSnapshot, SystemClock, TierOptions,
};

use crate::support::*;

type Files = BTreeMap<PathBuf, Vec<u8>>;
/// A set and a column.
type Key = (String, String);

/// Length of the buckets of the tier.
const BUCKET: i64 = 2 * HOUR;

/// A store of all kinds of files, and what it answers.
struct Subject {
    files: Files,
    /// The same store some hours before.
    earlier: Files,
    clock: Arc<TestClock>,
    /// Rows from here on are in the log.
    log_from: i64,
    expected: Answers,
    /// Of the answers, without buckets and with them.
    digests: [BTreeMap<Key, u64>; 2],
}

/// How a store is looked at.
#[derive(Clone, Copy)]
struct Look {
    /// By another process.
    by_reader: bool,
    /// Also at buckets.
    at_buckets: bool,
}

impl Look {
    const WHOLE: Self = Self { by_reader: false, at_buckets: true };
}

/// A store that was opened, by itself or by another process.
enum Opened {
    Store(Box<Store>),
    Reader(Box<StoreReader>),
}

/// Everything that a store answers.
#[derive(Debug, PartialEq)]
struct Answers {
    samples: BTreeMap<Key, Vec<(i64, Bits)>>,
    newest: BTreeMap<Key, (i64, Bits)>,
    buckets: BTreeMap<Key, Vec<Bucket>>,
}

/// What a store says of its damage.
#[derive(Debug)]
struct Told {
    opened: OpenReport,
    stats: Stats,
    lacking: Vec<Damage>,
}

fn options_of(vfs: &FaultyVfs, clock: &Arc<TestClock>) -> StoreOptions {
    let tier = TierOptions {
        resolution: Duration::from_millis(BUCKET as u64),
        retention: Retention::Forever,
        retention_bytes: None,
    };
    let cold_after = Some(Duration::from_secs(86_400));
    StoreOptions { tiers: vec![tier], cold_after, ..options(vfs, clock) }
}

/// Numbers that do not compress, the same each time.
fn noise(seed: u64) -> f64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from_bits((mixed >> 12) | 0x3ff0_0000_0000_0000)
}

fn append(store: &Store, clock: &TestClock, sets: i64) {
    let now = clock.millis();
    let rows: Vec<_> = (0..sets)
        .map(|set| {
            let step = now / MINUTE;
            let mut cells = vec![("noise", Value::Float(noise((step * 1_000 + set) as u64)))];
            if set % 10 == 0 {
                cells.push(("counter", Value::Int(step * 7 + set)));
                if step % 36 > 0 {
                    cells.push(("sparse", Value::Int(set)));
                }
            }
            row(&format!("pod-{set:03}"), cells)
        })
        .collect();
    let report = store.append_rows(at(now), &rows, Ack::Buffered).unwrap();
    assert_eq!(report.rejected.total(), 0);
}

impl Subject {
    /// Two days: the first is merged, encoded for size and in the tier; of the second there are
    /// several segments, a deletion, and the last rows are in the log.
    fn new(sets: i64, interval: i64) -> Self {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = Store::open(DIR, options_of(&vfs, &clock)).unwrap();
        let run = |until: i64| {
            while clock.millis() < until {
                append(&store, &clock, sets);
                clock.step(interval);
            }
        };
        let midnight = NOON + 12 * HOUR;
        for until in [midnight, midnight + 12 * HOUR, midnight + DAY] {
            run(until);
            store.flush().unwrap();
        }
        run(midnight + DAY + 6 * HOUR);
        store.flush().unwrap();
        while !store.roll_up().unwrap().is_idle() {}
        clock.step(DAY);
        while !store.compact().unwrap().is_idle() {}
        store.sync().unwrap();
        let earlier = vfs.files();
        for _ in 0..3 {
            run(clock.millis() + 2 * HOUR);
            store.flush().unwrap();
        }
        let deleted = TimeRange::new(at(clock.millis() - 3 * HOUR), at(clock.millis() - 2 * HOUR));
        store.delete(&[Matcher::equal("pod_name", "pod-001")], deleted).unwrap();
        let log_from = clock.millis();
        for _ in 0..4 {
            append(&store, &clock, sets);
            clock.step(interval);
            store.sync().unwrap();
        }
        drop(store);
        let files = vfs.files();
        let opened = Opened::new(&FaultyVfs::with_files(&files), &clock, false);
        let snapshot = opened.snapshot();
        let digests = [false, true].map(|has_buckets| digests_of(&snapshot, has_buckets));
        let answers = Answers::of(&snapshot, &digests[1].keys().cloned().collect());
        let told = opened.told(&snapshot);
        assert!(told.opened.is_complete() && told.lacking.is_empty(), "{told:?}");
        assert!(told.stats.tiers[0].segments > 0 && told.stats.segments > 3, "{:?}", told.stats);
        assert!(told.stats.tombstones > 0 && told.opened.replayed_batches >= 4, "{told:?}");
        Self { files, earlier, clock, log_from, expected: answers, digests }
    }

    fn bytes(&self) -> usize {
        paths_of(&self.files).iter().map(|path| self.files[path].len()).sum()
    }

    /// Whether a store with these files answers the same; if not, everything that differs must have
    /// been told.
    fn is_same(&self, vfs: &FaultyVfs, look: Look, is_log_shorter: bool) -> bool {
        let opened = Opened::new(vfs, &self.clock, look.by_reader);
        let snapshot = opened.snapshot();
        let digests = digests_of(&snapshot, look.at_buckets);
        let expected = &self.digests[usize::from(look.at_buckets)];
        let keys = digests.keys().chain(expected.keys());
        let is_other = |key: &&Key| digests.get(*key) != expected.get(*key);
        let others: BTreeSet<Key> = keys.filter(is_other).cloned().collect();
        if others.is_empty() {
            return true;
        }
        let answers = Answers::of(&snapshot, &others);
        let told = opened.told(&snapshot);
        assert_eq!(told.lacking.is_empty(), told.stats.quarantined_row_groups == 0, "{told:?}");
        let lacking: Vec<(Option<String>, TimeRange)> = told
            .lacking
            .iter()
            .map(|damage| (damage.labels.as_ref().map(ToString::to_string), damage.range))
            .collect();
        let is_covered = |key: &Key, first: i64, last: i64| {
            let touches = |range: &TimeRange| {
                range.start.as_millis() <= last && first <= range.end.as_millis()
            };
            let opened = &told.opened;
            let files = opened.quarantined.iter().chain(&opened.unavailable);
            let is_log_told =
                opened.damaged_bytes + opened.lost_rows + opened.torn_bytes > 0 || is_log_shorter;
            files.map(|file| file.range).any(|range| range.is_none_or(|range| touches(&range)))
                || is_log_told && last >= self.log_from
                || lacking.iter().any(|(labels, range)| {
                    labels.as_ref().is_none_or(|labels| *labels == key.0) && touches(range)
                })
        };
        let told = || format!("{:?} {:?}", told.opened, told.lacking);
        diff(&others, &self.expected.samples, &answers.samples, |key, (time, _)| {
            assert!(is_covered(key, *time, *time), "{key:?} at {time}: {}", told());
        });
        diff(&others, &self.expected.buckets, &answers.buckets, |key, bucket| {
            let start = bucket.start.as_millis();
            assert!(is_covered(key, start, start + BUCKET - 1), "{key:?} {bucket:?}: {}", told());
        });
        let newest = self.expected.newest.iter();
        for (key, newest) in newest.filter(|(key, _)| others.contains(*key)) {
            let found = answers.newest.get(key);
            let is_right = found == Some(newest) || is_covered(key, newest.0, newest.0);
            assert!(is_right, "{key:?} {found:?} instead of {newest:?}: {}", told());
        }
        false
    }
}

impl Opened {
    fn new(vfs: &FaultyVfs, clock: &Arc<TestClock>, by_reader: bool) -> Self {
        if by_reader {
            let options = ReaderOptions { vfs: Arc::new(vfs.clone()) };
            return Self::Reader(Box::new(StoreReader::open(DIR, options).unwrap()));
        }
        Self::Store(Box::new(Store::open(DIR, options_of(vfs, clock)).unwrap()))
    }

    fn snapshot(&self) -> StoreSnapshot {
        match self {
            Self::Store(store) => store.snapshot(),
            Self::Reader(reader) => reader.snapshot(),
        }
    }

    /// What it says of damage by now.
    fn told(&self, snapshot: &StoreSnapshot) -> Told {
        let lacking = snapshot.damage();
        match self {
            Self::Store(store) => {
                Told { opened: store.open_report().clone(), stats: store.stats(), lacking }
            }
            Self::Reader(reader) => {
                Told { opened: reader.open_report(), stats: reader.stats(), lacking }
            }
        }
    }
}

/// The buckets that are asked for.
fn bucket_selector() -> BucketSelector {
    BucketSelector {
        matchers: Vec::new(),
        columns: Columns::All,
        range: TimeRange::new(at(NOON - DAY), at(NOON + 10 * DAY - 1)),
        bucket: Some(Duration::from_millis(BUCKET as u64)),
        aggregates: Aggregates::MIN | Aggregates::MAX,
    }
}

fn mix(digest: u64, number: u64) -> u64 {
    (digest ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn mix_value(digest: u64, value: Value) -> u64 {
    match value {
        Value::Int(value) => mix(mix(digest, 1), value as u64),
        Value::Float(value) => mix(mix(digest, 2), value.to_bits()),
    }
}

/// For each column a number that is another one when an answer is: to compare many stores with one.
fn digests_of(snapshot: &dyn Snapshot, has_buckets: bool) -> BTreeMap<Key, u64> {
    let (matchers, columns, range) = (Vec::new(), Columns::All, TimeRange::ALL);
    let mut digests = BTreeMap::new();
    let mut samples = Samples::default();
    for set in snapshot.select(&Selector { matchers, columns, range }).unwrap() {
        for (index, column) in set.columns().iter().enumerate() {
            let mut digest = 0;
            if let Some((at, value)) = set.last(index).unwrap() {
                digest = mix_value(mix(digest, at.as_millis() as u64), value);
            }
            let mut cursor = set.read(index);
            while cursor.next_run().unwrap().is_some() {
                cursor.decode(&mut samples).unwrap();
                for (at, value) in samples.iter() {
                    digest = mix_value(mix(digest, at.as_millis() as u64), value);
                }
            }
            digests.insert((set.labels().to_string(), column.name.to_string()), digest);
        }
    }
    let buckets = has_buckets.then(|| snapshot.select_buckets(&bucket_selector()).unwrap().sets);
    for set in buckets.into_iter().flatten() {
        for (index, column) in set.columns().iter().enumerate() {
            let key = (set.labels().to_string(), column.name.to_string());
            let digest = digests.entry(key).or_default();
            for bucket in collect_buckets(&*set, index).unwrap() {
                *digest = mix(mix(*digest, bucket.start.as_millis() as u64), bucket.count);
                for value in [bucket.min, bucket.max].into_iter().flatten() {
                    *digest = mix_value(*digest, value);
                }
            }
        }
    }
    digests
}

/// Calls `each` with what only one of two answers has.
fn diff<T: PartialEq>(
    keys: &BTreeSet<Key>,
    expected: &BTreeMap<Key, Vec<T>>,
    found: &BTreeMap<Key, Vec<T>>,
    each: impl Fn(&Key, &T),
) {
    let none = Vec::new();
    for key in keys {
        let (expected, found) =
            (expected.get(key).unwrap_or(&none), found.get(key).unwrap_or(&none));
        if expected == found {
            continue;
        }
        // Most is the same at the beginning and at the end.
        let same = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
        let (expected, found) = (&expected[same..], &found[same..]);
        let same =
            expected.iter().rev().zip(found.iter().rev()).take_while(|(a, b)| a == b).count();
        let (expected, found) = (&expected[..expected.len() - same], &found[..found.len() - same]);
        expected.iter().filter(|item| !found.contains(item)).for_each(|item| each(key, item));
        found.iter().filter(|item| !expected.contains(item)).for_each(|item| each(key, item));
    }
}

impl Answers {
    /// Of some columns.
    fn of(snapshot: &dyn Snapshot, keys: &BTreeSet<Key>) -> Self {
        let mut answers =
            Self { samples: BTreeMap::new(), newest: BTreeMap::new(), buckets: BTreeMap::new() };
        let (matchers, columns, range) = (Vec::new(), Columns::All, TimeRange::ALL);
        let selector = Selector { matchers, columns, range };
        for set in snapshot.select(&selector).unwrap() {
            for (index, column) in set.columns().iter().enumerate() {
                let key = (set.labels().to_string(), column.name.to_string());
                if !keys.contains(&key) {
                    continue;
                }
                let newest = set.last(index).unwrap();
                let samples = collect(&*set, index).unwrap();
                assert!(samples.is_sorted_by(|(a, _), (b, _)| a < b));
                let bits = |(at, value): (Timestamp, Value)| (at.as_millis(), Bits::from(value));
                answers.newest.extend(newest.map(|newest| (key.clone(), bits(newest))));
                answers.samples.insert(key, samples.into_iter().map(bits).collect());
            }
        }
        for set in snapshot.select_buckets(&bucket_selector()).unwrap().sets {
            for (index, column) in set.columns().iter().enumerate() {
                let key = (set.labels().to_string(), column.name.to_string());
                if !keys.contains(&key) {
                    continue;
                }
                answers.buckets.insert(key, collect_buckets(&*set, index).unwrap());
            }
        }
        answers
    }
}

/// How often what came out.
#[derive(Debug, Default)]
struct Tally {
    same: AtomicUsize,
    told: AtomicUsize,
}

impl Tally {
    fn add(&self, is_same: bool) {
        let counter = if is_same { &self.same } else { &self.told };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Files whose bytes count.
fn paths_of(files: &Files) -> Vec<PathBuf> {
    let counts =
        |path: &&PathBuf| !path.ends_with("LOCK") && !path.to_string_lossy().contains("RESERVE");
    files.keys().filter(counts).cloned().collect()
}

/// Changes every `stride`-th byte of each file from `from` on, one at a time, and compares each time.
fn sweep(subject: &Subject, from: usize, stride: usize) -> Tally {
    let clock = SystemClock::new();
    let begin = clock.monotonic();
    let places: Vec<(PathBuf, usize)> = paths_of(&subject.files)
        .into_iter()
        .flat_map(|path| {
            let len = subject.files[&path].len();
            (from..len).step_by(stride).map(move |offset| (path.clone(), offset))
        })
        .collect();
    let (tally, next) = (Tally::default(), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let whole = FaultyVfs::with_files(&subject.files);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((path, offset)) = places.get(number) else { return };
                    let mask = (offset.wrapping_mul(37) % 255) as u8 + 1;
                    let vfs = whole.fork();
                    vfs.damage(path, |bytes| bytes[*offset] ^= mask).unwrap();
                    // Buckets of raw samples are made of the samples that are read in any case.
                    let is_raw = path.components().any(|part| part.as_os_str() == "raw");
                    let at_buckets = !is_raw || number % 8 == 0;
                    let look = Look { by_reader: number % 16 == 15, at_buckets };
                    let outcome =
                        catch_unwind(AssertUnwindSafe(|| subject.is_same(&vfs, look, false)));
                    match outcome {
                        Ok(is_same) => tally.add(is_same),
                        Err(_) => panic!("byte {offset} ^ {mask:#x} of {}", path.display()),
                    }
                }
            });
        }
    });
    println!(
        "{} bytes in {} files, {} of them changed one at a time: {:?}, {:.0} s",
        subject.bytes(),
        subject.files.len(),
        places.len(),
        tally,
        (clock.monotonic() - begin).as_secs_f64()
    );
    tally
}

#[test]
fn a_changed_byte_changes_no_answer_without_being_told() {
    let subject = Subject::new(2, 12 * MINUTE);
    let tally = sweep(&subject, 0, 11);
    assert!(tally.same.into_inner() > 100 && tally.told.into_inner() > 100);
}

#[test]
#[ignore = "takes hours: all bytes of a store of a megabyte"]
fn no_changed_byte_of_a_megabyte_changes_an_answer_without_being_told() {
    let subject = Subject::new(48, MINUTE);
    assert!((800_000..2_000_000).contains(&subject.bytes()), "{} bytes", subject.bytes());
    let tally = sweep(&subject, part("FROM", 0), part("STRIDE", 1));
    assert!(tally.same.into_inner() > 10 && tally.told.into_inner() > 10);
}

/// `HEAPSTER_SWEEP_FROM` and `HEAPSTER_SWEEP_STRIDE`, for a part of the sweep.
fn part(name: &str, default: usize) -> usize {
    let wanted = std::env::var(format!("HEAPSTER_SWEEP_{name}"));
    wanted.map_or(default, |number| number.parse().unwrap())
}

/// Puts other bytes in the place of a file and compares.
fn with_other_bytes(subject: &Subject, path: &Path, bytes: Vec<u8>, what: &str) -> bool {
    let mut files = subject.files.clone();
    files.insert(path.to_owned(), bytes);
    // A log that ends earlier is what a crash leaves, and cannot be told from it.
    let is_log = path.extension().is_some_and(|extension| extension == "wal");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        subject.is_same(&FaultyVfs::with_files(&files), Look::WHOLE, is_log)
    }));
    outcome.unwrap_or_else(|_| panic!("{}: {what}", path.display()))
}

#[test]
fn a_file_cut_anywhere_changes_no_answer_without_being_told() {
    let subject = Subject::new(2, 12 * MINUTE);
    let tally = Tally::default();
    for path in paths_of(&subject.files) {
        let bytes = &subject.files[&path];
        for len in (0..bytes.len()).step_by(1 + bytes.len() / 40) {
            let cut = bytes[..len].to_vec();
            tally.add(with_other_bytes(&subject, &path, cut, &format!("cut to {len}")));
        }
    }
    assert!(tally.same.into_inner() > 10 && tally.told.into_inner() > 10);
}

#[test]
fn a_lost_sector_changes_no_answer_without_being_told() {
    let subject = Subject::new(2, 12 * MINUTE);
    let tally = Tally::default();
    for path in paths_of(&subject.files) {
        let bytes = &subject.files[&path];
        for len in [512, 4096] {
            for start in (0..bytes.len()).step_by(512) {
                let mut lost = bytes.clone();
                lost[start..bytes.len().min(start + len)].fill(0);
                let what = format!("{len} zeros from {start}");
                tally.add(with_other_bytes(&subject, &path, lost, &what));
            }
        }
    }
    assert!(tally.same.into_inner() > 10 && tally.told.into_inner() > 10);
}

#[test]
fn a_file_in_the_place_of_another_changes_no_answer_without_being_told() {
    let subject = Subject::new(2, 12 * MINUTE);
    let tally = Tally::default();
    let paths = paths_of(&subject.files);
    for path in &paths {
        for other in paths.iter().filter(|other| subject.files[*other] != subject.files[path]) {
            let what = format!("it is {}", other.display());
            let bytes = subject.files[other].clone();
            tally.add(with_other_bytes(&subject, path, bytes, &what));
        }
        let earlier = subject.earlier.get(path).filter(|bytes| **bytes != subject.files[path]);
        if let Some(bytes) = earlier {
            tally.add(with_other_bytes(&subject, path, bytes.clone(), "it is as it was"));
        }
    }
    assert!(tally.told.into_inner() > 10);
}
