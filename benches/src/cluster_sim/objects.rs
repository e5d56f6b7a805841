//! The cluster's objects as the API server shows them.

use serde_json::{Value, json};

use super::model::{Container, Node, Pod, STORAGE_LIMIT_MIB, STORAGE_REQUEST_MIB};
use super::template::rfc3339;

const KIB: u64 = 1024;

/// Whether a pod already runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
}

/// A `v1.Node`.
pub(crate) fn node(node: &Node) -> Value {
    let created = rfc3339(node.created_at);
    let memory_kib = node.memory_bytes / KIB;
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "uid": node.uid,
            "creationTimestamp": created,
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": format!("zone-{}", node.cores % 3),
            },
        },
        "spec": {"providerID": format!("sim://{}", node.name)},
        "status": {
            "capacity": {
                "cpu": node.cores.to_string(),
                "memory": format!("{memory_kib}Ki"),
                "pods": "110",
                "ephemeral-storage": format!("{}Ki", node.disk_bytes / KIB),
            },
            "allocatable": {
                "cpu": format!("{}m", node.cores * 1000 - 100),
                "memory": format!("{}Ki", memory_kib - 524_288),
                "pods": "110",
                "ephemeral-storage": (node.disk_bytes / 10 * 9).to_string(),
            },
            "addresses": [
                {"type": "InternalIP", "address": node.address},
                {"type": "Hostname", "address": node.name},
            ],
            "conditions": [
                condition("MemoryPressure", "False", &created),
                condition("DiskPressure", "False", &created),
                condition("Ready", "True", &created),
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": node.uid,
                "containerRuntimeVersion": "containerd://1.7.18",
                "kernelVersion": "6.1.0",
                "kubeProxyVersion": "v1.31.0",
                "kubeletVersion": "v1.31.0",
                "machineID": node.uid,
                "operatingSystem": "linux",
                "osImage": "Simulated",
                "systemUUID": node.uid,
            },
        },
    })
}

/// A `v1.Namespace`; its UID follows from its name.
pub(crate) fn namespace(name: &str, uid: &str, created_at: i64) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "uid": uid,
            "creationTimestamp": rfc3339(created_at),
            "labels": {"kubernetes.io/metadata.name": name},
        },
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    })
}

/// A `v1.Pod` on a node.
pub(crate) fn pod(pod: &Pod, node_name: &str, phase: Phase) -> Value {
    let created = rfc3339(pod.created_at);
    let mut labels = json!({"app": pod.owner, "tier": tier(&pod.owner)});
    let owner = match &pod.revision {
        Some(revision) => {
            labels["pod-template-hash"] = json!(revision);
            owner_reference("ReplicaSet", &format!("{}-{revision}", pod.owner))
        }
        None => owner_reference("DaemonSet", &pod.owner),
    };
    let statuses: Vec<Value> = match phase {
        Phase::Pending => Vec::new(),
        Phase::Running => pod.containers.iter().map(|c| status(c, &pod.uid)).collect(),
    };
    let mut status = json!({
        "phase": format!("{phase:?}"),
        "qosClass": "Burstable",
        "conditions": [
            condition("PodScheduled", "True", &created),
            condition("Ready", if phase == Phase::Running { "True" } else { "False" }, &created),
        ],
        "containerStatuses": statuses,
    });
    if phase == Phase::Running {
        status["startTime"] = json!(created);
        status["podIP"] = json!(pod.address);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "creationTimestamp": created,
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": node_name,
            "hostNetwork": pod.is_host_network,
            "restartPolicy": "Always",
            "containers": pod.containers.iter().map(spec).collect::<Vec<_>>(),
        },
        "status": status,
    })
}

fn spec(container: &Container) -> Value {
    let claim = &container.claim;
    let mut resources = json!({
        "requests": {
            "cpu": format!("{}m", claim.cpu_millicores),
            "memory": format!("{}Mi", claim.memory_mib),
        },
    });
    if let Some(limit_mib) = claim.memory_limit_mib {
        resources["limits"] = json!({
            "cpu": format!("{}m", claim.cpu_limit_millicores()),
            "memory": format!("{limit_mib}Mi"),
            "ephemeral-storage": format!("{STORAGE_LIMIT_MIB}Mi"),
        });
        resources["requests"]["ephemeral-storage"] = json!(format!("{STORAGE_REQUEST_MIB}Mi"));
    }
    json!({
        "name": container.name,
        "image": container.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": resources,
    })
}

fn status(container: &Container, pod_uid: &str) -> Value {
    json!({
        "name": container.name,
        "image": container.image,
        "imageID": "",
        "containerID": format!("containerd://{pod_uid}-{}", container.name),
        "ready": true,
        "started": true,
        "restartCount": container.restarts,
        "state": {"running": {"startedAt": rfc3339(container.started_at)}},
    })
}

fn condition(kind: &str, status: &str, at: &str) -> Value {
    json!({"type": kind, "status": status, "lastTransitionTime": at})
}

fn owner_reference(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "name": name,
        "uid": format!("{name}-uid"),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn tier(owner: &str) -> &'static str {
    if owner.ends_with(['0', '2', '4', '6', '8']) { "web" } else { "data" }
}
