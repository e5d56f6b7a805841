//! A cluster made by hand, and short ways to make sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use heapster_core::cluster::{ClusterView, Namespace, Node, Pod};
use heapster_core::pipeline::Processor;
use heapster_core::processors::{self, LabelCopier};
use heapster_core::{
    DataBatch, EntityKey, MetricSet, MetricValue, NanoTime, Text, Timestamp, Value, key,
};

/// The objects of a cluster; answers like the caches of the server.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    pub nodes: Vec<Arc<Node>>,
    pub pods: Vec<Arc<Pod>>,
    pub namespaces: Vec<Arc<Namespace>>,
}

impl ClusterView for Objects {
    fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.clone()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.iter().find(|pod| pod.namespace == *namespace && pod.name == *name).cloned()
    }

    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.iter().find(|namespace| namespace.name == *name).cloned()
    }
}

/// All processors over this cluster, with default label copying.
pub fn pipeline(cluster: Objects) -> Vec<Box<dyn Processor>> {
    processors::standard(Arc::new(cluster), LabelCopier::default(), None)
}

/// Runs a batch through processors; none of Heapster's refuses a batch.
pub fn run(processors: &mut [Box<dyn Processor>], batch: &mut DataBatch) {
    for processor in processors {
        processor.process(batch).unwrap_or_else(|error| panic!("{}: {error}", processor.name()));
    }
}

/// A map of texts.
pub fn texts(pairs: &[(&str, &str)]) -> BTreeMap<Text, Text> {
    pairs.iter().map(|(name, value)| (Text::from(*name), Text::from(*value))).collect()
}

/// Seconds since the epoch as a kubelet's time.
pub fn seconds(seconds: i64) -> Option<NanoTime> {
    NanoTime::from_seconds(seconds)
}

/// A batch at that many seconds since the epoch.
pub fn batch(seconds: i64, sets: impl IntoIterator<Item = (EntityKey, MetricSet)>) -> DataBatch {
    DataBatch {
        timestamp: Timestamp::from_millis(seconds * 1000),
        sets: sets.into_iter().collect(),
    }
}

/// A set with the labels its key implies and these gauges.
pub fn set_of<V: Into<Value>>(
    entity: &EntityKey,
    gauges: impl IntoIterator<Item = (&'static str, V)>,
) -> MetricSet {
    let mut set = MetricSet::new(entity.entity_type());
    let mut add = |name, value: &Text| set.labels.set_static(name, value.clone());
    match entity {
        EntityKey::Cluster => {}
        EntityKey::Namespace(namespace) => add(key::NAMESPACE_NAME, namespace),
        EntityKey::Node(node) => add(key::NODENAME, node),
        EntityKey::SystemContainer { node, container } => {
            add(key::NODENAME, node);
            add(key::CONTAINER_NAME, container);
        }
        EntityKey::Pod { namespace, pod } => {
            add(key::NAMESPACE_NAME, namespace);
            add(key::POD_NAME, pod);
        }
        EntityKey::PodContainer { namespace, pod, container } => {
            add(key::NAMESPACE_NAME, namespace);
            add(key::POD_NAME, pod);
            add(key::CONTAINER_NAME, container);
        }
    }
    for (name, value) in gauges {
        set.metrics.set_static(name, MetricValue::gauge(value));
    }
    set
}

/// An entity and its set, for [`batch`].
pub fn entry<V: Into<Value>>(
    entity: EntityKey,
    gauges: impl IntoIterator<Item = (&'static str, V)>,
) -> (EntityKey, MetricSet) {
    let set = set_of(&entity, gauges);
    (entity, set)
}

/// The integers of a set, by name.
pub fn ints(batch: &DataBatch, entity: &EntityKey) -> Vec<(String, i64)> {
    let metrics = &batch.sets[entity].metrics;
    metrics
        .iter()
        .filter_map(|(name, metric)| Some((name.to_string(), metric.value.as_int()?)))
        .collect()
}
