//! Finding sets and reading little of them: by label, by metric, the last values, the last hour.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::workload::{Filling, GENERATED_COLUMNS, Generated};
use heapster_core::storage::{Columns, Samples, Selector, Snapshot};
use heapster_core::{Matcher, Text, TimeRange, Timestamp, key, metric};
use heapster_store::StoreSnapshot;

const SLOTS: usize = 1_000;
const HOUR_MS: i64 = 3_600_000;

/// Reads what is selected; returns how many samples there are.
fn read(snapshot: &StoreSnapshot, selector: &Selector) -> u64 {
    let mut samples = Samples::default();
    let mut count = 0;
    for set in snapshot.select(selector).expect("the index is whole") {
        for column in 0..set.columns().len() {
            let mut cursor = set.read(column);
            while cursor.next_run().expect("runs are whole").is_some() {
                cursor.decode(&mut samples).expect("runs are whole");
                count += samples.timestamps.len() as u64;
            }
        }
    }
    count
}

fn select(criterion: &mut Criterion) {
    let data = Generated::made(SLOTS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut filling = Filling::begin(folder.path()).expect("an empty store opens");
    for batch in data.batches(0..GENERATED_COLUMNS.len()) {
        filling.append(&batch).expect("the store takes the batch");
    }
    let _ = filling.store.compact_all().expect("the store is compacted");
    let snapshot = filling.store.snapshot();
    let end = snapshot.bounds().expect("there are samples").end.as_millis();
    let since = |millis| TimeRange::new(Timestamp::from_millis(end - millis), Timestamp::MAX);
    let labels = &data.instances(SLOTS / 2)[0].labels;
    let equal = |name| Matcher::equal(name, Text::from(labels.value(name)));
    let cpu = || Columns::Named(Text::from_static(metric::CPU_USAGE));
    let pattern = Matcher::regex(key::POD_NAME, "svc-1.*").expect("a pattern");
    let mut group = criterion.benchmark_group("select");
    for (name, matchers, columns, range) in [
        ("one series, a day", vec![equal(key::POD_NAME)], cpu(), TimeRange::ALL),
        ("a node, all columns, now", vec![equal(key::NODENAME)], Columns::All, since(300_000)),
        ("a pattern, one column, now", vec![pattern], cpu(), since(300_000)),
        ("one column of all, now", vec![], cpu(), since(300_000)),
        ("one column of all, an hour", vec![], cpu(), since(HOUR_MS)),
        ("one column of all, a day", vec![], cpu(), TimeRange::ALL),
    ] {
        let selector = Selector { matchers, columns, range };
        group.throughput(Throughput::Elements(read(&snapshot, &selector))).sample_size(20);
        group.bench_function(format!("{name}: sets"), |bencher| {
            bencher.iter(|| black_box(snapshot.select(&selector)));
        });
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(read(&snapshot, &selector)));
        });
    }
    group.finish();
}

criterion_group!(benches, select);
criterion_main!(benches);
