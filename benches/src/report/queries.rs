//! Queries in process on one thread, each checked against the data itself.
//!
//! What a query language does above the store is written out by hand here: select, then a tight loop
//! over decoded slices. A counter that falls began anew from zero; the step from one sample to the
//! next counts for the window of the later one.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::storage::{
    Aggregates, BucketSelector, ColumnCursor, Columns, Samples, SelectedSet, Selector, Snapshot,
    StorageError, Values, collect,
};
use heapster_core::{Matcher, Text, TimeRange, Timestamp, Value, key, metric};
use heapster_store::{Retention, Store, StoreOptions, TierOptions};

use super::REPEATS;
use super::direct::{ByNamespace, Direct, Windows};
use super::lab::Lab;
use super::row::Row;
use crate::measure::{Durations, cpu_of};
use crate::workload::{BatchClock, store_options};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// How far back the newest sample of a series may be.
const LOOKBACK_MS: i64 = 5 * MINUTE_MS;
const HTTP: &str = "goal and peers: over HTTP";

type Answer<T> = Result<T, StorageError>;

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let (filled, data) = (lab.filled()?, lab.generated()?);
    let store = &filled.store;
    let direct = Direct { data: &data };
    let (start, end) = direct.bounds();
    let now = TimeRange::new(
        Timestamp::from_millis(end.as_millis() - LOOKBACK_MS),
        Timestamp::from_millis(end.as_millis()),
    );
    let last_hour = TimeRange::new(Timestamp::from_millis(end.as_millis() - HOUR_MS), end);
    let day = TimeRange::new(start, end);
    let mut rows = Vec::new();

    let ms = lab.query(
        "sum of increase, 24 h by 5 min",
        || increase(store, metric::CPU_USAGE, day, 5 * MINUTE_MS),
        || direct.increase(0, day, 5 * MINUTE_MS),
    )?;
    let series = format!("sum of increase by 5 min, {} containers, 24 h", data.slots());
    rows.push(
        Row::new(series, ms, "ms").at_most(30.0).stretch(12.0).peers(627.0, 151.0).note(HTTP),
    );

    let ms = lab.query(
        "hourly maximum by namespace",
        || maximum(store, metric::MEMORY_WORKING_SET, day, HOUR_MS),
        || direct.maximum(1, day, HOUR_MS),
    )?;
    let what = "sum by namespace of hourly maximum, 24 h, from raw";
    rows.push(Row::new(what, ms, "ms").at_most(8.0).stretch(2.0).peers(519.0, 161.0).note(HTTP));

    let folder = lab.copy_of(&filled.folder)?;
    let rolled_up = with_tier(&folder)?;
    let ms = lab.query(
        "hourly maximum by namespace, from a tier",
        || tier_maximum(&rolled_up, metric::MEMORY_WORKING_SET, day, HOUR_MS),
        || direct.maximum(1, day, HOUR_MS),
    )?;
    drop(rolled_up);
    std::fs::remove_dir_all(&folder)?;
    let what = "the same from a tier of 1 h";
    rows.push(Row::new(what, ms, "ms").at_most(8.0).stretch(2.0).peers(519.0, 161.0).note(HTTP));

    let ms = lab.query(
        "sum of increase, last hour by 1 min",
        || increase(store, metric::CPU_USAGE, last_hour, MINUTE_MS),
        || direct.increase(0, last_hour, MINUTE_MS),
    )?;
    let what = "sum of increase by 1 min, last hour";
    rows.push(Row::new(what, ms, "ms").at_most(12.0).peers(86.0, 107.0).note(HTTP));

    let (slot, instance) = (data.slots() / 2, 0);
    let labels = &data.instances(slot)[instance].labels;
    let matchers = [key::NAMESPACE_NAME, key::POD_NAME, key::CONTAINER_NAME]
        .map(|name| Matcher::equal(name, Text::from(labels.value(name))));
    let ms = lab.query(
        "one series",
        || one_series(store, &matchers, metric::CPU_USAGE, day),
        || direct.one_series(slot, instance, 0),
    )?;
    rows.push(Row::new("one series, 24 h", ms, "ms").at_most(0.4).peers(0.78, 1.4).note(HTTP));

    let ms = lab.query(
        "last values",
        || last_values(store, metric::MEMORY_WORKING_SET, now),
        || direct.last_values(1, now),
    )?;
    let what = format!("last value of {} series", data.slots());
    rows.push(
        Row::new(what, ms, "ms").at_most(4.0).peers(26.0, 113.0).note("topk(10, …), over HTTP"),
    );

    let node = labels.value(key::NODENAME).to_owned();
    let on_node = [Matcher::equal(key::NODENAME, node.as_str())];
    let ms = lab.query(
        "count of a node",
        || Ok(select(store, &on_node, Columns::All, now)?.iter().map(|s| s.columns().len()).sum()),
        || direct.series_of_node(&node, now),
    )?;
    rows.push(
        Row::new("count of the series of a node, now", ms, "ms")
            .at_most(0.4)
            .peers(1.4, 5.5)
            .note(HTTP),
    );

    let ms = lab.query("count of everything", || count(store), || data.samples())?;
    let what = format!("count of all {:.1} M samples", data.samples() as f64 / 1e6);
    rows.push(Row::new(what, ms, "ms").at_most(10.0).peer_victoria_metrics(723.0).note(HTTP));
    Ok(rows)
}

impl Lab {
    /// CPU time of a query on this thread in milliseconds, the median of several runs; fails the
    /// report when the answer is not `expected`.
    pub(super) fn query<T: PartialEq>(
        &mut self,
        name: &str,
        mut query: impl FnMut() -> Answer<T>,
        expected: impl FnOnce() -> T,
    ) -> io::Result<f64> {
        self.progress(name);
        // The first one also reads the files.
        let answer = query().map_err(io::Error::other)?;
        if answer != expected() {
            self.failures.push(format!("{name}: the answer is not that of the data"));
        }
        let mut durations = Durations::default();
        for _ in 0..REPEATS {
            let (again, cpu) = cpu_of(&mut query);
            durations.push(cpu);
            if again.map_err(io::Error::other)? != answer {
                self.failures.push(format!("{name}: the answer changes"));
            }
        }
        Ok(durations.median().as_secs_f64() * 1000.0)
    }
}

fn select(
    store: &Store,
    matchers: &[Matcher],
    columns: Columns,
    range: TimeRange,
) -> Answer<Vec<Arc<dyn SelectedSet>>> {
    store.snapshot().select(&Selector { matchers: matchers.to_vec(), columns, range })
}

fn named(metric: &'static str) -> Columns {
    Columns::Named(Text::from_static(metric))
}

/// The integers that a run was decoded to.
fn ints(samples: &Samples) -> Answer<&[i64]> {
    match &samples.values {
        Values::Ints(values) => Ok(values),
        _ => Err(StorageError::new("a run of integers has floats")),
    }
}

/// Shows the parts of a series that lie in one window each.
fn for_each_window(
    cursor: &mut dyn ColumnCursor,
    samples: &mut Samples,
    window_ms: i64,
    mut part: impl FnMut(i64, &[i64]),
) -> Answer<()> {
    while cursor.next_run()?.is_some() {
        cursor.decode(samples)?;
        let (times, values) = (&samples.timestamps, ints(samples)?);
        let mut rest = &times[..];
        let mut at = 0;
        while let Some(time) = rest.first() {
            let window = time.as_millis().div_euclid(window_ms);
            let end = Timestamp::from_millis((window + 1) * window_ms);
            let len = rest.iter().position(|time| *time >= end).unwrap_or(rest.len());
            part(window, &values[at..at + len]);
            rest = &rest[len..];
            at += len;
        }
    }
    Ok(())
}

fn increase(
    store: &Store,
    metric: &'static str,
    range: TimeRange,
    window_ms: i64,
) -> Answer<Windows> {
    let first = range.start.as_millis().div_euclid(window_ms);
    let count = range.end.as_millis().div_euclid(window_ms) - first + 1;
    let mut windows = vec![0_i64; count as usize];
    let mut samples = Samples::default();
    for set in select(store, &[], named(metric), range)? {
        let mut before = None;
        for_each_window(&mut *set.read(0), &mut samples, window_ms, |window, values| {
            let mut last = before.unwrap_or(values[0]);
            let mut sum = 0;
            // Counters stay far from the ends of `i64`: nothing wraps, but the compiler need not ask.
            for value in values {
                let step = value.wrapping_sub(last);
                sum = i64::wrapping_add(sum, if step >= 0 { step } else { *value });
                last = *value;
            }
            before = Some(last);
            windows[(window - first) as usize] += sum;
        })?;
    }
    let windows = windows.into_iter().enumerate();
    Ok(windows.map(|(index, sum)| (first + index as i64, sum)).filter(|w| w.1 != 0).collect())
}

fn maximum(
    store: &Store,
    metric: &'static str,
    range: TimeRange,
    window_ms: i64,
) -> Answer<ByNamespace> {
    let mut namespaces: BTreeMap<Text, BTreeMap<i64, i64>> = BTreeMap::new();
    let mut samples = Samples::default();
    let mut series: Vec<(i64, i64)> = Vec::new();
    for set in select(store, &[], named(metric), range)? {
        series.clear();
        for_each_window(&mut *set.read(0), &mut samples, window_ms, |window, values| {
            let max = values.iter().copied().max().unwrap_or(i64::MIN);
            match series.last_mut().filter(|last| last.0 == window) {
                Some(last) => last.1 = last.1.max(max),
                None => series.push((window, max)),
            }
        })?;
        let namespace = set.labels().get(key::NAMESPACE_NAME).cloned().unwrap_or_default();
        let sums = namespaces.entry(namespace).or_default();
        for (window, max) in &series {
            *sums.entry(*window).or_default() += max;
        }
    }
    Ok(flat(namespaces))
}

/// The same store once its day is in a tier of an hour.
fn with_tier(folder: &Path) -> io::Result<Store> {
    let clock = Arc::new(BatchClock::new());
    let resolution = Duration::from_millis(HOUR_MS.cast_unsigned());
    let tiers =
        vec![TierOptions { resolution, retention: Retention::Forever, retention_bytes: None }];
    let options = StoreOptions { tiers, cold_after: None, ..store_options(&clock) };
    let store = Store::open(folder, options).map_err(io::Error::other)?;
    let newest = store.snapshot().bounds().map(|bounds| bounds.end).unwrap_or_default();
    clock.set(newest.saturating_add(48 * resolution));
    while !store.roll_up().map_err(io::Error::other)?.is_idle() {}
    Ok(store)
}

fn tier_maximum(
    store: &Store,
    metric: &'static str,
    range: TimeRange,
    window_ms: i64,
) -> Answer<ByNamespace> {
    let selection = store.snapshot().select_buckets(&BucketSelector {
        matchers: Vec::new(),
        columns: named(metric),
        range,
        bucket: Some(Duration::from_millis(window_ms.cast_unsigned())),
        aggregates: Aggregates::MAX,
    })?;
    let mut namespaces: BTreeMap<Text, BTreeMap<i64, i64>> = BTreeMap::new();
    let mut buckets = Vec::new();
    for set in &selection.sets {
        buckets.clear();
        let mut cursor = set.read(0);
        while cursor.step(&mut buckets)?.is_some() {}
        let namespace = set.labels().get(key::NAMESPACE_NAME).cloned().unwrap_or_default();
        let sums = namespaces.entry(namespace).or_default();
        for bucket in &buckets {
            let window = bucket.start.as_millis().div_euclid(window_ms);
            let max = bucket.max.and_then(Value::as_int).unwrap_or_default();
            *sums.entry(window).or_default() += max;
        }
    }
    Ok(flat(namespaces))
}

fn flat(namespaces: BTreeMap<Text, BTreeMap<i64, i64>>) -> ByNamespace {
    let flat = |(namespace, sums): (Text, BTreeMap<i64, i64>)| {
        sums.into_iter().map(move |(window, sum)| ((namespace.clone(), window), sum))
    };
    namespaces.into_iter().flat_map(flat).collect()
}

fn one_series(
    store: &Store,
    matchers: &[Matcher],
    metric: &'static str,
    range: TimeRange,
) -> Answer<Vec<(Timestamp, i64)>> {
    let mut all = Vec::new();
    for set in select(store, matchers, named(metric), range)? {
        let samples = collect(&*set, 0)?;
        all.extend(samples.into_iter().filter_map(|(at, value)| Some((at, value.as_int()?))));
    }
    Ok(all)
}

/// The values in the order of the labels of their sets.
fn last_values(store: &Store, metric: &'static str, range: TimeRange) -> Answer<Vec<i64>> {
    let mut values = Vec::new();
    for set in select(store, &[], named(metric), range)? {
        values.extend(set.last(0)?.and_then(|(_, value)| value.as_int()));
    }
    Ok(values)
}

fn count(store: &Store) -> Answer<u64> {
    let mut count = 0;
    for set in select(store, &[], Columns::All, TimeRange::ALL)? {
        for column in 0..set.columns().len() {
            let mut cursor = set.read(column);
            while let Some(run) = cursor.next_run()? {
                count += match run.summary {
                    Some(summary) => summary.count,
                    None => cursor.count()?,
                };
            }
        }
    }
    Ok(count)
}
