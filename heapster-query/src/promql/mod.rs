//! PromQL as Prometheus 3 means it, over the storage port.
//!
//! A series is a column of a stored set: its `__name__` is the column's name, its other labels are the
//! set's. [`Engine`] answers queries from a snapshot:
//!
//! ```text
//! text ─ language ─▶ tree ─ plan ─▶ plan ─ eval ─▶ series by series ─▶ QueryAnswer
//! ```
//!
//! * Stable features of floats only: native histograms, and functions and modifiers that Prometheus
//!   has behind flags, are refused by name.
//! * Names are dropped at once by what drops them, as is Prometheus' default.
//! * Integers stay exact as long as nothing but their differences, sums and extremes is asked for.
//! * Time comes from the caller ([`Control::elapsed`]), data from the port, and nothing is logged.

use std::time::Duration;

use heapster_core::Matcher;

mod annotations;
mod engine;
mod eval;
mod functions;
mod grid;
mod key;
pub(crate) mod language;
mod lookup;
mod meter;
mod plan;
pub mod vocabulary;

pub use engine::{
    Engine, EngineOptions, InstantSample, MatrixSeries, QueryAnswer, QueryStats, QueryValue,
    check_resolution,
};
pub use language::{DEPTH_MAX, PATTERNS_MAX, ParseError, QUERY_BYTES_MAX};
pub use meter::{Control, Elapsed, QueryLimits};

/// An expression as Prometheus formats it: over several lines when it is longer than a hundred bytes.
///
/// Comments are not kept.
///
/// # Errors
/// [`ParseError`] when the text is no expression.
pub fn format(query: &str) -> Result<String, ParseError> {
    Ok(language::pretty(&language::parse(query)?))
}

/// The tree of an expression as JSON, as Prometheus shows it: each node has a `type`, and lengths of time
/// are milliseconds.
///
/// # Errors
/// [`ParseError`] when the text is no expression.
pub fn tree(query: &str) -> Result<String, ParseError> {
    Ok(language::tree::of(&language::parse(query)?).to_string())
}

/// The conditions of a bare selector such as `up{job="a"}`: what `match[]` holds.
///
/// A condition on the name has the label `__name__`. At least one of them does not match the empty text.
///
/// # Errors
/// [`ParseError`] when the text is anything else.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let selector = language::parse_selector(text)?;
    Ok(selector.conditions.into_iter().map(|one| one.matcher).collect())
}

/// A duration as the language writes one, such as `1h30m`; `None` when the text is none.
pub fn duration(text: &str) -> Option<Duration> {
    language::parse_duration(text).map(|millis| Duration::from_millis(millis.unsigned_abs()))
}

/// A duration as Prometheus writes one: whole milliseconds, as `1m30s`.
pub fn print_duration(duration: Duration) -> String {
    language::print_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

/// The selectors of a query, in the order in which they are written: the series it may look at.
///
/// A condition on the name has the label `__name__`.
///
/// # Errors
/// [`ParseError`] when the text is no query.
pub fn selectors(query: &str) -> Result<Vec<Vec<Matcher>>, ParseError> {
    let mut found = Vec::new();
    language::parse(query)?.visit_selectors(&mut |selector| {
        found.push(selector.conditions.iter().map(|one| one.matcher.clone()).collect());
    });
    Ok(found)
}
