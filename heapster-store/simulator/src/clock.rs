//! [`SimulatedClock`]: time passes when a script says so, and jumps when it says so.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use heapster_core::Timestamp;
use heapster_store::Clock;

/// 2018-07-26T12:00:00Z, when every run begins.
pub const NOON: i64 = 1_532_606_400_000;

/// A clock that a script moves.
#[derive(Debug)]
pub struct SimulatedClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
    /// Monotonic time until which it is known to have jumped within a day.
    jumped_until: AtomicU64,
}

const DAY: u64 = 86_400_000;

impl SimulatedClock {
    /// A clock that shows [`NOON`].
    pub fn new() -> Self {
        let (monotonic, jumped_until) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { wall: AtomicI64::new(NOON), monotonic, jumped_until }
    }

    /// A clock that shows the same and is moved by itself.
    pub fn fork(&self) -> Self {
        Self {
            wall: AtomicI64::new(self.millis()),
            monotonic: AtomicU64::new(self.monotonic.load(Ordering::Relaxed)),
            jumped_until: AtomicU64::new(self.jumped_until.load(Ordering::Relaxed)),
        }
    }

    /// Time passes.
    pub fn pass(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::Relaxed);
        self.monotonic.fetch_add(millis.unsigned_abs(), Ordering::Relaxed);
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::Relaxed);
        let until = self.monotonic.load(Ordering::Relaxed) + DAY;
        self.jumped_until.store(until, Ordering::Relaxed);
    }

    /// Whether it was set within a day.
    pub fn has_jumped(&self) -> bool {
        self.monotonic.load(Ordering::Relaxed) < self.jumped_until.load(Ordering::Relaxed)
    }

    /// Wall time in milliseconds.
    pub fn millis(&self) -> i64 {
        self.wall.load(Ordering::Relaxed)
    }
}

impl Default for SimulatedClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic.load(Ordering::Relaxed))
    }
}
