//! The kubelets: one listener that tells nodes apart by the address that was dialled.

use std::net::Ipv4Addr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::cluster::Cluster;
use super::server::{Reply, json, text};
use super::{ServedTime, model};

/// Answers one request to a kubelet.
pub(crate) async fn answer(
    cluster: Arc<Cluster>,
    time: ServedTime,
    request: Request<Incoming>,
    dialled: Ipv4Addr,
) -> Response<Reply> {
    let Some(node) = node_at(dialled).filter(|node| *node < cluster.node_count()) else {
        return text(StatusCode::NOT_FOUND, "no node has this address\n");
    };
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    }
    cluster.until_awake(node).await;
    match request.uri().path() {
        "/stats/summary" | "/stats/summary/" => match cluster.summary(node, time.seconds()) {
            Some(body) => json(StatusCode::OK, body),
            None => text(StatusCode::NOT_FOUND, "no node has this address\n"),
        },
        "/healthz" => text(StatusCode::OK, "ok"),
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The index of the node with that address; the inverse of [`model::node_address`].
fn node_at(address: Ipv4Addr) -> Option<usize> {
    let [_, _, high, low] = address.octets();
    let index = usize::from(high) * 250 + usize::from(low).checked_sub(1)?;
    (model::node_address(index) == address.to_string()).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_that_leads_back_to_it() {
        for index in [0, 1, 249, 250, 4_999] {
            let address: Ipv4Addr = model::node_address(index).parse().unwrap();
            assert_eq!(node_at(address), Some(index));
        }
        for other in ["127.0.0.1", "127.1.0.0", "127.1.0.251", "10.1.0.1"] {
            assert_eq!(node_at(other.parse().unwrap()), None, "{other}");
        }
    }
}
