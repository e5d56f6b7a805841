//! What it costs to meet a series for the first time.

use std::io;
use std::time::Duration;

use heapster_core::storage::{Columns, Selector, Snapshot};
use heapster_core::{Matcher, TimeRange};

use super::START;
use super::lab::Lab;
use super::row::Row;
use crate::measure::cpu_of;
use crate::workload::{COLUMNS_OF_CONTAINER, Containers, Filling, LabelSize};

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (labels, name) in
        [(LabelSize::Kubernetes, "12 labels of Kubernetes"), (LabelSize::Short, "5 short labels")]
    {
        let count = lab.scaled(166_667, 20_000);
        let containers = Containers { count, labels, churn: None };
        let folder = lab.folder(&format!("series-{labels:?}"))?;
        // Without flushes: what a flush costs depends on how much is in memory.
        let mut filling = Filling::begin_with(&folder, |mut options| {
            options.head_bytes_max = usize::MAX;
            options
        })?;
        lab.progress(name);
        for node in 0..containers.nodes() {
            filling.append(&containers.batch(node, START, 0))?;
        }
        // The index is brought up by the first query or by maintenance, whichever comes first.
        let selector = Selector {
            matchers: vec![Matcher::equal("type", "nothing")],
            columns: Columns::All,
            range: TimeRange::ALL,
        };
        let (found, index) = cpu_of(|| filling.store.snapshot().select(&selector));
        if !found.map_err(io::Error::other)?.is_empty() {
            lab.failures.push("sets of a type that is not there were found".into());
        }
        let series = (count * COLUMNS_OF_CONTAINER) as f64;
        let cpu = filling.cost.append_cpu + filling.cost.maintain_cpu + index;
        let per_second = |cpu: Duration| series / cpu.as_secs_f64();
        let mut row = Row::new(name, per_second(cpu), "series/CPU-s").at_least(300e3).stretch(1e6);
        if labels == LabelSize::Short {
            row = row.peers(96e3, 58e3);
        }
        let index = filling.cost.maintain_cpu + index;
        rows.push(row.note(format!(
            "{} series, {:.0} % of it the index, log {:.1} bytes/series",
            series,
            index.as_secs_f64() / cpu.as_secs_f64() * 100.0,
            filling.cost.wal_bytes_per_sample(),
        )));
    }
    Ok(rows)
}
