//! [`Options`]: what the query of a kubernetes source URI asks for.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::value::read_duration;
use crate::sources::kubelet::source::{Access, Endpoint, Scheme};
use crate::uri::{Uri, UriError};

/// Names of all options, for the message about an unknown one. `apiVersion` is accepted and, as in
/// the original, means nothing.
const NAMES: [&str; 16] = [
    "inClusterConfig",
    "insecure",
    "auth",
    "useServiceAccount",
    "kubeletPort",
    "kubeletHttps",
    "host_id_annotation",
    "apiVersion",
    "kubeletCAFile",
    "kubeletClientCert",
    "kubeletClientKey",
    "kubeletInsecureTls",
    "preferredAddressTypes",
    "scrapeTimeout",
    "maxParallel",
    "podsOfOtherNodes",
];

/// The port of the kubelet's read-only endpoint, plain HTTP, which is off in today's clusters.
const READ_ONLY_PORT: u16 = 10255;

/// The port of the kubelet's real endpoint, always over TLS.
const SECURE_PORT: u16 = 10250;

const SCRAPE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The collector waits no longer for anyone.
const SCRAPE_TIMEOUT_MAX: Duration = Duration::from_secs(20);

/// How to reach the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiServer {
    /// With the service account of the pod we run in.
    InCluster {
        /// An address to use in place of the cluster's own.
        address: Option<String>,
    },
    /// With the current context of a kubeconfig, as it is.
    Kubeconfig(PathBuf),
    /// At an address, without credentials.
    Address(String),
}

/// A kind of address in a node's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// An IP address inside the cluster's network.
    InternalIp,
    /// An IP address reachable from outside.
    ExternalIp,
    /// The node's host name.
    Hostname,
    /// A name that resolves inside.
    InternalDns,
    /// A name that resolves outside.
    ExternalDns,
}

impl AddressType {
    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "InternalIP" => Self::InternalIp,
            "ExternalIP" => Self::ExternalIp,
            "Hostname" => Self::Hostname,
            "InternalDNS" => Self::InternalDns,
            "ExternalDNS" => Self::ExternalDns,
            _ => return None,
        })
    }
}

/// What becomes of the numbers a node reports for pods that run on other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignPods {
    /// They are left out.
    Dropped,
    /// They are kept, as the original did.
    Kept,
}

/// The options of a kubernetes source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How to reach the API server.
    pub api_server: ApiServer,
    /// Whether the API server's certificate is not verified.
    pub insecure: bool,
    /// Whether the pod's service account token is used although another access is configured.
    pub use_service_account: bool,
    /// How kubelets are asked.
    pub access: Access,
    /// Annotation of nodes that gives `host_id` when they have no external ID; empty for none.
    pub host_id_annotation: String,
    /// File with the authorities of the kubelets' certificates.
    pub kubelet_ca_file: Option<PathBuf>,
    /// Files with our certificate for kubelets and its key.
    pub kubelet_identity: Option<(PathBuf, PathBuf)>,
    /// Whether kubelets' certificates are not verified although we show them our token.
    pub kubelet_insecure_tls: bool,
    /// Which address of a node is taken; empty for the original's rule.
    pub preferred_address_types: Vec<AddressType>,
    /// Time for one node's answer; at most 20 s.
    pub scrape_timeout: Duration,
    /// How many nodes to ask at once; `None` leaves it to the collector.
    pub max_parallel: Option<usize>,
    /// What becomes of pods reported by a node they do not run on.
    pub foreign_pods: ForeignPods,
}

impl Options {
    /// Reads the options of a URI whose key is `kubernetes` or begins with `kubernetes.`.
    ///
    /// # Errors
    /// [`UriError`] when an option is unknown, malformed or contradicts another.
    pub fn from_uri(uri: &Uri) -> Result<Self, UriError> {
        uri.accept_options(&NAMES)?;
        let flag = |name| Ok::<_, UriError>(uri.bool_option(name)?.unwrap_or(false));
        let file = |name| uri.option(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self {
            api_server: api_server(uri)?,
            insecure: flag("insecure")?,
            use_service_account: flag("useServiceAccount")?,
            access: access(uri)?,
            host_id_annotation: uri.option("host_id_annotation").unwrap_or("").to_owned(),
            kubelet_ca_file: file("kubeletCAFile"),
            kubelet_identity: match (file("kubeletClientCert"), file("kubeletClientKey")) {
                (Some(chain), Some(key)) => Some((chain, key)),
                (None, None) => None,
                (Some(_), None) => {
                    return Err(uri.bad_option("kubeletClientCert", "kubeletClientKey beside it"));
                }
                (None, Some(_)) => {
                    return Err(uri.bad_option("kubeletClientKey", "kubeletClientCert beside it"));
                }
            },
            kubelet_insecure_tls: flag("kubeletInsecureTls")?,
            preferred_address_types: address_types(uri)?,
            scrape_timeout: scrape_timeout(uri)?,
            max_parallel: match uri.int_option("maxParallel")?.map(usize::try_from) {
                None => None,
                Some(Ok(count)) if count > 0 => Some(count),
                Some(_) => return Err(uri.bad_option("maxParallel", "at least 1")),
            },
            foreign_pods: match uri.option("podsOfOtherNodes") {
                None | Some("drop") => ForeignPods::Dropped,
                Some("keep") => ForeignPods::Kept,
                Some(_) => return Err(uri.bad_option("podsOfOtherNodes", "drop or keep")),
            },
        })
    }
}

fn api_server(uri: &Uri) -> Result<ApiServer, UriError> {
    // Only both together override the address, and a path never counts.
    let address = (!uri.scheme().is_empty() && !uri.host().is_empty()).then(|| {
        let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", uri.scheme(), uri.host())
    });
    if uri.bool_option("inClusterConfig")?.unwrap_or(true) {
        return Ok(ApiServer::InCluster { address });
    }
    if let Some(path) = uri.option("auth").filter(|path| !path.is_empty()) {
        return Ok(ApiServer::Kubeconfig(PathBuf::from(path)));
    }
    address.map(ApiServer::Address).ok_or_else(|| {
        let expected = "an API server before the options, or auth with a kubeconfig \
                        (invalid kubernetes master url specified)";
        uri.bad_option("inClusterConfig", expected)
    })
}

/// What is not said follows from what is: see the table in `docs/sources/kubernetes.md`.
fn access(uri: &Uri) -> Result<Access, UriError> {
    let endpoint = match uri.key() {
        "kubernetes" => Endpoint::Legacy,
        "kubernetes.resource_metrics" => Endpoint::Resource,
        _ => Endpoint::Summary,
    };
    let port = match uri.int_option("kubeletPort")?.map(u16::try_from) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(uri.bad_option("kubeletPort", "a port from 1 to 65535")),
    };
    let (scheme, port) = match (uri.bool_option("kubeletHttps")?, port) {
        (None, None) => (Scheme::Https, SECURE_PORT),
        (None, Some(SECURE_PORT)) => (Scheme::Https, SECURE_PORT),
        (None, Some(port)) => (Scheme::Http, port),
        (Some(true), port) => (Scheme::Https, port.unwrap_or(SECURE_PORT)),
        (Some(false), port) => (Scheme::Http, port.unwrap_or(READ_ONLY_PORT)),
    };
    Ok(Access { endpoint, scheme, port })
}

fn address_types(uri: &Uri) -> Result<Vec<AddressType>, UriError> {
    let expected = "a comma-separated list of InternalIP, ExternalIP, Hostname, InternalDNS and \
                    ExternalDNS";
    let names = uri.option("preferredAddressTypes").unwrap_or("");
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| AddressType::from_name(name).ok_or(()))
        .collect::<Result<_, _>>()
        .map_err(|()| uri.bad_option("preferredAddressTypes", expected))
}

fn scrape_timeout(uri: &Uri) -> Result<Duration, UriError> {
    let Some(text) = uri.option("scrapeTimeout") else { return Ok(SCRAPE_TIMEOUT_DEFAULT) };
    // A number alone means seconds.
    let parsed = read_duration(text).or_else(|| text.parse().ok().map(Duration::from_secs));
    match parsed {
        Some(timeout) if !timeout.is_zero() && timeout <= SCRAPE_TIMEOUT_MAX => Ok(timeout),
        _ => Err(uri.bad_option("scrapeTimeout", "a time such as 500ms, 1.5s or 10s, at most 20s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flag: &str) -> Result<Options, UriError> {
        Options::from_uri(&Uri::parse(flag, |_| None)?)
    }

    fn access(query: &str) -> (Scheme, u16) {
        let access = parse(&format!("kubernetes.summary_api:{query}")).unwrap().access;
        (access.scheme, access.port)
    }

    #[test]
    fn port_and_scheme_follow_from_each_other() {
        assert_eq!(access(""), (Scheme::Https, 10250));
        assert_eq!(access("?kubeletPort=10255"), (Scheme::Http, 10255));
        assert_eq!(access("?kubeletPort=10250"), (Scheme::Https, 10250));
        assert_eq!(access("?kubeletPort=30555"), (Scheme::Http, 30555));
        assert_eq!(access("?kubeletHttps=true"), (Scheme::Https, 10250));
        assert_eq!(access("?kubeletHttps=false"), (Scheme::Http, 10255));
        assert_eq!(access("?kubeletHttps=true&kubeletPort=1"), (Scheme::Https, 1));
        assert_eq!(access("?kubeletHttps=false&kubeletPort=10250"), (Scheme::Http, 10250));
    }

    #[test]
    fn the_api_server_is_found_as_in_the_original() {
        let api = |flag| parse(flag).unwrap().api_server;
        let address = |text: &str| Some(text.to_owned());
        assert_eq!(api("kubernetes"), ApiServer::InCluster { address: None });
        assert_eq!(
            api("kubernetes:http://[::1]:8080/ignored"),
            ApiServer::InCluster { address: address("http://[::1]:8080") }
        );
        assert_eq!(
            api("kubernetes:https://api?inClusterConfig=false&insecure=true"),
            ApiServer::Address("https://api".to_owned())
        );
        assert_eq!(
            api("kubernetes:https://api?inClusterConfig=false&auth=/kube/config"),
            ApiServer::Kubeconfig("/kube/config".into())
        );
        let error = parse("kubernetes:?inClusterConfig=false").unwrap_err().to_string();
        assert!(error.contains("invalid kubernetes master url specified"), "{error}");
    }

    #[test]
    fn bad_and_unknown_options_are_refused() {
        for query in [
            "kubeletHttp=true",
            "kubeletHttps=yes",
            "kubeletPort=0",
            "kubeletPort=65536",
            "kubeletPort=",
            "scrapeTimeout=21s",
            "scrapeTimeout=0",
            "scrapeTimeout=soon",
            "maxParallel=0",
            "maxParallel=-1",
            "preferredAddressTypes=IP",
            "kubeletClientCert=/a",
            "kubeletClientKey=/a",
            "podsOfOtherNodes=",
        ] {
            assert!(parse(&format!("kubernetes.summary_api:?{query}")).is_err(), "{query}");
        }
        let unknown = parse("kubernetes:?kubeletport=1").unwrap_err().to_string();
        assert!(unknown.contains("kubeletPort, kubeletHttps"), "{unknown}");
    }

    #[test]
    fn a_scrape_timeout_is_a_duration_as_in_go() {
        for (text, millis) in
            [("1.5s", 1_500), ("0m15s", 15_000), ("500ms", 500), ("20", 20_000), ("7s", 7_000)]
        {
            let options = parse(&format!("kubernetes:?scrapeTimeout={text}")).unwrap();
            assert_eq!(options.scrape_timeout, Duration::from_millis(millis), "{text}");
        }
        for text in ["1m", "0s", "-1s", "1.5", "s", ""] {
            assert!(parse(&format!("kubernetes:?scrapeTimeout={text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn the_options_of_today_are_read() {
        let options = parse(
            "kubernetes.summary_api:?kubeletCAFile=/ca&kubeletClientCert=/c&kubeletClientKey=/k\
             &preferredAddressTypes=Hostname,InternalIP&scrapeTimeout=1500ms&maxParallel=64\
             &host_id_annotation=cloud/id&apiVersion=v1",
        )
        .unwrap();
        assert_eq!(options.access.endpoint, Endpoint::Summary);
        assert_eq!(options.kubelet_ca_file, Some("/ca".into()));
        assert_eq!(options.kubelet_identity, Some(("/c".into(), "/k".into())));
        assert_eq!(
            options.preferred_address_types,
            [AddressType::Hostname, AddressType::InternalIp]
        );
        assert_eq!(options.scrape_timeout, Duration::from_millis(1500));
        assert_eq!(options.max_parallel, Some(64));
        assert_eq!(options.host_id_annotation, "cloud/id");
    }
}
