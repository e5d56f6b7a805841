//! [`ClockCache`]: decoded clocks, shared by the sets of a selection.

use std::sync::Arc;

use hashbrown::HashMap;
use heapster_core::Timestamp;
use parking_lot::Mutex;

use crate::error::Result;
use crate::segment::Segment;

/// Bytes of timestamps after which the older half is forgotten: clocks of a day for some four
/// hundred scrape targets.
const YOUNG_BYTES_MAX: usize = 4 << 20;

/// Decoded clocks by segment and number. Sets that are scraped together share one, so that most
/// reads find theirs here; what was not asked for lately is forgotten.
#[derive(Debug, Default)]
pub(crate) struct ClockCache(Mutex<Generations>);

type Clocks = HashMap<(u64, u32), Arc<[Timestamp]>>;

/// What was asked for since the last time the young were many, and what only before.
#[derive(Debug, Default)]
struct Generations {
    young: Clocks,
    old: Clocks,
    young_bytes: usize,
}

impl ClockCache {
    /// The timestamps of a clock of a segment.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when there is no such clock or it is damaged.
    pub(super) fn get(&self, segment: &Segment, clock: u32) -> Result<Arc<[Timestamp]>> {
        let key = (segment.info().id, clock);
        if let Some(times) = self.0.lock().find(key) {
            return Ok(times);
        }
        let mut millis = Vec::new();
        segment.decode_clock(clock, &mut millis)?;
        let times: Arc<[Timestamp]> = millis.iter().map(|at| Timestamp::from_millis(*at)).collect();
        self.0.lock().add(key, Arc::clone(&times));
        Ok(times)
    }
}

impl Generations {
    fn find(&mut self, key: (u64, u32)) -> Option<Arc<[Timestamp]>> {
        if let Some(times) = self.young.get(&key) {
            return Some(Arc::clone(times));
        }
        let times = self.old.remove(&key)?;
        self.add(key, Arc::clone(&times));
        Some(times)
    }

    fn add(&mut self, key: (u64, u32), times: Arc<[Timestamp]>) {
        let bytes = size_of_val(&*times);
        if self.young_bytes.saturating_add(bytes) > YOUNG_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes = self.young_bytes.saturating_add(bytes);
        self.young.insert(key, times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_often_stays_and_the_rest_goes() {
        let mut clocks = Generations::default();
        let times: Arc<[Timestamp]> = vec![Timestamp::EPOCH; YOUNG_BYTES_MAX / 80].into();
        for clock in 0..100 {
            clocks.add((1, clock), Arc::clone(&times));
            assert!(clocks.find((1, 0)).is_some());
            let held = clocks.young.len() + clocks.old.len();
            assert!(held * size_of_val(&*times) <= 2 * YOUNG_BYTES_MAX, "{held} clocks");
        }
        assert!(clocks.find((1, 50)).is_none());
        assert!(clocks.find((1, 99)).is_some());
    }
}
