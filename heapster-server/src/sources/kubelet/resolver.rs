//! [`Resolver`]: names of nodes to addresses, none of which a node cannot have.
//!
//! What a name means is decided at the moment of dialling and by whoever answers for it, so it is
//! checked there, and the addresses that were checked are those that are dialled.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// Resolves as the system does. Addresses by number never come here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            allowed(name.as_str(), found)
        })
    }
}

/// The addresses, unless a node cannot have one of them: then somebody means to lead us astray.
fn allowed(
    name: &str,
    found: impl Iterator<Item = SocketAddr>,
) -> io::Result<std::vec::IntoIter<SocketAddr>> {
    let found: Vec<SocketAddr> = found.collect();
    match found.iter().find(|address| is_forbidden(address.ip())) {
        None => Ok(found.into_iter()),
        Some(address) => {
            let ip = address.ip();
            Err(io::Error::other(format!("{name} means the address {ip}, which no node can have")))
        }
    }
}

/// Addresses that reach something other than another machine's kubelet: nobody, everybody, or a
/// cloud's metadata service. Loopback is allowed, for clusters of one machine.
pub(crate) fn is_forbidden(ip: IpAddr) -> bool {
    const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_link_local()
                || ip == METADATA_V4
        }
        IpAddr::V6(ip) => {
            let embedded = nat64(ip).is_some_and(|ip| is_forbidden(IpAddr::V4(ip)));
            ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || ip == METADATA_V6
                || embedded
        }
    }
}

/// The IPv4 address inside a NAT64 one (64:ff9b::/96).
fn nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_means_an_address_no_node_has_is_refused() {
        let resolved = |texts: &[&str]| {
            let found: Vec<SocketAddr> =
                texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect();
            allowed("n.local", found.into_iter()).map(Iterator::count)
        };
        assert_eq!(resolved(&["10.0.0.1", "fd01::1"]).unwrap(), 2);
        for texts in [&["169.254.169.254"][..], &["10.0.0.1", "::ffff:169.254.169.254"]] {
            let error = resolved(texts).unwrap_err().to_string();
            assert!(error.starts_with("n.local means the address "), "{error}");
        }
    }
}
