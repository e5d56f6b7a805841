//! How the API server is reached, and what of that serves kubelets, too.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use heapster_store::Clock;
use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls::pki_types::CertificateDer;
use secrecy::ExposeSecret;

use super::ConnectError;
use super::options::{ApiServer, Options};
use crate::sources::kubelet::tls::{Pem, TlsSetup, Trust};
use crate::sources::kubelet::token::Token;

/// Where a pod finds the token of its service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Longer than the 290 s after which the server ends an idle watch, so that only a connection that
/// died without a word, or a list that never comes, runs into it.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// The client configuration that the options ask for.
pub(super) async fn config(options: &Options) -> Result<Config, ConnectError> {
    let mut config = match &options.api_server {
        ApiServer::InCluster { address } => {
            let mut config = Config::incluster().map_err(|error| {
                ConnectError::new("could not use the in-cluster configuration", error)
            })?;
            if let Some(address) = address {
                config.cluster_url = url(address)?;
            }
            if options.insecure {
                config.accept_invalid_certs = true;
                config.root_cert = None;
                config.root_cert_file = None;
            }
            config
        }
        ApiServer::Kubeconfig(path) => from_kubeconfig(path).await?,
        ApiServer::Address(address) => {
            let mut config = Config::new(url(address)?);
            config.accept_invalid_certs = options.insecure;
            config
        }
    };
    if options.use_service_account && Path::new(SERVICE_ACCOUNT_TOKEN).is_file() {
        config.auth_info.token = None;
        config.auth_info.token_file = Some(SERVICE_ACCOUNT_TOKEN.to_owned());
    }
    // Where nothing is verified no roots are needed, and an image may have none to find.
    let is_plain = config.cluster_url.scheme() != Some(&http::uri::Scheme::HTTPS);
    let needs_no_roots = is_plain || config.accept_invalid_certs;
    if needs_no_roots && config.root_cert.is_none() && config.root_cert_file.is_none() {
        config.root_cert = Some(Vec::new());
    }
    config.read_timeout = Some(READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Ok(config)
}

async fn from_kubeconfig(path: &Path) -> Result<Config, ConnectError> {
    let failed = |error: kube::config::KubeconfigError| {
        ConnectError::new(format!("could not use the kubeconfig {}", path.display()), error)
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    let context = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &context).await.map_err(failed)
}

fn url(address: &str) -> Result<http::Uri, ConnectError> {
    address
        .parse()
        .map_err(|error| ConnectError::new("invalid kubernetes master url specified", error))
}

/// TLS towards kubelets: the options' files, else what the API server's configuration has.
pub(super) fn kubelet_tls(options: &Options, config: &Config) -> TlsSetup {
    let authorities = options
        .kubelet_ca_file
        .clone()
        .or_else(|| config.root_cert_file.clone())
        .map(Pem::File)
        .or_else(|| config.root_cert.as_deref().and_then(pem));
    let trust = match authorities {
        _ if options.kubelet_insecure_tls => Trust::AnyoneByChoice,
        Some(authorities) => Trust::Authorities(authorities),
        None => Trust::AnyoneWithoutToken,
    };
    let files = options.kubelet_identity.clone();
    let identity = files.map(|(chain, key)| (Pem::File(chain), Pem::File(key)));
    TlsSetup { trust, identity: identity.or_else(|| identity_of(&config.auth_info)) }
}

/// Certificates in the form in which [`TlsSetup`] takes them.
fn pem(certificates: &[Vec<u8>]) -> Option<Pem> {
    if certificates.is_empty() {
        return None;
    }
    let mut text = Vec::new();
    for der in certificates {
        text.extend(pem_block(&CertificateDer::from(der.as_slice())));
    }
    Some(Pem::Inline(text))
}

fn pem_block(der: &[u8]) -> Vec<u8> {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = base64_encode(der);
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text.into_bytes()
}

fn base64_encode(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn identity_of(auth: &AuthInfo) -> Option<(Pem, Pem)> {
    let inline = |data: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.decode(data).ok().map(Pem::Inline)
    };
    let file = |path: &Option<String>| path.as_ref().map(|path| Pem::File(PathBuf::from(path)));
    let chain = auth.client_certificate_data.as_deref().and_then(inline);
    let key = auth.client_key_data.as_ref().and_then(|data| inline(data.expose_secret()));
    Some((
        chain.or_else(|| file(&auth.client_certificate))?,
        key.or_else(|| file(&auth.client_key))?,
    ))
}

/// The token of the API server's configuration. Those that a program or a provider makes on demand
/// serve the API server alone.
pub(super) fn kubelet_token(
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Token>, ConnectError> {
    if let Some(path) = &config.auth_info.token_file {
        return Ok(Some(Token::file(PathBuf::from(path), clock.clone())));
    }
    let Some(token) = &config.auth_info.token else { return Ok(None) };
    let token = Token::fixed(token.expose_secret())
        .map_err(|error| ConnectError::new("the token of the kubeconfig is not usable", error))?;
    Ok(Some(token))
}

impl ConnectError {
    pub(super) fn new(
        message: impl Into<String>,
        cause: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Setup { message: message.into(), source: Box::new(cause) }
    }
}
