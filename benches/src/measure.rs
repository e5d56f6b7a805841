//! How time is taken: CPU time for work, wall time for waiting, medians of several runs.

use std::time::Duration;

use heapster_store::{Clock, SystemClock};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread: what others do on the machine does not count.
pub fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// CPU time of all threads of this process.
pub fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Runs once and gives the CPU time of this thread beside the result.
pub fn cpu_of<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let before = thread_cpu();
    let result = run();
    (result, thread_cpu() - before)
}

/// Runs once and gives the wall time beside the result.
pub fn wall_of<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let clock = SystemClock::new();
    let result = run();
    (result, clock.monotonic())
}

/// Durations of like events.
#[derive(Clone, Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    /// Adds one.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The duration that this share of all does not exceed; zero when there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(index.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The duration in the middle.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }
}

impl FromIterator<Duration> for Durations {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        Self(durations.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_durations() {
        let millis = |list: &[u64]| list.iter().map(|m| Duration::from_millis(*m)).collect();
        let durations: Durations = millis(&[5, 1, 4, 2, 3]);
        assert_eq!(durations.median(), Duration::from_millis(3));
        assert_eq!(durations.quantile(0.0), Duration::from_millis(1));
        assert_eq!(durations.quantile(0.99), Duration::from_millis(5));
        assert_eq!(Durations::default().median(), Duration::ZERO);
    }

    #[test]
    fn waiting_costs_wall_time_and_no_cpu_time() {
        let nap = Duration::from_millis(20);
        let (((), cpu), wall) = wall_of(|| cpu_of(|| std::thread::sleep(nap)));
        assert!(wall >= nap && cpu < nap, "{wall:?} {cpu:?}");
        assert!(process_cpu() > Duration::ZERO);
    }
}
