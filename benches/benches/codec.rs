//! Encoding and decoding chunks: columns of the generated set, and floats that are no decimals.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::workload::{GENERATED_COLUMNS, Generated};
use heapster_core::storage::Values;
use heapster_store::bench_support::{decode_rows, encode, stored_summary};

const SLOTS: usize = 100;

/// The column of every slot, a chunk each.
fn columns() -> Vec<(&'static str, Vec<Values>)> {
    let data = Generated::made(SLOTS);
    let of_slot =
        |slot, column: usize| Values::Ints(data.rows(slot).iter().map(|row| row[column]).collect());
    let mut all: Vec<(&'static str, Vec<Values>)> = GENERATED_COLUMNS
        .iter()
        .enumerate()
        .map(|(index, column)| {
            (column.metric, (0..SLOTS).map(|slot| of_slot(slot, index)).collect())
        })
        .collect();
    let float = |slot| {
        let walk = data.rows(slot).iter().scan(20.0, |walk: &mut f64, row| {
            *walk += (row[0] as f64).sin() / 3.0;
            Some(*walk)
        });
        Values::Floats(walk.collect())
    };
    all.push(("floats", (0..SLOTS).map(float).collect()));
    all
}

fn codec(criterion: &mut Criterion) {
    for (name, values) in columns() {
        let count = values[0].len();
        let mut group = criterion.benchmark_group(format!("codec/{name}"));
        group.throughput(Throughput::Elements((count * SLOTS) as u64)).sample_size(20);
        for (effort, is_small) in [("fast", false), ("small", true)] {
            let mut chunk = Vec::new();
            group.bench_function(format!("encode {effort}"), |bencher| {
                bencher.iter(|| {
                    for values in &values {
                        chunk.clear();
                        encode(values, is_small, black_box(&mut chunk));
                    }
                });
            });
            let chunks: Vec<Vec<u8>> = values
                .iter()
                .map(|values| {
                    let mut chunk = Vec::new();
                    encode(values, is_small, &mut chunk);
                    chunk
                })
                .collect();
            let mut into = Values::default();
            for (part, rows) in [("all", 0..count), ("an hour", count - 60..count)] {
                group.bench_function(format!("decode {part}, {effort}"), |bencher| {
                    bencher.iter(|| {
                        for chunk in &chunks {
                            assert!(decode_rows(chunk, count, rows.clone(), black_box(&mut into)));
                        }
                    });
                });
            }
            if !is_small {
                group.bench_function("summary", |bencher| {
                    bencher.iter(|| {
                        for chunk in &chunks {
                            black_box(stored_summary(chunk, count));
                        }
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
