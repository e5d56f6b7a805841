//! Aggregations. Those that can be put together from parts eat the series of a pipeline one by one;
//! the others need all of them at a step.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::functions::{self, Average, Kahan};
use super::super::grid::{ABSENT, Grid, is_present};
use super::super::key::Key;
use super::super::language::ast::{AggregateOp, Grouping, Span};
use super::super::language::print_number;
use super::super::meter::Held;
use super::super::plan::{Aggregate, Param, Scalar};
use super::Evaluator;
use super::extremes::Ranking;
use super::pipeline::{Consumer, Keyed};
use super::table::{Table, absent};
use crate::error::QueryError;

/// Evaluates an aggregation.
pub(super) fn evaluate<'a>(
    evaluator: &Evaluator<'a>,
    aggregate: &Aggregate,
    grid: Grid,
) -> Result<Table<'a>, QueryError> {
    let Aggregate { op, grouping, param, of } = aggregate;
    match (op, param) {
        (AggregateOp::Quantile, Some(Param::Number(quantile, span))) => {
            let quantiles = quantiles(evaluator, quantile, *span, grid)?;
            let table = evaluator.table(of, grid)?;
            quantile_of_groups(evaluator, &table, grouping, &quantiles)
        }
        (AggregateOp::TopK | AggregateOp::BottomK, Some(Param::Number(k, _))) => {
            let counts = counts(&evaluator.scalar(k, grid)?)?;
            if counts.iter().all(|count| *count == 0) {
                return Table::empty(evaluator.meter);
            }
            let greatest = *op == AggregateOp::TopK;
            let meter = evaluator.meter;
            let ranking = Ranking { meter, grouping, greatest, counts: &counts };
            ranking.of(&evaluator.pipeline(of, grid)?)
        }
        (AggregateOp::CountValues, Some(Param::Label(label))) => {
            let table = evaluator.table(of, grid)?;
            count_values(evaluator, &table, grouping, label)
        }
        _ => {
            let pipeline = evaluator.pipeline(of, grid)?;
            let folding = Folding { evaluator: *evaluator, op: *op, grouping, count: grid.count };
            let mut parts = pipeline.run(&folding)?.into_iter();
            let Some(mut all) = parts.next() else { return Table::empty(evaluator.meter) };
            for part in parts {
                folding.join(&mut all, part)?;
            }
            folding.finish(all)
        }
    }
}

/// The labels of the group that a series belongs to; no others are made.
pub(super) fn group_key(grouping: &Grouping, keyed: &dyn Keyed) -> Key {
    match (grouping.without, grouping.labels.is_empty()) {
        (false, true) => Key::default(),
        (false, false) => keyed.key_of(&grouping.labels),
        (true, _) => keyed.key().except(&grouping.labels),
    }
}

/// The series of each group, groups in the order in which they first appear.
fn groups(table: &Table<'_>, grouping: &Grouping) -> Vec<(Key, Vec<usize>)> {
    let mut groups: Vec<(Key, Vec<usize>)> = Vec::new();
    let mut places: HashMap<Key, usize> = HashMap::new();
    for (index, series) in table.series.iter().enumerate() {
        let key = group_key(grouping, series);
        match places.entry(key) {
            Entry::Occupied(place) => groups[*place.get()].1.push(index),
            Entry::Vacant(place) => {
                groups.push((place.key().clone(), vec![index]));
                place.insert(groups.len() - 1);
            }
        }
    }
    groups
}

// Aggregations from parts.

struct Folding<'a, 'p> {
    evaluator: Evaluator<'a>,
    op: AggregateOp,
    grouping: &'p Grouping,
    count: usize,
}

/// Groups of a block of series.
struct Groups<'a> {
    places: HashMap<Key, usize>,
    groups: Vec<(Key, Cells)>,
    held: Held<'a>,
}

/// What is known of a group at each step.
enum Cells {
    Count(Vec<u64>),
    /// Sums of [`ABSENT`] as long as there is nothing to be added.
    Sum(Vec<Kahan>),
    Avg(Vec<Option<Average>>),
    /// The least or greatest so far.
    Extreme(Vec<f64>),
    /// Number, mean and squared distances from it.
    Spread(Vec<(f64, f64, f64)>),
}

impl<'a> Folding<'a, '_> {
    fn cells(&self) -> Cells {
        let count = self.count;
        match self.op {
            AggregateOp::Sum => Cells::Sum(vec![Kahan::new(ABSENT); count]),
            AggregateOp::Avg => Cells::Avg(vec![None; count]),
            AggregateOp::Min | AggregateOp::Max => Cells::Extreme(absent(count)),
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                Cells::Spread(vec![(0.0, 0.0, 0.0); count])
            }
            _ => Cells::Count(vec![0; count]),
        }
    }

    fn group<'g>(&self, groups: &'g mut Groups<'a>, key: Key) -> Result<&'g mut Cells, QueryError> {
        let index = match groups.places.entry(key) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                // Cells are up to four numbers.
                groups.held.grow(1, self.count.saturating_mul(3))?;
                groups.groups.push((place.key().clone(), self.cells()));
                *place.insert(groups.groups.len() - 1)
            }
        };
        Ok(&mut groups.groups[index].1)
    }

    fn pick(&self, own: f64, other: f64) -> f64 {
        // Any number replaces NaN.
        match (is_present(own), is_present(other)) {
            (false, _) => other,
            (_, false) => own,
            _ if self.op == AggregateOp::Min => own.min(other),
            _ => own.max(other),
        }
    }

    fn join(&self, all: &mut Groups<'a>, part: Groups<'a>) -> Result<(), QueryError> {
        for (key, part) in part.groups {
            match (self.group(all, key)?, part) {
                (Cells::Count(all), Cells::Count(part)) => {
                    all.iter_mut().zip(part).for_each(|(all, part)| *all += part);
                }
                (Cells::Sum(all), Cells::Sum(part)) => {
                    for (all, part) in all.iter_mut().zip(part) {
                        match (is_present(all.rounded()), is_present(part.rounded())) {
                            (true, true) => all.join(part),
                            (false, _) => *all = part,
                            (true, false) => {}
                        }
                    }
                }
                (Cells::Avg(all), Cells::Avg(part)) => {
                    for (all, part) in all.iter_mut().zip(part) {
                        match (all.as_mut(), part) {
                            (Some(all), Some(part)) => all.join(part),
                            (None, part) => *all = part,
                            (Some(_), None) => {}
                        }
                    }
                }
                (Cells::Extreme(all), Cells::Extreme(part)) => {
                    all.iter_mut().zip(part).for_each(|(all, part)| *all = self.pick(*all, part));
                }
                (Cells::Spread(all), Cells::Spread(part)) => {
                    all.iter_mut().zip(part).for_each(|(all, part)| *all = join_spread(*all, part));
                }
                // All cells of an aggregation are of one kind.
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(&self, groups: Groups<'a>) -> Result<Table<'a>, QueryError> {
        let mut table = Table::empty(self.evaluator.meter)?;
        for (key, cells) in groups.groups {
            let values: Vec<f64> = match cells {
                Cells::Count(counts) => {
                    let is_group = self.op == AggregateOp::Group;
                    let value = |count: u64| if is_group { 1.0 } else { count as f64 };
                    counts.into_iter().map(|n| if n == 0 { ABSENT } else { value(n) }).collect()
                }
                Cells::Sum(sums) => {
                    let value = |sum: Kahan| match is_present(sum.rounded()) {
                        true => sum.value(),
                        false => ABSENT,
                    };
                    sums.into_iter().map(value).collect()
                }
                Cells::Avg(means) => {
                    means.into_iter().map(|mean| mean.map_or(ABSENT, Average::value)).collect()
                }
                Cells::Extreme(values) => values,
                Cells::Spread(spreads) => {
                    let is_root = self.op == AggregateOp::Stddev;
                    let value = |(count, _, squares): (f64, f64, f64)| match count == 0.0 {
                        true => ABSENT,
                        false if is_root => (squares / count).sqrt(),
                        false => squares / count,
                    };
                    spreads.into_iter().map(value).collect()
                }
            };
            table.push(key, values)?;
        }
        Ok(table)
    }
}

/// Number, mean and squared distances of two groups together (Chan, Golub and LeVeque).
fn join_spread(a: (f64, f64, f64), b: (f64, f64, f64)) -> (f64, f64, f64) {
    if a.0 == 0.0 {
        return b;
    }
    if b.0 == 0.0 {
        return a;
    }
    let count = a.0 + b.0;
    let delta = b.1 - a.1;
    (count, a.1 + delta * b.0 / count, a.2 + b.2 + delta * delta * a.0 * b.0 / count)
}

impl<'a> Consumer for Folding<'a, '_> {
    type Part = Groups<'a>;

    fn begin(&self) -> Result<Groups<'a>, QueryError> {
        let held = self.evaluator.meter.hold(0, 0)?;
        Ok(Groups { places: HashMap::new(), groups: Vec::new(), held })
    }

    fn take(
        &self,
        part: &mut Groups<'a>,
        _: usize,
        keyed: &dyn Keyed,
        values: &[f64],
    ) -> Result<(), QueryError> {
        let cells = self.group(part, group_key(self.grouping, keyed))?;
        let present = || values.iter().enumerate().filter(|(_, value)| is_present(**value));
        match cells {
            Cells::Count(counts) => present().for_each(|(step, _)| counts[step] += 1),
            Cells::Sum(sums) => {
                for (own, value) in sums.iter_mut().zip(values) {
                    let mut sum = *own;
                    sum.add(*value);
                    let sum = if is_present(own.rounded()) { sum } else { Kahan::new(*value) };
                    *own = if is_present(*value) { sum } else { *own };
                }
            }
            Cells::Avg(means) => {
                for (step, value) in present() {
                    means[step].get_or_insert_default().add(*value);
                }
            }
            Cells::Extreme(own) => {
                present().for_each(|(step, value)| own[step] = self.pick(own[step], *value));
            }
            Cells::Spread(spreads) => {
                for (step, value) in present() {
                    let (count, mean, squares) = &mut spreads[step];
                    *count += 1.0;
                    if *count == 1.0 {
                        // What is no finite number leaves none.
                        (*mean, *squares) =
                            (*value, if value.is_finite() { 0.0 } else { f64::NAN });
                        continue;
                    }
                    let delta = value - *mean;
                    *mean += delta / *count;
                    *squares += delta * (value - *mean);
                }
            }
        }
        Ok(())
    }
}

// Aggregations that need all series.

fn quantiles(
    evaluator: &Evaluator<'_>,
    quantile: &Scalar,
    span: Span,
    grid: Grid,
) -> Result<Vec<f64>, QueryError> {
    let quantiles = evaluator.scalar(quantile, grid)?;
    for quantile in &quantiles {
        if !(0.0..=1.0).contains(quantile) {
            evaluator.annotations.quantile_out_of_range(*quantile, span);
        }
    }
    Ok(quantiles)
}

fn quantile_of_groups<'a>(
    evaluator: &Evaluator<'a>,
    table: &Table<'_>,
    grouping: &Grouping,
    quantiles: &[f64],
) -> Result<Table<'a>, QueryError> {
    let mut result = Table::empty(evaluator.meter)?;
    let mut values = Vec::new();
    for (key, members) in groups(table, grouping) {
        evaluator.meter.check()?;
        let mut of_group = absent(quantiles.len());
        for (step, out) in of_group.iter_mut().enumerate() {
            values.clear();
            values.extend(members.iter().map(|index| table.series[*index].values[step]));
            values.retain(|value| is_present(*value));
            if !values.is_empty() {
                *out = functions::quantile(quantiles[step], &mut values);
            }
        }
        result.push(key, of_group)?;
    }
    Ok(result)
}

/// How many elements `topk` takes at each step.
fn counts(params: &[f64]) -> Result<Vec<usize>, QueryError> {
    if params.iter().any(|param| param.is_nan()) {
        return Err(QueryError::execution("Parameter value is NaN"));
    }
    let too_large = |param: &&f64| **param >= 9_223_372_036_854_775_808.0;
    let too_small = |param: &&f64| **param <= -9_223_372_036_854_775_808.0;
    if let Some(param) = params.iter().find(too_large) {
        let shown = print_number(*param);
        return Err(QueryError::execution(format!("Scalar value {shown} overflows int64")));
    }
    if let Some(param) = params.iter().find(too_small) {
        let shown = print_number(*param);
        return Err(QueryError::execution(format!("Scalar value {shown} underflows int64")));
    }
    Ok(params.iter().map(|param| if *param < 1.0 { 0 } else { *param as usize }).collect())
}

fn count_values<'a>(
    evaluator: &Evaluator<'a>,
    table: &Table<'_>,
    grouping: &Grouping,
    label: &heapster_core::Text,
) -> Result<Table<'a>, QueryError> {
    let mut result = Table::empty(evaluator.meter)?;
    let mut places: HashMap<Key, usize> = HashMap::new();
    for (mut key, members) in groups(table, grouping) {
        evaluator.meter.check()?;
        for index in members {
            for (step, value) in table.series[index].values.iter().enumerate() {
                if !is_present(*value) {
                    continue;
                }
                key.set(label, &print_number(*value));
                let place = match places.entry(key.clone()) {
                    Entry::Occupied(place) => *place.get(),
                    Entry::Vacant(place) => {
                        let count = table.series[index].values.len();
                        result.push(place.key().clone(), absent(count))?;
                        *place.insert(result.series.len() - 1)
                    }
                };
                let count = &mut result.series[place].values[step];
                *count = if is_present(*count) { *count + 1.0 } else { 1.0 };
            }
        }
    }
    Ok(result)
}
