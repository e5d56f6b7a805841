//! [`ManualClock`]: a clock that unit tests step by hand.

use std::time::Duration;

use heapster_core::Timestamp;
use heapster_store::Clock;
use parking_lot::Mutex;

/// Wall and monotonic time that stand still until told otherwise.
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    /// Wall time in milliseconds since the epoch, and monotonic time.
    times: Mutex<(i64, Duration)>,
}

impl ManualClock {
    /// Lets both clocks run on.
    pub(crate) fn advance(&self, by: Duration) {
        let mut times = self.times.lock();
        times.0 += i64::try_from(by.as_millis()).expect("a test's step is small");
        times.1 += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.times.lock().0)
    }

    fn monotonic(&self) -> Duration {
        self.times.lock().1
    }
}
