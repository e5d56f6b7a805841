//! The host source: this Linux machine as one node, its cgroups as system containers.
//!
//! ```text
//! HostSource (async edge) → HostReader → Machine, Disks, file systems   /proc
//!                                      → Hierarchies (walk)             cgroup v1, v2, both
//!                                      → HostCluster                    capacity for the processors
//! ```
//!
//! Gives the sets, names and units a kubelet would give for its node; see `docs/sources/host.md`.

mod cgroups;
mod cluster;
mod disks;
mod filesystems;
mod lines;
mod machine;
mod options;
mod reader;
mod rejects;
mod root;

use std::sync::Arc;

use heapster_core::pipeline::{BoxFuture, Interval, Scrape, Source, SourceError, SourceProvider};
use heapster_store::Clock;
use parking_lot::Mutex;

pub use cluster::HostCluster;
pub use filesystems::{FileSystemUsage, FileSystems};
pub use options::{HostOptionError, HostOptions};
pub use reader::HostReader;

/// This machine as a source. Must be scraped within a tokio runtime.
pub struct HostSource {
    name: String,
    reader: Arc<Mutex<HostReader>>,
    clock: Arc<dyn Clock>,
    cluster: Arc<HostCluster>,
}

impl HostSource {
    /// The source. Reads a few small files at once, so that a wrong root is known at the start.
    ///
    /// # Errors
    /// The root directory cannot be opened or has no `proc` in it.
    pub fn new(options: &HostOptions, clock: Arc<dyn Clock>) -> Result<Self, SourceError> {
        Ok(Self::from_reader(HostReader::new(options)?, clock))
    }

    /// The source around a reader made elsewhere.
    pub fn from_reader(reader: HostReader, clock: Arc<dyn Clock>) -> Self {
        let name = format!("host:{}", reader.node_name());
        let cluster = Arc::clone(reader.cluster());
        Self { name, reader: Arc::new(Mutex::new(reader)), clock, cluster }
    }

    /// This machine as a cluster of one node, for the processors.
    pub fn cluster(&self) -> Arc<HostCluster> {
        Arc::clone(&self.cluster)
    }
}

impl Source for HostSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn scrape(&self, _interval: Interval) -> BoxFuture<'_, Result<Scrape, SourceError>> {
        let (reader, clock) = (Arc::clone(&self.reader), Arc::clone(&self.clock));
        Box::pin(async move {
            // An abandoned scrape may still hang on a file; waiting for it would tie up a thread
            // for every further interval.
            let read = move || match reader.try_lock() {
                Some(mut reader) => reader.read(&*clock),
                None => Err(SourceError::new("an earlier scrape of this host still runs")),
            };
            tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
                Err(SourceError::new("the scrape of this host broke off").caused_by(error))
            })
        })
    }
}

/// Yields the one host source, every time.
pub struct HostProvider(Arc<HostSource>);

impl HostProvider {
    /// A provider of that source.
    pub fn new(source: Arc<HostSource>) -> Self {
        Self(source)
    }
}

impl SourceProvider for HostProvider {
    fn sources(&self) -> Vec<Arc<dyn Source>> {
        vec![Arc::clone(&self.0) as Arc<dyn Source>]
    }
}
