//! A small HTTP client for loopback: what the load report and the tests ask servers with.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
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
    exchange(request(method, address, path), address, timeout).await
}

/// Sends a body with headers on a connection of its own and reads the whole answer.
///
/// # Errors
/// As [`fetch`].
pub async fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, &'static str)],
    body: Bytes,
    timeout: Duration,
) -> io::Result<Answer> {
    let mut request = request(Method::POST, address, path);
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    *request.body_mut() = Full::new(body);
    exchange(request, address, timeout).await
}

async fn exchange(
    request: Request<Full<Bytes>>,
    address: SocketAddr,
    timeout: Duration,
) -> io::Result<Answer> {
    let path = request.uri().to_string();
    let whole = async {
        let response = send(request, address).await?;
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
    send(request(method, address, path), address).await
}

fn request(method: Method, address: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("bug: a path of this crate is no URI");
    let host = HeaderValue::from_str(&address.to_string()).expect("bug: an address is no header");
    request.headers_mut().insert(HOST, host);
    request
}

async fn send(
    request: Request<Full<Bytes>>,
    address: SocketAddr,
) -> io::Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // The connection ends with the answer; its error, if any, also ends the body.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}
