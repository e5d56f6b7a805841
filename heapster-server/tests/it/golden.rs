//! Recordings of the original, asked again: every answer is the original's.
//!
//! Lists are compared as sets, series point by point, the export by label set. Only `uptime` may
//! differ a little: it counts up to the moment of decoding, which the recording knows to the second.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use heapster_core::DataBatch;
use heapster_core::storage::{MemoryStorage, Storage};
use heapster_server::api::ApiOptions;
use heapster_server::http::Router;
use heapster_server::live::{self, Live};
use serde_json::{Value, json};

use crate::recording::{
    SteppedClock, get, read_json, read_lines, recorded_at, replay, router_over, shared,
};

/// Difference of uptimes in milliseconds that the recording's whole seconds can cause.
const UPTIME_SLACK: f64 = 1_500.0;

/// How many differences a failure shows.
const SHOWN_MAX: usize = 25;

#[tokio::test]
async fn the_model_and_export_apis_answer_as_the_original() {
    for name in ["heapster", "heapster-odd"] {
        let Some(folder) = shared(&format!("golden/{name}")) else { return };
        let router = replayed_into(Arc::new(MemoryStorage::new()), &folder);
        let mut differences = Differences::default();
        for recorded in read_lines(&folder.join("responses.jsonl.gz")) {
            let answer = ask(&router, &recorded).await;
            differences.note(&recorded, compare(&recorded, &answer));
        }
        differences.report(name);
    }
}

#[tokio::test]
async fn the_historical_api_answers_as_the_original_or_better() {
    let Some(folder) = shared("golden/heapster-historical") else { return };
    let router = replayed_into(Arc::new(MemoryStorage::new()), &folder);
    let mut differences = Differences::default();
    for mut recorded in read_lines(&folder.join("responses.jsonl.gz")) {
        if recorded["status"] == 500 || is_tag_key(&recorded["body"]) {
            recorded["body"] = right_answer(&router, &folder, &recorded).await;
            recorded["status"] = json!(200);
            recorded["contentType"] = json!("application/json");
        }
        let answer = ask(&router, &recorded).await;
        drop_names_without_data(&router, &mut recorded, &answer).await;
        differences.note(&recorded, compare(&recorded, &answer));
    }
    differences.report("heapster-historical");
}

/// The recording's database listed a metric when any set of that type and any set of that name had
/// it, so it named metrics of a pod that only its containers have. Those have no data.
async fn drop_names_without_data(router: &Router, recorded: &mut Value, answer: &Answer) {
    let path = recorded["path"].as_str().unwrap().to_owned();
    if recorded["status"] != 200 || !path.trim_end_matches('/').ends_with("/metrics") {
        return;
    }
    let own = answer.body.as_array().unwrap();
    let names = recorded["body"].as_array_mut().unwrap();
    let mut kept = Vec::new();
    for name in std::mem::take(names) {
        let series = format!(
            "{}/{}?start=2000-01-01T00:00:00Z",
            path.trim_end_matches('/'),
            name.as_str().unwrap()
        );
        let has_data = body_of(&get(router, &series).await)["metrics"] != json!([]);
        if has_data || own.contains(&name) {
            kept.push(name);
        }
    }
    *names = kept;
}

#[test]
fn a_restarted_server_knows_the_newest_batch_of_every_recording() {
    for name in ["heapster", "heapster-odd", "heapster-historical"] {
        let Some(folder) = shared(&format!("golden/{name}")) else { return };
        let storage = MemoryStorage::new();
        let batches = replay(&folder);
        for batch in &batches {
            storage.append_batch(batch);
        }
        let restored = live::restore(&storage).unwrap().unwrap();
        assert_eq!(in_stored_order(restored), in_stored_order(batches.last().unwrap().clone()));
    }
}

/// A store keeps labelled metrics by label set, not in the order of the source.
pub fn in_stored_order(mut batch: DataBatch) -> DataBatch {
    for set in batch.sets.values_mut() {
        set.labeled_metrics.sort_by(|a, b| (&a.labels, &a.name).cmp(&(&b.labels, &b.name)));
    }
    batch
}

fn replayed_into(storage: Arc<MemoryStorage>, folder: &Path) -> Router {
    let live = Arc::new(Live::default());
    for batch in replay(folder) {
        storage.append_batch(&batch);
        live.publish(Arc::new(batch));
    }
    let clock = SteppedClock::at(recorded_at(folder));
    router_over(storage as Arc<dyn Storage>, &live, &clock, ApiOptions::default())
}

/// What the recording's storage answered in place of a list: the name of the label.
fn is_tag_key(body: &Value) -> bool {
    *body == json!(["nodename"]) || *body == json!(["namespace_name"])
}

/// What the original should have said where its storage failed it.
async fn right_answer(router: &Router, folder: &Path, recorded: &Value) -> Value {
    let path = recorded["path"].as_str().unwrap();
    let route = path.split('?').next().unwrap().trim_end_matches('/');
    let names = |file: &str, namespace: Option<&str>| -> Value {
        let list = read_json(&folder.join(file));
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| &item["metadata"])
            .filter(|meta| namespace.is_none_or(|namespace| meta["namespace"] == namespace))
            .map(|meta| meta["name"].clone())
            .collect()
    };
    match route {
        // A node that was not ready was not scraped.
        "/api/v1/historical/nodes" => json!(["node-0", "node-1", "node-2", "node-3"]),
        "/api/v1/historical/namespaces" => names("namespaces.json", None),
        "/api/v1/historical/namespaces/default/pods" => {
            // Pods that the recording's kubelets never reported have no metrics.
            let reported: BTreeSet<String> = replay(folder)
                .iter()
                .flat_map(|batch| batch.sets.keys())
                .filter_map(|key| match key {
                    heapster_core::EntityKey::Pod { namespace, pod } if *namespace == "default" => {
                        Some(pod.to_string())
                    }
                    _ => None,
                })
                .collect();
            json!(reported)
        }
        "/api/v1/historical/nodes/node-0/freecontainers" => {
            json!(["kubelet", "docker-daemon", "system"])
        }
        _ if path.contains("/pod-id") => {
            // The same pods by name.
            let by_name = path
                .replace("/pod-id-list/", "/namespaces/default/pod-list/")
                .replace("/pod-id/", "/namespaces/default/pods/")
                .replace("pod-uid-default-", "");
            let body = body_of(&get(router, &by_name).await);
            assert!(body.to_string().contains("timestamp"), "{by_name} has data");
            body
        }
        _ if path.contains("/pod-list/app-0-0,nope/") => {
            let known = path.replace("pod-list/app-0-0,nope/", "pod-list/app-0-0/");
            let mut body = body_of(&get(router, &known).await);
            let items = body["items"].as_array_mut().unwrap();
            items.push(empty_answer(path));
            body
        }
        _ => empty_answer(path),
    }
}

fn empty_answer(path: &str) -> Value {
    if path.contains("/metrics-aggregated/") {
        json!({"buckets": [], "bucketSize": 0})
    } else {
        json!({"metrics": [], "latestTimestamp": "0001-01-01T00:00:00Z"})
    }
}

struct Answer {
    status: u16,
    content_type: String,
    body: Value,
}

async fn ask(router: &Router, recorded: &Value) -> Answer {
    let response = get(router, recorded["path"].as_str().unwrap()).await;
    let content_type = response.headers()[http::header::CONTENT_TYPE].to_str().unwrap().to_owned();
    Answer { status: response.status().as_u16(), content_type, body: body_of(&response) }
}

fn body_of(response: &heapster_server::http::Response) -> Value {
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    let is_json = response.headers()[http::header::CONTENT_TYPE] == "application/json";
    if is_json { serde_json::from_str(&text).unwrap() } else { Value::String(text) }
}

/// The first difference, if there is one.
fn compare(recorded: &Value, answer: &Answer) -> Option<String> {
    if recorded["status"] != answer.status {
        return Some(format!("status {} instead of {}", answer.status, recorded["status"]));
    }
    if recorded["contentType"] != *answer.content_type {
        let wanted = &recorded["contentType"];
        return Some(format!("content type {} instead of {wanted}", answer.content_type));
    }
    let path = recorded["path"].as_str().unwrap();
    let slack = if path.contains("uptime") { UPTIME_SLACK } else { 0.0 };
    let (wanted, own) = (&recorded["body"], &answer.body);
    if path.ends_with("/metric-export") {
        return compare_export(wanted, own);
    }
    let is_list_of_names = wanted.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    if is_list_of_names {
        let sorted = |value: &Value| -> Option<Vec<String>> {
            let mut names: Vec<String> = serde_json::from_value(value.clone()).ok()?;
            names.sort();
            Some(names)
        };
        let (wanted, own) = (sorted(wanted), sorted(own));
        return (wanted != own).then(|| format!("{own:?} instead of {wanted:?}"));
    }
    difference(wanted, own, slack, "")
}

/// The export by set: which sets there are, and each one's points by metric and labels.
fn compare_export(wanted: &Value, own: &Value) -> Option<String> {
    let by_labels = |value: &Value| -> std::collections::BTreeMap<String, Value> {
        let sets = value.as_array().into_iter().flatten();
        sets.map(|set| {
            let mut metrics = set["metrics"].clone();
            for points in metrics.as_object_mut().unwrap().values_mut() {
                points.as_array_mut().unwrap().sort_by_key(|point| point["labels"].to_string());
            }
            (set["labels"].to_string(), metrics)
        })
        .collect()
    };
    let (wanted, own) = (by_labels(wanted), by_labels(own));
    if !wanted.keys().eq(own.keys()) {
        let missing: Vec<_> = wanted.keys().filter(|key| !own.contains_key(*key)).collect();
        let surplus: Vec<_> = own.keys().filter(|key| !wanted.contains_key(*key)).collect();
        return Some(format!("sets missing {missing:?}, surplus {surplus:?}"));
    }
    let mut pairs = wanted.iter().zip(own.values());
    pairs.find_map(|((labels, wanted), own)| difference(wanted, own, 0.0, labels))
}

/// The first difference of two JSON values; `uptime` and what lies in it may differ by its slack.
fn difference(wanted: &Value, own: &Value, slack: f64, at: &str) -> Option<String> {
    let differ = || Some(format!("{at}: {own} instead of {wanted}"));
    match (wanted, own) {
        (Value::Object(wanted), Value::Object(own)) => {
            // The whole or the fraction of an uptime says nothing about its neighbours.
            let number = |map: &serde_json::Map<String, Value>| {
                let value = map.get("intValue").or(map.get("floatValue"));
                value.filter(|_| map.len() == 1).and_then(Value::as_f64)
            };
            if let (true, Some(a), Some(b)) = (slack > 0.0, number(wanted), number(own)) {
                return if (a - b).abs() <= slack { None } else { differ() };
            }
            let names =
                |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
            if names(wanted) != names(own) {
                return differ();
            }
            wanted.iter().find_map(|(name, value)| {
                let slack = if name == "uptime" { UPTIME_SLACK } else { slack };
                difference(value, &own[name], slack, &format!("{at}/{name}"))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(index, (a, b))| difference(a, b, slack, &format!("{at}/{index}")))
        }
        (Value::Number(a), Value::Number(b)) => {
            let close = (a.as_f64()? - b.as_f64()?).abs() <= slack;
            if a == b || close && (slack > 0.0 || a.as_f64() == b.as_f64()) {
                None
            } else {
                differ()
            }
        }
        (Value::String(a), Value::String(b)) => {
            // The original's single bucket began a nanosecond after the start it was asked for.
            if a.replace(".000000001Z", "Z") == *b { None } else { differ() }
        }
        _ if wanted == own => None,
        _ => differ(),
    }
}

#[derive(Default)]
struct Differences {
    asked: usize,
    shown: String,
    count: usize,
}

impl Differences {
    fn note(&mut self, recorded: &Value, difference: Option<String>) {
        self.asked += 1;
        let Some(difference) = difference else { return };
        self.count += 1;
        if self.count <= SHOWN_MAX {
            let difference: String = difference.chars().take(600).collect();
            writeln!(self.shown, "{}\n    {difference}", recorded["path"]).unwrap();
        }
    }

    fn report(&self, name: &str) {
        println!(
            "{name}: {} of {} answers are the original's",
            self.asked - self.count,
            self.asked
        );
        assert!(self.asked > 0, "{name} has requests");
        assert_eq!(self.count, 0, "answers of {name} differ:\n{}", self.shown);
    }
}
