//! [`HostCluster`]: this machine as the one node of a cluster, for the processors that ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use heapster_core::Text;
use heapster_core::cluster::{
    CPU, ClusterView, EPHEMERAL_STORAGE, MEMORY, Namespace, Node, Pod, Resources,
};
use parking_lot::RwLock;

use super::lines::lines;
use super::root::{Buffer, Root};

/// A cluster of one node: this machine, with its processors, memory and root file system as
/// capacity. All of it is allocatable, for nothing is set aside.
///
/// The capacity follows the machine: every scrape renews it.
#[derive(Debug)]
pub struct HostCluster {
    node: RwLock<Arc<Node>>,
}

impl HostCluster {
    pub(super) fn new(name: Text, labels: BTreeMap<Text, Text>) -> Self {
        let node = Node { name, labels, ..Node::default() };
        Self { node: RwLock::new(Arc::new(node)) }
    }

    /// Takes over what a scrape saw; what it did not see stays as it was.
    pub(super) fn update(&self, seen: Capacity) {
        let mut node = self.node.write();
        let mut capacity = node.capacity.clone();
        seen.add_to(&mut capacity);
        if capacity != node.capacity {
            let allocatable = capacity.clone();
            *node = Arc::new(Node { capacity, allocatable, ..(**node).clone() });
        }
    }
}

/// Sizes of the machine, as far as known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Capacity {
    pub cpu_millicores: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub storage_bytes: Option<i64>,
}

impl Capacity {
    fn add_to(self, resources: &mut Resources) {
        for (resource, amount) in [
            (CPU, self.cpu_millicores),
            (MEMORY, self.memory_bytes),
            (EPHEMERAL_STORAGE, self.storage_bytes),
        ] {
            if let Some(amount) = amount {
                resources.insert(Text::from_static(resource), amount);
            }
        }
    }
}

impl ClusterView for HostCluster {
    fn nodes(&self) -> Vec<Arc<Node>> {
        vec![Arc::clone(&self.node.read())]
    }

    fn pod(&self, _namespace: &str, _name: &str) -> Option<Arc<Pod>> {
        None
    }

    fn namespace(&self, _name: &str) -> Option<Arc<Namespace>> {
        None
    }
}

/// A longer value is no version or name, whatever the file says.
const LABEL_BYTES_MAX: usize = 253;

/// The labels Kubernetes would give the node, and its kernel and distribution.
pub(super) fn node_labels(
    root: &Root,
    hostname: &str,
    buffer: &mut Buffer,
) -> BTreeMap<Text, Text> {
    let mut labels = BTreeMap::new();
    let mut set = |name: &'static str, value: &str| {
        // The label copier joins labels with commas.
        let is_usable = !value.is_empty() && !value.contains([',', '\n']);
        if is_usable && value.len() <= LABEL_BYTES_MAX {
            labels.insert(Text::from_static(name), Text::from(value));
        }
    };
    let arch = read_line(root, "proc/sys/kernel/arch", buffer)
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    set("kubernetes.io/arch", go_arch(&arch));
    set("kubernetes.io/hostname", hostname);
    set("kubernetes.io/os", "linux");
    set(
        "kernel-version",
        &read_line(root, "proc/sys/kernel/osrelease", buffer).unwrap_or_default(),
    );
    set("os-image", &os_image(root, buffer).unwrap_or_default());
    labels
}

/// The first line of a small file, without blanks around it; `None` when there is none.
pub(super) fn read_line(root: &Root, path: &str, buffer: &mut Buffer) -> Option<String> {
    let bytes = root.read(path, buffer).ok()?;
    let line = std::str::from_utf8(lines(bytes).next()?).ok()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn go_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i486" | "i586" | "i686" => "386",
        other => other,
    }
}

/// `debian-12` of `ID=debian` and `VERSION_ID="12"`.
fn os_image(root: &Root, buffer: &mut Buffer) -> Option<String> {
    let bytes = root.read("etc/os-release", buffer).ok()?;
    let text = String::from_utf8_lossy(bytes);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']))
    };
    let id = value("ID")?;
    Some(value("VERSION_ID").map_or_else(|| id.to_owned(), |version| format!("{id}-{version}")))
}
