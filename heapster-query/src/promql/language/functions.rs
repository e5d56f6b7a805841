//! The functions of the language: names, types of arguments and results. What they do is
//! `promql::eval`'s business.

use super::ast::Type::{self, Range, Scalar, Text, Vector};

/// One function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    pub name: &'static str,
    /// Types of its arguments. Those beyond [`Signature::required`] may be left out.
    pub args: &'static [Type],
    pub required: usize,
    /// Whether the last argument may be repeated.
    pub repeats: bool,
    pub returns: Type,
    pub stage: Stage,
}

/// Whether a function is there for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Stable,
    /// Behind a flag in Prometheus, and not here.
    Experimental,
    /// Of native histograms, which are not stored.
    Native,
}

const fn stable(name: &'static str, args: &'static [Type], returns: Type) -> Signature {
    Signature { name, args, required: args.len(), repeats: false, returns, stage: Stage::Stable }
}

const fn optional(one: Signature, required: usize) -> Signature {
    Signature { required, ..one }
}

const fn repeated(one: Signature, required: usize) -> Signature {
    Signature { required, repeats: true, ..one }
}

const fn experimental(one: Signature) -> Signature {
    Signature { stage: Stage::Experimental, ..one }
}

const fn native(name: &'static str) -> Signature {
    Signature { stage: Stage::Native, ..stable(name, &[Vector], Vector) }
}

/// The function of that name. Names are case-sensitive.
pub(crate) fn find(name: &str) -> Option<&'static Signature> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// All of Prometheus 3.14, sorted by name.
pub(crate) static FUNCTIONS: &[Signature] = &[
    stable("abs", &[Vector], Vector),
    stable("absent", &[Vector], Vector),
    stable("absent_over_time", &[Range], Vector),
    stable("acos", &[Vector], Vector),
    stable("acosh", &[Vector], Vector),
    stable("asin", &[Vector], Vector),
    stable("asinh", &[Vector], Vector),
    stable("atan", &[Vector], Vector),
    stable("atanh", &[Vector], Vector),
    stable("avg_over_time", &[Range], Vector),
    stable("ceil", &[Vector], Vector),
    stable("changes", &[Range], Vector),
    stable("clamp", &[Vector, Scalar, Scalar], Vector),
    stable("clamp_max", &[Vector, Scalar], Vector),
    stable("clamp_min", &[Vector, Scalar], Vector),
    stable("cos", &[Vector], Vector),
    stable("cosh", &[Vector], Vector),
    stable("count_over_time", &[Range], Vector),
    optional(stable("day_of_month", &[Vector], Vector), 0),
    optional(stable("day_of_week", &[Vector], Vector), 0),
    optional(stable("day_of_year", &[Vector], Vector), 0),
    optional(stable("days_in_month", &[Vector], Vector), 0),
    stable("deg", &[Vector], Vector),
    stable("delta", &[Range], Vector),
    stable("deriv", &[Range], Vector),
    experimental(stable("double_exponential_smoothing", &[Range, Scalar, Scalar], Vector)),
    experimental(stable("end", &[], Scalar)),
    stable("exp", &[Vector], Vector),
    stable("first_over_time", &[Range], Vector),
    stable("floor", &[Vector], Vector),
    native("histogram_avg"),
    native("histogram_count"),
    stable("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    stable("histogram_quantile", &[Scalar, Vector], Vector),
    experimental(repeated(
        stable("histogram_quantiles", &[Vector, Text, Scalar, Scalar], Vector),
        3,
    )),
    native("histogram_stddev"),
    native("histogram_stdvar"),
    native("histogram_sum"),
    optional(stable("hour", &[Vector], Vector), 0),
    stable("idelta", &[Range], Vector),
    stable("increase", &[Range], Vector),
    experimental(optional(stable("info", &[Vector, Vector], Vector), 1)),
    stable("irate", &[Range], Vector),
    repeated(stable("label_join", &[Vector, Text, Text, Text], Vector), 3),
    stable("label_replace", &[Vector, Text, Text, Text, Text], Vector),
    stable("last_over_time", &[Range], Vector),
    stable("ln", &[Vector], Vector),
    stable("log10", &[Vector], Vector),
    stable("log2", &[Vector], Vector),
    experimental(stable("mad_over_time", &[Range], Vector)),
    experimental(stable("max_of", &[Scalar, Scalar], Scalar)),
    stable("max_over_time", &[Range], Vector),
    experimental(stable("min_of", &[Scalar, Scalar], Scalar)),
    stable("min_over_time", &[Range], Vector),
    optional(stable("minute", &[Vector], Vector), 0),
    optional(stable("month", &[Vector], Vector), 0),
    stable("pi", &[], Scalar),
    stable("predict_linear", &[Range, Scalar], Vector),
    stable("present_over_time", &[Range], Vector),
    stable("quantile_over_time", &[Scalar, Range], Vector),
    stable("rad", &[Vector], Vector),
    experimental(stable("range", &[], Scalar)),
    stable("rate", &[Range], Vector),
    stable("resets", &[Range], Vector),
    optional(stable("round", &[Vector, Scalar], Vector), 1),
    stable("scalar", &[Vector], Scalar),
    stable("sgn", &[Vector], Vector),
    stable("sin", &[Vector], Vector),
    stable("sinh", &[Vector], Vector),
    stable("sort", &[Vector], Vector),
    experimental(repeated(stable("sort_by_label", &[Vector, Text], Vector), 1)),
    experimental(repeated(stable("sort_by_label_desc", &[Vector, Text], Vector), 1)),
    stable("sort_desc", &[Vector], Vector),
    stable("sqrt", &[Vector], Vector),
    experimental(stable("start", &[], Scalar)),
    experimental(stable("start_timestamp", &[Vector], Vector)),
    stable("stddev_over_time", &[Range], Vector),
    stable("stdvar_over_time", &[Range], Vector),
    experimental(stable("step", &[], Scalar)),
    stable("sum_over_time", &[Range], Vector),
    stable("tan", &[Vector], Vector),
    stable("tanh", &[Vector], Vector),
    stable("time", &[], Scalar),
    stable("timestamp", &[Vector], Vector),
    experimental(stable("ts_of_first_over_time", &[Range], Vector)),
    experimental(stable("ts_of_last_over_time", &[Range], Vector)),
    experimental(stable("ts_of_max_over_time", &[Range], Vector)),
    experimental(stable("ts_of_min_over_time", &[Range], Vector)),
    stable("vector", &[Scalar], Vector),
    optional(stable("year", &[Vector], Vector), 0),
];
