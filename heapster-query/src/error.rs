//! [`QueryError`]: why a query has no answer.

use heapster_core::storage::StorageError;

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
}
