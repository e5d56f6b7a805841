//! The HTTP API of Prometheus over the store: what Grafana and `promtool` ask.
//!
//! Queries and reads of the index run on threads that may block, so many at a time; others wait for
//! their turn. One whose client went away ends. What differs from Prometheus is in
//! `docs/prometheus-api.md`.

mod answer;
mod browse;
mod error;
mod escape;
mod federate;
mod params;
mod query;
mod reader;
mod status;
mod targets;

use std::sync::Arc;
use std::time::Duration;

use heapster_core::Timestamp;
use heapster_core::storage::Snapshot;
use heapster_query::Cancel;
use heapster_query::promql::vocabulary::Kubernetes;
use heapster_query::promql::{Control, Engine, EngineOptions, QueryAnswer, QueryLimits};
use heapster_store::{Clock, Store};
use http::Method;

use self::answer::{Answer, Data, Exponential};
use self::error::{ErrorType, Failure};
use self::params::Form;
pub use self::reader::read_envelope;
use super::turns::Turns;
use super::{CancelOnDrop, say_what_is_lacking};
use crate::http::{Request, Response, Route, Router};
use crate::intake::Intake;
use crate::metadata::MetadataRegistry;
use crate::targets::TargetRegistry;

const PREFIX: &str = "/api/v1";

/// Bytes of a form at most: a query is shorter than 256 KiB, and escapes make it three times as long.
const FORM_BYTES_MAX: usize = 1 << 20;
/// What a query may take that is not to wait for those that take long.
const QUICK: Duration = Duration::from_millis(250);
/// Of the turns, this part is for the quick.
const QUICK_SHARE: usize = 4;
/// How much longer than its query a request may take, so that the client is told why it ends.
const GRACE: Duration = Duration::from_secs(5);

/// Settings of the API.
#[derive(Clone, Debug)]
pub struct PrometheusOptions {
    /// What one query may cost; its time includes the wait for its turn.
    pub limits: QueryLimits,
    /// How far back an instant selector looks for a sample.
    pub lookback: Duration,
    /// Queries that run at one time – at least 1, default 8. More wait for their turn.
    pub queries_max: usize,
    /// Names and values of the server's flags, as `status/flags` shows them.
    pub flags: Vec<(String, String)>,
    /// How long data is kept, as `status/runtimeinfo` shows it.
    pub retention: String,
}

impl Default for PrometheusOptions {
    fn default() -> Self {
        Self {
            limits: QueryLimits::default(),
            lookback: Duration::from_secs(300),
            queries_max: 8,
            flags: Vec::new(),
            retention: String::new(),
        }
    }
}

/// What the API answers from.
pub struct PrometheusState {
    /// The store.
    pub store: Arc<Store>,
    /// The way into the store, which knows whether the store takes samples.
    pub intake: Arc<Intake>,
    /// What is scraped, and how it is.
    pub targets: Arc<TargetRegistry>,
    /// What is said of metrics.
    pub metadata: Arc<MetadataRegistry>,
    /// The clock that says what "now" is.
    pub clock: Arc<dyn Clock>,
    /// Settings.
    pub options: PrometheusOptions,
}

/// Adds the API to a router.
pub fn add_routes(router: &mut Router, state: PrometheusState) {
    let started = state.clock.now();
    let own = Arc::new(Prometheus::new(state, started));
    query::add_routes(router, &own);
    browse::add_routes(router, &own);
    federate::add_routes(router, &own);
    status::add_routes(router, &own);
    targets::add_routes(router, &own);
}

/// An answer in the envelope of the API, as one text; `at` is the time of a result without times.
pub(crate) fn envelope(found: QueryAnswer, at: Timestamp) -> String {
    let QueryAnswer { value, warnings, infos, .. } = found;
    Answer { warnings, infos, ..Answer::new(Data::Value(value, at)) }.into_text()
}

/// A value as the API writes it.
pub(crate) fn number(value: f64) -> String {
    Exponential(value).to_string()
}

/// The state of the API and the turns to ask.
///
/// How long a query takes is known when it is done. So each is tried for a short time first, among
/// others that are tried; what takes longer is begun again among those that take long. That way no
/// number of long ones keeps the short ones waiting.
struct Prometheus {
    state: PrometheusState,
    quick: Turns,
    slow: Turns,
    started: Timestamp,
}

/// What a request may change of how it is answered.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    timeout: Option<Duration>,
    lookback: Option<Duration>,
}

/// What reads the store for one request.
struct Reader<'a> {
    engine: Engine,
    snapshot: &'a dyn Snapshot,
    control: Control,
    /// How long the request waited for its turn.
    waited: Duration,
}

impl Prometheus {
    fn new(state: PrometheusState, started: Timestamp) -> Self {
        let PrometheusOptions { queries_max, limits, .. } = state.options;
        let quick = (queries_max / QUICK_SHARE).max(1);
        let turns = |count: usize| Turns::new(count, limits.timeout);
        let (quick, slow) = (turns(quick), turns(queries_max.saturating_sub(quick)));
        Self { state, quick, slow, started }
    }

    fn now(&self) -> Timestamp {
        self.state.clock.now()
    }

    /// Reads the store in turn, on a thread that may block. The read ends when the returned future is
    /// dropped, or when the time for it is over. It may be begun twice.
    async fn read<F>(self: &Arc<Self>, wishes: Wishes, read: F) -> Response
    where
        F: Fn(&Reader<'_>) -> Result<Response, Failure> + Send + Sync + 'static,
    {
        let options = &self.state.options;
        let cancel = CancelOnDrop(Cancel::default());
        let time = wishes
            .timeout
            .map_or(options.limits.timeout, |wished| wished.min(options.limits.timeout));
        let begin = self.state.clock.monotonic();
        let read = Arc::new(read);
        for (turns, is_quick) in [(&self.quick, true), (&self.slow, false)] {
            let left = time.saturating_sub(self.state.clock.monotonic().saturating_sub(begin));
            let (own, read, flag) = (Arc::clone(self), Arc::clone(&read), cancel.0.clone());
            let make = move || {
                let clock = Arc::clone(&own.state.clock);
                let waited = clock.monotonic().saturating_sub(begin);
                let end = if is_quick { time.min(waited + QUICK) } else { time };
                let elapsed = Arc::new(move || clock.monotonic().saturating_sub(begin));
                let control = Control { cancel: flag, elapsed: Some(elapsed) };
                let snapshot = own.state.store.snapshot();
                let engine = own.engine(end, wishes.lookback);
                let reader = Reader { engine, snapshot: &snapshot, control, waited };
                match read(&reader) {
                    Err(failure) if failure.is_timeout() && end < time => None,
                    answer => {
                        let mut response = answer.unwrap_or_else(Failure::into_response);
                        say_what_is_lacking(&mut response, &snapshot.damage());
                        Some(response)
                    }
                }
            };
            match turns.take(left, make).await {
                Some(Some(response)) => return response,
                Some(None) => {}
                None => break,
            }
        }
        let why = "query timed out in query queue";
        Failure::new(ErrorType::Timeout, why).into_response()
    }

    fn engine(&self, timeout: Duration, lookback: Option<Duration>) -> Engine {
        let options = &self.state.options;
        Engine::new(EngineOptions {
            lookback: lookback.unwrap_or(options.lookback),
            limits: QueryLimits { timeout, ..options.limits },
            vocabulary: Arc::new(Kubernetes),
            ..EngineOptions::default()
        })
    }
}

impl Reader<'_> {
    /// Adds to an answer what damage to the store keeps from it.
    fn whole_or_warned(&self, mut answer: Answer) -> Answer {
        let damage = self.snapshot.damage();
        if let (Some(start), Some(end)) = (
            damage.iter().map(|damage| damage.range.start).min(),
            damage.iter().map(|damage| damage.range.end).max(),
        ) {
            let text =
                format!("partial answer: samples between {start} and {end} could not be read");
            answer.warnings.push(text);
        }
        answer
    }
}

/// A route that reads its parameters, also from a form, and answers or says why not.
fn add_route<F, R>(
    router: &mut Router,
    own: &Arc<Prometheus>,
    (path, label): (&str, &'static str),
    handler: F,
) where
    F: Fn(Arc<Prometheus>, Form, Request) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = Result<Response, Failure>> + Send + 'static,
{
    let (own, time_max) = (Arc::clone(own), own.state.options.limits.timeout + GRACE);
    let methods = [Method::GET, Method::POST];
    let route = Route::new(&methods, &format!("{PREFIX}{path}"), move |request| {
        let (own, form) = (Arc::clone(&own), Form::of(&request));
        async move { handler(own, form, request).await.unwrap_or_else(Failure::into_response) }
    });
    let route = route.labeled(label).with_body_bytes_max(FORM_BYTES_MAX).with_time_max(time_max);
    router.route(route);
}
