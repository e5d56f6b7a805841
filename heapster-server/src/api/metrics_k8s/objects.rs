//! NodeMetrics and PodMetrics: their fields in JSON, protobuf and tables.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use heapster_core::cluster::{Node, Pod};
use heapster_core::{Quantity, Text, Timestamp};

use super::protobuf::Message;
use super::status::GROUP;
use crate::http::gojson::JsonWriter;
use crate::usage::{Tracked, Usage};

/// A version of the API. The objects are the same in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What all clients know.
    V1beta1,
    /// What Kubernetes has had since 1.37.
    V1,
}

impl Version {
    /// All, in the order in which discovery names them: clients take the first they know, and the
    /// old one is the one that has been tried.
    pub const ALL: [Self; 2] = [Self::V1beta1, Self::V1];

    /// The part of a path.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1beta1 => "v1beta1",
            Self::V1 => "v1",
        }
    }

    /// Group and version, as objects name them.
    pub fn api_version(self) -> String {
        format!("{GROUP}/{}", self.as_str())
    }
}

/// What the objects are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nodes, which are in no namespace.
    Nodes,
    /// Pods.
    Pods,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nodes, Self::Pods];

    /// The resource, as paths name it.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Pods => "pods",
        }
    }

    /// The kind of an object.
    pub const fn object(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetrics",
            Self::Pods => "PodMetrics",
        }
    }

    /// The kind of a list.
    pub const fn list(self) -> &'static str {
        match self {
            Self::Nodes => "NodeMetricsList",
            Self::Pods => "PodMetricsList",
        }
    }
}

/// Where the labels of a node or pod come from.
#[derive(Clone, Debug)]
pub enum Object {
    /// The node as the API server has it.
    Node(Arc<Node>),
    /// The pod as the API server has it.
    Pod(Arc<Pod>),
    /// What was stored with its numbers, where no API server is asked or it knows it no more.
    Stored(BTreeMap<Text, Text>),
}

impl Object {
    /// What labels were when their numbers were stored: `name:value` pairs joined by commas.
    pub fn stored(joined: &str) -> Self {
        let pairs = joined.split(',').filter_map(|pair| pair.split_once(':'));
        Self::Stored(pairs.map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The labels.
    pub fn labels(&self) -> &BTreeMap<Text, Text> {
        match self {
            Self::Node(node) => &node.labels,
            Self::Pod(pod) => &pod.labels,
            Self::Stored(labels) => labels,
        }
    }
}

/// When an answer was made, in whole seconds: what its objects have for the time of their creation.
#[derive(Clone, Debug)]
pub struct Made {
    at: Timestamp,
    /// Written once for all of them.
    text: String,
}

impl Made {
    /// Of an answer that is made at this moment.
    pub fn at(now: Timestamp) -> Self {
        let at = whole_seconds(now);
        Self { at, text: at.to_string() }
    }
}

/// A node or pod with its numbers.
#[derive(Clone, Debug)]
pub struct Row {
    /// The numbers.
    pub tracked: Arc<Tracked>,
    /// The labels.
    pub object: Object,
}

/// What is used, by resource; sorted.
fn amounts(usage: &Usage) -> impl Iterator<Item = (&'static str, Quantity)> {
    let swap = usage.swap_bytes.map(|bytes| ("swap", Quantity::from_bytes(bytes)));
    let cpu = ("cpu", Quantity::from_nano(usage.cpu_nanocores));
    [cpu, ("memory", Quantity::from_bytes(usage.memory_bytes))].into_iter().chain(swap)
}

impl Row {
    /// How old a pod's numbers are: when the oldest of its newest samples was taken, in whole seconds,
    /// and the window before it.
    fn age(&self) -> (Option<Timestamp>, GoDuration) {
        let oldest = self.tracked.usages().map(|(_, usage)| usage).min_by_key(|usage| usage.at);
        let at = oldest.map(|usage| whole_seconds(usage.at.to_timestamp()));
        (at, GoDuration(oldest.map_or(0, |usage| usage.window_nanos)))
    }

    /// Writes the object; with its kind and version where it stands alone.
    pub fn write_json(
        &self,
        json: &mut JsonWriter,
        kind: Kind,
        alone: Option<Version>,
        made: &Made,
    ) {
        let (at, window) = self.age();
        json.begin_object();
        if let Some(version) = alone {
            json.key("kind");
            json.string(kind.object());
            json.key("apiVersion");
            json.string(&version.api_version());
        }
        json.key("metadata");
        self.write_metadata(json, made);
        json.key("timestamp");
        match at {
            Some(at) => json.plain_text(at),
            None => json.null(),
        }
        json.key("window");
        json.plain_text(window);
        match kind {
            Kind::Nodes => self.tracked.usages().take(1).for_each(|(_, usage)| {
                json.key("usage");
                write_usage(json, &usage);
            }),
            Kind::Pods => {
                json.key("containers");
                json.begin_array();
                for (name, usage) in self.tracked.usages() {
                    json.begin_object();
                    json.key("name");
                    json.string(name);
                    json.key("usage");
                    write_usage(json, &usage);
                    json.end_object();
                }
                json.end_array();
            }
        }
        json.end_object();
    }

    /// Writes name, namespace, labels, and when the answer was made.
    pub fn write_metadata(&self, json: &mut JsonWriter, made: &Made) {
        json.begin_object();
        json.key("name");
        json.string(&self.tracked.name);
        if !self.tracked.namespace.is_empty() {
            json.key("namespace");
            json.string(&self.tracked.namespace);
        }
        json.key("creationTimestamp");
        json.string(&made.text);
        if !self.object.labels().is_empty() {
            json.key("labels");
            json.begin_object();
            for (name, value) in self.object.labels() {
                json.key(name);
                json.string(value);
            }
            json.end_object();
        }
        json.end_object();
    }

    /// Writes the fields of the object as those of a message.
    pub fn write_message(&self, object: &mut Message, kind: Kind, made: &Made) {
        let (at, window) = self.age();
        object.nested(1, |meta| self.write_metadata_message(meta, made));
        object.nested(2, |time| at.into_iter().for_each(|at| write_time(time, at)));
        object.nested(3, |message| message.int(1, window.0));
        for (name, usage) in self.tracked.usages() {
            match kind {
                Kind::Nodes => write_usage_message(object, 4, &usage),
                Kind::Pods => object.nested(4, |container| {
                    container.text(1, name);
                    write_usage_message(container, 2, &usage);
                }),
            }
        }
    }

    fn write_metadata_message(&self, meta: &mut Message, made: &Made) {
        meta.text(1, &self.tracked.name);
        meta.text(2, "");
        meta.text(3, &self.tracked.namespace);
        (4..=6).for_each(|field| meta.text(field, ""));
        meta.int(7, 0);
        meta.nested(8, |time| write_time(time, made.at));
        for (name, value) in self.object.labels() {
            meta.nested(11, |entry| {
                entry.text(1, name);
                entry.text(2, value);
            });
        }
    }

    /// Names of the resources of a table whose first row this is; sorted.
    pub fn resources(&self) -> Vec<&'static str> {
        let has_swap = self.tracked.usages().any(|(_, usage)| usage.swap_bytes.is_some());
        let all = ["cpu", "memory", "swap"];
        all[..if has_swap { 3 } else { 2 }].to_vec()
    }

    /// Writes the cells of a table: the name, sums over containers, and the window.
    pub fn write_cells(&self, json: &mut JsonWriter, resources: &[&'static str]) {
        let sum = |of: &dyn Fn(&Usage) -> i64| {
            self.tracked.usages().fold(0_i64, |sum, (_, usage)| sum.saturating_add(of(&usage)))
        };
        json.begin_array();
        json.string(&self.tracked.name);
        for resource in resources {
            json.plain_text(match *resource {
                "cpu" => Quantity::from_nano(sum(&|usage| usage.cpu_nanocores)),
                "memory" => Quantity::from_bytes(sum(&|usage| usage.memory_bytes)),
                _ => Quantity::from_bytes(sum(&|usage| usage.swap_bytes.unwrap_or(0))),
            });
        }
        json.plain_text(self.age().1);
        json.end_array();
    }
}

fn write_usage(json: &mut JsonWriter, usage: &Usage) {
    json.begin_object();
    for (resource, amount) in amounts(usage) {
        json.key(resource);
        json.plain_text(amount);
    }
    json.end_object();
}

fn write_usage_message(message: &mut Message, field: u8, usage: &Usage) {
    for (resource, amount) in amounts(usage) {
        message.nested(field, |entry| {
            entry.text(1, resource);
            entry.nested(2, |quantity| quantity.text(1, &amount.to_string()));
        });
    }
}

fn write_time(time: &mut Message, at: Timestamp) {
    time.int(1, at.as_millis().div_euclid(1000));
    time.int(2, 0);
}

fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().div_euclid(1000).saturating_mul(1000))
}

/// A number of nanoseconds as Go prints it: `15s`, `12.4s`, `1m0s`, `1.5ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub i64);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let (unit, suffix) = match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (whole, fraction) = (nanos / unit, nanos % unit);
        let (hours, minutes) = (whole / 3600, whole / 60 % 60);
        let whole = match suffix {
            "s" => {
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                whole % 60
            }
            _ => whole,
        };
        write!(f, "{whole}")?;
        if fraction > 0 {
            let digits = unit.ilog10() as usize;
            let fraction = format!("{fraction:0digits$}");
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str(suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_000, "1µs"),
            (1_500_000, "1.5ms"),
            (12_400_000_000, "12.4s"),
            (15_021_000_000, "15.021s"),
            (60_000_000_000, "1m0s"),
            (3_723_000_000_000, "1h2m3s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
            (-15_000_000_000, "-15s"),
            (i64::MAX, "2562047h47m16.854775807s"),
        ] {
            assert_eq!(GoDuration(nanos).to_string(), text);
        }
    }
}
