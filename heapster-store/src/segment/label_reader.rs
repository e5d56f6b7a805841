//! [`LabelReader`]: labels of one set after the other, for comparing them.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::codec::Malformed;
use crate::error::Result;
use crate::segment::Segment;
use crate::segment::format::Section;
use crate::segment::index::Index;
use crate::segment::reader::LabelNames;
use crate::segment::symbols::SymbolReader;

/// Reads labels into memory that it uses again. Sets that follow each other have most of their
/// labels in common, and what stays is not read again.
pub(crate) struct LabelReader<'a> {
    index: Index<'a>,
    symbols: SymbolReader<'a>,
    names: &'a LabelNames,
    values: Vec<(u32, String)>,
}

impl<'a> LabelReader<'a> {
    /// A reader that has no labels yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when the index breaks a rule of the format.
    pub(crate) fn new(segment: &'a Segment) -> Result<Self> {
        let index = segment.index()?;
        let symbols = index.symbols.reader();
        Ok(Self { index, symbols, names: &[], values: Vec::new() })
    }

    /// Reads the labels of a set.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when there is no such set or the index breaks a
    /// rule of the format.
    pub(crate) fn load(&mut self, set: u32) -> Result<()> {
        let (names, ranks) = self.index.label_ranks(set)?;
        self.names = names;
        if self.values.len() < names.len() {
            self.values.resize(names.len(), (u32::MAX, String::new()));
        }
        for ((own, text), rank) in self.values.iter_mut().zip(ranks) {
            let rank = rank?;
            if *own == rank {
                continue;
            }
            let bad = |bad: Malformed| self.index.segment.malformed(Section::Symbols, bad);
            let symbol = self.symbols.get(rank).map_err(bad)?;
            text.clear();
            text.push_str(symbol);
            *own = rank;
        }
        Ok(())
    }

    /// Name and value of a label.
    pub(crate) fn get(&self, index: usize) -> Option<(&str, &str)> {
        let (_, name) = self.names.get(index)?;
        self.values.get(index).map(|(_, value)| (name.as_str(), value.as_str()))
    }
}
