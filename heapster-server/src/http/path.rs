//! Paths of requests: decoding, and the clean form that Go's mux redirects to.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// The path with its percent escapes decoded; `None` when an escape is malformed. Bytes that are
/// no UTF-8 become U+FFFD, and so name nothing that exists.
pub(crate) fn decode(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let hex = |offset: usize| bytes.get(index + offset).is_some_and(u8::is_ascii_hexdigit);
        if *byte == b'%' && !(hex(1) && hex(2)) {
            return None;
        }
    }
    Some(percent_decode_str(path).decode_utf8_lossy().into_owned())
}

/// The path without empty, `.` and `..` segments; a slash at the end is kept.
pub(crate) fn clean(path: &str) -> Cow<'_, str> {
    let is_clean = path.starts_with('/')
        && path.strip_prefix('/').is_some_and(|rest| {
            let rest = rest.strip_suffix('/').unwrap_or(rest);
            rest.is_empty() && path.len() == 1
                || !rest.is_empty() && rest.split('/').all(|s| !matches!(s, "" | "." | ".."))
        });
    if is_clean {
        return Cow::Borrowed(path);
    }
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean.len() > 1 {
        clean.push('/');
    }
    Cow::Owned(clean)
}

/// Encodes a decoded path for a `Location` header.
pub(crate) fn encode(path: &str) -> String {
    const UNSAFE: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'#')
        .add(b'%')
        .add(b'<')
        .add(b'>')
        .add(b'?')
        .add(b'[')
        .add(b'\\')
        .add(b']')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    utf8_percent_encode(path, UNSAFE).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_path_has_no_empty_or_dot_segments() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a//b", "/a/b"),
            ("//evil.example/x", "/evil.example/x"),
            ("/a/./b/../c", "/a/c"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("/a.b/..c", "/a.b/..c"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn escapes_are_decoded_and_malformed_ones_refused() {
        assert_eq!(decode("/a%2Fb%20c").as_deref(), Some("/a/b c"));
        assert_eq!(decode("/a%ff").as_deref(), Some("/a\u{fffd}"));
        for bad in ["/%", "/%4", "/%zz"] {
            assert_eq!(decode(bad), None);
        }
        assert_eq!(decode(&encode("/a b%?é")).as_deref(), Some("/a b%?é"));
    }
}
