//! `/healthz`: whether batches keep coming; `/livez`: whether anybody is there.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::Context;
use crate::http::{Request, Response, Route, Router, text};

/// Least age at which the newest batch is too old; the original's only limit.
const AGE_MAX: Duration = Duration::from_secs(3 * 60);

pub(super) fn add_routes(router: &mut Router, context: &Arc<Context>) {
    // That a batch is late or a disk is full is no reason to be killed: a restart mends neither.
    router.route(Route::exact("/livez", |request: Request| async move {
        text(StatusCode::OK, checked("livez", &["ping"], &request))
    }));
    let own = Arc::clone(context);
    router.route(Route::exact("/healthz", move |request| {
        let response = summary(&check(&own), &request);
        async move { response }
    }));
    let own = Arc::clone(context);
    router.route(Route::exact("/healthz/healthz", move |_| {
        let response = match check(&own) {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err(why) => {
                let body = format!("internal server error: {why}\n");
                text(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        };
        async move { response }
    }));
}

/// What a check says that found everything in order.
pub(super) fn checked(name: &str, parts: &[&str], request: &Request) -> String {
    if !request.query.contains("verbose") {
        return "ok".to_owned();
    }
    let parts: String = parts.iter().map(|part| format!("[+]{part} ok\n")).collect();
    format!("{parts}{name} check passed\n")
}

fn summary(outcome: &Result<(), String>, request: &Request) -> Response {
    match outcome {
        // Why it failed is for those who may look further, not for everyone.
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "[-]healthz failed: reason withheld\nhealthz check failed\n",
        ),
        Ok(()) => text(StatusCode::OK, checked("healthz", &["healthz"], request)),
    }
}

fn check(context: &Context) -> Result<(), String> {
    if !context.state.options.is_collecting {
        return Ok(());
    }
    let Some(batch) = context.state.live.latest() else {
        return Err("could not get the latest data batch".to_owned());
    };
    // With a long resolution the original's fixed limit made every other check fail.
    let age_max = AGE_MAX.max(context.state.options.resolution.saturating_mul(3));
    let latest = batch.timestamp;
    if context.state.clock.now().saturating_since(latest) > age_max {
        return Err(format!("No current data batch available (latest: {latest})."));
    }
    if batch.sets.is_empty() {
        return Err(format!(
            "Not enough metrics found in the latest data batch: 0 (expected min. 1) {latest}"
        ));
    }
    Ok(())
}
