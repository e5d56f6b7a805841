//! The promises of the store, one module each.

mod basics;
mod support;
