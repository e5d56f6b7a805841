//! [`ParquetWriter`]: row groups of about a million rows, column after column.

use std::io::{self, Write};
use std::sync::Arc;

use heapster_core::storage::Samples;
use heapster_core::{Labels, Value};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::super::{SampleWriter, Series};
use super::SCHEMA;

/// Rows of a row group: readers skip by its bounds, and about 20 bytes of each row wait in memory.
const GROUP_ROWS: usize = 1 << 20;
/// Rows whose strings are put together at once.
const STEP_ROWS: usize = 1 << 14;

/// Writes Parquet.
pub struct ParquetWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    group: Group,
}

/// The rows that wait for their row group.
#[derive(Default)]
struct Group {
    times: Vec<i64>,
    /// For each row the index of its series.
    series: Vec<u32>,
    names: Vec<Names>,
    ints: Vec<i64>,
    floats: Vec<f64>,
    /// For each row 1 when its value is an integer.
    is_int: Vec<i16>,
}

/// The strings of a series.
struct Names {
    labels: Labels,
    metric: ByteArray,
    kind: ByteArray,
    /// Names and values of the labels.
    keys: Vec<ByteArray>,
    values: Vec<ByteArray>,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Writes to `to`, which should be buffered.
    ///
    /// # Errors
    /// The beginning of the file cannot be written.
    pub fn new(to: W) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).expect("bug: our schema is malformed");
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("heapster {}", crate::cli::VERSION))
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(io_error)?));
        for column in ["time", "value_int"] {
            let path = ColumnPath::from(column);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
        let properties = Arc::new(properties.build());
        let file = SerializedFileWriter::new(to, Arc::new(schema), properties);
        Ok(Self { file: file.map_err(io_error)?, group: Group::default() })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let group = std::mem::take(&mut self.group);
        if group.times.is_empty() {
            return Ok(());
        }
        let mut to = self.file.next_row_group()?;
        put::<Int64Type, _>(&mut to, &group.times, None)?;
        let of_rows = |of: fn(&Names) -> &ByteArray| {
            let group = &group;
            group.series.chunks(STEP_ROWS).map(move |rows| {
                rows.iter().map(|row| of(&group.names[*row as usize]).clone()).collect()
            })
        };
        put_texts(&mut to, of_rows(|names| &names.metric))?;
        put_texts(&mut to, of_rows(|names| &names.kind))?;
        put::<Int64Type, _>(&mut to, &group.ints, Some(&group.is_int))?;
        let is_float: Vec<i16> = group.is_int.iter().map(|is_int| 1 - is_int).collect();
        put::<DoubleType, _>(&mut to, &group.floats, Some(&is_float))?;
        put_labels(&mut to, &group, |names| &names.keys)?;
        put_labels(&mut to, &group, |names| &names.values)?;
        to.close()?;
        Ok(())
    }
}

impl<W: Write + Send> SampleWriter for ParquetWriter<W> {
    fn write(&mut self, series: Series<'_>, samples: &Samples) -> io::Result<()> {
        for (at, value) in samples.iter() {
            if self.group.times.len() == GROUP_ROWS {
                self.write_group().map_err(io_error)?;
            }
            let series = self.group.number(series);
            self.group.add(series, at.as_millis(), value);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.write_group().map_err(io_error)?;
        self.file.close().map(drop).map_err(io_error)
    }
}

impl Group {
    /// The index of a series, which is a new one unless it is that of the last row.
    fn number(&mut self, series: Series<'_>) -> u32 {
        let is_last = |last: &Names| {
            last.labels == *series.labels && last.metric.data() == series.metric.as_bytes()
        };
        if !self.names.last().is_some_and(is_last) {
            let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
            self.names.push(Names {
                labels: series.labels.clone(),
                metric: text(series.metric),
                kind: text(series.kind.as_str()),
                keys: series.labels.iter().map(|label| text(&label.name)).collect(),
                values: series.labels.iter().map(|label| text(&label.value)).collect(),
            });
        }
        (self.names.len() - 1) as u32
    }

    fn add(&mut self, series: u32, at: i64, value: Value) {
        self.times.push(at);
        self.series.push(series);
        match value {
            Value::Int(value) => self.ints.push(value),
            Value::Float(value) => self.floats.push(value),
        }
        self.is_int.push(i16::from(matches!(value, Value::Int(_))));
    }
}

/// Writes the next column of a row group; `defined` says which rows have a value.
fn put<T: DataType, W: Write + Send>(
    to: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    defined: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let mut column = to.next_column()?.expect("bug: our schema has too few columns");
    column.typed::<T>().write_batch(values, defined, None)?;
    column.close()
}

fn put_texts<W: Write + Send>(
    to: &mut SerializedRowGroupWriter<'_, W>,
    parts: impl Iterator<Item = Vec<ByteArray>>,
) -> Result<(), ParquetError> {
    let mut column = to.next_column()?.expect("bug: our schema has too few columns");
    for texts in parts {
        column.typed::<ByteArrayType>().write_batch(&texts, None, None)?;
    }
    column.close()
}

/// Writes the names or the values of all labels.
fn put_labels<W: Write + Send>(
    to: &mut SerializedRowGroupWriter<'_, W>,
    group: &Group,
    of: fn(&Names) -> &Vec<ByteArray>,
) -> Result<(), ParquetError> {
    let mut column = to.next_column()?.expect("bug: our schema has too few columns");
    let (mut texts, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for rows in group.series.chunks(STEP_ROWS) {
        texts.clear();
        defined.clear();
        repeated.clear();
        for row in rows {
            let of_row = of(&group.names[*row as usize]);
            texts.extend_from_slice(of_row);
            // A row without labels has one place that holds nothing; the first of several labels
            // begins a row, the others go on with it.
            defined.resize(defined.len() + of_row.len().max(1), i16::from(!of_row.is_empty()));
            repeated.push(0);
            repeated.resize(defined.len(), 1);
        }
        column.typed::<ByteArrayType>().write_batch(&texts, Some(&defined), Some(&repeated))?;
    }
    column.close()
}

fn io_error(error: ParquetError) -> io::Error {
    match error {
        // What the system said keeps its kind.
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(error) => io::Error::other(error),
        },
        error => io::Error::other(error),
    }
}
