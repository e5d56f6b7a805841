//! Reading from files that may hold anything: how far it has got, and how long a line may be.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// Longest line or record. A store takes 64 KiB of labels; the rest is room for escapes.
pub(super) const RECORD_BYTES_MAX: u64 = 1 << 20;

/// A number that two hold.
pub type Counter = Rc<Cell<u64>>;

/// Counts the bytes that are read through it.
#[derive(Debug)]
pub(super) struct Counted<R> {
    inner: R,
    bytes: Counter,
}

impl<R> Counted<R> {
    /// Adds the bytes that are read from `inner` to the counter.
    pub fn new(inner: R, bytes: Counter) -> Self {
        Self { inner, bytes }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

/// Fails once more than an allowance has been read; whoever reads records renews it after each.
#[derive(Debug)]
pub(super) struct Rationed<R> {
    inner: R,
    left: Counter,
}

impl<R> Rationed<R> {
    pub fn new(inner: R, left: Counter) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            let what = format!("a record is longer than {RECORD_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let read = self.inner.read(into)?;
        self.left.set(self.left.get().saturating_sub(read as u64));
        Ok(read)
    }
}

/// What [`read_line`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line is in the buffer, without its end.
    Whole,
    /// The line was too long; it is skipped.
    TooLong,
    /// There are no more lines.
    End,
}

/// Reads a line of at most [`RECORD_BYTES_MAX`] bytes; replaces what `into` holds.
pub(super) fn read_line(from: &mut impl BufRead, into: &mut Vec<u8>) -> io::Result<Line> {
    into.clear();
    let read = from.by_ref().take(RECORD_BYTES_MAX).read_until(b'\n', into)?;
    if read == 0 {
        return Ok(Line::End);
    }
    if into.last() != Some(&b'\n') && read as u64 == RECORD_BYTES_MAX {
        from.skip_until(b'\n')?;
        return Ok(Line::TooLong);
    }
    for end in [b'\n', b'\r'] {
        if into.last() == Some(&end) {
            into.pop();
        }
    }
    Ok(Line::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_never_ends_costs_a_bounded_buffer_and_only_itself() {
        let mut text = vec![b'x'; 3 * RECORD_BYTES_MAX as usize];
        text.extend_from_slice(b"\nnext\r\nlast");
        let (mut from, mut line) = (&text[..], Vec::new());
        assert_eq!(read_line(&mut from, &mut line).unwrap(), Line::TooLong);
        assert!(line.capacity() < 2 * RECORD_BYTES_MAX as usize);
        for expected in ["next", "last"] {
            assert_eq!(read_line(&mut from, &mut line).unwrap(), Line::Whole);
            assert_eq!(line, expected.as_bytes());
        }
        assert_eq!(read_line(&mut from, &mut line).unwrap(), Line::End);
    }
}
