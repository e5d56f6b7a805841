//! Evaluation: all steps of a series at once, series after series.
//!
//! A plan's vectors become *pipelines*: a source of series (columns of the store, or a table that is
//! there already) and what is done to each by itself. Whoever consumes a pipeline, be it an
//! aggregation or the table of an answer, gets one series at a time and keeps what it needs, so that
//! the series below an aggregation are never all in memory. Pipelines are run in blocks of series, on
//! several threads; what a block gives does not depend on who ran it, and blocks are joined in order.

mod aggregate;
mod column;
mod extremes;
mod frames;
mod histogram;
mod join;
mod pipeline;
mod relabel;
mod source;
mod table;
mod window;

use heapster_core::storage::Snapshot;
use heapster_core::{Labels, TimeRange};

use super::annotations::Annotations;
use super::functions;
use super::grid::{ABSENT, Grid, is_present};
use super::meter::Meter;
use super::plan::{Scalar, Select, Vector, Window};
use super::vocabulary::Vocabulary;
use crate::error::QueryError;
pub(super) use table::Table;

/// What an evaluation works with.
#[derive(Clone, Copy)]
pub(super) struct Evaluator<'a> {
    pub snapshot: &'a dyn Snapshot,
    pub vocabulary: &'a dyn Vocabulary,
    pub meter: &'a Meter,
    pub annotations: &'a Annotations<'a>,
    pub threads: usize,
}

impl<'a> Evaluator<'a> {
    /// A number for each step.
    pub fn scalar(&self, scalar: &Scalar, grid: Grid) -> Result<Vec<f64>, QueryError> {
        self.meter.check()?;
        // Room for the result only; what is below gives its room back.
        let _held = self.meter.hold(1, grid.count)?;
        Ok(match scalar {
            Scalar::Constant(value) => vec![*value; grid.count],
            Scalar::Time => {
                (0..grid.count).map(|step| grid.time_ms(step) as f64 / 1000.0).collect()
            }
            Scalar::Negate(of) => {
                let mut values = self.scalar(of, grid)?;
                values.iter_mut().for_each(|value| *value = -*value);
                values
            }
            Scalar::Binary { op, lhs, rhs } => {
                let mut values = self.scalar(lhs, grid)?;
                let others = self.scalar(rhs, grid)?;
                for (value, other) in values.iter_mut().zip(others) {
                    *value = functions::binary(*op, *value, other);
                }
                values
            }
            Scalar::Of(of) => {
                let table = self.table(of, grid)?;
                let mut values = vec![ABSENT; grid.count];
                let mut counts = vec![0_usize; grid.count];
                for series in &table.series {
                    for (step, value) in series.values.iter().enumerate() {
                        if is_present(*value) {
                            values[step] = *value;
                            counts[step] += 1;
                        }
                    }
                }
                for (value, count) in values.iter_mut().zip(counts) {
                    if count != 1 {
                        *value = f64::NAN;
                    }
                }
                values
            }
            Scalar::Once(of) => {
                let once = self.scalar(of, Grid::at(grid.start_ms))?;
                vec![once[0]; grid.count]
            }
        })
    }

    /// All series of a vector.
    pub fn table(&self, vector: &Vector, grid: Grid) -> Result<Table<'a>, QueryError> {
        self.pipeline(vector, grid)?.into_table()
    }

    /// The samples of one window of each series: the answer to a query for a range vector.
    pub fn samples(
        &self,
        window: &Window,
        grid: Grid,
    ) -> Result<Vec<window::RawSeries>, QueryError> {
        window::samples(self, window, grid)
    }
}

/// The labels of the series that a selector finds in a range, both ends included.
pub(super) fn labels_of(
    evaluator: &Evaluator<'_>,
    select: &Select,
    range: TimeRange,
) -> Result<Vec<Labels>, QueryError> {
    let found = source::find(evaluator, select, range.start.as_millis(), range.end.as_millis())?;
    Ok(found.list.iter().map(|source| source.key().to_labels()).collect())
}
