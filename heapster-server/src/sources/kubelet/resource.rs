//! The kubelet's `/metrics/resource`: CPU, working set and swap of node, pods and containers as
//! Prometheus text, each with the time at which the kubelet took it.
//!
//! A line that makes no sense costs itself alone: metrics-server gives up the whole node for it.

use std::collections::BTreeMap;

use heapster_core::catalogue::metric;
use heapster_core::pipeline::Scrape;
use heapster_core::{EntityKey, Labels, MetricValue, NanoTime, Text, key};

use super::NodeInfo;
use super::answer::{Answer, SETS_MAX};
use crate::exposition::{Entry, Exposition, Format, SampleLine};

/// Why an answer gave no sets at all: it is not text.
pub use crate::exposition::ExpositionError;

/// A family that is read, and what its samples are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Cpu,
    Memory,
    Swap,
    Start,
}

/// What was said of one entity.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    at: Option<NanoTime>,
    start: Option<NanoTime>,
    cpu_nanos: Option<i64>,
    memory_bytes: Option<i64>,
    swap_bytes: Option<i64>,
}

/// Decodes an answer. Samples without a time are of `now`, when the kubelet was asked.
///
/// # Errors
/// The body is not UTF-8.
pub fn decode(body: &[u8], node: &NodeInfo, now: NanoTime) -> Result<Scrape, ExpositionError> {
    let mut answer = Answer::new(node, now);
    let mut said: BTreeMap<EntityKey, Said> = BTreeMap::new();
    let mut lines = Exposition::new(body, Format::Text)?;
    loop {
        let sample = match lines.next_entry() {
            Ok(None) => break,
            Ok(Some(Entry::Sample(sample))) => sample,
            Ok(Some(_)) => continue,
            Err(error) => {
                answer.rejects.push(error);
                continue;
            }
        };
        let name = sample.series.name();
        let Some(number) = number_of(name) else { continue };
        let key = match entity(name, &sample, &answer.nodename()) {
            Ok(key) => key,
            Err(what) => {
                answer.rejects.push(format_args!("line {}: {what}", lines.line()));
                continue;
            }
        };
        // The node's own set is one and first in importance: it always finds room.
        let is_full = said.len() >= SETS_MAX && !matches!(key, EntityKey::Node(_));
        if is_full && !said.contains_key(&key) {
            answer.rejects.push(format_args!("{key}: more than {SETS_MAX} sets"));
            continue;
        }
        if let Err(what) = said.entry(key).or_default().take(number, &sample, now) {
            answer.rejects.push(format_args!("line {}: {what}", lines.line()));
        }
    }
    for (key, said) in said {
        put(&mut answer, key, said);
    }
    Ok(answer.finish())
}

fn number_of(family: &str) -> Option<Number> {
    Some(match family {
        "node_cpu_usage_seconds_total"
        | "pod_cpu_usage_seconds_total"
        | "container_cpu_usage_seconds_total" => Number::Cpu,
        "node_memory_working_set_bytes"
        | "pod_memory_working_set_bytes"
        | "container_memory_working_set_bytes" => Number::Memory,
        "node_swap_usage_bytes" | "pod_swap_usage_bytes" | "container_swap_usage_bytes" => {
            Number::Swap
        }
        "container_start_time_seconds" => Number::Start,
        _ => return None,
    })
}

/// What the sample of a family that is read is about.
fn entity(family: &str, sample: &SampleLine<'_>, nodename: &Text) -> Result<EntityKey, String> {
    if family.starts_with("node_") {
        return Ok(EntityKey::Node(nodename.clone()));
    }
    let (_, labels) = sample.series.parse()?;
    // A slash would let one object's key read like another's.
    let object = |name: &str| {
        let value =
            labels.iter().find(|(own, _)| own == name).map(|(_, value)| Text::from(&**value));
        let value = value.filter(|value| !value.is_empty() && !value.contains('/'));
        value.ok_or_else(|| format!("the label {name} is missing or not a name"))
    };
    let (namespace, pod) = (object("namespace")?, object("pod")?);
    match family.starts_with("pod_") {
        true => Ok(EntityKey::Pod { namespace, pod }),
        false => Ok(EntityKey::PodContainer { namespace, pod, container: object("container")? }),
    }
}

impl Said {
    fn take(
        &mut self,
        number: Number,
        sample: &SampleLine<'_>,
        now: NanoTime,
    ) -> Result<(), &'static str> {
        let scale = if matches!(number, Number::Cpu | Number::Start) { 1e9 } else { 1.0 };
        let scaled = sample.value * scale;
        // NaN is not in the range either.
        if !(0.0..i64::MAX as f64).contains(&scaled) {
            return Err("the value is no amount of time or memory");
        }
        let value = scaled as i64;
        let at = match sample.at_ms {
            None => now,
            Some(millis) => {
                let nanos = millis.checked_mul(1_000_000).filter(|nanos| *nanos >= 0);
                nanos.map(NanoTime::from_nanos).ok_or("the time is before 1970 or after 2262")?
            }
        };
        match number {
            Number::Cpu => self.cpu_nanos = Some(value),
            Number::Memory => self.memory_bytes = Some(value),
            Number::Swap => self.swap_bytes = Some(value),
            Number::Start => self.start = Some(NanoTime::from_nanos(value)),
        }
        // The counter's time is what its rate is taken by.
        if number == Number::Cpu || number == Number::Memory && self.at.is_none() {
            self.at = Some(at);
        }
        Ok(())
    }
}

fn put(answer: &mut Answer<'_>, key: EntityKey, said: Said) {
    // A start alone tells nothing.
    if said.cpu_nanos.is_none() && said.memory_bytes.is_none() {
        return;
    }
    let mut labels = answer.node_labels.clone();
    let is_pod = match &key {
        EntityKey::Pod { namespace, pod } => {
            name_pod(&mut labels, namespace, pod);
            true
        }
        EntityKey::PodContainer { namespace, pod, container } => {
            name_pod(&mut labels, namespace, pod);
            labels.set_static(key::CONTAINER_NAME, container.clone());
            false
        }
        _ => false,
    };
    let mut set = answer.begin(&key, &labels);
    // As with the summary: a pod's rates are those of its containers.
    set.set.scrape_time = said.at.filter(|_| !is_pod);
    if let Some(start) = said.start {
        set.started(start);
    }
    let metrics = &mut set.set.metrics;
    if let Some(nanos) = said.cpu_nanos {
        metrics.set_static(metric::CPU_USAGE, MetricValue::cumulative(nanos));
    }
    if let Some(bytes) = said.memory_bytes {
        metrics.set_static(metric::MEMORY_WORKING_SET, MetricValue::gauge(bytes));
    }
    if let Some(bytes) = said.swap_bytes {
        metrics.set_static(metric::MEMORY_SWAP, MetricValue::gauge(bytes));
    }
    let set = set.finish();
    answer.put(key, set);
}

fn name_pod(labels: &mut Labels, namespace: &Text, pod: &Text) {
    labels.set_static(key::NAMESPACE_NAME, namespace.clone());
    labels.set_static(key::POD_NAME, pod.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> (Vec<String>, Vec<String>) {
        let node = NodeInfo { nodename: "n1".into(), ..NodeInfo::default() };
        let now = NanoTime::from_seconds(1_772_445_600).unwrap();
        let scrape = decode(text.as_bytes(), &node, now).unwrap();
        let sets = scrape.sets.iter().map(|(key, set)| {
            let number = |name| set.metrics.int(name).map_or(String::new(), |int| int.to_string());
            let (cpu, memory) = (number(metric::CPU_USAGE), number(metric::MEMORY_WORKING_SET));
            let time = |time: Option<NanoTime>| time.map_or(0, |time| time.as_nanos() / 1_000_000);
            let (at, start) = (time(set.scrape_time), time(set.collection_start_time));
            format!("{key} {cpu} {memory} {at} {start}")
        });
        (sets.collect(), scrape.rejects)
    }

    #[test]
    fn a_bad_line_costs_itself_alone() {
        let (sets, rejects) = decoded(
            "node_cpu_usage_seconds_total 1.5 1772445600001\n\
             node_memory_working_set_bytes NaN 1772445600001\n\
             container_cpu_usage_seconds_total{pod=\"p\",namespace=\"d\",x=\"pod=\\\"q\\\"\",container=\"c\"} 2\n\
             container_memory_working_set_bytes{pod=\"p\",namespace=\"d\",container=\"c\"} 7\n\
             container_start_time_seconds{pod=\"p\",namespace=\"d\",container=\"c\"} 1.772445e+09\n\
             container_memory_working_set_bytes{pod=\"a/b\",namespace=\"d\",container=\"c\"} 7\n\
             container_cpu_usage_seconds_total{pod=\"p\",namespace=\"d\",container=\"e\"} 1e300\n\
             container_start_time_seconds{pod=\"p\",namespace=\"d\",container=\"f\"} 1\n\
             something_else{ 1\n\
             container_cpu_usage_seconds_total{container=\"c\",namespace=\"d\",po",
        );
        assert_eq!(
            sets,
            [
                "node:n1 1500000000  1772445600001 0",
                "namespace:d/pod:p/container:c 2000000000 7 1772445600000 1772445000000",
            ]
        );
        assert_eq!(rejects.len(), 5, "{rejects:?}");
        assert!(rejects[1].contains("line 6: the label pod"), "{rejects:?}");
    }
}
