//! The log: a batch by level of acknowledgement, and syncing.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::workload::{Filling, SimulatedBatches, sample_count};
use heapster_core::Timestamp;
use heapster_store::Ack;

const RESOLUTION: Duration = Duration::from_secs(60);
/// Maintenance runs between the appends that are measured.
const MAINTAIN_EVERY: u64 = 10;

fn wal(criterion: &mut Criterion) {
    let options = SimOptions { nodes: 20, ..SimOptions::default() };
    let start = Timestamp::from_millis(1_700_006_400_000);
    let mut group = criterion.benchmark_group("wal");
    for (name, ack) in
        [("memory", Ack::Memory), ("buffered", Ack::Buffered), ("durable", Ack::Durable)]
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut filling = Filling::begin(folder.path()).expect("an empty store opens");
        let mut stream = SimulatedBatches::new(&options, start, RESOLUTION);
        let first = stream.next().expect("the stream is endless");
        group.throughput(Throughput::Elements(sample_count(&first))).sample_size(20);
        let mut appended = 0;
        let clock = filling.clock.clone();
        let setup = |filling: &mut Filling| {
            appended += 1;
            if appended % MAINTAIN_EVERY == 0 {
                filling.maintain().expect("maintenance works");
            }
            let batch = stream.next().expect("the stream is endless");
            clock.set(batch.timestamp);
            batch
        };
        let (setup, filling) =
            (std::cell::RefCell::new(setup), std::cell::RefCell::new(&mut filling));
        group.bench_function(format!("{name}, 20 nodes"), |bencher| {
            bencher.iter_batched(
                || (setup.borrow_mut())(&mut filling.borrow_mut()),
                |batch| filling.borrow().store.append(&batch, ack).expect("the store takes it"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, wal);
criterion_main!(benches);
