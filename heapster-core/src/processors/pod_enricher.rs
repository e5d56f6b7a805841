//! [`PodEnricher`]: what Kubernetes knows about a pod, on the sets of the pod and its containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LabelCopier;
use super::label_copier::CopiedLabels;
use crate::cluster::{self, ClusterView, Pod, PodContainer, Resources};
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{
    DataBatch, EntityKey, EntityType, Labels, MetricSet, MetricValue, Metrics, Text, key, metric,
};

/// Adds requests, limits, restarts and labels to pods and their containers, and makes sets for
/// those the kubelet did not report.
///
/// A pod counts as reported when its own set or one of its containers' is in the batch. A pod the
/// cluster does not know stays as it was scraped. A pod made anew under an old name takes over at
/// once; the UID is not compared.
pub struct PodEnricher {
    cluster: Arc<dyn ClusterView>,
    copier: LabelCopier,
}

/// The resources with names of their own: resource, metric of the request, metric of the limit.
const PRIMARY: [(&str, &str, &str); 3] = [
    (cluster::CPU, metric::CPU_REQUEST, metric::CPU_LIMIT),
    (cluster::MEMORY, metric::MEMORY_REQUEST, metric::MEMORY_LIMIT),
    (
        cluster::EPHEMERAL_STORAGE,
        metric::EPHEMERAL_STORAGE_REQUEST,
        metric::EPHEMERAL_STORAGE_LIMIT,
    ),
];

/// The labels that say where a pod runs.
const PLACE: [&str; 3] = [key::NODENAME, key::HOSTNAME, key::HOST_ID];

impl PodEnricher {
    /// An enricher that asks this cluster and copies pod labels with this copier.
    pub fn new(cluster: Arc<dyn ClusterView>, copier: LabelCopier) -> Self {
        Self { cluster, copier }
    }
}

impl Processor for PodEnricher {
    fn name(&self) -> &'static str {
        "pod_based_enricher"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        for (namespace, name) in reported_pods(batch) {
            if let Some(pod) = self.cluster.pod(&namespace, &name) {
                let labels = self.copier.read(&pod.labels);
                Enrichment { namespace, name, pod: &pod, labels }.apply(&mut batch.sets);
            }
        }
        Ok(())
    }
}

/// Namespace and name of every pod with a set or with a container's set, each once.
fn reported_pods(batch: &DataBatch) -> Vec<(Text, Text)> {
    let mut pods: Vec<(Text, Text)> = Vec::new();
    for key in batch.sets.keys() {
        if let EntityKey::Pod { namespace, pod } | EntityKey::PodContainer { namespace, pod, .. } =
            key
            && pods.last().is_none_or(|last| last.0 != *namespace || last.1 != *pod)
        {
            pods.push((namespace.clone(), pod.clone()));
        }
    }
    pods.sort_unstable();
    pods.dedup();
    pods
}

/// One pod's knowledge on its way into the batch.
struct Enrichment<'a> {
    namespace: Text,
    name: Text,
    pod: &'a Pod,
    labels: CopiedLabels,
}

impl Enrichment<'_> {
    fn apply(&self, sets: &mut BTreeMap<EntityKey, MetricSet>) {
        let place = self.enrich_containers(sets);
        let pod_key = EntityKey::pod(self.namespace.clone(), self.name.clone());
        let pod = sets.entry(pod_key).or_insert_with(|| self.pod_stub(&place));
        self.enrich_pod(pod);
        let pod_labels = place_of(&pod.labels);
        let pod_start = pod.collection_start_time;
        for container in &self.pod.containers {
            sets.entry(self.container_key(container.name.clone())).or_insert_with(|| {
                let mut stub = self.container_stub(container, &pod_labels);
                // The pod's start, as in the original: the container's own is not known.
                stub.entity_create_time = pod_start;
                stub
            });
        }
    }

    /// Enriches the containers that have sets; returns where the first of them runs.
    fn enrich_containers(&self, sets: &mut BTreeMap<EntityKey, MetricSet>) -> [Text; 3] {
        let mut place = None;
        for (key, set) in sets.range_mut(self.container_key(Text::default())..) {
            match key {
                EntityKey::PodContainer { namespace, pod, container }
                    if *namespace == self.namespace && *pod == self.name =>
                {
                    self.enrich_container(container, set);
                }
                _ => break,
            }
            place.get_or_insert_with(|| place_of(&set.labels));
        }
        place.unwrap_or_default()
    }

    fn enrich_container(&self, name: &str, set: &mut MetricSet) {
        if let Some(container) = self.pod.containers.iter().find(|own| own.name == *name) {
            add_resources(&mut set.metrics, container);
            if !set.labels.contains(key::CONTAINER_BASE_IMAGE) {
                set.labels.set_static(key::CONTAINER_BASE_IMAGE, container.image.clone());
            }
            if let Some(restarts) = container.restart_count {
                set.metrics.set_static(metric::RESTART_COUNT, MetricValue::gauge(restarts));
                set.entity_create_time = self.pod.start_time.or(set.entity_create_time);
            }
        }
        self.write_labels(set);
    }

    fn enrich_pod(&self, set: &mut MetricSet) {
        set.entity_create_time = self.pod.start_time.or(set.entity_create_time);
        self.write_labels(set);
    }

    fn write_labels(&self, set: &mut MetricSet) {
        set.labels.set_static(key::POD_ID, self.pod.uid.clone());
        self.labels.write_to(&mut set.labels);
    }

    fn pod_stub(&self, place: &[Text; 3]) -> MetricSet {
        let mut set = MetricSet::new(EntityType::Pod);
        set.labels.set_static(key::NAMESPACE_NAME, self.namespace.clone());
        set.labels.set_static(key::POD_NAME, self.name.clone());
        set_place(&mut set.labels, place);
        set
    }

    fn container_stub(&self, container: &PodContainer, place: &[Text; 3]) -> MetricSet {
        let mut set = MetricSet::new(EntityType::PodContainer);
        set.labels.set_static(key::NAMESPACE_NAME, self.namespace.clone());
        set.labels.set_static(key::POD_NAME, self.name.clone());
        set.labels.set_static(key::CONTAINER_NAME, container.name.clone());
        set.labels.set_static(key::CONTAINER_BASE_IMAGE, container.image.clone());
        set_place(&mut set.labels, place);
        self.write_labels(&mut set);
        add_resources(&mut set.metrics, container);
        set
    }

    fn container_key(&self, container: Text) -> EntityKey {
        EntityKey::pod_container(self.namespace.clone(), self.name.clone(), container)
    }
}

fn place_of(labels: &Labels) -> [Text; 3] {
    PLACE.map(|name| labels.get(name).cloned().unwrap_or_default())
}

fn set_place(labels: &mut Labels, place: &[Text; 3]) {
    for (name, value) in PLACE.into_iter().zip(place) {
        labels.set_static(name, value.clone());
    }
}

/// Requests and limits. The primary resources are zero when not given; of the others only requests
/// are told, as `<resource>/request`.
fn add_resources(metrics: &mut Metrics, container: &PodContainer) {
    let amount =
        |of: &Resources, name: &str| MetricValue::gauge(of.get(name).copied().unwrap_or(0));
    for (resource, request, limit) in PRIMARY {
        metrics.set_static(request, amount(&container.requests, resource));
        metrics.set_static(limit, amount(&container.limits, resource));
    }
    for (resource, amount) in &container.requests {
        if !PRIMARY.iter().any(|(primary, ..)| *resource == *primary) {
            metrics.set(format!("{resource}/request"), MetricValue::gauge(*amount));
        }
    }
}
