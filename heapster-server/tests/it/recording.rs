//! A recorded cluster: its objects and scrapes, replayed through decoder and processors.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use heapster_core::cluster::{
    CPU, ClusterView, Namespace, NoCluster, Node, Pod, PodContainer, Resources,
};
use heapster_core::processors::{LabelCopier, standard};
use heapster_core::storage::{MemoryStorage, Storage};
use heapster_core::{DataBatch, NanoTime, Quantity, Text, Timestamp};
use heapster_server::api::{self, ApiOptions, ApiState};
use heapster_server::http::{Response, Router};
use heapster_server::live::Live;
use heapster_server::sources::kubelet::{NodeInfo, summary};
use heapster_server::telemetry::Registry;
use heapster_store::Clock;
use parking_lot::Mutex;
use serde_json::Value;

/// A clock that stands where it was put.
#[derive(Debug, Default)]
pub struct SteppedClock(Mutex<Timestamp>);

impl SteppedClock {
    /// A clock at that moment.
    pub fn at(moment: Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new(moment)))
    }

    /// Puts the clock.
    pub fn set(&self, moment: Timestamp) {
        *self.0.lock() = moment;
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock()
    }

    fn monotonic(&self) -> Duration {
        self.now().saturating_since(Timestamp::EPOCH)
    }
}

/// A server's APIs over some storage, and what feeds them.
pub struct Served {
    pub storage: Arc<MemoryStorage>,
    pub live: Arc<Live>,
    pub clock: Arc<SteppedClock>,
    pub router: Router,
}

impl Served {
    /// The APIs over an empty store.
    pub fn new(options: ApiOptions) -> Self {
        let storage = Arc::new(MemoryStorage::new());
        let clock = SteppedClock::at(Timestamp::EPOCH);
        let live = Arc::new(Live::default());
        let router = router_over(storage.clone(), &live, &clock, options);
        Self { storage, live, clock, router }
    }

    /// Stores and publishes a batch, and puts the clock to its time.
    pub fn feed(&self, batch: DataBatch) {
        self.clock.set(batch.timestamp);
        self.storage.append_batch(&batch);
        self.live.publish(Arc::new(batch));
    }

    /// Answers a GET.
    pub async fn get(&self, uri: &str) -> Response {
        get(&self.router, uri).await
    }

    /// Answers a GET with its body as text; the status must be 200.
    pub async fn body(&self, uri: &str) -> String {
        let response = self.get(uri).await;
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        assert_eq!(response.status(), 200, "{uri}: {body}");
        body
    }
}

/// A router over any storage.
pub fn router_over(
    storage: Arc<dyn Storage>,
    live: &Arc<Live>,
    clock: &Arc<SteppedClock>,
    options: ApiOptions,
) -> Router {
    router_in(Arc::new(NoCluster), storage, live, clock, options)
}

/// A router over any storage that knows a cluster.
pub fn router_in(
    cluster: Arc<dyn ClusterView>,
    storage: Arc<dyn Storage>,
    live: &Arc<Live>,
    clock: &Arc<SteppedClock>,
    options: ApiOptions,
) -> Router {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let registry = Arc::new(Registry::new(Arc::clone(&clock)));
    api::router(ApiState { storage, live: Arc::clone(live), cluster, clock, registry, options })
}

/// Answers a GET in-process.
pub async fn get(router: &Router, uri: &str) -> Response {
    let request = http::Request::get(uri).body(Bytes::new()).unwrap();
    router.handle(request).await
}

/// The folder of shared data of that name, or `None` with a word of it when it is not there.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    if !path.is_dir() {
        eprintln!("skipped: no shared {folder} beside the workspace");
        return None;
    }
    Some(path)
}

/// A JSON file.
pub fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The values of a compressed file of JSON lines.
pub fn read_lines(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The moment a recording's requests were made.
pub fn recorded_at(folder: &Path) -> Timestamp {
    let text = fs::read_to_string(folder.join("recorded_at")).unwrap();
    Timestamp::parse_rfc3339(text.trim()).unwrap()
}

/// The batches of a recording, in order of time.
///
/// The objects are those of its start throughout: the recorded original never saw the changes, as
/// its answers tell (a pod that was added later has neither labels nor requests in them).
pub fn replay(folder: &Path) -> Vec<DataBatch> {
    let [nodes, pods, namespaces] =
        ["nodes", "pods", "namespaces"].map(|n| read_json(&folder.join(format!("{n}.json"))));
    let objects = Objects::of(&nodes["items"], &pods["items"], &namespaces["items"]);
    let infos: BTreeMap<Text, NodeInfo> =
        array(&nodes["items"]).map(node_info).map(|info| (info.nodename.clone(), info)).collect();
    let mut scrapes: BTreeMap<Timestamp, Vec<Value>> = BTreeMap::new();
    for scrape in read_lines(&folder.join("scrapes.jsonl.gz")) {
        let interval = Duration::from_secs(10);
        scrapes.entry(moment(&scrape["servedAt"]).truncate(interval)).or_default().push(scrape);
    }
    let mut processors = standard(Arc::new(objects), LabelCopier::default(), None);
    let mut batches = Vec::new();
    for (timestamp, answers) in scrapes {
        let mut batch = DataBatch::new(timestamp);
        for answer in answers {
            let served = moment(&answer["servedAt"]);
            let now = Option::<NanoTime>::from(served).unwrap();
            let body = answer["summary"].to_string();
            let info = &infos[&text(&answer["node"])];
            batch.sets.extend(summary::decode(body.as_bytes(), info, now).unwrap().sets);
        }
        for processor in &mut processors {
            processor.process(&mut batch).unwrap();
        }
        batches.push(batch);
    }
    batches
}

/// The objects of a cluster.
#[derive(Debug, Default)]
pub struct Objects {
    nodes: Vec<Arc<Node>>,
    pods: BTreeMap<String, Arc<Pod>>,
    namespaces: Vec<Arc<Namespace>>,
}

impl Objects {
    /// Takes over lists of objects as the API server gives them.
    pub fn of(nodes: &Value, pods: &Value, namespaces: &Value) -> Self {
        Self {
            nodes: array(nodes).map(node).map(Arc::new).collect(),
            pods: array(pods).map(|value| (full_name(value), Arc::new(pod(value)))).collect(),
            namespaces: array(namespaces)
                .map(|value| &value["metadata"])
                .map(|meta| Namespace { name: text(&meta["name"]), uid: text(&meta["uid"]) })
                .map(Arc::new)
                .collect(),
        }
    }
}

impl ClusterView for Objects {
    fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.clone()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&format!("{namespace}/{name}")).cloned()
    }

    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.iter().find(|own| own.name == *name).cloned()
    }

    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<Pod>> {
        let is_wanted = |pod: &&Arc<Pod>| namespace.is_none_or(|own| pod.namespace == *own);
        self.pods.values().filter(is_wanted).cloned().collect()
    }

    fn is_complete(&self) -> bool {
        true
    }
}

/// The node's labels as the collector knows them.
pub fn node_info(value: &Value) -> NodeInfo {
    let name = text(&value["metadata"]["name"]);
    let hostname = array(&value["status"]["addresses"])
        .find(|address| address["type"] == "Hostname")
        .map_or_else(|| name.clone(), |address| text(&address["address"]));
    NodeInfo { nodename: name, hostname, host_id: text(&value["spec"]["externalID"]) }
}

fn node(value: &Value) -> Node {
    Node {
        name: text(&value["metadata"]["name"]),
        labels: texts(&value["metadata"]["labels"]),
        capacity: resources(&value["status"]["capacity"]),
        allocatable: resources(&value["status"]["allocatable"]),
    }
}

fn pod(value: &Value) -> Pod {
    let restarts = |name: &Value| {
        let mut statuses = array(&value["status"]["containerStatuses"]);
        statuses.find(|status| status["name"] == *name)?["restartCount"].as_i64()
    };
    let containers = array(&value["spec"]["containers"]).map(|container| PodContainer {
        name: text(&container["name"]),
        image: text(&container["image"]),
        requests: resources(&container["resources"]["requests"]),
        limits: resources(&container["resources"]["limits"]),
        restart_count: restarts(&container["name"]),
    });
    Pod {
        namespace: text(&value["metadata"]["namespace"]),
        name: text(&value["metadata"]["name"]),
        uid: text(&value["metadata"]["uid"]),
        labels: texts(&value["metadata"]["labels"]),
        start_time: value["status"]["startTime"]
            .as_str()
            .and_then(|time| NanoTime::parse_rfc3339(time).unwrap()),
        containers: containers.collect(),
        phase: text(&value["status"]["phase"]),
    }
}

fn full_name(value: &Value) -> String {
    let meta = &value["metadata"];
    format!("{}/{}", text(&meta["namespace"]), text(&meta["name"]))
}

fn resources(value: &Value) -> Resources {
    let amount = |name: &str, amount: &Value| {
        let amount = Quantity::parse(amount.as_str().unwrap()).unwrap();
        if name == CPU { amount.milli_value() } else { amount.value() }
    };
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.into(), amount(name, value))).collect()
}

fn texts(value: &Value) -> BTreeMap<Text, Text> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.into(), text(value))).collect()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The text, empty when there is none.
pub fn text(value: &Value) -> Text {
    value.as_str().unwrap_or_default().into()
}

/// The moment a text names.
pub fn moment(value: &Value) -> Timestamp {
    Timestamp::parse_rfc3339(value.as_str().unwrap()).unwrap()
}
