//! What a kubelet says becomes the metric sets the original made of it: every set, label, metric,
//! kind and time of the recorded answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use heapster_core::pipeline::Scrape;
use heapster_core::{EntityKey, MetricSet, MetricValue, NanoTime, Text, Value};
use heapster_server::sources::kubelet::cadvisor::{self, Schedulable};
use heapster_server::sources::kubelet::{NodeInfo, summary};
use serde_json::{Value as Json, json};

/// A file of the shared data; `None`, with a note, where it is not at hand.
fn shared(path: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(path);
    match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            println!("skipped: {}: {error}", path.display());
            None
        }
    }
}

fn parse(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap()
}

fn node_info(node: &Json) -> NodeInfo {
    let text = |name: &str| Text::from(node[name].as_str().unwrap());
    NodeInfo { nodename: text("nodename"), hostname: text("hostname"), host_id: text("host_id") }
}

fn node(name: &str) -> NodeInfo {
    NodeInfo { nodename: name.into(), hostname: name.into(), host_id: Text::default() }
}

fn moment(text: &str) -> NanoTime {
    NanoTime::parse_rfc3339(text).unwrap().unwrap()
}

fn time_as_json(time: Option<NanoTime>) -> Json {
    time.map_or_else(|| "0001-01-01T00:00:00Z".into(), |time| time.to_string().into())
}

fn metric_as_json(metric: MetricValue) -> Json {
    match metric.value {
        Value::Int(value) => json!({ "int": value, "type": metric.kind.as_str() }),
        Value::Float(value) => json!({ "float": value, "type": metric.kind.as_str() }),
    }
}

/// The set in the shape of the expected files.
fn set_as_json(set: &MetricSet) -> Json {
    let labels = |labels: &heapster_core::Labels| -> BTreeMap<String, String> {
        labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect()
    };
    let labeled: Vec<Json> = set
        .labeled_metrics
        .iter()
        .map(|metric| {
            let mut object = metric_as_json(metric.metric);
            object["name"] = metric.name.as_str().into();
            object["labels"] = json!(labels(&metric.labels));
            object
        })
        .collect();
    let metrics: BTreeMap<String, Json> = set
        .metrics
        .iter()
        .map(|(name, metric)| (name.to_string(), metric_as_json(metric)))
        .collect();
    json!({
        "collectionStartTime": time_as_json(set.collection_start_time),
        "entityCreateTime": time_as_json(set.entity_create_time),
        "scrapeTime": time_as_json(set.scrape_time),
        "labels": labels(&set.labels),
        "metrics": metrics,
        "labeledMetrics": labeled,
    })
}

/// Compares all sets, and that each key occurs once.
fn check(scrape: &Scrape, expected: &Json) {
    let mut actual = BTreeMap::new();
    for (key, set) in &scrape.sets {
        assert_eq!(actual.insert(key.to_string(), set_as_json(set)), None, "{key} occurs twice");
        assert_eq!(set.entity_type(), Some(key.entity_type()));
        assert_eq!(EntityKey::from_labels(&set.labels).as_ref(), Some(key));
    }
    let expected = expected["metricSets"].as_object().unwrap();
    let keys = |keys: Vec<&String>| keys.into_iter().cloned().collect::<Vec<_>>().join("\n");
    assert_eq!(keys(actual.keys().collect()), keys(expected.keys().collect()));
    for (key, set) in expected {
        assert_eq!(&actual[key], set, "{key}");
    }
}

fn check_summary(name: &str) {
    let (Some(input), Some(expected)) = (
        shared(&format!("fixtures/heapster/{name}.input.json")),
        shared(&format!("fixtures/heapster/{name}.expected.json")),
    ) else {
        return;
    };
    let expected = parse(&expected);
    let now = moment(expected["now"].as_str().unwrap());
    let scrape = summary::decode(&input, &node_info(&expected["node"]), now).unwrap();
    check(&scrape, &expected);
    assert_eq!(scrape.rejects, Vec::<String>::new());
}

#[test]
fn a_summary_decodes_as_the_originals_unit_test_expects() {
    check_summary("summary_decode_unit");
}

#[test]
fn missing_times_and_numbers_and_custom_metrics_decode_as_in_the_original() {
    check_summary("summary_decode_edge");
}

#[test]
fn a_root_file_system_without_usage_costs_one_metric_and_not_the_process() {
    let Some(input) = shared("fixtures/heapster/summary_decode_crash.input.json") else { return };
    let scrape = summary::decode(&input, &node("n"), moment("2018-07-26T12:00:00Z")).unwrap();
    assert_eq!(scrape.rejects, Vec::<String>::new());
    let key = EntityKey::pod_container("d", "p", "c");
    let (_, set) = scrape.sets.iter().find(|(own, _)| *own == key).unwrap();
    assert!(!set.metrics.contains("ephemeral_storage/usage"));
    assert_eq!(set.metrics.int("uptime"), Some(60_000));
    let named: Vec<_> = set.labeled_metrics.iter().map(|m| m.name.to_string()).collect();
    assert_eq!(
        named,
        [
            "filesystem/limit",
            "filesystem/available",
            "filesystem/usage",
            "filesystem/limit",
            "filesystem/available"
        ]
    );
}

/// Decodes and counts, against a plain reading of the same document.
fn check_complete(path: &str) {
    let Some(input) = shared(path) else { return };
    let document = parse(&input);
    let name = document["node"]["nodeName"].as_str().unwrap();
    let scrape = summary::decode(&input, &node(name), moment("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(scrape.rejects, Vec::<String>::new(), "{path}");
    let length = |list: &Json| list.as_array().map_or(0, Vec::len);
    let pods = document["pods"].as_array().unwrap();
    let containers: usize = pods.iter().map(|pod| length(&pod["containers"])).sum();
    let system = length(&document["node"]["systemContainers"]);
    assert_eq!(scrape.sets.len(), 1 + system + pods.len() + containers, "{path}");
    let usage = scrape.sets[0].1.metrics.int("cpu/usage").unwrap();
    assert_eq!(document["node"]["cpu"]["usageCoreNanoSeconds"].as_i64(), Some(usage));
    for pod in pods {
        let reference = &pod["podRef"];
        let text = |name: &str| reference[name].as_str().unwrap();
        let key = EntityKey::pod(text("namespace"), text("name"));
        let (_, set) = scrape.sets.iter().find(|(own, _)| *own == key).unwrap();
        assert_eq!(set.labels.value("pod_id"), text("uid"));
        let working_set = pod["memory"]["workingSetBytes"].as_i64();
        assert_eq!(set.metrics.int("memory/working_set"), working_set, "{key}");
        assert_eq!(set.metrics.int("network/rx"), pod["network"]["rxBytes"].as_i64(), "{key}");
    }
}

#[test]
fn summaries_of_todays_kubelets_decode_whole() {
    check_complete("fixtures/kubelet/real/stats_summary_k8s_1_31.json");
    for scrape in 0..4 {
        check_complete(&format!("fixtures/kubelet/stats_summary_3pods_scrape{scrape}.json"));
    }
}

#[test]
fn the_legacy_list_decodes_as_in_the_original() {
    let (Some(input), Some(expected)) = (
        shared("fixtures/heapster/cadvisor_decode.input.json"),
        shared("fixtures/heapster/cadvisor_decode.expected.json"),
    ) else {
        return;
    };
    let expected = parse(&expected);
    let now = moment(expected["now"].as_str().unwrap());
    let node = node_info(&expected["node"]);
    let scrape = cadvisor::decode(&input, &node, Schedulable::Yes, now).unwrap();
    check(&scrape, &expected);
    assert_eq!(scrape.rejects, Vec::<String>::new());
}
