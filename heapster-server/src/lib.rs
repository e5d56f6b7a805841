//! The collector, the HTTP APIs and the command line of heapster.
//!
//! The collector ([`sources`], [`collector`], [`sinks`]) works without the HTTP side, so that other
//! programs embed it. This is the only crate that knows Kubernetes, HTTP and an async runtime.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod app;
pub mod cli;
pub mod collector;
pub mod exposition;
#[doc(hidden)]
pub mod fuzz_support;
pub mod http;
pub mod intake;
pub mod live;
pub mod metadata;
pub mod program;
pub mod secure;
mod shown;
pub mod sinks;
pub mod sources;
pub mod targets;
pub mod telemetry;
pub mod transfer;
pub mod uri;
pub mod usage;
pub mod verbs;
