//! The chunk codec for the benches of this workspace. No part of the interface: it may change or go
//! at any time.

use std::ops::Range;

use heapster_core::storage::{Summary, Values};

use crate::chunk::{self, Effort};

/// Appends a chunk of up to 65,536 values, made for speed or for size.
pub fn encode(values: &Values, is_small: bool, out: &mut Vec<u8>) {
    chunk::encode(values, if is_small { Effort::Small } else { Effort::Fast }, out);
}

/// Decodes some of the `count` values of a chunk that [`encode`] made; false when it cannot.
pub fn decode_rows(chunk: &[u8], count: usize, rows: Range<usize>, into: &mut Values) -> bool {
    chunk::decode_rows(chunk, count, rows, into).is_ok()
}

/// The summary that a chunk of `count` values stores.
pub fn stored_summary(chunk: &[u8], count: usize) -> Option<Summary> {
    chunk::stored_summary(chunk, count).ok().flatten()
}
