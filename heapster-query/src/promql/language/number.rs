//! Numbers as they are written: decimal, hexadecimal, octal as in Go, with `_` between digits.

/// The value of a number without a sign; `None` when the text is none.
///
/// A leading zero makes an integer octal if all its digits are, as in Prometheus, which reads
/// integers by Go's rules: `010` is 8 and `089` is 89.
pub(super) fn parse(text: &str) -> Option<f64> {
    match text.to_ascii_lowercase().as_str() {
        "inf" => return Some(f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let digits = digits.strip_prefix('_').unwrap_or(digits);
        let digits = without_separators(digits, |byte| byte.is_ascii_hexdigit())?;
        return digits.bytes().try_fold(0.0_f64, |value, byte| {
            let digit = char::from(byte).to_digit(16)?;
            Some(value * 16.0 + f64::from(digit))
        });
    }
    let digits = without_separators(text, |byte| byte.is_ascii_digit())?;
    let is_number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !is_number || !digits.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(octal) = i64::from_str_radix(&digits, 8)
    {
        return Some(octal as f64);
    }
    digits.parse().ok()
}

/// The text without `_`, each of which must stand between digits.
fn without_separators(text: &str, is_digit: impl Fn(u8) -> bool) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let digit_at = |index: Option<usize>| {
            index.and_then(|index| bytes.get(index)).is_some_and(|byte| is_digit(*byte))
        };
        if *byte == b'_' && !(digit_at(index.checked_sub(1)) && digit_at(Some(index + 1))) {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

/// A number as Prometheus prints it in expressions and labels: the shortest text that reads back to
/// it, without an exponent.
pub(crate) fn print(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}
