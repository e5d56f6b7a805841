//! A simulated Kubernetes cluster on loopback: one API server and one kubelet per node.
//!
//! Every node has an address of its own, `127.1.x.y`; one listener tells the nodes apart by the
//! address that was dialled. The numbers are a model of real programs (see `usage`), repeatable
//! from a seed, and cheap to serve, since the simulator shares the machine with the server under
//! test: an answer of 120 KB takes a fraction of a millisecond.

mod api;
mod cluster;

mod kubelet;
pub(crate) mod model;
mod objects;
pub(crate) mod random;
mod registry;
mod server;
mod summary;
mod template;
pub(crate) mod usage;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use heapster_store::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::cluster::Cluster;
use crate::parse_duration;

/// Most nodes: every one needs an address in `127.1.x.y`.
const NODES_MAX: usize = 250 * 256;
const CHURN_CHECK_EVERY: Duration = Duration::from_secs(1);

/// What to simulate.
#[derive(Args, Clone, Debug)]
pub struct SimOptions {
    /// How many nodes.
    #[arg(long, default_value_t = 200)]
    pub nodes: usize,
    /// How many pods each node runs.
    #[arg(long, default_value_t = 30)]
    pub pods_per_node: usize,
    /// How many containers each pod has.
    #[arg(long, default_value_t = 2)]
    pub containers_per_pod: usize,
    /// Port of the API server on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 18080)]
    pub api_port: u16,
    /// Port of the kubelets on 127.1.x.y; 0 takes a free one.
    #[arg(long, default_value_t = 10255)]
    pub kubelet_port: u16,
    /// Seed of all numbers.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Time is cut to multiples of this, whole seconds.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub step: Duration,
    /// Pods replaced per hour.
    #[arg(long, default_value_t = 0)]
    pub churn: u64,
}

impl Default for SimOptions {
    /// The defaults of the command line, but with free ports.
    fn default() -> Self {
        Self {
            nodes: 200,
            pods_per_node: 30,
            containers_per_pod: 2,
            api_port: 0,
            kubelet_port: 0,
            seed: 7,
            step: Duration::from_secs(1),
            churn: 0,
        }
    }
}

/// The clock, cut to steps: what the simulated cluster takes for the time.
#[derive(Clone, Debug)]
pub(crate) struct ServedTime {
    clock: Arc<dyn Clock>,
    step_seconds: i64,
}

impl ServedTime {
    fn seconds(&self) -> i64 {
        let seconds = self.clock.now().as_millis().div_euclid(1000);
        seconds - seconds.rem_euclid(self.step_seconds)
    }
}

/// A running simulation; ends when dropped.
#[derive(Debug)]
pub struct Simulator {
    api_address: SocketAddr,
    kubelet_port: u16,
    tasks: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Builds the cluster and starts to serve it, in the current tokio runtime.
    ///
    /// # Errors
    /// The options are out of bounds, or a port is taken.
    pub async fn start(options: &SimOptions) -> io::Result<Self> {
        Self::start_at(options, Arc::new(SystemClock::new())).await
    }

    /// The same with a clock of the caller's.
    ///
    /// # Errors
    /// As [`Simulator::start`].
    pub async fn start_at(options: &SimOptions, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let refuse = |message: &str| io::Error::new(io::ErrorKind::InvalidInput, message);
        if options.nodes > NODES_MAX
            || options.pods_per_node > 1000
            || options.containers_per_pod > 100
        {
            return Err(refuse("at most 64000 nodes, 1000 pods per node, 100 containers per pod"));
        }
        let step_seconds = match options.step.as_secs().try_into() {
            Ok(0) | Err(_) => return Err(refuse("the step must be at least one second")),
            Ok(seconds) => seconds,
        };
        let time = ServedTime { clock, step_seconds };
        let cluster = Arc::new(Cluster::new(options, time.seconds()));
        let api = TcpListener::bind((Ipv4Addr::LOCALHOST, options.api_port)).await?;
        // All of 127.1.x.y at once; connections from outside are closed by `server::serve`.
        let kubelets = TcpListener::bind((Ipv4Addr::UNSPECIFIED, options.kubelet_port)).await?;
        let (api_address, kubelet_port) = (api.local_addr()?, kubelets.local_addr()?.port());

        let (of_api, of_kubelets, of_churn) = (cluster.clone(), cluster.clone(), cluster);
        let (api_time, kubelet_time) = (time.clone(), time.clone());
        let tasks = vec![
            tokio::spawn(server::serve(api, move |request, _| {
                let answer = api::answer(&of_api, &api_time, &request);
                std::future::ready(answer)
            })),
            tokio::spawn(server::serve(kubelets, move |request, dialled| {
                kubelet::answer(of_kubelets.clone(), kubelet_time.clone(), request, dialled)
            })),
            tokio::spawn(async move {
                let mut ticks = tokio::time::interval(CHURN_CHECK_EVERY);
                loop {
                    ticks.tick().await;
                    of_churn.step_churn(time.seconds());
                }
            }),
        ];
        Ok(Self { api_address, kubelet_port, tasks })
    }

    /// Where the API server listens.
    pub fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// The port all kubelets listen on, each on its own address.
    pub fn kubelet_port(&self) -> u16 {
        self.kubelet_port
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
