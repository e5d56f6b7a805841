//! Rows of one set in columns: what the head hands to a segment and what compaction hands on.

use heapster_core::storage::Values;
use heapster_core::{Labels, MetricKind, Text};

/// A run of rows of one set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SetRows {
    /// Labels of the set.
    pub labels: Labels,
    /// Time of each row in milliseconds since the epoch; strictly rising, at least one.
    pub timestamps: Vec<i64>,
    /// The columns, sorted by name, each name once, each with at least one value.
    pub columns: Vec<ColumnRows>,
}

/// The values of one column in a run of rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnRows {
    /// Name of the metric.
    pub name: Text,
    /// How it behaves over time.
    pub kind: MetricKind,
    /// Numbers of the rows that have a value, rising; `None` when every row has one.
    pub present: Option<Vec<u32>>,
    /// One value for each row that has one.
    pub values: Values,
}
