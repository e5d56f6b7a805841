//! [`Grid`]: the moments at which an expression is evaluated, and the values it has there.

/// Moments at a distance of `step_ms`, from `start_ms` on; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub start_ms: i64,
    /// Not zero, also where there is one moment only.
    pub step_ms: i64,
    pub count: usize,
}

impl Grid {
    /// The one moment.
    pub const fn at(start_ms: i64) -> Self {
        Self { start_ms, step_ms: 1, count: 1 }
    }

    /// From `start_ms` by `step_ms` up to `end_ms`; `None` when there is no such moment.
    pub fn up_to(start_ms: i64, end_ms: i64, step_ms: i64) -> Option<Self> {
        let span = end_ms.checked_sub(start_ms).filter(|span| *span >= 0)?;
        let count = usize::try_from(span / step_ms.max(1)).ok()?.checked_add(1)?;
        Some(Self { start_ms, step_ms: step_ms.max(1), count })
    }

    /// The moment of that number.
    pub const fn time_ms(&self, index: usize) -> i64 {
        self.start_ms + self.step_ms * index as i64
    }
}

/// Stands where a series has no value: the staleness marker, which is no value of any series. It is
/// compared by bits, so that any other NaN stays one.
pub(super) const ABSENT: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

/// Whether there is a value.
pub(super) const fn is_present(value: f64) -> bool {
    value.to_bits() != ABSENT.to_bits()
}
