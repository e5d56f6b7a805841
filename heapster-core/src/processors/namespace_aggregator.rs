//! [`NamespaceAggregator`]: pods → namespaces.

use super::USAGE_AND_RESOURCES;
use super::sum::Totals;
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{DataBatch, EntityKey, EntityType, MetricSet, Text, key};

/// Sums usage, requests and limits of the pods into the set of their namespace, which it makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceAggregator;

/// One namespace's pods.
struct Group {
    namespace: Text,
    /// From the first pod; empty when unknown.
    id: Text,
    totals: Totals,
}

impl Group {
    fn new_set(&self) -> MetricSet {
        let mut set = MetricSet::new(EntityType::Namespace);
        set.labels.set_static(key::NAMESPACE_NAME, self.namespace.clone());
        set.labels.set_static(key::NAMESPACE_ID, self.id.clone());
        set
    }
}

impl Processor for NamespaceAggregator {
    fn name(&self) -> &'static str {
        "namespace_aggregator"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        for group in groups(batch) {
            let key = EntityKey::Namespace(group.namespace.clone());
            let set = batch.sets.entry(key).or_insert_with(|| group.new_set());
            group.totals.write_to(set);
        }
        Ok(())
    }
}

/// The pods by namespace; in the batch those of one namespace stand together.
fn groups(batch: &DataBatch) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (key, set) in &batch.sets {
        let EntityKey::Pod { namespace, .. } = key else { continue };
        match groups.last_mut() {
            Some(group) if group.namespace == *namespace => group.totals.add(&set.metrics),
            _ => {
                let mut totals = Totals::new(&USAGE_AND_RESOURCES);
                totals.add(&set.metrics);
                let id = set.labels.get(key::NAMESPACE_ID).cloned().unwrap_or_default();
                groups.push(Group { namespace: namespace.clone(), id, totals });
            }
        }
    }
    groups
}
