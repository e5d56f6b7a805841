//! Prometheus' own test scripts through the HTTP API, over real sockets.
//!
//! The scripts lie outside the repository; where they are missing the test says that it is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use heapster_core::series::Row;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Timestamp, Value};
use heapster_query::promql::{
    InstantSample, MatrixSeries, QueryAnswer, QueryLimits, QueryStats, QueryValue,
};
use heapster_server::api::prometheus::{PrometheusOptions, PrometheusState, add_routes};
use heapster_server::http::{Router, ServerOptions, serve};
use heapster_server::intake::Intake;
use heapster_server::telemetry::Registry;
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, Clock, LateWindow, Store, StoreOptions, SystemClock};
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::prometheus_api::{form, request};
use crate::script::{self, Command, Eval, Series, When};
use crate::verdict::{COUNTS, LeftOut, check_answer, left_out};

/// A server over an empty store that takes samples of any time.
struct Epoch {
    store: Arc<Store>,
    histograms: Vec<Labels>,
    address: String,
    stop: CancellationToken,
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Epoch {
    async fn begin() -> Self {
        let options = StoreOptions {
            vfs: Arc::new(FaultyVfs::new()),
            late_window: LateWindow::Any,
            future_max: None,
            ..StoreOptions::default()
        };
        let store = Arc::new(Store::open("/store", options).expect("it opens"));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let registry = Arc::new(Registry::default());
        let intake =
            Intake::new(Arc::clone(&store), Ack::Memory, Arc::clone(&clock), Arc::clone(&registry));
        let mut router = Router::new(registry, Arc::clone(&clock));
        let limits = QueryLimits { samples_max: 10_000, ..PrometheusOptions::default().limits };
        let options = PrometheusOptions { limits, ..PrometheusOptions::default() };
        let intake = Arc::new(intake);
        let (targets, metadata) = (Arc::default(), Arc::default());
        let store_of = Arc::clone(&store);
        let state = PrometheusState { store: store_of, intake, targets, metadata, clock, options };
        add_routes(&mut router, state);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(serve(listener, Arc::new(router), ServerOptions::default(), stopped));
        Self { store, histograms: Vec::new(), address, stop }
    }

    fn load(&self, series: &[Series]) {
        let mut rows: BTreeMap<i64, BTreeMap<Labels, Row>> = BTreeMap::new();
        for (labels, values) in series {
            let mut labels = labels.clone();
            let name = labels.remove("__name__").unwrap_or_default();
            for (at, value) in values {
                let metric = MetricValue { value: Value::Float(*value), kind: MetricKind::Gauge };
                let empty = || Row { labels: labels.clone(), cells: Vec::new() };
                let row = rows.entry(*at).or_default().entry(labels.clone()).or_insert_with(empty);
                row.cells.push((Text::clone(&name), metric));
            }
        }
        for (at, rows) in rows {
            let at = Timestamp::from_millis(at);
            let report = self.store.append_rows(at, rows.values(), Ack::Memory).expect("room");
            assert_eq!(report.rejected.total(), 0);
        }
    }

    fn ask(&self, eval: &Eval) -> Result<QueryAnswer, String> {
        let seconds = |millis: i64| (millis as f64 / 1000.0).to_string();
        let (path, times) = match eval.when {
            When::Instant(at) => ("query", vec![("time", seconds(at))]),
            When::Range { start, end, step } => {
                let times =
                    [("start", seconds(start)), ("end", seconds(end)), ("step", seconds(step))];
                ("query_range", times.to_vec())
            }
        };
        let mut pairs = vec![("query", eval.query.as_str())];
        pairs.extend(times.iter().map(|(name, value)| (*name, value.as_str())));
        let target = format!("/api/v1/{path}");
        let json = request(&self.address, "POST", &target, "", &form(&pairs)).json();
        if let Some(error) = json["error"].as_str() {
            let prefix = "invalid parameter \"query\": ";
            return Err(error.strip_prefix(prefix).unwrap_or(error).to_owned());
        }
        Ok(answer(&json))
    }
}

/// The answer that an envelope holds.
fn answer(json: &Json) -> QueryAnswer {
    let texts = |key: &str| -> Vec<String> {
        let texts = json[key].as_array().into_iter().flatten();
        texts.map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let result = &json["data"]["result"];
    let list = || result.as_array().expect("a list").iter();
    let value = match json["data"]["resultType"].as_str() {
        Some("scalar") => QueryValue::Scalar(point(result).1),
        Some("string") => QueryValue::Text(result[1].as_str().expect("a text").to_owned()),
        Some("vector") => QueryValue::Vector(
            list()
                .map(|one| InstantSample {
                    labels: labels(&one["metric"]),
                    value: point(&one["value"]).1,
                })
                .collect(),
        ),
        Some("matrix") => QueryValue::Matrix(
            list()
                .map(|one| MatrixSeries {
                    labels: labels(&one["metric"]),
                    points: one["values"].as_array().expect("points").iter().map(point).collect(),
                })
                .collect(),
        ),
        other => panic!("a result of type {other:?}: {json}"),
    };
    let (warnings, infos) = (texts("warnings"), texts("infos"));
    QueryAnswer { value, warnings, infos, stats: QueryStats::default() }
}

fn labels(metric: &Json) -> Labels {
    let pairs = metric.as_object().expect("labels").iter();
    pairs
        .map(|(name, value)| (Text::from(name.as_str()), value.as_str().expect("a value")))
        .collect()
}

fn point(point: &Json) -> (Timestamp, f64) {
    let seconds = point[0].as_f64().expect("a time");
    let value = point[1].as_str().expect("a value in quotes").parse().expect("a number");
    (Timestamp::from_millis((seconds * 1000.0).round() as i64), value)
}

/// Passed, native and experimental cases of a script, and what failed.
async fn run(file: &str, commands: &[Command]) -> ((usize, usize, usize), Vec<String>) {
    let mut epoch = Epoch::begin().await;
    let (mut counts, mut failures) = ((0, 0, 0), Vec::new());
    for command in commands {
        match command {
            Command::Clear => epoch = Epoch::begin().await,
            Command::Load { floats, histograms } => {
                epoch.load(floats);
                epoch.histograms.extend_from_slice(histograms);
            }
            Command::Eval(eval) => match left_out(eval, &epoch.histograms) {
                Some(LeftOut::Native(why)) => {
                    eprintln!("{file}.test:{}: skipped: {why}", eval.line);
                    counts.1 += 1;
                }
                Some(LeftOut::Experimental(why)) => {
                    eprintln!("{file}.test:{}: skipped: {why}", eval.line);
                    counts.2 += 1;
                }
                None => {
                    let asked = tokio::task::block_in_place(|| epoch.ask(eval));
                    match check_answer(eval, &asked) {
                        Ok(()) => counts.0 += 1,
                        Err(why) => failures
                            .push(format!("{file}.test:{}: {}\n    {why}", eval.line, eval.query)),
                    }
                }
            },
        }
    }
    (counts, failures)
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_own_scripts_pass_over_http() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/promqltest");
    if !folder.exists() {
        eprintln!("skipped: no shared promqltest beside the workspace");
        return;
    }
    let (mut failures, mut counted) = (Vec::new(), Vec::new());
    for (name, ..) in COUNTS {
        let text = fs::read_to_string(folder.join(name).with_extension("test")).expect("a script");
        let ((passed, native, experimental), failed) = run(name, &script::parse(&text)).await;
        counted.push((name, passed, native, experimental));
        failures.extend(failed);
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert_eq!(counted, COUNTS);
}
