//! The API server: lists, single objects and watches of nodes, pods and namespaces, and the
//! control endpoints, which no real one has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ServedTime;
use super::cluster::{Cluster, NoSuch};
use super::registry::{Change, ChangeType, Kind, Stored, VersionIsGone, watch_line};
use super::server::{self, Query, Reply, text};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch lasts when the client does not say.
const WATCH_TIMEOUT_DEFAULT: Duration = Duration::from_secs(1800);
const WATCH_TIMEOUT_MAX: Duration = Duration::from_secs(86_400);
/// Lines that wait for a slow client before the watch waits too.
const LINES_QUEUED: usize = 64;

/// Answers one request to the API server.
pub(crate) fn answer(
    cluster: &Arc<Cluster>,
    time: &ServedTime,
    request: &Request<Incoming>,
) -> Response<Reply> {
    let query = Query::of(request);
    let path = request.uri().path().trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    if request.method() == Method::POST
        && let ["control", action] = parts[..]
    {
        return control(cluster, time, action, &query);
    }
    if request.method() != Method::GET {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "only GET is known");
    }
    let version =
        json!({"major": "1", "minor": "31", "gitVersion": "v1.31.0", "platform": "linux/amd64"});
    match parts[..] {
        ["version"] => ok(&version),
        ["healthz" | "livez" | "readyz"] => text(StatusCode::OK, "ok"),
        ["api"] => ok(&json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
        ["api", "v1"] => ok(&resource_list()),
        ["api", "v1", "watch", kind] => collection(cluster, kind, "", &query, Mode::Watch),
        ["api", "v1", kind] => collection(cluster, kind, "", &query, Mode::of(&query)),
        ["api", "v1", "namespaces", namespace, "pods"] => {
            collection(cluster, "pods", namespace, &query, Mode::of(&query))
        }
        ["api", "v1", "namespaces", namespace, "pods", name] => {
            single(cluster, Kind::Pods, &format!("{namespace}/{name}"))
        }
        ["api", "v1", "nodes", name] => single(cluster, Kind::Nodes, name),
        ["api", "v1", "namespaces", name] => single(cluster, Kind::Namespaces, name),
        _ => not_found(path),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    List,
    Watch,
}

impl Mode {
    fn of(query: &Query) -> Self {
        if query.is_set("watch") { Self::Watch } else { Self::List }
    }
}

fn collection(
    cluster: &Arc<Cluster>,
    kind: &str,
    namespace: &str,
    query: &Query,
    mode: Mode,
) -> Response<Reply> {
    let Some(kind) = Kind::of_plural(kind) else { return not_found(kind) };
    let selection = match Selection::of(namespace, query) {
        Ok(selection) => selection,
        Err(message) => return failure(StatusCode::BAD_REQUEST, "BadRequest", &message),
    };
    match mode {
        Mode::List => list(cluster, kind, &selection, query),
        Mode::Watch => watch(cluster, kind, selection, query),
    }
}

/// Which objects of a kind are wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Selection {
    /// What keys begin with: a namespace and a slash, or nothing.
    key_prefix: String,
    node_name: Option<String>,
    /// `spec.nodeName!=` of nothing: what runs somewhere.
    other_than_node_name: Option<String>,
    name: Option<String>,
}

impl Selection {
    fn of(namespace: &str, query: &Query) -> Result<Self, String> {
        let mut selection = Self::default();
        if !namespace.is_empty() {
            selection.key_prefix = format!("{namespace}/");
        }
        if query.get("labelSelector").is_some() {
            return Err("label selectors are not known here".into());
        }
        for condition in query.get("fieldSelector").into_iter().flat_map(|text| text.split(',')) {
            let Some((field, value)) = condition.split_once('=') else {
                return Err(format!("invalid field selector {condition:?}"));
            };
            let value = value.trim_start_matches('=').to_owned();
            match field {
                "spec.nodeName" => selection.node_name = Some(value),
                "spec.nodeName!" => selection.other_than_node_name = Some(value),
                "metadata.name" => selection.name = Some(value),
                _ => return Err(format!("field label not supported: {field}")),
            }
        }
        Ok(selection)
    }

    fn selects(&self, key: &str, object: &Stored) -> bool {
        let own_name = key.rsplit('/').next();
        key.starts_with(&self.key_prefix)
            && self.node_name.as_ref().is_none_or(|name| *name == object.node_name)
            && self.other_than_node_name.as_ref().is_none_or(|name| *name != object.node_name)
            && self.name.as_deref().is_none_or(|name| own_name == Some(name))
    }
}

/// A list, in pages when the client wants pages. The version of the first page stays with all, so
/// that a watch from it tells what changed meanwhile.
fn list(cluster: &Cluster, kind: Kind, selection: &Selection, query: &Query) -> Response<Reply> {
    let limit = match query.get("limit").map(str::parse::<usize>) {
        None | Some(Ok(0)) => usize::MAX,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => return failure(StatusCode::BAD_REQUEST, "BadRequest", "invalid limit"),
    };
    let (first_version, after) = match query.get("continue").map(|token| token.split_once(':')) {
        None => (None, None),
        Some(Some((version, after))) => (Some(version.to_owned()), Some(after)),
        Some(None) => {
            return failure(StatusCode::BAD_REQUEST, "BadRequest", "invalid continue token");
        }
    };
    let (version, objects) = cluster.registry.list(kind, after);
    let version = first_version.unwrap_or_else(|| version.to_string());
    let mut items = Vec::with_capacity(1 << 16);
    let mut count = 0;
    let mut last_key = String::new();
    let mut selected =
        objects.into_iter().filter(|(key, object)| selection.selects(key, object)).peekable();
    while count < limit
        && let Some((key, object)) = selected.next()
    {
        if count > 0 {
            items.push(b',');
        }
        items.extend_from_slice(&object.json);
        last_key = key;
        count += 1;
    }
    let mut metadata = json!({"resourceVersion": version});
    if selected.peek().is_some() {
        metadata["continue"] = json!(format!("{version}:{last_key}"));
    }
    let kind = kind.singular();
    let mut body = format!(
        "{{\"kind\":\"{kind}List\",\"apiVersion\":\"v1\",\"metadata\":{metadata},\"items\":["
    )
    .into_bytes();
    body.append(&mut items);
    body.extend_from_slice(b"]}\n");
    server::json(StatusCode::OK, body)
}

fn watch(
    cluster: &Arc<Cluster>,
    kind: Kind,
    selection: Selection,
    query: &Query,
) -> Response<Reply> {
    if query.is_set("sendInitialEvents") {
        let message =
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
    }
    let since = match query.get("resourceVersion").map(str::parse::<u64>) {
        None | Some(Ok(0)) => None,
        Some(Ok(version)) => Some(version),
        Some(Err(_)) => {
            return failure(StatusCode::BAD_REQUEST, "BadRequest", "invalid resourceVersion");
        }
    };
    let timeout = match query.get("timeoutSeconds").map(str::parse::<u64>) {
        None => WATCH_TIMEOUT_DEFAULT,
        Some(Ok(seconds)) => Duration::from_secs(seconds).min(WATCH_TIMEOUT_MAX),
        Some(Err(_)) => {
            return failure(StatusCode::BAD_REQUEST, "BadRequest", "invalid timeoutSeconds");
        }
    };
    let (lines, receiver) = mpsc::channel(LINES_QUEUED);
    let watcher = Watcher {
        cluster: cluster.clone(),
        kind,
        selection,
        wants_bookmarks: query.is_set("allowWatchBookmarks"),
        lines,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = watcher.lines.closed() => {}
            () = tokio::time::sleep(timeout) => {}
            _ = watcher.run(since) => {}
        }
    });
    server::reply(StatusCode::OK, "application/json", Reply::Lines(receiver))
}

/// One watch. Ends when the client hangs up, at its timeout, or when its version is gone.
struct Watcher {
    cluster: Arc<Cluster>,
    kind: Kind,
    selection: Selection,
    wants_bookmarks: bool,
    lines: mpsc::Sender<Bytes>,
}

impl Watcher {
    /// Runs until the client hangs up (`None`) or its version is gone.
    async fn run(&self, since: Option<u64>) -> Option<()> {
        let mut newest = self.cluster.registry.subscribe();
        let mut version = match since {
            Some(version) => version,
            None => self.send_all().await?,
        };
        let mut bookmark_at = Instant::now() + BOOKMARK_EVERY;
        loop {
            newest.borrow_and_update();
            match self.cluster.registry.changes_since(self.kind, version) {
                Ok((now, changes)) => {
                    self.send_changes(&changes).await?;
                    version = version.max(now);
                }
                Err(VersionIsGone) => return self.send_gone(version).await,
            }
            tokio::select! {
                changed = newest.changed() => changed.ok()?,
                () = tokio::time::sleep_until(bookmark_at), if self.wants_bookmarks => {
                    self.send_bookmark(version).await?;
                    bookmark_at += BOOKMARK_EVERY;
                }
            }
        }
    }

    async fn send_all(&self) -> Option<u64> {
        let (version, objects) = self.cluster.registry.list(self.kind, None);
        for (key, object) in &objects {
            if self.selection.selects(key, object) {
                self.lines.send(watch_line(ChangeType::Added, object)).await.ok()?;
            }
        }
        Some(version)
    }

    async fn send_changes(&self, changes: &[Change]) -> Option<()> {
        for change in changes {
            if self.selection.selects(&change.key, &change.object) {
                self.lines.send(change.line()).await.ok()?;
            }
        }
        Some(())
    }

    async fn send_bookmark(&self, version: u64) -> Option<()> {
        let object = json!({
            "kind": self.kind.singular(),
            "apiVersion": "v1",
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
        });
        let line = format!("{}\n", json!({"type": "BOOKMARK", "object": object}));
        self.lines.send(line.into()).await.ok()
    }

    async fn send_gone(&self, version: u64) -> Option<()> {
        let message = format!("too old resource version: {version}");
        let object = status_object(StatusCode::GONE, "Expired", &message);
        let line = format!("{}\n", json!({"type": "ERROR", "object": object}));
        self.lines.send(line.into()).await.ok()
    }
}

fn control(cluster: &Cluster, time: &ServedTime, action: &str, query: &Query) -> Response<Reply> {
    let pod = query.get("pod").and_then(|pod| pod.split_once('/'));
    let done = match (action, pod) {
        ("hang", _) => cluster.set_hung(query.get("node"), true),
        ("resume", _) => cluster.set_hung(query.get("node"), false),
        ("pod-delete", Some((namespace, name))) => cluster.delete_pod(namespace, name),
        ("restart", Some((namespace, name))) => {
            cluster.restart_pod(namespace, name, time.seconds())
        }
        ("pod-delete" | "restart", None) => {
            return text(StatusCode::BAD_REQUEST, "say which with ?pod=namespace/name\n");
        }
        _ => return text(StatusCode::NOT_FOUND, "known: hang, resume, pod-delete, restart\n"),
    };
    match done {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(NoSuch(what)) => text(StatusCode::NOT_FOUND, format!("there is no {what}\n")),
    }
}

fn single(cluster: &Cluster, kind: Kind, key: &str) -> Response<Reply> {
    match cluster.registry.get(kind, key) {
        Some(object) => server::json(StatusCode::OK, object.json),
        None => not_found(key),
    }
}

fn resource_list() -> serde_json::Value {
    let resource = |kind: Kind, name: &str, namespaced: bool| {
        json!({
            "name": name, "singularName": "", "namespaced": namespaced,
            "kind": kind.singular(), "verbs": ["get", "list", "watch"],
        })
    };
    json!({
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            resource(Kind::Namespaces, "namespaces", false),
            resource(Kind::Nodes, "nodes", false),
            resource(Kind::Pods, "pods", true),
        ],
    })
}

fn ok(body: &serde_json::Value) -> Response<Reply> {
    server::json(StatusCode::OK, body.to_string())
}

fn not_found(what: &str) -> Response<Reply> {
    failure(StatusCode::NOT_FOUND, "NotFound", &format!("{what:?} not found"))
}

fn failure(status: StatusCode, reason: &str, message: &str) -> Response<Reply> {
    server::json(status, status_object(status, reason, message).to_string())
}

fn status_object(status: StatusCode, reason: &str, message: &str) -> serde_json::Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": status.as_u16(),
    })
}
