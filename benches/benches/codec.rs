//! Chunks: bytes per value, and the time to encode, decode and decode a part.
//!
//! The columns are made up; with `HEAPSTER_GENERATED` naming a folder of raw columns (`*.i64`,
//! little-endian, 1,440 values of a series after another) some series of each come on top.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heapster_core::storage::Values;
use heapster_store::bench_support::{decode_rows, encode, stored_summary};

/// Values of a chunk: what a flush writes, a day of minutes, and what compaction writes at most.
const LENGTHS: [usize; 3] = [120, 1440, 2048];
/// Rows of a short query.
const PART: usize = 60;
/// Values of a made-up column, and of a series in a file.
const VALUES: usize = 1 << 16;
const SERIES_VALUES: usize = 1440;
/// One of so many series of a file is taken.
const SERIES_STEP: usize = 100;

/// A column: its name and the values of its series.
struct Column {
    name: String,
    series: Vec<Values>,
}

fn codec(criterion: &mut Criterion) {
    let mut columns = made_up();
    if let Some(folder) = std::env::var_os("HEAPSTER_GENERATED") {
        columns.extend(from_files(Path::new(&folder)));
    }
    for is_small in [false, true] {
        for length in LENGTHS {
            for column in &columns {
                measure(criterion, column, length, is_small);
            }
        }
    }
}

fn measure(criterion: &mut Criterion, column: &Column, length: usize, is_small: bool) {
    let values: Vec<Values> = column.series.iter().flat_map(|series| cut(series, length)).collect();
    let chunks: Vec<Vec<u8>> = values
        .iter()
        .map(|values| {
            let mut chunk = Vec::new();
            encode(values, is_small, &mut chunk);
            chunk
        })
        .collect();
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    let count: usize = values.iter().map(Values::len).sum();
    let effort = if is_small { "small" } else { "fast" };
    let title = format!("{} by {length}, {effort}", column.name);
    println!("{title}: {:.3} bytes per value", bytes as f64 / count as f64);

    let mut group = criterion.benchmark_group(title);
    group.sample_size(10).warm_up_time(Duration::from_millis(50));
    group.measurement_time(Duration::from_millis(200));
    group.throughput(Throughput::Elements(count as u64));
    let mut out = Vec::new();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            for values in &values {
                out.clear();
                encode(values, is_small, &mut out);
                black_box(&out);
            }
        });
    });
    let mut into = Values::default();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for (values, chunk) in values.iter().zip(&chunks) {
                assert!(decode_rows(chunk, values.len(), 0..values.len(), &mut into));
                black_box(&into);
            }
        });
    });
    group.throughput(Throughput::Elements((values.len() * PART) as u64));
    group.bench_function(format!("decode {PART} rows"), |bencher| {
        bencher.iter(|| {
            for (index, (values, chunk)) in values.iter().zip(&chunks).enumerate() {
                let start = index * 7919 % (values.len() - PART);
                assert!(decode_rows(chunk, values.len(), start..start + PART, &mut into));
                black_box(&into);
            }
        });
    });
    group.throughput(Throughput::Elements(values.len() as u64));
    group.bench_function("summary", |bencher| {
        bencher.iter(|| {
            for (values, chunk) in values.iter().zip(&chunks) {
                black_box(stored_summary(chunk, values.len()));
            }
        });
    });
    group.finish();
}

/// Pieces of a length; what is left is taken when it is as long as a part.
fn cut(series: &Values, length: usize) -> Vec<Values> {
    let pieces: Vec<Values> = match series {
        Values::Ints(values) => values.chunks(length).map(|v| Values::Ints(v.to_vec())).collect(),
        Values::Floats(values) => {
            values.chunks(length).map(|v| Values::Floats(v.to_vec())).collect()
        }
        Values::Mixed(_) => Vec::new(),
    };
    pieces.into_iter().filter(|values| values.len() > PART).collect()
}

fn made_up() -> Vec<Column> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut total = 1_i64 << 50;
    let counter = (0..VALUES).map(|_| {
        total += 40_000_000 + random.below(1 << 20);
        total
    });
    let counter: Vec<i64> = counter.collect();
    let gauge: Vec<i64> = (0..VALUES).map(|_| (1 << 18) + random.below(1 << 14)).collect();
    let mut pages = 50_000;
    let stays: Vec<i64> = (0..VALUES)
        .map(|_| {
            if random.below(4) == 0 {
                pages += random.below(64) - 31;
            }
            pages * 4096
        })
        .collect();
    let decimals = gauge.iter().map(|value| *value as f64 / 1000.0).collect();
    let ratios = gauge.iter().map(|value| *value as f64 / 3.7e9).collect();
    let mut bits = 1.5_f64.to_bits();
    // A few bits change, at another place each time.
    let wandering = (0..VALUES).map(|_| {
        bits ^= (random.below(256) << random.below(40)).cast_unsigned();
        f64::from_bits(bits)
    });
    let wandering = wandering.collect();
    [
        ("counter", Values::Ints(counter)),
        ("gauge", Values::Ints(gauge)),
        ("stays", Values::Ints(stays)),
        ("decimals", Values::Floats(decimals)),
        ("ratios", Values::Floats(ratios)),
        ("wandering bits", Values::Floats(wandering)),
    ]
    .map(|(name, values)| Column { name: name.to_owned(), series: vec![values] })
    .into()
}

fn from_files(folder: &Path) -> Vec<Column> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "i64"))
        .collect();
    paths.sort();
    let column = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).expect("the column can be read");
        let numbers: Vec<i64> =
            bytes.as_chunks().0.iter().map(|number| i64::from_le_bytes(*number)).collect();
        let series = numbers.chunks(SERIES_VALUES).step_by(SERIES_STEP);
        Column {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            series: series.map(|series| Values::Ints(series.to_vec())).collect(),
        }
    };
    paths.iter().map(column).collect()
}

/// A small generator of numbers, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound).cast_signed()
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
