//! Where metrics come from: this host, the kubelets of a cluster, or whatever exposes metrics as
//! Prometheus reads them.

pub mod host;
pub mod kubelet;
pub mod kubernetes;
pub mod prometheus;
