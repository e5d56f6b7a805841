//! What protects a listener, made from its flags.

use std::sync::Arc;

use heapster_store::Clock;
use tokio_util::sync::CancellationToken;

use super::{Tls, TlsError};
use crate::access::AccessError;
use crate::access::gate::AccessGate;
use crate::access::reviews::Reviews;
use crate::cli::{Access, Protection};
use crate::http::{Gate, Security};
use crate::sources::kubernetes::{self, ConnectError};

/// Why a port cannot be protected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// There is no certificate to show.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It is not known whom to let in.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The API server that is to be asked cannot be reached as it is configured.
    #[error(transparent)]
    ApiServer(#[from] ConnectError),
}

/// Reads certificates and users, and keeps them up to date until told to stop.
///
/// # Errors
/// [`ProtectError`]: nothing is served then.
pub async fn protect(
    protection: &Protection,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<Security, ProtectError> {
    let gate = match &protection.access {
        Some(access) => Some(gate(access, clock, stop).await?),
        None => None,
    };
    let tls = Tls::new(protection.tls.clone(), Arc::clone(clock)).await?;
    let config = Arc::clone(&tls.config);
    tokio::spawn(tls.keep_up_to_date(stop.clone()));
    Ok(Security { tls: Some(config), gate })
}

async fn gate(
    access: &Access,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<Arc<dyn Gate>, ProtectError> {
    let client = match &access.api_server {
        Some(uri) => Some(kubernetes::client(uri).await?),
        None => None,
    };
    let reviews = client.clone().map(|client| Reviews::new(client, Arc::clone(clock), access.kept));
    let (sources, policy) = (access.sources.clone(), access.policy.clone());
    let gate = AccessGate::new(sources, policy, client, reviews, Arc::clone(clock)).await?;
    let gate = Arc::new(gate);
    tokio::spawn(Arc::clone(&gate).keep_up_to_date(stop.clone()));
    Ok(gate)
}
