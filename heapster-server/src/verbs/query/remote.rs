//! Asks a server that speaks the API of Prometheus, ours or another.

use std::time::Duration;

use bytes::Bytes;
use heapster_core::Timestamp;
use heapster_query::promql::{self, QueryAnswer};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::When;
use crate::api::prometheus::read_envelope;
use crate::cli::VerbCall;
use crate::cli::value::read_duration;
use crate::telemetry::logging::chain;
use crate::verbs::VerbError;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// How much longer than the query the whole request may take.
const GRACE: Duration = Duration::from_secs(5);

pub(in crate::verbs) fn ask(
    call: &VerbCall,
    url: &str,
    expr: &str,
    when: When,
) -> Result<QueryAnswer, VerbError> {
    let failed = |why: String| VerbError::Server { url: url.to_owned(), why };
    let timeout = read_duration(call.values.get("timeout")).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(chain(&error)))?;
    let sent = runtime.block_on(async {
        let send = send(url, expr, when, timeout);
        tokio::time::timeout(timeout + GRACE, send).await
    });
    let (status, body) = sent
        .map_err(|_| failed(format!("no answer within {timeout:?}; --timeout allows more")))?
        .map_err(failed)?;
    let answer: Value = serde_json::from_slice(&body).map_err(|_| {
        failed(format!("it answers {status}, and not as Prometheus does; is the address right?"))
    })?;
    if let Some(error) = answer["error"].as_str() {
        // The server says where it is wrong; we show it.
        return Err(match promql::format(expr) {
            Err(own) if answer["errorType"] == "bad_data" => VerbError::Query(own.marked()),
            _ => VerbError::Unanswered(error.to_owned()),
        });
    }
    read_envelope(&answer)
        .ok_or_else(|| failed("its answer is not one of Prometheus' API".to_owned()))
}

/// Gets what is at a URL.
pub(in crate::verbs) fn fetch(
    url: &str,
    accept: &'static str,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), String> {
    let request = Request::get(url).header(ACCEPT, accept).body(Full::default());
    let request = request.map_err(|error| chain(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| chain(&error))?;
    let sent = runtime.block_on(async { tokio::time::timeout(timeout, exchange(request)).await });
    sent.map_err(|_| format!("no answer within {timeout:?}; --timeout allows more"))?
}

async fn send(
    url: &str,
    expr: &str,
    when: When,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), String> {
    let seconds = |at: Timestamp| (at.as_millis() as f64 / 1000.0).to_string();
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("query", expr);
    form.append_pair("timeout", &timeout.as_secs_f64().to_string());
    let path = match when {
        When::At(at) => {
            form.append_pair("time", &seconds(at));
            "query"
        }
        When::Range { start, end, step } => {
            form.append_pair("start", &seconds(start)).append_pair("end", &seconds(end));
            form.append_pair("step", &step.as_secs_f64().to_string());
            "query_range"
        }
    };
    let target = format!("{}/api/v1/{path}", url.trim_end_matches('/'));
    let request = Request::post(target)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form.finish())))
        .map_err(|error| chain(&error))?;
    exchange(request).await
}

async fn exchange(request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
    let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| chain(&error))?;
    let connector = tls.https_or_http().enable_http1().build();
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.request(request).await.map_err(|error| chain(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| format!("its answer broke off: {error}"))?;
    Ok((status, body.to_bytes()))
}
