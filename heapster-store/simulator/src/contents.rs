//! [`Contents`]: everything a store holds, small enough to be compared thousands of times a second.

use std::collections::BTreeMap;

use heapster_core::series::Row;
use heapster_core::storage::{Columns, Samples, Selector, Snapshot, collect};
use heapster_core::{Labels, MetricKind, MetricValue, TimeRange, Timestamp, Value};

/// Sets that scripts write to.
pub const SETS: u8 = 6;
/// Columns that a set may have.
pub const COLUMNS: u8 = 6;

/// A sample's set, column and time in milliseconds.
pub type Key = (u8, u8, i64);
/// Every sample.
pub type Contents = BTreeMap<Key, Bits>;

/// A value that is compared by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// An integer.
    Int(i64),
    /// The bits of a float.
    Float(u64),
}

impl From<Value> for Bits {
    fn from(value: Value) -> Self {
        match value {
            Value::Int(value) => Self::Int(value),
            Value::Float(value) => Self::Float(value.to_bits()),
        }
    }
}

impl From<Bits> for Value {
    fn from(bits: Bits) -> Self {
        match bits {
            Bits::Int(value) => Self::Int(value),
            Bits::Float(bits) => Self::Float(f64::from_bits(bits)),
        }
    }
}

/// Labels of a set. Their order is that of the numbers.
pub fn labels_of(set: u8) -> Labels {
    Labels::from_iter([("pod_name", format!("pod-{set:02}")), ("type", "pod".to_owned())])
}

/// Name of a column. Their order is that of the numbers.
pub fn column_name(column: u8) -> String {
    format!("c{column}")
}

/// Kind of a column.
pub fn column_kind(column: u8) -> MetricKind {
    [MetricKind::Cumulative, MetricKind::Gauge, MetricKind::Delta][usize::from(column % 3)]
}

/// A row of a set.
pub fn row(set: u8, cells: &[(u8, Value)]) -> Row {
    let cell = |(column, value): &(u8, Value)| {
        let metric = MetricValue { value: *value, kind: column_kind(*column) };
        (column_name(*column).into(), metric)
    };
    Row { labels: labels_of(set), cells: cells.iter().map(cell).collect() }
}

/// Reads everything back.
///
/// # Errors
/// What the store said, or what it should never show: an unknown set, a time twice.
pub fn read_back(snapshot: &dyn Snapshot) -> Result<Contents, String> {
    let selector = Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL };
    let mut contents = Contents::new();
    let sets = snapshot.select(&selector).map_err(|error| format!("select: {error}"))?;
    for set in sets {
        let number = set_number(set.labels())?;
        for (index, column) in set.columns().iter().enumerate() {
            let name = column_number(&column.name)?;
            let samples = collect(&*set, index)
                .map_err(|error| format!("read {name} of {number}: {error}"))?;
            if !samples.is_sorted_by(|(a, _), (b, _)| a < b) {
                return Err(format!("column {name} of {number} is out of order"));
            }
            for (at, value) in samples {
                let key = (number, name, at.as_millis());
                if contents.insert(key, value.into()).is_some() {
                    return Err(format!("{key:?} is there twice"));
                }
            }
        }
    }
    match snapshot.damage().first() {
        Some(damage) => Err(format!("something cannot be read: {damage:?}")),
        None => Ok(contents),
    }
}

/// Reads what can be read of a store on a disk that broke; whether something could not.
///
/// # Errors
/// What the store should never show.
pub fn read_what_is_left(snapshot: &dyn Snapshot) -> Result<(Contents, bool), String> {
    let selector = Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL };
    let (mut contents, mut has_errors) = (Contents::new(), false);
    let Ok(sets) = snapshot.select(&selector) else { return Ok((contents, true)) };
    for set in sets {
        let number = set_number(set.labels())?;
        for (index, column) in set.columns().iter().enumerate() {
            let name = column_number(&column.name)?;
            let mut cursor = set.read(index);
            let mut samples = Samples::default();
            // A run that cannot be read is passed over; there are never more than rows.
            for _ in 0..100_000 {
                match cursor.next_run() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => {
                        has_errors = true;
                        continue;
                    }
                }
                match cursor.decode(&mut samples) {
                    Ok(()) => contents.extend(
                        samples.iter().map(|(at, v)| ((number, name, at.as_millis()), v.into())),
                    ),
                    Err(_) => has_errors = true,
                }
            }
        }
    }
    has_errors |= !snapshot.damage().is_empty();
    Ok((contents, has_errors))
}

fn set_number(labels: &Labels) -> Result<u8, String> {
    let number = labels.get("pod_name").and_then(|name| name.strip_prefix("pod-"));
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("a set nobody wrote: {labels}"))
}

fn column_number(name: &str) -> Result<u8, String> {
    let number = name.strip_prefix('c').and_then(|name| name.parse().ok());
    number.ok_or_else(|| format!("a column nobody wrote: {name}"))
}

/// The contents as rows of one moment each, in the order of time.
pub fn rows_by_time(contents: &Contents) -> BTreeMap<Timestamp, Vec<Row>> {
    let mut cells: BTreeMap<(i64, u8), Vec<(u8, Value)>> = BTreeMap::new();
    for ((set, column, at), value) in contents {
        cells.entry((*at, *set)).or_default().push((*column, (*value).into()));
    }
    let mut rows: BTreeMap<Timestamp, Vec<Row>> = BTreeMap::new();
    for ((at, set), cells) in cells {
        rows.entry(Timestamp::from_millis(at)).or_default().push(row(set, &cells));
    }
    rows
}
