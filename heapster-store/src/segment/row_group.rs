//! Row groups: the chunks of a run of rows of one set, and which rows each column has.

use crate::chunk::{self, Effort, chunk_len_max};
use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use crate::rows::SetRows;

/// One column of a row group: its rows and its chunk.
#[derive(Clone, Debug)]
pub(super) struct Cells<'a> {
    /// Runs of rows that have a value, start included, end excluded; `None` when every row has one.
    pub present: Option<Vec<(u32, u32)>>,
    /// How many values there are.
    pub count: usize,
    /// The values.
    pub chunk: &'a [u8],
}

/// The body of a row group: what follows its checksum.
pub(super) fn encode(rows: &SetRows, effort: Effort) -> Vec<u8> {
    let mut head = Vec::new();
    let mut chunks = Vec::new();
    for column in &rows.columns {
        let start = chunks.len();
        let is_sparse = match &column.present {
            Some(present) if present.len() < rows.timestamps.len() => {
                put_present(present, rows.timestamps.len(), &mut chunks);
                true
            }
            _ => false,
        };
        chunk::encode(&column.values, effort, &mut chunks);
        let len = chunks.len().saturating_sub(start) as u64;
        put_u64(&mut head, len << 1 | u64::from(is_sparse));
    }
    head.append(&mut chunks);
    head
}

/// Appends lengths of runs of rows, in turn without and with a value, until the last row.
fn put_present(present: &[u32], rows: usize, out: &mut Vec<u8>) {
    let mut end = 0_u64;
    for run in present.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let start = u64::from(run.first().copied().unwrap_or(0));
        put_u64(out, start.wrapping_sub(end));
        put_u64(out, run.len() as u64);
        end = start.wrapping_add(run.len() as u64);
    }
    if end < rows as u64 {
        put_u64(out, (rows as u64).wrapping_sub(end));
    }
}

fn get_present(reader: &mut ByteReader<'_>, rows: usize) -> Decoded<Vec<(u32, u32)>> {
    let mut runs = Vec::new();
    let mut at = 0_usize;
    while at < rows {
        let absent = reader.len_up_to(rows.saturating_sub(at))?;
        if absent == 0 && at > 0 {
            return Err(Malformed::Bytes("a run of missing rows is empty"));
        }
        at = at.saturating_add(absent);
        if at == rows {
            break;
        }
        let present = reader.len_up_to(rows.saturating_sub(at))?;
        if present == 0 {
            return Err(Malformed::Bytes("a run of present rows is empty"));
        }
        let end = at.saturating_add(present);
        runs.push((at as u32, end as u32));
        at = end;
    }
    Ok(runs)
}

/// Finds the cells of the `index`-th of `columns` columns.
pub(super) fn cells(body: &[u8], rows: usize, columns: usize, index: usize) -> Decoded<Cells<'_>> {
    let mut head = ByteReader::new(body);
    let mut before = 0_usize;
    let mut wanted = None;
    for column in 0..columns {
        let (len, is_sparse) = directory_entry(&mut head, rows)?;
        if column == index {
            wanted = Some((before, len, is_sparse));
        }
        before = before.saturating_add(len);
    }
    let (before, len, is_sparse) = wanted.ok_or(Malformed::Bytes("a column does not exist"))?;
    let mut chunks = head;
    chunks.take(before)?;
    read_cells(chunks.take(len)?, rows, is_sparse)
}

/// The cells of all columns.
pub(super) fn all_cells(body: &[u8], rows: usize, columns: usize) -> Decoded<Vec<Cells<'_>>> {
    let mut head = ByteReader::new(body);
    let lens: Vec<_> =
        (0..columns).map(|_| directory_entry(&mut head, rows)).collect::<Decoded<_>>()?;
    let cells = lens
        .into_iter()
        .map(|(len, is_sparse)| read_cells(head.take(len)?, rows, is_sparse))
        .collect::<Decoded<Vec<_>>>()?;
    head.finish()?;
    Ok(cells)
}

fn directory_entry(head: &mut ByteReader<'_>, rows: usize) -> Decoded<(usize, bool)> {
    let max = chunk_len_max(rows).saturating_mul(2);
    let entry = head.len_up_to(max)?;
    Ok((entry >> 1, entry & 1 == 1))
}

fn read_cells(bytes: &[u8], rows: usize, is_sparse: bool) -> Decoded<Cells<'_>> {
    if !is_sparse {
        return Ok(Cells { present: None, count: rows, chunk: bytes });
    }
    let mut reader = ByteReader::new(bytes);
    let present = get_present(&mut reader, rows)?;
    let count =
        present.iter().map(|(start, end)| end.saturating_sub(*start) as usize).sum::<usize>();
    if count == 0 || count == rows {
        return Err(Malformed::Bytes("a sparse column has no row or all of them"));
    }
    Ok(Cells { present: Some(present), count, chunk: reader.rest() })
}
