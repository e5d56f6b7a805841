//! Entities: what a metric set is about. Keys print and parse as Heapster's strings.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;
use crate::labels::{Labels, key};
use crate::{Matcher, Text};

/// The kind of an entity; prints as the value of the label `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityType {
    /// The whole cluster.
    Cluster,
    /// A namespace.
    Namespace,
    /// A node.
    Node,
    /// A container of the system on a node: the kubelet, a systemd slice.
    SystemContainer,
    /// A pod.
    Pod,
    /// A container of a pod.
    PodContainer,
}

impl EntityType {
    /// The value of the label `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespace => "ns",
            Self::Node => "node",
            Self::SystemContainer => "sys_container",
            Self::Pod => "pod",
            Self::PodContainer => "pod_container",
        }
    }

    /// The type a label value names, if it names one.
    pub fn from_label(value: &str) -> Option<Self> {
        Some(match value {
            "cluster" => Self::Cluster,
            "ns" => Self::Namespace,
            "node" => Self::Node,
            "sys_container" => Self::SystemContainer,
            "pod" => Self::Pod,
            "pod_container" => Self::PodContainer,
            _ => return None,
        })
    }
}

impl fmt::Display for EntityType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key of an entity in a batch.
///
/// Prints as Heapster's string (`namespace:NS/pod:POD/container:C`) and parses back. Nothing is
/// escaped: the first `/pod:` and `/container:` separate, so a container's name may hold slashes
/// (`system.slice/foo`), a namespace's or a node's may not; Kubernetes allows them none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKey {
    /// The cluster.
    Cluster,
    /// A namespace by name.
    Namespace(Text),
    /// A node by name.
    Node(Text),
    /// A system container by node and container name.
    SystemContainer {
        /// Name of the node.
        node: Text,
        /// Name of the container.
        container: Text,
    },
    /// A pod by namespace and name.
    Pod {
        /// Name of the namespace.
        namespace: Text,
        /// Name of the pod.
        pod: Text,
    },
    /// A container of a pod by namespace, pod and container name.
    PodContainer {
        /// Name of the namespace.
        namespace: Text,
        /// Name of the pod.
        pod: Text,
        /// Name of the container.
        container: Text,
    },
}

impl EntityKey {
    /// Key of a namespace.
    pub fn namespace(namespace: impl Into<Text>) -> Self {
        Self::Namespace(namespace.into())
    }

    /// Key of a node.
    pub fn node(node: impl Into<Text>) -> Self {
        Self::Node(node.into())
    }

    /// Key of a system container of a node.
    pub fn system_container(node: impl Into<Text>, container: impl Into<Text>) -> Self {
        Self::SystemContainer { node: node.into(), container: container.into() }
    }

    /// Key of a pod.
    pub fn pod(namespace: impl Into<Text>, pod: impl Into<Text>) -> Self {
        Self::Pod { namespace: namespace.into(), pod: pod.into() }
    }

    /// Key of a container of a pod.
    pub fn pod_container(
        namespace: impl Into<Text>,
        pod: impl Into<Text>,
        container: impl Into<Text>,
    ) -> Self {
        Self::PodContainer {
            namespace: namespace.into(),
            pod: pod.into(),
            container: container.into(),
        }
    }

    /// The kind of entity the key names.
    pub const fn entity_type(&self) -> EntityType {
        match self {
            Self::Cluster => EntityType::Cluster,
            Self::Namespace(_) => EntityType::Namespace,
            Self::Node(_) => EntityType::Node,
            Self::SystemContainer { .. } => EntityType::SystemContainer,
            Self::Pod { .. } => EntityType::Pod,
            Self::PodContainer { .. } => EntityType::PodContainer,
        }
    }

    /// The key of the entity that a set's labels describe, or `None` when they describe none.
    ///
    /// This is how stored series find their entity again: the identifying labels are `type` with
    /// `nodename`, `namespace_name`, `pod_name` and `container_name`.
    pub fn from_labels(labels: &Labels) -> Option<Self> {
        let get = |name| labels.get(name).cloned();
        Some(match EntityType::from_label(labels.value(key::TYPE))? {
            EntityType::Cluster => Self::Cluster,
            EntityType::Namespace => Self::Namespace(get(key::NAMESPACE_NAME)?),
            EntityType::Node => Self::Node(get(key::NODENAME)?),
            EntityType::SystemContainer => Self::SystemContainer {
                node: get(key::NODENAME)?,
                container: get(key::CONTAINER_NAME)?,
            },
            EntityType::Pod => {
                Self::Pod { namespace: get(key::NAMESPACE_NAME)?, pod: get(key::POD_NAME)? }
            }
            EntityType::PodContainer => Self::PodContainer {
                namespace: get(key::NAMESPACE_NAME)?,
                pod: get(key::POD_NAME)?,
                container: get(key::CONTAINER_NAME)?,
            },
        })
    }

    /// The matchers that select the entity's stored sets, plain and labelled metrics alike.
    pub fn matchers(&self) -> Vec<Matcher> {
        let mut matchers = vec![Matcher::equal(key::TYPE, self.entity_type().as_str())];
        let mut add = |name, value: &Text| matchers.push(Matcher::equal(name, value.clone()));
        match self {
            Self::Cluster => {}
            Self::Namespace(namespace) => add(key::NAMESPACE_NAME, namespace),
            Self::Node(node) => add(key::NODENAME, node),
            Self::SystemContainer { node, container } => {
                add(key::NODENAME, node);
                add(key::CONTAINER_NAME, container);
            }
            Self::Pod { namespace, pod } => {
                add(key::NAMESPACE_NAME, namespace);
                add(key::POD_NAME, pod);
            }
            Self::PodContainer { namespace, pod, container } => {
                add(key::NAMESPACE_NAME, namespace);
                add(key::POD_NAME, pod);
                add(key::CONTAINER_NAME, container);
            }
        }
        matchers
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Namespace(namespace) => write!(f, "namespace:{namespace}"),
            Self::Node(node) => write!(f, "node:{node}"),
            Self::SystemContainer { node, container } => {
                write!(f, "node:{node}/container:{container}")
            }
            Self::Pod { namespace, pod } => write!(f, "namespace:{namespace}/pod:{pod}"),
            Self::PodContainer { namespace, pod, container } => {
                write!(f, "namespace:{namespace}/pod:{pod}/container:{container}")
            }
        }
    }
}

impl FromStr for EntityKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "cluster" {
            return Ok(Self::Cluster);
        }
        if let Some(rest) = text.strip_prefix("node:") {
            return Ok(match rest.split_once("/container:") {
                Some((node, container)) => Self::system_container(node, container),
                None => Self::node(rest),
            });
        }
        if let Some(rest) = text.strip_prefix("namespace:") {
            let Some((namespace, rest)) = rest.split_once("/pod:") else {
                return Ok(Self::namespace(rest));
            };
            return Ok(match rest.split_once("/container:") {
                Some((pod, container)) => Self::pod_container(namespace, pod, container),
                None => Self::pod(namespace, rest),
            });
        }
        Err(ParseError::new("entity key", text, "cluster, node:… or namespace:…"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_print_and_parse_as_heapsters_strings() {
        for (key, text) in [
            (EntityKey::Cluster, "cluster"),
            (EntityKey::namespace("default"), "namespace:default"),
            (EntityKey::node("n1"), "node:n1"),
            (
                EntityKey::system_container("n1", "system.slice/foo"),
                "node:n1/container:system.slice/foo",
            ),
            (EntityKey::pod("default", "web-1"), "namespace:default/pod:web-1"),
            (
                EntityKey::pod_container("default", "web-1", "nginx"),
                "namespace:default/pod:web-1/container:nginx",
            ),
        ] {
            assert_eq!(key.to_string(), text);
            assert_eq!(text.parse::<EntityKey>().unwrap(), key);
        }
        assert!("pod:web-1".parse::<EntityKey>().is_err());
    }

    #[test]
    fn the_labels_of_a_set_name_its_entity() {
        let labels = Labels::from_iter([
            (key::TYPE, "pod_container"),
            (key::NAMESPACE_NAME, "default"),
            (key::POD_NAME, "web-1"),
            (key::CONTAINER_NAME, "nginx"),
            (key::NODENAME, "n1"),
        ]);
        let entity = EntityKey::from_labels(&labels).unwrap();
        assert_eq!(entity, EntityKey::pod_container("default", "web-1", "nginx"));
        assert!(entity.matchers().iter().all(|m| m.matches(labels.value(m.name()))));
    }
}
