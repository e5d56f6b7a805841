//! `/`: a page that says what runs here and links what can be asked.

use std::fmt::Write;
use std::sync::Arc;

use super::Context;
use crate::http::{Route, Router, html};

const LINKS: [(&str, &str); 9] = [
    ("/api/v1/model/metrics", "metrics of the cluster"),
    ("/api/v1/model/nodes", "nodes, by host name"),
    ("/api/v1/model/namespaces", "namespaces"),
    ("/api/v1/model/debug/allkeys", "every entity of the newest batch"),
    ("/api/v1/historical/nodes", "nodes ever seen, by name"),
    ("/api/v1/historical/namespaces", "namespaces ever seen"),
    ("/api/v1/metric-export", "the newest batch"),
    ("/api/v1/metric-export-schema", "what the metrics mean"),
    ("/metrics", "metrics of this server itself, as Prometheus text"),
];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;\
    padding:0 1rem;color:#1c2430;background:#fff}h1{font-weight:600}code{font-size:.95em}\
    td{padding:.15rem 1.5rem .15rem 0;vertical-align:top}a{color:#0a58ca}\
    @media(prefers-color-scheme:dark){body{color:#e4e8ee;background:#14181f}a{color:#7ab7ff}}";

pub(super) fn add_routes(router: &mut Router, context: &Arc<Context>) {
    let context = Arc::clone(context);
    router.route(Route::exact("/", move |_| {
        let response = html(page(&context));
        async move { response }
    }));
}

fn page(context: &Context) -> String {
    let newest = match context.state.live.latest() {
        Some(batch) => format!("{} with {} entities", batch.timestamp, batch.sets.len()),
        None => "none yet".to_owned(),
    };
    let mut links = String::new();
    let profiling = [("/debug/pprof/cmdline", "command line of this server")];
    let profiling = profiling.iter().filter(|_| context.state.options.profiling);
    for (path, what) in LINKS.iter().chain([&("/healthz?verbose", "health")]).chain(profiling) {
        let path = escape(path);
        let what = escape(what);
        // Writing to memory does not fail.
        let _ = writeln!(links, "<tr><td><a href=\"{path}\"><code>{path}</code></a><td>{what}");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>heapster</title>\n\
         <style>{STYLE}</style>\n<h1>heapster</h1>\n\
         <p>Version {}. Newest batch: {}.</p>\n<table>\n{links}</table>\n</html>\n",
        escape(env!("CARGO_PKG_VERSION")),
        escape(&newest),
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(char),
        }
    }
    escaped
}
