//! `heapster top`: what nodes and pods use, now or then, against what they asked for.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::thread::sleep;
use std::time::Duration;

use heapster_core::{Labels, Quantity, Timestamp};
use heapster_query::promql::QueryValue;
use serde_json::Value;

use super::query::remote::{self, fetch};
use super::query::{URL, When};
use super::{Outcome, VerbError, moment, now, print};
use crate::cli::VerbCall;
use crate::cli::value::read_duration;

/// How far back a sparkline goes, and how wide it is.
const SPARK_SPAN: Duration = Duration::from_secs(15 * 60);
const SPARK_STEP: Duration = Duration::from_secs(60);
/// How often `--watch` asks.
const WATCH_PERIOD: Duration = Duration::from_secs(15);

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nodes,
    Pods,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    namespace: String,
    name: String,
    /// Empty for a whole pod or node.
    container: String,
    cpu_milli: i64,
    memory_bytes: i64,
}

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let kind = match call.words.first().map_or("", String::as_str) {
        "node" | "nodes" | "no" => Kind::Nodes,
        "pod" | "pods" | "po" => Kind::Pods,
        other => {
            return Err(call.conflict(format!("{other:?} is neither nodes nor pods")).into());
        }
    };
    let is_watching = call.values.is_set("watch");
    if is_watching && call.values.get_some("at").is_some() {
        return Err(call.conflict("--watch is about now and --at is not: give one of them").into());
    }
    loop {
        let text = shown(call, kind)?;
        // A terminal is cleared, so that the table stays where it is.
        let clear = is_watching && std::io::stdout().is_terminal();
        print(&format!("{}{text}", if clear { "\x1b[H\x1b[2J" } else { "" }))?;
        if !is_watching {
            return Ok(Outcome::Complete);
        }
        sleep(WATCH_PERIOD);
    }
}

fn shown(call: &VerbCall, kind: Kind) -> Result<String, VerbError> {
    let url = call.values.get_some("url").unwrap_or(URL).trim_end_matches('/');
    let output = call.values.get("output");
    let failed = |why: String| VerbError::Server { url: url.to_owned(), why };
    let accept = if output == "yaml" { "application/yaml" } else { "application/json" };
    let timeout = read_duration(call.values.get("timeout")).unwrap_or_default();
    let (status, body) =
        fetch(&format!("{url}{}", path(call, kind)), accept, timeout).map_err(failed)?;
    if !status.is_success() {
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = said["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        return Err(VerbError::Unanswered(said));
    }
    if matches!(output, "json" | "yaml") {
        return Ok(String::from_utf8_lossy(&body).into_owned());
    }
    let list: Value = serde_json::from_slice(&body)
        .map_err(|_| failed("its answer is not one of metrics.k8s.io".to_owned()))?;
    let mut lines = lines(&list, kind, call.values.is_set("containers"));
    match call.values.get("sort-by") {
        "cpu" => lines.sort_by_key(|line| std::cmp::Reverse(line.cpu_milli)),
        "memory" => lines.sort_by_key(|line| std::cmp::Reverse(line.memory_bytes)),
        _ => {}
    }
    let beside = Beside::ask(call, url, kind, output == "wide");
    Ok(table(&lines, kind, call, &beside))
}

/// The question to the metrics API.
fn path(call: &VerbCall, kind: Kind) -> String {
    let mut path = "/apis/metrics.k8s.io/v1beta1/".to_owned();
    match kind {
        Kind::Nodes => path.push_str("nodes"),
        Kind::Pods if call.values.is_set("all-namespaces") => path.push_str("pods"),
        Kind::Pods => {
            let namespace: String =
                form_urlencoded::byte_serialize(call.values.get("namespace").as_bytes()).collect();
            path.push_str(&format!("namespaces/{namespace}/pods"));
        }
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (flag, name) in [("selector", "labelSelector"), ("window", "window")] {
        if let Some(value) = call.values.get_some(flag) {
            query.append_pair(name, value);
        }
    }
    if let Some(at) = moment(call, "at", now()) {
        query.append_pair("at", &at.to_string());
    }
    let query = query.finish();
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

fn lines(list: &Value, kind: Kind, by_container: bool) -> Vec<Line> {
    let items = list["items"].as_array().into_iter().flatten();
    let mut lines = Vec::new();
    for item in items {
        let text = |name: &str| item["metadata"][name].as_str().unwrap_or_default().to_owned();
        let line = |container: &str, usage: &Value| {
            let amount =
                |name: &str| usage[name].as_str().and_then(|text| Quantity::parse(text).ok());
            Line {
                namespace: text("namespace"),
                name: text("name"),
                container: container.to_owned(),
                cpu_milli: amount("cpu").map_or(0, Quantity::milli_value),
                memory_bytes: amount("memory").map_or(0, Quantity::value),
            }
        };
        let containers = item["containers"].as_array().into_iter().flatten();
        let parts: Vec<Line> = match kind {
            Kind::Nodes => vec![line("", &item["usage"])],
            Kind::Pods => containers
                .map(|own| line(own["name"].as_str().unwrap_or_default(), &own["usage"]))
                .collect(),
        };
        if by_container || kind == Kind::Nodes {
            lines.extend(parts);
        } else if let Some(first) = parts.first() {
            let sum = |of: fn(&Line) -> i64| parts.iter().map(of).sum();
            lines.push(Line {
                container: String::new(),
                cpu_milli: sum(|line| line.cpu_milli),
                memory_bytes: sum(|line| line.memory_bytes),
                ..first.clone()
            });
        }
    }
    lines
}

/// What is known besides the usage; nothing where the server does not answer PromQL.
#[derive(Default)]
struct Beside {
    /// Values by metric, and by the line they are of.
    values: HashMap<(&'static str, String), f64>,
    sparks: HashMap<String, String>,
}

/// What a line's values are found by.
fn place(namespace: &str, name: &str, container: &str) -> String {
    format!("{namespace}/{name}/{container}")
}

impl Beside {
    fn ask(call: &VerbCall, url: &str, kind: Kind, wants_sparks: bool) -> Self {
        let at = moment(call, "at", now()).unwrap_or_else(now);
        let of_type = match (kind, call.values.is_set("containers")) {
            (Kind::Nodes, _) => "node",
            (Kind::Pods, true) => "pod_container",
            (Kind::Pods, false) => "pod",
        };
        let metrics: &[&'static str] = match kind {
            Kind::Nodes => &["cpu_node_allocatable", "memory_node_allocatable"],
            Kind::Pods => &["cpu_request", "cpu_limit", "memory_request", "memory_limit"],
        };
        let mut own = Self::default();
        for metric in metrics {
            let expr = format!("{metric}{{type=\"{of_type}\"}}");
            let answer = remote::ask(call, url, &expr, When::At(at));
            let Ok(QueryValue::Vector(found)) = answer.map(|answer| answer.value) else { continue };
            for sample in found {
                own.values.insert((metric, place_of(&sample.labels, kind)), sample.value);
            }
        }
        if wants_sparks {
            let when =
                When::Range { start: at.saturating_sub(SPARK_SPAN), end: at, step: SPARK_STEP };
            let answer =
                remote::ask(call, url, &format!("cpu_usage_rate{{type=\"{of_type}\"}}"), when);
            if let Ok(QueryValue::Matrix(found)) = answer.map(|answer| answer.value) {
                for series in found {
                    let place = place_of(&series.labels, kind);
                    own.sparks.insert(place, sparkline(&series.points));
                }
            }
        }
        own
    }

    fn value(&self, metric: &'static str, line: &Line) -> Option<f64> {
        let place = place(&line.namespace, &line.name, &line.container);
        self.values.get(&(metric, place)).copied().filter(|value| *value > 0.0)
    }
}

fn place_of(labels: &Labels, kind: Kind) -> String {
    match kind {
        Kind::Nodes => place("", labels.value("nodename"), ""),
        Kind::Pods => place(
            labels.value("namespace_name"),
            labels.value("pod_name"),
            labels.value("container_name"),
        ),
    }
}

/// A line that rises and falls as its points do, from nothing to the highest.
fn sparkline(points: &[(Timestamp, f64)]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let level = |value: f64| {
        let share = if highest > 0.0 { value.max(0.0) / highest } else { 0.0 };
        // A share is between 0 and 1, so an index is between 0 and 7.
        LEVELS[(share * 7.0).round().clamp(0.0, 7.0) as usize]
    };
    points.iter().map(|(_, value)| level(*value)).collect()
}

fn table(lines: &[Line], kind: Kind, call: &VerbCall, beside: &Beside) -> String {
    let has_namespace = kind == Kind::Pods && call.values.is_set("all-namespaces");
    let has_container = kind == Kind::Pods && call.values.is_set("containers");
    let is_wide = call.values.get("output") == "wide";
    let mut head: Vec<&str> = Vec::new();
    head.extend(has_namespace.then_some("NAMESPACE"));
    head.push(if has_container { "POD" } else { "NAME" });
    head.extend(has_container.then_some("CONTAINER"));
    head.extend(match kind {
        Kind::Nodes => &["CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"][..],
        Kind::Pods => &["CPU(cores)", "REQUEST", "LIMIT", "MEMORY(bytes)", "REQUEST", "LIMIT"][..],
    });
    head.extend(is_wide.then_some("CPU, 15 MINUTES"));
    let mut rows = vec![head.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()];
    for line in lines {
        let cpu = |milli: f64| format!("{milli:.0}m");
        let memory = |bytes: f64| format!("{:.0}Mi", (bytes / 1_048_576.0).floor());
        let share = |used: i64, of: Option<f64>| {
            of.map_or("-".to_owned(), |of| format!("{:.0}%", used as f64 / of * 100.0))
        };
        let given = |metric, write: &dyn Fn(f64) -> String| {
            beside.value(metric, line).map_or("-".to_owned(), write)
        };
        let (cpu_used, memory_used) =
            (cpu(line.cpu_milli as f64), memory(line.memory_bytes as f64));
        let mut row = Vec::new();
        row.extend(has_namespace.then(|| line.namespace.clone()));
        row.push(line.name.clone());
        row.extend(has_container.then(|| line.container.clone()));
        row.extend(match kind {
            Kind::Nodes => vec![
                cpu_used,
                share(line.cpu_milli, beside.value("cpu_node_allocatable", line)),
                memory_used,
                share(line.memory_bytes, beside.value("memory_node_allocatable", line)),
            ],
            Kind::Pods => vec![
                cpu_used,
                given("cpu_request", &cpu),
                given("cpu_limit", &cpu),
                memory_used,
                given("memory_request", &memory),
                given("memory_limit", &memory),
            ],
        });
        let place = place(&line.namespace, &line.name, &line.container);
        row.extend(is_wide.then(|| beside.sparks.get(&place).cloned().unwrap_or_default()));
        rows.push(row);
    }
    aligned(&rows)
}

/// Columns as wide as their widest cell, three spaces apart, as kubectl has them.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let fill = width + 3 - cell.chars().count();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', fill));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn containers_are_lines_of_their_own_or_summed() {
        let usage = |cpu: &str, memory: &str| json!({ "cpu": cpu, "memory": memory });
        let list = json!({ "items": [
            { "metadata": { "name": "p", "namespace": "d" }, "containers": [
                { "name": "a", "usage": usage("223456789n", "3Mi") },
                { "name": "b", "usage": usage("1", "512Ki") },
            ] },
            { "metadata": { "name": "q", "namespace": "d" }, "containers": [] },
        ] });
        let shown = |by_container| -> Vec<String> {
            let lines = lines(&list, Kind::Pods, by_container);
            lines
                .iter()
                .map(|l| format!("{}/{} {} {}", l.name, l.container, l.cpu_milli, l.memory_bytes))
                .collect()
        };
        assert_eq!(shown(true), ["p/a 224 3145728", "p/b 1000 524288"]);
        assert_eq!(shown(false), ["p/ 1224 3670016"]);
        let nodes =
            json!({ "items": [{ "metadata": { "name": "n" }, "usage": usage("2", "1Gi") }] });
        assert_eq!(lines(&nodes, Kind::Nodes, false)[0].memory_bytes, 1 << 30);
    }

    #[test]
    fn a_sparkline_goes_from_nothing_to_the_highest() {
        let points = |values: &[f64]| -> Vec<_> {
            values.iter().map(|value| (Timestamp::EPOCH, *value)).collect()
        };
        assert_eq!(sparkline(&points(&[0.0, 3.5, 7.0, -1.0, f64::NAN])), "▁▅█▁▁");
        assert_eq!(sparkline(&points(&[0.0])), "▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["NAME".to_owned(), "X".to_owned()], vec!["é".to_owned(), "12".to_owned()]];
        assert_eq!(aligned(&rows), "NAME   X\né      12\n");
    }
}
