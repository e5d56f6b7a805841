//! [`Response`] and the few ways in which handlers make one.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};

/// An answer with its whole body. It may hold a turn for as long as it is kept.
pub type Response = http::Response<Bytes>;

/// What is let go with the answer, such as a turn.
#[derive(Clone)]
struct Held {
    _held: Arc<dyn Any + Send + Sync>,
}

/// Keeps something until the answer is dropped. The server drops it once its memory is accounted
/// for, so that the turns to make answers bound those that wait to be compressed and written.
pub(crate) fn hold(response: &mut Response, held: impl Any + Send + Sync) {
    response.extensions_mut().insert(Held { _held: Arc::new(held) });
}

/// 503 with the time after which to ask again.
pub(crate) fn busy(body: impl Into<Bytes>) -> Response {
    later(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// A refusal that may be over after the time it names.
pub(crate) fn later(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = text(status, body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// JSON with status 200.
pub fn json(body: impl Into<Bytes>) -> Response {
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
