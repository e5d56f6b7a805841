//! `/debug/pprof`: what a process without Go's runtime can say of itself. Only there when asked for.

use http::StatusCode;

use crate::http::{Request, Response, Route, Router, text};

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
            let arguments: Vec<String> =
                std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
            text(StatusCode::OK, arguments.join("\0"))
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
