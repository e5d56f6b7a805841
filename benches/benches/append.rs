//! Appending batches of a simulated cluster to the store, by level of acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::workload::{BatchClock, SimulatedBatches, sample_count, store_options};
use heapster_core::Timestamp;
use heapster_store::{Ack, Store};

const RESOLUTION: Duration = Duration::from_secs(60);
/// Maintenance runs between the appends that are measured.
const MAINTAIN_EVERY: u64 = 10;

fn append(criterion: &mut Criterion) {
    let options = SimOptions { nodes: 20, ..SimOptions::default() };
    let start = Timestamp::from_millis(1_700_006_400_000);
    let mut group = criterion.benchmark_group("append");
    for (name, ack) in
        [("memory", Ack::Memory), ("buffered", Ack::Buffered), ("durable", Ack::Durable)]
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Arc::new(BatchClock::new());
        let store =
            Store::open(folder.path(), store_options(&clock)).expect("an empty store opens");
        let mut stream = SimulatedBatches::new(&options, start, RESOLUTION);
        let first = stream.next().expect("the stream is endless");
        group.throughput(Throughput::Elements(sample_count(&first))).sample_size(20);
        let mut appended = 0;
        group.bench_function(format!("{name}, 20 nodes"), |bencher| {
            bencher.iter_batched(
                || {
                    appended += 1;
                    if appended % MAINTAIN_EVERY == 0 {
                        store.maintain().expect("maintenance works");
                    }
                    let batch = stream.next().expect("the stream is endless");
                    clock.set(batch.timestamp);
                    batch
                },
                |batch| store.append(&batch, ack).expect("the store takes the batch"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
