//! Workloads and load tools of heapster: a simulated cluster, the load report, the `kill -9` campaign,
//! benchmarks.
//!
//! Nothing here is part of the product; it may depend on anything but `heapster-server`, whose
//! dependencies are heavy: it is started as a process. The benchmark of remote write alone calls it.
#![forbid(unsafe_code)]

pub mod cluster_sim;
mod duration;
mod fetch;
pub mod killer;
pub mod load;
pub mod measure;
pub mod remote_write;
pub mod report;
pub mod workload;

pub use duration::parse_duration;
pub use fetch::{Answer, fetch, open};
