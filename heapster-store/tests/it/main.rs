//! The promises of the store, one module each.

mod basics;
mod compaction;
mod durability;
mod killed;
mod model;
mod opening;
mod reader;
mod sharing;
mod support;
