//! The REST APIs of Heapster over any store.
//!
//! Lists come from the newest batch ([`Live`]), numbers from the store. Handlers parse, then read
//! the store on a thread that may block, writing their JSON as they go. What differs from the
//! original is in `docs/http-api.md` and decision 0006.

mod entities;
mod error;
mod export;
mod go_time;
mod health;
mod historical;
mod index;
pub(crate) mod metrics_k8s;
mod model;
pub(crate) mod params;
mod profile;
pub mod prometheus;
pub mod remote_write;
mod series_json;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use heapster_core::cluster::ClusterView;
use heapster_core::storage::{Damage, Snapshot, Storage};
use heapster_query::{Budget, Cancel, Limits, QueryError};
use heapster_store::Clock;
use http::StatusCode;
use http::header::{HeaderValue, WARNING};

pub use error::ApiError;

use self::turns::Turns;
use crate::http::{Response, Route, Router, typed};
use crate::live::Live;
use crate::telemetry::Registry;

/// Answers of `/metrics` made at one time.
const SELF_METRICS_MAX: usize = 2;

/// What the APIs answer from.
#[derive(Clone)]
pub struct ApiState {
    /// The store.
    pub storage: Arc<dyn Storage>,
    /// The newest batch.
    pub live: Arc<Live>,
    /// The objects of the cluster.
    pub cluster: Arc<dyn ClusterView>,
    /// The clock that says what "now" is.
    pub clock: Arc<dyn Clock>,
    /// Where requests are measured and what `/metrics` shows.
    pub registry: Arc<Registry>,
    /// Settings.
    pub options: ApiOptions,
}

/// Settings of the APIs.
#[derive(Clone, Copy, Debug)]
pub struct ApiOptions {
    /// Whether `/api/v1/metric-export` is always empty – default false.
    pub disable_export: bool,
    /// Whether `/debug/pprof` is there – default false; it shows the command line.
    pub profiling: bool,
    /// How often a batch is expected – default 60 s; `/healthz` allows three in a row to be missed.
    pub resolution: Duration,
    /// Whether batches are collected at all – default true; otherwise `/healthz` is always content.
    pub is_collecting: bool,
    /// What one request may read and answer.
    pub limits: Limits,
    /// Answers from the store or the newest batch that are made at one time – at least 1,
    /// default 8. More wait.
    pub reads_max: usize,
    /// How long a request waits for its turn – default 10 s.
    pub read_wait: Duration,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            disable_export: false,
            profiling: false,
            resolution: Duration::from_secs(60),
            is_collecting: true,
            limits: Limits::default(),
            reads_max: 8,
            read_wait: Duration::from_secs(10),
        }
    }
}

/// A router with every route of the Heapster APIs; other APIs may be added to it.
pub fn router(state: ApiState) -> Router {
    let mut router = Router::new(Arc::clone(&state.registry), Arc::clone(&state.clock));
    let turns = Turns::new(state.options.reads_max, state.options.read_wait);
    let context = Arc::new(Context { state, turns, export: export::Cache::default() });
    index::add_routes(&mut router, &context);
    health::add_routes(&mut router, &context);
    add_self_metrics(&mut router, &context);
    model::add_routes(&mut router, &context);
    historical::add_routes(&mut router, &context);
    export::add_routes(&mut router, &context);
    metrics_k8s::add_routes(&mut router, &context);
    if context.state.options.profiling {
        profile::add_routes(&mut router);
    }
    router
}

fn add_self_metrics(router: &mut Router, context: &Arc<Context>) {
    const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
    let registry = Arc::clone(&context.state.registry);
    // Turns of its own: whoever looks after a busy server needs these numbers most.
    let turns = Arc::new(Turns::new(SELF_METRICS_MAX, context.state.options.read_wait));
    let route = Route::exact("/metrics", move |_| {
        let (registry, turns) = (Arc::clone(&registry), Arc::clone(&turns));
        async move { turns.make(move || typed(StatusCode::OK, TYPE, registry.render())).await }
    });
    router.route(route.labeled("prometheus"));
}

/// The state of the APIs and the turns to answer.
struct Context {
    state: ApiState,
    turns: Turns,
    export: export::Cache,
}

/// Cancels the read of a request whose client went away or whose time is over.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Marks an answer that damage to the store makes partial. The body stays what clients expect.
fn say_what_is_lacking(response: &mut Response, damage: &[Damage]) {
    let (Some(start), Some(end)) = (
        damage.iter().map(|damage| damage.range.start).min(),
        damage.iter().map(|damage| damage.range.end).max(),
    ) else {
        return;
    };
    let warning = format!(
        "299 heapster \"partial answer: samples between {start} and {end} could not be read\""
    );
    if let Ok(warning) = HeaderValue::try_from(warning) {
        response.headers_mut().insert(WARNING, warning);
    }
}

impl Context {
    /// Reads the store on a thread that may block. The read ends when the returned future is
    /// dropped.
    async fn read<F>(&self, read: F) -> Response
    where
        F: FnOnce(&dyn Snapshot, &mut Budget) -> Result<Response, ApiError> + Send + 'static,
    {
        let cancel = CancelOnDrop(Cancel::default());
        let mut budget = Budget::new(self.state.options.limits, cancel.0.clone());
        let storage = Arc::clone(&self.state.storage);
        let make = move || {
            let snapshot = match storage.snapshot() {
                Ok(snapshot) => snapshot,
                Err(error) => return ApiError::from(QueryError::from(error)).into_response(),
            };
            let mut response =
                read(&*snapshot, &mut budget).unwrap_or_else(ApiError::into_response);
            say_what_is_lacking(&mut response, &snapshot.damage());
            response
        };
        self.turns.make(make).await
    }
}
