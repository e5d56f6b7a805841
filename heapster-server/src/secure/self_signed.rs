//! [`SelfSigned`]: a certificate of our own making, kept in a directory and renewed in time.

use std::error::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use heapster_core::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use super::certificate::Pair;
use crate::access::settings::read_file;

const DAY_MS: i64 = 86_400_000;
/// How long a certificate is good.
const LIFE_DAYS: i64 = 365;
/// With less time left than that a new one is made.
const RENEWED_DAYS: i64 = 30;

/// Where our own certificate is kept, and for what names it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// The directory; made if it is missing, for us alone.
    pub dir: PathBuf,
    /// Names and addresses.
    pub names: Vec<String>,
}

impl SelfSigned {
    /// The files, with a certificate that is good for a while: the one that is there, or a new one.
    ///
    /// # Errors
    /// It cannot be made or kept.
    pub(super) fn ensure(&self, now: Timestamp) -> Result<Pair, TlsError> {
        let pair = Pair {
            certificate: self.dir.join("apiserver.crt"),
            key: self.dir.join("apiserver.key"),
        };
        if pair.key.is_file() && self.is_good(&pair.certificate, now) {
            return Ok(pair);
        }
        let made = self.make(&pair, now);
        made.map_err(|source| TlsError::Own { dir: self.dir.clone(), source })?;
        Ok(pair)
    }

    fn is_good(&self, certificate: &Path, now: Timestamp) -> bool {
        let ends_ms = || -> Option<i64> {
            let pem = read_file(certificate).ok()?;
            let der = CertificateDer::from_pem_slice(&pem).ok()?;
            let (_, parsed) = X509Certificate::from_der(&der).ok()?;
            parsed.validity().not_after.timestamp().checked_mul(1000)
        };
        ends_ms().is_some_and(|ends_ms| ends_ms - now.as_millis() > RENEWED_DAYS * DAY_MS)
    }

    fn make(&self, pair: &Pair, now: Timestamp) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "heapster");
        let from_now = |days: i64| {
            let millis = now.as_millis().saturating_add(days * DAY_MS);
            OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(millis)
        };
        // A day earlier, for clocks that are behind.
        params.not_before = from_now(-1);
        params.not_after = from_now(LIFE_DAYS);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // The key first: a certificate without its key would be taken for a good one.
        replace(&pair.key, key.serialize_pem().as_bytes(), 0o600)?;
        replace(&pair.certificate, certificate.pem().as_bytes(), 0o644)?;
        File::open(&self.dir)?.sync_all()?;
        tracing::info!(dir = %self.dir.display(), "made a certificate");
        Ok(())
    }
}

/// Writes a file under another name and renames it, so that a half one is never read.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}
