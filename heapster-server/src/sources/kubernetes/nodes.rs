//! Which nodes can be scraped and where: the rules of the original, without its blind trust in what
//! a node says its address is.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use heapster_core::Text;

use super::objects::{KnownNode, Readiness};
use super::options::AddressType;
use crate::sources::kubelet::NodeInfo;
use crate::sources::kubelet::cadvisor::Schedulable;
use crate::sources::kubelet::resolver::is_forbidden;
use crate::sources::kubelet::source::{Address, Endpoint, Target};

/// Why a node is left out for the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    NotReady,
    NoAddress { hostname: String, ip: String },
    ForbiddenAddress(IpAddr),
    SharedAddress(Address),
}

/// The clause that follows `node NAME`.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("is not ready"),
            Self::NoAddress { hostname, ip } => {
                write!(f, "has no valid hostname and/or IP address: {hostname} {ip}")
            }
            Self::ForbiddenAddress(ip) => write!(f, "has the address {ip}, which no node can have"),
            Self::SharedAddress(address) => {
                write!(f, "has the same address as another node: {address:?}")
            }
        }
    }
}

/// The targets of the moment and the nodes left out, both by node.
pub(super) fn targets(
    nodes: &[KnownNode],
    endpoint: Endpoint,
    preferred: &[AddressType],
) -> (Vec<Target>, Vec<(Text, Skipped)>) {
    let mut targets = Vec::with_capacity(nodes.len());
    let mut skipped = Vec::new();
    for node in nodes {
        match target(node, endpoint, preferred) {
            Ok(target) => targets.push(target),
            Err(reason) => skipped.push((node.node.name.clone(), reason)),
        }
    }
    // One of them lies, or both are misread: asking either could mislabel the other's numbers.
    let mut claims: HashMap<Address, usize> = HashMap::new();
    for target in &targets {
        *claims.entry(target.address.clone()).or_default() += 1;
    }
    targets.retain(|target| {
        let is_shared = claims.get(&target.address).is_some_and(|count| *count > 1);
        if is_shared {
            let reason = Skipped::SharedAddress(target.address.clone());
            skipped.push((target.info.nodename.clone(), reason));
        }
        !is_shared
    });
    (targets, skipped)
}

fn target(
    known: &KnownNode,
    endpoint: Endpoint,
    preferred: &[AddressType],
) -> Result<Target, Skipped> {
    if known.readiness == Readiness::NotReady {
        return Err(Skipped::NotReady);
    }
    let name = &known.node.name;
    let hostnames = known.addresses.iter().filter(|(kind, _)| *kind == AddressType::Hostname);
    let hostname = hostnames.map(|(_, host)| host).rfind(|host| !host.is_empty());
    let hostname = hostname.map_or_else(|| name.clone(), Text::from);
    let address = if preferred.is_empty() { usual(known) } else { chosen(known, preferred) };
    let address =
        address.map_err(|ip| Skipped::NoAddress { hostname: hostname.to_string(), ip })?;
    if let Address::Ip(ip) = &address
        && is_forbidden(*ip)
    {
        return Err(Skipped::ForbiddenAddress(*ip));
    }
    let annotation = (endpoint != Endpoint::Legacy).then_some(&known.host_id_annotation);
    let host_id = Some(&known.external_id).filter(|id| !id.is_empty()).or(annotation);
    Ok(Target {
        info: NodeInfo {
            nodename: name.clone(),
            hostname,
            host_id: host_id.cloned().unwrap_or_default(),
        },
        schedulable: if known.is_cordoned { Schedulable::No } else { Schedulable::Yes },
        address,
    })
}

/// The original's choice: the last valid InternalIP, else the first ExternalIP. The error is the
/// text that was not an address.
fn usual(known: &KnownNode) -> Result<Address, String> {
    let mut text = "";
    for (kind, address) in &known.addresses {
        match kind {
            AddressType::InternalIp if address.parse::<IpAddr>().is_ok() => text = address,
            AddressType::ExternalIp if text.is_empty() => text = address,
            _ => {}
        }
    }
    text.parse().map(Address::Ip).map_err(|_| text.to_owned())
}

/// The first address of the first preferred type that the node has.
fn chosen(known: &KnownNode, preferred: &[AddressType]) -> Result<Address, String> {
    for wanted in preferred {
        for (_, address) in known.addresses.iter().filter(|(kind, _)| kind == wanted) {
            let is_ip_type = matches!(wanted, AddressType::InternalIp | AddressType::ExternalIp);
            match address.parse() {
                Ok(ip) => return Ok(Address::Ip(ip)),
                Err(_) if !is_ip_type && is_host_name(address) => {
                    return Ok(Address::Name(address.clone()));
                }
                Err(_) => {}
            }
        }
    }
    Err(String::new())
}

/// Whether a text can stand as the host of a URL and nothing else.
fn is_host_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use heapster_core::cluster::Node;

    use super::*;
    use AddressType::{ExternalIp, Hostname, InternalDns, InternalIp};

    fn node(name: &str, addresses: &[(AddressType, &str)]) -> KnownNode {
        KnownNode {
            node: Arc::new(Node { name: name.into(), ..Node::default() }),
            readiness: Readiness::Ready,
            is_cordoned: true,
            external_id: Text::default(),
            host_id_annotation: "i-1".into(),
            addresses: addresses.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect(),
        }
    }

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    fn check(addresses: &[(AddressType, &str)], hostname: &str, address: &str) {
        let target = target(&node("n", addresses), Endpoint::Summary, &[]).unwrap();
        assert_eq!(target.info.hostname, hostname, "{addresses:?}");
        assert_eq!(target.address, ip(address), "{addresses:?}");
    }

    #[test]
    fn addresses_are_chosen_as_in_the_original() {
        check(&[(Hostname, "h"), (InternalIp, "10.0.0.1")], "h", "10.0.0.1");
        check(&[(InternalIp, "fd01::1"), (InternalIp, "10.0.0.2")], "n", "10.0.0.2");
        check(&[(ExternalIp, "8.8.8.8")], "n", "8.8.8.8");
        check(&[(ExternalIp, "8.8.8.8"), (InternalIp, "10.0.0.1")], "n", "10.0.0.1");
        check(&[(InternalIp, "10.0.0.1"), (ExternalIp, "8.8.8.8")], "n", "10.0.0.1");
        check(&[(Hostname, "a"), (Hostname, "b"), (InternalIp, "127.1.0.1")], "b", "127.1.0.1");
        check(&[(InternalIp, "fd01::1")], "n", "fd01::1");
    }

    #[test]
    fn a_node_without_usable_address_is_left_out_and_named() {
        for (addresses, clause) in [
            (vec![], "has no valid hostname and/or IP address: n "),
            (vec![(ExternalIp, "x.y")], "has no valid hostname and/or IP address: n x.y"),
            (vec![(InternalIp, "oops")], "has no valid hostname and/or IP address: n "),
        ] {
            let skipped = target(&node("n", &addresses), Endpoint::Summary, &[]).unwrap_err();
            assert_eq!(skipped.to_string(), clause);
        }
        let mut unready = node("n", &[(InternalIp, "10.0.0.1")]);
        unready.readiness = Readiness::NotReady;
        let skipped = target(&unready, Endpoint::Summary, &[]).unwrap_err();
        assert_eq!(skipped.to_string(), "is not ready");
    }

    #[test]
    fn addresses_that_no_node_has_are_refused() {
        for text in [
            "0.0.0.0",
            "169.254.169.254",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            let result = target(&node("n", &[(InternalIp, text)]), Endpoint::Summary, &[]);
            assert!(matches!(result, Err(Skipped::ForbiddenAddress(_))), "{text}");
        }
    }

    #[test]
    fn a_preferred_type_wins_over_the_usual_choice() {
        let node =
            node("n", &[(InternalIp, "10.0.0.1"), (InternalDns, "n.local"), (Hostname, "h/")]);
        let address = |preferred: &[AddressType]| {
            target(&node, Endpoint::Summary, preferred).map(|target| target.address)
        };
        assert_eq!(address(&[InternalDns]), Ok(Address::Name("n.local".to_owned())));
        assert_eq!(address(&[ExternalIp, InternalIp]), Ok(ip("10.0.0.1")));
        assert!(address(&[Hostname]).is_err(), "a slash could lead a URL elsewhere");
    }

    #[test]
    fn two_nodes_that_claim_one_address_are_both_left_out() {
        let nodes = [
            node("a", &[(InternalIp, "10.0.0.1")]),
            node("b", &[(InternalIp, "10.0.0.2")]),
            node("c", &[(InternalIp, "10.0.0.1")]),
        ];
        let (targets, skipped) = targets(&nodes, Endpoint::Summary, &[]);
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].info.nodename, "b");
        assert_eq!(skipped.len(), 2);
    }

    #[test]
    fn the_host_id_is_the_external_id_or_for_summaries_the_annotation() {
        let mut known = node("n", &[(InternalIp, "10.0.0.1")]);
        let host_id = |known: &KnownNode, endpoint| {
            target(known, endpoint, &[]).unwrap().info.host_id.to_string()
        };
        assert_eq!(host_id(&known, Endpoint::Summary), "i-1");
        assert_eq!(host_id(&known, Endpoint::Legacy), "");
        known.external_id = "ext".into();
        assert_eq!(host_id(&known, Endpoint::Summary), "ext");
        let target = target(&known, Endpoint::Legacy, &[]).unwrap();
        assert_eq!(target.schedulable, Schedulable::No);
    }
}
