//! The engine against an evaluator that looks at every sample for every step.

use std::collections::BTreeMap;
use std::time::Duration;

use heapster_core::{Labels, Timestamp};
use heapster_query::promql::{Control, Engine, EngineOptions, QueryValue};
use proptest::prelude::*;

use crate::script::{STALE, Series};
use crate::storage::{Data, KINDS};

type Samples = Vec<(i64, f64)>;

/// What a function gives for the samples of a window; there is at least one.
fn over(function: &str, samples: &Samples, start: i64, end: i64) -> Option<f64> {
    let values: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
    let (first, last) = (values[0], values[values.len() - 1]);
    let numbers = || values.iter().copied().filter(|value| !value.is_nan());
    Some(match function {
        "count_over_time" => values.len() as f64,
        "present_over_time" => 1.0,
        "first_over_time" => first,
        "last_over_time" => last,
        "sum_over_time" => values.iter().sum(),
        "avg_over_time" => values.iter().sum::<f64>() / values.len() as f64,
        "min_over_time" => numbers().reduce(f64::min).unwrap_or(f64::NAN),
        "max_over_time" => numbers().reduce(f64::max).unwrap_or(f64::NAN),
        "resets" => values.windows(2).filter(|two| two[1] < two[0]).count() as f64,
        "changes" => {
            let same = |two: &&[f64]| two[0] == two[1] || (two[0].is_nan() && two[1].is_nan());
            values.windows(2).filter(|two| !same(two)).count() as f64
        }
        "idelta" if values.len() > 1 => last - values[values.len() - 2],
        "increase" | "delta" if values.len() > 1 => {
            let mut result = last - first;
            if function == "increase" {
                result +=
                    values.windows(2).filter(|two| two[1] < two[0]).map(|two| two[0]).sum::<f64>();
            }
            let seconds = |millis: i64| millis as f64 / 1000.0;
            let (from, to) = (samples[0].0, samples[samples.len() - 1].0);
            let sampled = seconds(to - from);
            let average = sampled / (values.len() - 1) as f64;
            let cut = |gap: f64| if gap >= average * 1.1 { average / 2.0 } else { gap };
            let mut before = cut(seconds(from - start));
            if function == "increase" && result > 0.0 && first >= 0.0 {
                before = before.min(sampled * first / result);
            }
            result * (sampled + before + cut(seconds(end - to))) / sampled
        }
        _ => return None,
    })
}

const FUNCTIONS: [&str; 13] = [
    "count_over_time",
    "present_over_time",
    "first_over_time",
    "last_over_time",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "resets",
    "changes",
    "idelta",
    "increase",
    "delta",
];

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0_i32..50).prop_map(f64::from),
        3 => -5.0..5.0_f64,
        1 => Just(STALE),
        1 => Just(f64::NAN),
    ]
}

/// Series whose samples are mostly evenly spaced.
fn series() -> impl Strategy<Value = Vec<Series>> {
    let samples =
        prop::collection::vec((prop::sample::select(vec![10, 10, 10, 1, 70]), value()), 0..60);
    prop::collection::vec(samples, 1..5).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(index, samples)| {
                let labels = Labels::from_iter([
                    ("__name__", "m".to_owned()),
                    ("i", index.to_string()),
                    ("odd", (index % 2).to_string()),
                ]);
                let mut at = -100_000;
                let samples = samples.into_iter().map(|(gap, value)| {
                    at += gap * 1000;
                    (at, value)
                });
                (labels, samples.collect::<BTreeMap<_, _>>())
            })
            .collect()
    })
}

#[derive(Clone, Debug)]
struct Grid {
    start: i64,
    step: i64,
    count: i64,
    range: i64,
    offset: i64,
}

fn grid() -> impl Strategy<Value = Grid> {
    let seconds = prop::sample::select(vec![1_i64, 7, 10, 25, 60, 300]);
    (-120_i64..400, seconds.clone(), 1_i64..30, seconds, -30_i64..30).prop_map(
        |(start, step, count, range, offset)| Grid {
            start: start * 1000,
            step: step * 1000,
            count,
            range: range * 1000,
            offset: offset * 1000,
        },
    )
}

fn window(samples: &BTreeMap<i64, f64>, start: i64, end: i64) -> Samples {
    let is_stale = |value: &f64| value.to_bits() == STALE.to_bits();
    let within = samples
        .range(start + 1..=end.max(start + 1))
        .filter(|(at, value)| **at <= end && !is_stale(value));
    within.map(|(at, value)| (*at, *value)).collect()
}

/// The newest sample within five minutes, unless it says that the series has ended.
fn latest(samples: &BTreeMap<i64, f64>, at: i64) -> Option<f64> {
    let (_, value) = samples.range(at - 299_999..=at).next_back()?;
    (value.to_bits() != STALE.to_bits()).then_some(*value)
}

type Points = BTreeMap<Labels, BTreeMap<i64, f64>>;

fn ask(data: &Data, query: &str, grid: &Grid, threads: usize) -> Points {
    let engine = Engine::new(EngineOptions { threads, ..EngineOptions::default() });
    let end = Timestamp::from_millis(grid.start + grid.step * (grid.count - 1));
    let step = Duration::from_millis(grid.step as u64);
    let start = Timestamp::from_millis(grid.start);
    let answer = engine.range(&*data.snapshot(), query, start, end, step, &Control::default());
    let QueryValue::Matrix(series) = answer.unwrap().value else { panic!("no matrix") };
    let points = |points: Vec<(Timestamp, f64)>| -> BTreeMap<i64, f64> {
        points.into_iter().map(|(at, value)| (at.as_millis(), value)).collect()
    };
    series.into_iter().map(|one| (one.labels, points(one.points))).collect()
}

fn assert_same(found: &Points, expected: &Points, query: &str) {
    let keys = |points: &Points| -> Vec<(Labels, Vec<i64>)> {
        points
            .iter()
            .map(|(labels, points)| (labels.clone(), points.keys().copied().collect()))
            .collect()
    };
    assert_eq!(keys(found), keys(expected), "{query}");
    for (labels, points) in expected {
        for (at, value) in points {
            let own = found[labels][at];
            let is_same = own == *value
                || (own.is_nan() && value.is_nan())
                || (own - value).abs() <= 1e-9 * (1.0 + own.abs() + value.abs());
            assert!(is_same, "{query} {labels} at {at}: {own} is not {value}");
        }
    }
}

fn insert(points: &mut Points, labels: &Labels, at: i64, value: Option<f64>) {
    if let Some(value) = value {
        points.entry(labels.clone()).or_default().insert(at, value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]

    #[test]
    fn what_is_quick_is_what_is_plain(
        series in series(), grid in grid(), function in prop::sample::select(FUNCTIONS.to_vec()),
    ) {
        let seconds = |millis: i64| format!("{}s", millis / 1000);
        let range = format!("m[{}] offset {}", seconds(grid.range), seconds(grid.offset));
        let of_window = format!("{function}({range})");
        let summed = format!("sum by (odd) ({of_window})");
        let (mut plain, mut windows, mut sums) = (Points::new(), Points::new(), Points::new());
        for at in (0..grid.count).map(|step| grid.start + step * grid.step) {
            for (labels, samples) in &series {
                insert(&mut plain, labels, at, latest(samples, at));
                let end = at - grid.offset;
                let inside = window(samples, end - grid.range, end);
                let value = (!inside.is_empty()).then(|| over(function, &inside, end - grid.range, end)).flatten();
                let mut labels = labels.clone();
                if !["first_over_time", "last_over_time"].contains(&function) {
                    labels.remove("__name__");
                }
                insert(&mut windows, &labels, at, value);
                let group = Labels::from_iter([("odd", labels.value("odd"))]);
                let before = sums.get(&group).and_then(|points| points.get(&at)).copied();
                insert(&mut sums, &group, at, value.map(|value| value + before.unwrap_or(0.0)));
            }
        }
        for kind in KINDS {
            let data = Data::new(kind);
            data.load(&series);
            assert_same(&ask(&data, "m", &grid, 1), &plain, "m");
            assert_same(&ask(&data, &of_window, &grid, 2), &windows, &of_window);
            assert_same(&ask(&data, &summed, &grid, 2), &sums, &summed);
        }
    }

    #[test]
    fn a_text_is_a_query_or_an_error_with_a_place(text in query_like()) {
        heapster_query::fuzz_support::promql_parse(text.as_bytes());
        let data = Data::new(crate::storage::Kind::Memory);
        let at = Timestamp::from_millis(0);
        // An answer or an error, no panic.
        let _ = Engine::default().instant(&*data.snapshot(), &text, at, &Control::default());
    }
}

/// Texts made of what queries are made of.
fn query_like() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "sum",
        "rate(",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "[5m]",
        "[1h:5m]",
        "[1m:]",
        ",",
        "=",
        "=~",
        "\"x\"",
        "'.*'",
        "`a`",
        "\\",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "==",
        "bool",
        "and",
        "or",
        "unless",
        "by",
        "without",
        "(b)",
        "on",
        "ignoring",
        "group_left",
        "offset",
        "@",
        "start()",
        "end()",
        "1",
        "5m",
        "0x1f",
        "1e3",
        "1_0",
        "NaN",
        "Inf",
        " ",
        "\n",
        "#",
        "ü",
        "topk(",
        "quantile_over_time(",
        "step()",
        "max_of(",
        ":",
        "le",
        "histogram_quantile(0.9,",
        "label_replace(",
        "1y",
        "-1",
        "atan2",
    ]);
    prop::collection::vec(piece, 0..25).prop_map(|pieces| pieces.join(" "))
}
