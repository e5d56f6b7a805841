//! The generated set by handle, day after day: what a collector does that knows its sets.

use std::io;

use heapster_core::{Labels, MetricKind, Text, Timestamp, Value, key};
use heapster_store::{Ack, AppendReport, SetHandle, Store};

use super::generated::{GENERATED_COLUMNS, Generated, SLOTS_PER_NODE};

const DAY_MS: i64 = 86_400_000;
const COLUMNS: usize = GENERATED_COLUMNS.len();

/// The generated day again and again: counters go on where containers do; those that are replaced
/// in a day are others every day.
#[derive(Clone, Copy, Debug)]
pub struct Days<'a> {
    /// One day.
    pub data: &'a Generated,
    /// How many of its slots are used.
    pub slots: usize,
}

impl Days<'_> {
    /// Time of a sample, milliseconds.
    pub fn time(&self, day: usize, slot: usize, time: usize) -> i64 {
        self.data.clock(slot)[time] + day as i64 * DAY_MS
    }

    /// Whether the container of a slot goes on over midnight.
    pub fn is_stable(&self, slot: usize) -> bool {
        self.data.instances(slot).len() == 1
    }

    /// The values of a slot at a time of a day.
    pub fn row(&self, day: usize, slot: usize, time: usize) -> [i64; COLUMNS] {
        let rows = self.data.rows(slot);
        let mut row = rows[time];
        if self.is_stable(slot) {
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            for (index, column) in GENERATED_COLUMNS.iter().enumerate() {
                if column.is_counter {
                    row[index] += day as i64 * (last[index] - first[index]);
                }
            }
        }
        row
    }

    /// The labels of a container of a slot on a day.
    pub fn labels(&self, day: usize, slot: usize, instance: usize) -> Labels {
        let mut labels = self.data.instances(slot)[instance].labels.clone();
        if day > 0 && !self.is_stable(slot) {
            let pod = format!("{}-{day}", labels.value(key::POD_NAME));
            labels.set_static(key::POD_NAME, pod);
        }
        labels
    }

    /// Node and time of the batches of a day, in the order of time.
    pub fn batches(&self) -> Vec<(usize, usize)> {
        let nodes = 0..self.slots.div_ceil(SLOTS_PER_NODE);
        let times = 0..self.data.times();
        let mut order: Vec<(usize, usize)> =
            nodes.flat_map(|node| times.clone().map(move |time| (node, time))).collect();
        order.sort_by_key(|(node, time)| (self.data.clock(node * SLOTS_PER_NODE)[*time], *node));
        order
    }
}

/// The handles of one day's containers, and the rows of one batch.
pub struct DenseBatches<'a> {
    days: Days<'a>,
    day: usize,
    /// By slot and container.
    handles: Vec<Vec<SetHandle>>,
    at: Timestamp,
    /// Slot, container and values of the rows of the batch.
    rows: Vec<(usize, usize, [Option<Value>; COLUMNS])>,
}

impl<'a> DenseBatches<'a> {
    /// Registers the containers of a day.
    ///
    /// # Errors
    /// As [`Store::register`].
    pub fn of_day(days: Days<'a>, day: usize, store: &Store) -> io::Result<Self> {
        let columns = GENERATED_COLUMNS.map(|column| {
            let kind = if column.is_counter { MetricKind::Cumulative } else { MetricKind::Gauge };
            (Text::from_static(column.metric), kind)
        });
        let of_slot = |slot: usize| {
            let instances = 0..days.data.instances(slot).len();
            let handle = |instance| store.register(&days.labels(day, slot, instance), &columns);
            instances.map(handle).collect::<Result<Vec<_>, _>>()
        };
        let handles = (0..days.slots).map(of_slot).collect::<Result<_, _>>();
        let handles = handles.map_err(io::Error::other)?;
        Ok(Self { days, day, handles, at: Timestamp::EPOCH, rows: Vec::new() })
    }

    /// Makes the rows of a node at a time; gives the time.
    pub fn prepare(&mut self, node: usize, time: usize) -> Timestamp {
        self.at = Timestamp::from_millis(self.days.time(self.day, node * SLOTS_PER_NODE, time));
        self.rows.clear();
        for slot in node * SLOTS_PER_NODE..((node + 1) * SLOTS_PER_NODE).min(self.days.slots) {
            let instances = self.days.data.instances(slot);
            let alive = instances.iter().position(|instance| instance.times.contains(&time));
            if let Some(instance) = alive {
                let row = self.days.row(self.day, slot, time);
                self.rows.push((slot, instance, row.map(|value| Some(Value::Int(value)))));
            }
        }
        self.at
    }

    /// Samples of the rows.
    pub fn samples(&self) -> u64 {
        (self.rows.len() * COLUMNS) as u64
    }

    /// Appends the rows.
    ///
    /// # Errors
    /// As [`Store::append_dense`].
    pub fn append(&self, store: &Store) -> io::Result<AppendReport> {
        let rows = self.rows.iter();
        let rows = rows.map(|(slot, instance, row)| (&self.handles[*slot][*instance], &row[..]));
        store.append_dense(self.at, rows, Ack::Buffered).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_over_midnight_and_replaced_containers_do_not_come_back() {
        let data = Generated::made(100);
        let days = Days { data: &data, slots: 100 };
        let stable = (0..100).find(|slot| days.is_stable(*slot)).unwrap();
        let replaced = (0..100).find(|slot| !days.is_stable(*slot)).unwrap();
        let last = data.times() - 1;
        assert_eq!(days.row(1, stable, 0)[0], days.row(0, stable, last)[0]);
        assert_eq!(days.row(2, stable, 7)[1], days.row(0, stable, 7)[1]);
        assert!(days.time(1, stable, 0) > days.time(0, stable, last));
        assert_eq!(days.labels(1, stable, 0), days.labels(0, stable, 0));
        assert_ne!(days.labels(1, replaced, 0), days.labels(0, replaced, 0));

        let folder = tempfile::tempdir().unwrap();
        let mut filling = super::super::Filling::begin(folder.path()).unwrap();
        let mut batches = DenseBatches::of_day(days, 0, &filling.store).unwrap();
        for (node, time) in days.batches().into_iter().take(60) {
            filling.append_dense(&mut batches, node, time).unwrap();
        }
        let read = super::super::read_all(&filling.store.snapshot(), Default::default()).unwrap();
        assert_eq!((read, filling.cost.accepted), (60 * 300, 60 * 300));
    }
}
