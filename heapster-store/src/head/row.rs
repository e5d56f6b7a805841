//! Rows as the log and the head keep them: coded against the row before in the same run.
//!
//! The same bytes go to the log and to memory, so a row is encoded once and replayed by copying.
//! Layout (docs/format/wal.md, "Row"): a head number with the batch's sequence and three flags, the
//! time, the number of columns when it changed, which cells there are, which of them changed, and
//! how. Every [`RESTART_ROWS`] rows a run starts from nothing again, so that a lost record costs a
//! bounded stretch.

use heapster_core::{Timestamp, Value};

use crate::wal::bytes::{Malformed, Reader, put_varint, unzigzag, zigzag};

/// Columns a set may have. A set with thousands of metrics exists (a node exporter has about one
/// thousand); beyond this the caller puts label values into metric names.
pub(crate) const COLUMNS_MAX: usize = 4096;

/// Rows after which a run is coded from nothing once. At 64 rows this costs about 0.1 bytes per
/// sample and bounds what a damaged record takes with it to 64 rows of each of its sets.
const RESTART_ROWS: u32 = 64;

/// Some cells are absent; a bitmap says which are there.
const SPARSE: u64 = 1;
/// The row does not depend on the one before.
const RESTART: u64 = 2;
/// The number of columns follows.
const WIDTH: u64 = 4;
const FLAG_BITS: u32 = 3;

/// The longest a row can be: used to refuse absurd lengths before anything is allocated.
pub(crate) const ROW_BYTES_MAX: usize = 32 + COLUMNS_MAX / 4 + 2 + COLUMNS_MAX * 10;

/// The last row of a run: what the next one is coded against.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    /// Sequence of the batch of the last row.
    pub seq: u64,
    /// Time of the last row in milliseconds.
    pub time: i64,
    step: i64,
    since_restart: u32,
    /// Bits of each column's last value.
    bits: Vec<u64>,
    /// Of each column whether the last value is a float, and whether the last row has it.
    tags: Vec<u8>,
}

const FLOAT: u8 = 1;
const PRESENT: u8 = 2;

impl Tail {
    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.since_restart == 0
    }

    /// Number of columns known to the last row.
    pub fn width(&self) -> usize {
        self.bits.len()
    }

    /// The cell of the last row; `None` when that row does not have it.
    pub fn cell(&self, column: usize) -> Option<Value> {
        let (tag, bits) = (*self.tags.get(column)?, *self.bits.get(column)?);
        (tag & PRESENT != 0).then(|| value_of(tag, bits))
    }

    /// Whether the last row has the cell.
    pub fn has(&self, column: usize) -> bool {
        self.tags.get(column).is_some_and(|tag| tag & PRESENT != 0)
    }

    /// Bytes this holds outside itself.
    pub fn heap_bytes(&self) -> usize {
        self.bits.capacity() * 8 + self.tags.capacity()
    }

    fn base(&self, column: usize, is_restart: bool) -> (u8, u64) {
        match (is_restart, self.tags.get(column), self.bits.get(column)) {
            (false, Some(tag), Some(bits)) => (tag & FLOAT, *bits),
            _ => (0, 0),
        }
    }

    /// Appends the bytes of the next row: `cells` by column, at least one of them present.
    ///
    /// `seq` is greater than that of the last row, `time` later.
    pub fn encode(&self, seq: u64, time: i64, cells: &[Option<Value>], into: &mut Vec<u8>) {
        let is_restart = self.since_restart == 0 || self.since_restart >= RESTART_ROWS;
        let present = cells.iter().flatten().count();
        let mut head =
            if is_restart { RESTART | seq << FLAG_BITS } else { (seq - self.seq) << FLAG_BITS };
        if present < cells.len() {
            head |= SPARSE;
        }
        let is_wider = is_restart || cells.len() != self.bits.len();
        if is_wider {
            head |= WIDTH;
        }
        put_varint(into, head);
        let time = if is_restart { time } else { time - self.time - self.step };
        put_varint(into, zigzag(time));
        if is_wider {
            put_varint(into, cells.len() as u64);
        }
        if present < cells.len() {
            let start = into.len();
            into.resize(start + cells.len().div_ceil(8), 0);
            for (column, _) in cells.iter().enumerate().filter(|(_, cell)| cell.is_some()) {
                into[start + column / 8] |= 1 << (column % 8);
            }
        }
        let changed = into.len();
        into.resize(changed + present.div_ceil(8), 0);
        let given = cells.iter().enumerate().filter_map(|(column, cell)| Some((column, (*cell)?)));
        for (nth, (column, value)) in given.enumerate() {
            let (tag, base) = self.base(column, is_restart);
            let (own_tag, bits) = parts_of(value);
            if own_tag != tag {
                into.push(0);
                into.extend_from_slice(&bits.to_le_bytes());
            } else if bits == base {
                continue;
            } else if tag == FLOAT {
                put_varint(into, (bits ^ base).swap_bytes());
            } else {
                put_varint(into, zigzag((bits as i64).wrapping_sub(base as i64)));
            }
            into[changed + nth / 8] |= 1 << (nth % 8);
        }
    }

    /// Steps to the next row of the run.
    ///
    /// After an error the tail is good for nothing but a row that restarts.
    pub fn decode(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let head = reader.varint()?;
        let is_restart = head & RESTART != 0;
        if is_restart {
            self.seq = head >> FLAG_BITS;
            self.time = 0;
            self.step = 0;
            self.since_restart = 0;
            for (tag, bits) in self.tags.iter_mut().zip(&mut self.bits) {
                (*tag, *bits) = (0, 0);
            }
        } else {
            if self.since_restart == 0 {
                return Err(Malformed("a run does not begin with a restart"));
            }
            let step = head >> FLAG_BITS;
            self.seq = self.seq.checked_add(step).ok_or(Malformed("a sequence overflows"))?;
        }
        let step = self.step.wrapping_add(reader.signed()?);
        let time = self.time.wrapping_add(step);
        if Timestamp::checked_from_millis(time).is_none() {
            return Err(Malformed("a time is outside the years 1 to 9999"));
        }
        if !is_restart {
            if time <= self.time {
                return Err(Malformed("a time is not after the one before"));
            }
            self.step = step;
        }
        self.time = time;
        if head & WIDTH != 0 {
            let width = reader.varint()?;
            let width = usize::try_from(width).unwrap_or(usize::MAX);
            if width > COLUMNS_MAX || (width < self.bits.len() && !is_restart) {
                return Err(Malformed("a row has an impossible number of columns"));
            }
            self.bits.resize(width, 0);
            self.tags.resize(width, 0);
        }
        self.decode_cells(head & SPARSE != 0, reader)?;
        self.since_restart += 1;
        Ok(())
    }

    fn decode_cells(&mut self, is_sparse: bool, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let width = self.bits.len();
        let mut present = width;
        if is_sparse {
            let bitmap = reader.bytes(width.div_ceil(8))?;
            present = 0;
            for (tags, byte) in self.tags.chunks_mut(8).zip(bitmap) {
                for (bit, tag) in tags.iter_mut().enumerate() {
                    let is_present = byte >> bit & 1;
                    *tag = *tag & FLOAT | is_present << 1;
                    present += usize::from(is_present);
                }
            }
        } else {
            for tag in &mut self.tags {
                *tag |= PRESENT;
            }
        }
        let changed = reader.bytes(present.div_ceil(8))?;
        let cells =
            self.tags.iter_mut().zip(&mut self.bits).filter(|(tag, _)| **tag & PRESENT != 0);
        for (nth, (tag, bits)) in cells.enumerate() {
            if changed.get(nth / 8).is_none_or(|byte| byte >> (nth % 8) & 1 == 0) {
                continue;
            }
            match (reader.varint()?, *tag & FLOAT) {
                (0, _) => {
                    *tag ^= FLOAT;
                    *bits = reader.u64()?;
                }
                (delta, FLOAT) => *bits ^= delta.swap_bytes(),
                (delta, _) => *bits = (*bits as i64).wrapping_add(unzigzag(delta)) as u64,
            }
        }
        Ok(())
    }
}

fn parts_of(value: Value) -> (u8, u64) {
    match value {
        Value::Int(value) => (0, value as u64),
        Value::Float(value) => (FLOAT, value.to_bits()),
    }
}

fn value_of(tag: u8, bits: u64) -> Value {
    if tag & FLOAT == 0 { Value::Int(bits as i64) } else { Value::Float(f64::from_bits(bits)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell() -> impl Strategy<Value = Option<Value>> {
        prop_oneof![
            Just(None),
            any::<i64>().prop_map(|v| Some(Value::Int(v))),
            (0_i64..3).prop_map(|v| Some(Value::Int(v))),
            any::<u64>().prop_map(|v| Some(Value::Float(f64::from_bits(v)))),
            Just(Some(Value::Float(0.1))),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back_bit_for_bit_whatever_their_types_and_gaps(
            rows in prop::collection::vec(
                (1_u64..5, 1_i64..100_000, prop::collection::vec(cell(), 1..12)), 1..150),
        ) {
            let (mut seq, mut time, mut width) = (7, -1_000_000_000_000, 0);
            let (mut writer, mut reader) = (Tail::default(), Tail::default());
            for (seq_step, time_step, mut cells) in rows {
                seq += seq_step;
                time += time_step;
                width = width.max(cells.len());
                cells.resize(width, None);
                cells[0] = cells[0].or(Some(Value::Int(1)));
                let mut bytes = Vec::new();
                writer.encode(seq, time, &cells, &mut bytes);
                prop_assert!(bytes.len() <= ROW_BYTES_MAX);
                writer.decode(&mut Reader::new(&bytes)).unwrap();
                let mut input = Reader::new(&bytes);
                reader.decode(&mut input).unwrap();
                prop_assert!(input.is_empty());
                prop_assert_eq!((reader.seq, reader.time), (seq, time));
                let read: Vec<_> = (0..width).map(|column| reader.cell(column)).collect();
                prop_assert_eq!(read, cells);
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut tail = Tail::default();
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() && tail.decode(&mut reader).is_ok() {}
        }
    }

    #[test]
    fn a_row_that_repeats_its_predecessor_costs_two_bytes_and_a_bit_per_column() {
        let cells = [Some(Value::Int(1 << 40)); 8];
        let mut tail = Tail::default();
        let mut bytes = Vec::new();
        for row in 1..=3 {
            bytes.clear();
            tail.encode(row, row as i64 * 60_000, &cells, &mut bytes);
            tail.decode(&mut Reader::new(&bytes)).unwrap();
        }
        assert_eq!(bytes.len(), 3);
    }
}
