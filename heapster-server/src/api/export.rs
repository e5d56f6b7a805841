//! `/api/v1/metric-export` and its schema: the newest batch, for pullers.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use heapster_core::catalogue::{
    COMMON_LABELS, LABELED, LabelDescriptor, MetricDescriptor, POD_LABELS, STANDARD, find,
};
use heapster_core::{
    DataBatch, EntityType, Labels, MetricKind, MetricSet, MetricValue, Timestamp, Value, key,
    metric,
};

use super::series_json::answer;
use super::{Context, compute};
use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Route, Router};

const EXPORT: &str = "/api/v1/metric-export";
const SCHEMA: &str = "/api/v1/metric-export-schema";

/// Labels of a set that are exported; `type` and `namespace_name` are not, as in the original.
const SET_LABELS: [&str; 9] = [
    key::NODENAME,
    key::HOSTNAME,
    key::HOST_ID,
    key::CONTAINER_NAME,
    key::CONTAINER_BASE_IMAGE,
    key::POD_NAME,
    key::POD_ID,
    key::NAMESPACE_ID,
    key::LABELS,
];

pub(super) fn add_routes(router: &mut Router, context: &Arc<Context>) {
    router.service(EXPORT);
    router.service(SCHEMA);
    let own = Arc::clone(context);
    router.route(Route::get_json(EXPORT, move |_| {
        let latest = own.state.live.latest();
        let disabled = own.state.options.disable_export;
        compute(move || {
            answer(Style::Plain, |json| match latest {
                _ if disabled => {
                    json.begin_array();
                    json.end_array();
                }
                None => json.null(),
                Some(batch) => write_batch(json, &batch),
            })
        })
    }));
    router.route(Route::get_json(SCHEMA, |_| async { answer(Style::Pretty, write_schema) }));
}

/// The metrics that are exported, in the order of the schema.
fn exported() -> impl Iterator<Item = &'static MetricDescriptor> {
    let limits = [metric::CPU_LIMIT, metric::MEMORY_LIMIT].into_iter().filter_map(find);
    STANDARD.iter().chain(limits).chain(LABELED.iter())
}

fn is_exported(name: &str) -> bool {
    static NAMES: LazyLock<HashSet<&str>> =
        LazyLock::new(|| exported().map(|descriptor| descriptor.name).collect());
    NAMES.contains(name)
}

fn write_batch(json: &mut JsonWriter, batch: &DataBatch) {
    json.begin_array();
    for set in batch.sets.values() {
        let is_exported = matches!(
            set.entity_type(),
            Some(
                EntityType::Node
                    | EntityType::Pod
                    | EntityType::PodContainer
                    | EntityType::SystemContainer
            )
        );
        if is_exported {
            write_set(json, set, batch.timestamp);
        }
    }
    json.end_array();
}

fn write_set(json: &mut JsonWriter, set: &MetricSet, at: Timestamp) {
    let mut points: BTreeMap<&str, Vec<(Option<&Labels>, MetricValue)>> = BTreeMap::new();
    for (name, value) in set.metrics.iter() {
        points.entry(name).or_default().push((None, value));
    }
    for labeled in &set.labeled_metrics {
        points.entry(&labeled.name).or_default().push((Some(&labeled.labels), labeled.metric));
    }
    json.begin_object();
    json.key("metrics");
    json.begin_object();
    for (name, points) in points.into_iter().filter(|(name, _)| is_exported(name)) {
        json.key(name);
        json.begin_array();
        for (labels, value) in points {
            write_point(json, set, at, labels, value);
        }
        json.end_array();
    }
    json.end_object();
    write_labels(json, &set_labels(set));
    json.end_object();
}

fn write_point(
    json: &mut JsonWriter,
    set: &MetricSet,
    at: Timestamp,
    labels: Option<&Labels>,
    metric: MetricValue,
) {
    json.begin_object();
    json.key("start");
    match (metric.kind, set.collection_start_time) {
        (MetricKind::Cumulative, Some(start)) => json.plain_text(start),
        // Go's zero time for an unknown one.
        (MetricKind::Cumulative, None) => json.plain_text(Timestamp::MIN),
        _ => json.plain_text(at),
    }
    json.key("end");
    json.plain_text(at);
    if let Some(labels) = labels {
        write_labels(json, labels);
    }
    json.key("value");
    match metric.value {
        Value::Int(int) => json.int(int),
        Value::Float(float) => json.float(float),
    }
    json.end_object();
}

fn set_labels(set: &MetricSet) -> Labels {
    let mut labels: Labels = set
        .labels
        .iter()
        .filter(|label| SET_LABELS.contains(&label.name.as_str()))
        .map(|label| (label.name.clone(), label.value.clone()))
        .collect();
    match set.entity_type() {
        Some(EntityType::Node) => labels.set_static(key::CONTAINER_NAME, "machine"),
        Some(EntityType::Pod) => labels.set_static(key::CONTAINER_NAME, "/pod"),
        _ => {}
    }
    labels
}

/// `"labels": {…}`, left out when there are none.
fn write_labels(json: &mut JsonWriter, labels: &Labels) {
    if labels.is_empty() {
        return;
    }
    json.key("labels");
    json.begin_object();
    for label in labels {
        json.key(&label.name);
        json.string(&label.value);
    }
    json.end_object();
}

fn write_schema(json: &mut JsonWriter) {
    json.begin_object();
    json.key("metrics");
    json.begin_array();
    for descriptor in exported() {
        write_descriptor(json, descriptor);
    }
    json.end_array();
    json.key("common_labels");
    write_label_descriptors(json, COMMON_LABELS.iter());
    json.key("pod_labels");
    write_label_descriptors(json, POD_LABELS.iter());
    json.end_object();
}

fn write_descriptor(json: &mut JsonWriter, descriptor: &MetricDescriptor) {
    json.begin_object();
    json.key("name");
    json.string(descriptor.name);
    json.key("description");
    json.string(descriptor.description);
    if !descriptor.labels.is_empty() {
        json.key("labels");
        let labels = descriptor.labels.iter();
        let labels = labels.filter_map(|label| heapster_core::catalogue::find_label(label));
        write_label_descriptors(json, labels);
    }
    json.key("type");
    json.string(descriptor.kind.as_str());
    json.key("value_type");
    json.string(descriptor.value_type.as_str());
    if !descriptor.unit.as_str().is_empty() {
        json.key("units");
        json.string(descriptor.unit.as_str());
    }
    json.end_object();
}

fn write_label_descriptors<'a>(
    json: &mut JsonWriter,
    labels: impl Iterator<Item = &'a LabelDescriptor>,
) {
    json.begin_array();
    for label in labels {
        json.begin_object();
        json.key("key");
        json.string(label.key);
        json.key("description");
        json.string(label.description);
        json.end_object();
    }
    json.end_array();
}
