//! Appends by handle: the same store as with rows, whatever happens in between.

use heapster_core::series::Row;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Value};
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, Error, Rejected, SetHandle, Store, StoreOptions};
use proptest::prelude::*;

use crate::support::*;

const NAMES: [&str; 4] = ["cpu", "memory", "network", "load"];

fn labels(pod: u8) -> Labels {
    Labels::from_iter([("type", "pod".to_owned()), ("pod_name", format!("pod-{pod}"))])
}

fn register(store: &Store, pod: u8, columns: &[u8]) -> SetHandle {
    let columns: Vec<_> =
        columns.iter().map(|name| (Text::from(NAMES[usize::from(*name)]), kind(*name))).collect();
    store.register(&labels(pod), &columns).unwrap()
}

fn kind(name: u8) -> MetricKind {
    if name == 0 { MetricKind::Cumulative } else { MetricKind::Gauge }
}

/// The row that a handle's values stand for.
fn row_of(pod: u8, columns: &[u8], values: &[Option<Value>]) -> Row {
    let cells = columns.iter().zip(values).filter_map(|(name, value)| {
        let metric = MetricValue { value: (*value)?, kind: kind(*name) };
        Some((Text::from(NAMES[usize::from(*name)]), metric))
    });
    Row { labels: labels(pod), cells: cells.collect() }
}

#[derive(Clone, Debug)]
enum Op {
    /// Handles by number, with their values.
    Dense(i64, Vec<(usize, Vec<Option<Value>>)>),
    /// A row of a set that may have a handle as well, with a column of its own.
    Row(i64, u8, i64),
    Flush,
    Reopen,
    /// An append that the disk refuses.
    Fail(usize),
}

fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        1 => Just(None),
        4 => (0_i64..4).prop_map(|value| Some(Value::Int(value))),
        1 => any::<u64>().prop_map(|bits| Some(Value::Float(f64::from_bits(bits)))),
    ]
}

fn op(handles: usize) -> impl Strategy<Value = Op> {
    let rows = prop::collection::vec((0..handles, prop::collection::vec(value(), 4)), 0..8);
    prop_oneof![
        8 => (0_i64..100, rows).prop_map(|(minute, rows)| Op::Dense(NOON + minute * MINUTE, rows)),
        2 => (0_i64..100, 0_u8..4, 0_i64..4)
            .prop_map(|(minute, pod, value)| Op::Row(NOON + minute * MINUTE, pod, value)),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => (0..handles).prop_map(Op::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_by_handle_are_read_back_as_the_rows_they_stand_for(
        // Sets, some of them twice, each with some columns in some order.
        sets in prop::collection::vec(
            (0_u8..4, Just(vec![0_u8, 1, 2, 3]).prop_shuffle(), 1_usize..4), 4),
        ops in prop::collection::vec(op(4), 1..50),
    ) {
        let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
        clock.step(200 * MINUTE);
        let options = || StoreOptions {
            late_window: heapster_store::LateWindow::Any,
            ..options(&vfs, &clock)
        };
        let mut store = Store::open(DIR, options()).unwrap();
        let sets: Vec<(u8, Vec<u8>)> =
            sets.into_iter().map(|(pod, names, count)| (pod, names[..count].to_vec())).collect();
        let all = |store: &Store| -> Vec<SetHandle> {
            sets.iter().map(|(pod, columns)| register(store, *pod, columns)).collect()
        };
        let mut handles = all(&store);
        let mut expected = Contents::new();
        for op in ops {
            match op {
                Op::Dense(millis, rows) => {
                    let rows: Vec<_> = rows
                        .into_iter()
                        .map(|(handle, mut values)| {
                            values.truncate(sets[handle].1.len());
                            (handle, values)
                        })
                        .collect();
                    let given = rows.iter().map(|(handle, values)| (&handles[*handle], &values[..]));
                    let report = store.append_dense(at(millis), given, Ack::Buffered).unwrap();
                    let mut sent = 0;
                    for (handle, values) in &rows {
                        let (pod, columns) = &sets[*handle];
                        let row = row_of(*pod, columns, values);
                        sent += row.cells.len();
                        expect(&mut expected, millis, &row);
                    }
                    prop_assert_eq!(report.accepted + report.duplicate, sent as u64);
                }
                Op::Row(millis, pod, value) => {
                    let cells = vec![("own".into(), MetricValue::gauge(value)), ("cpu".into(), MetricValue::gauge(value))];
                    let row = Row { labels: labels(pod), cells };
                    let _ = store.append_rows(at(millis), [&row], Ack::Buffered).unwrap();
                    expect(&mut expected, millis, &row);
                }
                Op::Flush => drop(store.flush().unwrap()),
                Op::Reopen => {
                    drop(store);
                    store = Store::open(DIR, options()).unwrap();
                    handles = all(&store);
                }
                Op::Fail(handle) => {
                    vfs.set_capacity(Some(0));
                    let values = vec![Some(Value::Int(-1)); sets[handle].1.len()];
                    let row = [(&handles[handle], &values[..])];
                    let late = store.append_dense(at(NOON - 1), row, Ack::Buffered);
                    let next = store.append_dense(at(clock.millis()), row, Ack::Buffered);
                    vfs.set_capacity(None);
                    prop_assert!(late.is_err() && next.is_err());
                }
            }
        }
        prop_assert_eq!(&contents(&store.snapshot()), &expected);
        drop(store);
        let store = Store::open(DIR, options()).unwrap();
        prop_assert_eq!(&contents(&store.snapshot()), &expected);
        store.flush().unwrap();
        prop_assert_eq!(&contents(&store.snapshot()), &expected);
    }
}

#[test]
fn a_handle_outlives_flushes_and_is_refused_by_other_stores() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let handle = register(&store, 1, &[0, 1]);
    assert_eq!((handle.width(), handle.labels()), (2, &labels(1)));
    for round in 0..5 {
        let values = [Some(Value::Int(round)), None];
        let rows = [(&handle, &values[..])];
        let report = store.append_dense(at(NOON + round), rows, Ack::Buffered).unwrap();
        assert_eq!((report.accepted, report.duplicate), (1, 0));
        assert_eq!(store.append_dense(at(NOON + round), rows, Ack::Buffered).unwrap().duplicate, 1);
        store.flush().unwrap();
    }
    assert_eq!(
        contents(&store.snapshot()).values().map(std::collections::BTreeMap::len).sum::<usize>(),
        5
    );
    drop(store);
    let store = open(&vfs, &clock);
    let values = [Some(Value::Int(1)), None];
    let refused = store.append_dense(at(NOON), [(&handle, &values[..])], Ack::Buffered);
    assert!(matches!(refused, Err(Error::ForeignHandle)), "{refused:?}");
}

#[test]
fn rows_of_a_wrong_width_and_handles_without_names_are_refused() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let (good, other) = (register(&store, 1, &[0, 1]), register(&store, 2, &[2]));
    let values = [Some(Value::Int(1)), Some(Value::Int(2))];
    let rows = [(&good, &values[..]), (&other, &values[..])];
    let refused = store.append_dense(at(NOON), rows, Ack::Buffered);
    assert!(matches!(refused, Err(Error::RowWidth { given: 2, expected: 1 })), "{refused:?}");
    assert!(contents(&store.snapshot()).is_empty());
    assert_eq!(store.append_dense(at(NOON), [rows[0]], Ack::Buffered).unwrap().accepted, 2);
    let gauge = |name: &str| (Text::from(name), MetricKind::Gauge);
    for columns in [vec![gauge("")], vec![gauge("m"), gauge("m")], vec![gauge(&"m".repeat(1025))]] {
        let refused = store.register(&labels(1), &columns).unwrap_err();
        assert!(matches!(refused, Error::Unregistrable { reason: Rejected::ColumnName }));
    }
    let many: Labels = (0..129).map(|label| (format!("l{label}"), "v")).collect();
    let refused = store.register(&many, &[gauge("m")]).unwrap_err();
    assert!(matches!(refused, Error::Unregistrable { reason: Rejected::LabelsTooLarge }));
}

#[test]
fn rows_that_fall_in_time_are_refused_after_so_many_runs() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let handle = register(&store, 1, &[0]);
    let append = |back: i64| {
        let values = [Some(Value::Int(back))];
        store.append_dense(at(NOON - back), [(&handle, &values[..])], Ack::Buffered).unwrap()
    };
    // The main run and 256 late ones.
    assert!((0..257).all(|back| append(back).accepted == 1));
    assert_eq!(append(257).rejected.get(Rejected::OutOfOrder), 1);
    assert_eq!(append(100).duplicate, 1);
    drop(store);
    let store = open(&vfs, &clock);
    assert_eq!(
        contents(&store.snapshot()).values().map(std::collections::BTreeMap::len).sum::<usize>(),
        257
    );
}
