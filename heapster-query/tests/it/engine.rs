//! Promises of the engine beside what the scripts say: limits, exactness, names, threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heapster_core::series::Row;
use heapster_core::storage::{MemoryStorage, Storage};
use heapster_core::{Labels, MetricValue, TimeRange, Timestamp, Value};
use heapster_query::promql::vocabulary::Kubernetes;
use heapster_query::promql::{
    self, Control, Engine, EngineOptions, QueryAnswer, QueryLimits, QueryValue, check_resolution,
};
use heapster_query::{Cancel, QueryError};

use crate::script::STALE;
use crate::storage::{Data, KINDS};

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

fn row(labels: &[(&str, &str)], cells: &[(&str, MetricValue)]) -> Row {
    Row {
        labels: labels.iter().copied().collect(),
        cells: cells.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
    }
}

/// Many series of a counter and a gauge, a sample every 10 s for an hour.
fn many(series: usize) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for second in (0..3600).step_by(10) {
        let rows: Vec<Row> = (0..series)
            .map(|index| {
                let (pod, app) = (format!("p{index:04}"), format!("a{}", index % 7));
                let value = (index as f64 + 0.1) * second as f64 / 3.0;
                let cells = [
                    ("c_total", MetricValue::cumulative(value)),
                    ("g", MetricValue::gauge(value.sin())),
                ];
                row(&[("pod", &pod), ("app", &app)], &cells)
            })
            .collect();
        storage.append(at(second), &rows);
    }
    storage
}

fn range(engine: &Engine, storage: &MemoryStorage, query: &str) -> Result<QueryAnswer, QueryError> {
    let snapshot = storage.snapshot().unwrap();
    let step = Duration::from_secs(60);
    engine.range(&*snapshot, query, at(0), at(3600), step, &Control::default())
}

fn instant(storage: &MemoryStorage, query: &str, second: i64) -> QueryValue {
    let snapshot = storage.snapshot().unwrap();
    let engine = Engine::default();
    engine.instant(&*snapshot, query, at(second), &Control::default()).unwrap().value
}

fn limited(limits: QueryLimits) -> Engine {
    Engine::new(EngineOptions { limits, threads: 2, ..EngineOptions::default() })
}

fn vector(elements: &[(&[(&str, &str)], f64)]) -> QueryValue {
    let sample = |(labels, value): &(&[(&str, &str)], f64)| {
        let labels: Labels = labels.iter().copied().collect();
        promql::InstantSample { labels, value: *value }
    };
    QueryValue::Vector(elements.iter().map(sample).collect())
}

#[test]
fn a_result_does_not_depend_on_the_number_of_threads() {
    let storage = many(700);
    for query in [
        "sum by (app) (rate(c_total[5m]))",
        "avg(g)",
        "stddev by (app) (g * 3)",
        "topk(3, g) + 1",
        "max_over_time(g[10m])",
        "quantile(0.9, g)",
        "sum(c_total) / count(c_total) > 1",
    ] {
        let answers = [1, 2, 5].map(|threads| {
            let options = EngineOptions { threads, ..EngineOptions::default() };
            let answer = range(&Engine::new(options), &storage, query).unwrap();
            // By bits: what prints the same is the same.
            format!("{:?}", (answer.value, answer.warnings, answer.infos))
        });
        assert!(answers[0].len() > 100, "{query}: {}", answers[0]);
        assert!(answers.windows(2).all(|two| two[0] == two[1]), "{query}");
    }
}

#[test]
fn an_aggregation_does_not_hold_the_series_below_it() {
    let storage = many(1000);
    let answer =
        range(&limited(QueryLimits::default()), &storage, "sum(rate(c_total[5m]))").unwrap();
    assert!(answer.stats.samples_peak < 61 * 100, "{:?}", answer.stats);
    assert!(answer.stats.samples_touched >= 1000 * 350, "{:?}", answer.stats);
    let answer = range(&limited(QueryLimits::default()), &storage, "rate(c_total[5m])").unwrap();
    assert!(answer.stats.samples_peak >= 1000 * 60, "{:?}", answer.stats);
    assert_eq!(answer.stats.series, 1000);
}

#[test]
fn limits_have_an_error_each() {
    let storage = many(300);
    let samples = limited(QueryLimits { samples_max: 5000, ..QueryLimits::default() });
    let error = range(&samples, &storage, "g").unwrap_err();
    assert!(matches!(error, QueryError::TooManySamples { limit: 5000 }), "{error}");
    assert!(range(&samples, &storage, "sum(g)").is_ok());
    let memory = limited(QueryLimits { memory_max_bytes: 50_000, ..QueryLimits::default() });
    let error = range(&memory, &storage, "g").unwrap_err();
    assert!(matches!(error, QueryError::TooMuchMemory { limit_bytes: 50_000 }), "{error}");

    let snapshot = storage.snapshot().unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let cancelled = Control { cancel, elapsed: None };
    let error = samples.instant(&*snapshot, "sum(g)", at(60), &cancelled).unwrap_err();
    assert!(matches!(error, QueryError::Cancelled), "{error}");
    let late =
        Control { elapsed: Some(Arc::new(|| Duration::from_secs(31))), ..Control::default() };
    let error = samples.instant(&*snapshot, "sum(g)", at(60), &late).unwrap_err();
    assert_eq!(error.to_string(), "query timed out in expression evaluation");
}

#[test]
fn groups_of_topk_count_as_memory_also_at_steps_without_a_value() {
    let storage = many(300);
    // A value at one step of 61 for each series; the series themselves take 0.25 MB.
    let sparse = "(g and on () (vector(time()) == 60))";
    let engine = limited(QueryLimits { memory_max_bytes: 500_000, ..QueryLimits::default() });
    assert!(range(&engine, &storage, &format!("topk(1, {sparse})")).is_ok());
    let error = range(&engine, &storage, &format!("topk by (pod) (1, {sparse})")).unwrap_err();
    assert!(matches!(error, QueryError::TooMuchMemory { .. }), "{error}");
}

#[test]
fn raw_samples_and_answers_count_as_what_they_take() {
    let storage = many(100);
    // 36,000 samples of 8 bytes for a value and as many for its time.
    let engine = limited(QueryLimits { memory_max_bytes: 500_000, ..QueryLimits::default() });
    let snapshot = storage.snapshot().unwrap();
    let raw = engine.instant(&*snapshot, "g[1h]", at(3600), &Control::default());
    assert!(matches!(raw, Err(QueryError::TooMuchMemory { .. })), "{raw:?}");
    // 6,100 points: 75 kB as a table, and 98 kB more as an answer.
    let engine = limited(QueryLimits { memory_max_bytes: 100_000, ..QueryLimits::default() });
    assert!(range(&engine, &storage, "sum(g) or sum(c_total)").is_ok());
    let error = range(&engine, &storage, "g").unwrap_err();
    assert!(matches!(error, QueryError::TooMuchMemory { .. }), "{error}");
}

#[test]
fn a_counter_that_falls_over_a_staleness_marker_has_fallen() {
    let value = |index: i64| match index {
        150 => STALE,
        ..150 => 1000.5 + index as f64,
        _ => 0.5 + index as f64,
    };
    let labels: Labels = [("__name__", "c_total")].iter().copied().collect();
    let samples: BTreeMap<i64, f64> =
        (0..300).map(|index| (index * 10_000, value(index))).collect();
    for kind in KINDS {
        let data = Data::new(kind);
        data.load(&[(labels.clone(), samples.clone())]);
        let engine = Engine::default();
        let query = "resets(c_total[1h])";
        let answer = engine.instant(&*data.snapshot(), query, at(3000), &Control::default());
        assert_eq!(answer.unwrap().value, vector(&[(&[], 1.0)]), "{kind:?}");
    }
}

#[test]
fn labels_that_a_query_makes_are_short_and_count_as_memory() {
    let storage = many(300);
    let doubled = |times: usize| {
        let mut query = "g".to_owned();
        for _ in 0..times {
            query = format!("label_replace({query}, \"pod\", \"$1$1\", \"pod\", \"(.*)\")");
        }
        query
    };
    let engine = limited(QueryLimits { memory_max_bytes: 4 << 20, ..QueryLimits::default() });
    assert!(range(&engine, &storage, &doubled(4)).is_ok());
    // 300 values of 20 KiB.
    let error = range(&engine, &storage, &doubled(12)).unwrap_err();
    assert!(matches!(error, QueryError::TooMuchMemory { .. }), "{error}");
    let joined = format!("label_join(g, \"l\", \"{}\", \"pod\", \"pod\")", "x".repeat(70_000));
    let written = format!("label_replace(g, \"l\", \"{}\", \"\", \"\")", "x".repeat(70_000));
    for query in [doubled(40), joined, written] {
        let error = range(&Engine::default(), &many(1), &query).unwrap_err().to_string();
        assert!(error.contains("longer than 65536 bytes"), "{error}");
    }
    let late =
        Control { elapsed: Some(Arc::new(|| Duration::from_secs(31))), ..Control::default() };
    let query = "label_replace(vector(1), \"a\", \"b\", \"\", \"\")";
    let snapshot = storage.snapshot().unwrap();
    let error = engine.instant(&*snapshot, query, at(60), &late).unwrap_err();
    assert!(matches!(error, QueryError::TimedOut), "{error}");
}

#[test]
fn a_query_of_very_many_steps_is_refused_before_it_takes_memory() {
    let (storage, snapshot) = (many(1), many(1).snapshot().unwrap());
    let engine = Engine::default();
    let step = Duration::from_millis(1);
    for query in ["1", "time()", "g", "sum(g)", "vector(1)", "absent(g)", "g[1y:1ms]"] {
        let asked = engine.range(
            &*snapshot,
            query,
            Timestamp::MIN,
            Timestamp::MAX,
            step,
            &Control::default(),
        );
        assert!(asked.is_err(), "{query}");
    }
    for query in [
        "sum_over_time(g[100y:1ms])",
        "g @ 9000000000",
        "rate(g[292y] offset -292y)",
        "g offset 292y @ -9e9",
    ] {
        // Whether there is an answer or a limit is met, it comes at once.
        let _ = engine.instant(&*snapshot, query, Timestamp::MIN, &Control::default());
        let _ = engine.instant(&*snapshot, query, Timestamp::MAX, &Control::default());
    }
    let limits = QueryLimits::default();
    let error = check_resolution(at(0), at(11_001), Duration::from_secs(1), &limits).unwrap_err();
    assert_eq!(
        error.to_string(),
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
    );
    assert!(check_resolution(at(0), at(11_000), Duration::from_secs(1), &limits).is_ok());
    assert!(range(&engine, &storage, "\"a\"").is_err_and(|error| {
        error.to_string() == "invalid expression type \"string\" for range query, must be Scalar or instant Vector"
    }));
}

#[test]
fn differences_of_large_integers_are_exact() {
    let storage = MemoryStorage::new();
    let base = (1_i64 << 60) + 1;
    for (second, more) in [(0, 0), (60, 3), (120, 7)] {
        storage.append(at(second), &[row(&[], &[("n", MetricValue::cumulative(base + more))])]);
    }
    assert_eq!(instant(&storage, "delta(n[2m1ms])", 120), vector(&[(&[], 7.0 * 120.001 / 120.0)]));
    assert_eq!(instant(&storage, "idelta(n[5m])", 120), vector(&[(&[], 4.0)]));
    // As floats these were 0.
    assert_eq!(instant(&storage, "irate(n[5m])", 120), vector(&[(&[], 4.0 / 60.0)]));
}

#[test]
fn a_stored_name_its_underscore_form_and_another_vocabulary_read_one_column() {
    let storage = MemoryStorage::new();
    let of_type = |kind: &'static str| {
        [
            ("type", kind),
            ("pod_name", "web-1"),
            ("namespace_name", "shop"),
            ("container_name", if kind == "pod" { "" } else { "c" }),
            ("host_id", ""),
        ]
    };
    for second in [0, 60] {
        let usage = MetricValue::cumulative(second * 500_000_000);
        let request = MetricValue::gauge(250_i64);
        let cells = [("cpu/usage", usage), ("cpu/request", request), ("__time__/scrape", usage)];
        storage.append(
            at(second),
            &[row(&of_type("pod_container"), &cells), row(&of_type("pod"), &cells)],
        );
    }
    let snapshot = storage.snapshot().unwrap();
    let options = EngineOptions { vocabulary: Arc::new(Kubernetes), ..EngineOptions::default() };
    let engine = Engine::new(options);
    let ask = |query: &str| engine.instant(&*snapshot, query, at(60), &Control::default()).unwrap();
    let stored: &[(&str, &str)] = &[
        ("namespace_name", "shop"),
        ("pod_name", "web-1"),
        ("type", "pod"),
        ("__name__", "cpu/usage"),
    ];
    assert_eq!(ask(r#"{"cpu/usage", type="pod"}"#).value, vector(&[(stored, 3e10)]));
    let underscored: &[(&str, &str)] = &[
        ("namespace_name", "shop"),
        ("pod_name", "web-1"),
        ("type", "pod"),
        ("__name__", "cpu_usage"),
    ];
    assert_eq!(ask(r#"cpu_usage{type="pod"}"#).value, vector(&[(underscored, 3e10)]));
    let own: &[(&str, &str)] = &[("container", "c"), ("namespace", "shop"), ("pod", "web-1")];
    let answer =
        ask(r#"irate(container_cpu_usage_seconds_total{namespace="shop",pod=~"web-.*"}[61s])"#);
    assert_eq!(answer.value, vector(&[(own, 0.5)]));
    assert_eq!((answer.warnings, answer.infos), (Vec::new(), Vec::new()));
    assert_eq!(ask(r#"container_cpu_usage_seconds_total{pod!~"web-.*"}"#).value, vector(&[]));
    let request: &[(&str, &str)] = &[
        ("__name__", "kube_pod_container_resource_requests"),
        ("container", "c"),
        ("namespace", "shop"),
        ("pod", "web-1"),
        ("resource", "cpu"),
        ("unit", "core"),
    ];
    let query = r#"kube_pod_container_resource_requests{resource="cpu"}"#;
    assert_eq!(ask(query).value, vector(&[(request, 0.25)]));
    assert_eq!(ask(r#"count({type="pod"})"#).value, vector(&[(&[], 2.0)]), "times are no metrics");
}

#[test]
fn series_that_only_the_store_tells_apart_are_an_error() {
    let storage = MemoryStorage::new();
    let cells = [("m", MetricValue::gauge(1_i64))];
    storage.append(
        at(0),
        &[
            row(&[("a", "1"), ("r", "x")], &cells),
            row(&[("a", "1"), ("r", "x"), ("__labeled__", "r")], &cells),
        ],
    );
    let snapshot = storage.snapshot().unwrap();
    let asked = Engine::default().instant(&*snapshot, "m", at(0), &Control::default());
    assert_eq!(
        asked.unwrap_err().to_string(),
        "vector cannot contain metrics with the same labelset"
    );
}

#[test]
fn what_should_be_a_counter_is_told_by_its_place() {
    let storage = MemoryStorage::new();
    for second in [0, 60] {
        let (gauge, counter) =
            (MetricValue::gauge(second), MetricValue::cumulative(Value::Int(second)));
        storage.append(
            at(second),
            &[row(&[], &[("heat", gauge), ("cpu/usage", counter), ("x_total", gauge)])],
        );
    }
    let snapshot = storage.snapshot().unwrap();
    let ask = |query: &str| {
        Engine::default().instant(&*snapshot, query, at(60), &Control::default()).unwrap()
    };
    assert_eq!(
        ask("1 +\n  rate(heat[5m])").infos,
        [
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"heat\" (2:8)"
        ]
    );
    assert!(ask("rate(x_total[5m])").infos.is_empty());
    assert!(ask("rate(cpu_usage[5m])").infos.is_empty());
}

#[test]
fn every_stable_function_has_a_plan() {
    let storage = many(1);
    let snapshot = storage.snapshot().unwrap();
    for name in [
        "abs(g)",
        "absent(g)",
        "absent_over_time(g[5m])",
        "acos(g)",
        "acosh(g)",
        "asin(g)",
        "asinh(g)",
        "atan(g)",
        "atanh(g)",
        "avg_over_time(g[5m])",
        "ceil(g)",
        "changes(g[5m])",
        "clamp(g, 0, 1)",
        "clamp_max(g, 1)",
        "clamp_min(g, 1)",
        "cos(g)",
        "cosh(g)",
        "count_over_time(g[5m])",
        "day_of_month()",
        "day_of_week(g)",
        "day_of_year()",
        "days_in_month()",
        "deg(g)",
        "delta(g[5m])",
        "deriv(g[5m])",
        "exp(g)",
        "first_over_time(g[5m])",
        "floor(g)",
        "histogram_fraction(0, 1, g)",
        "histogram_quantile(0.9, g)",
        "hour()",
        "idelta(g[5m])",
        "increase(g[5m])",
        "irate(g[5m])",
        "label_join(g, \"a\", \"-\", \"pod\")",
        "label_replace(g, \"a\", \"$1\", \"pod\", \"(.*)\")",
        "last_over_time(g[5m])",
        "ln(g)",
        "log10(g)",
        "log2(g)",
        "max_over_time(g[5m])",
        "min_over_time(g[5m])",
        "minute()",
        "month()",
        "pi()",
        "predict_linear(g[5m], 60)",
        "present_over_time(g[5m])",
        "quantile_over_time(0.5, g[5m])",
        "rad(g)",
        "rate(g[5m])",
        "resets(g[5m])",
        "round(g)",
        "round(g, 0.1)",
        "scalar(g)",
        "sgn(g)",
        "sin(g)",
        "sinh(g)",
        "sort(g)",
        "sort_desc(g)",
        "sqrt(g)",
        "stddev_over_time(g[5m])",
        "stdvar_over_time(g[5m])",
        "sum_over_time(g[5m])",
        "tan(g)",
        "tanh(g)",
        "time()",
        "timestamp(g)",
        "vector(1)",
        "year()",
    ] {
        let asked = Engine::default().instant(&*snapshot, name, at(600), &Control::default());
        assert!(asked.is_ok(), "{name}: {asked:?}");
    }
}

#[test]
fn listings_are_those_of_the_selectors_or_of_all() {
    let storage = many(3);
    let snapshot = storage.snapshot().unwrap();
    let (engine, control) = (Engine::default(), Control::default());
    let range = TimeRange::new(at(0), at(100));
    let selector = promql::parse_selector(r#"{__name__=~"g|c_.*", pod="p0001"}"#).unwrap();
    let series = engine.series(&*snapshot, &[selector.clone(), selector.clone()], range, &control);
    let shown: Vec<String> = series.unwrap().iter().map(Labels::to_string).collect();
    let labels = |name: &str| format!(r#"{{__name__="{name}", app="a1", pod="p0001"}}"#);
    assert_eq!(shown, [labels("c_total"), labels("g")]);
    let names = engine.label_names(&*snapshot, &[], range, &control).unwrap();
    assert_eq!(names, ["__name__", "app", "pod"]);
    let values = |label: &str, selectors: &[Vec<heapster_core::Matcher>]| {
        engine.label_values(&*snapshot, label, selectors, range, &control).unwrap()
    };
    assert_eq!(values("pod", &[]), ["p0000", "p0001", "p0002"]);
    assert_eq!(values("pod", std::slice::from_ref(&selector)), ["p0001"]);
    assert_eq!(values("__name__", &[]), ["c_total", "g"]);
    assert!(promql::parse_selector("g offset 5m").is_err());
}

#[test]
fn the_deepest_query_is_answered_within_a_threads_stack() {
    let storage = many(2);
    let snapshot = storage.snapshot().unwrap();
    for (open, inner, close) in [
        ("abs(", "g", ")"),
        ("sum(", "g", ")"),
        ("(", "g", ")"),
        ("sum(1 + ", "g", ")"),
        ("label_join(", "g", ", \"a\", \"\", \"b\")"),
        ("max_over_time(", "g", "[1m:1m])"),
        ("vector(scalar(", "g", "))"),
        ("g and (", "g", ")"),
    ] {
        let nested = |deep: usize| format!("{}{inner}{}", open.repeat(deep), close.repeat(deep));
        let is_read = |query: &String| promql::format(query).is_ok();
        let query = (20..=promql::DEPTH_MAX).rev().map(nested).find(is_read).unwrap();
        let asked = Engine::default().instant(&*snapshot, &query, at(600), &Control::default());
        assert!(asked.is_ok(), "{open}: {asked:?}");
    }
}

#[test]
fn windows_that_overlap_a_lot_end_in_time() {
    let storage = many(1);
    let snapshot = storage.snapshot().unwrap();
    for query in [
        "max_over_time(max_over_time(vector(1)[2d:1s])[2d:1s])",
        // It falls at every other step.
        "max_over_time(rate((vector(1) * (time() % 2))[2d:1s])[2d:1s])",
    ] {
        let asked = AtomicU64::new(0);
        // Each look at the clock is a second.
        let elapsed = move || Duration::from_secs(asked.fetch_add(1, Ordering::Relaxed));
        let control = Control { elapsed: Some(Arc::new(elapsed)), ..Control::default() };
        let error = Engine::default().instant(&*snapshot, query, at(3600), &control).unwrap_err();
        assert_eq!(error.to_string(), "query timed out in expression evaluation", "{query}");
    }
}
