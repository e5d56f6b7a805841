//! [`Pending`]: samples of a file that wait to become the rows a store takes.
//!
//! A file may have series after series; a store takes all columns of many sets at one time. So
//! samples are put together by time and set, as many as memory allows.

use std::collections::HashMap;

use heapster_core::series::Row;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Timestamp, Value};

use super::Sample;

/// Samples in the order they came.
#[derive(Debug, Default)]
pub struct Pending {
    sets: Interner<Labels>,
    columns: Interner<Text>,
    cells: Vec<Cell>,
}

/// Samples for which a later one of the same series and time counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// Those with the same bits as the next one.
    pub duplicate: u64,
    /// Those with other bits.
    pub replaced: u64,
}

/// A sample by numbers of set and column.
#[derive(Clone, Copy, Debug)]
struct Cell {
    at: Timestamp,
    set: u32,
    column: u32,
    kind: MetricKind,
    value: Value,
}

impl Pending {
    /// How many samples wait.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Adds a sample.
    pub fn add(&mut self, sample: Sample) {
        let Sample { labels, metric, kind, at, value } = sample;
        let (set, column) = (self.sets.number(labels), self.columns.number(metric));
        self.cells.push(Cell { at, set, column, kind, value });
    }

    /// Gives all rows of each time, in the order of time, and forgets them. Of two samples of one
    /// series and time the later one counts; how many do not is what it returns.
    ///
    /// # Errors
    /// The first one of `take`.
    pub fn drain<E>(
        &mut self,
        mut take: impl FnMut(Timestamp, &[Row]) -> Result<(), E>,
    ) -> Result<Repeated, E> {
        let mut repeated = Repeated::default();
        self.cells.sort_by_key(|cell| (cell.at, cell.set, cell.column));
        let mut rows = Vec::new();
        for of_time in self.cells.chunk_by(|a, b| a.at == b.at) {
            rows.clear();
            for of_set in of_time.chunk_by(|a, b| a.set == b.set) {
                let of_columns = of_set.chunk_by(|a, b| a.column == b.column);
                let newest = of_columns.map(|cells| {
                    for pair in cells.windows(2) {
                        match pair[0].value == pair[1].value {
                            true => repeated.duplicate += 1,
                            false => repeated.replaced += 1,
                        }
                    }
                    let cell = &cells[cells.len() - 1];
                    let metric = MetricValue { value: cell.value, kind: cell.kind };
                    (self.columns.get(cell.column).clone(), metric)
                });
                let labels = self.sets.get(of_set[0].set).clone();
                rows.push(Row { labels, cells: newest.collect() });
            }
            take(of_time[0].at, &rows)?;
        }
        *self = Self::default();
        Ok(repeated)
    }
}

/// Numbers for things that come again and again.
#[derive(Debug)]
struct Interner<T> {
    numbers: HashMap<T, u32>,
    things: Vec<T>,
    last: u32,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), things: Vec::new(), last: 0 }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Interner<T> {
    fn number(&mut self, thing: T) -> u32 {
        // The next sample is of the same set as a rule, and then comparing is cheaper than hashing.
        if self.things.get(self.last as usize) != Some(&thing) {
            let next = self.things.len() as u32;
            self.last = *self.numbers.entry(thing).or_insert_with_key(|thing| {
                self.things.push(thing.clone());
                next
            });
        }
        self.last
    }

    fn get(&self, number: u32) -> &T {
        &self.things[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn samples_of_one_time_and_set_become_one_row_and_the_later_of_two_counts() {
        let mut pending = Pending::default();
        let mut add = |pod: &str, metric: &str, at: i64, value: i64| {
            pending.add(Sample {
                labels: Labels::from_iter([("pod", pod)]),
                metric: metric.into(),
                kind: MetricKind::Gauge,
                at: Timestamp::from_millis(at),
                value: Value::Int(value),
            });
        };
        for (pod, metric, at, value) in [
            ("a", "x", 2, 1),
            ("a", "x", 1, 2),
            ("b", "x", 1, 3),
            ("a", "y", 1, 4),
            ("a", "x", 1, 5),
            ("a", "x", 1, 5),
        ] {
            add(pod, metric, at, value);
        }
        let mut seen = Vec::new();
        let drained = pending.drain(|at, rows| {
            seen.extend(rows.iter().map(|row| {
                let cell =
                    |(name, metric): &(Text, MetricValue)| format!("{name}={}", metric.value);
                let cells: Vec<_> = row.cells.iter().map(cell).collect();
                format!("{} {} {}", at.as_millis(), row.labels.value("pod"), cells.join(" "))
            }));
            Ok::<_, Infallible>(())
        });
        assert_eq!(drained, Ok(Repeated { duplicate: 1, replaced: 1 }));
        assert_eq!(seen, ["1 a x=5 y=4", "1 b x=3", "2 a x=1"]);
        assert_eq!(pending.len(), 0);
    }
}
