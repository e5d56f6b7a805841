//! Reading a log file back: records one by one, past damage where there is any.
//!
//! A file that ends in the middle of a record has a *torn tail*: the crash came while it was
//! written, and nobody was told that it was safe. Damage with a good record behind it is something
//! else: it is counted as lost, and reading goes on at that record. Unless nothing says that the
//! damaged bytes were ever on the disk: a power cut keeps any part of what was not synced, and what
//! is behind the first hole is left out, so that the rest is a beginning of what was appended.

use std::path::Path;

use crate::error::{Error, Result};
use crate::planted::{self, Bug};
use crate::wal::bytes::{Malformed, Reader};
use crate::wal::format::{
    FILE_HEADER_BYTES, MAGIC, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_MAGIC, VERSION,
};
use crate::wal::{mark_of, salt_of, salt_of_header_crc, salted_crc};

/// The records of one log file, or of its end.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    /// Bytes of the file from `base` on.
    bytes: &'a [u8],
    base: u64,
    salt: u32,
    /// Where in `bytes` the next record is looked for.
    offset: usize,
    /// Where in `bytes` the torn bytes begin, once they are reached.
    end: Option<usize>,
    /// The greatest length that a mark in the file calls synced, once somebody asked.
    synced: Option<u64>,
    /// The greatest length that a mark calls synced, of those that were passed.
    pub marked: u64,
    /// Where in the file the last batch ends that was given.
    pub batches_end: u64,
    /// Bytes of a damaged header and of damaged stretches that had a good record behind them.
    pub damaged_bytes: u64,
    /// Bytes behind the last good record.
    pub torn_bytes: u64,
    /// Whether the torn bytes look like more than a write that was cut short, so that the file is
    /// worth keeping.
    pub is_tail_odd: bool,
}

/// Where reading of a log file ended, so that it can go on when the file is longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    salt: u32,
    /// Bytes of the file that were read: those of sound records, and of damaged ones between them.
    pub offset: u64,
}

/// What the beginning of a log file says.
#[derive(Debug)]
pub(crate) enum Opened<'a> {
    Records(Records<'a>),
    /// The file was being created when the crash came: no record was ever written to it.
    Unfinished,
    /// The header is damaged, and no record passes with what is left of it.
    Unreadable,
}

impl<'a> Records<'a> {
    /// Reads the header.
    ///
    /// The salt of the records' checksums is in the header twice, so damage to a part of the header
    /// costs no record: whichever salt a record passes with is the right one.
    pub fn open(path: &Path, bytes: &'a [u8]) -> Result<Opened<'a>> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Opened::Unfinished);
        }
        let header = bytes.first_chunk::<FILE_HEADER_BYTES>();
        // The header is synced before the first record is written.
        let Some(header) = header else { return Ok(Opened::Unfinished) };
        let mut reader = Reader::new(header);
        let fields = |r: &mut Reader<'_>| Ok((r.array::<8>()?, r.u32()?, r.u64()?, r.u32()?));
        let Ok::<_, Malformed>((magic, version, file_id, crc)) = fields(&mut reader) else {
            return Ok(Opened::Unreadable);
        };
        let is_sound = magic == MAGIC && crc32fast::hash(header.split_at(20).0) == crc;
        if is_sound && (version == 0 || version > VERSION) {
            let path = path.to_owned();
            return Err(Error::UnsupportedVersion { path, found: version, max: VERSION });
        }
        let with_salt = |salt| Self {
            offset: FILE_HEADER_BYTES,
            damaged_bytes: if is_sound { 0 } else { FILE_HEADER_BYTES as u64 },
            ..Self::from(bytes, 0, salt)
        };
        let records = with_salt(salt_of(file_id));
        if is_sound || records.has_any() {
            return Ok(Opened::Records(records));
        }
        let records = with_salt(salt_of_header_crc(crc));
        if records.has_any() {
            return Ok(Opened::Records(records));
        }
        // Without a record behind it a torn header is a file that was being created.
        let is_bare = bytes.len() == FILE_HEADER_BYTES;
        Ok(if is_bare { Opened::Unfinished } else { Opened::Unreadable })
    }

    fn from(bytes: &'a [u8], base: u64, salt: u32) -> Self {
        Self {
            bytes,
            base,
            salt,
            offset: 0,
            end: None,
            synced: None,
            marked: 0,
            batches_end: 0,
            damaged_bytes: 0,
            torn_bytes: 0,
            is_tail_odd: false,
        }
    }

    /// Goes on where an earlier reading of the same file ended: `bytes` are those of the file from
    /// `place.offset` on.
    ///
    /// In a file that somebody is writing, the torn bytes are a record that is not whole yet.
    pub fn resume(place: Place, bytes: &'a [u8]) -> Self {
        Self::from(bytes, place.offset, place.salt)
    }

    /// Where the first record begins that was not given yet.
    pub fn place(&self) -> Place {
        Place { salt: self.salt, offset: self.base + self.end.unwrap_or(self.offset) as u64 }
    }

    fn has_any(&self) -> bool {
        self.next_sound(self.offset).is_some()
    }

    /// The first sound record at an offset or behind it.
    fn next_sound(&self, from: usize) -> Option<(usize, &'a [u8])> {
        let mut at = from;
        loop {
            if let Some(payload) = self.record_at(at) {
                return Some((at, payload));
            }
            at += 1 + find(self.bytes.get(at + 1..)?, RECORD_MAGIC)?;
        }
    }

    /// How much of the file was on the disk for sure, by the marks behind the current place.
    fn synced_len(&mut self) -> u64 {
        if let Some(synced) = self.synced {
            return synced;
        }
        let (mut from, mut synced) = (self.offset, 0);
        while let Some((at, payload)) = self.next_sound(from) {
            let mark = mark_of(payload).filter(|mark| *mark <= self.base + at as u64);
            synced = synced.max(mark.unwrap_or(0));
            from = at + RECORD_HEADER_BYTES + payload.len();
        }
        self.synced = Some(synced);
        synced
    }

    fn record_at(&self, offset: usize) -> Option<&'a [u8]> {
        let (header, rest) = self.bytes.get(offset..)?.split_at_checked(RECORD_HEADER_BYTES)?;
        let (magic, rest_of_header) = header.split_first_chunk::<4>()?;
        let (len, crc) = rest_of_header.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        if *magic != RECORD_MAGIC || len > PAYLOAD_BYTES_MAX {
            return None;
        }
        let payload = rest.get(..len)?;
        let sound = salted_crc(self.salt, self.base + offset as u64, payload).to_le_bytes() == *crc;
        (sound || planted::has(Bug::RecordsUnchecked)).then_some(payload)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while let Some((at, payload)) = self.next_sound(self.offset) {
            let is_hole = at > self.offset && !planted::has(Bug::HoleAccepted);
            if is_hole && self.synced_len() <= self.base + self.offset as u64 {
                break;
            }
            self.damaged_bytes += (at - self.offset) as u64;
            self.offset = at + RECORD_HEADER_BYTES + payload.len();
            let Some(mark) = mark_of(payload) else {
                self.batches_end = self.base + self.offset as u64;
                return Some(payload);
            };
            self.marked = self.marked.max(mark);
        }
        if self.end.is_none() {
            let tail = self.bytes.get(self.offset..).unwrap_or_default();
            self.torn_bytes += tail.len() as u64;
            self.is_tail_odd |= !is_cut_short(tail);
            self.end = Some(self.offset);
            self.offset = self.bytes.len();
        }
        None
    }
}

/// Whether a tail is what a write leaves that did not come to its end: zeros, or the beginning of a
/// record that is longer than the file.
fn is_cut_short(tail: &[u8]) -> bool {
    let Some(header) = tail.first_chunk::<RECORD_HEADER_BYTES>() else { return true };
    let mut reader = Reader::new(header);
    let (magic, len) = (reader.array::<4>(), reader.u32());
    let is_longer = len.is_ok_and(|len| len as usize > tail.len() - RECORD_HEADER_BYTES);
    (magic == Ok(RECORD_MAGIC) && is_longer) || tail.iter().all(|byte| *byte == 0)
}

fn find(bytes: &[u8], magic: [u8; 4]) -> Option<usize> {
    bytes.windows(magic.len()).position(|window| window == magic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::Vfs;
    use crate::vfs::faulty::FaultyVfs;
    use crate::wal::put_mark;
    use crate::wal::writer::WalWriter;

    const PATH: &str = "/w";

    fn file_of(payloads: &[&[u8]]) -> Vec<u8> {
        written(payloads, None)
    }

    /// A file of which some bytes were synced before the last payload was written.
    fn written(payloads: &[&[u8]], synced: Option<u64>) -> Vec<u8> {
        let vfs = FaultyVfs::new();
        let mut writer = WalWriter::create(&vfs, PATH.into(), 9).unwrap();
        for (index, payload) in payloads.iter().enumerate() {
            let mut record = vec![0; RECORD_HEADER_BYTES];
            if let Some(synced) = synced.filter(|_| index + 1 == payloads.len()) {
                put_mark(&mut record, synced);
                writer.append(&mut record).unwrap();
                record.truncate(RECORD_HEADER_BYTES);
            }
            record.extend_from_slice(payload);
            writer.append(&mut record).unwrap();
        }
        assert!(vfs.open(Path::new(PATH)).is_ok());
        vfs.files().remove(Path::new(PATH)).unwrap()
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, u64, u64) {
        let opened = Records::open(Path::new(PATH), bytes).unwrap();
        let Opened::Records(mut records) = opened else { panic!("{opened:?}") };
        let payloads = records.by_ref().map(<[u8]>::to_vec).collect();
        (payloads, records.damaged_bytes, records.torn_bytes)
    }

    #[test]
    fn a_torn_tail_ends_the_file_at_the_last_good_record() {
        let whole = file_of(&[b"one", b"two", b"three"]);
        let two = file_of(&[b"one", b"two"]).len();
        for len in two..whole.len() {
            let (payloads, damaged, torn) = read(&whole[..len]);
            assert_eq!(payloads, [b"one".to_vec(), b"two".to_vec()], "cut to {len}");
            assert_eq!((damaged, torn), (0, (len - two) as u64));
        }
    }

    #[test]
    fn a_damaged_record_costs_itself_alone() {
        let (start, end) = (file_of(&[b"one"]).len(), file_of(&[b"one", b"two"]).len());
        let whole = written(&[b"one", b"two", b"three"], Some(end as u64));
        for at in start..end {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let (payloads, damaged, torn) = read(&bytes);
            assert_eq!(payloads, [b"one".to_vec(), b"three".to_vec()], "byte {at}");
            assert_eq!((damaged, torn), ((end - start) as u64, 0));
        }
    }

    #[test]
    fn what_is_behind_a_hole_in_bytes_that_were_not_synced_is_left_out() {
        let start = file_of(&[b"one"]).len();
        for mark in [None, Some(start as u64)] {
            let whole = written(&[b"one", b"two", b"three"], mark);
            let mut bytes = whole.clone();
            bytes[start] ^= 1;
            let (payloads, damaged, torn) = read(&bytes);
            assert_eq!(payloads, [b"one".to_vec()], "{mark:?}");
            assert_eq!((damaged, torn), (0, (whole.len() - start) as u64));
        }
    }

    #[test]
    fn a_growing_file_gives_each_record_once_it_is_whole_and_none_twice() {
        let end = file_of(&[b"one", b"two"]).len() as u64;
        let whole = written(&[b"one", b"two", b"three", b"four"], Some(end));
        for step in 1..40 {
            let (mut place, mut payloads) = (None, Vec::new());
            for len in (0..whole.len()).step_by(step).chain([whole.len()]) {
                let mut records = match place {
                    Some(place @ Place { offset, .. }) => {
                        Records::resume(place, &whole[offset as usize..len])
                    }
                    None => match Records::open(Path::new(PATH), &whole[..len]).unwrap() {
                        Opened::Records(records) => records,
                        Opened::Unfinished => continue,
                        Opened::Unreadable => panic!("a beginning of a file is unreadable"),
                    },
                };
                payloads.extend(records.by_ref().map(<[u8]>::to_vec));
                assert_eq!(records.damaged_bytes, 0);
                place = Some(records.place());
            }
            assert_eq!(payloads, [&b"one"[..], b"two", b"three", b"four"], "steps of {step}");
            assert_eq!(place.unwrap().offset, whole.len() as u64);
        }
    }

    #[test]
    fn a_reader_that_goes_on_skips_damage_that_a_mark_calls_synced_and_waits_before_any_other() {
        let (start, end) = (file_of(&[b"one"]).len(), file_of(&[b"one", b"two"]).len());
        let place = |bytes: &[u8]| {
            let opened = Records::open(Path::new(PATH), &bytes[..start]).unwrap();
            let Opened::Records(mut records) = opened else { panic!("{opened:?}") };
            assert_eq!(records.by_ref().count(), 1);
            records.place()
        };
        for (mark, found) in [(Some(end as u64), 1), (Some(start as u64), 0), (None, 0)] {
            let mut bytes = written(&[b"one", b"two", b"three"], mark);
            bytes[start + 3] ^= 1;
            let mut records = Records::resume(place(&bytes), &bytes[start..]);
            assert_eq!(records.by_ref().count(), found, "{mark:?}");
            let read = if found == 0 { start } else { bytes.len() };
            assert_eq!(records.place().offset, read as u64);
        }
    }

    #[test]
    fn the_bytes_are_those_of_version_1() {
        let fixture = include_bytes!("../../testdata/v1/wal");
        assert_eq!(written(&[b"one", b"two"], Some(39)), fixture);
        assert_eq!(read(fixture).0, [b"one".to_vec(), b"two".to_vec()]);
    }

    #[test]
    fn a_record_of_another_place_or_file_is_not_taken() {
        let whole = file_of(&[b"one", b"two"]);
        let first = FILE_HEADER_BYTES..file_of(&[b"one"]).len();
        let mut moved = whole.clone();
        moved.extend_from_slice(&whole[first]);
        assert_eq!(read(&moved).0.len(), 2);
    }

    #[test]
    fn damage_to_any_byte_of_the_header_costs_no_record() {
        let whole = file_of(&[b"one", b"two"]);
        for at in 0..FILE_HEADER_BYTES {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let expected = (vec![b"one".to_vec(), b"two".to_vec()], 24, 0);
                assert_eq!(read(&bytes), expected, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_file_without_a_header_is_told_from_one_that_was_being_created() {
        let whole = file_of(&[b"one"]);
        let opened = |bytes: &[u8]| match Records::open(Path::new(PATH), bytes).unwrap() {
            Opened::Records(_) => "records",
            Opened::Unfinished => "unfinished",
            Opened::Unreadable => "unreadable",
        };
        let mut lost = whole.clone();
        lost[..FILE_HEADER_BYTES].fill(0);
        assert_eq!(opened(&lost), "unreadable");
        for len in 0..FILE_HEADER_BYTES {
            assert_eq!(opened(&whole[..len]), "unfinished");
        }
        assert_eq!(opened(&[0; 100]), "unfinished");
        assert_eq!(opened(&whole), "records");
    }

    #[test]
    fn a_tail_that_is_not_just_cut_short_is_told() {
        let whole = file_of(&[b"one", b"two"]);
        let start = file_of(&[b"one"]).len();
        let is_odd = |bytes: &[u8]| {
            let opened = Records::open(Path::new(PATH), bytes).unwrap();
            let Opened::Records(mut records) = opened else { panic!("{opened:?}") };
            records.by_ref().for_each(drop);
            records.is_tail_odd
        };
        assert!((start..=whole.len()).all(|len| !is_odd(&whole[..len])));
        let mut zeros = whole.clone();
        zeros[start..].fill(0);
        assert!(!is_odd(&zeros));
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(is_odd(&flipped));
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut bytes = file_of(&[b"one"]);
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..20]).to_le_bytes();
        bytes[20..24].copy_from_slice(&crc);
        let refused = Records::open(Path::new(PATH), &bytes).unwrap_err();
        assert!(matches!(refused, Error::UnsupportedVersion { found: 2, max: 1, .. }));
    }
}
