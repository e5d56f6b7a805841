//! [`Status`]: how an API server of Kubernetes says that something did not work.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::media::{Kinds, Media, Wanted, negotiate};
use super::protobuf::{Message, enclosed};
use super::yaml;
use crate::http::Response;
use crate::http::gojson::{JsonWriter, Style};

/// The group of the API.
pub const GROUP: &str = "metrics.k8s.io";

/// A refusal with the reason that clients look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status, which the body repeats.
    pub code: StatusCode,
    /// One word for programs, such as `NotFound`.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    /// What it is about; present but empty for a path that is no resource.
    pub details: Option<Details>,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// Group of the API.
    pub group: Cow<'static, str>,
    /// Kind or resource.
    pub kind: Cow<'static, str>,
}

impl Status {
    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        let (code, reason) = (StatusCode::BAD_REQUEST, "BadRequest");
        Self { code, reason, message: message.into(), details: None }
    }

    /// 401: nobody known asks.
    pub fn unauthorized() -> Self {
        let (code, reason) = (StatusCode::UNAUTHORIZED, "Unauthorized");
        Self { code, reason, message: "Unauthorized".to_owned(), details: None }
    }

    /// 403: whoever asks may not.
    pub fn forbidden(message: String, details: Details) -> Self {
        let (code, reason) = (StatusCode::FORBIDDEN, "Forbidden");
        Self { code, reason, message, details: Some(details) }
    }

    /// 404 for an object.
    pub fn not_found(group: &'static str, kind: &'static str, name: &str) -> Self {
        let full = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message: format!("{full} \"{name}\" not found"),
            details: Some(Details {
                name: name.to_owned(),
                group: group.into(),
                kind: kind.into(),
            }),
        }
    }

    /// 404 for a path.
    pub fn no_such_resource() -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            reason: "NotFound",
            message: "the server could not find the requested resource".to_owned(),
            details: Some(Details::default()),
        }
    }

    /// 405: the resource is there to be read, once.
    pub fn not_supported(verb: &str, resource: &'static str) -> Self {
        Self {
            code: StatusCode::METHOD_NOT_ALLOWED,
            reason: "MethodNotAllowed",
            message: format!("{verb} is not supported on resources of kind \"{resource}.{GROUP}\""),
            details: Some(Details {
                name: String::new(),
                group: GROUP.into(),
                kind: resource.into(),
            }),
        }
    }

    /// 406: nothing that is accepted can be given.
    pub fn not_acceptable() -> Self {
        Self {
            code: StatusCode::NOT_ACCEPTABLE,
            reason: "NotAcceptable",
            message: "only the following media types are accepted: application/json, \
                      application/yaml, application/vnd.kubernetes.protobuf"
                .to_owned(),
            details: None,
        }
    }

    /// 500, or another status for what is wrong here.
    pub fn internal(code: StatusCode, message: String) -> Self {
        let reason = match code {
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
            _ => "InternalError",
        };
        Self { code, reason, message, details: None }
    }

    /// The answer in the form that a request accepts.
    pub fn answer(self, headers: &HeaderMap) -> Response {
        let media = match negotiate(headers, Kinds::Objects) {
            Some(Wanted::Object(media)) => media,
            _ => Media::Json,
        };
        self.into_response(media, Style::Plain)
    }

    /// The answer that says so.
    pub fn into_response(self, media: Media, style: Style) -> Response {
        let body = match media {
            Media::Json => self.json(style),
            Media::Yaml => yaml::from_json(&self.json(Style::Plain)),
            Media::Protobuf => self.protobuf(),
        };
        let mut response = Response::new(body.into());
        *response.status_mut() = self.code;
        let content_type = HeaderValue::from_static(media.content_type());
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }

    fn json(&self, style: Style) -> Vec<u8> {
        let mut json = JsonWriter::new(style);
        json.begin_object();
        for (key, value) in [("kind", "Status"), ("apiVersion", "v1")] {
            json.key(key);
            json.string(value);
        }
        json.key("metadata");
        json.begin_object();
        json.end_object();
        for (key, value) in
            [("status", "Failure"), ("message", &self.message), ("reason", self.reason)]
        {
            json.key(key);
            json.string(value);
        }
        if let Some(details) = &self.details {
            json.key("details");
            json.begin_object();
            let Details { name, group, kind } = details;
            for (key, value) in [("name", &**name), ("group", &**group), ("kind", &**kind)] {
                if !value.is_empty() {
                    json.key(key);
                    json.string(value);
                }
            }
            json.end_object();
        }
        json.key("code");
        json.uint(u64::from(self.code.as_u16()));
        json.end_object();
        json.finish()
    }

    fn protobuf(&self) -> Vec<u8> {
        let mut status = Message::default();
        status.list_meta(1);
        status.text(2, "Failure");
        status.text(3, &self.message);
        status.text(4, self.reason);
        if let Some(details) = &self.details {
            status.nested(5, |message| {
                message.text(1, &details.name);
                message.text(2, &details.group);
                message.text(3, &details.kind);
                message.int(5, 0);
                message.text(6, "");
            });
        }
        status.int(6, i64::from(self.code.as_u16()));
        enclosed("v1", "Status", &status)
    }
}
