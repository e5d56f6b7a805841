//! Files in which samples travel between stores and other programs: csv, Prometheus text, Parquet.
//!
//! A [`SampleWriter`] is given series after series and streams; a [`SampleReader`] gives sample
//! after sample. Neither holds a file in memory. docs/export-formats.md describes what is written.

mod csv;
mod input;
mod number;
mod parquet;
mod pending;
mod prometheus_text;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read, Stdin, Write};
use std::path::Path;
use std::rc::Rc;

use heapster_core::storage::Samples;
use heapster_core::{Labels, MetricKind, Text, Timestamp, Value};

pub use self::csv::{CsvReader, CsvWriter};
use self::input::Counted;
pub use self::input::Counter;
pub use self::parquet::{ParquetReader, ParquetWriter};
pub use self::pending::{Pending, Repeated};
pub use self::prometheus_text::{PrometheusReader, PrometheusWriter};

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a line of column names.
    Csv,
    /// The text format 0.0.4 of Prometheus, with quoted names where they need it.
    Prometheus,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format of that name: `csv`, `prometheus` or `parquet`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "csv" => Self::Csv,
            "prometheus" => Self::Prometheus,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }

    /// The format that a file's name suggests.
    pub fn of_file(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "csv" => Some(Self::Csv),
            "prom" | "txt" | "prometheus" => Some(Self::Prometheus),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// What identifies a series, and its kind.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Labels of the set.
    pub labels: &'a Labels,
    /// Name of the column.
    pub metric: &'a Text,
    /// How the metric behaves over time.
    pub kind: MetricKind,
}

/// One sample and the series it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels of the set.
    pub labels: Labels,
    /// Name of the column.
    pub metric: Text,
    /// How the metric behaves over time.
    pub kind: MetricKind,
    /// When.
    pub at: Timestamp,
    /// How much.
    pub value: Value,
}

/// Writes a file.
pub trait SampleWriter {
    /// Writes samples of a series. Samples of one series come one after the other, in the order of
    /// time; in which order series come is up to the format.
    ///
    /// # Errors
    /// The file cannot be written; the writer is of no more use.
    fn write(&mut self, series: Series<'_>, samples: &Samples) -> io::Result<()>;

    /// Ends the file. Without it the file is not whole.
    ///
    /// # Errors
    /// The file cannot be written.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Reads a file.
pub trait SampleReader {
    /// The next sample; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::BadLine`]: one line is left out, and the next call goes on behind it.
    /// Otherwise nothing more can be read.
    fn next(&mut self) -> Result<Option<Sample>, ReadError>;
}

/// Why a sample could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A line, or a row of a binary file, is not what it should be.
    #[error("line {line}: {reason}")]
    BadLine {
        /// Number of the line, from 1 on.
        line: u64,
        /// What is wrong with it, and what is expected.
        reason: String,
    },
    /// The file is not of the format, or damaged beyond a line.
    #[error("{0}")]
    Unusable(String),
    /// The file cannot be read.
    #[error("could not read it")]
    Io(#[from] io::Error),
}

impl ReadError {
    fn bad_line(line: u64, reason: impl Into<String>) -> Self {
        Self::BadLine { line, reason: reason.into() }
    }
}

/// How samples of a file are understood.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Time of samples without one.
    pub time: Timestamp,
    /// Whether every number is a float.
    pub floats: bool,
}

/// The kind of that name.
fn read_kind(text: &str) -> Option<MetricKind> {
    [MetricKind::Cumulative, MetricKind::Gauge, MetricKind::Delta]
        .into_iter()
        .find(|kind| kind.as_str() == text)
}

/// A writer to `to`, which should be buffered.
///
/// # Errors
/// The beginning of the file cannot be written.
pub fn writer<'a>(
    format: Format,
    to: impl Write + Send + 'a,
) -> io::Result<Box<dyn SampleWriter + 'a>> {
    Ok(match format {
        Format::Csv => Box::new(CsvWriter::new(to)),
        Format::Prometheus => Box::new(PrometheusWriter::new(to)),
        Format::Parquet => Box::new(ParquetWriter::new(to)?),
    })
}

/// Where a reader gets its bytes.
#[derive(Debug)]
pub enum Input {
    /// A file on a disk, with no byte read yet.
    File(File),
    /// A pipe or a terminal.
    Stream(Stdin),
}

/// A reader of `from`; adds the bytes it reads to the counter.
///
/// # Errors
/// The beginning of the file is not that of the format, or the format needs a file on a disk.
pub fn reader(
    format: Format,
    from: Input,
    bytes: &Counter,
    options: ReadOptions,
) -> Result<Box<dyn SampleReader>, ReadError> {
    let bytes = Rc::clone(bytes);
    let from: Box<dyn Read> = match (format, from) {
        (Format::Parquet, Input::File(file)) => {
            return Ok(Box::new(ParquetReader::new(file, bytes, options)?));
        }
        (Format::Parquet, Input::Stream(_)) => {
            let what = "parquet cannot be read from a pipe; give the name of a file";
            return Err(ReadError::Unusable(what.to_owned()));
        }
        (_, Input::File(file)) => Box::new(Counted::new(file, bytes)),
        (_, Input::Stream(stream)) => Box::new(Counted::new(stream, bytes)),
    };
    Ok(match format {
        Format::Csv => Box::new(CsvReader::new(from, options)?),
        _ => Box::new(PrometheusReader::new(from, options)),
    })
}
