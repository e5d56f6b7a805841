//! Finding sets: what of a segment a selector wants, told from the index alone.
//!
//! Matchers are answered by the postings: texts are looked up, a prefix is a range of strings, and
//! any other pattern is tried on the distinct values of its label, or on those of the sets that are
//! left where these are fewer.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::collections::BTreeSet;
use std::ops::Range;

use hashbrown::HashMap;
use heapster_core::storage::{Columns, Selector};
use heapster_core::{MatchTexts, Matcher, Text, TimeRange, Timestamp};

use crate::cardinality::{LabelCardinality, Most, PartCardinality};
use crate::codec::{Decoded, Malformed};
use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::segment::format::Section;
use crate::segment::index::Index;
use crate::segment::postings::SetNumbers;
use crate::segment::reader::RowGroup;
use crate::tombstone::Tombstone;

/// What a selector finds in a segment.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of labels, which is that of their numbers.
    pub sets: Vec<FoundSet>,
    /// Their row groups, set by set.
    pub groups: Vec<RowGroup>,
}

/// A set that a selector found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundSet {
    pub set: u32,
    /// Where its row groups end in [`Found::groups`].
    pub groups_end: usize,
}

impl Found {
    /// The row groups of the set at a place of [`Found::sets`].
    pub(crate) fn groups_of(&self, at: usize) -> &[RowGroup] {
        let start = at.checked_sub(1).and_then(|before| self.sets.get(before));
        let start = start.map_or(0, |before| before.groups_end);
        let end = self.sets.get(at).map_or(start, |set| set.groups_end);
        self.groups.get(start..end).unwrap_or_default()
    }
}

/// Samples of a segment that are deleted: those of these sets in this range.
#[derive(Debug)]
pub(crate) struct Hidden {
    sets: SetNumbers,
    pub range: TimeRange,
}

impl Hidden {
    /// Whether it hides samples of a row group.
    pub(crate) fn touches(&self, group: &RowGroup) -> bool {
        self.range.overlaps(&group.range()) && self.sets.contains(group.set)
    }
}

/// Lists of postings whose values a matcher is about.
enum Lists {
    /// These and no others.
    Found(Vec<u32>),
    /// Some of these.
    ToTry(Range<u32>),
}

/// Which columns a selector wants, as ranks.
enum Wanted {
    All,
    Ranks(Vec<u32>),
}

impl Wanted {
    fn contains(&self, rank: u32) -> bool {
        match self {
            Self::All => true,
            Self::Ranks(ranks) => ranks.binary_search(&rank).is_ok(),
        }
    }
}

impl Segment {
    /// Numbers of the sets that satisfy the selector, ascending, which is the order of labels.
    /// Only the bounds of row groups are looked at.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn select(&self, selector: &Selector) -> Result<Vec<u32>> {
        Ok(self.select_numbers(selector, &[])?.iter().collect())
    }

    /// The sets that satisfy the selector, each with its row groups that overlap the range, have a
    /// column that is wanted, and are not hidden as a whole. Only bounds are looked at.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn find(&self, selector: &Selector, hidden: &[Hidden]) -> Result<Found> {
        if !self.range().overlaps(&selector.range) {
            return Ok(Found::default());
        }
        let index = self.index()?;
        let wanted = index.wanted(&selector.columns)?;
        let numbers = index.matching_all(selector, &wanted)?;
        index.found(&numbers, selector, &wanted, hidden)
    }

    /// What of a tombstone's samples the segment has.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn hidden_by(&self, tombstone: &Tombstone) -> Result<Option<Hidden>> {
        let Tombstone { segments_below, matchers, range } = tombstone;
        if *segments_below <= self.info().id || !self.range().overlaps(range) {
            return Ok(None);
        }
        let selector =
            Selector { matchers: matchers.clone(), columns: Columns::All, range: *range };
        let sets = self.index()?.matching_all(&selector, &Wanted::All)?;
        Ok((!sets.is_empty()).then_some(Hidden { sets, range: *range }))
    }

    fn select_numbers(&self, selector: &Selector, hidden: &[Hidden]) -> Result<SetNumbers> {
        if !self.range().overlaps(&selector.range) {
            return Ok(SetNumbers::default());
        }
        let index = self.index()?;
        let wanted = index.wanted(&selector.columns)?;
        let numbers = index.matching_all(selector, &wanted)?;
        if self.lies_in(&selector.range) && hidden.is_empty() {
            return Ok(numbers);
        }
        let found = index.found(&numbers, selector, &wanted, hidden)?;
        Ok(SetNumbers::rising(found.sets.iter().map(|found| found.set)))
    }

    /// Names of the columns that the selector finds, sorted, each once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn column_names(&self, selector: &Selector, hidden: &[Hidden]) -> Result<Vec<Text>> {
        let index = self.index()?;
        let wanted = index.wanted(&selector.columns)?;
        if selector.matchers.is_empty() && self.lies_in(&selector.range) && hidden.is_empty() {
            let ranks = index.metric_ranks()?.into_iter();
            return index.texts(ranks.filter(|rank| wanted.contains(*rank)));
        }
        let found = self.find(selector, hidden)?;
        let lists: BTreeSet<u32> = found.groups.iter().map(RowGroup::columns).collect();
        let mut ranks = BTreeSet::new();
        for list in lists {
            let columns = self.column_list(list)?.refs.iter().map(|column| column.name);
            ranks.extend(columns.filter(|name| wanted.contains(*name)));
        }
        index.texts(ranks)
    }

    /// Names of the labels of the sets that the selector finds, sorted, each once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn label_names(&self, selector: &Selector, hidden: &[Hidden]) -> Result<Vec<Text>> {
        let index = self.index()?;
        let sets = self.select_numbers(selector, hidden)?;
        let mut ranks = BTreeSet::new();
        if sets.count() == self.sets() as usize {
            for name in 0..index.postings.names_len() {
                ranks.insert(index.postings.name(name).map_err(|bad| index.bad(bad))?);
            }
        } else {
            let mut lists = BTreeSet::new();
            for set in sets.iter() {
                lists.insert(index.set(set)?.label_names);
            }
            for list in lists {
                ranks.extend(self.label_list(list)?.iter().map(|(name, _)| *name));
            }
        }
        index.texts(ranks)
    }

    /// Values of one label over the sets that the selector finds, sorted, each once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn label_values(
        &self,
        label: &str,
        selector: &Selector,
        hidden: &[Hidden],
    ) -> Result<Vec<Text>> {
        let index = self.index()?;
        let Some(name) = index.rank(label)? else { return Ok(Vec::new()) };
        let sets = self.select_numbers(selector, hidden)?;
        let lists = index.postings.values_of(name).map_err(|bad| index.bad(bad))?;
        let mut ranks = Vec::new();
        if sets.count() < lists.len() {
            for set in sets.iter() {
                ranks.extend(index.value_of(set, name)?);
            }
            ranks.sort_unstable();
            ranks.dedup();
        } else {
            let is_all = sets.count() == self.sets() as usize;
            for list in lists {
                if is_all || !sets.intersect(&index.list(list)?).is_empty() {
                    ranks.push(index.postings.value(list).map_err(|bad| index.bad(bad))?);
                }
            }
        }
        index.texts(ranks)
    }

    /// Tells `of` how many sets have each metric and each label.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn count_sets(&self, of: &mut PartCardinality) -> Result<()> {
        let index = self.index()?;
        let postings = index.postings;
        of.sets = u64::from(self.sets());
        for list in postings.metrics() {
            let name = postings.value(list).map_err(|bad| index.bad(bad))?;
            of.metric(index.text(name)?, index.list(list)?.count() as u64);
        }
        for name in 0..postings.names_len() {
            let name = postings.name(name).map_err(|bad| index.bad(bad))?;
            let lists = postings.values_of(name).map_err(|bad| index.bad(bad))?;
            let mut label = LabelCardinality { name: index.text(name)?, values: 0, sets: 0 };
            // Only of the values with the most sets the text is needed.
            let mut most = Most::new(of.limit);
            for list in lists {
                let sets = index.list(list)?.count() as u64;
                label.values = label.values.saturating_add(1);
                label.sets = label.sets.saturating_add(sets);
                most.add(sets, postings.value(list).map_err(|bad| index.bad(bad))?);
            }
            for (sets, value) in most.into_sorted() {
                of.pair(label.name.clone(), index.text(value)?, sets);
            }
            of.label(label);
        }
        Ok(())
    }

    /// Whether all of the segment lies in a range.
    fn lies_in(&self, range: &TimeRange) -> bool {
        range.contains(self.range().start) && range.contains(self.range().end)
    }
}

impl Index<'_> {
    /// The names of the columns and their ranks, sorted by name.
    pub(super) fn metrics(&self) -> Result<Vec<(u32, Text)>> {
        self.metric_ranks()?.into_iter().map(|rank| Ok((rank, self.text(rank)?))).collect()
    }

    fn metric_ranks(&self) -> Result<Vec<u32>> {
        let ranks = self.postings.metrics().map(|list| self.postings.value(list));
        ranks.collect::<Decoded<_>>().map_err(|bad| self.bad(bad))
    }

    /// The columns that are wanted.
    fn wanted(&self, columns: &Columns) -> Result<Wanted> {
        match columns {
            Columns::All => Ok(Wanted::All),
            Columns::Named(name) => Ok(Wanted::Ranks(self.rank(name)?.into_iter().collect())),
            Columns::Matching(matcher) => {
                let lists = match self.candidates(self.postings.metrics(), matcher, true)? {
                    Lists::Found(lists) => lists,
                    Lists::ToTry(lists) => self.try_lists(lists, matcher, true)?,
                };
                let ranks = lists.into_iter().map(|list| self.postings.value(list));
                let ranks = ranks.collect::<Decoded<_>>().map_err(|bad| self.bad(bad))?;
                Ok(Wanted::Ranks(ranks))
            }
        }
    }

    /// The sets that satisfy the matchers and have a column that is wanted.
    fn matching_all(&self, selector: &Selector, wanted: &Wanted) -> Result<SetNumbers> {
        let mut found = SetNumbers::all(self.segment.sets());
        if let Wanted::Ranks(ranks) = wanted {
            let mut lists = Vec::with_capacity(ranks.len());
            for rank in ranks {
                let list = self.postings.find(self.postings.metrics(), *rank);
                if let Some(list) = list.map_err(|bad| self.bad(bad))? {
                    lists.push(self.list(list)?);
                }
            }
            found = SetNumbers::union(lists);
        }
        // Those first that are looked up: they leave fewer sets for the others.
        let is_looked_up = |matcher: &&Matcher| {
            matches!(matcher.texts(), MatchTexts::These(_)) && !matcher.matches_absent()
        };
        let (first, then): (Vec<_>, Vec<_>) = selector.matchers.iter().partition(is_looked_up);
        for matcher in first.into_iter().chain(then) {
            if found.is_empty() {
                break;
            }
            found = self.matching(found, matcher)?;
        }
        Ok(found)
    }

    /// Those of the sets that satisfy a matcher.
    fn matching(&self, sets: SetNumbers, matcher: &Matcher) -> Result<SetNumbers> {
        let takes_absent = matcher.matches_absent();
        if matcher.texts() == MatchTexts::Any {
            return Ok(if takes_absent { sets } else { SetNumbers::default() });
        }
        let name = self.rank(matcher.name())?;
        let lists = match name {
            Some(name) => self.postings.values_of(name).map_err(|bad| self.bad(bad))?,
            None => 0..0,
        };
        // Lists of the sets to take, or to leave out when sets without the label are taken.
        let lists = match self.candidates(lists, matcher, !takes_absent)? {
            Lists::Found(lists) => lists,
            Lists::ToTry(lists) => match name {
                Some(name) if sets.count() < lists.len() => {
                    return self.matching_one_by_one(&sets, name, matcher);
                }
                _ => self.try_lists(lists, matcher, !takes_absent)?,
            },
        };
        let lists = lists.into_iter().map(|list| self.list(list));
        let found = SetNumbers::union(lists.collect::<Result<Vec<_>>>()?);
        Ok(if takes_absent { sets.without(&found) } else { sets.intersect(&found) })
    }

    /// Narrows lists down to those whose value may satisfy a matcher, or may not when
    /// `is_satisfied` is false.
    fn candidates(
        &self,
        lists: Range<u32>,
        matcher: &Matcher,
        is_satisfied: bool,
    ) -> Result<Lists> {
        if is_satisfied == matcher.is_negative() {
            // It is all but the pattern's own texts that are asked for.
            return Ok(Lists::ToTry(lists));
        }
        match matcher.texts() {
            MatchTexts::Any => Ok(Lists::ToTry(lists)),
            // Fewer values than texts are tried sooner.
            MatchTexts::These(texts) if texts.len() > lists.len() => Ok(Lists::ToTry(lists)),
            MatchTexts::These(texts) => {
                let mut found = Vec::new();
                for text in texts {
                    let Some(value) = self.rank(text)? else { continue };
                    let list = self.postings.find(lists.clone(), value);
                    found.extend(list.map_err(|bad| self.bad(bad))?);
                }
                Ok(Lists::Found(found))
            }
            MatchTexts::BeginningWith(prefix) => {
                let values = self
                    .symbols
                    .beginning_with(prefix)
                    .map_err(|bad| self.segment.malformed(Section::Symbols, bad))?;
                let lists = self.postings.within(lists, values);
                lists.map(Lists::ToTry).map_err(|bad| self.bad(bad))
            }
        }
    }

    /// Those of the lists whose value satisfies a matcher, or does not when `is_satisfied` is false.
    fn try_lists(
        &self,
        lists: Range<u32>,
        matcher: &Matcher,
        is_satisfied: bool,
    ) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let mut symbols = self.symbols.reader();
        for list in lists {
            let value = self.postings.value(list).map_err(|bad| self.bad(bad))?;
            let text =
                symbols.get(value).map_err(|bad| self.segment.malformed(Section::Symbols, bad))?;
            if matcher.matches(text) == is_satisfied {
                found.push(list);
            }
        }
        Ok(found)
    }

    /// Like [`Index::matching`], but looks at the value of each set; each value is tried once.
    fn matching_one_by_one(
        &self,
        sets: &SetNumbers,
        name: u32,
        matcher: &Matcher,
    ) -> Result<SetNumbers> {
        let mut tried: HashMap<u32, bool> = HashMap::new();
        let mut symbols = self.symbols.reader();
        let mut found = Vec::new();
        for set in sets.iter() {
            let matches = match self.value_of(set, name)? {
                None => matcher.matches_absent(),
                Some(value) => match tried.get(&value) {
                    Some(matches) => *matches,
                    None => {
                        let text = symbols
                            .get(value)
                            .map_err(|bad| self.segment.malformed(Section::Symbols, bad))?;
                        let matches = matcher.matches(text);
                        tried.insert(value, matches);
                        matches
                    }
                },
            };
            if matches {
                found.push(set);
            }
        }
        Ok(SetNumbers::rising(found))
    }

    /// Those of the sets that have a row group worth reading, with these row groups.
    fn found(
        &self,
        numbers: &SetNumbers,
        selector: &Selector,
        wanted: &Wanted,
        hidden: &[Hidden],
    ) -> Result<Found> {
        let mut found = Found::default();
        found.sets.reserve(numbers.count());
        found.groups.reserve(numbers.count());
        // Of each list of columns whether it has one that is wanted; `None` while nobody looked.
        let mut has_wanted: Vec<Option<bool>> = vec![None; self.segment.column_lists_len()];
        let start = selector.range.start.as_millis();
        let end = selector.range.end.as_millis();
        for set in numbers.iter() {
            let before = found.groups.len();
            self.each_group(set, |group| {
                if group.last < start || end < group.first {
                    return Ok(());
                }
                let columns = self.segment.column_list(group.columns())?;
                let Some(has) = has_wanted.get_mut(group.columns() as usize) else {
                    return Ok(());
                };
                let is_wanted = || columns.refs.iter().any(|column| wanted.contains(column.name));
                if *has.get_or_insert_with(is_wanted) && !is_hidden(&group, &selector.range, hidden)
                {
                    found.groups.push(group);
                }
                Ok(())
            })?;
            if found.groups.len() > before {
                found.sets.push(FoundSet { set, groups_end: found.groups.len() });
            }
        }
        Ok(found)
    }

    /// The rank of the value that a set has for the label of that name.
    fn value_of(&self, set: u32, name: u32) -> Result<Option<u32>> {
        let (names, mut values) = self.label_ranks(set)?;
        let Ok(position) = names.binary_search_by_key(&name, |(name, _)| *name) else {
            return Ok(None);
        };
        values.nth(position).transpose()
    }

    fn list(&self, list: u32) -> Result<SetNumbers> {
        self.postings.sets(list, self.segment.sets()).map_err(|bad| self.bad(bad))
    }

    fn texts(&self, ranks: impl IntoIterator<Item = u32>) -> Result<Vec<Text>> {
        let mut symbols = self.symbols.reader();
        ranks
            .into_iter()
            .map(|rank| symbols.get(rank).map(Text::from))
            .collect::<Decoded<_>>()
            .map_err(|bad| self.segment.malformed(Section::Symbols, bad))
    }

    fn bad(&self, malformed: Malformed) -> Error {
        self.segment.malformed(Section::Postings, malformed)
    }
}

/// Whether all that a range has of a row group is hidden.
fn is_hidden(group: &RowGroup, range: &TimeRange, hidden: &[Hidden]) -> bool {
    if hidden.is_empty() {
        return false;
    }
    let touching: Vec<_> = hidden.iter().filter(|hidden| hidden.touches(group)).collect();
    let end = group.last.min(range.end.as_millis());
    let mut at = group.first.max(range.start.as_millis());
    while at <= end {
        let moment = Timestamp::from_millis(at);
        let Some(covers) = touching.iter().find(|hidden| hidden.range.contains(moment)) else {
            return false;
        };
        at = covers.range.end.as_millis().saturating_add(1);
    }
    true
}
