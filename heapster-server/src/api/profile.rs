//! `/debug/pprof`: what a process without Go's runtime can say of itself. Only there when asked for.

use http::StatusCode;

use crate::http::{Request, Response, Route, Router, text};
use crate::uri::Uri;

pub(super) fn add_routes(router: &mut Router) {
    router.service("/debug/pprof");
    let route = Route::new(&[http::Method::GET], "/debug/pprof/{name}", |request: Request| {
        let response = respond(request.params.get("name"));
        async move { response }
    });
    router.route(route.labeled("pprof"));
}

fn respond(name: &str) -> Response {
    match name {
        "cmdline" => {
            let arguments = std::env::args_os().map(|a| a.to_string_lossy().into_owned());
            text(StatusCode::OK, redacted(arguments).join("\0"))
        }
        // Profiles of native programs are symbolized by whoever reads them.
        "symbol" => text(StatusCode::OK, "num_symbols: 0\n"),
        "profile" => text(
            StatusCode::NOT_IMPLEMENTED,
            "This server does not profile itself; use `perf record` on its process instead.\n",
        ),
        _ => text(StatusCode::NOT_FOUND, "Unknown profile\n"),
    }
}

/// Flags whose values may hold passwords.
const URI_FLAGS: [&str; 2] = ["source", "sink"];

/// Arguments with passwords and secret options hidden.
fn redacted(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut is_uri = false;
    arguments
        .map(|argument| {
            if std::mem::take(&mut is_uri) {
                return redacted_uri(&argument);
            }
            let Some(flag) = argument.strip_prefix('-') else { return argument };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if !URI_FLAGS.contains(&name.trim_start_matches('-')) {
                return argument;
            }
            is_uri = value.is_none();
            value.map_or_else(
                || argument.clone(),
                |value| format!("-{name}={}", redacted_uri(value)),
            )
        })
        .collect()
}

/// Environment variables stay as they are written: what they hold was not on the command line.
fn redacted_uri(text: &str) -> String {
    match Uri::parse(text, |name| Some(format!("${name}"))) {
        Ok(uri) => uri.redacted(),
        Err(_) => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_shown_without_passwords() {
        let arguments = [
            "heapster",
            "--sink=influxdb:http://me:hush@db:8086?pw=hush&db=k8s",
            "-sink",
            "kafka:?password=hush",
            "--sink",
            "influxdb:http://db?pw=$PW",
            "--source=:hush",
            "--port=80",
            "sink",
        ];
        let shown = redacted(arguments.iter().map(|text| (*text).to_owned()));
        assert!(!shown.join(" ").contains("hush"), "{shown:?}");
        assert_eq!(shown[0], "heapster");
        assert_eq!(shown[1], "--sink=influxdb:http://***@db:8086?pw=***&db=k8s");
        assert_eq!(shown[2], "-sink");
        assert_eq!(
            shown[4..],
            ["--sink", "influxdb:http://db?pw=***", "--source=***", "--port=80", "sink"]
        );
    }
}
