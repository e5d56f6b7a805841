//! [`NodeAutoscalingEnricher`]: what a node has, and which share of it is used and reserved.

use std::sync::Arc;

use super::LabelCopier;
use crate::cluster::{self, ClusterView, Node, Resources};
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{DataBatch, EntityKey, MetricSet, MetricValue, metric};

/// Adds capacity, allocatable and shares of allocatable to nodes, and the user's labels.
pub struct NodeAutoscalingEnricher {
    cluster: Arc<dyn ClusterView>,
    copier: LabelCopier,
}

/// One resource of a node: where its amounts come from and what its metrics are called.
struct Resource {
    name: &'static str,
    /// Whether the amounts count as zero when the node's status does not have them.
    is_always_given: bool,
    used: &'static str,
    requested: &'static str,
    capacity: &'static str,
    allocatable: &'static str,
    utilization: &'static str,
    reservation: &'static str,
}

const RESOURCES: [Resource; 3] = [
    Resource {
        name: cluster::CPU,
        is_always_given: true,
        used: metric::CPU_USAGE_RATE,
        requested: metric::CPU_REQUEST,
        capacity: metric::CPU_NODE_CAPACITY,
        allocatable: metric::CPU_NODE_ALLOCATABLE,
        utilization: metric::CPU_NODE_UTILIZATION,
        reservation: metric::CPU_NODE_RESERVATION,
    },
    Resource {
        name: cluster::MEMORY,
        is_always_given: true,
        // The original takes all memory in use, page cache included, not the working set.
        used: metric::MEMORY_USAGE,
        requested: metric::MEMORY_REQUEST,
        capacity: metric::MEMORY_NODE_CAPACITY,
        allocatable: metric::MEMORY_NODE_ALLOCATABLE,
        utilization: metric::MEMORY_NODE_UTILIZATION,
        reservation: metric::MEMORY_NODE_RESERVATION,
    },
    Resource {
        name: cluster::EPHEMERAL_STORAGE,
        is_always_given: false,
        used: metric::EPHEMERAL_STORAGE_USAGE,
        requested: metric::EPHEMERAL_STORAGE_REQUEST,
        capacity: metric::EPHEMERAL_STORAGE_NODE_CAPACITY,
        allocatable: metric::EPHEMERAL_STORAGE_NODE_ALLOCATABLE,
        utilization: metric::EPHEMERAL_STORAGE_NODE_UTILIZATION,
        reservation: metric::EPHEMERAL_STORAGE_NODE_RESERVATION,
    },
];

impl NodeAutoscalingEnricher {
    /// An enricher that asks this cluster and copies node labels with this copier.
    pub fn new(cluster: Arc<dyn ClusterView>, copier: LabelCopier) -> Self {
        Self { cluster, copier }
    }
}

impl Processor for NodeAutoscalingEnricher {
    fn name(&self) -> &'static str {
        "node_autoscaling_enricher"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        for node in self.cluster.nodes() {
            let Some(set) = batch.sets.get_mut(&EntityKey::Node(node.name.clone())) else {
                continue;
            };
            self.copier.copy(&node.labels, &mut set.labels);
            for resource in &RESOURCES {
                resource.describe(&node, set);
            }
        }
        Ok(())
    }
}

impl Resource {
    fn describe(&self, node: &Node, set: &mut MetricSet) {
        let Some(capacity) = self.amount(&node.capacity) else { return };
        let Some(allocatable) = self.amount(&node.allocatable) else { return };
        let mut add = |name, value: f64| set.metrics.set_static(name, MetricValue::gauge(value));
        add(self.capacity, capacity);
        add(self.allocatable, allocatable);
        if allocatable != 0.0 {
            let amount = |name| set.metrics.int(name).unwrap_or(0) as f64;
            let (used, requested) = (amount(self.used), amount(self.requested));
            let mut add =
                |name, share: f64| set.metrics.set_static(name, MetricValue::gauge(share));
            add(self.utilization, used / allocatable);
            add(self.reservation, requested / allocatable);
        }
    }

    fn amount(&self, resources: &Resources) -> Option<f64> {
        let amount = resources.get(self.name).copied();
        amount.or(self.is_always_given.then_some(0)).map(|amount| amount as f64)
    }
}
