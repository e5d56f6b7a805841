//! Operators between two vectors.
//!
//! Series find each other by *signature*: the labels that `on` names or `ignoring` leaves. Signatures
//! become numbers once; after that a step only looks at indices.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use heapster_core::Text;

use super::super::functions;
use super::super::grid::{ABSENT, Grid, is_present};
use super::super::key::Key;
use super::super::language::ast::{Matching, Op};
use super::super::plan::Join;
use super::Evaluator;
use super::table::{Series, Table, absent, has_values, overlay};
use crate::error::QueryError;

/// Evaluates an operator between vectors.
pub(super) fn evaluate<'a>(
    evaluator: &Evaluator<'a>,
    join: &Join,
    grid: Grid,
) -> Result<Table<'a>, QueryError> {
    let lhs = evaluator.table(&join.lhs, grid)?;
    if lhs.series.is_empty() && join.op != Op::Or {
        // What is on the right may still be wrong by itself, but nothing of it is asked for.
        evaluator.table(&join.rhs, grid)?;
        return Ok(lhs);
    }
    let rhs = evaluator.table(&join.rhs, grid)?;
    if join.op.is_set() {
        return set(join, lhs, rhs);
    }
    elements(evaluator, join, &lhs, &rhs, grid)
}

fn signature(matching: &Matching, key: &Key) -> Key {
    if matching.on { key.only(&matching.labels) } else { key.except(&matching.labels) }
}

/// Numbers of signatures, and the series that have them.
#[derive(Default)]
struct Signatures {
    numbers: HashMap<Key, usize>,
    keys: Vec<Key>,
    left: Vec<Vec<usize>>,
    right: Vec<Vec<usize>>,
}

impl Signatures {
    fn new(matching: &Matching, left: &[Series], right: &[Series]) -> Self {
        let mut all = Self::default();
        for (index, series) in left.iter().enumerate() {
            let number = all.number(matching, series);
            all.left[number].push(index);
        }
        for (index, series) in right.iter().enumerate() {
            let number = all.number(matching, series);
            all.right[number].push(index);
        }
        all
    }

    fn number(&mut self, matching: &Matching, series: &Series) -> usize {
        match self.numbers.entry(signature(matching, &series.key)) {
            Entry::Occupied(number) => *number.get(),
            Entry::Vacant(vacant) => {
                self.keys.push(vacant.key().clone());
                self.left.push(Vec::new());
                self.right.push(Vec::new());
                *vacant.insert(self.keys.len() - 1)
            }
        }
    }
}

/// At which steps any of the series has a value.
fn presence(series: &[Series], of: impl Iterator<Item = usize>, count: usize) -> Vec<bool> {
    let mut present = vec![false; count];
    for index in of {
        let values = &series[index].values;
        present.iter_mut().zip(values).for_each(|(present, value)| *present |= is_present(*value));
    }
    present
}

/// `and`, `unless` and `or`.
fn set<'a>(join: &Join, mut lhs: Table<'a>, mut rhs: Table<'a>) -> Result<Table<'a>, QueryError> {
    let signatures = Signatures::new(&join.matching, &lhs.series, &rhs.series);
    for number in 0..signatures.keys.len() {
        let (left, right) = (&signatures.left[number], &signatures.right[number]);
        // Whose elements are dropped, and where.
        let (from, masked, by, keep) = match join.op {
            Op::And => (&mut lhs.series, left, (&rhs.series, right), true),
            Op::Unless => (&mut lhs.series, left, (&rhs.series, right), false),
            _ => (&mut rhs.series, right, (&lhs.series, left), false),
        };
        let Some(first) = masked.first() else { continue };
        let count = from[*first].values.len();
        let present = presence(by.0, by.1.iter().copied(), count);
        for index in masked {
            for (value, present) in from[*index].values.iter_mut().zip(&present) {
                if *present != keep {
                    *value = ABSENT;
                }
            }
        }
    }
    if join.op == Op::Or {
        lhs.series.append(&mut rhs.series);
        lhs.held.join(rhs.held);
        lhs = lhs.merge(false)?;
    }
    lhs.series.retain(|series| has_values(&series.values));
    Ok(lhs)
}

/// Arithmetic and comparisons.
fn elements<'a>(
    evaluator: &Evaluator<'a>,
    join: &Join,
    lhs: &Table<'a>,
    rhs: &Table<'a>,
    grid: Grid,
) -> Result<Table<'a>, QueryError> {
    let count = grid.count;
    // From here on many are matched to one.
    let many_is_left = join.matching.group.as_ref().is_none_or(|group| group.left);
    let (many, one) = if many_is_left { (lhs, rhs) } else { (rhs, lhs) };
    let signatures = Signatures::new(&join.matching, &many.series, &one.series);
    // A step where one side is empty is not looked at.
    let all_of = |table: &Table<'_>| presence(&table.series, 0..table.series.len(), count);
    let (any_many, any_one) = (all_of(many), all_of(one));
    let is_open: Vec<bool> = any_many.iter().zip(any_one).map(|(a, b)| *a && b).collect();
    let mut result = Table::empty(evaluator.meter)?;
    let mut matcher = Matcher { join, many, one, many_is_left, is_open: &is_open };
    let mut places: HashMap<Key, usize> = HashMap::new();
    for number in 0..signatures.keys.len() {
        evaluator.meter.check()?;
        let (manies, ones) = (&signatures.left[number], &signatures.right[number]);
        let the_one = matcher.the_one(&signatures.keys[number], ones, count)?;
        for (key, values) in matcher.matched(manies, &the_one)? {
            match places.entry(key) {
                Entry::Vacant(place) => {
                    result.push(place.key().clone(), values)?;
                    place.insert(result.series.len() - 1);
                }
                Entry::Occupied(place) => {
                    let own = &mut result.series[*place.get()].values;
                    overlay(own, &values, matcher.same_result())?;
                }
            }
        }
    }
    result.series.retain(|series| has_values(&series.values));
    Ok(result)
}

struct Matcher<'t> {
    join: &'t Join,
    many: &'t Table<'t>,
    one: &'t Table<'t>,
    many_is_left: bool,
    is_open: &'t [bool],
}

/// No series at a step.
const NONE: usize = usize::MAX;

impl Matcher<'_> {
    /// The series of the "one" side at each step.
    fn the_one(
        &self,
        signature: &Key,
        ones: &[usize],
        count: usize,
    ) -> Result<Vec<usize>, QueryError> {
        let mut found = vec![NONE; count];
        for index in ones {
            for (step, value) in self.one.series[*index].values.iter().enumerate() {
                if !is_present(*value) || !self.is_open[step] {
                    continue;
                }
                if found[step] != NONE {
                    return Err(self.duplicate(signature, found[step], *index));
                }
                found[step] = *index;
            }
        }
        Ok(found)
    }

    fn duplicate(&self, signature: &Key, first: usize, second: usize) -> QueryError {
        let side = if self.many_is_left { "right" } else { "left" };
        let mut two = [&self.one.series[first].key, &self.one.series[second].key];
        two.sort_by_cached_key(|key| key.to_labels());
        QueryError::execution(format!(
            "found duplicate series for the match group {signature} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            two[0], two[1]
        ))
    }

    /// The results of the series of the "many" side that have a signature.
    fn matched(
        &mut self,
        manies: &[usize],
        the_one: &[usize],
    ) -> Result<Vec<(Key, Vec<f64>)>, QueryError> {
        let is_grouped = self.join.matching.group.is_some();
        let mut is_taken = vec![false; the_one.len()];
        let mut results = Vec::new();
        for index in manies {
            let many = &self.many.series[*index];
            // By the series it was matched to, since that one's labels may become the result's.
            let mut by_one: Vec<(usize, Vec<f64>)> = Vec::new();
            for (step, one) in the_one.iter().enumerate().filter(|(_, one)| **one != NONE) {
                let value = many.values[step];
                if !is_present(value) {
                    continue;
                }
                if std::mem::replace(&mut is_taken[step], true) && !is_grouped {
                    return Err(QueryError::execution(
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                    ));
                }
                let place = by_one.iter().position(|(own, _)| own == one);
                let place = place.unwrap_or_else(|| {
                    by_one.push((*one, absent(the_one.len())));
                    by_one.len() - 1
                });
                by_one[place].1[step] = self.value(value, self.one.series[*one].values[step]);
            }
            for (one, values) in by_one {
                results.push((self.result_key(&many.key, &self.one.series[one].key), values));
            }
        }
        Ok(results)
    }

    fn value(&self, many: f64, one: f64) -> f64 {
        let (left, right) = if self.many_is_left { (many, one) } else { (one, many) };
        let Join { op, returns_bool, .. } = self.join;
        match op.is_comparison() && !returns_bool {
            true if functions::compare(*op, left, right) => left,
            true => ABSENT,
            false => functions::binary(*op, left, right),
        }
    }

    fn result_key(&self, many: &Key, one: &Key) -> Key {
        let Join { op, returns_bool, matching, .. } = self.join;
        let mut key = match &matching.group {
            Some(_) => many.clone(),
            None if matching.on => many.only(&matching.labels),
            None => {
                let mut key = many.except(&matching.labels);
                let is_ignored =
                    matching.labels.iter().any(|label| *label == super::super::key::NAME);
                key.name = many.name.clone().filter(|_| !is_ignored);
                key
            }
        };
        if !op.is_comparison() || *returns_bool {
            key.name = None;
        }
        let include: &[Text] = matching.group.as_ref().map_or(&[], |group| &group.include);
        include.iter().for_each(|label| key.set(label, one.value(label)));
        key
    }

    /// What two results with the same labels at the same step mean.
    fn same_result(&self) -> fn() -> QueryError {
        if self.join.matching.group.is_some() {
            || {
                QueryError::execution(
                    "multiple matches for labels: grouping labels must ensure unique matches",
                )
            }
        } else {
            super::table::same_labels
        }
    }
}
