//! The kubelet source.
