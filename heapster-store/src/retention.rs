//! Which segments are past their time, and whether the clock may be believed about it.
//!
//! Decision 0009: one reading of the clock never deletes. The wall clock has to agree with the
//! monotonic one; once it does not, nothing is deleted for a day of monotonic time.

use std::time::Duration;

use heapster_core::Timestamp;

use crate::options::Retention;
use crate::segment::SegmentInfo;

/// How far wall time may drift from monotonic time between two looks: slewing, a leap second, a
/// laptop's sleep of a few minutes.
const SLACK: Duration = Duration::from_secs(600);
/// How far the clock may be ahead of the newest sample when the store is opened. More looks like a
/// wrong clock, or like a machine that was off; in either case there is no hurry.
const IDLE_MAX: Duration = Duration::from_secs(86_400);
/// How long, in monotonic time, the clock has to behave before it is believed again.
const PROBATION: Duration = Duration::from_secs(86_400);
/// Two readings must lie this far apart before the first deletion after the store is opened.
const FIRST_LOOK: Duration = Duration::from_secs(60);

/// Watches the clock.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    last: (Timestamp, Duration),
    trusted_from: Duration,
    is_suspect: bool,
}

impl ClockWatch {
    /// Begins with one reading. `probation` is what the manifest remembers: how long the clock
    /// still had to behave; zero when it was trusted.
    pub fn new(
        now: Timestamp,
        monotonic: Duration,
        newest: Option<Timestamp>,
        probation: Duration,
    ) -> Self {
        let is_far_ahead = newest.is_some_and(|newest| now.saturating_since(newest) > IDLE_MAX);
        let is_suspect = is_far_ahead || !probation.is_zero();
        let wait = match is_far_ahead {
            true => PROBATION,
            false => probation.clamp(FIRST_LOOK, PROBATION),
        };
        Self { last: (now, monotonic), trusted_from: monotonic + wait, is_suspect }
    }

    /// Takes another reading; whether deletions may go by it.
    pub fn look(&mut self, now: Timestamp, monotonic: Duration) -> bool {
        let (last_now, last_monotonic) = self.last;
        let expected = last_now.saturating_add(monotonic.saturating_sub(last_monotonic));
        let drift = expected.saturating_since(now).max(now.saturating_since(expected));
        self.last = (now, monotonic);
        if drift > SLACK {
            self.is_suspect = true;
            self.trusted_from = monotonic + PROBATION;
        } else if monotonic >= self.trusted_from {
            self.is_suspect = false;
        }
        !self.is_suspect && monotonic >= self.trusted_from
    }

    /// How long, from that monotonic time, the clock still has to behave; zero when it is trusted.
    /// Worth remembering across a restart.
    pub fn probation(&self, monotonic: Duration) -> Duration {
        let left = self.trusted_from.saturating_sub(monotonic).max(Duration::from_secs(1));
        if self.is_suspect { left } else { Duration::ZERO }
    }

    /// Whether the clock has misbehaved.
    pub fn is_suspect(&self) -> bool {
        self.is_suspect
    }
}

/// Whether a segment's newest sample is past its time.
pub(crate) fn is_expired(segment: &SegmentInfo, retention: Retention, now: Timestamp) -> bool {
    match retention {
        Retention::Forever => false,
        Retention::Age(age) => segment.last < now.saturating_sub(age).as_millis(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Timestamp {
        Timestamp::EPOCH.saturating_add(HOUR * hours)
    }

    #[test]
    fn a_steady_clock_is_trusted_after_a_minute() {
        let mut watch = ClockWatch::new(at(100), Duration::ZERO, Some(at(100)), Duration::ZERO);
        assert!(!watch.look(at(100), Duration::from_secs(1)));
        assert!(watch.look(at(101), HOUR));
    }

    #[test]
    fn a_jump_in_either_direction_costs_a_day_of_good_behaviour() {
        for wrong in [at(9000), at(1)] {
            let mut watch = ClockWatch::new(at(100), Duration::ZERO, Some(at(100)), Duration::ZERO);
            assert!(!watch.look(wrong, HOUR), "{wrong}");
            let since = |hours| wrong.saturating_add(HOUR * hours);
            assert!(!watch.look(since(23), HOUR * 24));
            assert!(watch.look(since(24), HOUR * 25));
        }
    }

    #[test]
    fn a_clock_far_ahead_of_the_data_is_not_believed_even_after_a_restart() {
        let mut watch = ClockWatch::new(at(9000), Duration::ZERO, Some(at(100)), Duration::ZERO);
        assert!(!watch.look(at(9001), HOUR) && watch.is_suspect());
        // The collector has written samples with the wrong time in between.
        let left = watch.probation(HOUR);
        assert_eq!(left, HOUR * 23);
        let mut again = ClockWatch::new(at(9002), Duration::ZERO, Some(at(9002)), left);
        assert!(!again.look(at(9003), HOUR));
        assert!(again.look(at(9025), HOUR * 23));
        assert_eq!(again.probation(HOUR * 23), Duration::ZERO);
    }
}
