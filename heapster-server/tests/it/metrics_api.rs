//! `metrics.k8s.io` as metrics-server answers it, byte for byte, and where it differs by design.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heapster_core::cluster::{ClusterView, Namespace, Node, Pod};
use heapster_core::processors::{LabelCopier, standard};
use heapster_core::storage::{MemoryStorage, Storage};
use heapster_core::{
    DataBatch, EntityKey, MetricSet, MetricValue, NanoTime, Text, Timestamp, metric,
};
use heapster_server::api::ApiOptions;
use heapster_server::http::{Response, Router};
use heapster_server::live::{self, Live};
use heapster_server::sources::kubelet::{NodeInfo, resource, summary};
use heapster_server::usage::Rules;
use heapster_store::{Ack, Clock, Store, StoreOptions, SystemClock};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::recording::{
    Objects, SteppedClock, get, read_json, read_lines, recorded_at, replay, router_in, shared,
};

const RULES: Rules = Rules { resolution: Duration::from_secs(15) };
const V1BETA1: &str = "/apis/metrics.k8s.io/v1beta1";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(path)
}

fn bytes_of(path: &str) -> Vec<u8> {
    std::fs::read(testdata(path)).unwrap()
}

fn text_of(path: &str) -> String {
    String::from_utf8(bytes_of(path)).unwrap()
}

fn moment(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// Everything exists that is asked for, without labels; but for what is said.
#[derive(Debug, Default)]
struct Anything {
    nodes: Vec<Node>,
    pods: Vec<Pod>,
    is_complete: bool,
}

impl ClusterView for Anything {
    fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.iter().cloned().map(Arc::new).collect()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let found = self.pods.iter().find(|pod| pod.namespace == *namespace && pod.name == *name);
        found.cloned().map(Arc::new)
    }

    fn namespace(&self, _: &str) -> Option<Arc<Namespace>> {
        None
    }

    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<Pod>> {
        let is_there = |pod: &&Pod| namespace.is_none_or(|own| pod.namespace == *own);
        self.pods.iter().filter(is_there).cloned().map(Arc::new).collect()
    }

    fn is_complete(&self) -> bool {
        self.is_complete
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Text, Text> {
    pairs.iter().map(|(name, value)| (Text::from(*name), Text::from(*value))).collect()
}

fn pod(namespace: &str, name: &str, pairs: &[(&str, &str)]) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        labels: labels(pairs),
        phase: "Running".into(),
        ..Pod::default()
    }
}

/// The cluster of the fixtures.
fn fixture_cluster() -> Anything {
    let node = |name: &str| Node {
        name: name.into(),
        labels: labels(&[("kubernetes.io/hostname", name), ("kubernetes.io/os", "linux")]),
        ..Node::default()
    };
    let coredns = [("k8s-app", "kube-dns"), ("pod-template-hash", "7db6d8ff4d")];
    Anything {
        nodes: vec![node("worker-1"), node("node-3")],
        pods: vec![
            pod("kube-system", "coredns-7db6d8ff4d-x2k9p", &coredns),
            pod("default", "p1", &[]),
            Pod { phase: "Succeeded".into(), ..pod("batch", "report-29384710-7hx4c", &[]) },
        ],
        is_complete: true,
    }
}

/// The API over scrapes that come every 15 s.
struct Scraped {
    storage: Arc<dyn Storage>,
    live: Arc<Live>,
    clock: Arc<SteppedClock>,
    router: Router,
    append: Box<dyn Fn(&DataBatch)>,
}

impl Scraped {
    fn new(cluster: Anything) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        let own = Arc::clone(&storage);
        Self::over(cluster, storage, Box::new(move |batch| own.append_batch(batch)))
    }

    fn over(cluster: Anything, storage: Arc<dyn Storage>, append: Box<dyn Fn(&DataBatch)>) -> Self {
        let live = Arc::new(Live::new(RULES));
        let clock = SteppedClock::at(moment("2026-03-02T10:00:00Z"));
        let (own, options) = (Arc::clone(&storage), ApiOptions::default());
        let router = router_in(Arc::new(cluster), own, &live, &clock, options);
        Self { storage, live, clock, router, append }
    }

    /// Takes what kubelets answered, at a moment.
    fn scrape(&self, at: Timestamp, answers: &[(&str, &str)]) {
        self.clock.set(at);
        let now = Option::<NanoTime>::from(at).unwrap();
        let mut batch = DataBatch::new(at);
        for (node, text) in answers {
            let info = NodeInfo { nodename: (*node).into(), ..NodeInfo::default() };
            let sets = match text.starts_with('{') {
                true => summary::decode(text.as_bytes(), &info, now).unwrap().sets,
                false => resource::decode(text.as_bytes(), &info, now).unwrap().sets,
            };
            batch.sets.extend(sets);
        }
        for processor in &mut standard(Arc::new(Anything::default()), LabelCopier::default(), None)
        {
            processor.process(&mut batch).unwrap();
        }
        (self.append)(&batch);
        self.live.publish(Arc::new(batch));
    }

    async fn ask(&self, path: &str, accept: &str) -> Response {
        let request = http::Request::get(path).header(ACCEPT, accept).body(Bytes::new()).unwrap();
        self.router.handle(request).await
    }

    async fn body(&self, path: &str) -> String {
        let response = self.ask(path, "application/json").await;
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        assert_eq!(response.status(), 200, "{path}: {body}");
        body
    }

    async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.body(path).await).unwrap()
    }
}

/// The first `count` of the four scrapes of one node.
fn fixture(count: u32) -> Scraped {
    let scraped = Scraped::new(fixture_cluster());
    for scrape in 0..count {
        scrape_fixture(&scraped, scrape, str::to_owned);
    }
    scraped
}

fn scrape_fixture(scraped: &Scraped, scrape: u32, change: fn(&str) -> String) {
    let text = text_of(&format!("kubelet-resource/metrics_resource_3pods_scrape{scrape}.prom"));
    let at = moment("2026-03-02T10:00:00Z").saturating_add(RULES.resolution * scrape);
    scraped.scrape(at, &[("worker-1", &change(&text))]);
}

#[tokio::test]
async fn every_body_is_that_of_metrics_server() {
    let scraped = Scraped::new(fixture_cluster());
    for scrape in 0..3 {
        scrape_fixture(&scraped, scrape, without_swap);
    }
    scraped.clock.set(moment("2026-03-02T10:00:31Z"));
    let system = format!("{V1BETA1}/namespaces/kube-system/pods");
    for (path, accept, status, file) in [
        ("/nodes/worker-1", "application/json", 200, "NodeMetrics.json"),
        ("/nodes", "application/json", 200, "NodeMetricsList.json"),
        ("/nodes", TABLE, 200, "nodes.Table.json"),
        ("kube-system/coredns-7db6d8ff4d-x2k9p", "", 200, "PodMetrics.json"),
        ("kube-system", "*/*", 200, "PodMetricsList.json"),
        ("/pods?fieldSelector=metadata.name=nope", "", 200, "PodMetricsList.empty.json"),
        ("/namespaces/nope/pods", "", 200, "PodMetricsList.empty.json"),
        ("/pods?fieldSelector=spec.nodeName%3Dn", "", 400, "status_400_field_selector.json"),
        ("/nodes/nope", "", 404, "status_404_node_unknown.json"),
        ("/nodes/node-3", "", 404, "status_404_node_without_metrics.json"),
        ("kube-system/nope", "", 404, "status_404_pod_unknown.json"),
        ("/namespaces/default/pods/p1", "", 404, "status_404_pod_without_metrics.json"),
        ("/pods?watch=true", "", 405, "status_405_watch.json"),
        ("/pods", "text/html", 406, "status_406.json"),
    ] {
        let path = match path.strip_prefix("kube-system") {
            Some(rest) => format!("{system}{rest}"),
            None => format!("{V1BETA1}{path}"),
        };
        let response = scraped.ask(&path, accept).await;
        let expected = bytes_of(&format!("metrics-api/{file}"));
        let own = String::from_utf8_lossy(response.body());
        assert!(response.body() == &expected[..], "{path} is not {file}:\n{own}");
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json", "{path}");
    }
}

#[tokio::test]
async fn protobuf_is_that_of_metrics_server() {
    let node = |name: &str, pairs: &[(&str, &str)]| Node {
        name: name.into(),
        labels: labels(pairs),
        ..Node::default()
    };
    let scraped = Scraped::new(Anything {
        nodes: vec![node("node-1", &[("kubernetes.io/hostname", "node-1")]), node("node-2", &[])],
        pods: vec![pod("default", "p1", &[("app", "x")])],
        is_complete: true,
    });
    let (at, container) =
        (moment("2025-11-20T09:00:00Z"), |name| EntityKey::pod_container("default", "p1", name));
    // Milliseconds of the window, what was spent in it, and memory.
    let measured: [(EntityKey, i64, i64, i64); 4] = [
        (EntityKey::node("node-1"), 15_021, 3_356_544_428, 1_587_060 << 10),
        (EntityKey::node("node-2"), 60_000, 90_000_000_000, 8 << 30),
        (container("a"), 14_500, 179_012_331, 20_344 << 10),
        (container("b"), 14_500, 0, 5 << 20),
    ];
    for is_last in [false, true] {
        let mut batch = DataBatch::new(at);
        for (key, window_ms, spent, memory) in &measured {
            let mut set = MetricSet::new(key.entity_type());
            let taken = at.as_millis() - if is_last { 0 } else { *window_ms };
            set.scrape_time = Some(NanoTime::from_nanos(taken * 1_000_000));
            let cpu = 1_000_000_000 + if is_last { *spent } else { 0 };
            set.metrics.set_static(metric::CPU_USAGE, MetricValue::cumulative(cpu));
            let memory = MetricValue::gauge(*memory);
            set.metrics.set_static(metric::MEMORY_WORKING_SET, memory);
            batch.sets.insert(key.clone(), set);
        }
        scraped.live.publish(Arc::new(batch));
    }
    scraped.clock.set(at);
    for (path, file) in [("nodes", "nodemetricslist"), ("pods", "podmetricslist")] {
        let response = scraped.ask(&format!("{V1BETA1}/{path}"), PROTOBUF).await;
        assert_eq!(response.headers()[CONTENT_TYPE], PROTOBUF);
        assert_eq!(response.body(), &bytes_of(&format!("metrics-api/{file}.v1beta1.k8spb"))[..]);
    }
    // One object, and a refusal, as kubectl and HPAs read them.
    for (path, status, kind) in [("node-1", 200, "NodeMetrics"), ("nope", 404, "Status")] {
        let response = scraped.ask(&format!("{V1BETA1}/nodes/{path}"), PROTOBUF).await;
        assert_eq!(response.status(), status);
        assert!(response.body().starts_with(b"k8s\0\n"));
        assert!(String::from_utf8_lossy(response.body()).contains(kind));
    }
}

/// The fixtures know one version; what we say of the other is taken out of our documents first.
#[tokio::test]
async fn discovery_is_that_of_metrics_server_and_has_v1_besides() {
    let scraped = fixture(0);
    let v1 = r#",{"groupVersion":"metrics.k8s.io/v1","version":"v1"}"#;
    let resources = text_of("metrics-api/apis.aggregated.v2.APIGroupDiscoveryList.json");
    let resources = resources.split(r#""v1beta1","#).nth(1).unwrap();
    let resources = resources.split("]}]}").next().unwrap();
    let aggregated_v1 = format!(r#",{{"version":"v1",{resources}"#);
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, accept, file, ours) in [
        ("/apis", "", "apis.APIGroupList.json", v1),
        ("/apis", aggregated, "apis.aggregated.v2.APIGroupDiscoveryList.json", &*aggregated_v1),
        ("/apis/metrics.k8s.io", "", "apis_metrics.k8s.io.APIGroup.json", v1),
        (V1BETA1, "", "apis_metrics.k8s.io_v1beta1.APIResourceList.json", ""),
    ] {
        let request = http::Request::get(path).header(ACCEPT, accept).header(HOST, "10.0.0.7:443");
        let response = scraped.router.handle(request.body(Bytes::new()).unwrap()).await;
        let own = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(own.contains(ours), "{path}: {own}");
        let own = if ours.is_empty() { own } else { own.replacen(ours, "", 1) };
        assert_eq!(own, text_of(&format!("metrics-api/{file}")), "{path}");
        if accept == aggregated {
            assert_eq!(response.headers()[CONTENT_TYPE], aggregated);
            let etag = response.headers()[ETAG].clone();
            assert!(etag.to_str().unwrap().len() == 130, "{etag:?}");
            let request = http::Request::get(path).header(ACCEPT, accept);
            let request = request.header(IF_NONE_MATCH, etag).body(Bytes::new()).unwrap();
            assert_eq!(scraped.router.handle(request).await.status(), 304);
        }
    }
    let v1 = scraped.body("/apis/metrics.k8s.io/v1").await;
    assert_eq!(
        v1.replace("metrics.k8s.io/v1\"", "metrics.k8s.io/v1beta1\""),
        scraped.body(V1BETA1).await
    );
}

/// What an answer says of nodes and pods, as the expectation has it.
async fn content(scraped: &Scraped) -> Value {
    let nodes = scraped.json(&format!("{V1BETA1}/nodes")).await;
    let pods = scraped.json(&format!("{V1BETA1}/pods")).await;
    let flat = |list: &Value, namespaced: bool| -> Vec<Value> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| {
                let mut flat = item.clone();
                let meta = flat["metadata"].take();
                flat.as_object_mut().unwrap().remove("metadata");
                flat["name"] = meta["name"].clone();
                if namespaced {
                    flat["namespace"] = meta["namespace"].clone();
                }
                flat
            })
            .collect()
    };
    json!({ "nodes": flat(&nodes, false), "pods": flat(&pods, true) })
}

/// `/metrics/resource` without swap, which metrics-server does not show.
fn without_swap(text: &str) -> String {
    text.lines().filter(|line| !line.contains("_swap_")).fold(String::new(), |mut kept, line| {
        writeln!(kept, "{line}").unwrap();
        kept
    })
}

#[tokio::test]
async fn four_scrapes_give_what_metrics_server_gives_and_one_container_more() {
    let expected = read_json(&testdata("kubelet-resource/expected_after_each_scrape.json"));
    let scraped = Scraped::new(Anything::default());
    for scrape in 0..4_u32 {
        scrape_fixture(&scraped, scrape, without_swap);
        let after = &expected["after"][scrape as usize];
        let mut wanted = json!({ "nodes": after["nodes"], "pods": after["pods"] });
        if scrape == 2 {
            // The container that restarted 7 s ago has no rate yet. metrics-server hides its pod;
            // here it hides itself alone, and the other one shows what it did.
            let pods = wanted["pods"].as_array_mut().unwrap();
            pods.push(json!({
                "namespace": "shop", "name": "checkout-6f9d7c5b8-lq2wz",
                "timestamp": "2026-03-02T10:00:06Z", "window": "15s",
                "containers": [{ "name": "istio-proxy", "usage": { "cpu": "12m", "memory": "68Mi" } }],
            }));
        }
        assert_eq!(content(&scraped).await, wanted, "after scrape {scrape}");
    }
}

#[tokio::test]
async fn the_summary_gives_the_same_with_its_whole_seconds() {
    let scraped = Scraped::new(Anything::default());
    for scrape in 0..4_u32 {
        let file = format!("kubelet-resource/stats_summary_3pods_scrape{scrape}.json");
        let at = moment("2026-03-02T10:00:00Z").saturating_add(RULES.resolution * scrape);
        scraped.scrape(at, &[("worker-1", &text_of(&file))]);
    }
    let content = content(&scraped).await;
    let names = |kind: &str| -> BTreeSet<String> {
        content[kind].as_array().unwrap().iter().map(|item| item["name"].to_string()).collect()
    };
    assert_eq!(names("nodes").len(), 1);
    assert_eq!(names("pods").len(), 3, "{content}");
    assert_eq!(content["nodes"][0]["usage"]["cpu"], "1250m");
}

#[tokio::test]
async fn swap_is_shown_where_kubelets_tell_it() {
    let scraped = fixture(4);
    let node = scraped.json(&format!("{V1BETA1}/nodes/worker-1")).await;
    assert_eq!(node["usage"]["swap"], "12Mi");
    let table = scraped.ask(&format!("{V1BETA1}/nodes"), TABLE).await;
    let table: Value = serde_json::from_slice(table.body()).unwrap();
    assert_eq!(table["columnDefinitions"][3]["name"], "swap");
    assert_eq!(table["rows"][0]["cells"][3], "12Mi");
}

/// What is shown after the same answer came twice, 15 s apart, if its times allow that.
async fn after_edge(file: &str) -> Value {
    let text = text_of(&format!("kubelet-resource/{file}"));
    let scraped = Scraped::new(Anything::default());
    // Later, each counter has one more second of CPU and each time is 15 s later.
    let later: String = text
        .lines()
        .map(|line| {
            let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            if line.contains("cpu_usage") && words.len() > 1 && !line.starts_with('#') {
                let value: f64 = words[1].parse().unwrap_or(f64::NAN);
                words[1] = (if value > 0.0 { value + 1.5 } else { value }).to_string();
            }
            if words.len() == 3
                && let Ok(millis) = words[2].parse::<i64>()
            {
                words[2] = (millis + 15_000).to_string();
            }
            words.join(" ") + "\n"
        })
        .collect();
    scraped.scrape(moment("2026-03-02T10:00:01Z"), &[("n", &text)]);
    scraped.scrape(moment("2026-03-02T10:00:16Z"), &[("n", &later)]);
    let shown = content(&scraped).await;
    let nodes = shown["nodes"].as_array().unwrap().iter().map(|node| {
        let (cpu, memory) = (&node["usage"]["cpu"], &node["usage"]["memory"]);
        json!(format!("node {} {}", cpu.as_str().unwrap(), memory.as_str().unwrap()))
    });
    let containers = shown["pods"].as_array().unwrap().iter().flat_map(|pod| {
        pod["containers"].as_array().unwrap().iter().map(|container| {
            json!(format!(
                "{} {}",
                container["name"].as_str().unwrap(),
                container["usage"]["cpu"].as_str().unwrap()
            ))
        })
    });
    nodes.chain(containers).collect()
}

#[tokio::test]
async fn odd_answers_of_kubelets_cost_no_more_than_what_is_odd() {
    for (file, shown) in [
        // metrics-server drops the pod; a container with a start and memory has slept.
        ("01_zero_cpu_container.prom", json!(["c 0"])),
        // metrics-server drops the pod for the container that ended.
        ("02_zero_memory_container_kills_pod.prom", json!(["ok 100m"])),
        ("03_only_start_time.prom", json!(["node 100m 1616273408"])),
        ("04_no_timestamps.prom", json!(["node 100m 1616273408", "c 100m"])),
        // metrics-server drops the node for a line with a time before 1970.
        ("05_negative_timestamp_go_zero_time.prom", json!(["c 100m"])),
        ("06_node_missing_memory.prom", json!([])),
        ("07_scrape_error_only.prom", json!([])),
        ("08_label_order_and_extra_labels.prom", json!(["c 100m"])),
        ("09_windows_node.prom", json!(["node 100m 1674133504", "iis 100m"])),
        ("10_kwok_style.prom", json!(["node 100m 100Mi", "c 100m"])),
        // metrics-server drops the node for the line that was cut.
        ("11_truncated_last_line.prom", json!(["node 100m 1616273408"])),
        ("12_special_values.prom", json!([])),
        ("13_static_pod_same_name_two_nodes.prom", json!(["etcd 100m"])),
    ] {
        let mut own = after_edge(file).await;
        own.as_array_mut().unwrap().sort_by_key(|text| !text.as_str().unwrap().starts_with("node"));
        let own =
            own.to_string().replace("1578392Ki", "1616273408").replace("1634896Ki", "1674133504");
        assert_eq!(own, shown.to_string(), "{file}");
    }
}

#[tokio::test]
async fn a_selector_finds_what_the_whole_list_has_in_its_order() {
    let web = [("app", "web")];
    let mut stopped = pod("b", "web-2", &web);
    stopped.phase = "Succeeded".into();
    let cluster = |is_complete| Anything {
        // In an order of no meaning, as maps have them.
        pods: vec![
            pod("b", "web-3", &web),
            stopped.clone(),
            pod("a", "web-9", &web),
            pod("b", "web-1", &web),
            pod("a", "db-0", &[("app", "db")]),
            pod("b", "web-4", &web),
            pod("a", "web-1", &web),
        ],
        is_complete,
        ..Anything::default()
    };
    for is_complete in [false, true] {
        let scraped = Scraped::new(cluster(is_complete));
        for round in 0..2_u32 {
            let at = moment("2026-03-02T10:00:00Z").saturating_add(RULES.resolution * round);
            // Not all have numbers, and the cluster does not know all that have.
            let names = ["b/web-1", "b/web-2", "b/web-3", "a/db-0", "a/web-9", "a/web-1", "a/x"];
            let text: String = names
                .iter()
                .map(|name| {
                    let (namespace, pod) = name.split_once('/').unwrap();
                    let labels = format!("container=\"c\",namespace=\"{namespace}\",pod=\"{pod}\"");
                    let (seconds, millis) = (100 + 5 * round, at.as_millis());
                    format!(
                        "container_cpu_usage_seconds_total{{{labels}}} {seconds} {millis}\n\
                         container_memory_working_set_bytes{{{labels}}} 4096 {millis}\n"
                    )
                })
                .collect();
            scraped.scrape(at, &[("n", &text)]);
        }
        for (query, expected) in [
            ("/pods?labelSelector=app%3Dweb", "a/web-1 a/web-9 b/web-1 b/web-3 "),
            ("/namespaces/b/pods?labelSelector=app%3Dweb", "b/web-1 b/web-3 "),
            ("/pods?labelSelector=app&fieldSelector=metadata.name%3Dweb-1", "a/web-1 b/web-1 "),
            ("/pods?labelSelector=app!%3Dweb,app", "a/db-0 "),
            ("/namespaces/c/pods?labelSelector=app", ""),
        ] {
            let list = scraped.json_of(query).await;
            let name = |item: &Value| {
                let meta = &item["metadata"];
                let part = |key: &str| meta[key].as_str().unwrap().to_owned();
                format!("{}/{} ", part("namespace"), part("name"))
            };
            let names: String = list["items"].as_array().unwrap().iter().map(name).collect();
            assert_eq!(names, expected, "{query}, complete: {is_complete}");
        }
    }
}

#[tokio::test]
async fn a_pod_that_two_nodes_report_is_shown_once() {
    let text = text_of("kubelet-resource/13_static_pod_same_name_two_nodes.prom");
    let later = text.replace("} 1 17724456", "} 4 17724456").replace("600000", "615000");
    let scraped = Scraped::new(Anything::default());
    scraped.scrape(moment("2026-03-02T10:00:01Z"), &[("a", &text), ("b", &text)]);
    scraped.scrape(moment("2026-03-02T10:00:16Z"), &[("a", &later), ("b", &later)]);
    let pods = content(&scraped).await["pods"].clone();
    assert_eq!(pods.as_array().unwrap().len(), 1);
    assert_eq!(pods[0]["containers"][0]["usage"]["cpu"], "200m");
}

#[tokio::test]
async fn a_restart_and_a_sample_that_comes_twice_never_make_a_rate_since_year_one() {
    let scraped = Scraped::new(Anything::default());
    let mut shown = Vec::new();
    for scrape in 0..4_u32 {
        let name = format!("14_restart_then_repeated_timestamp_scrape{scrape}.prom");
        let at = moment("2026-03-02T10:00:00Z").saturating_add(RULES.resolution * scrape);
        scraped.scrape(at, &[("n", &text_of(&format!("kubelet-resource/{name}")))]);
        let content = content(&scraped).await;
        let pod = &content["pods"][0];
        let containers = pod["containers"].as_array().into_iter().flatten();
        let containers: String = containers
            .map(|own| {
                format!(
                    "{} {} ",
                    own["name"].as_str().unwrap(),
                    own["usage"]["cpu"].as_str().unwrap()
                )
            })
            .collect();
        shown.push(format!("{containers}{} {}", pod["window"], pod["timestamp"]));
    }
    assert_eq!(
        shown,
        [
            "null null",
            // metrics-server hides the pod until both containers have a rate.
            "a 500m \"15s\" \"2026-03-02T10:00:13Z\"",
            "a 500m \"15s\" \"2026-03-02T10:00:28Z\"",
            "a 500m b 500m \"30s\" \"2026-03-02T10:00:40Z\"",
        ]
    );
}

#[tokio::test]
async fn a_restarted_server_answers_the_same_from_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
    let store = open();
    let own = Arc::clone(&store);
    let append = move |batch: &DataBatch| {
        assert_eq!(own.append(batch, Ack::Buffered).unwrap().rejected.total(), 0);
    };
    let scraped = Scraped::over(fixture_cluster(), store.clone(), Box::new(append));
    (0..4).for_each(|scrape| scrape_fixture(&scraped, scrape, str::to_owned));
    let before = content(&scraped).await;
    assert_eq!(before["pods"].as_array().unwrap().len(), 1);
    drop((scraped, store));

    let again = Scraped::over(fixture_cluster(), open(), Box::new(|_| ()));
    let (batch, board) = live::restore(&*again.storage, RULES).unwrap().unwrap();
    again.clock.set(moment("2026-03-02T10:00:50Z"));
    again.live.resume(Arc::new(batch), board);
    assert_eq!(content(&again).await, before);
    // What is older than three intervals is not passed off as new.
    again.clock.set(moment("2026-03-02T10:01:31Z"));
    assert_eq!(content(&again).await, json!({ "nodes": [], "pods": [] }));
}

#[tokio::test]
async fn the_past_is_told_in_the_same_words() {
    let scraped = fixture(4);
    scraped.clock.set(moment("2026-03-05T10:00:00Z"));
    let nodes = |query: &'static str| scraped.json_of(query);
    assert_eq!(nodes("/nodes").await["items"], json!([]));
    let at = nodes("/nodes/worker-1?at=2026-03-02T10:00:31Z").await;
    assert_eq!(at["timestamp"], "2026-03-02T10:00:26Z");
    assert_eq!((&at["window"], &at["usage"]["cpu"]), (&json!("15s"), &json!("1250m")));
    // Pods that do not run any more ran then.
    let pods = nodes("/namespaces/batch/pods?at=2026-03-02T10:00:46Z").await;
    assert_eq!(pods["items"][0]["containers"][0]["usage"]["memory"], "104Mi");

    let hour = nodes("/nodes/worker-1?at=2026-03-02T10:00:46Z&window=1h").await;
    assert_eq!(hour["timestamp"], "2026-03-02T10:00:41Z");
    assert_eq!((&hour["window"], &hour["usage"]["cpu"]), (&json!("45s"), &json!("1250m")));
    // 3145728Ki, 3146128Ki, 3146528Ki and 3146928Ki.
    assert_eq!(hour["usage"]["memory"], "3146328Ki");
    // Two lives: what both spent, over all the time between.
    let shop = nodes("/namespaces/shop/pods?at=2026-03-02T10:00:46Z&window=1m").await;
    assert_eq!(shop["items"][0]["containers"][1]["usage"]["cpu"], "12m");

    for (query, said) in [
        ("/nodes?at=yesterday", "at: "),
        ("/nodes?window=1", "window: "),
        ("/nodes?window=500ms", "window: "),
    ] {
        let response = scraped.ask(&format!("{V1BETA1}{query}"), "").await;
        let status: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(response.status(), 400, "{query}");
        assert!(status["message"].as_str().unwrap().starts_with(said), "{status}");
    }
    let gone = scraped.ask(&format!("{V1BETA1}/nodes/nope?at=2026-03-02T10:00:31Z"), "").await;
    assert_eq!(gone.status(), 404);
}

impl Scraped {
    async fn json_of(&self, query: &str) -> Value {
        self.json(&format!("{V1BETA1}{query}")).await
    }
}

#[tokio::test]
async fn selectors_and_forms_are_those_of_an_api_server() {
    let scraped = fixture(3);
    for (query, count) in [
        ("/nodes?labelSelector=kubernetes.io/os%3Dlinux", 1),
        ("/nodes?labelSelector=kubernetes.io/os%20notin%20(linux)", 0),
        ("/pods?labelSelector=k8s-app", 1),
        ("/pods?labelSelector=!k8s-app", 0),
        ("/namespaces/kube-system/pods?labelSelector=k8s-app", 1),
        ("/namespaces/default/pods?labelSelector=k8s-app", 0),
        ("/pods?labelSelector=k8s-app&fieldSelector=metadata.namespace%3Ddefault", 0),
        ("/pods?fieldSelector=metadata.namespace!%3Dkube-system", 0),
        ("/pods?limit=1&continue=x&resourceVersion=0", 1),
    ] {
        let list = scraped.json_of(query).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{query}");
    }
    let refused = scraped.ask(&format!("{V1BETA1}/pods?labelSelector=%3D%3D"), "").await;
    assert_eq!(refused.status(), 400);
    let post = http::Request::post(format!("{V1BETA1}/nodes")).body(Bytes::new()).unwrap();
    assert_eq!(scraped.router.handle(post).await.status(), 405);
    let unknown = scraped.ask(&format!("{V1BETA1}/nodes/worker-1/log"), "").await;
    assert_eq!(unknown.status(), 404);
    assert!(unknown.body().starts_with(b"{\"kind\":\"Status\""));

    let pretty = scraped.body(&format!("{V1BETA1}/nodes?pretty=true")).await;
    assert!(pretty.starts_with("{\n  \"kind\": \"NodeMetricsList\",\n"), "{pretty}");
    let yaml = scraped.ask(&format!("{V1BETA1}/nodes/worker-1"), "application/yaml").await;
    let yaml: Value = serde_saphyr::from_slice(yaml.body()).unwrap();
    assert_eq!(yaml, scraped.json_of("/nodes/worker-1").await);
    let empty = scraped.ask(&format!("{V1BETA1}/namespaces/nope/pods"), TABLE).await;
    assert!(empty.body().ends_with(b"\"columnDefinitions\":null,\"rows\":null}\n"));
    for (include, has) in [("None", "null"), ("Object", "\"NodeMetrics\"")] {
        let path = format!("{V1BETA1}/nodes?includeObject={include}");
        let table: Value = serde_json::from_slice(scraped.ask(&path, TABLE).await.body()).unwrap();
        assert_eq!(table["rows"][0]["object"]["kind"].to_string(), has);
    }
}

#[tokio::test]
async fn openapi_describes_every_path_and_type() {
    let scraped = fixture(0);
    let index = scraped.json("/openapi/v3").await;
    let url = index["paths"]["apis/metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str().unwrap();
    let document = scraped.json(url).await;
    assert!(document["paths"]["/apis/metrics.k8s.io/v1beta1/nodes/{name}"]["get"].is_object());
    let text = document.to_string();
    let references: BTreeSet<&str> = text
        .split("#/components/schemas/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.len() >= 8);
    for name in references {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let v2 = scraped.json("/openapi/v2").await;
    assert_eq!(v2["paths"].as_object().unwrap().len(), 10);
    let version = scraped.body("/version").await;
    assert!(
        version.starts_with("{\n  \"major\": \"0\"") && version.ends_with("\"\n}"),
        "{version}"
    );
}

#[tokio::test]
async fn the_old_api_answers_as_the_original() {
    let Some(folder) = shared("golden/heapster-metrics-api") else { return };
    let [nodes, pods, namespaces] =
        ["nodes", "pods", "namespaces"].map(|n| read_json(&folder.join(format!("{n}.json"))));
    let cluster = Objects::of(&nodes["items"], &pods["items"], &namespaces["items"]);
    let (live, clock) = (Arc::new(Live::default()), SteppedClock::at(recorded_at(&folder)));
    replay(&folder).into_iter().for_each(|batch| live.publish(Arc::new(batch)));
    let storage = Arc::new(MemoryStorage::new());
    let router = router_in(Arc::new(cluster), storage, &live, &clock, ApiOptions::default());
    let mut asked = 0;
    for recorded in read_lines(&folder.join("responses.jsonl.gz")) {
        let path = recorded["path"].as_str().unwrap();
        // The rest has tests of its own, and what was not found there is found here.
        let Some(rest) = path.strip_prefix("/apis/metrics.k8s.io/v1alpha1") else { continue };
        for prefix in ["/apis/metrics.k8s.io/v1alpha1", "/apis/metrics/v1alpha1"] {
            asked += 1;
            let path = format!("{prefix}{rest}");
            let response = get(&router, &path).await;
            let mut wanted = recorded["body"].clone();
            assert_eq!(recorded["status"], response.status().as_u16(), "{path}");
            let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap();
            assert_eq!(recorded["contentType"], content_type, "{path}");
            let own = String::from_utf8(response.body().to_vec()).unwrap();
            let mut own = match content_type {
                "application/json" => serde_json::from_str(&own).unwrap(),
                _ => Value::String(own),
            };
            in_order(&mut wanted);
            in_order(&mut own);
            assert_eq!(own, wanted, "{path}");
        }
    }
    assert_eq!(asked, 42);
}

/// The original listed in no order.
fn in_order(body: &mut Value) {
    if let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) {
        items.sort_by_key(|item| item["metadata"].to_string());
    }
}

/// A cluster that finds a pod as quickly as the watches do.
#[derive(Default)]
struct Large(HashMap<Text, HashMap<Text, Arc<Pod>>>);

impl ClusterView for Large {
    fn nodes(&self) -> Vec<Arc<Node>> {
        Vec::new()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.0.get(namespace)?.get(name).cloned()
    }

    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<Pod>> {
        let shelves = self.0.iter().filter(|(own, _)| namespace.is_none_or(|name| **own == *name));
        shelves.flat_map(|(_, pods)| pods.values()).cloned().collect()
    }

    fn namespace(&self, _: &str) -> Option<Arc<Namespace>> {
        None
    }

    fn is_complete(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_what_is_used() {
    let mut kubectl = Command::new("kubectl");
    if !kubectl.args(["version", "--client"]).output().is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: there is no kubectl");
        return;
    }
    let scraped = Scraped::new(Anything { is_complete: false, ..fixture_cluster() });
    for scrape in 0..2 {
        scrape_fixture(&scraped, scrape, str::to_owned);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let limits = heapster_server::http::ServerOptions::default();
    let router = Arc::new(scraped.router);
    tokio::spawn(heapster_server::http::serve(listener, router, limits, std::future::pending()));
    let home = tempfile::tempdir().unwrap();
    let ask = async |words: &str| {
        let mut kubectl = Command::new("kubectl");
        kubectl.env_clear().env("HOME", home.path()).env("PATH", std::env::var("PATH").unwrap());
        kubectl.arg("--server").arg(&url).args(words.split(' '));
        let done = tokio::task::spawn_blocking(move || kubectl.output().unwrap()).await.unwrap();
        let shown = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        let lines = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>()
    };
    let (coredns, checkout) = ("coredns-7db6d8ff4d-x2k9p", "checkout-6f9d7c5b8-lq2wz");
    assert_eq!(
        ask("top pods -A --containers").await,
        [
            "NAMESPACE POD NAME CPU(cores) MEMORY(bytes)",
            &format!("kube-system {coredns} coredns 4m 18Mi"),
            &format!("shop {checkout} app 250m 513Mi"),
            &format!("shop {checkout} istio-proxy 12m 68Mi"),
        ]
    );
    let by_use = [format!("shop {checkout} 262m 581Mi"), format!("kube-system {coredns} 4m 18Mi")];
    for order in ["cpu", "memory"] {
        let shown = ask(&format!("top pods -A --sort-by={order}")).await;
        assert_eq!(shown[1..], by_use, "by {order}");
    }
    let selected = ask("top pods -n kube-system -l k8s-app=kube-dns").await;
    assert_eq!(selected, ["NAME CPU(cores) MEMORY(bytes)", &format!("{coredns} 4m 18Mi")]);
    let refused = ask("top pod nobody -n kube-system").await;
    assert_eq!(refused, ["Error from server (NotFound): pods \"nobody\" not found"]);
    let table = ask("get nodes.metrics.k8s.io").await;
    assert_eq!(table, ["NAME CPU MEMORY SWAP WINDOW", "worker-1 1250m 3146128Ki 12Mi 15s"]);
    let names = ask("get pods.metrics.k8s.io -n shop -o name").await;
    assert_eq!(names, [format!("podmetrics.metrics.k8s.io/{checkout}")]);
}

/// 5,000 nodes with 30 pods of two containers: `cargo test --release … -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it takes a gigabyte and shows figures"]
async fn the_largest_cluster_is_listed_in_bounded_time_and_memory() {
    const PODS: usize = 150_000;
    let name = |index: usize| Text::from(format!("app-{:03}-{index:06}", index % 100));
    let namespace = |index: usize| Text::from(format!("team-{}", index % 10));
    let mut cluster = Large::default();
    for index in 0..PODS {
        let app = format!("app-{:03}", index % 100);
        let labels = labels(&[("app", &app), ("pod-template-hash", "6f9d7c5b8"), ("tier", "web")]);
        let (namespace, name) = (namespace(index), name(index));
        let phase = "Running".into();
        let shelf = cluster.0.entry(namespace.clone()).or_default();
        let pod = Pod { namespace, name: name.clone(), labels, phase, ..Pod::default() };
        shelf.insert(name, Arc::new(pod));
    }
    let batch = |at: Timestamp| {
        let mut batch = DataBatch::new(at);
        let seconds = at.as_millis() / 1000 % 100_000;
        for index in 0..PODS {
            for container in ["app", "proxy"] {
                let key = EntityKey::pod_container(namespace(index), name(index), container);
                let mut set = MetricSet::new(key.entity_type());
                set.scrape_time = Option::from(at);
                let cpu = MetricValue::cumulative(seconds * 223_456_789 + index as i64);
                set.metrics.set_static(metric::CPU_USAGE, cpu);
                let memory = MetricValue::gauge((64 << 20) + index as i64 * 4096);
                set.metrics.set_static(metric::MEMORY_WORKING_SET, memory);
                batch.sets.insert(key, set);
            }
        }
        Arc::new(batch)
    };
    let clock = SystemClock::new();
    let live = Arc::new(Live::new(RULES));
    let start = moment("2026-03-02T10:00:00Z");
    for round in 0..3_u32 {
        let batch = batch(start.saturating_add(RULES.resolution * round));
        let begin = clock.monotonic();
        live.publish(batch);
        println!("round {round}: a new board in {:?}", clock.monotonic() - begin);
    }
    let stepped = SteppedClock::at(start.saturating_add(RULES.resolution * 2));
    let storage = Arc::new(MemoryStorage::new());
    let options = ApiOptions::default();
    let router = Arc::new(router_in(Arc::new(cluster), storage, &live, &stepped, options));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = heapster_server::http::ServerOptions::default();
    tokio::spawn(heapster_server::http::serve(listener, router, limits, std::future::pending()));
    let all = format!("{V1BETA1}/pods");
    let some = format!("{V1BETA1}/namespaces/team-3/pods?labelSelector=app%3Dapp-003");
    let one = format!("{V1BETA1}/namespaces/team-3/pods/app-003-000003");
    for (what, path, accept, bytes_min) in [
        ("all pods, JSON", &all, "application/json", 50 << 20),
        ("all pods, protobuf", &all, PROTOBUF, 25 << 20),
        ("a namespace by selector, JSON", &some, "application/json", 500 << 10),
        ("a namespace by selector, protobuf", &some, PROTOBUF, 250 << 10),
        ("a pod", &one, "application/json", 300),
    ] {
        for _ in 0..3 {
            let begin = clock.monotonic();
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let (mut bytes, mut buffer) = (0, vec![0; 1 << 16]);
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                bytes += read;
            }
            println!("{what}: {bytes} bytes in {:?}", clock.monotonic() - begin);
            assert!(bytes > bytes_min, "{what}: {bytes}");
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory =
        |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    println!("{} {}", memory("VmHWM"), memory("VmRSS"));
}
