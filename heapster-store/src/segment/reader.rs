//! [`Segment`]: an open segment, its index and its row groups.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use heapster_core::storage::{Column, Values};
use heapster_core::{Labels, MetricKind, Text, TimeRange, Timestamp};

use crate::chunk;
use crate::codec::{ByteReader, Decoded, Malformed, salted_crc32};
use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::rows::{ColumnRows, SetRows};
use crate::segment::SegmentInfo;
use crate::segment::format::{
    self, BadFrame, FOOTER_LEN, Footer, GROUP_CELLS_MAX, GROUP_COLUMNS_MAX, GROUP_CRC_LEN,
    GROUPS_START, HEADER_LEN, LABELS_MAX, Place, SECTIONS, Section, TRAILER_LEN,
};
use crate::segment::index::Index;
use crate::segment::lists::{self, ColumnRef};
use crate::segment::postings::PostingsBuilder;
use crate::segment::row_group::{self, Cells};
use crate::segment::sets::GroupRef;
use crate::segment::source::Source;
use crate::vfs::Vfs;

/// Row groups of a set whose check is remembered; later ones are checked each time.
const REMEMBERED_GROUPS: u32 = 64;

/// An open segment.
///
/// Everything but the row groups has been checked by the time [`Segment::open`] returns, in one of
/// its two copies. A row group is checked when it is first read.
#[derive(Debug)]
pub(crate) struct Segment {
    path: PathBuf,
    info: SegmentInfo,
    pub(super) footer: Footer,
    source: Source,
    /// What of the index is damaged and was read from its other copy or made anew.
    index_faults: Vec<Error>,
    /// The distinct lists of label names, as rank and text: few, and every set needs one.
    label_lists: Vec<Vec<(u32, Text)>>,
    /// The distinct lists of columns: few, and every row group needs one.
    column_lists: Vec<ColumnList>,
    /// One bit for each of the first row groups of each set: its checksum was right.
    checked: Vec<AtomicU64>,
}

/// A row group, and what is known of it without reading it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowGroup {
    /// How many rows it has.
    pub rows: usize,
    /// Time of its first row.
    pub first: i64,
    /// Time of its last row.
    pub last: i64,
    /// Number of its set.
    pub set: u32,
    /// Its place among the row groups of its set.
    pub(super) index: u32,
    pub(super) group: GroupRef,
}

impl RowGroup {
    /// Number of its list of columns.
    pub(crate) fn columns(&self) -> u32 {
        self.group.columns
    }

    /// Where in the file it begins.
    pub(crate) fn offset(&self) -> u64 {
        self.group.offset
    }

    /// The time its rows cover.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(Timestamp::from_millis(self.first), Timestamp::from_millis(self.last))
    }
}

/// A list of columns, as it is written and as readers want it.
#[derive(Debug)]
pub(super) struct ColumnList {
    pub refs: Vec<ColumnRef>,
    pub columns: Arc<[Column]>,
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
pub(super) type LabelNames = [(u32, Text)];

impl Segment {
    /// Opens a segment and checks its length, header, footer and sections.
    ///
    /// Damage to one copy of these is no error: see [`Segment::index_faults`].
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
        let frame = Frame::new(&source, path)?;
        let header = frame.header(expected.id, expected.tier);
        let (last, first) = (frame.expected(frame.start, expected), frame.first(expected));
        let mut index_faults = Vec::new();
        let (footer, start) = match (last, first) {
            (Ok(footer), first) => {
                index_faults.extend(first.err());
                (footer, frame.start)
            }
            // A right checksum: it is newer, not damaged.
            (Err(newer @ Error::UnsupportedVersion { .. }), _) => return Err(newer),
            (Err(damage), Ok(footer)) => {
                index_faults.push(damage);
                (footer, HEADER_LEN)
            }
            (Err(last), Err(first)) => return Err(header.err().unwrap_or(worse(last, first))),
        };
        index_faults.extend(header.err().map(|error| of_known_version(path, error)));
        let info = info_of(&footer, len, expected.crc);
        if info != *expected {
            return Err(Error::corrupt(path, start, "the footer is that of another segment"));
        }
        let mut segment = Self {
            path: path.to_owned(),
            info,
            footer,
            source,
            index_faults,
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
        let frame = Frame::new(&source, path)?;
        let last = frame.footer(frame.start, None);
        let (footer, crc) = match last {
            Ok(footer) => footer,
            Err(last) => frame.footer(HEADER_LEN, None).map_err(|first| worse(last, first))?,
        };
        Self::open(vfs, path, &info_of(&footer, source.len(), crc))
    }

    /// What of the index is damaged. All of it is there a second time, so nothing is lost yet.
    pub(crate) fn index_faults(&self) -> &[Error] {
        &self.index_faults
    }

    fn check_sections(&mut self) -> Result<()> {
        let mut lost_postings = None;
        for section in SECTIONS {
            let damage = match self.read_section(self.footer.place(section)) {
                Ok(bytes) => {
                    self.source.keep(section, bytes.unwrap_or_default());
                    continue;
                }
                Err(damage) => damage,
            };
            if !section.is_copied() {
                lost_postings = Some(damage);
                continue;
            }
            match self.read_section(self.footer.copy(section)) {
                Ok(bytes) => {
                    self.source.keep(section, bytes.unwrap_or_default());
                    self.footer.swap(section);
                    self.index_faults.push(damage);
                }
                Err(second) => return Err(worse(damage, second)),
            }
        }
        if lost_postings.is_some() {
            // None yet, so that the other sections can be read.
            self.source.keep(Section::Postings, PostingsBuilder::default().to_bytes());
        }
        let index = self.index()?;
        index.symbols.check().map_err(|malformed| self.malformed(Section::Symbols, malformed))?;
        let sets = index.sets.len();
        if u64::from(sets) != self.info.sets {
            return Err(self.malformed(
                Section::Sets,
                Malformed::Bytes("the section has not the number of sets the footer names"),
            ));
        }
        let (label_lists, column_lists) = (read_label_lists(&index)?, read_column_lists(&index)?);
        self.label_lists = label_lists;
        self.column_lists = column_lists;
        self.checked = (0..sets).map(|_| AtomicU64::new(0)).collect();
        match lost_postings {
            Some(damage) => self.make_postings(damage),
            None => Ok(()),
        }
    }

    /// The bytes of a section, unless they are mapped; checked.
    fn read_section(&self, place: Place) -> Result<Option<Vec<u8>>> {
        let Place { offset, len, crc } = place;
        let bytes = self.bytes(offset, len)?;
        let is_sound = salted_crc32(self.info.id, offset, &bytes) == crc;
        if !is_sound && !planted::has(Bug::SectionsUnchecked) {
            return Err(Error::corrupt(&self.path, offset, "the section's checksum differs"));
        }
        Ok(match bytes {
            Cow::Owned(bytes) => Some(bytes),
            Cow::Borrowed(_) => None,
        })
    }

    /// Makes damaged postings anew out of the sets.
    fn make_postings(&mut self, damage: Error) -> Result<()> {
        let Place { offset, len, crc } = self.footer.place(Section::Postings);
        let postings = self.postings_of_sets()?;
        let is_same =
            postings.len() as u64 == len && salted_crc32(self.info.id, offset, &postings) == crc;
        if !is_same {
            return Err(damage);
        }
        self.source.keep(Section::Postings, postings);
        self.index_faults.push(damage);
        Ok(())
    }

    /// What the manifest knows of the segment.
    pub(crate) fn info(&self) -> &SegmentInfo {
        &self.info
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The labels of a set.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such set or the index breaks a rule of the format.
    pub(crate) fn labels(&self, set: u32) -> Result<Labels> {
        self.index()?.labels(set)
    }

    /// The value of one label of a set, if it has it.
    ///
    /// # Errors
    /// As [`Segment::labels`].
    pub(crate) fn label(&self, set: u32, name: &str) -> Result<Option<Text>> {
        self.index()?.label(set, name)
    }

    /// The row groups of a set, in time order. Only their bounds are looked at.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the index breaks a rule of the format.
    pub(crate) fn row_groups(&self, set: u32) -> Result<Vec<RowGroup>> {
        let mut groups = Vec::new();
        self.index()?.each_group(set, |group| {
            groups.push(group);
            Ok(())
        })?;
        Ok(groups)
    }

    /// The rows of a row group; `labels` are those of its set.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when the row group is damaged, [`Error::Io`],
    /// [`Error::UnsupportedVersion`].
    pub(crate) fn rows(&self, labels: &Labels, group: &RowGroup) -> Result<SetRows> {
        let bytes = self.group_bytes(group, true)?;
        let (timestamps, columns, cells) = self.all_cells(group, &bytes)?;
        let mut column_rows = Vec::with_capacity(columns.len());
        for (Column { name, kind }, cells) in columns.iter().zip(cells) {
            let mut values = Values::default();
            chunk::decode(cells.chunk, cells.count, &mut values)
                .map_err(|malformed| self.malformed_group(group, malformed))?;
            let present = cells
                .present
                .map(|present| present.runs().flatten().map(|row| row as u32).collect());
            column_rows.push(ColumnRows { name: name.clone(), kind: *kind, present, values });
        }
        Ok(SetRows { labels: labels.clone(), timestamps, columns: column_rows })
    }

    /// A row group as it is in the file, its checksum checked.
    ///
    /// # Errors
    /// As [`Segment::rows`].
    pub(crate) fn encoded(&self, group: &RowGroup) -> Result<EncodedGroup<'_>> {
        let bytes = self.group_bytes(group, true)?;
        let (timestamps, columns, cells) = self.all_cells(group, &bytes)?;
        let samples = cells.iter().map(|cells| cells.count as u64).sum();
        let columns = columns.iter().map(|column| (column.name.clone(), column.kind)).collect();
        Ok(EncodedGroup { timestamps, columns, samples, bytes })
    }

    /// Timestamps, columns and their cells of a row group.
    pub(super) fn all_cells<'b>(
        &self,
        group: &RowGroup,
        bytes: &'b [u8],
    ) -> Result<(Vec<i64>, &[Column], Vec<Cells<'b>>)> {
        let bad = |malformed| self.malformed_group(group, malformed);
        let mut times = Vec::new();
        self.decode_clock(group.group.clock, &mut times)?;
        let supported = Timestamp::MIN.as_millis()..=Timestamp::MAX.as_millis();
        let is_within = |at: &i64| supported.contains(at);
        if !times.is_sorted_by(|a, b| a < b) || !times.iter().all(is_within) {
            return Err(bad(Malformed::Bytes("the timestamps do not rise or leave the years")));
        }
        let columns = self.columns_of_list(group.group.columns)?;
        if times.len().saturating_mul(columns.len()) > GROUP_CELLS_MAX {
            return Err(bad(Malformed::Bytes("a row group has too many cells")));
        }
        let cells =
            row_group::all_cells(body_of(bytes), times.len(), columns.len()).map_err(bad)?;
        Ok((times, columns, cells))
    }

    /// The columns of a set, sorted by name, with the kind they had last.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such set or the index breaks a rule of the format.
    pub(crate) fn columns(&self, set: u32) -> Result<Vec<Column>> {
        let mut kinds = BTreeMap::new();
        for list in self.column_lists(set, &TimeRange::ALL)? {
            let columns = self.columns_of_list(list)?.iter();
            kinds.extend(columns.map(|column| (column.name.clone(), column.kind)));
        }
        Ok(kinds.into_iter().map(|(name, kind)| Column { name, kind }).collect())
    }

    /// Numbers of the lists of columns of a set's row groups in a range, oldest first, without
    /// repetition next to each other.
    ///
    /// # Errors
    /// As [`Segment::columns`].
    pub(crate) fn column_lists(&self, set: u32, range: &TimeRange) -> Result<Vec<u32>> {
        let groups = self.row_groups(set)?.into_iter();
        let near = groups.filter(|group| group.range().overlaps(range));
        let mut lists: Vec<u32> = near.map(|group| group.columns()).collect();
        lists.dedup();
        Ok(lists)
    }

    /// Shows each chunk of a row group with the number of its values.
    pub(super) fn visit_chunks(
        &self,
        group: &RowGroup,
        mut visit: impl FnMut(&[u8], usize) -> Decoded<()>,
    ) -> Result<()> {
        let bytes = self.group_bytes(group, true)?;
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
            match self.row_groups(set) {
                Ok(groups) => groups
                    .iter()
                    // The bytes are to be seen as they are now.
                    .filter_map(|group| self.group_bytes(group, false).err())
                    .for_each(&mut *found),
                Err(error) => found(error),
            }
        }
    }

    /// Checks both copies of everything but the row groups, as they are in the file now, and hands
    /// over each error.
    pub(crate) fn check_index(&self, found: &mut dyn FnMut(Error)) {
        match Frame::new(&self.source, &self.path) {
            Ok(frame) => {
                let header = frame.header(self.info.id, self.info.tier);
                let footers = [frame.first(&self.info), frame.expected(frame.start, &self.info)];
                let header = header.map_err(|error| of_known_version(&self.path, error));
                header.err().into_iter().for_each(&mut *found);
                footers.into_iter().filter_map(Result::err).for_each(&mut *found);
            }
            Err(error) => found(error),
        }
        for section in SECTIONS {
            let copy = section.is_copied().then(|| self.footer.copy(section));
            let places = [Some(self.footer.place(section)), copy].into_iter().flatten();
            places.filter_map(|place| self.read_section(place).err()).for_each(&mut *found);
        }
        let (start, zeros) = self.footer.padding();
        match self.bytes(start, zeros) {
            Ok(bytes) if bytes.iter().all(|byte| *byte == 0) => {}
            Ok(_) => found(Error::corrupt(&self.path, start, "bytes that fill are not zero")),
            Err(error) => found(error),
        }
    }

    /// The sections, ready to be looked up.
    pub(super) fn index(&self) -> Result<Index<'_>> {
        Index::parse(self)
    }

    /// Decodes a clock; replaces what `into` holds.
    pub(super) fn decode_clock(&self, clock: u32, into: &mut Vec<i64>) -> Result<()> {
        let decoded = self.index()?.clocks.decode(clock, into);
        decoded.map_err(|malformed| self.malformed(Section::Clocks, malformed))
    }

    /// Names of a list of labels.
    pub(super) fn label_list(&self, list: u32) -> Result<&LabelNames> {
        self.label_lists.get(list as usize).map(Vec::as_slice).ok_or_else(|| {
            self.malformed(Section::Sets, Malformed::Bytes("a list of labels does not exist"))
        })
    }

    /// A list of columns.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is none of that number.
    pub(crate) fn columns_of_list(&self, list: u32) -> Result<&Arc<[Column]>> {
        self.column_list(list).map(|list| &list.columns)
    }

    pub(super) fn column_list(&self, list: u32) -> Result<&ColumnList> {
        self.column_lists.get(list as usize).ok_or_else(|| {
            self.malformed(Section::Sets, Malformed::Bytes("a list of columns does not exist"))
        })
    }

    /// How many lists of columns there are.
    pub(super) fn column_lists_len(&self) -> usize {
        self.column_lists.len()
    }

    pub(super) fn section(&self, section: Section) -> &[u8] {
        self.source.section(&self.footer, section)
    }

    /// How many sets there are.
    pub(crate) fn sets(&self) -> u32 {
        self.checked.len() as u32
    }

    /// The time between the oldest and the newest row.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(
            Timestamp::from_millis(self.info.first),
            Timestamp::from_millis(self.info.last),
        )
    }

    /// The bytes of a row group, its checksum included and checked; `from_memory` when a check
    /// that was made before is enough.
    pub(super) fn group_bytes(&self, group: &RowGroup, from_memory: bool) -> Result<Cow<'_, [u8]>> {
        let GroupRef { offset, len, .. } = group.group;
        let bytes = self
            .source
            .bytes(offset, u64::from(len))
            .map_err(|error| Error::io("read", &self.path, error))?;
        let memory = if from_memory && self.source.is_mapped() && group.index < REMEMBERED_GROUPS {
            self.checked.get(group.set as usize).map(|bits| (bits, 1_u64.wrapping_shl(group.index)))
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
        let is_sound = salted_crc32(self.info.id, offset, reader.rest()) == crc;
        if !is_sound && !planted::has(Bug::RowGroupsUnchecked) {
            let what = "the row group's checksum differs";
            return Err(Error::corrupt(&self.path, offset, what));
        }
        if let Some((bits, bit)) = memory {
            bits.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(bytes)
    }

    pub(super) fn malformed(&self, section: Section, malformed: Malformed) -> Error {
        malformed_at(&self.path, self.footer.place(section).offset, malformed)
    }

    pub(super) fn malformed_group(&self, group: &RowGroup, malformed: Malformed) -> Error {
        malformed_at(&self.path, group.group.offset, malformed)
    }
}

/// The fixed parts of a file: header, and both copies of the footer.
struct Frame<'a> {
    source: &'a Source,
    path: &'a Path,
    /// Where the last copy of the footer begins; the first one lies behind the header.
    start: u64,
}

impl<'a> Frame<'a> {
    fn new(source: &'a Source, path: &'a Path) -> Result<Self> {
        let start = source
            .len()
            .checked_sub(FOOTER_LEN.saturating_add(TRAILER_LEN))
            .filter(|start| *start >= GROUPS_START)
            .ok_or_else(|| Error::corrupt(path, 0, "the file is too short for a segment"))?;
        Ok(Self { source, path, start })
    }

    fn bytes(&self, offset: u64, len: u64) -> Result<Cow<'a, [u8]>> {
        self.source.bytes(offset, len).map_err(|error| Error::io("read", self.path, error))
    }

    fn header(&self, id: u64, tier: u8) -> Result<()> {
        let header = format::check_header(&self.bytes(0, HEADER_LEN)?, id, tier);
        header.map_err(|bad| bad_frame_at(self.path, 0, bad))
    }

    /// The copy of the footer that lies at an offset, and its checksum, which holds for both. Without
    /// a number it is believed what segment it is of.
    fn footer(&self, at: u64, id: Option<u64>) -> Result<(Footer, u32)> {
        let bytes = self.bytes(at, FOOTER_LEN.saturating_add(TRAILER_LEN))?;
        let (footer, trailer) = bytes.split_at_checked(FOOTER_LEN as usize).unwrap_or_default();
        let crc = format::check_trailer(trailer).map_err(|malformed| {
            malformed_at(self.path, at.saturating_add(FOOTER_LEN), malformed)
        })?;
        let id = id.unwrap_or_else(|| ByteReader::new(footer).fixed_u64().unwrap_or(0));
        if salted_crc32(id, self.start, footer) != crc {
            return Err(Error::corrupt(self.path, at, "the footer's checksum differs"));
        }
        let footer = Footer::decode(footer, self.start);
        Ok((footer.map_err(|bad| bad_frame_at(self.path, at, bad))?, crc))
    }

    /// The footer at an offset, if it is the one that the manifest tells of.
    fn expected(&self, at: u64, expected: &SegmentInfo) -> Result<Footer> {
        match self.footer(at, Some(expected.id))? {
            (footer, crc) if crc == expected.crc => Ok(footer),
            _ => Err(Error::corrupt(self.path, at, "the footer's checksum differs")),
        }
    }

    fn first(&self, expected: &SegmentInfo) -> Result<Footer> {
        self.expected(HEADER_LEN, expected)
    }
}

/// Of two errors about two copies the one that decides: what the system refuses now it may give later.
fn worse(last: Error, first: Error) -> Error {
    match (last, first) {
        (io @ Error::Io { .. }, _) | (_, io @ Error::Io { .. }) => io,
        (last, _) => last,
    }
}

/// An error of a header whose version, as the footer says, is known. The footer has a checksum and the
/// header has none: so it is the header that is wrong.
fn of_known_version(path: &Path, error: Error) -> Error {
    match error {
        Error::UnsupportedVersion { .. } => {
            Error::corrupt(path, 0, "the header's version is not the footer's")
        }
        error => error,
    }
}

fn read_label_lists(index: &Index<'_>) -> Result<Vec<Vec<(u32, Text)>>> {
    let mut all = Vec::new();
    for list in 0..index.label_names.len() {
        let names = index
            .label_names
            .get(list)
            .and_then(|entry| lists::label_names(entry, index.symbols.len(), LABELS_MAX))
            .map_err(|malformed| index.segment.malformed(Section::LabelNames, malformed))?;
        let named = names.into_iter().map(|name| Ok((name, index.text(name)?)));
        all.push(named.collect::<Result<_>>()?);
    }
    Ok(all)
}

fn read_column_lists(index: &Index<'_>) -> Result<Vec<ColumnList>> {
    let mut all = Vec::new();
    // Many lists have the same names, and a long one is not to be there many times.
    let mut texts: HashMap<u32, Text> = HashMap::new();
    for list in 0..index.columns.len() {
        let refs = index
            .columns
            .get(list)
            .and_then(|entry| lists::columns(entry, index.symbols.len(), GROUP_COLUMNS_MAX))
            .map_err(|malformed| index.segment.malformed(Section::Columns, malformed))?;
        let mut columns = Vec::with_capacity(refs.len());
        for column in &refs {
            let name = match texts.get(&column.name) {
                Some(name) => name.clone(),
                None => {
                    let name = index.text(column.name)?;
                    texts.insert(column.name, name.clone());
                    name
                }
            };
            columns.push(Column { name, kind: column.kind });
        }
        all.push(ColumnList { refs, columns: columns.into() });
    }
    Ok(all)
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

fn bad_frame_at(path: &Path, offset: u64, bad: BadFrame) -> Error {
    match bad {
        BadFrame::Malformed(malformed) => malformed_at(path, offset, malformed),
        BadFrame::Version(found) => Error::UnsupportedVersion {
            path: path.to_owned(),
            found: u32::from(found),
            max: u32::from(format::VERSION),
        },
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
