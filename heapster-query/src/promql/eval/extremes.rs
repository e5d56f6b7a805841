//! `topk` and `bottomk`: the best series of each group at each step, while all others pass by.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::super::grid::is_present;
use super::super::key::Key;
use super::super::language::ast::Grouping;
use super::super::meter::{Held, Meter};
use super::aggregate::group_key;
use super::pipeline::{Consumer, Keyed, Pipeline};
use super::table::{Table, absent};
use crate::error::QueryError;

/// What is kept of each group.
pub(super) struct Ranking<'a, 'r> {
    pub meter: &'a Meter,
    pub grouping: &'r Grouping,
    /// The greatest values or the least.
    pub greatest: bool,
    /// How many at each step.
    pub counts: &'r [usize],
}

/// A value and the number of its series.
type Ranked = (f64, usize);

/// The candidates of each group, step by step. A list is cut when it has twice what is kept, so that
/// a value costs the same however many are kept.
pub(super) struct Candidates<'a> {
    places: HashMap<Key, usize>,
    /// In the order in which groups first appear.
    groups: Vec<(Key, Vec<Vec<Ranked>>)>,
    held: Held<'a>,
}

impl<'a> Ranking<'a, '_> {
    /// The best series of a pipeline, with their values where they are among the best. With one step
    /// they come in the order of rank, group by group.
    pub fn of(&self, pipeline: &Pipeline<'a>) -> Result<Table<'a>, QueryError> {
        let mut parts = pipeline.run(self)?.into_iter();
        let Some(mut all) = parts.next() else { return Table::empty(self.meter) };
        for part in parts {
            for (key, lists) in part.groups {
                let place = self.place(&mut all, key)?;
                for (step, list) in lists.into_iter().enumerate() {
                    for ranked in list {
                        self.add(&mut all, place, step, ranked)?;
                    }
                }
            }
        }
        self.finish(all, pipeline)
    }

    fn place(&self, candidates: &mut Candidates<'a>, group: Key) -> Result<usize, QueryError> {
        let Candidates { places, groups, held } = candidates;
        Ok(match places.entry(group) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(place) => {
                let steps = self.counts.len();
                held.grow(1, 0)?;
                held.grow_list::<Vec<Ranked>>(steps)?;
                groups.push((place.key().clone(), vec![Vec::new(); steps]));
                *place.insert(groups.len() - 1)
            }
        })
    }

    fn add(
        &self,
        candidates: &mut Candidates<'a>,
        place: usize,
        step: usize,
        ranked: Ranked,
    ) -> Result<(), QueryError> {
        let count = self.counts[step];
        let list = &mut candidates.groups[place].1[step];
        if list.len() == list.capacity() {
            // It is going to have twice the room.
            candidates.held.grow_list::<Ranked>(list.len().max(4))?;
        }
        list.push(ranked);
        if list.len() > count.saturating_mul(2) {
            self.cut(list, count);
        }
        Ok(())
    }

    /// Leaves the best, in any order.
    fn cut(&self, list: &mut Vec<Ranked>, count: usize) {
        if list.len() > count {
            if count > 0 {
                list.select_nth_unstable_by(count - 1, |a, b| self.by_rank(a, b));
            }
            list.truncate(count);
        }
    }

    /// NaN comes last either way; of equal values the series that came first is the better.
    fn by_rank(&self, a: &Ranked, b: &Ranked) -> Ordering {
        let of_values = match (a.0.is_nan(), b.0.is_nan()) {
            (false, false) if self.greatest => b.0.partial_cmp(&a.0),
            (false, false) => a.0.partial_cmp(&b.0),
            (a, b) => Some(a.cmp(&b)),
        };
        of_values.unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
    }

    /// Only of the best the labels are made.
    fn finish(
        &self,
        candidates: Candidates<'a>,
        pipeline: &Pipeline<'a>,
    ) -> Result<Table<'a>, QueryError> {
        let mut table = Table::empty(self.meter)?;
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        for (_, lists) in candidates.groups {
            for (step, mut list) in lists.into_iter().enumerate() {
                self.cut(&mut list, self.counts[step]);
                list.sort_by(|a, b| self.by_rank(a, b));
                for (value, index) in list {
                    let place = match places.get(&index) {
                        Some(place) => *place,
                        None => {
                            table.push(pipeline.key(index), absent(self.counts.len()))?;
                            places.insert(index, table.series.len() - 1);
                            table.series.len() - 1
                        }
                    };
                    table.series[place].values[step] = value;
                }
            }
        }
        // Sets may differ by what users do not see.
        table.merge(false)
    }
}

impl<'a> Consumer for Ranking<'a, '_> {
    type Part = Candidates<'a>;

    fn begin(&self) -> Result<Candidates<'a>, QueryError> {
        let held = self.meter.hold(0, 0)?;
        Ok(Candidates { places: HashMap::new(), groups: Vec::new(), held })
    }

    fn take(
        &self,
        part: &mut Candidates<'a>,
        index: usize,
        keyed: &dyn Keyed,
        values: &[f64],
    ) -> Result<(), QueryError> {
        let place = self.place(part, group_key(self.grouping, keyed))?;
        for (step, value) in values.iter().enumerate() {
            if is_present(*value) && self.counts[step] > 0 {
                self.add(part, place, step, (*value, index))?;
            }
        }
        Ok(())
    }
}
