//! The kubelet sources: asking one node's kubelet and turning its answer into metric sets.
//!
//! In reading order: [`summary`], [`resource`] and [`cadvisor`] decode the formats a kubelet speaks.
//! Those of JSON are read through `lenient`, so that one bad number does not cost the rest of a node;
//! all fill an `answer`. [`client`] asks, with the certificates of [`tls`] and the token of [`token`];
//! [`source`] is all of it behind the collector's port.

mod answer;
pub mod cadvisor;
pub mod client;
mod lenient;
mod rejects;
pub(crate) mod resolver;
pub mod resource;
pub mod source;
pub mod summary;
pub mod tls;
pub mod token;

use heapster_core::{Labels, Text, key};

/// What the API server says about the node whose kubelet is asked; the labels of its every set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// API name of the node.
    pub nodename: Text,
    /// Host name, the API name unless the node has an address of that type.
    pub hostname: Text,
    /// Identifier of the host; empty when nobody set one.
    pub host_id: Text,
}

impl NodeInfo {
    /// The labels that all sets of the node share.
    fn labels(&self) -> Labels {
        Labels::from_iter([
            (Text::from_static(key::HOST_ID), self.host_id.clone()),
            (Text::from_static(key::HOSTNAME), self.hostname.clone()),
            (Text::from_static(key::NODENAME), self.nodename.clone()),
        ])
    }
}

/// Why a kubelet's answer gave no sets at all.
///
/// The text is one clause; the reader's complaint with line and column is its source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body is not one whole JSON document.
    #[error("the answer could not be decoded")]
    Json(#[from] serde_json::Error),
    /// The document is JSON, but of another kind.
    #[error("the answer is JSON but not {expected}")]
    Shape {
        /// What was asked for.
        expected: &'static str,
    },
    /// The body is not text.
    #[error("the answer is not text")]
    Text(#[from] resource::ExpositionError),
}
