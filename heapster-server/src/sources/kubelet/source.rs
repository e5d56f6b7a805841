//! [`KubeletSource`]: one node's kubelet as a source of metric sets.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use heapster_core::pipeline::{BoxFuture, Interval, Scrape, Source, SourceError};
use heapster_core::{EntityKey, NanoTime};
use heapster_store::Clock;

use super::cadvisor::{self, Schedulable};
use super::client::{KubeletClient, shown};
use super::{DecodeError, NodeInfo, resource, summary};
use crate::telemetry::registry::FamilyKind;
use crate::telemetry::{Family, Registry};

/// Time of requests for the summary, by host name.
pub const SUMMARY_REQUEST_DURATION: Family = Family {
    name: "heapster_kubelet_summary_request_duration_milliseconds",
    help: "The Kubelet summary request latencies in milliseconds.",
    kind: FamilyKind::Summary,
};

/// Time of requests for the resource metrics, by host name.
pub const RESOURCE_REQUEST_DURATION: Family = Family {
    name: "heapster_kubelet_resource_request_duration_milliseconds",
    help: "The latencies of requests for the resource metrics of kubelets in milliseconds.",
    kind: FamilyKind::Summary,
};

/// Time of requests for the legacy list, by host name.
pub const REQUEST_DURATION: Family = Family {
    name: "heapster_kubelet_request_duration_milliseconds",
    help: "The Kubelet request latencies in milliseconds.",
    kind: FamilyKind::Summary,
};

/// Answers from this size on take long enough to hold up other requests.
const BLOCKING_BYTES_MIN: usize = 256 << 10;

/// The question a kubelet is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /stats/summary/`.
    Summary,
    /// `GET /metrics/resource`: what metrics-server asks, a tenth of the summary.
    Resource,
    /// `POST /stats/container/`, for old kubelets.
    Legacy,
}

impl Endpoint {
    /// The self metric that times its requests.
    pub const fn family(self) -> &'static Family {
        match self {
            Self::Summary => &SUMMARY_REQUEST_DURATION,
            Self::Resource => &RESOURCE_REQUEST_DURATION,
            Self::Legacy => &REQUEST_DURATION,
        }
    }
}

/// Where a kubelet listens: an address of the node, by number unless the operator wants names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A name that the system resolves.
    Name(String),
}

/// A node to scrape, as its API object describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Labels of the node.
    pub info: NodeInfo,
    /// Whether the node takes new pods; only the legacy endpoint reports it.
    pub schedulable: Schedulable,
    /// Where its kubelet listens.
    pub address: Address,
}

/// How all kubelets of a cluster are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The question.
    pub endpoint: Endpoint,
    /// Plain or over TLS.
    pub scheme: Scheme,
    /// The port of every kubelet.
    pub port: u16,
}

/// Plain HTTP or HTTP over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain: no token is ever shown.
    Http,
    /// Over TLS.
    Https,
}

/// Tells which node the cluster's objects say a pod runs on; `None` when the pod is unknown.
pub trait Placement: Send + Sync {
    /// Whether the pod is known to run on another node than `nodename`.
    fn runs_elsewhere(&self, namespace: &str, pod: &str, nodename: &str) -> bool;
}

/// What all sources of a cluster share.
pub struct Shared {
    /// How kubelets are asked.
    pub access: Access,
    /// Asks them.
    pub client: KubeletClient,
    /// Where pods run.
    pub placement: Arc<dyn Placement>,
    /// Where request times are noted.
    pub registry: Arc<Registry>,
    /// Wall time for uptimes, monotonic time for request times.
    pub clock: Arc<dyn Clock>,
}

/// One kubelet.
pub struct KubeletSource {
    name: String,
    url: String,
    target: Target,
    shared: Arc<Shared>,
}

impl KubeletSource {
    /// The source for a node.
    pub fn new(target: Target, shared: Arc<Shared>) -> Self {
        let Access { endpoint, scheme, port } = shared.access;
        let (prefix, path) = match endpoint {
            Endpoint::Summary => ("kubelet_summary", "/stats/summary/"),
            Endpoint::Resource => ("kubelet_resource", "/metrics/resource"),
            Endpoint::Legacy => ("kubelet", "/stats/container/"),
        };
        let (bare, host) = match &target.address {
            Address::Ip(IpAddr::V6(ip)) => (ip.to_string(), format!("[{ip}]")),
            Address::Ip(IpAddr::V4(ip)) => (ip.to_string(), ip.to_string()),
            Address::Name(name) => (name.clone(), name.clone()),
        };
        let scheme = match scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        Self {
            name: format!("{prefix}:{bare}:{port}"),
            url: format!("{scheme}://{host}:{port}{path}"),
            target,
            shared,
        }
    }

    /// The node it scrapes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    async fn take_sample(&self, interval: Interval) -> Result<Scrape, SourceError> {
        let started = self.shared.clock.monotonic();
        let answer = match self.shared.access.endpoint {
            Endpoint::Summary | Endpoint::Resource => self.shared.client.get(&self.url).await,
            Endpoint::Legacy => {
                self.shared.client.post(&self.url, cadvisor::request_body(interval)).await
            }
        };
        let took = self.shared.clock.monotonic().saturating_sub(started);
        self.shared.registry.observe(
            self.shared.access.endpoint.family(),
            &[("node", &self.target.info.hostname)],
            took.as_secs_f64() * 1000.0,
        );
        let body = answer.map_err(|error| SourceError::new(self.failure()).caused_by(error))?;
        let mut scrape = self.decode(body.clone()).await.map_err(|error| {
            let message = format!("failed to parse output. Response: {:?}", shown(&body));
            SourceError::new(message).caused_by(error)
        })?;
        self.drop_pods_of_other_nodes(&mut scrape);
        Ok(scrape)
    }

    /// Decodes an answer; a large one on a thread that may be busy for a while.
    async fn decode(&self, body: Bytes) -> Result<Scrape, DecodeError> {
        let now = Option::<NanoTime>::from(self.shared.clock.now());
        let now = now.unwrap_or(NanoTime::from_nanos(i64::MAX));
        let (endpoint, schedulable) = (self.shared.access.endpoint, self.target.schedulable);
        let decode = move |body: &[u8], info: &NodeInfo| match endpoint {
            Endpoint::Summary => summary::decode(body, info, now),
            Endpoint::Resource => Ok(resource::decode(body, info, now)?),
            Endpoint::Legacy => cadvisor::decode(body, info, schedulable, now),
        };
        if body.len() < BLOCKING_BYTES_MIN {
            return decode(&body, &self.target.info);
        }
        let info = self.target.info.clone();
        match tokio::task::spawn_blocking(move || decode(&body, &info)).await {
            Ok(decoded) => decoded,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only at the end of the program.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn failure(&self) -> String {
        match self.shared.access.endpoint {
            Endpoint::Summary => format!("failed to get the summary from {:?}", self.url),
            Endpoint::Resource => format!("failed to get resource metrics from {:?}", self.url),
            Endpoint::Legacy => {
                format!("failed to get all container stats from Kubelet URL {:?}", self.url)
            }
        }
    }

    /// Leaves out what a node says of pods that run on other nodes: it cannot know, and must not be
    /// able to replace their numbers.
    fn drop_pods_of_other_nodes(&self, scrape: &mut Scrape) {
        let nodename = &self.target.info.nodename;
        let Scrape { sets, rejects } = scrape;
        sets.retain(|(key, _)| {
            let (namespace, pod) = match key {
                EntityKey::Pod { namespace, pod } => (namespace, pod),
                EntityKey::PodContainer { namespace, pod, .. } => (namespace, pod),
                _ => return true,
            };
            let runs_elsewhere = self.shared.placement.runs_elsewhere(namespace, pod, nodename);
            if runs_elsewhere && key.entity_type() == heapster_core::EntityType::Pod {
                rejects.push(format!("{key}: runs on another node"));
            }
            !runs_elsewhere
        });
    }
}

impl Source for KubeletSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn scrape(&self, interval: Interval) -> BoxFuture<'_, Result<Scrape, SourceError>> {
        Box::pin(self.take_sample(interval))
    }
}
