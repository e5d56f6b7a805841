//! Batches of the simulated cluster, made without HTTP: what a server would hand to its store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::cluster::{
    CPU, ClusterView, EPHEMERAL_STORAGE, MEMORY, Namespace, Node as ClusterNode, Pod as ClusterPod,
    PodContainer, Resources,
};
use heapster_core::pipeline::Processor;
use heapster_core::processors::{LabelCopier, standard};
use heapster_core::{
    DataBatch, EntityKey, EntityType, Labels, MetricSet, MetricValue, NanoTime, Text, Timestamp,
    key, metric,
};

use crate::cluster_sim::SimOptions;
use crate::cluster_sim::model::{
    Container, Maker, Node, Pod, STORAGE_LIMIT_MIB, STORAGE_REQUEST_MIB,
};
use crate::cluster_sim::usage::{Interface, Memory};

const INODES: u64 = 6_553_600;
const INODES_FREE: u64 = INODES - 319_790;

/// An endless stream of processed batches, one per interval of the resolution.
pub struct SimulatedBatches {
    nodes: Vec<Node>,
    processors: Vec<Box<dyn Processor>>,
    next: Timestamp,
    resolution: Duration,
}

impl SimulatedBatches {
    /// The batches of a cluster from `start` on. Ports, step and churn of the options do not matter.
    pub fn new(options: &SimOptions, start: Timestamp, resolution: Duration) -> Self {
        let maker = Maker::new(options);
        let now = seconds(start);
        let nodes: Vec<Node> = (0..options.nodes).map(|index| maker.node(index, now)).collect();
        let view = View::new(&maker, &nodes);
        let processors = standard(Arc::new(view), LabelCopier::default(), None);
        Self { nodes, processors, next: start, resolution }
    }
}

impl SimulatedBatches {
    /// The next batch as the sources would give it.
    pub fn next_unprocessed(&mut self) -> DataBatch {
        let mut batch = DataBatch::new(self.next);
        self.next = self.next.saturating_add(self.resolution);
        let now = seconds(batch.timestamp);
        for node in &mut self.nodes {
            node.advance(now);
            add_node(&mut batch, node, now);
        }
        batch
    }

    /// Runs the standard processors on a batch.
    ///
    /// # Panics
    /// When a processor refuses the batch, which would be a bug of either.
    pub fn process(&mut self, batch: &mut DataBatch) {
        for processor in &mut self.processors {
            let name = processor.name();
            processor.process(batch).unwrap_or_else(|error| panic!("bug: {name}: {error}"));
        }
    }
}

impl Iterator for SimulatedBatches {
    type Item = DataBatch;

    fn next(&mut self) -> Option<DataBatch> {
        let mut batch = self.next_unprocessed();
        self.process(&mut batch);
        Some(batch)
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000)
}

fn int(value: u64) -> i64 {
    value as i64
}

fn add_node(batch: &mut DataBatch, node: &Node, now: i64) {
    let name = Text::from(node.name.as_str());
    let mut base = Labels::new();
    base.set_static(key::NODENAME, name.clone());
    base.set_static(key::HOSTNAME, name.clone());
    base.set_static(key::HOST_ID, "");

    let mut set = new_set(&base, EntityType::Node, node.created_at, node.sampled_at(), now);
    set_cpu(&mut set, node.cgroup.cpu_ns);
    set_memory(&mut set, &node.cgroup.memory());
    set_network(&mut set, &node.interface);
    let used = node.disk_bytes - node.disk_available_bytes();
    gauge(&mut set, metric::EPHEMERAL_STORAGE_USAGE, used);
    push_disk(&mut set, "/", node, used);
    batch.sets.insert(EntityKey::node(name.clone()), set);

    for container in &node.system {
        let mut set = new_set(
            &base,
            EntityType::SystemContainer,
            container.started_at,
            container.sampled_at(),
            now,
        );
        let own_name =
            Text::from(if container.name == "runtime" { "docker-daemon" } else { &container.name });
        set.labels.set_static(key::CONTAINER_NAME, own_name.clone());
        set_cpu(&mut set, container.cgroup.cpu_ns);
        set_memory(&mut set, &container.cgroup.memory());
        batch.sets.insert(EntityKey::system_container(name.clone(), own_name), set);
    }
    for pod in &node.pods {
        add_pod(batch, node, pod, &base, now);
    }
}

fn add_pod(batch: &mut DataBatch, node: &Node, pod: &Pod, base: &Labels, now: i64) {
    let (namespace, name) = (Text::from(pod.namespace.as_str()), Text::from(pod.name.as_str()));
    let mut labels = base.clone();
    labels.set_static(key::POD_ID, pod.uid.as_str());
    labels.set_static(key::POD_NAME, name.clone());
    labels.set_static(key::NAMESPACE_NAME, namespace.clone());

    let mut set = new_set(&labels, EntityType::Pod, pod.created_at, pod.sampled_at(), now);
    set_cpu(&mut set, pod.cpu_ns);
    set_memory(&mut set, &pod.memory());
    if pod.is_host_network {
        set.scrape_time = None;
    } else {
        set_network(&mut set, &pod.interface);
    }
    let stored = pod.total(|c| c.rootfs.used_bytes() + c.logs.used_bytes());
    gauge(&mut set, metric::EPHEMERAL_STORAGE_USAGE, stored);
    let volume = format!("Volume:{}", pod.volume_name);
    push_space(&mut set, &volume, pod.volume.used_bytes(), (52_416_512, 52_428_800));
    batch.sets.insert(EntityKey::pod(namespace.clone(), name.clone()), set);

    for container in &pod.containers {
        let mut set = new_set(
            &labels,
            EntityType::PodContainer,
            container.started_at,
            container.sampled_at(),
            now,
        );
        let own_name = Text::from(container.name.as_str());
        set.labels.set_static(key::CONTAINER_NAME, own_name.clone());
        set_cpu(&mut set, container.cgroup.cpu_ns);
        set_memory(&mut set, &container.cgroup.memory());
        let (rootfs, logs) = (container.rootfs.used_bytes(), container.logs.used_bytes());
        gauge(&mut set, metric::EPHEMERAL_STORAGE_USAGE, rootfs + logs);
        push_disk(&mut set, "/", node, rootfs);
        push_disk(&mut set, "logs", node, logs);
        let key = EntityKey::pod_container(namespace.clone(), name.clone(), own_name);
        batch.sets.insert(key, set);
    }
}

fn new_set(
    labels: &Labels,
    entity_type: EntityType,
    started_at: i64,
    sampled_at: i64,
    now: i64,
) -> MetricSet {
    let mut set = MetricSet { labels: labels.clone(), ..MetricSet::default() };
    set.labels.set_static(key::TYPE, Text::from_static(entity_type.as_str()));
    set.collection_start_time = NanoTime::from_seconds(started_at);
    set.scrape_time = NanoTime::from_seconds(sampled_at);
    let uptime_ms = now.saturating_sub(started_at).saturating_mul(1000);
    set.metrics.set_static(metric::UPTIME, MetricValue::cumulative(uptime_ms));
    set
}

fn counter(set: &mut MetricSet, name: &'static str, value: u64) {
    set.metrics.set_static(name, MetricValue::cumulative(int(value)));
}

fn gauge(set: &mut MetricSet, name: &'static str, value: u64) {
    set.metrics.set_static(name, MetricValue::gauge(int(value)));
}

fn set_cpu(set: &mut MetricSet, nanoseconds: u64) {
    counter(set, metric::CPU_USAGE, nanoseconds);
}

fn set_memory(set: &mut MetricSet, memory: &Memory) {
    gauge(set, metric::MEMORY_USAGE, memory.usage_bytes);
    gauge(set, metric::MEMORY_WORKING_SET, memory.working_set_bytes);
    gauge(set, metric::MEMORY_RSS, memory.rss_bytes);
    counter(set, metric::MEMORY_PAGE_FAULTS, memory.page_faults);
    counter(set, metric::MEMORY_MAJOR_PAGE_FAULTS, memory.major_page_faults);
}

fn set_network(set: &mut MetricSet, interface: &Interface) {
    counter(set, metric::NETWORK_RX, interface.rx_bytes);
    counter(set, metric::NETWORK_RX_ERRORS, interface.rx_errors);
    counter(set, metric::NETWORK_TX, interface.tx_bytes);
    counter(set, metric::NETWORK_TX_ERRORS, interface.tx_errors);
}

fn push_disk(set: &mut MetricSet, resource: &str, node: &Node, used: u64) {
    push_space(set, resource, used, (node.disk_available_bytes(), node.disk_bytes));
}

fn push_space(set: &mut MetricSet, resource: &str, used: u64, (available, capacity): (u64, u64)) {
    let own = Labels::from_iter([(Text::from_static(key::RESOURCE_ID), resource)]);
    for (name, value) in [
        (metric::FILESYSTEM_USAGE, used),
        (metric::FILESYSTEM_LIMIT, capacity),
        (metric::FILESYSTEM_AVAILABLE, available),
        (metric::FILESYSTEM_INODES, INODES),
        (metric::FILESYSTEM_INODES_FREE, INODES_FREE),
    ] {
        set.push_labeled(name, &own, int(value));
    }
}

/// The cluster's objects, which do not change here.
struct View {
    nodes: Vec<Arc<ClusterNode>>,
    pods: BTreeMap<String, BTreeMap<String, Arc<ClusterPod>>>,
    namespaces: BTreeMap<String, Arc<Namespace>>,
}

impl View {
    fn new(maker: &Maker, nodes: &[Node]) -> Self {
        let mut pods: BTreeMap<String, BTreeMap<String, Arc<ClusterPod>>> = BTreeMap::new();
        for pod in nodes.iter().flat_map(|node| &node.pods) {
            let of_namespace = pods.entry(pod.namespace.clone()).or_default();
            of_namespace.insert(pod.name.clone(), Arc::new(pod_object(pod)));
        }
        let namespaces = maker.namespaces.iter().map(|name| {
            let uid = maker.namespace_uid(name).into();
            (name.clone(), Arc::new(Namespace { name: name.as_str().into(), uid }))
        });
        Self {
            nodes: nodes.iter().map(|node| Arc::new(node_object(node))).collect(),
            pods,
            namespaces: namespaces.collect(),
        }
    }
}

impl ClusterView for View {
    fn nodes(&self) -> Vec<Arc<ClusterNode>> {
        self.nodes.clone()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<ClusterPod>> {
        self.pods.get(namespace)?.get(name).cloned()
    }

    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(name).cloned()
    }
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<Text, Text> {
    pairs.iter().map(|(name, value)| (Text::from(*name), Text::from(*value))).collect()
}

fn resources(cpu: u64, memory: u64, storage: u64) -> Resources {
    [(CPU, cpu), (MEMORY, memory), (EPHEMERAL_STORAGE, storage)]
        .map(|(name, amount)| (Text::from_static(name), int(amount)))
        .into()
}

fn node_object(node: &Node) -> ClusterNode {
    ClusterNode {
        name: node.name.as_str().into(),
        labels: texts(&[("kubernetes.io/hostname", &node.name), ("kubernetes.io/os", "linux")]),
        capacity: resources(node.cores * 1000, node.memory_bytes, node.disk_bytes),
        allocatable: resources(
            node.cores * 1000 - 100,
            node.memory_bytes - (512 << 20),
            node.disk_bytes / 10 * 9,
        ),
    }
}

fn pod_object(pod: &Pod) -> ClusterPod {
    ClusterPod {
        namespace: pod.namespace.as_str().into(),
        name: pod.name.as_str().into(),
        uid: pod.uid.as_str().into(),
        labels: texts(&[
            ("app", &pod.owner),
            ("pod-template-hash", pod.revision.as_deref().unwrap_or_default()),
        ]),
        start_time: NanoTime::from_seconds(pod.created_at),
        containers: pod.containers.iter().map(container_object).collect(),
        phase: "Running".into(),
    }
}

fn container_object(container: &Container) -> PodContainer {
    let claim = &container.claim;
    let limits = claim
        .memory_limit_mib
        .map(|mib| resources(claim.cpu_limit_millicores(), mib << 20, STORAGE_LIMIT_MIB << 20));
    let storage = if limits.is_some() { STORAGE_REQUEST_MIB << 20 } else { 0 };
    PodContainer {
        name: container.name.as_str().into(),
        image: container.image.as_str().into(),
        requests: resources(claim.cpu_millicores, claim.memory_mib << 20, storage),
        limits: limits.unwrap_or_default(),
        restart_count: Some(i64::from(container.restarts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::sample_count;

    #[test]
    fn batches_are_complete_processed_and_repeatable() {
        let options = SimOptions { nodes: 2, pods_per_node: 6, ..SimOptions::default() };
        let start = Timestamp::from_millis(1_700_000_000_000);
        let stream = || SimulatedBatches::new(&options, start, Duration::from_secs(60));
        let batches: Vec<DataBatch> = stream().take(3).collect();
        assert_eq!(batches, stream().take(3).collect::<Vec<_>>());
        let last = &batches[2];
        assert_eq!(last.timestamp, start.saturating_add(Duration::from_secs(120)));
        // Nodes, system containers, pods, containers; and the cluster and namespaces made of them.
        let of =
            |entity: EntityType| last.sets.keys().filter(|key| key.entity_type() == entity).count();
        assert_eq!(of(EntityType::Node), 2);
        assert_eq!(of(EntityType::SystemContainer), 6);
        assert_eq!((of(EntityType::Pod), of(EntityType::PodContainer)), (12, 24));
        assert_eq!(of(EntityType::Cluster), 1);
        let cluster = &last.sets[&EntityKey::Cluster];
        assert!(cluster.metrics.int(metric::CPU_USAGE_RATE).is_some_and(|rate| rate > 0));
        assert!(cluster.metrics.int(metric::MEMORY_REQUEST).is_some_and(|bytes| bytes > 0));
        assert!(sample_count(last) > 1_000, "{} samples", sample_count(last));
    }
}
