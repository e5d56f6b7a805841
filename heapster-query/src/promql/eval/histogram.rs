//! Classic histograms: series that differ in `le` only.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use heapster_core::Text;

use super::super::functions::{self, Bucket};
use super::super::grid::{Grid, is_present};
use super::super::key::Key;
use super::super::plan::{Histogram, HistogramFunction};
use super::Evaluator;
use super::table::{Table, absent};
use crate::error::QueryError;

/// The label of a bucket's bound.
const BOUND: &str = "le";

/// Evaluates a function of histograms.
pub(super) fn evaluate<'a>(
    evaluator: &Evaluator<'a>,
    histogram: &Histogram,
    grid: Grid,
) -> Result<Table<'a>, QueryError> {
    let Histogram { function, of, span } = histogram;
    let annotations = evaluator.annotations;
    let (params, upper) = match function {
        HistogramFunction::Quantile { quantile, .. } => (evaluator.scalar(quantile, grid)?, None),
        HistogramFunction::Fraction { lower, upper } => {
            (evaluator.scalar(lower, grid)?, Some(evaluator.scalar(upper, grid)?))
        }
    };
    if let HistogramFunction::Quantile { span, .. } = function {
        for quantile in params.iter().filter(|quantile| !(0.0..=1.0).contains(*quantile)) {
            annotations.quantile_out_of_range(*quantile, *span);
        }
    }
    let table = evaluator.table(of, grid)?;
    let mut histograms: Vec<Buckets> = Vec::new();
    let mut places: HashMap<Key, usize> = HashMap::new();
    for (index, series) in table.series.iter().enumerate() {
        let le = series.key.value(BOUND);
        let name = series.key.name.clone().unwrap_or_default();
        let Some(bound) = parse_bound(le) else {
            annotations.bad_bucket_label(le, &name, *span);
            continue;
        };
        match places.entry(series.key.except(&[Text::from_static(BOUND)])) {
            Entry::Occupied(place) => histograms[*place.get()].members.push((bound, index)),
            Entry::Vacant(place) => {
                let (key, members) = (place.key().clone(), vec![(bound, index)]);
                histograms.push(Buckets { key, name, members });
                place.insert(histograms.len() - 1);
            }
        }
    }
    let mut result = Table::empty(evaluator.meter)?;
    let mut buckets = Vec::new();
    for Buckets { key, name, members } in histograms {
        evaluator.meter.check()?;
        let mut values = absent(grid.count);
        for (step, out) in values.iter_mut().enumerate() {
            buckets.clear();
            buckets.extend(members.iter().map(|(bound, index)| Bucket {
                bound: *bound,
                count: table.series[*index].values[step],
            }));
            buckets.retain(|bucket| is_present(bucket.count));
            if buckets.is_empty() {
                continue;
            }
            *out = match &upper {
                Some(upper) => functions::fraction(params[step], upper[step], &mut buckets),
                None => {
                    let (value, repaired) =
                        functions::histogram_quantile(params[step], &mut buckets);
                    if repaired {
                        annotations.monotonicity_repaired(&name, *span);
                    }
                    value
                }
            };
        }
        result.push(key, values)?;
    }
    Ok(result)
}

/// The series of one histogram.
struct Buckets {
    key: Key,
    /// The name of one of them.
    name: Text,
    /// Bounds, and the series that count up to them.
    members: Vec<(f64, usize)>,
}

/// The bound of a bucket as its label writes it.
fn parse_bound(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" | "inf" | "+inf" => Some(f64::INFINITY),
        "-Inf" | "-inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|bound: &f64| !bound.is_nan()),
    }
}
