//! The model and export APIs over batches made by hand and over an oracle's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heapster_core::processors::{LabelCopier, standard};
use heapster_core::storage::{
    Column, ColumnCursor, Damage, Run, Samples, SelectedSet, Selector, Snapshot, Storage,
    StorageError,
};
use heapster_core::{
    DataBatch, EntityKey, EntityType, Labels, MetricKind, MetricSet, MetricValue, NanoTime, Text,
    TimeRange, Timestamp, Value,
};
use heapster_server::api::ApiOptions;
use heapster_server::http::{Response, Router};
use heapster_server::live;
use heapster_server::sources::kubelet::{NodeInfo, summary};
use heapster_server::usage::Rules;
use http::StatusCode;
use proptest::prelude::*;
use tokio::sync::Notify;

use crate::golden::in_stored_order;
use crate::recording::{
    Objects, Served, SteppedClock, get, moment, read_json, router_over, shared, text,
};

const MINUTE: Duration = Duration::from_secs(60);

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// The set of a pod with one gauge.
fn pod(name: &str, metric: &str, value: impl Into<Value>) -> (EntityKey, MetricSet) {
    let mut set = MetricSet::new(EntityType::Pod);
    set.labels.set("namespace_name", "default");
    set.labels.set("pod_name", name);
    set.labels.set("pod_id", format!("id-of-{name}"));
    set.metrics.set(metric, MetricValue::gauge(value));
    (EntityKey::pod("default", name), set)
}

fn batch(
    timestamp: Timestamp,
    sets: impl IntoIterator<Item = (EntityKey, MetricSet)>,
) -> DataBatch {
    DataBatch { timestamp, sets: sets.into_iter().collect() }
}

/// A server with one batch per minute from 12:00 on; `memory/usage` of `web` counts them.
fn hourly() -> Served {
    let served = Served::new(ApiOptions::default());
    let mut timestamp = at("2018-07-26T12:00:00Z");
    for count in 0..60 {
        served.feed(batch(timestamp, [pod("web", "memory/usage", count)]));
        timestamp = timestamp.saturating_add(MINUTE);
    }
    served
}

const SERIES: &str = "/api/v1/model/namespaces/default/pods/web/metrics/memory/usage";

async fn values(served: &Served, uri: &str) -> Vec<u64> {
    let body: serde_json::Value = serde_json::from_str(&served.body(uri).await).unwrap();
    let points = body["metrics"].as_array().unwrap().iter();
    points.map(|point| point["value"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_oracles_answers_are_given_byte_by_byte() {
    let Some(folder) = shared("fixtures/heapster") else { return };
    let objects = read_json(&folder.join("pipeline_objects.input.json"));
    let cluster = Objects::of(&objects["nodes"], &objects["pods"], &objects["namespaces"]);
    let mut processors = standard(Arc::new(cluster), LabelCopier::default(), None);
    let served = Served::new(ApiOptions::default());
    for scrape in [1, 2] {
        let name = format!("pipeline_batch_{scrape}.expected.json");
        let expected = read_json(&folder.join(name));
        let node = &expected["node"];
        let info = NodeInfo {
            nodename: text(&node["nodename"]),
            hostname: text(&node["hostname"]),
            host_id: text(&node["host_id"]),
        };
        let now = moment(&expected["scrape clock (for uptime)"][scrape - 1]);
        let name = format!("pipeline_summary_{scrape}.input.json");
        let body = std::fs::read(folder.join(name)).unwrap();
        let now = Option::<NanoTime>::from(now).unwrap();
        let mut batch = DataBatch::new(moment(&expected["timestamp"]));
        batch.sets.extend(summary::decode(&body, &info, now).unwrap().sets);
        for processor in &mut processors {
            processor.process(&mut batch).unwrap();
        }
        served.feed(batch);
    }
    let answers = read_json(&folder.join("model_api.expected.json"));
    let bodies = answers["bodies"].as_object().unwrap();
    assert!(!bodies.is_empty());
    for (path, body) in bodies {
        assert_eq!(served.body(path).await, body.as_str().unwrap(), "{path}");
    }
    for (path, names) in answers["unordered lists (compare as sets)"].as_object().unwrap() {
        let mut own: Vec<String> = serde_json::from_str(&served.body(path).await).unwrap();
        let mut names: Vec<String> = serde_json::from_value(names.clone()).unwrap();
        own.sort();
        names.sort();
        assert_eq!(own, names, "{path}");
    }
    let schema =
        std::fs::read_to_string(folder.join("metric_export_schema.expected.json")).unwrap();
    assert_eq!(served.body("/api/v1/metric-export-schema").await, schema);
    let mut export: Vec<serde_json::Value> =
        serde_json::from_str(&served.body("/api/v1/metric-export").await).unwrap();
    let expected = read_json(&folder.join("metric_export_batch_2.expected.json"));
    let mut expected = expected.as_array().unwrap().clone();
    for list in [&mut export, &mut expected] {
        list.sort_by_key(|set| set["labels"].to_string());
        for points in list.iter_mut().flat_map(|set| set["metrics"].as_object_mut().unwrap()) {
            points.1.as_array_mut().unwrap().sort_by_key(|point| point["labels"].to_string());
        }
    }
    assert_eq!(export, expected);
}

#[tokio::test]
async fn without_a_start_a_series_has_fifteen_minutes_and_with_one_all_history() {
    let served = hourly();
    assert_eq!(values(&served, SERIES).await, (45..60).collect::<Vec<u64>>());
    let all = format!("{SERIES}?start=2018-07-26T12:00:00Z");
    assert_eq!(values(&served, &all).await, (0..60).collect::<Vec<u64>>());
    let both = format!("{SERIES}?start=2018-07-26T12:05:00Z&end=2018-07-26T12:07:00Z");
    assert_eq!(values(&served, &both).await, [5, 6, 7]);
}

#[tokio::test]
async fn when_scraping_stops_the_last_numbers_stay() {
    let served = hourly();
    served.clock.set(at("2018-07-27T12:00:00Z"));
    assert_eq!(values(&served, SERIES).await, (45..60).collect::<Vec<u64>>());
}

#[tokio::test]
async fn metric_names_are_those_of_the_last_batches() {
    let served = Served::new(ApiOptions::default());
    let names = "/api/v1/model/namespaces/default/pods/web/metrics";
    assert_eq!(served.body(names).await, "[]");
    let start = at("2018-07-26T12:00:00Z");
    for (minute, metric) in (0..).zip(["a", "b", "c", "d"]) {
        served.feed(batch(start.saturating_add(MINUTE * minute), [pod("web", metric, 1)]));
    }
    assert_eq!(served.body(names).await, "[\n  \"b\",\n  \"c\",\n  \"d\"\n ]");
    let historical = names.replace("/model/", "/historical/");
    assert_eq!(served.body(&historical).await, "[\n  \"a\",\n  \"b\",\n  \"c\",\n  \"d\"\n ]");
}

#[tokio::test]
async fn a_pod_named_twice_is_answered_twice_and_not_doubled() {
    let served = Served::new(ApiOptions::default());
    served.feed(batch(at("2018-07-26T12:00:00Z"), [pod("web", "memory/usage", -1)]));
    let uri = "/api/v1/model/namespaces/default/pod-list/web,,web/metrics/memory-usage";
    let series = "{\"metrics\":[{\"timestamp\":\"2018-07-26T12:00:00Z\",\
                  \"value\":18446744073709551615}],\"latestTimestamp\":\"2018-07-26T12:00:00Z\"}";
    let empty = "{\"metrics\":[],\"latestTimestamp\":\"0001-01-01T00:00:00Z\"}";
    let expected = format!("{{\"items\":[{series},{empty},{series}]}}\n");
    assert_eq!(served.body(uri).await, expected);
}

#[tokio::test]
async fn pods_are_found_by_their_uid() {
    let served = hourly();
    for uri in [
        "/api/v1/historical/pod-id/id-of-web/metrics/memory/usage",
        "/api/v1/historical/namespaces/default/pods/web/metrics/memory/usage",
    ] {
        let uri = format!("{uri}?start=2018-07-26T12:58:00Z");
        assert_eq!(values(&served, &uri).await, [58, 59]);
    }
    let uri = "/api/v1/historical/pod-id-list/id-of-web,nope/metrics-aggregated/count,max/\
               memory/usage?start=2018-07-26T12:00:00Z&bucket=30m";
    assert_eq!(
        served.body(uri).await,
        "{\"items\":[{\"buckets\":[\
         {\"timestamp\":\"2018-07-26T12:00:00Z\",\"count\":30,\"maximum\":{\"intValue\":29}},\
         {\"timestamp\":\"2018-07-26T12:30:00Z\",\"count\":30,\"maximum\":{\"intValue\":59}}],\
         \"bucketSize\":1800000000000},{\"buckets\":[],\"bucketSize\":0}]}\n"
    );
}

#[tokio::test]
async fn a_labelled_metric_is_found_by_exactly_its_labels() {
    let served = Served::new(ApiOptions::default());
    let (key, mut set) = pod("web", "memory/usage", 1);
    let own = Labels::from_iter([("make", "nvidia"), ("model", "k80")]);
    set.push_labeled("accelerator/memory_used", &own, 309);
    served.feed(batch(at("2018-07-26T12:00:00Z"), [(key, set)]));
    let uri = "/api/v1/model/namespaces/default/pods/web/metrics/accelerator/memory_used";
    for (labels, expected) in [
        ("?labels=model:k80,make:nvidia", &[309][..]),
        ("?labels=make:nvidia", &[]),
        ("?labels=make:nvidia,model:k80,pod_name:web", &[]),
        ("", &[]),
    ] {
        assert_eq!(values(&served, &format!("{uri}{labels}")).await, expected, "{labels}");
    }
    let names = served.body("/api/v1/model/namespaces/default/pods/web/metrics").await;
    assert_eq!(names, "[\n  \"memory/usage\"\n ]");
}

#[tokio::test]
async fn the_export_is_null_before_the_first_batch_and_empty_when_disabled() {
    let served = Served::new(ApiOptions::default());
    assert_eq!(served.body("/api/v1/metric-export").await, "null\n");
    let served = Served::new(ApiOptions { disable_export: true, ..ApiOptions::default() });
    served.feed(batch(at("2018-07-26T12:00:00Z"), [pod("web", "memory/usage", 1)]));
    assert_eq!(served.body("/api/v1/metric-export").await, "[]\n");
}

fn status_and_body(response: &Response) -> (u16, String) {
    (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
}

#[tokio::test]
async fn health_follows_the_newest_batch() {
    let served = Served::new(ApiOptions::default());
    let withheld = "[-]healthz failed: reason withheld\nhealthz check failed\n".to_owned();
    assert_eq!(status_and_body(&served.get("/healthz").await), (500, withheld.clone()));
    let why = "internal server error: could not get the latest data batch\n".to_owned();
    assert_eq!(status_and_body(&served.get("/healthz/healthz").await), (500, why));
    served.feed(batch(at("2018-07-26T12:00:00Z"), [pod("web", "memory/usage", 1)]));
    assert_eq!(served.body("/healthz").await, "ok");
    assert_eq!(served.body("/healthz?verbose").await, "[+]healthz ok\nhealthz check passed\n");
    served.clock.set(at("2018-07-26T12:03:00.001Z"));
    assert_eq!(status_and_body(&served.get("/healthz?verbose").await), (500, withheld));
    let why = "internal server error: No current data batch available \
               (latest: 2018-07-26T12:00:00Z).\n";
    assert_eq!(status_and_body(&served.get("/healthz/healthz").await), (500, why.to_owned()));
}

#[tokio::test]
async fn requests_are_measured_by_handler() {
    let served = hourly();
    served.body(SERIES).await;
    served.get("/api/v1/model/metrics/x?start=y").await;
    let metrics = served.body("/metrics").await;
    for line in [
        "http_requests_total{handler=\"podMetrics\",method=\"get\",code=\"200\"} 1",
        "http_requests_total{handler=\"clusterMetrics\",method=\"get\",code=\"400\"} 1",
        "http_request_duration_microseconds_count{handler=\"podMetrics\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn made_up_methods_are_counted_as_one() {
    let served = Served::new(ApiOptions::default());
    for method in ["BREW", "WHEN"] {
        let request = http::Request::builder().method(method).uri("/metrics");
        served.router.handle(request.body(Bytes::new()).unwrap()).await;
    }
    let metrics = served.body("/metrics").await;
    let line = "http_requests_total{handler=\"prometheus\",method=\"other\",code=\"200\"} 2\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn every_answer_that_takes_work_waits_for_its_turn() {
    let read_wait = Duration::from_millis(1);
    let options = ApiOptions { reads_max: 1, read_wait, ..ApiOptions::default() };
    let served = Served::new(options);
    served.feed(batch(at("2018-07-26T12:00:00Z"), [pod("web", "memory/usage", 1)]));
    let unread = served.get(SERIES).await;
    for uri in [
        SERIES,
        "/api/v1/model/namespaces",
        "/api/v1/model/debug/allkeys",
        "/api/v1/metric-export",
        "/api/v1/historical/nodes",
    ] {
        let refused = served.get(uri).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "{uri}");
        assert_eq!(refused.headers()["retry-after"], "5", "{uri}");
    }
    assert_eq!(served.get("/metrics").await.status(), StatusCode::OK);
    drop(unread);
    assert_eq!(served.get(SERIES).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_index_page_links_what_is_there() {
    let served = hourly();
    let page = served.body("/").await;
    assert!(page.contains("2018-07-26T12:59:00Z with 1 entities"), "{page}");
    let mut links = 0;
    for link in page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert_eq!(served.get(link).await.status(), StatusCode::OK, "{link}");
        links += 1;
    }
    assert!(links >= 10);
}

#[tokio::test]
async fn profiling_is_only_there_when_asked_for() {
    let served = Served::new(ApiOptions::default());
    assert_eq!(served.get("/debug/pprof/cmdline").await.status(), StatusCode::NOT_FOUND);
    let served = Served::new(ApiOptions { profiling: true, ..ApiOptions::default() });
    assert_eq!(served.get("/debug/pprof/cmdline").await.status(), StatusCode::OK);
    assert_eq!(served.get("/debug/pprof/").await.status(), StatusCode::NOT_FOUND);
    let profile = served.get("/debug/pprof/profile?seconds=1").await;
    assert_eq!(profile.status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn an_answer_beyond_the_limits_is_refused_with_a_reason() {
    let mut options = ApiOptions::default();
    options.limits.points_max = 10;
    let served = Served::new(options);
    let mut timestamp = at("2018-07-26T12:00:00Z");
    for _ in 0..6 {
        served.feed(batch(timestamp, [pod("web", "memory/usage", 1)]));
        timestamp = timestamp.saturating_add(MINUTE);
    }
    assert_eq!(values(&served, SERIES).await.len(), 6);
    let list = "/api/v1/model/namespaces/default/pod-list/web,web/metrics/memory/usage";
    let (status, body) = status_and_body(&served.get(list).await);
    assert_eq!(status, 422);
    assert!(body.contains("more than 10 points"), "{body}");
}

#[tokio::test]
async fn concurrent_requests_take_turns() {
    let served = Arc::new({
        let options = ApiOptions { reads_max: 1, ..ApiOptions::default() };
        let served = Served::new(options);
        served.feed(batch(at("2018-07-26T12:00:00Z"), [pod("web", "memory/usage", 1)]));
        served
    });
    let requests = (0..50).map(|_| {
        let served = Arc::clone(&served);
        tokio::spawn(async move { values(&served, SERIES).await })
    });
    for answer in futures::future::join_all(requests).await {
        assert_eq!(answer.unwrap(), [1]);
    }
    let head = http::Request::head(SERIES).body(Bytes::new()).unwrap();
    assert_eq!(served.router.handle(head).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

/// A store whose one column never ends, or that cannot be read.
struct BadStorage {
    failing: bool,
    /// Notified when the last snapshot is given up.
    released: Arc<Notify>,
}

struct BadSnapshot {
    failing: bool,
    released: Arc<Notify>,
}

impl Drop for BadSnapshot {
    fn drop(&mut self) {
        self.released.notify_one();
    }
}

impl Storage for BadStorage {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        let released = Arc::clone(&self.released);
        Ok(Arc::new(BadSnapshot { failing: self.failing, released }))
    }
}

impl Snapshot for BadSnapshot {
    fn select(&self, _: &Selector) -> Result<Vec<Arc<dyn SelectedSet>>, StorageError> {
        if self.failing {
            return Err(StorageError::new("the disk is on fire"));
        }
        let columns = vec![Column { name: "memory/usage".into(), kind: MetricKind::Gauge }];
        Ok(vec![Arc::new(Endless { labels: Labels::new(), columns })])
    }

    fn column_names(&self, _: &Selector) -> Result<Vec<Text>, StorageError> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &Selector) -> Result<Vec<Text>, StorageError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &Selector) -> Result<Vec<Text>, StorageError> {
        Ok(Vec::new())
    }

    fn bounds(&self) -> Option<TimeRange> {
        None
    }
}

struct Endless {
    labels: Labels,
    columns: Vec<Column>,
}

impl SelectedSet for Endless {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, _: usize) -> Box<dyn ColumnCursor + '_> {
        Box::new(EndlessCursor)
    }
}

struct EndlessCursor;

impl ColumnCursor for EndlessCursor {
    fn next_run(&mut self) -> Result<Option<Run>, StorageError> {
        let epoch = Timestamp::EPOCH;
        Ok(Some(Run { first: epoch, last: epoch, summary: None }))
    }

    fn decode(&mut self, into: &mut Samples) -> Result<(), StorageError> {
        into.timestamps.restart();
        Ok(())
    }
}

fn over_bad_storage(failing: bool) -> (Router, Arc<Notify>) {
    let released = Arc::new(Notify::new());
    let storage = Arc::new(BadStorage { failing, released: Arc::clone(&released) });
    let clock = SteppedClock::at(at("2018-07-26T12:00:00Z"));
    (router_over(storage, &Arc::default(), &clock, ApiOptions::default()), released)
}

#[tokio::test]
async fn a_store_that_cannot_be_read_gives_500_and_says_why() {
    let (router, _) = over_bad_storage(true);
    let answer = status_and_body(&get(&router, SERIES).await);
    assert_eq!(answer, (500, "could not read the store: the disk is on fire".to_owned()));
}

#[tokio::test]
async fn a_read_ends_when_its_client_has_gone() {
    let (router, released) = over_bad_storage(false);
    let mut answer = Box::pin(get(&router, SERIES));
    // Polled once, so that the read has begun; then the client goes away.
    assert!(futures::poll!(answer.as_mut()).is_pending());
    drop(answer);
    released.notified().await;
}

fn any_value() -> impl Strategy<Value = MetricValue> {
    let value = prop_oneof![any::<i64>().prop_map(Value::Int), any::<f64>().prop_map(Value::Float)];
    (value, any::<bool>()).prop_map(|(value, cumulative)| {
        if cumulative { MetricValue::cumulative(value) } else { MetricValue::gauge(value) }
    })
}

fn any_key() -> impl Strategy<Value = EntityKey> {
    let name = || "[a-c]{1,2}";
    prop_oneof![
        Just(EntityKey::Cluster),
        name().prop_map(EntityKey::namespace),
        name().prop_map(EntityKey::node),
        (name(), name()).prop_map(|(n, c)| EntityKey::system_container(n, c)),
        (name(), name()).prop_map(|(n, p)| EntityKey::pod(n, p)),
        (name(), name(), name()).prop_map(|(n, p, c)| EntityKey::pod_container(n, p, c)),
    ]
}

prop_compose! {
    fn any_set()(
        plain in proptest::collection::btree_map("[a-d]{1,3}/[a-d]", any_value(), 0..5),
        labeled in proptest::collection::btree_map(
            ("[m-p]", proptest::collection::btree_map("[x-z]", "[0-9/:,]{1,3}", 1..3)),
            any_value(),
            0..4,
        ),
        times in proptest::array::uniform3(proptest::option::of(any::<i64>())),
        user_labels in "[a-z:=,]{0,8}",
    ) -> MetricSet {
        let mut set = MetricSet::default();
        set.labels.set("labels", user_labels);
        for (name, metric) in plain {
            set.metrics.set(name, metric);
        }
        // Every set has at least one cell, else there is nothing to store.
        set.metrics.set("uptime", MetricValue::cumulative(1));
        for ((name, labels), metric) in labeled {
            let labels = Labels::from_iter(labels);
            let name = name.as_str().into();
            set.labeled_metrics.push(heapster_core::LabeledMetric { name, labels, metric });
        }
        let [collection, create, scrape] = times.map(|time| time.map(NanoTime::from_nanos));
        set.collection_start_time = collection;
        set.entity_create_time = create;
        set.scrape_time = scrape;
        set
    }
}

proptest! {
    #[test]
    fn a_restored_batch_is_the_one_that_was_stored(
        sets in proptest::collection::btree_map(any_key(), any_set(), 1..8),
        foreign in any::<bool>(),
    ) {
        let sets = sets.into_iter().map(|(key, mut set)| {
            for matcher in key.matchers() {
                if let heapster_core::MatchOp::Equal(value) = matcher.op() {
                    set.labels.set(matcher.name(), value);
                }
            }
            (key, set)
        });
        let newest = batch(at("2018-07-26T12:01:00Z"), sets);
        let served = Served::new(ApiOptions::default());
        served.feed(batch(at("2018-07-26T12:00:00Z"), [pod("gone", "memory/usage", 1)]));
        served.feed(newest.clone());
        if foreign {
            // Samples that another program pushed later belong to no batch.
            let row = heapster_core::series::Row {
                labels: Labels::from_iter([("job", "other")]),
                cells: vec![("up".into(), MetricValue::gauge(1))],
            };
            served.storage.append(at("2018-07-26T12:01:30Z"), &[row]);
        }
        let (restored, _) = live::restore(&*served.storage, Rules::default()).unwrap().unwrap();
        prop_assert_eq!(in_stored_order(restored), in_stored_order(newest));
    }
}

#[test]
fn an_empty_store_has_no_batch_to_restore() {
    let served = Served::new(ApiOptions::default());
    assert!(live::restore(&*served.storage, Rules::default()).unwrap().is_none());
}

/// A store that has nothing, and says that it should have.
struct LackingStorage;

struct LackingSnapshot;

impl Storage for LackingStorage {
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        Ok(Arc::new(LackingSnapshot))
    }
}

impl Snapshot for LackingSnapshot {
    fn select(&self, _: &Selector) -> Result<Vec<Arc<dyn SelectedSet>>, StorageError> {
        Ok(Vec::new())
    }

    fn column_names(&self, _: &Selector) -> Result<Vec<Text>, StorageError> {
        Ok(Vec::new())
    }

    fn label_names(&self, _: &Selector) -> Result<Vec<Text>, StorageError> {
        Ok(Vec::new())
    }

    fn label_values(&self, _: &str, _: &Selector) -> Result<Vec<Text>, StorageError> {
        Ok(Vec::new())
    }

    fn bounds(&self) -> Option<TimeRange> {
        None
    }

    fn damage(&self) -> Vec<Damage> {
        let range = TimeRange::new(at("2018-07-26T12:00:00Z"), at("2018-07-26T12:05:00Z"));
        vec![Damage { labels: None, range, reason: "a row group is damaged".to_owned() }]
    }
}

#[tokio::test]
async fn an_answer_that_damage_makes_partial_has_a_warning_and_the_body_of_ever() {
    let clock = SteppedClock::at(at("2018-07-26T12:00:00Z"));
    let router =
        router_over(Arc::new(LackingStorage), &Arc::default(), &clock, ApiOptions::default());
    let response = get(&router, SERIES).await;
    let warning = response.headers()["warning"].to_str().unwrap();
    assert!(warning.starts_with("299 heapster \"partial answer: "), "{warning}");
    assert!(warning.contains("2018-07-26T12:00:00Z and 2018-07-26T12:05:00Z"), "{warning}");
    let served = hourly();
    let whole = get(&served.router, SERIES).await;
    assert_eq!((response.status(), whole.headers().get("warning")), (StatusCode::OK, None));
}
