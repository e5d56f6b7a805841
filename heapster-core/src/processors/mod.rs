//! The processors, one file each, and the order they run in.
