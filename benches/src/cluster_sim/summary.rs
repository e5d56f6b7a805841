//! A node's answer to `GET /stats/summary`, as kubelets of today give it.

use super::model::{Container, Node, Pod};
use super::template::{Renderer, Shape, Template, TemplateBuilder, TimeTexts};
use super::usage::{Interface, Memory};

const INODES: u64 = 6_553_600;

/// The text of a node's answer, kept between requests.
#[derive(Debug)]
pub(crate) struct SummaryTemplates {
    head: Template,
    /// One for each pod of the node, in their order.
    pods: Vec<Template>,
    times: TimeTexts,
}

impl SummaryTemplates {
    /// The templates of a node and its pods.
    pub(crate) fn new(node: &Node) -> Self {
        let mut head = TemplateBuilder::new(1);
        describe_node(&mut head, node);
        let pods = node.pods.iter().map(|pod| pod_template(pod, node)).collect();
        Self { head: head.finish(), pods, times: TimeTexts::default() }
    }

    /// Follows the replacement of the pod at `index`.
    pub(crate) fn replace_pod(&mut self, index: usize, node: &Node) {
        self.pods[index] = pod_template(&node.pods[index], node);
    }

    /// Follows the removal of the pod at `index`.
    pub(crate) fn remove_pod(&mut self, index: usize) {
        self.pods.remove(index);
    }

    /// Appends the answer for the state `node` is in.
    pub(crate) fn render(&mut self, node: &Node, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{");
        let mut renderer = Renderer::new(out, &mut self.times, &self.head);
        describe_node(&mut renderer, node);
        renderer.finish();
        out.extend_from_slice(b",\n \"pods\": [");
        for (index, (pod, template)) in node.pods.iter().zip(&self.pods).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            let mut renderer = Renderer::new(out, &mut self.times, template);
            describe_pod(&mut renderer, pod, node);
            renderer.finish();
        }
        out.extend_from_slice(b"\n ]\n}");
    }
}

fn pod_template(pod: &Pod, node: &Node) -> Template {
    let mut builder = TemplateBuilder::new(2);
    describe_pod(&mut builder, pod, node);
    builder.finish()
}

fn describe_node(shape: &mut impl Shape, node: &Node) {
    let at = node.sampled_at();
    shape.object("node");
    shape.text("nodeName", &node.name);
    shape.array("systemContainers");
    for container in &node.system {
        shape.object("");
        shape.text("name", &container.name);
        shape.time("startTime", container.started_at);
        describe_cpu(
            shape,
            container.sampled_at(),
            container.cgroup.nanocores,
            container.cgroup.cpu_ns,
        );
        describe_memory(
            shape,
            container.sampled_at(),
            &container.cgroup.memory(),
            container.memory_limit_bytes(),
        );
        describe_swap(shape, container.sampled_at(), None);
        shape.close();
    }
    shape.close();
    shape.time("startTime", node.created_at);
    describe_cpu(shape, at, node.cgroup.nanocores, node.cgroup.cpu_ns);
    describe_memory(shape, at, &node.cgroup.memory(), Some(node.memory_bytes));
    describe_network(shape, at, &node.interface);
    let available = node.disk_available_bytes();
    describe_disk(shape, "fs", at, node, (node.disk_bytes - available, node.disk.inodes_used));
    shape.object("runtime");
    describe_disk(shape, "imageFs", at, node, (node.images.used_bytes(), node.images.inodes_used));
    describe_disk(
        shape,
        "containerFs",
        at,
        node,
        (node.images.used_bytes(), node.images.inodes_used),
    );
    shape.close();
    shape.object("rlimit");
    shape.time("time", at);
    shape.number("maxpid", 125_722);
    shape.number("curproc", 1_000 + node.cgroup.requests as u64 % 500);
    shape.close();
    describe_swap(shape, at, Some(1_073_737_728));
    shape.close();
}

fn describe_pod(shape: &mut impl Shape, pod: &Pod, node: &Node) {
    let at = pod.sampled_at();
    shape.object("");
    shape.object("podRef");
    shape.text("name", &pod.name);
    shape.text("namespace", &pod.namespace);
    shape.text("uid", &pod.uid);
    shape.close();
    shape.time("startTime", pod.created_at);
    shape.array("containers");
    for container in &pod.containers {
        describe_container(shape, container, node);
    }
    shape.close();
    describe_cpu(shape, at, pod.nanocores, pod.cpu_ns);
    describe_memory(shape, at, &pod.memory(), pod.memory_limit_bytes());
    if !pod.is_host_network {
        describe_network(shape, at, &pod.interface);
    }
    shape.array("volume");
    shape.object("");
    describe_space(shape, at - 30, (52_416_512, 52_428_800), (pod.volume.used_bytes(), 9));
    shape.text("name", &pod.volume_name);
    shape.close();
    shape.close();
    let used = pod.total(|c| c.rootfs.used_bytes() + c.logs.used_bytes());
    let inodes = pod.total(|c| c.rootfs.inodes_used + c.logs.inodes_used);
    describe_disk(shape, "ephemeral-storage", node.sampled_at(), node, (used, inodes));
    shape.object("process_stats");
    shape.number("process_count", 1 + pod.containers.len() as u64);
    shape.close();
    describe_swap(shape, at, None);
    shape.close();
}

fn describe_container(shape: &mut impl Shape, container: &Container, node: &Node) {
    let at = container.sampled_at();
    shape.object("");
    shape.text("name", &container.name);
    shape.time("startTime", container.started_at);
    describe_cpu(shape, at, container.cgroup.nanocores, container.cgroup.cpu_ns);
    describe_memory(shape, at, &container.cgroup.memory(), container.memory_limit_bytes());
    let (rootfs, logs) = (&container.rootfs, &container.logs);
    let disk_at = node.sampled_at();
    describe_disk(shape, "rootfs", disk_at, node, (rootfs.used_bytes(), rootfs.inodes_used));
    describe_disk(shape, "logs", disk_at, node, (logs.used_bytes(), logs.inodes_used));
    describe_swap(shape, at, Some(0));
    shape.close();
}

fn describe_cpu(shape: &mut impl Shape, at: i64, nanocores: u64, nanoseconds: u64) {
    shape.object("cpu");
    shape.time("time", at);
    shape.number("usageNanoCores", nanocores);
    shape.number("usageCoreNanoSeconds", nanoseconds);
    shape.close();
}

/// Memory; what is available is known only under a limit.
fn describe_memory(shape: &mut impl Shape, at: i64, memory: &Memory, limit_bytes: Option<u64>) {
    shape.object("memory");
    shape.time("time", at);
    if let Some(limit) = limit_bytes {
        shape.number("availableBytes", limit.saturating_sub(memory.working_set_bytes));
    }
    shape.number("usageBytes", memory.usage_bytes);
    shape.number("workingSetBytes", memory.working_set_bytes);
    shape.number("rssBytes", memory.rss_bytes);
    shape.number("pageFaults", memory.page_faults);
    shape.number("majorPageFaults", memory.major_page_faults);
    shape.close();
}

fn describe_network(shape: &mut impl Shape, at: i64, interface: &Interface) {
    shape.object("network");
    shape.time("time", at);
    describe_counters(shape, interface);
    shape.array("interfaces");
    shape.object("");
    describe_counters(shape, interface);
    shape.close();
    shape.close();
    shape.close();
}

fn describe_counters(shape: &mut impl Shape, interface: &Interface) {
    shape.text("name", "eth0");
    shape.number("rxBytes", interface.rx_bytes);
    shape.number("rxErrors", interface.rx_errors);
    shape.number("txBytes", interface.tx_bytes);
    shape.number("txErrors", interface.tx_errors);
}

/// Space on the node's disk, of which one owner uses `(bytes, inodes)`.
fn describe_disk(shape: &mut impl Shape, key: &str, at: i64, node: &Node, used: (u64, u64)) {
    shape.object(key);
    describe_space(shape, at, (node.disk_available_bytes(), node.disk_bytes), used);
    shape.close();
}

fn describe_space(
    shape: &mut impl Shape,
    at: i64,
    (available, capacity): (u64, u64),
    (used, inodes_used): (u64, u64),
) {
    shape.time("time", at);
    shape.number("availableBytes", available);
    shape.number("capacityBytes", capacity);
    shape.number("usedBytes", used);
    shape.number("inodesFree", INODES.saturating_sub(319_790));
    shape.number("inodes", INODES);
    shape.number("inodesUsed", inodes_used);
}

/// Nobody swaps; `available` is what containers and nodes also tell.
fn describe_swap(shape: &mut impl Shape, at: i64, available: Option<u64>) {
    shape.object("swap");
    shape.time("time", at);
    if let Some(bytes) = available {
        shape.number("swapAvailableBytes", bytes);
    }
    shape.number("swapUsageBytes", 0);
    shape.close();
}
