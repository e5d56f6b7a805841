//! What is asked of the server itself: its health, version, flags and size, and the lists of things
//! heapster does not have, which are empty.

use std::sync::Arc;

use heapster_core::Timestamp;
use heapster_core::storage::Snapshot;
use http::{Method, StatusCode};

use super::error::Failure;
use super::params::Form;
use super::query::success;
use super::{Prometheus, Reader, Wishes, add_route};
use crate::cli::{COMMIT, VERSION};
use crate::http::gojson::JsonWriter;
use crate::http::{Response, Route, Router, text};

/// The release of Prometheus whose API this is. Grafana decides by it what it may ask.
const SPOKEN: &str = "3.4.0";
/// Entries of each list of `status/tsdb` unless the request says otherwise, as in Prometheus.
const TOP: usize = 10;
/// Most entries of such a list.
const TOP_MAX: usize = 10_000;

pub(super) fn add_routes(router: &mut Router, own: &Arc<Prometheus>) {
    add_health(router, own);
    add_route(router, own, ("/status/buildinfo", "status"), |_, _, _| async { Ok(build()) });
    add_route(router, own, ("/status/config", "status"), |_, _, _| async { Ok(config()) });
    add_route(router, own, ("/status/flags", "status"), |own, _, _| async move { Ok(flags(&own)) });
    add_route(router, own, ("/status/runtimeinfo", "status"), |own, _, _| async move {
        Ok(runtime(&own))
    });
    add_route(router, own, ("/status/tsdb", "status"), |own, form, _| tsdb(own, form));
    for (path, lists) in [
        ("/rules", &["groups"][..]),
        ("/alerts", &["alerts"]),
        ("/alertmanagers", &["activeAlertmanagers", "droppedAlertmanagers"]),
    ] {
        let route =
            Route::new(&[Method::GET], &format!("{}{path}", super::PREFIX), move |_| async move {
                success(|json| write_empty(json, lists))
            });
        router.route(route.labeled("status"));
    }
}

/// `/-/healthy` while it runs, `/-/ready` while the store takes samples.
fn add_health(router: &mut Router, own: &Arc<Prometheus>) {
    let healthy = || text(StatusCode::OK, "heapster is healthy.\n");
    router.route(Route::new(&[Method::GET, Method::HEAD], "/-/healthy", move |_| async move {
        healthy()
    }));
    let own = Arc::clone(own);
    router.route(Route::new(&[Method::GET, Method::HEAD], "/-/ready", move |_| {
        let response = match own.state.intake.trouble() {
            None => text(StatusCode::OK, "heapster is ready.\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        };
        async move { response }
    }));
}

fn write_empty(json: &mut JsonWriter, lists: &[&str]) {
    json.begin_object();
    for list in lists {
        json.key(list);
        json.begin_array();
        json.end_array();
    }
    json.end_object();
}

/// An object of texts.
fn write_texts(json: &mut JsonWriter, texts: &[(&str, &str)]) {
    json.begin_object();
    for (key, value) in texts {
        json.key(key);
        json.string(value);
    }
    json.end_object();
}

fn build() -> Response {
    let branch = format!("heapster {VERSION}");
    let texts = [
        ("version", SPOKEN),
        ("revision", COMMIT),
        ("branch", &branch),
        ("buildUser", ""),
        ("buildDate", ""),
        ("goVersion", ""),
    ];
    success(|json| write_texts(json, &texts))
}

fn config() -> Response {
    let yaml = "# heapster has flags and no file; see status/flags\n";
    success(|json| write_texts(json, &[("yaml", yaml)]))
}

fn flags(own: &Prometheus) -> Response {
    success(|json| {
        json.begin_object();
        for (name, value) in &own.state.options.flags {
            json.key(name);
            json.string(value);
        }
        json.end_object();
    })
}

fn runtime(own: &Prometheus) -> Response {
    let (now, stats) = (own.now(), own.state.store.stats());
    success(|json| {
        json.begin_object();
        for (key, time) in
            [("startTime", own.started), ("serverTime", now), ("lastConfigTime", own.started)]
        {
            json.key(key);
            json.plain_text(time);
        }
        json.key("reloadConfigSuccess");
        json.boolean(true);
        json.key("corruptionCount");
        json.uint(stats.quarantined_row_groups);
        json.key("storageRetention");
        json.string(&own.state.options.retention);
        json.end_object();
    })
}

/// How many series there are, and what makes them many.
async fn tsdb(own: Arc<Prometheus>, form: Form) -> Result<Response, Failure> {
    let top = form.limit("limit")?.unwrap_or(TOP).min(TOP_MAX);
    let stats = own.state.store.stats();
    let store = Arc::clone(&own.state.store);
    let read = move |_: &Reader<'_>| {
        let snapshot = store.snapshot();
        // All labels that there may reasonably be, so that their values can be counted.
        let cardinality = snapshot
            .cardinality(TOP_MAX)
            .map_err(|error| Failure::new(super::ErrorType::Internal, error.to_string()))?;
        let bounds = snapshot.bounds();
        let millis = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millis);
        Ok(success(|json| {
            json.begin_object();
            json.key("headStats");
            json.begin_object();
            for (key, value) in [
                ("numSeries", cardinality.series),
                ("numLabelPairs", cardinality.labels.iter().map(|label| label.values).sum()),
                ("chunkCount", stats.head_columns),
            ] {
                json.key(key);
                json.uint(value);
            }
            json.key("minTime");
            json.int(millis(bounds.map(|bounds| bounds.start)));
            json.key("maxTime");
            json.int(millis(bounds.map(|bounds| bounds.end)));
            json.end_object();
            let metrics = cardinality.metrics.iter().take(top);
            let metrics = metrics.map(|metric| (metric.name.to_string(), metric.sets));
            write_counts(json, "seriesCountByMetricName", metrics);
            let labels = cardinality.labels.iter().take(top);
            let labels = labels.map(|label| (label.name.to_string(), label.values));
            write_counts(json, "labelValueCountByLabelName", labels);
            write_counts(json, "memoryInBytesByLabelName", std::iter::empty());
            let pairs = cardinality.pairs.iter().take(top);
            let pairs = pairs.map(|pair| (format!("{}={}", pair.name, pair.value), pair.sets));
            write_counts(json, "seriesCountByLabelValuePair", pairs);
            json.end_object();
        }))
    };
    Ok(own.read(Wishes::default(), read).await)
}

fn write_counts(json: &mut JsonWriter, key: &str, counts: impl Iterator<Item = (String, u64)>) {
    json.key(key);
    json.begin_array();
    for (name, value) in counts {
        json.begin_object();
        json.key("name");
        json.string(&name);
        json.key("value");
        json.uint(value);
        json.end_object();
    }
    json.end_array();
}
