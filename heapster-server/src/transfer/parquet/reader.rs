//! [`ParquetReader`]: batches of rows out of one row group after the other.
//!
//! Takes what [`super::ParquetWriter`] writes and what other programs make of it: other units of
//! time, one column `value`, columns that may be null, and columns of text as labels.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use heapster_core::series::UNKNOWN_KIND;
use heapster_core::{Labels, Text, Timestamp, Value};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::super::input::Counter;
use super::super::{ReadError, ReadOptions, Sample, SampleReader, read_kind};
use crate::shown::Shown;

/// Rows that are read at once.
const BATCH_ROWS: usize = 1 << 13;

/// Reads Parquet.
pub struct ParquetReader {
    file: SerializedFileReader<File>,
    plan: Vec<(usize, Role)>,
    options: ReadOptions,
    /// The next row group.
    next_group: usize,
    columns: Vec<Column>,
    /// Rows of the current row group that are not read yet.
    group_rows_left: usize,
    rows_read: u64,
    rows: u64,
    ready: VecDeque<Result<Sample, ReadError>>,
    /// Of the row before: most rows repeat them.
    metric: Text,
    labels: Labels,
    pairs: Vec<(ByteArray, ByteArray)>,
    progress: Progress,
}

/// The counter of bytes, which a reader that jumps about can only estimate.
struct Progress {
    bytes: Counter,
    before: u64,
    len: u64,
}

/// What a column is for.
#[derive(Clone, Debug, PartialEq)]
enum Role {
    /// With ticks per millisecond.
    Time(i64),
    Metric,
    Kind,
    Int,
    Float,
    LabelNames,
    LabelValues,
    /// One label; null and the empty text are no label.
    Label(Text),
}

/// A column of the current row group, and the rows of the current batch.
struct Column {
    role: Role,
    source: Source,
}

enum Source {
    Ints(Leaf<Int64Type>),
    Floats(Leaf<DoubleType>),
    Texts(Leaf<ByteArrayType>),
}

/// A column with values of one type.
struct Leaf<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// The definition level of a value that is not null.
    defined_max: i16,
    /// The least level of an element of a list, be it null.
    element_min: i16,
    values: Vec<T::T>,
    defined: Vec<i16>,
    repeated: Vec<i16>,
}

impl ParquetReader {
    /// Reads the schema. `bytes` is moved on as rows are read.
    ///
    /// # Errors
    /// The file is no Parquet file, or lacks a column that is needed.
    pub fn new(file: File, bytes: Counter, options: ReadOptions) -> Result<Self, ReadError> {
        let len = file.metadata()?.len();
        let file = guarded(|| SerializedFileReader::new(file))?;
        let metadata = file.metadata().file_metadata();
        let plan = plan(metadata.schema_descr())?;
        let rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let progress = Progress { before: bytes.get(), bytes, len };
        Ok(Self {
            file,
            plan,
            options,
            next_group: 0,
            columns: Vec::new(),
            group_rows_left: 0,
            rows_read: 0,
            rows,
            ready: VecDeque::new(),
            metric: Text::default(),
            labels: Labels::new(),
            pairs: Vec::new(),
            progress,
        })
    }

    /// Opens the next row group; false at the end.
    fn open_group(&mut self) -> Result<bool, ParquetError> {
        if self.next_group >= self.file.num_row_groups() {
            return Ok(false);
        }
        let group = self.file.get_row_group(self.next_group)?;
        self.next_group += 1;
        let rows = group.metadata().num_rows();
        self.group_rows_left = usize::try_from(rows)
            .map_err(|_| ParquetError::General(format!("a row group has {rows} rows")))?;
        self.columns.clear();
        for (index, role) in &self.plan {
            let descriptor = group.metadata().column(*index).column_descr_ptr();
            let source = Source::new(group.get_column_reader(*index)?, &descriptor)?;
            self.columns.push(Column { role: role.clone(), source });
        }
        Ok(true)
    }

    /// Reads rows into `ready`; false at the end.
    fn read_batch(&mut self) -> Result<bool, ParquetError> {
        while self.group_rows_left == 0 {
            if !self.open_group()? {
                return Ok(false);
            }
        }
        let rows = self.group_rows_left.min(BATCH_ROWS);
        for column in &mut self.columns {
            column.source.read(rows)?;
        }
        self.group_rows_left -= rows;
        self.make_samples(rows)?;
        self.rows_read += rows as u64;
        let share = self.rows_read as f64 / self.rows.max(1) as f64;
        let done = (self.progress.len as f64 * share.min(1.0)) as u64;
        self.progress.bytes.set(self.progress.before + done);
        Ok(true)
    }

    fn make_samples(&mut self, rows: usize) -> Result<(), ParquetError> {
        let columns = std::mem::take(&mut self.columns);
        let mut cells = columns
            .iter()
            .map(|column| Ok((&column.role, column.source.cells(rows)?)))
            .collect::<Result<Vec<_>, ParquetError>>()?;
        for row in 0..rows {
            let sample = self
                .sample(&mut cells, row)
                .map_err(|reason| ReadError::bad_line(self.rows_read + row as u64 + 1, reason));
            self.ready.push_back(sample);
        }
        drop(cells);
        self.columns = columns;
        Ok(())
    }

    /// The sample of a row; the text says what is wrong with it.
    fn sample(&mut self, cells: &mut [(&Role, Cells<'_>)], row: usize) -> Result<Sample, String> {
        let (mut at, mut kind, mut int, mut float) = (None, UNKNOWN_KIND, None, None);
        let mut has_metric = false;
        let (mut names, mut values) = (&[][..], &[][..]);
        let mut extra: Vec<(Text, Text)> = Vec::new();
        for (role, cells) in cells {
            match (role, cells) {
                (Role::Time(per_milli), Cells::Ints(times)) => {
                    at = times[row].map(|time| time.div_euclid(*per_milli));
                }
                (Role::Metric, Cells::Texts(texts)) => {
                    let text = texts[row].map_or(&b""[..], ByteArray::data);
                    if self.metric.as_bytes() != text {
                        self.metric = utf8(text)?.into();
                    }
                    has_metric = !text.is_empty();
                }
                (Role::Kind, Cells::Texts(texts)) => {
                    if let Some(text) = texts[row] {
                        let text = utf8(text.data())?;
                        kind = read_kind(text).ok_or_else(|| {
                            let text = Shown(text);
                            format!("the kind {text} is not one of cumulative, gauge and delta")
                        })?;
                    }
                }
                (Role::Int, Cells::Ints(ints)) => int = ints[row],
                (Role::Float, Cells::Floats(floats)) => float = floats[row],
                (Role::LabelNames, Cells::Lists(lists)) => names = lists.of(row),
                (Role::LabelValues, Cells::Lists(lists)) => values = lists.of(row),
                (Role::Label(name), Cells::Texts(texts)) => {
                    if let Some(text) = texts[row].filter(|text| !text.is_empty()) {
                        extra.push((name.clone(), utf8(text.data())?.into()));
                    }
                }
                _ => unreachable!("bug: a column is not of the type of its role"),
            }
        }
        if !has_metric {
            return Err("the metric is empty".to_owned());
        }
        let at = at.and_then(Timestamp::checked_from_millis);
        let at = at.ok_or("the time is missing or not in the years 1 to 9999")?;
        let value = match (int, float) {
            (Some(int), None) if self.options.floats => Value::Float(int as f64),
            (Some(int), None) => Value::Int(int),
            (None, Some(float)) => Value::Float(float),
            (None, None) => return Err("there is no value".to_owned()),
            (Some(_), Some(_)) => return Err("there are two values".to_owned()),
        };
        self.set_labels(names, values)?;
        let mut labels = self.labels.clone();
        for (name, value) in extra {
            labels.set(name, value);
        }
        Ok(Sample { labels, metric: self.metric.clone(), kind, at, value })
    }

    /// Makes labels of a row's names and values unless they are those of the row before.
    fn set_labels(
        &mut self,
        names: &[Option<&ByteArray>],
        values: &[Option<&ByteArray>],
    ) -> Result<(), String> {
        if names.len() != values.len() {
            return Err("the labels have not as many values as names".to_owned());
        }
        let pairs = || names.iter().copied().zip(values.iter().copied());
        let mut before = self.pairs.iter().map(|(name, value)| (Some(name), Some(value)));
        if names.len() == self.pairs.len() && pairs().all(|pair| before.next() == Some(pair)) {
            return Ok(());
        }
        let mut labels = Labels::new();
        self.pairs.clear();
        for (name, value) in pairs() {
            let name = name.filter(|name| !name.is_empty()).ok_or("a label has no name")?;
            let Some(value) = value else { continue };
            if labels.contains(utf8(name.data())?) {
                return Err(format!("the label {} is there twice", Shown(utf8(name.data())?)));
            }
            labels.set(utf8(name.data())?, utf8(value.data())?);
            self.pairs.push((name.clone(), value.clone()));
        }
        self.labels = labels;
        Ok(())
    }
}

impl SampleReader for ParquetReader {
    fn next(&mut self) -> Result<Option<Sample>, ReadError> {
        loop {
            if let Some(sample) = self.ready.pop_front() {
                return sample.map(Some);
            }
            if !guarded(|| self.read_batch())? {
                return Ok(None);
            }
        }
    }
}

/// Runs what reads a file that may hold anything. The `parquet` crate gives errors for most of what
/// is damaged, and panics for some; these are errors too, and nobody is told of a bug in us.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ReadError> {
    silence_guarded_panics();
    let was_guarded = IS_GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(read));
    IS_GUARDED.set(was_guarded);
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ParquetError::External(error))) => Err(match error.downcast::<std::io::Error>() {
            Ok(error) => ReadError::Io(*error),
            Err(error) => ReadError::Unusable(error.to_string()),
        }),
        Ok(Err(error)) => Err(ReadError::Unusable(error.to_string())),
        Err(_) => Err(ReadError::Unusable("the file is damaged".to_owned())),
    }
}

thread_local! {
    /// Whether a panic of this thread is expected and caught.
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Lets panics that are caught here print nothing. All others are told as before.
fn silence_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GUARDED.get() {
                before(info);
            }
        }));
    });
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".to_owned())
}

/// Which columns are read for what.
fn plan(schema: &SchemaDescriptor) -> Result<Vec<(usize, Role)>, ReadError> {
    let mut plan = Vec::new();
    for index in 0..schema.num_columns() {
        let column = schema.column(index);
        let path = column.path().string();
        let role = match (path.as_str(), column.physical_type()) {
            ("time" | "timestamp", Physical::INT64) => Role::Time(ticks_per_milli(&column)?),
            ("metric" | "name" | "__name__", Physical::BYTE_ARRAY) => Role::Metric,
            ("kind", Physical::BYTE_ARRAY) => Role::Kind,
            ("value_int" | "value", Physical::INT64) => Role::Int,
            ("value_float" | "value", Physical::DOUBLE) => Role::Float,
            (path, Physical::BYTE_ARRAY) if path.starts_with("labels.") => {
                if path.ends_with(".key") { Role::LabelNames } else { Role::LabelValues }
            }
            (name, Physical::BYTE_ARRAY) if column.max_rep_level() == 0 && !name.contains('.') => {
                Role::Label(name.into())
            }
            (name, physical) => {
                let what = format!(
                    "no use is known for the column {name:?} of the type {physical}; a file has \
                     time (timestamp), metric, kind (text), value_int (int64), value_float \
                     (double), labels (map of text to text), and columns of text as labels"
                );
                return Err(ReadError::Unusable(what));
            }
        };
        let is_list = matches!(role, Role::LabelNames | Role::LabelValues);
        if column.max_rep_level() != i16::from(is_list) {
            let what = format!("the column {path:?} has the wrong depth");
            return Err(ReadError::Unusable(what));
        }
        if plan.iter().any(|(_, other)| *other == role) {
            return Err(ReadError::Unusable(format!("there are two columns like {path:?}")));
        }
        plan.push((index, role));
    }
    let has = |wanted: fn(&Role) -> bool| plan.iter().any(|(_, role)| wanted(role));
    for (name, is_there) in [
        ("time", has(|role| matches!(role, Role::Time(_)))),
        ("metric", has(|role| matches!(role, Role::Metric))),
        ("value_int or value_float", has(|role| matches!(role, Role::Int | Role::Float))),
    ] {
        if !is_there {
            return Err(ReadError::Unusable(format!("there is no column {name}")));
        }
    }
    Ok(plan)
}

/// What a column of times counts in.
fn ticks_per_milli(column: &ColumnDescriptor) -> Result<i64, ReadError> {
    match (column.logical_type_ref(), column.converted_type()) {
        (Some(LogicalType::Timestamp(timestamp)), _) => Ok(match timestamp.unit {
            TimeUnit::MILLIS => 1,
            TimeUnit::MICROS => 1_000,
            TimeUnit::NANOS => 1_000_000,
        }),
        (None, ConvertedType::TIMESTAMP_MICROS) => Ok(1_000),
        (None, ConvertedType::TIMESTAMP_MILLIS | ConvertedType::NONE) => Ok(1),
        _ => Err(ReadError::Unusable("the column of times does not hold timestamps".to_owned())),
    }
}

/// The cells of a batch, one or a list for each row.
enum Cells<'a> {
    Ints(Vec<Option<i64>>),
    Floats(Vec<Option<f64>>),
    Texts(Vec<Option<&'a ByteArray>>),
    Lists(Lists<'a>),
}

struct Lists<'a> {
    texts: Vec<Option<&'a ByteArray>>,
    /// For each row where its list ends.
    ends: Vec<usize>,
}

impl<'a> Lists<'a> {
    fn of(&self, row: usize) -> &[Option<&'a ByteArray>] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.texts[start..self.ends[row]]
    }
}

impl Source {
    fn new(reader: ColumnReader, column: &ColumnDescriptor) -> Result<Self, ParquetError> {
        Ok(match reader {
            ColumnReader::Int64ColumnReader(_) => Self::Ints(Leaf::new(reader, column)),
            ColumnReader::DoubleColumnReader(_) => Self::Floats(Leaf::new(reader, column)),
            ColumnReader::ByteArrayColumnReader(_) => Self::Texts(Leaf::new(reader, column)),
            _ => return Err(ParquetError::General("a column changed its type".to_owned())),
        })
    }

    fn read(&mut self, rows: usize) -> Result<(), ParquetError> {
        match self {
            Self::Ints(leaf) => leaf.read(rows),
            Self::Floats(leaf) => leaf.read(rows),
            Self::Texts(leaf) => leaf.read(rows),
        }
    }

    fn cells(&self, rows: usize) -> Result<Cells<'_>, ParquetError> {
        Ok(match self {
            Self::Ints(leaf) => {
                Cells::Ints(leaf.flat(rows)?.into_iter().map(Option::<&i64>::copied).collect())
            }
            Self::Floats(leaf) => {
                Cells::Floats(leaf.flat(rows)?.into_iter().map(Option::<&f64>::copied).collect())
            }
            Self::Texts(leaf) if leaf.repeated.is_empty() => Cells::Texts(leaf.flat(rows)?),
            Self::Texts(leaf) => Cells::Lists(leaf.lists(rows)?),
        })
    }
}

impl<T: DataType> Leaf<T> {
    fn new(reader: ColumnReader, column: &ColumnDescriptor) -> Self {
        Self {
            reader: get_typed_column_reader(reader),
            defined_max: column.max_def_level(),
            element_min: column.max_def_level() - i16::from(column.self_type().is_optional()),
            values: Vec::new(),
            defined: Vec::new(),
            repeated: Vec::new(),
        }
    }

    /// Reads the next rows; replaces those before.
    fn read(&mut self, rows: usize) -> Result<(), ParquetError> {
        self.values.clear();
        self.defined.clear();
        self.repeated.clear();
        let mut left = rows;
        while left > 0 {
            let (defined, repeated) = (Some(&mut self.defined), Some(&mut self.repeated));
            let (read, ..) = self.reader.read_records(left, defined, repeated, &mut self.values)?;
            if read == 0 {
                return Err(short_column());
            }
            left = left.saturating_sub(read);
        }
        Ok(())
    }

    /// One value or none for each row.
    fn flat(&self, rows: usize) -> Result<Vec<Option<&T::T>>, ParquetError> {
        let mut values = self.values.iter();
        let cells: Vec<_> = if self.defined_max == 0 {
            values.map(Some).collect()
        } else {
            let cell = |level: &i16| {
                if *level < self.defined_max { Some(None) } else { values.next().map(Some) }
            };
            self.defined.iter().map_while(cell).collect()
        };
        if cells.len() == rows { Ok(cells) } else { Err(short_column()) }
    }
}

impl Leaf<ByteArrayType> {
    /// A list for each row.
    fn lists(&self, rows: usize) -> Result<Lists<'_>, ParquetError> {
        let mut values = self.values.iter();
        let (mut texts, mut ends) = (Vec::new(), Vec::new());
        for (defined, repeated) in self.defined.iter().zip(&self.repeated) {
            if *repeated == 0 {
                ends.push(texts.len());
            }
            let end = ends.last_mut().ok_or_else(short_column)?;
            if *defined == self.defined_max {
                texts.push(Some(values.next().ok_or_else(short_column)?));
            } else if *defined >= self.element_min {
                texts.push(None);
            }
            *end = texts.len();
        }
        if ends.len() == rows { Ok(Lists { texts, ends }) } else { Err(short_column()) }
    }
}

fn short_column() -> ParquetError {
    ParquetError::General("a column has fewer rows than its row group".to_owned())
}
