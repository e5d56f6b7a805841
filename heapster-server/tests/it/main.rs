//! Integration tests of the server, one module per promise.

mod host;
mod architecture;
mod kubelet_decode;
