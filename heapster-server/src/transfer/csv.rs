//! csv: one line per sample, `time,metric,kind,value,labels`.
//!
//! The labels are a JSON object, so that any name and value fits and an empty value differs from an
//! absent label. On reading, columns of other names are labels of their own, which is what other
//! programs write.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use ::csv::{ByteRecord, ErrorKind, ReaderBuilder};
use heapster_core::series::UNKNOWN_KIND;
use heapster_core::storage::Samples;
use heapster_core::{Labels, MetricKind, Text, Timestamp};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::input::{Counter, RECORD_BYTES_MAX, Rationed};
use super::number::{self, Spelling};
use super::{ReadError, ReadOptions, Sample, SampleReader, SampleWriter, Series, read_kind};
use crate::shown::Shown;

const HEADER: &str = "time,metric,kind,value,labels\n";

/// Writes csv.
#[derive(Debug)]
pub struct CsvWriter<W> {
    to: W,
    has_header: bool,
    /// What stands between time and value, and behind the value.
    between: Vec<u8>,
    behind: Vec<u8>,
}

impl<W: Write> CsvWriter<W> {
    /// Writes to `to`, which should be buffered.
    pub fn new(to: W) -> Self {
        Self { to, has_header: false, between: Vec::new(), behind: Vec::new() }
    }

    fn put_header(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_header, true) {
            self.to.write_all(HEADER.as_bytes())?;
        }
        Ok(())
    }
}

impl<W: Write> SampleWriter for CsvWriter<W> {
    fn write(&mut self, series: Series<'_>, samples: &Samples) -> io::Result<()> {
        self.put_header()?;
        self.between.clear();
        self.between.push(b',');
        put_field(series.metric, &mut self.between);
        self.between.push(b',');
        self.between.extend_from_slice(series.kind.as_str().as_bytes());
        self.between.push(b',');
        self.behind.clear();
        self.behind.push(b',');
        put_field(&labels_json(series.labels), &mut self.behind);
        self.behind.push(b'\n');
        for (at, value) in samples.iter() {
            write!(self.to, "{at}")?;
            self.to.write_all(&self.between)?;
            number::put(value, Spelling::Exact, &mut self.to)?;
            self.to.write_all(&self.behind)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.put_header()?;
        self.to.flush()
    }
}

/// Writes a field, in quotes where it needs them.
fn put_field(text: &str, to: &mut Vec<u8>) {
    if !text.contains(['"', ',', '\n', '\r']) && !text.starts_with(' ') && !text.ends_with(' ') {
        return to.extend_from_slice(text.as_bytes());
    }
    to.push(b'"');
    to.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    to.push(b'"');
}

/// Labels as a JSON object in the order of their names.
fn labels_json(labels: &Labels) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let pairs =
        labels.iter().map(|label| format!("{}:{}", quoted(&label.name), quoted(&label.value)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

/// What a column of a file holds.
#[derive(Debug)]
enum Column {
    Time,
    Metric,
    Kind,
    Value,
    Labels,
    /// One label; an empty field is no label.
    Label(Text),
}

/// Reads csv.
#[derive(Debug)]
pub struct CsvReader<R> {
    from: ::csv::Reader<Rationed<R>>,
    ration: Counter,
    columns: Vec<Column>,
    options: ReadOptions,
    record: ByteRecord,
    /// Of the line before: most lines repeat them.
    metric: Text,
    labels_text: Vec<u8>,
    labels: Labels,
    has_label_columns: bool,
    line: u64,
}

impl<R: Read> CsvReader<R> {
    /// Reads the line of column names.
    ///
    /// # Errors
    /// A column that is needed is not there, or the file cannot be read.
    pub fn new(from: R, options: ReadOptions) -> Result<Self, ReadError> {
        let ration = Rc::new(Cell::new(RECORD_BYTES_MAX));
        let rationed = Rationed::new(from, Rc::clone(&ration));
        let from =
            ReaderBuilder::new().flexible(true).buffer_capacity(1 << 16).from_reader(rationed);
        let mut reader = Self {
            from,
            ration,
            columns: Vec::new(),
            options,
            record: ByteRecord::new(),
            metric: Text::default(),
            labels_text: Vec::new(),
            labels: Labels::new(),
            has_label_columns: false,
            line: 1,
        };
        reader.read_header()?;
        Ok(reader)
    }

    fn read_header(&mut self) -> Result<(), ReadError> {
        let header = self.from.byte_headers().map_err(|error| unusable(&error))?;
        for name in header {
            let name = std::str::from_utf8(name)
                .map_err(|_| ReadError::Unusable("a column name is not UTF-8".to_owned()))?;
            // Spreadsheets put a byte order mark in front.
            let name = name.trim_start_matches('\u{feff}').trim();
            self.columns.push(match name {
                "time" | "timestamp" => Column::Time,
                "metric" | "name" | "__name__" => Column::Metric,
                "kind" => Column::Kind,
                "value" => Column::Value,
                "labels" => Column::Labels,
                "" => {
                    let what = "a column has no name; the first line must name the columns";
                    return Err(ReadError::Unusable(what.to_owned()));
                }
                label => Column::Label(label.into()),
            });
        }
        self.has_label_columns =
            self.columns.iter().any(|column| matches!(column, Column::Label(_)));
        let count = |wanted: fn(&Column) -> bool| {
            self.columns.iter().filter(|column| wanted(column)).count()
        };
        for (name, count) in [
            ("time", count(|column| matches!(column, Column::Time))),
            ("metric", count(|column| matches!(column, Column::Metric))),
            ("value", count(|column| matches!(column, Column::Value))),
        ] {
            if count != 1 {
                let seen = if count == 0 { "no column" } else { "more than one column" };
                let what = format!(
                    "{seen} is called {name:?} in the first line; the columns time, metric and \
                     value are needed, kind and labels are known, others are labels"
                );
                return Err(ReadError::Unusable(what));
            }
        }
        Ok(())
    }

    /// The sample of the record; the text says what is wrong with it.
    fn sample(&mut self) -> Result<Sample, String> {
        let (fields, columns) = (self.record.len(), self.columns.len());
        if fields != columns {
            return Err(format!("{fields} fields instead of {columns}"));
        }
        let (mut at, mut value, mut kind) = (Timestamp::EPOCH, None, UNKNOWN_KIND);
        for (column, field) in self.columns.iter().zip(&self.record) {
            // Labels are compared as bytes first, since they are long and hardly ever change.
            if matches!(column, Column::Labels) {
                if self.labels_text != field {
                    self.labels = parse_labels(field)?;
                    self.labels_text.clear();
                    self.labels_text.extend_from_slice(field);
                }
                continue;
            }
            let text = std::str::from_utf8(field).map_err(|_| "a field is not UTF-8".to_owned())?;
            match column {
                Column::Time => at = parse_time(text)?,
                Column::Metric if text.is_empty() => return Err("the metric is empty".to_owned()),
                Column::Metric if self.metric == *text => {}
                Column::Metric => self.metric = text.into(),
                Column::Kind => kind = parse_kind(text)?,
                Column::Value => {
                    let number = number::read(text.trim(), self.options.floats);
                    value = Some(
                        number
                            .ok_or_else(|| format!("the value {} is not a number", Shown(text)))?,
                    );
                }
                Column::Labels | Column::Label(_) => {}
            }
        }
        let value = value.ok_or("there is no value")?;
        let labels =
            if self.has_label_columns { self.with_columns()? } else { self.labels.clone() };
        Ok(Sample { labels, metric: self.metric.clone(), kind, at, value })
    }

    /// The labels with those that have a column of their own.
    fn with_columns(&self) -> Result<Labels, String> {
        let mut labels = self.labels.clone();
        for (column, field) in self.columns.iter().zip(&self.record) {
            if let Column::Label(name) = column
                && !field.is_empty()
            {
                let value = std::str::from_utf8(field);
                let value = value.map_err(|_| format!("the label {name} is not UTF-8"))?;
                labels.set(name.clone(), value);
            }
        }
        Ok(labels)
    }
}

impl<R: Read> SampleReader for CsvReader<R> {
    fn next(&mut self) -> Result<Option<Sample>, ReadError> {
        self.ration.set(RECORD_BYTES_MAX);
        let has_record =
            self.from.read_byte_record(&mut self.record).map_err(|error| unusable(&error))?;
        if !has_record {
            return Ok(None);
        }
        self.line = self.record.position().map_or(self.line, ::csv::Position::line);
        self.sample().map(Some).map_err(|reason| ReadError::bad_line(self.line, reason))
    }
}

fn unusable(error: &::csv::Error) -> ReadError {
    match error.kind() {
        ErrorKind::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            ReadError::Unusable(format!("{error}; is a quote not closed?"))
        }
        ErrorKind::Io(error) => ReadError::Io(io::Error::new(error.kind(), error.to_string())),
        _ => ReadError::Unusable(error.to_string()),
    }
}

/// RFC 3339 or whole milliseconds since the Unix epoch.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let millis = || text.parse().ok().and_then(Timestamp::checked_from_millis);
    Timestamp::parse_rfc3339(text).ok().or_else(millis).ok_or_else(|| {
        let text = Shown(text);
        format!(
            "the time {text} is neither RFC 3339 such as 2018-07-26T12:00:00Z nor milliseconds \
             since the Unix epoch"
        )
    })
}

fn parse_kind(text: &str) -> Result<MetricKind, String> {
    if text.is_empty() {
        return Ok(UNKNOWN_KIND);
    }
    read_kind(text).ok_or_else(|| {
        format!("the kind {} is not one of cumulative, gauge and delta", Shown(text))
    })
}

/// Labels out of a JSON object of texts; nothing at all is no labels.
fn parse_labels(field: &[u8]) -> Result<Labels, String> {
    struct Object;

    impl<'de> Visitor<'de> for Object {
        type Value = Labels;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object such as {\"type\":\"pod\"}")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
            let mut labels = Labels::new();
            while let Some((name, value)) = map.next_entry::<String, String>()? {
                if name.is_empty() {
                    return Err(A::Error::custom("a label has no name"));
                }
                if labels.contains(&name) {
                    return Err(A::Error::custom(format!("the label {name:?} is there twice")));
                }
                labels.set(name, value);
            }
            Ok(labels)
        }
    }

    if field.is_empty() {
        return Ok(Labels::new());
    }
    let mut json = serde_json::Deserializer::from_slice(field);
    let labels = json.deserialize_map(Object).and_then(|labels| json.end().map(|()| labels));
    labels.map_err(|error| format!("the labels are not a JSON object of texts: {error}"))
}
