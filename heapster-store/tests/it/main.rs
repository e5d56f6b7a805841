//! The promises of the store, one module each.

mod backup;
mod basics;
mod check;
mod compaction;
mod corruption;
mod deletion;
mod durability;
mod handles;
mod import;
mod kernel;
mod killed;
mod model;
mod opening;
mod reader;
mod sharing;
mod support;
mod tiers;
