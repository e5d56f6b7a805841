//! The accept loop and the limits of a connection.
//!
//! Every wait has an end: for a header, for a body, for a handler, for the peer to read. Every size
//! has a bound, also that of all answers that wait to be read. Beyond the limit on connections a new
//! one takes the place of one without a request, or waits until there is one.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HOST, HeaderValue};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::clients::{Clients, Connected, Running};
use super::gate::{Caller, Gate};
use super::response::{Response, busy, later, text};
use super::router::Router;
use super::stream::{Chunks, take_stream};
use super::write_timeout::{WriteLimits, WriteTimeout};

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// Connections at one time – at least 1, default 512, as Prometheus.
    pub connections_max: usize,
    /// Connections of one client at one time – default 256; more are closed at once.
    pub client_connections_max: usize,
    /// Requests of one client that are answered at one time, or whose answers it has not read –
    /// default 128; more get a 429.
    pub client_requests_max: usize,
    /// Requests of one connection at one time, with HTTP/2 – default 100.
    pub streams_max: u32,
    /// Time for the handshake of TLS – default 10 s.
    pub handshake_timeout: Duration,
    /// Time a connection of HTTP/2 is kept without a request – default 120 s.
    pub idle_timeout: Duration,
    /// Time for a request's header, also the time an idle connection is kept – default 10 s.
    pub header_timeout: Duration,
    /// Bytes of a request's header – at least 8 KiB, default 32 KiB.
    pub header_bytes_max: usize,
    /// Headers of a request – default 100.
    pub headers_max: usize,
    /// Bytes of a request's URI – default 8 KiB.
    pub uri_bytes_max: usize,
    /// Bytes of a request's body – default 64 KiB; routes that read one have limits of their own.
    pub body_bytes_max: usize,
    /// Bytes of all bodies beyond [`Self::body_bytes_max`] that are being read or worked on –
    /// default 64 MiB. A request that finds no room within its time gets a 503.
    pub bodies_bytes_max: usize,
    /// Bytes of all answers that clients have not read yet, but for those of at most 64 KiB –
    /// default 256 MiB. An answer that finds no room becomes a 503; a larger one needs it all.
    pub answer_bytes_max: usize,
    /// Time for a request's body, and again for its answer – default 30 s.
    pub request_timeout: Duration,
    /// Time a peer may take without reading a byte of its answer – default 30 s.
    pub write_timeout: Duration,
    /// Time a peer may take to read its whole answer – default 120 s.
    pub response_timeout: Duration,
    /// Time that requests get to finish at shutdown – default 10 s.
    pub shutdown_timeout: Duration,
    /// Whether a server that listens on loopback answers only requests for an IP address or
    /// `localhost` – default true. A web page whose name someone lets point to loopback could
    /// read everything otherwise, because to the browser it is the page's own server.
    pub refuse_foreign_names: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 512,
            client_connections_max: 256,
            client_requests_max: 128,
            streams_max: 100,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            header_timeout: Duration::from_secs(10),
            header_bytes_max: 32 << 10,
            headers_max: 100,
            uri_bytes_max: 8 << 10,
            body_bytes_max: 64 << 10,
            bodies_bytes_max: 64 << 20,
            answer_bytes_max: 256 << 20,
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(120),
            shutdown_timeout: Duration::from_secs(10),
            refuse_foreign_names: true,
        }
    }
}

/// How a listener tells friend from foe.
#[derive(Clone, Default)]
pub struct Security {
    /// Speaks TLS; without it what is sent is plain.
    pub tls: Option<Arc<ServerConfig>>,
    /// Decides who is answered; without it everybody is.
    pub gate: Option<Arc<dyn Gate>>,
}

/// Connections that the kernel keeps until they are accepted, if `net.core.somaxconn` allows as many. It
/// drops the first packet of one beyond them, and its client tries again after a second.
const BACKLOG: u32 = 4096;

/// Listens on an address. Asynchronous because it must be called within a runtime; it does not wait.
///
/// # Errors
/// The system's own, such as that the address is taken.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A server that starts again takes the port of the one before at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves everybody in plain HTTP until `shutdown` resolves; then lets running requests finish and
/// returns.
pub async fn serve(
    listener: TcpListener,
    router: Arc<Router>,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) {
    serve_securely(listener, router, options, Security::default(), shutdown).await;
}

/// As [`serve`], with TLS and a gate.
pub async fn serve_securely(
    listener: TcpListener,
    router: Arc<Router>,
    options: ServerOptions,
    security: Security,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(options.connections_max.max(1)));
    let is_loopback = listener.local_addr().is_ok_and(|own| own.ip().to_canonical().is_loopback());
    let shared = Arc::new(Shared {
        router,
        options,
        room: Room::new(options.answer_bytes_max),
        bodies: Room::new(options.bodies_bytes_max),
        // A page of somebody else's has no credentials of ours to show.
        local_names_only: options.refuse_foreign_names && is_loopback && security.gate.is_none(),
        // Before a gate, a proxy on this machine may be all the clients there are.
        clients: Clients::new(
            options.client_connections_max,
            options.client_requests_max,
            security.gate.is_none(),
        ),
        tls: security.tls.map(TlsAcceptor::from),
        gate: security.gate,
    });
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(connected) = shared.clients.connect(address.ip()) else { continue };
                let slot = tokio::select! {
                    () = &mut shutdown => break,
                    slot = slot_for(&connected, &slots, &shared.clients) => slot,
                };
                // The semaphore is never closed; without a slot there is nothing to serve with.
                let Some(slot) = slot else { break };
                // An answer is written in one go, so small last packets should not wait.
                let _ = stream.set_nodelay(true);
                let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                connections.spawn(async move {
                    greet(stream, address, connected, shared, stopped).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(accept_pause(&error)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drop(stop);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(options.shutdown_timeout, finished).await.is_err() {
        tracing::warn!(open = connections.len(), "closing connections that did not finish");
        connections.shutdown().await;
    }
}

/// A slot for a new connection; when there is none, that of one without a request.
async fn slot_for(
    connected: &Connected,
    slots: &Arc<Semaphore>,
    clients: &Clients,
) -> Option<OwnedSemaphorePermit> {
    /// How long a connection whose request has ended stays unnoticed.
    const LOOK: Duration = Duration::from_millis(10);
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Some(slot);
    }
    loop {
        clients.displace_one_for(connected);
        if let Ok(slot) = timeout(LOOK, Arc::clone(slots).acquire_owned()).await {
            return slot.ok();
        }
    }
}

/// A peer that gave up costs nothing; without file descriptors only time helps.
fn accept_pause(error: &io::Error) -> Duration {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::Interrupted => Duration::ZERO,
        _ => Duration::from_millis(200),
    }
}

/// What all connections of a server share.
struct Shared {
    router: Arc<Router>,
    options: ServerOptions,
    room: Room,
    /// Room in memory for the bodies of requests.
    bodies: Room,
    local_names_only: bool,
    clients: Clients,
    tls: Option<TlsAcceptor>,
    gate: Option<Arc<dyn Gate>>,
}

/// One connection, as its requests see it.
struct Connection {
    shared: Arc<Shared>,
    caller: Caller,
    connected: Connected,
}

/// Shakes hands, if that is to be done, and serves the connection until its end.
async fn greet(
    stream: TcpStream,
    address: SocketAddr,
    connected: Connected,
    shared: Arc<Shared>,
    stopped: watch::Receiver<()>,
) {
    let connection = |connected, certificates| {
        let (caller, shared) = (Caller { address, certificates }, Arc::clone(&shared));
        Arc::new(Connection { shared, caller, connected })
    };
    let Some(tls) = &shared.tls else {
        return serve_http1(stream, connection(connected, Vec::new()), stopped).await;
    };
    // What is sent besides the handshake is bounded by the library.
    let shaken = tokio::select! {
        shaken = timeout(shared.options.handshake_timeout, tls.accept(stream)) => shaken,
        () = connected.displaced() => return tracing::debug!(%address, "a handshake made room"),
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %address, "no handshake"),
        Err(_) => return tracing::debug!(%address, "a handshake took too long"),
    };
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    match is_http2 {
        true => serve_http2(stream, connection(connected, chain), stopped).await,
        false => serve_http1(stream, connection(connected, chain), stopped).await,
    }
}

impl Connection {
    async fn respond(
        &self,
        request: hyper::Request<Incoming>,
    ) -> Result<http::Response<AnswerBody>, Infallible> {
        let Some(mut running) = self.connected.begin() else {
            let refusal = "429: too many requests of this client are being answered\n";
            let response = later(StatusCode::TOO_MANY_REQUESTS, refusal);
            return Ok(response.map(|body| AnswerBody::Whole(Full::new(body))));
        };
        let response = answer(&self.shared, &self.caller, request).await;
        running.answered();
        Ok(self.shared.room.admit(response, running))
    }
}

/// Serves a connection of HTTP/2 until its end. What one may have at a time is bounded: requests,
/// headers, and what was asked for and called off, which costs as much and is never seen.
async fn serve_http2<S>(stream: S, own: Arc<Connection>, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    const RESETS_MAX: usize = 64;
    const WINDOW_BYTES: u32 = 256 << 10;
    let options = own.shared.options;
    let limits = WriteLimits { stall: options.write_timeout, total: options.response_timeout };
    let stream = TokioIo::new(WriteTimeout::new(stream, limits));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(u32::try_from(options.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SMALL_BODY_BYTES_MAX)
        .keep_alive_interval(options.header_timeout)
        .keep_alive_timeout(options.header_timeout);
    let requests = Arc::clone(&own);
    let service = service_fn(move |request| {
        let own = Arc::clone(&requests);
        async move { own.respond(request).await }
    });
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = own.connected.displaced() => {
            connection.as_mut().graceful_shutdown();
            farewell(connection, &own).await
        }
        () = own.connected.idle(options.idle_timeout) => {
            connection.as_mut().graceful_shutdown();
            // A client that never said what it speaks, or that reads nothing, would stay for ever.
            match timeout(options.response_timeout, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("an idle connection was cut"),
            }
        }
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Serves a connection of HTTP/1.1 until its end.
///
/// When `stopped`'s sender is dropped, the running request is finished and the connection closed.
async fn serve_http1<S>(stream: S, own: Arc<Connection>, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = own.shared.options;
    let limits = WriteLimits { stall: options.write_timeout, total: options.response_timeout };
    let stream = TokioIo::new(WriteTimeout::new(stream, limits));
    let requests = Arc::clone(&own);
    let service = service_fn(move |request| {
        let own = Arc::clone(&requests);
        async move { own.respond(request).await }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_headers(options.headers_max)
        // hyper refuses less than 8 KiB.
        .max_buf_size(options.header_bytes_max.max(8 << 10));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = own.connected.displaced() => {
            connection.as_mut().graceful_shutdown();
            farewell(connection, &own).await
        }
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Ends a connection whose place is wanted, once the request that it may have got meanwhile has its
/// answer. Without one it gets to say that it ends, and no time.
async fn farewell<E>(
    mut connection: Pin<&mut impl Future<Output = Result<(), E>>>,
    own: &Connection,
) -> Result<(), E> {
    if let Ok(ended) = timeout(Duration::ZERO, connection.as_mut()).await {
        return ended;
    }
    if own.connected.is_idle() {
        return Ok(());
    }
    // A client that does not read its answer would stay for ever.
    timeout(own.shared.options.response_timeout, connection).await.unwrap_or(Ok(()))
}

async fn answer(shared: &Shared, caller: &Caller, request: hyper::Request<Incoming>) -> Response {
    let Shared { router, options, .. } = shared;
    if request.uri().path_and_query().map_or(0, |uri| uri.as_str().len()) > options.uri_bytes_max {
        return text(StatusCode::URI_TOO_LONG, "414 URI Too Long\n");
    }
    let (mut head, body) = request.into_parts();
    // hyper stops reading about there; what came in one go with the rest gets past it.
    let header_bytes: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if header_bytes > options.header_bytes_max || head.headers.len() > options.headers_max {
        let refusal = "431 Request Header Fields Too Large\n";
        return text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, refusal);
    }
    if shared.local_names_only && !head.headers.get(HOST).is_none_or(names_loopback) {
        let refusal = "421 Misdirected Request: this server listens on loopback and answers \
                       requests for an IP address or localhost only\n";
        return text(StatusCode::MISDIRECTED_REQUEST, refusal);
    }
    if let Some(gate) = &shared.gate {
        match timeout(options.request_timeout, gate.admit(caller, &mut head)).await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => return *refusal,
            Err(_) => return busy("503: it took too long to find out who asks\n"),
        }
    }
    let bytes_max = router.body_bytes_max(&head.method, head.uri.path());
    let bytes_max = bytes_max.unwrap_or(options.body_bytes_max);
    // What is announced as too large is refused before a byte of it is read.
    if body.size_hint().lower() > bytes_max as u64 {
        return payload_too_large();
    }
    let announced = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = announced.unwrap_or(bytes_max).min(bytes_max);
    // Held until the answer is made.
    let _room = if bytes > options.body_bytes_max {
        match timeout(options.request_timeout, shared.bodies.acquire(bytes)).await {
            Ok(room) => room,
            Err(_) => return busy("503: other requests fill the memory for bodies\n"),
        }
    } else {
        None
    };
    let body = match timeout(options.request_timeout, read_body(body, bytes_max)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return *refusal,
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "408 Request Timeout\n"),
    };
    let time_max = router.time_max(&head.method, head.uri.path());
    let work = router.handle(http::Request::from_parts(head, body));
    match timeout(time_max.unwrap_or(options.request_timeout), work).await {
        Ok(response) => response,
        Err(_) => busy("503: request took too long\n"),
    }
}

/// Whether a `Host` header is an IP address or `localhost`, with or without a port. Those cannot
/// be made to point elsewhere.
fn names_loopback(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, _)) => return inner.parse::<Ipv6Addr>().is_ok(),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// Room in memory: for answers that wait to be read, or for bodies of requests.
struct Room {
    /// One permit for each [`ROOM_UNIT_BYTES`].
    free: Arc<Semaphore>,
    units: u32,
}

/// Bodies up to this size need no room: each client may leave so many of them unread as it may have
/// requests.
const SMALL_BODY_BYTES_MAX: usize = 64 << 10;

const ROOM_UNIT_BYTES: usize = 1 << 10;

impl Room {
    fn new(bytes: usize) -> Self {
        let units = (bytes / ROOM_UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for room; something larger than all of it gets it all.
    async fn acquire(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        Arc::clone(&self.free).acquire_many_owned(units.min(self.units)).await.ok()
    }

    /// Gives the body room until its last byte was written, or answers 503. What the answer held
    /// is let go.
    fn admit(&self, mut response: Response, running: Running) -> http::Response<AnswerBody> {
        let chunks = take_stream(&mut response);
        let bytes = chunks.as_ref().map_or(response.body().len(), |chunks| chunks.held_bytes());
        let Ok(room) = self.room_for(bytes) else {
            let full = "503: other answers fill the memory until their clients read them\n";
            return busy(full).map(|body| AnswerBody::Whole(Full::new(body)));
        };
        response.extensions_mut().clear();
        let held = Arc::new(Held { _room: room, _running: running });
        response.map(|bytes| match chunks {
            Some(chunks) => AnswerBody::Made { chunks, held },
            None => AnswerBody::Whole(Full::new(Held::by(bytes, held))),
        })
    }

    /// Room for that many bytes, which small answers do not need.
    fn room_for(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        if bytes <= SMALL_BODY_BYTES_MAX {
            return Ok(None);
        }
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.free).try_acquire_many_owned(units.min(self.units)).map(Some)
    }
}

/// The body of an answer.
enum AnswerBody {
    /// It is there.
    Whole(Full<Bytes>),
    /// It is made while it is written.
    Made { chunks: Box<dyn Chunks>, held: Arc<Held> },
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Made { chunks, held } => {
                let piece = chunks.next().map(|piece| Held::by(piece, Arc::clone(held)));
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Made { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Made { .. } => SizeHint::default(),
        }
    }
}

/// What an answer takes of its server until its last byte was written, or nobody wants it any more.
struct Held {
    _room: Option<OwnedSemaphorePermit>,
    _running: Running,
}

impl Held {
    /// Bytes that hold it for as long as they are.
    fn by(bytes: Bytes, held: Arc<Self>) -> Bytes {
        struct Housed(Bytes, #[expect(dead_code, reason = "it is held")] Arc<Held>);

        impl AsRef<[u8]> for Housed {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        Bytes::from_owner(Housed(bytes, held))
    }
}

async fn read_body(body: Incoming, bytes_max: usize) -> Result<Bytes, Box<Response>> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Box::new(payload_too_large())),
        Err(_) => Err(Box::new(text(StatusCode::BAD_REQUEST, "400 Bad Request\n"))),
    }
}

fn payload_too_large() -> Response {
    text(StatusCode::PAYLOAD_TOO_LARGE, "413 Payload Too Large\n")
}
