//! `metrics.k8s.io`: what `kubectl top` and the HPA ask, with the past in the same words.
//!
//! In reading order: [`objects`] has the objects and their fields, [`list`] writes many of them,
//! `media` says in which form, `selector` which; `discovery` and `openapi` describe the API, `status`
//! says what did not work, `legacy` is the version that Heapster had. What differs from
//! metrics-server, and why, is in `docs/metrics-api.md`.

mod discovery;
mod legacy;
pub(crate) mod list;
mod media;
pub(crate) mod objects;
mod openapi;
mod protobuf;
pub(crate) mod selector;
pub(crate) mod status;
mod yaml;

use std::sync::Arc;
use std::time::Duration;

use heapster_core::cluster::Pod;
use heapster_core::storage::Snapshot;
use heapster_core::{Text, Timestamp};
use heapster_query::{Budget, QueryError};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};

use self::list::{List, TableObject};
use self::media::{Kinds, Media, Wanted, negotiate, style};
use self::objects::{Kind, Made, Object, Row, Version};
use self::protobuf::{Message, enclosed};
use self::selector::{FieldSelector, LabelSelector};
use self::status::{GROUP, Status};
use super::{ApiState, Context};
use crate::cli::value::read_duration;
use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Request, Response, Route, Router, stream};
use crate::telemetry::logging::chain;
use crate::usage::past::{Scope, board_at};
use crate::usage::{Board, Tracked};

/// Lists of at most so many objects are made at once; longer ones while they are sent.
const WHOLE_ROWS_MAX: usize = 500;

pub(super) fn add_routes(router: &mut Router, context: &Arc<Context>) {
    discovery::add_routes(router);
    openapi::add_routes(router);
    legacy::add_routes(router, context);
    for version in Version::ALL {
        let prefix = format!("/apis/{GROUP}/{}", version.as_str());
        for (path, kind) in [
            ("/nodes", Kind::Nodes),
            ("/nodes/{name}", Kind::Nodes),
            ("/pods", Kind::Pods),
            ("/namespaces/{namespace}/pods", Kind::Pods),
            ("/namespaces/{namespace}/pods/{name}", Kind::Pods),
        ] {
            let own = Arc::clone(context);
            let handler = move |request: Request| {
                let context = Arc::clone(&own);
                async move { answer(&context, kind, version, request).await }
            };
            let route = Route::new(&[], &format!("{prefix}{path}"), handler);
            router.route(route.labeled("metricsApi"));
        }
        let unknown = |request: Request| async move {
            let form = form(&request, Kinds::Objects).map_or(Media::Json, Form::media);
            Status::no_such_resource().into_response(form, style(&request))
        };
        router.route(Route::new(&[], &format!("{prefix}/{{rest:*}}"), unknown));
    }
}

/// How an answer is wanted.
#[derive(Clone, Copy)]
struct Form {
    wanted: Wanted,
    style: Style,
}

impl Form {
    /// The encoding of a refusal.
    fn media(self) -> Media {
        match self.wanted {
            Wanted::Object(media) => media,
            Wanted::Table(_) | Wanted::Discovery(_) => Media::Json,
        }
    }
}

fn form(request: &Request, kinds: Kinds) -> Option<Form> {
    Some(Form { wanted: negotiate(&request.headers, kinds)?, style: style(request) })
}

/// What a request asks for.
struct Question {
    kind: Kind,
    version: Version,
    form: Form,
    namespace: Option<Text>,
    name: Option<Text>,
    labels: LabelSelector,
    fields: FieldSelector,
    table_object: TableObject,
    /// The moment, when it is not now.
    at: Option<Timestamp>,
    /// The time to average over, when it is not that between the two newest samples.
    window: Option<Duration>,
}

impl Question {
    fn read(request: &Request, kind: Kind, version: Version, form: Form) -> Result<Self, Status> {
        let param = |name| Some(Text::from(request.params.get(name))).filter(|own| !own.is_empty());
        let query = |name| request.query.first(name);
        if request.method != Method::GET && request.method != Method::HEAD {
            let verb = match request.method {
                Method::POST => "create",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "this method",
            };
            return Err(Status::not_supported(verb, kind.resource()));
        }
        if matches!(query("watch"), "true" | "1") {
            return Err(Status::not_supported("watch", kind.resource()));
        }
        let labels = LabelSelector::parse(query("labelSelector")).map_err(|error| {
            Status::bad_request(format!("unable to parse requirement: {error}"))
        })?;
        let fields = FieldSelector::parse(query("fieldSelector"))
            .map_err(|error| Status::bad_request(error.to_string()))?;
        let at = Some(query("at")).filter(|at| !at.is_empty()).map(|at| {
            Timestamp::parse_rfc3339(at)
                .map_err(|error| Status::bad_request(format!("at: {error}")))
        });
        let window = Some(query("window")).filter(|window| !window.is_empty()).map(|window| {
            read_duration(window).filter(|window| *window >= Duration::from_secs(1)).ok_or_else(
                || Status::bad_request("window: expected a time of at least 1s, such as 5m or 1h"),
            )
        });
        Ok(Self {
            kind,
            version,
            form,
            namespace: param("namespace"),
            name: param("name"),
            labels,
            fields,
            table_object: match query("includeObject") {
                "None" => TableObject::None,
                "Object" => TableObject::Whole(version),
                _ => TableObject::Metadata,
            },
            at: at.transpose()?,
            window: window.transpose()?,
        })
    }

    /// Whether the store has to be asked.
    fn is_of_past(&self) -> bool {
        self.at.is_some() || self.window.is_some()
    }

    fn scope(&self) -> Scope {
        match self.kind {
            Kind::Nodes => Scope::Nodes(self.name.clone()),
            Kind::Pods => Scope::Pods(self.namespace.clone(), self.name.clone()),
        }
    }
}

async fn answer(
    context: &Arc<Context>,
    kind: Kind,
    version: Version,
    request: Request,
) -> Response {
    let Some(form) = form(&request, Kinds::Tables) else {
        return Status::not_acceptable().into_response(Media::Json, style(&request));
    };
    let question = match Question::read(&request, kind, version, form) {
        Ok(question) => question,
        Err(status) => return status.into_response(form.media(), form.style),
    };
    let own = Arc::clone(context);
    let mut response = if question.is_of_past() {
        let read = move |snapshot: &dyn Snapshot, budget: &mut Budget| {
            let board = past_board(&own.state, &question, snapshot, budget);
            Ok(board
                .and_then(|board| found(&own.state, &question, &board))
                .unwrap_or_else(|status| status.into_response(form.media(), form.style)))
        };
        context.read(read).await
    } else {
        let make = move || {
            found(&own.state, &question, &own.state.live.board())
                .unwrap_or_else(|status| status.into_response(form.media(), form.style))
        };
        context.turns.make(make).await
    };
    let uncached = HeaderValue::from_static("no-cache, private");
    response.headers_mut().insert(CACHE_CONTROL, uncached);
    response
}

fn past_board(
    state: &ApiState,
    question: &Question,
    snapshot: &dyn Snapshot,
    budget: &mut Budget,
) -> Result<Board, Status> {
    let at = question.at.unwrap_or_else(|| state.clock.now());
    let (rules, scope) = (state.live.rules(), question.scope());
    board_at(snapshot, &scope, at, question.window, rules, budget).map_err(|error| {
        let code = match error {
            QueryError::TooLarge { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Status::internal(code, chain(&error))
    })
}

/// The answer from a board.
fn found(state: &ApiState, question: &Question, board: &Board) -> Result<Response, Status> {
    match &question.name {
        Some(name) => {
            let row = one(state, question, board, name)?;
            Ok(object(state, question, row))
        }
        None => Ok(rows_response(state, question, rows(state, question, board))),
    }
}

/// The objects that are asked for and have numbers.
fn rows(state: &ApiState, question: &Question, board: &Board) -> Vec<Row> {
    let know = Knowledge::of(state, question);
    let is_wanted = |tracked: &&Arc<Tracked>| {
        question.fields.matches(&tracked.namespace, &tracked.name) && know.has_numbers(tracked)
    };
    let row = |tracked: &Arc<Tracked>| {
        let object =
            know.object(question.kind, &tracked.namespace, &tracked.name, Some(tracked))?;
        let is_selected = question.labels.matches(object.labels());
        is_selected.then(|| Row { tracked: Arc::clone(tracked), object })
    };
    let namespace = question.namespace.as_deref();
    match question.kind {
        Kind::Nodes => board.nodes().filter(is_wanted).filter_map(row).collect(),
        Kind::Pods if know.is_complete && !question.labels.is_empty() => {
            // A selector mostly finds few: it is quicker to look for those than through all numbers.
            let is_selected =
                |pod: &Arc<Pod>| pod.is_running() && question.labels.matches(&pod.labels);
            let row = |pod: Arc<Pod>| {
                let tracked = board.pod(&pod.namespace, &pod.name).filter(is_wanted)?;
                Some(Row { tracked: Arc::clone(tracked), object: Object::Pod(pod) })
            };
            let pods = state.cluster.pods(namespace).into_iter();
            let mut rows: Vec<Row> = pods.filter(is_selected).filter_map(row).collect();
            // In the order of the board.
            rows.sort_unstable_by(|Row { tracked: a, .. }, Row { tracked: b, .. }| {
                (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name))
            });
            rows
        }
        Kind::Pods => board.pods(namespace).filter(is_wanted).filter_map(row).collect(),
    }
}

/// The one object that is asked for.
fn one(state: &ApiState, question: &Question, board: &Board, name: &Text) -> Result<Row, Status> {
    let namespace = question.namespace.as_deref().unwrap_or_default();
    let tracked = match question.kind {
        Kind::Nodes => board.node(name),
        Kind::Pods => board.pod(namespace, name),
    };
    let know = Knowledge::of(state, question);
    let Some(object) = know.object(question.kind, namespace, name, tracked) else {
        // As metrics-server, whose words differ for the two.
        return Err(match question.kind {
            Kind::Nodes => Status::not_found("", "node", name),
            Kind::Pods => Status::not_found("", "pods", name),
        });
    };
    match tracked.filter(|tracked| know.has_numbers(tracked)) {
        Some(tracked) => Ok(Row { tracked: Arc::clone(tracked), object }),
        None => Err(match question.kind {
            Kind::Nodes => Status::not_found(GROUP, "nodemetrics", name),
            Kind::Pods => Status::not_found(GROUP, "podmetrics", &format!("{namespace}/{name}")),
        }),
    }
}

/// What is known of the cluster's objects for a question.
struct Knowledge<'a> {
    state: &'a ApiState,
    is_past: bool,
    /// Whether what the cluster does not have does not exist.
    is_complete: bool,
    now: Timestamp,
}

impl<'a> Knowledge<'a> {
    fn of(state: &'a ApiState, question: &Question) -> Self {
        let is_past = question.is_of_past();
        let is_complete = !is_past && state.cluster.is_complete();
        Self { state, is_past, is_complete, now: state.clock.now() }
    }

    /// Whether a rate is known that is not outdated. A board of the past has no others.
    fn has_numbers(&self, tracked: &Tracked) -> bool {
        let is_current = self.is_past || tracked.is_current(self.now, self.state.live.rules());
        is_current && tracked.usages().next().is_some()
    }

    /// The object of that name; `None` when there is none, or a pod that does not run. In the past
    /// there may have been one that is gone, and its numbers say what its labels were; so it is
    /// before the API server has answered for the first time.
    fn object(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        tracked: Option<&Arc<Tracked>>,
    ) -> Option<Object> {
        let cluster = &self.state.cluster;
        let known = match kind {
            Kind::Nodes => cluster.node(name).map(Object::Node),
            Kind::Pods => match cluster.pod(namespace, name) {
                Some(pod) if !self.is_past && !pod.is_running() => return None,
                pod => pod.map(Object::Pod),
            },
        };
        let stored = || Some(Object::stored(&tracked?.labels));
        known.or_else(|| if self.is_complete { None } else { stored() })
    }
}

fn object(state: &ApiState, question: &Question, row: Row) -> Response {
    let (kind, version, style) = (question.kind, question.version, question.form.style);
    let media = match question.form.wanted {
        Wanted::Object(media) => media,
        Wanted::Table(_) | Wanted::Discovery(_) => {
            return rows_response(state, question, vec![row]);
        }
    };
    let made = Made::at(state.clock.now());
    let body = match media {
        Media::Protobuf => {
            let message = Message::of(|message| row.write_message(message, kind, &made));
            enclosed(&version.api_version(), kind.object(), &message)
        }
        Media::Json | Media::Yaml => {
            let mut json = JsonWriter::new(style);
            row.write_json(&mut json, kind, Some(version), &made);
            let json = json.finish();
            if media == Media::Yaml { yaml::from_json(&json) } else { json }
        }
    };
    encoded(media, body)
}

fn rows_response(state: &ApiState, question: &Question, rows: Vec<Row>) -> Response {
    let (kind, version, style) = (question.kind, question.version, question.form.style);
    let made = Made::at(state.clock.now());
    let is_short = rows.len() <= WHOLE_ROWS_MAX;
    let media = question.form.media();
    let list = match question.form.wanted {
        Wanted::Table(table) => List::table(rows, kind, table, question.table_object, style, made),
        Wanted::Object(_) | Wanted::Discovery(_) => {
            List::new(rows, kind, version, media, style, made)
        }
    };
    if is_short || media == Media::Yaml {
        return encoded(media, list.into_bytes(media));
    }
    let mut response = encoded(media, Vec::new());
    stream(&mut response, Box::new(list));
    response
}

fn encoded(media: Media, body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    let content_type = HeaderValue::from_static(media.content_type());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
