//! `/api/v1/model`: the newest names and the recent series of every entity.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use heapster_core::{DataBatch, EntityKey, Labels, TimeRange, Timestamp, key};
use heapster_query::historical::{self, Target};

use super::entities::{CONTAINERS, ENTITIES, FREE_CONTAINERS, ListPath, NAMESPACES, NODES, PODS};
use super::error::ApiError;
use super::series_json::{answer, write_items, write_list, write_series};
use super::{Context, params};
use crate::http::gojson::Style;
use crate::http::{Params, Query, Request, Response, Route, Router};

const PREFIX: &str = "/api/v1/model";

/// How far back a series goes when no start is given: what the original kept in memory.
const RECENT: Duration = Duration::from_secs(15 * 60);

/// How far back metric names are looked for: as long as the original kept whole batches.
const NAMES_RECENT: Duration = Duration::from_secs(140);

pub(super) fn add_routes(router: &mut Router, context: &Arc<Context>) {
    router.service(PREFIX);
    for entity in ENTITIES {
        let pattern = format!("{PREFIX}{}/metrics", entity.path);
        let own = Arc::clone(context);
        let names = move |request: Request| {
            let (context, key) = (Arc::clone(&own), (entity.key)(&request.params));
            async move { names(&context, &key).await }
        };
        router.route(Route::get_json(&pattern, names).labeled(entity.names_label));
        let own = Arc::clone(context);
        let series = move |request: Request| {
            let (context, key) = (Arc::clone(&own), (entity.key)(&request.params));
            async move {
                let asked = asked(&context, &request);
                match asked {
                    Ok(asked) => series(&context, &key, asked).await,
                    Err(error) => error.into_response(),
                }
            }
        };
        let pattern = format!("{pattern}/{{metric:*}}");
        router.route(Route::get_json(&pattern, series).labeled(entity.series_label));
    }
    // Nodes are listed and free containers found by host name, as in the original.
    let nodes = ListPath { listed: key::HOSTNAME, ..NODES };
    let free_containers = ListPath { within: &[(key::HOSTNAME, "node")], ..FREE_CONTAINERS };
    for list in [nodes, NAMESPACES, PODS, CONTAINERS, free_containers] {
        let own = Arc::clone(context);
        let handler = move |request: Request| {
            let context = Arc::clone(&own);
            async move {
                let latest = context.state.live.latest();
                let make = move || {
                    let names = latest.map(|batch| listed(&batch, &list, &request.params));
                    let names: Vec<String> = names.unwrap_or_default().into_iter().collect();
                    answer(Style::Pretty, |json| write_list(json, &names))
                };
                context.turns.make(make).await
            }
        };
        let route = Route::get_json(&format!("{PREFIX}{}", list.path), handler);
        router.route(route.labeled(list.label));
    }
    let own = Arc::clone(context);
    let pod_list = move |request: Request| {
        let context = Arc::clone(&own);
        async move {
            match asked(&context, &request) {
                Ok(asked) => pod_series(&context, &request, asked).await,
                Err(error) => error.into_response(),
            }
        }
    };
    let pattern =
        format!("{PREFIX}/namespaces/{{namespace}}/pod-list/{{pods}}/metrics/{{metric:*}}");
    router.route(Route::get_json(&pattern, pod_list).labeled("podListMetric"));
    let own = Arc::clone(context);
    let all_keys = move |_| {
        let context = Arc::clone(&own);
        async move {
            let latest = context.state.live.latest();
            let make = move || {
                let keys: Vec<String> = latest
                    .map(|batch| batch.sets.keys().map(EntityKey::to_string).collect())
                    .unwrap_or_default();
                answer(Style::Pretty, |json| write_list(json, &keys))
            };
            context.turns.make(make).await
        }
    };
    let route = Route::get_json(&format!("{PREFIX}/debug/allkeys"), all_keys);
    router.route(route.labeled("debugAllKeys"));
}

/// Values of a label over the sets of a batch that a list is about, sorted, each once.
fn listed(batch: &DataBatch, list: &ListPath, params: &Params) -> BTreeSet<String> {
    let belongs = |labels: &Labels| {
        labels.value(key::TYPE) == list.entity_type
            && list.within.iter().all(|(label, param)| labels.value(label) == params.get(param))
    };
    batch
        .sets
        .values()
        .filter(|set| belongs(&set.labels))
        .filter_map(|set| set.labels.get(list.listed))
        .map(ToString::to_string)
        .collect()
}

async fn names(context: &Context, key: &EntityKey) -> Response {
    let Some(newest) = context.state.live.latest().map(|batch| batch.timestamp) else {
        return answer(Style::Pretty, |json| write_list::<&str>(json, &[]));
    };
    let mut matchers = key.matchers();
    matchers.push(historical::plain_only());
    let range = TimeRange::new(just_after(newest, NAMES_RECENT), newest);
    context
        .read(move |snapshot, budget| {
            let names = historical::metric_names(snapshot, matchers, range, budget)?;
            Ok(answer(Style::Pretty, |json| write_list(json, &names)))
        })
        .await
}

/// What a request for series asks besides the entity.
struct Asked {
    metric: String,
    labels: Option<Labels>,
    range: TimeRange,
}

impl Asked {
    fn target(&self, key: &EntityKey) -> Target {
        match &self.labels {
            Some(own) => Target::labeled(key.matchers(), own, self.metric.as_str()),
            None => Target::plain(key.matchers(), self.metric.as_str()),
        }
    }
}

fn asked(context: &Context, request: &Request) -> Result<Asked, ApiError> {
    Ok(Asked {
        range: range(context, &request.query)?,
        labels: params::labels(&request.query)?,
        metric: params::metric_name(request.params.get("metric")).to_owned(),
    })
}

/// With a start all history is open; without one the recent past up to the newest batch.
fn range(context: &Context, query: &Query) -> Result<TimeRange, ApiError> {
    let now = context.state.clock.now();
    let start = params::start(query)?.unwrap_or_else(|| {
        // Counted from the newest batch, so that the last known numbers stay to be seen when
        // scraping stops.
        just_after(context.state.live.latest().map_or(now, |batch| batch.timestamp), RECENT)
    });
    Ok(TimeRange::new(start, params::end(query)?.unwrap_or(now)))
}

/// The first moment that lies less than `age` before `newest`.
fn just_after(newest: Timestamp, age: Duration) -> Timestamp {
    newest.saturating_sub(age).saturating_add(Duration::from_millis(1))
}

async fn series(context: &Context, key: &EntityKey, asked: Asked) -> Response {
    let target = asked.target(key);
    context
        .read(move |snapshot, budget| {
            let points = historical::raw(snapshot, &target, asked.range, budget)?;
            Ok(answer(Style::Pretty, |json| write_series(json, &points)))
        })
        .await
}

/// One series for each name in the path, in its order; a name given twice is answered twice.
async fn pod_series(context: &Context, request: &Request, asked: Asked) -> Response {
    let namespace = request.params.get("namespace").to_owned();
    let pods: Vec<String> = request.params.get("pods").split(',').map(str::to_owned).collect();
    context
        .read(move |snapshot, budget| {
            let mut series = BTreeMap::new();
            for pod in &pods {
                if !series.contains_key(pod) {
                    let target = asked.target(&EntityKey::pod(&*namespace, pod));
                    let points = historical::raw(snapshot, &target, asked.range, budget)?;
                    series.insert(pod, points);
                } else if let Some(points) = series.get(pod) {
                    budget.repeat(points.len())?;
                }
            }
            Ok(answer(Style::Plain, |json| {
                write_items(json, &pods, |json, pod| {
                    write_series(json, series.get(pod).map_or(&[], Vec::as_slice));
                });
            }))
        })
        .await
}
