//! Sums and means that do not lose small values beside large ones.

/// A sum by Kahan's method in Neumaier's form, as Prometheus computes sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in super::super) struct Kahan {
    sum: f64,
    lost: f64,
}

impl Kahan {
    pub const fn new(sum: f64) -> Self {
        Self { sum, lost: 0.0 }
    }

    /// The sum without what was lost.
    pub const fn rounded(self) -> f64 {
        self.sum
    }

    #[inline]
    pub fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        // What the addition has lost, exactly and whichever of both is larger (Knuth, TAOCP 4.2.2): a
        // comparison in place of these would be guessed wrong as often as right.
        let added = sum - self.sum;
        let lost = self.lost + ((self.sum - (sum - added)) + (value - added));
        // What is lost of an infinite sum would be NaN.
        self.lost = if sum.is_infinite() { 0.0 } else { lost };
        self.sum = sum;
    }

    /// Adds the sum of others, which come after those of this one.
    pub fn join(&mut self, other: Self) {
        self.add(other.sum);
        if self.sum.is_finite() {
            self.lost += other.lost;
        }
    }

    pub fn value(self) -> f64 {
        self.sum + self.lost
    }
}

/// A mean: of the sum as long as that is finite, otherwise computed from mean to mean.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Average {
    sum: Kahan,
    count: f64,
    /// Whether `sum` is the mean of what was added already.
    is_mean: bool,
}

impl Average {
    /// The mean of values of which sum and number are known.
    pub const fn of(sum: f64, count: f64) -> Self {
        Self { sum: Kahan::new(sum), count, is_mean: false }
    }

    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.is_mean {
            let mut sum = self.sum;
            sum.add(value);
            if self.count == 1.0 || sum.sum.is_finite() || sum.sum.is_nan() {
                self.sum = sum;
                return;
            }
            self.turn_into_mean(self.count - 1.0);
        }
        let weight = (self.count - 1.0) / self.count;
        let mut sum = Kahan { sum: weight * self.sum.sum, lost: weight * self.sum.lost };
        sum.add(value / self.count);
        self.sum = sum;
    }

    fn turn_into_mean(&mut self, count: f64) {
        self.is_mean = true;
        self.sum.sum /= count;
        self.sum.lost /= count;
    }

    /// Adds others, which come after those of this one.
    pub fn join(&mut self, mut other: Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = other;
            return;
        }
        let count = self.count + other.count;
        let mut sum = self.sum;
        sum.join(other.sum);
        if !self.is_mean && !other.is_mean && (sum.sum.is_finite() || sum.sum.is_nan()) {
            (self.sum, self.count) = (sum, count);
            return;
        }
        for one in [&mut *self, &mut other] {
            if !one.is_mean {
                one.turn_into_mean(one.count);
            }
        }
        let mut sum = Kahan::new(self.sum.value() * (self.count / count));
        sum.add(other.sum.value() * (other.count / count));
        (self.sum, self.count) = (sum, count);
    }

    pub fn value(self) -> f64 {
        if self.is_mean {
            self.sum.value()
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_large_ones() {
        let mut sum = Kahan::default();
        [1.0, 1e100, 1.0, -1e100].into_iter().for_each(|value| sum.add(value));
        assert_eq!(sum.value(), 2.0);
    }

    #[test]
    fn a_mean_does_not_overflow() {
        let large = f64::MAX / 1.5;
        let (mut one, mut other) = (Average::default(), Average::default());
        for _ in 0..3 {
            one.add(large);
            other.add(large);
        }
        assert!((one.value() / large - 1.0).abs() < 1e-15);
        one.join(other);
        assert!((one.value() / large - 1.0).abs() < 1e-15);
        let mut infinite = Average::default();
        [f64::INFINITY, 1.0].into_iter().for_each(|value| infinite.add(value));
        assert_eq!(infinite.value(), f64::INFINITY);
    }
}
