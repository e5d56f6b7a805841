//! [`Direct`]: what queries have to answer, from the arrays of the generated set.

use std::collections::BTreeMap;

use heapster_core::{Labels, Text, TimeRange, Timestamp, key};

use crate::workload::{GENERATED_COLUMNS, Generated};

/// Sums by window.
pub(super) type Windows = BTreeMap<i64, i64>;
/// Sums by namespace and window.
pub(super) type ByNamespace = BTreeMap<(Text, i64), i64>;

/// Answers from the arrays of the data set, slow and plain.
#[derive(Clone, Copy)]
pub(super) struct Direct<'a> {
    pub data: &'a Generated,
}

impl Direct<'_> {
    pub fn bounds(&self) -> (Timestamp, Timestamp) {
        let clocks = (0..self.data.slots()).map(|slot| self.data.clock(slot));
        let ends = clocks.flat_map(|clock| clock.first().into_iter().chain(clock.last()));
        let (mut start, mut end) = (i64::MAX, i64::MIN);
        for time in ends {
            (start, end) = (start.min(*time), end.max(*time));
        }
        (Timestamp::from_millis(start), Timestamp::from_millis(end))
    }

    /// Shows each series as times and values in the range, in the order of labels.
    pub fn for_each_series(
        &self,
        column: usize,
        range: TimeRange,
        mut series: impl FnMut(&Labels, &[(i64, i64)]),
    ) {
        let mut all = Vec::new();
        for slot in 0..self.data.slots() {
            for instance in self.data.instances(slot) {
                all.push((&instance.labels, slot, instance.times.clone()));
            }
        }
        all.sort_by_key(|(labels, ..)| *labels);
        for (labels, slot, times) in all {
            let (clock, rows) = (self.data.clock(slot), self.data.rows(slot));
            let samples: Vec<(i64, i64)> = times
                .map(|time| (clock[time], rows[time][column]))
                .filter(|(at, _)| range.contains(Timestamp::from_millis(*at)))
                .collect();
            if !samples.is_empty() {
                series(labels, &samples);
            }
        }
    }

    pub fn increase(&self, column: usize, range: TimeRange, window_ms: i64) -> Windows {
        let mut windows = Windows::new();
        self.for_each_series(column, range, |_, samples| {
            for pair in samples.windows(2) {
                let ((_, before), (at, value)) = (pair[0], pair[1]);
                let step = if value >= before { value - before } else { value };
                *windows.entry(at.div_euclid(window_ms)).or_default() += step;
            }
        });
        windows.retain(|_, sum| *sum != 0);
        windows
    }

    pub fn maximum(&self, column: usize, range: TimeRange, window_ms: i64) -> ByNamespace {
        let mut sums = ByNamespace::new();
        self.for_each_series(column, range, |labels, samples| {
            let mut own = Windows::new();
            for (at, value) in samples {
                let max = own.entry(at.div_euclid(window_ms)).or_insert(i64::MIN);
                *max = (*max).max(*value);
            }
            let namespace = labels.get(key::NAMESPACE_NAME).cloned().unwrap_or_default();
            for (window, max) in own {
                *sums.entry((namespace.clone(), window)).or_default() += max;
            }
        });
        sums
    }

    pub fn one_series(&self, slot: usize, instance: usize, column: usize) -> Vec<(Timestamp, i64)> {
        let (clock, rows) = (self.data.clock(slot), self.data.rows(slot));
        let times = self.data.instances(slot)[instance].times.clone();
        times.map(|time| (Timestamp::from_millis(clock[time]), rows[time][column])).collect()
    }

    pub fn last_values(&self, column: usize, range: TimeRange) -> Vec<i64> {
        let mut values = Vec::new();
        self.for_each_series(column, range, |_, samples| {
            values.extend(samples.last().map(|(_, value)| *value));
        });
        values
    }

    pub fn series_of_node(&self, node: &str, range: TimeRange) -> usize {
        let mut count = 0;
        self.for_each_series(0, range, |labels, _| {
            count += usize::from(labels.value(key::NODENAME) == node) * GENERATED_COLUMNS.len();
        });
        count
    }
}
