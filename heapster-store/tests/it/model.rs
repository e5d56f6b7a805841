//! Random operations against a map: whatever the order of appends, imports, deletions, late rows,
//! duplicates, flushes, merges and reopenings, a read gives what the last of them said.

use heapster_core::series::{Row, rows_of};
use heapster_core::{
    DataBatch, EntityKey, EntityType, Labels, Matcher, MetricKind, MetricSet, MetricValue,
    TimeRange, Value,
};
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, LateWindow, Store, StoreOptions};
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Debug)]
enum Op {
    Append(i64, Vec<Row>),
    Import(Vec<(i64, Vec<Row>)>),
    /// A set, or all of them, and a range in minutes.
    Delete(Option<u8>, i64, i64),
    Flush,
    Maintain,
    Compact,
    CompactAll,
    Reopen,
    Die,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => (0_i64..4).prop_map(Value::Int),
        1 => any::<i64>().prop_map(Value::Int),
        1 => any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        1 => Just(Value::Float(f64::from_bits(0x7ff0_0000_0000_0002))),
        1 => Just(Value::Float(-0.0)),
    ]
}

fn a_row() -> impl Strategy<Value = Row> {
    let kinds = [MetricKind::Gauge, MetricKind::Cumulative, MetricKind::Delta];
    let cells =
        prop::collection::btree_map(0_u8..5, (value(), prop::sample::select(kinds.to_vec())), 1..5);
    (0_u8..6, cells).prop_map(|(set, cells)| {
        let labels =
            Labels::from_iter([("set", format!("s{}", set % 4)), ("empty", String::new())]);
        let cell = |(name, (value, kind))| (format!("c{name}").into(), MetricValue { value, kind });
        Row { labels, cells: cells.into_iter().map(cell).collect() }
    })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0_i64..200, prop::collection::vec(a_row(), 0..6))
            .prop_map(|(minute, rows)| Op::Append(NOON + minute * MINUTE, rows)),
        1 => prop::collection::vec(
                (-3_000_i64..200, prop::collection::vec(a_row(), 0..3)), 0..6)
            .prop_map(Op::Import),
        1 => (prop::option::of(0_u8..4), -100_i64..200, 0_i64..60)
            .prop_map(|(set, start, len)| Op::Delete(set, start, start + len)),
        1 => Just(Op::Flush),
        1 => Just(Op::Maintain),
        2 => Just(Op::Compact),
        1 => Just(Op::CompactAll),
        1 => Just(Op::Reopen),
        1 => Just(Op::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_reads_as_a_map_does(
        ops in prop::collection::vec(op(), 1..60),
        start in 0_i64..200,
        len in 0_i64..100,
    ) {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let options = || StoreOptions {
            late_window: LateWindow::Any,
            future_max: None,
            ..options(&vfs, &clock)
        };
        let mut store = Store::open(DIR, options()).unwrap();
        let mut expected = Contents::new();
        for op in ops {
            clock.step(17 * MINUTE);
            match op {
                Op::Append(millis, rows) => {
                    let sent: usize = rows.iter().map(|row| row.cells.len()).sum();
                    let report = store.append_rows(at(millis), &rows, Ack::Buffered).unwrap();
                    prop_assert_eq!(report.accepted + report.duplicate, sent as u64);
                    rows.iter().for_each(|row| expect(&mut expected, millis, row));
                }
                Op::Import(batches) => {
                    let mut import = store.import();
                    for (minute, rows) in batches {
                        import.push_rows(at(NOON + minute * MINUTE), &rows).unwrap();
                        let millis = NOON + minute * MINUTE;
                        rows.iter().for_each(|row| expect(&mut expected, millis, row));
                    }
                    let report = import.finish().unwrap();
                    prop_assert_eq!((report.accepted, report.rejected.total()), (report.written, 0));
                }
                Op::Delete(set, start, end) => {
                    let matcher = match set {
                        Some(set) => Matcher::equal("set", format!("s{set}")),
                        None => Matcher::regex("set", ".*").unwrap(),
                    };
                    let (start, end) = (NOON + start * MINUTE, NOON + end * MINUTE);
                    let _ = store.delete(&[matcher], TimeRange::new(at(start), at(end))).unwrap();
                    let name = set.map(|set| format!("\"s{set}\""));
                    for ((labels, _), samples) in &mut expected {
                        if name.as_ref().is_none_or(|name| labels.contains(name)) {
                            samples.retain(|at, _| !(start..=end).contains(at));
                        }
                    }
                    expected.retain(|_, samples| !samples.is_empty());
                }
                Op::Flush => drop(store.flush().unwrap()),
                Op::Maintain => drop(store.maintain().unwrap()),
                Op::Compact => drop(store.compact().unwrap()),
                Op::CompactAll => drop(store.compact_all().unwrap()),
                Op::Reopen => {
                    store.close().unwrap();
                    store = Store::open(DIR, options()).unwrap();
                }
                Op::Die => {
                    vfs.restart();
                    drop(store);
                    store = Store::open(DIR, options()).unwrap();
                }
            }
        }
        let snapshot = store.snapshot();
        prop_assert_eq!(&contents(&snapshot), &expected);
        let range = TimeRange::new(at(NOON + start * MINUTE), at(NOON + (start + len) * MINUTE));
        let mut clipped = expected.clone();
        for samples in clipped.values_mut() {
            samples.retain(|at, _| (range.start.as_millis()..=range.end.as_millis()).contains(at));
        }
        clipped.retain(|_, samples| !samples.is_empty());
        prop_assert_eq!(contents_in(&snapshot, range), clipped);
        prop_assert!(store.verify().is_empty());
        store.flush().unwrap();
        prop_assert_eq!(&contents(&store.snapshot()), &expected);
        prop_assert_eq!(&contents(&snapshot), &expected, "an old snapshot outlives a flush");
        let _ = store.compact_all().unwrap();
        prop_assert_eq!(&contents(&store.snapshot()), &expected);
        prop_assert_eq!(&contents(&snapshot), &expected, "an old snapshot outlives a merge");
        prop_assert!(store.verify().is_empty());
    }
}

/// A pod's set: which of its metrics and file systems it has now, and whether its labels changed.
#[derive(Clone, Debug)]
struct Pod {
    number: u8,
    metrics: u8,
    volumes: Vec<u8>,
    is_relabelled: bool,
}

fn a_pod() -> impl Strategy<Value = Pod> {
    (0_u8..5, 0_u8..8, prop::collection::vec(0_u8..3, 0..4), prop::bool::weighted(0.1)).prop_map(
        |(number, metrics, volumes, is_relabelled)| Pod { number, metrics, volumes, is_relabelled },
    )
}

fn set_of(pod: &Pod, value: i64) -> MetricSet {
    let mut set = MetricSet::new(EntityType::Pod);
    set.labels.set("pod_name", format!("pod-{}", pod.number));
    if pod.is_relabelled {
        // Hidden by the label of the same name of the volumes.
        set.labels.set("resource_id", "pod");
    }
    for name in ["cpu", "memory", "network"]
        .iter()
        .enumerate()
        .filter(|(bit, _)| pod.metrics >> bit & 1 == 1)
    {
        set.metrics.set(*name.1, MetricValue::gauge(value));
    }
    for volume in &pod.volumes {
        let own = Labels::from_iter([("resource_id", format!("Volume:{volume}"))]);
        set.push_labeled("filesystem/usage", &own, value + i64::from(*volume));
    }
    set
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whether a set comes where it came last time, elsewhere, again or not at all, and whether an
    /// append in between failed.
    #[test]
    fn batches_of_sets_are_read_back_as_the_rows_they_stand_for(
        batches in prop::collection::vec(
            (prop::collection::vec(a_pod(), 0..8), prop::bool::weighted(0.1)), 1..40),
    ) {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        let store = open(&vfs, &clock);
        let mut expected = Contents::new();
        for (index, (pods, fails)) in batches.iter().enumerate() {
            clock.step(MINUTE);
            let mut batch = DataBatch::new(at(clock.millis()));
            for (position, pod) in pods.iter().enumerate() {
                let key = EntityKey::pod("shop", format!("{position}"));
                batch.sets.insert(key, set_of(pod, index as i64));
            }
            if *fails {
                vfs.set_capacity(Some(0));
                let result = store.append(&batch, Ack::Buffered);
                vfs.set_capacity(None);
                prop_assert!(result.is_err() || batch.sets.values().all(|set| rows_of(set).is_empty()));
                continue;
            }
            let report = store.append(&batch, Ack::Buffered).unwrap();
            let rows: Vec<Row> = batch.sets.values().flat_map(rows_of).collect();
            let sent: usize = rows.iter().map(|row| row.cells.len()).sum();
            prop_assert_eq!(report.accepted + report.duplicate, sent as u64);
            rows.iter().for_each(|row| expect(&mut expected, clock.millis(), row));
        }
        prop_assert_eq!(&contents(&store.snapshot()), &expected);
        drop(store);
        prop_assert_eq!(&contents(&open(&vfs, &clock).snapshot()), &expected);
    }
}
