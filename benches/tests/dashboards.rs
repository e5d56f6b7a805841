//! Each panel and each variable of the dashboards in `docs/grafana` finds series in a simulated cluster.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::workload::SimulatedBatches;
use heapster_core::series::{Row, rows_of};
use heapster_core::storage::{MemoryStorage, Snapshot, Storage};
use heapster_core::{TimeRange, Timestamp};
use heapster_query::promql::vocabulary::Kubernetes;
use heapster_query::promql::{self, Control, Engine, EngineOptions, QueryValue};
use serde_json::Value;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const STEP: Duration = Duration::from_secs(60);
/// More than the longest window of a panel.
const BATCHES: usize = 75;

struct Cluster {
    snapshot: Arc<dyn Snapshot>,
    engine: Engine,
    end: Timestamp,
}

impl Cluster {
    fn new() -> Self {
        let options = SimOptions { nodes: 3, pods_per_node: 4, ..SimOptions::default() };
        let memory = MemoryStorage::new();
        let mut end = START;
        for batch in SimulatedBatches::new(&options, START, STEP).take(BATCHES) {
            let rows: Vec<Row> = batch.sets.values().flat_map(rows_of).collect();
            memory.append(batch.timestamp, &rows);
            end = batch.timestamp;
        }
        let vocabulary = Arc::new(Kubernetes);
        let engine = Engine::new(EngineOptions { vocabulary, ..EngineOptions::default() });
        Self { snapshot: memory.snapshot().unwrap(), engine, end }
    }

    /// The series of an expression over the last half hour.
    fn series(&self, expr: &str) -> usize {
        let (start, end) = (self.end.saturating_sub(Duration::from_secs(1_800)), self.end);
        let control = Control::default();
        let answer = self.engine.range(&*self.snapshot, expr, start, end, STEP, &control);
        match answer.unwrap_or_else(|error| panic!("{expr}: {error}")).value {
            QueryValue::Matrix(series) => series.len(),
            other => panic!("{expr}: {other:?}"),
        }
    }

    /// The first value that `label_values(SELECTOR, LABEL)` finds.
    fn label_value(&self, query: &str) -> String {
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).expect(query);
        let selector =
            promql::parse_selector(selector).unwrap_or_else(|error| panic!("{query}: {error}"));
        let range = TimeRange::new(START, self.end);
        let control = Control::default();
        let found = self.engine.series(&*self.snapshot, &[selector], range, &control).unwrap();
        let value = found.iter().find_map(|labels| labels.get(label));
        value.unwrap_or_else(|| panic!("{query} finds nothing")).to_string()
    }
}

fn list<'a>(json: &'a Value, what: &str) -> &'a Vec<Value> {
    json.as_array().unwrap_or_else(|| panic!("no {what}"))
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_else(|| panic!("{json} is no text"))
}

/// Variables are filled in as Grafana does it; they may refer to those before them.
fn filled(text: &str, variables: &[(String, String)]) -> String {
    let mut text = text.replace("$__rate_interval", "4m");
    for (name, value) in variables {
        text = text.replace(&format!("${name}"), value);
    }
    assert!(!text.contains('$'), "a variable is not filled: {text}");
    text
}

#[test]
fn every_panel_of_every_dashboard_finds_series() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana");
    let cluster = Cluster::new();
    let mut expressions = 0;
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        let mut variables = Vec::new();
        for variable in list(&json["templating"]["list"], "variables") {
            if variable["type"] == "query" {
                let query = filled(text(&variable["query"]["query"]), &variables);
                variables.push((text(&variable["name"]).to_owned(), cluster.label_value(&query)));
            }
        }
        for panel in list(&json["panels"], "panels") {
            for target in list(&panel["targets"], "targets") {
                let expr = filled(text(&target["expr"]), &variables);
                assert!(cluster.series(&expr) > 0, "{}: {expr}: no series", path.display());
                expressions += 1;
            }
        }
    }
    names.sort();
    assert_eq!(names, ["cluster.json", "namespace.json", "node.json", "pod.json"]);
    assert!(expressions >= 50, "{expressions}");
}
