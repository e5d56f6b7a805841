//! Random operations against a map: whatever the order of appends, late rows, duplicates, flushes
//! and reopenings, a read gives what the last append said.

use heapster_core::series::Row;
use heapster_core::{Labels, MetricKind, MetricValue, TimeRange, Value};
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, LateWindow, Store, StoreOptions};
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Debug)]
enum Op {
    Append(i64, Vec<Row>),
    Flush,
    Maintain,
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
        1 => Just(Op::Flush),
        1 => Just(Op::Maintain),
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
                Op::Flush => drop(store.flush().unwrap()),
                Op::Maintain => drop(store.maintain().unwrap()),
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
        prop_assert!(store.verify().is_empty());
    }
}
