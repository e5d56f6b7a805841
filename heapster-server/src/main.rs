//! The binary `heapster`.
fn main() {}
