//! The embedded time-series store of heapster: one directory, one process that writes, no network.
//!
//! A [`Store`] takes batches of metric sets ([`Store::append`]), or rows of sets it was shown before
//! ([`Store::append_dense`], the fastest way), and gives consistent views of them
//! ([`Store::snapshot`], the port of [`heapster_core::storage`]). It starts no threads: its owner
//! calls [`Store::maintain`] about once a second, and [`Store::compact`] from a thread of its own.
//!
//! # What survives
//!
//! | acknowledged as | the process dies | the power goes |
//! |---|---|---|
//! | [`Ack::Durable`] | kept | kept |
//! | [`Ack::Buffered`] | kept | lost since the last [`Store::maintain`] |
//! | [`Ack::Memory`] | nothing is promised | nothing is promised |
//!
//! A batch is there whole or not at all, values come back bit for bit, and nothing is read that was
//! not appended. Damage on the disk is found by checksums and costs the damaged part: it is set
//! aside and reported, the rest is served. Retention deletes whole segments, and never on the word
//! of a clock that jumped. What this rests on is in `docs/durability.md`.
//!
//! # A second process
//!
//! [`StoreReader`] opens the directory for reading while a server writes it, takes no lock and
//! writes nothing: a notebook on live data. Each [`StoreReader::refresh`] shows what is new.
//! [`backup`] copies a store through such a reader, [`restore`] makes a store of it again, and
//! [`check`] verifies a directory.
//!
//! # Example
//!
//! ```
//! use heapster_core::series::Row;
//! use heapster_core::storage::{Columns, Selector, Snapshot, collect};
//! use heapster_core::{Labels, Matcher, MetricValue, TimeRange, Timestamp, Value};
//! use heapster_store::{Ack, Store, StoreOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path().join("metrics"), StoreOptions::default())?;
//! let row = Row {
//!     labels: Labels::from_iter([("type", "pod"), ("pod_name", "web-1")]),
//!     cells: vec![("memory/usage".into(), MetricValue::gauge(4096))],
//! };
//! let at = Timestamp::parse_rfc3339("2018-07-26T12:00:00Z")?;
//! let report = store.append_rows(at, [&row], Ack::Durable)?;
//! assert_eq!((report.accepted, report.duplicate), (1, 0));
//! // To send it again does no harm.
//! assert_eq!(store.append_rows(at, [&row], Ack::Durable)?.duplicate, 1);
//!
//! let selector = Selector {
//!     matchers: vec![Matcher::equal("pod_name", "web-1")],
//!     columns: Columns::Named("memory/usage".into()),
//!     range: TimeRange::ALL,
//! };
//! let sets = store.snapshot().select(&selector)?;
//! assert_eq!(collect(&*sets[0], 0)?, [(at, Value::Int(4096))]);
//! store.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Reading order
//! `store`, `snapshot`, `head`, `wal`, `flush`, `compaction`, `maintenance`, `recovery`, `reader`, `selection`, `quarantine`, `segment`, `chunk`.
#![deny(unsafe_code)]

mod backup;
#[doc(hidden)]
pub mod bench_support;
mod cardinality;
mod check;
mod chunk;
mod clock;
mod codec;
mod compaction;
mod error;
mod flush;
mod follower;
#[doc(hidden)]
pub mod fuzz_support;
mod head;
mod import;
mod maintenance;
mod manifest;
mod options;
mod paths;
#[cfg(feature = "planted-bugs")]
pub mod planted;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
mod quarantine;
mod reader;
mod recovery;
mod reserve;
mod retention;
mod rows;
mod segment;
mod selection;
mod snapshot;
mod stats;
mod store;
mod tier;
mod tombstone;
pub mod vfs;
mod wal;

pub use backup::{CopyReport, Progress, backup, restore};
pub use cardinality::{Cardinality, LabelCardinality, MetricCardinality, PairCardinality};
pub use check::{CheckReport, Finding, Severity, check};
pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
pub use head::handle::SetHandle;
pub use import::Import;
pub use options::{
    Ack, LateWindow, Rejected, RejectedCounts, Retention, StoreOptions, TierOptions,
};
pub use quarantine::QuarantinedGroup;
pub use reader::{ReaderOptions, StoreReader};
pub use segment::{CodecCensus, TierCensus};
pub use snapshot::StoreSnapshot;
pub use stats::{
    AppendReport, CompactReport, DamagedIndex, DeleteReport, ImportReport, MaintenanceReport,
    OpenReport, Quarantined, RefreshReport, RollUpReport, Stats, TierStats,
};
pub use store::Store;
