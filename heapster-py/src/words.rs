//! Functions without a store: texts of times and durations, what metrics are, answers of servers, the
//! command line.

use std::collections::BTreeSet;
use std::time::Duration;

use heapster_core::catalogue::{self, MetricDescriptor};
use heapster_core::{Labels, MatchOp, Text, Timestamp};
use heapster_query::promql::{self, vocabulary::is_underscored};
use heapster_server::api::prometheus::read_envelope;
use heapster_server::cli::read_moment;
use heapster_server::program;
use pyo3::prelude::*;

use crate::append::Number;
use crate::error;
use crate::frame::Frame;
use crate::question::{self, described};
use crate::store::answer;
use crate::table::Table;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(parse_time, module)?)?;
    module.add_function(wrap_pyfunction!(parse_duration, module)?)?;
    module.add_function(wrap_pyfunction!(print_time, module)?)?;
    module.add_function(wrap_pyfunction!(unit_of, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_of, module)?)?;
    module.add_function(wrap_pyfunction!(describe, module)?)?;
    module.add_function(wrap_pyfunction!(entities_of, module)?)?;
    module.add_function(wrap_pyfunction!(buckets_of, module)?)?;
    module.add_function(wrap_pyfunction!(read_answer, module)?)?;
    module.add_function(wrap_pyfunction!(main, module)?)
}

/// Milliseconds since the epoch of a text such as `-1h`, `now` or RFC 3339.
#[pyfunction]
fn parse_time(text: &str, now: i64) -> PyResult<i64> {
    let moment = read_moment(text, Timestamp::from_millis(now));
    moment.map(Timestamp::as_millis).ok_or_else(|| {
        error::of_argument(format!(
            "{text:?} is no time; write RFC 3339 such as 2026-11-01T12:00:00Z, a date, now, or time \
             ago such as -36h"
        ))
    })
}

/// A duration as PromQL writes it, such as `30s` or `1h30m`.
#[pyfunction]
fn parse_duration(text: &str) -> PyResult<Duration> {
    promql::duration(text).filter(|duration| !duration.is_zero()).ok_or_else(|| {
        error::of_argument(format!("{text:?} is no duration; write one such as 30s, 5m or 1h30m"))
    })
}

/// RFC 3339 of milliseconds since the epoch.
#[pyfunction]
fn print_time(millis: i64) -> String {
    Timestamp::from_millis(millis).to_string()
}

/// The unit of a metric; `None` when the catalogue does not know it.
#[pyfunction]
fn unit_of(metric: &str) -> Option<&'static str> {
    let named = catalogue::find(metric);
    let found = named.or_else(|| catalogue::all().find(|own| is_underscored(own.name, metric)));
    found.map(MetricDescriptor::unit_of_values)
}

/// The metrics that an expression names.
#[pyfunction]
fn metrics_of(expr: &str) -> Vec<String> {
    let selectors = promql::selectors(expr).unwrap_or_default();
    let names: BTreeSet<String> = selectors
        .iter()
        .flatten()
        .filter(|matcher| matcher.name() == "__name__")
        .filter_map(|matcher| match matcher.op() {
            MatchOp::Equal(name) => Some(name.to_owned()),
            _ => None,
        })
        .collect();
    names.into_iter().collect()
}

/// Metrics with what the catalogue says of them.
#[pyfunction]
fn describe(py: Python<'_>, names: Vec<String>) -> Table {
    py.detach(|| described(&names.into_iter().map(Text::from).collect::<Vec<_>>()))
}

/// The entities that labels name, each once.
#[pyfunction]
fn entities_of(py: Python<'_>, all: Vec<Vec<(String, String)>>) -> Table {
    py.detach(|| {
        let all: Vec<Labels> = all.into_iter().map(|one| one.into_iter().collect()).collect();
        question::entities_of(all.iter())
    })
}

/// Buckets by the milliseconds at which they begin, with columns of values.
#[pyfunction]
fn buckets_of(times: Vec<i64>, columns: Vec<(String, Vec<Option<Number>>)>) -> Table {
    let value = |number: Option<Number>| number.map(|Number(value)| value);
    let columns =
        columns.into_iter().map(|(name, all)| (name, all.into_iter().map(value).collect()));
    question::buckets_of(times, columns.collect())
}

/// What a server answered to a query, as [`crate::store::Store`] gives it; `None` when it is no
/// answer of Prometheus' API. `at` is the time of a result without times.
#[pyfunction]
fn read_answer(
    py: Python<'_>,
    body: &[u8],
    at: i64,
) -> Option<(&'static str, Frame, Option<String>, Vec<String>)> {
    py.detach(|| {
        let envelope = serde_json::from_slice(body).ok()?;
        Some(answer(read_envelope(&envelope)?, Timestamp::from_millis(at)))
    })
}

/// Runs the program `heapster` with these arguments, and gives its exit code.
#[pyfunction]
fn main(py: Python<'_>, arguments: Vec<String>) -> u8 {
    py.detach(|| program::run(arguments))
}
