//! The vocabulary of heapster: metric sets, entities, the metric catalogue, the processors of the
//! collector and the port to storage.
//!
//! ```text
//! Source → DataBatch → Processor … Processor → Sink
//!                                               └→ store → Snapshot → APIs, queries
//! ```
//!
//! Nothing in this crate does I/O, reads a clock, starts a thread or uses `unsafe`.
#![forbid(unsafe_code)]

pub mod catalogue;
pub mod cluster;
mod entity;
mod error;
pub mod labels;
mod matcher;
mod metric_set;
mod pattern;
pub mod pipeline;
pub mod processors;
pub mod quantity;
pub mod series;
pub mod storage;
mod text;
mod time;
mod value;

pub use catalogue::metric;
pub use entity::{EntityKey, EntityType};
pub use error::{ParseError, ProcessError};
pub use labels::{Label, Labels, key};
pub use matcher::{MatchOp, MatchTexts, Matcher};
pub use metric_set::{DataBatch, LabeledMetric, MetricSet, Metrics};
pub use quantity::Quantity;
pub use text::Text;
pub use time::{NanoTime, TimeRange, Timestamp};
pub use value::{MetricKind, MetricValue, Value};
