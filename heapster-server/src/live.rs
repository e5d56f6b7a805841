//! [`Live`]: the newest batch, shared by the sink that stored it and the APIs that list from it.

use std::sync::Arc;

use heapster_core::DataBatch;
use parking_lot::RwLock;

/// The newest batch that the store has acknowledged.
///
/// A batch is published only after it was stored, so a list never names what a query cannot find.
#[derive(Debug, Default)]
pub struct Live {
    latest: RwLock<Option<Arc<DataBatch>>>,
}

impl Live {
    /// The newest batch, or `None` before the first.
    pub fn latest(&self) -> Option<Arc<DataBatch>> {
        self.latest.read().clone()
    }

    /// Publishes a stored batch, whatever its timestamp: the last one stored is the newest.
    pub fn publish(&self, batch: Arc<DataBatch>) {
        *self.latest.write() = Some(batch);
    }
}
