//! Decoding into a slice, nothing else.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::series::Row as StoredRow;
use heapster_core::storage::{Columns, Samples, SelectedSet, Selector, Snapshot, Values};
use heapster_core::{Labels, MetricValue, Text, TimeRange};
use heapster_store::{Ack, Store, bench_support};

use super::lab::Lab;
use super::row::Row;
use super::{REPEATS, START};
use crate::cluster_sim::random::Random;
use crate::measure::{Durations, cpu_of};
use crate::workload::{BatchClock, GENERATED_COLUMNS, Generated, store_options};

const FLOAT_SETS: usize = 200;
const FLOAT_TIMES: usize = 1_440;
const FLOAT_METRIC: &str = "custom/temperature";

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let filled = lab.filled()?;
    let mut rows = Vec::new();
    let (mut all_samples, mut all_cpu) = (0, Duration::ZERO);
    for column in GENERATED_COLUMNS {
        lab.progress(&format!("decoding {}", column.metric));
        let (samples, cpu) = decode_column(&filled.store, column.metric)?;
        if samples != filled.disk.samples / GENERATED_COLUMNS.len() as u64 {
            lab.failures.push(format!("{}: {samples} samples were decoded", column.metric));
        }
        rows.push(Row::new(column.metric, nanos(cpu, samples), "ns/sample"));
        all_samples += samples;
        all_cpu += cpu;
    }
    let all = Row::new("integers, GEN, with their times", nanos(all_cpu, all_samples), "ns/sample");
    rows.insert(0, all.at_most(1.2).stretch(0.5).peers(59.0, 17.0).note("peers: whole scans"));

    let data = lab.generated()?;
    for (name, is_small) in [("codec alone, integers", false), ("codec alone, cold", true)] {
        lab.progress(name);
        let (cpu, bytes) = codec(&data, is_small)?;
        let samples = data.samples();
        rows.push(Row::new(name, nanos(cpu, samples), "ns/sample").note(format!(
            "{:.3} bytes/value in chunks of {} values",
            bytes as f64 / samples as f64,
            data.times()
        )));
    }

    lab.progress("decoding floats");
    let folder = lab.folder("floats")?;
    let store = floats(&folder)?;
    let (samples, cpu) = decode_column(&store, FLOAT_METRIC)?;
    let row = Row::new("floats that are no decimals (XOR)", nanos(cpu, samples), "ns/sample");
    rows.push(row.at_most(3.0));
    Ok(rows)
}

fn nanos(cpu: Duration, samples: u64) -> f64 {
    cpu.as_nanos() as f64 / samples as f64
}

/// Samples of a column, and the CPU time to decode them all: the median of several runs.
fn decode_column(store: &Store, metric: &'static str) -> io::Result<(u64, Duration)> {
    let selector = Selector {
        matchers: Vec::new(),
        columns: Columns::Named(Text::from_static(metric)),
        range: TimeRange::ALL,
    };
    let sets = store.snapshot().select(&selector).map_err(io::Error::other)?;
    let mut samples = Samples::default();
    let mut durations = Durations::default();
    let mut count = 0;
    for _ in 0..=REPEATS {
        let (decoded, cpu) = cpu_of(|| decode_all(&sets, &mut samples));
        // The first run also reads the files.
        if count > 0 {
            durations.push(cpu);
        }
        count = decoded?;
    }
    Ok((count, durations.median()))
}

fn decode_all(sets: &[Arc<dyn SelectedSet>], samples: &mut Samples) -> io::Result<u64> {
    let mut count = 0;
    for set in sets {
        let mut cursor = set.read(0);
        while cursor.next_run().map_err(io::Error::other)?.is_some() {
            cursor.decode(samples).map_err(io::Error::other)?;
            count += samples.timestamps.len() as u64;
        }
    }
    Ok(count)
}

/// CPU time to decode all chunks of the generated set, one for each slot and column, and their bytes.
fn codec(data: &Generated, is_small: bool) -> io::Result<(Duration, u64)> {
    let (mut cpu, mut bytes) = (Duration::ZERO, 0);
    let (mut chunk, mut decoded) = (Vec::new(), Values::default());
    for slot in 0..data.slots() {
        for column in 0..GENERATED_COLUMNS.len() {
            let values = Values::Ints(data.rows(slot).iter().map(|row| row[column]).collect());
            chunk.clear();
            bench_support::encode(&values, is_small, &mut chunk);
            bytes += chunk.len() as u64;
            let count = values.len();
            let decode = || bench_support::decode_rows(&chunk, count, 0..count, &mut decoded);
            let (is_whole, took) = cpu_of(decode);
            cpu += took;
            if !is_whole || decoded != values {
                return Err(io::Error::other("a chunk does not give back its values"));
            }
        }
    }
    Ok((cpu, bytes))
}

/// A compacted store of a day of floats that use all their digits.
fn floats(folder: &std::path::Path) -> io::Result<Store> {
    let clock = Arc::new(BatchClock::new());
    let store = Store::open(folder, store_options(&clock)).map_err(io::Error::other)?;
    let mut random = Random::of(1, "floats");
    let mut rows: Vec<StoredRow> = (0..FLOAT_SETS)
        .map(|index| StoredRow {
            labels: Labels::from_iter([("sensor", format!("sensor-{index:04}"))]),
            cells: vec![(Text::from_static(FLOAT_METRIC), MetricValue::gauge(20.0))],
        })
        .collect();
    for time in 0..FLOAT_TIMES {
        let at = START.saturating_add(Duration::from_secs(60 * time as u64));
        clock.set(at);
        for row in &mut rows {
            let before = row.cells[0].1.value.as_f64();
            row.cells[0].1 = MetricValue::gauge(before + 0.01 * random.normal());
        }
        let _ = store.append_rows(at, &rows, Ack::Buffered).map_err(io::Error::other)?;
        store.maintain().map_err(io::Error::other)?;
    }
    let _ = store.compact_all().map_err(io::Error::other)?;
    Ok(store)
}
