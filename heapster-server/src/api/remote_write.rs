//! `/api/v1/write`: takes samples that Prometheus and its kin push (remote write 1.0 and 2.0), and
//! `/readyz`, which says whether the store takes them.
//!
//! A request is acknowledged as a whole: 204 means that each of its samples was appended under the
//! server's level. It is decoded as a whole before anything is appended, so of one that cannot be
//! read nothing is taken. What the store refuses for good (too old, too far ahead) is counted in an
//! answer 400, the rest of the request is taken. After a 5xx the whole request may be sent again:
//! what is there already is a duplicate, which the store ignores. Answers to version 2.0 say how
//! many samples were written.
//!
//! A web page cannot push: no browser sends this content type to another origin without asking
//! first, and nobody answers that question.

pub(crate) mod decode;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heapster_store::Clock;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tracing::warn;

use self::decode::{ENCODED_BYTES_MAX, Pushed, Version};
use super::error::ApiError;
use super::health::checked;
use super::turns::Turns;
use crate::http::{Request, Response, Route, Router, text};
use crate::intake::{Intake, SeriesTable};
use crate::metadata::MetadataRegistry;
use crate::telemetry::rate_limit::RateLimit;
use crate::telemetry::{Family, FamilyKind, Registry};

const PATH: &str = "/api/v1/write";
/// Requests that are decoded and appended at one time; appends wait for each other anyway, but
/// under `durable` they share a sync.
const WRITES_MAX: usize = 8;
/// How long a request waits for its turn.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// One line about refused samples in this time.
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// Minutes after which a series that is not pushed any more may be forgotten.
const FORGET_MINUTES: u32 = 15;

const REFUSED: Family = Family {
    name: "heapster_remote_write_refused_samples_total",
    help: "Pushed samples that were refused, by reason.",
    kind: FamilyKind::Counter,
};
const KNOWN: Family = Family {
    name: "heapster_remote_write_known_series",
    help: "Pushed series whose labels are remembered.",
    kind: FamilyKind::Gauge,
};

const WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const NONE_WRITTEN: [HeaderName; 2] = [
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

/// Adds the receiver to a router. What senders say of their metrics goes to `metadata`.
pub fn add_receiver(
    router: &mut Router,
    intake: Arc<Intake>,
    metadata: Arc<MetadataRegistry>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
) {
    let receiver = Arc::new(Receiver {
        intake,
        metadata,
        registry,
        clock,
        table: Mutex::default(),
        lines: RateLimit::new(LOG_PERIOD),
    });
    let turns = Arc::new(Turns::new(WRITES_MAX, WRITE_WAIT));
    let route = Route::new(&[Method::POST], PATH, move |request| {
        let (receiver, turns) = (Arc::clone(&receiver), Arc::clone(&turns));
        async move {
            match version_of(&request.headers) {
                Ok(version) => turns.make(move || receiver.receive(&request.body, version)).await,
                Err(error) => error.into_response(),
            }
        }
    });
    router.route(route.labeled("remote_write").with_body_bytes_max(ENCODED_BYTES_MAX));
}

/// Adds `/readyz` to a router.
pub fn add_readiness(router: &mut Router, intake: Arc<Intake>) {
    router.route(Route::exact("/readyz", move |request: Request| {
        let response = match intake.trouble() {
            None => text(StatusCode::OK, checked("readyz", &["ping", "store"], &request)),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        };
        async move { response }
    }));
}

/// Takes what is pushed.
struct Receiver {
    intake: Arc<Intake>,
    metadata: Arc<MetadataRegistry>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    /// The series pushed lately. Held while a request is read, but not while it is decompressed or
    /// appended.
    table: Mutex<SeriesTable>,
    lines: RateLimit,
}

impl Receiver {
    fn receive(&self, body: &Bytes, version: Version) -> Response {
        let mut written = 0;
        let mut response = match self.take(body, version, &mut written) {
            Ok(()) => {
                let mut response = Response::default();
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Err(error) => error.into_response(),
        };
        if version == Version::Two {
            let headers = response.headers_mut();
            headers.insert(WRITTEN, HeaderValue::from(written));
            headers.extend(NONE_WRITTEN.map(|name| (name, HeaderValue::from(0))));
        }
        response
    }

    /// Stores what a body asks for; says in `written` how many samples are stored, also when others
    /// are not.
    fn take(&self, body: &Bytes, version: Version, written: &mut u64) -> Result<(), ApiError> {
        let body = decode::decompress(body)?;
        let (rows, mut refused) = {
            let minutes = (self.clock.monotonic().as_secs() / 60) as u32;
            let mut table = self.table.lock();
            // From the second minute on: what is named in the first one is not older.
            table.sweep((minutes + 1).saturating_sub(FORGET_MINUTES));
            let Pushed { samples, metadata, refused } =
                decode::decode(&body, version, &mut table, minutes + 1)?;
            for (family, said) in metadata {
                self.metadata.note(&family, said);
            }
            self.registry.set(&KNOWN, &[], table.len() as f64);
            (self.intake.rows(samples, &mut table), refused)
        };
        let report = self.intake.push(&rows)?;
        for (reason, samples) in &rows.refused {
            refused.add(reason, *samples);
        }
        for (reason, samples) in report.rejected.iter() {
            refused.add(reason.as_str(), samples);
        }
        let stored = report.accepted + report.duplicate;
        *written = stored;
        if refused.total() == 0 {
            return Ok(());
        }
        for (reason, samples) in refused.iter() {
            self.registry.add(&REFUSED, &[("reason", reason)], samples);
        }
        if let Some(earlier) = self.lines.admit(self.clock.monotonic()) {
            warn!(
                "refused {refused} of a remote write and stored {stored} samples of it ({earlier} \
                   requests with refusals before it were not logged)"
            );
        }
        Err(ApiError::BadRequest(format!("stored {stored} samples, refused {refused}\n")))
    }
}

/// The version that the headers promise a body of.
fn version_of(headers: &HeaderMap) -> Result<Version, ApiError> {
    const TYPE: &str = "application/x-protobuf";
    const PROTO_V1: &str = "prometheus.WriteRequest";
    const PROTO_V2: &str = "io.prometheus.write.v2.Request";
    let unsupported = |what: String| Err(ApiError::Unsupported(what));
    let value = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = value(CONTENT_TYPE).unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case(TYPE)) {
        return unsupported(format!(
            "remote write needs the content type {TYPE}, not {content_type:?}\n"
        ));
    }
    let proto = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    let version = match proto {
        None | Some(PROTO_V1) => Version::One,
        Some(PROTO_V2) => Version::Two,
        Some(other) => {
            return unsupported(format!(
                "remote write takes {PROTO_V1} and {PROTO_V2}, not {other}\n"
            ));
        }
    };
    match value(CONTENT_ENCODING) {
        Some(encoding) if encoding.trim().eq_ignore_ascii_case("snappy") => Ok(version),
        other => unsupported(format!(
            "remote write needs the content encoding snappy (its block format), not {:?}\n",
            other.unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, encoding: &str) -> Result<Version, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        version_of(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn only_snappy_protobuf_of_a_known_version_is_let_in() {
        for (good, version) in [
            ("application/x-protobuf", Version::One),
            ("Application/X-Protobuf;proto=prometheus.WriteRequest", Version::One),
            ("application/x-protobuf; proto=\"prometheus.WriteRequest\"; q=1", Version::One),
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", Version::Two),
        ] {
            assert_eq!(check(good, "Snappy"), Ok(version), "{good}");
        }
        for bad in ["", "text/plain", "application/json", "application/x-protobuf;proto=other"] {
            assert!(check(bad, "snappy").is_err(), "{bad}");
        }
        for bad in ["", "gzip", "identity"] {
            assert!(check("application/x-protobuf", bad).is_err(), "{bad}");
        }
        assert!(version_of(&HeaderMap::new()).is_err());
    }
}
