//! `Cluster`: the cluster's objects as last seen, kept by watches and read by everyone.

use std::collections::HashMap;
use std::sync::Arc;

use heapster_core::cluster::{ClusterView, Namespace, Node, Pod};
use heapster_core::{Text, Timestamp};
use parking_lot::{Mutex, RwLock};

use super::objects::{KnownNode, KnownPod};
use crate::sources::kubelet::source::Placement;

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nodes.
    Nodes,
    /// Pods.
    Pods,
    /// Namespaces.
    Namespaces,
}

impl Watched {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Nodes, Self::Pods, Self::Namespaces];

    /// The name of the resource in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
            Self::Namespaces => "namespaces",
        }
    }
}

/// How a watch is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchStatus {
    /// What is watched.
    pub resource: Watched,
    /// Whether the objects were ever listed whole.
    pub is_synced: bool,
    /// Since when the API server cannot be read, and what it said last; the objects seen before
    /// stay in use.
    pub failure: Option<(Timestamp, String)>,
}

/// The objects of a cluster. Reads never wait for the API server.
///
/// Each map has a lock of its own and no code holds two of them.
#[derive(Debug)]
pub(super) struct Cluster {
    nodes: RwLock<HashMap<Text, KnownNode>>,
    /// Pods by namespace and name, so that both are looked up without building a key.
    pods: RwLock<PodsByNamespace>,
    namespaces: RwLock<HashMap<Text, Arc<Namespace>>>,
    statuses: Mutex<[WatchStatus; 3]>,
}

type PodsByNamespace = HashMap<Text, HashMap<Text, KnownPod>>;

impl Cluster {
    pub(super) fn new() -> Self {
        let status = |resource| WatchStatus { resource, is_synced: false, failure: None };
        Self {
            nodes: RwLock::default(),
            pods: RwLock::default(),
            namespaces: RwLock::default(),
            statuses: Mutex::new(Watched::ALL.map(status)),
        }
    }

    /// The nodes with what scraping needs, sorted by name.
    pub(super) fn known_nodes(&self) -> Vec<KnownNode> {
        let mut nodes: Vec<_> = self.nodes.read().values().cloned().collect();
        nodes.sort_by(|a, b| a.node.name.cmp(&b.node.name));
        nodes
    }

    pub(super) fn statuses(&self) -> Vec<WatchStatus> {
        self.statuses.lock().to_vec()
    }

    pub(super) fn note_synced(&self, resource: Watched) {
        self.note(resource, |status| {
            status.is_synced = true;
            status.failure = None;
        });
    }

    pub(super) fn note_failure(&self, resource: Watched, at: Timestamp, message: String) {
        self.note(resource, |status| {
            let since = status.failure.as_ref().map_or(at, |(since, _)| *since);
            status.failure = Some((since, message));
        });
    }

    pub(super) fn note_recovery(&self, resource: Watched) {
        self.note(resource, |status| status.failure = None);
    }

    pub(super) fn is_synced(&self) -> bool {
        self.statuses.lock().iter().all(|status| status.is_synced)
    }

    fn note(&self, resource: Watched, change: impl FnOnce(&mut WatchStatus)) {
        if let Some(status) = self.statuses.lock().iter_mut().find(|s| s.resource == resource) {
            change(status);
        }
    }
}

/// Where the objects of one kind are kept: what a watch feeds.
pub(super) trait Shelf<T> {
    /// Replaces everything, after a complete list.
    fn replace(&self, all: Vec<T>);
    /// Adds or replaces one object.
    fn apply(&self, object: T);
    /// Removes one object.
    fn delete(&self, object: &T);
}

impl Shelf<KnownNode> for Cluster {
    fn replace(&self, all: Vec<KnownNode>) {
        let all = all.into_iter().map(|known| (known.node.name.clone(), known)).collect();
        *self.nodes.write() = all;
    }

    fn apply(&self, known: KnownNode) {
        self.nodes.write().insert(known.node.name.clone(), known);
    }

    fn delete(&self, known: &KnownNode) {
        self.nodes.write().remove(&known.node.name);
    }
}

impl Shelf<KnownPod> for Cluster {
    fn replace(&self, all: Vec<KnownPod>) {
        let mut pods = PodsByNamespace::new();
        for known in all {
            insert(&mut pods, known);
        }
        *self.pods.write() = pods;
    }

    fn apply(&self, known: KnownPod) {
        insert(&mut self.pods.write(), known);
    }

    fn delete(&self, known: &KnownPod) {
        let mut pods = self.pods.write();
        let Some(namespace) = pods.get_mut(&known.pod.namespace) else { return };
        // A pod of a stateful set may have been made anew before the old one's end is told.
        if namespace.get(&known.pod.name).is_some_and(|kept| kept.pod.uid == known.pod.uid) {
            namespace.remove(&known.pod.name);
        }
        if namespace.is_empty() {
            pods.remove(&known.pod.namespace);
        }
    }
}

fn insert(pods: &mut PodsByNamespace, known: KnownPod) {
    let namespace = pods.entry(known.pod.namespace.clone()).or_default();
    namespace.insert(known.pod.name.clone(), known);
}

impl Shelf<Arc<Namespace>> for Cluster {
    fn replace(&self, all: Vec<Arc<Namespace>>) {
        let all = all.into_iter().map(|namespace| (namespace.name.clone(), namespace)).collect();
        *self.namespaces.write() = all;
    }

    fn apply(&self, namespace: Arc<Namespace>) {
        self.namespaces.write().insert(namespace.name.clone(), namespace);
    }

    fn delete(&self, namespace: &Arc<Namespace>) {
        self.namespaces.write().remove(&namespace.name);
    }
}

impl ClusterView for Cluster {
    fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.read().values().map(|known| known.node.clone()).collect()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        Some(self.pods.read().get(namespace)?.get(name)?.pod.clone())
    }

    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.read().get(name).cloned()
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.read().get(name).map(|known| known.node.clone())
    }

    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<Pod>> {
        let all = self.pods.read();
        let of_one = namespace.map(|namespace| all.get(namespace));
        let shelves: Vec<_> = match of_one {
            Some(one) => one.into_iter().collect(),
            None => all.values().collect(),
        };
        shelves.into_iter().flat_map(HashMap::values).map(|known| known.pod.clone()).collect()
    }

    fn is_complete(&self) -> bool {
        self.is_synced()
    }
}

impl Placement for Cluster {
    fn runs_elsewhere(&self, namespace: &str, pod: &str, nodename: &str) -> bool {
        let pods = self.pods.read();
        let known = pods.get(namespace).and_then(|pods| pods.get(pod));
        known.is_some_and(|known| !known.nodename.is_empty() && known.nodename != nodename)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, nodename: &str) -> KnownPod {
        let pod =
            Pod { namespace: "d".into(), name: "p".into(), uid: uid.into(), ..Pod::default() };
        KnownPod { pod: Arc::new(pod), nodename: nodename.into() }
    }

    #[test]
    fn a_pod_made_anew_outlives_the_late_end_of_its_namesake() {
        let cluster = Cluster::new();
        cluster.apply(pod("old", "n1"));
        cluster.apply(pod("new", "n2"));
        cluster.delete(&pod("old", "n1"));
        assert_eq!(cluster.pod("d", "p").unwrap().uid, "new");
        cluster.delete(&pod("new", "n2"));
        assert_eq!(cluster.pod("d", "p"), None);
    }

    #[test]
    fn only_a_pod_known_to_be_on_another_node_runs_elsewhere() {
        let cluster = Cluster::new();
        assert!(!cluster.runs_elsewhere("d", "p", "n1"), "unknown pods are kept");
        cluster.apply(pod("u", ""));
        assert!(!cluster.runs_elsewhere("d", "p", "n1"), "it has no node yet");
        cluster.apply(pod("u", "n2"));
        assert!(cluster.runs_elsewhere("d", "p", "n1"));
        assert!(!cluster.runs_elsewhere("d", "p", "n2"));
    }
}
