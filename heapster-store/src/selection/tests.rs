//! Promises of selections: whatever lies where, sets come in order, once, with the latest cells.

use std::collections::BTreeMap;
use std::sync::Arc;

use heapster_core::series::Row;
use heapster_core::storage::{Columns, Run, Samples, SelectedSet, Selector, Snapshot};
use heapster_core::{Labels, Matcher, MetricKind, MetricValue, Text, TimeRange, Timestamp, Value};
use proptest::prelude::*;

use crate::chunk::{is_same_summary, summarize};
use crate::snapshot::{StoreSnapshot, View};
use crate::tombstone::Tombstone;
use crate::vfs::faulty::FaultyVfs;
use crate::{Ack, LateWindow, Store, StoreOptions};

/// Cells by labels, column and time.
type Cells = BTreeMap<(Labels, Text), BTreeMap<i64, Value>>;

#[derive(Clone, Debug)]
enum Op {
    /// Rows from a moment on, one a second, each of the same set and columns.
    Append {
        set: u8,
        columns: u8,
        start: i64,
        rows: i64,
        value: i64,
    },
    Flush,
    /// Deletes samples of the segments there are, without writing anything.
    Delete {
        set: Option<u8>,
        start: i64,
        len: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0_u8..8, 1_u8..8, 0_i64..600, 1_i64..200, any::<i64>()).prop_map(
            |(set, columns, start, rows, value)| Op::Append { set, columns, start, rows, value }),
        3 => Just(Op::Flush),
        1 => (prop::option::of(0_u8..8), 0_i64..800, 0_i64..400)
            .prop_map(|(set, start, len)| Op::Delete { set, start, len }),
    ]
}

fn labels(set: u8) -> Labels {
    // Labels of different length, some of which others begin with.
    let all = [("app", set / 4), ("pod", set / 2), ("type", set)];
    let some = all.into_iter().filter(|(_, value)| value % 3 != 2);
    let mut labels: Labels = some.map(|(name, value)| (name, format!("{name}-{value}"))).collect();
    labels.set("zone", if set.is_multiple_of(2) { String::new() } else { format!("z{set}") });
    labels
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + second * 1000)
}

fn seconds(start: i64, len: i64) -> TimeRange {
    TimeRange::new(at(start), at(start + len))
}

fn selector(range: TimeRange) -> Selector {
    Selector { matchers: Vec::new(), columns: Columns::All, range }
}

/// A store with what the operations say, and what is to be read from it.
fn build(ops: &[Op]) -> (StoreSnapshot, Cells) {
    let options = StoreOptions {
        vfs: Arc::new(FaultyVfs::new()),
        late_window: LateWindow::Any,
        future_max: None,
        ..StoreOptions::default()
    };
    let store = Store::open("/store", options).unwrap();
    let mut cells = Cells::new();
    let mut tombstones = Vec::new();
    for op in ops {
        match op {
            Op::Append { set, columns, start, rows, value } => {
                for row in 0..*rows {
                    let names = ["a", "b", "c"].into_iter().enumerate();
                    let names = names.filter(|(bit, _)| columns >> bit & 1 == 1);
                    let value = |bit: usize| match bit {
                        // A column of floats, one of small integers, one that grows.
                        0 => Value::Float((value % 1000) as f64 / 3.0),
                        1 => Value::Int((value >> 60) + row % 3),
                        _ => Value::Int((value >> 8) + row * 4096),
                    };
                    let cell = |(bit, name): (usize, &'static str)| {
                        let metric = MetricValue { value: value(bit), kind: MetricKind::Gauge };
                        (Text::from_static(name), metric)
                    };
                    let row_of_set = Row { labels: labels(*set), cells: names.map(cell).collect() };
                    let at = at(start + row);
                    let report = store.append_rows(at, [&row_of_set], Ack::Memory).unwrap();
                    assert_eq!(report.rejected.total(), 0);
                    for (name, metric) in row_of_set.cells {
                        let column = cells.entry((row_of_set.labels.clone(), name)).or_default();
                        column.insert(at.as_millis(), metric.value);
                    }
                }
            }
            Op::Flush => drop(store.flush().unwrap()),
            Op::Delete { set, start, len } => {
                store.flush().unwrap();
                let range = seconds(*start, *len);
                let matchers = set.map(|set| Matcher::equal("type", format!("type-{set}")));
                let matchers: Vec<Matcher> = matchers.into_iter().collect();
                let is_about = |labels: &Labels| {
                    matchers.iter().all(|matcher| matcher.matches(labels.value(matcher.name())))
                };
                for ((labels, _), column) in &mut cells {
                    if is_about(labels) {
                        column.retain(|at, _| !range.contains(Timestamp::from_millis(*at)));
                    }
                }
                let segments = store.current_view().segments.iter().map(|s| s.info().id).max();
                let segments_below = segments.map_or(0, |id| id + 1);
                tombstones.push(Tombstone { segments_below, matchers, range });
            }
        }
    }
    let view = View { tombstones: tombstones.into(), ..View::clone(&store.current_view()) };
    cells.retain(|_, column| !column.is_empty());
    (StoreSnapshot::new(Arc::new(view), u64::MAX), cells)
}

/// Reads all runs of a column, each in every way there is.
fn read(set: &dyn SelectedSet, column: usize) -> BTreeMap<i64, Value> {
    let mut cursor = set.read(column);
    let mut samples = Samples::default();
    let mut cells = BTreeMap::new();
    let mut newest = None;
    while let Some(Run { first, last, summary }) = cursor.next_run().unwrap() {
        assert_eq!(cursor.count().unwrap(), {
            cursor.decode(&mut samples).unwrap();
            samples.timestamps.len() as u64
        });
        assert!(samples.timestamps.is_sorted_by(|a, b| a < b));
        assert!(samples.timestamps.iter().all(|at| (first..=last).contains(at)));
        assert!(newest.is_none_or(|newest| newest < first), "runs do not overlap");
        newest = Some(last);
        if let Some(summary) = summary {
            assert!(is_same_summary(&summary, &summarize(&samples.values).unwrap()));
            assert_eq!(samples.timestamps.first(), Some(&first));
            assert_eq!(samples.timestamps.last(), Some(&last));
        }
        cells.extend(samples.iter().map(|(at, value)| (at.as_millis(), value)));
    }
    assert_eq!(cursor.next_run().unwrap(), None, "the end stays the end");
    let newest = cells.last_key_value();
    let newest = newest.map(|(at, value)| (Timestamp::from_millis(*at), *value));
    assert_eq!(set.last(column).unwrap(), newest);
    cells
}

/// Everything of a range, and that sets and columns come in order.
fn read_all(snapshot: &StoreSnapshot, selector: &Selector) -> Cells {
    let sets = snapshot.select(selector).unwrap();
    assert!(sets.is_sorted_by(|a, b| a.labels() < b.labels()));
    let mut cells = Cells::new();
    for set in &sets {
        assert!(set.columns().is_sorted_by(|a, b| a.name < b.name) && !set.columns().is_empty());
        for (index, column) in set.columns().iter().enumerate() {
            let read = read(&**set, index);
            if !read.is_empty() {
                cells.insert((set.labels().clone(), column.name.clone()), read);
            }
        }
    }
    cells
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let name = prop::sample::select(vec!["app", "pod", "type", "zone", "absent"]);
    let text = prop::sample::select(vec![
        "app-0",
        "app-1",
        "pod-1",
        "type-3",
        "type-4|type-6",
        "type-.*",
        "type-.+",
        ".*1",
        ".+",
        ".*",
        "",
        "z.|",
        "pod-[013]",
        "nothing",
    ]);
    (name, text, 0..4_u8).prop_map(|(name, text, op)| match op {
        0 => Matcher::equal(name, text),
        1 => Matcher::not_equal(name, text),
        2 => Matcher::regex(name, text).unwrap(),
        _ => Matcher::not_regex(name, text).unwrap(),
    })
}

fn some_selector() -> impl Strategy<Value = Selector> {
    let columns = prop_oneof![
        Just(Columns::All),
        prop::sample::select(vec!["a", "b", "none"]).prop_map(|name| Columns::Named(name.into())),
        Just(Columns::Matching(Matcher::regex("__name__", "a|c").unwrap())),
    ];
    let range = prop_oneof![
        2 => Just(TimeRange::ALL),
        3 => (0_i64..800, 0_i64..400).prop_map(|(start, len)| seconds(start, len)),
    ];
    (prop::collection::vec(matcher(), 0..3), columns, range)
        .prop_map(|(matchers, columns, range)| Selector { matchers, columns, range })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn a_selection_reads_as_a_map_does(
        ops in prop::collection::vec(op(), 1..24), selectors in prop::collection::vec(some_selector(), 6),
    ) {
        let (snapshot, cells) = build(&ops);
        prop_assert_eq!(&read_all(&snapshot, &selector(TimeRange::ALL)), &cells);
        for selector in &selectors {
            let mut expected = cells.clone();
            expected.retain(|(labels, name), column| {
                column.retain(|at, _| selector.range.contains(Timestamp::from_millis(*at)));
                let matches = |one: &Matcher| one.matches(labels.value(one.name()));
                !column.is_empty() && selector.columns.contains(name) && selector.matchers.iter().all(matches)
            });
            prop_assert_eq!(&read_all(&snapshot, selector), &expected, "{:?}", selector);
            // Bounds may promise more than is there, never less, and the listings promise the same.
            let sets = snapshot.select(selector).unwrap();
            let names = snapshot.column_names(selector).unwrap();
            let mut of_sets: Vec<Text> =
                sets.iter().flat_map(|set| set.columns()).map(|column| column.name.clone()).collect();
            of_sets.sort();
            of_sets.dedup();
            prop_assert_eq!(names, of_sets);
            let mut of_sets: Vec<Text> =
                sets.iter().flat_map(|set| set.labels().iter()).map(|label| label.name.clone()).collect();
            of_sets.sort();
            of_sets.dedup();
            prop_assert_eq!(snapshot.label_names(selector).unwrap(), of_sets);
            for name in ["type", "zone", "absent"] {
                let mut of_sets: Vec<Text> =
                    sets.iter().filter_map(|set| set.labels().get(name).cloned()).collect();
                of_sets.sort();
                of_sets.dedup();
                prop_assert_eq!(snapshot.label_values(name, selector).unwrap(), of_sets);
            }
        }
    }
}

#[test]
fn a_set_whose_rows_are_all_deleted_is_not_found() {
    let ops = [
        Op::Append { set: 0, columns: 7, start: 0, rows: 100, value: 5 },
        Op::Append { set: 1, columns: 7, start: 0, rows: 100, value: 5 },
        Op::Delete { set: Some(0), start: 0, len: 60 },
        Op::Delete { set: Some(0), start: 50, len: 100 },
        // Appended after the deletion, and then flushed.
        Op::Append { set: 3, columns: 1, start: 0, rows: 10, value: 5 },
        Op::Flush,
    ];
    let (snapshot, _) = build(&ops);
    let all = selector(TimeRange::ALL);
    let found = snapshot.select(&all).unwrap();
    let found: Vec<_> = found.iter().map(|set| set.labels().value("type").to_owned()).collect();
    assert_eq!(found, ["type-1", "type-3"]);
    assert_eq!(snapshot.label_values("type", &all).unwrap(), ["type-1", "type-3"]);
}

#[test]
fn a_run_that_a_deletion_touches_has_no_summary() {
    let append = Op::Append { set: 1, columns: 4, start: 0, rows: 200, value: 1 << 40 };
    let (snapshot, _) = build(&[append.clone(), Op::Flush]);
    let summary_of = |snapshot: &StoreSnapshot| {
        let sets = snapshot.select(&selector(TimeRange::ALL)).unwrap();
        sets[0].read(0).next_run().unwrap().unwrap().summary
    };
    assert_eq!(summary_of(&snapshot).map(|summary| summary.count), Some(200));
    let (snapshot, _) = build(&[append, Op::Delete { set: Some(1), start: 50, len: 10 }]);
    assert_eq!(summary_of(&snapshot), None);
}

#[test]
fn cardinality_is_that_of_the_part_with_the_most() {
    let append = |set, columns| Op::Append { set, columns, start: 0, rows: 1, value: 1 };
    let ops = [append(0, 7), append(1, 1), append(3, 3), Op::Flush, append(0, 1), append(4, 1)];
    let (snapshot, _) = build(&ops);
    let found = snapshot.cardinality(2).unwrap();
    assert_eq!((found.sets, found.series), (3, 6));
    let metrics: Vec<_> = found.metrics.iter().map(|one| (one.name.as_str(), one.sets)).collect();
    assert_eq!(metrics, [("a", 3), ("b", 2)]);
    let labels = found.labels.iter().map(|one| (one.name.as_str(), one.values, one.sets));
    // Of "zone" the head has no value, since empty ones are not counted there.
    assert_eq!(labels.collect::<Vec<_>>(), [("type", 3, 3), ("zone", 3, 3)]);
    let pairs: Vec<_> =
        found.pairs.iter().map(|one| (one.name.as_str(), one.value.as_str(), one.sets)).collect();
    assert_eq!(pairs, [("app", "app-0", 3), ("pod", "pod-0", 2)]);
}
