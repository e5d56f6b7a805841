//! Who gets in, over real TLS, with real certificates and an API server that is simulated.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use heapster_server::access::front_proxy::Headers;
use heapster_server::access::gate::{AccessGate, Policy};
use heapster_server::access::reviews::Kept;
use heapster_server::access::settings::{Lookup, Sources};
use heapster_server::cli::{Access, Protection};
use heapster_server::http::{Caller, Gate, Route, Router, ServerOptions, serve_securely, text};
use heapster_server::secure::certificate::Pair;
use heapster_server::secure::listener::{ProtectError, protect};
use heapster_server::secure::self_signed::SelfSigned;
use heapster_server::secure::{Origin, Tls, TlsOptions, TlsVersion};
use heapster_server::sources::kubernetes;
use heapster_server::telemetry::Registry;
use heapster_store::{Clock, SystemClock};
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::fake::{Reply, Server};

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";

/// An authority that vouches for certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, as PEM.
#[derive(Clone)]
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    fn client(&self, name: &str, groups: &[&str]) -> Identity {
        self.issue(name, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            for group in groups {
                params.distinguished_name.push(DnType::OrganizationName, *group);
            }
        })
    }
}

/// An API server that knows one token and says what some users may do.
struct ApiServer {
    server: Server,
    is_down: Arc<AtomicBool>,
}

impl ApiServer {
    async fn start(client_ca: &str, proxy_ca: &str) -> Self {
        let is_down = Arc::new(AtomicBool::new(false));
        let map = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": { "name": "extension-apiserver-authentication" },
            "data": {
                "client-ca-file": client_ca,
                "requestheader-client-ca-file": proxy_ca,
                "requestheader-allowed-names": "[\"front-proxy-client\"]",
                "requestheader-username-headers": "[\"X-Remote-User\"]",
                "requestheader-group-headers": "[\"X-Remote-Group\"]",
                "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            },
        });
        let own = Arc::clone(&is_down);
        let server = Server::start("127.0.0.1:0", move |request| {
            if own.load(Ordering::Relaxed) {
                return Reply::Full("500 Internal Server Error", String::new(), Vec::new());
            }
            let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
            if request.line.contains("/configmaps/") {
                return Reply::json(&map);
            }
            if request.line.contains("/tokenreviews") {
                let status = match body["spec"]["token"].as_str() {
                    Some("good") => json!({ "authenticated": true,
                        "user": { "username": "alice", "groups": ["dev"] } }),
                    Some("nameless") => json!({ "authenticated": true, "user": {} }),
                    _ => json!({ "authenticated": false, "error": "token is expired" }),
                };
                return Reply::json(&json!({ "status": status }));
            }
            let spec = &body["spec"];
            let path = &spec["nonResourceAttributes"]["path"];
            let allowed = spec["user"] == "alice" || path == "/public";
            let reason = if spec["user"] == "bob" { "bob may nothing" } else { "" };
            Reply::json(&json!({ "status": { "allowed": allowed, "reason": reason } }))
        })
        .await;
        Self { server, is_down }
    }

    fn asked(&self, what: &str) -> usize {
        self.server.received().iter().filter(|request| request.line.contains(what)).count()
    }
}

/// A secure port, and what clients need to know of it.
struct Secured {
    address: SocketAddr,
    serving: Authority,
    stop: CancellationToken,
    /// Removed at the end.
    _dir: TempDir,
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn pair(dir: &Path, name: &str, identity: &Identity) -> Pair {
    Pair {
        certificate: write(dir, &format!("{name}.crt"), &identity.certificate),
        key: write(dir, &format!("{name}.key"), &identity.key),
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

fn access(api_server: Option<&ApiServer>) -> Access {
    let api_server = api_server.map(|own| {
        format!("kubernetes:http://{}?inClusterConfig=false", own.server.address).parse().unwrap()
    });
    let ten = Duration::from_secs(10);
    Access {
        sources: Sources { lookup: Lookup::Required, ..Sources::default() },
        policy: Policy {
            always_allow: vec!["/healthz".to_owned(), "/open/*".to_owned()],
            anonymous: true,
            allowed_users: Vec::new(),
        },
        api_server,
        kept: Kept { token: ten, allowed: ten, denied: ten },
    }
}

/// Answers every path with what of a request gets through the gate.
fn router() -> Router {
    let mut router = Router::new(Arc::new(Registry::default()), clock());
    let seen = |request: heapster_server::http::Request| async move {
        let names: Vec<&str> = request.headers.keys().map(http::HeaderName::as_str).collect();
        text(StatusCode::OK, format!("{} {}", request.path, names.join(",")))
    };
    router.route(Route::new(&[], "/{rest:*}", seen));
    router
}

impl Secured {
    async fn start(access: Access) -> Self {
        Self::start_with(access, ServerOptions::default()).await
    }

    async fn start_with(access: Access, options: ServerOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let serving = Authority::new("serving");
        let shown = serving.issue("heapster", |_| ());
        let tls = TlsOptions {
            origin: Origin::Files(pair(dir.path(), "serving", &shown)),
            by_name: Vec::new(),
            version_min: TlsVersion::V12,
        };
        let stop = CancellationToken::new();
        let protection = Protection { tls, access: Some(access) };
        let security = protect(&protection, &clock(), &stop).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(serve_securely(listener, Arc::new(router()), options, security, stopped));
        Self { address, serving, stop, _dir: dir }
    }

    async fn connect(&self, identity: Option<&Identity>, alpn: &[&str]) -> TlsStream<TcpStream> {
        connect(self.address, &self.serving.pem, identity, alpn).await.unwrap()
    }

    async fn ask(
        &self,
        identity: Option<&Identity>,
        headers: &[(&str, &str)],
        path: &str,
    ) -> (u16, String) {
        let stream = self.connect(identity, &["http/1.1"]).await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::get(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn connect(
    address: SocketAddr,
    authority: &str,
    identity: Option<&Identity>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    connect_as("localhost", address, authority, identity, alpn).await
}

async fn connect_as(
    name: &'static str,
    address: SocketAddr,
    authority: &str,
    identity: Option<&Identity>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn who_gets_in_is_who_may() {
    let (users, proxies, strangers) =
        (Authority::new("users"), Authority::new("proxies"), Authority::new("strangers"));
    let api_server = ApiServer::start(&users.pem, &proxies.pem).await;
    let secured = Secured::start(access(Some(&api_server))).await;

    let proxy = proxies.client("front-proxy-client", &[]);
    let other_name = proxies.client("somebody", &[]);
    let false_proxy = strangers.client("front-proxy-client", &[]);
    let (alice, bob) = (users.client("alice", &[]), users.client("bob", &[]));
    let admin = users.client("root", &["system:masters"]);
    let stranger = strangers.client("alice", &["system:masters"]);
    let ended = users.issue("alice", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let of_a_server = users.issue("alice", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });

    let of_two_names = users.issue("bob", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // A second common name.
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "alice");
    });

    let named = [("x-remote-user", "alice")];
    let masters = [("x-remote-user", "eve"), ("x-remote-group", "system:masters")];
    let nobody = [("x-remote-user", "eve")];
    let (good, expired) = ([("authorization", "Bearer good")], [("authorization", "Bearer old")]);
    let nameless = [("authorization", "Bearer nameless")];
    let odd = [("authorization", "Digest x")];
    let as_another = [good[0], ("impersonate-user", "bob")];
    for (what, identity, headers, path, status) in [
        ("the front proxy for alice", Some(&proxy), &named[..], NODES, 200),
        ("the front proxy for a master", Some(&proxy), &masters, NODES, 200),
        ("the front proxy for eve", Some(&proxy), &nobody, NODES, 403),
        ("the front proxy for nobody", Some(&proxy), &[], NODES, 401),
        ("a proxy of another name", Some(&other_name), &named, NODES, 401),
        ("a proxy of another authority", Some(&false_proxy), &named, NODES, 401),
        ("forged headers without a certificate", None, &named, NODES, 403),
        ("forged masters without a certificate", None, &masters, NODES, 403),
        ("forged headers beside a user's certificate", Some(&bob), &named, NODES, 403),
        ("forged masters beside a user's certificate", Some(&bob), &masters, NODES, 403),
        ("forged headers beside a token", None, &[masters[0], masters[1], expired[0]], NODES, 401),
        ("alice's certificate", Some(&alice), &[], NODES, 200),
        ("bob's certificate", Some(&bob), &[], NODES, 403),
        ("a master's certificate", Some(&admin), &[], "/metrics", 200),
        ("a stranger's certificate", Some(&stranger), &[], NODES, 401),
        ("a certificate that ended", Some(&ended), &[], NODES, 401),
        ("a server's certificate", Some(&of_a_server), &[], NODES, 401),
        ("a certificate of two names", Some(&of_two_names), &[], NODES, 401),
        ("a stranger's certificate and a token", Some(&stranger), &good, NODES, 200),
        ("a token", None, &good, NODES, 200),
        ("a token for a path", None, &good, "/metrics", 200),
        ("a token that ended or is for others", None, &expired, NODES, 401),
        ("a token in the name of another", None, &as_another, NODES, 403),
        ("a token of nobody", None, &nameless, NODES, 401),
        ("an unknown way to show who one is", None, &odd, NODES, 401),
        ("nobody", None, &[], NODES, 403),
        ("nobody, for what is public", None, &[], "/public", 200),
        ("nobody, for health", None, &[], "/healthz", 200),
        ("nobody, for an open path", None, &[], "/open/to/all", 200),
        ("nobody, for more than health", None, &[], "/healthz/more", 403),
        ("a stranger, for health", Some(&stranger), &[], "/healthz", 200),
        ("a bad token, for health", None, &expired, "/healthz", 200),
    ] {
        let (own, body) = secured.ask(identity, headers, path).await;
        assert_eq!(own, status, "{what}: {body}");
        // Nothing behind the gate sees what was shown.
        assert!(!body.contains("x-remote") && !body.contains("authorization"), "{what}: {body}");
    }

    // The words are those of an API server.
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/metrics-api");
    let said = |name: &str| std::fs::read_to_string(testdata.join(name)).unwrap();
    assert_eq!(secured.ask(None, &[], PODS).await.1, said("status_403_list_pods.json"));
    assert_eq!(secured.ask(None, &expired, PODS).await.1, said("status_401.json"));
    let (_, body) = secured.ask(Some(&bob), &[], &format!("{PODS}/p")).await;
    assert!(
        body.contains("pods.metrics.k8s.io \\\"p\\\" is forbidden: User \\\"bob\\\" cannot get"),
        "{body}"
    );
    assert!(body.contains("in the namespace \\\"default\\\": bob may nothing"), "{body}");
    let (_, body) = secured.ask(None, &[], "/metrics").await;
    assert!(
        body.contains("forbidden: User \\\"system:anonymous\\\" cannot get path \\\"/metrics\\\""),
        "{body}"
    );
}

#[tokio::test]
async fn what_the_api_server_said_is_remembered_and_without_it_nobody_new_gets_in() {
    let (users, proxies) = (Authority::new("users"), Authority::new("proxies"));
    let api_server = ApiServer::start(&users.pem, &proxies.pem).await;
    let secured = Secured::start(access(Some(&api_server))).await;
    let good = [("authorization", "Bearer good")];
    for _ in 0..3 {
        assert_eq!(secured.ask(None, &good, NODES).await.0, 200);
        assert_eq!(secured.ask(None, &[("authorization", "Bearer bad")], NODES).await.0, 401);
        assert_eq!(secured.ask(None, &[], NODES).await.0, 403);
    }
    assert_eq!(
        (api_server.asked("/tokenreviews"), api_server.asked("/subjectaccessreviews")),
        (2, 2)
    );

    api_server.is_down.store(true, Ordering::Relaxed);
    assert_eq!(secured.ask(None, &good, NODES).await.0, 200, "it is remembered");
    assert_eq!(secured.ask(None, &good, "/metrics").await.0, 403, "nobody says that alice may");
    assert_eq!(secured.ask(None, &[("authorization", "Bearer new")], NODES).await.0, 401);
    assert_eq!(secured.ask(None, &[], "/healthz").await.0, 200);
    let admin = users.client("root", &["system:masters"]);
    assert_eq!(secured.ask(Some(&admin), &[], "/metrics").await.0, 200);
}

#[tokio::test]
async fn a_cluster_that_does_not_say_whom_it_trusts_is_no_reason_to_trust_anybody() {
    let users = Authority::new("users");
    let api_server = ApiServer::start(&users.pem, &users.pem).await;
    api_server.is_down.store(true, Ordering::Relaxed);
    let dir = tempfile::tempdir().unwrap();
    let mut access = access(Some(&api_server));
    let own = SelfSigned { dir: dir.path().join("certs"), names: vec!["localhost".to_owned()] };
    let tls =
        TlsOptions { origin: Origin::Own(own), by_name: Vec::new(), version_min: TlsVersion::V13 };
    let stop = CancellationToken::new();
    let protection = Protection { tls: tls.clone(), access: Some(access.clone()) };
    let error = protect(&protection, &clock(), &stop).await.err().unwrap();
    assert!(matches!(error, ProtectError::Access(_)), "{error}");
    assert!(error.to_string().contains("extension-apiserver-authentication-reader"), "{error}");
    access.sources.lookup = Lookup::Tolerant;
    let secured = Secured::start(access).await;
    let alice = users.client("alice", &[]);
    assert_eq!(secured.ask(Some(&alice), &[], NODES).await.0, 401);
}

#[tokio::test]
async fn whom_the_cluster_trusted_before_it_fell_silent_stays_trusted() {
    let users = Authority::new("users");
    let api_server = ApiServer::start(&users.pem, &users.pem).await;
    let mut access = access(Some(&api_server));
    access.sources.lookup = Lookup::Tolerant;
    let client = kubernetes::client(access.api_server.as_ref().unwrap()).await.unwrap();
    let admin = users.client("root", &["system:masters"]).certificate;
    let admin = CertificateDer::from_pem_slice(admin.as_bytes()).unwrap();
    let caller = Caller { address: ([127, 0, 0, 1], 1).into(), certificates: vec![admin] };
    let gate = AccessGate::new(access.sources, access.policy, Some(client), None, clock()).await;
    let gate = gate.unwrap();
    for is_down in [false, true, true] {
        api_server.is_down.store(is_down, Ordering::Relaxed);
        gate.reload().await.unwrap();
        let (mut head, ()) = http::Request::get(NODES).body(()).unwrap().into_parts();
        assert!(gate.admit(&caller, &mut head).await.is_ok(), "{is_down}");
    }
    assert_eq!(api_server.asked("/configmaps/"), 4);
}

#[tokio::test]
async fn users_of_files_get_in_without_a_cluster() {
    let users = Authority::new("users");
    let dir = tempfile::tempdir().unwrap();
    let mut access = access(None);
    let tokens = write(dir.path(), "tokens", "secret,alice,1,\"a,b\"\n");
    access.sources = Sources {
        client_ca_file: Some(write(dir.path(), "ca", &users.pem)),
        token_file: Some(tokens),
        basic_file: Some(write(dir.path(), "basic", "pw,carol,2\n")),
        request_headers: Headers::default(),
        ..Sources::default()
    };
    access.policy.allowed_users = vec!["alice".to_owned(), "carol".to_owned()];
    let secured = Secured::start(access).await;
    let basic = |text: &str| {
        use base64::Engine;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    };
    let (carol, wrong) = (basic("carol:pw"), basic("carol:other"));
    for (header, status) in
        [("Bearer secret", 200), ("Bearer other", 401), (&carol, 200), (&wrong, 401)]
    {
        let headers = [("authorization", header)];
        assert_eq!(secured.ask(None, &headers, "/metrics").await.0, status, "{header}");
    }
    assert_eq!(secured.ask(Some(&users.client("alice", &[])), &[], "/metrics").await.0, 200);
    for groups in [&[][..], &["system:masters"]] {
        let bob = users.client("bob", groups);
        assert_eq!(secured.ask(Some(&bob), &[], "/metrics").await.0, 403, "{groups:?}");
    }
    assert_eq!(secured.ask(None, &[], "/metrics").await.0, 403);
}

#[tokio::test]
async fn files_of_users_are_read_again_and_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = write(dir.path(), "tokens", "old,alice,1\n");
    let sources = Sources { token_file: Some(tokens), ..Sources::default() };
    let gate = AccessGate::new(sources, Policy::default(), None, None, clock()).await.unwrap();
    let caller = Caller { address: ([127, 0, 0, 1], 1).into(), certificates: Vec::new() };
    let is_in = async |token: &str| {
        let request =
            http::Request::get("/metrics").header("authorization", format!("Bearer {token}"));
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        gate.admit(&caller, &mut head).await.is_ok()
    };
    assert!(is_in("old").await && !is_in("new").await);
    write(dir.path(), "tokens", "new,alice,1\n");
    gate.reload().await.unwrap();
    assert!(is_in("new").await && !is_in("old").await);
    write(dir.path(), "tokens", "secret\n");
    let error = gate.reload().await.unwrap_err().to_string();
    assert!(error.contains("user 1 has not the form") && !error.contains("secret"), "{error}");
    assert!(is_in("new").await);
    // Cut after a mebibyte, the last line would be a user without groups.
    write(dir.path(), "tokens", &"other,bob,1,\"a,b\"\n".repeat(70_000));
    let error = gate.reload().await.unwrap_err();
    assert!(
        std::error::Error::source(&error).is_some_and(|why| why.to_string().contains("more than")),
        "{error}"
    );
    assert!(is_in("new").await);
}

#[tokio::test]
async fn our_own_certificate_is_kept_for_us_alone_and_renewed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let own = SelfSigned { dir: dir.path().join("certs"), names: vec!["localhost".to_owned()] };
    let options = TlsOptions {
        origin: Origin::Own(own.clone()),
        by_name: Vec::new(),
        version_min: TlsVersion::V12,
    };
    let read = |name: &str| std::fs::read_to_string(own.dir.join(name)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    Tls::new(options.clone(), clock()).await.unwrap();
    let first = read("apiserver.crt");
    assert_eq!((mode(&own.dir), mode(&own.dir.join("apiserver.key"))), (0o700, 0o600));
    Tls::new(options.clone(), clock()).await.unwrap();
    assert_eq!(read("apiserver.crt"), first, "it is good for a year");

    // What ends within a month, and what is broken, is made anew.
    let soon = crate::recording::SteppedClock::at(
        clock().now().saturating_add(Duration::from_secs(340 * 86_400)),
    );
    Tls::new(options.clone(), soon).await.unwrap();
    let second = read("apiserver.crt");
    assert_ne!(second, first);
    std::fs::write(own.dir.join("apiserver.crt"), "half").unwrap();
    Tls::new(options, clock()).await.unwrap();
    assert_ne!(read("apiserver.crt"), second);
}

#[tokio::test]
async fn rotated_files_are_shown_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = pair(dir.path(), "default", &old.issue("heapster", |_| ()));
    let named = pair(
        dir.path(),
        "named",
        &old.issue("named", |params| {
            *params = CertificateParams::new(vec!["other.example".to_owned()]).unwrap();
        }),
    );
    let options = TlsOptions {
        origin: Origin::Files(files),
        by_name: vec![(named, Vec::new())],
        version_min: TlsVersion::V13,
    };
    let tls = Tls::new(options, clock()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&tls.config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await });
        }
    });
    let trusts = async |authority: &Authority, name| {
        connect_as(name, address, &authority.pem, None, &[]).await.is_ok()
    };
    assert!(trusts(&old, "localhost").await && trusts(&old, "other.example").await);
    assert!(!trusts(&new, "localhost").await);

    pair(dir.path(), "default", &new.issue("heapster", |_| ()));
    tls.reload().await.unwrap();
    assert!(trusts(&new, "localhost").await && !trusts(&old, "localhost").await);
    assert!(trusts(&old, "other.example").await);
    write(dir.path(), "default.key", "no key");
    let error = tls.reload().await.unwrap_err().to_string();
    assert!(error.ends_with("cannot be used: there is no key"), "{error}");
    assert!(trusts(&new, "localhost").await);
}

/// A hostile client does its worst from one address while another is answered from another.
async fn answers_meanwhile(secured: &Secured) {
    let clock = SystemClock::new();
    let started = clock.monotonic();
    let (status, _) = secured.ask(None, &[], "/healthz").await;
    assert_eq!(status, 200);
    let took = clock.monotonic().saturating_sub(started);
    println!("answered in {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// A connection from another address of this machine.
async fn from(ip: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((ip, 0)))?;
    socket.connect(to).await
}

#[tokio::test]
async fn hostile_clients_are_bounded_and_others_are_answered() {
    let options = ServerOptions {
        handshake_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(300),
        client_connections_max: 16,
        ..ServerOptions::default()
    };
    let secured = Secured::start_with(access(None), options).await;

    // Many connections that say nothing: all but a few are closed at once, those soon.
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(from([127, 0, 0, 9], secured.address).await.unwrap());
    }
    answers_meanwhile(&secured).await;
    for stream in &mut idle {
        let mut byte = [0];
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut byte)).await;
        assert!(matches!(closed.unwrap(), Ok(0) | Err(_)), "it is closed");
    }

    // What is no TLS at all.
    let mut garbage = from([127, 0, 0, 9], secured.address).await.unwrap();
    garbage.write_all(&[0x5a; 4096]).await.unwrap();
    let mut answer = Vec::new();
    let _ = garbage.read_to_end(&mut answer).await;
    assert!(answer.len() < 64, "an alert at most");
    answers_meanwhile(&secured).await;

    // Headers that come slowly, and too many of them.
    let mut slow = secured.connect(None, &["http/1.1"]).await;
    slow.write_all(b"GET /healthz HTTP/1.1\r\nx").await.unwrap();
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(20), slow.read_to_end(&mut answer)).await.unwrap();
    let mut many = secured.connect(None, &["http/1.1"]).await;
    let headers = "a: b\r\n".repeat(100_000);
    let _ = many.write_all(format!("GET /healthz HTTP/1.1\r\n{headers}\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = many.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    answers_meanwhile(&secured).await;

    // A body of a gigabyte is refused before a byte of it is read.
    let mut large = secured.connect(None, &["http/1.1"]).await;
    let head = "POST /open/x HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n";
    large.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    large.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    answers_meanwhile(&secured).await;
}

#[tokio::test]
async fn who_says_nothing_makes_room_for_who_asks() {
    let hour = Duration::from_secs(3600);
    let options = ServerOptions {
        handshake_timeout: hour,
        header_timeout: hour,
        idle_timeout: hour,
        connections_max: 8,
        ..ServerOptions::default()
    };
    let secured = Secured::start_with(access(None), options).await;
    let mut silent = Vec::new();
    for host in 1..=40 {
        silent.push(from([127, 0, 1, host], secured.address).await.unwrap());
    }
    let mut shaken = Vec::new();
    for alpn in ["http/1.1", "h2"].repeat(6) {
        shaken.push(secured.connect(None, &[alpn]).await);
    }
    answers_meanwhile(&secured).await;
    // Those that came last may have stayed.
    for stream in &mut silent[..30] {
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)), "it is closed");
    }
}

#[tokio::test]
async fn answers_that_a_client_does_not_read_count_as_its_requests() {
    let options = ServerOptions { client_requests_max: 3, ..ServerOptions::default() };
    let secured = Secured::start_with(access(None), options).await;
    let stream = secured.connect(None, &["h2"]).await;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    // Takes no byte of a body.
    builder.initial_stream_window_size(0);
    let (mut sender, connection) =
        builder.handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async || {
        let request = http::Request::get("https://localhost/healthz").body(Full::default());
        sender.ready().await.unwrap();
        sender.send_request(request.unwrap()).await.unwrap()
    };
    let unread = [ask().await, ask().await, ask().await];
    assert!(unread.iter().all(|answer| answer.status() == 200));
    assert_eq!(ask().await.status(), 429);
    assert_eq!(secured.ask(None, &[], "/healthz").await.0, 429, "the same client");
    drop(unread);
    // The server is told on the same connection before it is asked again.
    let mut status = ask().await.status();
    for _ in 0..100 {
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        status = ask().await.status();
    }
    assert_eq!(status, 200);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn requests_that_are_called_off_at_once_end_the_connection() {
    let secured = Secured::start(access(None)).await;
    let mut stream = secured.connect(None, &["h2"]).await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // GET / over https, in HPACK.
    let head = [0x82, 0x84, 0x87, 0x41, 0x01, b'a'];
    for request in 0..5_000_u32 {
        bytes.extend(frame(1, 0x5, 2 * request + 1, &head));
        bytes.extend(frame(3, 0, 2 * request + 1, &8_u32.to_be_bytes()));
    }
    let (mut read, mut written) = tokio::io::split(&mut stream);
    let write = async move {
        // Fails when the server has had enough.
        let _ = written.write_all(&bytes).await;
        std::future::pending::<()>().await;
    };
    let mut answer = Vec::new();
    let ended = async {
        let _ = read.read_to_end(&mut answer).await;
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! { () = write => (), () = ended => () }
    });
    outcome.await.expect("the server ends the connection");
    // GOAWAY with ENHANCE_YOUR_CALM.
    assert!(answer.windows(4).any(|four| four == 11_u32.to_be_bytes()), "{} bytes", answer.len());
    answers_meanwhile(&secured).await;
}
