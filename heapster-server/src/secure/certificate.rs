//! [`ShownCertificates`]: the certificate for the name that a client asks for.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::access::settings::read_file;

/// Files with a certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The chain, our own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Pair {
    fn bad(&self, what: &dyn std::fmt::Display) -> TlsError {
        TlsError::Pair { pair: self.clone(), what: what.to_string() }
    }

    fn read(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let (chain, key) = (read_file(&self.certificate)?, read_file(&self.key)?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let chain = chain.map_err(|_| self.bad(&"there is no certificate"))?;
        if chain.is_empty() {
            return Err(self.bad(&"there is no certificate"));
        }
        // The library's words about a bad key may have parts of it.
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| self.bad(&"there is no key"))?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        certified.map(Arc::new).map_err(|error| self.bad(&error))
    }
}

/// Certificates at one moment.
pub struct Loaded {
    default: Arc<CertifiedKey>,
    /// In lower case; `*.` stands for one part.
    by_name: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl Loaded {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`]: one of them cannot be used.
    pub(super) fn read(default: &Pair, by_name: &[(Pair, Vec<String>)]) -> Result<Self, TlsError> {
        let read = |(pair, names): &(Pair, Vec<String>)| {
            let certified = pair.read()?;
            let own = certified.cert.first().map(|own| names_in(own)).unwrap_or_default();
            let names = if names.is_empty() { own } else { names.clone() };
            let names = names.iter().map(|name| name.to_ascii_lowercase()).collect();
            Ok((names, certified))
        };
        let by_name = by_name.iter().map(read).collect::<Result<_, TlsError>>()?;
        Ok(Self { default: default.read()?, by_name })
    }

    fn for_name(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let asked = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let wildcard = asked.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let has = |name: &str| {
            let found = self.by_name.iter().find(|(names, _)| names.iter().any(|own| own == name));
            found.map(|(_, certified)| Arc::clone(certified))
        };
        let found = has(&asked).or_else(|| wildcard.and_then(|wildcard| has(&wildcard)));
        found.unwrap_or_else(|| Arc::clone(&self.default))
    }

    fn chains(&self) -> Vec<&[CertificateDer<'static>]> {
        let all = std::iter::once(&self.default).chain(self.by_name.iter().map(|(_, own)| own));
        all.map(|certified| certified.cert.as_slice()).collect()
    }
}

/// Names of hosts that a certificate is for.
fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(alternative)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = alternative.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect()
}

/// The certificates that are shown now.
pub struct ShownCertificates(RwLock<Arc<Loaded>>);

impl ShownCertificates {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self(RwLock::new(Arc::new(loaded)))
    }

    /// Shows others from now on; gives whether they are others.
    pub(super) fn replace(&self, loaded: Loaded) -> bool {
        let mut shown = self.0.write();
        let is_new = shown.chains() != loaded.chains();
        *shown = Arc::new(loaded);
        is_new
    }
}

impl ResolvesServerCert for ShownCertificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().for_name(hello.server_name()))
    }
}

impl std::fmt::Debug for ShownCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShownCertificates")
    }
}
