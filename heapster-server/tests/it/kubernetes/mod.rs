//! A cluster is watched and its kubelets are asked, whatever API server and nodes do meanwhile.

pub(crate) mod fake;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fake::{Cluster, Reply, Server, node, pod, summary};
use heapster_core::pipeline::{Interval, Scrape, Source, SourceError};
use heapster_core::{EntityKey, Timestamp};
use heapster_server::sources::kubernetes::{Kubernetes, connect};
use heapster_server::telemetry::Registry;
use heapster_server::uri::Uri;
use heapster_store::{Clock, SystemClock};
use serde_json::json;

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(path)
}

/// A cluster being watched, with what it was made of.
struct Watched {
    kubernetes: Kubernetes,
    registry: Arc<Registry>,
}

impl Watched {
    async fn start(flag: &str) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let registry = Arc::new(Registry::new(clock.clone()));
        let uri: Uri = flag.parse().unwrap();
        let kubernetes = connect(&uri, registry.clone(), clock).await.unwrap();
        Self { kubernetes, registry }
    }

    /// Watches a fake cluster that answers, until its objects are there.
    async fn synced(flag: &str) -> Self {
        let watched = Self::start(flag).await;
        let mut synced = watched.kubernetes.synced.clone();
        let wait = synced.wait_for(|synced| *synced);
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
        watched
    }

    fn source_names(&self) -> Vec<String> {
        let sources = self.kubernetes.provider.sources();
        sources.iter().map(|source| source.name().to_owned()).collect()
    }

    fn only_source(&self) -> Arc<dyn Source> {
        let mut sources = self.kubernetes.provider.sources();
        assert_eq!(sources.len(), 1);
        sources.remove(0)
    }
}

fn interval() -> Interval {
    let at = |text| Timestamp::parse_rfc3339(text).unwrap();
    Interval { start: at("2026-01-01T00:00:00Z"), end: at("2026-01-01T00:01:00Z") }
}

async fn scrape(source: &Arc<dyn Source>) -> Result<Scrape, SourceError> {
    source.scrape(interval()).await
}

fn keys(scrape: &Scrape) -> Vec<String> {
    scrape.sets.iter().map(|(key, _)| key.to_string()).collect()
}

/// An error with its causes.
fn told(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Waits for something that another task will bring about.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

async fn api(cluster: &Cluster) -> Server {
    let cluster = cluster.clone();
    Server::start("127.0.0.1:0", move |request| cluster.reply(request)).await
}

fn flag(api: &Server, options: &str) -> String {
    format!("kubernetes.summary_api:http://{}?inClusterConfig=false{options}", api.address)
}

/// A cluster of one node whose kubelet answers as told, scraped once.
async fn scrape_of(
    options: &str,
    kubelet: impl Fn(&fake::Received) -> Reply + Send + Sync + 'static,
) -> Result<Scrape, SourceError> {
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    let kubelet = Server::start("127.1.0.1:0", kubelet).await;
    let api = api(&cluster).await;
    let port = kubelet.address.port();
    let watched = Watched::synced(&flag(&api, &format!("&kubeletPort={port}{options}"))).await;
    scrape(&watched.only_source()).await
}

#[tokio::test]
async fn objects_are_listed_and_kept_up_to_date() {
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    cluster.add("namespaces", json!({ "metadata": { "name": "default", "uid": "ns-1" } }));
    cluster.add("pods", pod("web", "n1"));
    let api = api(&cluster).await;
    let watched = Watched::synced(&flag(&api, "")).await;
    let view = &watched.kubernetes.cluster;
    assert_eq!(view.nodes()[0].capacity.get("cpu"), Some(&2000));
    assert_eq!(view.namespace("default").unwrap().uid, "ns-1");
    let web = view.pod("default", "web").unwrap();
    assert_eq!(web.containers[0].requests.get("cpu"), Some(&100));

    cluster.add("pods", pod("db", "n1"));
    eventually("the new pod is seen", || view.pod("default", "db").is_some()).await;
    cluster.delete("pods", pod("web", "n1"));
    eventually("the deleted pod is gone", || view.pod("default", "web").is_none()).await;
    assert!(watched.kubernetes.watches().iter().all(|watch| watch.failure.is_none()));
}

#[tokio::test]
async fn only_nodes_that_are_ready_are_sources() {
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    cluster.add("nodes", node("n2", "127.1.0.2", "False"));
    cluster.add("nodes", node("n3", "fd01::3", "True"));
    let api = api(&cluster).await;
    let watched = Watched::synced(&flag(&api, "&kubeletPort=10255")).await;
    assert_eq!(
        watched.source_names(),
        ["kubelet_summary:127.1.0.1:10255", "kubelet_summary:fd01::3:10255"]
    );
    cluster.modify("nodes", node("n2", "127.1.0.2", "True"));
    eventually("the node became ready", || watched.source_names().len() == 3).await;
    cluster.delete("nodes", node("n1", "127.1.0.1", "True"));
    eventually("the deleted node is no source", || watched.source_names().len() == 2).await;
}

#[tokio::test]
async fn a_node_yields_its_sets_over_one_connection_and_its_latency() {
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    let kubelet =
        Server::start("127.1.0.1:0", |_| Reply::json(&summary("other-name", "ghost"))).await;
    let api = api(&cluster).await;
    let port = kubelet.address.port();
    let watched = Watched::synced(&flag(&api, &format!("&kubeletPort={port}"))).await;
    for _ in 0..3 {
        let scrape = scrape(&watched.only_source()).await.unwrap();
        assert_eq!(
            keys(&scrape),
            ["node:n1", "namespace:default/pod:ghost", "namespace:default/pod:ghost/container:c"]
        );
        assert_eq!(scrape.sets[0].1.labels.value("hostname"), "n1.host");
    }
    let received = kubelet.received();
    assert_eq!(received.len(), 3);
    assert_eq!(received[0].line, "GET /stats/summary/ HTTP/1.1");
    assert_eq!(received[0].header("authorization"), None);
    assert_eq!(*kubelet.connections.lock().unwrap(), 1, "the connection is reused");

    let series = "heapster_kubelet_summary_request_duration_milliseconds_count{node=\"n1.host\"} 3";
    assert!(watched.registry.render().contains(series), "{}", watched.registry.render());
    cluster.delete("nodes", node("n1", "127.1.0.1", "True"));
    eventually("the node is gone", || watched.source_names().is_empty()).await;
    assert!(!watched.registry.render().contains("n1.host"));
}

#[tokio::test]
async fn the_legacy_endpoint_is_asked_for_the_interval() {
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    let answer = json!({ "/": { "name": "/", "spec": { "has_cpu": true },
        "stats": [{ "timestamp": "2026-01-01T00:00:30Z", "cpu": { "usage": { "total": 9 } } }] } });
    let kubelet = Server::start("127.1.0.1:0", move |_| Reply::json(&answer)).await;
    let api = api(&cluster).await;
    let flag = format!(
        "kubernetes:http://{}?inClusterConfig=false&kubeletPort={}",
        api.address,
        kubelet.address.port()
    );
    let watched = Watched::synced(&flag).await;
    let source = watched.only_source();
    assert_eq!(source.name(), format!("kubelet:127.1.0.1:{}", kubelet.address.port()));
    let scrape = scrape(&source).await.unwrap();
    assert_eq!(keys(&scrape), ["node:n1"]);
    assert_eq!(scrape.sets[0].1.metrics.int("cpu/usage"), Some(9));
    let request = kubelet.received().remove(0);
    assert_eq!(request.line, "POST /stats/container/ HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert!(request.body.contains(r#""start":"2026-01-01T00:00:00Z""#), "{}", request.body);
}

#[tokio::test]
async fn a_large_answer_is_read_and_a_huge_one_refused() {
    let padded = |bytes: usize| {
        let mut body = summary("n1", "p");
        body["padding"] = "x".repeat(bytes).into();
        body
    };
    let scraped = scrape_of("", move |_| Reply::json(&padded(1 << 20))).await.unwrap();
    assert_eq!(scraped.sets.len(), 3);
    let announced = scrape_of("", move |_| Reply::json(&padded(17 << 20))).await.unwrap_err();
    assert!(told(&announced).contains("larger than 16777216 bytes"), "{}", told(&announced));
    // Without a length in its head the answer must be counted as it comes.
    let endless = |_: &fake::Received| {
        let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        bytes.resize(17 << 20, b' ');
        Reply::Raw(bytes)
    };
    let counted = scrape_of("", endless).await.unwrap_err();
    assert!(told(&counted).contains("larger than 16777216 bytes"), "{}", told(&counted));
}

#[tokio::test]
async fn a_bad_answer_is_a_clear_error() {
    let of = |status, headers: &str, body: &str| {
        Reply::Full(status, headers.to_owned(), body.as_bytes().to_vec())
    };
    let check = async |reply: Reply, expected: &str| {
        let reply = std::sync::Mutex::new(Some(reply));
        let kubelet = move |_: &fake::Received| {
            reply.lock().unwrap().take().unwrap_or(Reply::Full("204 No", String::new(), vec![]))
        };
        let error = scrape_of("", kubelet).await.unwrap_err();
        assert!(told(&error).contains(expected), "{expected}\n{}", told(&error));
        assert!(told(&error).len() < 2000);
    };
    check(of("404 Not Found", "", ""), "/stats/summary/\" not found").await;
    check(
        of("500 Internal Server Error", "", "it \"hurts\""),
        r#"request failed - "500 Internal Server Error", response: "it \"hurts\"""#,
    )
    .await;
    check(of("403 Forbidden", "", "no"), "needs the permission nodes/stats").await;
    check(
        of("302 Found", "Location: http://169.254.169.254/\r\n", ""),
        "302 Found to \"http://169.254.169.254/\"; redirects are not followed",
    )
    .await;
    check(
        of("200 OK", "", "<html>"),
        "failed to parse output. Response: \"<html>\": the answer could not be decoded",
    )
    .await;
    check(of("200 OK", "", &"x".repeat(100_000)), "…\": the answer could not be").await;
    check(of("200 OK", "Content-Encoding: gzip\r\n", "\u{1f}"), "encoded as \"gzip\"").await;
    let truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"node\":".to_vec();
    check(Reply::Raw(truncated), "answer broke off").await;
    check(Reply::Raw(b"nonsense".to_vec()), "could not ask the kubelet").await;
}

#[tokio::test]
async fn a_node_that_hangs_or_drips_ends_at_its_deadline() {
    for drips in [false, true] {
        let started = SystemClock::new();
        let body = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{".repeat(1000);
        let kubelet = move |_: &fake::Received| match drips {
            true => Reply::Drip(body.clone()),
            false => Reply::Hang,
        };
        let error = scrape_of("&scrapeTimeout=300ms", kubelet).await.unwrap_err();
        assert!(told(&error).contains("no complete answer within 0.3 s"), "{}", told(&error));
        assert!(started.monotonic() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn an_abandoned_scrape_does_no_harm_to_the_next() {
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let kubelet =
        Server::start("127.1.0.1:0", move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Hang,
            _ => Reply::json(&summary("n1", "p")),
        })
        .await;
    let api = api(&cluster).await;
    let port = kubelet.address.port();
    let watched = Watched::synced(&flag(&api, &format!("&kubeletPort={port}"))).await;
    let source = watched.only_source();
    let abandoned = tokio::time::timeout(Duration::from_millis(200), scrape(&source)).await;
    assert!(abandoned.is_err());
    assert_eq!(scrape(&source).await.unwrap().sets.len(), 3);
}

#[tokio::test]
async fn a_pod_of_another_node_is_left_out() {
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    cluster.add("pods", pod("elsewhere", "n2"));
    let kubelet = Server::start("127.1.0.1:0", |_| Reply::json(&summary("n1", "elsewhere"))).await;
    let api = api(&cluster).await;
    let port = kubelet.address.port();
    let watched = Watched::synced(&flag(&api, &format!("&kubeletPort={port}"))).await;
    let dropped = scrape(&watched.only_source()).await.unwrap();
    assert_eq!(keys(&dropped), ["node:n1"]);
    assert_eq!(dropped.rejects, ["namespace:default/pod:elsewhere: runs on another node"]);
    let options = format!("&kubeletPort={port}&podsOfOtherNodes=keep");
    let watched = Watched::synced(&flag(&api, &options)).await;
    assert_eq!(scrape(&watched.only_source()).await.unwrap().sets.len(), 3);
}

#[tokio::test]
async fn a_forgotten_position_leads_to_a_new_list() {
    let cluster = Cluster::default();
    cluster.add("pods", pod("old", "n1"));
    let api = api(&cluster).await;
    let watched = Watched::synced(&flag(&api, "")).await;
    let view = &watched.kubernetes.cluster;
    eventually("all is watched", || cluster.watcher_count() == 3).await;
    // The end of the pod is never told; only the list after the 410 shows it.
    cluster.delete_silently("pods", "old");
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    cluster.forget();
    eventually("the pod is gone", || view.pod("default", "old").is_none()).await;
    eventually("the node is seen", || view.nodes().len() == 1).await;
}

#[tokio::test]
async fn an_api_server_that_is_down_is_waited_for_and_its_objects_kept() {
    let cluster = Cluster::default();
    cluster.add("pods", pod("web", "n1"));
    let first = api(&cluster).await;
    let address = first.address;
    drop(first);

    // Down at the start: no error, no objects, and the reason is told.
    let uri = format!("kubernetes.summary_api:http://{address}?inClusterConfig=false");
    let watched = Watched::start(&uri).await;
    let view = &watched.kubernetes.cluster;
    let failing = || watched.kubernetes.watches().iter().all(|watch| watch.failure.is_some());
    eventually("the failure is noted", failing).await;
    assert!(watched.source_names().is_empty() && !*watched.kubernetes.synced.borrow());

    let serve = || {
        let cluster = cluster.clone();
        Server::start(Box::leak(address.to_string().into_boxed_str()), move |request| {
            cluster.reply(request)
        })
    };
    let second = serve().await;
    eventually("the pod is seen", || view.pod("default", "web").is_some()).await;
    eventually("all is well", || *watched.kubernetes.synced.borrow()).await;

    // Down again: what was seen stays.
    drop(second);
    eventually("the failure is noted", failing).await;
    assert!(view.pod("default", "web").is_some());
    cluster.delete_silently("pods", "web");
    cluster.forget();
    let _third = serve().await;
    eventually("the pod is gone", || view.pod("default", "web").is_none()).await;
}

/// A kubeconfig for the fake API server with a token file, and the flag that uses it.
fn with_token_file(folder: &Path, api: &Server, options: &str) -> String {
    let token = folder.join("token");
    let kubeconfig = folder.join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}]\n\
         users: [{{name: u, user: {{tokenFile: \"{}\"}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        api.address,
        token.display()
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let kubeconfig = kubeconfig.display();
    format!("kubernetes.summary_api:?inClusterConfig=false&auth={kubeconfig}{options}")
}

#[tokio::test]
async fn a_refused_token_is_read_again_and_tried_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    let kubelet =
        Server::start_tls("127.1.0.1:0", |request| match request.header("authorization") {
            Some("Bearer new-secret") => Reply::json(&summary("n1", "p")),
            _ => Reply::Full("401 Unauthorized", String::new(), b"who?".to_vec()),
        })
        .await;
    let api = api(&cluster).await;
    let options = format!(
        "&kubeletHttps=true&kubeletPort={}&kubeletCAFile={}",
        kubelet.address.port(),
        testdata("tls/ca.pem").display()
    );
    std::fs::write(folder.path().join("token"), "old-secret").unwrap();
    let watched = Watched::synced(&with_token_file(folder.path(), &api, &options)).await;
    let source = watched.only_source();

    let error = scrape(&source).await.unwrap_err();
    assert!(told(&error).contains("401 Unauthorized"), "{}", told(&error));
    assert!(!format!("{error:?} {}", told(&error)).contains("secret"));
    assert_eq!(kubelet.received().len(), 1, "the same token is not shown twice");

    std::fs::write(folder.path().join("token"), "new-secret").unwrap();
    assert_eq!(scrape(&source).await.unwrap().sets.len(), 3);
    let shown: Vec<_> = kubelet
        .received()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(shown, ["Bearer old-secret", "Bearer old-secret", "Bearer new-secret"]);
}

#[tokio::test]
async fn the_token_is_only_shown_to_a_verified_kubelet_or_by_choice() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret").unwrap();
    let cluster = Cluster::default();
    cluster.add("nodes", node("n1", "127.1.0.1", "True"));
    let answer = |_: &fake::Received| Reply::json(&summary("n1", "p"));
    let plain = Server::start("127.1.0.1:0", answer).await;
    let tls = Server::start_tls("127.1.0.1:0", answer).await;
    let api = api(&cluster).await;
    let ca = format!("&kubeletCAFile={}", testdata("tls/ca.pem").display());
    let secure = format!("&kubeletHttps=true&kubeletPort={}", tls.address.port());
    for (kubelet, options, shown) in [
        (&plain, format!("&kubeletPort={}{ca}", plain.address.port()), None),
        (&tls, secure.clone(), None),
        (&tls, format!("{secure}&kubeletInsecureTls=true"), Some("Bearer secret")),
        (&tls, format!("{secure}{ca}"), Some("Bearer secret")),
    ] {
        let watched = Watched::synced(&with_token_file(folder.path(), &api, &options)).await;
        scrape(&watched.only_source()).await.unwrap();
        let last = kubelet.received().pop().unwrap();
        assert_eq!(last.header("authorization"), shown, "{options}");
    }
}

#[tokio::test]
async fn a_kubelet_with_an_untrusted_certificate_is_not_asked_and_the_way_out_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "secret").unwrap();
    let cluster = Cluster::default();
    // The test certificate is for 127.1.0.1 only.
    cluster.add("nodes", node("n1", "127.1.0.2", "True"));
    let kubelet = Server::start_tls("127.1.0.2:0", |_| Reply::json(&summary("n1", "p"))).await;
    let api = api(&cluster).await;
    let options = format!(
        "&kubeletHttps=true&kubeletPort={}&kubeletCAFile={}",
        kubelet.address.port(),
        testdata("tls/ca.pem").display()
    );
    let watched = Watched::synced(&with_token_file(folder.path(), &api, &options)).await;
    let error = scrape(&watched.only_source()).await.unwrap_err();
    assert!(told(&error).contains("set kubeletInsecureTls=true"), "{}", told(&error));
    assert!(kubelet.received().is_empty());
}

#[tokio::test]
async fn what_the_operator_must_mend_is_an_error_at_the_start() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    for (flag, expected) in [
        ("kubernetes:?inClusterConfig=false", "invalid kubernetes master url specified"),
        ("kubernetes:?kubeletPort=x", "option kubeletPort of 'kubernetes'"),
        ("kubernetes:?inClusterConfig=false&auth=/no/such", "kubeconfig /no/such"),
        ("kubernetes:http://h?inClusterConfig=false&kubeletCAFile=/no/such", "TLS for kubelets"),
    ] {
        let registry = Arc::new(Registry::new(clock.clone()));
        let uri: Uri = flag.parse().unwrap();
        let error = connect(&uri, registry, clock.clone()).await.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn the_sets_of_a_pod_carry_the_labels_of_their_node() {
    let scrape = scrape_of("", |_| Reply::json(&summary("n1", "p"))).await.unwrap();
    let key = EntityKey::pod_container("default", "p", "c");
    let (_, set) = scrape.sets.iter().find(|(own, _)| *own == key).unwrap();
    assert_eq!(set.labels.value("nodename"), "n1");
    assert_eq!(set.labels.value("hostname"), "n1.host");
    assert_eq!(set.metrics.int("memory/working_set"), Some(7));
}
