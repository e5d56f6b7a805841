//! Whether a directory holds what was acknowledged, bit for bit, and nothing that was never sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use heapster_core::storage::{Columns, Selector, Snapshot, collect};
use heapster_core::{Matcher, TimeRange, Timestamp, Value};
use heapster_store::{Clock, ReaderOptions, StoreReader, SystemClock};

use super::client::{COLUMNS, Fate, JOB, Journals, SETS};

/// Findings that are told one by one.
const EXAMPLES_MAX: usize = 10;

/// Which samples are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    /// Those of the last while.
    Recent(Duration),
    /// All of them.
    All,
}

/// What checks found.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    pub(super) read: u64,
    pub(super) lost: u64,
    pub(super) invented: u64,
    pub(super) examples: Vec<String>,
}

impl Checked {
    pub(super) fn add(&mut self, other: Self) {
        self.read += other.read;
        self.lost += other.lost;
        self.invented += other.invented;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    fn tell(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// What is known of each moment of a series' client.
type Moments = BTreeMap<i64, Fate>;

/// Reads a directory while a server may write it, and compares it with what clients know.
pub(super) fn check(
    data_dir: &Path,
    journals: &Journals,
    extent: Extent,
) -> Result<Checked, Box<dyn std::error::Error + Send + Sync>> {
    let range = match extent {
        Extent::All => TimeRange::ALL,
        Extent::Recent(age) => {
            TimeRange::new(SystemClock::new().now().saturating_sub(age), Timestamp::MAX)
        }
    };
    // What is acknowledged before the directory is read must be in it; what is read must have been
    // sent by the time it was.
    let before: Vec<Moments> = (0..journals.clients()).map(|client| journals.of(client)).collect();
    let reader = StoreReader::open(data_dir, ReaderOptions::default())?;
    let snapshot = reader.snapshot();
    let after: Vec<Moments> = (0..journals.clients()).map(|client| journals.of(client)).collect();
    let mut checked = Checked::default();
    let report = reader.open_report();
    if !report.is_complete() || !report.unavailable.is_empty() {
        return Err(format!("it is damaged: {report:?}").into());
    }
    let mut seen = BTreeSet::new();
    let matchers = vec![Matcher::equal(JOB.0, JOB.1)];
    for set in snapshot.select(&Selector { matchers, columns: Columns::All, range })? {
        for (index, column) in set.columns().iter().enumerate() {
            let number = |text: &str| text.parse::<u32>().ok();
            let (labels, name) = (set.labels(), column.name.as_str());
            let place = number(labels.value("client"))
                .zip(number(labels.value("set")))
                .zip(name.strip_prefix('m').and_then(number));
            let samples = collect(&*set, index)?;
            checked.read += samples.len() as u64;
            let Some(((client, own), column)) = place else {
                checked.invented += samples.len() as u64;
                checked.tell(|| format!("a series that nobody pushed: {labels} {name}"));
                continue;
            };
            let place = (client, own, column);
            compare(place, &samples, journals, range, (&before, &after), &mut checked);
            seen.insert(place);
        }
    }
    for client in 0..journals.clients() {
        let places = (0..SETS).flat_map(|set| (0..COLUMNS).map(move |column| (set, column)));
        for (set, column) in places {
            let place = (client, set, column);
            if !seen.contains(&place) {
                compare(place, &[], journals, range, (&before, &after), &mut checked);
            }
        }
    }
    Ok(checked)
}

/// Compares the samples of one series, in the order of time.
fn compare(
    place: (u32, u32, u32),
    samples: &[(Timestamp, Value)],
    journals: &Journals,
    range: TimeRange,
    (before, after): (&[Moments], &[Moments]),
    checked: &mut Checked,
) {
    let (client, set, column) = place;
    let none = Moments::new();
    let before = before.get(client as usize).unwrap_or(&none);
    let after = after.get(client as usize).unwrap_or(&none);
    let mut found = samples.iter().peekable();
    let bounds = range.start.as_millis()..=range.end.as_millis();
    for (at, fate) in before.range(bounds) {
        while found.next_if(|(own, _)| own.as_millis() < *at).is_some() {}
        let is_there = found.peek().is_some_and(|(own, _)| own.as_millis() == *at);
        if *fate == Fate::Acknowledged && !is_there {
            checked.lost += 1;
            checked.tell(|| format!("lost: client {client}, set {set}, m{column}, at {at}"));
        }
    }
    for (at, value) in samples {
        let at = at.as_millis();
        let expected = Value::Float(journals.value(client, set, column, at));
        if !after.contains_key(&at) || *value != expected {
            checked.invented += 1;
            checked.tell(|| {
                format!("invented: client {client}, set {set}, m{column}, at {at}: {value}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_wrong_or_unknown_is_told_apart() {
        let journals = Journals::new(1, 7);
        let moments =
            Moments::from([(1, Fate::Acknowledged), (2, Fate::Sent), (3, Fate::Acknowledged)]);
        let value = |at| Value::Float(journals.value(0, 4, 2, at));
        let look = |samples: &[(i64, Value)]| {
            let samples = samples.iter().map(|(at, value)| (Timestamp::from_millis(*at), *value));
            let samples: Vec<_> = samples.collect();
            let mut checked = Checked::default();
            let both = (&[moments.clone()][..], &[moments.clone()][..]);
            compare((0, 4, 2), &samples, &journals, TimeRange::ALL, both, &mut checked);
            (checked.lost, checked.invented)
        };
        assert_eq!(look(&[(1, value(1)), (3, value(3))]), (0, 0));
        assert_eq!(look(&[(1, value(1)), (2, value(2)), (3, value(3))]), (0, 0));
        assert_eq!(look(&[(1, value(1))]), (1, 0));
        assert_eq!(look(&[]), (2, 0));
        assert_eq!(look(&[(1, value(1)), (3, value(1))]), (0, 1), "another value");
        assert_eq!(look(&[(0, value(0)), (1, value(1)), (3, value(3))]), (0, 1), "never sent");
    }
}
