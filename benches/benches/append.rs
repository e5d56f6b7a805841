//! Appending: a batch of a simulated cluster, rows by handle, and series that are new.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::measure::wall_of;
use heapster_benches::workload::{
    COLUMNS_OF_CONTAINER, Containers, Days, DenseBatches, Filling, Generated, LabelSize,
    SimulatedBatches, sample_count,
};
use heapster_core::Timestamp;
use heapster_store::Ack;

const START: Timestamp = Timestamp::from_millis(1_700_006_400_000);
const RESOLUTION: Duration = Duration::from_secs(60);

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(20);

    let options = SimOptions { nodes: 20, ..SimOptions::default() };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut filling = Filling::begin(folder.path()).expect("an empty store opens");
    let mut stream = SimulatedBatches::new(&options, START, RESOLUTION);
    let first = stream.next().expect("the stream is endless");
    group.throughput(Throughput::Elements(sample_count(&first)));
    group.bench_function("batch of 20 nodes", |bencher| {
        bencher.iter_custom(|count| {
            let append = |_| {
                let batch = stream.next().expect("the stream is endless");
                filling.clock.set(batch.timestamp);
                let append = || filling.store.append(&batch, Ack::Buffered);
                let (report, wall) = wall_of(append);
                let _ = report.expect("the store takes the batch");
                wall
            };
            let wall = (0..count).map(append).sum();
            filling.maintain().expect("maintenance works");
            wall
        });
    });

    let data = Generated::made(500);
    let days = Days { data: &data, slots: data.slots() };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut filling = Filling::begin(folder.path()).expect("an empty store opens");
    let order = days.batches();
    let mut steps = (0..).flat_map(|day| order.iter().map(move |(node, time)| (day, node, time)));
    let mut batches = DenseBatches::of_day(days, 0, &filling.store).expect("sets are registered");
    group.throughput(Throughput::Elements(300));
    group.bench_function("50 containers by handle", |bencher| {
        bencher.iter_custom(|count| {
            let mut wall = Duration::ZERO;
            for _ in 0..count {
                let (day, node, time) = steps.next().expect("the days are endless");
                if batches.day() != day {
                    batches = DenseBatches::of_day(days, day, &filling.store)
                        .expect("sets are registered");
                }
                filling.clock.set(batches.prepare(*node, *time));
                let (report, took) = wall_of(|| batches.append(&filling.store));
                let _ = report.expect("the store takes the rows");
                wall += took;
            }
            filling.maintain().expect("maintenance works");
            wall
        });
    });

    let containers = Containers { count: 5_000, labels: LabelSize::Kubernetes, churn: None };
    let new: Vec<_> = (0..containers.nodes()).map(|n| containers.batch(n, START, 0)).collect();
    group.throughput(Throughput::Elements((containers.count * COLUMNS_OF_CONTAINER) as u64));
    group.bench_function("new series", |bencher| {
        bencher.iter_batched(
            || {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let filling = Filling::begin(folder.path()).expect("an empty store opens");
                filling.clock.set(START);
                (folder, filling)
            },
            |(folder, filling)| {
                for batch in &new {
                    let report = filling.store.append(batch, Ack::Buffered);
                    let _ = report.expect("the store takes the batch");
                }
                (folder, filling)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, append);
criterion_main!(benches);
