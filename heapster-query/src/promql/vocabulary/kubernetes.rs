//! [`Kubernetes`]: the names of cAdvisor, of the kubelet's resource metrics and of kube-state-metrics
//! over what is collected from kubelets and the API server.
//!
//! The table is also in `docs/promql.md`; a test compares the two.

use std::sync::Arc;

use heapster_core::catalogue::metric;
use heapster_core::labels::key;
use heapster_core::{EntityType, Matcher, Text};

use super::{View, Vocabulary, plain_only};

/// One name over one stored column.
struct Entry {
    name: &'static str,
    column: &'static str,
    entity: EntityType,
    /// Stored unit times this is the unit that the name promises.
    factor: f64,
    /// What is stored says by its column, and the name by labels.
    fixed: &'static [(&'static str, &'static str)],
}

const NANOS: f64 = 1e-9;
const MILLIS: f64 = 1e-3;

const fn entry(
    name: &'static str,
    column: &'static str,
    entity: EntityType,
    factor: f64,
    fixed: &'static [(&'static str, &'static str)],
) -> Entry {
    Entry { name, column, entity, factor, fixed }
}

use EntityType::{Node, Pod, PodContainer};

const CPU: &[(&str, &str)] = &[("resource", "cpu"), ("unit", "core")];
const MEMORY: &[(&str, &str)] = &[("resource", "memory"), ("unit", "byte")];
const STORAGE: &[(&str, &str)] = &[("resource", "ephemeral_storage"), ("unit", "byte")];
const NETWORK: &[(&str, &str)] = &[("interface", "eth0")];

const ENTRIES: &[Entry] = &[
    entry("container_cpu_usage_seconds_total", metric::CPU_USAGE, PodContainer, NANOS, &[]),
    entry("container_memory_cache", metric::MEMORY_CACHE, PodContainer, 1.0, &[]),
    entry("container_memory_rss", metric::MEMORY_RSS, PodContainer, 1.0, &[]),
    entry("container_memory_usage_bytes", metric::MEMORY_USAGE, PodContainer, 1.0, &[]),
    entry("container_memory_working_set_bytes", metric::MEMORY_WORKING_SET, PodContainer, 1.0, &[]),
    entry("container_network_receive_bytes_total", metric::NETWORK_RX, Pod, 1.0, NETWORK),
    entry("container_network_receive_errors_total", metric::NETWORK_RX_ERRORS, Pod, 1.0, NETWORK),
    entry("container_network_transmit_bytes_total", metric::NETWORK_TX, Pod, 1.0, NETWORK),
    entry("container_network_transmit_errors_total", metric::NETWORK_TX_ERRORS, Pod, 1.0, NETWORK),
    entry("kube_node_status_allocatable", metric::CPU_NODE_ALLOCATABLE, Node, MILLIS, CPU),
    entry("kube_node_status_allocatable", metric::MEMORY_NODE_ALLOCATABLE, Node, 1.0, MEMORY),
    entry(
        "kube_node_status_allocatable",
        metric::EPHEMERAL_STORAGE_NODE_ALLOCATABLE,
        Node,
        1.0,
        STORAGE,
    ),
    entry("kube_node_status_capacity", metric::CPU_NODE_CAPACITY, Node, MILLIS, CPU),
    entry("kube_node_status_capacity", metric::MEMORY_NODE_CAPACITY, Node, 1.0, MEMORY),
    entry("kube_node_status_capacity", metric::EPHEMERAL_STORAGE_NODE_CAPACITY, Node, 1.0, STORAGE),
    entry("kube_pod_container_resource_limits", metric::CPU_LIMIT, PodContainer, MILLIS, CPU),
    entry("kube_pod_container_resource_limits", metric::MEMORY_LIMIT, PodContainer, 1.0, MEMORY),
    entry(
        "kube_pod_container_resource_limits",
        metric::EPHEMERAL_STORAGE_LIMIT,
        PodContainer,
        1.0,
        STORAGE,
    ),
    entry("kube_pod_container_resource_requests", metric::CPU_REQUEST, PodContainer, MILLIS, CPU),
    entry(
        "kube_pod_container_resource_requests",
        metric::MEMORY_REQUEST,
        PodContainer,
        1.0,
        MEMORY,
    ),
    entry(
        "kube_pod_container_resource_requests",
        metric::EPHEMERAL_STORAGE_REQUEST,
        PodContainer,
        1.0,
        STORAGE,
    ),
    entry(
        "kube_pod_container_status_restarts_total",
        metric::RESTART_COUNT,
        PodContainer,
        1.0,
        &[],
    ),
    entry("node_cpu_usage_seconds_total", metric::CPU_USAGE, Node, NANOS, &[]),
    entry("node_memory_working_set_bytes", metric::MEMORY_WORKING_SET, Node, 1.0, &[]),
    entry("pod_cpu_usage_seconds_total", metric::CPU_USAGE, Pod, NANOS, &[]),
    entry("pod_memory_working_set_bytes", metric::MEMORY_WORKING_SET, Pod, 1.0, &[]),
];

/// Labels of a pod's container, by the names dashboards use, and where they are stored.
const LABELS: &[(&str, &str)] = &[
    ("container", key::CONTAINER_NAME),
    ("image", key::CONTAINER_BASE_IMAGE),
    ("namespace", key::NAMESPACE_NAME),
    ("node", key::NODENAME),
    ("pod", key::POD_NAME),
];

/// The vocabulary of Kubernetes dashboards. One copy is stored; Heapster's names, their underscore
/// form and these all read it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kubernetes;

impl Entry {
    fn view(&self) -> View {
        let of_type = Matcher::equal(key::TYPE, self.entity.as_str());
        let view = View::new(Text::from_static(self.column)).of(of_type).of(plain_only());
        let view = view.scaled(self.factor);
        // A pod's sets have no container, and a node's no pod: labels that are not stored are absent.
        let view = LABELS.iter().fold(view, |view, (name, stored)| view.label(*name, *stored));
        self.fixed.iter().fold(view, |view, (name, value)| view.fixed(*name, *value))
    }
}

impl Vocabulary for Kubernetes {
    fn views(&self, name: &str) -> Vec<Arc<View>> {
        let known = ENTRIES.iter().filter(|entry| entry.name == name);
        known.map(|entry| Arc::new(entry.view())).collect()
    }

    fn names(&self) -> Vec<Text> {
        let mut names: Vec<Text> =
            ENTRIES.iter().map(|entry| Text::from_static(entry.name)).collect();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_documents_is_this_one() {
        let page = include_str!("../../../../docs/promql.md");
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| {
                line.starts_with("| `container_")
                    || line.starts_with("| `kube_")
                    || line.starts_with("| `node_")
                    || line.starts_with("| `pod_")
            })
            .collect();
        let expected: Vec<String> = ENTRIES
            .iter()
            .map(|entry| {
                let fixed: Vec<String> = entry
                    .fixed
                    .iter()
                    .map(|(name, value)| format!("`{name}=\"{value}\"`"))
                    .collect();
                let factor =
                    if entry.factor == 1.0 { String::new() } else { format!("{:e}", entry.factor) };
                format!(
                    "| `{}` | `{}` | `{}` | {factor} | {} |",
                    entry.name,
                    entry.column,
                    entry.entity.as_str(),
                    fixed.join(", ")
                )
            })
            .collect();
        assert_eq!(rows, expected);
    }
}
