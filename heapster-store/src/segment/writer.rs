//! [`SegmentWriter`]: writes a segment front to back, row groups first, then the index, and last what
//! stands at the front: the first copy of the footer.

use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use heapster_core::{Labels, MetricKind, Text, Timestamp};

use crate::chunk::{CHUNK_VALUES_MAX, Effort};
use crate::codec::salted_crc32;
use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::rows::SetRows;
use crate::segment::clocks::ClocksBuilder;
use crate::segment::format::{
    self, Footer, GROUP_CELLS_MAX, GROUP_COLUMNS_MAX, GROUP_CRC_LEN, GROUPS_START, HEADER_LEN,
    LABELS_MAX, Layout, Place, SECTIONS, Section,
};
use crate::segment::lists::{self, ColumnRef};
use crate::segment::postings::PostingsBuilder;
use crate::segment::row_group;
use crate::segment::sets::{self, GroupRef, SetRef};
use crate::segment::symbols::{self, SYMBOL_LEN_MAX};
use crate::segment::table::TableBuilder;
use crate::segment::{EncodedGroup, SegmentInfo};
use crate::vfs::{Vfs, VfsFile, write_all_at};

/// Bytes that are collected before they are written.
const BUFFER_LEN: usize = 256 << 10;

/// Writes one segment.
///
/// After an error the file is of no use; the caller removes it. Nothing is durable before
/// [`SegmentWriter::finish`] returns and the caller has renamed the file and synced its directory.
#[derive(Debug)]
pub(crate) struct SegmentWriter<'a> {
    file: Box<dyn VfsFile>,
    // Keeps the file system borrowed as long as one of its files is being written.
    _vfs: &'a dyn Vfs,
    path: PathBuf,
    id: u64,
    tier: u8,
    effort: Effort,
    buffer: Vec<u8>,
    /// Where the buffer belongs in the file.
    buffer_offset: u64,
    /// Strings in the order they came; [`SegmentWriter::finish`] sorts them.
    symbols: HashMap<Text, u32>,
    label_names: HashMap<Vec<u32>, u32>,
    columns: HashMap<Vec<ColumnRef>, u32>,
    clocks: ClocksBuilder,
    sets: Vec<SetRef>,
    /// Labels and newest time of the last set.
    latest: Option<(Labels, i64)>,
    first: i64,
    last: i64,
    samples: u64,
    groups: u64,
}

impl<'a> SegmentWriter<'a> {
    /// Creates the file.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::DiskFull`].
    pub(crate) fn create(
        vfs: &'a dyn Vfs,
        path: &Path,
        id: u64,
        tier: u8,
        effort: Effort,
    ) -> Result<Self> {
        let file = vfs.create_new(path).map_err(|error| Error::io("create", path, error))?;
        Ok(Self {
            file,
            _vfs: vfs,
            path: path.to_owned(),
            id,
            tier,
            effort,
            buffer: front(id, tier),
            buffer_offset: 0,
            symbols: HashMap::new(),
            label_names: HashMap::new(),
            columns: HashMap::new(),
            clocks: ClocksBuilder::new(),
            sets: Vec::new(),
            latest: None,
            first: i64::MAX,
            last: i64::MIN,
            samples: 0,
            groups: 0,
        })
    }

    /// Whether chunks are encoded for size.
    pub(crate) fn is_cold(&self) -> bool {
        self.effort == Effort::Small
    }

    /// Adds rows. Sets come in ascending order of labels; the same labels may follow again with
    /// later times, which makes another row group. Rows beyond the limits of a row group are
    /// split.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Io`] and [`Error::DiskFull`].
    ///
    /// # Panics
    /// When the rows break the rules of [`SetRows`] or come out of order (invariants S1 to S4).
    pub(crate) fn push(&mut self, rows: &SetRows) -> Result<()> {
        check_rows(rows);
        if rows.columns.len() > GROUP_COLUMNS_MAX {
            return Err(self.too_large("columns of a set", GROUP_COLUMNS_MAX as u64));
        }
        if rows.labels.len() > LABELS_MAX {
            return Err(self.too_large("labels of a set", LABELS_MAX as u64));
        }
        let rows_max = CHUNK_VALUES_MAX.min(GROUP_CELLS_MAX / rows.columns.len().max(1));
        if rows.timestamps.len() <= rows_max {
            return self.push_group(rows);
        }
        for start in (0..rows.timestamps.len()).step_by(rows_max) {
            let end = rows.timestamps.len().min(start.saturating_add(rows_max));
            let part = rows.slice(start..end);
            if !part.columns.is_empty() {
                self.push_group(&part)?;
            }
        }
        Ok(())
    }

    /// Adds a row group as another segment has it; the order is that of [`SegmentWriter::push`]. It
    /// is to be encoded with the effort of this segment.
    ///
    /// # Errors
    /// As [`SegmentWriter::push`].
    pub(crate) fn push_encoded(&mut self, labels: &Labels, group: &EncodedGroup<'_>) -> Result<()> {
        let columns = group.columns.iter().map(|(name, kind)| (name, *kind));
        self.put_group(labels, &group.timestamps, columns, group.body(), group.samples)
    }

    fn push_group(&mut self, rows: &SetRows) -> Result<()> {
        let columns = rows.columns.iter().map(|column| (&column.name, column.kind));
        let body = row_group::encode(rows, self.effort);
        self.put_group(&rows.labels, &rows.timestamps, columns, &body, rows.samples())
    }

    fn put_group<'n>(
        &mut self,
        labels: &Labels,
        timestamps: &[i64],
        columns: impl Iterator<Item = (&'n Text, MetricKind)>,
        body: &[u8],
        samples: u64,
    ) -> Result<()> {
        let first = timestamps.first().copied().unwrap_or(0);
        let last = timestamps.last().copied().unwrap_or(0);
        let is_new = match &self.latest {
            None => true,
            Some((latest, newest)) => {
                assert!(
                    latest < labels || latest == labels && *newest < first,
                    "bug: rows of {labels} are out of order (invariant S4)",
                );
                latest != labels
            }
        };
        if is_new {
            if self.sets.len() >= u32::MAX as usize {
                return Err(self.too_large("sets", u64::from(u32::MAX)));
            }
            let set = self.new_set(labels)?;
            self.sets.push(set);
        }
        let columns = columns
            .map(|(name, kind)| Ok(ColumnRef { name: self.symbol(name)?, kind }))
            .collect::<Result<Vec<_>>>()?;
        let next = self.columns.len() as u32;
        let columns = *self.columns.entry(columns).or_insert(next);
        let clock = self.clocks.add(timestamps);
        let offset = self.offset();
        let Ok(len) = u32::try_from((body.len() as u64).saturating_add(GROUP_CRC_LEN)) else {
            return Err(self.too_large("bytes of a row group", u64::from(u32::MAX)));
        };
        self.buffer.extend_from_slice(&salted_crc32(self.id, offset, body).to_le_bytes());
        self.buffer.extend_from_slice(body);
        if let Some(set) = self.sets.last_mut() {
            set.groups.push(GroupRef { offset, len, clock, columns });
        }
        if is_new {
            self.latest = Some((labels.clone(), last));
        } else if let Some((_, newest)) = &mut self.latest {
            *newest = last;
        }
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.groups = self.groups.saturating_add(1);
        self.samples = self.samples.saturating_add(samples);
        if self.buffer.len() >= BUFFER_LEN { self.write_buffer() } else { Ok(()) }
    }

    fn new_set(&mut self, labels: &Labels) -> Result<SetRef> {
        let mut names = Vec::with_capacity(labels.len());
        let mut values = Vec::with_capacity(labels.len());
        for label in labels {
            names.push(self.symbol(&label.name)?);
            values.push(self.symbol(&label.value)?);
        }
        let next = self.label_names.len() as u32;
        let label_names = *self.label_names.entry(names).or_insert(next);
        Ok(SetRef { label_names, label_values: values, groups: Vec::new() })
    }

    fn symbol(&mut self, text: &Text) -> Result<u32> {
        if let Some(number) = self.symbols.get(text.as_str()) {
            return Ok(*number);
        }
        if text.len() > SYMBOL_LEN_MAX {
            return Err(self.too_large("bytes of a name or label value", SYMBOL_LEN_MAX as u64));
        }
        let Ok(next) = u32::try_from(self.symbols.len()) else {
            return Err(self.too_large("distinct strings", u64::from(u32::MAX)));
        };
        self.symbols.insert(text.clone(), next);
        Ok(next)
    }

    /// Writes index and footer and syncs the file. The caller renames it and syncs the directory.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Io`] and [`Error::DiskFull`].
    pub(crate) fn finish(mut self) -> Result<SegmentInfo> {
        let groups_end = self.offset();
        let sections = self.sections()?;
        let layout = Layout::new(groups_end, sections.each_ref().map(|bytes| bytes.len() as u64));
        let place = |(offset, bytes): (u64, &Vec<u8>)| Place {
            offset,
            len: bytes.len() as u64,
            crc: salted_crc32(self.id, offset, bytes),
        };
        let (mut places, mut copies) = ([Place::default(); _], [Place::default(); _]);
        for (slot, at) in places.iter_mut().zip(layout.sections.into_iter().zip(&sections)) {
            *slot = place(at);
        }
        let of_copies = SECTIONS.iter().zip(layout.copies.into_iter().zip(&sections));
        for (slot, (section, at)) in copies.iter_mut().zip(of_copies) {
            if section.is_copied() {
                *slot = place(at);
            }
        }
        // The copies, then the postings, then the sections.
        for (is_copied, zeros) in [(true, 0), (false, 0), (true, layout.padding.1)] {
            self.buffer.resize(self.buffer.len().saturating_add(zeros as usize), 0);
            for (section, bytes) in SECTIONS.iter().zip(&sections) {
                if section.is_copied() == is_copied {
                    self.buffer.extend_from_slice(bytes);
                    self.write_buffer()?;
                }
            }
        }
        let is_empty = self.sets.is_empty();
        let footer = Footer {
            id: self.id,
            tier: self.tier,
            is_cold: self.is_cold(),
            first: if is_empty { 0 } else { self.first },
            last: if is_empty { 0 } else { self.last },
            sets: self.sets.len() as u64,
            samples: self.samples,
            groups: self.groups,
            groups_end,
            sections: places,
            copies,
        };
        let mut bytes = footer.encode();
        let crc = salted_crc32(self.id, self.offset(), &bytes);
        bytes.extend_from_slice(&format::trailer(crc));
        self.buffer.extend_from_slice(&bytes);
        self.write_buffer()?;
        write_all_at(&*self.file, &bytes, HEADER_LEN)
            .map_err(|error| Error::io("write", &self.path, error))?;
        if !planted::has(Bug::SegmentNotSynced) {
            self.file.sync().map_err(|error| Error::io("sync", &self.path, error))?;
        }
        Ok(SegmentInfo {
            id: self.id,
            tier: self.tier,
            is_cold: self.is_cold(),
            len: self.buffer_offset,
            crc,
            first: footer.first,
            last: footer.last,
            sets: footer.sets,
            samples: footer.samples,
        })
    }

    /// The bytes of the sections, in the order of [`SECTIONS`].
    fn sections(&mut self) -> Result<[Vec<u8>; SECTIONS.len()]> {
        let mut sorted: Vec<(Text, u32)> = self.symbols.drain().collect();
        sorted.sort_unstable();
        // From the number a string had so far to its rank.
        let mut ranks = vec![0_u32; sorted.len()];
        for (rank, (_, number)) in (0_u32..).zip(&sorted) {
            if let Some(slot) = ranks.get_mut(*number as usize) {
                *slot = rank;
            }
        }
        let rank = |number: u32| ranks.get(number as usize).copied().unwrap_or(0);
        let texts: Vec<Text> = sorted.into_iter().map(|(text, _)| text).collect();

        let label_names: Vec<Vec<u32>> = in_order(&self.label_names)
            .into_iter()
            .map(|names| names.iter().map(|name| rank(*name)).collect())
            .collect();
        let columns: Vec<Vec<ColumnRef>> = in_order(&self.columns)
            .into_iter()
            .map(|columns| {
                let ranked = |column: &ColumnRef| ColumnRef { name: rank(column.name), ..*column };
                columns.iter().map(ranked).collect()
            })
            .collect();
        for set in &mut self.sets {
            for value in &mut set.label_values {
                *value = rank(*value);
            }
        }
        let postings = postings_of(&self.sets, &label_names, &columns);

        let mut sections: [Vec<u8>; SECTIONS.len()] = Default::default();
        for (section, out) in SECTIONS.into_iter().zip(&mut sections) {
            let done = match section {
                Section::Symbols => symbols::encode(&texts, out),
                Section::LabelNames => {
                    encode_table(&label_names, |names, entry| lists::put_names(names, entry), out)
                }
                Section::Columns => {
                    encode_table(&columns, |list, entry| lists::put_columns(list, entry), out)
                }
                Section::Sets => encode_table(&self.sets, sets::put, out),
                Section::Postings => postings.finish(out),
                Section::Clocks => self.clocks.finish(out),
            };
            done.ok_or_else(|| self.too_large("bytes of a section", u64::from(u32::MAX)))?;
        }
        Ok(sections)
    }

    fn offset(&self) -> u64 {
        self.buffer_offset.saturating_add(self.buffer.len() as u64)
    }

    fn write_buffer(&mut self) -> Result<()> {
        write_all_at(&*self.file, &self.buffer, self.buffer_offset)
            .map_err(|error| Error::io("write", &self.path, error))?;
        self.buffer_offset = self.offset();
        self.buffer.clear();
        Ok(())
    }

    fn too_large(&self, what: &'static str, max: u64) -> Error {
        Error::TooLarge { path: self.path.clone(), what, max }
    }
}

/// What a file begins with while it is written: the header, and room for the footer's first copy.
fn front(id: u64, tier: u8) -> Vec<u8> {
    let mut front = format::header(id, tier);
    front.resize(GROUPS_START as usize, 0);
    front
}

/// The postings of sets whose symbols are ranks.
pub(super) fn postings_of(
    sets: &[SetRef],
    label_names: &[Vec<u32>],
    columns: &[Vec<ColumnRef>],
) -> PostingsBuilder {
    let mut postings = PostingsBuilder::default();
    for (number, set) in (0_u32..).zip(sets) {
        let names = label_names.get(set.label_names as usize).into_iter().flatten();
        for (name, value) in names.zip(&set.label_values) {
            postings.add_label(number, *name, *value);
        }
        for group in &set.groups {
            for column in columns.get(group.columns as usize).into_iter().flatten() {
                postings.add_metric(number, column.name);
            }
        }
    }
    postings
}

fn encode_table<T>(items: &[T], put: impl Fn(&T, &mut Vec<u8>), out: &mut Vec<u8>) -> Option<()> {
    let mut table = TableBuilder::new();
    let mut entry = Vec::new();
    for item in items {
        entry.clear();
        put(item, &mut entry);
        table.push(&entry);
    }
    table.finish(out)
}

/// The keys of a map from keys to 0, 1, 2 … in the order of the numbers.
fn in_order<K>(numbers: &HashMap<K, u32>) -> Vec<&K> {
    let mut keys: Vec<_> = numbers.iter().map(|(key, number)| (*number, key)).collect();
    keys.sort_unstable_by_key(|(number, _)| *number);
    keys.into_iter().map(|(_, key)| key).collect()
}

/// Asserts the rules of [`SetRows`] just before bytes are made of them.
fn check_rows(rows: &SetRows) {
    let supported = Timestamp::MIN.as_millis()..=Timestamp::MAX.as_millis();
    assert!(
        !rows.timestamps.is_empty()
            && rows.timestamps.is_sorted_by(|a, b| a < b)
            && rows.timestamps.iter().all(|at| supported.contains(at)),
        "bug: timestamps of {} do not rise or leave the supported years (invariant S1)",
        rows.labels
    );
    assert!(
        !rows.columns.is_empty() && rows.columns.is_sorted_by(|a, b| a.name < b.name),
        "bug: columns of {} are not sorted (invariant S2)",
        rows.labels
    );
    for column in &rows.columns {
        let values = match &column.present {
            None => rows.timestamps.len(),
            Some(present) => {
                assert!(
                    present.is_sorted_by(|a, b| a < b)
                        && present
                            .last()
                            .is_some_and(|row| { (*row as usize) < rows.timestamps.len() }),
                    "bug: rows of column {} of {} do not rise (invariant S3)",
                    column.name,
                    rows.labels
                );
                present.len()
            }
        };
        assert!(
            values == column.values.len() && values > 0,
            "bug: column {} of {} has {} values for {values} rows (invariant S3)",
            column.name,
            rows.labels,
            column.values.len()
        );
    }
}
