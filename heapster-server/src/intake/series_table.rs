//! [`SeriesTable`]: the series that a sender or a target keeps naming, so that a series seen before
//! costs a hash and a lookup instead of labels.
//!
//! A series is found by its *key*: the bytes by which its sender names it. What they mean is made
//! out once, and remembered as the set and the column of the store, or as why there are none.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use heapster_core::{Labels, MetricKind, Text};
use heapster_store::{Error, SetHandle, Store};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

/// Columns of a set at most, as the store has it.
const COLUMNS_MAX: usize = 4096;
/// Bytes of keys before the first look for series that are not named any more.
const SWEEP_MIN: usize = 16 << 20;
/// Bytes of keys at most. A table with more forgets everything, and makes it out anew.
const BYTES_MAX: usize = 1 << 30;
/// Bytes of a key at most: the labels that the store takes, twice.
const KEY_BYTES_MAX: usize = 160 << 10;
/// What a series needs besides its key.
const ENTRY_BYTES: usize = 160;
/// Why a series with a longer key has no place; the store's own word.
const LABELS_TOO_LARGE: &str = "labels_too_large";
/// Why a series has no place beyond [`COLUMNS_MAX`]; the store's own word.
const TOO_MANY_COLUMNS: &str = "too_many_columns";

/// Where the samples of a series go: a set of its table and a column of that set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Number of the set in the table.
    pub set: u32,
    /// Number of the column in the set.
    pub column: u16,
}

/// What a key stands for, once it is made out: the labels of the set, the name and the kind.
pub type Meaning = (Labels, Text, MetricKind);

/// Why a series has no place, as a word for counters and messages.
pub type Refusal = &'static str;

/// Series by their keys.
#[derive(Debug)]
pub struct SeriesTable {
    /// Nobody outside can know which keys fall together.
    secrets: RapidSecrets,
    /// Numbers of the entries, by the hash of their keys.
    numbers: HashTable<u32>,
    entries: Vec<Entry>,
    /// The entry behind the one that was named last: as a rule series are named in the order of last
    /// time, and then one comparison finds them.
    expected: usize,
    by_labels: HashMap<Labels, u32>,
    sets: Vec<TableSet>,
    /// Bytes of keys and entries, and how many of them make a sweep.
    bytes: usize,
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    hash: u64,
    place: Result<Place, Refusal>,
    /// When it was last named, in the caller's count.
    named: u32,
    /// When it was last named by [`SeriesTable::track`].
    tracked: u32,
    /// Whether it goes on: it was tracked, and its end was not told.
    is_live: bool,
}

/// A series whose end will be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its place, or why it has none.
    pub place: Result<Place, Refusal>,
    /// Whether it begins, for the first time or again.
    pub begins: bool,
}

#[derive(Debug)]
struct TableSet {
    labels: Labels,
    columns: Vec<(Text, MetricKind)>,
    /// Made when rows are to be appended, and anew when there are more columns.
    handle: Option<Result<SetHandle, Refusal>>,
}

impl Default for SeriesTable {
    fn default() -> Self {
        Self::new()
    }
}

impl SeriesTable {
    /// A table without series.
    pub fn new() -> Self {
        Self {
            secrets: RapidSecrets::seed(RandomState::new().hash_one(0_u8)),
            numbers: HashTable::new(),
            entries: Vec::new(),
            expected: 0,
            by_labels: HashMap::new(),
            sets: Vec::new(),
            bytes: 0,
            sweep_at: SWEEP_MIN,
        }
    }

    /// How many series it has, those without a place included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The place of a series, which counts as named at `now`, a number above 0 that never falls. A
    /// key that is new is made out by `meaning`.
    ///
    /// # Errors
    /// The inner one: the series has no place. The outer one: that of `meaning`; nothing is
    /// remembered then.
    pub fn place<E>(
        &mut self,
        key: &[u8],
        now: u32,
        meaning: impl FnOnce() -> Result<Result<Meaning, Refusal>, E>,
    ) -> Result<Result<Place, Refusal>, E> {
        let number = self.number(key, now, meaning)?;
        Ok(number.and_then(|number| self.entries[number as usize].place))
    }

    /// As [`SeriesTable::place`] for a series whose end [`SeriesTable::end_untracked`] will tell.
    ///
    /// # Errors
    /// As [`SeriesTable::place`].
    pub fn track<E>(
        &mut self,
        key: &[u8],
        now: u32,
        meaning: impl FnOnce() -> Result<Result<Meaning, Refusal>, E>,
    ) -> Result<Tracked, E> {
        Ok(match self.number(key, now, meaning)? {
            Ok(number) => {
                let entry = &mut self.entries[number as usize];
                let begins = entry.place.is_ok() && !entry.is_live && entry.tracked != now;
                entry.tracked = now;
                Tracked { place: entry.place, begins }
            }
            Err(refusal) => Tracked { place: Err(refusal), begins: false },
        })
    }

    /// The places of the live series that were not tracked at `now`, which are live no more. Those
    /// that were are live.
    pub fn end_untracked(&mut self, now: u32) -> Vec<Place> {
        let mut ended = Vec::new();
        for entry in &mut self.entries {
            if entry.tracked == now {
                entry.is_live = true;
            } else if std::mem::take(&mut entry.is_live) {
                ended.extend(entry.place);
            }
        }
        ended
    }

    /// The number of the entry of a key.
    fn number<E>(
        &mut self,
        key: &[u8],
        now: u32,
        meaning: impl FnOnce() -> Result<Result<Meaning, Refusal>, E>,
    ) -> Result<Result<u32, Refusal>, E> {
        let expected = self.expected;
        if let Some(entry) = self.entries.get_mut(expected)
            && *entry.key == *key
        {
            entry.named = now;
            self.expected += 1;
            return Ok(Ok(expected as u32));
        }
        let hash = rapidhash_v3_seeded(key, &self.secrets);
        let entries = &mut self.entries;
        let is_key = |number: &u32| *entries[*number as usize].key == *key;
        if let Some(number) = self.numbers.find(hash, is_key) {
            entries[*number as usize].named = now;
            self.expected = *number as usize + 1;
            return Ok(Ok(*number));
        }
        if key.len() > KEY_BYTES_MAX {
            return Ok(Err(LABELS_TOO_LARGE));
        }
        let place = meaning()?.and_then(|meaning| self.make_place(meaning));
        let number = self.entries.len() as u32;
        self.insert(Entry { key: key.into(), hash, place, named: now, tracked: 0, is_live: false });
        Ok(Ok(number))
    }

    /// Forgets the series that were last named before `since`, once they take twice as much memory
    /// as after the last time. No place is valid any more if it did.
    pub fn sweep(&mut self, since: u32) {
        if self.bytes < self.sweep_at {
            return;
        }
        let mut old = std::mem::take(self);
        for mut entry in old.entries {
            if entry.named < since {
                continue;
            }
            entry.place = entry.place.and_then(|place| {
                let set = &mut old.sets[place.set as usize];
                let (name, kind) = set.columns[place.column as usize].clone();
                self.make_place((set.labels.clone(), name, kind))
            });
            // Hashed anew, since the secrets are others.
            entry.hash = rapidhash_v3_seeded(&entry.key, &self.secrets);
            self.insert(entry);
        }
        if self.bytes > BYTES_MAX {
            *self = Self::new();
        }
        self.sweep_at = SWEEP_MIN.max(2 * self.bytes);
    }

    /// Labels of a set.
    pub fn labels(&self, set: u32) -> &Labels {
        &self.sets[set as usize].labels
    }

    /// Name and kind of a series.
    pub fn column(&self, place: Place) -> (&Text, MetricKind) {
        let (name, kind) = &self.sets[place.set as usize].columns[place.column as usize];
        (name, *kind)
    }

    /// The handle of a set with all the columns that it has by now.
    ///
    /// # Errors
    /// Why the store takes no such set.
    pub(super) fn handle(&mut self, set: u32, store: &Store) -> Result<&SetHandle, Refusal> {
        let set = &mut self.sets[set as usize];
        let is_current = match &set.handle {
            Some(Ok(handle)) => handle.width() == set.columns.len(),
            Some(Err(_)) => true,
            None => false,
        };
        if !is_current {
            let registered = store.register(&set.labels, &set.columns);
            set.handle = Some(registered.map_err(|error| match error {
                Error::Unregistrable { reason } => reason.as_str(),
                _ => "unregistrable",
            }));
        }
        match &set.handle {
            Some(Ok(handle)) => Ok(handle),
            Some(Err(refusal)) => Err(refusal),
            None => Err("unregistrable"),
        }
    }

    fn insert(&mut self, entry: Entry) {
        let (hash, number) = (entry.hash, self.entries.len() as u32);
        self.bytes += entry.key.len() + ENTRY_BYTES;
        self.entries.push(entry);
        let entries = &self.entries;
        self.numbers.insert_unique(hash, number, |number| entries[*number as usize].hash);
    }

    fn make_place(&mut self, (labels, name, kind): Meaning) -> Result<Place, Refusal> {
        let next = self.sets.len() as u32;
        let number = *self.by_labels.entry(labels).or_insert_with_key(|labels| {
            let labels = labels.clone();
            self.sets.push(TableSet { labels, columns: Vec::new(), handle: None });
            next
        });
        let set = &mut self.sets[number as usize];
        let known = set.columns.iter().position(|(own, _)| *own == name);
        let column = match known {
            Some(column) => column,
            None if set.columns.len() == COLUMNS_MAX => return Err(TOO_MANY_COLUMNS),
            None => {
                set.columns.push((name, kind));
                // What was refused may have been a column.
                set.handle = set.handle.take().filter(Result::is_ok);
                set.columns.len() - 1
            }
        };
        Ok(Place { set: number, column: column as u16 })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn name(table: &mut SeriesTable, key: &str, now: u32) -> Result<Place, Refusal> {
        let meaning = || {
            let (labels, name) = key.split_once(' ').ok_or("no_name")?;
            let labels = Labels::from_iter([("job", labels)]);
            Ok((labels, Text::from(name), MetricKind::Gauge))
        };
        let named = table.place(key.as_bytes(), now, || Ok::<_, Infallible>(meaning()));
        named.unwrap_or_else(|never| match never {})
    }

    #[test]
    fn a_series_is_made_out_once_and_shares_its_set() {
        let mut table = SeriesTable::new();
        let first = name(&mut table, "a up", 1);
        assert_eq!(first, Ok(Place { set: 0, column: 0 }));
        assert_eq!(name(&mut table, "a load", 1), Ok(Place { set: 0, column: 1 }));
        assert_eq!(name(&mut table, "b up", 1), Ok(Place { set: 1, column: 0 }));
        let again = table.place(b"a up", 2, || Err("it is not known any more"));
        assert_eq!(again, Ok(first));
        assert_eq!(name(&mut table, "nameless", 1), Err("no_name"));
        assert_eq!((table.len(), table.labels(1).value("job")), (4, "b"));
    }

    #[test]
    fn a_series_is_found_whatever_the_order_in_which_it_is_named() {
        let mut table = SeriesTable::new();
        let keys = ["a up", "a load", "b up", "nameless", "b load"];
        let places = keys.map(|key| name(&mut table, key, 1));
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 2, 0, 4, 1], [1, 2, 4, 0, 3]] {
            for index in order {
                assert_eq!(name(&mut table, keys[index], 2), places[index], "{order:?}");
            }
        }
        assert_eq!(table.len(), keys.len());
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_remembered() {
        let mut table = SeriesTable::new();
        assert_eq!(table.place(b"a", 1, || Err("broken")), Err("broken"));
        assert!(table.is_empty());
    }

    #[test]
    fn the_end_of_a_tracked_series_is_told_once_until_it_begins_again() {
        let mut table = SeriesTable::new();
        let track = |table: &mut SeriesTable, name: &str, now| {
            let meaning = (Labels::new(), Text::from(name), MetricKind::Gauge);
            let tracked = table.track(name.as_bytes(), now, || Ok::<_, Infallible>(Ok(meaning)));
            tracked.unwrap_or_else(|never| match never {})
        };
        let (up, load) = (track(&mut table, "up", 1), track(&mut table, "load", 1));
        assert!(up.begins && load.begins && !track(&mut table, "up", 1).begins);
        let _ = name(&mut table, "a untracked", 1);
        assert_eq!(table.end_untracked(1), []);
        assert!(!track(&mut table, "up", 2).begins);
        assert_eq!(table.end_untracked(2).first(), load.place.ok().as_ref());
        assert_eq!(table.end_untracked(3).first(), up.place.ok().as_ref());
        assert_eq!(table.end_untracked(4), []);
        assert!(track(&mut table, "load", 5).begins);
    }

    #[test]
    fn what_was_tracked_in_a_round_that_was_given_up_never_began() {
        let mut table = SeriesTable::new();
        let meaning = (Labels::new(), Text::from("up"), MetricKind::Gauge);
        let _ = table.track(b"up", 1, || Ok::<_, Infallible>(Ok(meaning)));
        assert_eq!(table.end_untracked(2), []);
    }

    #[test]
    fn series_that_are_long_gone_are_forgotten_with_their_sets() {
        let mut table = SeriesTable::new();
        let padding = "x".repeat(10_000);
        for now in 0..20 {
            for number in 0..200 {
                let _ = name(&mut table, &format!("{now}-{number}-{padding} up"), now);
            }
            let _ = name(&mut table, "a up", now);
            table.sweep(now.saturating_sub(1));
        }
        assert!(table.len() < 2_500 && table.sets.len() < 2_500, "{}", table.len());
        let place = name(&mut table, "a up", 20).unwrap();
        assert_eq!(table.labels(place.set).value("job"), "a");
        assert_eq!(table.column(place).0, "up");
    }

    #[test]
    fn a_key_that_is_longer_than_labels_can_be_is_refused_and_not_kept() {
        let mut table = SeriesTable::new();
        let key = format!("{} up", "x".repeat(KEY_BYTES_MAX));
        assert_eq!(name(&mut table, &key, 1), Err(LABELS_TOO_LARGE));
        assert!(table.is_empty());
    }

    #[test]
    fn a_set_has_no_more_columns_than_the_store_takes() {
        let mut table = SeriesTable::new();
        for number in 0..COLUMNS_MAX {
            assert!(name(&mut table, &format!("a m{number}"), 1).is_ok());
        }
        assert_eq!(name(&mut table, "a one_more", 1), Err(TOO_MANY_COLUMNS));
        assert!(name(&mut table, "a m7", 1).is_ok() && name(&mut table, "b m", 1).is_ok());
    }
}
