//! [`Failure`]: why a request has no answer, in Prometheus' envelope and with its status.

use heapster_core::storage::StorageError;
use heapster_query::QueryError;
use http::StatusCode;

use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Response, typed};
use crate::telemetry::logging::chain;

/// What went wrong, by the words of Prometheus' API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorType {
    /// A parameter is not usable.
    BadData,
    /// The query and the data do not go together, or a limit was met.
    Execution,
    /// The query took too long, or waited too long for its turn.
    Timeout,
    /// Nobody waits for the answer any more.
    Canceled,
    /// The store cannot be read.
    Internal,
}

impl ErrorType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
            Self::Internal => "internal",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadData => StatusCode::BAD_REQUEST,
            Self::Execution => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            // Nginx' word for a client that closed the connection; no client sees it.
            Self::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(super) struct Failure {
    kind: ErrorType,
    text: String,
}

impl Failure {
    pub(super) fn new(kind: ErrorType, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(super) fn bad_data(text: impl Into<String>) -> Self {
        Self::new(ErrorType::BadData, text)
    }

    /// A parameter that is not usable, and why.
    pub(super) fn parameter(name: &str, why: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {why}"))
    }

    /// Whether there was not enough time.
    pub(super) fn is_timeout(&self) -> bool {
        self.kind == ErrorType::Timeout
    }

    /// The answer that tells the client.
    pub(super) fn into_response(self) -> Response {
        let mut json = JsonWriter::new(Style::Plain);
        json.begin_object();
        json.key("status");
        json.string("error");
        json.key("errorType");
        json.string(self.kind.as_str());
        json.key("error");
        json.string(&self.text);
        json.end_object();
        typed(self.kind.status(), "application/json", json.take())
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let kind = match &error {
            QueryError::Parse(_) => return Self::parameter("query", error),
            QueryError::BadQuery(_) => ErrorType::BadData,
            QueryError::TimedOut => ErrorType::Timeout,
            QueryError::Cancelled => ErrorType::Canceled,
            QueryError::Storage(_) => {
                let told = chain(&error);
                tracing::error!(error = told, "could not answer a query");
                return Self::new(ErrorType::Internal, told);
            }
            _ => ErrorType::Execution,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::from(QueryError::from(error))
    }
}
