//! Reading samples back: from the head and from segments, one metric and all.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::cluster_sim::SimOptions;
use heapster_benches::workload::{BatchClock, SimulatedBatches, read_all, store_options};
use heapster_core::storage::Columns;
use heapster_core::{Text, Timestamp, metric};
use heapster_store::{Ack, Store};

/// Two hours: what the head holds at most before it is flushed.
const BATCHES: usize = 120;

fn read(criterion: &mut Criterion) {
    let options = SimOptions { nodes: 20, ..SimOptions::default() };
    let start = Timestamp::from_millis(1_700_006_400_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Arc::new(BatchClock::new());
    let store = Store::open(folder.path(), store_options(&clock)).expect("an empty store opens");
    for batch in SimulatedBatches::new(&options, start, Duration::from_secs(60)).take(BATCHES) {
        clock.set(batch.timestamp);
        let report = store.append(&batch, Ack::Buffered).expect("the store takes the batch");
        assert_eq!(report.rejected.total(), 0);
    }
    let mut group = criterion.benchmark_group("read");
    group.sample_size(20);
    for place in ["head", "segments"] {
        if place == "segments" {
            store.flush().expect("the head is flushed");
        }
        let snapshot = store.snapshot();
        for (name, columns) in [
            ("cpu/usage", Columns::Named(Text::from_static(metric::CPU_USAGE))),
            ("memory/usage", Columns::Named(Text::from_static(metric::MEMORY_USAGE))),
            ("all", Columns::All),
        ] {
            let samples = read_all(&snapshot, columns.clone()).expect("everything can be read");
            group.throughput(Throughput::Elements(samples));
            group.bench_function(format!("{name} from {place}, 20 nodes"), |bencher| {
                bencher.iter(|| black_box(read_all(&snapshot, columns.clone())));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
