//! [`Times`]: when samples were taken.

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::Timestamp;

/// Times of samples, strictly rising.
///
/// Columns that are scraped together have the same times. A store that keeps these once gives them
/// out shared, so that nothing is copied and readers can tell that what they found out about one
/// column's times holds for the next column as well ([`Times::id`]).
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// A part of a list that others refer to as well; takes the place of `own`, which is empty then.
    shared: Option<(Arc<[Timestamp]>, Range<usize>)>,
    own: Vec<Timestamp>,
}

/// What tells shared times apart from others while they are held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimesId {
    address: usize,
    rows: Range<usize>,
}

impl Times {
    /// Some of the times of a shared list.
    ///
    /// # Panics
    /// When the list has not these rows.
    pub fn shared(all: Arc<[Timestamp]>, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= all.len(), "no rows {rows:?}");
        Self { shared: Some((all, rows)), own: Vec::new() }
    }

    /// The same for all clones of shared times, and another for all other times that exist at the same
    /// time; none when they are not shared.
    pub fn id(&self) -> Option<TimesId> {
        let (all, rows) = self.shared.as_ref()?;
        Some(TimesId { address: all.as_ptr().addr(), rows: rows.clone() })
    }

    /// Bytes of the list that holding shared times keeps; zero of others.
    pub fn shared_bytes(&self) -> usize {
        self.shared.as_ref().map_or(0, |(all, _)| size_of_val(&**all))
    }

    /// Takes some of the times of a shared list; what was there is forgotten, its memory kept.
    ///
    /// # Panics
    /// When the list has not these rows.
    pub fn share(&mut self, all: Arc<[Timestamp]>, rows: Range<usize>) {
        let mut own = std::mem::take(&mut self.own);
        own.clear();
        *self = Self { own, ..Self::shared(all, rows) };
    }

    /// Forgets all times; gives an empty list of its own to be filled, whose memory is used again.
    pub fn restart(&mut self) -> &mut Vec<Timestamp> {
        self.shared = None;
        self.own.clear();
        &mut self.own
    }

    /// The times as a list of its own, copied when they were shared.
    pub fn make_mut(&mut self) -> &mut Vec<Timestamp> {
        if let Some((all, rows)) = self.shared.take() {
            self.own.clear();
            self.own.extend_from_slice(&all[rows]);
        }
        &mut self.own
    }
}

impl Deref for Times {
    type Target = [Timestamp];

    fn deref(&self) -> &[Timestamp] {
        match &self.shared {
            Some((all, rows)) => &all[rows.clone()],
            None => &self.own,
        }
    }
}

impl From<Vec<Timestamp>> for Times {
    fn from(own: Vec<Timestamp>) -> Self {
        Self { shared: None, own }
    }
}

impl FromIterator<Timestamp> for Times {
    fn from_iter<I: IntoIterator<Item = Timestamp>>(times: I) -> Self {
        Self::from(Vec::from_iter(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: impl IntoIterator<Item = i64>) -> Vec<Timestamp> {
        millis.into_iter().map(Timestamp::from_millis).collect()
    }

    #[test]
    fn shared_times_are_told_apart_by_list_and_rows() {
        let all: Arc<[Timestamp]> = times(0..10).into();
        let same = || Times::shared(Arc::clone(&all), 2..5);
        assert_eq!(*same(), times(2..5));
        assert_eq!(same().id(), same().clone().id());
        assert_ne!(same().id(), Times::shared(Arc::clone(&all), 2..6).id());
        assert_ne!(same().id(), Times::shared(times(0..10).into(), 2..5).id());
        assert_eq!(Times::from(times(2..5)).id(), None);
    }

    #[test]
    fn shared_times_are_copied_before_they_change() {
        let all: Arc<[Timestamp]> = times(0..10).into();
        let mut own = Times::shared(Arc::clone(&all), 2..5);
        own.make_mut().push(Timestamp::from_millis(99));
        assert_eq!((&*own, &*all), (&*times([2, 3, 4, 99]), &*times(0..10)));
        own = Times::shared(Arc::clone(&all), 0..10);
        own.restart().push(Timestamp::from_millis(7));
        assert_eq!((&*own, &*all), (&*times([7]), &*times(0..10)));
    }
}
