//! Durations as they are written: `1h30m`, units falling, each at most once.

/// Units and their milliseconds, in the order they must come in.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Milliseconds of a duration; `None` when the text is none or beyond 292 years, which is where
/// Prometheus ends.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut next_unit = 0;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: i64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let index = UNITS.iter().position(|(unit, _)| *unit == &rest[..letters])?;
        if index < next_unit {
            return None;
        }
        next_unit = index + 1;
        rest = &rest[letters..];
        total = total.checked_add(amount.checked_mul(UNITS[index].1)?)?;
    }
    (next_unit > 0 && total <= super::ast::DURATION_MAX_MS).then_some(total)
}

/// A duration as Prometheus prints it: the largest units that leave no remainder of their own, as
/// `1h30m` or `36h`.
pub(crate) fn print_millis(millis: i64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut rest = millis.unsigned_abs();
    let mut text = if millis < 0 { "-".to_owned() } else { String::new() };
    for (index, (unit, size)) in UNITS.into_iter().enumerate() {
        let size = size.unsigned_abs();
        // Years, weeks and days are only written when nothing is left over.
        if index < 3 && !rest.is_multiple_of(size) {
            continue;
        }
        if rest / size > 0 {
            text += &format!("{}{unit}", rest / size);
            rest %= size;
        }
    }
    text
}

impl super::ast::Duration {
    /// Its milliseconds where no query is needed to know them.
    pub(crate) fn literal_millis(&self) -> Option<i64> {
        match self {
            Self::Millis(millis) => Some(*millis),
            Self::Seconds(seconds) => Some((seconds * 1000.0) as i64),
            Self::Paren(inner) => inner.literal_millis(),
            Self::Negative(inner) => inner.literal_millis().map(|millis| -millis),
            _ => None,
        }
    }
}
