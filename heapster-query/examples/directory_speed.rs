//! How long queries take on the store in a directory: the Rust side of `heapster-py/benches/queries.py`.
//!
//! ```sh
//! cargo run --release -p heapster-query --example directory_speed DIR
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heapster_core::storage::Storage;
use heapster_query::promql::vocabulary::Kubernetes;
use heapster_query::promql::{Control, Engine, EngineOptions, QueryValue};
use heapster_store::{ReaderOptions, StoreReader};

const RUNS: usize = 31;
const QUERIES: [(&str, u64); 4] = [
    ("sum(memory_working_set)", 300),
    ("sum by (namespace_name) (max_over_time(memory_working_set[1h]))", 3600),
    ("memory_working_set", 300),
    ("memory_working_set{nodename=\"node-003\"}", 60),
];

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let dir = PathBuf::from(std::env::args().nth(1).expect("the directory of a store"));
    let reader = StoreReader::open(dir, ReaderOptions::default()).expect("a store");
    let bounds = Storage::snapshot(&reader).expect("a snapshot").bounds().expect("samples");
    let engine =
        Engine::new(EngineOptions { vocabulary: Arc::new(Kubernetes), ..EngineOptions::default() });
    for (query, step) in QUERIES {
        let step = Duration::from_secs(step);
        let (mut times, mut points) = (Vec::new(), 0);
        for _ in 0..RUNS {
            let control = Control::default();
            let started = now();
            let snapshot = Storage::snapshot(&reader).expect("a snapshot");
            let found = engine.range(&*snapshot, query, bounds.start, bounds.end, step, &control);
            times.push(started.elapsed());
            if let QueryValue::Matrix(series) = found.expect("an answer").value {
                points = series.iter().map(|one| one.points.len()).sum();
            }
        }
        times.sort();
        let (median, best) = (times[RUNS / 2], times[0]);
        println!("{median:>10.3?} best {best:>10.3?} {query} every {step:?}: {points} points");
    }
}
