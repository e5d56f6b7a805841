//! `/api/v1/write`: takes samples that Prometheus and its kin push (remote write 1.0), and
//! `/readyz`, which says whether the store takes them.
//!
//! A request is acknowledged as a whole: 204 means that each of its samples was appended under the
//! server's level. It is decoded as a whole before anything is appended, so of one that cannot be
//! read nothing is taken. What the store refuses for good (too old, too far ahead) is counted in an
//! answer 400, the rest of the request is taken. After a 5xx the whole request may be sent again:
//! what is there already is a duplicate, which the store ignores.
//!
//! A web page cannot push: no browser sends this content type to another origin without asking
//! first, and nobody answers that question.

pub(crate) mod decode;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heapster_store::Clock;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, Method, StatusCode};
use tracing::warn;

use self::decode::{ENCODED_BYTES_MAX, Pushed};
use super::error::ApiError;
use super::turns::Turns;
use crate::http::{Response, Route, Router, text};
use crate::intake::Intake;
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

const REFUSED: Family = Family {
    name: "heapster_remote_write_refused_samples_total",
    help: "Pushed samples that were refused, by reason.",
    kind: FamilyKind::Counter,
};

/// Adds the receiver to a router.
pub fn add_receiver(
    router: &mut Router,
    intake: Arc<Intake>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
) {
    let receiver =
        Arc::new(Receiver { intake, registry, clock, lines: RateLimit::new(LOG_PERIOD) });
    let turns = Arc::new(Turns::new(WRITES_MAX, WRITE_WAIT));
    let route = Route::new(&[Method::POST], PATH, move |request| {
        let (receiver, turns) = (Arc::clone(&receiver), Arc::clone(&turns));
        async move {
            match check_headers(&request.headers) {
                Ok(()) => turns.make(move || receiver.receive(&request.body)).await,
                Err(error) => error.into_response(),
            }
        }
    });
    router.route(route.labeled("remote_write").with_body_bytes_max(ENCODED_BYTES_MAX));
}

/// Adds `/readyz` to a router.
pub fn add_readiness(router: &mut Router, intake: Arc<Intake>) {
    router.route(Route::exact("/readyz", move |_| {
        let response = match intake.trouble() {
            None => text(StatusCode::OK, "ok\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        };
        async move { response }
    }));
}

/// Takes what is pushed.
struct Receiver {
    intake: Arc<Intake>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    lines: RateLimit,
}

impl Receiver {
    fn receive(&self, body: &Bytes) -> Response {
        self.take(body).unwrap_or_else(ApiError::into_response)
    }

    fn take(&self, body: &Bytes) -> Result<Response, ApiError> {
        let Pushed { moments, mut refused } = decode::decode(body)?;
        let report = self.intake.push(moments.iter().map(|(at, rows)| (*at, rows.as_slice())))?;
        for (reason, samples) in report.rejected.iter() {
            refused.add(reason.as_str(), samples);
        }
        if refused.total() == 0 {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        }
        for (reason, samples) in refused.iter() {
            self.registry.add(&REFUSED, &[("reason", reason)], samples);
        }
        let stored = report.accepted + report.duplicate;
        if let Some(earlier) = self.lines.admit(self.clock.monotonic()) {
            warn!(
                "refused {refused} of a remote write and stored {stored} samples of it ({earlier} \
                   requests with refusals before it were not logged)"
            );
        }
        Err(ApiError::BadRequest(format!("stored {stored} samples, refused {refused}\n")))
    }
}

/// Whether the headers promise what [`decode`] reads.
fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
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
    match proto {
        None | Some(PROTO_V1) => {}
        Some(PROTO_V2) => {
            return unsupported(format!(
                "remote write 2.0 is not taken by this version; send 1.0 ({PROTO_V1})\n"
            ));
        }
        Some(other) => return unsupported(format!("remote write takes {PROTO_V1}, not {other}\n")),
    }
    match value(CONTENT_ENCODING) {
        Some(encoding) if encoding.trim().eq_ignore_ascii_case("snappy") => Ok(()),
        other => unsupported(format!(
            "remote write needs the content encoding snappy (its block format), not {:?}\n",
            other.unwrap_or_default()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, encoding: &str) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        check_headers(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn only_snappy_protobuf_of_version_one_is_let_in() {
        for good in [
            "application/x-protobuf",
            "Application/X-Protobuf;proto=prometheus.WriteRequest",
            "application/x-protobuf; proto=\"prometheus.WriteRequest\"; q=1",
        ] {
            assert_eq!(check(good, "Snappy"), Ok(()), "{good}");
        }
        let v2 = check("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy");
        assert!(v2.unwrap_err().contains("remote write 2.0 is not taken"));
        for bad in ["", "text/plain", "application/json", "application/x-protobuf;proto=other"] {
            assert!(check(bad, "snappy").is_err(), "{bad}");
        }
        for bad in ["", "gzip", "identity"] {
            assert!(check("application/x-protobuf", bad).is_err(), "{bad}");
        }
        assert!(check_headers(&HeaderMap::new()).is_err());
    }
}
