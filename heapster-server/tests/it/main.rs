//! Integration tests of the server, one module per promise.

mod collector;
mod architecture;
mod host;
mod kubelet_decode;
