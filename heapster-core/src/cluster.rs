//! What processors need to know of the cluster's objects, as plain data behind a port.
//!
//! The server keeps these from watches; tests make them by hand. Quantities are already in the
//! units the metrics use, so no processor parses one.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{NanoTime, Text};

/// Amounts of the resources a container asks for or a node has.
///
/// `cpu` is in millicores, everything else in base units (bytes, pieces), fractions rounded up.
pub type Resources = BTreeMap<Text, i64>;

/// Name of the CPU resource, the only one counted in thousandths.
pub const CPU: &str = "cpu";
/// Name of the memory resource.
pub const MEMORY: &str = "memory";
/// Name of the ephemeral storage resource.
pub const EPHEMERAL_STORAGE: &str = "ephemeral-storage";

/// A node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// API name.
    pub name: Text,
    /// The user's labels.
    pub labels: BTreeMap<Text, Text>,
    /// `status.capacity`.
    pub capacity: Resources,
    /// `status.allocatable`.
    pub allocatable: Resources,
}

/// A pod of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace the pod is in.
    pub namespace: Text,
    /// Name, unique in the namespace at any one time.
    pub name: Text,
    /// UID, never used twice.
    pub uid: Text,
    /// The user's labels.
    pub labels: BTreeMap<Text, Text>,
    /// `status.startTime`.
    pub start_time: Option<NanoTime>,
    /// Regular containers, in the order of the spec; init containers are not listed.
    pub containers: Vec<PodContainer>,
    /// `status.phase`, such as `Running`; empty when nobody said.
    pub phase: Text,
}

impl Pod {
    /// Whether its containers run, as far as anybody said.
    pub fn is_running(&self) -> bool {
        self.phase.is_empty() || self.phase == "Running"
    }
}

/// A container of a pod's spec, with its status if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodContainer {
    /// Name, unique in the pod.
    pub name: Text,
    /// Image of the spec.
    pub image: Text,
    /// `resources.requests`.
    pub requests: Resources,
    /// `resources.limits`.
    pub limits: Resources,
    /// `restartCount` of the container's status; `None` when it has no status yet.
    pub restart_count: Option<i64>,
}

/// A namespace of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Name.
    pub name: Text,
    /// UID.
    pub uid: Text,
}

/// The cluster's objects as last seen. Answers from memory, at once, from any thread.
pub trait ClusterView: Send + Sync {
    /// All nodes known, in no particular order.
    fn nodes(&self) -> Vec<Arc<Node>>;
    /// The pod of that namespace and name.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    /// The namespace of that name.
    fn namespace(&self, name: &str) -> Option<Arc<Namespace>>;
    /// The node of that name.
    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes().into_iter().find(|node| node.name == *name)
    }
    /// The pods of a namespace, or of all, in no particular order.
    fn pods(&self, _namespace: Option<&str>) -> Vec<Arc<Pod>> {
        Vec::new()
    }
    /// Whether what is not known, [`pods`](Self::pods) included, does not exist. Otherwise it may only
    /// not have been seen.
    fn is_complete(&self) -> bool {
        false
    }
}

/// A cluster without objects: what the enrichers see outside Kubernetes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCluster;

impl ClusterView for NoCluster {
    fn nodes(&self) -> Vec<Arc<Node>> {
        Vec::new()
    }

    fn pod(&self, _namespace: &str, _name: &str) -> Option<Arc<Pod>> {
        None
    }

    fn namespace(&self, _name: &str) -> Option<Arc<Namespace>> {
        None
    }
}
