//! [`Table`]: series with their values, held in memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::grid::{ABSENT, is_present};
use super::super::key::Key;
use super::super::meter::{Held, Meter};
use crate::error::QueryError;

/// Series between two looks at whether the answer is still wanted.
const CHECK_EVERY: usize = 1024;

/// One series: a value, or [`ABSENT`], for each step.
#[derive(Debug)]
pub(in super::super) struct Series {
    pub key: Key,
    pub values: Vec<f64>,
}

/// Series with different keys, and the room they take.
#[derive(Debug)]
pub(in super::super) struct Table<'a> {
    pub series: Vec<Series>,
    pub held: Held<'a>,
}

impl<'a> Table<'a> {
    /// Without series.
    pub fn empty(meter: &'a Meter) -> Result<Self, QueryError> {
        Ok(Self { series: Vec::new(), held: meter.hold(0, 0)? })
    }

    /// Adds a series, taking room for it.
    pub fn push(&mut self, key: Key, values: Vec<f64>) -> Result<(), QueryError> {
        self.held.grow(1, values.len())?;
        self.series.push(Series { key, values });
        Ok(())
    }

    /// Repeats the one step of each series.
    pub fn repeat(mut self, count: usize) -> Result<Self, QueryError> {
        self.held.grow(self.series.len(), count - 1)?;
        for series in &mut self.series {
            let value = series.values[0];
            series.values.resize(count, value);
        }
        Ok(self)
    }

    /// Makes one series of those with the same key.
    ///
    /// # Errors
    /// Two of them have a value at the same step, or `whole` and there are two at all.
    pub fn merge(self, whole: bool) -> Result<Self, QueryError> {
        let Self { series, held } = self;
        let mut merged: Vec<Series> = Vec::with_capacity(series.len());
        let mut places: HashMap<Key, usize> = HashMap::with_capacity(series.len());
        for (index, one) in series.into_iter().enumerate() {
            if index % CHECK_EVERY == 0 {
                held.check()?;
            }
            match places.entry(one.key.clone()) {
                Entry::Vacant(place) => {
                    place.insert(merged.len());
                    merged.push(one);
                }
                Entry::Occupied(_) if whole => return Err(same_labels()),
                Entry::Occupied(place) => {
                    overlay(&mut merged[*place.get()].values, &one.values, same_labels)?;
                }
            }
        }
        Ok(Self { series: merged, held })
    }
}

/// Writes the values of one series into another.
///
/// # Errors
/// Both have a value at the same step.
pub(super) fn overlay(
    into: &mut [f64],
    from: &[f64],
    error: fn() -> QueryError,
) -> Result<(), QueryError> {
    for (value, other) in into.iter_mut().zip(from) {
        match (is_present(*value), is_present(*other)) {
            (true, true) => return Err(error()),
            (false, true) => *value = *other,
            _ => {}
        }
    }
    Ok(())
}

/// Whether there is a value at any step.
pub(super) fn has_values(values: &[f64]) -> bool {
    values.iter().any(|value| is_present(*value))
}

/// As many absent values.
pub(super) fn absent(count: usize) -> Vec<f64> {
    vec![ABSENT; count]
}

pub(super) fn same_labels() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}
