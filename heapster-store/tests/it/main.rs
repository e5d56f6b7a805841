//! The promises of the store, one module each.

mod backup;
mod basics;
mod check;
mod compaction;
mod corpus;
mod corruption;
mod deletion;
mod durability;
mod handles;
mod import;
mod kernel;
mod killed;
mod model;
mod mutation;
mod opening;
mod reader;
mod sharing;
mod store_model;
mod support;
mod tiers;
