//! The write-ahead log: one file per generation of the head, one record per batch.
//!
//! A file is only ever appended to by the process that created it. After a restart it is read and
//! then left alone until the rows are in a segment; new batches go to a new file.

pub(crate) mod bytes;
pub(crate) mod format;
pub(crate) mod replay;
pub(crate) mod writer;

use format::{FILE_HEADER_BYTES, MAGIC, VERSION};

/// The first bytes of a file with that id.
pub(crate) fn file_header(file_id: u64) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&file_id.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The payload of a *mark*: bytes of the file up to there were on the disk when it was written. No
/// batch begins with a zero, since sequences begin at 1.
pub(crate) fn put_mark(into: &mut Vec<u8>, synced: u64) {
    into.push(0);
    bytes::put_varint(into, synced);
}

/// What a mark says; `None` for a batch.
fn mark_of(payload: &[u8]) -> Option<u64> {
    let (0, rest) = payload.split_first()? else { return None };
    bytes::Reader::new(rest).varint().ok()
}

/// Checksum of a record: it holds only in this file at this offset, so a record that a disk wrote
/// to the wrong place or kept from an older file does not pass.
pub(crate) fn record_crc(file_id: u64, offset: u64, payload: &[u8]) -> u32 {
    salted_crc(salt_of(file_id), offset, payload)
}

/// What the file's id contributes to the checksums of its records.
fn salt_of(file_id: u64) -> u32 {
    crc32fast::hash(&file_id.to_le_bytes())
}

/// The salt once more, out of the checksum of the header: magic and version are known, so the rest
/// of that checksum is the file id's.
fn salt_of_header_crc(crc: u32) -> u32 {
    let mut known = crc32fast::Hasher::new();
    known.update(&MAGIC);
    known.update(&VERSION.to_le_bytes());
    known.combine(&crc32fast::Hasher::new_with_initial_len(0, size_of::<u64>() as u64));
    crc ^ known.finalize()
}

fn salted_crc(salt: u32, offset: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&offset.to_le_bytes());
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use heapster_core::Value;

    use crate::head::row::{Cells, Tail};

    #[test]
    fn the_worked_example_of_the_page_is_what_is_written() {
        let mut row = Vec::new();
        let mut cells = Cells::default();
        cells.clear(2);
        cells.set(0, Value::Int(7));
        cells.set(1, Value::Int(0));
        Tail::default().encode(5, 1000, &cells, &mut row);
        let page = include_str!("../../../docs/format/wal.md");
        let example = page.split("## Worked example").nth(1).unwrap();
        let lines = example.split("```").nth(1).unwrap().lines();
        let bytes = lines.filter_map(|line| line.split_once("   ")).flat_map(|(hex, _)| {
            hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap())
        });
        assert_eq!(row, bytes.collect::<Vec<_>>());
    }
}
