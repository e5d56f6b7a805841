//! [`Store`]: an open directory, for reading beside a writer or for writing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::storage::Snapshot;
use heapster_core::{EntityKey, Text, TimeRange, Timestamp};
use heapster_query::historical::Aggregation;
use heapster_query::promql::{QueryAnswer, QueryValue};
use heapster_query::{Cancel, QueryError};
use heapster_server::verbs::parse_selector;
use heapster_store::{ReaderOptions, StoreReader, StoreSnapshot};
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyDict};

use crate::append::{self, FrameOptions, Report, Row};
use crate::frame::Frame;
use crate::keeper::{Keeper, Owned, config};
use crate::question::{self, Historical, When};
use crate::table::Table;
use crate::{error, interrupt};

/// A store, as its directory was opened.
enum Open {
    Reading(Arc<StoreReader>),
    Writing(Box<Keeper>),
}

/// An open store. All methods may be called from several threads at once.
#[pyclass(frozen, module = "heapster._heapster")]
pub struct Store {
    open: Owned<Open>,
}

/// The answer to an expression: its type, series, the text if it is one, and warnings.
type Answer = (&'static str, Frame, Option<String>, Vec<String>);

#[pymethods]
impl Store {
    /// Opens a directory for reading.
    #[staticmethod]
    fn read(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| StoreReader::open(path, ReaderOptions::default()));
        let reader = opened.map_err(|error| error::of_store(&error))?;
        Ok(Self { open: Owned::new("store", Open::Reading(Arc::new(reader))) })
    }

    /// Opens a directory for writing, and makes it when it is missing.
    #[staticmethod]
    fn write(py: Python<'_>, path: &str, flags: Vec<(String, String)>) -> PyResult<Self> {
        let mut all = vec![("source", "none"), ("data-dir", path)];
        all.extend(flags.iter().map(|(flag, value)| (flag.as_str(), value.as_str())));
        let config = config(&all)?;
        let keeper = py.detach(|| Keeper::start(None, &config));
        let keeper = keeper.map_err(|error| error::of_app(&error))?;
        Ok(Self { open: Owned::new("store", Open::Writing(Box::new(keeper))) })
    }

    /// Shows what a writer in another process did; gives batches, samples, segments that are new and
    /// segments that are gone.
    fn refresh(&self, py: Python<'_>) -> PyResult<(u64, u64, usize, usize)> {
        let reader = self.open.with(|open| match open {
            Open::Reading(reader) => Some(Arc::clone(reader)),
            Open::Writing(_) => None,
        })?;
        // One's own writes are seen at once.
        let Some(reader) = reader else { return Ok((0, 0, 0, 0)) };
        let report = py.detach(|| reader.refresh()).map_err(|error| error::of_store(&error))?;
        Ok((report.batches, report.samples, report.segments_added, report.segments_removed))
    }

    /// Closes the store; once more does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.open.take()? {
            Some(Open::Writing(keeper)) => {
                py.detach(|| keeper.stop()).map_err(|error| error::of_app(&error))
            }
            Some(Open::Reading(reader)) => {
                py.detach(|| drop(reader));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Time of the oldest and the newest sample.
    fn bounds(&self) -> PyResult<Option<(i64, i64)>> {
        let bounds = self.snapshot()?.bounds();
        Ok(bounds.map(|range| (range.start.as_millis(), range.end.as_millis())))
    }

    /// Evaluates an expression at one moment.
    fn instant(
        &self,
        py: Python<'_>,
        expr: &str,
        at: i64,
        timeout: Option<Duration>,
    ) -> PyResult<Answer> {
        let when = When::At(Timestamp::from_millis(at));
        let run = |snapshot: &dyn Snapshot, cancel: &Cancel| {
            let found = question::query(snapshot, expr, when, timeout, cancel)?;
            Ok(answer(found, Timestamp::from_millis(at)))
        };
        self.ask(py, expr, run)
    }

    /// Evaluates an expression at several moments.
    fn range(
        &self,
        py: Python<'_>,
        expr: &str,
        start: i64,
        end: i64,
        step: Duration,
        timeout: Option<Duration>,
    ) -> PyResult<Answer> {
        let (start, end) = (Timestamp::from_millis(start), Timestamp::from_millis(end));
        let when = When::Range { start, end, step };
        let run = |snapshot: &dyn Snapshot, cancel: &Cancel| {
            Ok(answer(question::query(snapshot, expr, when, timeout, cancel)?, end))
        };
        self.ask(py, expr, run)
    }

    /// The stored samples of the series that a selector finds; with warnings.
    fn select(
        &self,
        py: Python<'_>,
        selector: &str,
        start: i64,
        end: i64,
    ) -> PyResult<(Frame, Vec<String>)> {
        let parsed = parse_selector(selector);
        let parsed = parsed.map_err(|error| error::of_text(error.to_string(), error.column()))?;
        self.ask(py, "", |snapshot, cancel| {
            let frame = question::select(snapshot, &parsed, range(start, end), cancel)?;
            Ok((frame, question::lacking(snapshot)))
        })
    }

    /// Aggregates by bucket of time of one metric of one entity; with warnings.
    #[expect(clippy::too_many_arguments, reason = "called by name, from one place in Python")]
    fn historical(
        &self,
        py: Python<'_>,
        entity: &str,
        labels: Vec<(String, String)>,
        metric: &str,
        aggregations: Vec<(String, String)>,
        start: i64,
        end: i64,
        bucket: Option<Duration>,
    ) -> PyResult<(Table, Vec<String>)> {
        let entity: EntityKey =
            entity.parse().map_err(|error| error::of_argument(format!("{error}")))?;
        let known = |(column, name): (String, String)| match Aggregation::from_name(&name) {
            Some(aggregation) => Ok((column, aggregation)),
            None => Err(error::of_argument(format!(
                "{name:?} is no aggregation; it is one of average, max, min, median, count, 50-perc, \
                 95-perc and 99-perc"
            ))),
        };
        let question = Historical {
            entity,
            own: labels.into_iter().collect(),
            metric: Text::from(metric),
            aggregations: aggregations.into_iter().map(known).collect::<PyResult<_>>()?,
            range: range(start, end),
            bucket,
        };
        self.ask(py, "", |snapshot, cancel| question::historical(snapshot, question, cancel))
    }

    /// The entities that have samples in a range.
    fn entities(&self, py: Python<'_>, start: i64, end: i64) -> PyResult<Table> {
        self.ask(py, "", |snapshot, cancel| question::entities(snapshot, range(start, end), cancel))
    }

    /// The metrics that have samples in a range.
    fn metrics(&self, py: Python<'_>, start: i64, end: i64) -> PyResult<Table> {
        self.ask(py, "", |snapshot, _| question::metrics(snapshot, range(start, end)))
    }

    /// Names of labels, or the values of one, of what has samples in a range.
    fn labels(
        &self,
        py: Python<'_>,
        label: Option<&str>,
        start: i64,
        end: i64,
    ) -> PyResult<Vec<String>> {
        let texts = self.ask(py, "", |snapshot, cancel| {
            question::label_texts(snapshot, label, range(start, end), cancel)
        })?;
        Ok(texts.iter().map(ToString::to_string).collect())
    }

    /// Appends rows that share one moment.
    fn append(&self, py: Python<'_>, at: i64, rows: Vec<Row>, ack: &str) -> PyResult<Report> {
        let (store, ack) = (self.writable()?, append::ack(ack)?);
        let at = Timestamp::checked_from_millis(at)
            .ok_or_else(|| error::of_argument("a time is beyond the years 1 to 9999"))?;
        let mut names = rows.iter().flat_map(|(labels, _)| labels).map(|(name, _)| name);
        names.try_for_each(|name| append::check_label(name))?;
        let appended = py.detach(|| append::rows(&store, at, rows, ack));
        appended.map_err(|error| error::of_store(&error))
    }

    /// Takes all rows of a frame that has an Arrow stream.
    fn append_frame(
        &self,
        py: Python<'_>,
        frame: &Bound<'_, PyAny>,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Report> {
        append::frame(py, &*self.writable()?, frame, FrameOptions::read(options)?)
    }

    /// Puts what was appended on the disk.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        let store = self.writable()?;
        py.detach(|| store.sync()).map_err(|error| error::of_store(&error))
    }

    /// Merges segments now, which the store does by itself in time.
    fn compact(&self, py: Python<'_>) -> PyResult<()> {
        let store = self.writable()?;
        let compacted = py.detach(|| store.compact_all());
        compacted.map(drop).map_err(|error| error::of_store(&error))
    }

    /// Numbers about the store.
    fn stats(&self) -> PyResult<Vec<(&'static str, u64)>> {
        let stats = self.open.with(|open| match open {
            Open::Reading(reader) => reader.stats(),
            Open::Writing(keeper) => keeper.app.store().stats(),
        })?;
        Ok(vec![
            ("samples", stats.segment_samples + stats.head_samples),
            ("segments", stats.segments),
            ("segment_bytes", stats.segment_bytes),
            ("wal_bytes", stats.wal_bytes),
            ("memory_bytes", stats.head_bytes),
        ])
    }
}

impl Store {
    /// The store, if it may be written to.
    pub fn writable(&self) -> PyResult<Arc<heapster_store::Store>> {
        let store = self.open.with(|open| match open {
            Open::Writing(keeper) => Some(Arc::clone(keeper.app.store())),
            Open::Reading(_) => None,
        })?;
        store.ok_or_else(error::read_only)
    }

    /// Looks at the app that keeps the store, if it may be written to.
    pub fn with_keeper<R>(&self, look: impl FnOnce(&Keeper) -> R) -> PyResult<R> {
        let looked = self.open.with(|open| match open {
            Open::Writing(keeper) => Some(look(keeper)),
            Open::Reading(_) => None,
        })?;
        looked.ok_or_else(error::read_only)
    }

    fn snapshot(&self) -> PyResult<StoreSnapshot> {
        self.open.with(|open| match open {
            Open::Reading(reader) => reader.snapshot(),
            Open::Writing(keeper) => keeper.app.store().snapshot(),
        })
    }

    /// Asks what is written in `asked`, or what is not written at all.
    fn ask<T: Send>(
        &self,
        py: Python<'_>,
        asked: &str,
        question: impl FnOnce(&dyn Snapshot, &Cancel) -> Result<T, QueryError> + Send,
    ) -> PyResult<T> {
        let snapshot = self.snapshot()?;
        let answer = interrupt::run(py, |cancel| {
            let answer = question(&snapshot, cancel);
            // To let go of a large store takes a while, too.
            drop(snapshot);
            answer
        })?;
        answer.map_err(|error| error::of_query(&error, asked))
    }
}

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end))
}

/// An answer for Python; `at` is the time of one without times.
pub fn answer(found: QueryAnswer, at: Timestamp) -> Answer {
    let QueryAnswer { value, mut warnings, infos, .. } = found;
    warnings.extend(infos);
    let (kind, text) = match &value {
        QueryValue::Scalar(_) => ("scalar", None),
        QueryValue::Text(text) => ("string", Some(text.clone())),
        QueryValue::Vector(_) => ("vector", None),
        QueryValue::Matrix(_) => ("matrix", None),
    };
    (kind, Frame::of_query(value, at), text, warnings)
}
