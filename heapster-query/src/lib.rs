//! Queries over the storage port of `heapster-core`.
