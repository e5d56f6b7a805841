//! A scripted API server and kubelets on loopback, for tests of the kubernetes source.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Received {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What the server does with a request.
pub enum Reply {
    /// Status line after `HTTP/1.1 `, further header lines, body.
    Full(&'static str, String, Vec<u8>),
    /// These bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// One byte of this at a time, with pauses.
    Drip(Vec<u8>),
    /// Nothing, for ever.
    Hang,
    /// A chunked answer that goes on until the sender is dropped.
    Stream(UnboundedReceiver<String>),
}

impl Reply {
    pub fn json(body: &Json) -> Self {
        let header = "Content-Type: application/json\r\n".to_owned();
        Self::Full("200 OK", header, body.to_string().into_bytes())
    }
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;

/// A server on one or more addresses; it stops when dropped.
pub struct Server {
    pub address: SocketAddr,
    pub received: Arc<Mutex<Vec<Received>>>,
    pub connections: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Serves on `ip` and a free port, or on exactly that address.
    pub async fn start(
        address: &str,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(address, None, Arc::new(handler)).await
    }

    /// As `start`, over TLS with the test certificate, which is for 127.1.0.1.
    pub async fn start_tls(
        address: &str,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(super::testdata("tls/kubelet.pem"));
        let chain: Result<Vec<_>, _> = chain.unwrap().collect();
        let key = PrivateKeyDer::from_pem_file(super::testdata("tls/kubelet.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.unwrap(), key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start_with(address, Some(acceptor), Arc::new(handler)).await
    }

    async fn start_with(address: &str, tls: Option<TlsAcceptor>, handler: Arc<Handler>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let mut tasks = JoinSet::new();
        let (log, count) = (received.clone(), connections.clone());
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                let (handler, log, tls) = (handler.clone(), log.clone(), tls.clone());
                served.spawn(async move {
                    match tls {
                        None => serve(stream, &*handler, &log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*handler, &log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, received, connections, _tasks: tasks }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: &Handler,
    log: &Mutex<Vec<Received>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        log.lock().unwrap().push(request.clone());
        let ended = match handler(&request) {
            Reply::Full(status, headers, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.is_err()
                    || stream.write_all(&body).await.is_err()
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                true
            }
            Reply::Drip(bytes) => {
                for byte in bytes {
                    if stream.write_all(&[byte]).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                true
            }
            Reply::Hang => std::future::pending().await,
            Reply::Stream(mut chunks) => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
                            Transfer-Encoding: chunked\r\n\r\n";
                if stream.write_all(head.as_bytes()).await.is_err() {
                    return;
                }
                while let Some(chunk) = chunks.recv().await {
                    let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
                    if stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                    let _ = stream.flush().await;
                }
                stream.write_all(b"0\r\n\r\n").await.is_err()
            }
        };
        let _ = stream.flush().await;
        if ended {
            return;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received { line, headers, body: String::from_utf8(body).ok()? })
}

/// The objects of a fake cluster, and who watches them.
#[derive(Default)]
pub struct Objects {
    version: u64,
    objects: BTreeMap<(String, String), Json>,
    events: VecDeque<(u64, String, String)>,
    /// Versions up to this one are forgotten: watches from there are told 410.
    forgotten: u64,
    watchers: Vec<(String, UnboundedSender<String>)>,
}

/// The fake cluster's API, to change while it is watched.
#[derive(Clone, Default)]
pub struct Cluster(Arc<Mutex<Objects>>);

impl Cluster {
    pub fn add(&self, resource: &str, object: Json) {
        self.change(resource, "ADDED", object);
    }

    pub fn modify(&self, resource: &str, object: Json) {
        self.change(resource, "MODIFIED", object);
    }

    pub fn delete(&self, resource: &str, object: Json) {
        self.change(resource, "DELETED", object);
    }

    fn change(&self, resource: &str, kind: &str, mut object: Json) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let meta = &object["metadata"];
        let key = (resource.to_owned(), format!("{}/{}", meta["namespace"], meta["name"]));
        if kind == "DELETED" {
            state.objects.remove(&key);
        } else {
            state.objects.insert(key, object.clone());
        }
        let event = format!("{}\n", json!({ "type": kind, "object": object }));
        state.events.push_back((version, resource.to_owned(), event.clone()));
        state
            .watchers
            .retain(|(own, watcher)| own != resource || watcher.send(event.clone()).is_ok());
    }

    /// Ends all watches and forgets every event so far, like an API server that was compacted.
    pub fn forget(&self) {
        let mut state = self.0.lock().unwrap();
        state.forgotten = state.version;
        state.events.clear();
        state.watchers.clear();
    }

    /// Changes an object while nobody is told: only a new list shows it.
    pub fn delete_silently(&self, resource: &str, name: &str) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        state
            .objects
            .retain(|(own, _), object| own != resource || object["metadata"]["name"] != name);
    }

    /// How many watches are open.
    pub fn watcher_count(&self) -> usize {
        self.0.lock().unwrap().watchers.len()
    }

    /// Answers list and watch.
    pub fn reply(&self, request: &Received) -> Reply {
        let target = request.line.split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = path.strip_prefix("/api/v1/").unwrap_or_default().to_owned();
        let option = |name: &str| {
            query.split('&').filter_map(|pair| pair.split_once('=')).find(|(own, _)| *own == name)
        };
        let mut state = self.0.lock().unwrap();
        if option("watch").is_none() {
            let items: Vec<_> = state
                .objects
                .iter()
                .filter(|((own, _), _)| *own == resource)
                .map(|(_, object)| object.clone())
                .collect();
            let version = state.version.to_string();
            let meta = json!({ "resourceVersion": version });
            let list =
                json!({ "kind": "List", "apiVersion": "v1", "metadata": meta, "items": items });
            return Reply::json(&list);
        }
        let since: u64 = option("resourceVersion").unwrap().1.parse().unwrap();
        let (sender, receiver) = unbounded_channel();
        if since < state.forgotten {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {},
                "status": "Failure", "reason": "Expired", "code": 410, "message": "too old" });
            let event = json!({ "type": "ERROR", "object": status });
            sender.send(format!("{event}\n")).unwrap();
            return Reply::Stream(receiver);
        }
        for (version, own, event) in &state.events {
            if *version > since && *own == resource {
                sender.send(event.clone()).unwrap();
            }
        }
        state.watchers.push((resource, sender));
        Reply::Stream(receiver)
    }
}

/// A node with an InternalIP, ready or not.
pub fn node(name: &str, ip: &str, ready: &str) -> Json {
    json!({ "metadata": { "name": name, "labels": { "zone": "a" } },
        "status": {
            "conditions": [{ "type": "Ready", "status": ready }],
            "addresses": [{ "type": "InternalIP", "address": ip },
                          { "type": "Hostname", "address": format!("{name}.host") }],
            "capacity": { "cpu": "2", "memory": "1Gi" } } })
}

/// A pod of namespace `default` on a node.
pub fn pod(name: &str, nodename: &str) -> Json {
    json!({ "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
        "spec": { "nodeName": nodename, "containers": [{ "name": "c", "image": "img",
            "resources": { "requests": { "cpu": "100m" } } }] },
        "status": { "startTime": "2026-01-01T00:00:00Z" } })
}

/// A summary with one pod of one container.
pub fn summary(nodename: &str, pod: &str) -> Json {
    json!({ "node": { "nodeName": nodename, "cpu": { "usageCoreNanoSeconds": 5 } },
        "pods": [{ "podRef": { "name": pod, "namespace": "default", "uid": "u" },
                   "containers": [{ "name": "c", "memory": { "workingSetBytes": 7 } }] }] })
}
