//! Integration tests of the server, one module per promise.

mod architecture;
mod cli;
mod collector;
mod host;
mod kubelet_decode;
mod server;
