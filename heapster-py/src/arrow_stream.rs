//! The Arrow C interface: how tables leave to other libraries and come from them, without copies.
//!
//! The only place of this crate that is not safe code: what a capsule points to is known by the
//! protocol alone.
#![expect(unsafe_code, reason = "a capsule is a pointer whose type only the protocol knows")]

use arrow_array::cast::AsArray;
use arrow_array::ffi::FFI_ArrowSchema;
use arrow_array::ffi_stream::{ArrayStreamReader, FFI_ArrowArrayStream};
use arrow_array::{Array, ArrayReader, RecordBatch, RecordBatchIterator, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error;

/// A stream of one batch. Whoever takes it releases it; else the capsule does.
pub fn export(py: Python<'_>, batch: RecordBatch) -> PyResult<Bound<'_, PyCapsule>> {
    let schema = batch.schema();
    let reader = RecordBatchIterator::new([Ok(batch)], schema);
    let stream = FFI_ArrowArrayStream::new(Box::new(reader));
    PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
}

/// A schema.
pub fn export_schema<'py>(py: Python<'py>, schema: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = FFI_ArrowSchema::try_from(schema);
    let schema = schema.map_err(|error| error::of_argument(error.to_string()))?;
    PyCapsule::new_with_value(py, schema, c"arrow_schema")
}

/// The rows of a stream, batch by batch.
pub struct Batches {
    arrays: ArrayStreamReader,
    schema: SchemaRef,
}

impl Batches {
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let array = self.arrays.next()?;
        Some(array.and_then(|array| {
            let rows = array.as_struct();
            // What its columns have in such a row is nothing that anyone meant.
            if rows.null_count() > 0 {
                let message = "it has rows that are null as a whole; leave them out";
                return Err(ArrowError::InvalidArgumentError(message.to_owned()));
            }
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let (schema, columns) = (self.schema.clone(), rows.columns().to_vec());
            RecordBatch::try_new_with_options(schema, columns, &options)
        }))
    }
}

/// The stream of an object that has one.
pub fn import(frame: &Bound<'_, PyAny>) -> PyResult<Batches> {
    let capsule = frame.call_method0("__arrow_c_stream__")?;
    let capsule = capsule.cast_into::<PyCapsule>().map_err(|_| {
        PyTypeError::new_err("__arrow_c_stream__ of the frame does not return a capsule")
    })?;
    let stream = capsule.pointer_checked(Some(c"arrow_array_stream"))?;
    // SAFETY: a capsule of this name points to an ArrowArrayStream, says the Arrow PyCapsule
    // interface. The stream is moved out, and what stays in the capsule is marked as released.
    // Whoever made it is trusted with what nobody could check: that its functions may be called, and
    // that each buffer is there and as long as the lengths and the offsets of its array say. What the
    // buffers hold is checked where it matters (`append::numbers_of_valid`).
    let arrays = unsafe { ArrayStreamReader::from_raw(stream.as_ptr().cast()) };
    let arrays =
        arrays.map_err(|error| error::of_argument(format!("the frame cannot be read: {error}")))?;
    match arrays.field().data_type() {
        DataType::Struct(fields) => {
            let schema = Schema::new(fields.clone()).into();
            Ok(Batches { arrays, schema })
        }
        other => Err(PyTypeError::new_err(format!(
            "the stream of the frame is one of {other}, not of rows with columns"
        ))),
    }
}
