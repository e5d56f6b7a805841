//! What there is to ask: the documents by which clients and the aggregation layer find the API.

use std::fmt::Write;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, HeaderValue, IF_NONE_MATCH, VARY};
use ring::digest::{SHA512, digest};

use super::media::{Kinds, Media, Wanted, negotiate, style};
use super::objects::{Kind, Version};
use super::status::{GROUP, Status};
use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Request, Response, Route, Router, json, typed};

pub(super) fn add_routes(router: &mut Router) {
    let groups = |request: Request| async move { groups(&request) };
    router.route(Route::new(&[], "/apis", groups));
    let group = |request: Request| async move {
        document(&request, |json| {
            json.begin_object();
            write_kind(json, "APIGroup", "v1");
            write_group(json);
            json.end_object();
        })
    };
    router.route(Route::new(&[], &format!("/apis/{GROUP}"), group));
    for version in Version::ALL {
        let resources = move |request: Request| async move {
            document(&request, |json| write_resources(json, version))
        };
        router.route(Route::new(&[], &format!("/apis/{GROUP}/{}", version.as_str()), resources));
    }
    router.route(Route::new(&[], "/version", |_| async {
        typed(StatusCode::OK, "application/json", version())
    }));
}

/// A document in JSON, or in YAML for whoever asks for that alone.
fn document(request: &Request, write: impl FnOnce(&mut JsonWriter)) -> Response {
    match negotiate(&request.headers, Kinds::Objects) {
        Some(Wanted::Object(Media::Yaml)) => {
            let mut json = JsonWriter::new(Style::Plain);
            write(&mut json);
            typed(
                StatusCode::OK,
                Media::Yaml.content_type(),
                super::yaml::from_json(&json.finish()),
            )
        }
        // Who prefers protobuf accepts JSON as well; discovery has never been asked for otherwise.
        Some(_) => {
            let mut json_writer = JsonWriter::new(style(request));
            write(&mut json_writer);
            json(json_writer.finish())
        }
        None => Status::not_acceptable().into_response(Media::Json, style(request)),
    }
}

/// The list of groups, or all of discovery in one document for who can read it.
fn groups(request: &Request) -> Response {
    if let Some(Wanted::Discovery(version)) = negotiate(&request.headers, Kinds::Discovery) {
        return aggregated(request, version);
    }
    // Where we are, as the client calls it.
    let address = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    document(request, |json| {
        json.begin_object();
        write_kind(json, "APIGroupList", "v1");
        json.key("groups");
        json.begin_array();
        json.begin_object();
        write_group(json);
        if let Some(address) = address {
            json.key("serverAddressByClientCIDRs");
            json.begin_array();
            json.begin_object();
            json.key("clientCIDR");
            json.string("0.0.0.0/0");
            json.key("serverAddress");
            json.string(address);
            json.end_object();
            json.end_array();
        }
        json.end_object();
        json.end_array();
        json.end_object();
    })
}

fn aggregated(request: &Request, version: &'static str) -> Response {
    let mut writer = JsonWriter::new(Style::Plain);
    write_aggregated(&mut writer, version);
    let body = writer.finish();
    let etag = quoted_hash(&body);
    let is_known = request
        .headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|known| known.split(',').any(|known| known.trim() == etag));
    let mut response = match is_known {
        true => typed(StatusCode::NOT_MODIFIED, "application/json", Vec::new()),
        false => json(body),
    };
    let headers = response.headers_mut();
    let content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (ETAG, etag),
        (VARY, "Accept".to_owned()),
        (CACHE_CONTROL, "public".to_owned()),
    ] {
        // All of them are ASCII.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// The SHA-512 of a document, as entity tags have it.
pub(super) fn quoted_hash(body: &[u8]) -> String {
    format!("\"{}\"", hash(body))
}

pub(super) fn hash(body: &[u8]) -> String {
    let mut text = String::with_capacity(128);
    for byte in digest(&SHA512, body).as_ref() {
        let _ = write!(text, "{byte:02X}");
    }
    text
}

fn write_kind(json: &mut JsonWriter, kind: &str, api_version: &str) {
    json.key("kind");
    json.string(kind);
    json.key("apiVersion");
    json.string(api_version);
}

/// Name and versions of the group.
fn write_group(json: &mut JsonWriter) {
    json.key("name");
    json.string(GROUP);
    json.key("versions");
    json.begin_array();
    Version::ALL.iter().for_each(|version| write_version(json, *version));
    json.end_array();
    json.key("preferredVersion");
    write_version(json, Version::ALL[0]);
}

fn write_version(json: &mut JsonWriter, version: Version) {
    json.begin_object();
    json.key("groupVersion");
    json.string(&version.api_version());
    json.key("version");
    json.string(version.as_str());
    json.end_object();
}

fn write_resources(json: &mut JsonWriter, version: Version) {
    json.begin_object();
    write_kind(json, "APIResourceList", "v1");
    json.key("groupVersion");
    json.string(&version.api_version());
    json.key("resources");
    json.begin_array();
    for kind in Kind::ALL {
        json.begin_object();
        json.key("name");
        json.string(kind.resource());
        json.key("singularName");
        json.string("");
        json.key("namespaced");
        json.boolean(kind == Kind::Pods);
        json.key("kind");
        json.string(kind.object());
        write_verbs(json);
        json.end_object();
    }
    json.end_array();
    json.end_object();
}

fn write_verbs(json: &mut JsonWriter) {
    json.key("verbs");
    json.begin_array();
    json.string("get");
    json.string("list");
    json.end_array();
}

fn write_aggregated(json: &mut JsonWriter, version: &str) {
    json.begin_object();
    write_kind(json, "APIGroupDiscoveryList", &format!("apidiscovery.k8s.io/{version}"));
    json.key("metadata");
    json.begin_object();
    json.end_object();
    json.key("items");
    json.begin_array();
    json.begin_object();
    json.key("metadata");
    json.begin_object();
    json.key("name");
    json.string(GROUP);
    json.end_object();
    json.key("versions");
    json.begin_array();
    for version in Version::ALL {
        json.begin_object();
        json.key("version");
        json.string(version.as_str());
        json.key("resources");
        json.begin_array();
        Kind::ALL.iter().for_each(|kind| write_aggregated_resource(json, *kind));
        json.end_array();
        json.key("freshness");
        json.string("Current");
        json.end_object();
    }
    json.end_array();
    json.end_object();
    json.end_array();
    json.end_object();
}

fn write_aggregated_resource(json: &mut JsonWriter, kind: Kind) {
    json.begin_object();
    json.key("resource");
    json.string(kind.resource());
    json.key("responseKind");
    json.begin_object();
    for (key, value) in [("group", ""), ("version", ""), ("kind", kind.object())] {
        json.key(key);
        json.string(value);
    }
    json.end_object();
    json.key("scope");
    json.string(if kind == Kind::Pods { "Namespaced" } else { "Cluster" });
    json.key("singularResource");
    json.string("");
    write_verbs(json);
    json.end_object();
}

/// What `kubectl version` shows of a server.
fn version() -> Vec<u8> {
    let mut parts = crate::cli::VERSION.split('.');
    let mut part = || parts.next().unwrap_or_default();
    let (major, minor) = (part(), part());
    let git_version = format!("v{}", crate::cli::VERSION);
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let mut json = JsonWriter::new(Style::Indented);
    json.begin_object();
    for (key, value) in [
        ("major", major),
        ("minor", minor),
        ("gitVersion", &git_version),
        ("gitCommit", crate::cli::COMMIT),
        ("gitTreeState", ""),
        ("buildDate", ""),
        ("goVersion", ""),
        ("compiler", "rustc"),
        ("platform", &platform),
    ] {
        json.key(key);
        json.string(value);
    }
    json.end_object();
    json.finish()
}
