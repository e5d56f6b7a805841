//! Clocks: the distinct lists of timestamps. Sets that are scraped together share one.

use crate::chunk::{CHUNK_VALUES_MAX, decode_times, encode_times};
use crate::codec::{ByteReader, Decoded, Malformed};
use crate::segment::table::{Table, TableBuilder};

/// Bytes of a clock's bounds: count, first, last.
const BOUNDS_LEN: usize = 20;

/// What is known of a clock without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub count: usize,
    pub first: i64,
    pub last: i64,
}

/// The section of clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks<'a> {
    bounds: &'a [u8],
    times: Table<'a>,
}

/// Collects clocks.
#[derive(Debug)]
pub(super) struct ClocksBuilder {
    bounds: Vec<u8>,
    times: TableBuilder,
    numbers: hashbrown::HashMap<Vec<u8>, u32>,
    last: (Vec<i64>, u32),
}

impl ClocksBuilder {
    pub(super) fn new() -> Self {
        Self {
            bounds: Vec::new(),
            times: TableBuilder::new(),
            numbers: hashbrown::HashMap::new(),
            last: (Vec::new(), 0),
        }
    }

    /// The number of a clock, the same for the same timestamps.
    pub(super) fn add(&mut self, timestamps: &[i64]) -> u32 {
        if self.last.0 == timestamps {
            return self.last.1;
        }
        // The encoding is a function of the timestamps, and smaller to keep.
        let mut key = Vec::with_capacity(BOUNDS_LEN);
        let first = timestamps.first().copied().unwrap_or(0);
        let last = timestamps.last().copied().unwrap_or(0);
        key.extend_from_slice(&(timestamps.len() as u32).to_le_bytes());
        key.extend_from_slice(&first.to_le_bytes());
        key.extend_from_slice(&last.to_le_bytes());
        encode_times(timestamps, &mut key);
        let next = self.numbers.len() as u32;
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None => {
                let (bounds, times) = key.split_at_checked(BOUNDS_LEN).unwrap_or_default();
                self.bounds.extend_from_slice(bounds);
                self.times.push(times);
                self.numbers.insert(key, next);
                next
            }
        };
        self.last = (timestamps.to_vec(), number);
        number
    }

    pub(super) fn finish(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&u32::try_from(self.numbers.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&self.bounds);
        self.times.finish(out)
    }
}

impl<'a> Clocks<'a> {
    pub(super) fn parse(section: &'a [u8]) -> Decoded<Self> {
        let mut reader = ByteReader::new(section);
        let count = reader.fixed_u32()?;
        let bounds = reader.take((count as usize).saturating_mul(BOUNDS_LEN))?;
        let times = Table::parse(reader.rest())?;
        if times.len() != count {
            return Err(Malformed::Bytes("the clocks have not all timestamps"));
        }
        Ok(Self { bounds, times })
    }

    pub(super) fn len(&self) -> u32 {
        self.times.len()
    }

    pub(super) fn bounds(&self, clock: u32) -> Decoded<Bounds> {
        let start = (clock as usize).saturating_mul(BOUNDS_LEN);
        let bounds = self.bounds.get(start..).unwrap_or_default();
        if bounds.is_empty() {
            return Err(Malformed::Bytes("a clock does not exist"));
        }
        let mut reader = ByteReader::new(bounds);
        let count = reader.fixed_u32()? as usize;
        let (first, last) = (reader.fixed_i64()?, reader.fixed_i64()?);
        if !(1..=CHUNK_VALUES_MAX).contains(&count) || first > last {
            return Err(Malformed::Bytes("a clock has wrong bounds"));
        }
        Ok(Bounds { count, first, last })
    }

    /// Decodes a clock; replaces what `into` holds.
    pub(super) fn decode(&self, clock: u32, into: &mut Vec<i64>) -> Decoded<()> {
        let bounds = self.bounds(clock)?;
        decode_times(self.times.get(clock)?, bounds.first, bounds.count, into)?;
        if into.last() != Some(&bounds.last) {
            return Err(Malformed::Bytes("a clock does not end at its last timestamp"));
        }
        Ok(())
    }
}
