//! [`Gathered`]: samples of the series of a table, and the rows that they make.

use std::ops::Range;

use heapster_core::series::Row;
use heapster_core::{MetricValue, Timestamp, Value};
use heapster_store::{SetHandle, Store};

use super::series_table::{Place, Refusal, SeriesTable};

/// A row with at least this share of its set's columns is appended with all of them.
const DENSE_SHARE: usize = 8;

/// Samples in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered(Vec<Gathering>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Gathering {
    at: Timestamp,
    place: Place,
    value: f64,
}

/// Rows that can be appended, in the order of time. Each set has one row of a moment at most.
#[derive(Debug, Default)]
pub struct Rows {
    pub(super) moments: Vec<Moment>,
    /// Samples whose sets the store does not take.
    pub refused: Vec<(Refusal, u64)>,
}

/// The rows of a moment.
#[derive(Debug)]
pub(super) struct Moment {
    pub at: Timestamp,
    pub dense: Vec<DenseRow>,
    /// Cells of the dense rows: column and value.
    pub cells: Vec<(u16, f64)>,
    /// Rows that have but a few of the columns of their sets.
    pub sparse: Vec<Row>,
}

#[derive(Debug)]
pub(super) struct DenseRow {
    pub handle: SetHandle,
    pub cells: Range<usize>,
}

impl Gathered {
    /// Adds a sample. Of two of one series and moment the later one counts.
    pub fn push(&mut self, at: Timestamp, place: Place, value: f64) {
        self.0.push(Gathering { at, place, value });
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The samples in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, Place, f64)> + '_ {
        self.0.iter().map(|one| (one.at, one.place, one.value))
    }

    /// The rows of the samples. `table` is the one that their places are of.
    pub fn into_rows(mut self, table: &mut SeriesTable, store: &Store) -> Rows {
        // Stable: of two samples of one series and moment the later one stays the later one.
        self.0.sort_by_key(|one| (one.at, one.place));
        let mut rows = Rows::default();
        for of_moment in self.0.chunk_by(|a, b| a.at == b.at) {
            rows.add_moment(of_moment, table, store);
        }
        rows
    }
}

impl Rows {
    fn add_moment(&mut self, samples: &[Gathering], table: &mut SeriesTable, store: &Store) {
        let at = samples[0].at;
        let mut moment = Moment { at, dense: Vec::new(), cells: Vec::new(), sparse: Vec::new() };
        for of_set in samples.chunk_by(|a, b| a.place.set == b.place.set) {
            let handle = match table.handle(of_set[0].place.set, store) {
                Ok(handle) => handle.clone(),
                Err(refusal) => {
                    self.refused.push((refusal, of_set.len() as u64));
                    continue;
                }
            };
            let of_column = of_set.chunk_by(|a, b| a.place == b.place);
            let cells = of_column.filter_map(|same| same.last());
            if of_set.len() * DENSE_SHARE < handle.width() {
                let cells = cells.map(|one| {
                    let (name, kind) = table.column(one.place);
                    (name.clone(), MetricValue { value: Value::Float(one.value), kind })
                });
                moment.sparse.push(Row { labels: handle.labels().clone(), cells: cells.collect() });
                continue;
            }
            let start = moment.cells.len();
            moment.cells.extend(cells.map(|one| (one.place.column, one.value)));
            moment.dense.push(DenseRow { handle, cells: start..moment.cells.len() });
        }
        self.moments.push(moment);
    }
}

impl Moment {
    /// The dense rows in pieces that are appended one after the other: what is read and written at
    /// once is bounded, however wide rows are.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        const PIECE_VALUES: usize = 1 << 16;
        let mut rest = self.dense.as_slice();
        std::iter::from_fn(move || {
            let mut piece = Piece { rows: Vec::new(), values: Vec::new() };
            while let Some((row, others)) = rest.split_first() {
                if !piece.rows.is_empty() && piece.values.len() + row.handle.width() > PIECE_VALUES
                {
                    break;
                }
                rest = others;
                let start = piece.values.len();
                piece.values.resize(start + row.handle.width(), None);
                for (column, value) in &self.cells[row.cells.clone()] {
                    piece.values[start + usize::from(*column)] = Some(Value::Float(*value));
                }
                piece.rows.push((&row.handle, start..piece.values.len()));
            }
            (!piece.rows.is_empty()).then_some(piece)
        })
    }
}

/// Some dense rows with all their values.
pub(super) struct Piece<'a> {
    rows: Vec<(&'a SetHandle, Range<usize>)>,
    values: Vec<Option<Value>>,
}

impl Piece<'_> {
    pub(super) fn rows(&self) -> impl Iterator<Item = (&SetHandle, &[Option<Value>])> {
        self.rows.iter().map(|(handle, values)| (*handle, &self.values[values.clone()]))
    }
}
