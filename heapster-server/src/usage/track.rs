//! [`Track`]: the two newest points of one life of a container or node, between which its rate lies.

use std::time::Duration;

use heapster_core::catalogue::metric;
use heapster_core::{MetricSet, NanoTime, Timestamp};

/// A start before this moment (2001) is none: some simulated kubelets give a container's age.
const START_MIN: NanoTime = NanoTime::from_nanos(1_000_000_000_000_000_000);

/// A container this young has not run long enough for a rate since its start.
const FRESH_AGE_MIN: Duration = Duration::from_secs(10);

/// Points further apart than this, and than three intervals, are not of one story.
const GAP_MIN: Duration = Duration::from_secs(120);

/// How often points are expected, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How often everything is scraped.
    pub resolution: Duration,
}

impl Rules {
    /// How long numbers are shown after the last scrape that brought them.
    pub fn age_max(self) -> Duration {
        self.resolution.saturating_mul(3)
    }

    /// The longest time between two points that a rate is taken over.
    pub fn gap_max(self) -> Duration {
        self.age_max().max(GAP_MIN)
    }

    /// How far back the store is looked into for the points of a moment.
    pub fn look_back(self) -> Duration {
        self.age_max().saturating_add(self.gap_max())
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { resolution: Duration::from_secs(60) }
    }
}

/// What a kubelet said of a container or node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When the kubelet took the sample, which is not when it was asked.
    pub at: NanoTime,
    /// Since when the counter runs, if that is known.
    pub start: Option<NanoTime>,
    /// Time on CPUs since the start.
    pub cpu_nanos: i64,
    /// Working set.
    pub memory_bytes: i64,
    /// Swap in use, where that is told.
    pub swap_bytes: Option<i64>,
}

impl Point {
    /// The point that a set of a batch holds; `None` when it lacks a number.
    pub fn of(set: &MetricSet) -> Option<Self> {
        let cpu_nanos = set.metrics.int(metric::CPU_USAGE)?;
        let memory_bytes = set.metrics.int(metric::MEMORY_WORKING_SET)?;
        let swap_bytes = set.metrics.int(metric::MEMORY_SWAP);
        Self {
            at: set.scrape_time?,
            start: set.collection_start_time,
            cpu_nanos,
            memory_bytes,
            swap_bytes,
        }
        .plausible()
    }

    /// The same point, unless what it says is a kubelet's way to say that it knows nothing: a
    /// container that ended, or whose cgroup could not be read.
    pub fn plausible(mut self) -> Option<Self> {
        self.start = self.start.filter(|start| *start >= START_MIN);
        let (has_cpu, has_memory) = (self.cpu_nanos > 0, self.memory_bytes > 0);
        let is_known = has_cpu && has_memory || (has_cpu || has_memory) && self.start.is_some();
        let is_sound = self.cpu_nanos >= 0 && self.memory_bytes >= 0;
        (is_known && is_sound).then_some(self)
    }
}

/// The counter at an earlier moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Before {
    at: NanoTime,
    cpu_nanos: i64,
}

/// The newest point, and the one before it if both are of one life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    /// Time of the batch that brought the newest point.
    pub seen: Timestamp,
    last: Point,
    before: Option<Before>,
}

/// What is used, on average over a window that ends with the newest sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// When the newest sample was taken.
    pub at: NanoTime,
    /// The time between the two samples.
    pub window_nanos: i64,
    /// Billionths of a core.
    pub cpu_nanocores: i64,
    /// Working set.
    pub memory_bytes: i64,
    /// Swap in use, where that is told.
    pub swap_bytes: Option<i64>,
}

impl Track {
    /// The track of what was not known before. A container that started since the scrape before has
    /// a rate at once: its counter began at nothing when it started.
    pub fn first(point: Point, seen: Timestamp, rules: Rules) -> Self {
        let age = point.start.and_then(|start| between(start, point.at));
        let is_fresh = age.is_some_and(|age| age >= FRESH_AGE_MIN && age < rules.resolution);
        let before = point.start.filter(|_| is_fresh).map(|at| Before { at, cpu_nanos: 0 });
        Self { seen, last: point, before }
    }

    /// The track once one more point is known.
    #[must_use]
    pub fn followed_by(self, point: Point, seen: Timestamp, rules: Rules) -> Self {
        let Some(gap) = between(self.last.at, point.at) else {
            // The kubelet has nothing newer, or its clock went back.
            let before = self.before.filter(|before| before.at < point.at);
            return Self { seen, last: point, before };
        };
        let is_other_life = point.start.is_some_and(|start| start >= self.last.at)
            || self.last.start.zip(point.start).is_some_and(|(before, now)| now < before)
            || point.cpu_nanos < self.last.cpu_nanos;
        if is_other_life || gap > rules.gap_max() {
            return Self::first(point, seen, rules);
        }
        let before = Before { at: self.last.at, cpu_nanos: self.last.cpu_nanos };
        Self { seen, last: point, before: Some(before) }
    }

    /// A track whose rate is the average over a time: from `start` to the newest point, in which
    /// `cpu_nanos` were spent.
    pub fn over(last: Point, start: NanoTime, cpu_nanos: i64, seen: Timestamp) -> Self {
        let cpu_nanos = last.cpu_nanos.saturating_sub(cpu_nanos);
        let before = (start < last.at).then_some(Before { at: start, cpu_nanos });
        Self { seen, last, before }
    }

    /// The newest point.
    pub fn last(&self) -> &Point {
        &self.last
    }

    /// What is used; `None` while there is only one point of this life.
    pub fn usage(&self) -> Option<Usage> {
        let before = self.before?;
        let window_nanos = self.last.at.as_nanos().checked_sub(before.at.as_nanos())?;
        let spent = self.last.cpu_nanos.checked_sub(before.cpu_nanos)?;
        if window_nanos <= 0 || spent < 0 {
            return None;
        }
        // As metrics-server: a float division whose result is cut off.
        let cpu_nanocores = spent as f64 / (window_nanos as f64 / 1e9);
        Some(Usage {
            at: self.last.at,
            window_nanos,
            cpu_nanocores: cpu_nanocores as i64,
            memory_bytes: self.last.memory_bytes,
            swap_bytes: self.last.swap_bytes,
        })
    }
}

/// The time from one moment to a later one; `None` when it is not later.
fn between(earlier: NanoTime, later: NanoTime) -> Option<Duration> {
    let nanos = later.as_nanos().checked_sub(earlier.as_nanos())?;
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { resolution: Duration::from_secs(60) };
    const NOON: i64 = 1_772_445_600;

    fn at(seconds: i64) -> NanoTime {
        NanoTime::from_seconds(NOON + seconds).unwrap()
    }

    /// A point with a start (0 for none), both in seconds after noon.
    fn point(seconds: i64, start: i64, cpu_seconds: i64) -> Point {
        Point {
            at: at(seconds),
            start: (start != 0).then(|| at(start)),
            cpu_nanos: cpu_seconds * 1_000_000_000,
            memory_bytes: 4096,
            swap_bytes: None,
        }
    }

    /// Millicores and seconds of the window after these points.
    fn rate(points: &[Point]) -> Option<(i64, i64)> {
        let (first, rest) = points.split_first().unwrap();
        let seen = Timestamp::EPOCH;
        let track = rest.iter().fold(Track::first(*first, seen, RULES), |track, point| {
            track.followed_by(*point, seen, RULES)
        });
        let usage = track.usage()?;
        Some((usage.cpu_nanocores / 1_000_000, usage.window_nanos / 1_000_000_000))
    }

    #[test]
    fn a_rate_lies_between_the_two_newest_points_of_one_life() {
        let long = -9000;
        let p = |seconds, cpu| point(seconds, long, cpu);
        assert_eq!(rate(&[p(0, 10)]), None);
        assert_eq!(rate(&[p(0, 10), p(60, 70)]), Some((1000, 60)));
        assert_eq!(rate(&[p(0, 10), p(60, 70), p(120, 70)]), Some((0, 60)));
        // A sample that comes twice changes nothing.
        assert_eq!(rate(&[p(0, 10), p(60, 70), p(60, 70)]), Some((1000, 60)));
        assert_eq!(rate(&[p(0, 10), p(0, 10)]), None);
        // One between the two takes the place of the newer, one before both that of both.
        assert_eq!(rate(&[p(0, 10), p(60, 70), p(30, 25)]), Some((500, 30)));
        assert_eq!(rate(&[p(0, 10), p(60, 70), p(-30, 5)]), None);
        // Nothing is known of what happened in a long gap.
        assert_eq!(rate(&[p(0, 10), p(180, 190)]), Some((1000, 180)));
        assert_eq!(rate(&[p(0, 10), p(181, 190)]), None);
    }

    #[test]
    fn another_life_has_another_rate() {
        let p = |seconds, start, cpu| point(seconds, start, cpu);
        // Too young, young, and as old as an interval.
        assert_eq!(rate(&[p(0, -9000, 10), p(60, 51, 4)]), None);
        assert_eq!(rate(&[p(0, -9000, 10), p(60, 50, 5)]), Some((500, 10)));
        assert_eq!(rate(&[p(60, 0, 5)]), None);
        assert_eq!(rate(&[p(60, 1, 59)]), Some((1000, 59)));
        assert_eq!(rate(&[p(60, -1, 61)]), None);
        // Without a start the counter tells, and a start that came later than told before.
        assert_eq!(rate(&[p(0, 0, 10), p(60, 0, 5)]), None);
        assert_eq!(rate(&[p(0, 0, 10), p(60, 0, 5), p(120, 0, 65)]), Some((1000, 60)));
        assert_eq!(rate(&[p(0, -10, 10), p(60, -70, 70)]), None);
        // A restart and then the same sample again: never a rate since the year 1.
        assert_eq!(rate(&[p(0, -9000, 200), p(14, 8, 3), p(14, 8, 3)]), None);
    }

    #[test]
    fn a_point_that_says_nothing_is_none() {
        let p = |cpu, memory_bytes, start| {
            Point { memory_bytes, ..point(0, start, cpu) }.plausible().is_some()
        };
        assert!(p(1, 1, 0) && p(0, 1, -5) && p(1, 0, -5));
        assert!(!p(0, 0, -5) && !p(0, 1, 0) && !p(1, 0, 0) && !p(-1, 1, -5) && !p(1, -1, -5));
        let age = Point { start: NanoTime::from_seconds(61), ..point(0, 0, 5) };
        assert_eq!(age.plausible().unwrap().start, None);
    }
}
