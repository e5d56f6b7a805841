//! The kubernetes source.
