//! The host source.
