//! What the flags say of TLS, and of who is let in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::access::front_proxy::Headers;
use crate::access::gate::Policy;
use crate::access::reviews::Kept;
use crate::access::settings::{Lookup, Sources};
use crate::secure::certificate::Pair;
use crate::secure::self_signed::SelfSigned;
use crate::secure::{Origin, TlsOptions, TlsVersion};
use crate::uri::Uri;

use super::config::{Environment, duration, int};
use super::parser::{UsageError, Values};
use super::value::read_ip;

/// Paths for everybody, unless the flag names others.
const ALWAYS_ALLOWED: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// The port of an aggregated API server.
const SECURE_PORT: u16 = 443;

/// How a port is made secure.
#[derive(Clone, Debug)]
pub struct Protection {
    /// With what TLS is served.
    pub tls: TlsOptions,
    /// Who is let in; `None` is everybody.
    pub access: Option<Access>,
}

/// Who is let in.
#[derive(Clone, Debug)]
pub struct Access {
    /// Whom to believe.
    pub sources: Sources,
    /// Who may do what.
    pub policy: Policy,
    /// The API server that is asked, if there is one.
    pub api_server: Option<Uri>,
    /// How long its answers are kept.
    pub kept: Kept,
}

/// The port that is always secure.
#[derive(Clone, Debug)]
pub struct SecurePort {
    /// Where to serve.
    pub listen: SocketAddr,
    /// How.
    pub protection: Protection,
}

/// The secure port, if there is to be one.
pub(super) fn secure_port(
    values: &Values,
    source: &Uri,
    data_dir: &Path,
    environment: Environment<'_>,
) -> Result<Option<SecurePort>, UsageError> {
    let port = match u16::try_from(int(values, "secure-port")).unwrap_or_default() {
        0 if values.is_set("api-server") => SECURE_PORT,
        0 => return Ok(None),
        port => port,
    };
    let (flag, text) = ("bind-address", values.get("bind-address"));
    let ip = read_ip(text).ok_or_else(|| UsageError::bad_value(flag, text, "an IP address"))?;
    let origin = match pair(values, "tls-cert-file", "tls-private-key-file")? {
        Some(pair) => Origin::Files(pair),
        None => Origin::Own(SelfSigned {
            dir: path(values, "cert-dir").unwrap_or_else(|| data_dir.join("certificates")),
            names: own_names(ip, environment),
        }),
    };
    let always_allow = values.all("authorization-always-allow-paths");
    let policy = Policy {
        always_allow: match always_allow {
            [] => ALWAYS_ALLOWED.map(str::to_owned).to_vec(),
            given => given.to_vec(),
        },
        anonymous: values.is_set("anonymous-auth"),
        allowed_users: Vec::new(),
    };
    let access = Access {
        sources: Sources {
            client_ca_file: path(values, "client-ca-file"),
            request_header_ca_file: path(values, "requestheader-client-ca-file"),
            request_header_names: values.all("requestheader-allowed-names").to_vec(),
            request_headers: request_headers(values),
            lookup: match values.is_set("authentication-skip-lookup") {
                true => Lookup::Skipped,
                false if values.is_set("authentication-tolerate-lookup-failure") => {
                    Lookup::Tolerant
                }
                false => Lookup::Required,
            },
            ..files_of_users(values)
        },
        policy,
        api_server: api_server(values, source, environment)?,
        kept: Kept {
            token: duration(values, "authentication-token-webhook-cache-ttl"),
            allowed: duration(values, "authorization-webhook-cache-authorized-ttl"),
            denied: duration(values, "authorization-webhook-cache-unauthorized-ttl"),
        },
    };
    let tls = TlsOptions { origin, by_name: by_name(values)?, version_min: version_min(values) };
    let protection = Protection { tls, access: Some(access) };
    Ok(Some(SecurePort { listen: SocketAddr::new(ip, port), protection }))
}

/// How Heapster's port is made secure, if it is.
pub(super) fn main_port(values: &Values) -> Result<Option<Protection>, UsageError> {
    let conflict = |text: &str| Err(UsageError::Conflict(text.to_owned()));
    let allowed_users = values.all("allowed-users").to_vec();
    let sources =
        Sources { client_ca_file: path(values, "tls-client-ca"), ..files_of_users(values) };
    let has_ca = sources.client_ca_file.is_some();
    let has_users = has_ca || sources.token_file.is_some() || sources.basic_file.is_some();
    let Some(pair) = pair(values, "tls-cert", "tls-key")? else {
        // The original let everybody in then and said nothing.
        return match (has_ca, allowed_users.is_empty()) {
            (true, _) => conflict("--tls-client-ca needs --tls-cert and --tls-key beside it"),
            (_, false) => conflict("--allowed-users needs --tls-cert and --tls-key beside it"),
            _ => Ok(None),
        };
    };
    if !allowed_users.is_empty() && !has_users {
        // The original asked for certificates then and checked none.
        return conflict(
            "--allowed-users needs --tls-client-ca, or a file of users, to know who is who",
        );
    }
    let policy = Policy {
        always_allow: ALWAYS_ALLOWED.iter().map(|path| format!("{path}*")).collect(),
        anonymous: false,
        allowed_users,
    };
    let kept =
        Kept { token: Default::default(), allowed: Default::default(), denied: Default::default() };
    let access = Access { sources, policy, api_server: None, kept };
    let tls = TlsOptions {
        origin: Origin::Files(pair),
        by_name: Vec::new(),
        version_min: version_min(values),
    };
    Ok(Some(Protection { tls, access: has_users.then_some(access) }))
}

fn path(values: &Values, flag: &str) -> Option<PathBuf> {
    Some(values.get(flag)).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn pair(
    values: &Values,
    certificate: &'static str,
    key: &'static str,
) -> Result<Option<Pair>, UsageError> {
    match (path(values, certificate), path(values, key)) {
        (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(UsageError::Conflict(format!("--{certificate} needs --{key} beside it")))
        }
        (None, Some(_)) => {
            Err(UsageError::Conflict(format!("--{key} needs --{certificate} beside it")))
        }
    }
}

fn by_name(values: &Values) -> Result<Vec<(Pair, Vec<String>)>, UsageError> {
    let flag = "tls-sni-cert-key";
    let one = |text: &String| {
        let bad = || UsageError::bad_value(flag, text, "CERT,KEY or CERT,KEY:NAME,…");
        let (files, names) = text.split_once(':').unwrap_or((text, ""));
        let (certificate, key) = files.split_once(',').ok_or_else(bad)?;
        if certificate.is_empty() || key.is_empty() {
            return Err(bad());
        }
        let names = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        Ok((Pair { certificate: certificate.into(), key: key.into() }, names.collect()))
    };
    values.all(flag).iter().map(one).collect()
}

fn version_min(values: &Values) -> TlsVersion {
    match values.get("tls-min-version") {
        "VersionTLS13" => TlsVersion::V13,
        _ => TlsVersion::V12,
    }
}

fn files_of_users(values: &Values) -> Sources {
    Sources {
        token_file: path(values, "token-auth-file"),
        basic_file: path(values, "basic-auth-file"),
        ..Sources::default()
    }
}

fn request_headers(values: &Values) -> Headers {
    let usual = Headers::default();
    let or = |flag, usual: Vec<String>| match values.all(flag) {
        [] => usual,
        given => given.iter().map(|name| name.to_ascii_lowercase()).collect(),
    };
    Headers {
        usernames: or("requestheader-username-headers", usual.usernames),
        groups: or("requestheader-group-headers", usual.groups),
        extra_prefixes: or("requestheader-extra-headers-prefix", usual.extra_prefixes),
    }
}

/// The API server whose word counts: the one that is named, that of the source, or that of the pod.
fn api_server(
    values: &Values,
    source: &Uri,
    environment: Environment<'_>,
) -> Result<Option<Uri>, UsageError> {
    let uri = |text: &str| {
        Uri::parse(text, environment)
            .map_err(|error| UsageError::Conflict(format!("--authentication-kubeconfig: {error}")))
    };
    let kubeconfig = values.get("authentication-kubeconfig");
    if !kubeconfig.is_empty() {
        let encoded: String = form_urlencoded::byte_serialize(kubeconfig.as_bytes()).collect();
        return uri(&format!("kubernetes:?inClusterConfig=false&auth={encoded}")).map(Some);
    }
    if source.key().starts_with("kubernetes") {
        return Ok(Some(source.clone()));
    }
    match environment("KUBERNETES_SERVICE_HOST") {
        Some(_) => uri("kubernetes:").map(Some),
        None => Ok(None),
    }
}

/// The names by which clients may call us, for a certificate of our own making.
fn own_names(ip: std::net::IpAddr, environment: Environment<'_>) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !ip.is_unspecified() && !ip.is_loopback() {
        names.push(ip.to_string());
    }
    let namespace = environment("POD_NAMESPACE").unwrap_or_else(|| "kube-system".to_owned());
    for service in ["heapster", "metrics-server"] {
        names.extend([
            service.to_owned(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
        ]);
    }
    names.extend(environment("HOSTNAME").filter(|name| !name.is_empty()));
    names
}
