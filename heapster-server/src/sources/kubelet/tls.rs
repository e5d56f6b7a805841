//! [`TlsSetup`]: whom we trust to be a kubelet, and the certificate we show one.
//!
//! The only file that builds TLS configurations of the sources. The crypto provider is always given
//! explicitly, so that no other crate's choice can change it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// All the authorities of the world are a quarter of that; a path that names something else must
/// not fill the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A PEM text or the file that holds one.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The text itself.
    Inline(Vec<u8>),
    /// A file, read again when it may have changed.
    File(PathBuf),
}

impl Pem {
    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => {
                let mut bytes = Vec::new();
                let file = File::open(path);
                file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
                    .map_err(|source| TlsError::Read { path: path.clone(), source })?;
                Ok(bytes)
            }
        }
    }
}

/// Names the file; a text may hold a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Pem(***)"),
            Self::File(path) => write!(f, "Pem({})", path.display()),
        }
    }
}

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those of these authorities, for the address that was dialled.
    Authorities(Pem),
    /// Those of the authorities that the system trusts, for the address that was dialled.
    System,
    /// Anybody's, because nobody said whom to trust. No bearer token is shown.
    AnyoneWithoutToken,
    /// Anybody's, because the operator said so. A bearer token is shown.
    AnyoneByChoice,
}

/// What TLS connections to kubelets and other targets are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSetup {
    /// Whose certificates are accepted.
    pub trust: Trust,
    /// Our certificate chain and its key.
    pub identity: Option<(Pem, Pem)>,
}

/// Why TLS cannot be set up. Never holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A text has no usable certificate or key.
    #[error("no usable {what} in the PEM text")]
    Pem {
        /// What was looked for.
        what: &'static str,
    },
    /// The system has no authorities.
    #[error("could not read the authorities of the system")]
    System(#[source] std::io::Error),
    /// The TLS library refused the certificates or the key.
    #[error("the certificates or the key are not usable")]
    Refused(#[from] rustls::Error),
}

/// The bytes a [`TlsSetup`] refers to at one moment; equal when nothing changed.
#[derive(PartialEq, Eq)]
pub(in crate::sources) struct Material {
    trusted: Trusted,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Whose certificates are accepted, with the bytes that say it.
#[derive(PartialEq, Eq)]
enum Trusted {
    Authorities(Vec<u8>),
    System,
    Anyone,
}

impl Material {
    pub(in crate::sources) fn read(setup: &TlsSetup) -> Result<Self, TlsError> {
        let trusted = match &setup.trust {
            Trust::Authorities(pem) => Trusted::Authorities(pem.read()?),
            Trust::System => Trusted::System,
            Trust::AnyoneWithoutToken | Trust::AnyoneByChoice => Trusted::Anyone,
        };
        let identity = match &setup.identity {
            Some((chain, key)) => Some((chain.read()?, key.read()?)),
            None => None,
        };
        Ok(Self { trusted, identity })
    }

    pub(in crate::sources) fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = match &self.trusted {
            Trusted::Authorities(pem) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(pem)? {
                    roots.add(authority)?;
                }
                builder.with_root_certificates(roots)
            }
            Trusted::System => builder.with_native_roots().map_err(TlsError::System)?,
            Trusted::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAnyone(provider))),
        };
        Ok(match &self.identity {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| TlsError::Pem { what: "private key" })?;
                builder.with_client_auth_cert(certificates(chain)?, key)?
            }
            None => builder.with_no_client_auth(),
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let missing = || TlsError::Pem { what: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| missing())?;
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

/// Accepts every certificate whose holder has its key. For kubelets with certificates of their own
/// making, and only where the operator did not name an authority.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_names_something_endless_does_not_fill_the_memory() {
        let zeroes = Pem::File("/dev/zero".into()).read().unwrap();
        assert_eq!(zeroes.len() as u64, FILE_BYTES_MAX);
        assert!(certificates(&zeroes).is_err());
    }
}
