//! Serving HTTP: limits on what comes in, a router, and JSON as Go wrote it.
//!
//! Knows nothing of metrics. The [`Router`] is used in-process by tests and by the [`server`], which
//! owns its accept loop because no default one defends itself against slow clients.

mod clients;
mod encoding;
mod gate;
pub mod gojson;
pub(crate) mod path;
mod request;
mod response;
mod router;
pub mod server;
mod stream;
mod write_timeout;

pub use gate::{Caller, Gate};
pub use request::{Params, Query, Request};
pub use response::{Response, html, json, text};
pub(crate) use response::{busy, hold, later, typed};
pub use router::{Handler, Route, Router};
pub use server::{Security, ServerOptions, listen, serve, serve_securely};
pub(crate) use stream::{Chunks, stream};
