//! A month of raw samples and the tiers made of it.

use std::io;
use std::path::Path;
use std::time::Duration;

use heapster_core::storage::{
    Aggregates, Bucket, BucketSelector, Columns, Snapshot, StorageError, Sum,
};
use heapster_core::{Text, TimeRange, metric};
use heapster_store::{Retention, Store, TierOptions};

use super::lab::Lab;
use super::row::Row;
use crate::load::DiskUsage;
use crate::measure::cpu_of;
use crate::workload::{Days, DenseBatches, Filling};

const HOUR: Duration = Duration::from_secs(3600);
const TIERS: [(&str, Duration); 2] = [("5 min", Duration::from_secs(300)), ("1 h", HOUR)];
/// Columns of the two metrics that are asked for.
const CPU: usize = 0;
const WORKING_SET: usize = 1;

/// By hour: the sum of what every series has there.
type ByHour = std::collections::BTreeMap<i64, i128>;

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let data = lab.generated()?;
    let slots = lab.scaled(1_000, 100).min(data.slots());
    let days = Days { data: &data, slots };
    let count = lab.scaled(30, 7);
    let folder = lab.folder("tiers")?;
    let (store, mut rows) = fill(lab, days, count, &folder)?;
    let samples = (slots * data.times() * count * 6) as f64;
    for (index, tier) in store.stats().tiers.iter().enumerate() {
        let per_sample = tier.bytes as f64 / samples;
        let name = TIERS.get(index).map_or("", |tier| tier.0);
        let what = format!("size of the tier of {name}");
        rows.push(Row::new(what, per_sample, "bytes/raw sample").note(format!(
            "{:.1} MiB; {:.2} bytes/aggregate",
            tier.bytes as f64 / f64::from(1 << 20),
            tier.bytes as f64 / tier.samples.max(1) as f64
        )));
    }
    let raw = DiskUsage::of(&folder)?.total_bytes() as f64
        - store.stats().tiers.iter().map(|tier| tier.bytes as f64).sum::<f64>();
    rows.push(Row::new("size of the raw samples", raw / samples, "bytes/sample"));

    for (name, metric, wanted, of) in [
        ("maximum", metric::MEMORY_WORKING_SET, Aggregates::MAX, maximum as fn(&Bucket) -> i128),
        ("increase", metric::CPU_USAGE, Aggregates::INCREASE, increase),
    ] {
        let ms = lab.query(
            &format!("{name} by hour, {count} days"),
            || by_hour(&store, metric, wanted, of),
            || match wanted {
                Aggregates::MAX => direct_maximum(days, count),
                _ => direct_increase(days, count),
            },
        )?;
        let what = format!("sum of {name} by 1 h, {slots} series, {count} days");
        rows.push(Row::new(what, ms, "ms"));
    }
    Ok(rows)
}

/// A store of so many days with its tiers, and what they cost.
fn fill(
    lab: &mut Lab,
    days: Days<'_>,
    count: usize,
    folder: &Path,
) -> io::Result<(Store, Vec<Row>)> {
    let mut filling = Filling::begin_with(folder, |mut options| {
        let tier = |(_, resolution)| TierOptions {
            resolution,
            retention: Retention::Forever,
            retention_bytes: None,
        };
        options.tiers = TIERS.map(tier).to_vec();
        options.cold_after = None;
        options
    })?;
    let order = days.batches();
    let (mut compact_cpu, mut roll_up_cpu) = (Duration::ZERO, [Duration::ZERO; TIERS.len()]);
    for day in 0..count {
        lab.progress(&format!("day {} of {count}", day + 1));
        let mut batches = DenseBatches::of_day(days, day, &filling.store)?;
        for (node, time) in &order {
            filling.append_dense(&mut batches, *node, *time)?;
        }
        compact_cpu += compact(&filling.store)?;
        roll_up(&filling.store, &mut roll_up_cpu)?;
    }
    // Two days later the last day is over as well.
    filling.store.flush().map_err(io::Error::other)?;
    let newest = filling.store.snapshot().bounds().map(|bounds| bounds.end).unwrap_or_default();
    filling.clock.set(newest.saturating_add(48 * HOUR));
    compact_cpu += compact(&filling.store)?;
    roll_up(&filling.store, &mut roll_up_cpu)?;
    let cost = filling.cost;
    let nanos = |cpu: Duration| cpu.as_nanos() as f64 / cost.accepted as f64;
    let what = format!("{count} days of {} containers by handle", days.slots);
    let mut rows = vec![
        Row::new(what, cost.samples_per_cpu_second(), "samples/CPU-s")
            .note(format!("{:.0} M samples", cost.accepted as f64 / 1e6)),
        Row::new("flushes and syncs", nanos(cost.maintain_cpu), "ns CPU/sample"),
        Row::new("merging by day", nanos(compact_cpu), "ns CPU/sample"),
    ];
    for ((name, _), cpu) in TIERS.iter().zip(roll_up_cpu) {
        let row = Row::new(format!("building the tier of {name}"), nanos(cpu), "ns CPU/sample");
        rows.push(row.note(format!("{:.1} s", cpu.as_secs_f64())));
    }
    Ok((filling.store, rows))
}

fn compact(store: &Store) -> io::Result<Duration> {
    let (done, cpu) = cpu_of(|| {
        while !store.compact()?.is_idle() {}
        Ok::<_, heapster_store::Error>(())
    });
    done.map(|()| cpu).map_err(io::Error::other)
}

fn roll_up(store: &Store, cpu: &mut [Duration; TIERS.len()]) -> io::Result<()> {
    loop {
        let (report, took) = cpu_of(|| store.roll_up());
        let Some(resolution) = report.map_err(io::Error::other)?.resolution else { return Ok(()) };
        if let Some(index) = TIERS.iter().position(|(_, tier)| *tier == resolution) {
            cpu[index] += took;
        }
    }
}

fn maximum(bucket: &Bucket) -> i128 {
    bucket.max.and_then(heapster_core::Value::as_int).unwrap_or(0).into()
}

fn increase(bucket: &Bucket) -> i128 {
    match bucket.increase.map(|increase| increase.by) {
        Some(Sum::Int(by)) => by,
        _ => 0,
    }
}

fn by_hour(
    store: &Store,
    metric: &'static str,
    aggregates: Aggregates,
    of: fn(&Bucket) -> i128,
) -> Result<ByHour, StorageError> {
    let selection = store.snapshot().select_buckets(&BucketSelector {
        matchers: Vec::new(),
        columns: Columns::Named(Text::from_static(metric)),
        range: TimeRange::ALL,
        bucket: Some(HOUR),
        aggregates,
    })?;
    let mut sums = ByHour::new();
    let mut buckets = Vec::new();
    for set in &selection.sets {
        let mut cursor = set.read(0);
        buckets.clear();
        while cursor.step(&mut buckets)?.is_some() {}
        for bucket in &buckets {
            *sums.entry(bucket.start.as_millis()).or_default() += of(bucket);
        }
    }
    Ok(sums)
}

/// Shows times and values of every series, as they are in the data.
fn for_each_series(
    days: Days<'_>,
    count: usize,
    column: usize,
    mut series: impl FnMut(&mut dyn Iterator<Item = (i64, i64)>),
) {
    for slot in 0..days.slots {
        let sample = |day, time| (days.time(day, slot, time), days.row(day, slot, time)[column]);
        if days.is_stable(slot) {
            let times = 0..days.data.times();
            series(
                &mut (0..count)
                    .flat_map(|day| times.clone().map(move |time| (day, time)))
                    .map(|(day, time)| sample(day, time)),
            );
            continue;
        }
        for day in 0..count {
            for instance in days.data.instances(slot) {
                series(&mut instance.times.clone().map(|time| sample(day, time)));
            }
        }
    }
}

fn hour_of(at: i64) -> i64 {
    let hour = HOUR.as_millis() as i64;
    at.div_euclid(hour) * hour
}

fn direct_maximum(days: Days<'_>, count: usize) -> ByHour {
    let mut sums = ByHour::new();
    for_each_series(days, count, WORKING_SET, |samples| {
        let mut own: Option<(i64, i64)> = None;
        for (at, value) in samples {
            match &mut own {
                Some((hour, max)) if *hour == hour_of(at) => *max = (*max).max(value),
                _ => {
                    if let Some((hour, max)) = own.replace((hour_of(at), value)) {
                        *sums.entry(hour).or_default() += i128::from(max);
                    }
                }
            }
        }
        if let Some((hour, max)) = own {
            *sums.entry(hour).or_default() += i128::from(max);
        }
    });
    sums
}

fn direct_increase(days: Days<'_>, count: usize) -> ByHour {
    let mut sums = ByHour::new();
    for_each_series(days, count, CPU, |samples| {
        let mut before = None;
        for (at, value) in samples {
            let step = before.map_or(0, |b| if value >= b { value - b } else { value });
            *sums.entry(hour_of(at)).or_default() += i128::from(step);
            before = Some(value);
        }
    });
    sums
}
