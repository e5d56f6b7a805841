//! [`Response`] and the few ways in which handlers make one.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};

/// An answer with its whole body.
pub type Response = http::Response<Bytes>;

/// JSON with status 200.
pub fn json(body: Vec<u8>) -> Response {
    typed(StatusCode::OK, "application/json", body)
}

/// Plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    typed(status, "text/plain; charset=utf-8", body)
}

/// An HTML page with status 200.
pub fn html(body: impl Into<Bytes>) -> Response {
    typed(StatusCode::OK, "text/html; charset=utf-8", body)
}

/// Any status, type and body.
pub(crate) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
