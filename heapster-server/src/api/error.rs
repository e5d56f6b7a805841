//! [`ApiError`]: why a request has no good answer, and the status it gets.

use std::error::Error;
use std::fmt::Write;

use heapster_query::QueryError;
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};

use crate::http::{Response, text};

/// Why a request has no good answer. The text is the whole body, as in the original.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The request is wrong: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The store does not answer: 500, or 422 when the answer would be too large.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Too many requests read the store: 503.
    #[error("too many requests are being answered; try again later")]
    Busy,
}

impl ApiError {
    /// The answer that tells the client.
    pub fn into_response(self) -> Response {
        let status = match &self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Query(QueryError::TooLarge { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Query(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = with_causes(&self), "could not answer a request");
        }
        let mut response = text(status, with_causes(&self));
        if matches!(self, Self::Busy) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to memory does not fail.
        let _ = write!(message, ": {error}");
        cause = error.source();
    }
    message
}
