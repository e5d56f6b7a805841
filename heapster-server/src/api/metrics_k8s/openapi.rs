//! OpenAPI documents of the API, for `kubectl explain` and the aggregation layer. They never change
//! while the server runs.

use std::sync::Arc;

use http::StatusCode;
use http::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use serde_json::{Map, Value, json};

use super::discovery::{hash, quoted_hash};
use super::objects::{Kind, Version};
use super::status::GROUP;
use crate::http::{Request, Response, Route, Router, typed};

pub(super) fn add_routes(router: &mut Router) {
    let mut paths = Map::new();
    for version in Version::ALL {
        let document = document_v3(version).to_string();
        let path = format!("apis/{GROUP}/{}", version.as_str());
        let url = format!("/openapi/v3/{path}?hash={}", hash(document.as_bytes()));
        paths.insert(path.clone(), json!({ "serverRelativeURL": url }));
        add(router, &format!("/openapi/v3/{path}"), document);
    }
    add(router, "/openapi/v3", json!({ "paths": paths }).to_string());
    add(router, "/openapi/v2", document_v2().to_string());
}

fn add(router: &mut Router, path: &str, document: String) {
    let etag = quoted_hash(document.as_bytes());
    let (document, etag): (Arc<str>, Arc<str>) = (document.into(), etag.into());
    router.route(Route::new(&[], path, move |request: Request| {
        let response = answer(&request, &document, &etag);
        async move { response }
    }));
}

fn answer(request: &Request, document: &str, etag: &str) -> Response {
    let is_known = request.headers.get(IF_NONE_MATCH).is_some_and(|known| known == etag);
    let mut response = match is_known {
        true => typed(StatusCode::NOT_MODIFIED, "application/json", Vec::new()),
        false => typed(StatusCode::OK, "application/json", document.to_owned()),
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(ETAG, etag);
    }
    // Who names the hash of what it wants may keep it for ever.
    if !request.query.first("hash").is_empty() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    response
}

/// The names that Kubernetes gives the types.
fn type_name(version: Version, kind: &str) -> String {
    format!("io.k8s.metrics.pkg.apis.metrics.{}.{kind}", version.as_str())
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// The types of a version; `refer` makes a reference to one.
fn types(version: Version, refer: &dyn Fn(&str) -> Value) -> Map<String, Value> {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let own = |kind: &str| refer(&type_name(version, kind));
    let usage = json!({
        "type": "object",
        "description": "The memory usage is the memory working set; cpu is in cores.",
        "additionalProperties": refer(QUANTITY),
    });
    let head = |kind: &str| {
        json!({
            "apiVersion": text("APIVersion defines the versioned schema of this object."),
            "kind": text(&format!("Kind is {kind}.")),
        })
    };
    let measured = |kind: &str, key: &str, value: Value| {
        let mut properties = head(kind);
        properties["metadata"] = refer(&format!("{META}.ObjectMeta"));
        properties["timestamp"] = refer(&format!("{META}.Time"));
        properties["window"] = refer(&format!("{META}.Duration"));
        properties[key] = value;
        json!({
            "description": format!("{kind} sets resource usage metrics of an interval that ends \
                                    at timestamp and is as long as window."),
            "type": "object",
            "required": ["timestamp", "window", key],
            "properties": properties,
            "x-kubernetes-group-version-kind":
                [{ "group": GROUP, "kind": kind, "version": version.as_str() }],
        })
    };
    let list = |kind: Kind| {
        let mut properties = head(kind.list());
        properties["metadata"] = refer(&format!("{META}.ListMeta"));
        properties["items"] = json!({ "type": "array", "items": own(kind.object()) });
        json!({
            "description": format!("{} is a list of {}.", kind.list(), kind.object()),
            "type": "object",
            "required": ["items"],
            "properties": properties,
            "x-kubernetes-group-version-kind":
                [{ "group": GROUP, "kind": kind.list(), "version": version.as_str() }],
        })
    };
    let containers = json!({ "type": "array", "items": own("ContainerMetrics") });
    let container = json!({
        "description": "ContainerMetrics sets resource usage metrics of a container.",
        "type": "object",
        "required": ["name", "usage"],
        "properties": { "name": text("Container name."), "usage": usage.clone() },
    });
    let metadata = json!({
        "type": "object",
        "description": "Name, namespace and labels of the object that was measured.",
        "properties": {
            "name": text("Name."),
            "namespace": text("Namespace."),
            "creationTimestamp": refer(&format!("{META}.Time")),
            "labels": { "type": "object", "additionalProperties": { "type": "string" } },
        },
    });
    Map::from_iter([
        (type_name(version, "NodeMetrics"), measured("NodeMetrics", "usage", usage)),
        (type_name(version, "PodMetrics"), measured("PodMetrics", "containers", containers)),
        (type_name(version, "ContainerMetrics"), container),
        (type_name(version, "NodeMetricsList"), list(Kind::Nodes)),
        (type_name(version, "PodMetricsList"), list(Kind::Pods)),
        (format!("{META}.ObjectMeta"), metadata),
        (format!("{META}.ListMeta"), json!({ "type": "object" })),
        (format!("{META}.Time"), json!({ "type": "string", "format": "date-time" })),
        (format!("{META}.Duration"), text("A time such as 15s or 1m0s.")),
        (QUANTITY.to_owned(), text("An amount such as 250m, 64Mi or 2.")),
    ])
}

/// The operations of a version; `answer` makes the description of an answer of a type.
fn paths(
    version: Version,
    parameter: &dyn Fn(&str, &str) -> Value,
    answer: &dyn Fn(&str) -> Value,
) -> Map<String, Value> {
    let mut paths = Map::new();
    for (path, kind, is_one) in [
        ("/nodes", Kind::Nodes, false),
        ("/nodes/{name}", Kind::Nodes, true),
        ("/pods", Kind::Pods, false),
        ("/namespaces/{namespace}/pods", Kind::Pods, false),
        ("/namespaces/{namespace}/pods/{name}", Kind::Pods, true),
    ] {
        let name = if is_one { kind.object() } else { kind.list() };
        let mut parameters: Vec<Value> = ["name", "namespace"]
            .iter()
            .filter(|name| path.contains(&format!("{{{name}}}")))
            .map(|name| parameter(name, "path"))
            .collect();
        let asked = ["labelSelector", "fieldSelector", "at", "window"];
        parameters.extend(
            asked[if is_one { 2 } else { 0 }..].iter().map(|name| parameter(name, "query")),
        );
        let operation = json!({
            "description": if is_one { "read what it uses" } else { "list what they use" },
            "operationId": format!("{}{}{name}", if is_one { "read" } else { "list" }, version.as_str().to_uppercase() + if path.starts_with("/namespaces") { "Namespaced" } else { "" }),
            "parameters": parameters,
            "responses": { "200": answer(&type_name(version, name)) },
            "x-kubernetes-action": if is_one { "get" } else { "list" },
            "x-kubernetes-group-version-kind":
                { "group": GROUP, "kind": kind.object(), "version": version.as_str() },
        });
        let full = format!("/apis/{GROUP}/{}{path}", version.as_str());
        paths.insert(full, json!({ "get": operation }));
    }
    paths
}

fn info() -> Value {
    json!({ "title": "heapster", "version": format!("v{}", crate::cli::VERSION) })
}

fn document_v3(version: Version) -> Value {
    let refer = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let parameter = |name: &str, place: &str| {
        json!({ "name": name, "in": place, "required": place == "path",
                "schema": { "type": "string" } })
    };
    let answer = |name: &str| {
        json!({ "description": "OK",
                "content": { "application/json": { "schema": refer(name) } } })
    };
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths(version, &parameter, &answer),
        "components": { "schemas": types(version, &refer) },
    })
}

fn document_v2() -> Value {
    let refer = |name: &str| json!({ "$ref": format!("#/definitions/{name}") });
    let parameter = |name: &str, place: &str| json!({ "name": name, "in": place, "required": place == "path", "type": "string" });
    let answer = |name: &str| json!({ "description": "OK", "schema": refer(name) });
    let (mut all_paths, mut all_types) = (Map::new(), Map::new());
    for version in Version::ALL {
        all_paths.extend(paths(version, &parameter, &answer));
        all_types.extend(types(version, &refer));
    }
    json!({ "swagger": "2.0", "info": info(), "paths": all_paths, "definitions": all_types })
}
