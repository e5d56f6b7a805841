//! Names of labels in paths, where anything but letters, digits and `_` is escaped as `U__` says.

/// The name that an escaped one stands for; one that is not escaped, or not well, stands for itself.
///
/// `U__cpu_2f_usage` is `cpu/usage`: behind the prefix `__` is `_`, and a code point in hexadecimal
/// stands between two `_`.
pub(super) fn unescape(name: &str) -> String {
    name.strip_prefix("U__").and_then(decode).unwrap_or_else(|| name.to_owned())
}

fn decode(escaped: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = escaped;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        if char != '_' {
            name.push(char);
            continue;
        }
        let (code, after) = rest.split_once('_')?;
        name.push(if code.is_empty() {
            '_'
        } else {
            let is_hex = code.len() <= 6 && code.bytes().all(|byte| byte.is_ascii_hexdigit());
            let code = is_hex.then(|| u32::from_str_radix(code, 16).ok())??;
            char::from_u32(code)?
        });
        rest = after;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_and_others_stand_for_themselves() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__job", "job"),
            ("U__cpu_2f_usage", "cpu/usage"),
            ("U__a__b", "a_b"),
            ("U______name____", "__name__"),
            ("U___1F600_", "😀"),
            ("U__", ""),
            ("U__a_", "U__a_"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__a_+2f_", "U__a_+2f_"),
            ("U__a_000002f_", "U__a_000002f_"),
        ] {
            assert_eq!(unescape(escaped), name, "{escaped}");
        }
    }
}
