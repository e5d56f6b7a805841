//! Logs and the server's own metrics.

pub mod registry;

pub use registry::{Family, Registry};
