//! [`NodeAggregator`]: pods → nodes.

use std::collections::BTreeMap;

use super::sum::Totals;
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{DataBatch, EntityKey, Text, key, metric};

/// What a node sums up. Its usage is measured, not summed.
const RESOURCES: [&str; 6] = [
    metric::CPU_REQUEST,
    metric::CPU_LIMIT,
    metric::MEMORY_REQUEST,
    metric::MEMORY_LIMIT,
    metric::EPHEMERAL_STORAGE_REQUEST,
    metric::EPHEMERAL_STORAGE_LIMIT,
];

/// Sums requests and limits of the pods into the set of the node their label `nodename` names.
///
/// Pods without that label, and nodes that were not scraped, are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeAggregator;

impl Processor for NodeAggregator {
    fn name(&self) -> &'static str {
        "node_aggregator"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        for (node, totals) in totals_by_node(batch) {
            if let Some(set) = batch.sets.get_mut(&EntityKey::Node(node)) {
                totals.write_to(set);
            }
        }
        Ok(())
    }
}

fn totals_by_node(batch: &DataBatch) -> BTreeMap<Text, Totals> {
    let mut nodes: BTreeMap<Text, Totals> = BTreeMap::new();
    for (key, set) in &batch.sets {
        if !matches!(key, EntityKey::Pod { .. }) {
            continue;
        }
        if let Some(node) = set.labels.get(key::NODENAME).filter(|node| !node.is_empty()) {
            let totals = nodes.entry(node.clone()).or_insert_with(|| Totals::new(&RESOURCES));
            totals.add(&set.metrics);
        }
    }
    nodes
}
