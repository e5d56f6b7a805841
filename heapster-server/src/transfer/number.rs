//! How values are written in text so that they come back with their kind and bit for bit.
//!
//! An integer has digits only; a float has a point, an exponent, or is `inf` or `NaN`. A NaN with
//! other bits than Rust's usual one is written with them.

use std::io::{self, Write};

use heapster_core::Value;

/// How infinities and NaN are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `inf`, `-inf`, `NaN`, and `NaN(0x7ff0000000000002)` for other bits.
    Exact,
    /// `+Inf`, `-Inf`, and `NaN` whatever its bits are.
    Prometheus,
}

/// Writes a value.
pub(super) fn put(value: Value, spelling: Spelling, to: &mut impl Write) -> io::Result<()> {
    match (value, spelling) {
        (Value::Int(int), _) => write!(to, "{int}"),
        (Value::Float(float), Spelling::Exact) if float.is_nan() => {
            if float.to_bits() == f64::NAN.to_bits() {
                to.write_all(b"NaN")
            } else {
                write!(to, "NaN(0x{:016x})", float.to_bits())
            }
        }
        (Value::Float(f64::INFINITY), Spelling::Prometheus) => to.write_all(b"+Inf"),
        (Value::Float(f64::NEG_INFINITY), Spelling::Prometheus) => to.write_all(b"-Inf"),
        // The shortest text that reads back as the same bits; it has a point or an exponent.
        (Value::Float(float), _) => write!(to, "{float:?}"),
    }
}

/// Reads a value: what has digits only is an integer, unless `floats` says that nothing is.
pub(super) fn read(text: &str, floats: bool) -> Option<Value> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Only a float can be less than zero and yet zero.
    let is_negative_zero = text.starts_with('-') && digits.bytes().all(|byte| byte == b'0');
    if is_whole
        && !floats
        && !is_negative_zero
        && let Ok(int) = text.parse()
    {
        return Some(Value::Int(int));
    }
    if let Some(bits) = text.strip_prefix("NaN(0x").and_then(|rest| rest.strip_suffix(')')) {
        let bits = (bits.len() == 16).then(|| u64::from_str_radix(bits, 16).ok()).flatten()?;
        return Some(f64::from_bits(bits)).filter(|float| float.is_nan()).map(Value::Float);
    }
    text.parse().ok().map(Value::Float)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: Value, spelling: Spelling) -> String {
        let mut text = Vec::new();
        put(value, spelling, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    proptest! {
        #[test]
        fn every_integer_and_every_bit_of_a_float_comes_back(int: i64, bits: u64) {
            for value in [Value::Int(int), Value::Float(f64::from_bits(bits))] {
                prop_assert_eq!(read(&text(value, Spelling::Exact), false), Some(value));
            }
        }

        #[test]
        fn prometheus_text_loses_nothing_but_the_bits_of_nan(int: i64, bits: u64) {
            let float = f64::from_bits(bits);
            let kept = if float.is_nan() { f64::NAN } else { float };
            let again = read(&text(Value::Float(float), Spelling::Prometheus), false);
            prop_assert_eq!(again, Some(Value::Float(kept)));
            let again = read(&text(Value::Int(int), Spelling::Prometheus), false);
            prop_assert_eq!(again, Some(Value::Int(int)));
        }
    }

    #[test]
    fn values_at_the_edges_are_spelled_as_documented() {
        const STALE: u64 = 0x7ff0_0000_0000_0002;
        for (value, exact, prometheus) in [
            (Value::Int(5), "5", "5"),
            (Value::Float(5.0), "5.0", "5.0"),
            (Value::Float(-0.0), "-0.0", "-0.0"),
            (Value::Float(1e300), "1e300", "1e300"),
            (Value::Float(f64::INFINITY), "inf", "+Inf"),
            (Value::Float(f64::NEG_INFINITY), "-inf", "-Inf"),
            (Value::Float(f64::NAN), "NaN", "NaN"),
            (Value::Float(f64::from_bits(STALE)), "NaN(0x7ff0000000000002)", "NaN"),
        ] {
            assert_eq!(text(value, Spelling::Exact), exact);
            assert_eq!(text(value, Spelling::Prometheus), prometheus);
        }
    }

    #[test]
    fn what_other_programs_write_is_understood() {
        for (text, value) in [
            ("+5", Some(Value::Int(5))),
            ("-0", Some(Value::Float(-0.0))),
            ("1e3", Some(Value::Float(1000.0))),
            ("+Inf", Some(Value::Float(f64::INFINITY))),
            ("nan", Some(Value::Float(f64::NAN))),
            ("9223372036854775808", Some(Value::Float(9_223_372_036_854_775_808.0))),
            ("NaN(0x0000000000000000)", None),
            ("NaN(0x7ff)", None),
            ("", None),
            ("-", None),
            ("0x10", None),
            ("1_000", None),
            ("five", None),
        ] {
            assert_eq!(read(text, false), value, "{text}");
        }
        assert_eq!(read("5", true), Some(Value::Float(5.0)));
    }
}
