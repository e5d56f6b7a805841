//! The embedded time-series store of heapster.

mod chunk;
mod clock;
mod codec;
mod error;
mod head;
mod maintenance;
mod manifest;
mod options;
mod paths;
mod recovery;
mod retention;
mod rows;
mod segment;
mod snapshot;
mod stats;
mod store;
pub mod vfs;
mod wal;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use options::{Ack, LateWindow, Rejected, RejectedCounts, Retention, StoreOptions};
pub use snapshot::StoreSnapshot;
pub use stats::{AppendReport, MaintenanceReport, OpenReport, Quarantined, Stats};
pub use store::Store;
