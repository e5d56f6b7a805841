//! The head's index: from label values to sets, and the order of labels.

use std::sync::Arc;

use hashbrown::HashMap;
use heapster_core::{MatchTexts, Matcher, Text};

use super::{HeadSet, Layout};
use crate::cardinality::{LabelCardinality, Most, PartCardinality};

/// Postings of the sets of one head. Sets are numbered as they come.
#[derive(Debug, Default)]
pub(super) struct Index {
    sets: Vec<Arc<HeadSet>>,
    by_label: HashMap<Text, Values>,
    /// Numbers of the sets in the order of labels.
    order: Vec<u32>,
    /// The place of each set in that order.
    places: Vec<u32>,
}

/// The sets of each value of one label, rising.
type Values = HashMap<Text, Vec<u32>>;

impl Index {
    /// Adds sets that it does not know yet.
    ///
    /// # Cost
    /// Comparisons grow with the new sets; the old ones are moved, but not looked at.
    pub fn add(&mut self, new: Vec<Arc<HeadSet>>) {
        let first = self.sets.len() as u32;
        for (number, set) in (first..).zip(&new) {
            for (name, value) in set.label_texts().filter(|(_, value)| !value.is_empty()) {
                let values = match self.by_label.get_mut(name) {
                    Some(values) => values,
                    None => self.by_label.entry(name.clone()).or_default(),
                };
                match values.get_mut(value) {
                    Some(postings) => postings.push(number),
                    None => drop(values.insert(value.clone(), vec![number])),
                }
            }
        }
        self.sets.extend(new);
        let mut added: Vec<u32> = (first..self.sets.len() as u32).collect();
        let set = |number: &u32| &self.sets[*number as usize];
        added.sort_unstable_by(|a, b| set(a).cmp_labels(set(b)));
        let mut order = Vec::with_capacity(self.sets.len());
        let mut rest = self.order.as_slice();
        for number in added {
            let (before, after) = rest.split_at(
                rest.partition_point(|other| set(other).cmp_labels(set(&number)).is_lt()),
            );
            order.extend_from_slice(before);
            order.push(number);
            rest = after;
        }
        order.extend_from_slice(rest);
        self.order = order;
        self.places.resize(self.sets.len(), 0);
        for (place, number) in (0_u32..).zip(&self.order) {
            self.places[*number as usize] = place;
        }
    }

    /// The sets that satisfy all matchers, in the order of labels.
    ///
    /// One matcher that demands a value gives the candidates, preferably one whose values are
    /// known, and of these the one with the fewest; the others look at the candidates' labels.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<Arc<HeadSet>> {
        let mut matchers: Vec<_> = matchers.iter().map(Memo::new).collect();
        let Some(mut numbers) = self.candidates(&matchers) else {
            let sets = self.order.iter().map(|number| &self.sets[*number as usize]);
            return sets.filter(|set| satisfies(set, &mut matchers)).cloned().collect();
        };
        numbers.retain(|number| satisfies(&self.sets[*number as usize], &mut matchers));
        numbers.sort_unstable_by_key(|number| self.places[*number as usize]);
        numbers.into_iter().map(|number| Arc::clone(&self.sets[number as usize])).collect()
    }

    /// Tells `of` how many sets have each metric and each label.
    pub fn count_sets(&self, of: &mut PartCardinality) {
        of.sets = self.sets.len() as u64;
        // Few layouts, each of many sets.
        let mut layouts: HashMap<*const Layout, (Arc<Layout>, u64)> = HashMap::new();
        for set in &self.sets {
            let layout = set.layout();
            layouts.entry(Arc::as_ptr(&layout)).or_insert((layout, 0)).1 += 1;
        }
        let mut metrics: HashMap<&Text, u64> = HashMap::new();
        for (layout, sets) in layouts.values() {
            layout
                .columns
                .iter()
                .for_each(|column| *metrics.entry(&column.name).or_default() += sets);
        }
        metrics.into_iter().for_each(|(name, sets)| of.metric(name.clone(), sets));
        for (name, values) in &self.by_label {
            let mut most = Most::new(of.limit);
            let mut sets = 0;
            for (value, postings) in values {
                sets += postings.len() as u64;
                most.add(postings.len() as u64, value);
            }
            for (sets, value) in most.into_sorted() {
                of.pair(name.clone(), value.clone(), sets);
            }
            of.label(LabelCardinality { name: name.clone(), values: values.len() as u64, sets });
        }
    }

    /// Numbers of the sets that satisfy one of the matchers, each once; `None` when none of the
    /// matchers demands a value.
    fn candidates(&self, matchers: &[Memo<'_>]) -> Option<Vec<u32>> {
        let demanding = || matchers.iter().map(|memo| memo.matcher).filter(|m| !m.matches_absent());
        let known = demanding().filter_map(|matcher| match matcher.texts() {
            MatchTexts::These(texts) if !matcher.is_negative() => {
                let values = self.by_label.get(matcher.name());
                let postings: Vec<&Vec<u32>> = texts
                    .iter()
                    .filter_map(|text| values.and_then(|values| values.get(text)))
                    .collect();
                Some(postings)
            }
            _ => None,
        });
        let fewest = known.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>());
        if let Some(lists) = fewest {
            // A set has one value of a label, so no number comes twice.
            return Some(lists.into_iter().flatten().copied().collect());
        }
        let matcher = demanding().next()?;
        let mut numbers = Vec::new();
        if let Some(values) = self.by_label.get(matcher.name()) {
            let matching = values.iter().filter(|(value, _)| matcher.matches(value));
            matching.for_each(|(_, postings)| numbers.extend_from_slice(postings));
        }
        Some(numbers)
    }
}

fn satisfies(set: &HeadSet, matchers: &mut [Memo<'_>]) -> bool {
    matchers.iter_mut().all(|memo| memo.matches(set))
}

/// A matcher that tries a pattern on each value once.
struct Memo<'a> {
    matcher: &'a Matcher,
    tried: HashMap<Text, bool>,
}

impl<'a> Memo<'a> {
    fn new(matcher: &'a Matcher) -> Self {
        Self { matcher, tried: HashMap::new() }
    }

    fn matches(&mut self, set: &HeadSet) -> bool {
        if !matches!(self.matcher.texts(), MatchTexts::BeginningWith(_)) {
            let value = set.label(self.matcher.name()).map_or("", Text::as_str);
            return self.matcher.matches(value);
        }
        let Some(value) = set.label(self.matcher.name()) else {
            return self.matcher.matches_absent();
        };
        if let Some(matches) = self.tried.get(value) {
            return *matches;
        }
        let matches = self.matcher.matches(value);
        self.tried.insert(value.clone(), matches);
        matches
    }
}
