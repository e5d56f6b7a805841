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

/// Columns that share a word of flags.
const BLOCK: usize = u64::BITS as usize;

/// The cells of one row by column, in the form in which rows are compared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cells {
    /// Bits of each value; of a column without a cell they mean nothing.
    bits: Vec<u64>,
    /// Of each block of columns which have a cell, and which of the cells are floats.
    flags: Vec<Flags>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    present: u64,
    floats: u64,
}

impl Cells {
    /// No cells in so many columns.
    pub fn clear(&mut self, width: usize) {
        self.bits.resize(width, 0);
        self.flags.clear();
        self.flags.resize(width.div_ceil(BLOCK), Flags::default());
    }

    #[inline]
    pub fn set(&mut self, column: usize, value: Value) {
        let (is_float, bits) = parts_of(value);
        self.bits[column] = bits;
        let flags = &mut self.flags[column / BLOCK];
        let bit = 1 << (column % BLOCK);
        flags.present |= bit;
        flags.floats = if is_float { flags.floats | bit } else { flags.floats & !bit };
    }

    pub fn remove(&mut self, column: usize) {
        self.flags[column / BLOCK].present &= !(1 << (column % BLOCK));
    }

    pub fn get(&self, column: usize) -> Option<Value> {
        let flags = self.flags.get(column / BLOCK)?;
        let bit = 1 << (column % BLOCK);
        let bits = *self.bits.get(column)?;
        (flags.present & bit != 0).then(|| value_of(flags.floats & bit != 0, bits))
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.bits.len()
    }

    /// Number of cells.
    pub fn count(&self) -> usize {
        self.flags.iter().map(|flags| flags.present.count_ones() as usize).sum()
    }
}

/// The last row of a run: what the next one is coded against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Sequence of the batch of the last row.
    pub seq: u64,
    /// Time of the last row in milliseconds.
    pub time: i64,
    step: i64,
    since_restart: u32,
    width: u32,
    /// Bits of each column's last value; then, of each block of columns, which the last row has;
    /// then of each block which of the last values are floats. One allocation: there are as many of
    /// these as sets, and a step touches all of it.
    words: Box<[u64]>,
}

impl Tail {
    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.since_restart == 0
    }

    /// Number of columns known to the last row.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// The cell of the last row; `None` when that row does not have it.
    #[inline]
    pub fn cell(&self, column: usize) -> Option<Value> {
        let (bits, present, floats) = self.parts();
        let bit = 1 << (column % BLOCK);
        if present.get(column / BLOCK)? & bit == 0 {
            return None;
        }
        Some(value_of(floats.get(column / BLOCK)? & bit != 0, *bits.get(column)?))
    }

    /// Number of cells of the last row.
    pub fn count(&self) -> usize {
        self.parts().1.iter().map(|present| present.count_ones() as usize).sum()
    }

    /// Whether the next row will not depend on this one.
    pub fn restarts_next(&self) -> bool {
        self.since_restart == 0 || self.since_restart >= RESTART_ROWS
    }

    /// Bytes this holds outside itself.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// Values, which are present, which are floats.
    #[inline]
    fn parts(&self) -> (&[u64], &[u64], &[u64]) {
        let (bits, flags) = self.words.split_at(self.width());
        let (present, floats) = flags.split_at(flags.len() / 2);
        (bits, present, floats)
    }

    #[inline]
    fn parts_mut(&mut self) -> (&mut [u64], &mut [u64], &mut [u64]) {
        let (bits, flags) = self.words.split_at_mut(self.width as usize);
        let (present, floats) = flags.split_at_mut(flags.len() / 2);
        (bits, present, floats)
    }

    fn set_width(&mut self, width: usize) {
        if width == self.width() {
            return;
        }
        let (bits, present, floats) = self.parts();
        let blocks = width.div_ceil(BLOCK);
        let mut words = Vec::with_capacity(width + 2 * blocks);
        for (part, len) in [(bits, width), (present, blocks), (floats, blocks)] {
            let kept = part.len().min(len);
            words.extend_from_slice(part.split_at(kept).0);
            words.resize(words.len() + len - kept, 0);
        }
        self.words = words.into();
        self.width = width as u32;
    }

    /// Appends the bytes of the next row, which has at least one cell, and steps to it.
    ///
    /// `seq` is greater than that of the last row, `time` later, and there are at least as many
    /// columns.
    pub fn encode(&mut self, seq: u64, time: i64, cells: &Cells, into: &mut Vec<u8>) {
        let is_restart = self.restarts_next();
        let (width, count) = (cells.width(), cells.count());
        let mut head =
            if is_restart { RESTART | seq << FLAG_BITS } else { (seq - self.seq) << FLAG_BITS };
        if count < width {
            head |= SPARSE;
        }
        let is_wider = is_restart || width != self.width();
        if is_wider {
            head |= WIDTH;
        }
        put_varint(into, head);
        if is_restart {
            self.words.fill(0);
            self.since_restart = 0;
            self.step = 0;
            put_varint(into, zigzag(time));
        } else {
            let step = time - self.time;
            put_varint(into, zigzag(step - self.step));
            self.step = step;
        }
        self.seq = seq;
        self.time = time;
        self.since_restart += 1;
        if is_wider {
            put_varint(into, width as u64);
            self.set_width(width);
        }
        if count < width {
            let start = into.len();
            cells.flags.iter().for_each(|flags| into.extend(flags.present.to_le_bytes()));
            into.truncate(start + width.div_ceil(8));
        }
        self.encode_cells(cells, count, into);
    }

    fn encode_cells(&mut self, cells: &Cells, count: usize, into: &mut Vec<u8>) {
        let changed_start = into.len();
        into.resize(changed_start + count.div_ceil(8), 0);
        let (bits, present, floats) = self.parts_mut();
        let blocks = bits.chunks_mut(BLOCK).zip(present).zip(floats);
        let mut before = 0;
        for (((bases, present), floats), (flags, values)) in
            blocks.zip(cells.flags.iter().zip(cells.bits.chunks(BLOCK)))
        {
            let toggled = flags.floats ^ *floats;
            let mut changed = (toggled | differences(values, bases)) & flags.present;
            while changed != 0 {
                let column = changed.trailing_zeros() as usize;
                let bit = changed & changed.wrapping_neg();
                changed ^= bit;
                // The bits of the row are counted by cell, not by column.
                let nth = before + (flags.present & (bit - 1)).count_ones() as usize;
                into[changed_start + nth / 8] |= 1 << (nth % 8);
                let (value, base) =
                    (values[column], std::mem::replace(&mut bases[column], values[column]));
                if toggled & bit != 0 {
                    into.push(0);
                    into.extend_from_slice(&value.to_le_bytes());
                } else if flags.floats & bit != 0 {
                    put_varint(into, (value ^ base).swap_bytes());
                } else {
                    put_varint(into, zigzag((value as i64).wrapping_sub(base as i64)));
                }
            }
            *floats = (*floats & !flags.present) | (flags.floats & flags.present);
            *present = flags.present;
            before += flags.present.count_ones() as usize;
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
            self.words.fill(0);
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
            if width > COLUMNS_MAX || (width < self.width() && !is_restart) {
                return Err(Malformed("a row has an impossible number of columns"));
            }
            self.set_width(width);
        }
        self.decode_cells(head & SPARSE != 0, reader)?;
        self.since_restart += 1;
        Ok(())
    }

    fn decode_cells(&mut self, is_sparse: bool, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let width = self.width();
        let (bits, present, floats) = self.parts_mut();
        let bitmap = if is_sparse { reader.bytes(width.div_ceil(8))? } else { &[] };
        let mut count = 0;
        for (block, word) in present.iter_mut().enumerate() {
            let there = lowest(width - block * BLOCK);
            *word = if is_sparse { there & bits_at(bitmap, block * BLOCK) } else { there };
            count += word.count_ones() as usize;
        }
        let bitmap = reader.bytes(count.div_ceil(8))?;
        let mut before = 0;
        for ((values, present), floats) in bits.chunks_mut(BLOCK).zip(present).zip(floats) {
            let count = present.count_ones() as usize;
            let mut changed = bits_at(bitmap, before) & lowest(count);
            before += count;
            if count < values.len() {
                changed = spread(changed, *present);
            }
            while changed != 0 {
                let column = changed.trailing_zeros() as usize;
                let bit = changed & changed.wrapping_neg();
                changed ^= bit;
                let Some(value) = values.get_mut(column) else { break };
                *value = match (reader.varint()?, *floats & bit != 0) {
                    (0, _) => {
                        *floats ^= bit;
                        reader.u64()?
                    }
                    (delta, true) => *value ^ delta.swap_bytes(),
                    (delta, false) => (*value as i64).wrapping_add(unzigzag(delta)) as u64,
                };
            }
        }
        Ok(())
    }
}

/// Which of at most 64 values differ from their bases, of which there are as many.
#[inline]
fn differences(values: &[u64], bases: &[u64]) -> u64 {
    let mut changed = 0;
    for (column, (value, base)) in values.iter().zip(bases).enumerate() {
        changed |= u64::from(value != base) << column;
    }
    changed
}

/// The lowest bits of a word, all of them from 64 on.
#[inline]
fn lowest(count: usize) -> u64 {
    if count >= BLOCK { u64::MAX } else { (1 << count) - 1 }
}

/// Up to 64 bits from an offset on; what is not there is 0.
#[inline]
fn bits_at(bytes: &[u8], offset: usize) -> u64 {
    let (bytes, shift) = (bytes.get(offset / 8..).unwrap_or_default(), offset % 8);
    let mut word = 0;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        word |= u64::from(*byte) << (8 * index);
    }
    if shift == 0 {
        return word;
    }
    let next = bytes.get(8).map_or(0, |byte| u64::from(*byte));
    word >> shift | next << (BLOCK - shift)
}

/// Puts the lowest bits of a word to the places that are set in a mask, in order.
fn spread(mut bits: u64, mut mask: u64) -> u64 {
    let mut spread = 0;
    while bits != 0 && mask != 0 {
        let place = mask & mask.wrapping_neg();
        if bits & 1 == 1 {
            spread |= place;
        }
        bits >>= 1;
        mask ^= place;
    }
    spread
}

/// Whether it is a float, and its bits.
#[inline]
fn parts_of(value: Value) -> (bool, u64) {
    match value {
        Value::Int(value) => (false, value as u64),
        Value::Float(value) => (true, value.to_bits()),
    }
}

#[inline]
fn value_of(is_float: bool, bits: u64) -> Value {
    if is_float { Value::Float(f64::from_bits(bits)) } else { Value::Int(bits as i64) }
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

    fn cells_of(given: &[Option<Value>]) -> Cells {
        let mut cells = Cells::default();
        cells.clear(given.len());
        for (column, value) in given.iter().enumerate() {
            value.iter().for_each(|value| cells.set(column, *value));
        }
        cells
    }

    /// Rows and columns of a test, and fewer for Miri, which is a thousand times as slow.
    const SIZE_MAX: usize = if cfg!(miri) { 12 } else { 150 };

    proptest! {
        #[test]
        fn rows_come_back_bit_for_bit_whatever_their_types_and_gaps(
            rows in prop::collection::vec(
                (1_u64..5, 1_i64..100_000, prop::collection::vec(cell(), 1..SIZE_MAX)), 1..SIZE_MAX),
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
                writer.encode(seq, time, &cells_of(&cells), &mut bytes);
                prop_assert!(bytes.len() <= ROW_BYTES_MAX);
                let mut input = Reader::new(&bytes);
                reader.decode(&mut input).unwrap();
                prop_assert!(input.is_empty());
                prop_assert_eq!(&reader, &writer);
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
        let cells = cells_of(&[Some(Value::Int(1 << 40)); 8]);
        let mut tail = Tail::default();
        let mut bytes = Vec::new();
        for row in 1..=3 {
            bytes.clear();
            tail.encode(row, row as i64 * 60_000, &cells, &mut bytes);
        }
        assert_eq!(bytes.len(), 3);
    }
}
