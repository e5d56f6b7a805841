//! The promises of the store, one module each.

mod basics;
mod durability;
mod handles;
mod killed;
mod model;
mod opening;
mod sharing;
mod support;
