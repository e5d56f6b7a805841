//! `v1alpha1`, as Heapster answered it: numbers of the newest batch, rates as its processors made
//! them, and errors as text. Old `kubectl` and HPAs ask under two prefixes.

use std::sync::Arc;

use heapster_core::catalogue::metric;
use heapster_core::cluster::Pod;
use heapster_core::{DataBatch, EntityKey, MetricSet, Quantity, Text, Timestamp};
use http::StatusCode;

use super::super::series_json::answer;
use super::super::{ApiState, Context};
use super::selector::LabelSelector;
use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Request, Response, Route, Router, text};

const PREFIXES: [&str; 2] = ["/apis/metrics.k8s.io/v1alpha1", "/apis/metrics/v1alpha1"];

pub(super) fn add_routes(router: &mut Router, context: &Arc<Context>) {
    type Handler = fn(&ApiState, &Request) -> Response;
    let routes: [(&str, Handler); 5] = [
        ("/nodes", nodes),
        ("/nodes/{node}", node),
        ("/pods", pods),
        ("/namespaces/{namespace}/pods", pods),
        ("/namespaces/{namespace}/pods/{pod}", pod),
    ];
    for prefix in PREFIXES {
        router.service(prefix);
        for (path, handler) in routes {
            let own = Arc::clone(context);
            let handler = move |request: Request| {
                let context = Arc::clone(&own);
                async move {
                    let state = context.state.clone();
                    context.turns.make(move || handler(&state, &request)).await
                }
            };
            router.route(Route::get_json(&format!("{prefix}{path}"), handler));
        }
    }
}

/// The numbers of one node or container: `None` unless both are there.
fn usage(set: Option<&MetricSet>) -> Option<(Quantity, Quantity)> {
    let metrics = &set?.metrics;
    let cpu = Quantity::from_milli(metrics.int(metric::CPU_USAGE_RATE)?);
    Some((cpu, Quantity::from_bytes(metrics.int(metric::MEMORY_WORKING_SET)?)))
}

fn selector(request: &Request) -> Result<LabelSelector, Box<Response>> {
    let selector = request.query.first("labelSelector");
    LabelSelector::parse(selector).map_err(|error| {
        let said = format!("Error while parsing selector {selector}: {error}");
        Box::new(text(StatusCode::BAD_REQUEST, said))
    })
}

fn nodes(state: &ApiState, request: &Request) -> Response {
    let selector = match selector(request) {
        Ok(selector) => selector,
        Err(refusal) => return *refusal,
    };
    let (batch, now) = (state.live.latest(), state.clock.now());
    let rows = batch.iter().flat_map(|batch| {
        let nodes = state.cluster.nodes().into_iter();
        nodes.filter(|node| selector.matches(&node.labels)).filter_map(|node| {
            let usage = usage(batch.sets.get(&EntityKey::node(node.name.clone())))?;
            Some((node.name.clone(), usage, batch.timestamp))
        })
    });
    let rows: Vec<_> = rows.collect();
    list(&rows, |json, (name, usage, at)| write_node(json, name, *usage, *at, now))
}

fn node(state: &ApiState, request: &Request) -> Response {
    let name = request.params.get("node");
    let found = state.live.latest().and_then(|batch| {
        let usage = usage(batch.sets.get(&EntityKey::node(name)))?;
        Some((usage, batch.timestamp))
    });
    match found {
        Some((usage, at)) => answer(Style::Pretty, |json| {
            write_node(json, name, usage, at, state.clock.now());
        }),
        None => text(StatusCode::NOT_FOUND, format!("No metrics for node {name}")),
    }
}

/// A pod's containers with their numbers.
type Containers = Vec<(Text, (Quantity, Quantity))>;

/// The numbers of a pod: `None` unless every container of its specification has both.
fn containers(batch: &DataBatch, pod: &Pod) -> Option<Containers> {
    let container = |container: &heapster_core::cluster::PodContainer| {
        let key = EntityKey::pod_container(
            pod.namespace.clone(),
            pod.name.clone(),
            container.name.clone(),
        );
        Some((container.name.clone(), usage(batch.sets.get(&key))?))
    };
    pod.containers.iter().map(container).collect()
}

fn pods(state: &ApiState, request: &Request) -> Response {
    let selector = match selector(request) {
        Ok(selector) => selector,
        Err(refusal) => return *refusal,
    };
    let namespace = Some(request.params.get("namespace")).filter(|own| !own.is_empty());
    let (batch, now) = (state.live.latest(), state.clock.now());
    let rows = batch.iter().flat_map(|batch| {
        let pods = state.cluster.pods(namespace).into_iter();
        pods.filter(|pod| selector.matches(&pod.labels)).filter_map(|pod| {
            let containers = containers(batch, &pod)?;
            Some((pod, containers, batch.timestamp))
        })
    });
    let rows: Vec<_> = rows.collect();
    list(&rows, |json, (pod, containers, at)| write_pod(json, pod, containers, *at, now))
}

fn pod(state: &ApiState, request: &Request) -> Response {
    let (namespace, name) = (request.params.get("namespace"), request.params.get("pod"));
    let Some(pod) = state.cluster.pod(namespace, name) else {
        let said = format!("Error while getting pod {name}: pod {name:?} not found");
        return text(StatusCode::INTERNAL_SERVER_ERROR, said);
    };
    let found = state.live.latest().and_then(|batch| {
        let containers = containers(&batch, &pod)?;
        Some((containers, batch.timestamp))
    });
    match found {
        Some((containers, at)) => answer(Style::Pretty, |json| {
            write_pod(json, &pod, &containers, at, state.clock.now());
        }),
        None => {
            // The spelling is the original's.
            let said = format!("No metrics availalble for pod {namespace}/{name}");
            text(StatusCode::NOT_FOUND, said)
        }
    }
}

/// A list; one without elements is `null`, as Go writes what was never made.
fn list<T>(rows: &[T], write: impl Fn(&mut JsonWriter, &T)) -> Response {
    answer(Style::Pretty, |json| {
        json.begin_object();
        json.key("metadata");
        json.begin_object();
        json.end_object();
        json.key("items");
        if rows.is_empty() {
            json.null();
        } else {
            json.begin_array();
            rows.iter().for_each(|row| write(json, row));
            json.end_array();
        }
        json.end_object();
    })
}

fn write_node(
    json: &mut JsonWriter,
    name: &str,
    usage: (Quantity, Quantity),
    at: Timestamp,
    now: Timestamp,
) {
    json.begin_object();
    write_head(json, name, "", at, now);
    write_usage(json, usage);
    json.end_object();
}

fn write_pod(
    json: &mut JsonWriter,
    pod: &Pod,
    containers: &Containers,
    at: Timestamp,
    now: Timestamp,
) {
    json.begin_object();
    write_head(json, &pod.name, &pod.namespace, at, now);
    json.key("containers");
    json.begin_array();
    for (name, usage) in containers {
        json.begin_object();
        json.key("name");
        json.string(name);
        write_usage(json, *usage);
        json.end_object();
    }
    json.end_array();
    json.end_object();
}

fn write_head(json: &mut JsonWriter, name: &str, namespace: &str, at: Timestamp, now: Timestamp) {
    json.key("metadata");
    json.begin_object();
    json.key("name");
    json.string(name);
    if !namespace.is_empty() {
        json.key("namespace");
        json.string(namespace);
    }
    json.key("creationTimestamp");
    json.plain_text(now.truncate(std::time::Duration::from_secs(1)));
    json.end_object();
    json.key("timestamp");
    json.plain_text(at);
    // Whatever the resolution is: the original knew no other.
    json.key("window");
    json.string("1m0s");
}

fn write_usage(json: &mut JsonWriter, (cpu, memory): (Quantity, Quantity)) {
    json.key("usage");
    json.begin_object();
    json.key("cpu");
    json.plain_text(cpu);
    json.key("memory");
    json.plain_text(memory);
    json.end_object();
}
