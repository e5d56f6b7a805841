//! [`Sum`] and [`Totals`]: the one place where metrics of several sets become one.
//!
//! Integers are summed exactly and clamped at the end, so the order of the sets does not matter.

use crate::{MetricKind, MetricSet, MetricValue, Metrics, Value};

/// The sum of one metric over several sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    total: Total,
    /// The kind of the first value.
    kind: MetricKind,
}

#[derive(Clone, Copy, Debug)]
enum Total {
    Int(i128),
    Float(f64),
    /// Integers and floats met, so there is no sum to give.
    Mixed,
}

impl Sum {
    /// A sum of one value.
    pub(super) fn of(metric: MetricValue) -> Self {
        let total = match metric.value {
            Value::Int(value) => Total::Int(value.into()),
            Value::Float(value) => Total::Float(value),
        };
        Self { total, kind: metric.kind }
    }

    /// Adds a value.
    pub(super) fn add(&mut self, metric: MetricValue) {
        self.total = match (self.total, metric.value) {
            (Total::Int(sum), Value::Int(value)) => Total::Int(sum + i128::from(value)),
            (Total::Float(sum), Value::Float(value)) => Total::Float(sum + value),
            _ => Total::Mixed,
        };
    }

    /// The sum, clamped to what an integer holds; `None` when integers and floats were mixed.
    pub(super) fn finish(self) -> Option<MetricValue> {
        let value = match self.total {
            Total::Int(sum) => {
                Value::Int(i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX }))
            }
            Total::Float(sum) => Value::Float(sum),
            Total::Mixed => return None,
        };
        Some(MetricValue { value, kind: self.kind })
    }
}

/// The sums of a fixed list of metrics. A metric that no set has gets no sum, not zero.
#[derive(Debug)]
pub(super) struct Totals {
    names: &'static [&'static str; 6],
    sums: [Option<Sum>; 6],
}

impl Totals {
    /// Sums of the metrics of these names.
    pub(super) const fn new(names: &'static [&'static str; 6]) -> Self {
        Self { names, sums: [None; 6] }
    }

    /// Adds the listed metrics of a set.
    pub(super) fn add(&mut self, metrics: &Metrics) {
        for (name, sum) in self.names.iter().zip(&mut self.sums) {
            let Some(metric) = metrics.get(name) else { continue };
            match sum {
                Some(sum) => sum.add(metric),
                None => *sum = Some(Sum::of(metric)),
            }
        }
    }

    /// Adds the sums to what the set has. A metric without a sum is taken from the set: what is
    /// there would be a part that looks like the whole.
    pub(super) fn write_to(mut self, set: &mut MetricSet) {
        self.add(&set.metrics);
        for (name, sum) in self.names.iter().zip(self.sums) {
            match sum.map(Sum::finish) {
                Some(Some(metric)) => set.metrics.set_static(name, metric),
                Some(None) => drop(set.metrics.remove(name)),
                None => {}
            }
        }
    }
}
