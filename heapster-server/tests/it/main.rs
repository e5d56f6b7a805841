//! Integration tests of the server, one module per promise.

mod collector;
