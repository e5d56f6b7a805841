//! Logs and the server's own metrics.

pub mod logging;
mod process;
pub mod rate_limit;
pub mod registry;
mod sketch;
pub mod store;
#[cfg(test)]
pub(crate) mod test_clock;

pub use registry::{Family, FamilyKind, Registry};
