//! [`Segment::verify`]: everything is read and compared with what it was made from.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use heapster_core::storage::Values;
use heapster_core::{Labels, Text};

use crate::chunk;
use crate::codec::Malformed;
use crate::error::{Error, Result};
use crate::segment::Segment;
use crate::segment::format::{FOOTER_LEN, GROUPS_START, Section, TRAILER_LEN};
use crate::segment::postings::PostingsBuilder;

impl Segment {
    /// Checks every checksum, decodes everything, and compares what is stored twice.
    ///
    /// # Errors
    /// The first damage found, as [`Segment::rows`].
    pub(crate) fn verify(&self) -> Result<()> {
        let mut damage = None;
        self.check_index(&mut |error| {
            damage.get_or_insert(error);
        });
        damage.map_or(Ok(()), Err)?;
        self.verify_content()
    }

    /// As [`Segment::verify`], but does not look at what is read from its other copy.
    ///
    /// # Errors
    /// As [`Segment::verify`].
    pub(crate) fn verify_content(&self) -> Result<()> {
        self.verify_lists()?;
        let mut samples = 0_u64;
        let mut groups = 0_u64;
        let mut next = GROUPS_START;
        let mut previous: Option<Labels> = None;
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for set in 0..self.sets() {
            let bad_set = |what| self.malformed(Section::Sets, Malformed::Bytes(what));
            let labels = self.labels(set)?;
            if previous.as_ref().is_some_and(|previous| *previous >= labels) {
                return Err(bad_set("the sets are not sorted by labels"));
            }
            previous = Some(labels);
            let mut newest = i64::MIN;
            for group in self.row_groups(set)? {
                let bad = |malformed| self.malformed_group(&group, malformed);
                if group.group.offset != next {
                    return Err(bad_set("the row groups do not follow each other"));
                }
                next = group.group.offset.saturating_add(u64::from(group.group.len));
                // The bytes are to be seen as they are now.
                let bytes = self.group_bytes(&group, false)?;
                let (times, _, all_cells) = self.all_cells(&group, &bytes)?;
                let (start, end) = (times.first().copied(), times.last().copied());
                if start.is_none_or(|start| start <= newest) {
                    return Err(bad_set("the row groups of a set are not in time order"));
                }
                newest = end.unwrap_or(newest);
                (first, last) = (first.min(start.unwrap_or(first)), last.max(newest));
                let mut values = Values::default();
                for cells in all_cells {
                    chunk::decode(cells.chunk, cells.count, &mut values).map_err(bad)?;
                    let stored = chunk::stored_summary(cells.chunk, cells.count).map_err(bad)?;
                    if let Some(stored) = stored
                        && !chunk::summarize(&values)
                            .is_some_and(|real| chunk::is_same_summary(&stored, &real))
                    {
                        return Err(bad(Malformed::Bytes("a summary is not that of its values")));
                    }
                    samples = samples.saturating_add(cells.count as u64);
                }
                groups = groups.saturating_add(1);
            }
        }
        let counts_match = samples == self.info().samples && groups == self.footer.groups;
        let bounds_match = groups == 0 || (first, last) == (self.info().first, self.info().last);
        if !counts_match || !bounds_match || next != self.footer.groups_end {
            let offset = self.info().len.saturating_sub(FOOTER_LEN.saturating_add(TRAILER_LEN));
            return Err(Error::corrupt(self.path(), offset, "the footer does not fit the data"));
        }
        Ok(())
    }

    /// Checks symbols, postings and clocks against what they are derived from.
    fn verify_lists(&self) -> Result<()> {
        let index = self.index()?;
        let mut symbols = index.symbols.reader();
        let mut previous: Option<Text> = None;
        for rank in 0..index.symbols.len() {
            let symbol = symbols
                .get(rank)
                .map_err(|malformed| self.malformed(Section::Symbols, malformed))?;
            if previous.as_ref().is_some_and(|previous| previous.as_str() >= symbol) {
                let malformed = Malformed::Bytes("the symbols are not sorted");
                return Err(self.malformed(Section::Symbols, malformed));
            }
            previous = Some(symbol.into());
        }
        if self.postings_of_sets()? != self.section(Section::Postings) {
            let malformed = Malformed::Bytes("the postings are not those of the sets");
            return Err(self.malformed(Section::Postings, malformed));
        }
        let mut times = Vec::new();
        for clock in 0..index.clocks.len() {
            self.decode_clock(clock, &mut times)?;
        }
        Ok(())
    }
    /// The section of postings, made of the sets.
    pub(super) fn postings_of_sets(&self) -> Result<Vec<u8>> {
        let index = self.index()?;
        let mut postings = PostingsBuilder::default();
        for set in 0..self.sets() {
            let (names, values) = index.label_ranks(set)?;
            for ((name, _), value) in names.iter().zip(values) {
                postings.add_label(set, *name, value?);
            }
            index.each_group(set, |group| {
                let columns = &self.column_list(group.columns())?.refs;
                columns.iter().for_each(|column| postings.add_metric(set, column.name));
                Ok(())
            })?;
        }
        Ok(postings.to_bytes())
    }
}
