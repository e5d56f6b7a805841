//! Serving over TLS: which certificate is shown, and that rotated files are taken over.

pub mod certificate;
pub mod listener;
pub mod self_signed;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heapster_store::Clock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use tokio_util::sync::CancellationToken;

use self::certificate::{Loaded, Pair, ShownCertificates};
use self::self_signed::SelfSigned;
use crate::access::AccessError;
use crate::access::certificate::AnyHolder;

/// How often it is looked whether files changed, or our own certificate ends soon.
const RELOAD_PERIOD: Duration = Duration::from_secs(10);

/// Which certificate is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// That of these files.
    Files(Pair),
    /// One of our own making, which is kept.
    Own(SelfSigned),
}

/// What TLS is served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificate for clients that ask for no name, or one that no other has.
    pub origin: Origin,
    /// Certificates for some names; without names, for those in the certificate.
    pub by_name: Vec<(Pair, Vec<String>)>,
    /// The oldest version of TLS.
    pub version_min: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

/// Why TLS cannot be served. Never holds a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] AccessError),
    /// A file has no certificate or key, or they do not belong together.
    #[error("the certificate {} and the key {} cannot be used: {what}", pair.certificate.display(), pair.key.display())]
    Pair {
        /// The files.
        pair: Pair,
        /// What is wrong.
        what: String,
    },
    /// Our own certificate cannot be made or kept.
    #[error("could not make a certificate in {}", dir.display())]
    Own {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up")]
    Refused(#[from] rustls::Error),
    /// The program ends.
    #[error("the program ends")]
    Ended,
}

/// A TLS configuration, and what keeps its certificates up to date.
pub struct Tls {
    /// For the listener.
    pub config: Arc<ServerConfig>,
    shown: Arc<ShownCertificates>,
    options: TlsOptions,
    clock: Arc<dyn Clock>,
}

impl Tls {
    /// Reads the certificates, or makes one.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn new(options: TlsOptions, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let loaded = load(&options, &clock).await?;
        let shown = Arc::new(ShownCertificates::new(loaded));
        let versions: &[_] = match options.version_min {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(Arc::new(AnyHolder::new()))
            .with_cert_resolver(Arc::clone(&shown) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), shown, options, clock })
    }

    /// Takes over files that changed, until told to stop. Those that cannot be used leave the
    /// certificates in use that were.
    pub async fn keep_up_to_date(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_PERIOD) => {}
            }
            if let Err(error) = self.reload().await {
                let error = crate::telemetry::logging::chain(&error);
                tracing::warn!(error, "keeping the certificate that was shown before");
            }
        }
    }

    /// Takes over files that changed.
    ///
    /// # Errors
    /// They cannot be used.
    pub async fn reload(&self) -> Result<(), TlsError> {
        let loaded = load(&self.options, &self.clock).await?;
        if self.shown.replace(loaded) {
            tracing::info!("the certificate that is shown was renewed");
        }
        Ok(())
    }
}

async fn load(options: &TlsOptions, clock: &Arc<dyn Clock>) -> Result<Loaded, TlsError> {
    let (options, now) = (options.clone(), clock.now());
    let load = move || {
        let pair = match options.origin {
            Origin::Files(pair) => pair,
            Origin::Own(own) => own.ensure(now)?,
        };
        Loaded::read(&pair, &options.by_name)
    };
    tokio::task::spawn_blocking(load).await.map_err(|_| TlsError::Ended)?
}
