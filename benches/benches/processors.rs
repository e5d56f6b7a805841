//! The processors of the collector on one batch of a simulated cluster.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::workload::SimulatedBatches;
use heapster_core::Timestamp;

fn processors(criterion: &mut Criterion) {
    let options = SimOptions { nodes: 50, ..SimOptions::default() };
    let start = Timestamp::from_millis(1_700_006_400_000);
    let mut stream = SimulatedBatches::new(&options, start, Duration::from_secs(60));
    stream.next();
    let mut group = criterion.benchmark_group("processors");
    let sets = stream.next_unprocessed().sets.len() as u64;
    group.throughput(Throughput::Elements(sets)).sample_size(20);
    let stream = std::cell::RefCell::new(stream);
    group.bench_function("standard, 50 nodes", |bencher| {
        bencher.iter_batched(
            || stream.borrow_mut().next_unprocessed(),
            |mut batch| {
                stream.borrow_mut().process(&mut batch);
                black_box(batch)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, processors);
criterion_main!(benches);
