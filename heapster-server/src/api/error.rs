//! [`ApiError`]: why a request has no good answer, and the status it gets.

use heapster_query::QueryError;
use http::StatusCode;

use crate::http::{Response, busy, text};
use crate::telemetry::logging::chain;

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
        if matches!(self, Self::Busy) {
            return busy(self.to_string());
        }
        let told = chain(&self);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = told, "could not answer a request");
        }
        text(status, told)
    }
}
