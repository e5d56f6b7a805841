//! [`Nodes`]: the nodes of a cluster as sources, asked anew for every interval.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use heapster_core::Text;
use heapster_core::pipeline::{Source, SourceProvider};
use parking_lot::Mutex;

use super::cluster::Cluster;
use super::nodes::{Skipped, targets};
use super::options::AddressType;
use crate::sources::kubelet::source::{KubeletSource, Shared};

/// Lists one source for each node that can be scraped.
pub(super) struct Nodes {
    cluster: Arc<Cluster>,
    shared: Arc<Shared>,
    preferred: Vec<AddressType>,
    last: Mutex<Last>,
}

/// What was listed the time before.
#[derive(Default)]
struct Last {
    sources: HashMap<Text, Arc<KubeletSource>>,
    skipped: BTreeMap<Text, Skipped>,
    said_none: bool,
}

impl Nodes {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        shared: Arc<Shared>,
        preferred: Vec<AddressType>,
    ) -> Self {
        Self { cluster, shared, preferred, last: Mutex::default() }
    }

    /// Forgets the request times of hosts that no source has any more.
    fn forget_gone(&self, before: &HashMap<Text, Arc<KubeletSource>>, now: &[Arc<KubeletSource>]) {
        let hostname = |source: &Arc<KubeletSource>| source.target().info.hostname.clone();
        for gone in before.values().map(hostname) {
            if !now.iter().any(|source| hostname(source) == gone) {
                self.shared.registry.forget(self.shared.access.endpoint.family(), "node", &gone);
            }
        }
    }
}

impl SourceProvider for Nodes {
    fn sources(&self) -> Vec<Arc<dyn Source>> {
        let nodes = self.cluster.known_nodes();
        let endpoint = self.shared.access.endpoint;
        let (targets, skipped) = targets(&nodes, endpoint, &self.preferred);
        let mut last = self.last.lock();
        if nodes.is_empty() && !last.said_none {
            tracing::warn!("No nodes received from APIserver.");
        }
        last.said_none = nodes.is_empty();

        let sources: Vec<_> = targets
            .into_iter()
            .map(|target| match last.sources.get(&target.info.nodename) {
                Some(source) if *source.target() == target => source.clone(),
                _ => Arc::new(KubeletSource::new(target, self.shared.clone())),
            })
            .collect();
        self.forget_gone(&last.sources, &sources);
        last.sources = sources
            .iter()
            .map(|source| (source.target().info.nodename.clone(), source.clone()))
            .collect();

        // Said once, not every minute for as long as it lasts.
        let skipped: BTreeMap<_, _> = skipped.into_iter().collect();
        for (node, reason) in &skipped {
            if last.skipped.get(node) != Some(reason) {
                tracing::warn!("node {node} {reason}");
            }
        }
        last.skipped = skipped;
        sources.into_iter().map(|source| source as Arc<dyn Source>).collect()
    }
}
