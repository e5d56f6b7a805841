//! `heapster-clustersim`: a simulated Kubernetes cluster on loopback, until it is stopped.

use clap::Parser;
use heapster_benches::cluster_sim::{SimOptions, Simulator};

/// A simulated Kubernetes cluster on loopback: one API server and one kubelet per node.
///
/// Steer it with POST /control/hang and /control/resume (?node=NAME, or all nodes),
/// /control/pod-delete?pod=NAMESPACE/NAME and /control/restart?pod=NAMESPACE/NAME.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: SimOptions,
}

fn main() -> std::io::Result<()> {
    let Arguments { options } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let simulator = Simulator::start(&options).await?;
        println!(
            "simulated cluster: api http://{}, kubelets 127.1.x.y:{}, {} nodes, {} pods",
            simulator.api_address(),
            simulator.kubelet_port(),
            options.nodes,
            options.nodes * options.pods_per_node,
        );
        tokio::signal::ctrl_c().await
    })
}
