//! Row groups: the chunks of a run of rows of one set, and which rows each column has.

use std::ops::Range;

use crate::chunk::{self, Effort, chunk_len_max};
use crate::codec::{ByteReader, Decoded, Malformed, put_u64};
use crate::rows::SetRows;

/// One column of a row group: its rows and its chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells<'a> {
    /// The rows that have a value; `None` when every row has one.
    pub present: Option<Present<'a>>,
    /// How many values there are.
    pub count: usize,
    /// The values.
    pub chunk: &'a [u8],
}

/// Rows that have a value: some but not all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    /// The first of them.
    pub first: usize,
    /// The last of them.
    pub last: usize,
    runs: PresentRuns<'a>,
}

impl<'a> Present<'a> {
    /// Runs of rows that have a value, rising.
    pub(super) fn runs(&self) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let mut runs = self.runs;
        // They were read once before, so none is malformed.
        std::iter::from_fn(move || runs.next().ok().flatten())
    }
}

/// Reads runs of rows that have a value.
#[derive(Clone, Copy, Debug)]
struct PresentRuns<'a> {
    reader: ByteReader<'a>,
    rows: usize,
    at: usize,
}

impl PresentRuns<'_> {
    fn next(&mut self) -> Decoded<Option<Range<usize>>> {
        let left = self.rows.saturating_sub(self.at);
        if left == 0 {
            return Ok(None);
        }
        let absent = self.reader.len_up_to(left)?;
        if absent == 0 && self.at > 0 {
            return Err(Malformed::Bytes("a run of missing rows is empty"));
        }
        let start = self.at.saturating_add(absent);
        self.at = start;
        if start == self.rows {
            return Ok(None);
        }
        let present = self.reader.len_up_to(self.rows.saturating_sub(start))?;
        if present == 0 {
            return Err(Malformed::Bytes("a run of present rows is empty"));
        }
        self.at = start.saturating_add(present);
        Ok(Some(start..self.at))
    }
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
    let runs = PresentRuns { reader: ByteReader::new(bytes), rows, at: 0 };
    let (mut all, mut count, mut first, mut last) = (runs, 0_usize, rows, 0_usize);
    while let Some(run) = all.next()? {
        first = first.min(run.start);
        last = run.end.saturating_sub(1);
        count = count.saturating_add(run.len());
    }
    if count == 0 || count == rows {
        return Err(Malformed::Bytes("a sparse column has no row or all of them"));
    }
    let present = Some(Present { first, last, runs });
    Ok(Cells { present, count, chunk: all.reader.rest() })
}
