//! [`PodAggregator`]: containers → pods.

use super::sum::Sum;
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{
    DataBatch, EntityKey, EntityType, Labels, MetricKind, MetricSet, Metrics, Text, catalogue, key,
};

/// Gives pods the sum of their containers' metrics, where the pod does not report its own value.
///
/// Counters of the kubelet are not summed: their sum would fall when a container restarts. Labelled
/// metrics are not summed either. A pod without a set gets one; it has no label `nodename`, as the
/// original's has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodAggregator;

/// What a container's labels tell of its pod, for a pod that has no set.
const POD_LABELS: [&str; 6] = [
    key::POD_ID,
    key::POD_NAME,
    key::NAMESPACE_NAME,
    key::NAMESPACE_ID,
    key::HOSTNAME,
    key::HOST_ID,
];

impl Processor for PodAggregator {
    fn name(&self) -> &'static str {
        "pod_aggregator"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        for addition in additions(batch) {
            let set = batch.sets.entry(addition.key).or_insert_with(|| addition.stub);
            for (name, sum) in addition.sums {
                if let Some(metric) = sum.finish() {
                    set.metrics.set(name, metric);
                }
            }
        }
        Ok(())
    }
}

/// What one pod is to get from its containers.
struct Addition {
    key: EntityKey,
    /// The pod's set, should it have none.
    stub: MetricSet,
    /// Sorted by name; nothing the pod reports itself.
    sums: Vec<(Text, Sum)>,
}

/// The sums by pod; in the batch the containers of one pod stand together.
fn additions(batch: &DataBatch) -> Vec<Addition> {
    let mut additions: Vec<Addition> = Vec::new();
    let mut own = None;
    for (key, set) in &batch.sets {
        let EntityKey::PodContainer { namespace, pod, .. } = key else { continue };
        let is_same_pod = additions.last().is_some_and(|last| {
            matches!(&last.key, EntityKey::Pod { namespace: of, pod: name } if of == namespace && name == pod)
        });
        if !is_same_pod {
            let key = EntityKey::pod(namespace.clone(), pod.clone());
            let pod = batch.sets.get(&key);
            own = pod.map(|pod| &pod.metrics);
            let stub = if pod.is_some() { MetricSet::default() } else { stub(&key, &set.labels) };
            additions.push(Addition { key, stub, sums: Vec::new() });
        }
        if let Some(addition) = additions.last_mut() {
            add(&mut addition.sums, &set.metrics, own);
        }
    }
    additions
}

fn add(sums: &mut Vec<(Text, Sum)>, metrics: &Metrics, own: Option<&Metrics>) {
    // All three lists are sorted by name, so one walk over them finds what belongs together.
    let mut own = own.into_iter().flat_map(Metrics::iter).peekable();
    let mut place = 0;
    for (name, metric) in metrics.iter() {
        while own.next_if(|(of, _)| *of < name).is_some() {}
        if own.peek().is_some_and(|(of, _)| *of == name) || is_counter(name, metric.kind) {
            continue;
        }
        while sums.get(place).is_some_and(|(summed, _)| summed < name) {
            place += 1;
        }
        match sums.get_mut(place) {
            Some((summed, sum)) if summed == name => sum.add(metric),
            _ => sums.insert(place, (name.clone(), Sum::of(metric))),
        }
    }
}

/// Whether the metric is a counter of the kubelet; a user's own counter is not.
fn is_counter(name: &Text, kind: MetricKind) -> bool {
    kind == MetricKind::Cumulative
        && catalogue::STANDARD.iter().any(|m| m.kind == MetricKind::Cumulative && *name == m.name)
}

fn stub(pod: &EntityKey, container: &Labels) -> MetricSet {
    let mut set = MetricSet::new(EntityType::Pod);
    for name in POD_LABELS {
        if let Some(value) = container.get(name) {
            set.labels.set_static(name, value.clone());
        }
    }
    if let EntityKey::Pod { namespace, pod } = pod {
        set.labels.set_static(key::NAMESPACE_NAME, namespace.clone());
        set.labels.set_static(key::POD_NAME, pod.clone());
    }
    set
}
