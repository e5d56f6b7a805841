//! What appending the generated set costs, and how long an append waits for what runs beside it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heapster_store::{Ack, Error, Store};

use super::lab::Lab;
use super::row::Row;
use crate::measure::{Durations, wall_of};
use crate::workload::{
    BatchClock, Days, DenseBatches, FillCost, Filling, GENERATED_COLUMNS, Generated, store_options,
};

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let cost = lab.filled()?.cost;
    let maintenance = cost.maintain_cpu.as_nanos() as f64 / cost.accepted as f64;
    let mut rows = vec![
        Row::new("batches of 300 samples", cost.samples_per_cpu_second(), "samples/CPU-s")
            .at_least(10e6)
            .stretch(25e6),
        Row::new("maintenance beside it", maintenance, "ns CPU/sample").note("sync and flush"),
        Row::new("log", cost.wal_bytes_per_sample(), "bytes/sample"),
    ];
    let data = lab.generated()?;
    lab.progress("appending by handle");
    let by_handle = by_handle(&data, &lab.folder("by-handle")?)?;
    let row = Row::new("the same by handle", by_handle.samples_per_cpu_second(), "samples/CPU-s");
    rows.insert(1, row.at_least(10e6).stretch(25e6));
    lab.progress("appending while segments are merged");
    let (appends, merges) = beside_compaction(&data, &lab.folder("beside")?)?;
    for (name, share) in [("half of all", 0.5), ("99 of 100", 0.99), ("all", 1.0)] {
        let waited = appends.quantile(share).as_secs_f64() * 1000.0;
        let what = format!("an append beside compaction, {name} within");
        rows.push(Row::new(what, waited, "ms wall").note(match share {
            1.0 => format!("{} appends, {merges} rounds of flush and compaction", appends.count()),
            _ => String::new(),
        }));
    }
    Ok(rows)
}

/// Appends the day as a collector does that knows its sets.
fn by_handle(data: &Generated, folder: &Path) -> io::Result<FillCost> {
    let days = Days { data, slots: data.slots() };
    let mut filling = Filling::begin(folder)?;
    let mut batches = DenseBatches::of_day(days, 0, &filling.store)?;
    for (node, time) in days.batches() {
        filling.append_dense(&mut batches, node, time)?;
    }
    Ok(filling.cost)
}

/// Appends half a day while another thread flushes and compacts without a pause. How long each
/// append took, and how many rounds the other thread made.
fn beside_compaction(data: &Generated, folder: &Path) -> io::Result<(Durations, u64)> {
    let clock = Arc::new(BatchClock::new());
    let store = Store::open(folder, store_options(&clock)).map_err(io::Error::other)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let upkeep = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                rounds += 1;
                work(&store)?;
            }
            Ok::<_, Error>(rounds)
        });
        let batches = data.batches(0..GENERATED_COLUMNS.len());
        let mut appends = Durations::default();
        let half = data.times() / 2 * data.slots().div_ceil(50);
        let appended = batches.take(half).try_for_each(|batch| {
            clock.set(batch.timestamp);
            let (report, wall) = wall_of(|| store.append(&batch, Ack::Buffered));
            appends.push(wall);
            report.map(drop)
        });
        is_over.store(true, Ordering::Relaxed);
        store.stop_background();
        let rounds = upkeep.join().map_err(|_| io::Error::other("bug: the upkeep panicked"))?;
        appended.map_err(io::Error::other)?;
        Ok((appends, rounds.map_err(io::Error::other)?))
    })
}

/// One round of everything that runs beside appends.
fn work(store: &Store) -> Result<(), Error> {
    let _ = store.maintain()?;
    store.flush()?;
    while !store.compact()?.is_idle() {}
    while !store.roll_up()?.is_idle() {}
    Ok(())
}
