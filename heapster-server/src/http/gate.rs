//! [`Gate`]: decides who is answered, before anything of a request is read but its head.

use std::net::SocketAddr;

use heapster_core::pipeline::BoxFuture;
use http::request::Parts;
use rustls::pki_types::CertificateDer;

use super::response::Response;

/// Whoever is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The address it calls from.
    pub address: SocketAddr,
    /// The certificate it showed, with what it sent to prove it; empty for none. That it has the
    /// key was checked, and nothing else.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Lets requests in.
pub trait Gate: Send + Sync {
    /// Lets a request in, or answers it. May change its head.
    fn admit<'a>(
        &'a self,
        caller: &'a Caller,
        head: &'a mut Parts,
    ) -> BoxFuture<'a, Result<(), Box<Response>>>;
}
