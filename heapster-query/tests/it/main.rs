//! Promises of the query crate, over the storage port and over the real store.

mod engine;
mod naive;
mod script;
mod scripts;
mod storage;
mod verdict;
