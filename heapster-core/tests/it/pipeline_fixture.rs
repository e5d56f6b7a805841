//! Two scrapes of a small cluster give exactly the batches an independent oracle computed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heapster_core::cluster::{CPU, Namespace, Node, Pod, PodContainer, Resources};
use heapster_core::{
    DataBatch, EntityKey, LabeledMetric, Labels, MetricKind, MetricSet, MetricValue, Quantity,
    Text, Timestamp,
};
use serde_json::Value;

use crate::kubelet_summary::{decode, int, text, time};
use crate::objects::{Objects, pipeline, run};

/// Where the fixtures are, or `None` with a word of it when they are not there.
fn fixtures() -> Option<PathBuf> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("fixtures/heapster");
    if !folder.is_dir() {
        eprintln!("skipped: no shared fixtures beside the workspace");
        return None;
    }
    Some(folder)
}

fn read(folder: &Path, name: &str) -> Value {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn two_scrapes_give_the_batches_the_oracle_computed() {
    let Some(folder) = fixtures() else { return };
    let mut processors = pipeline(objects(&read(&folder, "pipeline_objects.input.json")));
    for scrape in [1, 2] {
        let summary = read(&folder, &format!("pipeline_summary_{scrape}.input.json"));
        let expected = read(&folder, &format!("pipeline_batch_{scrape}.expected.json"));
        let timestamp = Timestamp::parse_rfc3339(&text(&expected["timestamp"])).unwrap();
        let now = time(&expected["scrape clock (for uptime)"][scrape - 1]).unwrap();
        let place = strings(&expected["node"]);
        let sets = decode(&summary, &place, now).into_iter().collect();
        let mut batch = DataBatch { timestamp, sets };
        run(&mut processors, &mut batch);
        check(&batch, &expected["metricSets"]);
    }
}

fn check(batch: &DataBatch, expected: &Value) {
    let expected = expected.as_object().unwrap();
    let entities: Vec<_> = batch.sets.keys().map(ToString::to_string).collect();
    let mut names: Vec<_> = expected.keys().map(String::as_str).collect();
    names.sort_by_key(|name| name.parse::<EntityKey>().unwrap());
    assert_eq!(entities, names);
    for (name, set) in expected {
        let entity: EntityKey = name.parse().unwrap();
        let own = &batch.sets[&entity];
        assert_eq!(*own, metric_set(set), "{name} at {}", batch.timestamp);
        assert_eq!(EntityKey::from_labels(&own.labels), Some(entity));
    }
}

fn metric_set(value: &Value) -> MetricSet {
    let mut set = MetricSet {
        labels: strings(&value["labels"]),
        collection_start_time: time(&value["collectionStartTime"]),
        entity_create_time: time(&value["entityCreateTime"]),
        scrape_time: time(&value["scrapeTime"]),
        ..MetricSet::default()
    };
    for (name, metric) in value["metrics"].as_object().unwrap() {
        set.metrics.set(name, metric_value(metric));
    }
    for metric in value["labeledMetrics"].as_array().unwrap() {
        set.labeled_metrics.push(LabeledMetric {
            name: text(&metric["name"]),
            labels: strings(&metric["labels"]),
            metric: metric_value(metric),
        });
    }
    set
}

fn metric_value(value: &Value) -> MetricValue {
    let kind = match value["type"].as_str() {
        Some("cumulative") => MetricKind::Cumulative,
        Some("delta") => MetricKind::Delta,
        _ => MetricKind::Gauge,
    };
    let value = match int(&value["int"]) {
        Some(value) => value.into(),
        None => value["float"].as_f64().unwrap().into(),
    };
    MetricValue { value, kind }
}

fn strings(value: &Value) -> Labels {
    value.as_object().unwrap().iter().map(|(name, value)| (name, text(value))).collect()
}

fn objects(value: &Value) -> Objects {
    let list = |name: &str| value[name].as_array().unwrap().iter();
    Objects {
        nodes: list("nodes").map(|node| Arc::new(self::node(node))).collect(),
        pods: list("pods").map(|pod| Arc::new(self::pod(pod))).collect(),
        namespaces: list("namespaces")
            .map(|namespace| &namespace["metadata"])
            .map(|meta| Namespace { name: text(&meta["name"]), uid: text(&meta["uid"]) })
            .map(Arc::new)
            .collect(),
    }
}

fn node(value: &Value) -> Node {
    Node {
        name: text(&value["metadata"]["name"]),
        labels: text_map(&value["metadata"]["labels"]),
        capacity: resources(&value["status"]["capacity"]),
        allocatable: resources(&value["status"]["allocatable"]),
    }
}

fn pod(value: &Value) -> Pod {
    let statuses = value["status"]["containerStatuses"].as_array();
    let restarts = |name: &Value| {
        let status = statuses?.iter().find(|status| status["name"] == *name)?;
        Some(int(&status["restartCount"]).unwrap_or(0))
    };
    let container = |container: &Value| PodContainer {
        name: text(&container["name"]),
        image: text(&container["image"]),
        requests: resources(&container["resources"]["requests"]),
        limits: resources(&container["resources"]["limits"]),
        restart_count: restarts(&container["name"]),
    };
    Pod {
        namespace: text(&value["metadata"]["namespace"]),
        name: text(&value["metadata"]["name"]),
        uid: text(&value["metadata"]["uid"]),
        labels: text_map(&value["metadata"]["labels"]),
        start_time: time(&value["status"]["startTime"]),
        containers: value["spec"]["containers"].as_array().unwrap().iter().map(container).collect(),
        phase: text(&value["status"]["phase"]),
    }
}

fn text_map(value: &Value) -> BTreeMap<Text, Text> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.into(), text(value))).collect()
}

fn resources(value: &Value) -> Resources {
    let amounts = value.as_object().into_iter().flatten();
    amounts
        .map(|(name, amount)| {
            let amount = Quantity::parse(&text(amount)).unwrap();
            (name.into(), if name == CPU { amount.milli_value() } else { amount.value() })
        })
        .collect()
}
