//! [`Quantity`]: the numbers of Kubernetes resources (`250m`, `64Mi`, `1e3`), exact to a billionth.
//!
//! Requests, limits, capacities and the Metrics API are written in this notation. It is here, and
//! not with the Kubernetes client, because the rounding decides what the metrics say.
//!
//! Source: the grammar in the Kubernetes API reference, "Quantity".

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;

const NANOS_PER_UNIT: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;
/// Kubernetes caps quantities with a binary suffix here, so that `8Ei` still is a number of bytes.
const BINARY_NANOS_MAX: i128 = i64::MAX as i128 * NANOS_PER_UNIT;

/// An amount of a resource: a decimal number with nine fractional digits, and its notation.
///
/// Finer digits round away from zero, so that asking for a little never becomes asking for
/// nothing. Amounts past 10^29 saturate there; no accessor can tell them apart. Two quantities are
/// equal when they are the same amount, however written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
}

/// How an amount is printed: as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// `1500m`, `2k`.
    DecimalSuffix,
    /// `100Mi`.
    BinarySuffix,
    /// `12e6`.
    Exponent,
}

/// What follows the digits.
enum Scale {
    /// Times ten to this power.
    Decimal(i64, Notation),
    /// Times two to this power.
    Binary(u32),
}

impl Quantity {
    /// Parses a quantity: a signed decimal number, then nothing, a suffix or a decimal exponent.
    ///
    /// Suffixes are `n u m k M G T P E` (powers of 1000) and `Ki Mi Gi Ti Pi Ei` (powers of 1024).
    ///
    /// # Errors
    /// [`ParseError`] when the text is anything else.
    ///
    /// # Cost
    /// Linear in the length of the text, whatever the exponent says.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::read(text).ok_or_else(|| {
            ParseError::new("quantity", text, "a Kubernetes quantity such as 250m, 64Mi or 1e3")
        })
    }

    /// A number of thousandths, such as millicores, in decimal notation.
    pub fn from_milli(milli: i64) -> Self {
        let nanos = i128::from(milli) * NANOS_PER_MILLI;
        Self { nanos, notation: Notation::DecimalSuffix }
    }

    /// A number of billionths, such as billionths of a core, in decimal notation.
    pub fn from_nano(nano: i64) -> Self {
        Self { nanos: i128::from(nano), notation: Notation::DecimalSuffix }
    }

    /// A number of bytes in binary notation.
    pub fn from_bytes(bytes: i64) -> Self {
        let nanos = i128::from(bytes) * NANOS_PER_UNIT;
        Self { nanos, notation: Notation::BinarySuffix }
    }

    /// The amount in whole units, rounded away from zero, saturating.
    pub fn value(self) -> i64 {
        saturate(divide_away_from_zero(self.nanos, NANOS_PER_UNIT))
    }

    /// The amount in thousandths, rounded away from zero, saturating.
    pub fn milli_value(self) -> i64 {
        saturate(divide_away_from_zero(self.nanos, NANOS_PER_MILLI))
    }

    fn read(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, rest) = split_digits(rest);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (magnitude, notation) = match read_scale(suffix)? {
            Scale::Decimal(exponent, notation) => {
                (decimal_nanos(whole, fraction, exponent), notation)
            }
            Scale::Binary(exponent) => {
                (binary_nanos(whole, fraction, exponent), Notation::BinarySuffix)
            }
        };
        Some(Self { nanos: if is_negative { -magnitude } else { magnitude }, notation })
    }
}

/// Splits off the leading ASCII digits.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn digits(text: &str) -> impl DoubleEndedIterator<Item = i128> {
    text.bytes().map(|byte| i128::from(byte.wrapping_sub(b'0')))
}

fn read_scale(suffix: &str) -> Option<Scale> {
    let decimal = |exponent| Some(Scale::Decimal(exponent, Notation::DecimalSuffix));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => Some(Scale::Binary(10)),
        "Mi" => Some(Scale::Binary(20)),
        "Gi" => Some(Scale::Binary(30)),
        "Ti" => Some(Scale::Binary(40)),
        "Pi" => Some(Scale::Binary(50)),
        "Ei" => Some(Scale::Binary(60)),
        _ => read_exponent(suffix.strip_prefix(['e', 'E'])?),
    }
}

fn read_exponent(text: &str) -> Option<Scale> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (number, rest) = split_digits(text);
    if number.is_empty() || !rest.is_empty() {
        return None;
    }
    // An exponent that does not fit says no more than one that is merely huge.
    let size = number.parse::<i64>().unwrap_or(i64::MAX);
    Some(Scale::Decimal(if is_negative { -size } else { size }, Notation::Exponent))
}

/// `whole.fraction × 10^exponent` in billionths, rounded up, saturating.
fn decimal_nanos(whole: &str, fraction: &str, exponent: i64) -> i128 {
    let count = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    // The digits read as one integer are to be shifted this many places to the left.
    let shift = exponent.saturating_sub(count(fraction)).saturating_add(9);
    let kept = count(whole).saturating_add(count(fraction)).saturating_add(shift.min(0));
    let mut nanos = 0_i128;
    let mut is_cut = false;
    for (index, digit) in (0_i64..).zip(digits(whole).chain(digits(fraction))) {
        if index < kept {
            nanos = nanos.saturating_mul(10).saturating_add(digit);
        } else {
            is_cut |= digit != 0;
        }
    }
    if nanos != 0 {
        // Saturates after at most 39 steps; from there on a further step changes nothing.
        for _ in (0..shift).take(39) {
            nanos = nanos.saturating_mul(10);
        }
    }
    nanos.saturating_add(i128::from(is_cut))
}

/// `whole.fraction × 2^exponent` in billionths, rounded up, capped.
fn binary_nanos(whole: &str, fraction: &str, exponent: u32) -> i128 {
    let unit = NANOS_PER_UNIT << exponent;
    let whole =
        digits(whole).fold(0_i128, |sum, digit| sum.saturating_mul(10).saturating_add(digit));
    // Long division from the last digit on: the floor of a nested quotient is the nested floor, so
    // only whether anything was cut off has to be remembered.
    let (part, is_cut) = digits(fraction).rfold((0_i128, false), |(part, is_cut), digit| {
        let sum = digit * unit + part;
        (sum / 10, is_cut | (sum % 10 != 0))
    });
    whole
        .saturating_mul(unit)
        .saturating_add(part)
        .saturating_add(i128::from(is_cut))
        .min(BINARY_NANOS_MAX)
}

fn divide_away_from_zero(number: i128, divisor: i128) -> i128 {
    let quotient = number / divisor;
    if number % divisor == 0 { quotient } else { quotient + number.signum() }
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

/// Divides by `step` while that leaves no remainder; returns what is left and how often it did.
fn reduce(mut number: i128, step: i64) -> (i128, usize) {
    let mut times = 0;
    // Divisions of 64 bits are much quicker, and nearly all amounts have no more.
    while let Ok(short) = i64::try_from(number) {
        if short == 0 || short % step != 0 {
            return (number, times);
        }
        (number, times) = (i128::from(short / step), times + 1);
    }
    while number % i128::from(step) == 0 {
        (number, times) = (number / i128::from(step), times + 1);
    }
    (number, times)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// The canonical form: no fraction, nothing lost, the largest suffix that does it.
///
/// Binary amounts below 1024 or with a fraction print as decimal ones.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let is_whole = self.nanos % NANOS_PER_UNIT == 0;
        let units = self.nanos / NANOS_PER_UNIT;
        if self.notation == Notation::BinarySuffix && is_whole && units.abs() >= 1024 {
            let (number, times) = reduce(units, 1024);
            if let Some(suffix) = BINARY.get(times) {
                return write!(f, "{number}{suffix}");
            }
        }
        let (number, times) = reduce(self.nanos, 1000);
        match DECIMAL.get(times) {
            Some(&"") => write!(f, "{number}"),
            Some(suffix) if self.notation != Notation::Exponent => write!(f, "{number}{suffix}"),
            _ => {
                let thousands = i64::try_from(times).unwrap_or(i64::MAX).saturating_sub(3);
                write!(f, "{number}e{}", thousands.saturating_mul(3))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot parse its own data has failed")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn every_suffix_scales() {
        for (text, value) in [
            ("1", 1),
            ("+7", 7),
            ("-3", -3),
            ("007", 7),
            ("1.", 1),
            (".5k", 500),
            ("1k", 1_000),
            ("1M", 1_000_000),
            ("1G", 1_000_000_000),
            ("1T", 1_000_000_000_000),
            ("1P", 1_000_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1Ki", 1 << 10),
            ("1Mi", 1 << 20),
            ("1Gi", 1 << 30),
            ("1Ti", 1 << 40),
            ("1Pi", 1 << 50),
            ("1Ei", 1 << 60),
            ("1.5Gi", 3 << 29),
            ("0.000001Mi", 2),
            ("2e3", 2_000),
            ("2E3", 2_000),
            ("2e+3", 2_000),
            ("2500e-2", 25),
        ] {
            assert_eq!(parse(text).value(), value, "{text}");
        }
        for (text, milli) in
            [("250m", 250), ("0.1", 100), ("1500u", 2), ("1n", 1), ("-1u", -1), ("2", 2_000)]
        {
            assert_eq!(parse(text).milli_value(), milli, "{text}");
        }
    }

    #[test]
    fn fractions_round_away_from_zero() {
        assert_eq!(parse("100m").value(), 1);
        assert_eq!(parse("-100m").value(), -1);
        assert_eq!(parse("1.0000000001").to_string(), "1000000001n");
        assert_eq!(parse("0.9n").to_string(), "1n");
        assert_eq!(parse("1e-999999999999999999999").to_string(), "1e-9");
        assert_eq!(parse("0.0000000000001Ki").value(), 1);
    }

    #[test]
    fn amounts_too_large_saturate_at_once() {
        assert_eq!(parse("1e999999999").value(), i64::MAX);
        assert_eq!(parse("-1e99999999999999999999999").milli_value(), i64::MIN);
        assert_eq!(parse("0e999999999").value(), 0);
        assert_eq!(parse("8Ei").value(), i64::MAX);
        assert_eq!(parse(&"9".repeat(100_000)).value(), i64::MAX);
        assert_eq!(parse(&format!("0.{}1Gi", "0".repeat(100_000))).value(), 1);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "+", "-", ".", "m", "Mi", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i",
            "-3.01i", "-3.01e-", "1e", "1e5m", "1e1.5", " 1", "1 ", "1 Mi", "--1", "+-1", "1K",
            "1KI", "١", "0x1", "1_000", "NaN", "inf",
        ] {
            let error = Quantity::parse(text).unwrap_err();
            assert_eq!(error.what(), "quantity", "{text}");
        }
    }

    #[test]
    fn canonical_text_is_that_of_kubernetes() {
        for (milli, text) in
            [(0, "0"), (250, "250m"), (1500, "1500m"), (2000, "2"), (-5, "-5m"), (2_000_000, "2k")]
        {
            assert_eq!(Quantity::from_milli(milli).to_string(), text);
        }
        for (bytes, text) in [
            (0, "0"),
            (500, "500"),
            (1000, "1k"),
            (1024, "1Ki"),
            (1500, "1500"),
            (104_857_600, "100Mi"),
            (1 << 60, "1Ei"),
            (-2048, "-2Ki"),
        ] {
            assert_eq!(Quantity::from_bytes(bytes).to_string(), text);
        }
        for (text, canonical) in [
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("12e6", "12e6"),
            ("1200e4", "12e6"),
            ("5e0", "5"),
            ("1000E", "1e21"),
            ("0.5Ki", "512"),
        ] {
            assert_eq!(parse(text).to_string(), canonical, "{text}");
        }
    }
}
