//! [`JsonWriter`]: JSON as Go's `encoding/json` and go-restful write it, straight into one buffer.
//!
//! Clients have learned the original's bytes: its escapes, its floats, and an odd indentation that
//! begins each line but the first with one more space.

use std::fmt::{self, Write as _};

/// How the JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Indented as go-restful does; no newline at the end.
    Pretty,
    /// No spaces; a newline at the end.
    Plain,
    /// Indented by two spaces as Kubernetes does; no newline at the end.
    Indented,
}

/// Writes one JSON value. The caller is trusted to pair begins with ends and to write a key before
/// each value of an object; what it writes is then well-formed whatever the texts hold.
#[derive(Debug)]
pub struct JsonWriter {
    out: Vec<u8>,
    style: Style,
    depth: usize,
    /// Whether nothing was written in the innermost container yet.
    first: bool,
    /// Whether a key waits for its value.
    after_key: bool,
}

impl JsonWriter {
    /// A writer of one value.
    pub fn new(style: Style) -> Self {
        Self { out: Vec::with_capacity(256), style, depth: 0, first: true, after_key: false }
    }

    /// The bytes; call when the value is complete.
    pub fn finish(mut self) -> Vec<u8> {
        if self.style == Style::Plain {
            self.out.push(b'\n');
        }
        self.out
    }

    /// How many bytes wait to be taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes the bytes written so far; what follows goes behind them.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Begins an object.
    pub fn begin_object(&mut self) {
        self.begin(b'{');
    }

    /// Ends an object.
    pub fn end_object(&mut self) {
        self.end(b'}');
    }

    /// Begins an array.
    pub fn begin_array(&mut self) {
        self.begin(b'[');
    }

    /// Ends an array.
    pub fn end_array(&mut self) {
        self.end(b']');
    }

    /// A key of an object.
    pub fn key(&mut self, key: &str) {
        self.before_value();
        self.quoted(key);
        self.out.extend_from_slice(if self.style == Style::Plain { b":" } else { b": " });
        self.after_key = true;
    }

    /// A text.
    pub fn string(&mut self, text: &str) {
        self.before_value();
        self.quoted(text);
    }

    /// A text made by formatting, such as a time. It must not hold what JSON escapes.
    pub fn plain_text(&mut self, text: impl fmt::Display) {
        self.before_value();
        self.out.push(b'"');
        self.format(text);
        self.out.push(b'"');
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) {
        self.before_value();
        self.format(value);
    }

    /// A number made by formatting. It must be one of JSON.
    pub fn number(&mut self, number: impl fmt::Display) {
        self.before_value();
        self.format(number);
    }

    /// True or false.
    pub fn boolean(&mut self, value: bool) {
        self.before_value();
        self.format(value);
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) {
        self.before_value();
        self.format(value);
    }

    /// A float; JSON has no word for NaN and the infinities, which become `null`.
    pub fn float(&mut self, value: f64) {
        self.before_value();
        let size = value.abs();
        if !value.is_finite() {
            self.out.extend_from_slice(b"null");
        } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = format!("{value:e}");
            // Go writes the sign of every exponent.
            let text = match text.split_once('e') {
                Some((digits, exponent)) if !exponent.starts_with('-') => {
                    format!("{digits}e+{exponent}")
                }
                _ => text,
            };
            self.out.extend_from_slice(text.as_bytes());
        } else {
            self.format(value);
        }
    }

    /// `null`.
    pub fn null(&mut self) {
        self.before_value();
        self.out.extend_from_slice(b"null");
    }

    fn begin(&mut self, bracket: u8) {
        self.before_value();
        self.out.push(bracket);
        self.depth += 1;
        self.first = true;
    }

    fn end(&mut self, bracket: u8) {
        self.depth = self.depth.saturating_sub(1);
        if !self.first {
            self.new_line();
        }
        self.out.push(bracket);
        self.first = false;
    }

    fn before_value(&mut self) {
        if self.after_key {
            self.after_key = false;
        } else if self.depth > 0 {
            if !self.first {
                self.out.push(b',');
            }
            self.new_line();
        }
        self.first = false;
    }

    fn new_line(&mut self) {
        let indent = match self.style {
            Style::Plain => return,
            Style::Pretty => 1 + self.depth,
            Style::Indented => 2 * self.depth,
        };
        self.out.push(b'\n');
        self.out.resize(self.out.len() + indent, b' ');
    }

    fn quoted(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut copied = 0;
        for (index, byte) in bytes.iter().enumerate() {
            let (escape, length): (&[u8], usize) = match byte {
                b'"' => (b"\\\"", 1),
                b'\\' => (b"\\\\", 1),
                b'\n' => (b"\\n", 1),
                b'\r' => (b"\\r", 1),
                b'\t' => (b"\\t", 1),
                b'<' | b'>' | b'&' | 0..0x20 => (b"\\u00", 1),
                // U+2028 and U+2029 end a line in JavaScript: e2 80 a8 and e2 80 a9.
                0xe2 if bytes[index..].starts_with(b"\xe2\x80\xa8") => (b"\\u2028", 3),
                0xe2 if bytes[index..].starts_with(b"\xe2\x80\xa9") => (b"\\u2029", 3),
                _ => continue,
            };
            self.out.extend_from_slice(&bytes[copied..index]);
            self.out.extend_from_slice(escape);
            if escape == b"\\u00" {
                self.out.push(HEX[usize::from(byte >> 4)]);
                self.out.push(HEX[usize::from(byte & 15)]);
            }
            copied = index + length;
        }
        self.out.extend_from_slice(&bytes[copied..]);
        self.out.push(b'"');
    }

    fn format(&mut self, value: impl fmt::Display) {
        // Writing to memory does not fail.
        let _ = write!(Appender(&mut self.out), "{value}");
    }
}

struct Appender<'a>(&'a mut Vec<u8>);

impl fmt::Write for Appender<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(style: Style, write: impl FnOnce(&mut JsonWriter)) -> String {
        let mut writer = JsonWriter::new(style);
        write(&mut writer);
        String::from_utf8(writer.finish()).unwrap()
    }

    fn sample(json: &mut JsonWriter) {
        json.begin_object();
        json.key("a");
        json.begin_array();
        json.end_array();
        json.key("b");
        json.begin_array();
        json.int(-1);
        json.string("x");
        json.end_array();
        json.key("c");
        json.begin_object();
        json.end_object();
        json.end_object();
    }

    #[test]
    fn pretty_json_is_indented_as_go_restful_does() {
        assert_eq!(
            written(Style::Pretty, sample),
            "{\n  \"a\": [],\n  \"b\": [\n   -1,\n   \"x\"\n  ],\n  \"c\": {}\n }"
        );
        let one = |json: &mut JsonWriter| {
            json.begin_array();
            json.string("a");
            json.end_array();
        };
        assert_eq!(written(Style::Pretty, one), "[\n  \"a\"\n ]");
    }

    #[test]
    fn plain_json_has_no_spaces_and_ends_its_line() {
        assert_eq!(written(Style::Plain, sample), "{\"a\":[],\"b\":[-1,\"x\"],\"c\":{}}\n");
    }

    #[test]
    fn texts_are_escaped_as_go_does() {
        let text = "<a>&\"\\\n\r\t\u{1}\u{8}\u{7f}\u{2028}\u{2029}\u{2030}é";
        assert_eq!(
            written(Style::Plain, |json| json.string(text)),
            "\"\\u003ca\\u003e\\u0026\\\"\\\\\\n\\r\\t\\u0001\\u0008\u{7f}\\u2028\\u2029\u{2030}é\"\n"
        );
    }

    #[test]
    fn floats_have_the_fewest_digits_and_gos_exponents() {
        for (value, text) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-2.5e30, "-2.5e+30"),
            (278_847_440.333_333_3, "278847440.3333333"),
            (f64::NAN, "null"),
            (f64::INFINITY, "null"),
        ] {
            assert_eq!(written(Style::Plain, |json| json.float(value)), format!("{text}\n"));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_back_as_itself(text in ".*") {
            let json = written(Style::Pretty, |json| json.string(&text));
            proptest::prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
