//! Promises of the query crate, over the storage port and over the real store.

mod corpus;
mod engine;
#[path = "../../../heapster-store/tests/it/mutation.rs"]
mod mutation;
mod naive;
mod script;
mod scripts;
mod storage;
mod verdict;
