//! `targets` and `metadata`: what is scraped and how it is, and what is said of metrics.

use std::sync::Arc;

use heapster_core::{Labels, Text};
use heapster_query::promql::print_duration;

use super::answer::write_labels;
use super::error::Failure;
use super::params::Form;
use super::query::success;
use super::{Prometheus, add_route};
use crate::http::gojson::JsonWriter;
use crate::http::{Response, Router};
use crate::metadata::{Metadata, MetadataRegistry};
use crate::targets::{TargetRegistry, TargetState};

/// The time of what did not happen yet, as Go prints it.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(super) fn add_routes(router: &mut Router, own: &Arc<Prometheus>) {
    add_route(router, own, ("/targets", "targets"), |own, form, _| async move {
        targets(&own.state.targets, &form)
    });
    add_route(router, own, ("/metadata", "metadata"), |own, form, _| async move {
        metadata(&own.state.metadata, &form)
    });
}

fn targets(registry: &TargetRegistry, form: &Form) -> Result<Response, Failure> {
    let state = form.text("state").to_ascii_lowercase();
    let (with_active, with_dropped) = match state.as_str() {
        "" | "any" => (true, true),
        "active" => (true, false),
        "dropped" => (false, true),
        _ => {
            let why = format!("{state:?} is not active, dropped or any");
            return Err(Failure::parameter("state", why));
        }
    };
    let pool = form.text("scrapePool");
    let jobs = registry.jobs().into_iter().filter(|(job, _)| pool.is_empty() || pool == job);
    let jobs: Vec<_> = jobs.collect();
    Ok(success(|json| {
        json.begin_object();
        json.key("activeTargets");
        json.begin_array();
        for (_, targets) in jobs.iter().filter(|_| with_active) {
            targets.active.iter().for_each(|target| write_target(json, target));
        }
        json.end_array();
        json.key("droppedTargets");
        json.begin_array();
        for labels in jobs.iter().filter(|_| with_dropped).flat_map(|(_, job)| &job.dropped) {
            json.begin_object();
            write_key_labels(json, "discoveredLabels", labels);
            json.end_object();
        }
        json.end_array();
        json.key("droppedTargetCounts");
        json.begin_object();
        for (job, targets) in &jobs {
            json.key(job);
            json.uint(targets.dropped_count as u64);
        }
        json.end_object();
        json.end_object();
    }))
}

fn write_target(json: &mut JsonWriter, target: &TargetState) {
    let status = target.status();
    json.begin_object();
    write_key_labels(json, "discoveredLabels", &target.discovered);
    write_key_labels(json, "labels", &target.labels);
    for (key, text) in [
        ("scrapePool", target.job.as_str()),
        ("scrapeUrl", &target.url),
        ("globalUrl", &target.url),
        ("lastError", &status.last_error),
    ] {
        json.key(key);
        json.string(text);
    }
    json.key("lastScrape");
    match status.last_scrape {
        Some(at) => json.plain_text(at),
        None => json.string(NEVER),
    }
    json.key("lastScrapeDuration");
    json.float(status.last_duration.as_secs_f64());
    json.key("health");
    json.string(status.health.as_str());
    json.key("scrapeInterval");
    json.string(&print_duration(target.interval));
    json.key("scrapeTimeout");
    json.string(&print_duration(target.timeout));
    json.end_object();
}

fn write_key_labels(json: &mut JsonWriter, key: &str, labels: &Labels) {
    json.key(key);
    write_labels(json, labels);
}

fn metadata(registry: &MetadataRegistry, form: &Form) -> Result<Response, Failure> {
    let limit = most(form, "limit")?;
    let per_metric = Some(most(form, "limit_per_metric")?).filter(|most| *most > 0);
    let per_metric = per_metric.unwrap_or(usize::MAX);
    let name = Some(form.text("metric")).filter(|name| !name.is_empty());
    let families: Vec<(Text, Vec<Metadata>)> = registry.families(name);
    Ok(success(|json| {
        json.begin_object();
        for (family, said) in families.iter().take(limit) {
            json.key(family);
            json.begin_array();
            for one in said.iter().take(per_metric) {
                json.begin_object();
                for (key, text) in [
                    ("type", one.metric_type.as_str()),
                    ("help", one.help.as_str()),
                    ("unit", one.unit.as_str()),
                ] {
                    json.key(key);
                    json.string(text);
                }
                json.end_object();
            }
            json.end_array();
        }
        json.end_object();
    }))
}

/// A limit that may be negative, which is none, as in Prometheus; zero is zero.
fn most(form: &Form, name: &str) -> Result<usize, Failure> {
    match form.text(name) {
        "" => Ok(usize::MAX),
        text => match text.parse::<i64>() {
            Ok(number) => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
            Err(_) => Err(Failure::parameter(name, "it is not a number")),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heapster_core::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::metadata::MetricType;
    use crate::targets::{Health, TargetStatus};

    /// The data of an answer.
    fn data(answer: Result<Response, Failure>) -> Value {
        let body: Value = serde_json::from_slice(answer.unwrap().body()).unwrap();
        assert_eq!(body["status"], "success");
        body["data"].clone()
    }

    fn registry() -> TargetRegistry {
        let registry = TargetRegistry::default();
        let labels = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<Labels>();
        let target = TargetState::new(
            "node".to_owned(),
            labels(&[("__address__", "h:1")]),
            labels(&[("instance", "h:1"), ("job", "node")]),
            "http://h:1/metrics".to_owned(),
            Duration::from_secs(90),
            Duration::from_millis(500),
        );
        target.set_status(TargetStatus {
            health: Health::Down,
            last_error: "no answer".to_owned(),
            last_scrape: Some(Timestamp::from_millis(1_700_000_000_500)),
            last_duration: Duration::from_millis(250),
        });
        registry.set("node", vec![Arc::new(target)], vec![labels(&[("__address__", "x")])]);
        registry.set("other", Vec::new(), Vec::new());
        registry
    }

    #[test]
    fn targets_are_told_as_prometheus_tells_them() {
        let all = data(targets(&registry(), &Form::parse("")));
        let active = json!([{
            "discoveredLabels": {"__address__": "h:1"},
            "labels": {"instance": "h:1", "job": "node"},
            "scrapePool": "node",
            "scrapeUrl": "http://h:1/metrics",
            "globalUrl": "http://h:1/metrics",
            "lastError": "no answer",
            "lastScrape": "2023-11-14T22:13:20.5Z",
            "lastScrapeDuration": 0.25,
            "health": "down",
            "scrapeInterval": "1m30s",
            "scrapeTimeout": "500ms",
        }]);
        let dropped = json!([{"discoveredLabels": {"__address__": "x"}}]);
        let counts = json!({"node": 1, "other": 0});
        assert_eq!(
            all,
            json!({"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts})
        );
        let of = |query: &str| data(targets(&registry(), &Form::parse(query)));
        assert_eq!(of("state=dropped")["activeTargets"], json!([]));
        assert_eq!(of("state=active")["droppedTargets"], json!([]));
        assert_eq!(of("scrapePool=other")["activeTargets"], json!([]));
        assert!(targets(&registry(), &Form::parse("state=x")).is_err());
    }

    #[test]
    fn metadata_is_told_by_family_within_limits() {
        let registry = MetadataRegistry::default();
        registry.note("a", Metadata::new(MetricType::Counter, "A.", "bytes"));
        registry.note("a", Metadata::new(MetricType::Gauge, "Another.", ""));
        registry.note("b", Metadata::new(MetricType::Unknown, "", ""));
        let of = |query: &str| data(metadata(&registry, &Form::parse(query)));
        let first = json!({"type": "counter", "help": "A.", "unit": "bytes"});
        let second = json!({"type": "gauge", "help": "Another.", "unit": ""});
        let unknown = json!({"type": "unknown", "help": "", "unit": ""});
        assert_eq!(of(""), json!({"a": [first, second], "b": [unknown]}));
        assert_eq!(of("limit=1&limit_per_metric=1"), json!({"a": [first]}));
        assert_eq!(of("metric=b&limit=-1"), json!({"b": [unknown]}));
        assert_eq!(of("metric=c"), json!({}));
        assert!(metadata(&registry, &Form::parse("limit=x")).is_err());
    }
}
