//! [`KubeletClient`]: asks kubelets over HTTP(S) under limits of time and size.
//!
//! One client serves all nodes, so that connections are kept and reused. Nothing a node answers can
//! send us elsewhere, make us show it a token it should not see, or cost more memory than the limit.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use heapster_store::Clock;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::resolver::Resolver;
use super::tls::{Material, TlsError, TlsSetup, Trust};
use super::token::{Token, TokenError};
use crate::telemetry::logging::chain;

/// A node that does not take a connection in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A full node's summary is well below one MiB.
const BODY_BYTES_MAX: usize = 16 << 20;

/// As much of an error's body as is looked at.
const ERROR_BODY_BYTES_MAX: usize = 2048;

/// As much of a body as a message repeats.
const SHOWN_CHARS_MAX: usize = 256;

/// What a connection reads at once.
const READ_BUFFER_BYTES: usize = 32 << 10;

/// Longer than the usual minute between scrapes, so that connections are reused.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How often certificate files are looked at for changes.
const TLS_CHECK_INTERVAL: Duration = Duration::from_secs(60);

type Https = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// What a [`KubeletClient`] is made of.
#[derive(Debug)]
pub struct ClientOptions {
    /// For a whole request, from dialling to the last byte.
    pub timeout: Duration,
    /// How TLS connections are made.
    pub tls: TlsSetup,
    /// The token shown to kubelets whose certificate was verified.
    pub token: Option<Token>,
}

/// Asks kubelets. Cheap to share; a dropped request closes its connection.
pub struct KubeletClient {
    options: ClientOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    places: Places,
}

/// The connections in use, with what they were set up from.
struct State {
    https: Https,
    material: Arc<Material>,
    checked_at: Duration,
}

/// Why a kubelet gave no answer that could be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The URL cannot be asked.
    #[error("{url:?} is not a URL")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        source: http::Error,
    },
    /// There is no token to show.
    #[error("no token to show to the kubelet")]
    Token(#[from] TokenError),
    /// No connection, or it broke before the answer began.
    #[error("could not ask the kubelet{}", tls_hint(source))]
    Connect {
        /// What happened.
        source: hyper_util::client::legacy::Error,
    },
    /// The answer broke off.
    #[error("the kubelet's answer broke off")]
    Body(#[source] hyper::Error),
    /// The whole request took too long.
    #[error("no complete answer within {} s", after.as_secs_f64())]
    Timeout {
        /// The time allowed.
        after: Duration,
    },
    /// Status 404.
    #[error("{url:?} not found")]
    NotFound {
        /// The URL.
        url: String,
    },
    /// A redirect; a kubelet has no reason to send one.
    #[error("answered {status} to {location:?}; redirects are not followed")]
    Redirect {
        /// The status.
        status: StatusCode,
        /// Where it wanted us to go.
        location: String,
    },
    /// Any other status but 200.
    #[error("request failed - {:?}, response: {body:?}{}", status.to_string(), status_hint(*status))]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// More bytes than any node has to say.
    #[error("the answer is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// The body is encoded although that was not asked for.
    #[error("the answer is encoded as {encoding:?}, which was not asked for")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
}

fn tls_hint(error: &hyper_util::client::legacy::Error) -> &'static str {
    // The TLS error sits inside an I/O error, which does not hand out what it holds.
    if format!("{error:?}").contains("InvalidCertificate") {
        ": its certificate is not trusted; name its authority with kubeletCAFile, let the kubelet \
         have one signed for its IP address, or set kubeletInsecureTls=true"
    } else {
        ""
    }
}

fn status_hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "; the kubelet wants a token or client certificate that it knows"
        }
        StatusCode::FORBIDDEN => "; the account needs the permission nodes/stats",
        _ => "",
    }
}

impl KubeletClient {
    /// A client with its certificates read.
    ///
    /// # Errors
    /// [`TlsError`] when a certificate or key is not usable.
    pub fn new(options: ClientOptions, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let material = Material::read(&options.tls)?;
        let https = connect_with(&material)?;
        let checked_at = clock.monotonic();
        let state = State { https, material: Arc::new(material), checked_at };
        Ok(Self { options, clock, state: Mutex::new(state), places: Places::default() })
    }

    /// `GET`s a URL and returns the body of status 200.
    ///
    /// # Errors
    /// [`FetchError`]; at the latest after the client's timeout.
    pub async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        self.within_timeout(url, Method::GET, Bytes::new()).await
    }

    /// `POST`s JSON to a URL and returns the body of status 200.
    ///
    /// # Errors
    /// [`FetchError`]; at the latest after the client's timeout.
    pub async fn post(&self, url: &str, json: String) -> Result<Bytes, FetchError> {
        self.within_timeout(url, Method::POST, Bytes::from(json)).await
    }

    async fn within_timeout(
        &self,
        url: &str,
        method: Method,
        body: Bytes,
    ) -> Result<Bytes, FetchError> {
        let after = self.options.timeout;
        match tokio::time::timeout(after, self.fetch(url, method, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout { after }),
        }
    }

    async fn fetch(&self, url: &str, method: Method, body: Bytes) -> Result<Bytes, FetchError> {
        let uri: Uri = url.parse().map_err(|source: http::uri::InvalidUri| FetchError::Url {
            url: url.to_owned(),
            source: source.into(),
        })?;
        let token = match self.token_for(&uri) {
            Some(token) => Some(token.current().await?),
            None => None,
        };
        let mut answer = self.send(&uri, &method, &body, token.as_ref()).await?;
        // The token may have been renewed since it was read; one more try tells.
        if answer.status() == StatusCode::UNAUTHORIZED
            && let (Some(token), Some(refused)) = (self.token_for(&uri), &token)
            && let Some(renewed) = token.after_refusal(refused).await
        {
            answer = self.send(&uri, &method, &body, Some(&renewed)).await?;
        }
        self.read_answer(url, answer).await
    }

    /// The token, if it may be shown there: over TLS to a kubelet that was verified, or that the
    /// operator chose not to have verified.
    fn token_for(&self, uri: &Uri) -> Option<&Token> {
        let is_https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let is_allowed = match self.options.tls.trust {
            Trust::Authorities(_) | Trust::System | Trust::AnyoneByChoice => is_https,
            Trust::AnyoneWithoutToken => false,
        };
        self.options.token.as_ref().filter(|_| is_allowed)
    }

    async fn send(
        &self,
        uri: &Uri,
        method: &Method,
        body: &Bytes,
        token: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, FetchError> {
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(ACCEPT, "application/json, text/plain;version=0.0.4;q=0.9")
            .body(Full::new(body.clone()))
            .map_err(|source| FetchError::Url { url: uri.to_string(), source })?;
        if method == Method::POST {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let https = self.current().await;
        https.request(request).await.map_err(|source| FetchError::Connect { source })
    }

    /// The connections, made anew when a certificate file has changed. Files that have become
    /// unusable leave the old ones in use.
    async fn current(&self) -> Https {
        if let Some(material) = self.due_for_a_look() {
            let setup = self.options.tls.clone();
            // Files may lie on a disk that hangs; nobody else waits for this look at them.
            let renewed = tokio::task::spawn_blocking(move || renew(&setup, &material)).await;
            match renewed {
                Ok(Ok(Some((https, material)))) => {
                    let mut state = self.state.lock();
                    state.https = https;
                    state.material = Arc::new(material);
                    tracing::info!("the certificates for kubelets were renewed");
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = chain(&error),
                        "keeping the last certificates for kubelets"
                    );
                }
                // Unchanged, or the program ends.
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        self.state.lock().https.clone()
    }

    /// What the connections are set up from, when it is time to look for changes.
    fn due_for_a_look(&self) -> Option<Arc<Material>> {
        let mut state = self.state.lock();
        let now = self.clock.monotonic();
        if now.saturating_sub(state.checked_at) < TLS_CHECK_INTERVAL {
            return None;
        }
        state.checked_at = now;
        Some(Arc::clone(&state.material))
    }

    async fn read_answer(
        &self,
        url: &str,
        answer: Response<Incoming>,
    ) -> Result<Bytes, FetchError> {
        let status = answer.status();
        let header = |name| {
            let value = answer.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            shown(value)
        };
        if status == StatusCode::NOT_FOUND {
            return Err(FetchError::NotFound { url: url.to_owned() });
        }
        if status.is_redirection() {
            return Err(FetchError::Redirect { status, location: header(LOCATION) });
        }
        if status != StatusCode::OK {
            let body = self.places.read(answer.into_body(), ERROR_BODY_BYTES_MAX).await;
            return Err(FetchError::Status { status, body: shown(&body.0) });
        }
        let encoding = header(CONTENT_ENCODING);
        if !matches!(encoding.as_str(), "" | "identity") {
            return Err(FetchError::Encoded { encoding });
        }
        if answer.body().size_hint().lower() > BODY_BYTES_MAX as u64 {
            return Err(FetchError::TooLarge);
        }
        match self.places.read(answer.into_body(), BODY_BYTES_MAX).await {
            (body, End::Complete) => Ok(body),
            (_, End::Limit) => Err(FetchError::TooLarge),
            (_, End::Broken(error)) => Err(FetchError::Body(error)),
        }
    }
}

/// Connections from what the files hold now; `None` when that is what it was.
fn renew(setup: &TlsSetup, last: &Material) -> Result<Option<(Https, Material)>, TlsError> {
    let material = Material::read(setup)?;
    if material == *last {
        return Ok(None);
    }
    connect_with(&material).map(|https| Some((https, material)))
}

fn connect_with(material: &Material) -> Result<Https, TlsError> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(material.config()?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        // Without this each of hundreds of connections keeps a buffer of the size of its answers.
        .http1_read_buf_exact_size(READ_BUFFER_BYTES)
        .build(tls))
}

/// How reading a body ended.
enum End<E> {
    Complete,
    Limit,
    Broken(E),
}

/// Places in memory for bodies, kept until a body is dropped.
///
/// A body begins without one, needs a usual place when it grows beyond [`FREE_BYTES`], and a large
/// one as well beyond [`USUAL_BYTES`]. A place has room for all the rest of its body: who has the
/// last one can go on, so that bodies never wait for each other in a circle.
struct Places {
    usual: Arc<Semaphore>,
    large: Arc<Semaphore>,
    spare: Arc<Spare>,
}

/// Buffers of bodies that were decoded, for the next ones: every cycle needs the same few, and to
/// make and free them anew is dear.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<BytesMut>>);

/// Larger buffers are not kept, nor more than so many.
const SPARE_BYTES: usize = USUAL_BYTES;
const SPARE_COUNT: usize = 4;

impl Spare {
    fn take(&self) -> Option<BytesMut> {
        self.0.lock().pop()
    }

    fn put(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut buffers = self.0.lock();
        if buffers.len() < SPARE_COUNT && (1..=SPARE_BYTES).contains(&buffer.capacity()) {
            buffers.push(buffer);
        }
    }
}

/// What every body may have: 16 MiB with 256 requests in flight.
const FREE_BYTES: usize = 64 << 10;

/// What fits into a usual place; they are 64 MiB together.
const USUAL_BYTES: usize = 1 << 20;
const USUAL_PLACES: usize = 64;

/// Large places have room for any body; they are 64 MiB together.
const LARGE_PLACES: usize = 4;

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { usual: places(USUAL_PLACES), large: places(LARGE_PLACES), spare: Arc::default() }
    }
}

impl Places {
    /// Reads a body up to a limit, counting as it comes; waits for its places.
    async fn read<B>(&self, body: B, bytes_max: usize) -> (Bytes, End<B::Error>)
    where
        B: Body<Data = Bytes>,
    {
        let mut incoming = pin!(body);
        let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
        let fresh = || BytesMut::with_capacity(announced.min(FREE_BYTES));
        let mut bytes = self.spare.take().unwrap_or_else(fresh);
        let mut places = Vec::new();
        let end = loop {
            let data = match incoming.frame().await {
                None => break End::Complete,
                Some(Err(error)) => break End::Broken(error),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if data.len() > bytes_max - bytes.len() {
                break End::Limit;
            }
            let length = bytes.len() + data.len();
            for (beyond, kind, room) in
                [(FREE_BYTES, &self.usual, USUAL_BYTES), (USUAL_BYTES, &self.large, bytes_max)]
            {
                if length > beyond && bytes.len() <= beyond {
                    // Never closed.
                    places.extend(Arc::clone(kind).acquire_owned().await.ok());
                    bytes.reserve(announced.min(room).saturating_sub(bytes.len()));
                }
            }
            bytes.extend_from_slice(&data);
        };
        let spare = Arc::clone(&self.spare);
        let body = Placed { bytes: bytes.freeze(), spare, _places: places };
        (Bytes::from_owner(body), end)
    }
}

/// A body with its places.
struct Placed {
    bytes: Bytes,
    spare: Arc<Spare>,
    _places: Vec<OwnedSemaphorePermit>,
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Ok(buffer) = std::mem::take(&mut self.bytes).try_into_mut() {
            self.spare.put(buffer);
        }
    }
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The beginning of a body, for a message.
pub(super) fn shown(body: &[u8]) -> String {
    let start = body.get(..SHOWN_CHARS_MAX * 4).unwrap_or(body);
    let text = String::from_utf8_lossy(start);
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < body.len() && text.chars().count() > SHOWN_CHARS_MAX {
        shown.push('…');
    }
    shown
}

/// Shows neither token nor key: their own types hide them.
impl std::fmt::Debug for KubeletClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeletClient").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sources::kubelet::tls::Pem;
    use crate::telemetry::test_clock::ManualClock;

    #[tokio::test]
    async fn changed_certificates_are_taken_after_a_minute_and_broken_ones_not() {
        let folder = tempfile::tempdir().unwrap();
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls");
        let path = folder.path().join("ca.pem");
        std::fs::copy(testdata.join("ca.pem"), &path).unwrap();
        let clock = Arc::new(ManualClock::default());
        let tls = TlsSetup { trust: Trust::Authorities(Pem::File(path.clone())), identity: None };
        let token = Some(Token::fixed("hush").unwrap());
        let options = ClientOptions { timeout: CONNECT_TIMEOUT, tls, token };
        let client = KubeletClient::new(options, clock.clone()).unwrap();
        assert!(!format!("{client:?}").contains("hush"));
        let in_use = async || {
            client.current().await;
            let now = Material::read(&client.options.tls);
            now.is_ok_and(|now| now == *client.state.lock().material)
        };

        std::fs::copy(testdata.join("kubelet.pem"), &path).unwrap();
        clock.advance(Duration::from_secs(59));
        assert!(!in_use().await);
        clock.advance(Duration::from_secs(1));
        assert!(in_use().await);
        std::fs::write(&path, "half a fi").unwrap();
        clock.advance(Duration::from_secs(60));
        assert!(!in_use().await);
    }

    #[tokio::test]
    async fn large_bodies_wait_for_a_place_and_small_ones_do_not() {
        let places = |usual, large| Places {
            usual: Arc::new(Semaphore::new(usual)),
            large: Arc::new(Semaphore::new(large)),
            spare: Arc::default(),
        };
        for (places, large_bytes, small_bytes) in [
            (places(1, 1), FREE_BYTES + 1, FREE_BYTES),
            (places(3, 1), USUAL_BYTES + 1, USUAL_BYTES),
        ] {
            let body = |length: usize| Full::new(Bytes::from(vec![7; length]));
            let (first, end) = places.read(body(large_bytes), BODY_BYTES_MAX).await;
            assert!(first.len() == large_bytes && matches!(end, End::Complete));
            let mut second = pin!(places.read(body(large_bytes), BODY_BYTES_MAX));
            assert!(futures::poll!(second.as_mut()).is_pending());
            let (small, _) = places.read(body(small_bytes), BODY_BYTES_MAX).await;
            assert_eq!(small.len(), small_bytes);
            // A part keeps the place of the whole.
            let part = first.slice(..1);
            drop(first);
            assert!(futures::poll!(second.as_mut()).is_pending());
            drop(part);
            assert_eq!(second.await.0.len(), large_bytes);
        }
    }

    #[test]
    fn a_long_body_is_shown_in_part() {
        assert_eq!(shown(b"short"), "short");
        let long = "\u{e9}".repeat(10_000);
        assert_eq!(shown(long.as_bytes()).chars().count(), SHOWN_CHARS_MAX + 1);
        assert_eq!(shown(b"\xff"), "\u{fffd}");
    }
}
