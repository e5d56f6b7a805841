//! The processors, one file each, and the order they run in.
//!
//! ```text
//! rate → pod enricher → namespace enricher → pod, namespace, node, cluster aggregator → autoscaling
//! ```
//!
//! Each step needs what the ones before it wrote: rates are taken from counters as scraped, requests
//! must be known before they are summed, and a sum upward needs the level below complete. Entities
//! are told by their keys; a set whose key and labels disagree is what its key says.
//!
//! They do what the original Heapster did; decision 0004 lists where we differ and why.

mod cluster_aggregator;
mod label_copier;
mod namespace_aggregator;
mod namespace_enricher;
mod node_aggregator;
mod node_autoscaling_enricher;
mod pod_aggregator;
mod pod_enricher;
mod rate;
mod sum;

use std::sync::Arc;

use crate::cluster::ClusterView;
use crate::pipeline::Processor;
use crate::{DataBatch, metric};

pub use cluster_aggregator::ClusterAggregator;
pub use label_copier::LabelCopier;
pub use namespace_aggregator::NamespaceAggregator;
pub use namespace_enricher::NamespaceEnricher;
pub use node_aggregator::NodeAggregator;
pub use node_autoscaling_enricher::NodeAutoscalingEnricher;
pub use pod_aggregator::PodAggregator;
pub use pod_enricher::PodEnricher;
pub use rate::{RATE_MEMORY, RateCalculator};

/// What namespaces and the cluster sum up.
const USAGE_AND_RESOURCES: [&str; 6] = [
    metric::CPU_USAGE_RATE,
    metric::MEMORY_USAGE,
    metric::CPU_REQUEST,
    metric::CPU_LIMIT,
    metric::MEMORY_REQUEST,
    metric::MEMORY_LIMIT,
];

/// Heapster's processors in Heapster's order.
///
/// `copier` turns the user's labels of pods and nodes into labels of their sets. `previous` is the
/// last batch before a restart, from which the first rates are computed; only its times and
/// counters are kept.
pub fn standard(
    cluster: Arc<dyn ClusterView>,
    copier: LabelCopier,
    previous: Option<&DataBatch>,
) -> Vec<Box<dyn Processor>> {
    vec![
        Box::new(previous.map_or_else(RateCalculator::new, RateCalculator::seeded)),
        Box::new(PodEnricher::new(Arc::clone(&cluster), copier.clone())),
        Box::new(NamespaceEnricher::new(Arc::clone(&cluster))),
        Box::new(PodAggregator),
        Box::new(NamespaceAggregator),
        Box::new(NodeAggregator),
        Box::new(ClusterAggregator),
        Box::new(NodeAutoscalingEnricher::new(cluster, copier)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NoCluster;

    #[test]
    fn the_standard_order_is_heapsters() {
        let processors = standard(Arc::new(NoCluster), LabelCopier::default(), None);
        let names: Vec<_> = processors.iter().map(|processor| processor.name()).collect();
        assert_eq!(
            names,
            [
                "rate calculator",
                "pod_based_enricher",
                "namespace_based_enricher",
                "pod_aggregator",
                "namespace_aggregator",
                "node_aggregator",
                "cluster_aggregator",
                "node_autoscaling_enricher",
            ]
        );
    }
}
