//! [`Table`]: named columns of an answer, for Arrow, NumPy and lists.

use std::collections::HashMap;
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, DictionaryArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use heapster_core::key;
use numpy::PyArray1;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyList};

use crate::append::LABEL_OF_COLUMN;
use crate::arrow_stream;

/// Named columns of equal length; cheap to clone.
///
/// A column is of one of four kinds: `time` (milliseconds since the epoch, UTC), `int` (64 bits),
/// `float` (64 bits) or `label` (a dictionary of texts). All but times may have gaps.
#[pyclass(frozen, module = "heapster._heapster")]
#[derive(Clone)]
pub struct Table {
    batch: RecordBatch,
    /// What to store again takes beside the columns that are seen: the names of the labels that the
    /// metric of a row has of its own.
    own: Option<ArrayRef>,
}

impl Table {
    /// A table of these columns.
    pub fn new(columns: Vec<(String, ArrayRef)>) -> Self {
        let field = |(name, array): &(String, ArrayRef)| {
            Field::new(name, array.data_type().clone(), array.null_count() > 0)
        };
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let columns = columns.into_iter().map(|(_, array)| array).collect();
        let batch = RecordBatch::try_new(schema.into(), columns);
        Self { batch: batch.expect("bug: columns of a table differ in length"), own: None }
    }

    /// The table, with a note at each of its columns that has another name than its label.
    pub fn with_labels(self, named: &[(&str, String)]) -> Self {
        let schema = self.batch.schema();
        let note = |field: &Field| {
            let own = named.iter().find(|(label, name)| name == field.name() && label != name);
            match own {
                Some((label, _)) => {
                    let note = (LABEL_OF_COLUMN.to_owned(), (*label).to_owned());
                    field.clone().with_metadata(HashMap::from([note]))
                }
                None => field.clone(),
            }
        };
        let fields = schema.fields().iter().map(|field| note(field)).collect::<Vec<_>>();
        let columns = self.batch.columns().to_vec();
        let batch = RecordBatch::try_new(Schema::new(fields).into(), columns);
        Self { batch: batch.expect("bug: a note changed a column"), own: self.own }
    }

    /// The table, with the names of the labels that the metric of a row has of its own.
    pub fn with_own(self, own: ArrayRef) -> Self {
        Self { own: Some(own), ..self }
    }

    fn column(&self, name: &str) -> PyResult<&ArrayRef> {
        self.batch.column_by_name(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }
}

/// A column of labels: for each row the number of its text, or a gap.
pub fn labels(codes: impl Into<arrow_array::Int32Array>, texts: &[&str]) -> ArrayRef {
    let texts = std::sync::Arc::new(StringArray::from(texts.to_vec()));
    let labels = DictionaryArray::<Int32Type>::try_new(codes.into(), texts);
    std::sync::Arc::new(labels.expect("bug: a label has no text"))
}

fn kind(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Timestamp(..) => "time",
        DataType::Int64 => "int",
        DataType::Float64 => "float",
        DataType::Dictionary(..) => "label",
        other => unreachable!("bug: a table has a column of {other}"),
    }
}

fn texts(array: &ArrayRef) -> &StringArray {
    array.as_dictionary::<Int32Type>().values().as_string()
}

#[pymethods]
impl Table {
    fn __len__(&self) -> usize {
        self.batch.num_rows()
    }

    /// Names and kinds of the columns.
    fn columns(&self) -> Vec<(String, &'static str)> {
        let schema = self.batch.schema();
        schema
            .fields()
            .iter()
            .map(|field| (field.name().clone(), kind(field.data_type())))
            .collect()
    }

    /// The rows from `start` to `end`, which share memory with this table.
    fn slice(&self, start: usize, end: usize) -> Self {
        let Range { start, end } = clamp(start, end, self.batch.num_rows());
        let own = self.own.as_ref().map(|own| own.slice(start, end - start));
        Self { batch: self.batch.slice(start, end - start), own }
    }

    /// The table with all that a store has of its rows, some of which is not shown.
    fn stored(&self) -> Self {
        let Some(own) = &self.own else { return self.clone() };
        let schema = self.batch.schema();
        let mark = Field::new(key::LABELED, own.data_type().clone(), true);
        let fields = schema.fields().iter().cloned().chain([mark.into()]);
        let columns = self.batch.columns().iter().cloned().chain([own.clone()]);
        let schema = Schema::new(fields.collect::<Vec<_>>());
        let batch = RecordBatch::try_new(schema.into(), columns.collect());
        Self { batch: batch.expect("bug: columns of a table differ in length"), own: None }
    }

    /// Numbers of a column as a new array that may be written to. Times are milliseconds; of labels
    /// these are the numbers of their texts; gaps are 0, -1 in labels and NaN in floats.
    fn numbers<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let column = self.column(name)?;
        Ok(match kind(column.data_type()) {
            "time" => {
                let times = column.as_primitive::<TimestampMillisecondType>().values();
                PyArray1::from_vec(py, times.to_vec()).into_any()
            }
            "int" => {
                let ints = column.as_primitive::<Int64Type>();
                PyArray1::from_vec(py, filled(ints, 0)).into_any()
            }
            "float" => {
                let floats = column.as_primitive::<Float64Type>();
                PyArray1::from_vec(py, filled(floats, f64::NAN)).into_any()
            }
            _ => {
                let codes = column.as_dictionary::<Int32Type>().keys();
                PyArray1::from_vec(py, filled(codes, -1)).into_any()
            }
        })
    }

    /// Where a column has gaps; `None` when it has none.
    fn gaps<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        let column = self.column(name)?;
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(nulls.map(|nulls| {
            let gaps: Vec<bool> = nulls.iter().map(|is_there| !is_there).collect();
            PyArray1::from_vec(py, gaps).into_any()
        }))
    }

    /// The texts of a column of labels, by their numbers.
    fn texts(&self, name: &str) -> PyResult<Vec<String>> {
        let column = self.column(name)?;
        if kind(column.data_type()) != "label" {
            return Err(PyKeyError::new_err(format!("{name} has no labels")));
        }
        Ok(texts(column).iter().map(|text| text.unwrap_or_default().to_owned()).collect())
    }

    /// Rows of a column as Python's own values: numbers, texts, milliseconds; `None` in gaps.
    fn values<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        start: usize,
        end: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let column = self.column(name)?;
        let rows = clamp(start, end, column.len());
        let column = column.slice(rows.start, rows.len());
        match kind(column.data_type()) {
            "time" => PyList::new(py, column.as_primitive::<TimestampMillisecondType>()),
            "int" => PyList::new(py, column.as_primitive::<Int64Type>()),
            "float" => PyList::new(py, column.as_primitive::<Float64Type>()),
            _ => {
                let labels = column.as_dictionary::<Int32Type>();
                // One object for each text, however many rows have it.
                let texts = PyList::new(py, texts(&column))?;
                let text = |code: Option<i32>| match code {
                    Some(code) => texts.get_item(code as usize),
                    None => Ok(py.None().into_bound(py)),
                };
                PyList::new(py, labels.keys().iter().map(text).collect::<PyResult<Vec<_>>>()?)
            }
        }
    }

    /// The Arrow C stream; each call begins a new one.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A wish, which the protocol lets us leave unfulfilled.
        drop(requested_schema);
        arrow_stream::export(py, self.batch.clone())
    }

    /// The schema as an Arrow C schema.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow_stream::export_schema(py, &self.batch.schema())
    }
}

/// A range within `len`.
pub fn clamp(start: usize, end: usize, len: usize) -> Range<usize> {
    let end = end.min(len);
    start.min(end)..end
}

/// Values with something in place of gaps.
fn filled<T: arrow_array::ArrowPrimitiveType>(
    array: &arrow_array::PrimitiveArray<T>,
    gap: T::Native,
) -> Vec<T::Native> {
    match array.null_count() {
        0 => array.values().to_vec(),
        _ => array.iter().map(|value| value.unwrap_or(gap)).collect(),
    }
}
