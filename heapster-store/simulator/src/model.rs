//! [`Model`]: what a store must show after a crash, by what its callers were told.
//!
//! Everything that changes a store's contents is an entry of one list. Some go through the log: of
//! these a crash keeps a beginning. Others go through the manifest: once the call returned, they
//! survive whatever comes. An entry whose call returned an error, or did not return, has happened as
//! a whole or not at all. So what may be found is one of a few states, and what is found must be
//! exactly one of them.

use std::collections::HashSet;

use crate::contents::{Bits, Contents, Key};

/// What a call does to the contents.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Writes samples over those that are there.
    Write(Vec<(Key, Bits)>),
    /// Deletes the samples of a set, or of all sets, between two moments, both included.
    Delete(Option<u8>, i64, i64),
    /// Samples went because they were past their time, or for want of room.
    Expire(Vec<Key>),
}

/// Where a call leaves its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// In the log: lost unless it was synced, but never with a later one kept.
    Log,
    /// In the manifest: durable when the call returns.
    Manifest,
}

/// What the caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    Open,
    /// That it is done.
    Done,
    /// An error.
    Uncertain,
}

#[derive(Clone, Debug)]
struct Entry {
    effect: Effect,
    channel: Channel,
    fate: Fate,
}

/// What is known at some moment about what must be found after it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    /// Entries so far; the last one may be open.
    pub len: usize,
    /// Whether the last one is open.
    pub is_open: bool,
    /// Entries of the log before this one survive a power cut.
    pub synced: usize,
    /// Entries of the log before this one survive the death of the process.
    pub acknowledged: usize,
    /// Samples before this time may be gone, because retention is at work or failed at it.
    pub expiring_before: Option<i64>,
}

/// The contents that a store may have.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What was found when the store was opened; durable since then.
    base: Contents,
    /// The same with what has expired: tiers remember it.
    base_history: Contents,
    entries: Vec<Entry>,
    position: Position,
    /// Every sample that was ever sent. Where a disk has lost the newer value of a moment, the older
    /// one is found.
    sent: HashSet<(Key, Bits)>,
}

/// A state of the model that fits what was found.
#[derive(Clone, Debug)]
pub struct Match {
    /// The contents with what has expired.
    pub history: Contents,
}

/// More uncertain entries than this are too many to try.
const UNCERTAIN_MAX: usize = 6;

impl Model {
    /// Where the model is now.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Number of the entries that are uncertain.
    pub fn uncertain(&self) -> usize {
        self.entries.iter().filter(|entry| entry.fate == Fate::Uncertain).count()
    }

    /// Whether it may not take many more errors before it is to be resolved by opening the store.
    pub fn is_vague(&self) -> bool {
        self.uncertain() + 2 >= UNCERTAIN_MAX
    }

    /// A call begins.
    pub fn begin(&mut self, channel: Channel, effect: Effect) {
        if let Effect::Write(cells) = &effect {
            self.sent.extend(cells);
        }
        self.entries.push(Entry { effect, channel, fate: Fate::Open });
        self.position.len = self.entries.len();
        self.position.is_open = true;
    }

    /// The call returned: done, refused without effect, or an error.
    pub fn end(&mut self, fate: Fate) {
        if let Some(entry) = self.entries.last_mut() {
            entry.fate = fate;
        }
        self.position.is_open = false;
    }

    /// The call was refused and nothing of it happened.
    pub fn end_without_effect(&mut self) {
        if let Some(entry) = self.entries.last_mut() {
            (entry.effect, entry.fate) = (Effect::Write(Vec::new()), Fate::Done);
        }
        self.position.is_open = false;
    }

    /// Everything so far survives the death of the process.
    pub fn acknowledge(&mut self) {
        self.position.acknowledged = self.entries.len();
    }

    /// Everything so far survives a power cut.
    pub fn sync(&mut self) {
        self.position.synced = self.entries.len();
        self.position.acknowledged = self.entries.len();
    }

    /// The power went: what was only acknowledged may be gone.
    pub fn forget_acknowledged(&mut self) {
        self.position.acknowledged = self.position.synced;
    }

    /// What the store shows, when no entry is uncertain.
    pub fn current(&self) -> Contents {
        let nothing = Contents::new();
        let mut trial = Trial::new(&self.base, &nothing, None);
        self.entries.iter().for_each(|entry| trial.apply(&entry.effect));
        trial.state
    }

    /// Whether a sample may be found at all, whatever was lost besides.
    pub fn ever_had(&self, key: &Key, value: Bits) -> bool {
        self.sent.contains(&(*key, value))
    }

    /// From now on samples before that time may go, or no more.
    pub fn expire_before(&mut self, bound: Option<i64>) {
        self.position.expiring_before = bound;
    }

    /// The store was opened and shows that; it is all durable now.
    pub fn settle(&mut self, found: Contents, matched: Match) {
        self.base = found;
        self.base_history = matched.history;
        self.entries.clear();
        self.position = Position::default();
    }

    /// Finds a state at that position that is what was found, with all entries of the log before
    /// `floor` and any beginning of the later ones.
    ///
    /// # Errors
    /// None fits; says what is wrong with the nearest one.
    pub fn match_with(
        &self,
        found: &Contents,
        position: Position,
        floor: usize,
    ) -> Result<Match, String> {
        let entries = &self.entries[..position.len];
        let is_in_flight = |index: usize| position.is_open && index + 1 == position.len;
        let uncertain: Vec<usize> = entries
            .iter()
            .enumerate()
            .filter(|(index, entry)| match entry.channel {
                // Whether it is there is decided by how much of the log is.
                Channel::Log => entry.fate == Fate::Uncertain && !is_in_flight(*index),
                Channel::Manifest => entry.fate == Fate::Uncertain || is_in_flight(*index),
            })
            .map(|(index, _)| index)
            .collect();
        if uncertain.len() > UNCERTAIN_MAX {
            return Err(format!("too many uncertain calls: {}", uncertain.len()));
        }
        let mut nearest: Option<(usize, usize, String)> = None;
        for mask in 0..1_usize << uncertain.len() {
            let is_out = |index: usize| {
                uncertain
                    .iter()
                    .position(|other| *other == index)
                    .is_some_and(|bit| mask >> bit & 1 == 1)
            };
            let mut trial = Trial::new(&self.base, found, position.expiring_before);
            for kept in 0..=entries.len() {
                if kept > 0 && !is_out(kept - 1) {
                    trial.apply(&entries[kept - 1].effect);
                }
                if kept < floor {
                    continue;
                }
                let later = entries.iter().enumerate().skip(kept);
                let later = later
                    .filter(|(index, entry)| entry.channel == Channel::Manifest && !is_out(*index));
                let later: Vec<_> = later.map(|(_, entry)| &entry.effect).collect();
                let wrong = if later.is_empty() {
                    trial.wrong
                } else {
                    let mut trial = trial.clone();
                    later.iter().for_each(|effect| trial.apply(effect));
                    trial.wrong
                };
                if wrong == 0 {
                    let chosen = entries[..kept].iter().enumerate();
                    let chosen =
                        chosen.filter(|(index, _)| !is_out(*index)).map(|(_, e)| &e.effect);
                    let mut history = self.base_history.clone();
                    for effect in chosen.chain(later) {
                        apply_to_history(&mut history, effect);
                    }
                    return Ok(Match { history });
                }
                if nearest.as_ref().is_none_or(|(least, ..)| wrong < *least) {
                    let (example, shown, expected) = trial.example().unwrap_or_default();
                    let what = format!("{example:?} is {shown} instead of {expected}");
                    nearest = Some((wrong, kept, what));
                }
            }
        }
        let (wrong, kept, what) = nearest.unwrap_or_default();
        Err(format!(
            "no state fits ({} of the log's first {} are promised); nearest with {kept}: {wrong} \
             samples are wrong, such as {what}",
            floor, position.len
        ))
    }
}

fn apply_to_history(history: &mut Contents, effect: &Effect) {
    match effect {
        Effect::Write(cells) => history.extend(cells.iter().copied()),
        Effect::Delete(set, from, to) => {
            history.retain(|key, _| !is_deleted(key, *set, *from, *to));
        }
        Effect::Expire(_) => {}
    }
}

fn is_deleted(key: &Key, set: Option<u8>, from: i64, to: i64) -> bool {
    set.is_none_or(|set| set == key.0) && (from..=to).contains(&key.2)
}

/// A state that is compared with what was found while it is built.
#[derive(Clone)]
struct Trial<'a> {
    state: Contents,
    found: &'a Contents,
    expiring_before: i64,
    /// Samples that differ.
    wrong: usize,
}

impl<'a> Trial<'a> {
    fn new(base: &Contents, found: &'a Contents, expiring_before: Option<i64>) -> Self {
        let expiring_before = expiring_before.unwrap_or(i64::MIN);
        let mut trial = Self { state: base.clone(), found, expiring_before, wrong: 0 };
        let unknown = found.keys().filter(|key| !base.contains_key(*key));
        trial.wrong = base.keys().chain(unknown).filter(|key| trial.is_wrong(key)).count();
        trial
    }

    fn is_wrong(&self, key: &Key) -> bool {
        match (self.state.get(key), self.found.get(key)) {
            (Some(_), None) => key.2 >= self.expiring_before,
            (state, found) => state != found,
        }
    }

    fn set(&mut self, key: Key, value: Option<Bits>) {
        self.wrong -= usize::from(self.is_wrong(&key));
        match value {
            Some(value) => drop(self.state.insert(key, value)),
            None => drop(self.state.remove(&key)),
        }
        self.wrong += usize::from(self.is_wrong(&key));
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Write(cells) => {
                cells.iter().for_each(|(key, value)| self.set(*key, Some(*value)));
            }
            Effect::Delete(set, from, to) => {
                let gone: Vec<Key> = self.state.keys().copied().collect();
                let gone = gone.into_iter().filter(|key| is_deleted(key, *set, *from, *to));
                gone.for_each(|key| self.set(key, None));
            }
            Effect::Expire(keys) => keys.iter().for_each(|key| self.set(*key, None)),
        }
    }

    fn example(&self) -> Option<(Key, String, String)> {
        let mut keys = self.state.keys().chain(self.found.keys());
        let key = keys.find(|key| self.is_wrong(key))?;
        let print = |of: &Contents| of.get(key).map_or("absent".to_owned(), |v| format!("{v:?}"));
        Some((*key, print(self.found), print(&self.state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: i64, value: i64) -> Effect {
        Effect::Write(vec![((0, 0, at), Bits::Int(value))])
    }

    fn found(samples: &[(i64, i64)]) -> Contents {
        samples.iter().map(|(at, value)| ((0, 0, *at), Bits::Int(*value))).collect()
    }

    fn model() -> Model {
        let mut model = Model::default();
        for (at, value) in [(1, 10), (2, 20), (1, 11)] {
            model.begin(Channel::Log, write(at, value));
            model.end(Fate::Done);
            model.acknowledge();
        }
        model
    }

    #[test]
    fn a_power_cut_keeps_any_beginning_of_the_log_and_nothing_else() {
        let model = model();
        let fits = |samples: &[(i64, i64)], floor| {
            model.match_with(&found(samples), model.position(), floor).is_ok()
        };
        for beginning in [&[][..], &[(1, 10)], &[(1, 10), (2, 20)], &[(1, 11), (2, 20)]] {
            assert!(fits(beginning, 0), "{beginning:?}");
        }
        for other in [&[(2, 20)][..], &[(1, 11)], &[(1, 12), (2, 20)], &[(1, 10), (2, 20), (3, 1)]]
        {
            assert!(!fits(other, 0), "{other:?}");
        }
        assert!(!fits(&[(1, 10)], 2) && !fits(&[(1, 10), (2, 20)], 3));
    }

    #[test]
    fn an_error_leaves_the_call_done_or_not_but_never_the_rest() {
        let mut model = model();
        model.begin(Channel::Log, write(2, 21));
        model.end(Fate::Uncertain);
        model.begin(Channel::Log, write(3, 30));
        model.end(Fate::Done);
        model.sync();
        let fits = |samples: &[(i64, i64)]| {
            let position = model.position();
            model.match_with(&found(samples), position, position.synced).is_ok()
        };
        assert!(fits(&[(1, 11), (2, 20), (3, 30)]) && fits(&[(1, 11), (2, 21), (3, 30)]));
        assert!(!fits(&[(1, 11), (2, 20)]) && !fits(&[(1, 11), (3, 30)]));
    }

    #[test]
    fn what_the_manifest_has_survives_with_any_beginning_of_the_log() {
        let mut model = model();
        model.begin(Channel::Manifest, Effect::Delete(None, 2, 2));
        model.end(Fate::Done);
        let fits =
            |samples: &[(i64, i64)]| model.match_with(&found(samples), model.position(), 0).is_ok();
        assert!(fits(&[(1, 11)]) && fits(&[(1, 10)]) && fits(&[]));
        assert!(!fits(&[(1, 11), (2, 20)]));
    }
}
