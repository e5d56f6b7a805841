//! Quoted texts by Go's rules, which are those of PromQL.

use super::Fault;
use super::ast::Span;

/// What a quoted text stands for. Bytes, since `"\xff"` is allowed and no UTF-8.
///
/// `quoted` holds the quotes; `start` is where it stands in the query.
pub(super) fn unquote(quoted: &str, start: usize) -> Result<Vec<u8>, Fault> {
    let inner = &quoted[1..quoted.len() - 1];
    if quoted.starts_with('`') {
        return Ok(inner.replace('\r', "").into_bytes());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut chars = inner.char_indices();
    while let Some((at, char)) = chars.next() {
        if char != '\\' {
            bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let span = Span { start: start + 1 + at, end: start + 2 + at };
        let (used, value) = escape(&inner[at + 1..], quoted.as_bytes()[0])
            .ok_or_else(|| bad_escape(span, &inner[at + 1..]))?;
        match value {
            Escaped::Byte(byte) => bytes.push(byte),
            Escaped::Char(char) => {
                bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        // What was used is ASCII.
        for _ in 0..used {
            chars.next();
        }
    }
    Ok(bytes)
}

fn bad_escape(span: Span, rest: &str) -> Fault {
    match rest.chars().next() {
        None => Fault::new(span, "escape sequence not terminated"),
        Some(char) if "xuU01234567".contains(char) => {
            Fault::new(span, "escape sequence is not terminated or no valid character")
        }
        Some(char) => {
            Fault::new(span, format!("unknown escape sequence U+{:04X} {char:?}", u32::from(char)))
        }
    }
}

enum Escaped {
    Byte(u8),
    Char(char),
}

/// The value after a backslash and how many bytes it has.
fn escape(rest: &str, quote: u8) -> Option<(usize, Escaped)> {
    let first = *rest.as_bytes().first()?;
    let number = |from: usize, len: usize, radix: u32| {
        let digits = rest.get(from..from + len)?;
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
    };
    let byte = |value: u8| Some((1, Escaped::Byte(value)));
    match first {
        b'a' => byte(0x07),
        b'b' => byte(0x08),
        b'f' => byte(0x0c),
        b'n' => byte(b'\n'),
        b'r' => byte(b'\r'),
        b't' => byte(b'\t'),
        b'v' => byte(0x0b),
        b'\\' => byte(b'\\'),
        _ if first == quote => byte(quote),
        b'x' => Some((3, Escaped::Byte(number(1, 2, 16)? as u8))),
        b'0'..=b'7' => Some((3, Escaped::Byte(u8::try_from(number(0, 3, 8)?).ok()?))),
        b'u' => Some((5, Escaped::Char(char::from_u32(number(1, 4, 16)?)?))),
        b'U' => Some((9, Escaped::Char(char::from_u32(number(1, 8, 16)?)?))),
        _ => None,
    }
}

/// A text in quotes, with escapes where they are needed to read it back.
pub(crate) fn quoted(text: &str) -> String {
    quoted_bytes(text.as_bytes())
}

/// As [`quoted`], of bytes that need not be UTF-8.
pub(crate) fn quoted_bytes(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' => quoted += "\\\"",
                '\\' => quoted += "\\\\",
                '\n' => quoted += "\\n",
                '\r' => quoted += "\\r",
                '\t' => quoted += "\\t",
                _ if char.is_ascii_control() => quoted += &format!("\\x{:02x}", u32::from(char)),
                _ if char.is_control() => quoted += &format!("\\u{:04x}", u32::from(char)),
                _ => quoted.push(char),
            }
        }
        for byte in chunk.invalid() {
            quoted += &format!("\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}
