//! Streams of batches for benchmarks of the store: simulated, recorded and generated ones.

mod generated;
mod npz;
mod recorded;
mod series_run;
mod simulated;
mod store_run;

use heapster_core::{DataBatch, series};

pub use generated::GeneratedBatches;
pub use recorded::RecordedBatches;
pub use series_run::{SeriesOptions, SeriesRun};
pub use simulated::SimulatedBatches;
pub use store_run::{BatchClock, StoreRun, read_all, store_options};

/// How many samples a store is to keep of a batch, its times included.
pub fn sample_count(batch: &DataBatch) -> u64 {
    let rows = batch.sets.values().flat_map(series::rows_of);
    rows.map(|row| row.cells.len() as u64).sum()
}
