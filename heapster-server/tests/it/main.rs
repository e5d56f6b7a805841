//! Integration tests of the server, one module per promise.

mod architecture;
mod collector;
mod golden;
mod cli;
mod collector;
mod host;
mod kubelet_decode;
mod model_api;
mod recording;
