//! `heapster query`: asks a server or a directory in PromQL.

mod chart;
pub(super) mod remote;
mod shown;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::Timestamp;
use heapster_core::storage::Snapshot;
use heapster_query::QueryError;
use heapster_query::promql::vocabulary::Kubernetes;
use heapster_query::promql::{
    Control, Engine, EngineOptions, QueryAnswer, QueryLimits, check_resolution,
};
use heapster_store::{Clock, SystemClock};

use super::{Outcome, VerbError, moment, now, open_for_reading, print, tell};
use crate::api::prometheus::envelope;
use crate::cli::value::read_duration;
use crate::cli::{UsageError, VerbCall};

/// Where the server is unless a flag says otherwise.
pub(super) const URL: &str = "http://127.0.0.1:8082";
/// Points of a series when no step is given.
const POINTS: u32 = 120;

/// When a query is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    At(Timestamp),
    Range { start: Timestamp, end: Timestamp, step: Duration },
}

impl When {
    fn of(call: &VerbCall) -> Result<Self, UsageError> {
        let now = now();
        let given = |flag| moment(call, flag, now);
        let step = call.values.get_some("step").and_then(read_duration);
        let Some(start) = given("start") else {
            if let Some(flag) =
                ["end", "step"].iter().find(|flag| call.values.get_some(flag).is_some())
            {
                return Err(call.conflict(format!("--{flag} needs --start")));
            }
            return Ok(Self::At(given("at").unwrap_or(now)));
        };
        if call.values.get_some("at").is_some() {
            return Err(
                call.conflict("--at is for one moment, --start for a range: give one of them")
            );
        }
        let end = given("end").unwrap_or(now);
        if end < start {
            return Err(call.conflict(format!("--end ({end}) is before --start ({start})")));
        }
        let step = step.unwrap_or_else(|| step_of(end.saturating_since(start)));
        if step < Duration::from_millis(1) {
            return Err(call.conflict("--step is at least a millisecond"));
        }
        Ok(Self::Range { start, end, step })
    }

    /// The moment an answer without times is of.
    fn end(self) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Range { end, .. } => end,
        }
    }
}

/// Whole seconds between points, so that there are enough for a chart.
fn step_of(span: Duration) -> Duration {
    Duration::from_secs((span / POINTS).as_secs().max(1))
}

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let expr = call.words.first().map_or("", String::as_str);
    let when = When::of(call)?;
    let (url, dir) = (call.values.get_some("url"), call.values.get_some("data-dir"));
    let answer = match (url, dir) {
        (Some(_), Some(_)) => {
            return Err(call.conflict("--url and --data-dir: give one of them").into());
        }
        (None, Some(dir)) => ask_directory(call, Path::new(dir), expr, when)?,
        (url, None) => remote::ask(call, url.unwrap_or(URL), expr, when)?,
    };
    for text in answer.warnings.iter().chain(&answer.infos) {
        tell(text);
    }
    let (output, is_terminal) = (call.values.get("output"), std::io::stdout().is_terminal());
    let text = match output {
        "json" => envelope(answer, when.end()) + "\n",
        "csv" => shown::csv(&answer.value, when.end()),
        "chart" => match chart::chart(&answer.value, chart::Look::of_terminal(is_terminal)) {
            Some(chart) => chart,
            None => return Err(call.conflict("a chart needs a range: give --start").into()),
        },
        _ => shown::table(&answer.value),
    };
    print(&text)?;
    Ok(Outcome::Complete)
}

/// Asks the store in a directory; a server may be writing to it.
fn ask_directory(
    call: &VerbCall,
    dir: &Path,
    expr: &str,
    when: When,
) -> Result<QueryAnswer, VerbError> {
    let snapshot = open_for_reading(dir)?.snapshot();
    let clock = SystemClock::new();
    let begin = clock.monotonic();
    let elapsed = Arc::new(move || clock.monotonic().saturating_sub(begin));
    let control = Control { elapsed: Some(elapsed), ..Control::default() };
    let timeout = read_duration(call.values.get("timeout")).unwrap_or_default();
    let limits = QueryLimits { timeout, ..QueryLimits::default() };
    let vocabulary = Arc::new(Kubernetes);
    let engine = Engine::new(EngineOptions { limits, vocabulary, ..EngineOptions::default() });
    let found = match when {
        When::At(at) => engine.instant(&snapshot, expr, at, &control),
        When::Range { start, end, step } => check_resolution(start, end, step, &limits)
            .and_then(|()| engine.range(&snapshot, expr, start, end, step, &control)),
    };
    let mut found = found.map_err(failure)?;
    for damage in snapshot.damage() {
        found.warnings.push(format!("left out: {}", damage.reason));
    }
    Ok(found)
}

/// What a user is told: of a query that cannot be read, the place too.
fn failure(error: QueryError) -> VerbError {
    match error {
        QueryError::Parse(error) => VerbError::Query(error.marked()),
        QueryError::Storage(error) => VerbError::Read(error),
        error => VerbError::Unanswered(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_whole_seconds_and_gives_enough_points() {
        for (span, step) in [(0, 1), (60, 1), (3_600, 30), (86_400, 720)] {
            assert_eq!(step_of(Duration::from_secs(span)), Duration::from_secs(step));
        }
    }
}
