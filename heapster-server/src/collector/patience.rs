//! [`Patience`]: how long a batch stays open for the sources that have not answered yet.
//!
//! Pure arithmetic on moments; the fan-out does the waiting. The rule: once nearly all sources in
//! good standing have answered, the others get a short grace that follows the pace of this round
//! and their own habit. Suspects, which gave nothing last time, get less. Before anything has
//! answered nothing is late, so then only the deadline closes the batch.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

/// Least grace for sources in good standing.
const GRACE_MIN: Duration = Duration::from_secs(2);
/// A source that takes this many times as long as the median one is overdue, …
const MEDIANS: u32 = 3;
/// … unless it took long the last time: then this many times as long.
const USUALS: u32 = 2;
/// Of the sources in good standing one in so many may be waited for with a grace (at least one).
const OVERDUE_SHARE: usize = 10;
/// Grace for suspects once the others are done.
const SUSPECT_GRACE: Duration = Duration::from_secs(1);

/// A source that is asked.
pub(super) struct Awaited {
    pub(super) name: String,
    /// It gave nothing last time.
    pub(super) is_suspect: bool,
    /// How long its last answer took.
    pub(super) usual: Option<Duration>,
    /// When its scrape began; empty while it waits for its turn.
    pub(super) begun: Arc<OnceLock<Instant>>,
}

/// What one round waits for.
pub(super) struct Patience {
    started: Instant,
    deadline: Instant,
    /// By then each scrape that finds a place has begun.
    spread_end: Instant,
    open: BTreeMap<usize, Awaited>,
    /// Sources in good standing, and how many of them are still open.
    steady: usize,
    steady_open: usize,
    /// How long each answer took.
    took: Vec<Duration>,
    /// When nearly all sources in good standing had answered.
    quorum: Option<Instant>,
    /// When the last of those that did answer had.
    last_steady: Instant,
}

impl Patience {
    pub(super) fn new(
        started: Instant,
        deadline: Instant,
        spread: Duration,
        sources: Vec<Awaited>,
    ) -> Self {
        let steady = sources.iter().filter(|source| !source.is_suspect).count();
        let mut patience = Self {
            started,
            deadline,
            spread_end: started + spread,
            open: sources.into_iter().enumerate().collect(),
            steady,
            steady_open: steady,
            took: Vec::new(),
            quorum: None,
            last_steady: started,
        };
        patience.note_quorum(started);
        patience
    }

    /// A source has answered or failed; `took` when it gave data.
    pub(super) fn settle(
        &mut self,
        index: usize,
        took: Option<Duration>,
        now: Instant,
    ) -> Option<Awaited> {
        let source = self.open.remove(&index)?;
        self.took.extend(took);
        if !source.is_suspect {
            self.steady_open = self.steady_open.saturating_sub(1);
            self.last_steady = now;
            self.note_quorum(now);
        }
        Some(source)
    }

    fn note_quorum(&mut self, now: Instant) {
        let overdue_max = (self.steady / OVERDUE_SHARE).max(1);
        if self.quorum.is_none() && self.steady_open <= overdue_max {
            self.quorum = Some(now);
        }
    }

    /// Closes the batch at this moment at the latest.
    pub(super) fn close_by(&mut self, moment: Instant) {
        self.deadline = self.deadline.min(moment);
    }

    /// When to close the batch if nothing happens until then. Not earlier than `now` means that
    /// more time has passed than anyone gets.
    pub(super) fn until(&mut self, now: Instant) -> Instant {
        let Some(quorum) = self.quorum else { return self.deadline };
        let middle = self.took.len() / 2;
        if self.took.is_empty() {
            return self.deadline;
        }
        let (_, median, _) = self.took.select_nth_unstable(middle);
        let grace = GRACE_MIN.max(median.saturating_mul(MEDIANS));
        let patience = |source: &Awaited| {
            if source.is_suspect {
                return self.last_steady.max(self.spread_end) + SUSPECT_GRACE;
            }
            // One that waits for its turn cannot be blamed for it.
            let begun = source.begun.get().copied().unwrap_or(now);
            let usual = source.usual.unwrap_or_default().saturating_mul(USUALS);
            (quorum.max(begun) + grace).max(begun + usual)
        };
        let last = self.open.values().map(patience).max();
        last.unwrap_or(now).min(self.deadline)
    }

    /// How long the round has lasted.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// The sources that have not answered.
    pub(super) fn into_open(self) -> BTreeMap<usize, Awaited> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A round of twenty seconds over sources that all began at once; `true` is a suspect.
    fn round(suspects: &[bool], usual: Option<Duration>) -> (Patience, Instant) {
        let started = Instant::now();
        let source = |is_suspect: &bool| Awaited {
            name: String::new(),
            is_suspect: *is_suspect,
            usual,
            begun: Arc::new(OnceLock::from(started)),
        };
        let sources = suspects.iter().map(source).collect();
        (Patience::new(started, started + 20_000 * MS, 100 * MS, sources), started)
    }

    fn answer(patience: &mut Patience, count: usize, started: Instant, millis: u32) {
        for index in 0..count {
            patience.settle(index, Some(millis * MS), started + millis * MS);
        }
    }

    #[test]
    fn the_last_of_many_get_two_seconds_or_three_times_the_median() {
        for (millis, until) in [(50, 2_050), (1_000, 4_000), (9_000, 20_000)] {
            let (mut patience, started) = round(&[false; 20], None);
            answer(&mut patience, 18, started, millis);
            assert_eq!(patience.until(started + millis * MS), started + until * MS);
        }
    }

    #[test]
    fn while_many_are_missing_only_the_deadline_closes() {
        let (mut patience, started) = round(&[false; 20], None);
        answer(&mut patience, 17, started, 50);
        assert_eq!(patience.until(started + 50 * MS), started + 20_000 * MS);
        let (mut patience, started) = round(&[true; 20], None);
        assert_eq!(patience.until(started), started + 20_000 * MS, "nothing has answered");
    }

    #[test]
    fn a_source_that_always_takes_long_is_waited_for() {
        let (mut patience, started) = round(&[false; 3], Some(5_000 * MS));
        answer(&mut patience, 2, started, 50);
        assert_eq!(patience.until(started + 50 * MS), started + 10_000 * MS);
    }

    #[test]
    fn suspects_get_a_second_once_the_others_are_done() {
        let (mut patience, started) = round(&[false, false, true], Some(5_000 * MS));
        answer(&mut patience, 2, started, 300);
        assert_eq!(patience.until(started + 300 * MS), started + 1_300 * MS);
    }

    #[test]
    fn a_source_that_waits_for_its_turn_is_not_overdue() {
        let (mut patience, started) = round(&[false; 2], None);
        if let Some(source) = patience.open.get_mut(&1) {
            source.begun = Arc::default();
        }
        answer(&mut patience, 1, started, 50);
        assert_eq!(patience.until(started + 9_000 * MS), started + 11_000 * MS);
    }
}
