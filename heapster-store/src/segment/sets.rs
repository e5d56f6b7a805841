//! Sets: the values of their labels and where their row groups lie.

use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use crate::segment::format::{GROUP_CRC_LEN, GROUPS_START, LABELS_MAX};

/// Where a row group lies, and what it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupRef {
    /// Offset of its checksum in the file.
    pub offset: u64,
    /// Length, checksum included.
    pub len: u32,
    /// Number of its list of timestamps.
    pub clock: u32,
    /// Number of its list of columns.
    pub columns: u32,
}

/// A set that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SetRef {
    /// Number of its list of label names.
    pub label_names: u32,
    /// Rank of the value of each label.
    pub label_values: Vec<u32>,
    /// Its row groups, in time order.
    pub groups: Vec<GroupRef>,
}

/// Appends a set.
pub(super) fn put(set: &SetRef, out: &mut Vec<u8>) {
    put_u64(out, u64::from(set.label_names));
    put_u64(out, set.label_values.len() as u64);
    for value in &set.label_values {
        put_u64(out, u64::from(*value));
    }
    let mut end = GROUPS_START;
    for group in &set.groups {
        put_u64(out, group.offset.wrapping_sub(end));
        put_u64(out, u64::from(group.len));
        put_u64(out, u64::from(group.clock));
        put_u64(out, u64::from(group.columns));
        end = group.offset.wrapping_add(u64::from(group.len));
    }
}

/// A set as it is written: read front to back, nothing copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetEntry<'a> {
    /// Number of its list of label names.
    pub label_names: u32,
    /// How many labels it has.
    pub labels: usize,
    /// The ranks of their values, and what follows.
    rest: ByteReader<'a>,
}

impl<'a> SetEntry<'a> {
    pub(super) fn parse(entry: &'a [u8]) -> Decoded<Self> {
        let mut reader = ByteReader::new(entry);
        let label_names = reader.u32_up_to(u32::MAX)?;
        let labels = reader.len_up_to(LABELS_MAX)?;
        Ok(Self { label_names, labels, rest: reader })
    }

    /// The rank of the value of each label.
    pub(super) fn label_values(&self) -> impl Iterator<Item = Decoded<u32>> + use<'a> {
        let mut reader = self.rest;
        (0..self.labels).map(move |_| reader.u32_up_to(u32::MAX))
    }

    /// The row groups, in time order; at least one. `groups_end` is where the row groups of the
    /// file end.
    pub(super) fn groups(
        &self,
        groups_end: u64,
    ) -> Decoded<impl Iterator<Item = Decoded<GroupRef>> + use<'a>> {
        let mut reader = self.rest;
        for _ in 0..self.labels {
            reader.u64()?;
        }
        if reader.rest().is_empty() {
            return Err(Malformed::Bytes("a set has no row group"));
        }
        let mut end = GROUPS_START;
        Ok(std::iter::from_fn(move || {
            if reader.rest().is_empty() {
                return None;
            }
            let group = group(&mut reader, &mut end, groups_end);
            if group.is_err() {
                reader = ByteReader::new(&[]);
            }
            Some(group)
        }))
    }
}

/// Reads a row group that begins at or after `end`, and moves that to its end.
fn group(reader: &mut ByteReader<'_>, end: &mut u64, groups_end: u64) -> Decoded<GroupRef> {
    let offset = end.checked_add(reader.u64()?);
    let len = reader.u32_up_to(u32::MAX)?;
    let clock = reader.u32_up_to(u32::MAX)?;
    let columns = reader.u32_up_to(u32::MAX)?;
    let bounds = offset.and_then(|start| Some((start, start.checked_add(u64::from(len))?)));
    let Some((offset, group_end)) = bounds.filter(|(_, group_end)| *group_end <= groups_end) else {
        return Err(Malformed::Bytes("a row group lies outside the file's row groups"));
    };
    if u64::from(len) <= GROUP_CRC_LEN {
        return Err(Malformed::Bytes("a row group is empty"));
    }
    *end = group_end;
    Ok(GroupRef { offset, len, clock, columns })
}
