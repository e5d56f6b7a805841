//! The legacy source.
