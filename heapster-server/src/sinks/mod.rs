//! Where processed batches go, one file each.
