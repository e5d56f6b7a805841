//! What is written: rows of one moment, and whole frames.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowDictionaryKeyType, ArrowPrimitiveType, Date32Type, Date64Type, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use heapster_core::catalogue::find;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Timestamp, Value};
use heapster_query::Cancel;
use heapster_server::transfer::{Pending, Repeated, Sample};
use heapster_store::{Ack, Import, RejectedCounts, Store};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat};

use crate::{arrow_stream, error, interrupt};

/// Samples that are put together before they go to the store.
const PENDING_MAX: usize = 500_000;
/// Rows after which a frame is asked whether it is still wanted.
const ROWS_PER_LOOK: usize = 4096;
/// What the metadata of a column says when its label could not give it its own name; see
/// [`crate::frame`].
pub const LABEL_OF_COLUMN: &str = "heapster.label";

/// What came of an append.
#[pyclass(frozen, get_all, module = "heapster._heapster")]
#[derive(Default)]
pub struct Report {
    /// Samples that the store took.
    accepted: u64,
    /// Samples that were there already, with the same value.
    duplicate: u64,
    /// Samples in whose place a later one of the same moment counts.
    replaced: u64,
    /// Cells without a value.
    missing: u64,
    /// Rows whose time had more digits than milliseconds.
    truncated: u64,
    /// Samples that were refused, by reason.
    refused: BTreeMap<&'static str, u64>,
}

impl Report {
    fn refuse(&mut self, reason: &'static str, samples: u64) {
        if samples > 0 {
            *self.refused.entry(reason).or_default() += samples;
        }
    }

    fn refuse_all(&mut self, counts: &RejectedCounts) {
        counts.iter().for_each(|(reason, count)| self.refuse(reason.as_str(), count));
    }
}

/// A number of Python that a store can hold exactly.
pub struct Number(pub Value);

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyBool>() {
            return Ok(Self(Value::Int(object.extract::<bool>()?.into())));
        }
        if object.is_instance_of::<PyFloat>() {
            return Ok(Self(Value::Float(object.extract()?)));
        }
        if let Ok(int) = object.extract::<i64>() {
            return Ok(Self(Value::Int(int)));
        }
        match object.extract::<f64>() {
            // An integer beyond 64 bits would become another number.
            Ok(float) if object.getattr("__index__").is_err() => Ok(Self(Value::Float(float))),
            _ => Err(error::of_argument(format!(
                "a value is a number of 64 bits, which {} is not",
                object.repr()?
            ))),
        }
    }
}

/// Labels, and values with the kind of each metric if it is said.
pub type Row = (Vec<(String, String)>, Vec<(String, Number, Option<String>)>);

/// How much an append is to survive.
pub fn ack(word: &str) -> PyResult<Ack> {
    Ok(match word {
        "durable" => Ack::Durable,
        "buffered" => Ack::Buffered,
        "memory" => Ack::Memory,
        _ => {
            let message = format!("ack is \"durable\", \"buffered\" or \"memory\", not {word:?}");
            return Err(error::of_argument(message));
        }
    })
}

/// How a metric behaves over time: as was said, or as the catalogue says.
fn kind_of(metric: &str, said: Option<&str>) -> MetricKind {
    match said {
        Some("cumulative" | "counter") => MetricKind::Cumulative,
        Some("delta") => MetricKind::Delta,
        Some(_) => MetricKind::Gauge,
        None => find(metric).map_or(MetricKind::Gauge, |metric| metric.kind),
    }
}

/// Refuses names that no label can have.
pub fn check_label(name: &str) -> PyResult<()> {
    match name {
        "" => Err(error::of_argument("a label has no name; give it one, or leave it out")),
        "__name__" => Err(error::of_argument(
            "__name__ is the name of a metric and no label: in a batch it is the key of a value, and \
             in a frame the column that metric= names",
        )),
        _ => Ok(()),
    }
}

/// Appends rows that share one moment.
pub fn rows(
    store: &Store,
    at: Timestamp,
    rows: Vec<Row>,
    ack: Ack,
) -> Result<Report, heapster_store::Error> {
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(labels, values)| heapster_core::series::Row {
            labels: labels.into_iter().collect(),
            cells: values
                .into_iter()
                .map(|(metric, Number(value), said)| {
                    let kind = kind_of(&metric, said.as_deref());
                    (Text::from(metric), MetricValue { value, kind })
                })
                .collect(),
        })
        .collect();
    let appended = store.append_rows(at, &rows, ack)?;
    let mut report = Report {
        accepted: appended.accepted,
        duplicate: appended.duplicate,
        replaced: appended.replaced,
        ..Report::default()
    };
    report.refuse_all(&appended.rejected);
    Ok(report)
}

/// What the columns of a frame mean.
pub struct FrameOptions {
    time: String,
    /// Milliseconds of one unit of a column of integers, as a fraction.
    unit: Option<(i64, i64)>,
    /// `None`: all columns of texts.
    labels: Option<Vec<String>>,
    /// Labels of all rows.
    fixed: Vec<(String, String)>,
    /// The column that names the metric of a row, if the frame has it.
    metric: String,
    /// The column of the value of such a row.
    value: String,
    kinds: HashMap<String, String>,
}

impl FrameOptions {
    pub fn read(options: &Bound<'_, PyDict>) -> PyResult<Self> {
        fn get<'py, T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>>(
            options: &Bound<'py, PyDict>,
            name: &str,
        ) -> PyResult<T> {
            let value = options.as_any().get_item(name)?;
            value.extract().map_err(Into::into)
        }
        let unit: Option<String> = get(options, "unit")?;
        let unit = match unit.as_deref() {
            None => None,
            Some("s") => Some((1_000, 1)),
            Some("ms") => Some((1, 1)),
            Some("us") => Some((1, 1_000)),
            Some("ns") => Some((1, 1_000_000)),
            Some(other) => {
                let message = format!("unit is \"s\", \"ms\", \"us\" or \"ns\", not {other:?}");
                return Err(error::of_argument(message));
            }
        };
        Ok(Self {
            time: get(options, "time")?,
            unit,
            labels: get(options, "labels")?,
            fixed: get(options, "fixed")?,
            metric: get(options, "metric")?,
            value: get(options, "value")?,
            kinds: get(options, "kinds")?,
        })
    }
}

/// Takes all rows of a frame, past the log: of any time, in any order.
pub fn frame(
    py: Python<'_>,
    store: &Store,
    frame: &Bound<'_, PyAny>,
    options: FrameOptions,
) -> PyResult<Report> {
    let batches = arrow_stream::import(frame)?;
    let columns = Columns::find(batches.schema(), options)?;
    let mut intake = Intake::new(store, &columns);
    interrupt::run(py, |cancel| -> Result<Report, Broken> {
        for batch in batches {
            if cancel.is_cancelled() {
                return Err(Broken::Cancelled);
            }
            let batch = batch.map_err(|error| Broken::Frame(error.to_string()))?;
            intake.take(&batch, cancel)?;
        }
        intake.finish(cancel)
    })?
    .map_err(|broken| match broken {
        Broken::Frame(message) => {
            error::of_argument(format!("the frame cannot be read: {message}"))
        }
        Broken::Store(error) => error::of_store(&error),
        Broken::Cancelled => error::of_query(&heapster_query::QueryError::Cancelled, ""),
    })
}

/// Why a frame is not taken to its end.
enum Broken {
    Frame(String),
    Store(heapster_store::Error),
    Cancelled,
}

/// What each column is, by its index.
struct Columns {
    time: usize,
    unit: Option<(i64, i64)>,
    labels: Vec<(usize, Text)>,
    /// Labels of all rows.
    fixed: Labels,
    values: Values,
    kinds: HashMap<String, String>,
}

/// Where the values are.
enum Values {
    /// A row has one value, of the metric it names; of `exact` when that has one.
    Long { metric: usize, value: usize, exact: Option<usize> },
    /// A row has a value for each metric.
    Wide(Vec<(usize, Text, MetricKind)>),
}

impl Columns {
    fn find(schema: &Schema, options: FrameOptions) -> PyResult<Self> {
        let mut seen = HashSet::new();
        if let Some(twice) = schema.fields().iter().find(|field| !seen.insert(field.name())) {
            return Err(error::of_argument(format!(
                "the frame has two columns that are called {:?}; rename one, or leave it out",
                twice.name()
            )));
        }
        let index = |name: &str| schema.fields().iter().position(|field| field.name() == name);
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let need = |name: &str, what: &str| {
            index(name).ok_or_else(|| {
                let all = names().collect::<Vec<_>>().join(", ");
                error::of_argument(format!(
                    "the frame has no column {name:?} for {what}; it has {all}"
                ))
            })
        };
        let time = need(&options.time, "time=")?;
        check_time(schema.field(time), options.unit.is_some())?;
        let metric = index(&options.metric).filter(|index| is_text(schema.field(*index)));
        let value = index(&options.value).filter(|index| is_number(schema.field(*index)));
        let long = metric.zip(value);
        let is_taken =
            |index: usize| index == time || long.is_some_and(|(metric, _)| index == metric);
        let labels: Vec<usize> = match &options.labels {
            Some(names) => {
                names.iter().map(|name| need(name, "labels=")).collect::<PyResult<_>>()?
            }
            None => (0..schema.fields().len())
                .filter(|index| is_text(schema.field(*index)) && !is_taken(*index))
                .collect(),
        };
        for label in &labels {
            if !is_text(schema.field(*label)) {
                return Err(PyTypeError::new_err(format!(
                    "the label {:?} is of {}, not of texts",
                    schema.field(*label).name(),
                    schema.field(*label).data_type()
                )));
            }
        }
        let values = match long {
            Some((metric, value)) => {
                let is_exact = |index: &usize| {
                    options.value == "value" && schema.field(*index).data_type().is_integer()
                };
                let exact = index("value_int").filter(is_exact);
                Values::Long { metric, value, exact }
            }
            None => {
                let is_value = |index: &usize| {
                    is_number(schema.field(*index)) && !is_taken(*index) && !labels.contains(index)
                };
                let values = (0..schema.fields().len()).filter(is_value);
                let column = |index: usize| {
                    let name = schema.field(index).name();
                    let kind = kind_of(name, options.kinds.get(name).map(String::as_str));
                    (index, Text::from(name.as_str()), kind)
                };
                Values::Wide(values.map(column).collect())
            }
        };
        let used = |index: usize| {
            is_taken(index)
                || labels.contains(&index)
                || match &values {
                    Values::Long { value, exact, .. } => index == *value || Some(index) == *exact,
                    Values::Wide(all) => all.iter().any(|(own, ..)| *own == index),
                }
        };
        // A column that is silently left out would be taken for stored.
        if let Some(lost) = (0..schema.fields().len()).find(|index| !used(*index)) {
            let field = schema.field(lost);
            return Err(error::of_argument(format!(
                "the column {:?} of {} is neither time nor label nor value; leave it out of the frame, \
                 or name it in labels=",
                field.name(),
                field.data_type()
            )));
        }
        if matches!(&values, Values::Wide(all) if all.is_empty()) {
            return Err(error::of_argument("the frame has no column of numbers"));
        }
        let name = |index: usize| {
            let label = label_of(schema.field(index));
            check_label(label).map(|()| (index, Text::from(label)))
        };
        options.fixed.iter().try_for_each(|(name, _)| check_label(name))?;
        Ok(Self {
            time,
            unit: options.unit,
            labels: labels.into_iter().map(name).collect::<PyResult<_>>()?,
            fixed: options.fixed.into_iter().collect(),
            values,
            kinds: options.kinds,
        })
    }
}

/// The label of a column: its name, unless a result could not call it so.
fn label_of(field: &Field) -> &str {
    let label = field.metadata().get(LABEL_OF_COLUMN).map(String::as_str);
    // Whoever renamed the column since means the new name.
    let is_ours = |label: &&str| field.name().trim_end_matches('_') == label.trim_end_matches('_');
    label.filter(is_ours).unwrap_or(field.name())
}

fn check_time(field: &Field, has_unit: bool) -> PyResult<()> {
    let (name, data_type) = (field.name(), field.data_type());
    let has_own =
        matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    match (has_own, is_number(field) && *data_type != DataType::Boolean) {
        (true, _) if has_unit => Err(error::of_argument(format!(
            "the times in {name:?} are of {data_type}, which has a unit of its own; leave out unit="
        ))),
        (_, true) if !has_unit => Err(error::of_argument(format!(
            "the times in {name:?} are numbers; say of what with unit=\"s\", \"ms\", \"us\" or \"ns\""
        ))),
        (true, _) | (_, true) => Ok(()),
        _ => Err(PyTypeError::new_err(format!(
            "the column {name:?} is of {data_type}, not of times"
        ))),
    }
}

fn is_text(field: &Field) -> bool {
    match field.data_type() {
        DataType::Dictionary(_, texts) => is_text_type(texts),
        other => is_text_type(other),
    }
}

fn is_text_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_number(field: &Field) -> bool {
    let data_type = field.data_type();
    data_type.is_integer()
        || matches!(data_type, DataType::Float32 | DataType::Float64 | DataType::Boolean)
}

/// Turns batches of rows into samples, and those into rows of the store.
struct Intake<'a> {
    store: Import<'a>,
    columns: &'a Columns,
    /// Label sets by the texts of the label columns, numbered over all batches.
    sets: HashMap<Box<[u32]>, Labels>,
    texts: Vec<Texts>,
    pending: Pending,
    report: Report,
}

/// Texts of one column of labels, numbered from 1; 0 is a gap.
#[derive(Default)]
struct Texts {
    numbers: HashMap<String, u32>,
    all: Vec<Text>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.all.push(Text::from(text));
        let number = self.all.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn get(&self, number: u32) -> Option<&Text> {
        Some(&self.all[number.checked_sub(1)? as usize])
    }
}

impl<'a> Intake<'a> {
    fn new(store: &'a Store, columns: &'a Columns) -> Self {
        let texts = columns.labels.iter().map(|_| Texts::default()).collect();
        let (store, sets) = (store.import(), HashMap::new());
        let (pending, report) = (Pending::default(), Report::default());
        Self { store, columns, sets, texts, pending, report }
    }

    fn take(&mut self, batch: &RecordBatch, cancel: &Cancel) -> Result<(), Broken> {
        let columns = self.columns;
        let times = times(batch.column(columns.time), columns.unit);
        let times = times.ok_or_else(|| Broken::Frame("its times are of no known type".into()))?;
        let mut codes = Vec::with_capacity(columns.labels.len());
        for ((column, _), texts) in columns.labels.iter().zip(&mut self.texts) {
            codes.push(numbers_of_valid(batch, *column, texts)?);
        }
        let mut values = CellReader::new(batch, columns)?;
        let mut of_row = vec![0; codes.len()];
        let mut labels: Option<Labels> = None;
        for row in 0..batch.num_rows() {
            if row % ROWS_PER_LOOK == 0 && cancel.is_cancelled() {
                return Err(Broken::Cancelled);
            }
            let width = values.count(row);
            self.report.missing += values.width() - width;
            let at = match times[row] {
                Time::At { at, is_cut } => {
                    self.report.truncated += u64::from(is_cut);
                    at
                }
                Time::Missing => {
                    self.report.refuse("no_time", width);
                    continue;
                }
                Time::Beyond => {
                    self.report.refuse("time_out_of_range", width);
                    continue;
                }
            };
            let is_same =
                labels.is_some() && codes.iter().zip(&of_row).all(|(all, own)| all[row] == *own);
            if !is_same {
                of_row.iter_mut().zip(&codes).for_each(|(own, all)| *own = all[row]);
                labels = Some(self.labels(&of_row));
            }
            let set = labels.as_ref().expect("bug: a row has no set");
            values.visit(row, |cell| match cell {
                Ok((metric, kind, value)) => {
                    let (labels, metric) = (set.clone(), metric.clone());
                    self.pending.add(Sample { labels, metric, kind, at, value });
                }
                Err(reason) => self.report.refuse(reason, 1),
            });
            if self.pending.len() >= PENDING_MAX {
                self.flush(cancel)?;
            }
        }
        Ok(())
    }

    fn labels(&mut self, numbers: &[u32]) -> Labels {
        if let Some(labels) = self.sets.get(numbers) {
            return labels.clone();
        }
        let mut labels = self.columns.fixed.clone();
        for (((_, name), texts), number) in self.columns.labels.iter().zip(&self.texts).zip(numbers)
        {
            if let Some(text) = texts.get(*number) {
                labels.set(name.clone(), text.clone());
            }
        }
        self.sets.insert(numbers.into(), labels.clone());
        labels
    }

    fn flush(&mut self, cancel: &Cancel) -> Result<(), Broken> {
        let store = &mut self.store;
        let Repeated { duplicate, replaced } = self.pending.drain(|at, rows| {
            if cancel.is_cancelled() {
                return Err(Broken::Cancelled);
            }
            store.push_rows(at, rows).map_err(Broken::Store)
        })?;
        self.report.duplicate += duplicate;
        self.report.replaced += replaced;
        Ok(())
    }

    fn finish(mut self, cancel: &Cancel) -> Result<Report, Broken> {
        self.flush(cancel)?;
        // What is left would be a part that nobody wants any more.
        if cancel.is_cancelled() {
            return Err(Broken::Cancelled);
        }
        let imported = self.store.finish().map_err(Broken::Store)?;
        self.report.accepted = imported.accepted;
        self.report.duplicate += imported.duplicate;
        self.report.replaced += imported.replaced;
        self.report.refuse_all(&imported.rejected);
        Ok(self.report)
    }
}

/// The time of a row.
#[derive(Clone, Copy)]
enum Time {
    At { at: Timestamp, is_cut: bool },
    Missing,
    Beyond,
}

impl Time {
    /// `number` units of `times / per` milliseconds each.
    fn new(number: i64, times: i64, per: i64) -> Self {
        let millis = number.div_euclid(per).checked_mul(times);
        match millis.and_then(Timestamp::checked_from_millis) {
            Some(at) => Self::At { at, is_cut: number.rem_euclid(per) != 0 },
            None => Self::Beyond,
        }
    }

    fn of_unsigned(number: u64, times: i64, per: i64) -> Self {
        let per = per.cast_unsigned();
        // Nanoseconds of this century's end need the 64th bit, which milliseconds do not.
        match i64::try_from(number / per).map(|whole| Self::new(whole, times, 1)) {
            Ok(Self::At { at, .. }) => Self::At { at, is_cut: !number.is_multiple_of(per) },
            Ok(time) => time,
            Err(_) => Self::Beyond,
        }
    }

    /// Not a number is no time, as it is in pandas.
    fn of_float(number: f64, times: i64, per: i64) -> Self {
        if number.is_nan() {
            return Self::Missing;
        }
        let exact = number * times as f64 / per as f64;
        // What no integer holds becomes the largest one, which no time is.
        match Timestamp::checked_from_millis(exact.floor() as i64) {
            Some(at) => Self::At { at, is_cut: exact.fract() != 0.0 },
            None => Self::Beyond,
        }
    }
}

/// The times of a column; `None` when it has none.
fn times(column: &ArrayRef, unit: Option<(i64, i64)>) -> Option<Vec<Time>> {
    fn each<T: ArrowPrimitiveType>(
        column: &ArrayRef,
        time: impl Fn(T::Native) -> Time,
    ) -> Vec<Time> {
        let numbers = column.as_primitive::<T>().iter();
        numbers.map(|number| number.map_or(Time::Missing, &time)).collect()
    }
    fn all<T: ArrowPrimitiveType<Native: Into<i64>>>(
        column: &ArrayRef,
        (times, per): (i64, i64),
    ) -> Vec<Time> {
        each::<T>(column, |number| Time::new(number.into(), times, per))
    }
    fn floats<T: ArrowPrimitiveType<Native: Into<f64>>>(
        column: &ArrayRef,
        (times, per): (i64, i64),
    ) -> Vec<Time> {
        each::<T>(column, |number| Time::of_float(number.into(), times, per))
    }
    Some(match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => all::<TimestampSecondType>(column, (1_000, 1)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            all::<TimestampMillisecondType>(column, (1, 1))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            all::<TimestampMicrosecondType>(column, (1, 1_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            all::<TimestampNanosecondType>(column, (1, 1_000_000))
        }
        DataType::Date32 => all::<Date32Type>(column, (86_400_000, 1)),
        DataType::Date64 => all::<Date64Type>(column, (1, 1)),
        DataType::Int8 => all::<Int8Type>(column, unit?),
        DataType::Int16 => all::<Int16Type>(column, unit?),
        DataType::Int32 => all::<Int32Type>(column, unit?),
        DataType::Int64 => all::<Int64Type>(column, unit?),
        DataType::UInt8 => all::<UInt8Type>(column, unit?),
        DataType::UInt16 => all::<UInt16Type>(column, unit?),
        DataType::UInt32 => all::<UInt32Type>(column, unit?),
        DataType::UInt64 => {
            let (times, per) = unit?;
            each::<UInt64Type>(column, |number| Time::of_unsigned(number, times, per))
        }
        DataType::Float32 => floats::<Float32Type>(column, unit?),
        DataType::Float64 => floats::<Float64Type>(column, unit?),
        _ => return None,
    })
}

/// The numbers of the texts of a column, once it is known to hold texts.
///
/// Whoever made the frame may be wrong: bytes that are no text, or the number of a text that a
/// dictionary does not have, would be worse than wrong here. Columns of numbers have nothing of
/// the kind.
fn numbers_of_valid(
    batch: &RecordBatch,
    column: usize,
    texts: &mut Texts,
) -> Result<Vec<u32>, Broken> {
    let array = batch.column(column);
    array.to_data().validate_full().map_err(|error| {
        let name = batch.schema_ref().field(column).name().clone();
        Broken::Frame(format!("the texts in its column {name:?} are damaged: {error}"))
    })?;
    Ok(numbers(array, texts))
}

/// The numbers of the texts of a column.
fn numbers(column: &ArrayRef, texts: &mut Texts) -> Vec<u32> {
    fn of_dictionary<K: ArrowDictionaryKeyType>(column: &ArrayRef, texts: &mut Texts) -> Vec<u32> {
        let dictionary = column.as_dictionary::<K>();
        let of_values = numbers(dictionary.values(), texts);
        // A key without a value stands for a gap.
        let of_key = |key: Option<usize>| key.map_or(0, |key| of_values[key]);
        (0..dictionary.len()).map(|row| of_key(dictionary.key(row))).collect()
    }
    let mut number = |text: Option<&str>| text.map_or(0, |text| texts.number(text));
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(number).collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().map(number).collect(),
        DataType::Utf8View => column.as_string_view().iter().map(&mut number).collect(),
        DataType::Dictionary(key, _) => match **key {
            DataType::Int8 => of_dictionary::<Int8Type>(column, texts),
            DataType::Int16 => of_dictionary::<Int16Type>(column, texts),
            DataType::Int32 => of_dictionary::<Int32Type>(column, texts),
            DataType::Int64 => of_dictionary::<Int64Type>(column, texts),
            DataType::UInt8 => of_dictionary::<UInt8Type>(column, texts),
            DataType::UInt16 => of_dictionary::<UInt16Type>(column, texts),
            DataType::UInt32 => of_dictionary::<UInt32Type>(column, texts),
            _ => of_dictionary::<UInt64Type>(column, texts),
        },
        other => unreachable!("bug: {other} was taken for texts"),
    }
}

/// A cell with a value, or why it is refused.
type Cell<'a> = Result<(&'a Text, MetricKind, Value), &'static str>;

/// The values of a batch, row by row.
enum CellReader<'a> {
    Long {
        metrics: Vec<Option<(Text, MetricKind)>>,
        codes: Vec<u32>,
        value: &'a ArrayRef,
        exact: Option<&'a ArrayRef>,
    },
    Wide(Vec<(&'a ArrayRef, &'a Text, MetricKind)>),
}

impl<'a> CellReader<'a> {
    fn new(batch: &'a RecordBatch, columns: &'a Columns) -> Result<Self, Broken> {
        Ok(match &columns.values {
            Values::Wide(all) => Self::Wide(
                all.iter().map(|(index, name, kind)| (batch.column(*index), name, *kind)).collect(),
            ),
            Values::Long { metric, value, exact } => {
                let mut texts = Texts::default();
                let codes = numbers_of_valid(batch, *metric, &mut texts)?;
                let named = |name: &Text| {
                    let said = columns.kinds.get(name.as_str()).map(String::as_str);
                    Some((name.clone(), kind_of(name, said)))
                };
                let metrics = std::iter::once(None).chain(texts.all.iter().map(named)).collect();
                let exact = exact.map(|index| batch.column(index));
                Self::Long { metrics, codes, value: batch.column(*value), exact }
            }
        })
    }

    /// Cells of a row.
    fn width(&self) -> u64 {
        match self {
            Self::Long { .. } => 1,
            Self::Wide(all) => all.len() as u64,
        }
    }

    /// Cells of a row that have a value.
    fn count(&self, row: usize) -> u64 {
        match self {
            Self::Long { value, exact, .. } => {
                u64::from(value.is_valid(row) || exact.is_some_and(|ints| ints.is_valid(row)))
            }
            Self::Wide(all) => {
                all.iter().filter(|(values, ..)| values.is_valid(row)).count() as u64
            }
        }
    }

    fn visit(&mut self, row: usize, mut take: impl FnMut(Cell<'_>)) {
        match self {
            Self::Long { metrics, codes, value, exact } => {
                let exact = exact.filter(|ints| ints.is_valid(row));
                let values = exact.unwrap_or(value);
                if !values.is_valid(row) {
                    return;
                }
                take(match (&metrics[codes[row] as usize], value_of(values, row)) {
                    (None, _) => Err("no_metric"),
                    (_, None) => Err("value_out_of_range"),
                    (Some((name, kind)), Some(value)) => Ok((name, *kind, value)),
                });
            }
            Self::Wide(all) => {
                for (values, name, kind) in all.iter().filter(|(values, ..)| values.is_valid(row)) {
                    take(match value_of(values, row) {
                        Some(value) => Ok((name, *kind, value)),
                        None => Err("value_out_of_range"),
                    });
                }
            }
        }
    }
}

/// The number in a row that has one; `None` when it is an integer beyond 64 bits with a sign.
fn value_of(column: &ArrayRef, row: usize) -> Option<Value> {
    fn get<T: ArrowPrimitiveType>(column: &ArrayRef, row: usize) -> T::Native {
        column.as_primitive::<T>().value(row)
    }
    Some(match column.data_type() {
        DataType::Int64 => Value::Int(get::<Int64Type>(column, row)),
        DataType::Float64 => Value::Float(get::<Float64Type>(column, row)),
        DataType::Int8 => Value::Int(get::<Int8Type>(column, row).into()),
        DataType::Int16 => Value::Int(get::<Int16Type>(column, row).into()),
        DataType::Int32 => Value::Int(get::<Int32Type>(column, row).into()),
        DataType::UInt8 => Value::Int(get::<UInt8Type>(column, row).into()),
        DataType::UInt16 => Value::Int(get::<UInt16Type>(column, row).into()),
        DataType::UInt32 => Value::Int(get::<UInt32Type>(column, row).into()),
        DataType::UInt64 => Value::Int(i64::try_from(get::<UInt64Type>(column, row)).ok()?),
        DataType::Float32 => Value::Float(get::<Float32Type>(column, row).into()),
        DataType::Boolean => Value::Int(column.as_boolean().value(row).into()),
        other => unreachable!("bug: {other} was taken for numbers"),
    })
}
