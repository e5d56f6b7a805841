//! The metric catalogue: every metric and label Heapster defines, with unit, kind and description.
//!
//! Names, order and wording are those of the original Heapster; the export
//! schema prints them as they stand here.

use std::fmt;

use crate::labels::key;
use crate::value::MetricKind;

/// The unit of a metric, as the export schema spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things; spelled as the empty text.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Nanoseconds.
    Nanoseconds,
    /// Thousandths of a core.
    Millicores,
}

impl Unit {
    /// The word on the wire: ``, `bytes`, `ms`, `ns` or `millicores`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Bytes => "bytes",
            Self::Milliseconds => "ms",
            Self::Nanoseconds => "ns",
            Self::Millicores => "millicores",
        }
    }
}

/// Whether a metric's values are integers or floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// Exact 64-bit integers.
    Int64,
    /// 64-bit floats.
    Double,
}

impl ValueType {
    /// The word on the wire: `int64` or `double`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int64 => "int64",
            Self::Double => "double",
        }
    }
}

/// What is known about a metric before any value is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDescriptor {
    /// The name, such as `cpu/usage_rate`.
    pub name: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// How the metric behaves over time. The emitted value may say otherwise for `disk/io_*` and
    /// `restart_count`, which the original emits as gauges; see decision 0004.
    pub kind: MetricKind,
    /// Integer or float.
    pub value_type: ValueType,
    /// The unit.
    pub unit: Unit,
    /// Names of the labels a labelled metric carries of its own; empty for plain metrics.
    pub labels: &'static [&'static str],
}

impl MetricDescriptor {
    /// The unit of the values: [`Self::unit`], or what the description says where the schema of the
    /// original has none.
    pub fn unit_of_values(&self) -> &'static str {
        match self.name {
            metric::CPU_USAGE_RATE
            | metric::CPU_REQUEST
            | metric::CPU_LIMIT
            | metric::CPU_NODE_CAPACITY
            | metric::CPU_NODE_ALLOCATABLE => Unit::Millicores.as_str(),
            metric::NETWORK_RX_RATE
            | metric::NETWORK_TX_RATE
            | metric::DISK_IO_READ_BYTES_RATE
            | metric::DISK_IO_WRITE_BYTES_RATE => "bytes/s",
            metric::CPU_NODE_UTILIZATION
            | metric::CPU_NODE_RESERVATION
            | metric::MEMORY_NODE_UTILIZATION
            | metric::MEMORY_NODE_RESERVATION
            | metric::EPHEMERAL_STORAGE_NODE_UTILIZATION
            | metric::EPHEMERAL_STORAGE_NODE_RESERVATION => "ratio",
            metric::MEMORY_NODE_CAPACITY
            | metric::MEMORY_NODE_ALLOCATABLE
            | metric::EPHEMERAL_STORAGE_NODE_CAPACITY
            | metric::EPHEMERAL_STORAGE_NODE_ALLOCATABLE => Bytes.as_str(),
            _ => self.unit.as_str(),
        }
    }
}

/// A label and what it means, as the export schema prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelDescriptor {
    /// The label's name.
    pub key: &'static str,
    /// One line for people.
    pub description: &'static str,
}

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        /// Names of the catalogue's metrics.
        pub mod metric {
            $($(#[$doc])* #[doc = concat!("`", $name, "`")] pub const $constant: &str = $name;)*
        }
    };
}

names! {
    UPTIME = "uptime";
    CPU_USAGE = "cpu/usage";
    CPU_LOAD = "cpu/load";
    EPHEMERAL_STORAGE_USAGE = "ephemeral_storage/usage";
    MEMORY_USAGE = "memory/usage";
    MEMORY_RSS = "memory/rss";
    MEMORY_CACHE = "memory/cache";
    MEMORY_WORKING_SET = "memory/working_set";
    /// Bytes of swap in use. The original knew no swap, so the tables leave it out.
    MEMORY_SWAP = "memory/swap";
    MEMORY_PAGE_FAULTS = "memory/page_faults";
    MEMORY_MAJOR_PAGE_FAULTS = "memory/major_page_faults";
    NETWORK_RX = "network/rx";
    NETWORK_RX_ERRORS = "network/rx_errors";
    NETWORK_TX = "network/tx";
    NETWORK_TX_ERRORS = "network/tx_errors";
    CPU_REQUEST = "cpu/request";
    CPU_LIMIT = "cpu/limit";
    MEMORY_REQUEST = "memory/request";
    MEMORY_LIMIT = "memory/limit";
    EPHEMERAL_STORAGE_REQUEST = "ephemeral_storage/request";
    EPHEMERAL_STORAGE_LIMIT = "ephemeral_storage/limit";
    CPU_USAGE_RATE = "cpu/usage_rate";
    MEMORY_PAGE_FAULTS_RATE = "memory/page_faults_rate";
    MEMORY_MAJOR_PAGE_FAULTS_RATE = "memory/major_page_faults_rate";
    NETWORK_RX_RATE = "network/rx_rate";
    NETWORK_RX_ERRORS_RATE = "network/rx_errors_rate";
    NETWORK_TX_RATE = "network/tx_rate";
    NETWORK_TX_ERRORS_RATE = "network/tx_errors_rate";
    DISK_IO_READ_BYTES = "disk/io_read_bytes";
    DISK_IO_READ_BYTES_RATE = "disk/io_read_bytes_rate";
    DISK_IO_WRITE_BYTES = "disk/io_write_bytes";
    DISK_IO_WRITE_BYTES_RATE = "disk/io_write_bytes_rate";
    FILESYSTEM_USAGE = "filesystem/usage";
    FILESYSTEM_LIMIT = "filesystem/limit";
    FILESYSTEM_AVAILABLE = "filesystem/available";
    FILESYSTEM_INODES = "filesystem/inodes";
    FILESYSTEM_INODES_FREE = "filesystem/inodes_free";
    ACCELERATOR_MEMORY_TOTAL = "accelerator/memory_total";
    ACCELERATOR_MEMORY_USED = "accelerator/memory_used";
    ACCELERATOR_DUTY_CYCLE = "accelerator/duty_cycle";
    CPU_NODE_CAPACITY = "cpu/node_capacity";
    CPU_NODE_ALLOCATABLE = "cpu/node_allocatable";
    CPU_NODE_UTILIZATION = "cpu/node_utilization";
    CPU_NODE_RESERVATION = "cpu/node_reservation";
    MEMORY_NODE_CAPACITY = "memory/node_capacity";
    MEMORY_NODE_ALLOCATABLE = "memory/node_allocatable";
    MEMORY_NODE_UTILIZATION = "memory/node_utilization";
    MEMORY_NODE_RESERVATION = "memory/node_reservation";
    EPHEMERAL_STORAGE_NODE_CAPACITY = "ephemeral_storage/node_capacity";
    EPHEMERAL_STORAGE_NODE_ALLOCATABLE = "ephemeral_storage/node_allocatable";
    EPHEMERAL_STORAGE_NODE_UTILIZATION = "ephemeral_storage/node_utilization";
    EPHEMERAL_STORAGE_NODE_RESERVATION = "ephemeral_storage/node_reservation";
    RESTART_COUNT = "restart_count";
}

/// Name of the metric for a user-defined metric of that name.
pub fn custom_metric_name(name: &str) -> String {
    format!("custom/{name}")
}

use MetricKind::{Cumulative as C, Gauge as G};
use Unit::{Bytes, Count, Milliseconds, Nanoseconds};
use ValueType::{Double, Int64};

const fn plain(
    name: &'static str,
    kind: MetricKind,
    value_type: ValueType,
    unit: Unit,
    description: &'static str,
) -> MetricDescriptor {
    MetricDescriptor { name, description, kind, value_type, unit, labels: &[] }
}

const fn labeled(
    name: &'static str,
    kind: MetricKind,
    value_type: ValueType,
    unit: Unit,
    labels: &'static [&'static str],
    description: &'static str,
) -> MetricDescriptor {
    MetricDescriptor { name, description, kind, value_type, unit, labels }
}

const RESOURCE: &[&str] = &[key::RESOURCE_ID];
const ACCELERATOR: &[&str] = &[key::MAKE, key::MODEL, key::ACCELERATOR_ID];

/// Metrics read from the kubelet, in export order.
pub const STANDARD: [MetricDescriptor; 14] = [
    plain(
        metric::UPTIME,
        C,
        Int64,
        Milliseconds,
        "Number of milliseconds since the container was started",
    ),
    plain(metric::CPU_USAGE, C, Int64, Nanoseconds, "Cumulative CPU usage on all cores"),
    plain(metric::CPU_LOAD, G, Int64, Count, "CPU load"),
    plain(metric::EPHEMERAL_STORAGE_USAGE, G, Int64, Bytes, "Ephemeral storage usage"),
    plain(metric::MEMORY_USAGE, G, Int64, Bytes, "Total memory usage"),
    plain(metric::MEMORY_RSS, G, Int64, Bytes, "RSS memory"),
    plain(metric::MEMORY_CACHE, G, Int64, Bytes, "Cache memory"),
    plain(
        metric::MEMORY_WORKING_SET,
        G,
        Int64,
        Bytes,
        "Total working set usage. Working set is the memory being used and not easily dropped by the kernel",
    ),
    plain(metric::MEMORY_PAGE_FAULTS, C, Int64, Count, "Number of page faults"),
    plain(metric::MEMORY_MAJOR_PAGE_FAULTS, C, Int64, Count, "Number of major page faults"),
    plain(
        metric::NETWORK_RX,
        C,
        Int64,
        Bytes,
        "Cumulative number of bytes received over the network",
    ),
    plain(
        metric::NETWORK_RX_ERRORS,
        C,
        Int64,
        Count,
        "Cumulative number of errors while receiving over the network",
    ),
    plain(metric::NETWORK_TX, C, Int64, Bytes, "Cumulative number of bytes sent over the network"),
    plain(
        metric::NETWORK_TX_ERRORS,
        C,
        Int64,
        Count,
        "Cumulative number of errors while sending over the network",
    ),
];

/// Metrics known from the Kubernetes API rather than measured.
pub const ADDITIONAL: [MetricDescriptor; 6] = [
    plain(
        metric::CPU_REQUEST,
        G,
        Int64,
        Count,
        "CPU request (the guaranteed amount of resources) in millicores. This metric is Kubernetes specific.",
    ),
    plain(metric::CPU_LIMIT, G, Int64, Count, "CPU hard limit in millicores."),
    plain(
        metric::MEMORY_REQUEST,
        G,
        Int64,
        Bytes,
        "Memory request (the guaranteed amount of resources) in bytes. This metric is Kubernetes specific.",
    ),
    plain(metric::MEMORY_LIMIT, G, Int64, Bytes, "Memory hard limit in bytes."),
    plain(
        metric::EPHEMERAL_STORAGE_REQUEST,
        G,
        Int64,
        Bytes,
        "ephemeral storage request (the guaranteed amount of resources) in bytes. This metric is Kubernetes specific.",
    ),
    plain(
        metric::EPHEMERAL_STORAGE_LIMIT,
        G,
        Int64,
        Bytes,
        "ephemeral storage hard limit in bytes.",
    ),
];

/// Metrics the rate calculator derives.
pub const RATE: [MetricDescriptor; 9] = [
    plain(metric::CPU_USAGE_RATE, G, Int64, Count, "CPU usage on all cores in millicores"),
    plain(
        metric::MEMORY_PAGE_FAULTS_RATE,
        G,
        Double,
        Count,
        "Rate of page faults in counts per second",
    ),
    plain(
        metric::MEMORY_MAJOR_PAGE_FAULTS_RATE,
        G,
        Double,
        Count,
        "Rate of major page faults in counts per second",
    ),
    plain(
        metric::NETWORK_RX_RATE,
        G,
        Double,
        Count,
        "Rate of bytes received over the network in bytes per second",
    ),
    plain(
        metric::NETWORK_RX_ERRORS_RATE,
        G,
        Double,
        Count,
        "Rate of errors sending over the network in errors per second",
    ),
    plain(
        metric::NETWORK_TX_RATE,
        G,
        Double,
        Count,
        "Rate of bytes transmitted over the network in bytes per second",
    ),
    plain(
        metric::NETWORK_TX_ERRORS_RATE,
        G,
        Double,
        Count,
        "Rate of errors transmitting over the network in errors per second",
    ),
    LABELED[1],
    LABELED[3],
];

/// Metrics with labels of their own.
pub const LABELED: [MetricDescriptor; 12] = [
    labeled(
        metric::DISK_IO_READ_BYTES,
        C,
        Int64,
        Bytes,
        RESOURCE,
        "Cumulative number of bytes read over disk",
    ),
    labeled(
        metric::DISK_IO_READ_BYTES_RATE,
        G,
        Double,
        Count,
        RESOURCE,
        "Rate of bytes read over disk in bytes per second",
    ),
    labeled(
        metric::DISK_IO_WRITE_BYTES,
        C,
        Int64,
        Bytes,
        RESOURCE,
        "Cumulative number of bytes write over disk",
    ),
    labeled(
        metric::DISK_IO_WRITE_BYTES_RATE,
        G,
        Double,
        Count,
        RESOURCE,
        "Rate of bytes written over disk in bytes per second",
    ),
    labeled(
        metric::FILESYSTEM_USAGE,
        G,
        Int64,
        Bytes,
        RESOURCE,
        "Total number of bytes consumed on a filesystem",
    ),
    labeled(
        metric::FILESYSTEM_LIMIT,
        G,
        Int64,
        Bytes,
        RESOURCE,
        "The total size of filesystem in bytes",
    ),
    labeled(
        metric::FILESYSTEM_AVAILABLE,
        G,
        Int64,
        Bytes,
        RESOURCE,
        "The number of available bytes remaining in a the filesystem",
    ),
    labeled(
        metric::FILESYSTEM_INODES,
        G,
        Int64,
        Bytes,
        RESOURCE,
        "Total number of inodes on a filesystem",
    ),
    labeled(
        metric::FILESYSTEM_INODES_FREE,
        G,
        Int64,
        Bytes,
        RESOURCE,
        "Free number of inodes on a filesystem",
    ),
    labeled(
        metric::ACCELERATOR_MEMORY_TOTAL,
        G,
        Int64,
        Bytes,
        ACCELERATOR,
        "Total accelerator memory (in bytes)",
    ),
    labeled(
        metric::ACCELERATOR_MEMORY_USED,
        G,
        Int64,
        Bytes,
        ACCELERATOR,
        "Total accelerator memory allocated (in bytes)",
    ),
    labeled(
        metric::ACCELERATOR_DUTY_CYCLE,
        G,
        Int64,
        Count,
        ACCELERATOR,
        "Percent of time over the past sample period (10s) during which the accelerator was actively processing",
    ),
];

/// Metrics that only node sets have: capacity, and shares of it.
pub const NODE_AUTOSCALING: [MetricDescriptor; 12] = [
    plain(metric::CPU_NODE_CAPACITY, G, Double, Count, "Cpu capacity of a node"),
    plain(metric::MEMORY_NODE_CAPACITY, G, Double, Count, "Memory capacity of a node"),
    plain(
        metric::EPHEMERAL_STORAGE_NODE_CAPACITY,
        G,
        Double,
        Count,
        "Ephemeral storage capacity of a node",
    ),
    plain(metric::CPU_NODE_ALLOCATABLE, G, Double, Count, "Cpu allocatable of a node"),
    plain(metric::MEMORY_NODE_ALLOCATABLE, G, Double, Count, "Memory allocatable of a node"),
    plain(
        metric::EPHEMERAL_STORAGE_NODE_ALLOCATABLE,
        G,
        Double,
        Count,
        "Ephemeral storage allocatable of a node",
    ),
    plain(
        metric::CPU_NODE_UTILIZATION,
        G,
        Double,
        Count,
        "Cpu utilization as a share of node capacity",
    ),
    plain(
        metric::MEMORY_NODE_UTILIZATION,
        G,
        Double,
        Count,
        "Memory utilization as a share of memory capacity",
    ),
    plain(
        metric::EPHEMERAL_STORAGE_NODE_UTILIZATION,
        G,
        Double,
        Count,
        "Ephemeral storage utilization as a share of storage capacity",
    ),
    plain(
        metric::CPU_NODE_RESERVATION,
        G,
        Double,
        Count,
        "Share of cpu that is reserved on the node",
    ),
    plain(
        metric::MEMORY_NODE_RESERVATION,
        G,
        Double,
        Count,
        "Share of memory that is reserved on the node",
    ),
    plain(
        metric::EPHEMERAL_STORAGE_NODE_RESERVATION,
        G,
        Double,
        Count,
        "Share of ephemeral storage that is reserved on the node",
    ),
];

/// Restarts of a container. Outside the original's lists, and emitted as a gauge.
pub const RESTART_COUNT: MetricDescriptor =
    plain(metric::RESTART_COUNT, C, Int64, Count, "Number of container restarts");

/// Every metric, group after group in the original's order; the two disk rates appear twice, as a
/// rate and as a labelled metric.
pub fn all() -> impl Iterator<Item = &'static MetricDescriptor> {
    const GROUPS: [&[MetricDescriptor]; 5] =
        [&STANDARD, &ADDITIONAL, &RATE, &LABELED, &NODE_AUTOSCALING];
    GROUPS.into_iter().flatten()
}

/// The descriptor of a metric, if the catalogue has it.
pub fn find(name: &str) -> Option<&'static MetricDescriptor> {
    static RESTARTS: MetricDescriptor = RESTART_COUNT;
    all()
        .find(|descriptor| descriptor.name == name)
        .or((name == RESTARTS.name).then_some(&RESTARTS))
}

/// Each cumulative metric that has a rate, and the name of its rate.
pub const RATE_OF: [(&str, &str); 9] = [
    (metric::CPU_USAGE, metric::CPU_USAGE_RATE),
    (metric::MEMORY_PAGE_FAULTS, metric::MEMORY_PAGE_FAULTS_RATE),
    (metric::MEMORY_MAJOR_PAGE_FAULTS, metric::MEMORY_MAJOR_PAGE_FAULTS_RATE),
    (metric::NETWORK_RX, metric::NETWORK_RX_RATE),
    (metric::NETWORK_RX_ERRORS, metric::NETWORK_RX_ERRORS_RATE),
    (metric::NETWORK_TX, metric::NETWORK_TX_RATE),
    (metric::NETWORK_TX_ERRORS, metric::NETWORK_TX_ERRORS_RATE),
    (metric::DISK_IO_READ_BYTES, metric::DISK_IO_READ_BYTES_RATE),
    (metric::DISK_IO_WRITE_BYTES, metric::DISK_IO_WRITE_BYTES_RATE),
];

const fn label(key: &'static str, description: &'static str) -> LabelDescriptor {
    LabelDescriptor { key, description }
}

/// Every label of the model.
pub const LABELS: [LabelDescriptor; 16] = [
    label(key::TYPE, "Type of the metrics set (container, pod, namespace, node, cluster)"),
    label(key::NODENAME, "nodename where the container ran"),
    label(key::HOSTNAME, "Hostname where the container ran"),
    label(key::HOST_ID, "Identifier specific to a host. Set by cloud provider or user"),
    label(
        key::CONTAINER_NAME,
        "User-provided name of the container or full container name for system containers",
    ),
    label(key::CONTAINER_BASE_IMAGE, "User-defined image name that is run inside the container"),
    label(key::POD_NAME, "The name of the pod"),
    label(key::POD_ID, "The unique ID of the pod"),
    label(key::NAMESPACE_ID, "The UID of namespace of the pod"),
    label(key::LABELS, "Comma-separated list of user-provided labels"),
    label(key::NAMESPACE_NAME, "The name of the namespace"),
    label(key::RESOURCE_ID, "Identifier(s) specific to a metric"),
    label(key::MAKE, "Make of the accelerator (nvidia, amd, google etc.)"),
    label(key::MODEL, "Model of the accelerator (tesla-p100, tesla-k80 etc.)"),
    label(key::ACCELERATOR_ID, "ID of the accelerator"),
    label(key::SCHEDULABLE, "Node schedulable status."),
];

/// Labels every exported set has, then those of its container: the schema's `common_labels`.
pub const COMMON_LABELS: &[LabelDescriptor] =
    &[LABELS[1], LABELS[2], LABELS[3], LABELS[4], LABELS[5]];

/// Labels of exported pods: the schema's `pod_labels`.
pub const POD_LABELS: &[LabelDescriptor] = &[LABELS[6], LABELS[7], LABELS[8], LABELS[9]];

/// The descriptor of a label, if the catalogue has it.
pub fn find_label(key: &str) -> Option<&'static LabelDescriptor> {
    static TABLE: [LabelDescriptor; 16] = LABELS;
    TABLE.iter().find(|descriptor| descriptor.key == key)
}

/// `name (kind, type, unit)`.
impl fmt::Display for MetricDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.kind, self.value_type.as_str())?;
        match self.unit {
            Count => f.write_str(")"),
            unit => write!(f, ", {})", unit.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_has_every_metric_of_the_original() {
        assert_eq!(all().count(), 14 + 6 + 9 + 12 + 12);
        for (counter, rate) in RATE_OF {
            assert_eq!(find(counter).unwrap().kind, C);
            assert_eq!(find(rate).unwrap().kind, G);
        }
        assert!(find(metric::RESTART_COUNT).is_some());
        assert!(find("no/such").is_none());
    }

    #[test]
    fn values_have_the_unit_that_their_name_or_description_tells() {
        for metric in all().filter(|metric| metric.unit == Count) {
            let unit = match (metric.name, metric.description) {
                (metric::CPU_NODE_CAPACITY | metric::CPU_NODE_ALLOCATABLE, _) => "millicores",
                (_, text) if text.contains("in millicores") => "millicores",
                (_, text) if text.contains("in bytes per second") => "bytes/s",
                (_, text) if text.to_lowercase().contains("share of") => "ratio",
                (name, _) if name.contains("/node_") => "bytes",
                _ => "",
            };
            assert_eq!(metric.unit_of_values(), unit, "{}", metric.name);
        }
        assert_eq!(find(metric::MEMORY_USAGE).unwrap().unit_of_values(), "bytes");
    }
}
