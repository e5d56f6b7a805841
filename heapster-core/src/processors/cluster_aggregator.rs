//! [`ClusterAggregator`]: namespaces → cluster.

use super::USAGE_AND_RESOURCES;
use super::sum::Totals;
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{DataBatch, EntityKey, EntityType, MetricSet};

/// Sums usage, requests and limits of the namespaces into the cluster's set, which it makes.
///
/// The cluster's usage is therefore that of its pods; what the system itself uses is on the nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterAggregator;

impl Processor for ClusterAggregator {
    fn name(&self) -> &'static str {
        "cluster_aggregator"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        let mut totals = Totals::new(&USAGE_AND_RESOURCES);
        for (key, set) in &batch.sets {
            if matches!(key, EntityKey::Namespace(_)) {
                totals.add(&set.metrics);
            }
        }
        let cluster = batch.sets.entry(EntityKey::Cluster);
        totals.write_to(cluster.or_insert_with(|| MetricSet::new(EntityType::Cluster)));
        Ok(())
    }
}
