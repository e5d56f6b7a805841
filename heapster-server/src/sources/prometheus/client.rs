//! [`TargetClient`]: asks the targets of a job over HTTP(S) under limits of time and size.
//!
//! Redirects are not followed: a target must not send us, and what we show it, elsewhere.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use heapster_store::Clock;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, USER_AGENT,
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;

use super::config::{Auth, JobConfig, Protocol, Secret, TlsConfig, read_text};
use crate::exposition::Format;
use crate::sources::kubelet::tls::{Material, Pem, TlsError, TlsSetup, Trust};

/// How often certificate files are looked at for changes.
const TLS_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Longer than most intervals, so that connections are reused.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// As much of a status' reason or a header as a message repeats.
const SHOWN_CHARS_MAX: usize = 200;

const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

type Https = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Asks the targets of a job.
pub(super) struct TargetClient {
    tls: TlsSetup,
    server_name: Option<String>,
    auth: Auth,
    accept: HeaderValue,
    fallback: Option<Format>,
    compression: bool,
    body_bytes_max: usize,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    https: Https,
    material: Material,
    checked_at: Duration,
}

/// What a target answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub body: Bytes,
    pub format: Format,
}

/// Why a target gave no answer that could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("could not read {what}")]
    Secret { what: String, source: std::io::Error },
    #[error("the secret in {what} has bytes that no header may have")]
    SecretBytes { what: &'static str },
    #[error("the URL cannot be asked")]
    Url(#[from] http::Error),
    #[error("could not ask the target")]
    Connect(#[from] hyper_util::client::legacy::Error),
    #[error("the answer broke off")]
    Body(#[source] hyper::Error),
    #[error("no complete answer within {} s", after.as_secs_f64())]
    Timeout { after: Duration },
    #[error("server returned HTTP status {status}")]
    Status { status: StatusCode },
    #[error("answered {status} to {location:?}; redirects are not followed")]
    Redirect { status: StatusCode, location: String },
    #[error("the answer is larger than {max} bytes")]
    TooLarge { max: usize },
    #[error("the answer is encoded as {encoding:?}, which was not asked for")]
    Encoded { encoding: String },
    #[error("the answer is not what gzip makes")]
    Gzip(#[source] std::io::Error),
    #[error(
        "the answer is of the content type {content_type:?}, which is neither Prometheus text nor \
         OpenMetrics; fallback_scrape_protocol says what it is to be taken for"
    )]
    ContentType { content_type: String },
    #[error("bug: reading the answer broke off")]
    Panic,
}

impl TargetClient {
    /// A client with its certificates read.
    ///
    /// # Errors
    /// [`TlsError`] when a certificate or key is not usable.
    pub fn new(job: &JobConfig, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let tls = setup_of(&job.tls);
        let material = Material::read(&tls)?;
        let server_name = job.tls.server_name.clone();
        let https = connect_with(&material, server_name.as_deref())?;
        let checked_at = clock.monotonic();
        Ok(Self {
            tls,
            server_name,
            auth: job.auth.clone(),
            accept: accept(&job.protocols),
            fallback: job.fallback.map(format_of),
            compression: job.compression,
            body_bytes_max: job.limits.body_bytes,
            clock,
            state: Mutex::new(State { https, material, checked_at }),
        })
    }

    /// Asks a target and reads its answer whole.
    ///
    /// # Errors
    /// [`FetchError`]; at the latest after `timeout`.
    pub async fn fetch(&self, url: &str, timeout: Duration) -> Result<Answer, FetchError> {
        match tokio::time::timeout(timeout, self.fetch_in_time(url, timeout)).await {
            Ok(answer) => answer,
            Err(_) => Err(FetchError::Timeout { after: timeout }),
        }
    }

    async fn fetch_in_time(&self, url: &str, timeout: Duration) -> Result<Answer, FetchError> {
        let mut request = Request::get(url)
            .header(ACCEPT, &self.accept)
            .header(USER_AGENT, concat!("heapster/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, if self.compression { "gzip" } else { "identity" })
            .header(SCRAPE_TIMEOUT, timeout.as_secs_f64().to_string())
            .body(Empty::new())?;
        if let Some(authorization) = self.authorization().await? {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        let https = self.current().await;
        let answer = https.request(request).await?;
        self.read_answer(answer).await
    }

    /// What is shown to the target; files are read anew each time.
    async fn authorization(&self) -> Result<Option<HeaderValue>, FetchError> {
        let auth = self.auth.clone();
        if matches!(auth, Auth::None) {
            return Ok(None);
        }
        // Files may lie on a disk that hangs.
        let made = tokio::task::spawn_blocking(move || header_of(&auth)).await;
        made.map_err(|_| FetchError::Panic)?.map(Some)
    }

    /// The connections, made anew when a certificate file has changed. Files that have become
    /// unusable leave the old ones in use.
    async fn current(&self) -> Https {
        if self.is_due_for_a_look() {
            let (setup, name) = (self.tls.clone(), self.server_name.clone());
            let renew = move || {
                let material = Material::read(&setup)?;
                let https = connect_with(&material, name.as_deref())?;
                Ok::<_, TlsError>((material, https))
            };
            if let Ok(Ok((material, https))) = tokio::task::spawn_blocking(renew).await {
                let mut state = self.state.lock();
                if state.material != material {
                    state.material = material;
                    state.https = https;
                }
            }
        }
        self.state.lock().https.clone()
    }

    fn is_due_for_a_look(&self) -> bool {
        let has_files =
            self.tls.identity.is_some() || matches!(self.tls.trust, Trust::Authorities(_));
        let mut state = self.state.lock();
        let now = self.clock.monotonic();
        let is_due = has_files && now.saturating_sub(state.checked_at) >= TLS_CHECK_INTERVAL;
        if is_due {
            state.checked_at = now;
        }
        is_due
    }

    async fn read_answer(&self, answer: Response<Incoming>) -> Result<Answer, FetchError> {
        let status = answer.status();
        let header = |name: HeaderName| {
            let value = answer.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            let text = String::from_utf8_lossy(value);
            text.trim().chars().take(SHOWN_CHARS_MAX).collect::<String>()
        };
        if status.is_redirection() {
            return Err(FetchError::Redirect { status, location: header(LOCATION) });
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status { status });
        }
        let content_type = header(CONTENT_TYPE);
        let format = format_of_type(&content_type).or(self.fallback);
        let format = format.ok_or(FetchError::ContentType { content_type })?;
        let encoding = header(CONTENT_ENCODING);
        let is_gzip = encoding.eq_ignore_ascii_case("gzip");
        if !is_gzip && !matches!(encoding.as_str(), "" | "identity") {
            return Err(FetchError::Encoded { encoding });
        }
        let max = self.body_bytes_max;
        let mut incoming = answer.into_body();
        let mut body = BytesMut::new();
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(FetchError::Body)?.into_data() else { continue };
            if body.len() + data.len() > max {
                return Err(FetchError::TooLarge { max });
            }
            body.extend_from_slice(&data);
        }
        let body = body.freeze();
        if !is_gzip {
            return Ok(Answer { body, format });
        }
        let unpacked = tokio::task::spawn_blocking(move || unzip(&body, max)).await;
        Ok(Answer { body: unpacked.map_err(|_| FetchError::Panic)??, format })
    }
}

fn unzip(body: &[u8], max: usize) -> Result<Bytes, FetchError> {
    let mut unpacked = Vec::new();
    let limit = max as u64 + 1;
    MultiGzDecoder::new(body).take(limit).read_to_end(&mut unpacked).map_err(FetchError::Gzip)?;
    if unpacked.len() > max {
        return Err(FetchError::TooLarge { max });
    }
    Ok(unpacked.into())
}

fn setup_of(config: &TlsConfig) -> TlsSetup {
    let file = |path: &Path| Pem::File(path.to_owned());
    let trust = match &config.ca_file {
        _ if config.insecure_skip_verify => Trust::AnyoneByChoice,
        Some(path) => Trust::Authorities(file(path)),
        None => Trust::System,
    };
    let identity = config.identity.as_ref().map(|(chain, key)| (file(chain), file(key)));
    TlsSetup { trust, identity }
}

fn connect_with(material: &Material, server_name: Option<&str>) -> Result<Https, TlsError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut builder =
        HttpsConnectorBuilder::new().with_tls_config(material.config()?).https_or_http();
    if let Some(name) = server_name {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| rustls::Error::General(format!("{name:?} is no name of a server")))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        .build(builder.enable_http1().wrap_connector(tcp)))
}

fn header_of(auth: &Auth) -> Result<HeaderValue, FetchError> {
    let (text, what) = match auth {
        Auth::None => (String::new(), "nothing"),
        Auth::Basic(name, password) => {
            let pair = format!("{}:{}", revealed(name)?, revealed(password)?);
            (format!("Basic {}", STANDARD.encode(pair)), "basic_auth")
        }
        Auth::Header(kind, credentials) => {
            (format!("{kind} {}", revealed(credentials)?), "authorization")
        }
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| FetchError::SecretBytes { what })?;
    value.set_sensitive(true);
    Ok(value)
}

fn revealed(secret: &Secret) -> Result<String, FetchError> {
    match secret {
        Secret::Inline(text) => Ok(text.expose_secret().to_owned()),
        Secret::File(path) => match read_text(path) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(source) => Err(FetchError::Secret { what: path.display().to_string(), source }),
        },
    }
}

/// The header that asks for formats, as Prometheus writes it: the most wanted first with a quality
/// that falls by a tenth.
fn accept(protocols: &[Protocol]) -> HeaderValue {
    let mut parts = Vec::with_capacity(protocols.len() + 1);
    let mut tenths = protocols.len() + 2;
    for protocol in protocols {
        let media = match protocol {
            Protocol::Text004 => "text/plain;version=0.0.4",
            Protocol::Text100 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            Protocol::OpenMetrics001 => "application/openmetrics-text;version=0.0.1",
            Protocol::OpenMetrics100 => {
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
            }
        };
        parts.push(format!("{media};q=0.{}", tenths.min(9)));
        tenths -= 1;
    }
    parts.push(format!("*/*;q=0.{}", tenths.min(9)));
    HeaderValue::try_from(parts.join(",")).unwrap_or(HeaderValue::from_static("*/*"))
}

const fn format_of(protocol: Protocol) -> Format {
    match protocol {
        Protocol::Text004 | Protocol::Text100 => Format::Text,
        Protocol::OpenMetrics001 | Protocol::OpenMetrics100 => Format::OpenMetrics,
    }
}

fn format_of_type(content_type: &str) -> Option<Format> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("text/plain") {
        Some(Format::Text)
    } else if media.eq_ignore_ascii_case("application/openmetrics-text") {
        Some(Format::OpenMetrics)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_asked_for_as_prometheus_does() {
        assert_eq!(
            accept(&Protocol::ALL),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
             */*;q=0.2"
        );
        assert_eq!(accept(&[Protocol::Text004]), "text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
    }

    #[test]
    fn a_small_answer_that_unpacks_to_a_large_one_is_refused() {
        let mut packed = Vec::new();
        let mut encoder =
            flate2::read::GzEncoder::new(&[0_u8; 100_000][..], flate2::Compression::fast());
        encoder.read_to_end(&mut packed).unwrap();
        assert!(packed.len() < 1_000);
        assert!(matches!(unzip(&packed, 99_999), Err(FetchError::TooLarge { .. })));
        assert_eq!(unzip(&packed, 100_000).unwrap().len(), 100_000);
        assert!(matches!(unzip(&packed[..50], 100_000), Err(FetchError::Gzip(_))));
    }
}
