//! [`Schedule`]: which interval is due at a moment of wall time.
//!
//! Pure arithmetic: the caller brings the time and does the waiting, so that a test steps it by
//! hand. Whatever the clock does, an interval is never made up for later, and no call asks for an
//! immediate next one.

use std::time::Duration;

use heapster_core::Timestamp;
use heapster_core::pipeline::Interval;

/// How long after an interval's end its round starts, so that kubelets have taken their sample.
const OFFSET_MAX: Duration = Duration::from_secs(5);

/// No wait is longer, so that a jump of the wall clock is noticed soon.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a round for this interval, then ask again.
    Run {
        /// The newest interval that has ended.
        interval: Interval,
        /// How many intervals before it ended without a round.
        skipped: u64,
    },
    /// Ask again after this time.
    Wait(Duration),
}

/// The aligned intervals of one resolution.
///
/// Intervals are aligned to multiples of the resolution since year 1 (UTC), as Go truncates times.
/// A round starts an offset after its interval's end: five seconds, or a quarter of the resolution
/// if that is less. The original's fixed five seconds made a resolution of five seconds skip every
/// second interval.
#[derive(Debug)]
pub struct Schedule {
    resolution: Duration,
    offset: Duration,
    /// End of the newest interval that was run or passed over.
    last_end: Option<Timestamp>,
}

impl Schedule {
    /// The schedule of a resolution in whole milliseconds; less than one is taken as one.
    pub fn new(resolution: Duration) -> Self {
        let resolution = resolution.max(Duration::from_millis(1));
        Self { resolution, offset: OFFSET_MAX.min(resolution / 4), last_end: None }
    }

    /// What to do at wall time `now`.
    ///
    /// The first call never runs: the interval that is under way is the first one. When the clock
    /// jumps forward, the newest interval runs once. When it goes back by less than a resolution,
    /// the schedule waits until it has caught up; when it goes back further, the schedule follows
    /// it and continues with the next interval of the new time.
    pub fn step(&mut self, now: Timestamp) -> Step {
        let due = now.saturating_sub(self.offset).truncate(self.resolution);
        let last = match self.last_end {
            Some(last) if due > last => {
                self.last_end = Some(due);
                return Step::Run {
                    interval: Interval { start: due.saturating_sub(self.resolution), end: due },
                    skipped: self.intervals_between(last, due).saturating_sub(1),
                };
            }
            Some(last) if due >= last.saturating_sub(self.resolution) => last,
            Some(_) => due,
            None => now.truncate(self.resolution),
        };
        self.last_end = Some(last);
        let next = last.saturating_add(self.resolution).saturating_add(self.offset);
        match next.saturating_since(now) {
            // Only at the end of representable time.
            Duration::ZERO => Step::Wait(WAIT_MAX),
            wait => Step::Wait(wait.min(WAIT_MAX)),
        }
    }

    fn intervals_between(&self, earlier: Timestamp, later: Timestamp) -> u64 {
        let resolution = self.resolution.as_millis().max(1);
        u64::try_from(later.saturating_since(earlier).as_millis() / resolution).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(&format!("2018-07-26T{text}Z")).unwrap()
    }

    fn run(end: &str, resolution: Duration, skipped: u64) -> Step {
        let end = at(end);
        Step::Run { interval: Interval { start: end.saturating_sub(resolution), end }, skipped }
    }

    /// Walks from wait to wait; returns when rounds start and the end of their intervals.
    fn walk(resolution: Duration, from: &str, until: &str) -> Vec<(String, String)> {
        let mut schedule = Schedule::new(resolution);
        let (mut now, mut rounds) = (at(from), Vec::new());
        while now <= at(until) {
            match schedule.step(now) {
                Step::Run { interval, .. } => {
                    rounds.push((now.to_string(), interval.end.to_string()));
                }
                Step::Wait(wait) => {
                    assert!(wait > Duration::ZERO && wait <= WAIT_MAX);
                    now = now.saturating_add(wait);
                }
            }
        }
        let short = |text: &String| text["2018-07-26T".len()..].trim_end_matches('Z').to_owned();
        rounds.iter().map(|(now, end)| (short(now), short(end))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(now, end)| ((*now).to_owned(), (*end).to_owned())).collect()
    }

    #[test]
    fn rounds_start_five_seconds_after_aligned_intervals() {
        assert_eq!(
            walk(MINUTE, "12:00:30", "12:03:00"),
            pairs(&[("12:01:05", "12:01:00"), ("12:02:05", "12:02:00")])
        );
    }

    #[test]
    fn a_resolution_of_five_seconds_skips_no_interval() {
        assert_eq!(
            walk(Duration::from_secs(5), "12:00:03", "12:00:17"),
            pairs(&[
                ("12:00:06.25", "12:00:05"),
                ("12:00:11.25", "12:00:10"),
                ("12:00:16.25", "12:00:15"),
            ])
        );
    }

    #[test]
    fn a_resolution_that_divides_no_minute_stays_aligned() {
        let rounds = walk(Duration::from_secs(7), "12:00:00", "12:00:40");
        assert!(rounds.len() >= 5, "{rounds:?}");
        let ends: Vec<i64> = rounds
            .iter()
            .map(|(_, end)| at(end).as_millis() - Timestamp::MIN.as_millis())
            .collect();
        assert!(ends.iter().all(|end| end % 7_000 == 0));
        assert!(ends.windows(2).all(|pair| pair[1] - pair[0] == 7_000));
    }

    #[test]
    fn after_a_jump_forward_only_the_newest_interval_runs() {
        let mut schedule = Schedule::new(MINUTE);
        schedule.step(at("12:00:30"));
        assert_eq!(schedule.step(at("12:01:05")), run("12:01:00", MINUTE, 0));
        assert_eq!(schedule.step(at("13:01:20")), run("13:01:00", MINUTE, 59));
        assert_eq!(schedule.step(at("13:01:20")), Step::Wait(WAIT_MAX));
    }

    #[test]
    fn a_small_step_back_runs_no_interval_twice() {
        let mut schedule = Schedule::new(MINUTE);
        schedule.step(at("12:00:30"));
        assert_eq!(schedule.step(at("12:01:05")), run("12:01:00", MINUTE, 0));
        for moment in ["12:01:04.9", "12:00:20", "12:01:05", "12:02:04.999"] {
            assert!(matches!(schedule.step(at(moment)), Step::Wait(_)), "{moment}");
        }
        assert_eq!(schedule.step(at("12:02:05")), run("12:02:00", MINUTE, 0));
    }

    #[test]
    fn after_an_hour_back_collection_goes_on_at_the_new_time() {
        let mut schedule = Schedule::new(MINUTE);
        schedule.step(at("12:00:30"));
        assert_eq!(schedule.step(at("12:01:05")), run("12:01:00", MINUTE, 0));
        assert_eq!(schedule.step(at("11:01:07")), Step::Wait(WAIT_MAX));
        assert_eq!(schedule.step(at("11:02:05")), run("11:02:00", MINUTE, 0));
    }

    #[test]
    fn the_ends_of_time_neither_panic_nor_spin() {
        for resolution in [Duration::ZERO, Duration::from_secs(5), MINUTE, Duration::MAX] {
            let mut schedule = Schedule::new(resolution);
            for now in [Timestamp::MIN, Timestamp::MAX, Timestamp::EPOCH, Timestamp::MIN] {
                schedule.step(now);
                for _ in 0..3 {
                    if let Step::Wait(wait) = schedule.step(now) {
                        assert!(wait >= Duration::from_millis(1));
                    }
                }
                assert!(matches!(schedule.step(now), Step::Wait(_)));
            }
        }
    }
}
