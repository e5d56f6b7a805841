//! Remote write: what a request of 2,000 samples costs from its body to its answer, in CPU time of
//! the whole process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heapster_benches::measure::process_cpu;
use heapster_benches::remote_write::{Label, Sample, TimeSeries, WriteRequest};
use heapster_benches::workload::{BatchClock, store_options};
use heapster_core::Timestamp;
use heapster_server::api::remote_write::add_receiver;
use heapster_server::http::Router;
use heapster_server::intake::Intake;
use heapster_server::telemetry::Registry;
use heapster_store::{Ack, Clock, Store};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use prost::Message;

const START: i64 = 1_700_006_400_000;
/// Containers whose samples are sent, and what is known of each.
const CONTAINERS: usize = 5_000;
const COLUMNS: usize = 20;
/// As many as Prometheus sends at once.
const SAMPLES_OF_REQUEST: usize = 2_000;
const SCRAPE_INTERVAL_MS: i64 = 15_000;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries2>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata2>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata2 {
    #[prost(uint32, tag = "1")]
    metric_type: u32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
}

/// The labels of a series of a container, sorted, as Prometheus sends them.
fn labels(container: usize, column: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", format!("container_made_up_metric_{column}_total")),
        ("container", format!("app-{}", container % 7)),
        ("id", format!("/kubepods/burstable/pod{container:08x}/{:032x}", container * 7919)),
        ("image", format!("registry.example.com/team/app-{}:v1.{}", container % 7, container % 40)),
        ("instance", format!("10.0.{}.{}:10250", container / 50 / 250, container / 50 % 250)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("namespace-{}", container % 50)),
        ("node", format!("node-{}", container / 50)),
        ("pod", format!("app-{}-{container:05}-x7k2p", container % 7)),
    ]
}

fn value(container: usize, column: usize, round: i64) -> f64 {
    let slope = (container * 31 + column * 17) % 1000;
    (slope as i64 * round) as f64 / 8.0 + column as f64
}

/// The bodies of one round of scrapes, in remote write 1.0.
fn round_of_1(round: i64) -> Vec<Bytes> {
    let at = START + round * SCRAPE_INTERVAL_MS;
    let containers: Vec<usize> = (0..CONTAINERS).collect();
    let bodies = containers.chunks(SAMPLES_OF_REQUEST / COLUMNS).map(|containers| {
        let pairs =
            containers.iter().flat_map(|one| (0..COLUMNS).map(move |column| (*one, column)));
        let timeseries = pairs.map(|(container, column)| TimeSeries {
            labels: labels(container, column)
                .into_iter()
                .map(|(name, value)| Label { name: name.to_owned(), value })
                .collect(),
            samples: vec![Sample { value: Some(value(container, column, round)), timestamp: at }],
        });
        compressed(&WriteRequest { timeseries: timeseries.collect() }.encode_to_vec())
    });
    bodies.collect()
}

/// The same in remote write 2.0.
fn round_of_2(round: i64) -> Vec<Bytes> {
    let at = START + round * SCRAPE_INTERVAL_MS;
    let containers: Vec<usize> = (0..CONTAINERS).collect();
    let bodies = containers.chunks(SAMPLES_OF_REQUEST / COLUMNS).map(|containers| {
        let mut symbols = vec![String::new(), "What it is good for.".to_owned()];
        let mut places: HashMap<String, u32> = HashMap::new();
        let mut place_of = |text: &str| match places.get(text) {
            Some(place) => *place,
            None => {
                let place = symbols.len() as u32;
                symbols.push(text.to_owned());
                places.insert(text.to_owned(), place);
                place
            }
        };
        let mut timeseries = Vec::new();
        for container in containers {
            for column in 0..COLUMNS {
                let pairs = labels(*container, column);
                let labels_refs = pairs
                    .iter()
                    .flat_map(|(name, value)| [place_of(name), place_of(value)])
                    .collect();
                let value = Some(value(*container, column, round));
                timeseries.push(TimeSeries2 {
                    labels_refs,
                    samples: vec![Sample { value, timestamp: at }],
                    metadata: Some(Metadata2 { metric_type: 1, help_ref: 1 }),
                });
            }
        }
        compressed(&WriteRequest2 { symbols, timeseries }.encode_to_vec())
    });
    bodies.collect()
}

fn compressed(bytes: &[u8]) -> Bytes {
    snap::raw::Encoder::new().compress_vec(bytes).expect("it is small").into()
}

fn bench_version(
    criterion: &mut Criterion,
    name: &str,
    content_type: &'static str,
    round_of: fn(i64) -> Vec<Bytes>,
) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let times = Arc::new(BatchClock::new());
    let store = Store::open(folder.path(), store_options(&times)).expect("an empty store opens");
    let (store, clock) = (Arc::new(store), Arc::clone(&times) as Arc<dyn Clock>);
    let registry = Arc::new(Registry::new(Arc::clone(&clock)));
    let mut router = Router::new(Arc::clone(&registry), Arc::clone(&clock));
    let intake =
        Intake::new(Arc::clone(&store), Ack::Buffered, Arc::clone(&clock), Arc::clone(&registry));
    add_receiver(&mut router, Arc::new(intake), Arc::default(), registry, clock);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let mut rounds = 0_i64;
    let mut bodies = Vec::new();
    let mut group = criterion.benchmark_group("remote_write");
    group.sample_size(20).measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Elements(SAMPLES_OF_REQUEST as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|count| {
            let mut cpu = Duration::ZERO;
            for _ in 0..count {
                if bodies.is_empty() {
                    let _ = store.maintain().expect("maintenance works");
                    bodies = round_of(rounds);
                    bodies.reverse();
                    let now = START + rounds * SCRAPE_INTERVAL_MS;
                    times.set(Timestamp::from_millis(now));
                    rounds += 1;
                }
                let body = bodies.pop().expect("a round has bodies");
                let request = http::Request::post("/api/v1/write")
                    .header(CONTENT_TYPE, content_type)
                    .header(CONTENT_ENCODING, "snappy")
                    .body(body)
                    .expect("the request is sound");
                let before = process_cpu();
                let response = runtime.block_on(router.handle(request));
                cpu += process_cpu() - before;
                assert_eq!(response.status(), 204, "{:?}", response.body());
            }
            cpu
        });
    });
    group.finish();
}

fn remote_write(criterion: &mut Criterion) {
    bench_version(criterion, "1.0", "application/x-protobuf", round_of_1);
    let type_2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    bench_version(criterion, "2.0", type_2, round_of_2);
}

criterion_group!(benches, remote_write);
criterion_main!(benches);
