//! `/api/v1/historical`: names, series and aggregates of all that is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::storage::Snapshot;
use heapster_core::{EntityKey, Labels, Matcher, TimeRange, key};
use heapster_query::historical::{self, Aggregation, Bucket, Point, Target};
use heapster_query::{Budget, QueryError};

use super::entities::{CONTAINERS, ENTITIES, FREE_CONTAINERS, ListPath, NAMESPACES, NODES, PODS};
use super::error::ApiError;
use super::series_json::{answer, write_buckets, write_items, write_list, write_series};
use super::{Context, params};
use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Params, Request, Response, Route, Router};

const PREFIX: &str = "/api/v1/historical";

/// The matchers of the entity in a path, or of each entity of a list in a path.
type Entities = Arc<dyn Fn(&Params) -> Vec<Vec<Matcher>> + Send + Sync>;

/// A path whose series and aggregates can be asked for.
struct SeriesPath {
    path: &'static str,
    label: &'static str,
    /// Whether the path names a list, which is answered as one.
    shape: Shape,
    entities: Entities,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    One,
    List,
}

pub(super) fn add_routes(router: &mut Router, context: &Arc<Context>) {
    router.service(PREFIX);
    for list in [NODES, NAMESPACES, PODS, CONTAINERS, FREE_CONTAINERS] {
        let own = Arc::clone(context);
        let handler = move |request: Request| {
            let context = Arc::clone(&own);
            async move { names_of(&context, &list, &request).await }
        };
        let route = Route::get_json(&format!("{PREFIX}{}", list.path), handler);
        router.route(route.labeled(list.label));
    }
    for entity in ENTITIES {
        let own = Arc::clone(context);
        let handler = move |request: Request| {
            let (context, key) = (Arc::clone(&own), (entity.key)(&request.params));
            async move { metric_names(&context, &key).await }
        };
        let route = Route::get_json(&format!("{PREFIX}{}/metrics", entity.path), handler);
        router.route(route.labeled(entity.names_label));
    }
    for path in series_paths() {
        add_series_routes(router, context, &path);
    }
}

fn series_paths() -> Vec<SeriesPath> {
    let mut paths: Vec<SeriesPath> = ENTITIES
        .into_iter()
        .map(|entity| SeriesPath {
            path: entity.path,
            label: entity.series_label,
            shape: Shape::One,
            entities: Arc::new(move |params| vec![(entity.key)(params).matchers()]),
        })
        .collect();
    paths.push(SeriesPath {
        path: "/pod-id/{id}",
        label: "podMetrics",
        shape: Shape::One,
        entities: Arc::new(|params| vec![pod_by_id(params.get("id"))]),
    });
    paths.push(SeriesPath {
        path: "/pod-id/{id}/containers/{container}",
        label: "podContainerMetrics",
        shape: Shape::One,
        entities: Arc::new(|params| {
            vec![vec![
                Matcher::equal(key::TYPE, "pod_container"),
                Matcher::equal(key::POD_ID, params.get("id")),
                Matcher::equal(key::CONTAINER_NAME, params.get("container")),
            ]]
        }),
    });
    paths.push(SeriesPath {
        path: "/namespaces/{namespace}/pod-list/{pods}",
        label: "podListAggregations",
        shape: Shape::List,
        entities: Arc::new(|params| {
            let pod = |name| EntityKey::pod(params.get("namespace"), name).matchers();
            params.get("pods").split(',').map(pod).collect()
        }),
    });
    paths.push(SeriesPath {
        path: "/pod-id-list/{ids}",
        label: "podListAggregations",
        shape: Shape::List,
        entities: Arc::new(|params| params.get("ids").split(',').map(pod_by_id).collect()),
    });
    paths
}

fn pod_by_id(id: &str) -> Vec<Matcher> {
    vec![Matcher::equal(key::TYPE, "pod"), Matcher::equal(key::POD_ID, id)]
}

fn add_series_routes(router: &mut Router, context: &Arc<Context>, path: &SeriesPath) {
    // The list of pods has its series counted apart from its aggregates.
    let raw_label = match path.path {
        "/namespaces/{namespace}/pod-list/{pods}" => "podListMetric",
        _ => path.label,
    };
    for (suffix, label) in [
        ("/metrics/{metric:*}", raw_label),
        ("/metrics-aggregated/{aggregations}/{metric:*}", path.label),
    ] {
        let (own, entities, shape) = (Arc::clone(context), Arc::clone(&path.entities), path.shape);
        let aggregated = suffix.starts_with("/metrics-aggregated");
        let handler = move |request: Request| {
            let context = Arc::clone(&own);
            let question = question(&context, &request, &*entities, aggregated);
            async move {
                match question {
                    Ok(question) => respond(&context, question, shape).await,
                    Err(error) => error.into_response(),
                }
            }
        };
        let route = Route::get_json(&format!("{PREFIX}{}{suffix}", path.path), handler);
        router.route(route.labeled(label));
    }
}

/// A request for series or aggregates, checked.
struct Question {
    /// The series, each once, in any order.
    targets: BTreeMap<String, Target>,
    /// Keys of `targets` in the order of the answer.
    order: Vec<String>,
    range: TimeRange,
    aggregates: Option<Aggregates>,
}

struct Aggregates {
    bucket: Option<Duration>,
    aggregations: Vec<Aggregation>,
}

/// Checks in the original's order: times, bucket, aggregations, labels.
fn question(
    context: &Context,
    request: &Request,
    entities: &(dyn Fn(&Params) -> Vec<Vec<Matcher>> + Send + Sync),
    aggregated: bool,
) -> Result<Question, ApiError> {
    let range = params::required_range(&request.query, context.state.clock.now())?;
    let aggregates = if aggregated {
        Some(Aggregates {
            bucket: params::bucket(&request.query)?,
            aggregations: params::aggregations(request.params.get("aggregations"))?,
        })
    } else {
        None
    };
    let labels = params::labels(&request.query)?;
    let metric = params::metric_name(request.params.get("metric"));
    let mut targets = BTreeMap::new();
    let mut order = Vec::new();
    for matchers in entities(&request.params) {
        let name = format!("{matchers:?}");
        order.push(name.clone());
        targets.entry(name).or_insert_with(|| target(matchers, labels.as_ref(), metric));
    }
    Ok(Question { targets, order, range, aggregates })
}

fn target(matchers: Vec<Matcher>, labels: Option<&Labels>, metric: &str) -> Target {
    match labels {
        Some(own) => Target::labeled(matchers, own, metric),
        None => Target::plain(matchers, metric),
    }
}

/// The answer about one entity.
enum Answer {
    Points(Vec<Point>),
    Buckets(Vec<Bucket>),
}

impl Answer {
    /// What it takes of the budget.
    fn points(&self) -> usize {
        match self {
            Self::Points(points) => points.len(),
            Self::Buckets(buckets) => buckets.iter().map(Bucket::points).sum(),
        }
    }
}

async fn respond(context: &Context, question: Question, shape: Shape) -> Response {
    context
        .read(move |snapshot, budget| {
            let mut answers: BTreeMap<&str, Answer> = BTreeMap::new();
            for name in &question.order {
                if let Some(answer) = answers.get(name.as_str()) {
                    budget.repeat(answer.points())?;
                } else if let Some(target) = question.targets.get(name) {
                    answers.insert(name, answer_one(snapshot, target, &question, budget)?);
                }
            }
            let items: Vec<&Answer> =
                question.order.iter().filter_map(|name| answers.get(name.as_str())).collect();
            Ok(match (shape, items.as_slice()) {
                (Shape::One, [item]) => {
                    answer(Style::Pretty, |json| write_answer(json, item, &question))
                }
                _ => answer(Style::Plain, |json| {
                    write_items(json, &items, |json, item| write_answer(json, item, &question));
                }),
            })
        })
        .await
}

fn answer_one(
    snapshot: &dyn Snapshot,
    target: &Target,
    question: &Question,
    budget: &mut Budget,
) -> Result<Answer, QueryError> {
    let range = question.range;
    Ok(match &question.aggregates {
        None => Answer::Points(historical::raw(snapshot, target, range, budget)?),
        Some(Aggregates { bucket, aggregations }) => {
            let answer =
                historical::aggregate(snapshot, target, range, *bucket, aggregations, budget)?;
            Answer::Buckets(answer.buckets)
        }
    })
}

fn write_answer(json: &mut JsonWriter, answer: &Answer, question: &Question) {
    match (answer, &question.aggregates) {
        (Answer::Buckets(buckets), Some(Aggregates { bucket, aggregations })) => {
            write_buckets(json, buckets, *bucket, aggregations);
        }
        (Answer::Points(points), _) => write_series(json, points),
        // Buckets are only made from aggregates.
        (Answer::Buckets(_), None) => write_series(json, &[]),
    }
}

/// Every name that was ever stored.
async fn names_of(context: &Context, list: &ListPath, request: &Request) -> Response {
    let mut matchers = vec![Matcher::equal(key::TYPE, list.entity_type)];
    for (label, param) in list.within {
        matchers.push(Matcher::equal(*label, request.params.get(param)));
    }
    let listed = list.listed;
    context
        .read(move |snapshot, budget| {
            let names = historical::label_values(snapshot, listed, matchers, budget)?;
            Ok(answer(Style::Pretty, |json| write_list(json, &names)))
        })
        .await
}

/// Every metric that was ever stored of an entity, those with labels of their own too.
async fn metric_names(context: &Context, key: &EntityKey) -> Response {
    let matchers = key.matchers();
    context
        .read(move |snapshot, budget| {
            let names = historical::metric_names(snapshot, matchers, TimeRange::ALL, budget)?;
            Ok(answer(Style::Pretty, |json| write_list(json, &names)))
        })
        .await
}
