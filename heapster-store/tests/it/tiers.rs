//! Tiers: what they say is what raw samples said, whatever came late, went or crashed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::series::Row;
use heapster_core::storage::{
    Aggregates, Bucket, BucketSelection, BucketSelector, Columns, MemoryStorage, Snapshot, Storage,
    Sum, collect_buckets,
};
use heapster_core::{Labels, Matcher, MetricKind, MetricValue, TimeRange, Value};
use heapster_store::vfs::faulty::{FaultyVfs, PowerCut};
use heapster_store::{Ack, Error, LateWindow, Result, Retention, Store, StoreOptions, TierOptions};
use proptest::prelude::*;

use crate::support::*;

/// Midnight after the start of all tests.
const MIDNIGHT: i64 = NOON + 12 * HOUR;

fn tier(minutes: u64, retention: Retention) -> TierOptions {
    let resolution = Duration::from_secs(minutes * 60);
    TierOptions { resolution, retention, retention_bytes: None }
}

/// Ten minutes and two hours, for ever.
fn ladder() -> Vec<TierOptions> {
    vec![tier(10, Retention::Forever), tier(120, Retention::Forever)]
}

fn options_with(vfs: &FaultyVfs, clock: &Arc<TestClock>, tiers: Vec<TierOptions>) -> StoreOptions {
    let late_window = LateWindow::Any;
    StoreOptions { tiers, late_window, future_max: None, ..options(vfs, clock) }
}

fn roll_up(store: &Store) {
    while !store.roll_up().unwrap().is_idle() {}
}

fn selector(range: TimeRange, bucket: Option<i64>, aggregates: Aggregates) -> BucketSelector {
    let bucket = bucket.map(|millis| Duration::from_millis(millis as u64));
    BucketSelector { matchers: Vec::new(), columns: Columns::All, range, bucket, aggregates }
}

/// Every bucket of an answer, by set and column, printed so that NaNs compare.
fn answer(selection: &BucketSelection) -> BTreeMap<(String, String), Vec<String>> {
    let mut answer = BTreeMap::new();
    for set in &selection.sets {
        for (index, column) in set.columns().iter().enumerate() {
            let buckets = collect_buckets(&**set, index).unwrap();
            assert!(buckets.is_sorted_by(|a, b| a.start < b.start), "each start once, in order");
            let printed: Vec<String> = buckets.iter().map(print).collect();
            if !printed.is_empty() {
                let key = (set.labels().to_string(), column.name.to_string());
                assert!(answer.insert(key, printed).is_none(), "each column once");
            }
        }
    }
    answer
}

fn print(bucket: &Bucket) -> String {
    let sum = |sum: Sum| match sum {
        Sum::Int(sum) => format!("{sum}"),
        // The payload of a NaN and the sign of a zero depend on the order of additions.
        Sum::Float(sum) if sum.is_nan() => "NaN".to_owned(),
        Sum::Float(sum) => format!("{:?}", sum + 0.0),
    };
    let increase = bucket.increase.map(|own| (sum(own.by), own.resets));
    let without = Bucket { sum: None, increase: None, ..*bucket };
    format!("{without:?} {:?} {increase:?}", bucket.sum.map(sum))
}

fn resolutions(selection: &BucketSelection) -> Vec<Option<u64>> {
    selection.sources.iter().map(|source| source.resolution.map(|r| r.as_secs() / 60)).collect()
}

/// The same samples in a store and in the reference.
struct Pair {
    store: Store,
    memory: MemoryStorage,
}

impl Pair {
    fn append(&self, millis: i64, rows: &[Row]) {
        let report = self.store.append_rows(at(millis), rows, Ack::Buffered).unwrap();
        assert_eq!(report.rejected.total(), 0);
        self.memory.append(at(millis), rows);
    }

    fn both(&self, selector: &BucketSelector) -> (BucketSelection, BucketSelection) {
        let store = self.store.snapshot().select_buckets(selector).unwrap();
        (store, self.memory.snapshot().unwrap().select_buckets(selector).unwrap())
    }

    /// The answers are the same, and the store's is exact; gives what it came from, in minutes.
    fn check(&self, selector: &BucketSelector) -> Vec<Option<u64>> {
        let (store, memory) = self.both(selector);
        assert!(store.is_exact);
        let (found, expected) = (answer(&store), answer(&memory));
        let wrong = expected.iter().find(|(key, buckets)| found.get(*key) != Some(*buckets));
        if let Some((key, buckets)) = wrong {
            let mut pairs = found.get(key).into_iter().flatten().zip(buckets);
            panic!("{selector:?} {:?}: {:?}", store.sources, pairs.find(|(a, b)| a != b));
        }
        assert_eq!(found.len(), expected.len(), "{selector:?}");
        resolutions(&store)
    }
}

/// Halves are added without rounding, in whatever order.
fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        9 => (0_i64..1000).prop_map(Value::Int),
        4 => (-400_i32..400).prop_map(|halves| Value::Float(f64::from(halves) / 2.0)),
        1 => Just(Value::Float(f64::NAN)),
        1 => Just(Value::Float(f64::from_bits(0x7ff0_0000_0000_0002))),
        1 => Just(Value::Float(-0.0)),
    ]
}

/// A counter that is reset now and then, beyond what 64 bits can sum up.
fn counters() -> impl Strategy<Value = Vec<Value>> {
    let step = prop_oneof![20 => 0_i64..1 << 50, 1 => Just(-1)];
    (any::<bool>(), prop::collection::vec(step, 100..700)).prop_map(|(is_large, steps)| {
        let base = if is_large { i64::MAX - (1 << 62) } else { 0 };
        let mut counter = base;
        let next = |step: i64| {
            counter = if step < 0 { base } else { counter.saturating_add(step) };
            Value::Int(counter)
        };
        steps.into_iter().map(next).collect()
    })
}

fn series() -> impl Strategy<Value = Vec<(i64, Value)>> {
    let values = prop_oneof![
        prop::collection::vec(value(), 100..700),
        counters(),
        (value(), 100_usize..700).prop_map(|(value, len)| vec![value; len]),
    ];
    let gaps = prop_oneof![40 => 1_i64..12, 1 => 60_i64..400, 1 => 1400_i64..1600];
    (values, prop::collection::vec(gaps, 700)).prop_map(|(values, gaps)| {
        let mut minute = 0;
        let sample = |(value, gap)| {
            minute += gap;
            (NOON + minute * MINUTE, value)
        };
        values.into_iter().zip(gaps).map(sample).collect()
    })
}

fn aggregates() -> impl Strategy<Value = Aggregates> {
    let simple = Aggregates::SUM | Aggregates::MIN | Aggregates::MAX;
    prop::sample::select(vec![
        Aggregates::ALL,
        Aggregates::NONE,
        Aggregates::MAX,
        Aggregates::INCREASE,
        Aggregates::PERCENTILES,
        simple,
        simple | Aggregates::FIRST | Aggregates::LAST | Aggregates::INCREASE,
    ])
}

fn questions() -> impl Strategy<Value = Vec<BucketSelector>> {
    let bucket =
        prop::sample::select(vec![Some(10), Some(30), Some(120), Some(240), Some(7), None]);
    let question = (0_i64..5000, 0_i64..6000, bucket, aggregates(), any::<bool>());
    let selector = |(from, len, bucket, aggregates, is_aligned): (i64, i64, Option<i64>, _, _)| {
        let mut start = NOON + from * MINUTE;
        if is_aligned {
            start -= start % (2 * HOUR);
        }
        let range = TimeRange::new(at(start), at(start + len * MINUTE));
        selector(range, bucket.map(|minutes| minutes * MINUTE), aggregates)
    };
    prop::collection::vec(question.prop_map(selector), 1..12)
}

fn cells(name: &'static str, value: Value) -> Row {
    let labels = Labels::from_iter([("pod", name.split('/').next().unwrap_or_default())]);
    Row { labels, cells: vec![(name.into(), MetricValue { value, kind: MetricKind::Cumulative })] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Two columns of one set and one of another; some samples come late, after tiers were built.
    #[test]
    fn tiers_say_what_raw_samples_say(
        samples in [series(), series(), series()],
        late in prop::collection::vec((0_usize..3, 0_i64..6000, 0_i64..1000), 0..6),
        questions in questions(),
        reopens in any::<bool>(),
    ) {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let open = || Store::open(DIR, options_with(&vfs, &clock, ladder())).unwrap();
        let mut pair = Pair { store: open(), memory: MemoryStorage::new() };
        let names = ["a/x", "a/y", "b/x"];
        for (name, samples) in names.iter().zip(&samples) {
            for (millis, value) in samples {
                pair.append(*millis, &[cells(name, *value)]);
            }
        }
        let last = samples.iter().flatten().map(|(at, _)| *at).max().unwrap_or(NOON);
        clock.step(last - NOON);
        pair.store.flush().unwrap();
        roll_up(&pair.store);
        for question in &questions {
            pair.check(question);
        }
        for (series, minute, value) in late {
            pair.append(NOON + minute * MINUTE, &[cells(names[series], Value::Int(value))]);
        }
        for question in &questions {
            pair.check(question);
        }
        pair.store.flush().unwrap();
        for question in &questions {
            pair.check(question);
        }
        if reopens {
            pair.store.close().unwrap();
            pair.store = open();
        }
        roll_up(&pair.store);
        for question in &questions {
            pair.check(question);
        }
        prop_assert!(pair.store.verify().is_empty());
        prop_assert!(pair.store.stats().tiers.iter().all(|tier| tier.stale_ranges == 0));
    }
}

/// A counter that rises by one each minute of some days, and is reset each 1,000 minutes.
fn minutes_of(pair: &Pair, clock: &Arc<TestClock>, days: i64) {
    for minute in 0..days * 1440 {
        clock.step(MINUTE);
        let rows = ["a/x", "b/x"].map(|name| cells(name, Value::Int(minute % 1000)));
        pair.append(clock.millis(), &rows);
    }
    pair.store.flush().unwrap();
}

fn pair(vfs: &FaultyVfs, clock: &Arc<TestClock>, tiers: Vec<TierOptions>) -> Pair {
    let store = Store::open(DIR, options_with(vfs, clock, tiers)).unwrap();
    Pair { store, memory: MemoryStorage::new() }
}

fn days(from: i64, to: i64) -> TimeRange {
    TimeRange::new(at(MIDNIGHT + from * DAY), at(MIDNIGHT + to * DAY - 1))
}

#[test]
fn the_coarsest_tier_that_is_exact_answers_and_raw_samples_the_day_that_is_not_over() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let pair = pair(&vfs, &clock, ladder());
    minutes_of(&pair, &clock, 4);
    roll_up(&pair.store);
    let ask = |range, minutes: i64, aggregates| {
        pair.check(&selector(range, Some(minutes * MINUTE), aggregates))
    };
    let all = Aggregates::ALL;
    assert_eq!(ask(days(0, 2), 120, all), [Some(120)]);
    assert_eq!(ask(days(0, 2), 10, all), [Some(10)]);
    assert_eq!(ask(days(0, 2), 240, Aggregates::INCREASE), [Some(120)]);
    assert_eq!(ask(days(0, 2), 240, all), [None], "percentiles do not add up");
    assert_eq!(ask(days(0, 2), 45, Aggregates::MAX), [None], "no tier divides 45 minutes");
    assert_eq!(ask(days(2, 5), 120, all), [Some(120), None]);
    let stats = pair.store.stats();
    let minutes: Vec<_> = stats.tiers.iter().map(|tier| tier.resolution.as_secs() / 60).collect();
    assert_eq!(minutes, [10, 120]);
    assert!(stats.tiers.iter().all(|tier| tier.built_to == Some(at(MIDNIGHT + 3 * DAY))));
    assert!(stats.tiers.iter().all(|tier| tier.bytes > 0 && tier.samples > 0));
    assert_eq!(stats.tiers[1].segments, 1, "days of one window share a segment");
}

#[test]
fn tiers_answer_when_raw_samples_are_past_their_time() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let with_retention = |tiers| StoreOptions {
        retention: Retention::Age(Duration::from_secs(3 * 86_400)),
        late_window: LateWindow::Within(Duration::from_secs(3600)),
        ..options_with(&vfs, &clock, tiers)
    };
    let ladder = vec![
        tier(10, Retention::Age(Duration::from_secs(6 * 86_400))),
        tier(120, Retention::Forever),
    ];
    let store = Store::open(DIR, with_retention(ladder)).unwrap();
    let pair = Pair { store, memory: MemoryStorage::new() };
    for _ in 0..10 {
        minutes_of(&pair, &clock, 1);
        roll_up(&pair.store);
        pair.store.maintain().unwrap();
    }
    assert!(pair.store.stats().expired_segments > 0);
    let raw = Snapshot::bounds(&pair.store.snapshot()).unwrap().start;
    assert!(raw >= at(MIDNIGHT + 5 * DAY), "raw samples are gone before {raw}");
    let ask = |range, minutes: i64, aggregates| {
        pair.check(&selector(range, Some(minutes * MINUTE), aggregates))
    };
    assert_eq!(ask(days(0, 8), 120, Aggregates::ALL), [Some(120)]);
    assert_eq!(ask(days(5, 8), 10, Aggregates::ALL), [Some(10)]);
    assert_eq!(ask(days(0, 8), 1440, Aggregates::INCREASE), [Some(120)]);
    // What cannot be answered exactly any more is answered as well as it can be, and says so.
    let (coarse, _) = pair.both(&selector(days(0, 1), Some(10 * MINUTE), Aggregates::MAX));
    assert!(!coarse.is_exact);
    assert_eq!(resolutions(&coarse), [Some(120)]);
    let (daily, memory) = pair.both(&selector(days(1, 2), Some(DAY), Aggregates::PERCENTILES));
    assert!(!daily.is_exact && !daily.sets.is_empty());
    for (a, b) in daily.sets.iter().zip(&memory.sets) {
        let (a, b) = (collect_buckets(&**a, 0).unwrap(), collect_buckets(&**b, 0).unwrap());
        let p95 = |buckets: &[Bucket]| buckets[0].percentiles.unwrap().p95.as_f64();
        assert!((p95(&a) - p95(&b)).abs() < 200.0, "{} against {}", p95(&a), p95(&b));
    }
    let stats = pair.store.stats();
    assert!(stats.tiers[0].segments < 8, "the finer tier is past its time as well");
}

#[test]
fn raw_samples_stay_until_every_tier_has_them() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(Duration::from_secs(86_400));
    let open = |tiers| {
        let options = StoreOptions { retention, ..options_with(&vfs, &clock, tiers) };
        Store::open(DIR, options).unwrap()
    };
    let pair = Pair { store: open(ladder()), memory: MemoryStorage::new() };
    minutes_of(&pair, &clock, 5);
    clock.step(2 * MINUTE);
    pair.store.maintain().unwrap();
    clock.step(2 * MINUTE);
    pair.store.maintain().unwrap();
    assert_eq!(pair.store.stats().expired_segments, 0);
    roll_up(&pair.store);
    pair.store.maintain().unwrap();
    assert!(pair.store.stats().expired_segments > 0);
    assert_eq!(pair.check(&selector(days(0, 3), Some(120 * MINUTE), Aggregates::ALL)), [Some(120)]);
}

#[test]
fn a_sample_that_comes_late_is_in_the_buckets_once_they_are_built_again() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let pair = pair(&vfs, &clock, ladder());
    minutes_of(&pair, &clock, 4);
    roll_up(&pair.store);
    let question = selector(days(0, 3), Some(10 * MINUTE), Aggregates::ALL);
    assert_eq!(pair.check(&question), [Some(10)]);
    pair.append(MIDNIGHT + DAY + 90_000, &[cells("a/x", Value::Int(5_000))]);
    pair.append(MIDNIGHT + DAY + 95_000, &[cells("c/x", Value::Int(1))]);
    pair.store.flush().unwrap();
    assert_eq!(pair.store.stats().tiers[0].stale_ranges, 1);
    assert_eq!(pair.check(&question), [Some(10), None, Some(10)], "raw samples fill in");
    roll_up(&pair.store);
    assert_eq!(pair.store.stats().tiers[0].stale_ranges, 0);
    assert_eq!(pair.check(&question), [Some(10)]);
}

#[test]
fn a_ladder_that_changed_is_built_from_what_is_there_and_what_went_out_of_it_still_answers() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut pair = pair(&vfs, &clock, vec![tier(10, Retention::Forever)]);
    minutes_of(&pair, &clock, 3);
    roll_up(&pair.store);
    let question = |minutes| selector(days(0, 2), Some(minutes * MINUTE), Aggregates::ALL);
    assert_eq!(pair.check(&question(120)), [None]);
    pair.store.close().unwrap();
    let other = vec![tier(120, Retention::Forever), tier(240, Retention::Forever)];
    pair.store = Store::open(DIR, options_with(&vfs, &clock, other)).unwrap();
    roll_up(&pair.store);
    for minutes in [10, 120, 240] {
        assert_eq!(pair.check(&question(minutes)), [Some(minutes as u64)]);
    }
    // The tier that went does not grow; when it comes back it goes on.
    minutes_of(&pair, &clock, 2);
    roll_up(&pair.store);
    let built = |pair: &Pair| -> Vec<_> {
        pair.store.stats().tiers.iter().map(|tier| tier.built_to.unwrap()).collect()
    };
    assert!(built(&pair)[0] < built(&pair)[1]);
    pair.store.close().unwrap();
    let all = [10, 120, 240].map(|minutes| tier(minutes, Retention::Forever));
    pair.store = Store::open(DIR, options_with(&vfs, &clock, all.to_vec())).unwrap();
    roll_up(&pair.store);
    assert_eq!(built(&pair)[0], built(&pair)[2]);
    let question = selector(days(0, 4), Some(10 * MINUTE), Aggregates::ALL);
    assert_eq!(pair.check(&question), [Some(10)]);
}

#[test]
fn a_ladder_that_makes_no_sense_is_refused() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let bad = vec![tier(120, Retention::Forever), tier(10, Retention::Forever)];
    let error = Store::open(DIR, options_with(&vfs, &clock, bad)).unwrap_err();
    assert!(matches!(error, Error::InvalidOptions { .. }), "{error:?}");
    assert!(vfs.files().is_empty(), "nothing was made");
}

#[test]
fn a_column_whose_name_could_be_that_of_an_aggregate_is_refused() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let row = row("a", [("m\u{1}max", 1), ("m", 1)]);
    let report = store.append_rows(at(NOON), [&row], Ack::Buffered).unwrap();
    assert_eq!(report.rejected.get(heapster_store::Rejected::ColumnName), 2);
}

/// Two and a half days of a slow counter, built on the way, with a late sample.
fn workload(vfs: &FaultyVfs, clock: &Arc<TestClock>, memory: &MemoryStorage) -> Result<()> {
    let store = Store::open(DIR, options_with(vfs, clock, ladder()))?;
    let append = |millis: i64, value: i64| -> Result<()> {
        let rows = [cells("a/x", Value::Int(value)), cells("b/x", Value::Int(-value))];
        memory.append(at(millis), &rows);
        store.append_rows(at(millis), &rows, Ack::Durable).map(drop)
    };
    for step in 0..12 {
        clock.step(5 * HOUR);
        append(clock.millis(), step * 7 % 40)?;
        if step == 8 {
            append(NOON + 5 * HOUR + 1, 3)?;
        }
        if step % 4 == 3 {
            store.flush()?;
        }
        store.roll_up()?;
    }
    while !store.roll_up()?.is_idle() {}
    store.close()
}

#[test]
fn a_crash_at_any_call_leaves_tiers_that_say_what_raw_samples_say() {
    let changes = {
        let vfs = FaultyVfs::new();
        workload(&vfs, &TestClock::new(), &MemoryStorage::new()).unwrap();
        vfs.changes()
    };
    assert!(changes > 100, "the workload touches the disk");
    type Crash = fn(&FaultyVfs, u64);
    let crashes: [Crash; 3] = [
        |vfs, _| vfs.cut_power(PowerCut::DropUnsynced),
        |vfs, n| vfs.cut_power(PowerCut::Torn(n)),
        |vfs, _| vfs.restart(),
    ];
    for n in 0..changes {
        for crash in crashes {
            let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
            vfs.crash_at(n);
            let _ = workload(&vfs, &clock, &MemoryStorage::new());
            crash(&vfs, n);
            let store = Store::open(DIR, options_with(&vfs, &clock, ladder())).unwrap();
            assert!(store.open_report().is_complete(), "crash at {n}");
            // The reference is what the store has: what was lost is the log's matter.
            let memory = MemoryStorage::new();
            for ((_, column), samples) in contents(&store.snapshot()) {
                let name = if column == "a/x" { "a/x" } else { "b/x" };
                for (millis, bits) in samples {
                    let Bits::Int(value) = bits else { panic!("integers only") };
                    memory.append(at(millis), &[cells(name, Value::Int(value))]);
                }
            }
            let pair = Pair { store, memory };
            let question = selector(TimeRange::ALL, Some(120 * MINUTE), Aggregates::ALL);
            pair.check(&question);
            pair.store.flush().unwrap();
            roll_up(&pair.store);
            pair.check(&question);
            assert!(pair.store.verify().is_empty(), "crash at {n}");
        }
    }
}

#[test]
fn an_error_at_any_call_changes_no_answer() {
    let changes = {
        let vfs = FaultyVfs::new();
        workload(&vfs, &TestClock::new(), &MemoryStorage::new()).unwrap();
        vfs.changes()
    };
    for n in 0..changes {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let memory = MemoryStorage::new();
        vfs.fail_at(n, std::io::ErrorKind::StorageFull);
        if workload(&vfs, &clock, &memory).is_ok() {
            continue;
        }
        vfs.restart();
        let store = Store::open(DIR, options_with(&vfs, &clock, ladder())).unwrap();
        roll_up(&store);
        assert!(store.verify().is_empty(), "error at {n}");
    }
}

#[test]
fn what_is_damaged_costs_its_run_and_no_more() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut pair = pair(&vfs, &clock, ladder());
    minutes_of(&pair, &clock, 4);
    pair.store.close().unwrap();
    let raw = vfs.files().keys().find(|path| path.to_string_lossy().contains("raw")).cloned();
    vfs.flip_bit(&raw.unwrap(), 330, 0).unwrap();
    pair.store = Store::open(DIR, options_with(&vfs, &clock, ladder())).unwrap();
    let mut damaged = 0;
    loop {
        let report = pair.store.roll_up().unwrap();
        damaged += report.damaged_runs;
        if report.is_idle() {
            break;
        }
    }
    assert!(damaged > 0);
    // What was built without them is not exact: raw samples answer, and say what they lack.
    let snapshot = pair.store.snapshot();
    let half = TimeRange::new(at(NOON), at(MIDNIGHT - 1));
    let question = selector(half, Some(120 * MINUTE), Aggregates::MAX);
    let selection = snapshot.select_buckets(&question).unwrap();
    assert_eq!(resolutions(&selection), [None]);
    assert_eq!(answer(&selection).len(), 1, "half a day of the other set is one row group");
    let [damage] = &*snapshot.damage() else { panic!("{:?}", snapshot.damage()) };
    assert!(damage.reason.contains("corrupt") && damage.labels.is_some());
    assert!(pair.store.stats().last_error.unwrap().contains("corrupt"));
    assert_eq!(pair.store.stats().quarantined_row_groups, 1);
    // Another day is answered from the tier.
    let (other, _) = pair.both(&selector(days(1, 3), Some(120 * MINUTE), Aggregates::MAX));
    assert_eq!(resolutions(&other), [Some(120)]);
    // Retention does not wait for what cannot be built, and a merge without the rows ends it.
    pair.store.compact_all().unwrap();
    roll_up(&pair.store);
    assert_eq!(pair.store.stats().quarantined_row_groups, 0);
    assert_eq!(pair.store.stats().tiers.iter().map(|tier| tier.stale_ranges).sum::<u64>(), 0);
    let (merged, _) = pair.both(&question);
    assert_eq!(resolutions(&merged), [Some(120)]);
}

/// A segment of a tier.
fn rollup_of(vfs: &FaultyVfs) -> std::path::PathBuf {
    let files = vfs.files();
    let is_rollup = |path: &&std::path::PathBuf| {
        let path = path.to_string_lossy();
        path.ends_with(".seg") && !path.contains("raw")
    };
    files.keys().find(is_rollup).cloned().unwrap()
}

#[test]
fn damaged_buckets_are_left_out_told_and_built_again() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut pair = pair(&vfs, &clock, ladder());
    minutes_of(&pair, &clock, 2);
    roll_up(&pair.store);
    pair.store.close().unwrap();
    let rollup = rollup_of(&vfs);
    vfs.flip_bit(&rollup, 330, 0).unwrap();
    pair.store = Store::open(DIR, options_with(&vfs, &clock, ladder())).unwrap();
    let question = selector(days(-1, 1), Some(10 * MINUTE), Aggregates::MAX);
    let all = selector(days(-1, 1), Some(120 * MINUTE), Aggregates::MAX);
    let snapshot = pair.store.snapshot();
    for question in [&question, &all] {
        let _ = answer(&snapshot.select_buckets(question).unwrap());
    }
    assert!(!snapshot.damage().is_empty());
    assert!(pair.store.stats().quarantined_row_groups > 0);
    roll_up(&pair.store);
    assert_eq!(pair.store.stats().quarantined_row_groups, 0);
    for question in [&question, &all] {
        pair.check(question);
    }
    let name = rollup.file_name().unwrap().to_owned();
    let kept = vfs.files().keys().any(|path| {
        path.to_string_lossy().contains("quarantine") && path.file_name() == Some(&name)
    });
    assert!(kept, "the damaged file is kept");
}

#[test]
fn a_tier_that_cannot_be_read_for_now_is_answered_from_raw_samples() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let mut pair = pair(&vfs, &clock, ladder());
    minutes_of(&pair, &clock, 2);
    roll_up(&pair.store);
    pair.store.close().unwrap();
    let rollups: Vec<_> = vfs
        .files()
        .into_keys()
        .filter(|path| {
            path.extension().is_some_and(|e| e == "seg") && !path.to_string_lossy().contains("raw")
        })
        .collect();
    let question = selector(days(0, 1), Some(120 * MINUTE), Aggregates::MAX);
    for rollup in rollups {
        vfs.refuse_reads_of(Some(&rollup));
        pair.store = Store::open(DIR, options_with(&vfs, &clock, ladder())).unwrap();
        assert_eq!(pair.store.open_report().unavailable.len(), 1);
        pair.check(&question);
        // It may come back, so its buckets are not built a second time.
        roll_up(&pair.store);
        pair.check(&question);
        vfs.refuse_reads_of(None);
        pair.store.close().unwrap();
        pair.store = Store::open(DIR, options_with(&vfs, &clock, ladder())).unwrap();
        assert!(pair.store.open_report().is_complete());
        assert_eq!(pair.check(&question), [Some(120)]);
        pair.store.close().unwrap();
        pair.store = Store::open("/elsewhere", options_with(&vfs, &clock, Vec::new())).unwrap();
    }
}

#[test]
fn matchers_and_names_select_in_a_tier_as_in_raw_samples() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let pair = pair(&vfs, &clock, ladder());
    minutes_of(&pair, &clock, 2);
    roll_up(&pair.store);
    let all = selector(days(0, 1), Some(120 * MINUTE), Aggregates::ALL);
    for matchers in [
        vec![Matcher::equal("pod", "a")],
        vec![Matcher::not_equal("pod", "a")],
        vec![Matcher::equal("pod", "z")],
    ] {
        pair.check(&BucketSelector { matchers, ..all.clone() });
    }
    for columns in [
        Columns::Named("a/x".into()),
        Columns::Named("a/x\u{1}max".into()),
        Columns::Matching(Matcher::regex("", "b.*").unwrap()),
    ] {
        pair.check(&BucketSelector { columns, ..all.clone() });
    }
    assert_eq!(pair.store.snapshot().bounds().unwrap().start, at(NOON + MINUTE));
}

#[test]
fn what_is_deleted_goes_from_tiers_too_whether_raw_samples_are_there_or_not() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let retention = Retention::Age(Duration::from_secs(3 * 86_400));
    let options = StoreOptions { retention, ..options_with(&vfs, &clock, ladder()) };
    let pair = Pair { store: Store::open(DIR, options).unwrap(), memory: MemoryStorage::new() };
    for _ in 0..8 {
        minutes_of(&pair, &clock, 1);
        roll_up(&pair.store);
        pair.store.maintain().unwrap();
    }
    let raw = Snapshot::bounds(&pair.store.snapshot()).unwrap().start;
    assert!(raw > at(MIDNIGHT + 2 * DAY) && raw < at(MIDNIGHT + 5 * DAY));
    let half = |day: i64| MIDNIGHT + day * DAY + 12 * HOUR + 5 * MINUTE;
    let counts = |day: i64, pod: &str| -> Vec<(i64, u64)> {
        let question = BucketSelector {
            matchers: vec![Matcher::equal("pod", pod)],
            ..selector(days(day, day + 1), Some(120 * MINUTE), Aggregates::NONE)
        };
        let selection = pair.store.snapshot().select_buckets(&question).unwrap();
        let buckets = selection.sets.iter().flat_map(|set| collect_buckets(&**set, 0).unwrap());
        buckets.map(|b| ((b.start.as_millis() - MIDNIGHT - day * DAY) / HOUR, b.count)).collect()
    };
    let all: Vec<(i64, u64)> = (0..12).map(|bucket| (bucket * 2, 120)).collect();
    assert_eq!((counts(1, "a"), counts(5, "a")), (all.clone(), all.clone()));
    let matchers = [Matcher::equal("pod", "a")];
    for day in [1, 5] {
        let range = TimeRange::new(at(half(day)), at(half(day) + HOUR - 1));
        assert!(pair.store.delete(&matchers, range).unwrap().segments > 0);
    }
    let mut finer = all.clone();
    finer[6].1 = 50;
    assert_eq!(counts(1, "a"), finer, "at once, with the rest of the finer tier's buckets");
    pair.store.compact_all().unwrap();
    roll_up(&pair.store);
    pair.store.compact_all().unwrap();
    assert_eq!(pair.store.stats().tombstones, 0, "nothing is left that was deleted");
    let without: Vec<_> = all.iter().copied().filter(|(hour, _)| *hour != 12).collect();
    assert_eq!(counts(1, "a"), without, "what is left of a bucket cannot be known any more");
    let mut rest = all.clone();
    rest[6].1 = 60;
    assert_eq!(counts(5, "a"), rest, "what is left of a bucket is built from raw samples");
    assert_eq!((counts(1, "b"), counts(5, "b")), (all.clone(), all));
}

#[test]
fn an_import_of_old_days_is_built() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let pair = pair(&vfs, &clock, ladder());
    minutes_of(&pair, &clock, 3);
    roll_up(&pair.store);
    let mut import = pair.store.import();
    for minute in 0..3 * 1440 {
        let millis = MIDNIGHT + minute * MINUTE + 1;
        let row = cells("c/x", Value::Int(minute));
        import.push_rows(at(millis), [&row]).unwrap();
        pair.memory.append(at(millis), &[row]);
    }
    import.finish().unwrap();
    let question = selector(days(-1, 3), Some(120 * MINUTE), Aggregates::ALL);
    pair.check(&question);
    roll_up(&pair.store);
    assert_eq!(pair.check(&question), [Some(120), None]);
}
