//! Protobuf as Kubernetes writes it: an envelope around the object, and fields of no value written
//! as well.

/// What every body begins with.
const MAGIC: [u8; 4] = *b"k8s\0";

/// Fields of a message, written one after the other.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// The metadata of a list: three empty texts.
    pub fn list_meta() -> Self {
        let mut meta = Self::default();
        (1..=3).for_each(|field| meta.text(field, ""));
        meta
    }

    /// Adds a text.
    pub fn text(&mut self, field: u8, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Adds an integer.
    pub fn int(&mut self, field: u8, value: i64) {
        self.0.push(field << 3);
        varint(&mut self.0, value.cast_unsigned());
    }

    /// Adds a message.
    pub fn message(&mut self, field: u8, message: &Self) {
        self.bytes(field, &message.0);
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        begin(&mut self.0, field, bytes.len());
        self.0.extend_from_slice(bytes);
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
    let mut types = Message::default();
    types.text(1, api_version);
    types.text(2, kind);
    let mut out = MAGIC.to_vec();
    begin(&mut out, 1, types.len());
    out.extend(types.into_bytes());
    begin(&mut out, 2, object_bytes);
    out
}

/// What follows the bytes of an object: no encoding and no type.
pub fn envelope_end() -> Vec<u8> {
    let mut end = Message::default();
    end.text(3, "");
    end.text(4, "");
    end.into_bytes()
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
