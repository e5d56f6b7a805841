//! [`NamespaceEnricher`]: the UID of the namespace, on everything inside it.

use std::sync::Arc;

use crate::cluster::ClusterView;
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{DataBatch, EntityKey, Text, key};

/// Sets `namespace_id` on namespaces, pods and their containers when the namespace is known.
pub struct NamespaceEnricher {
    cluster: Arc<dyn ClusterView>,
}

impl NamespaceEnricher {
    /// An enricher that asks this cluster.
    pub fn new(cluster: Arc<dyn ClusterView>) -> Self {
        Self { cluster }
    }
}

impl Processor for NamespaceEnricher {
    fn name(&self) -> &'static str {
        "namespace_based_enricher"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        // Sets of one namespace stand together, so remembering one answer saves nearly all asking.
        let mut last: Option<(Text, Option<Text>)> = None;
        for (key, set) in &mut batch.sets {
            let (EntityKey::Namespace(namespace)
            | EntityKey::Pod { namespace, .. }
            | EntityKey::PodContainer { namespace, .. }) = key
            else {
                continue;
            };
            let (_, id) = match &mut last {
                Some(last) if last.0 == *namespace => last,
                last => last.insert((namespace.clone(), self.id(namespace))),
            };
            if let Some(id) = id {
                set.labels.set_static(key::NAMESPACE_ID, id.clone());
            }
        }
        Ok(())
    }
}

impl NamespaceEnricher {
    fn id(&self, namespace: &str) -> Option<Text> {
        self.cluster.namespace(namespace).map(|namespace| namespace.uid.clone())
    }
}
