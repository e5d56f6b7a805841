//! Layout of a log file; constants only. The page is docs/format/wal.md.

/// First bytes of every log file.
pub(crate) const MAGIC: [u8; 8] = *b"HPSTRWAL";
/// The version this program writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;
/// magic 8 | version u32 | file id u64 | crc32 of the bytes before u32.
pub(crate) const FILE_HEADER_BYTES: usize = 24;

/// First bytes of every record: what a reader looks for behind a damaged stretch.
pub(crate) const RECORD_MAGIC: [u8; 4] = [0xb5, b'R', b'e', 0xc1];
/// magic 4 | payload length u32 | crc32 u32. The checksum covers the file id, the record's offset,
/// the length and the payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 12;
/// A record's payload is at most this long. The writer cuts a batch well before.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 20;
