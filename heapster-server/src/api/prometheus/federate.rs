//! `/federate`: the newest samples of series, for another Prometheus to scrape.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use heapster_core::{Labels, Timestamp};
use heapster_query::promql::QueryValue;
use http::header::ACCEPT;
use http::{Method, StatusCode};

use super::answer::Exponential;
use super::error::Failure;
use super::params::Form;
use super::{GRACE, Prometheus, Reader, Wishes};
use crate::http::{Request, Response, Route, Router, typed};

const NAME: &str = "__name__";

pub(super) fn add_routes(router: &mut Router, own: &Arc<Prometheus>) {
    let (own, time_max) = (Arc::clone(own), own.state.options.limits.timeout + GRACE);
    let route = Route::new(&[Method::GET], "/federate", move |request| {
        let own = Arc::clone(&own);
        async move { federate(own, request).await.unwrap_or_else(Failure::into_response) }
    });
    router.route(route.labeled("federate").with_time_max(time_max));
}

async fn federate(own: Arc<Prometheus>, request: Request) -> Result<Response, Failure> {
    let form = Form::of(&request);
    form.selectors()?;
    let selectors: Vec<String> = form.all("match[]").map(str::to_owned).collect();
    let accept = request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let with_utf8 = accept.is_some_and(|accept| accept.contains("escaping=allow-utf-8"));
    let (at, lookback) = (own.now(), own.state.options.lookback);
    let read = move |reader: &Reader<'_>| {
        let mut newest = Vec::new();
        for selector in &selectors {
            newest.extend(newest_of(reader, selector, at, lookback.as_millis())?);
        }
        newest.sort_by(|a, b| (a.0.value(NAME), &a.0).cmp(&(b.0.value(NAME), &b.0)));
        newest.dedup_by(|a, b| a.0 == b.0);
        Ok(exposition(&newest, with_utf8))
    };
    Ok(own.read(Wishes::default(), read).await)
}

/// Series, the time of the newest sample and its value.
type Newest = (Labels, Timestamp, f64);

/// The newest samples of the series of a selector. One that has ended is left out.
fn newest_of(
    reader: &Reader<'_>,
    selector: &str,
    at: Timestamp,
    lookback_ms: u128,
) -> Result<Vec<Newest>, Failure> {
    let ask = |query: &str| reader.engine.instant(reader.snapshot, query, at, &reader.control);
    // A range vector has the times of its samples, an instant vector knows what has ended. The new
    // line ends a comment of the selector.
    let (QueryValue::Vector(alive), QueryValue::Matrix(samples)) =
        (ask(selector)?.value, ask(&format!("{selector}\n[{lookback_ms}ms]"))?.value)
    else {
        return Ok(Vec::new());
    };
    let samples = samples.into_iter().filter_map(|series| {
        let (at, value) = *series.points.last()?;
        Some((series.labels, (at, value)))
    });
    let samples: HashMap<Labels, (Timestamp, f64)> = samples.collect();
    let newest = alive.into_iter().filter_map(|element| {
        let (at, value) = *samples.get(&element.labels)?;
        Some((element.labels, at, value))
    });
    Ok(newest.collect())
}

/// A text in quotes, as the format writes it.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

fn exposition(newest: &[Newest], with_utf8: bool) -> Response {
    let mut text = String::new();
    let mut last_name = None;
    for (labels, at, value) in newest {
        let name = labels.value(NAME);
        let shown = name_of(name, with_utf8);
        // Writing to a String cannot fail.
        if last_name != Some(name) {
            let _ = writeln!(text, "# TYPE {shown} untyped");
            last_name = Some(name);
        }
        let others = labels.iter().filter(|label| label.name != NAME);
        let mut pairs: Vec<String> = others
            .map(|label| format!("{}={}", name_of(&label.name, with_utf8), quoted(&label.value)))
            .collect();
        // A federated series says of itself that no target is meant.
        if !labels.contains("instance") {
            pairs.push("instance=\"\"".to_owned());
        }
        if shown.starts_with('"') {
            pairs.insert(0, shown);
        } else {
            text.push_str(&shown);
        }
        let (pairs, millis) = (pairs.join(","), at.as_millis());
        let _ = writeln!(text, "{{{pairs}}} {} {millis}", Exponential(*value));
    }
    let content_type = if with_utf8 {
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    };
    typed(StatusCode::OK, content_type, text)
}

/// A name as the format takes it: in quotes where that is understood, else with `_` for the rest.
fn name_of(name: &str, with_utf8: bool) -> String {
    let is_plain = |index: usize, byte: u8| {
        byte.is_ascii_alphabetic()
            || matches!(byte, b'_' | b':')
            || (index > 0 && byte.is_ascii_digit())
    };
    if name.bytes().enumerate().all(|(index, byte)| is_plain(index, byte)) {
        return name.to_owned();
    }
    if with_utf8 {
        return quoted(name);
    }
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    let name: String = name.chars().map(|char| if plain(char) { char } else { '_' }).collect();
    if name.starts_with(|char: char| char.is_ascii_digit()) { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_that_is_understood() {
        for (name, utf8, plain) in [
            ("up", "up", "up"),
            ("cpu/usage", "\"cpu/usage\"", "cpu_usage"),
            ("größe", "\"größe\"", "gr__e"),
            ("5xx", "\"5xx\"", "_5xx"),
        ] {
            assert_eq!(
                (name_of(name, true).as_str(), name_of(name, false).as_str()),
                (utf8, plain)
            );
        }
    }
}
