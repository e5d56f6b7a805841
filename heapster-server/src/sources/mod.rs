//! Where metric sets come from: this host, or the kubelets of a cluster.

pub mod host;
pub mod kubelet;
pub mod kubernetes;
