//! The simulated cluster seen from outside: what it serves and what a watch tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use ::http::Method;
use http_body_util::BodyExt;
use serde_json::Value;

use super::*;
use crate::{Answer, fetch, open};

const NOW: i64 = 1_700_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

fn small() -> SimOptions {
    SimOptions { nodes: 3, pods_per_node: 6, ..SimOptions::default() }
}

fn summary(cluster: &Cluster, node: usize, now: i64) -> Value {
    serde_json::from_slice(&cluster.summary(node, now).unwrap()).unwrap()
}

/// Every number of a JSON value by its path; elements of arrays go by their name where they have one.
fn numbers(value: &Value, path: &str, into: &mut BTreeMap<String, u64>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                numbers(field, &format!("{path}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                numbers(item, &format!("{path}[{index}]"), into);
            }
        }
        Value::Number(number) => {
            into.insert(path.to_owned(), number.as_u64().unwrap());
        }
        _ => {}
    }
}

fn is_counter(path: &str) -> bool {
    let counters = ["usageCoreNanoSeconds", "pageFaults", "majorPageFaults", "rxBytes", "txBytes"];
    counters.iter().any(|name| path.ends_with(name)) || path.ends_with("Errors")
}

#[test]
fn counters_never_fall_and_some_gauges_do() {
    let cluster = Cluster::new(&small(), NOW);
    let mut before = BTreeMap::new();
    numbers(&summary(&cluster, 1, NOW), "", &mut before);
    let (mut risen, mut fallen) = (0, 0);
    for minute in 1..=60 {
        let mut after = BTreeMap::new();
        numbers(&summary(&cluster, 1, NOW + 60 * minute), "", &mut after);
        assert!(after.keys().eq(before.keys()), "the shape changed in minute {minute}");
        for (path, value) in &after {
            if is_counter(path) {
                assert!(*value >= before[path], "{path} fell to {value} in minute {minute}");
                risen += u32::from(*value > before[path]);
            } else {
                fallen += u32::from(*value < before[path]);
            }
        }
        before = after;
    }
    assert!(risen > 1_000 && fallen > 100, "{risen} rises, {fallen} falls");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_another() {
    let at = NOW + 1234;
    let one = Cluster::new(&small(), NOW).summary(2, at).unwrap();
    assert_eq!(Cluster::new(&small(), NOW).summary(2, at).unwrap(), one);
    let other = Cluster::new(&SimOptions { seed: 8, ..small() }, NOW);
    assert_ne!(other.summary(2, at).unwrap(), one);
}

/// The names of all fields, without the indexes of arrays.
fn fields(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}/{name}");
                fields(member, &path, into);
                into.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, path, into)),
        _ => {}
    }
}

#[test]
fn an_answer_has_the_fields_of_a_real_kubelets() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/fixtures/kubelet/real/stats_summary_k8s_1_31.json");
    let Ok(recorded) = std::fs::read(&path) else {
        println!("skipped: there is no {}", path.display());
        return;
    };
    let (mut real, mut own) = (BTreeSet::new(), BTreeSet::new());
    fields(&serde_json::from_slice(&recorded).unwrap(), "", &mut real);
    let cluster = Cluster::new(&SimOptions { nodes: 3, ..SimOptions::default() }, NOW);
    fields(&summary(&cluster, 0, NOW), "", &mut own);
    let made_up: Vec<_> = own.difference(&real).collect();
    assert!(made_up.is_empty(), "a real kubelet does not send {made_up:?}");
    let missing: Vec<_> = real.difference(&own).collect();
    assert!(missing.is_empty(), "a real kubelet also sends {missing:?}");
}

#[test]
fn a_node_of_the_usual_size_answers_about_as_much_as_a_real_one() {
    let options = SimOptions { nodes: 1, ..SimOptions::default() };
    let bytes = Cluster::new(&options, NOW).summary(0, NOW).unwrap().len();
    assert!((100_000..200_000).contains(&bytes), "{bytes} bytes");
}

#[test]
fn churn_replaces_pods_at_its_pace_and_tells_the_watchers() {
    let cluster = Cluster::new(&SimOptions { churn: 6, ..small() }, NOW);
    let (version, before) = cluster.registry.list(registry::Kind::Pods, None);
    assert_eq!(cluster.step_churn(NOW + 599), 0);
    assert_eq!(cluster.step_churn(NOW + 1200), 2);
    assert_eq!(cluster.step_churn(NOW + 1200), 0);
    let (_, after) = cluster.registry.list(registry::Kind::Pods, None);
    assert_eq!(before.len(), after.len());
    let changes = cluster.registry.changes_since(registry::Kind::Pods, version).unwrap().1;
    let kinds: Vec<String> = changes
        .iter()
        .map(|change| serde_json::from_slice::<Value>(&change.line()).unwrap()["type"].to_string())
        .collect();
    assert_eq!(kinds, ["\"DELETED\"", "\"ADDED\"", "\"MODIFIED\""].repeat(2));
    // The kubelets report the new pods, whose counters begin near zero.
    let new_name = after.iter().find(|(key, _)| !before.iter().any(|(old, _)| old == key)).unwrap();
    let names: String =
        (0..3).map(|node| summary(&cluster, node, NOW + 1300).to_string()).collect();
    assert!(names.contains(new_name.0.split('/').next_back().unwrap()));
}

async fn start() -> Simulator {
    Simulator::start(&small()).await.unwrap()
}

async fn get(simulator: &Simulator, path: &str) -> Answer {
    fetch(Method::GET, simulator.api_address(), path, PATIENCE).await.unwrap()
}

async fn get_json(simulator: &Simulator, path: &str) -> Value {
    let answer = get(simulator, path).await;
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
    serde_json::from_slice(&answer.body).unwrap()
}

async fn post(simulator: &Simulator, path: &str) -> u16 {
    fetch(Method::POST, simulator.api_address(), path, PATIENCE).await.unwrap().status
}

fn kubelet(simulator: &Simulator, address: Ipv4Addr) -> SocketAddr {
    (address, simulator.kubelet_port()).into()
}

#[tokio::test]
async fn the_dialled_address_chooses_the_node() {
    let simulator = start().await;
    for (last, name) in [(1, "node-000"), (2, "node-001"), (3, "node-002")] {
        let address = kubelet(&simulator, Ipv4Addr::new(127, 1, 0, last));
        for path in ["/stats/summary", "/stats/summary/"] {
            let answer = fetch(Method::GET, address, path, PATIENCE).await.unwrap();
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["node"]["nodeName"], name);
        }
    }
    let nobody = kubelet(&simulator, Ipv4Addr::new(127, 1, 0, 4));
    assert_eq!(fetch(Method::GET, nobody, "/stats/summary", PATIENCE).await.unwrap().status, 404);
}

#[tokio::test]
async fn pages_of_a_list_hold_every_pod_once_and_keep_their_version() {
    let simulator = start().await;
    let whole = get_json(&simulator, "/api/v1/pods").await;
    let name = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let expected: BTreeSet<_> = whole["items"].as_array().unwrap().iter().map(name).collect();
    assert_eq!(expected.len(), 18);
    let (mut seen, mut path) = (Vec::new(), "/api/v1/pods?limit=5".to_owned());
    loop {
        let page = get_json(&simulator, &path).await;
        assert_eq!(page["metadata"]["resourceVersion"], whole["metadata"]["resourceVersion"]);
        seen.extend(page["items"].as_array().unwrap().iter().map(name));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        path = format!("/api/v1/pods?limit=5&continue={}", token.replace('/', "%2F"));
    }
    assert_eq!(seen.len(), 18);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn a_watch_tells_of_a_deleted_pod_and_ends_at_its_timeout() {
    let simulator = start().await;
    let list = get_json(&simulator, "/api/v1/pods").await;
    let metadata = &list["items"][4]["metadata"];
    let pod = format!(
        "{}/{}",
        metadata["namespace"].as_str().unwrap(),
        metadata["name"].as_str().unwrap()
    );
    let path = format!(
        "/api/v1/pods?watch=true&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={}",
        list["metadata"]["resourceVersion"].as_str().unwrap()
    );
    let watch = open(Method::GET, simulator.api_address(), &path).await.unwrap();
    assert_eq!(post(&simulator, &format!("/control/pod-delete?pod={pod}")).await, 200);
    assert_eq!(post(&simulator, &format!("/control/pod-delete?pod={pod}")).await, 404);
    let lines = watch.into_body().collect().await.unwrap().to_bytes();
    let event: Value = serde_json::from_slice(&lines).expect("exactly one event");
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["uid"], metadata["uid"]);
    assert_eq!(
        get(&simulator, &format!("/api/v1/namespaces/{}", pod.replace('/', "/pods/"))).await.status,
        404
    );
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_there_is() {
    let simulator = start().await;
    let path = "/api/v1/nodes?watch=1&timeoutSeconds=1";
    let watch = open(Method::GET, simulator.api_address(), path).await.unwrap();
    let lines = watch.into_body().collect().await.unwrap().to_bytes();
    let added = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let names: Vec<String> = added
        .map(|line| serde_json::from_slice::<Value>(line).unwrap())
        .inspect(|event| assert_eq!(event["type"], "ADDED"))
        .map(|event| event["object"]["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["node-000", "node-001", "node-002"]);
    // An initial stream is the business of newer servers; clients fall back to lists.
    let refused = get(&simulator, "/api/v1/nodes?watch=1&sendInitialEvents=true").await;
    assert_eq!(refused.status, 422);
}

#[tokio::test]
async fn a_hung_kubelet_answers_once_it_is_resumed_and_others_do_meanwhile() {
    let simulator = start().await;
    assert_eq!(post(&simulator, "/control/hang?node=node-001").await, 200);
    assert_eq!(post(&simulator, "/control/hang?node=nobody").await, 404);
    let ask = |last, patience| {
        let address = kubelet(&simulator, Ipv4Addr::new(127, 1, 0, last));
        fetch(Method::GET, address, "/stats/summary", patience)
    };
    assert_eq!(ask(1, PATIENCE).await.unwrap().status, 200);
    assert!(ask(2, Duration::from_millis(200)).await.is_err());
    let (answer, resumed) =
        tokio::join!(ask(2, PATIENCE), post(&simulator, "/control/resume?node=node-001"));
    assert_eq!((answer.unwrap().status, resumed), (200, 200));
}

#[test]
fn a_restarted_container_counts_from_zero_and_its_pod_goes_on() {
    let cluster = Cluster::new(&small(), NOW);
    let before = summary(&cluster, 0, NOW + 60);
    let pod = &before["pods"][2];
    let name = |field: &str| pod["podRef"][field].as_str().unwrap().to_owned();
    cluster.restart_pod(&name("namespace"), &name("name"), NOW + 65).unwrap();
    let after = &summary(&cluster, 0, NOW + 80)["pods"][2];
    let cpu = |stats: &Value| stats["cpu"]["usageCoreNanoSeconds"].as_u64().unwrap();
    assert!(cpu(&after["containers"][0]) < cpu(&pod["containers"][0]));
    assert_eq!(after["containers"][0]["startTime"], "2023-11-14T22:14:25Z");
    assert!(cpu(after) > cpu(pod));
    let faults = |stats: &Value| stats["memory"]["pageFaults"].as_u64().unwrap();
    assert!(faults(after) > faults(pod));
    let missing = cluster.restart_pod("nowhere", "nobody", NOW);
    assert_eq!(missing, Err(cluster::NoSuch("nowhere/nobody".into())));
}
