//! [`Segment`]: an open segment, its index and its row groups.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use heapster_core::storage::{Column, Columns, Run, Samples, Selector, Values};
use heapster_core::{Labels, MatchOp, Matcher, MetricKind, Text, TimeRange, Timestamp};

use crate::chunk;
use crate::codec::{ByteReader, Decoded, Malformed, salted_crc32};
use crate::error::{Error, Result};
use crate::rows::{ColumnRows, SetRows};
use crate::segment::SegmentInfo;
use crate::segment::clocks::Clocks;
use crate::segment::format::{
    self, BadHeader, FOOTER_LEN, Footer, GROUP_CELLS_MAX, GROUP_COLUMNS_MAX, GROUP_CRC_LEN,
    HEADER_LEN, LABELS_MAX, Place, SECTIONS, Section, TRAILER_LEN,
};
use crate::segment::lists::{self, ColumnRef};
use crate::segment::postings::{Postings, SetNumbers};
use crate::segment::row_group::{self, Cells};
use crate::segment::sets::{self, GroupRef};
use crate::segment::source::Source;
use crate::segment::symbols::Symbols;
use crate::segment::table::Table;
use crate::vfs::Vfs;

/// Row groups of a set whose check is remembered; later ones are checked each time.
const REMEMBERED_GROUPS: usize = 64;

/// An open segment.
///
/// Everything but the row groups has been checked by the time [`Segment::open`] returns. A row
/// group is checked when it is first read.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    info: SegmentInfo,
    pub(super) footer: Footer,
    source: Source,
    /// The distinct lists of label names, as rank and text: few, and every set needs one.
    label_lists: Vec<Vec<(u32, Text)>>,
    /// The distinct lists of columns: few, and every row group needs one.
    column_lists: Vec<Vec<ColumnRef>>,
    /// One bit for each of the first row groups of each set: its checksum was right.
    checked: Vec<AtomicU64>,
}

/// One chunk of a column, as [`Segment::runs`] found it.
#[derive(Clone, Debug)]
pub(crate) struct SegmentRun {
    /// The samples' bounds. The summary is there only when the whole chunk lies in the range and
    /// its summary is stored or costs next to nothing.
    pub run: Run,
    set: u32,
    group_index: usize,
    group: GroupRef,
    columns: usize,
    column: usize,
}

/// A row group, as [`Segment::row_groups`] found it.
#[derive(Clone, Debug)]
pub(crate) struct RowGroup {
    /// How many rows it has.
    pub rows: usize,
    /// Time of its first row.
    pub first: i64,
    /// Time of its last row.
    pub last: i64,
    set: u32,
    index: usize,
    group: GroupRef,
}

/// A row group with its chunks as they are in the file.
#[derive(Debug)]
pub(crate) struct EncodedGroup<'a> {
    /// Time of each row.
    pub timestamps: Vec<i64>,
    /// The columns, sorted by name.
    pub columns: Vec<(Text, MetricKind)>,
    /// Number of samples.
    pub samples: u64,
    /// The bytes, checksum included.
    bytes: Cow<'a, [u8]>,
}

impl EncodedGroup<'_> {
    /// The bytes without the checksum.
    pub(crate) fn body(&self) -> &[u8] {
        body_of(&self.bytes)
    }
}

/// Names of a set's labels, as rank and text.
type LabelNames = [(u32, Text)];

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
    /// Opens a segment and checks its length, header, footer and sections.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] when the file is damaged or not the one expected;
    /// [`Error::UnsupportedVersion`].
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path, expected: &SegmentInfo) -> Result<Self> {
        let source = Source::open(vfs, path).map_err(|error| Error::io("open", path, error))?;
        let len = source.len();
        if len != expected.len {
            let what = format!("the file has {len} bytes instead of {}", expected.len);
            return Err(Error::corrupt(path, len.min(expected.len), what));
        }
        let read =
            |offset, len| source.bytes(offset, len).map_err(|error| Error::io("read", path, error));
        let footer_start = len
            .checked_sub(FOOTER_LEN.saturating_add(TRAILER_LEN))
            .filter(|start| *start >= HEADER_LEN)
            .ok_or_else(|| Error::corrupt(path, 0, "the file is too short for a segment"))?;
        format::check_header(&read(0, HEADER_LEN)?, expected.id, expected.tier).map_err(|bad| {
            match bad {
                BadHeader::Malformed(malformed) => malformed_at(path, 0, malformed),
                BadHeader::Version(found) => Error::UnsupportedVersion {
                    path: path.to_owned(),
                    found: u32::from(found),
                    max: u32::from(format::VERSION),
                },
            }
        })?;
        let trailer_start = footer_start.saturating_add(FOOTER_LEN);
        let crc = format::check_trailer(&read(trailer_start, TRAILER_LEN)?)
            .map_err(|malformed| malformed_at(path, trailer_start, malformed))?;
        let footer = read(footer_start, FOOTER_LEN)?;
        if salted_crc32(expected.id, footer_start, &footer) != crc || crc != expected.crc {
            return Err(Error::corrupt(path, footer_start, "the footer's checksum differs"));
        }
        let footer = Footer::decode(&footer, footer_start)
            .map_err(|malformed| malformed_at(path, footer_start, malformed))?;
        let info = info_of(&footer, len, crc);
        if info != *expected {
            return Err(Error::corrupt(
                path,
                footer_start,
                "the footer is that of another segment",
            ));
        }
        let mut segment = Self {
            path: path.to_owned(),
            info,
            footer,
            source,
            label_lists: Vec::new(),
            column_lists: Vec::new(),
            checked: Vec::new(),
        };
        segment.check_sections()?;
        Ok(segment)
    }

    /// Opens a file that no manifest tells of, by what it says of itself.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub(crate) fn open_unnamed(vfs: &dyn Vfs, path: &Path) -> Result<Self> {
        let source = Source::open(vfs, path).map_err(|error| Error::io("open", path, error))?;
        let len = source.len();
        let read =
            |offset, len| source.bytes(offset, len).map_err(|error| Error::io("read", path, error));
        let start = len
            .checked_sub(FOOTER_LEN.saturating_add(TRAILER_LEN))
            .ok_or_else(|| Error::corrupt(path, 0, "the file is too short for a segment"))?;
        let trailer_start = start.saturating_add(FOOTER_LEN);
        let crc = format::check_trailer(&read(trailer_start, TRAILER_LEN)?)
            .map_err(|malformed| malformed_at(path, trailer_start, malformed))?;
        let footer = Footer::decode(&read(start, FOOTER_LEN)?, start)
            .map_err(|malformed| malformed_at(path, start, malformed))?;
        Self::open(vfs, path, &info_of(&footer, len, crc))
    }

    fn check_sections(&mut self) -> Result<()> {
        for section in SECTIONS {
            let Place { offset, len, crc } = self.footer.place(section);
            let bytes = self
                .source
                .bytes(offset, len)
                .map_err(|error| Error::io("read", &self.path, error))?;
            if salted_crc32(self.info.id, offset, &bytes) != crc {
                return Err(Error::corrupt(&self.path, offset, "the section's checksum differs"));
            }
            if let Cow::Owned(bytes) = bytes {
                self.source.keep(section, bytes);
            }
        }
        self.symbols()?;
        self.postings()?;
        self.clocks()?;
        self.label_lists = self.read_label_lists()?;
        self.column_lists = self.read_column_lists()?;
        let sets = self.table(Section::Sets)?.len();
        if u64::from(sets) != self.info.sets {
            return Err(self.malformed(
                Section::Sets,
                Malformed::Bytes("the section has not the number of sets the footer names"),
            ));
        }
        self.checked = (0..sets).map(|_| AtomicU64::new(0)).collect();
        Ok(())
    }

    fn read_label_lists(&self) -> Result<Vec<Vec<(u32, Text)>>> {
        let table = self.table(Section::LabelNames)?;
        let mut all = Vec::new();
        for list in 0..table.len() {
            let names = table
                .get(list)
                .and_then(|entry| lists::label_names(entry, self.symbols_len(), LABELS_MAX))
                .map_err(|malformed| self.malformed(Section::LabelNames, malformed))?;
            let named = names.into_iter().map(|name| Ok((name, self.text(name)?)));
            all.push(named.collect::<Result<_>>()?);
        }
        Ok(all)
    }

    fn read_column_lists(&self) -> Result<Vec<Vec<ColumnRef>>> {
        let table = self.table(Section::Columns)?;
        (0..table.len())
            .map(|list| {
                table
                    .get(list)
                    .and_then(|entry| lists::columns(entry, self.symbols_len(), GROUP_COLUMNS_MAX))
                    .map_err(|malformed| self.malformed(Section::Columns, malformed))
            })
            .collect()
    }

    /// What the manifest knows of the segment.
    pub(crate) fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Numbers of the sets that satisfy the selector, ascending, which is the order of labels.
    /// Only the bounds of row groups are looked at.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn select(&self, selector: &Selector) -> Result<Vec<u32>> {
        let wanted = self.wanted(&selector.columns)?;
        self.select_wanted(selector, &wanted)
    }

    fn select_wanted(&self, selector: &Selector, wanted: &Wanted) -> Result<Vec<u32>> {
        if !self.range().overlaps(&selector.range) {
            return Ok(Vec::new());
        }
        let postings = self.postings()?;
        let in_postings = |malformed| self.malformed(Section::Postings, malformed);
        let mut found = SetNumbers::all(self.sets());
        for matcher in &selector.matchers {
            if found.is_empty() {
                return Ok(Vec::new());
            }
            found = found.intersect(&self.matching(&postings, matcher)?);
        }
        if let Wanted::Ranks(ranks) = wanted {
            let mut lists = Vec::with_capacity(ranks.len());
            for rank in ranks {
                if let Some(list) = postings.find(postings.metrics(), *rank).map_err(in_postings)? {
                    lists.push(postings.sets(list, self.sets()).map_err(in_postings)?);
                }
            }
            found = found.intersect(&SetNumbers::union(lists));
        }
        if self.lies_in(&selector.range) {
            return Ok(found.iter().collect());
        }
        let mut has_wanted = HashMap::new();
        let mut in_range = Vec::new();
        for set in found.iter() {
            for group in self.groups(set)? {
                if !self.overlaps(group.clock, &selector.range)? {
                    continue;
                }
                let has = match has_wanted.get(&group.columns) {
                    Some(has) => *has,
                    None => {
                        let columns = self.column_refs(group.columns)?;
                        let has = columns.iter().any(|column| wanted.contains(column.name));
                        has_wanted.insert(group.columns, has);
                        has
                    }
                };
                if has {
                    in_range.push(set);
                    break;
                }
            }
        }
        Ok(in_range)
    }

    /// The sets that satisfy a matcher.
    fn matching(&self, postings: &Postings<'_>, matcher: &Matcher) -> Result<SetNumbers> {
        let bad = |malformed| self.malformed(Section::Postings, malformed);
        let symbols = self.symbols()?;
        let find = |text: &str| {
            symbols.find(text).map_err(|malformed| self.malformed(Section::Symbols, malformed))
        };
        let lists = match find(matcher.name())? {
            Some(name) => postings.values_of(name).map_err(bad)?,
            None => 0..0,
        };
        let selects_absent = matcher.matches_absent();
        // Lists of the sets to take, or to leave out when sets without the label are taken.
        let mut wanted = Vec::new();
        match matcher.op() {
            MatchOp::Equal(text) | MatchOp::NotEqual(text) if !text.is_empty() => {
                if let Some(value) = find(text)?
                    && let Some(list) = postings.find(lists, value).map_err(bad)?
                {
                    wanted.push(postings.sets(list, self.sets()).map_err(bad)?);
                }
            }
            _ => {
                for list in lists {
                    let value = self.text(postings.value(list).map_err(bad)?)?;
                    if matcher.matches(&value) != selects_absent {
                        wanted.push(postings.sets(list, self.sets()).map_err(bad)?);
                    }
                }
            }
        }
        let sets = SetNumbers::union(wanted);
        Ok(if selects_absent { sets.complement(self.sets()) } else { sets })
    }

    fn wanted(&self, columns: &Columns) -> Result<Wanted> {
        match columns {
            Columns::All => Ok(Wanted::All),
            Columns::Named(name) => Ok(Wanted::Ranks(self.rank(name)?.into_iter().collect())),
            Columns::Matching(_) => {
                let mut ranks = Vec::new();
                for rank in self.metric_ranks()? {
                    if columns.contains(&self.text(rank)?) {
                        ranks.push(rank);
                    }
                }
                Ok(Wanted::Ranks(ranks))
            }
        }
    }

    pub(super) fn metric_ranks(&self) -> Result<Vec<u32>> {
        let postings = self.postings()?;
        postings
            .metrics()
            .map(|list| postings.value(list))
            .collect::<Decoded<_>>()
            .map_err(|malformed| self.malformed(Section::Postings, malformed))
    }

    /// The labels of a set.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such set or the index breaks a rule of the format.
    pub(crate) fn labels(&self, set: u32) -> Result<Labels> {
        let mut labels = Labels::new();
        let (names, values) = self.label_ranks(set)?;
        for ((_, name), value) in names.iter().zip(values) {
            labels.set(name.clone(), self.text(value)?);
        }
        Ok(labels)
    }

    /// Names of a set's labels, and ranks of their values.
    fn label_ranks(&self, set: u32) -> Result<(&LabelNames, Vec<u32>)> {
        let bad = |malformed| self.malformed(Section::Sets, malformed);
        let entry = self.table(Section::Sets)?.get(set).map_err(bad)?;
        let (list, values) = sets::labels(entry).map_err(bad)?;
        match self.label_lists.get(list as usize) {
            Some(names) if names.len() == values.len() => Ok((names, values)),
            _ => Err(bad(Malformed::Bytes("a set has not a value for each of its labels"))),
        }
    }

    /// The columns of a set, sorted by name, with the kind they had last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such set or the index breaks a rule of the format.
    pub(crate) fn columns(&self, set: u32) -> Result<Vec<Column>> {
        let mut kinds = std::collections::BTreeMap::new();
        for list in self.column_lists(set, &TimeRange::ALL)? {
            for column in self.column_refs(list)? {
                kinds.insert(column.name, column.kind);
            }
        }
        // Ranks are in the order of the names.
        kinds.into_iter().map(|(name, kind)| Ok(Column { name: self.text(name)?, kind })).collect()
    }

    /// Numbers of the lists of columns of a set's row groups in a range, oldest first, without
    /// repetition next to each other.
    pub(crate) fn column_lists(&self, set: u32, range: &TimeRange) -> Result<Vec<u32>> {
        let mut lists = Vec::new();
        for group in self.groups(set)? {
            if self.overlaps(group.clock, range)? {
                lists.push(group.columns);
            }
        }
        lists.dedup();
        Ok(lists)
    }

    /// Names of the columns that the selector finds, sorted, each once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn column_names(&self, selector: &Selector) -> Result<Vec<Text>> {
        let wanted = self.wanted(&selector.columns)?;
        if selector.matchers.is_empty() && self.lies_in(&selector.range) {
            let ranks = self.metric_ranks()?.into_iter();
            return self.texts(ranks.filter(|rank| wanted.contains(*rank)));
        }
        let mut all_lists = BTreeSet::new();
        for set in self.select_wanted(selector, &wanted)? {
            all_lists.extend(self.column_lists(set, &selector.range)?);
        }
        let mut ranks = BTreeSet::new();
        for list in all_lists {
            let columns = self.column_refs(list)?.iter().map(|column| column.name);
            ranks.extend(columns.filter(|name| wanted.contains(*name)));
        }
        self.texts(ranks)
    }

    /// Names of the labels of the sets that the selector finds, sorted, each once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn label_names(&self, selector: &Selector) -> Result<Vec<Text>> {
        if self.selects_all(selector) {
            let postings = self.postings()?;
            let ranks = (0..postings.names_len())
                .map(|index| postings.name(index))
                .collect::<Decoded<Vec<_>>>()
                .map_err(|malformed| self.malformed(Section::Postings, malformed))?;
            return self.texts(ranks);
        }
        let mut ranks = BTreeSet::new();
        for set in self.select(selector)? {
            ranks.extend(self.label_ranks(set)?.0.iter().map(|(name, _)| *name));
        }
        self.texts(ranks)
    }

    /// Values of one label over the sets that the selector finds, sorted, each once.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn label_values(&self, label: &str, selector: &Selector) -> Result<Vec<Text>> {
        let Some(wanted) = self.rank(label)? else { return Ok(Vec::new()) };
        if self.selects_all(selector) {
            let postings = self.postings()?;
            let ranks = postings
                .values_of(wanted)
                .and_then(|mut lists| {
                    lists.try_fold(Vec::new(), |mut ranks, list| {
                        ranks.push(postings.value(list)?);
                        Ok(ranks)
                    })
                })
                .map_err(|malformed| self.malformed(Section::Postings, malformed))?;
            return self.texts(ranks);
        }
        let mut ranks = BTreeSet::new();
        for set in self.select(selector)? {
            let (names, values) = self.label_ranks(set)?;
            let labels = names.iter().zip(values);
            ranks.extend(labels.filter(|((name, _), _)| *name == wanted).map(|(_, value)| value));
        }
        self.texts(ranks)
    }

    fn selects_all(&self, selector: &Selector) -> bool {
        selector.matchers.is_empty()
            && matches!(selector.columns, Columns::All)
            && self.lies_in(&selector.range)
    }

    /// The chunks of one column that overlap the range, in time order.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index or a row group is damaged, [`Error::Io`],
    /// [`Error::UnsupportedVersion`].
    pub(crate) fn runs(&self, set: u32, column: &str, range: TimeRange) -> Result<Vec<SegmentRun>> {
        let Some(name) = self.rank(column)? else { return Ok(Vec::new()) };
        let clocks = self.clocks()?;
        let mut runs = Vec::new();
        let mut times = Vec::new();
        for (group_index, group) in self.groups(set)?.into_iter().enumerate() {
            let in_clocks = |malformed| self.malformed(Section::Clocks, malformed);
            let bounds = clocks.bounds(group.clock).map_err(in_clocks)?;
            let mut first = Timestamp::from_millis(bounds.first);
            let mut last = Timestamp::from_millis(bounds.last);
            if !TimeRange::new(first, last).overlaps(&range) {
                continue;
            }
            let columns = self.column_refs(group.columns)?;
            let Ok(column) = columns.binary_search_by_key(&name, |column| column.name) else {
                continue;
            };
            let mut summary = None;
            if range.contains(first) && range.contains(last) {
                let bytes = self.group_bytes(set, group_index, &group)?;
                let bad = |malformed| self.malformed_group(&group, malformed);
                let body = body_of(&bytes);
                let cells = row_group::cells(body, bounds.count, columns.len(), column);
                let cells = cells.map_err(bad)?;
                summary = chunk::stored_summary(cells.chunk, cells.count).map_err(bad)?;
                if let Some(present) = &cells.present
                    && summary.is_some()
                {
                    // The summary's bounds are the column's, not its clock's.
                    clocks.decode(group.clock, &mut times).map_err(in_clocks)?;
                    let start = present.first().and_then(|(start, _)| times.get(*start as usize));
                    let end = present
                        .last()
                        .and_then(|(_, end)| times.get((*end as usize).checked_sub(1)?));
                    if let (Some(start), Some(end)) = (start, end) {
                        first = Timestamp::from_millis(*start);
                        last = Timestamp::from_millis(*end);
                    }
                }
            }
            let run = Run { first, last, summary };
            let columns = columns.len();
            runs.push(SegmentRun { run, set, group_index, group, columns, column });
        }
        Ok(runs)
    }

    /// Decodes a run, clipped to the range; replaces what `into` holds.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the row group is damaged, [`Error::Io`],
    /// [`Error::UnsupportedVersion`].
    pub(crate) fn decode(
        &self,
        run: &SegmentRun,
        range: TimeRange,
        into: &mut Samples,
    ) -> Result<()> {
        let mut times = Vec::new();
        self.clocks()?
            .decode(run.group.clock, &mut times)
            .map_err(|malformed| self.malformed(Section::Clocks, malformed))?;
        let bytes = self.group_bytes(run.set, run.group_index, &run.group)?;
        let bad = |malformed| self.malformed_group(&run.group, malformed);
        let body = body_of(&bytes);
        let cells = row_group::cells(body, times.len(), run.columns, run.column).map_err(bad)?;
        chunk::decode(cells.chunk, cells.count, &mut into.values).map_err(bad)?;
        into.timestamps.clear();
        let times = times.as_slice();
        match &cells.present {
            None => into.timestamps.extend(times.iter().map(|at| Timestamp::from_millis(*at))),
            Some(present) => {
                for (start, end) in present {
                    let run = times.get(*start as usize..*end as usize).unwrap_or_default();
                    into.timestamps.extend(run.iter().map(|at| Timestamp::from_millis(*at)));
                }
            }
        }
        let from = into.timestamps.partition_point(|at| *at < range.start);
        let to = into.timestamps.partition_point(|at| *at <= range.end).max(from);
        clip(&mut into.timestamps, from, to);
        match &mut into.values {
            Values::Ints(values) => clip(values, from, to),
            Values::Floats(values) => clip(values, from, to),
            Values::Mixed(values) => clip(values, from, to),
        }
        Ok(())
    }

    /// The row groups of a set, in time order. Only their bounds are looked at.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn row_groups(&self, set: u32) -> Result<Vec<RowGroup>> {
        let clocks = self.clocks()?;
        let bounds = |(index, group): (usize, GroupRef)| {
            let bounds = clocks.bounds(group.clock);
            let bounds = bounds.map_err(|bad| self.malformed(Section::Clocks, bad))?;
            let (rows, first, last) = (bounds.count, bounds.first, bounds.last);
            Ok(RowGroup { rows, first, last, set, index, group })
        };
        self.groups(set)?.into_iter().enumerate().map(bounds).collect()
    }

    /// The rows of a row group; `labels` are those of its set.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the row group is damaged, [`Error::Io`],
    /// [`Error::UnsupportedVersion`].
    pub(crate) fn rows(&self, labels: &Labels, group: &RowGroup) -> Result<SetRows> {
        let RowGroup { set, index, group, .. } = group;
        let bytes = self.group_bytes(*set, *index, group)?;
        let (timestamps, columns, cells) = self.all_cells(group, &bytes)?;
        let mut column_rows = Vec::with_capacity(columns.len());
        for (column, cells) in columns.iter().zip(cells) {
            let mut values = Values::default();
            chunk::decode(cells.chunk, cells.count, &mut values)
                .map_err(|malformed| self.malformed_group(group, malformed))?;
            let present = cells
                .present
                .map(|present| present.into_iter().flat_map(|(start, end)| start..end).collect());
            let name = self.text(column.name)?;
            column_rows.push(ColumnRows { name, kind: column.kind, present, values });
        }
        Ok(SetRows { labels: labels.clone(), timestamps, columns: column_rows })
    }

    /// A row group as it is in the file, its checksum checked.
    ///
    /// # Errors
    /// As [`Segment::rows`].
    pub(crate) fn encoded(&self, group: &RowGroup) -> Result<EncodedGroup<'_>> {
        let RowGroup { set, index, group, .. } = group;
        let bytes = self.group_bytes(*set, *index, group)?;
        let (timestamps, refs, cells) = self.all_cells(group, &bytes)?;
        let samples = cells.iter().map(|cells| cells.count as u64).sum();
        let columns = refs.iter().map(|column| Ok((self.text(column.name)?, column.kind)));
        let columns = columns.collect::<Result<_>>()?;
        Ok(EncodedGroup { timestamps, columns, samples, bytes })
    }

    /// Timestamps, columns and their cells of a row group.
    fn all_cells<'b>(
        &self,
        group: &GroupRef,
        bytes: &'b [u8],
    ) -> Result<(Vec<i64>, &[ColumnRef], Vec<Cells<'b>>)> {
        let bad = |malformed| self.malformed_group(group, malformed);
        let mut times = Vec::new();
        self.clocks()?
            .decode(group.clock, &mut times)
            .map_err(|malformed| self.malformed(Section::Clocks, malformed))?;
        let columns = self.column_refs(group.columns)?;
        if times.len().saturating_mul(columns.len()) > GROUP_CELLS_MAX {
            return Err(bad(Malformed::Bytes("a row group has too many cells")));
        }
        let cells =
            row_group::all_cells(body_of(bytes), times.len(), columns.len()).map_err(bad)?;
        Ok((times, columns, cells))
    }

    /// Shows each chunk of a row group with the number of its values.
    pub(super) fn visit_chunks(
        &self,
        set: u32,
        index: usize,
        group: &GroupRef,
        mut visit: impl FnMut(&[u8], usize) -> Decoded<()>,
    ) -> Result<()> {
        let bytes = self.group_bytes(set, index, group)?;
        let (_, _, cells) = self.all_cells(group, &bytes)?;
        cells
            .iter()
            .try_for_each(|cells| visit(cells.chunk, cells.count))
            .map_err(|malformed| self.malformed_group(group, malformed))
    }

    /// Bytes of the file as it is.
    ///
    /// # Errors
    /// [`Error::Io`], also when the file does not have them.
    pub(crate) fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        self.source.bytes(offset, len).map_err(|error| Error::io("read", &self.path, error))
    }

    /// Checks the checksum of every row group, without decoding, and hands over each error.
    pub(crate) fn check_groups(&self, found: &mut dyn FnMut(Error)) {
        for set in 0..self.sets() {
            match self.groups(set) {
                Ok(groups) => groups
                    .iter()
                    // Past the memory of checks: the bytes are to be seen as they are now.
                    .filter_map(|group| self.group_bytes(set, usize::MAX, group).err())
                    .for_each(&mut *found),
                Err(error) => found(error),
            }
        }
    }

    /// Checks every checksum, decodes everything, and compares what is stored twice.
    ///
    /// # Errors
    /// The first damage found, as [`Segment::rows`].
    pub(crate) fn verify(&self) -> Result<()> {
        self.verify_lists()?;
        let mut samples = 0_u64;
        let mut groups = 0_u64;
        let mut next = HEADER_LEN;
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
            for group in self.groups(set)? {
                let bad = |malformed| self.malformed_group(&group, malformed);
                if group.offset != next {
                    return Err(bad_set("the row groups do not follow each other"));
                }
                next = group.offset.saturating_add(u64::from(group.len));
                // Past the memory of checks: the bytes are to be seen as they are now.
                let bytes = self.group_bytes(set, usize::MAX, &group)?;
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
        let counts_match = samples == self.info.samples && groups == self.footer.groups;
        let bounds_match = groups == 0 || (first, last) == (self.info.first, self.info.last);
        if !counts_match || !bounds_match || next != self.footer.groups_end {
            let offset = self.info.len.saturating_sub(FOOTER_LEN.saturating_add(TRAILER_LEN));
            return Err(Error::corrupt(&self.path, offset, "the footer does not fit the data"));
        }
        Ok(())
    }

    /// Checks symbols, postings and clocks against what they are derived from.
    fn verify_lists(&self) -> Result<()> {
        let mut previous: Option<Text> = None;
        for rank in 0..self.symbols_len() {
            let symbol = self.text(rank)?;
            if previous.as_ref().is_some_and(|previous| *previous >= symbol) {
                let malformed = Malformed::Bytes("the symbols are not sorted");
                return Err(self.malformed(Section::Symbols, malformed));
            }
            previous = Some(symbol);
        }
        let mut postings = crate::segment::postings::PostingsBuilder::default();
        for set in 0..self.sets() {
            let (names, values) = self.label_ranks(set)?;
            for ((name, _), value) in names.iter().zip(values) {
                postings.add_label(set, *name, value);
            }
            for list in self.column_lists(set, &TimeRange::ALL)? {
                for column in self.column_refs(list)? {
                    postings.add_metric(set, column.name);
                }
            }
        }
        let mut expected = Vec::new();
        let fits = postings.finish(&mut expected).is_some();
        if !fits || expected != self.source.section(&self.footer, Section::Postings) {
            let malformed = Malformed::Bytes("the postings are not those of the sets");
            return Err(self.malformed(Section::Postings, malformed));
        }
        let clocks = self.clocks()?;
        let mut times = Vec::new();
        for clock in 0..clocks.len() {
            clocks
                .decode(clock, &mut times)
                .map_err(|malformed| self.malformed(Section::Clocks, malformed))?;
        }
        Ok(())
    }

    // What follows reads the sections, and says where in the file damage is.

    fn symbols(&self) -> Result<Symbols<'_>> {
        Symbols::parse(self.source.section(&self.footer, Section::Symbols))
            .map_err(|malformed| self.malformed(Section::Symbols, malformed))
    }

    fn symbols_len(&self) -> u32 {
        self.symbols().map_or(0, |symbols| symbols.len())
    }

    pub(super) fn text(&self, rank: u32) -> Result<Text> {
        self.symbols()?.get(rank).map_err(|malformed| self.malformed(Section::Symbols, malformed))
    }

    fn texts(&self, ranks: impl IntoIterator<Item = u32>) -> Result<Vec<Text>> {
        ranks.into_iter().map(|rank| self.text(rank)).collect()
    }

    pub(super) fn rank(&self, text: &str) -> Result<Option<u32>> {
        self.symbols()?.find(text).map_err(|malformed| self.malformed(Section::Symbols, malformed))
    }

    fn postings(&self) -> Result<Postings<'_>> {
        Postings::parse(self.source.section(&self.footer, Section::Postings))
            .map_err(|malformed| self.malformed(Section::Postings, malformed))
    }

    pub(super) fn clocks(&self) -> Result<Clocks<'_>> {
        Clocks::parse(self.source.section(&self.footer, Section::Clocks))
            .map_err(|malformed| self.malformed(Section::Clocks, malformed))
    }

    fn table(&self, section: Section) -> Result<Table<'_>> {
        Table::parse(self.source.section(&self.footer, section))
            .map_err(|malformed| self.malformed(section, malformed))
    }

    pub(super) fn column_refs(&self, list: u32) -> Result<&[ColumnRef]> {
        self.column_lists.get(list as usize).map(Vec::as_slice).ok_or_else(|| {
            self.malformed(Section::Sets, Malformed::Bytes("a list of columns does not exist"))
        })
    }

    pub(super) fn groups(&self, set: u32) -> Result<Vec<GroupRef>> {
        self.table(Section::Sets)?
            .get(set)
            .and_then(|entry| sets::groups(entry, self.footer.groups_end))
            .map_err(|malformed| self.malformed(Section::Sets, malformed))
    }

    /// How many sets there are.
    pub(crate) fn sets(&self) -> u32 {
        self.checked.len() as u32
    }

    fn range(&self) -> TimeRange {
        TimeRange::new(
            Timestamp::from_millis(self.info.first),
            Timestamp::from_millis(self.info.last),
        )
    }

    /// Whether all of the segment lies in a range.
    fn lies_in(&self, range: &TimeRange) -> bool {
        range.contains(self.range().start) && range.contains(self.range().end)
    }

    pub(super) fn overlaps(&self, clock: u32, range: &TimeRange) -> Result<bool> {
        let bounds = self
            .clocks()?
            .bounds(clock)
            .map_err(|malformed| self.malformed(Section::Clocks, malformed))?;
        let first = Timestamp::from_millis(bounds.first);
        Ok(TimeRange::new(first, Timestamp::from_millis(bounds.last)).overlaps(range))
    }

    /// The bytes of a row group, its checksum included and checked.
    pub(super) fn group_bytes(
        &self,
        set: u32,
        index: usize,
        group: &GroupRef,
    ) -> Result<Cow<'_, [u8]>> {
        let bytes = self
            .source
            .bytes(group.offset, u64::from(group.len))
            .map_err(|error| Error::io("read", &self.path, error))?;
        let memory = if self.source.is_mapped() && index < REMEMBERED_GROUPS {
            self.checked.get(set as usize).map(|bits| (bits, 1_u64.wrapping_shl(index as u32)))
        } else {
            None
        };
        if let Some((bits, bit)) = memory
            && bits.load(Ordering::Relaxed) & bit != 0
        {
            return Ok(bytes);
        }
        let mut reader = ByteReader::new(&bytes);
        let crc = reader.fixed_u32().map_err(|malformed| self.malformed_group(group, malformed))?;
        if salted_crc32(self.info.id, group.offset, reader.rest()) != crc {
            let what = "the row group's checksum differs";
            return Err(Error::corrupt(&self.path, group.offset, what));
        }
        if let Some((bits, bit)) = memory {
            bits.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    pub(super) fn malformed(&self, section: Section, malformed: Malformed) -> Error {
        malformed_at(&self.path, self.footer.place(section).offset, malformed)
    }

    pub(super) fn malformed_group(&self, group: &GroupRef, malformed: Malformed) -> Error {
        malformed_at(&self.path, group.offset, malformed)
    }
}

fn info_of(footer: &Footer, len: u64, crc: u32) -> SegmentInfo {
    SegmentInfo {
        id: footer.id,
        tier: footer.tier,
        is_cold: footer.is_cold,
        len,
        crc,
        first: footer.first,
        last: footer.last,
        sets: footer.sets,
        samples: footer.samples,
    }
}

fn malformed_at(path: &Path, offset: u64, malformed: Malformed) -> Error {
    match malformed {
        Malformed::Bytes(what) => Error::corrupt(path, offset, what),
        Malformed::Unknown(found) => Error::UnsupportedVersion {
            path: path.to_owned(),
            found: u32::from(found),
            max: u32::from(chunk::CODEC_MAX),
        },
    }
}

/// A row group without its checksum.
pub(super) fn body_of(bytes: &[u8]) -> &[u8] {
    bytes.get(GROUP_CRC_LEN as usize..).unwrap_or_default()
}

/// Keeps a range of a list.
fn clip<T>(list: &mut Vec<T>, from: usize, to: usize) {
    list.truncate(to);
    list.drain(..from.min(list.len()));
}
