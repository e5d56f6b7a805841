//! [`Collector`]: collects into a store that is open for writing.

use std::sync::Arc;

use heapster_core::{DataBatch, Text, Timestamp};
use heapster_server::live::Live;
use heapster_server::targets::TargetRegistry;
use heapster_server::telemetry::Registry;
use pyo3::prelude::*;

use crate::error;
use crate::keeper::{Keeper, Owned, config};
use crate::question::{numbers, texts};
use crate::recent::{Line, Recent};
use crate::store::Store;
use crate::table::Table;

/// A running collector.
#[pyclass(frozen, module = "heapster._heapster")]
pub struct Collector {
    keeper: Owned<Keeper>,
    /// Stays readable when the collector is stopped.
    seen: Seen,
}

struct Seen {
    registry: Arc<Registry>,
    targets: Arc<TargetRegistry>,
    live: Arc<Live>,
    recent: Recent,
}

#[pymethods]
impl Collector {
    /// Starts collecting.
    #[new]
    fn start(
        py: Python<'_>,
        store: &Bound<'_, Store>,
        sources: Vec<String>,
        resolution: &str,
    ) -> PyResult<Self> {
        let mut flags = vec![("metric-resolution", resolution)];
        flags.extend(sources.iter().map(|source| ("source", source.as_str())));
        let config = config(&flags)?;
        let store = store.get().writable()?;
        let keeper = py.detach(|| Keeper::start(Some(store), &config));
        let keeper = keeper.map_err(|error| error::of_app(&error))?;
        let seen = Seen {
            registry: Arc::clone(keeper.app.registry()),
            targets: Arc::clone(keeper.app.targets()),
            live: Arc::clone(keeper.app.live()),
            recent: keeper.recent.clone(),
        };
        Ok(Self { keeper: Owned::new("collector", keeper), seen })
    }

    /// Stops in order, and leaves the store open; once more does nothing.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        match self.keeper.take()? {
            Some(keeper) => py.detach(|| keeper.stop()).map_err(|error| error::of_app(&error)),
            None => Ok(()),
        }
    }

    /// The metrics about itself, in the text format of Prometheus.
    fn own_metrics(&self) -> String {
        self.seen.registry.render()
    }

    /// Warnings and errors, the oldest first; of targets the last one of each that is down.
    fn errors(&self) -> Vec<Line> {
        let mut lines = self.seen.recent.lines();
        for (_, targets) in self.seen.targets.jobs() {
            for target in targets.active {
                let status = target.status();
                if !status.last_error.is_empty() {
                    let at = status.last_scrape.map_or(0, Timestamp::as_millis);
                    lines.push((at, "error", format!("{}: {}", target.url, status.last_error)));
                }
            }
        }
        lines.sort();
        lines
    }

    /// Time of the newest batch, or of the newest scrape of a target.
    fn newest(&self) -> Option<i64> {
        let batch = self.seen.live.latest().map(|batch| batch.timestamp);
        let targets = self.seen.targets.jobs().into_iter().flat_map(|(_, job)| job.active);
        let scraped = targets.filter_map(|target| target.status().last_scrape).max();
        batch.max(scraped).map(Timestamp::as_millis)
    }

    /// The newest batch: its time and a row for each entity; `None` before the first.
    fn latest(&self) -> PyResult<Option<(i64, Table)>> {
        let latest = self.keeper.with(|keeper| keeper.app.live().latest())?;
        Ok(latest.map(|batch| (batch.timestamp.as_millis(), table(&batch))))
    }
}

impl Collector {
    /// Looks at the app that collects.
    pub fn with_keeper<R>(&self, look: impl FnOnce(&Keeper) -> R) -> PyResult<R> {
        self.keeper.with(look)
    }
}

/// A row for each entity of a batch, with its plain metrics.
fn table(batch: &DataBatch) -> Table {
    let names: Vec<String> = batch.sets.keys().map(ToString::to_string).collect();
    let mut metrics: Vec<&Text> = Vec::new();
    for set in batch.sets.values() {
        metrics.extend(set.metrics.iter().map(|(name, _)| name));
    }
    metrics.sort();
    metrics.dedup();
    let types = batch.sets.keys().map(|key| Some(key.entity_type().as_str()));
    let mut columns = vec![
        ("entity".to_owned(), texts(names.iter().map(|name| Some(name.as_str())))),
        ("type".to_owned(), texts(types)),
    ];
    for metric in metrics {
        let values = batch.sets.values().map(|set| set.metrics.get(metric).map(|one| one.value));
        columns.push((metric.to_string(), numbers(&values.collect::<Vec<_>>())));
    }
    Table::new(columns)
}
