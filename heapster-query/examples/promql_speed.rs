//! How long the queries of the design's table take, in process: 5,000 containers, a day, a sample
//! every 15 s, a counter and a gauge each.
//!
//! ```sh
//! cargo run --release -p heapster-query --example promql_speed [CONTAINERS [RUNS]]
//! ```

use std::time::{Duration, Instant};

use heapster_core::series::Row;
use heapster_core::storage::Storage;
use heapster_core::{MetricValue, Timestamp};
use heapster_query::promql::{Control, Engine};
use heapster_store::{Ack, LateWindow, Store, StoreOptions};

const STEP_MS: i64 = 15_000;
const STEPS: i64 = 5760;

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let argument = |index: usize, default: usize| {
        let text = std::env::args().nth(index);
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let (containers, runs) = (argument(1, 5000), argument(2, 7).max(1));
    let dir = std::env::temp_dir().join(format!("promql-speed-{}", std::process::id()));
    let options =
        StoreOptions { late_window: LateWindow::Any, future_max: None, ..StoreOptions::default() };
    let store = Store::open(&dir, options).expect("a folder for temporary files");
    fill(&store, containers);
    store.flush().expect("room on the disk");
    let snapshot = Storage::snapshot(&store).expect("a snapshot");
    let engine = Engine::default();
    let time = |step: i64| Timestamp::from_millis(step * STEP_MS);
    for (query, hours, step_s) in [
        ("sum(rate(cpu[5m]))", 24, 300),
        ("sum by (namespace) (max_over_time(mem[1h]))", 24, 3600),
        ("sum(rate(cpu[5m]))", 1, 60),
        ("cpu{pod=\"pod-00017\"}", 24, 60),
        ("sum(count_over_time(cpu[1d]))", 0, 1),
        ("topk(10, mem)", 0, 1),
        ("count({node=\"node-3\"})", 0, 1),
    ] {
        let mut times: Vec<Duration> = Vec::new();
        let mut answer = None;
        for _ in 0..runs {
            let started = now();
            let end = time(STEPS - 1);
            let control = Control::default();
            answer = Some(match hours {
                0 => engine.instant(&*snapshot, query, end, &control),
                _ => {
                    let start = end.saturating_sub(Duration::from_secs(hours * 3600 - step_s));
                    let step = Duration::from_secs(step_s);
                    engine.range(&*snapshot, query, start, end, step, &control)
                }
            });
            times.push(started.elapsed());
        }
        times.sort();
        let stats = answer.map(|answer| answer.expect("an answer").stats);
        println!(
            "{:>10.3?} best {:>10.3?} {query} over {hours} h: {stats:?}",
            times[runs / 2],
            times[0]
        );
    }
    drop(store);
    let _ = std::fs::remove_dir_all(dir);
}

fn fill(store: &Store, containers: usize) {
    let mut rows: Vec<Row> = (0..containers)
        .map(|index| Row {
            labels: [
                ("container", format!("c{}", index % 3)),
                ("namespace", format!("ns-{}", index % 40)),
                ("node", format!("node-{}", index % 50)),
                ("pod", format!("pod-{:05}", index / 2)),
                ("uid", format!("{index:032x}")),
            ]
            .into_iter()
            .collect(),
            cells: vec![
                ("cpu".into(), MetricValue::cumulative(0_i64)),
                ("mem".into(), MetricValue::gauge(0_i64)),
            ],
        })
        .collect();
    let mut random: u64 = 1;
    for step in 0..STEPS {
        for row in &mut rows {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let more = (random >> 40) as i64;
            for (cell, add) in row.cells.iter_mut().zip([more * 100, (more % 4096 - 2048) * 4096]) {
                let own = cell.1.value.as_int().unwrap_or(0);
                cell.1.value = (own + add).into();
            }
        }
        let at = Timestamp::from_millis(step * STEP_MS);
        let report = store.append_rows(at, &rows, Ack::Memory).expect("room");
        assert_eq!(report.rejected.total(), 0);
    }
}
