//! A small HTTP client for loopback: what the load report and the tests ask servers with.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

/// Asks once, on a connection of its own, and reads the whole answer.
///
/// # Errors
/// The server cannot be reached, breaks off, or takes longer than `timeout`.
pub async fn fetch(
    method: Method,
    address: SocketAddr,
    path: &str,
    timeout: Duration,
) -> io::Result<Answer> {
    let whole = async {
        let response = open(method, address, path).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Answer { status, body })
    };
    match tokio::time::timeout(timeout, whole).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer to {path}"))),
    }
}

/// Asks once and returns as soon as the answer begins; for watches, which do not end.
///
/// # Errors
/// The server cannot be reached or breaks off.
pub async fn open(
    method: Method,
    address: SocketAddr,
    path: &str,
) -> io::Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // The connection ends with the answer; its error, if any, also ends the body.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    sender.send_request(request).await.map_err(io::Error::other)
}
