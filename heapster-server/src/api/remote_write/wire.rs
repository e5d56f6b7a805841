//! Protocol Buffers on the wire: the fields of a message, borrowed from its bytes.
//!
//! Nothing is copied and nothing is allocated, so nothing that a message declares can cost memory.

use super::super::error::ApiError;
use super::decode::bad;

/// Why bytes are no message: a clause. Small, since every field is read with one in view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub &'static str);

impl From<Malformed> for ApiError {
    fn from(Malformed(what): Malformed) -> Self {
        bad(format_args!("{what}"))
    }
}

/// The fields of a message that are not read yet.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A field: its number, its value, and the place of both in the message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    pub number: u64,
    pub value: FieldValue<'a>,
    pub start: usize,
    pub end: usize,
}

/// The value of a field, as its wire type says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FieldValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Fields<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next field; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let start = self.at;
        let key = self.varint()?;
        let value = match key & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                FieldValue::Fixed64(bytes.try_into().map_or(0, u64::from_le_bytes))
            }
            2 => {
                let len = self.varint()?;
                FieldValue::Bytes(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            5 => {
                self.take(4)?;
                FieldValue::Fixed32
            }
            _ => return Err(Malformed("a field has an unknown wire type")),
        };
        Ok(Some(Field { number: key >> 3, value, start, end: self.at }))
    }

    /// The numbers of a packed list, which [`Fields::of`] was given the bytes of.
    pub(super) fn packed(mut self) -> impl Iterator<Item = Result<u64, Malformed>> {
        std::iter::from_fn(move || (self.at < self.bytes.len()).then(|| self.varint()))
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.bytes[self.at..].get(..len);
        let taken = taken.ok_or(Malformed("it ends in the middle of a field"))?;
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        // Keys of fields and most lengths are one byte.
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (index, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if index == 9 && *byte > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(Malformed("it ends in the middle of a number, or a number is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_wire_type_are_read_with_their_places() {
        let bytes =
            [0x08, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x19, 1, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0];
        let mut fields = Fields::of(&bytes);
        let mut read = Vec::new();
        while let Some(field) = fields.next().unwrap() {
            read.push((field.number, field.value, field.start..field.end));
        }
        let expected = [
            (1, FieldValue::Varint(300), 0..3),
            (2, FieldValue::Bytes(b"hi"), 3..7),
            (3, FieldValue::Fixed64(1), 7..16),
            (4, FieldValue::Fixed32, 16..21),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn the_largest_number_is_read_and_a_larger_one_refused() {
        let mut largest = [0xff_u8; 10];
        largest[9] = 1;
        let numbers: Result<Vec<u64>, _> = Fields::of(&largest).packed().collect();
        assert_eq!(numbers.unwrap(), [u64::MAX]);
        largest[9] = 2;
        assert!(Fields::of(&largest).packed().any(|number| number.is_err()));
        assert!(Fields::of(&[0x80]).next().is_err());
        assert!(Fields::of(&[0x0a, 5, 1]).next().is_err());
        assert!(Fields::of(&[0x0b]).next().is_err());
        let huge = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(Fields::of(&huge).next().is_err());
    }
}
