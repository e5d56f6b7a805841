//! The load report: what one heapster server costs on a simulated cluster of a given size.
//!
//! The server runs as a process of its own and is looked at from outside only: its CPU time and
//! memory in `/proc`, its files, and its HTTP answers.

pub(crate) mod process;
mod report;
mod run;
pub(crate) mod server_view;

pub use process::{DiskUsage, ProcessUsage};
pub use report::Report;
pub use run::{LoadOptions, run};
