//! [`Engine`]: asks a snapshot.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::storage::Snapshot;
use heapster_core::{Labels, Timestamp};

use super::annotations::Annotations;
use super::eval::{Evaluator, Table};
use super::grid::{Grid, is_present};
use super::language;
use super::meter::{Control, Meter, QueryLimits};
use super::plan::{self, Plan, Times};
use super::vocabulary::{StoredNames, Vocabulary};
use crate::error::QueryError;

/// How an engine answers.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How far back an instant selector looks for a sample; the far edge is not part of it –
    /// default 5 min, as in Prometheus.
    pub lookback: Duration,
    /// The step of subqueries that name none – default 1 min, the default evaluation interval.
    pub subquery_step: Duration,
    /// What a query may cost.
    pub limits: QueryLimits,
    /// Threads that work on one query, the caller's among them – by default as many as the machine
    /// runs at once. Results do not depend on it.
    pub threads: usize,
    /// Names beside those that are stored – by default none.
    pub vocabulary: Arc<dyn Vocabulary>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            limits: QueryLimits::default(),
            threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            vocabulary: Arc::new(StoredNames),
        }
    }
}

/// Answers PromQL from snapshots of a store.
///
/// It holds no data and no state between queries; one may be shared by all threads.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    options: EngineOptions,
}

/// A value with its time, of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct InstantSample {
    /// Labels, `__name__` among them if the series still has a name.
    pub labels: Labels,
    /// The value.
    pub value: f64,
}

/// One series with its points.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSeries {
    /// Labels, `__name__` among them if the series still has a name.
    pub labels: Labels,
    /// In order of time, each time once; at least one.
    pub points: Vec<(Timestamp, f64)>,
}

/// The result of a query, by its type.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// A number; of instant queries only.
    Scalar(f64),
    /// A text; of instant queries only.
    Text(String),
    /// Of instant queries: elements with different labels. Ordered by `sort`, `topk` and their like
    /// where one of them is outermost, otherwise by labels.
    Vector(Vec<InstantSample>),
    /// Of range queries, and of instant queries for a range vector; ordered by labels. A scalar asked
    /// over a range is one series without labels.
    Matrix(Vec<MatrixSeries>),
}

/// What a query has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Samples that were read, or stood for by a summary.
    pub samples_touched: u64,
    /// Most samples and points that were held at one time.
    pub samples_peak: usize,
    /// Series of the result.
    pub series: usize,
}

/// A result, and what a user should know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryAnswer {
    /// The result.
    pub value: QueryValue,
    /// In Prometheus' words, with the place in the query; sorted, each once, at most 100.
    pub warnings: Vec<String>,
    /// As `warnings`, of less weight.
    pub infos: Vec<String>,
    /// What it has cost.
    pub stats: QueryStats,
}

impl Engine {
    /// An engine with these options.
    pub fn new(options: EngineOptions) -> Self {
        Self { options }
    }

    /// Its options.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Evaluates a query at one moment.
    ///
    /// # Errors
    /// [`QueryError::Parse`] when the text is no query; otherwise as [`QueryError`] says.
    pub fn instant(
        &self,
        snapshot: &dyn Snapshot,
        query: &str,
        at: Timestamp,
        control: &Control,
    ) -> Result<QueryAnswer, QueryError> {
        let millis = at.as_millis();
        let times = self.times(millis, millis, 0, false);
        self.run(snapshot, query, times, Grid::at(millis), control)
    }

    /// Evaluates a query at `start`, `start + step` and so on, up to `end` at most.
    ///
    /// The number of steps is bounded by memory only; [`check_resolution`] is the limit Prometheus
    /// has.
    ///
    /// # Errors
    /// [`QueryError::BadQuery`] when `end` is before `start`, `step` is less than a millisecond, or
    /// the query is for a text or a range vector; otherwise as [`Engine::instant`].
    pub fn range(
        &self,
        snapshot: &dyn Snapshot,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        control: &Control,
    ) -> Result<QueryAnswer, QueryError> {
        let bad = |text: &str| QueryError::BadQuery(text.to_owned());
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        if step_ms == 0 {
            return Err(bad(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        let (start, end) = (start.as_millis(), end.as_millis());
        let grid = Grid::up_to(start, end, step_ms)
            .ok_or_else(|| bad("end timestamp must not be before start time"))?;
        let times = self.times(start, end, step_ms, true);
        self.run(snapshot, query, times, grid, control)
    }

    fn times(&self, start_ms: i64, end_ms: i64, step_ms: i64, is_range: bool) -> Times {
        // Durations beyond what the language can write are cut, so that sums stay within 64 bits.
        let millis = |duration: Duration| {
            let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            millis.clamp(1, language::ast::DURATION_MAX_MS)
        };
        Times {
            start_ms,
            end_ms,
            step_ms,
            lookback_ms: millis(self.options.lookback),
            subquery_step_ms: millis(self.options.subquery_step),
            is_range,
        }
    }

    fn run(
        &self,
        snapshot: &dyn Snapshot,
        query: &str,
        times: Times,
        grid: Grid,
        control: &Control,
    ) -> Result<QueryAnswer, QueryError> {
        let expr = language::parse(query)?;
        let kind = expr.kind();
        if times.is_range && matches!(kind, language::ast::Type::Range | language::ast::Type::Text)
        {
            return Err(QueryError::BadQuery(format!(
                "invalid expression type {} for range query, must be Scalar or instant Vector",
                language::quoted(&kind.to_string())
            )));
        }
        let annotations = Annotations::new(query);
        let plan = plan::lower(&expr, &times, &annotations)?;
        let meter = Meter::new(self.options.limits, control.clone());
        let evaluator = Evaluator {
            snapshot,
            vocabulary: &*self.options.vocabulary,
            meter: &meter,
            annotations: &annotations,
            threads: self.options.threads.max(1),
        };
        // More steps than one series may have are refused before anything is made for them.
        let _held = meter.hold(1, grid.count)?;
        let value = value_of(&evaluator, &plan, &expr, grid, times.is_range)?;
        let series = match &value {
            QueryValue::Scalar(_) | QueryValue::Text(_) => 0,
            QueryValue::Vector(elements) => elements.len(),
            QueryValue::Matrix(series) => series.len(),
        };
        let stats =
            QueryStats { samples_touched: meter.touched(), samples_peak: meter.peak(), series };
        let (warnings, infos) = annotations.finish();
        Ok(QueryAnswer { value, warnings, infos, stats })
    }
}

fn value_of(
    evaluator: &Evaluator<'_>,
    plan: &Plan,
    expr: &language::ast::Expr,
    grid: Grid,
    is_range: bool,
) -> Result<QueryValue, QueryError> {
    Ok(match plan {
        Plan::Text(text) => QueryValue::Text(text.to_string()),
        Plan::Scalar(scalar) => {
            let values = evaluator.scalar(scalar, grid)?;
            if !is_range {
                return Ok(QueryValue::Scalar(values[0]));
            }
            let points = points(&values, grid);
            QueryValue::Matrix(vec![MatrixSeries { labels: Labels::new(), points }])
        }
        Plan::Vector(vector) => {
            let table = evaluator.table(vector, grid)?;
            if is_range { matrix(table, grid)? } else { elements(table, is_ordered(expr)) }
        }
        Plan::Window(window) => {
            let mut series: Vec<MatrixSeries> = evaluator
                .samples(window, grid)?
                .into_iter()
                .map(|one| MatrixSeries { labels: one.key.to_labels(), points: one.points })
                .collect();
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            QueryValue::Matrix(series)
        }
    })
}

/// Whether the order of an instant vector is part of the answer.
fn is_ordered(expr: &language::ast::Expr) -> bool {
    use language::ast::{AggregateOp, Expr};
    match expr.bare() {
        Expr::Call { function, .. } => matches!(function.name, "sort" | "sort_desc"),
        Expr::Aggregate(aggregate) => {
            matches!(aggregate.op, AggregateOp::TopK | AggregateOp::BottomK)
        }
        _ => false,
    }
}

fn points(values: &[f64], grid: Grid) -> Vec<(Timestamp, f64)> {
    let present = || values.iter().enumerate().filter(|(_, value)| is_present(**value));
    let mut points = Vec::with_capacity(present().count());
    points.extend(
        present().map(|(step, value)| (Timestamp::from_millis(grid.time_ms(step)), *value)),
    );
    points
}

fn elements(table: Table<'_>, is_ordered: bool) -> QueryValue {
    let present = table.series.into_iter().filter(|series| is_present(series.values[0]));
    let mut elements: Vec<InstantSample> = present
        .map(|series| InstantSample { labels: series.key.to_labels(), value: series.values[0] })
        .collect();
    if !is_ordered {
        elements.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    QueryValue::Vector(elements)
}

fn matrix(table: Table<'_>, grid: Grid) -> Result<QueryValue, QueryError> {
    let Table { series, mut held } = table;
    let mut shown = Vec::with_capacity(series.len());
    for one in series {
        let points = points(&one.values, grid);
        // Values are let go one series after the other, so what is counted is more than what is there.
        held.grow_bytes(size_of_val(&*points))?;
        if !points.is_empty() {
            shown.push(MatrixSeries { labels: one.key.to_labels(), points });
        }
    }
    shown.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(QueryValue::Matrix(shown))
}

/// Whether a range query stays within [`QueryLimits::points_per_series_max`].
///
/// # Errors
/// [`QueryError::BadQuery`] in Prometheus' words.
pub fn check_resolution(
    start: Timestamp,
    end: Timestamp,
    step: Duration,
    limits: &QueryLimits,
) -> Result<(), QueryError> {
    let span = end.saturating_since(start).as_millis();
    if span / step.as_millis().max(1) > limits.points_per_series_max as u128 {
        let limit = limits.points_per_series_max;
        let shown = if limit == 11_000 { "11,000".to_owned() } else { limit.to_string() };
        return Err(QueryError::BadQuery(format!(
            "exceeded maximum resolution of {shown} points per timeseries. Try decreasing the query resolution (?step=XX)"
        )));
    }
    Ok(())
}
