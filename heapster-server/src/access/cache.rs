//! [`Cache`]: answers of the API server, kept for a few seconds.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// Answers that are kept at most; beyond that those that end soonest go.
const ENTRIES_MAX: usize = 8_192;

/// Answers by question, each until its time is over.
#[derive(Debug)]
pub struct Cache<K, V>(Mutex<HashMap<K, (Duration, V)>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// The answer to a question, if it is known at `now`, a reading of a monotonic clock.
    pub fn get(&self, question: &K, now: Duration) -> Option<V> {
        let entries = self.0.lock();
        entries.get(question).filter(|(end, _)| now < *end).map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer for a while.
    pub fn put(&self, question: K, answer: V, now: Duration, kept: Duration) {
        if kept.is_zero() {
            return;
        }
        let mut entries = self.0.lock();
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(&question) {
            entries.retain(|_, (end, _)| now < *end);
        }
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(&question) {
            let soonest = entries.iter().min_by_key(|(_, (end, _))| *end);
            if let Some(soonest) = soonest.map(|(question, _)| question.clone()) {
                entries.remove(&soonest);
            }
        }
        entries.insert(question, (now.saturating_add(kept), answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_and_there_are_never_too_many() {
        let second = Duration::from_secs;
        let cache = Cache::default();
        cache.put(1_usize, "a", second(0), second(10));
        cache.put(2, "b", second(0), Duration::ZERO);
        assert_eq!((cache.get(&1, second(9)), cache.get(&1, second(10))), (Some("a"), None));
        assert_eq!(cache.get(&2, second(0)), None);
        for question in 0..ENTRIES_MAX + 5 {
            cache.put(question, "c", second(20), second(10 + question as u64));
        }
        assert_eq!(cache.0.lock().len(), ENTRIES_MAX);
        assert_eq!((cache.get(&0, second(20)), cache.get(&9, second(20))), (None, Some("c")));
    }
}
