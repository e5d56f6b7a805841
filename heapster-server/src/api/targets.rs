//! `/api/v1/targets` and `/api/v1/metadata`: what is scraped and how it is, and what is said of metrics,
//! as Prometheus answers it.

use std::sync::Arc;
use std::time::Duration;

use heapster_core::Labels;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::http::{Query, Response, Route, Router, json as json_response, typed};
use crate::metadata::MetadataRegistry;
use crate::targets::{TargetRegistry, TargetState};

/// The time of what did not happen yet, as Go prints it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Adds the two routes to a router.
pub fn add_routes(
    router: &mut Router,
    targets: Arc<TargetRegistry>,
    metadata: Arc<MetadataRegistry>,
) {
    router.route(
        Route::new(&[Method::GET], "/api/v1/targets", move |request| {
            let response = answer(targets_data(&targets, &request.query));
            async move { response }
        })
        .labeled("targets"),
    );
    router.route(
        Route::new(&[Method::GET], "/api/v1/metadata", move |request| {
            let response = answer(metadata_data(&metadata, &request.query));
            async move { response }
        })
        .labeled("metadata"),
    );
}

/// The envelope of Prometheus: data, or what is wrong with a parameter.
fn answer(data: Result<Value, String>) -> Response {
    match data {
        Ok(data) => json_response(json!({ "status": "success", "data": data }).to_string()),
        Err(error) => {
            let body = json!({ "status": "error", "errorType": "bad_data", "error": error });
            typed(StatusCode::BAD_REQUEST, "application/json", body.to_string())
        }
    }
}

fn targets_data(targets: &TargetRegistry, query: &Query) -> Result<Value, String> {
    let state = query.first("state").to_ascii_lowercase();
    let (with_active, with_dropped) = match state.as_str() {
        "" | "any" => (true, true),
        "active" => (true, false),
        "dropped" => (false, true),
        _ => {
            return Err(format!(
                "invalid parameter \"state\": {state:?} is not active, dropped or any"
            ));
        }
    };
    let pool = query.first("scrapePool");
    let (mut active, mut dropped, mut dropped_counts) = (Vec::new(), Vec::new(), Map::new());
    for (job, targets) in targets.jobs() {
        if !pool.is_empty() && pool != job {
            continue;
        }
        if with_active {
            active.extend(targets.active.iter().map(|target| target_json(target)));
        }
        if with_dropped {
            let labels = targets.dropped.iter();
            dropped.extend(labels.map(|labels| json!({ "discoveredLabels": labels_json(labels) })));
        }
        dropped_counts.insert(job, targets.dropped_count.into());
    }
    Ok(json!({
        "activeTargets": active,
        "droppedTargets": dropped,
        "droppedTargetCounts": dropped_counts,
    }))
}

fn target_json(target: &TargetState) -> Value {
    let status = target.status();
    let last_scrape = status.last_scrape.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    json!({
        "discoveredLabels": labels_json(&target.discovered),
        "labels": labels_json(&target.labels),
        "scrapePool": target.job,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": status.last_error,
        "lastScrape": last_scrape,
        "lastScrapeDuration": status.last_duration.as_secs_f64(),
        "health": status.health.as_str(),
        "scrapeInterval": duration_text(target.interval),
        "scrapeTimeout": duration_text(target.timeout),
    })
}

fn labels_json(labels: &Labels) -> Value {
    let pairs = labels.iter().map(|label| (label.name.to_string(), label.value.as_str().into()));
    Value::Object(pairs.collect())
}

/// A duration as Prometheus prints it: `1m30s`, `500ms`.
fn duration_text(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    let mut text = String::new();
    for (unit, of_unit) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= of_unit {
            text.push_str(&format!("{}{unit}", millis / of_unit));
            millis %= of_unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn metadata_data(metadata: &MetadataRegistry, query: &Query) -> Result<Value, String> {
    let limit = limit(query, "limit")?;
    let per_metric = limit_of(query, "limit_per_metric")?;
    let name = Some(query.first("metric")).filter(|name| !name.is_empty());
    let families = metadata.families(name).into_iter().take(limit);
    let families = families.map(|(family, said)| {
        let said = said.iter().take(per_metric).map(|one| {
            json!({
                "type": one.metric_type.as_str(),
                "help": one.help.as_str(),
                "unit": one.unit.as_str(),
            })
        });
        (family.to_string(), Value::Array(said.collect()))
    });
    Ok(Value::Object(families.collect()))
}

/// A limit of the query. None, and for `limit` a negative one, as in Prometheus, is no limit.
fn limit(query: &Query, name: &str) -> Result<usize, String> {
    match query.first(name) {
        "" => Ok(usize::MAX),
        text => match text.parse::<i64>() {
            Ok(number) => Ok(usize::try_from(number).unwrap_or(usize::MAX)),
            Err(_) => Err(format!("invalid parameter {name:?}: {text:?} is not a number")),
        },
    }
}

/// A limit of which zero is no limit either.
fn limit_of(query: &Query, name: &str) -> Result<usize, String> {
    limit(query, name).map(|limit| if limit == 0 { usize::MAX } else { limit })
}

#[cfg(test)]
mod tests {
    use heapster_core::Timestamp;

    use super::*;
    use crate::metadata::{Metadata, MetricType};
    use crate::targets::{Health, TargetStatus};

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
        let data = targets_data(&registry(), &Query::parse("")).unwrap();
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
            data,
            json!({"activeTargets": active, "droppedTargets": dropped, "droppedTargetCounts": counts})
        );
        let of = |query: &str| targets_data(&registry(), &Query::parse(query));
        assert_eq!(of("state=dropped").unwrap()["activeTargets"], json!([]));
        assert_eq!(of("state=active").unwrap()["droppedTargets"], json!([]));
        assert_eq!(of("scrapePool=other").unwrap()["activeTargets"], json!([]));
        assert!(of("state=x").is_err());
    }

    #[test]
    fn metadata_is_told_by_family_within_limits() {
        let registry = MetadataRegistry::default();
        registry.note("a", Metadata::new(MetricType::Counter, "A.", "bytes"));
        registry.note("a", Metadata::new(MetricType::Gauge, "Another.", ""));
        registry.note("b", Metadata::new(MetricType::Unknown, "", ""));
        let of = |query: &str| metadata_data(&registry, &Query::parse(query));
        let first = json!({"type": "counter", "help": "A.", "unit": "bytes"});
        let second = json!({"type": "gauge", "help": "Another.", "unit": ""});
        let unknown = json!({"type": "unknown", "help": "", "unit": ""});
        assert_eq!(of("").unwrap(), json!({"a": [first, second], "b": [unknown]}));
        assert_eq!(of("limit=1&limit_per_metric=1").unwrap(), json!({"a": [first]}));
        assert_eq!(of("metric=b&limit=-1").unwrap(), json!({"b": [unknown]}));
        assert_eq!(of("metric=c").unwrap(), json!({}));
        assert!(of("limit=x").unwrap_err().contains("invalid parameter \"limit\""));
    }
}
