//! [`ENTITIES`]: the paths under which the model and the historical API know entities.

use heapster_core::{EntityKey, key};

use crate::http::Params;

/// An entity's part of a path, and what requests for it are counted under.
pub(super) struct EntityPath {
    /// Between the API's prefix and `/metrics`.
    pub(super) path: &'static str,
    /// Handler label of the list of metric names.
    pub(super) names_label: &'static str,
    /// Handler label of the series.
    pub(super) series_label: &'static str,
    /// The entity of the path.
    pub(super) key: fn(&Params) -> EntityKey,
}

pub(super) const ENTITIES: [EntityPath; 6] = [
    EntityPath {
        path: "",
        names_label: "availableClusterMetrics",
        series_label: "clusterMetrics",
        key: |_| EntityKey::Cluster,
    },
    EntityPath {
        path: "/nodes/{node}",
        names_label: "availableNodeMetrics",
        series_label: "nodeMetrics",
        key: |params| EntityKey::node(params.get("node")),
    },
    EntityPath {
        path: "/namespaces/{namespace}",
        names_label: "availableNamespaceMetrics",
        series_label: "namespaceMetrics",
        key: |params| EntityKey::namespace(params.get("namespace")),
    },
    EntityPath {
        path: "/namespaces/{namespace}/pods/{pod}",
        names_label: "availablePodMetrics",
        series_label: "podMetrics",
        key: |params| EntityKey::pod(params.get("namespace"), params.get("pod")),
    },
    EntityPath {
        path: "/namespaces/{namespace}/pods/{pod}/containers/{container}",
        names_label: "availableContainerMetrics",
        series_label: "podContainerMetrics",
        key: |params| {
            let (namespace, pod) = (params.get("namespace"), params.get("pod"));
            EntityKey::pod_container(namespace, pod, params.get("container"))
        },
    },
    EntityPath {
        path: "/nodes/{node}/freecontainers/{container}",
        names_label: "availableMetrics",
        series_label: "freeContainerMetrics",
        key: |params| EntityKey::system_container(params.get("node"), params.get("container")),
    },
];

/// A list of names in a path of the API, and what requests for it are counted under.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListPath {
    /// After the API's prefix.
    pub(super) path: &'static str,
    /// Handler label.
    pub(super) label: &'static str,
    /// Value of the label `type` of the sets that are listed.
    pub(super) entity_type: &'static str,
    /// The label whose values are listed.
    pub(super) listed: &'static str,
    /// Labels that must have the value of a path parameter.
    pub(super) within: &'static [(&'static str, &'static str)],
}

pub(super) const NODES: ListPath = ListPath {
    path: "/nodes",
    label: "nodeList",
    entity_type: "node",
    listed: key::NODENAME,
    within: &[],
};
pub(super) const NAMESPACES: ListPath = ListPath {
    path: "/namespaces",
    label: "namespaceList",
    entity_type: "ns",
    listed: key::NAMESPACE_NAME,
    within: &[],
};
pub(super) const PODS: ListPath = ListPath {
    path: "/namespaces/{namespace}/pods",
    label: "namespacePodList",
    entity_type: "pod",
    listed: key::POD_NAME,
    within: &[(key::NAMESPACE_NAME, "namespace")],
};
pub(super) const CONTAINERS: ListPath = ListPath {
    path: "/namespaces/{namespace}/pods/{pod}/containers",
    label: "podContainerList",
    entity_type: "pod_container",
    listed: key::CONTAINER_NAME,
    within: &[(key::NAMESPACE_NAME, "namespace"), (key::POD_NAME, "pod")],
};
pub(super) const FREE_CONTAINERS: ListPath = ListPath {
    path: "/nodes/{node}/freecontainers",
    label: "systemContainerList",
    entity_type: "sys_container",
    listed: key::CONTAINER_NAME,
    within: &[(key::NODENAME, "node")],
};
