//! A kubelet's summary as metric sets, as far as the fixtures need it. The decoder that copes with
//! everything a kubelet may say is the server's; this one trusts its input.

use heapster_core::{EntityKey, Labels, MetricKind, MetricSet, MetricValue, NanoTime, Text, key};
use serde_json::Value;

/// The sets of a summary taken on a node with these labels; `now` is what uptime counts to.
pub fn decode(summary: &Value, place: &Labels, now: NanoTime) -> Vec<(EntityKey, MetricSet)> {
    let mut sets = Vec::new();
    let node = &summary["node"];
    let node_name = text(&node["nodeName"]);
    let mut set = new_set(place, "node", node, &["cpu", "memory", "network"], now);
    add_usage(&mut set, node);
    add_network(&mut set, &node["network"]);
    add_filesystem(&mut set, "/", &node["fs"]);
    add_gauge(&mut set, "ephemeral_storage/usage", &node["fs"]["usedBytes"]);
    sets.push((EntityKey::node(node_name.clone()), set));
    for container in items(&node["systemContainers"]) {
        let name = match text(&container["name"]).as_str() {
            "runtime" => Text::from("docker-daemon"),
            "misc" => Text::from("system"),
            name => Text::from(name),
        };
        let set = container_set(place, "sys_container", &name, container, now);
        sets.push((EntityKey::system_container(node_name.clone(), name), set));
    }
    for pod in items(&summary["pods"]) {
        add_pod(&mut sets, place, pod, now);
    }
    sets
}

fn add_pod(sets: &mut Vec<(EntityKey, MetricSet)>, place: &Labels, pod: &Value, now: NanoTime) {
    let (namespace, name) = (text(&pod["podRef"]["namespace"]), text(&pod["podRef"]["name"]));
    let mut set = new_set(place, "pod", pod, &["network"], now);
    set.labels.set(key::POD_ID, text(&pod["podRef"]["uid"]));
    set.labels.set(key::POD_NAME, name.clone());
    set.labels.set(key::NAMESPACE_NAME, namespace.clone());
    add_network(&mut set, &pod["network"]);
    add_usage(&mut set, pod);
    add_gauge(&mut set, "ephemeral_storage/usage", &pod["ephemeral-storage"]["usedBytes"]);
    for volume in items(&pod["volume"]) {
        add_filesystem(&mut set, &format!("Volume:{}", text(&volume["name"])), volume);
    }
    let labels = set.labels.clone();
    sets.push((EntityKey::pod(namespace.clone(), name.clone()), set));
    for container in items(&pod["containers"]) {
        let own = text(&container["name"]);
        let set = container_set(&labels, "pod_container", &own, container, now);
        sets.push((EntityKey::pod_container(namespace.clone(), name.clone(), own), set));
    }
}

fn container_set(
    labels: &Labels,
    entity_type: &str,
    name: &Text,
    container: &Value,
    now: NanoTime,
) -> MetricSet {
    let mut set = new_set(labels, entity_type, container, &["cpu", "memory"], now);
    set.labels.set(key::CONTAINER_NAME, name.clone());
    add_usage(&mut set, container);
    for accelerator in items(&container["accelerators"]) {
        let labels = Labels::from_iter([
            (key::MAKE, text(&accelerator["make"])),
            (key::MODEL, text(&accelerator["model"])),
            (key::ACCELERATOR_ID, text(&accelerator["id"])),
        ]);
        for (name, field) in [
            ("accelerator/memory_total", "memoryTotal"),
            ("accelerator/memory_used", "memoryUsed"),
            ("accelerator/duty_cycle", "dutyCycle"),
        ] {
            set.push_labeled(name, &labels, int(&accelerator[field]).unwrap_or(0));
        }
    }
    add_filesystem(&mut set, "/", &container["rootfs"]);
    add_filesystem(&mut set, "logs", &container["logs"]);
    let used = [&container["rootfs"]["usedBytes"], &container["logs"]["usedBytes"]].map(int);
    if let [Some(root), Some(logs)] = used {
        set.metrics.set("ephemeral_storage/usage", MetricValue::gauge(root + logs));
    }
    for custom in items(&container["userDefinedMetrics"]) {
        let value = custom["value"].as_f64().unwrap_or(0.0);
        let kind = match custom["type"].as_str() {
            Some("gauge") => MetricKind::Gauge,
            Some("cumulative") => MetricKind::Cumulative,
            Some("delta") => MetricKind::Delta,
            _ => continue,
        };
        let name = format!("custom/{}", text(&custom["name"]));
        set.metrics.set(name, MetricValue { value: value.into(), kind });
    }
    set
}

fn new_set(
    labels: &Labels,
    entity_type: &str,
    object: &Value,
    timed: &[&str],
    now: NanoTime,
) -> MetricSet {
    let mut set = MetricSet { labels: labels.clone(), ..MetricSet::default() };
    set.labels.set(key::TYPE, entity_type);
    set.collection_start_time = time(&object["startTime"]);
    set.scrape_time = timed.iter().find_map(|part| time(&object[*part]["time"]));
    if let Some(start) = set.collection_start_time {
        let uptime = (now.as_nanos() - start.as_nanos()) / 1_000_000;
        set.metrics.set("uptime", MetricValue::cumulative(uptime));
    }
    set
}

fn add_usage(set: &mut MetricSet, object: &Value) {
    add_counter(set, "cpu/usage", &object["cpu"]["usageCoreNanoSeconds"]);
    let memory = &object["memory"];
    add_gauge(set, "memory/usage", &memory["usageBytes"]);
    add_gauge(set, "memory/working_set", &memory["workingSetBytes"]);
    add_gauge(set, "memory/rss", &memory["rssBytes"]);
    add_counter(set, "memory/page_faults", &memory["pageFaults"]);
    add_counter(set, "memory/major_page_faults", &memory["majorPageFaults"]);
}

fn add_network(set: &mut MetricSet, network: &Value) {
    add_counter(set, "network/rx", &network["rxBytes"]);
    add_counter(set, "network/rx_errors", &network["rxErrors"]);
    add_counter(set, "network/tx", &network["txBytes"]);
    add_counter(set, "network/tx_errors", &network["txErrors"]);
}

fn add_filesystem(set: &mut MetricSet, resource: &str, filesystem: &Value) {
    let labels = Labels::from_iter([(key::RESOURCE_ID, resource)]);
    for (name, field) in [
        ("filesystem/usage", "usedBytes"),
        ("filesystem/limit", "capacityBytes"),
        ("filesystem/available", "availableBytes"),
        ("filesystem/inodes", "inodes"),
        ("filesystem/inodes_free", "inodesFree"),
    ] {
        if let Some(value) = int(&filesystem[field]) {
            set.push_labeled(name, &labels, value);
        }
    }
}

fn add_gauge(set: &mut MetricSet, name: &'static str, value: &Value) {
    if let Some(value) = int(value) {
        set.metrics.set_static(name, MetricValue::gauge(value));
    }
}

fn add_counter(set: &mut MetricSet, name: &'static str, value: &Value) {
    if let Some(value) = int(value) {
        set.metrics.set_static(name, MetricValue::cumulative(value));
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn text(value: &Value) -> Text {
    value.as_str().unwrap_or_default().into()
}

/// Kubelet numbers are unsigned; the model holds their bits as signed.
pub fn int(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_u64().map(u64::cast_signed))
}

pub fn time(value: &Value) -> Option<NanoTime> {
    value.as_str().and_then(|text| NanoTime::parse_rfc3339(text).unwrap())
}
