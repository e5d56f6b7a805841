//! [`Follower`]: reads a log file into a head, and reads on when the file has grown.
//!
//! Recovery reads each file once, a reader of a live directory again and again; both meet a record
//! that is not whole, and neither takes it for damage.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::head::Head;
use crate::head::apply::Applier;
use crate::stats::OpenReport;
use crate::vfs::{VfsFile, read_up_to_at};
use crate::wal::bytes::Reader;
use crate::wal::replay::{Opened, Place, Records};

/// A row keeps its sequence shifted left by three bits. No writer comes near.
const SEQ_MAX: u64 = u64::MAX >> 4;
/// Bytes that are read at once; more where a record, or what follows damage, needs it.
const WINDOW_BYTES: u64 = 4 << 20;

/// What was read of one log file.
#[derive(Debug)]
pub(crate) struct Follower {
    applier: Applier,
    place: Option<Place>,
    /// Length of the file when it was read last.
    seen_len: u64,
    /// The header and every record are damaged.
    pub is_unreadable: bool,
    /// Sequence of the last batch; rows of it may be in the head even if it was damaged.
    pub last_seq: u64,
    /// Sequence of the first batch; 0 when there is none.
    pub first_seq: u64,
    pub batches: u64,
    pub samples: u64,
    /// Bytes of damaged records, header included, and of records that no writer makes.
    pub damaged_bytes: u64,
    /// Rows that depend on a damaged record.
    pub lost_rows: u64,
    /// Bytes behind the last whole record.
    pub torn_bytes: u64,
    /// Whether these are more than the beginning of a record.
    pub is_tail_odd: bool,
    /// Where in the file the first damage was met.
    pub damaged_at: Option<u64>,
    /// The greatest length that a mark in the file calls synced.
    pub marked: u64,
    /// Where in the file the last batch ends.
    pub batches_end: u64,
}

impl Follower {
    /// A follower of the log file of a generation, of which nothing is read yet.
    pub fn new(generation: u64) -> Self {
        Self {
            applier: Applier::new(Arc::new(Head::new(generation))),
            place: None,
            seen_len: 0,
            is_unreadable: false,
            last_seq: 0,
            first_seq: 0,
            batches: 0,
            samples: 0,
            damaged_bytes: 0,
            lost_rows: 0,
            torn_bytes: 0,
            is_tail_odd: false,
            damaged_at: None,
            marked: 0,
            batches_end: 0,
        }
    }

    /// The rows that were read.
    pub fn head(&self) -> &Arc<Head> {
        &self.applier.head
    }

    /// Where the last whole record ends; 0 while there is not even a header.
    pub fn offset(&self) -> u64 {
        self.place.map_or(0, |place| place.offset)
    }

    /// Adds what was found to a report.
    pub fn add_to(&self, opened: &mut OpenReport) {
        opened.replayed_batches += self.batches;
        opened.replayed_samples += self.samples;
        opened.torn_bytes += self.torn_bytes;
        opened.lost_rows += self.lost_rows;
        opened.damaged_bytes += self.damaged_bytes;
    }

    /// Reads the records between where reading ended and byte `len` of the file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::UnsupportedVersion`]. What was read before stays read.
    pub fn read(&mut self, path: &Path, file: &dyn VfsFile, len: u64) -> Result<()> {
        if len == self.seen_len {
            // Should the writer have replaced what it took back by as many bytes, the mark that the
            // next sync leaves tells.
            return Ok(());
        }
        let mut window = WINDOW_BYTES;
        let mut bytes = Vec::new();
        loop {
            let from = self.offset();
            let wanted = len.saturating_sub(from).min(window);
            bytes.resize(usize::try_from(wanted).unwrap_or(usize::MAX), 0);
            // Fewer when the writer took back a record that it could not write whole.
            let read = read_up_to_at(file, &mut bytes, from)
                .map_err(|source| Error::io("read", path, source))?;
            bytes.truncate(read);
            self.take(path, &bytes)?;
            if bytes.len() < wanted as usize || from + wanted >= len {
                break;
            }
            window = if self.offset() > from { WINDOW_BYTES } else { window.saturating_mul(2) };
        }
        self.seen_len = len;
        self.head().wal_bytes.store(len, Ordering::Relaxed);
        Ok(())
    }

    /// Applies the whole records of the bytes from [`Follower::offset`] on.
    fn take(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut records = match self.place {
            Some(place) => Records::resume(place, bytes),
            None => match Records::open(path, bytes)? {
                Opened::Records(records) => records,
                Opened::Unfinished => {
                    self.torn_bytes = bytes.len() as u64;
                    return Ok(());
                }
                Opened::Unreadable => {
                    self.is_unreadable = true;
                    self.damaged_bytes = bytes.len() as u64;
                    self.damaged_at = Some(0);
                    return Ok(());
                }
            },
        };
        if std::mem::take(&mut self.is_unreadable) {
            // More of the file tells more.
            (self.damaged_bytes, self.damaged_at) = (0, None);
        }
        let (mut seen_damage, mut end) = (0, self.offset());
        loop {
            let payload = records.next();
            let new_damage = records.damaged_bytes - seen_damage;
            seen_damage = records.damaged_bytes;
            self.count_damage(new_damage, end);
            end = records.place().offset;
            let Some(payload) = payload else { break };
            self.apply(payload, end - payload.len() as u64);
        }
        self.place = Some(records.place());
        self.marked = self.marked.max(records.marked);
        self.batches_end = self.batches_end.max(records.batches_end);
        self.torn_bytes = records.torn_bytes;
        self.is_tail_odd = records.is_tail_odd;
        Ok(())
    }

    fn apply(&mut self, payload: &[u8], offset: u64) {
        // A definition takes two bytes at least, so damage cannot have taken more than this.
        self.applier.lost_max = usize::try_from(self.damaged_bytes / 2).unwrap_or(usize::MAX);
        // Whatever becomes of the rest: rows of the batch may be in the head from now on.
        let seq = Reader::new(payload).varint().unwrap_or(0);
        if seq > SEQ_MAX {
            return self.count_damage(payload.len() as u64, offset);
        }
        self.last_seq = self.last_seq.max(seq);
        if self.first_seq == 0 {
            self.first_seq = seq;
        }
        match self.applier.apply(payload) {
            Ok(applied) => {
                self.batches += 1;
                self.samples += applied.samples;
                self.lost_rows += applied.lost_rows;
            }
            Err(_) => self.count_damage(payload.len() as u64, offset),
        }
    }

    fn count_damage(&mut self, bytes: u64, offset: u64) {
        if bytes > 0 {
            self.damaged_bytes += bytes;
            self.damaged_at.get_or_insert(offset);
        }
    }
}
