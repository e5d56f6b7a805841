//! Integration tests of the server, one module per promise.

mod architecture;
mod kubelet_decode;
mod kubernetes;
