//! Queries over the storage port of `heapster-core`.
//!
//! [`historical`] answers what Heapster's APIs ask: the samples of one metric of one entity, and
//! their aggregates by bucket of time. It knows the port only, no store, no clock and no network.
#![forbid(unsafe_code)]

mod budget;
mod error;
#[doc(hidden)]
pub mod fuzz_support;
pub mod historical;
pub mod promql;

pub use budget::{Budget, Cancel, Limits};
pub use error::QueryError;
