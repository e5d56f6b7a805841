//! [`Index`]: the sections of an open segment, ready to be looked up. It says where damage is.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use heapster_core::{Labels, Text};

use crate::codec::{Decoded, Malformed};
use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::segment::clocks::Clocks;
use crate::segment::format::Section;
use crate::segment::postings::Postings;
use crate::segment::reader::{LabelNames, RowGroup};
use crate::segment::sets::SetEntry;
use crate::segment::symbols::Symbols;
use crate::segment::table::Table;

/// The sections of a segment.
#[derive(Clone, Copy)]
pub(super) struct Index<'a> {
    pub segment: &'a Segment,
    pub symbols: Symbols<'a>,
    pub label_names: Table<'a>,
    pub columns: Table<'a>,
    pub sets: Table<'a>,
    pub postings: Postings<'a>,
    pub clocks: Clocks<'a>,
}

impl<'a> Index<'a> {
    pub(super) fn parse(segment: &'a Segment) -> Result<Self> {
        fn section<'a, T>(
            segment: &'a Segment,
            section: Section,
            parse: impl Fn(&'a [u8]) -> Decoded<T>,
        ) -> Result<T> {
            parse(segment.section(section)).map_err(|bad| segment.malformed(section, bad))
        }
        Ok(Self {
            segment,
            symbols: section(segment, Section::Symbols, Symbols::parse)?,
            label_names: section(segment, Section::LabelNames, Table::parse)?,
            columns: section(segment, Section::Columns, Table::parse)?,
            sets: section(segment, Section::Sets, Table::parse)?,
            postings: section(segment, Section::Postings, Postings::parse)?,
            clocks: section(segment, Section::Clocks, Clocks::parse)?,
        })
    }

    /// The string of a rank.
    pub(super) fn text(&self, rank: u32) -> Result<Text> {
        self.symbols.get(rank).map_err(|bad| self.segment.malformed(Section::Symbols, bad))
    }

    /// The rank of a string.
    pub(super) fn rank(&self, text: &str) -> Result<Option<u32>> {
        self.symbols.find(text).map_err(|bad| self.segment.malformed(Section::Symbols, bad))
    }

    /// A set.
    pub(super) fn set(&self, set: u32) -> Result<SetEntry<'a>> {
        self.sets.get(set).and_then(SetEntry::parse).map_err(|bad| self.malformed_set(bad))
    }

    /// Names of a set's labels, and ranks of their values.
    pub(super) fn label_ranks(
        &self,
        set: u32,
    ) -> Result<(&'a LabelNames, impl Iterator<Item = Result<u32>> + use<'a>)> {
        let entry = self.set(set)?;
        let names = self.segment.label_list(entry.label_names)?;
        if names.len() != entry.labels {
            let bad = Malformed::Bytes("a set has not a value for each of its labels");
            return Err(self.malformed_set(bad));
        }
        let index = *self;
        let symbols = self.symbols.len();
        let values = entry.label_values().map(move |rank| match rank {
            Ok(rank) if rank < symbols => Ok(rank),
            Ok(_) => Err(index.malformed_set(Malformed::Bytes("a label value is no symbol"))),
            Err(bad) => Err(index.malformed_set(bad)),
        });
        Ok((names, values))
    }

    /// The labels of a set.
    pub(super) fn labels(&self, set: u32) -> Result<Labels> {
        let (names, values) = self.label_ranks(set)?;
        let mut symbols = self.symbols.reader();
        let mut labels: Vec<(Text, Text)> = Vec::with_capacity(names.len());
        for ((_, name), rank) in names.iter().zip(values) {
            let value = symbols.get(rank?);
            let value = value.map_err(|bad| self.segment.malformed(Section::Symbols, bad))?;
            labels.push((name.clone(), value.into()));
        }
        Ok(labels.into_iter().collect())
    }

    /// The value of one label of a set, if it has it.
    pub(super) fn label(&self, set: u32, name: &str) -> Result<Option<Text>> {
        let (names, mut ranks) = self.label_ranks(set)?;
        let Some(position) = names.iter().position(|(_, own)| own == name) else { return Ok(None) };
        ranks.nth(position).map(|rank| self.text(rank?)).transpose()
    }

    /// Calls `each` with the row groups of a set, in time order.
    pub(super) fn each_group(
        &self,
        set: u32,
        mut each: impl FnMut(RowGroup) -> Result<()>,
    ) -> Result<()> {
        let entry = self.set(set)?;
        let groups =
            entry.groups(self.segment.footer.groups_end).map_err(|bad| self.malformed_set(bad))?;
        for (index, group) in (0_u32..).zip(groups) {
            let group = group.map_err(|bad| self.malformed_set(bad))?;
            let bounds = self
                .clocks
                .bounds(group.clock)
                .map_err(|bad| self.segment.malformed(Section::Clocks, bad))?;
            let (rows, first, last) = (bounds.count, bounds.first, bounds.last);
            each(RowGroup { rows, first, last, set, index, group })?;
        }
        Ok(())
    }

    fn malformed_set(&self, malformed: Malformed) -> Error {
        self.segment.malformed(Section::Sets, malformed)
    }
}
