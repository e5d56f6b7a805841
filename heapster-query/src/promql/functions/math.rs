//! Functions of single numbers, with Go's corner cases.

use super::super::language::ast::Op;

/// The function of that name, of those that take a number and give one.
pub(in super::super) fn math(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => f64::acosh,
        "asin" => f64::asin,
        "asinh" => f64::asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        "sgn" => sign,
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return None,
    })
}

/// -1, 1, or the value itself where it has no sign: zeros and NaN.
fn sign(value: f64) -> f64 {
    if value < 0.0 {
        -1.0
    } else if value > 0.0 {
        1.0
    } else {
        value
    }
}

/// To the nearest multiple, halves up. Computed with the inverse, so that tenths come out as such.
pub(in super::super) fn round(value: f64, to: f64) -> f64 {
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// Within bounds; NaN when one of them is.
pub(in super::super) fn clamp(value: f64, min: Option<f64>, max: Option<f64>) -> f64 {
    let value = min.map_or(value, |min| greater(min, value));
    max.map_or(value, |max| lesser(max, value))
}

/// Go's `math.Max`: NaN when one of them is.
fn greater(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// The result of an operator of arithmetic.
pub(in super::super) fn binary(op: Op, a: f64, b: f64) -> f64 {
    match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Mod => a % b,
        Op::Pow => a.powf(b),
        Op::Atan2 => a.atan2(b),
        _ => f64::from(u8::from(compare(op, a, b))),
    }
}

/// Whether a comparison holds.
pub(in super::super) fn compare(op: Op, a: f64, b: f64) -> bool {
    match op {
        Op::Equal => a == b,
        Op::NotEqual => a != b,
        Op::Less => a < b,
        Op::LessOrEqual => a <= b,
        Op::Greater => a > b,
        Op::GreaterOrEqual => a >= b,
        _ => false,
    }
}

/// The quantile of values by linear interpolation; NaN counts as the least. Sorts the values.
pub(in super::super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.total_cmp(b),
        (a, b) => b.cmp(&a),
    });
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate_and_take_nan_for_the_least() {
        assert!((quantile(0.8, &mut [4.0, 0.0, 1.0]) - 2.8).abs() < 1e-12);
        assert!((quantile(0.8, &mut [1.0, f64::NAN, 0.0]) - 0.6).abs() < 1e-12);
        assert!(quantile(0.2, &mut [1.0, f64::NAN, 0.0]).is_nan());
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }

    #[test]
    fn rounding_goes_up_at_halves() {
        assert_eq!(round(-0.5, 1.0), 0.0);
        assert_eq!(round(2.5, 1.0), 3.0);
        assert_eq!(round(5.25, 0.1), 5.3);
        assert_eq!(round(13.0, 5.0), 15.0);
    }
}
