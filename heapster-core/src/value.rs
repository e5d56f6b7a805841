//! Values: an exact integer or a float, and how the number behaves over time.

use std::cmp::Ordering;
use std::fmt;

/// The bits of the NaN with which Prometheus says that a series ended.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The number of a sample: an exact 64-bit integer or a 64-bit float.
///
/// Integers are never turned into floats on the way to disk and back: `cpu/usage` in nanoseconds
/// passes 2^53, the last exactly representable float, after 104 core-days.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// An exact integer.
    Int(i64),
    /// A float; every bit pattern is kept, NaN payloads and the sign of zero included.
    Float(f64),
}

impl Value {
    /// The value as a float; integers beyond 2^53 round to nearest.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// Whether it is a float that is not a number, staleness markers included.
    pub fn is_nan(self) -> bool {
        matches!(self, Self::Float(value) if value.is_nan())
    }

    /// Whether it is Prometheus's staleness marker: not a sample, but the word that a series ended.
    pub fn is_stale(self) -> bool {
        matches!(self, Self::Float(value) if value.to_bits() == STALE_BITS)
    }

    /// The integer, or `None` for a float.
    pub fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Float(_) => None,
        }
    }

    /// Order by number, exact across the two kinds; a total order in which all NaNs are equal and
    /// greater than every number, and both zeros are equal.
    pub fn numeric_cmp(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Int(a), Self::Float(b)) => cmp_int_float(a, b),
            (Self::Float(a), Self::Int(b)) => cmp_int_float(b, a).reverse(),
            (Self::Float(a), Self::Float(b)) => {
                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
        }
    }
}

fn cmp_int_float(int: i64, float: f64) -> Ordering {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() || float >= TWO_TO_63 {
        return Ordering::Less;
    }
    if float < -TWO_TO_63 {
        return Ordering::Greater;
    }
    // Truncation is exact in this range; what it cut off decides between equals.
    let whole = float.trunc();
    int.cmp(&(whole as i64)).then_with(|| whole.partial_cmp(&float).unwrap_or(Ordering::Equal))
}

/// Equality of kind and bits: a NaN equals itself, `0.0` differs from `-0.0`, `1` from `1.0`.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

impl Eq for Value {}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
        }
    }
}

/// How a metric behaves over time. Prints as Heapster prints it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricKind {
    /// Only rises, except when it starts again from zero (Prometheus: counter).
    #[default]
    Cumulative,
    /// Any value at any time.
    Gauge,
    /// The change since the previous sample.
    Delta,
}

impl MetricKind {
    /// The word on the wire: `cumulative`, `gauge` or `delta`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cumulative => "cumulative",
            Self::Gauge => "gauge",
            Self::Delta => "delta",
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number together with its kind: what a metric set holds under a metric's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricValue {
    /// The number, in the unit of the metric's descriptor.
    pub value: Value,
    /// How it behaves over time.
    pub kind: MetricKind,
}

impl MetricValue {
    /// A gauge.
    pub fn gauge(value: impl Into<Value>) -> Self {
        Self { value: value.into(), kind: MetricKind::Gauge }
    }

    /// A cumulative metric.
    pub fn cumulative(value: impl Into<Value>) -> Self {
        Self { value: value.into(), kind: MetricKind::Cumulative }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_are_ordered_exactly() {
        let rising = [
            Value::Float(f64::NEG_INFINITY),
            Value::Int(i64::MIN),
            Value::Float(-1.5),
            Value::Int(-1),
            Value::Float(0.0),
            Value::Float(0.5),
            Value::Float(9_007_199_254_740_992.0),
            Value::Int(9_007_199_254_740_993),
            Value::Int(i64::MAX),
            Value::Float(9.3e18),
            Value::Float(f64::NAN),
        ];
        for (i, a) in rising.iter().enumerate() {
            for (j, b) in rising.iter().enumerate() {
                assert_eq!(a.numeric_cmp(*b), i.cmp(&j), "{a} against {b}");
            }
        }
        assert_eq!(Value::Float(-0.0).numeric_cmp(Value::Int(0)), Ordering::Equal);
    }
}
