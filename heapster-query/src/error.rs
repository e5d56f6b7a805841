//! [`QueryError`]: why a query has no answer.

use heapster_core::storage::StorageError;

use crate::promql::ParseError;

/// Why a query has no answer. The caller decides by variant what to tell whom.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The store could not be read; asking again may help, asking differently does not.
    #[error("could not read the store")]
    Storage(#[from] StorageError),
    /// The answer would be larger than allowed; ask for a shorter range or larger buckets.
    #[error("query needs more than {limit} {what}; ask for a shorter range or larger buckets")]
    TooLarge {
        /// What there would be too many of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// Whoever asked is not interested any more.
    #[error("query was cancelled")]
    Cancelled,
    /// The text is no PromQL (Prometheus: `bad_data`).
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A query of this shape cannot be asked this way, such as a range query for a string
    /// (Prometheus: `bad_data`).
    #[error("{0}")]
    BadQuery(String),
    /// The data and the query do not go together, such as two elements with the same labels; in
    /// Prometheus' words (Prometheus: `execution`).
    #[error("{0}")]
    Execution(String),
    /// The query ran longer than allowed (Prometheus: `timeout`).
    #[error("query timed out in expression evaluation")]
    TimedOut,
    /// More samples would be held at one time than allowed (Prometheus: `execution`).
    #[error(
        "query processing would load too many samples into memory in query execution (limit {limit})"
    )]
    TooManySamples {
        /// How many are allowed.
        limit: usize,
    },
    /// More memory would be needed than allowed (Prometheus: `execution`).
    #[error(
        "query needs more than {limit_bytes} bytes of memory; ask for fewer series, a shorter range or a longer step"
    )]
    TooMuchMemory {
        /// How many are allowed.
        limit_bytes: usize,
    },
}

impl QueryError {
    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }
}
