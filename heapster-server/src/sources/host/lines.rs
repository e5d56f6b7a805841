//! Reading the kernel's text files: words on lines, numbers after keys. Bytes that make no sense
//! are passed over; nothing here fails or allocates.

/// The lines of a file.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// A number as the kernel prints it: digits only, and small enough for a metric's value.
pub(super) fn number(word: &[u8]) -> Option<i64> {
    // Digits only: `parse` would also take a sign.
    if !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// The number a file consists of.
pub(super) fn only_number(bytes: &[u8]) -> Option<i64> {
    number(bytes.trim_ascii())
}

/// The numbers that stand after these keys (`key 12` or `key: 12 kB`), in the order of the keys.
/// Of two lines with one key the first counts.
pub(super) fn numbers<const N: usize>(bytes: &[u8], keys: [&str; N]) -> [Option<i64>; N] {
    let mut found = [None; N];
    let mut missing = N;
    for line in lines(bytes) {
        let mut words = words(line);
        let Some(key) = words.next() else { continue };
        let key = key.strip_suffix(b":").unwrap_or(key);
        let Some(index) = keys.iter().position(|wanted| wanted.as_bytes() == key) else { continue };
        if found[index].is_none() {
            found[index] = words.next().and_then(number);
            missing -= usize::from(found[index].is_some());
            if missing == 0 {
                break;
            }
        }
    }
    found
}

/// A decimal fraction such as `0.59` or `4381.20`, times a thousand; further digits are cut off.
pub(super) fn thousandths(word: &[u8]) -> Option<i64> {
    let (whole, fraction) = match word.iter().position(|byte| *byte == b'.') {
        Some(point) => (&word[..point], &word[point + 1..]),
        None => (word, &b""[..]),
    };
    if whole.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |index: usize| fraction.get(index).map_or(0, |byte| i64::from(byte - b'0'));
    number(whole)?.checked_mul(1000)?.checked_add(digit(0) * 100 + digit(1) * 10 + digit(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_that_fit_are_numbers() {
        assert_eq!(number(b"9223372036854775807"), Some(i64::MAX));
        for bad in ["", "9223372036854775808", "99999999999999999999999", "-1", "+1", "1e3", "max"]
        {
            assert_eq!(number(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_found_with_and_without_a_colon_and_among_garbage() {
        let text = b"MemFree:  7 kB\n\xff\xfe\x00\n\nMemTotal:\t12 kB\nMemTotal: 13 kB\nMem: x\n";
        assert_eq!(numbers(text, ["MemTotal", "MemFree", "Mem"]), [Some(12), Some(7), None]);
    }

    #[test]
    fn fractions_become_exact_thousandths() {
        for (text, expected) in [
            ("0.59", Some(590)),
            ("12", Some(12_000)),
            ("4381.2059", Some(4_381_205)),
            (".5", None),
            ("1.x", None),
            ("-1.0", None),
            ("9223372036854775807.0", None),
        ] {
            assert_eq!(thousandths(text.as_bytes()), expected, "{text}");
        }
    }
}
