//! [`RateLimit`]: keeps one repeated log line from flooding the log.

use std::time::Duration;

use parking_lot::Mutex;

/// Lets a line through once per period and counts what it held back.
///
/// Time is monotonic and comes from the caller.
#[derive(Debug)]
pub struct RateLimit {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Duration>,
    held_back: u64,
}

impl RateLimit {
    /// At most one line per `period`.
    pub fn new(period: Duration) -> Self {
        Self { period, state: Mutex::default() }
    }

    /// `Some(held back since the last line)` when the line may be written now.
    pub fn admit(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock();
        if state.last.is_some_and(|last| now.saturating_sub(last) < self.period) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_period_passes_and_tells_how_many_did_not() {
        let limit = RateLimit::new(Duration::from_secs(10));
        let at = Duration::from_secs;
        assert_eq!(limit.admit(at(0)), Some(0));
        assert_eq!(limit.admit(at(1)), None);
        assert_eq!(limit.admit(at(9)), None);
        assert_eq!(limit.admit(at(10)), Some(2));
        assert_eq!(limit.admit(at(20)), Some(0));
    }
}
