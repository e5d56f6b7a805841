//! Opening a store again: with a log to replay, and with everything in segments.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::workload::{BatchClock, SimulatedBatches, store_options};
use heapster_core::Timestamp;
use heapster_store::{Ack, Store};

const BATCHES: usize = 60;

fn reopen(criterion: &mut Criterion) {
    let options = SimOptions { nodes: 20, ..SimOptions::default() };
    let start = Timestamp::from_millis(1_700_006_400_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Arc::new(BatchClock::new());
    let open = || Store::open(folder.path(), store_options(&clock)).expect("the store opens");
    let store = open();
    for batch in SimulatedBatches::new(&options, start, Duration::from_secs(60)).take(BATCHES) {
        clock.set(batch.timestamp);
        let report = store.append(&batch, Ack::Buffered).expect("the store takes the batch");
        assert_eq!(report.rejected.total(), 0);
    }
    drop(store);

    let mut group = criterion.benchmark_group("reopen");
    group.sample_size(20);
    // Each store is dropped outside the measurement, and before the next one takes the lock.
    group.bench_function("with a log of one hour, 20 nodes", |bencher| {
        bencher.iter_batched(|| (), |()| open(), BatchSize::PerIteration);
    });
    let store = open();
    store.flush().expect("the head is flushed");
    store.close().expect("the store closes");
    group.bench_function("after a close, 20 nodes", |bencher| {
        bencher.iter_batched(|| (), |()| open(), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, reopen);
criterion_main!(benches);
