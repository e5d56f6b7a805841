//! Streams of batches for benchmarks of the store: simulated, recorded and generated ones.

mod containers;
mod dense;
mod generated;
mod made;
mod npz;
mod recorded;
mod simulated;
mod store;

use heapster_core::{DataBatch, series};

pub use containers::{COLUMNS_OF_CONTAINER, Churn, Containers, LabelSize};
pub use dense::{Days, DenseBatches};
pub use generated::{GENERATED_COLUMNS, Generated, GeneratedBatches, GeneratedColumn, Instance};
pub use recorded::{RECORDED_COLUMNS, RecordedBatches};
pub use simulated::SimulatedBatches;
pub use store::{BatchClock, FillCost, Filling, read_all, store_options};

/// How many samples a store is to keep of a batch, its times included.
pub fn sample_count(batch: &DataBatch) -> u64 {
    let mut count = 0;
    let visited = series::visit_rows(batch.sets.values(), |row| {
        count += row.cells.len() as u64;
        Ok::<_, std::convert::Infallible>(())
    });
    match visited {
        Ok(()) => count,
    }
}
