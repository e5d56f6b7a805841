//! Recordings of the original, asked again: every answer is the original's, whichever store gives it.
//!
//! Each recording is asked over three stores: one in memory, the real one with everything in its
//! log, and the real one after a flush and a restart, whose answers come from segment and log.
//! Lists are compared as sets, series point by point, the export by label set. Only `uptime` may
//! differ a little: it counts up to the moment of decoding, which the recording knows to the second.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use heapster_core::storage::{MemoryStorage, Storage};
use heapster_core::{DataBatch, Timestamp};
use heapster_server::api::ApiOptions;
use heapster_server::http::Router;
use heapster_server::live::{self, Live};
use heapster_server::usage::Rules;
use heapster_store::{Ack, Store, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::recording::{
    SteppedClock, get, read_json, read_lines, recorded_at, replay, router_over, shared,
};

/// Difference of uptimes in milliseconds that the recording's whole seconds can cause.
const UPTIME_SLACK: f64 = 1_500.0;

/// Recordings of the model and export APIs, with their requests: fewer mean that data is missing.
const MODEL_AND_EXPORT: [(&str, usize); 2] = [("heapster", 1_092), ("heapster-odd", 1_555)];

/// The recording of the historical API, with its requests.
const HISTORICAL: (&str, usize) = ("heapster-historical", 665);

#[tokio::test]
async fn the_model_and_export_apis_answer_as_the_original_from_memory() {
    model_and_export_answer_as_the_original(Stored::Memory).await;
}

#[tokio::test]
async fn the_model_and_export_apis_answer_as_the_original_from_the_log() {
    model_and_export_answer_as_the_original(Stored::Log).await;
}

#[tokio::test]
async fn the_model_and_export_apis_answer_as_the_original_after_flush_and_restart() {
    model_and_export_answer_as_the_original(Stored::SegmentAndLog).await;
}

#[tokio::test]
async fn the_historical_api_answers_as_the_original_or_better_from_memory() {
    historical_answers_as_the_original_or_better(Stored::Memory).await;
}

#[tokio::test]
async fn the_historical_api_answers_as_the_original_or_better_from_the_log() {
    historical_answers_as_the_original_or_better(Stored::Log).await;
}

#[tokio::test]
async fn the_historical_api_answers_as_the_original_or_better_after_flush_and_restart() {
    historical_answers_as_the_original_or_better(Stored::SegmentAndLog).await;
}

async fn model_and_export_answer_as_the_original(stored: Stored) {
    for (name, requests) in MODEL_AND_EXPORT {
        let Some(folder) = shared(&format!("golden/{name}")) else { return };
        let replayed = Replayed::new(&folder, stored);
        let mut differences = Differences::default();
        for recorded in read_lines(&folder.join("responses.jsonl.gz")) {
            let answer = ask(&replayed.router, &recorded).await;
            differences.note(&recorded, compare(&recorded, &answer));
        }
        differences.report(name, requests);
    }
}

async fn historical_answers_as_the_original_or_better(stored: Stored) {
    let (name, requests) = HISTORICAL;
    let Some(folder) = shared(&format!("golden/{name}")) else { return };
    let Replayed { router, .. } = &Replayed::new(&folder, stored);
    let mut differences = Differences::default();
    for mut recorded in read_lines(&folder.join("responses.jsonl.gz")) {
        if recorded["status"] == 500 || is_tag_key(&recorded["body"]) {
            recorded["body"] = right_answer(router, &folder, &recorded).await;
            recorded["status"] = json!(200);
            recorded["contentType"] = json!("application/json");
        }
        let answer = ask(router, &recorded).await;
        drop_names_without_data(router, &mut recorded, &answer).await;
        differences.note(&recorded, compare(&recorded, &answer));
    }
    differences.report(name, requests);
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
        let batches = replay(&folder);
        let newest = in_stored_order(batches.last().unwrap().clone());
        let storage = MemoryStorage::new();
        batches.iter().for_each(|batch| storage.append_batch(batch));
        let (restored, _) = live::restore(&storage, Rules::default()).unwrap().unwrap();
        assert_eq!(in_stored_order(restored), newest);

        let dir = tempfile::tempdir().unwrap();
        let clock = SteppedClock::at(Timestamp::EPOCH);
        append(&open(dir.path(), &clock), &clock, &batches);
        let store = open(dir.path(), &clock);
        let (restored, _) = live::restore(&store, Rules::default()).unwrap().unwrap();
        assert_eq!(in_stored_order(restored), newest);
    }
}

/// A store keeps labelled metrics by label set, not in the order of the source.
pub fn in_stored_order(mut batch: DataBatch) -> DataBatch {
    for set in batch.sets.values_mut() {
        set.labeled_metrics.sort_by(|a, b| (&a.labels, &a.name).cmp(&(&b.labels, &b.name)));
    }
    batch
}

/// Where a recording is kept while it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// In the storage that only tests use.
    Memory,
    /// In the real store, nothing flushed.
    Log,
    /// In the real store, the first half flushed, then opened anew.
    SegmentAndLog,
}

/// The APIs over a recording.
struct Replayed {
    router: Router,
    /// Removed at the end.
    _dir: TempDir,
}

impl Replayed {
    fn new(folder: &Path, stored: Stored) -> Self {
        let batches = replay(folder);
        let clock = SteppedClock::at(Timestamp::EPOCH);
        let dir = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = match stored {
            Stored::Memory => {
                let storage = MemoryStorage::new();
                batches.iter().for_each(|batch| storage.append_batch(batch));
                Arc::new(storage)
            }
            Stored::Log => {
                let store = open(dir.path(), &clock);
                append(&store, &clock, &batches);
                assert_eq!(store.stats().segments, 0);
                Arc::new(store)
            }
            Stored::SegmentAndLog => {
                let store = open(dir.path(), &clock);
                let (flushed, logged) = batches.split_at(batches.len() / 2);
                append(&store, &clock, flushed);
                store.flush().unwrap();
                append(&store, &clock, logged);
                drop(store);
                let store = open(dir.path(), &clock);
                assert_eq!(store.stats().segments, 1);
                assert_eq!(store.open_report().replayed_batches, logged.len() as u64);
                Arc::new(store)
            }
        };
        let live = Arc::new(Live::default());
        live.publish(Arc::new(batches.last().unwrap().clone()));
        clock.set(recorded_at(folder));
        let router = router_over(storage, &live, &clock, ApiOptions::default());
        Self { router, _dir: dir }
    }
}

fn open(dir: &Path, clock: &Arc<SteppedClock>) -> Store {
    let clock = Arc::clone(clock) as _;
    Store::open(dir, StoreOptions { clock, ..StoreOptions::default() }).unwrap()
}

/// Appends batches, each when it is due.
fn append(store: &Store, clock: &SteppedClock, batches: &[DataBatch]) {
    for batch in batches {
        clock.set(batch.timestamp);
        let report = store.append(batch, Ack::Buffered).unwrap();
        assert_eq!(report.rejected.total(), 0, "every sample is taken");
    }
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
        let difference: String = difference.chars().take(600).collect();
        writeln!(self.shown, "{}\n    {difference}", recorded["path"]).unwrap();
    }

    fn report(&self, name: &str, requests: usize) {
        println!(
            "{name}: {} of {} answers are the original's",
            self.asked - self.count,
            self.asked
        );
        assert_eq!(self.asked, requests, "requests of {name}");
        assert_eq!(self.count, 0, "answers of {name} differ:\n{}", self.shown);
    }
}
