//! Postings: from metric names and label pairs to the sets that have them.
//!
//! A list of sets is kept as runs of set numbers. Sets are sorted by labels, so a label that many
//! of them share costs a few bytes, and set algebra costs what the lists' runs cost.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use crate::segment::table::{Table, TableBuilder, fixed_u32_at};

/// Bytes of a label name's entry: rank of the name, number of its first value.
const NAME_LEN: usize = 8;

/// Set numbers as rising runs that do not touch: start included, end excluded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SetNumbers(Vec<(u32, u32)>);

impl SetNumbers {
    /// All numbers below `count`.
    pub(super) fn all(count: u32) -> Self {
        Self(if count == 0 { Vec::new() } else { vec![(0, count)] })
    }

    /// Numbers that rise.
    pub(super) fn rising(numbers: impl IntoIterator<Item = u32>) -> Self {
        let mut list = Self::default();
        numbers.into_iter().for_each(|number| list.push(number));
        list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(start, end)| *start..*end)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|(start, end)| end.saturating_sub(*start) as usize).sum()
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= number);
        after.checked_sub(1).and_then(|run| self.0.get(run)).is_some_and(|(_, end)| number < *end)
    }

    /// Adds a number that is not less than any before.
    fn push(&mut self, number: u32) {
        let end = number.saturating_add(1);
        match self.0.last_mut() {
            Some((_, last_end)) if *last_end >= number => *last_end = end,
            _ => self.0.push((number, end)),
        }
    }

    /// What is in any of the lists.
    pub(super) fn union(lists: impl IntoIterator<Item = Self>) -> Self {
        let mut runs: Vec<_> = lists.into_iter().flat_map(|list| list.0).collect();
        runs.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (start, end) in runs {
            match merged.last_mut() {
                Some((_, last_end)) if *last_end >= start => *last_end = end.max(*last_end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// What of the list is not in the other.
    pub(super) fn without(&self, other: &Self) -> Self {
        let end = self.0.last().map_or(0, |(_, end)| *end);
        self.intersect(&other.complement(end))
    }

    /// What is in both lists.
    pub(super) fn intersect(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some((a_start, a_end)), Some((b_start, b_end))) = (a.peek(), b.peek()) {
            let (start, end) = (*a_start.max(b_start), *a_end.min(b_end));
            if start < end {
                both.push((start, end));
            }
            if a_end < b_end {
                a.next();
            } else {
                b.next();
            }
        }
        Self(both)
    }

    /// What of the numbers below `count` is not in the list.
    pub(super) fn complement(&self, count: u32) -> Self {
        let mut missing = Vec::new();
        let mut next = 0;
        for (start, end) in self.0.iter().take_while(|(start, _)| *start < count) {
            if next < *start {
                missing.push((next, *start));
            }
            next = *end;
        }
        if next < count {
            missing.push((next, count));
        }
        Self(missing)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut next = 0_u32;
        for (start, end) in &self.0 {
            let len = end.wrapping_sub(*start);
            put_u64(out, u64::from(start.wrapping_sub(next)) << 1 | u64::from(len > 1));
            if len > 1 {
                put_u64(out, u64::from(len.wrapping_sub(2)));
            }
            next = *end;
        }
    }

    fn decode(entry: &[u8], count: u32) -> Decoded<Self> {
        let mut reader = ByteReader::new(entry);
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut next = 0_u32;
        while !reader.rest().is_empty() {
            let head = reader.u64()?;
            let len = if head & 1 == 1 { reader.u64()?.saturating_add(2) } else { 1 };
            let start = u64::from(next).saturating_add(head >> 1);
            let end = start.saturating_add(len);
            let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
                return Err(Malformed::Bytes("postings name a set that does not exist"));
            };
            if end > count {
                return Err(Malformed::Bytes("postings name a set that does not exist"));
            }
            runs.push((start, end));
            next = end;
        }
        Ok(Self(runs))
    }
}

/// Collects postings, set by set.
#[derive(Debug, Default)]
pub(super) struct PostingsBuilder {
    metrics: BTreeMap<u32, SetNumbers>,
    pairs: BTreeMap<(u32, u32), SetNumbers>,
}

impl PostingsBuilder {
    pub(super) fn add_label(&mut self, set: u32, name: u32, value: u32) {
        self.pairs.entry((name, value)).or_default().push(set);
    }

    pub(super) fn add_metric(&mut self, set: u32, name: u32) {
        self.metrics.entry(name).or_default().push(set);
    }

    pub(super) fn finish(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut names: Vec<(u32, u32)> = Vec::new();
        let mut values = Vec::new();
        let mut lists = TableBuilder::new();
        let mut entry = Vec::new();
        let metrics = self.metrics.iter().map(|(name, sets)| (None, *name, sets));
        let pairs = self.pairs.iter().map(|((name, value), sets)| (Some(*name), *value, sets));
        for (name, value, sets) in metrics.chain(pairs) {
            let number = u32::try_from(values.len()).ok()?;
            if let Some(name) = name
                && names.last().is_none_or(|(last, _)| *last != name)
            {
                names.push((name, number));
            }
            values.push(value);
            entry.clear();
            sets.encode(&mut entry);
            lists.push(&entry);
        }
        out.extend_from_slice(&(self.metrics.len() as u32).to_le_bytes());
        out.extend_from_slice(&(names.len() as u32).to_le_bytes());
        out.extend_from_slice(&(values.len() as u32).to_le_bytes());
        for (name, first) in names {
            out.extend_from_slice(&name.to_le_bytes());
            out.extend_from_slice(&first.to_le_bytes());
        }
        for value in values {
            out.extend_from_slice(&value.to_le_bytes());
        }
        lists.finish(out)
    }

    /// The section; empty, which no section is, when it is too large for one.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.finish(&mut bytes).map(|()| bytes).unwrap_or_default()
    }
}

/// The section of postings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Postings<'a> {
    metrics: u32,
    names: &'a [u8],
    values: &'a [u8],
    lists: Table<'a>,
}

impl<'a> Postings<'a> {
    pub(super) fn parse(section: &'a [u8]) -> Decoded<Self> {
        let mut reader = ByteReader::new(section);
        let metrics = reader.fixed_u32()?;
        let names = reader.fixed_u32()? as usize;
        let values = reader.fixed_u32()?;
        let names = reader.take(names.saturating_mul(NAME_LEN))?;
        let value_ranks = reader.take((values as usize).saturating_mul(4))?;
        let lists = Table::parse(reader.rest())?;
        if metrics > values || lists.len() != values {
            return Err(Malformed::Bytes("the postings have not all lists"));
        }
        Ok(Self { metrics, names, values: value_ranks, lists })
    }

    /// Numbers of the metric names' lists.
    pub(super) fn metrics(&self) -> Range<u32> {
        0..self.metrics
    }

    /// How many label names there are.
    pub(super) fn names_len(&self) -> usize {
        self.names.len() / NAME_LEN
    }

    /// Rank of the `index`-th label name.
    pub(super) fn name(&self, index: usize) -> Decoded<u32> {
        fixed_u32_at(self.names, index.saturating_mul(2))
            .ok_or(Malformed::Bytes("a label name has no postings"))
    }

    /// Numbers of the lists of a label name's values; empty when no set has the label.
    pub(super) fn values_of(&self, name: u32) -> Decoded<Range<u32>> {
        let (mut low, mut high) = (0, self.names_len());
        while low < high {
            let middle = low.midpoint(high);
            if self.name(middle)? < name {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        if low >= self.names_len() || self.name(low)? != name {
            return Ok(0..0);
        }
        let first =
            |index: usize| fixed_u32_at(self.names, index.saturating_mul(2).saturating_add(1));
        let start = first(low).ok_or(Malformed::Bytes("a label name has no postings"))?;
        let end = first(low.saturating_add(1)).unwrap_or(self.lists.len());
        if start > end || end > self.lists.len() {
            return Err(Malformed::Bytes("a label name has wrong postings"));
        }
        Ok(start..end)
    }

    /// Rank of the value (or metric name) that a list is about.
    pub(super) fn value(&self, list: u32) -> Decoded<u32> {
        fixed_u32_at(self.values, list as usize)
            .ok_or(Malformed::Bytes("a list of postings does not exist"))
    }

    /// The list of a value among a range of lists.
    pub(super) fn find(&self, lists: Range<u32>, value: u32) -> Decoded<Option<u32>> {
        let end = lists.end;
        let found = self.first_from(lists, value)?;
        Ok((found < end && self.value(found)? == value).then_some(found))
    }

    /// The lists of a range of values among a range of lists.
    pub(super) fn within(&self, lists: Range<u32>, values: Range<u32>) -> Decoded<Range<u32>> {
        let start = self.first_from(lists.clone(), values.start)?;
        let end = self.first_from(lists, values.end)?;
        Ok(start..end.max(start))
    }

    /// The first of a range of lists that is about a value or a greater one.
    fn first_from(&self, lists: Range<u32>, value: u32) -> Decoded<u32> {
        let (mut low, mut high) = (lists.start, lists.end);
        while low < high {
            let middle = low.midpoint(high);
            if self.value(middle)? < value {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The sets of a list, all below `count`.
    pub(super) fn sets(&self, list: u32, count: u32) -> Decoded<SetNumbers> {
        SetNumbers::decode(self.lists.get(list)?, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(numbers: &BTreeSet<u32>) -> SetNumbers {
        SetNumbers::rising(numbers.iter().copied())
    }

    proptest! {
        #[test]
        fn algebra_on_runs_is_algebra_on_numbers(
            a in prop::collection::btree_set(0_u32..60, 0..40),
            b in prop::collection::btree_set(0_u32..60, 0..40),
        ) {
            let all: BTreeSet<u32> = (0..60).collect();
            prop_assert_eq!(SetNumbers::union([of(&a), of(&b)]), of(&(&a | &b)));
            prop_assert_eq!(of(&a).intersect(&of(&b)), of(&(&a & &b)));
            prop_assert_eq!(of(&a).complement(60), of(&(&all - &a)));
            prop_assert_eq!(of(&a).without(&of(&b)), of(&(&a - &b)));
            prop_assert_eq!(of(&a).count(), a.len());
            prop_assert!((0..61).all(|number| of(&a).contains(number) == a.contains(&number)));
            let mut bytes = Vec::new();
            of(&a).encode(&mut bytes);
            prop_assert_eq!(SetNumbers::decode(&bytes, 60), Ok(of(&a)));
        }

        #[test]
        fn random_postings_are_refused_or_decoded_but_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80), count: u32,
        ) {
            if let Ok(sets) = SetNumbers::decode(&bytes, count) {
                prop_assert!(sets.0.iter().all(|(start, end)| start < end && *end <= count));
            }
            let _ = Postings::parse(&bytes);
        }
    }
}
