//! Quantities over arbitrary input.

use heapster_core::Quantity;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_text_is_a_quantity_or_an_error(text in r"\PC*") {
        let _ = Quantity::parse(&text);
    }

    #[test]
    fn near_quantities_are_told_from_quantities(
        text in r"[+-]?[0-9]{0,40}\.?[0-9]{0,40}([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{0,30})?",
    ) {
        let has_digit = text.trim_start_matches(['+', '-', '.']).starts_with(|c: char| c.is_ascii_digit());
        // A final `E` is a suffix of its own.
        let lacks_exponent = text.ends_with(['e', '+', '-']);
        prop_assert_eq!(Quantity::parse(&text).is_ok(), has_digit && !lacks_exponent, "{}", text);
    }

    #[test]
    fn printing_and_parsing_is_identity(milli in any::<i64>(), bytes in any::<i64>()) {
        for quantity in [Quantity::from_milli(milli), Quantity::from_bytes(bytes)] {
            let again = Quantity::parse(&quantity.to_string()).unwrap();
            prop_assert_eq!(again, quantity);
        }
        prop_assert_eq!(Quantity::from_milli(milli).milli_value(), milli);
        prop_assert_eq!(Quantity::from_bytes(bytes).value(), bytes);
    }

    #[test]
    fn whole_units_are_thousandths_rounded_away_from_zero(milli in any::<i64>()) {
        let value = i128::from(Quantity::from_milli(milli).value());
        let milli = i128::from(milli);
        prop_assert!(value.abs() * 1000 >= milli.abs());
        prop_assert!((value.abs() * 1000) - milli.abs() < 1000);
        prop_assert!(value.signum() == milli.signum());
    }

    #[test]
    fn moving_the_point_and_the_exponent_together_changes_nothing(
        digits in "[1-9][0-9]{0,17}",
        shift in 1..=9_usize,
    ) {
        let plain = Quantity::parse(&digits).unwrap();
        let padded = format!("{digits:0>18}");
        let (whole, fraction) = padded.split_at(18 - shift);
        for text in [
            format!("{whole}.{fraction}e{shift}"),
            format!("{digits}{}e-{shift}", "0".repeat(shift)),
        ] {
            prop_assert_eq!(Quantity::parse(&text).unwrap(), plain, "{}", text);
        }
    }

    #[test]
    fn a_binary_suffix_multiplies_exactly(number in 0..1_i64 << 23, hundredths in 0..100_i64) {
        for (suffix, shift) in [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)] {
            let quantity = Quantity::parse(&format!("{number}.{hundredths:02}{suffix}")).unwrap();
            let exact = i128::from(number * 100 + hundredths) << shift;
            let rounded_up = exact / 100 + i128::from(exact % 100 != 0);
            prop_assert_eq!(i128::from(quantity.value()), rounded_up);
        }
    }
}
