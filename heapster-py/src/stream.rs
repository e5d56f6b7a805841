//! [`Stream`]: columns of Python and NumPy as an Arrow stream, for frames that have none by themselves.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray,
    TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use arrow_buffer::NullBuffer;
use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::table::labels;
use crate::{arrow_stream, error};

/// A column: its name, its kind, its numbers, and its gaps or, of labels, the texts of the numbers.
type Column<'py> = (String, String, Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);

/// Columns of equal length that have an Arrow stream.
#[pyclass(frozen, module = "heapster._heapster")]
pub struct Stream {
    batch: RecordBatch,
}

#[pymethods]
impl Stream {
    /// Of columns whose kinds are `int`, `uint`, `float`, `label`, or `time[s]` with one of the units
    /// s, ms, us and ns. In a column of times the least number is a gap, as it is NumPy's NaT.
    #[new]
    fn new(columns: Vec<Column<'_>>) -> PyResult<Self> {
        let array = |(name, kind, numbers, more): Column<'_>| {
            Ok((name, array(&kind, &numbers, more.as_ref())?))
        };
        let columns = columns.into_iter().map(array).collect::<PyResult<Vec<_>>>()?;
        let batch = RecordBatch::try_from_iter(columns);
        Ok(Self { batch: batch.map_err(|error| error::of_argument(error.to_string()))? })
    }

    /// The Arrow C stream; each call begins a new one.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        arrow_stream::export(py, self.batch.clone())
    }
}

fn array(
    kind: &str,
    numbers: &Bound<'_, PyAny>,
    more: Option<&Bound<'_, PyAny>>,
) -> PyResult<ArrayRef> {
    if kind == "label" {
        let texts: Vec<String> = more.map(PyAnyMethods::extract).transpose()?.unwrap_or_default();
        let codes: Vec<i32> = list(numbers)?;
        let codes: Int32Array = codes.into_iter().map(|code| (code >= 0).then_some(code)).collect();
        return Ok(labels(codes, &texts.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let gaps: Option<Vec<bool>> = more.map(|gaps| list(gaps)).transpose()?;
    let nulls = gaps.map(|gaps| gaps.into_iter().map(|is_gap| !is_gap).collect::<NullBuffer>());
    Ok(match kind {
        "int" => Arc::new(Int64Array::new(list(numbers)?.into(), nulls)),
        "uint" => Arc::new(UInt64Array::new(list(numbers)?.into(), nulls)),
        "float" => Arc::new(Float64Array::new(list(numbers)?.into(), nulls)),
        _ => {
            let numbers: Vec<i64> = list(numbers)?;
            let nulls = nulls.or_else(|| {
                let is_there = |number: &i64| *number != i64::MIN;
                Some(numbers.iter().map(is_there).collect())
            });
            match kind {
                "time[s]" => Arc::new(TimestampSecondArray::new(numbers.into(), nulls)),
                "time[ms]" => Arc::new(TimestampMillisecondArray::new(numbers.into(), nulls)),
                "time[us]" => Arc::new(TimestampMicrosecondArray::new(numbers.into(), nulls)),
                "time[ns]" => Arc::new(TimestampNanosecondArray::new(numbers.into(), nulls)),
                _ => return Err(error::of_argument(format!("{kind:?} is no kind of column"))),
            }
        }
    })
}

/// Numbers of an array, or of a list.
fn list<T>(numbers: &Bound<'_, PyAny>) -> PyResult<Vec<T>>
where
    T: Copy + Element + for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>,
{
    // NumPy is asked only about what is its own: it may not be installed.
    if numbers.hasattr("dtype")? {
        let array = numbers.cast::<PyArray1<T>>()?;
        // Every other row of a frame, or all of them backwards, are not one piece of memory.
        return match array.to_vec() {
            Ok(all) => Ok(all),
            Err(_) => Ok(array.try_readonly()?.as_array().to_vec()),
        };
    }
    numbers.try_iter()?.map(|number| number?.extract()).collect()
}
