//! What a script expects against what was answered, whoever answered it.

use std::collections::BTreeMap;
use std::fmt::Display;

use heapster_core::{Labels, Timestamp};
use heapster_query::promql::{self, QueryAnswer, QueryValue};

use crate::script::{Annotations, Eval, Expected, Pattern, STALE, When};

/// Cases of a file: how many pass, and how many are left out because they need native histograms or
/// something experimental. The numbers are pinned: a case that is not run any more is noticed.
pub const COUNTS: [(&str, usize, usize, usize); 8] = [
    ("aggregators", 123, 35, 2),
    ("collision", 2, 0, 0),
    ("functions", 251, 100, 80),
    ("literals", 25, 0, 0),
    ("operators", 142, 72, 0),
    ("range_queries", 14, 2, 2),
    ("selectors", 31, 0, 0),
    ("staleness", 17, 0, 0),
];

/// Why a case is not run.
pub enum LeftOut {
    /// It needs native histograms.
    Native(String),
    /// It needs what is experimental in Prometheus.
    Experimental(String),
}

/// Whether a case is for others, given the labels of the native histograms that were loaded.
pub fn left_out(eval: &Eval, histograms: &[Labels]) -> Option<LeftOut> {
    let selectors = match promql::selectors(&eval.query) {
        Err(error) if error.message().contains("experimental") => {
            return Some(LeftOut::Experimental(error.message().to_owned()));
        }
        Err(error) if error.message().contains("native histograms") => {
            return Some(LeftOut::Native(error.message().to_owned()));
        }
        selectors => selectors.unwrap_or_default(),
    };
    let is_native = histograms.iter().any(|labels| {
        selectors.iter().any(|matchers| {
            matchers.iter().all(|matcher| matcher.matches(labels.value(matcher.name())))
        })
    });
    let is_native = is_native || matches!(eval.expected, Expected::Histograms);
    is_native.then(|| LeftOut::Native("needs native histograms".to_owned()))
}

/// Whether an answer is the expected one, its annotations too.
pub fn check_answer<E: Display>(
    eval: &Eval,
    answer: &Result<QueryAnswer, E>,
) -> Result<(), String> {
    check_value(eval, answer)?;
    if let Ok(answer) = answer {
        check_annotations(&eval.warnings, &answer.warnings)?;
        check_annotations(&eval.infos, &answer.infos)?;
    }
    Ok(())
}

/// Whether an answer is the expected one, whatever its annotations.
pub fn check_value<E: Display>(eval: &Eval, answer: &Result<QueryAnswer, E>) -> Result<(), String> {
    let answer = match (answer, &eval.fails) {
        (Err(error), Some(pattern)) => {
            let text = error.to_string();
            return pattern.matches(&text).then_some(()).ok_or(format!("fails with {text:?}"));
        }
        (Err(error), None) => return Err(format!("fails: {error}")),
        (Ok(answer), Some(_)) => return Err(format!("does not fail but gives {:?}", answer.value)),
        (Ok(answer), None) => answer,
    };
    match (&eval.expected, &answer.value) {
        (Expected::Scalar(expected), QueryValue::Scalar(value)) => same(*expected, *value),
        (Expected::Text(expected), QueryValue::Text(text)) if expected == text => Ok(()),
        (Expected::Series { series, grid: None }, QueryValue::Vector(elements)) => {
            let own: Vec<_> = elements
                .iter()
                .map(|element| (element.labels.clone(), vec![Some(element.value)]))
                .collect();
            if eval.ordered {
                let (wanted, found): (Vec<_>, Vec<_>) = (
                    series.iter().map(|one| &one.0).collect(),
                    own.iter().map(|one| &one.0).collect(),
                );
                if wanted != found {
                    return Err(format!("in the order {found:?}"));
                }
            }
            same_series(series, &own)
        }
        (Expected::Series { series, grid }, QueryValue::Matrix(matrix)) => {
            let (start, end, step) = match (eval.when, grid) {
                (_, Some(grid)) => *grid,
                (When::Range { start, end, step }, None) => (start, end, step),
                (When::Instant(_), None) => return Err("a matrix".to_owned()),
            };
            if !matrix.is_sorted_by(|a, b| a.labels < b.labels) {
                return Err("the matrix is not sorted".to_owned());
            }
            let mut own = Vec::new();
            for series in matrix {
                let points: BTreeMap<_, _> = series.points.iter().copied().collect();
                if points.len() != series.points.len() {
                    return Err("a time occurs twice".to_owned());
                }
                let times = (start..=end).step_by(step.try_into().unwrap());
                let values: Vec<_> =
                    times.map(|at| points.get(&Timestamp::from_millis(at)).copied()).collect();
                if values.iter().flatten().count() != points.len() {
                    return Err(format!("points beside the steps: {:?}", series.points));
                }
                own.push((series.labels.clone(), values));
            }
            same_series(series, &own)
        }
        (expected, value) => Err(format!("gives {value:?}, not {expected:?}")),
    }
}

fn check_annotations(expected: &Annotations, found: &[String]) -> Result<(), String> {
    if expected.none && !found.is_empty() {
        return Err(format!("is annotated: {found:?}"));
    }
    if expected.some && found.is_empty() {
        return Err("is not annotated".to_owned());
    }
    let texts: Vec<&Pattern> =
        expected.texts.iter().filter(|text| !matches!(text, Pattern::Any)).collect();
    let missing = texts.iter().find(|text| !found.iter().any(|found| text.matches(found)));
    if let Some(missing) = missing {
        return Err(format!("lacks the annotation {missing:?}: {found:?}"));
    }
    match found
        .iter()
        .find(|found| !texts.is_empty() && !texts.iter().any(|text| text.matches(found)))
    {
        Some(other) => Err(format!("has another annotation: {other}")),
        None => Ok(()),
    }
}

/// Series with their values step by step.
pub type Values = Vec<(Labels, Vec<Option<f64>>)>;

/// Whether series are the expected ones, in any order.
pub fn same_series(expected: &Values, own: &Values) -> Result<(), String> {
    let by_labels = |values: &Values| -> BTreeMap<Labels, Vec<Option<f64>>> {
        values.iter().cloned().collect()
    };
    let shown = |values: &Values| {
        let lines: Vec<String> =
            values.iter().map(|(labels, values)| format!("{labels} {values:?}")).collect();
        lines.join("\n      ")
    };
    let (wanted, found) = (by_labels(expected), by_labels(own));
    let wrong =
        |why: &str| format!("{why}\n      {}\n    expected\n      {}", shown(own), shown(expected));
    if found.len() != own.len() {
        return Err(wrong("labels occur twice"));
    }
    if wanted.keys().ne(found.keys()) {
        return Err(wrong("other series"));
    }
    for (wanted, found) in wanted.values().zip(found.values()) {
        // Points that are not written are absent.
        let longest = wanted.len().max(found.len());
        for step in 0..longest {
            let of = |values: &[Option<f64>]| values.get(step).copied().flatten();
            match (of(wanted), of(found)) {
                (None, None) => {}
                (Some(wanted), Some(found)) => {
                    same(wanted, found).map_err(|why| wrong(&format!("step {step}: {why}")))?;
                }
                _ => return Err(wrong(&format!("step {step} is there in one only"))),
            }
        }
    }
    Ok(())
}

/// Equal to one part in a million, as the scripts demand.
fn same(expected: f64, value: f64) -> Result<(), String> {
    let is_stale = |value: f64| value.to_bits() == STALE.to_bits();
    let (sum, difference) = (expected.abs() + value.abs(), (expected - value).abs());
    let is_same = if is_stale(expected) || is_stale(value) {
        is_stale(expected) && is_stale(value)
    } else if expected.is_nan() || expected == value {
        expected == value || value.is_nan()
    } else if expected == 0.0 || value == 0.0 || sum < f64::MIN_POSITIVE {
        difference < 1e-6 * f64::MIN_POSITIVE
    } else {
        difference / sum.min(f64::MAX) < 1e-6
    };
    if is_same { Ok(()) } else { Err(format!("{value} is not {expected}")) }
}
