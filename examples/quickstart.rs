//! Opens a store, appends a batch, reads it back.

fn main() {}
