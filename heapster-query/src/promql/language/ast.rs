//! [`Expr`]: the tree of a query, as it was written.

use std::fmt;

use heapster_core::{Matcher, Text};

use super::functions::Signature;

/// Longest duration, in milliseconds: what Go's `time.Duration` holds.
pub(crate) const DURATION_MAX_MS: i64 = i64::MAX / 1_000_000;

/// A stretch of the query's text, in bytes; the end is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// The empty stretch at a place.
    pub const fn at(start: usize) -> Self {
        Self { start, end: start }
    }

    /// From the start of this one to the end of another.
    pub const fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// The four types of PromQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar,
    Vector,
    Range,
    Text,
}

/// As Prometheus names them to users.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Range => "range vector",
            Self::Text => "string",
        })
    }
}

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Number {
        value: f64,
        span: Span,
    },
    /// A duration that stands for its seconds, as in `1h`; kept to be printed as written.
    Seconds {
        millis: i64,
        span: Span,
    },
    Text {
        bytes: Vec<u8>,
        span: Span,
    },
    Selector(Selector),
    /// `selector[range]`
    Range {
        selector: Selector,
        range: Duration,
        span: Span,
    },
    /// `expr[range:step]`
    Subquery {
        expr: Box<Expr>,
        range: Duration,
        step: Option<Duration>,
        modifiers: Modifiers,
        span: Span,
    },
    Call {
        function: &'static Signature,
        args: Vec<Expr>,
        span: Span,
    },
    Aggregate(Box<Aggregate>),
    Unary {
        negate: bool,
        expr: Box<Expr>,
        span: Span,
    },
    Binary(Box<Binary>),
    Paren {
        expr: Box<Expr>,
        span: Span,
    },
}

impl Expr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Number { span, .. }
            | Self::Seconds { span, .. }
            | Self::Text { span, .. }
            | Self::Range { span, .. }
            | Self::Subquery { span, .. }
            | Self::Call { span, .. }
            | Self::Unary { span, .. }
            | Self::Paren { span, .. } => *span,
            Self::Selector(selector) => selector.span,
            Self::Aggregate(aggregate) => aggregate.span,
            Self::Binary(binary) => binary.lhs.span().to(binary.rhs.span()),
        }
    }

    /// Its type, provided that it was checked.
    pub fn kind(&self) -> Type {
        match self {
            Self::Number { .. } | Self::Seconds { .. } => Type::Scalar,
            Self::Text { .. } => Type::Text,
            Self::Selector(_) | Self::Aggregate(_) => Type::Vector,
            Self::Range { .. } | Self::Subquery { .. } => Type::Range,
            Self::Call { function, .. } => function.returns,
            Self::Unary { expr, .. } | Self::Paren { expr, .. } => expr.kind(),
            Self::Binary(binary) => match (binary.lhs.kind(), binary.rhs.kind()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Vector,
            },
        }
    }

    /// The expression without parentheses around it.
    pub fn bare(&self) -> &Self {
        match self {
            Self::Paren { expr, .. } => expr.bare(),
            _ => self,
        }
    }
}

/// Which series: at least one matcher does not match the empty text.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// The name before the braces, or the quoted one in them. It is also among the conditions.
    pub name: Option<Text>,
    pub conditions: Vec<Condition>,
    pub modifiers: Modifiers,
    pub span: Span,
}

/// One matcher, and its text or pattern as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub matcher: Matcher,
    pub written: Text,
}

/// `offset` and `@`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Modifiers {
    pub offset: Option<Duration>,
    pub at: Option<At>,
}

impl Modifiers {
    pub fn are_none(&self) -> bool {
        self.offset.is_none() && self.at.is_none()
    }
}

/// The moment of `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Millis(i64),
    Start,
    End,
}

/// A duration, which may be computed from the query's step and range.
#[derive(Clone, Debug)]
pub(crate) enum Duration {
    /// As `1h30m`.
    Millis(i64),
    /// As `90`, in seconds.
    Seconds(f64),
    /// `step()`
    Step,
    /// `range()`
    Range,
    Negative(Box<Duration>),
    Paren(Box<Duration>),
    Arithmetic {
        op: Op,
        lhs: Box<Duration>,
        rhs: Box<Duration>,
    },
    Least(Box<Duration>, Box<Duration>),
    Greatest(Box<Duration>, Box<Duration>),
}

/// An aggregation.
#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    pub op: AggregateOp,
    pub grouping: Grouping,
    pub param: Option<Expr>,
    pub expr: Expr,
    pub span: Span,
}

/// The labels that tell groups apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub without: bool,
    pub labels: Vec<Text>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AggregateOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Quantile,
    TopK,
    BottomK,
    CountValues,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    pub const ALL: [Self; 14] = [
        Self::Sum,
        Self::Avg,
        Self::Min,
        Self::Max,
        Self::Count,
        Self::Group,
        Self::Stddev,
        Self::Stdvar,
        Self::Quantile,
        Self::TopK,
        Self::BottomK,
        Self::CountValues,
        Self::LimitK,
        Self::LimitRatio,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Count => "count",
            Self::Group => "group",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Quantile => "quantile",
            Self::TopK => "topk",
            Self::BottomK => "bottomk",
            Self::CountValues => "count_values",
            Self::LimitK => "limitk",
            Self::LimitRatio => "limit_ratio",
        }
    }

    /// The type of the parameter; `None` when it has none.
    pub fn param(self) -> Option<Type> {
        match self {
            Self::CountValues => Some(Type::Text),
            Self::Quantile | Self::TopK | Self::BottomK | Self::LimitK | Self::LimitRatio => {
                Some(Type::Scalar)
            }
            _ => None,
        }
    }
}

/// A binary operation.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub op: Op,
    /// Where the operator stands.
    pub op_span: Span,
    pub returns_bool: bool,
    pub matching: Matching,
    pub lhs: Expr,
    pub rhs: Expr,
}

/// How elements of two vectors find each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matching {
    /// `on(…)` rather than `ignoring(…)`, or neither.
    pub on: bool,
    pub labels: Vec<Text>,
    pub group: Option<Group>,
    /// Whether it was written at all.
    pub span: Option<Span>,
}

/// `group_left(…)` or `group_right(…)`.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Whether the many are on the left.
    pub left: bool,
    pub include: Vec<Text>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Pow,
    Mul,
    Div,
    Mod,
    Atan2,
    Add,
    Sub,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Unless,
    Or,
}

impl Op {
    pub const ALL: [Self; 16] = [
        Self::Pow,
        Self::Mul,
        Self::Div,
        Self::Mod,
        Self::Atan2,
        Self::Add,
        Self::Sub,
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::And,
        Self::Unless,
        Self::Or,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pow => "^",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Atan2 => "atan2",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::And => "and",
            Self::Unless => "unless",
            Self::Or => "or",
        }
    }

    /// The higher, the closer it binds.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            _ if self.is_comparison() => 3,
            Self::Add | Self::Sub => 4,
            Self::Pow => 6,
            _ => 5,
        }
    }

    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessOrEqual
                | Self::Greater
                | Self::GreaterOrEqual
        )
    }

    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Unless | Self::Or)
    }
}

impl Expr {
    /// Shows the selectors of an expression, in the order in which they are written.
    pub fn visit_selectors(&self, visit: &mut dyn FnMut(&Selector)) {
        match self {
            Self::Number { .. } | Self::Seconds { .. } | Self::Text { .. } => {}
            Self::Selector(selector) | Self::Range { selector, .. } => visit(selector),
            Self::Subquery { expr, .. } | Self::Unary { expr, .. } | Self::Paren { expr, .. } => {
                expr.visit_selectors(visit);
            }
            Self::Call { args, .. } => args.iter().for_each(|arg| arg.visit_selectors(visit)),
            Self::Aggregate(aggregate) => {
                for expr in aggregate.param.iter().chain([&aggregate.expr]) {
                    expr.visit_selectors(visit);
                }
            }
            Self::Binary(binary) => {
                binary.lhs.visit_selectors(visit);
                binary.rhs.visit_selectors(visit);
            }
        }
    }

    /// Fixes the moment of all selectors and subqueries that have none, as `@` would. Tells whether
    /// the expression still depends on when it is evaluated: through a function of that moment.
    pub fn fix(&mut self, millis: i64) -> bool {
        let fix = |modifiers: &mut Modifiers| {
            modifiers.at.get_or_insert(At::Millis(millis));
        };
        match self {
            Self::Number { .. } | Self::Seconds { .. } | Self::Text { .. } => false,
            Self::Selector(selector) | Self::Range { selector, .. } => {
                fix(&mut selector.modifiers);
                false
            }
            Self::Subquery { expr, modifiers, .. } => {
                fix(modifiers);
                expr.fix(millis)
            }
            Self::Unary { expr, .. } | Self::Paren { expr, .. } => expr.fix(millis),
            Self::Call { function, args, .. } => {
                let unsteady = [
                    "day_of_month",
                    "day_of_week",
                    "day_of_year",
                    "days_in_month",
                    "hour",
                    "minute",
                    "month",
                    "predict_linear",
                    "time",
                    "timestamp",
                    "year",
                ];
                let of_args = args.iter_mut().fold(false, |any, arg| arg.fix(millis) | any);
                unsteady.contains(&function.name) || of_args
            }
            Self::Aggregate(aggregate) => {
                let of_param = aggregate.param.as_mut().is_some_and(|param| param.fix(millis));
                aggregate.expr.fix(millis) || of_param
            }
            Self::Binary(binary) => {
                let of_lhs = binary.lhs.fix(millis);
                binary.rhs.fix(millis) || of_lhs
            }
        }
    }
}
