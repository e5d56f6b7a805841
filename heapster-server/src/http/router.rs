//! [`Router`]: from a request to its handler, with the statuses and bodies of the original.
//!
//! The original had two layers: Go's mux, which redirects unclean paths and says `404 page not
//! found`, and go-restful below it, which matches patterns inside the roots of its services and says
//! `404: Page Not Found`. One table answers for both; [`Router::service`] names the roots.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use heapster_core::pipeline::BoxFuture;
use heapster_store::Clock;
use http::header::{ACCEPT, ALLOW, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, StatusCode};

use super::encoding;
use super::path;
use super::request::{Params, Query, Request};
use super::response::{Response, html, text};
use crate::telemetry::registry::FamilyKind;
use crate::telemetry::{Family, Registry};

/// Answers a request. Called from any thread; a panic in it costs that request alone.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

const REQUESTS: Family = Family {
    name: "http_requests_total",
    help: "Total number of HTTP requests made.",
    kind: FamilyKind::Counter,
};
const DURATION: Family = Family {
    name: "http_request_duration_microseconds",
    help: "The HTTP request latencies in microseconds.",
    kind: FamilyKind::Summary,
};
const REQUEST_SIZE: Family = Family {
    name: "http_request_size_bytes",
    help: "The HTTP request sizes in bytes.",
    kind: FamilyKind::Summary,
};
const RESPONSE_SIZE: Family = Family {
    name: "http_response_size_bytes",
    help: "The HTTP response sizes in bytes.",
    kind: FamilyKind::Summary,
};

/// A pattern, the methods it takes, and its handler.
///
/// A pattern is a path whose segments may be `{name}`, which takes one segment, or, as the last one,
/// `{name:*}`, which takes all the rest but at least one.
#[derive(Clone)]
pub struct Route {
    segments: Vec<Segment>,
    methods: Vec<Method>,
    label: Option<&'static str>,
    json_only: bool,
    exact: bool,
    body_bytes_max: Option<usize>,
    time_max: Option<Duration>,
    handler: Handler,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Static(String),
    One(String),
    Rest(String),
}

impl Route {
    /// A route that takes the given methods; none means every method.
    pub fn new<F, R>(methods: &[Method], pattern: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        let segments = tokens(pattern)
            .map(|token| match token.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
                None => Segment::Static(token.to_owned()),
                Some(name) => match name.strip_suffix(":*") {
                    Some(name) => Segment::Rest(name.to_owned()),
                    None => Segment::One(name.to_owned()),
                },
            })
            .collect();
        Self {
            segments,
            methods: methods.to_vec(),
            label: None,
            json_only: false,
            exact: false,
            body_bytes_max: None,
            time_max: None,
            handler: Arc::new(move |request| Box::pin(handler(request))),
        }
    }

    /// A route for GET that answers JSON: a client that accepts no JSON is told so.
    pub fn get_json<F, R>(pattern: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        Self { json_only: true, ..Self::new(&[Method::GET], pattern, handler) }
    }

    /// A route for exactly this path and any method, as Go's mux has them.
    pub fn exact<F, R>(path: &str, handler: F) -> Self
    where
        F: Fn(Request) -> R + Send + Sync + 'static,
        R: Future<Output = Response> + Send + 'static,
    {
        Self { exact: true, ..Self::new(&[], path, handler) }
    }

    /// The same route, measured under that value of the label `handler`.
    #[must_use]
    pub fn labeled(self, handler: &'static str) -> Self {
        Self { label: Some(handler), ..self }
    }

    /// The same route, taking bodies of at most that many bytes instead of what the server takes.
    #[must_use]
    pub fn with_body_bytes_max(self, bytes: usize) -> Self {
        Self { body_bytes_max: Some(bytes), ..self }
    }

    /// The same route, taking at most that long to answer instead of what the server allows.
    #[must_use]
    pub fn with_time_max(self, time: Duration) -> Self {
        Self { time_max: Some(time), ..self }
    }

    /// The values of the parameters when the path matches.
    fn matches(&self, path: &str, tokens: &[&str]) -> Option<Params> {
        if self.exact && path.len() > 1 && path.ends_with('/') {
            return None;
        }
        let mut params = Vec::new();
        let mut rest = tokens;
        for segment in &self.segments {
            let (token, after) = rest.split_first()?;
            match segment {
                Segment::Static(wanted) if wanted == token => {}
                Segment::Static(_) => return None,
                Segment::One(name) => params.push((name.clone(), (*token).to_owned())),
                Segment::Rest(name) => {
                    params.push((name.clone(), rest.join("/")));
                    return Some(Params(params));
                }
            }
            rest = after;
        }
        rest.is_empty().then_some(Params(params))
    }

    fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    fn static_segments(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Static(_))).count()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("segments", &self.segments)
            .field("methods", &self.methods)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// The routes of a server.
#[derive(Debug)]
pub struct Router {
    routes: Vec<Route>,
    services: BTreeSet<Vec<String>>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
}

impl Router {
    /// A router without routes; measures its requests in `registry`.
    pub fn new(registry: Arc<Registry>, clock: Arc<dyn Clock>) -> Self {
        Self { routes: Vec::new(), services: BTreeSet::new(), registry, clock }
    }

    /// Names the root of a service: unknown paths at and below it get go-restful's 404.
    pub fn service(&mut self, root: &str) {
        self.services.insert(tokens(root).map(str::to_owned).collect());
    }

    /// Adds a route. Of the routes that match a path the one with more fixed segments wins.
    pub fn route(&mut self, route: Route) {
        self.routes.push(route);
    }

    /// The limit of its own that the route of a request has on bodies.
    pub fn body_bytes_max(&self, method: &Method, path: &str) -> Option<usize> {
        self.own(method, path, |route| route.body_bytes_max)
    }

    /// The time of its own that the route of a request has to answer.
    pub fn time_max(&self, method: &Method, path: &str) -> Option<Duration> {
        self.own(method, path, |route| route.time_max)
    }

    /// A setting that the route of a request has and others have not.
    fn own<T>(&self, method: &Method, path: &str, of: impl Fn(&Route) -> Option<T>) -> Option<T> {
        // Those routes have no escapes in their paths, so the raw path will do.
        let tokens: Vec<&str> = tokens(path).collect();
        let mut own = self.routes.iter().filter(|route| of(route).is_some() && route.takes(method));
        of(own.find(|route| route.matches(path, &tokens).is_some())?)
    }

    /// Answers a request, whatever it is. Errors and panics become answers too.
    ///
    /// Must be called in a tokio runtime.
    pub async fn handle(&self, request: http::Request<Bytes>) -> Response {
        let (head, body) = request.into_parts();
        let Some(decoded) = path::decode(head.uri.path()) else {
            return text(StatusCode::BAD_REQUEST, "400 Bad Request: malformed escape in path\n");
        };
        if let Some(redirect) = redirect(&decoded, head.uri.query()) {
            return redirect;
        }
        let encoding = encoding::wanted(&head.headers);
        let request = Request {
            method: head.method,
            path: decoded,
            params: Params::default(),
            query: Query::parse(head.uri.query().unwrap_or_default()),
            headers: head.headers,
            body,
        };
        let response = self.dispatch(request, head.uri.to_string().len()).await;
        match encoding {
            Some(encoding) => encoding::compress(response, encoding).await,
            None => response,
        }
    }

    async fn dispatch(&self, mut request: Request, uri_bytes: usize) -> Response {
        let found = {
            let tokens: Vec<&str> = tokens(&request.path).collect();
            self.find(&request, &tokens)
        };
        let (route, params) = match found {
            Ok(found) => found,
            Err(response) => return *response,
        };
        request.params = params;
        let started = self.clock.monotonic();
        let method = method_label(&request.method);
        let request_bytes = approximate_bytes(&request, uri_bytes);
        let path = request.path.clone();
        let handler = Arc::clone(&route.handler);
        let outcome = AssertUnwindSafe(async move { handler(request).await }).catch_unwind().await;
        let response = outcome.unwrap_or_else(|panic| {
            tracing::error!(path, panic = panic_text(&*panic), "a request handler panicked");
            text(StatusCode::INTERNAL_SERVER_ERROR, "500: Internal Server Error")
        });
        if let Some(label) = route.label {
            let took = self.clock.monotonic().saturating_sub(started);
            let code = response.status();
            let labels = [("handler", label), ("method", method), ("code", code.as_str())];
            self.registry.add(&REQUESTS, &labels, 1);
            let labels = [("handler", label)];
            self.registry.observe(&DURATION, &labels, took.as_secs_f64() * 1e6);
            self.registry.observe(&REQUEST_SIZE, &labels, request_bytes as f64);
            self.registry.observe(&RESPONSE_SIZE, &labels, response.body().len() as f64);
        }
        response
    }

    fn find(&self, request: &Request, tokens: &[&str]) -> Result<(&Route, Params), Box<Response>> {
        let mut best: Option<(&Route, Params)> = None;
        let mut other_methods: Vec<&Method> = Vec::new();
        for route in &self.routes {
            let Some(params) = route.matches(&request.path, tokens) else { continue };
            if !route.takes(&request.method) {
                other_methods.extend(&route.methods);
            } else if best
                .as_ref()
                .is_none_or(|(own, _)| own.static_segments() < route.static_segments())
            {
                best = Some((route, params));
            }
        }
        match best {
            Some((route, _)) if route.json_only && !accepts_json(&request.headers) => {
                Err(Box::new(text(StatusCode::NOT_ACCEPTABLE, "406: Not Acceptable")))
            }
            Some(found) => Ok(found),
            None if !other_methods.is_empty() => Err(Box::new(not_allowed(&other_methods))),
            None if self.is_in_service(tokens) => {
                Err(Box::new(text(StatusCode::NOT_FOUND, "404: Page Not Found")))
            }
            None => Err(Box::new(not_found())),
        }
    }

    fn is_in_service(&self, tokens: &[&str]) -> bool {
        self.services.iter().any(|root| {
            tokens.len() >= root.len() && root.iter().zip(tokens).all(|(own, token)| own == token)
        })
    }
}

/// The method as a label. Clients may make up any number of others.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        Method::CONNECT => "connect",
        Method::TRACE => "trace",
        _ => "other",
    }
}

/// The segments of a path; slashes at its ends do not count.
fn tokens(path: &str) -> impl Iterator<Item = &str> {
    let trimmed = path.trim_matches('/');
    trimmed.split('/').filter(move |_| !trimmed.is_empty())
}

fn redirect(decoded: &str, query: Option<&str>) -> Option<Response> {
    let clean = path::clean(decoded);
    if clean == decoded {
        return None;
    }
    let mut target = path::encode(&clean);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    let link = target.replace('&', "&amp;").replace('\'', "&#39;");
    let mut response = html(format!("<a href=\"{link}\">Moved Permanently</a>.\n\n"));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(&target).ok()?;
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

fn not_found() -> Response {
    let mut response = text(StatusCode::NOT_FOUND, "404 page not found\n");
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn not_allowed(methods: &[&Method]) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if let Ok(allow) = HeaderValue::from_str(&names.join(", ")) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let Some(accept) = headers.get(ACCEPT) else { return true };
    let Ok(accept) = accept.to_str() else { return false };
    accept.is_empty()
        || accept
            .split(',')
            .filter_map(|part| part.split(';').next())
            .any(|media| matches!(media.trim(), "*/*" | "application/json"))
}

fn approximate_bytes(request: &Request, uri_bytes: usize) -> usize {
    let headers: usize =
        request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    uri_bytes + request.method.as_str().len() + "HTTP/1.1".len() + headers + request.body.len()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use heapster_store::SystemClock;
    use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};

    use super::*;

    fn router() -> Router {
        let mut router = Router::new(Arc::default(), Arc::new(SystemClock::new()));
        router.service("/api/v1/model");
        for pattern in [
            "/api/v1/model/{metrics}/{m}",
            "/api/v1/model/metrics",
            "/api/v1/model/metrics/{m:*}",
            "/api/v1/model/nodes/{node}/metrics/{m:*}",
        ] {
            router.route(Route::get_json(pattern, move |request| async move {
                let params = request.params;
                let seen = format!("{pattern} {} {}", params.get("node"), params.get("m"));
                text(StatusCode::OK, seen)
            }));
        }
        router.route(Route::exact("/healthz", |_| async { text(StatusCode::OK, "ok") }));
        router.route(Route::exact("/", |_| async { text(StatusCode::OK, "index") }));
        router.route(Route::exact("/panic", |_| async { panic!("on purpose") }));
        router
    }

    async fn ask(method: &str, uri: &str, headers: &[(http::HeaderName, &str)]) -> Response {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        router().handle(request.body(Bytes::new()).unwrap()).await
    }

    async fn check(method: &str, uri: &str, status: u16, body: &str) {
        let response = ask(method, uri, &[]).await;
        let seen = String::from_utf8_lossy(response.body()).into_owned();
        assert_eq!((response.status().as_u16(), seen.as_str()), (status, body), "{method} {uri}");
    }

    #[tokio::test]
    async fn the_route_with_more_fixed_segments_wins() {
        check("GET", "/api/v1/model/metrics", 200, "/api/v1/model/metrics  ").await;
        check("GET", "/api/v1/model/metrics/", 200, "/api/v1/model/metrics  ").await;
        let rest = "/api/v1/model/metrics/{m:*}  cpu/usage";
        check("GET", "/api/v1/model/metrics/cpu/usage", 200, rest).await;
        check("GET", "/api/v1/model/metrics/cpu%2Fusage/", 200, rest).await;
        check("GET", "/api/v1/model/metrics/x", 200, "/api/v1/model/metrics/{m:*}  x").await;
        check("GET", "/api/v1/model/other/x", 200, "/api/v1/model/{metrics}/{m}  x").await;
        let node = "/api/v1/model/nodes/{node}/metrics/{m:*} n 1 a/b";
        check("GET", "/api/v1/model/nodes/n%201/metrics/a/b", 200, node).await;
    }

    #[tokio::test]
    async fn what_is_not_there_is_refused_in_the_originals_words() {
        check("GET", "/api/v1/model", 404, "404: Page Not Found").await;
        check("GET", "/api/v1/model/", 404, "404: Page Not Found").await;
        check("POST", "/api/v1/model/a/b/c/d", 404, "404: Page Not Found").await;
        check("GET", "/api/v1/modelling", 404, "404 page not found\n").await;
        check("GET", "/healthz/", 404, "404 page not found\n").await;
        check("HEAD", "/api/v1/model/metrics", 405, "405: Method Not Allowed").await;
        check("POST", "/api/v1/model/metrics/x", 405, "405: Method Not Allowed").await;
        check("POST", "/healthz", 200, "ok").await;
        check("GET", "/", 200, "index").await;
        check("GET", "/%zz", 400, "400 Bad Request: malformed escape in path\n").await;
    }

    #[tokio::test]
    async fn an_unclean_path_is_redirected_with_its_query() {
        let response = ask("GET", "/api//v1/./model/../model/metrics?a=b&c", &[]).await;
        assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(response.headers()[LOCATION], "/api/v1/model/metrics?a=b&c");
        let body = "<a href=\"/api/v1/model/metrics?a=b&amp;c\">Moved Permanently</a>.\n\n";
        assert_eq!(response.body(), body);
    }

    #[tokio::test]
    async fn a_client_that_accepts_no_json_is_told_so() {
        for (accept, status) in [
            ("text/html", 406),
            ("application/*", 406),
            ("text/html, */*;q=0.1", 200),
            ("application/json;q=0.9", 200),
        ] {
            let response = ask("GET", "/api/v1/model/metrics", &[(ACCEPT, accept)]).await;
            assert_eq!(response.status().as_u16(), status, "{accept}");
        }
    }

    #[tokio::test]
    async fn answers_are_compressed_in_the_encoding_named_first() {
        use std::io::Read;
        for (accept, encoding) in
            [("gzip, deflate", "gzip"), ("deflate;q=0.1, gzip", "deflate"), ("br", "")]
        {
            let response = ask("GET", "/healthz", &[(ACCEPT_ENCODING, accept)]).await;
            let named = response.headers().get(CONTENT_ENCODING).map(|v| v.to_str().unwrap());
            assert_eq!(named.unwrap_or_default(), encoding);
            let mut body = String::new();
            let bytes = &response.body()[..];
            match encoding {
                "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut body).unwrap(),
                "deflate" => {
                    flate2::read::ZlibDecoder::new(bytes).read_to_string(&mut body).unwrap()
                }
                _ => (&mut &*bytes).read_to_string(&mut body).unwrap(),
            };
            assert_eq!(body, "ok");
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_handler_costs_one_request() {
        check("GET", "/panic", 500, "500: Internal Server Error").await;
        check("GET", "/healthz", 200, "ok").await;
    }
}
