//! The few fields of the API's objects that are read, and what is kept of them.
//!
//! The cache of pods dominates memory in a large cluster, so objects are read into types that skip
//! everything else and are turned into those of `heapster-core` at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use heapster_core::cluster::{self, PodContainer, Resources};
use heapster_core::quantity::Quantity;
use heapster_core::{NanoTime, Text};
use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope, ObjectMeta};
use serde::Deserialize;

use super::options::AddressType;

/// A node as the API gives it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeObject {
    metadata: ObjectMeta,
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "externalID")]
    external_id: Option<String>,
    unschedulable: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Option<Vec<Condition>>,
    addresses: Option<Vec<NodeAddress>>,
    capacity: Option<Amounts>,
    allocatable: Option<Amounts>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeAddress {
    r#type: String,
    address: String,
}

/// A pod as the API gives it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodObject {
    metadata: ObjectMeta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    image: Option<String>,
    resources: Option<Requirements>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Requirements {
    requests: Option<Amounts>,
    limits: Option<Amounts>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    start_time: Option<String>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ContainerStatus {
    name: String,
    restart_count: i64,
}

/// A namespace as the API gives it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NamespaceObject {
    metadata: ObjectMeta,
}

/// Quantities by resource; the API writes them as texts, people's fakes as numbers, too.
type Amounts = BTreeMap<String, Amount>;

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Amount {
    Text(String),
    Number(serde_json::Number),
}

macro_rules! api_resources {
    ($($object:ident: $kind:literal, $plural:literal, $scope:ident;)*) => {$(
        impl Resource for $object {
            type DynamicType = ();
            type Scope = $scope;

            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group(_: &()) -> Cow<'_, str> {
                "".into()
            }

            fn version(_: &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

api_resources! {
    NodeObject: "Node", "nodes", ClusterResourceScope;
    PodObject: "Pod", "pods", NamespaceResourceScope;
    NamespaceObject: "Namespace", "namespaces", ClusterResourceScope;
}

/// Whether a node can be scraped, by its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
}

/// What is kept of a node.
#[derive(Clone, Debug)]
pub(super) struct KnownNode {
    pub(super) node: Arc<cluster::Node>,
    pub(super) readiness: Readiness,
    /// `spec.unschedulable`.
    pub(super) is_cordoned: bool,
    /// `spec.externalID`, empty when absent.
    pub(super) external_id: Text,
    /// The annotation that may give the host's ID, empty when absent.
    pub(super) host_id_annotation: Text,
    /// Addresses of known types, in the order of the status.
    pub(super) addresses: Vec<(AddressType, String)>,
}

/// What is kept of a pod.
#[derive(Clone, Debug)]
pub(super) struct KnownPod {
    pub(super) pod: Arc<cluster::Pod>,
    /// Name of its node, empty while it has none.
    pub(super) nodename: Text,
}

impl NodeObject {
    /// What is kept, or `None` for an object without a name.
    pub(super) fn into_known(self, host_id_annotation: &str) -> Option<KnownNode> {
        let name = named(&self.metadata)?;
        let annotations = self.metadata.annotations.as_ref();
        let conditions = self.status.conditions.unwrap_or_default();
        let is_unready = conditions
            .iter()
            .any(|condition| condition.r#type == "Ready" && condition.status != "True");
        let addresses = self.status.addresses.unwrap_or_default();
        let node = cluster::Node {
            capacity: resources(&name, self.status.capacity),
            allocatable: resources(&name, self.status.allocatable),
            labels: labels(&self.metadata),
            name,
        };
        Some(KnownNode {
            node: Arc::new(node),
            readiness: if is_unready { Readiness::NotReady } else { Readiness::Ready },
            is_cordoned: self.spec.unschedulable.unwrap_or(false),
            external_id: self.spec.external_id.unwrap_or_default().into(),
            host_id_annotation: annotations
                .and_then(|annotations| annotations.get(host_id_annotation))
                .map(Text::from)
                .unwrap_or_default(),
            addresses: addresses
                .into_iter()
                .filter_map(|a| Some((AddressType::from_name(&a.r#type)?, a.address)))
                .collect(),
        })
    }
}

impl PodObject {
    /// What is kept, or `None` for an object without a name.
    pub(super) fn into_known(self) -> Option<KnownPod> {
        let name = named(&self.metadata)?;
        let statuses = self.status.container_statuses.unwrap_or_default();
        let restarts = |container: &str| {
            let status = statuses.iter().find(|status| status.name == container)?;
            Some(status.restart_count)
        };
        let containers = self.spec.containers.unwrap_or_default();
        let containers = containers
            .into_iter()
            .map(|container| {
                let requirements = container.resources.unwrap_or_default();
                PodContainer {
                    restart_count: restarts(&container.name),
                    requests: resources(&name, requirements.requests),
                    limits: resources(&name, requirements.limits),
                    image: container.image.unwrap_or_default().into(),
                    name: container.name.into(),
                }
            })
            .collect();
        let start_time = self.status.start_time.as_deref().map(NanoTime::parse_rfc3339);
        let pod = cluster::Pod {
            namespace: self.metadata.namespace.as_deref().unwrap_or_default().into(),
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            labels: labels(&self.metadata),
            start_time: start_time.and_then(Result::ok).flatten(),
            containers,
            phase: self.status.phase.unwrap_or_default().into(),
            name,
        };
        let nodename = self.spec.node_name.unwrap_or_default().into();
        Some(KnownPod { pod: Arc::new(pod), nodename })
    }
}

impl NamespaceObject {
    /// What is kept, or `None` for an object without a name.
    pub(super) fn into_known(self) -> Option<Arc<cluster::Namespace>> {
        let name = named(&self.metadata)?;
        let uid = self.metadata.uid.as_deref().unwrap_or_default().into();
        Some(Arc::new(cluster::Namespace { name, uid }))
    }
}

fn named(metadata: &ObjectMeta) -> Option<Text> {
    metadata.name.as_deref().filter(|name| !name.is_empty()).map(Text::from)
}

fn labels(metadata: &ObjectMeta) -> BTreeMap<Text, Text> {
    metadata.labels.iter().flatten().map(|(name, value)| (name.into(), value.into())).collect()
}

fn resources(owner: &str, amounts: Option<Amounts>) -> Resources {
    let mut resources = Resources::new();
    for (name, amount) in amounts.unwrap_or_default() {
        let text = match amount {
            Amount::Text(text) => text,
            Amount::Number(number) => number.to_string(),
        };
        match Quantity::parse(&text) {
            Ok(quantity) => {
                let is_cpu = name == cluster::CPU;
                let value = if is_cpu { quantity.milli_value() } else { quantity.value() };
                resources.insert(name.into(), value);
            }
            Err(error) => tracing::warn!(%owner, resource = %name, %error, "quantity left out"),
        }
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_what_processors_need() {
        let object: PodObject = serde_json::from_str(
            r#"{"metadata":{"name":"p","namespace":"d","uid":"u","labels":{"a":"b"},
                            "managedFields":[{"manager":"m"}]},
                "spec":{"nodeName":"n1","volumes":[{"name":"v"}],"initContainers":[{"name":"i"}],
                  "containers":[{"name":"c","image":"img","resources":{
                      "requests":{"cpu":"100m","memory":"64Mi","nvidia.com/gpu":2,"x":"?"},
                      "limits":{"cpu":"1"}}},{"name":"d"}]},
                "status":{"startTime":"2018-07-26T11:59:00Z",
                          "containerStatuses":[{"name":"c","restartCount":3}]}}"#,
        )
        .unwrap();
        let known = object.into_known().unwrap();
        assert_eq!(known.nodename, "n1");
        let pod = &known.pod;
        assert_eq!((pod.namespace.as_str(), pod.uid.as_str()), ("d", "u"));
        assert_eq!(pod.labels.get("a").map(Text::as_str), Some("b"));
        assert_eq!(pod.start_time.unwrap().to_string(), "2018-07-26T11:59:00Z");
        let container = &pod.containers[0];
        assert_eq!(container.restart_count, Some(3));
        assert_eq!(container.image, "img");
        assert_eq!(container.requests.get("cpu"), Some(&100));
        assert_eq!(container.requests.get("memory"), Some(&(64 << 20)));
        assert_eq!(container.requests.get("nvidia.com/gpu"), Some(&2));
        assert_eq!((container.requests.len(), container.limits.get("cpu")), (3, Some(&1000)));
        assert_eq!((pod.containers.len(), pod.containers[1].restart_count), (2, None));
    }

    #[test]
    fn a_node_keeps_its_state_addresses_and_identity() {
        let object: NodeObject = serde_json::from_str(
            r#"{"metadata":{"name":"n","annotations":{"cloud/id":"i-1","big":"…"}},
                "spec":{"unschedulable":true},
                "status":{"conditions":[{"type":"NotReady","status":"False"},
                                        {"type":"Ready","status":"Unknown"}],
                          "addresses":[{"type":"LegacyHostIP","address":"9.9.9.9"},
                                       {"type":"InternalIP","address":"10.0.0.1"}],
                          "capacity":{"cpu":"2","memory":"1Ki"}}}"#,
        )
        .unwrap();
        let known = object.into_known("cloud/id").unwrap();
        assert_eq!(known.readiness, Readiness::NotReady);
        assert!(known.is_cordoned);
        assert_eq!((known.external_id.as_str(), known.host_id_annotation.as_str()), ("", "i-1"));
        assert_eq!(known.addresses, [(AddressType::InternalIp, "10.0.0.1".to_owned())]);
        assert_eq!(known.node.capacity.get("cpu"), Some(&2000));
        assert_eq!(known.node.capacity.get("memory"), Some(&1024));
    }

    #[test]
    fn an_object_without_name_or_content_is_no_error() {
        let empty: PodObject = serde_json::from_str("{}").unwrap();
        assert!(empty.into_known().is_none());
        let bare: NodeObject = serde_json::from_str(r#"{"metadata":{"name":"n"}}"#).unwrap();
        assert_eq!(bare.into_known("").unwrap().readiness, Readiness::Ready);
    }
}
