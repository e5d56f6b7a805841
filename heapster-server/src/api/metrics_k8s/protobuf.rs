//! Protobuf as Kubernetes writes it: an envelope around the object, and fields of no value written
//! as well.

/// What every body begins with.
const MAGIC: [u8; 4] = *b"k8s\0";

/// Fields of a message, written one after the other.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A message with what `fill` adds.
    pub fn of(fill: impl FnOnce(&mut Self)) -> Self {
        let mut message = Self::default();
        fill(&mut message);
        message
    }

    /// Adds the metadata of a list: three empty texts.
    pub fn list_meta(&mut self, field: u8) {
        self.nested(field, |meta| (1..=3).for_each(|field| meta.text(field, "")));
    }

    /// Adds a text.
    pub fn text(&mut self, field: u8, text: &str) {
        begin(&mut self.0, field, text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Adds an integer.
    pub fn int(&mut self, field: u8, value: i64) {
        self.0.push(field << 3);
        varint(&mut self.0, value.cast_unsigned());
    }

    /// Adds a message with what `fill` adds to it. Its length stands before it and is known after it:
    /// a byte is kept for it, which is enough for most, and the few bytes of longer ones are moved.
    pub fn nested(&mut self, field: u8, fill: impl FnOnce(&mut Self)) {
        begin(&mut self.0, field, 0);
        let start = self.0.len();
        fill(self);
        let length = self.0.len() - start;
        if length < 0x80 {
            self.0[start - 1] = length as u8;
        } else {
            let mut prefix = Vec::with_capacity(4);
            varint(&mut prefix, length as u64);
            self.0.splice(start - 1..start, prefix);
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes everything out again.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An object in its envelope.
pub fn enclosed(api_version: &str, kind: &str, object: &Message) -> Vec<u8> {
    let mut out = envelope(api_version, kind, object.len());
    out.extend_from_slice(&object.0);
    out.extend(envelope_end());
    out
}

/// What precedes the bytes of an object of that size.
pub fn envelope(api_version: &str, kind: &str, object_bytes: usize) -> Vec<u8> {
    let types = Message::of(|all| {
        all.nested(1, |types| {
            types.text(1, api_version);
            types.text(2, kind);
        });
    });
    let mut out = [&MAGIC[..], types.as_bytes()].concat();
    begin(&mut out, 2, object_bytes);
    out
}

/// What follows the bytes of an object: no encoding and no type.
pub fn envelope_end() -> Vec<u8> {
    let end = Message::of(|end| (3..=4).for_each(|field| end.text(field, "")));
    end.0
}

/// Begins a field of that many bytes. Fields have numbers below 16 here, so their keys are a byte.
pub fn begin(out: &mut Vec<u8>, field: u8, bytes: usize) {
    out.push(field << 3 | 2);
    varint(out, bytes as u64);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
