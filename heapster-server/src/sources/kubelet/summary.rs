//! Decodes a kubelet's answer to `GET /stats/summary` into metric sets.
//!
//! Pods are turned into sets as they are read, so that a body of any shape costs memory in
//! proportion to the sets it yields, and those are limited.

use std::borrow::Cow;
use std::fmt;

use heapster_core::catalogue::{custom_metric_name, metric};
use heapster_core::pipeline::Scrape;
use heapster_core::{EntityKey, Labels, MetricKind, MetricSet, MetricValue, NanoTime, Text, key};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::answer::{Answer, SetBuilder};
use super::lenient::{Lenient, List, json_objects};
use super::{DecodeError, NodeInfo};

/// Turns the body of `/stats/summary` into one set each for the node, its system containers, its
/// pods and their containers.
///
/// `now` is the wall clock; it only serves `uptime`. Unsigned counters beyond 2^63 come out
/// negative, as the original's do. Absent and null numbers give no metric. A pod, container or
/// number that is not usable is named in [`Scrape::rejects`] and the rest is kept. The node's set is
/// keyed by its API name even when the kubelet calls itself otherwise (decision 0005). Each key
/// occurs once: of a container listed twice the one that started later is kept, the later listed
/// one when they started together; of a pod listed twice the later listed one.
///
/// # Errors
/// [`DecodeError`] when the body is not JSON to its end, or has neither a node nor pods.
pub fn decode(body: &[u8], node: &NodeInfo, now: NanoTime) -> Result<Scrape, DecodeError> {
    // The kubelet writes UTF-8; what is not is replaced, as the original's decoder did.
    let text = match std::str::from_utf8(body) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(body),
    };
    let mut decoder = Decoder { answer: Answer::new(node, now), namespace: Text::default() };
    let mut reader = serde_json::Deserializer::from_str(&text);
    let found = SummarySeed(&mut decoder).deserialize(&mut reader)?;
    reader.end()?;
    if found == Found::Nothing {
        return Err(DecodeError::Shape { expected: "a stats summary" });
    }
    Ok(decoder.finish())
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node<'a> {
    #[serde(borrow)]
    start_time: Lenient<Cow<'a, str>>,
    cpu: Lenient<Cpu<'a>>,
    memory: Lenient<Memory<'a>>,
    swap: Lenient<Swap>,
    network: Lenient<Network<'a>>,
    fs: Lenient<FileSystem<'a>>,
    system_containers: Lenient<List<Container<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Pod<'a> {
    #[serde(borrow)]
    pod_ref: Lenient<PodRef<'a>>,
    start_time: Lenient<Cow<'a, str>>,
    containers: Lenient<List<Container<'a>>>,
    cpu: Lenient<Cpu<'a>>,
    memory: Lenient<Memory<'a>>,
    swap: Lenient<Swap>,
    network: Lenient<Network<'a>>,
    volume: Lenient<List<FileSystem<'a>>>,
    #[serde(rename = "ephemeral-storage")]
    ephemeral_storage: Lenient<FileSystem<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodRef<'a> {
    #[serde(borrow)]
    name: Lenient<Cow<'a, str>>,
    namespace: Lenient<Cow<'a, str>>,
    uid: Lenient<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container<'a> {
    #[serde(borrow)]
    name: Lenient<Cow<'a, str>>,
    start_time: Lenient<Cow<'a, str>>,
    cpu: Lenient<Cpu<'a>>,
    memory: Lenient<Memory<'a>>,
    swap: Lenient<Swap>,
    accelerators: Lenient<List<Accelerator<'a>>>,
    rootfs: Lenient<FileSystem<'a>>,
    logs: Lenient<FileSystem<'a>>,
    user_defined_metrics: Lenient<List<UserMetric<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cpu<'a> {
    #[serde(borrow)]
    time: Lenient<Cow<'a, str>>,
    usage_core_nano_seconds: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Memory<'a> {
    #[serde(borrow)]
    time: Lenient<Cow<'a, str>>,
    usage_bytes: Lenient<u64>,
    working_set_bytes: Lenient<u64>,
    rss_bytes: Lenient<u64>,
    page_faults: Lenient<u64>,
    major_page_faults: Lenient<u64>,
}

/// Only with kubelets from 1.28 on.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Swap {
    swap_usage_bytes: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Network<'a> {
    #[serde(borrow)]
    time: Lenient<Cow<'a, str>>,
    rx_bytes: Lenient<u64>,
    rx_errors: Lenient<u64>,
    tx_bytes: Lenient<u64>,
    tx_errors: Lenient<u64>,
}

/// A file system; `name` only where it is a pod's volume.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FileSystem<'a> {
    #[serde(borrow)]
    name: Lenient<Cow<'a, str>>,
    used_bytes: Lenient<u64>,
    capacity_bytes: Lenient<u64>,
    available_bytes: Lenient<u64>,
    inodes: Lenient<u64>,
    inodes_free: Lenient<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
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
struct UserMetric<'a> {
    #[serde(borrow)]
    name: Lenient<Cow<'a, str>>,
    #[serde(rename = "type")]
    kind: Lenient<Cow<'a, str>>,
    value: Lenient<f64>,
}

json_objects!(
    Node<'a>,
    Pod<'a>,
    PodRef<'a>,
    Container<'a>,
    Cpu<'a>,
    Memory<'a>,
    Swap,
    Network<'a>,
    FileSystem<'a>,
    Accelerator<'a>,
    UserMetric<'a>,
);

/// Turns nodes and pods into sets of the answer.
///
/// Metrics are added in the order of their names, which makes adding one cheap.
struct Decoder<'n> {
    answer: Answer<'n>,
    /// Namespace of the pod before: neighbours often share it, so they share the text.
    namespace: Text,
}

impl Decoder<'_> {
    /// The sets so far. The node itself is always among them: its labels are known from the API,
    /// and aggregation needs a set to sum pods into.
    fn finish(mut self) -> Scrape {
        if !self.answer.contains(&EntityKey::Node(self.answer.nodename())) {
            self.answer.rejects.push("the summary has no usable node object");
            self.node(&Node::default());
        }
        self.answer.finish()
    }

    fn node(&mut self, node: &Node<'_>) {
        let key = EntityKey::Node(self.answer.nodename());
        let mut set = self.answer.begin(&key, &self.answer.node_labels.clone());
        set.cpu(&node.cpu);
        if let Some(fs) = node.fs.given() {
            set.gauge(metric::EPHEMERAL_STORAGE_USAGE, &fs.used_bytes);
        }
        set.memory(&node.memory);
        set.swap(&node.swap);
        set.network(&node.network);
        set.start("startTime", &node.start_time);
        set.file_system("/", &node.fs);
        let set = set.finish();
        self.answer.put(key, set);

        self.answer.check_list(&node.system_containers, "system containers of the node");
        for container in node.system_containers.elements() {
            let Some((container, name)) = named(container) else {
                self.answer.rejects.push("a system container without a usable name");
                continue;
            };
            let name = match name {
                "runtime" => Text::from_static("docker-daemon"),
                "misc" => Text::from_static("system"),
                other => Text::from(other),
            };
            let key = EntityKey::system_container(self.answer.nodename(), name.clone());
            let set = self.container(&key, &self.answer.node_labels.clone(), name, container);
            self.answer.put(key, set);
        }
    }

    fn pod(&mut self, pod: &Lenient<Pod<'_>>) {
        let Some((pod, names)) = pod.given().and_then(|pod| Some((pod, pod.pod_ref.given()?)))
        else {
            return self.answer.rejects.push("a pod without a usable reference");
        };
        let (Some(namespace), Some(name)) =
            (object_name(&names.namespace), object_name(&names.name))
        else {
            return self.answer.rejects.push("a pod without a usable name and namespace");
        };
        if self.namespace != namespace {
            self.namespace = Text::from(namespace);
        }
        let (namespace, name) = (self.namespace.clone(), Text::from(name));
        let key = EntityKey::Pod { namespace: namespace.clone(), pod: name.clone() };
        let mut labels = self.answer.node_labels.clone();
        labels.set_static(key::NAMESPACE_NAME, namespace.clone());
        labels.set_static(key::POD_ID, names.uid.text());
        labels.set_static(key::POD_NAME, name.clone());

        let mut set = self.answer.begin(&key, &labels);
        set.cpu(&pod.cpu);
        if let Some(storage) = pod.ephemeral_storage.given() {
            set.gauge(metric::EPHEMERAL_STORAGE_USAGE, &storage.used_bytes);
        }
        set.memory(&pod.memory);
        set.swap(&pod.swap);
        // Only the network time counts: without a network of its own a pod has no pod-level rates.
        set.set.scrape_time = None;
        set.network(&pod.network);
        set.start("startTime", &pod.start_time);
        for volume in pod.volume.elements() {
            let name = volume.given().and_then(|volume| volume.name.name());
            match name {
                Some(name) => set.file_system(&format!("Volume:{name}"), volume),
                None => set.reject("a volume has no usable name"),
            }
        }
        let set = set.finish();
        self.answer.put(key, set);

        self.answer.check_list(&pod.volume, "volumes of a pod");
        self.answer.check_list(&pod.containers, "containers of a pod");
        for container in pod.containers.elements() {
            let Some((container, container_name)) = named(container) else {
                self.answer.rejects.push(format_args!(
                    "a container of pod {namespace}/{name} without a usable name"
                ));
                continue;
            };
            let container_name = Text::from(container_name);
            let key = EntityKey::PodContainer {
                namespace: namespace.clone(),
                pod: name.clone(),
                container: container_name.clone(),
            };
            let set = self.container(&key, &labels, container_name, container);
            self.answer.put_newer(key, set);
        }
    }

    fn container(
        &mut self,
        key: &EntityKey,
        labels: &Labels,
        name: Text,
        container: &Container<'_>,
    ) -> MetricSet {
        let mut set = self.answer.begin(key, labels);
        set.set.labels.set_static(key::CONTAINER_NAME, name);
        set.cpu(&container.cpu);
        set.ephemeral_storage(&container.rootfs, &container.logs);
        set.memory(&container.memory);
        set.swap(&container.swap);
        set.start("startTime", &container.start_time);
        for accelerator in container.accelerators.elements() {
            set.accelerator(accelerator);
        }
        set.file_system("/", &container.rootfs);
        set.file_system("logs", &container.logs);
        for user_metric in container.user_defined_metrics.elements() {
            set.user_metric(user_metric);
        }
        let set = set.finish();
        self.answer.check_list(&container.accelerators, "accelerators of a container");
        self.answer.check_list(&container.user_defined_metrics, "custom metrics of a container");
        set
    }
}

fn named<'c, 'a>(container: &'c Lenient<Container<'a>>) -> Option<(&'c Container<'a>, &'c str)> {
    let container = container.given()?;
    Some((container, container.name.name()?))
}

/// The name of a Kubernetes object. A slash would let one object's key read like another's.
fn object_name<'c>(name: &'c Lenient<Cow<'_, str>>) -> Option<&'c str> {
    name.name().filter(|name| !name.contains('/'))
}

impl SetBuilder<'_> {
    /// Takes the time of a group of numbers, unless an earlier group had one.
    fn scraped(&mut self, time: &Lenient<Cow<'_, str>>) {
        if self.set.scrape_time.is_none() {
            self.set.scrape_time = self.time("time", time);
        }
    }

    fn cpu(&mut self, cpu: &Lenient<Cpu<'_>>) {
        let Some(cpu) = self.group("cpu", cpu) else { return };
        self.scraped(&cpu.time);
        self.counter(metric::CPU_USAGE, &cpu.usage_core_nano_seconds);
    }

    fn memory(&mut self, memory: &Lenient<Memory<'_>>) {
        let Some(memory) = self.group("memory", memory) else { return };
        self.scraped(&memory.time);
        self.counter(metric::MEMORY_MAJOR_PAGE_FAULTS, &memory.major_page_faults);
        self.counter(metric::MEMORY_PAGE_FAULTS, &memory.page_faults);
        self.gauge(metric::MEMORY_RSS, &memory.rss_bytes);
        self.gauge(metric::MEMORY_USAGE, &memory.usage_bytes);
        self.gauge(metric::MEMORY_WORKING_SET, &memory.working_set_bytes);
    }

    fn swap(&mut self, swap: &Lenient<Swap>) {
        let Some(swap) = self.group("swap", swap) else { return };
        self.gauge(metric::MEMORY_SWAP, &swap.swap_usage_bytes);
    }

    /// What a container keeps on its node: its own file system and its logs, when both are known.
    fn ephemeral_storage(
        &mut self,
        rootfs: &Lenient<FileSystem<'_>>,
        logs: &Lenient<FileSystem<'_>>,
    ) {
        if let (Some(rootfs), Some(logs)) = (rootfs.given(), logs.given())
            && let (Some(rootfs), Some(logs)) = (rootfs.used_bytes.given(), logs.used_bytes.given())
        {
            let used = MetricValue::gauge(rootfs.wrapping_add(*logs).cast_signed());
            self.set.metrics.set_static(metric::EPHEMERAL_STORAGE_USAGE, used);
        }
    }

    fn network(&mut self, network: &Lenient<Network<'_>>) {
        let Some(network) = self.group("network", network) else { return };
        self.scraped(&network.time);
        self.counter(metric::NETWORK_RX, &network.rx_bytes);
        self.counter(metric::NETWORK_RX_ERRORS, &network.rx_errors);
        self.counter(metric::NETWORK_TX, &network.tx_bytes);
        self.counter(metric::NETWORK_TX_ERRORS, &network.tx_errors);
    }

    fn file_system(&mut self, id: &str, fs: &Lenient<FileSystem<'_>>) {
        let Some(fs) = self.group(id, fs) else { return };
        let own = self.resource(id);
        self.labeled(metric::FILESYSTEM_USAGE, &own, &fs.used_bytes);
        self.labeled(metric::FILESYSTEM_LIMIT, &own, &fs.capacity_bytes);
        self.labeled(metric::FILESYSTEM_AVAILABLE, &own, &fs.available_bytes);
        self.labeled(metric::FILESYSTEM_INODES, &own, &fs.inodes);
        self.labeled(metric::FILESYSTEM_INODES_FREE, &own, &fs.inodes_free);
    }

    fn accelerator(&mut self, accelerator: &Lenient<Accelerator<'_>>) {
        let Some(accelerator) = accelerator.given() else {
            return self.reject("an accelerator is not an object");
        };
        let mut own = Labels::new();
        own.set_static(key::MAKE, accelerator.make.text());
        own.set_static(key::MODEL, accelerator.model.text());
        own.set_static(key::ACCELERATOR_ID, accelerator.id.text());
        for (name, number) in [
            (metric::ACCELERATOR_MEMORY_TOTAL, &accelerator.memory_total),
            (metric::ACCELERATOR_MEMORY_USED, &accelerator.memory_used),
            (metric::ACCELERATOR_DUTY_CYCLE, &accelerator.duty_cycle),
        ] {
            match number {
                // These are plain numbers to the kubelet, never left out because unknown.
                Lenient::Absent => self.labeled(name, &own, &Lenient::Given(0)),
                Lenient::Given(_) | Lenient::Bad => self.labeled(name, &own, number),
            }
        }
    }

    fn user_metric(&mut self, user_metric: &Lenient<UserMetric<'_>>) {
        let Some((user_metric, name)) =
            user_metric.given().and_then(|custom| Some((custom, custom.name.name()?)))
        else {
            return self.reject("a custom metric has no usable name");
        };
        let kind = match user_metric.kind.text() {
            "gauge" => MetricKind::Gauge,
            "cumulative" => MetricKind::Cumulative,
            "delta" => MetricKind::Delta,
            // Kinds of later versions are passed over in silence, as the original does.
            _ => return,
        };
        let value = match &user_metric.value {
            Lenient::Given(value) => (*value).into(),
            Lenient::Absent => 0.0.into(),
            Lenient::Bad => return self.reject(format_args!("custom metric {name} has no number")),
        };
        self.set.metrics.set(custom_metric_name(name), MetricValue { value, kind });
    }
}

/// Whether a document had anything of a summary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Something,
}

/// Reads the document's object, handing its parts to the decoder as they come.
struct SummarySeed<'d, 'n>(&'d mut Decoder<'n>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Node,
    Pods,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for SummarySeed<'_, '_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for SummarySeed<'_, '_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stats summary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let mut found = Found::Nothing;
        while let Some(member) = map.next_key()? {
            match member {
                Member::Node => match map.next_value::<Lenient<Node<'de>>>()? {
                    Lenient::Given(node) => self.0.node(&node),
                    Lenient::Absent => continue,
                    Lenient::Bad => self.0.answer.rejects.push("the node is not an object"),
                },
                Member::Pods => map.next_value_seed(PodsSeed(self.0))?,
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            }
            found = Found::Something;
        }
        Ok(found)
    }
}

struct PodsSeed<'d, 'n>(&'d mut Decoder<'n>);

impl<'de> DeserializeSeed<'de> for PodsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PodsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pods")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(pod) = seq.next_element::<Lenient<Pod<'de>>>()? {
            self.0.pod(&pod);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::SETS_MAX;
    use super::*;

    fn node() -> NodeInfo {
        NodeInfo { nodename: "n1".into(), hostname: "h1".into(), host_id: Text::default() }
    }

    fn check(json: &str) -> Scrape {
        let now = NanoTime::parse_rfc3339("2018-07-26T12:00:00Z").unwrap().unwrap();
        decode(json.as_bytes(), &node(), now).unwrap()
    }

    fn set<'s>(scrape: &'s Scrape, key: &str) -> &'s MetricSet {
        let key: EntityKey = key.parse().unwrap();
        &scrape.sets.iter().find(|(own, _)| *own == key).expect("the set is there").1
    }

    fn keys(scrape: &Scrape) -> Vec<String> {
        scrape.sets.iter().map(|(key, _)| key.to_string()).collect()
    }

    #[test]
    fn a_bad_piece_is_dropped_and_named_and_the_rest_kept() {
        let scrape = check(
            r#"{"node":{"nodeName":"n1","cpu":{"usageCoreNanoSeconds":"7"},"memory":[1],
                        "systemContainers":[{"name":""},5,{"name":"kubelet"}]},
                "pods":[7,{"podRef":{"name":"p","namespace":"a/b"}},
                  {"podRef":{"name":"ok","namespace":"d","uid":3},"startTime":"soon",
                   "volume":[{"usedBytes":1}],
                   "containers":[{"cpu":{"usageCoreNanoSeconds":1}},
                     {"name":"c","memory":{"rssBytes":-1,"usageBytes":1.5,"workingSetBytes":9},
                      "userDefinedMetrics":[{"name":"q","type":"gauge","value":"x"}]}]}]}"#,
        );
        assert_eq!(
            keys(&scrape),
            [
                "node:n1",
                "node:n1/container:kubelet",
                "namespace:d/pod:ok",
                "namespace:d/pod:ok/container:c"
            ]
        );
        let container = set(&scrape, "namespace:d/pod:ok/container:c");
        assert_eq!(container.metrics.len(), 1);
        assert_eq!(container.metrics.int("memory/working_set"), Some(9));
        let rejects = scrape.rejects.join("\n");
        for part in [
            "node:n1: cpu/usage is not",
            "node:n1: memory is not what it should be",
            "a system container without",
            "a pod without a usable reference",
            "a pod without a usable name",
            "pod:ok: startTime: could not read time",
            "pod:ok: a volume has no",
            "a container of pod d/ok without",
            "container:c: memory/rss is not",
            "container:c: memory/usage is not",
            "container:c: custom metric q has no number",
        ] {
            assert!(rejects.contains(part), "{part:?} is not in\n{rejects}");
        }
    }

    #[test]
    fn the_node_is_keyed_by_its_api_name() {
        let scrape = check(r#"{"node":{"nodeName":"other","systemContainers":[{"name":"misc"}]}}"#);
        assert_eq!(keys(&scrape), ["node:n1", "node:n1/container:system"]);
        assert_eq!(set(&scrape, "node:n1").labels.value("nodename"), "n1");
    }

    #[test]
    fn of_a_container_listed_twice_the_one_started_later_is_kept() {
        let container = |start: &str, used: u32| {
            format!(r#"{{"name":"c","startTime":{start},"memory":{{"usageBytes":{used}}}}}"#)
        };
        let (early, late) = (r#""2018-07-26T11:58:00Z""#, r#""2018-07-26T11:59:00Z""#);
        for (first, second, kept) in [
            (late, early, 1),
            (early, late, 2),
            (late, late, 2),
            (late, "null", 1),
            ("null", early, 2),
        ] {
            let pod = format!(
                r#"{{"podRef":{{"name":"p","namespace":"d"}},"containers":[{},{}]}}"#,
                container(first, 1),
                container(second, 2)
            );
            let scrape = check(&format!(r#"{{"pods":[{pod}]}}"#));
            let container = set(&scrape, "namespace:d/pod:p/container:c");
            assert_eq!(container.metrics.int("memory/usage"), Some(kept), "{first} {second}");
        }
    }

    #[test]
    fn of_a_pod_listed_twice_the_later_set_is_kept_and_containers_compete() {
        let pod = |uid: &str, start: &str| {
            format!(
                r#"{{"podRef":{{"name":"p","namespace":"d","uid":"{uid}"}},
                     "containers":[{{"name":"c","startTime":"2018-07-26T11:{start}:00Z"}}]}}"#
            )
        };
        let scrape = check(&format!(r#"{{"pods":[{},{}]}}"#, pod("u1", "59"), pod("u2", "58")));
        assert_eq!(scrape.sets.len(), 3);
        assert_eq!(set(&scrape, "namespace:d/pod:p").labels.value("pod_id"), "u2");
        let container = set(&scrape, "namespace:d/pod:p/container:c");
        assert_eq!(container.labels.value("pod_id"), "u1");
    }

    #[test]
    fn what_is_no_summary_is_an_error_and_never_a_panic() {
        let now = NanoTime::from_nanos(0);
        for body in
            ["", "null", "[]", "{}", "<html>", r#"{"node":"#, r#"{"node":{}} x"#, "\u{feff}{}"]
        {
            assert!(decode(body.as_bytes(), &node(), now).is_err(), "{body}");
        }
        let deep = "[".repeat(100_000);
        assert!(decode(deep.as_bytes(), &node(), now).is_err());
        assert!(decode(format!(r#"{{"x":{deep}"#).as_bytes(), &node(), now).is_err());
        let mut invalid = br#"{"pods":[{"podRef":{"namespace":"d","name":"p"#.to_vec();
        invalid.extend(b"\xff\"}}]}");
        let scrape = decode(&invalid, &node(), now).unwrap();
        assert!(keys(&scrape).contains(&"namespace:d/pod:p\u{fffd}".to_owned()));
    }

    #[test]
    fn an_answer_that_asks_for_too_many_sets_is_cut() {
        let pods: Vec<_> = (0..SETS_MAX + 7)
            .map(|n| format!(r#"{{"podRef":{{"namespace":"d","name":"p{n}"}}}}"#))
            .collect();
        let scrape = check(&format!(r#"{{"pods":[{}]}}"#, pods.join(",")));
        assert_eq!(scrape.sets.len(), SETS_MAX + 1, "the node's set has a place of its own");
        assert_eq!(scrape.rejects.len(), 8, "seven pods and the missing node");
    }

    #[test]
    fn repeated_label_values_share_storage() {
        let uid = "0f1e2d3c-0000-0000-0000-000000000000";
        let scrape = check(&format!(
            r#"{{"pods":[{{"podRef":{{"namespace":"d","name":"p","uid":"{uid}"}},
                           "containers":[{{"name":"c"}}]}}]}}"#
        ));
        let place = |key| set(&scrape, key).labels.get(key::POD_ID).unwrap().as_ptr();
        assert_eq!(place("namespace:d/pod:p"), place("namespace:d/pod:p/container:c"));
    }
}
