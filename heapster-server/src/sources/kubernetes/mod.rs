//! The kubernetes source: a cluster's objects by watching the API server, its numbers by asking the
//! kubelet of every node.
//!
//! [`connect`] is the way in. In reading order: [`options`] says what a URI may ask for,
//! `api_server` how the API is reached, `objects` what is read of it, `watch` how it is kept up to
//! date in [`cluster`], `nodes` which nodes can be scraped, `provider` how they become sources.

mod api_server;
pub mod cluster;
mod nodes;
mod objects;
pub mod options;
mod provider;
mod watch;

use std::error::Error;
use std::sync::Arc;

use heapster_core::cluster::ClusterView;
use heapster_core::pipeline::SourceProvider;
use heapster_store::Clock;
use kube::{Api, Client};
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

use self::cluster::{Cluster, WatchStatus};
use self::objects::{NamespaceObject, NodeObject, PodObject};
use self::options::{ForeignPods, Options};
use self::provider::Nodes;
use crate::sources::kubelet::client::{ClientOptions, KubeletClient};
use crate::sources::kubelet::source::{Endpoint, Placement, Scheme, Shared};
use crate::sources::kubelet::tls::Trust;
use crate::telemetry::Registry;
use crate::uri::{Uri, UriError};

/// Why a cluster cannot be used at all. All of it is for the operator to mend; an API server that
/// is merely down is not among it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The source's options are wrong.
    #[error(transparent)]
    Options(#[from] UriError),
    /// Credentials, certificates or the configuration around them are not usable.
    #[error("{message}")]
    Setup {
        /// What was attempted.
        message: String,
        /// What was wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A cluster that is being watched. The watches end when the last of its parts is dropped.
#[derive(Clone)]
pub struct Kubernetes {
    /// The cluster's objects as last seen.
    pub cluster: Arc<dyn ClusterView>,
    /// One source for each node that can be scraped.
    pub provider: Arc<dyn SourceProvider>,
    /// True once nodes, pods and namespaces were all listed. Stays true.
    pub synced: Receiver<bool>,
    /// How many nodes the operator wants asked at once.
    pub max_parallel: Option<usize>,
    watches: Arc<Watches>,
}

impl Kubernetes {
    /// How the watches of nodes, pods and namespaces are doing.
    pub fn watches(&self) -> Vec<WatchStatus> {
        self.watches.cluster.statuses()
    }
}

/// The objects with the tasks that keep them. Dropping it ends the tasks.
struct Watches {
    cluster: Arc<Cluster>,
    _tasks: JoinSet<()>,
}

/// Starts to watch the cluster that a URI names whose key is `kubernetes` or begins with `kubernetes.`.
///
/// Returns at once, whether or not the API server answers: until it does there are no objects and
/// no sources. Must be called inside a tokio runtime.
///
/// # Errors
/// [`ConnectError`] when the options, the kubeconfig or the certificates are not usable.
pub async fn connect(
    uri: &Uri,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
) -> Result<Kubernetes, ConnectError> {
    let options = Options::from_uri(uri)?;
    // The API client takes the process's provider. It is set already if this is not the first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = api_server::config(&options).await?;
    let tls = api_server::kubelet_tls(&options, &config);
    let token = api_server::kubelet_token(&config, &clock)?;
    if options.access.scheme == Scheme::Https && token.is_some() {
        match tls.trust {
            Trust::Authorities(_) | Trust::System => {}
            Trust::AnyoneByChoice => tracing::warn!(
                "kubeletInsecureTls: the token is shown to whoever answers at a node's address"
            ),
            Trust::AnyoneWithoutToken => tracing::warn!(
                "no authority to verify kubelets with, so they are not shown the token; \
                 set kubeletCAFile"
            ),
        }
    }
    let client = ClientOptions { timeout: options.scrape_timeout, tls, token };
    let client = KubeletClient::new(client, clock.clone())
        .map_err(|error| ConnectError::new("could not set up TLS for kubelets", error))?;

    let api = Client::try_from(config)
        .map_err(|error| ConnectError::new("could not set up the API client", error))?;
    let cluster = Arc::new(Cluster::new());
    let (tasks, synced) = start_watches(&api, &options, &cluster, &clock);
    let watches = Arc::new(Watches { cluster: cluster.clone(), _tasks: tasks });
    let shared = Shared {
        access: options.access,
        client,
        placement: match options.foreign_pods {
            ForeignPods::Dropped => cluster.clone(),
            ForeignPods::Kept => Arc::new(Anywhere),
        },
        registry,
        clock,
    };
    let nodes = Nodes::new(cluster, Arc::new(shared), options.preferred_address_types);
    Ok(Kubernetes {
        cluster: Arc::new(Watching { part: watches.cluster.clone(), _watches: watches.clone() }),
        provider: Arc::new(Watching { part: Arc::new(nodes), _watches: watches.clone() }),
        synced,
        max_parallel: options.max_parallel,
        watches,
    })
}

/// A client of the API server that a URI names; see [`connect`].
///
/// # Errors
/// As [`connect`].
pub async fn client(uri: &Uri) -> Result<Client, ConnectError> {
    let options = Options::from_uri(uri)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = api_server::config(&options).await?;
    Client::try_from(config)
        .map_err(|error| ConnectError::new("could not set up the API client", error))
}

fn start_watches(
    api: &Client,
    options: &Options,
    cluster: &Arc<Cluster>,
    clock: &Arc<dyn Clock>,
) -> (JoinSet<()>, Receiver<bool>) {
    let (said, synced) = tokio::sync::watch::channel(false);
    let mut tasks = JoinSet::new();
    let annotation = options.host_id_annotation.clone();
    // The legacy endpoint's host IDs never came from annotations.
    let annotation = match options.access.endpoint {
        Endpoint::Summary | Endpoint::Resource => annotation,
        Endpoint::Legacy => String::new(),
    };
    tasks.spawn(watch::keep_up_to_date(
        Api::all(api.clone()),
        cluster::Watched::Nodes,
        move |node: NodeObject| node.into_known(&annotation),
        cluster.clone(),
        said.clone(),
        clock.clone(),
    ));
    tasks.spawn(watch::keep_up_to_date(
        Api::all(api.clone()),
        cluster::Watched::Pods,
        PodObject::into_known,
        cluster.clone(),
        said.clone(),
        clock.clone(),
    ));
    tasks.spawn(watch::keep_up_to_date(
        Api::all(api.clone()),
        cluster::Watched::Namespaces,
        NamespaceObject::into_known,
        cluster.clone(),
        said,
        clock.clone(),
    ));
    (tasks, synced)
}

/// Leaves every pod to the node that reports it.
struct Anywhere;

impl Placement for Anywhere {
    fn runs_elsewhere(&self, _namespace: &str, _pod: &str, _nodename: &str) -> bool {
        false
    }
}

/// A part of the cluster that keeps the watches going as long as it is held.
struct Watching<T> {
    part: Arc<T>,
    _watches: Arc<Watches>,
}

impl ClusterView for Watching<Cluster> {
    fn nodes(&self) -> Vec<Arc<heapster_core::cluster::Node>> {
        self.part.nodes()
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<heapster_core::cluster::Pod>> {
        self.part.pod(namespace, name)
    }

    fn namespace(&self, name: &str) -> Option<Arc<heapster_core::cluster::Namespace>> {
        self.part.namespace(name)
    }

    fn node(&self, name: &str) -> Option<Arc<heapster_core::cluster::Node>> {
        self.part.node(name)
    }

    fn pods(&self, namespace: Option<&str>) -> Vec<Arc<heapster_core::cluster::Pod>> {
        self.part.pods(namespace)
    }

    fn is_complete(&self) -> bool {
        self.part.is_complete()
    }
}

impl SourceProvider for Watching<Nodes> {
    fn sources(&self) -> Vec<Arc<dyn heapster_core::pipeline::Source>> {
        self.part.sources()
    }
}
