//! [`Server`]: the HTTP APIs over an open store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heapster_server::app::{self, App, AppError};
use heapster_server::cli::Config;
use heapster_server::http::{self, Router, ServerOptions};
use pyo3::prelude::*;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::collector::Collector;
use crate::error;
use crate::keeper::{Owned, config, runtime};
use crate::recent::Recent;
use crate::store::Store;

/// How long requests that are under way may take once the server is to stop. Whoever stops one in a
/// notebook waits for it.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

/// A running server.
#[pyclass(frozen, module = "heapster._heapster")]
pub struct Server {
    running: Owned<Running>,
    address: SocketAddr,
}

struct Running {
    runtime: Runtime,
    serving: JoinHandle<()>,
    closing: CancellationToken,
}

#[pymethods]
impl Server {
    /// Serves a store that is open for writing, with the newest batch of a collector if there is one.
    #[new]
    fn start(
        py: Python<'_>,
        store: &Bound<'_, Store>,
        collector: Option<&Bound<'_, Collector>>,
        flags: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let flags: Vec<(&str, &str)> =
            flags.iter().map(|(flag, value)| (flag.as_str(), value.as_str())).collect();
        let config = config(&flags)?;
        let route = |app: &App| app::router(&config, app);
        let router = match collector {
            Some(collector) => collector.get().with_keeper(|keeper| route(&keeper.app))?,
            None => store.get().with_keeper(|keeper| route(&keeper.app))?,
        };
        let (running, address) =
            py.detach(|| start(&config, router)).map_err(|error| error::of_app(&error))?;
        Ok(Self { running: Owned::new("server", running), address })
    }

    /// Where it serves.
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets requests that are under way finish and stops; once more does nothing.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(running) = self.running.take()? {
            py.detach(|| {
                running.closing.cancel();
                // Fails only when it panicked, and then it has ended as well.
                let _ = running.runtime.block_on(running.serving);
                running.runtime.shutdown_background();
            });
        }
        Ok(())
    }
}

fn start(config: &Config, router: Router) -> Result<(Running, SocketAddr), AppError> {
    let runtime = runtime(&Recent::default())?;
    let (address, listener) = runtime.block_on(app::listen(config.listen))?;
    let closing = CancellationToken::new();
    let closed = closing.clone().cancelled_owned();
    let options = ServerOptions { shutdown_timeout: SHUTDOWN_MAX, ..ServerOptions::default() };
    let serve = http::serve(listener, Arc::new(router), options, closed);
    let serving = runtime.spawn(serve);
    Ok((Running { runtime, serving, closing }, address))
}
