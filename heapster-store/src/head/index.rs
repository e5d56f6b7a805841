//! The head's index: from label values to sets.

use std::sync::Arc;

use hashbrown::HashMap;
use heapster_core::{MatchOp, Matcher, Text};

use super::HeadSet;

/// Postings of the sets of one head. Sets are numbered as they come.
#[derive(Debug, Default)]
pub(super) struct Index {
    sets: Vec<Arc<HeadSet>>,
    by_label: HashMap<Text, HashMap<Text, Vec<u32>>>,
}

impl Index {
    pub fn add(&mut self, set: Arc<HeadSet>) {
        let number = self.sets.len() as u32;
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
        self.sets.push(set);
    }

    /// The sets that satisfy all matchers.
    ///
    /// One matcher that demands a value gives the candidates, preferably the one with the fewest;
    /// the others look at the candidates' labels.
    pub fn select(&self, matchers: &[Matcher]) -> Vec<Arc<HeadSet>> {
        let satisfies = |set: &HeadSet| {
            let value = |name: &str| set.label(name).map_or("", Text::as_str);
            matchers.iter().all(|matcher| matcher.matches(value(matcher.name())))
        };
        let numbers = match self.candidates(matchers) {
            Some(numbers) => numbers,
            None => {
                return self.sets.iter().filter(|set| satisfies(set)).cloned().collect();
            }
        };
        let sets = numbers.into_iter().filter_map(|number| self.sets.get(number as usize));
        sets.filter(|set| satisfies(set)).cloned().collect()
    }

    /// Numbers of the sets that satisfy one of the matchers; `None` when all satisfy it or none of
    /// the matchers demands a value.
    fn candidates(&self, matchers: &[Matcher]) -> Option<Vec<u32>> {
        let mut fewest: Option<&[u32]> = None;
        for matcher in matchers {
            if let MatchOp::Equal(value) = matcher.op()
                && !value.is_empty()
            {
                let values = self.by_label.get(matcher.name());
                let postings = values.and_then(|values| values.get(value));
                let postings = postings.map_or(&[][..], Vec::as_slice);
                if fewest.is_none_or(|fewest| postings.len() < fewest.len()) {
                    fewest = Some(postings);
                }
            }
        }
        if let Some(postings) = fewest {
            return Some(postings.to_vec());
        }
        let demanding = matchers.iter().find(|matcher| !matcher.matches(""))?;
        let mut numbers = Vec::new();
        if let Some(values) = self.by_label.get(demanding.name()) {
            let matching = values.iter().filter(|(value, _)| demanding.matches(value));
            matching.for_each(|(_, postings)| numbers.extend_from_slice(postings));
        }
        Some(numbers)
    }
}
