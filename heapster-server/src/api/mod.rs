//! The REST APIs of Heapster over any store.
//!
//! Lists come from the newest batch ([`Live`]), numbers from the store. Handlers parse, then read
//! the store on a thread that may block, writing their JSON as they go. What differs from the
//! original is in `docs/http-api.md` and decision 0006.

mod entities;
mod error;
mod export;
mod health;
mod historical;
mod index;
mod model;
mod params;
mod profile;
mod series_json;

use std::sync::Arc;
use std::time::Duration;

use heapster_core::storage::{Snapshot, Storage};
use heapster_query::{Budget, Cancel, Limits, QueryError};
use heapster_store::Clock;
use http::StatusCode;
use tokio::sync::Semaphore;

pub use error::ApiError;

use crate::http::{Response, Route, Router, text};
use crate::live::Live;
use crate::telemetry::Registry;

/// What the APIs answer from.
#[derive(Clone)]
pub struct ApiState {
    /// The store.
    pub storage: Arc<dyn Storage>,
    /// The newest batch.
    pub live: Arc<Live>,
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
    /// Requests that read the store at one time – at least 1, default 8. More wait.
    pub reads_max: usize,
    /// How long a request waits for its turn to read – default 10 s.
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
    let reads = Arc::new(Semaphore::new(state.options.reads_max.max(1)));
    let context = Arc::new(Context { state, reads });
    index::add_routes(&mut router, &context);
    health::add_routes(&mut router, &context);
    add_self_metrics(&mut router, &context);
    model::add_routes(&mut router, &context);
    historical::add_routes(&mut router, &context);
    export::add_routes(&mut router, &context);
    if context.state.options.profiling {
        profile::add_routes(&mut router);
    }
    router
}

fn add_self_metrics(router: &mut Router, context: &Arc<Context>) {
    let registry = Arc::clone(&context.state.registry);
    let route = Route::exact("/metrics", move |_| {
        let rendered = registry.render();
        async move {
            crate::http::typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", rendered)
        }
    });
    router.route(route.labeled("prometheus"));
}

/// The state of the APIs and the turns to read.
struct Context {
    state: ApiState,
    reads: Arc<Semaphore>,
}

/// Cancels the read of a request whose client went away or whose time is over.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Context {
    /// Reads the store on a thread that may block. The read ends when the returned future is
    /// dropped.
    async fn read<F>(&self, read: F) -> Response
    where
        F: FnOnce(&dyn Snapshot, &mut Budget) -> Result<Response, ApiError> + Send + 'static,
    {
        let turn = Arc::clone(&self.reads).acquire_owned();
        let turn = tokio::time::timeout(self.state.options.read_wait, turn).await;
        let Ok(Ok(turn)) = turn else { return ApiError::Busy.into_response() };
        let cancel = CancelOnDrop(Cancel::default());
        let mut budget = Budget::new(self.state.options.limits, cancel.0.clone());
        let storage = Arc::clone(&self.state.storage);
        compute(move || {
            // Held until the read ends, also when nobody waits for it any more.
            let _turn = turn;
            let snapshot = match storage.snapshot() {
                Ok(snapshot) => snapshot,
                Err(error) => return ApiError::from(QueryError::from(error)).into_response(),
            };
            read(&*snapshot, &mut budget).unwrap_or_else(ApiError::into_response)
        })
        .await
    }
}

/// Makes an answer on a thread that may block; large ones would hold up other requests.
async fn compute(make: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(make).await {
        Ok(response) => response,
        // The router turns a panic into an answer.
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "server is shutting down"),
        },
    }
}
