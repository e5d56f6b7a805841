//! Merging the sets of several sources in the order of labels.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::{Source, SourceSets};
use crate::error::Result;
use crate::head::HeadSet;
use crate::segment::LabelReader;

/// Calls `each` with the sets in the order of labels, those with the same labels together: numbers
/// of their sources, rising, and their places there.
pub(super) fn merge(sources: &[Source], mut each: impl FnMut(&[(usize, usize)])) -> Result<()> {
    let mut fronts = BinaryHeap::with_capacity(sources.len());
    for (source, of) in sources.iter().enumerate() {
        let labels = match &of.sets {
            SourceSets::Segment { segment, .. } => {
                Current::Segment(Box::new(LabelReader::new(segment)?))
            }
            SourceSets::Head(_) => Current::Head(None),
        };
        fronts.extend(Front { source, sets: &of.sets, at: 0, labels }.load()?);
    }
    let mut same = Vec::new();
    let mut places = Vec::new();
    while let Some(first) = fronts.pop() {
        places.push((first.source, first.at));
        if fronts.is_empty() {
            // Nobody is left to compare with.
            for at in first.at..first.sets.len() {
                each(&[(first.source, at)]);
            }
            break;
        }
        same.push(first);
        while let Some(next) = fronts.peek()
            && next.cmp_labels(&same[0]) == Ordering::Equal
        {
            places.push((next.source, next.at));
            same.extend(fronts.pop());
        }
        each(&places);
        places.clear();
        for front in same.drain(..) {
            let next = Front { at: front.at + 1, ..front };
            fronts.extend(next.load()?);
        }
    }
    Ok(())
}

/// The next set of a source.
struct Front<'a> {
    source: usize,
    sets: &'a SourceSets,
    at: usize,
    labels: Current<'a>,
}

/// The labels of the next set.
enum Current<'a> {
    Segment(Box<LabelReader<'a>>),
    Head(Option<&'a HeadSet>),
}

impl Front<'_> {
    /// Reads the labels of the set it stands at; `None` at the end.
    fn load(mut self) -> Result<Option<Self>> {
        match (self.sets, &mut self.labels) {
            (SourceSets::Segment { found, .. }, Current::Segment(labels)) => {
                let Some(found) = found.sets.get(self.at) else { return Ok(None) };
                labels.load(found.set)?;
            }
            (SourceSets::Head(sets), Current::Head(set)) => {
                let Some(found) = sets.get(self.at) else { return Ok(None) };
                *set = Some(&found.set);
            }
            _ => unreachable!("bug: the labels of a source are of another kind than its sets"),
        }
        Ok(Some(self))
    }

    fn label(&self, index: usize) -> Option<(&str, &str)> {
        match &self.labels {
            Current::Segment(labels) => labels.get(index),
            Current::Head(set) => {
                let (name, value) = set.as_ref()?.label_at(index)?;
                Some((name, value))
            }
        }
    }

    fn cmp_labels(&self, other: &Self) -> Ordering {
        let mut index = 0;
        loop {
            match (self.label(index), other.label(index)) {
                (None, None) => return Ordering::Equal,
                (own, other) if own != other => return own.cmp(&other),
                _ => index += 1,
            }
        }
    }
}

/// The greatest is taken from a heap first: that is the one with the smallest labels, and of equal
/// ones the first source.
impl Ord for Front<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.cmp_labels(self).then(other.source.cmp(&self.source))
    }
}

impl PartialOrd for Front<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Front<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Front<'_> {}
