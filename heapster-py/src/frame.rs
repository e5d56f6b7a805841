//! [`Frame`]: series with their samples, and the tables that can be made of them.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::thread;

use arrow_array::{ArrayRef, Float64Array, Int64Array, TimestampMillisecondArray};
use arrow_buffer::{Buffer, NullBuffer, ScalarBuffer};
use heapster_core::storage::{Samples, Values};
use heapster_core::{Labels, Text, Timestamp, Value, key};
use heapster_query::promql::{InstantSample, MatrixSeries, QueryValue};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::table::{Table, clamp, labels};

/// The label by which PromQL calls the name of a metric.
const NAME: &str = "__name__";

/// A column of fewer rows is made sooner than a thread.
const ROWS_ALONE: usize = 100_000;

/// What identifies a series.
#[derive(Debug)]
pub struct Series {
    /// Absent when an expression took it away.
    metric: Option<Text>,
    /// All other labels.
    labels: Labels,
    /// Names of those labels that the metric has of its own, as they are stored.
    own: Option<Text>,
}

impl Series {
    /// A series whose name is among its labels.
    fn named(mut labels: Labels) -> Self {
        Self { metric: labels.remove(NAME), labels, own: None }
    }
}

/// Series, one after the other, with their samples in the order of time.
///
/// Values stay as they are, integers and floats side by side, until a table is made of them.
#[pyclass(frozen, module = "heapster._heapster")]
pub struct Frame {
    series: Vec<Series>,
    /// Where the samples of each series end.
    ends: Vec<usize>,
    /// Made of `points` when they are first looked at: to copy a large answer costs a good part of
    /// what it took to find it, and some are only counted.
    samples: OnceLock<SampleColumns>,
    /// The points of each series of a query, until then; only [`Frame::samples`] takes them.
    points: Mutex<Vec<Points>>,
}

/// Points of a series, as PromQL has them.
type Points = Vec<(Timestamp, f64)>;

/// The samples of all series, in three columns of equal length.
struct SampleColumns {
    times: TimestampMillisecondArray,
    /// 64 bits for each value.
    bits: Buffer,
    /// Which of them are integers.
    kinds: Kinds,
}

impl SampleColumns {
    fn of_points(all: Vec<Points>) -> Self {
        let rows = all.iter().map(Vec::len).sum();
        let (mut times, mut bits) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for points in all {
            times.extend(points.iter().map(|(at, _)| at.as_millis()));
            bits.extend(points.iter().map(|(_, value)| value.to_bits()));
        }
        let mut kinds = Kinds::default();
        kinds.push(rows, false);
        Self::new(times, bits, kinds)
    }

    fn new(times: Vec<i64>, bits: Vec<u64>, kinds: Kinds) -> Self {
        let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
        Self { times, bits: Buffer::from_vec(bits), kinds }
    }

    fn ints(&self) -> ScalarBuffer<i64> {
        self.bits.clone().into()
    }

    fn floats(&self) -> ScalarBuffer<f64> {
        self.bits.clone().into()
    }

    /// Values of all rows as a column, and the integers among them when floats cannot hold them all.
    fn values(&self) -> (ArrayRef, Option<ArrayRef>) {
        let all = 0..self.times.values().len();
        match self.kinds.only(all.clone()) {
            Some(true) => (Arc::new(Int64Array::new(self.ints(), None)), None),
            Some(false) => (Arc::new(Float64Array::new(self.floats(), None)), None),
            None => {
                let (mut floats, ints) = (self.floats().to_vec(), self.ints());
                let (mut is_exact, mut is_int) = (true, vec![false; all.len()]);
                for (run, _) in self.kinds.within(all).filter(|(_, is_int)| *is_int) {
                    is_int[run.clone()].fill(true);
                    for row in run {
                        floats[row] = ints[row] as f64;
                        is_exact &=
                            Value::Float(floats[row]).numeric_cmp(Value::Int(ints[row])).is_eq();
                    }
                }
                let ints = Int64Array::new(ints, Some(NullBuffer::from(is_int)));
                let floats: ArrayRef = Arc::new(Float64Array::from(floats));
                (floats, (!is_exact).then(|| Arc::new(ints) as ArrayRef))
            }
        }
    }
}

/// Whether values are integers, as runs: the end of each, and what it is.
#[derive(Debug, Default)]
struct Kinds(Vec<(usize, bool)>);

impl Kinds {
    fn push(&mut self, end: usize, is_int: bool) {
        match self.0.last_mut() {
            Some((last, kind)) if *kind == is_int => *last = end,
            _ => self.0.push((end, is_int)),
        }
    }

    /// The runs within a range.
    fn within(&self, rows: Range<usize>) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
        let from = self.0.partition_point(|(end, _)| *end <= rows.start);
        let mut start = rows.start;
        self.0[from..].iter().map_while(move |(end, is_int)| {
            let run = start..(*end).min(rows.end);
            start = run.end;
            (!run.is_empty()).then_some((run, *is_int))
        })
    }

    /// Whether all within a range are integers, or none is; `None` when some are.
    fn only(&self, rows: Range<usize>) -> Option<bool> {
        let mut runs = self.within(rows);
        let first = runs.next().is_some_and(|(_, is_int)| is_int);
        runs.next().is_none().then_some(first)
    }
}

/// Takes series after series.
#[derive(Default)]
pub struct FrameBuilder {
    series: Vec<Series>,
    ends: Vec<usize>,
    times: Vec<i64>,
    bits: Vec<u64>,
    kinds: Kinds,
}

impl FrameBuilder {
    /// Begins a series of a stored set.
    pub fn begin(&mut self, metric: &Text, labels: &Labels) {
        let mut labels = labels.clone();
        let own = labels.remove(key::LABELED);
        self.series.push(Series { metric: Some(metric.clone()), labels, own });
        self.ends.push(self.times.len());
    }

    /// Adds samples to the series that was begun last.
    pub fn extend(&mut self, samples: &Samples) {
        self.times.extend(samples.timestamps.iter().map(|at| at.as_millis()));
        match &samples.values {
            Values::Ints(ints) => {
                self.bits.extend(ints.iter().map(|int| int.cast_unsigned()));
                self.kinds.push(self.bits.len(), true);
            }
            Values::Floats(floats) => {
                self.bits.extend(floats.iter().map(|float| float.to_bits()));
                self.kinds.push(self.bits.len(), false);
            }
            Values::Mixed(values) => values.iter().for_each(|value| self.push_value(*value)),
        }
        self.close();
    }

    fn push_value(&mut self, value: Value) {
        let (bits, is_int) = match value {
            Value::Int(int) => (int.cast_unsigned(), true),
            Value::Float(float) => (float.to_bits(), false),
        };
        self.bits.push(bits);
        self.kinds.push(self.bits.len(), is_int);
    }

    fn close(&mut self) {
        if let Some(end) = self.ends.last_mut() {
            *end = self.times.len();
        }
    }

    /// Takes the series that was begun last back when it has no samples.
    pub fn end(&mut self) {
        let start = self.ends.len().checked_sub(2).map_or(0, |before| self.ends[before]);
        if self.ends.last() == Some(&start) {
            self.ends.pop();
            self.series.pop();
        }
    }

    pub fn finish(mut self) -> Frame {
        self.times.shrink_to_fit();
        self.bits.shrink_to_fit();
        let samples = SampleColumns::new(self.times, self.bits, self.kinds).into();
        Frame { series: self.series, ends: self.ends, samples, points: Mutex::default() }
    }
}

impl Frame {
    /// The result of a query; `at` is the time of one without times. Of a text there are no series.
    pub fn of_query(value: QueryValue, at: Timestamp) -> Self {
        let elements = match value {
            QueryValue::Matrix(series) => return Self::of_matrix(series),
            QueryValue::Vector(elements) => elements,
            QueryValue::Scalar(value) => vec![InstantSample { labels: Labels::new(), value }],
            QueryValue::Text(_) => Vec::new(),
        };
        let points = elements.iter().map(|one| (at, one.value)).collect();
        Self {
            ends: (1..=elements.len()).collect(),
            series: elements.into_iter().map(|one| Series::named(one.labels)).collect(),
            samples: SampleColumns::of_points(vec![points]).into(),
            points: Mutex::default(),
        }
    }

    fn of_matrix(matrix: Vec<MatrixSeries>) -> Self {
        let (mut series, mut ends, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for one in matrix {
            ends.push(ends.last().copied().unwrap_or(0) + one.points.len());
            series.push(Series::named(one.labels));
            all.push(one.points);
        }
        Self { series, ends, samples: OnceLock::new(), points: Mutex::new(all) }
    }

    fn samples(&self) -> &SampleColumns {
        let columns = || SampleColumns::of_points(std::mem::take(&mut self.points.lock()));
        self.samples.get_or_init(columns)
    }

    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn rows(&self, series: usize) -> Range<usize> {
        let start = series.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[series]
    }

    /// A column with the text of each series, or a gap, in all its rows.
    fn label_column<'a>(&'a self, text: impl Fn(&'a Series) -> Option<&'a str>) -> ArrayRef {
        let (mut numbers, mut texts) = (HashMap::new(), Vec::new());
        let mut codes: Vec<i32> = Vec::with_capacity(self.len());
        let mut gaps = Vec::new();
        for (index, series) in self.series.iter().enumerate() {
            let rows = self.rows(index);
            let code = text(series).map(|text| {
                *numbers.entry(text).or_insert_with(|| {
                    texts.push(text);
                    texts.len() as i32 - 1
                })
            });
            if code.is_none() {
                gaps.push(rows.clone());
            }
            codes.resize(rows.end, code.unwrap_or(0));
        }
        let nulls = (!gaps.is_empty()).then(|| {
            let mut is_there = vec![true; codes.len()];
            gaps.into_iter().for_each(|gap| is_there[gap].fill(false));
            NullBuffer::from(is_there)
        });
        labels(arrow_array::Int32Array::new(codes.into(), nulls), &texts)
    }

    /// The columns of several labels. Those of a large answer are made side by side: each takes its time
    /// to get memory.
    fn label_columns(&self, names: &[&str]) -> Vec<ArrayRef> {
        let make = |name: &&str| self.label_column(|one| one.labels.get(name).map(Text::as_str));
        let threads = match self.len() {
            ..ROWS_ALONE => 1,
            _ => thread::available_parallelism().map_or(1, NonZeroUsize::get),
        };
        let some = names.len().div_ceil(threads).max(1);
        thread::scope(|scope| {
            let (own, others) = names.split_at(some.min(names.len()));
            let columns_of = move |names: &[&str]| names.iter().map(make).collect::<Vec<_>>();
            let others: Vec<_> =
                others.chunks(some).map(|names| scope.spawn(move || columns_of(names))).collect();
            let others = others.into_iter().map(|other| match other.join() {
                Ok(columns) => columns,
                Err(panic) => resume_unwind(panic),
            });
            [columns_of(own)].into_iter().chain(others).flatten().collect()
        })
    }

    fn label_names(&self) -> BTreeSet<&str> {
        let names = self.series.iter().flat_map(|series| &series.labels);
        names.map(|label| label.name.as_str()).collect()
    }

    /// The times of a table with a column for each series, and for each series the row of each of
    /// its samples; `None` when its samples are in all rows.
    fn grid(&self) -> (Vec<i64>, Vec<Option<Vec<usize>>>) {
        let times = self.samples().times.values();
        let of = |series: usize| &times[self.rows(series)];
        let is_shared = (1..self.series.len()).all(|series| of(series) == of(0));
        let all: Vec<i64> = match self.series.is_empty() {
            true => Vec::new(),
            false if is_shared => of(0).to_vec(),
            false => times.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
        };
        let place = |series: usize| {
            let own = of(series);
            (own.len() < all.len()).then(|| {
                let row = |at: &i64| all.binary_search(at).expect("bug: a time has no row");
                own.iter().map(row).collect()
            })
        };
        let places = (0..self.series.len()).map(place).collect();
        (all, places)
    }

    /// The values of one series in the rows of a grid.
    fn wide_column(&self, series: usize, rows: usize, places: Option<&[usize]>) -> ArrayRef {
        let (own, samples) = (self.rows(series), self.samples());
        let (ints, floats) = (samples.ints(), samples.floats());
        match samples.kinds.only(own.clone()) {
            Some(true) => {
                let (values, gaps) = spread(&ints[own], rows, places, 0);
                Arc::new(Int64Array::new(values.into(), gaps))
            }
            Some(false) => {
                let (values, gaps) = spread(&floats[own], rows, places, 0.0);
                Arc::new(Float64Array::new(values.into(), gaps))
            }
            None => {
                let mut values = floats[own.clone()].to_vec();
                for (run, _) in samples.kinds.within(own.clone()).filter(|(_, is_int)| *is_int) {
                    run.for_each(|row| values[row - own.start] = ints[row] as f64);
                }
                let (values, gaps) = spread(&values, rows, places, 0.0);
                Arc::new(Float64Array::new(values.into(), gaps))
            }
        }
    }
}

/// Values in their rows, and which rows have one.
fn spread<T: Copy>(
    values: &[T],
    rows: usize,
    places: Option<&[usize]>,
    gap: T,
) -> (Vec<T>, Option<NullBuffer>) {
    let Some(places) = places else { return (values.to_vec(), None) };
    let (mut all, mut is_there) = (vec![gap; rows], vec![false; rows]);
    for (row, value) in places.iter().zip(values) {
        all[*row] = *value;
        is_there[*row] = true;
    }
    (all, Some(NullBuffer::from(is_there)))
}

#[pymethods]
impl Frame {
    /// Number of samples.
    fn __len__(&self) -> usize {
        self.len()
    }

    /// Number of series.
    fn series_count(&self) -> usize {
        self.series.len()
    }

    /// The names of all metrics, each once.
    fn metrics(&self) -> BTreeSet<&str> {
        self.series.iter().map(|series| series.metric.as_deref().unwrap_or_default()).collect()
    }

    /// The labels of the series from `start` to `end`, `__name__` among them if it has a name.
    #[pyo3(signature = (start = 0, end = None))]
    fn series(&self, start: usize, end: Option<usize>) -> Vec<HashMap<&str, &str>> {
        let rows = clamp(start, end.unwrap_or(usize::MAX), self.series.len());
        self.series[rows].iter().map(|series| pairs(series).collect()).collect()
    }

    /// The course of a series in at most so many numbers: the greatest value of each stretch, but for
    /// the last number, which is the last value.
    fn outline(&self, py: Python<'_>, series: usize, numbers: usize) -> Vec<f64> {
        let Some(rows) = (series < self.series.len()).then(|| self.rows(series)) else {
            return Vec::new();
        };
        let samples = py.detach(|| self.samples());
        let (ints, floats) = (samples.ints(), samples.floats());
        let runs = samples.kinds.within(rows.clone());
        let values: Vec<f64> = runs
            .flat_map(|(run, is_int)| {
                let (ints, floats) = (&ints, &floats);
                run.map(move |row| if is_int { ints[row] as f64 } else { floats[row] })
            })
            .collect();
        let stretch = values.len().div_ceil(numbers.max(1)).max(1);
        let mut outline: Vec<f64> = values
            .chunks(stretch)
            .map(|some| some.iter().copied().fold(f64::NAN, f64::max))
            .collect();
        if let (Some(end), Some(last)) = (outline.last_mut(), values.last()) {
            *end = *last;
        }
        outline
    }

    /// A row for each sample: `time`, `metric`, a column for each label that a series has, or for
    /// those that are named, and `value`. Where integers and floats meet, `value` is of floats, and
    /// `value_int` has the integers if one of them is beyond what a float can hold.
    #[pyo3(signature = (labels = None))]
    fn long(&self, py: Python<'_>, labels: Option<Vec<String>>) -> Table {
        py.detach(|| {
            let samples = self.samples();
            let mut columns: Vec<(String, ArrayRef)> =
                vec![("time".to_owned(), Arc::new(samples.times.clone()))];
            if self.series.iter().any(|series| series.metric.is_some()) {
                let metric = self.label_column(|series| series.metric.as_deref());
                columns.push(("metric".to_owned(), metric));
            }
            let names = match &labels {
                Some(names) => names.iter().map(String::as_str).collect(),
                None => self.label_names(),
            };
            let named = column_names(&names);
            let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
            let names_of_columns = named.iter().map(|(_, column)| column.clone());
            columns.extend(names_of_columns.zip(self.label_columns(&names)));
            let (values, exact) = samples.values();
            columns.push(("value".to_owned(), values));
            columns.extend(exact.map(|ints| ("value_int".to_owned(), ints)));
            let table = Table::new(columns).with_labels(&named);
            // Only whole rows can be stored again as they were.
            match labels.is_none() && self.series.iter().any(|series| series.own.is_some()) {
                true => table.with_own(self.label_column(|series| series.own.as_deref())),
                false => table,
            }
        })
    }

    /// A row for each time and a column for each series, under the names given.
    fn wide(&self, py: Python<'_>, names: Vec<String>) -> Table {
        py.detach(|| {
            let (all, places) = self.grid();
            let rows = all.len();
            let times = TimestampMillisecondArray::from(all).with_timezone("UTC");
            let mut columns: Vec<(String, ArrayRef)> = vec![("time".to_owned(), Arc::new(times))];
            for (series, name) in names.into_iter().enumerate() {
                let column = self.wide_column(series, rows, places[series].as_deref());
                columns.push((name, column));
            }
            Table::new(columns)
        })
    }
}

fn pairs(series: &Series) -> impl Iterator<Item = (&str, &str)> {
    let name = series.metric.iter().map(|metric| (NAME, metric.as_str()));
    name.chain(series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())))
}

/// The labels and the names of their columns; a few are taken.
fn column_names<'a>(labels: &BTreeSet<&'a str>) -> Vec<(&'a str, String)> {
    let is_fixed = |name: &str| matches!(name, "time" | "metric" | "value" | "value_int");
    let mut named: Vec<(&str, String)> = Vec::new();
    for label in labels {
        let mut name = (*label).to_owned();
        let is_taken = |name: &str| {
            is_fixed(name)
                || (name != *label && labels.contains(name))
                || named.iter().any(|(_, other)| other == name)
        };
        while is_taken(&name) {
            name.push('_');
        }
        named.push((label, name));
    }
    named
}
