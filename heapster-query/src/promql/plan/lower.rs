//! From the tree to the plan.
//!
//! A part is *steady* when it gives the same at every step: it looks at a moment that `@` fixes, or
//! at no data at all. The largest steady parts are put below a `Once`.

use heapster_core::{MatchOp, Text};

use super::super::annotations::Annotations;
use super::super::functions::{DatePart, math};
use super::super::key::{Key, NAME};
use super::super::language::ast::{self, At, DURATION_MAX_MS, Duration, Expr, Modifiers, Op, Type};
use super::super::language::{quoted_bytes, regex as pattern};
use super::{
    Aggregate, Histogram, HistogramFunction, Join, Map, Over, OverFunction, Param, Plan, Relabel,
    Scalar, Select, Shift, Times, Vector, Window,
};
use crate::error::QueryError;

/// Most bytes of a compiled pattern of `label_replace`.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Makes the plan of a checked tree.
///
/// # Errors
/// [`QueryError::Execution`] for what only shows with the query's times and texts: a duration that is
/// not positive, a pattern that does not compile, a label's name that is none.
pub(in super::super) fn lower(
    expr: &Expr,
    times: &Times,
    annotations: &Annotations<'_>,
) -> Result<Plan, QueryError> {
    let lowering = Lowering { times, annotations };
    Ok(match expr.kind() {
        Type::Scalar => Plan::Scalar(lowering.scalar(expr)?.fixed()),
        Type::Vector => Plan::Vector(lowering.vector(expr)?.fixed()),
        Type::Range => Plan::Window(lowering.window(expr)?.part),
        Type::Text => Plan::Text(utf8(text_of(expr), "string")?),
    })
}

struct Lowering<'a> {
    times: &'a Times,
    annotations: &'a Annotations<'a>,
}

/// A part of the plan, and whether it is steady.
struct Lowered<T> {
    part: T,
    steady: bool,
}

impl<T> Lowered<T> {
    fn new(part: T, steady: bool) -> Self {
        Self { part, steady }
    }
}

/// A part that can be evaluated once for all steps.
trait Part {
    fn once(self) -> Self;
}

impl Part for Scalar {
    fn once(self) -> Self {
        // As quick to say again.
        if matches!(self, Self::Constant(_)) { self } else { Self::Once(Box::new(self)) }
    }
}

impl Part for Vector {
    fn once(self) -> Self {
        Self::Once(Box::new(self))
    }
}

impl<T: Part> Lowered<T> {
    /// As a part of something that is not steady.
    fn fixed(self) -> T {
        if self.steady { self.part.once() } else { self.part }
    }
}

/// Two parts of a whole, which is steady if both are.
fn both<A: Part, B: Part>(a: Lowered<A>, b: Lowered<B>) -> (A, B, bool) {
    if a.steady && b.steady { (a.part, b.part, true) } else { (a.fixed(), b.fixed(), false) }
}

impl Lowering<'_> {
    fn scalar(&self, expr: &Expr) -> Result<Lowered<Scalar>, QueryError> {
        let constant = |value| Ok(Lowered::new(Scalar::Constant(value), true));
        match expr {
            Expr::Number { value, .. } => constant(*value),
            Expr::Seconds { millis, .. } => constant(*millis as f64 / 1000.0),
            Expr::Paren { expr, .. } => self.scalar(expr),
            Expr::Unary { negate, expr, .. } => {
                let inner = self.scalar(expr)?;
                match (negate, &inner.part) {
                    (false, _) => Ok(inner),
                    (true, Scalar::Constant(value)) => constant(-value),
                    (true, _) => {
                        Ok(Lowered::new(Scalar::Negate(Box::new(inner.part)), inner.steady))
                    }
                }
            }
            Expr::Binary(binary) => {
                let (lhs, rhs) = (self.scalar(&binary.lhs)?, self.scalar(&binary.rhs)?);
                let (lhs, rhs, steady) = both(lhs, rhs);
                let (lhs, rhs) = (Box::new(lhs), Box::new(rhs));
                Ok(Lowered::new(Scalar::Binary { op: binary.op, lhs, rhs }, steady))
            }
            Expr::Call { function, args, .. } => match (function.name, args.as_slice()) {
                ("pi", _) => constant(std::f64::consts::PI),
                ("time", _) => Ok(Lowered::new(Scalar::Time, false)),
                ("scalar", [of]) => {
                    let of = self.vector(of)?;
                    Ok(Lowered::new(Scalar::Of(Box::new(of.part)), of.steady))
                }
                _ => Err(unknown(function.name)),
            },
            _ => Err(unknown("scalar")),
        }
    }

    fn vector(&self, expr: &Expr) -> Result<Lowered<Vector>, QueryError> {
        match expr {
            Expr::Selector(selector) => {
                let select = self.select(selector)?;
                let steady = select.shift.at_ms.is_some();
                Ok(Lowered::new(Vector::Select(select), steady))
            }
            Expr::Paren { expr, .. } => self.vector(expr),
            Expr::Unary { negate: false, expr, .. } => self.vector(expr),
            Expr::Unary { expr, .. } => Ok(map(Map::Negate, self.vector(expr)?)),
            Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            Expr::Binary(binary) => self.binary(binary),
            Expr::Call { function, args, span } => self.call(function.name, args, *span),
            _ => Err(unknown("vector")),
        }
    }

    fn aggregate(&self, aggregate: &ast::Aggregate) -> Result<Lowered<Vector>, QueryError> {
        let of = self.vector(&aggregate.expr)?;
        let (param, of, steady) = match &aggregate.param {
            None => (None, of.part, of.steady),
            Some(expr) if expr.kind() == Type::Text => {
                let label = label_name(expr)?;
                (Some(Param::Label(label)), of.part, of.steady)
            }
            Some(expr) => {
                let param = self.scalar(expr)?;
                let (param, of, steady) = both(param, of);
                (Some(Param::Number(param, expr.span())), of, steady)
            }
        };
        let (op, grouping) = (aggregate.op, aggregate.grouping.clone());
        let part = Vector::Aggregate(Box::new(Aggregate { op, grouping, param, of }));
        Ok(Lowered::new(part, steady))
    }

    fn binary(&self, binary: &ast::Binary) -> Result<Lowered<Vector>, QueryError> {
        let ast::Binary { op, returns_bool, matching, lhs, rhs, .. } = binary;
        let scalar_is_left = lhs.kind() == Type::Scalar;
        if scalar_is_left || rhs.kind() == Type::Scalar {
            let (scalar, of) = if scalar_is_left { (lhs, rhs) } else { (rhs, lhs) };
            let (scalar, of) = (self.scalar(scalar)?, self.vector(of)?);
            let (scalar, of, steady) = both(scalar, of);
            let (op, returns_bool) = (*op, *returns_bool);
            let with = Map::WithScalar { op, scalar, scalar_is_left, returns_bool };
            return Ok(map(with, Lowered::new(of, steady)));
        }
        let (lhs, rhs) = (self.vector(lhs)?, self.vector(rhs)?);
        let (lhs, rhs, steady) = both(lhs, rhs);
        let (op, returns_bool, matching) = (*op, *returns_bool, matching.clone());
        let join = Join { op, returns_bool, matching, lhs, rhs };
        Ok(Lowered::new(Vector::Join(Box::new(join)), steady))
    }

    fn call(
        &self,
        name: &str,
        args: &[Expr],
        span: ast::Span,
    ) -> Result<Lowered<Vector>, QueryError> {
        if let Some(function) = OverFunction::find(name) {
            return self.over(function, args);
        }
        if let Some(math) = math(name) {
            return Ok(map(Map::Math(math), self.vector(first(args)?)?));
        }
        if let Some(part) = DatePart::find(name) {
            // Never steady, as in Prometheus: without an argument it is of the evaluation's time.
            let of = match args.first() {
                Some(of) => self.vector(of)?.fixed(),
                None => Vector::OfScalar(Scalar::Time),
            };
            return Ok(map(Map::Date(part), Lowered::new(of, false)));
        }
        match (name, args) {
            ("vector", [of]) => {
                let of = self.scalar(of)?;
                Ok(Lowered::new(Vector::OfScalar(of.part), of.steady))
            }
            ("round", [of, rest @ ..]) => {
                let to = rest.first().map_or_else(
                    || Ok(Lowered::new(Scalar::Constant(1.0), true)),
                    |to| self.scalar(to),
                )?;
                let of = self.vector(of)?;
                let (to, of, steady) = both(to, of);
                Ok(map(Map::Round(to), Lowered::new(of, steady)))
            }
            ("clamp", [of, min, max]) => self.clamp(of, Some(min), Some(max)),
            ("clamp_min", [of, min]) => self.clamp(of, Some(min), None),
            ("clamp_max", [of, max]) => self.clamp(of, None, Some(max)),
            ("timestamp", [of]) => match of.bare() {
                Expr::Selector(selector) => {
                    let part = Vector::SampleTime(self.select(selector)?);
                    Ok(Lowered::new(part, false))
                }
                _ => {
                    let of = self.vector(of)?.fixed();
                    Ok(Lowered::new(Vector::StepTime(Box::new(of)), false))
                }
            },
            ("absent", [of]) => {
                let labels = labels_of_absent(of);
                let of = self.vector(of)?;
                let part = Vector::Absent { of: Box::new(of.part), labels };
                Ok(Lowered::new(part, of.steady))
            }
            ("absent_over_time", [of]) => {
                let labels = labels_of_absent(of);
                let of = self.window(of)?;
                Ok(Lowered::new(Vector::AbsentOver { of: of.part, labels }, of.steady))
            }
            ("sort" | "sort_desc", [of]) => {
                if self.times.is_range {
                    self.annotations.sort_is_ineffective(span);
                }
                let of = self.vector(of)?;
                let descending = name == "sort_desc";
                Ok(Lowered::new(Vector::Sort { descending, of: Box::new(of.part) }, of.steady))
            }
            ("label_replace", [of, target, replacement, source, regex]) => {
                let relabel = Relabel::Replace {
                    target: label_name(target)?,
                    replacement: utf8(text_of(replacement), "replacement")?.to_string(),
                    source: utf8(text_of(source), "source label name")?,
                    pattern: compile(&utf8(text_of(regex), "regular expression")?)?,
                };
                self.relabel(relabel, of)
            }
            ("label_join", [of, target, separator, sources @ ..]) => {
                let relabel = Relabel::Join {
                    target: label_name(target)?,
                    separator: utf8(text_of(separator), "separator")?,
                    sources: sources.iter().map(label_name).collect::<Result<_, _>>()?,
                };
                self.relabel(relabel, of)
            }
            ("histogram_quantile", [quantile, of]) => {
                let (spans, q) = ((quantile.span(), of.span()), self.scalar(quantile)?);
                let (quantile, of, steady) = both(q, self.vector(of)?);
                let function = HistogramFunction::Quantile { quantile, span: spans.0 };
                let histogram = Histogram { function, of, span: spans.1 };
                Ok(Lowered::new(Vector::Histogram(Box::new(histogram)), steady))
            }
            ("histogram_fraction", [lower, upper, of]) => {
                let span = of.span();
                let (lower, upper) = (self.scalar(lower)?.fixed(), self.scalar(upper)?.fixed());
                let of = self.vector(of)?.fixed();
                let function = HistogramFunction::Fraction { lower, upper };
                let histogram = Histogram { function, of, span };
                Ok(Lowered::new(Vector::Histogram(Box::new(histogram)), false))
            }
            _ => Err(unknown(name)),
        }
    }

    fn clamp(
        &self,
        of: &Expr,
        min: Option<&Expr>,
        max: Option<&Expr>,
    ) -> Result<Lowered<Vector>, QueryError> {
        let bound = |expr: &Expr| self.scalar(expr).map(Lowered::fixed);
        let (min, max) = (min.map(bound).transpose()?, max.map(bound).transpose()?);
        let is_constant = |bound: &Option<Scalar>| {
            bound.as_ref().is_none_or(|bound| matches!(bound, Scalar::Constant(_)))
        };
        let of = self.vector(of)?;
        let steady = of.steady && is_constant(&min) && is_constant(&max);
        let of = if steady { of.part } else { of.fixed() };
        Ok(map(Map::Clamp { min, max }, Lowered::new(of, steady)))
    }

    fn over(&self, function: OverFunction, args: &[Expr]) -> Result<Lowered<Vector>, QueryError> {
        let (param, of) = match (function, args) {
            (OverFunction::Quantile, [quantile, of]) => (Some(quantile), of),
            (OverFunction::PredictLinear, [of, seconds]) => (Some(seconds), of),
            (_, [of]) => (None, of),
            _ => return Err(unknown("over_time")),
        };
        let span = match (function, param) {
            (OverFunction::Quantile, Some(param)) => param.span(),
            _ => of.span(),
        };
        let window = self.window(of)?;
        let param = param.map(|param| self.scalar(param)).transpose()?;
        let steady = window.steady
            && function != OverFunction::PredictLinear
            && param.as_ref().is_none_or(|param| param.steady);
        let param = param.map(|param| if steady { param.part } else { param.fixed() });
        let over = Over { function, param, of: window.part, span };
        Ok(Lowered::new(Vector::Over(over), steady))
    }

    fn relabel(&self, relabel: Relabel, of: &Expr) -> Result<Lowered<Vector>, QueryError> {
        let of = self.vector(of)?;
        Ok(Lowered::new(Vector::Relabel { relabel, of: Box::new(of.part) }, of.steady))
    }

    fn window(&self, expr: &Expr) -> Result<Lowered<Window>, QueryError> {
        match expr {
            Expr::Paren { expr, .. } => self.window(expr),
            Expr::Range { selector, range, .. } => {
                let (select, range_ms) = (self.select(selector)?, self.positive(range)?);
                let steady = select.shift.at_ms.is_some();
                Ok(Lowered::new(Window::Select { select, range_ms }, steady))
            }
            Expr::Subquery { expr, range, step, modifiers, .. } => {
                let (range_ms, shift) = (self.positive(range)?, self.shift(modifiers)?);
                let step = step.as_ref().map(|step| self.positive(step)).transpose()?;
                let step_ms = step.unwrap_or(self.times.subquery_step_ms).max(1);
                let of = self.vector(expr)?.fixed();
                let window = Window::Subquery { of: Box::new(of), range_ms, step_ms, shift };
                Ok(Lowered::new(window, shift.at_ms.is_some()))
            }
            _ => Err(unknown("range vector")),
        }
    }

    fn select(&self, selector: &ast::Selector) -> Result<Select, QueryError> {
        let select = Select::bare(selector.conditions.iter().map(|one| one.matcher.clone()));
        let shift = self.shift(&selector.modifiers)?;
        Ok(Select { shift, lookback_ms: self.times.lookback_ms, ..select })
    }

    fn shift(&self, modifiers: &Modifiers) -> Result<Shift, QueryError> {
        let at_ms = modifiers.at.map(|at| match at {
            At::Millis(millis) => millis,
            At::Start => self.times.start_ms,
            At::End => self.times.end_ms,
        });
        let offset = modifiers.offset.as_ref().map(|offset| self.millis(offset)).transpose()?;
        Ok(Shift { at_ms, offset_ms: offset.unwrap_or(0) })
    }

    fn positive(&self, duration: &Duration) -> Result<i64, QueryError> {
        match self.millis(duration)? {
            millis if millis > 0 => Ok(millis),
            _ => Err(QueryError::execution("duration must be greater than 0")),
        }
    }

    fn millis(&self, duration: &Duration) -> Result<i64, QueryError> {
        let millis = self.seconds(duration) * 1000.0;
        if millis.abs() <= DURATION_MAX_MS as f64 {
            Ok(millis.round() as i64)
        } else {
            Err(QueryError::execution("duration out of range"))
        }
    }

    fn seconds(&self, duration: &Duration) -> f64 {
        match duration {
            Duration::Millis(millis) => *millis as f64 / 1000.0,
            Duration::Seconds(seconds) => *seconds,
            Duration::Step => self.times.step_ms as f64 / 1000.0,
            Duration::Range => (self.times.end_ms - self.times.start_ms) as f64 / 1000.0,
            Duration::Negative(inner) => -self.seconds(inner),
            Duration::Paren(inner) => self.seconds(inner),
            Duration::Least(one, other) => self.seconds(one).min(self.seconds(other)),
            Duration::Greatest(one, other) => self.seconds(one).max(self.seconds(other)),
            Duration::Arithmetic { op, lhs, rhs } => {
                let (lhs, rhs) = (self.seconds(lhs), self.seconds(rhs));
                match op {
                    Op::Add => lhs + rhs,
                    Op::Sub => lhs - rhs,
                    Op::Mul => lhs * rhs,
                    Op::Div => lhs / rhs,
                    Op::Mod => lhs % rhs,
                    _ => lhs.powf(rhs),
                }
            }
        }
    }
}

fn map(map: Map, of: Lowered<Vector>) -> Lowered<Vector> {
    Lowered::new(Vector::Map { map, of: Box::new(of.part) }, of.steady)
}

fn first(args: &[Expr]) -> Result<&Expr, QueryError> {
    args.first().ok_or_else(|| unknown("function without arguments"))
}

/// Only reached when the table of functions and this file disagree; a test walks the table.
fn unknown(what: &str) -> QueryError {
    QueryError::execution(format!("bug: {what} has no plan"))
}

fn text_of(expr: &Expr) -> &[u8] {
    match expr.bare() {
        Expr::Text { bytes, .. } => bytes,
        _ => &[],
    }
}

fn utf8(bytes: &[u8], what: &str) -> Result<Text, QueryError> {
    std::str::from_utf8(bytes).map(Text::from).map_err(|_| {
        QueryError::execution(format!("invalid UTF-8 in {what} {}", quoted_bytes(bytes)))
    })
}

fn label_name(expr: &Expr) -> Result<Text, QueryError> {
    let bytes = text_of(expr);
    let invalid = || QueryError::execution(format!("invalid label name {}", quoted_bytes(bytes)));
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() => Ok(Text::from(name)),
        _ => Err(invalid()),
    }
}

fn compile(text: &str) -> Result<regex::Regex, QueryError> {
    let invalid = || {
        let reason = pattern::fault(text);
        QueryError::execution(format!("invalid regular expression in label_replace(): {reason}"))
    };
    // By itself first: `a)|(b` must not get out of what it is wrapped in.
    let own = pattern::to_rust(text);
    regex::RegexBuilder::new(&own).size_limit(PATTERN_BYTES_MAX).build().map_err(|_| invalid())?;
    regex::RegexBuilder::new(&format!("^(?s:{own})$"))
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|_| invalid())
}

/// The labels that `absent` gives: those that a plain selector fixes, each mentioned once.
fn labels_of_absent(expr: &Expr) -> Key {
    let selector = match expr.bare() {
        Expr::Selector(selector) | Expr::Range { selector, .. } => selector,
        _ => return Key::default(),
    };
    let mut key = Key::default();
    let conditions = || selector.conditions.iter().map(|one| &one.matcher);
    for matcher in conditions().filter(|one| one.name() != NAME) {
        let mentions = conditions().filter(|other| other.name() == matcher.name()).count();
        if let (MatchOp::Equal(value), 1) = (matcher.op(), mentions) {
            key.set(&Text::from(matcher.name()), value);
        }
    }
    key
}
