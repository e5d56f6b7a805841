//! Lists that many sets share: their label names, and the columns of their row groups.
//!
//! Containers differ in the values of their labels, hardly ever in the names; so a set refers to a
//! list of names by its number.

use heapster_core::MetricKind;

use crate::codec::{ByteReader, Decoded, Malformed, put_u64};

/// A column as a segment knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ColumnRef {
    /// Rank of the name.
    pub name: u32,
    pub kind: MetricKind,
}

/// Appends ranks that rise strictly.
pub(super) fn put_names(names: &[u32], out: &mut Vec<u8>) {
    put_u64(out, names.len() as u64);
    let mut next = 0_u32;
    for name in names {
        put_u64(out, u64::from(name.wrapping_sub(next)));
        next = name.wrapping_add(1);
    }
}

/// Reads ranks below `symbols` and at most `max` of them.
fn get_names(reader: &mut ByteReader<'_>, symbols: u32, max: usize) -> Decoded<Vec<u32>> {
    // Each takes at least a byte, so a wrong count costs no more memory than the file has bytes.
    let count = reader.len_up_to(max.min(reader.rest().len()))?;
    let mut names = Vec::with_capacity(count);
    let mut next = 0_u32;
    for _ in 0..count {
        let gap = reader.u32_up_to(symbols)?;
        let name = next
            .checked_add(gap)
            .filter(|name| *name < symbols)
            .ok_or(Malformed::Bytes("a name is no symbol"))?;
        names.push(name);
        next = name.wrapping_add(1);
    }
    Ok(names)
}

/// Reads a list of label names.
pub(super) fn label_names(entry: &[u8], symbols: u32, max: usize) -> Decoded<Vec<u32>> {
    let mut reader = ByteReader::new(entry);
    let names = get_names(&mut reader, symbols, max)?;
    reader.finish()?;
    Ok(names)
}

/// Appends a list of columns, sorted by name.
pub(super) fn put_columns(columns: &[ColumnRef], out: &mut Vec<u8>) {
    let names: Vec<u32> = columns.iter().map(|column| column.name).collect();
    put_names(&names, out);
    out.extend(columns.iter().map(|column| match column.kind {
        MetricKind::Cumulative => 1,
        MetricKind::Gauge => 2,
        MetricKind::Delta => 3,
    }));
}

/// Reads a list of columns.
pub(super) fn columns(entry: &[u8], symbols: u32, max: usize) -> Decoded<Vec<ColumnRef>> {
    let mut reader = ByteReader::new(entry);
    let names = get_names(&mut reader, symbols, max)?;
    let kinds = reader.take(names.len())?;
    reader.finish()?;
    names
        .into_iter()
        .zip(kinds)
        .map(|(name, kind)| {
            let kind = match kind {
                1 => MetricKind::Cumulative,
                2 => MetricKind::Gauge,
                3 => MetricKind::Delta,
                0 => return Err(Malformed::Bytes("a column has the reserved kind 0")),
                unknown => return Err(Malformed::Unknown(*unknown)),
            };
            Ok(ColumnRef { name, kind })
        })
        .collect()
}
