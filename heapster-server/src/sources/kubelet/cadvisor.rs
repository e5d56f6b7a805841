//! Decodes the answer of old kubelets to `POST /stats/container/`: a list of cAdvisor containers.
//!
//! Also holds the request's body, since the two belong to one format.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use heapster_core::catalogue::{custom_metric_name, metric};
use heapster_core::pipeline::{Interval, Scrape};
use heapster_core::{EntityKey, Labels, MetricKind, MetricSet, MetricValue, NanoTime, Text, key};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::answer::{Answer, SetBuilder, resource};
use super::lenient::{Key, Last, Lenient, List, json_objects};
use super::{DecodeError, NodeInfo};

/// Name of the pause container, whose numbers are the pod's.
const PAUSE_CONTAINER: &str = "POD";

/// The request for every container of the node in an interval.
pub fn request_body(interval: Interval) -> String {
    format!(
        r#"{{"containerName":"/","num_stats":1,"start":"{}","end":"{}","subcontainers":true}}"#,
        interval.start, interval.end
    )
}

/// Whether the node takes new pods: the value of its label `schedulable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedulable {
    /// It does.
    Yes,
    /// It is cordoned.
    No,
}

/// Turns the body of the answer into one set each for the node, its system containers, its pods
/// (from their pause containers) and their containers.
///
/// `now` is the wall clock; it only serves `uptime`. Only the newest statistics of a container
/// count; a container without any gives no set. A container or number that is not usable is named
/// in [`Scrape::rejects`] and the rest is kept. Each key occurs once: of two containers with one
/// key the one that started later is kept, the later listed one when they started together.
///
/// # Errors
/// [`DecodeError`] when the body is not JSON to its end or holds no container.
pub fn decode(
    body: &[u8],
    node: &NodeInfo,
    schedulable: Schedulable,
    now: NanoTime,
) -> Result<Scrape, DecodeError> {
    let text = String::from_utf8_lossy(body);
    let mut decoder = Decoder { answer: Answer::new(node, now), schedulable, seen: 0 };
    let mut reader = serde_json::Deserializer::from_str(&text);
    ContainersSeed(&mut decoder).deserialize(&mut reader)?;
    reader.end()?;
    if decoder.seen == 0 {
        return Err(DecodeError::Shape { expected: "a list of cAdvisor containers" });
    }
    Ok(decoder.answer.finish())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container<'a> {
    #[serde(borrow)]
    name: Lenient<Cow<'a, str>>,
    aliases: Lenient<List<Cow<'a, str>>>,
    spec: Lenient<Spec<'a>>,
    stats: Lenient<Last<Stats<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec<'a> {
    #[serde(borrow)]
    creation_time: Lenient<Cow<'a, str>>,
    labels: Lenient<BTreeMap<Cow<'a, str>, Lenient<Cow<'a, str>>>>,
    image: Lenient<Cow<'a, str>>,
    has_cpu: Lenient<bool>,
    has_memory: Lenient<bool>,
    has_network: Lenient<bool>,
    has_filesystem: Lenient<bool>,
    has_diskio: Lenient<bool>,
    has_custom_metrics: Lenient<bool>,
    custom_metrics: Lenient<List<CustomSpec<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CustomSpec<'a> {
    #[serde(borrow)]
    name: Lenient<Cow<'a, str>>,
    #[serde(rename = "type")]
    kind: Lenient<Cow<'a, str>>,
    format: Lenient<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stats<'a> {
    #[serde(borrow)]
    timestamp: Lenient<Cow<'a, str>>,
    cpu: Lenient<Cpu>,
    memory: Lenient<Memory>,
    network: Lenient<Network>,
    filesystem: Lenient<List<FileSystem<'a>>>,
    diskio: Lenient<DiskIo<'a>>,
    accelerators: Lenient<List<Accelerator<'a>>>,
    custom_metrics: Lenient<BTreeMap<Cow<'a, str>, Lenient<List<CustomSample<'a>>>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cpu {
    usage: Lenient<CpuUsage>,
    load_average: Lenient<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    total: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Memory {
    usage: Lenient<u64>,
    cache: Lenient<u64>,
    rss: Lenient<u64>,
    working_set: Lenient<u64>,
    container_data: Lenient<Faults>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Faults {
    pgfault: Lenient<u64>,
    pgmajfault: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    interfaces: Lenient<List<Interface>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interface {
    rx_bytes: Lenient<u64>,
    rx_errors: Lenient<u64>,
    tx_bytes: Lenient<u64>,
    tx_errors: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileSystem<'a> {
    #[serde(borrow)]
    device: Lenient<Cow<'a, str>>,
    capacity: Lenient<u64>,
    usage: Lenient<u64>,
    available: Lenient<u64>,
    has_inodes: Lenient<bool>,
    inodes: Lenient<u64>,
    inodes_free: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DiskIo<'a> {
    #[serde(borrow)]
    io_service_bytes: Lenient<List<Disk<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Disk<'a> {
    #[serde(borrow)]
    device: Lenient<Cow<'a, str>>,
    major: Lenient<u64>,
    minor: Lenient<u64>,
    stats: Lenient<DiskBytes>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DiskBytes {
    read: Lenient<u64>,
    write: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Accelerator<'a> {
    #[serde(borrow)]
    make: Lenient<Cow<'a, str>>,
    model: Lenient<Cow<'a, str>>,
    id: Lenient<Cow<'a, str>>,
    memory_total: Lenient<u64>,
    memory_used: Lenient<u64>,
    duty_cycle: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CustomSample<'a> {
    #[serde(borrow)]
    timestamp: Lenient<Cow<'a, str>>,
    int_value: Lenient<i64>,
    float_value: Lenient<f64>,
}

json_objects!(
    Container<'a>,
    Spec<'a>,
    CustomSpec<'a>,
    Stats<'a>,
    Cpu,
    CpuUsage,
    Memory,
    Faults,
    Network,
    Interface,
    FileSystem<'a>,
    DiskIo<'a>,
    Disk<'a>,
    DiskBytes,
    Accelerator<'a>,
    CustomSample<'a>,
);

/// What a container is, by its name and labels.
enum Identity<'c> {
    Node,
    System { container: &'c str },
    Pod { namespace: &'c str, pod: &'c str },
    PodContainer { namespace: &'c str, pod: &'c str, container: &'c str },
}

impl<'c> Identity<'c> {
    /// `labels` are the container's; `name` is its first alias or else its cgroup.
    fn of(
        name: &'c str,
        labels: &'c Lenient<BTreeMap<Cow<'_, str>, Lenient<Cow<'_, str>>>>,
    ) -> Self {
        if name == "/" {
            return Self::Node;
        }
        let mut namespace = label(labels, "io.kubernetes.pod.namespace");
        let mut pod = label(labels, "io.kubernetes.pod.name");
        let mut container = label(labels, "io.kubernetes.container.name");
        // Kubernetes 1.0 put the namespace into the pod's name,
        if namespace.is_empty()
            && let Some((before, after)) = pod.split_once('/')
        {
            (namespace, pod) = (before, after);
        }
        // and the container's name into the one it has in Docker: `k8s_NAME.HASH_…`.
        if container.is_empty()
            && let Some(dot) = name.find('.')
        {
            container = name.get(4..dot).unwrap_or("");
        }
        if namespace.is_empty() || pod.is_empty() || container.is_empty() {
            return Self::System { container: name.strip_prefix('/').unwrap_or(name) };
        }
        match container {
            PAUSE_CONTAINER => Self::Pod { namespace, pod },
            _ => Self::PodContainer { namespace, pod, container },
        }
    }
}

fn label<'c>(
    labels: &'c Lenient<BTreeMap<Cow<'_, str>, Lenient<Cow<'_, str>>>>,
    name: &str,
) -> &'c str {
    labels.given().and_then(|labels| labels.get(name)).map_or("", Lenient::text)
}

/// Turns containers into sets of the answer.
struct Decoder<'n> {
    answer: Answer<'n>,
    schedulable: Schedulable,
    seen: usize,
}

impl Decoder<'_> {
    fn container(&mut self, cgroup: &str, container: &Lenient<Container<'_>>) {
        self.seen += 1;
        let Some(container) = container.given() else {
            return self.answer.rejects.push(format_args!("container {cgroup:?} is not an object"));
        };
        let stats = match &container.stats {
            // A container that is just starting or has ended.
            Lenient::Absent | Lenient::Given(Last(None)) => return,
            Lenient::Given(Last(Some(stats))) => stats.given(),
            Lenient::Bad => None,
        };
        let (Some(spec), Some(stats)) = (container.spec.given(), stats) else {
            let line = format_args!("container {cgroup:?} has no usable spec or statistics");
            return self.answer.rejects.push(line);
        };
        let alias = container.aliases.elements().first().and_then(Lenient::name);
        let Some(name) = alias.or_else(|| container.name.name()) else {
            return self
                .answer
                .rejects
                .push(format_args!("container {cgroup:?} has no usable name"));
        };

        let mut labels = self.answer.node_labels.clone();
        let key = match Identity::of(name, &spec.labels) {
            Identity::Node => {
                let schedulable = match self.schedulable {
                    Schedulable::Yes => "true",
                    Schedulable::No => "false",
                };
                labels.set_static(key::SCHEDULABLE, Text::from_static(schedulable));
                EntityKey::Node(self.answer.nodename())
            }
            Identity::System { container } => {
                labels.set_static(key::CONTAINER_NAME, container);
                EntityKey::system_container(self.answer.nodename(), container)
            }
            Identity::Pod { namespace, pod } => {
                pod_labels(&mut labels, namespace, pod, spec);
                EntityKey::pod(namespace, pod)
            }
            Identity::PodContainer { namespace, pod, container } => {
                pod_labels(&mut labels, namespace, pod, spec);
                labels.set_static(key::CONTAINER_NAME, container);
                labels.set_static(key::CONTAINER_BASE_IMAGE, spec.image.text());
                EntityKey::pod_container(namespace, pod, container)
            }
        };
        let set = self.set(&key, &labels, spec, stats);
        self.answer.put_newer(key, set);
    }

    fn set(
        &mut self,
        key: &EntityKey,
        labels: &Labels,
        spec: &Spec<'_>,
        stats: &Stats<'_>,
    ) -> MetricSet {
        let mut set = self.answer.begin(key, labels);
        set.start("creation_time", &spec.creation_time);
        set.set.scrape_time = set.time("timestamp", &stats.timestamp);
        if is_set(&spec.has_cpu) {
            cpu(&mut set, &stats.cpu);
        }
        if is_set(&spec.has_memory) {
            memory(&mut set, &stats.memory);
        }
        if is_set(&spec.has_network) {
            interfaces(&mut set, &stats.network);
        }
        if is_set(&spec.has_diskio) {
            disks(&mut set, &stats.diskio);
        }
        if is_set(&spec.has_filesystem) {
            file_systems(&mut set, &stats.filesystem);
        }
        accelerators(&mut set, &stats.accelerators);
        if is_set(&spec.has_custom_metrics) {
            for custom in spec.custom_metrics.elements() {
                custom_metric(&mut set, custom, stats);
            }
        }
        set.finish()
    }
}

fn pod_labels(labels: &mut Labels, namespace: &str, pod: &str, spec: &Spec<'_>) {
    labels.set_static(key::NAMESPACE_NAME, namespace);
    labels.set_static(key::POD_NAME, pod);
    labels.set_static(key::POD_ID, label(&spec.labels, "io.kubernetes.pod.uid"));
}

fn is_set(flag: &Lenient<bool>) -> bool {
    flag.given().copied().unwrap_or(false)
}

/// cAdvisor's numbers are plain ones: a missing one is zero, as long as its group is announced.
fn or_zero(number: &Lenient<u64>) -> Lenient<u64> {
    match number {
        Lenient::Absent => Lenient::Given(0),
        Lenient::Given(value) => Lenient::Given(*value),
        Lenient::Bad => Lenient::Bad,
    }
}

fn cpu(set: &mut SetBuilder<'_>, cpu: &Lenient<Cpu>) {
    let absent = Cpu::default();
    let cpu = set.group("cpu", cpu).unwrap_or(&absent);
    let usage = set.group("cpu.usage", &cpu.usage);
    set.counter(metric::CPU_USAGE, &usage.map_or(Lenient::Given(0), |usage| or_zero(&usage.total)));
    match cpu.load_average {
        Lenient::Bad => set.reject("cpu/load is not a whole number"),
        Lenient::Absent => set.gauge(metric::CPU_LOAD, &Lenient::Given(0)),
        Lenient::Given(load) => {
            set.set.metrics.set_static(metric::CPU_LOAD, MetricValue::gauge(load));
        }
    }
}

fn memory(set: &mut SetBuilder<'_>, memory: &Lenient<Memory>) {
    let absent = Memory::default();
    let memory = set.group("memory", memory).unwrap_or(&absent);
    set.gauge(metric::MEMORY_USAGE, &or_zero(&memory.usage));
    set.gauge(metric::MEMORY_CACHE, &or_zero(&memory.cache));
    set.gauge(metric::MEMORY_RSS, &or_zero(&memory.rss));
    set.gauge(metric::MEMORY_WORKING_SET, &or_zero(&memory.working_set));
    let none = Faults::default();
    let faults = set.group("memory.container_data", &memory.container_data).unwrap_or(&none);
    set.counter(metric::MEMORY_PAGE_FAULTS, &or_zero(&faults.pgfault));
    set.counter(metric::MEMORY_MAJOR_PAGE_FAULTS, &or_zero(&faults.pgmajfault));
}

fn interfaces(set: &mut SetBuilder<'_>, network: &Lenient<Network>) {
    let absent = Network::default();
    let interfaces = &set.group("network", network).unwrap_or(&absent).interfaces;
    type Member = fn(&Interface) -> &Lenient<u64>;
    let members: [(&'static str, Member); 4] = [
        (metric::NETWORK_RX, |interface| &interface.rx_bytes),
        (metric::NETWORK_RX_ERRORS, |interface| &interface.rx_errors),
        (metric::NETWORK_TX, |interface| &interface.tx_bytes),
        (metric::NETWORK_TX_ERRORS, |interface| &interface.tx_errors),
    ];
    for (name, member) in members {
        let mut sum = Lenient::Given(0_u64);
        for interface in interfaces.elements() {
            // A sum without one of its parts would read as a counter that went back.
            sum = match (sum, interface.given().map(member)) {
                (Lenient::Given(sum), Some(Lenient::Given(part))) => {
                    Lenient::Given(sum.wrapping_add(*part))
                }
                (Lenient::Given(sum), Some(Lenient::Absent)) => Lenient::Given(sum),
                _ => Lenient::Bad,
            };
        }
        set.counter(name, &sum);
    }
}

fn disks(set: &mut SetBuilder<'_>, diskio: &Lenient<DiskIo<'_>>) {
    let Some(diskio) = set.group("diskio", diskio) else { return };
    let disks: Vec<_> = diskio.io_service_bytes.elements().iter().map(Lenient::given).collect();
    for (name, is_read) in
        [(metric::DISK_IO_READ_BYTES, true), (metric::DISK_IO_WRITE_BYTES, false)]
    {
        for disk in &disks {
            let Some(disk) = disk else {
                set.reject("a disk is not an object");
                continue;
            };
            let number = |number: &Lenient<u64>| number.given().copied().unwrap_or(0);
            let own = match disk.device.name() {
                Some(device) => resource(device),
                None => resource(&format!("{}:{}", number(&disk.major), number(&disk.minor))),
            };
            let bytes = set.group("a disk's stats", &disk.stats);
            let bytes = bytes.map(|bytes| if is_read { &bytes.read } else { &bytes.write });
            set.labeled(name, &own, &bytes.map_or(Lenient::Given(0), or_zero));
        }
    }
}

fn file_systems(set: &mut SetBuilder<'_>, file_systems: &Lenient<List<FileSystem<'_>>>) {
    set.group("filesystem", file_systems);
    type Member = for<'f> fn(&'f FileSystem<'_>) -> &'f Lenient<u64>;
    let members: [(&'static str, Member); 5] = [
        (metric::FILESYSTEM_USAGE, |fs| &fs.usage),
        (metric::FILESYSTEM_LIMIT, |fs| &fs.capacity),
        (metric::FILESYSTEM_AVAILABLE, |fs| &fs.available),
        (metric::FILESYSTEM_INODES, |fs| &fs.inodes),
        (metric::FILESYSTEM_INODES_FREE, |fs| &fs.inodes_free),
    ];
    for (name, member) in members {
        let needs_inodes =
            matches!(name, metric::FILESYSTEM_INODES | metric::FILESYSTEM_INODES_FREE);
        for fs in file_systems.elements().iter().filter_map(Lenient::given) {
            if !needs_inodes || is_set(&fs.has_inodes) {
                set.labeled(name, &resource(fs.device.text()), &or_zero(member(fs)));
            }
        }
    }
}

fn accelerators(set: &mut SetBuilder<'_>, accelerators: &Lenient<List<Accelerator<'_>>>) {
    type Member = for<'a> fn(&'a Accelerator<'_>) -> &'a Lenient<u64>;
    let members: [(&'static str, Member); 3] = [
        (metric::ACCELERATOR_MEMORY_TOTAL, |accelerator| &accelerator.memory_total),
        (metric::ACCELERATOR_MEMORY_USED, |accelerator| &accelerator.memory_used),
        (metric::ACCELERATOR_DUTY_CYCLE, |accelerator| &accelerator.duty_cycle),
    ];
    for (name, member) in members {
        for accelerator in accelerators.elements().iter().filter_map(Lenient::given) {
            let mut own = Labels::new();
            own.set_static(key::MAKE, accelerator.make.text());
            own.set_static(key::MODEL, accelerator.model.text());
            own.set_static(key::ACCELERATOR_ID, accelerator.id.text());
            set.labeled(name, &own, &or_zero(member(accelerator)));
        }
    }
}

/// Takes the newest sample of a metric that the spec announces.
fn custom_metric(set: &mut SetBuilder<'_>, spec: &Lenient<CustomSpec<'_>>, stats: &Stats<'_>) {
    let Some((spec, name)) = spec.given().and_then(|spec| Some((spec, spec.name.name()?))) else {
        return set.reject("a custom metric has no usable name");
    };
    let kind = match spec.kind.text() {
        "gauge" => MetricKind::Gauge,
        "cumulative" => MetricKind::Cumulative,
        _ => return,
    };
    let samples = stats.custom_metrics.given().and_then(|samples| samples.get(name));
    let Some(samples) = samples else { return };
    let mut newest = None;
    for sample in samples.elements().iter().filter_map(Lenient::given) {
        let at = set.time("timestamp of a custom metric", &sample.timestamp);
        if newest.is_none_or(|(newest, _)| at > newest) {
            newest = Some((at, sample));
        }
    }
    let Some((_, sample)) = newest else { return };
    let value = match (spec.format.text(), &sample.int_value, &sample.float_value) {
        ("int", Lenient::Given(value), _) => (*value).into(),
        ("int", Lenient::Absent, _) => 0.into(),
        ("float", _, Lenient::Given(value)) => (*value).into(),
        ("float", _, Lenient::Absent) => 0.0.into(),
        ("int" | "float", _, _) => {
            return set.reject(format_args!("custom metric {name} has no number"));
        }
        _ => return,
    };
    set.set.metrics.set(custom_metric_name(name), MetricValue { value, kind });
}

/// Reads the document's object, handing the containers to the decoder as they come.
struct ContainersSeed<'d, 'n>(&'d mut Decoder<'n>);

impl<'de> DeserializeSeed<'de> for ContainersSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ContainersSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of cAdvisor containers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(cgroup)) = map.next_key()? {
            let container = map.next_value::<Lenient<Container<'de>>>()?;
            self.0.container(&cgroup, &container);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Scrape {
        let node =
            NodeInfo { nodename: "test".into(), hostname: "h".into(), host_id: Text::default() };
        let now = NanoTime::parse_rfc3339("2018-07-26T12:00:00Z").unwrap().unwrap();
        decode(json.as_bytes(), &node, Schedulable::No, now).unwrap()
    }

    /// The key of a single container of that name, with those labels.
    fn key_of(name: &str, labels: &str) -> String {
        let json = format!(
            r#"{{"x":{{"name":"{name}","spec":{{"labels":{labels}}},"stats":[{{"cpu":{{}}}}]}}}}"#
        );
        let scrape = check(&json);
        assert_eq!(scrape.rejects, Vec::<String>::new());
        scrape.sets[0].0.to_string()
    }

    #[test]
    fn containers_are_told_apart_by_name_and_labels() {
        let full = r#"{"io.kubernetes.container.name":"testContainer",
            "io.kubernetes.pod.namespace":"testPodNS","io.kubernetes.pod.name":"testPodName"}"#;
        let old = r#"{"io.kubernetes.container.name":"POD",
            "io.kubernetes.pod.name":"testnamespace/testPodName"}"#;
        let older = r#"{"io.kubernetes.pod.name":"testnamespace/testPodName"}"#;
        for (name, labels, key) in [
            ("/", "{}", "node:test"),
            ("/docker-daemon", "{}", "node:test/container:docker-daemon"),
            ("/system.slice/foo.service", "{}", "node:test/container:system.slice/foo.service"),
            ("/x", full, "namespace:testPodNS/pod:testPodName/container:testContainer"),
            ("/x", old, "namespace:testnamespace/pod:testPodName"),
            (
                "k8s_test.testkubelet",
                older,
                "namespace:testnamespace/pod:testPodName/container:test",
            ),
            // The original died of a dot so early in the name.
            ("a.b", older, "node:test/container:a.b"),
        ] {
            assert_eq!(key_of(name, labels), key);
        }
    }

    #[test]
    fn a_bad_piece_is_dropped_and_named_and_the_rest_kept() {
        let scrape = check(
            r#"{"/":{"name":"/","spec":{"has_cpu":true,"has_memory":true,"has_network":true},
                     "stats":[{"cpu":{"usage":{"total":-1},"load_average":-3},
                       "network":{"interfaces":[{"rx_bytes":1},{"rx_bytes":"2","tx_bytes":3}]}}]},
                "/a":5, "/b":{"name":"/b","stats":[{}]}, "/c":{"spec":{},"stats":[{}]},
                "/d":{"name":"/d","spec":{},"stats":[]}}"#,
        );
        assert_eq!(scrape.sets.len(), 1);
        let node = &scrape.sets[0].1;
        assert_eq!(node.labels.value("schedulable"), "false");
        assert_eq!(node.metrics.int("cpu/load"), Some(-3));
        assert_eq!(node.metrics.int("memory/usage"), Some(0));
        assert_eq!(node.metrics.int("network/tx"), Some(3));
        assert!(!node.metrics.contains("cpu/usage") && !node.metrics.contains("network/rx"));
        assert_eq!(scrape.rejects.len(), 5, "{:?}", scrape.rejects);
    }

    #[test]
    fn what_is_no_list_of_containers_is_an_error() {
        let node = NodeInfo::default();
        for body in ["", "[]", "{}", "null", "{\"/\":", "<html>"] {
            let now = NanoTime::from_nanos(0);
            assert!(decode(body.as_bytes(), &node, Schedulable::Yes, now).is_err(), "{body}");
        }
    }

    #[test]
    fn the_request_names_the_interval() {
        let at = |text| heapster_core::Timestamp::parse_rfc3339(text).unwrap();
        let interval =
            Interval { start: at("2018-07-26T11:59:00Z"), end: at("2018-07-26T12:00:00Z") };
        assert_eq!(
            request_body(interval),
            r#"{"containerName":"/","num_stats":1,"start":"2018-07-26T11:59:00Z","end":"2018-07-26T12:00:00Z","subcontainers":true}"#
        );
    }
}
