//! `/api/v1/metric-export` and its schema: the newest batch, for pullers.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock, Weak};

use bytes::Bytes;
use heapster_core::catalogue::{
    COMMON_LABELS, LABELED, LabelDescriptor, MetricDescriptor, POD_LABELS, STANDARD, find,
};
use heapster_core::{
    DataBatch, EntityType, Labels, MetricKind, MetricSet, MetricValue, Timestamp, Value, key,
    metric,
};
use parking_lot::Mutex;

use super::Context;
use super::series_json::answer;
use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Response, Route, Router, json};

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
        let context = Arc::clone(&own);
        async move {
            let (own, latest) = (Arc::clone(&context), context.state.live.latest());
            let make = move || match latest {
                _ if own.state.options.disable_export => json(b"[]\n".to_vec()),
                None => json(b"null\n".to_vec()),
                Some(batch) => own.export.answer(&batch),
            };
            context.turns.make(make).await
        }
    }));
    router.route(Route::get_json(SCHEMA, |_| async { answer(Style::Pretty, write_schema) }));
}

/// The answer about the newest batch, which every puller asks for.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(Weak<DataBatch>, Bytes)>>);

impl Cache {
    /// The answer about a batch. Whoever asks while it is being made waits for it.
    fn answer(&self, batch: &Arc<DataBatch>) -> Response {
        let mut cached = self.0.lock();
        let body = match &*cached {
            // A batch that is held, be it weakly, has an address of its own.
            Some((own, body)) if own.as_ptr() == Arc::as_ptr(batch) => body.clone(),
            _ => {
                let mut json = JsonWriter::new(Style::Plain);
                write_batch(&mut json, batch);
                let body = Bytes::from(json.finish());
                *cached = Some((Arc::downgrade(batch), body.clone()));
                body
            }
        };
        json(body)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_written_once_for_all_its_pullers() {
        let cache = Cache::default();
        let batch = |millis| Arc::new(DataBatch::new(Timestamp::from_millis(millis)));
        let (old, new) = (batch(1), batch(2));
        let body = |batch| cache.answer(batch).body().as_ptr();
        let first = body(&old);
        assert_eq!(body(&old), first);
        assert_ne!(body(&new), first);
    }
}
