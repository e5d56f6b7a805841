//! Flushing two hours, and merging a day of flushes into one segment, normal and for size.

use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::workload::{Filling, GENERATED_COLUMNS, Generated};
use heapster_core::Timestamp;

const SLOTS: usize = 200;

/// A store with the first batches of the generated set.
fn filled(folder: &Path, data: &Generated, share: f64, cold_after: Option<Duration>) -> Filling {
    let mut filling = Filling::begin_with(folder, |mut options| {
        options.cold_after = cold_after;
        options
    })
    .expect("an empty store opens");
    let batches = data.batches(0..GENERATED_COLUMNS.len());
    let count = (share * (data.times() * data.slots().div_ceil(50)) as f64) as usize;
    for batch in batches.take(count) {
        filling.append(&batch).expect("the store takes the batch");
    }
    filling
}

fn compaction(criterion: &mut Criterion) {
    let data = Generated::made(SLOTS);
    let mut group = criterion.benchmark_group("compaction");
    group.sample_size(10);
    let two_hours = 1.0 / 12.0;
    group.throughput(Throughput::Elements((data.samples() as f64 * two_hours) as u64));
    group.bench_function("flush of 2 h", |bencher| {
        bencher.iter_batched(
            || {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let filling = filled(folder.path(), &data, two_hours, None);
                (folder, filling)
            },
            |(folder, filling)| {
                assert!(filling.store.flush().expect("the head is flushed"));
                (folder, filling)
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(data.samples()));
    for (name, cold_after) in
        [("merge of a day", None), ("merge of a day, cold", Some(Duration::ZERO))]
    {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    let folder = tempfile::tempdir().expect("a temporary folder");
                    let filling = filled(folder.path(), &data, 1.0, cold_after);
                    filling.store.flush().expect("the head is flushed");
                    filling.clock.set(Timestamp::from_millis(1_700_006_400_000 + 7 * 86_400_000));
                    (folder, filling)
                },
                |(folder, filling)| {
                    let report = filling.store.compact_all().expect("segments are merged");
                    assert!(!report.is_idle());
                    (folder, filling)
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, compaction);
criterion_main!(benches);
