//! The typed plan of one query: what is evaluated, with all that the tree left open filled in.
//!
//! Durations and `@` are numbers here, the four types of the language are three Rust types, every
//! function is a case, and parts that are the same at every step stand below a `Once`.

mod lower;

use heapster_core::{MatchOp, Matcher, Text};

use super::key::{Key, NAME};
use super::language::ast::{AggregateOp, Grouping, Matching, Op, Span};

pub(super) use lower::lower;

/// The times of a query, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub start_ms: i64,
    pub end_ms: i64,
    /// Zero for an instant query.
    pub step_ms: i64,
    pub lookback_ms: i64,
    /// Step of subqueries that name none.
    pub subquery_step_ms: i64,
    pub is_range: bool,
}

#[derive(Debug)]
pub(super) enum Plan {
    Scalar(Scalar),
    Vector(Vector),
    Window(Window),
    Text(Text),
}

/// One number for each step.
#[derive(Debug)]
pub(super) enum Scalar {
    Constant(f64),
    Time,
    Negate(Box<Scalar>),
    Binary {
        op: Op,
        lhs: Box<Scalar>,
        rhs: Box<Scalar>,
    },
    /// The one element of a vector, or NaN.
    Of(Box<Vector>),
    Once(Box<Scalar>),
}

/// For each step some elements, told apart by labels.
#[derive(Debug)]
pub(super) enum Vector {
    Select(Select),
    OfScalar(Scalar),
    /// A function of each element by itself.
    Map {
        map: Map,
        of: Box<Vector>,
    },
    /// The times of the samples a selector finds.
    SampleTime(Select),
    /// The times of evaluation, where there is an element.
    StepTime(Box<Vector>),
    Over(Over),
    /// `{labels} 1` where there is no element.
    Absent {
        of: Box<Vector>,
        labels: Key,
    },
    AbsentOver {
        of: Window,
        labels: Key,
    },
    Aggregate(Box<Aggregate>),
    Join(Box<Join>),
    Relabel {
        relabel: Relabel,
        of: Box<Vector>,
    },
    Sort {
        descending: bool,
        of: Box<Vector>,
    },
    Histogram(Box<Histogram>),
    Once(Box<Vector>),
}

/// Series by matchers, at a distance from the moment of evaluation.
#[derive(Clone, Debug)]
pub(super) struct Select {
    /// The one name they have, when it is fixed.
    pub name: Option<Text>,
    /// Other conditions on the name.
    pub names: Vec<Matcher>,
    /// Conditions on labels.
    pub matchers: Vec<Matcher>,
    pub shift: Shift,
    pub lookback_ms: i64,
}

impl Select {
    /// The series of conditions alone. The first condition that names a metric is the name.
    pub fn bare(conditions: impl Iterator<Item = Matcher>) -> Self {
        let (mut name, mut names, mut matchers) = (None, Vec::new(), Vec::new());
        for matcher in conditions {
            match (matcher.name() == NAME, matcher.op()) {
                (true, MatchOp::Equal(text)) if name.is_none() && !text.is_empty() => {
                    name = Some(Text::from(text));
                }
                (true, _) => names.push(matcher),
                (false, _) => matchers.push(matcher),
            }
        }
        Self { name, names, matchers, shift: Shift::default(), lookback_ms: 0 }
    }
}

/// `offset` and `@`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shift {
    pub at_ms: Option<i64>,
    pub offset_ms: i64,
}

impl Shift {
    /// The moment that is looked at when evaluating at another.
    pub fn apply(&self, time_ms: i64) -> i64 {
        self.at_ms.unwrap_or(time_ms) - self.offset_ms
    }
}

/// For each step a stretch of samples of each series.
#[derive(Debug)]
pub(super) enum Window {
    Select { select: Select, range_ms: i64 },
    Subquery { of: Box<Vector>, range_ms: i64, step_ms: i64, shift: Shift },
}

impl Window {
    pub fn range_ms(&self) -> i64 {
        match self {
            Self::Select { range_ms, .. } | Self::Subquery { range_ms, .. } => *range_ms,
        }
    }

    pub fn shift(&self) -> Shift {
        match self {
            Self::Select { select, .. } => select.shift,
            Self::Subquery { shift, .. } => *shift,
        }
    }
}

/// What becomes of an element by itself.
#[derive(Debug)]
pub(super) enum Map {
    Negate,
    Math(fn(f64) -> f64),
    /// Parts of a moment, of the value as seconds since the epoch.
    Date(super::functions::DatePart),
    Round(Scalar),
    Clamp {
        min: Option<Scalar>,
        max: Option<Scalar>,
    },
    /// An operator whose other side is a scalar.
    WithScalar {
        op: Op,
        scalar: Scalar,
        scalar_is_left: bool,
        returns_bool: bool,
    },
}

impl Map {
    /// Whether elements lose their name. Comparisons that only filter keep it.
    pub fn drops_name(&self) -> bool {
        match self {
            Self::WithScalar { op, returns_bool, .. } => !op.is_comparison() || *returns_bool,
            _ => true,
        }
    }
}

/// A function of a stretch of samples.
#[derive(Debug)]
pub(super) struct Over {
    pub function: OverFunction,
    /// The number that `quantile_over_time` and `predict_linear` take.
    pub param: Option<Scalar>,
    pub of: Window,
    /// Where annotations point: the range vector, or the parameter of a quantile.
    pub span: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OverFunction {
    Rate,
    Increase,
    Delta,
    InstantRate,
    InstantDelta,
    Derivative,
    PredictLinear,
    Changes,
    Resets,
    Avg,
    Min,
    Max,
    Sum,
    Count,
    First,
    Last,
    Present,
    Stddev,
    Stdvar,
    Quantile,
}

impl OverFunction {
    /// The function of that name.
    pub fn find(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::InstantRate,
            "idelta" => Self::InstantDelta,
            "deriv" => Self::Derivative,
            "predict_linear" => Self::PredictLinear,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "avg_over_time" => Self::Avg,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "sum_over_time" => Self::Sum,
            "count_over_time" => Self::Count,
            "first_over_time" => Self::First,
            "last_over_time" => Self::Last,
            "present_over_time" => Self::Present,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "quantile_over_time" => Self::Quantile,
            _ => return None,
        })
    }

    pub fn drops_name(self) -> bool {
        !matches!(self, Self::First | Self::Last)
    }

    /// What a factor of all samples comes to in the result.
    pub fn scaled_by(self, factor: f64) -> f64 {
        match self {
            Self::Changes | Self::Resets | Self::Count | Self::Present => 1.0,
            Self::Stdvar => factor * factor,
            _ => factor,
        }
    }

    /// Whether it carries a slope on to the edges of the window.
    pub fn needs_reach(self) -> bool {
        matches!(self, Self::Rate | Self::Increase | Self::Delta)
    }

    /// Whether it needs to know where values fall.
    pub fn needs_drops(self) -> bool {
        matches!(self, Self::Rate | Self::Increase | Self::Resets)
    }
}

#[derive(Debug)]
pub(super) struct Aggregate {
    pub op: AggregateOp,
    pub grouping: Grouping,
    pub param: Option<Param>,
    pub of: Vector,
}

/// What an aggregation takes beside its vector.
#[derive(Debug)]
pub(super) enum Param {
    Number(Scalar, Span),
    Label(Text),
}

/// An operator between two vectors.
#[derive(Debug)]
pub(super) struct Join {
    pub op: Op,
    pub returns_bool: bool,
    pub matching: Matching,
    pub lhs: Vector,
    pub rhs: Vector,
}

/// A change of labels.
#[derive(Debug)]
pub(super) enum Relabel {
    Replace { target: Text, replacement: String, source: Text, pattern: regex::Regex },
    Join { target: Text, separator: Text, sources: Vec<Text> },
}

/// A function of classic histograms.
#[derive(Debug)]
pub(super) struct Histogram {
    pub function: HistogramFunction,
    pub of: Vector,
    /// Where annotations about buckets point.
    pub span: Span,
}

#[derive(Debug)]
pub(super) enum HistogramFunction {
    Quantile { quantile: Scalar, span: Span },
    Fraction { lower: Scalar, upper: Scalar },
}
