//! [`ApiError`]: why a request has no good answer, and the status it gets.

use heapster_query::QueryError;
use heapster_store::Error as StoreError;
use http::StatusCode;

use crate::http::{Response, later, text};
use crate::telemetry::logging::chain;

/// Why a request has no good answer. The text is the whole body, as in the original.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The request is wrong, or what it brings is refused for good: 400.
    #[error("{0}")]
    BadRequest(String),
    /// What the request brings is beyond a limit: 413.
    #[error("{0}")]
    TooLarge(String),
    /// The request brings something of another type: 415.
    #[error("{0}")]
    Unsupported(String),
    /// The store does not answer: 500, or 422 when the answer would be too large.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The store does not take what the request brings: 507 on a full disk, 503 when memory is
    /// full or the store takes nothing more until a restart, else 500. The request may be sent again.
    #[error(transparent)]
    Append(#[from] StoreError),
    /// Too many requests read the store: 503.
    #[error("too many requests are being answered; try again later")]
    Busy,
}

impl ApiError {
    /// The answer that tells the client.
    pub fn into_response(self) -> Response {
        let told = chain(&self);
        let status = match &self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Query(QueryError::TooLarge { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Query(_) => {
                tracing::error!(error = told, "could not answer a request");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            // Whoever appends logs these, once.
            Self::Append(StoreError::DiskFull { .. }) => {
                return later(StatusCode::INSUFFICIENT_STORAGE, told);
            }
            Self::Append(StoreError::MemoryFull { .. } | StoreError::Poisoned { .. })
            | Self::Busy => return later(StatusCode::SERVICE_UNAVAILABLE, told),
            Self::Append(StoreError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Append(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        text(status, told)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use http::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn what_the_store_refuses_for_now_may_be_sent_again() {
        let path = || PathBuf::from("wal/1");
        let io = StoreError::Io { op: "write", path: path(), source: io::Error::other("x") };
        for (error, status, says_when) in [
            (StoreError::DiskFull { path: path() }, 507, true),
            (StoreError::MemoryFull { max: 1 }, 503, true),
            (StoreError::Poisoned { op: "sync" }, 503, true),
            (io, 500, false),
        ] {
            let response = ApiError::from(error).into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), says_when, "{status}");
        }
    }
}
