//! Client certificates: whose they are, and who vouches for that.
//!
//! The handshake takes any certificate whose holder has its key; whether an authority vouches for
//! it is asked here, for each request, since there are two authorities with different rights and
//! both may be renewed while connections stay.

use std::fmt;
use std::sync::Arc;

use heapster_core::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AccessError;

/// Those who vouch for certificates of clients.
#[derive(Clone)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

impl Authorities {
    /// The authorities of a PEM text.
    ///
    /// # Errors
    /// It holds none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AccessError> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(pem) {
            let authority = authority.map_err(|_| AccessError::NoAuthority)?;
            roots.add(authority).map_err(|_| AccessError::NoAuthority)?;
        }
        let provider = Arc::new(ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(Self)
            .map_err(|_| AccessError::NoAuthority)
    }

    /// Whether one of them vouches for the first certificate of a chain, now and for a client.
    pub fn vouch_for(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let Some((own, intermediates)) = chain.split_first() else { return false };
        let seconds = u64::try_from(now.as_millis().div_euclid(1000)).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self.0.verify_client_cert(own, intermediates, now).is_ok()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.root_hint_subjects().len())
    }
}

/// Whom a certificate names: common name and organizations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Common name; a user.
    pub common_name: String,
    /// Organizations; groups.
    pub organizations: Vec<String>,
}

/// Whom a certificate names; `None` when it cannot be read, or has several common names: readers
/// differ in which of them counts. Never asked before somebody vouched for the certificate.
pub fn subject(certificate: &CertificateDer<'_>) -> Option<Subject> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject();
    let text =
        |part: &x509_parser::x509::AttributeTypeAndValue<'_>| part.as_str().ok().map(str::to_owned);
    let mut names = name.iter_common_name();
    let common_name = match (names.next(), names.next()) {
        (_, Some(_)) => return None,
        (Some(only), None) => text(only)?,
        (None, None) => String::new(),
    };
    Some(Subject {
        common_name,
        organizations: name.iter_organization().filter_map(text).collect(),
    })
}

/// Asks clients for a certificate, and takes any whose holder has its key, or none.
#[derive(Debug)]
pub struct AnyHolder(Arc<CryptoProvider>);

impl AnyHolder {
    /// With the usual algorithms.
    pub fn new() -> Self {
        Self(Arc::new(ring::default_provider()))
    }
}

impl Default for AnyHolder {
    fn default() -> Self {
        Self::new()
    }
}

impl ClientCertVerifier for AnyHolder {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
