//! The promises of the store, one module each.

mod backup;
mod basics;
mod compaction;
mod deletion;
mod durability;
mod import;
mod killed;
mod model;
mod opening;
mod reader;
mod sharing;
mod support;
