//! Sets: the values of their labels and where their row groups lie.

use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use crate::segment::format::{GROUP_CRC_LEN, HEADER_LEN, LABELS_MAX};

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

/// A set as a segment knows it.
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
    let mut end = HEADER_LEN;
    for group in &set.groups {
        put_u64(out, group.offset.wrapping_sub(end));
        put_u64(out, u64::from(group.len));
        put_u64(out, u64::from(group.clock));
        put_u64(out, u64::from(group.columns));
        end = group.offset.wrapping_add(u64::from(group.len));
    }
}

/// Reads the label part of a set: the number of the list of names, and the ranks of the values.
pub(super) fn labels(entry: &[u8]) -> Decoded<(u32, Vec<u32>)> {
    let mut reader = ByteReader::new(entry);
    let label_names = reader.u32_up_to(u32::MAX)?;
    // Each takes at least a byte, so a wrong count costs no more memory than the file has bytes.
    let count = reader.len_up_to(LABELS_MAX.min(reader.rest().len()))?;
    let values = (0..count).map(|_| reader.u32_up_to(u32::MAX)).collect::<Decoded<_>>()?;
    Ok((label_names, values))
}

/// Reads the row groups of a set. `groups_end` is where the row groups of the file end.
pub(super) fn groups(entry: &[u8], groups_end: u64) -> Decoded<Vec<GroupRef>> {
    let mut reader = ByteReader::new(entry);
    reader.u64()?;
    for _ in 0..reader.len_up_to(LABELS_MAX)? {
        reader.u64()?;
    }
    let mut groups = Vec::new();
    let mut end = HEADER_LEN;
    while !reader.rest().is_empty() {
        let offset = end.checked_add(reader.u64()?);
        let len = reader.u32_up_to(u32::MAX)?;
        let clock = reader.u32_up_to(u32::MAX)?;
        let columns = reader.u32_up_to(u32::MAX)?;
        let bounds = offset.and_then(|start| Some((start, start.checked_add(u64::from(len))?)));
        let Some((offset, group_end)) = bounds.filter(|(_, group_end)| *group_end <= groups_end)
        else {
            return Err(Malformed::Bytes("a row group lies outside the file's row groups"));
        };
        if u64::from(len) <= GROUP_CRC_LEN {
            return Err(Malformed::Bytes("a row group is empty"));
        }
        groups.push(GroupRef { offset, len, clock, columns });
        end = group_end;
    }
    if groups.is_empty() {
        return Err(Malformed::Bytes("a set has no row group"));
    }
    Ok(groups)
}
