//! What a client that pushes samples is told, and that it is true: nothing acknowledged is lost,
//! whatever happens to the disk or the process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use heapster_core::storage::{Columns, Selector, Snapshot, collect};
use heapster_core::{TimeRange, Value};
use heapster_store::{Clock, ReaderOptions, StoreReader, SystemClock};
use prost::Message;
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use tempfile::TempDir;

use crate::server::{BINARY, PATIENCE, Server};

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// Optional, or −0 would be taken for the zero that is left out.
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// A request of version 2.0, in which labels are pairs of places among the symbols.
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
    #[prost(bytes = "vec", repeated, tag = "3")]
    histograms: Vec<Vec<u8>>,
}

/// Every sample by its set, its name and its time, as bits.
pub(crate) type Stored = BTreeMap<(String, String, i64), u64>;

fn series(name: &str, job: &str, samples: &[(i64, f64)]) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
    let samples = samples.iter().map(|(at, value)| Sample { value: Some(*value), timestamp: *at });
    TimeSeries {
        labels: vec![label("__name__", name), label("job", job)],
        samples: samples.collect(),
    }
}

fn body(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    let request = WriteRequest { timeseries }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&request).expect("it is small")
}

/// An answer: its status and the whole of it.
type Answer = (u16, String);

const TYPE: &str = "application/x-protobuf";
const TYPE_2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// Sends a request and reads the answer; `None` when the server is gone.
fn send(address: &str, method: &str, headers: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    let len = body.len();
    let head = format!(
        "{method} /api/v1/write HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {len}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    Some((status, answer))
}

fn push(address: &str, timeseries: Vec<TimeSeries>) -> Option<Answer> {
    let headers = format!(
        "Content-Type: {TYPE}\r\nContent-Encoding: snappy\r\n\
         X-Prometheus-Remote-Write-Version: 0.1.0\r\n"
    );
    send(address, "POST", &headers, &body(timeseries))
}

/// What the directory holds, read beside the server.
pub(crate) fn stored(dir: &Path) -> Stored {
    let reader = StoreReader::open(dir, ReaderOptions::default()).expect("a store");
    let all = Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL };
    let mut stored = Stored::new();
    for set in reader.snapshot().select(&all).expect("readable") {
        for (index, column) in set.columns().iter().enumerate() {
            for (at, value) in collect(&*set, index).expect("readable") {
                let Value::Float(value) = value else { panic!("{value} is not what was pushed") };
                let key = (set.labels().to_string(), column.name.to_string(), at.as_millis());
                assert!(stored.insert(key, value.to_bits()).is_none(), "each sample once");
            }
        }
    }
    stored
}

fn now() -> i64 {
    SystemClock::new().now().as_millis()
}

fn key(job: &str, name: &str, at: i64) -> (String, String, i64) {
    (format!("{{job={job:?}}}"), name.to_owned(), at)
}

#[test]
fn pushed_samples_are_stored_bit_for_bit_and_may_be_sent_again() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &["--ack=durable"]);
    let at = now();
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let request = || {
        vec![
            series("up", "a", &[(at - 1, 1.0), (at, stale)]),
            series("load", "a", &[(at, -0.0)]),
            series("up", "b", &[(at - 60_000, f64::from_bits(1)), (at, f64::NEG_INFINITY)]),
        ]
    };
    for _ in 0..2 {
        let (status, answer) = push(&server.address, request()).expect("an answer");
        assert_eq!((status, answer.ends_with("\r\n\r\n")), (204, true), "{answer}");
    }
    let expected = Stored::from([
        (key("a", "up", at - 1), 1.0_f64.to_bits()),
        (key("a", "up", at), 0x7ff0_0000_0000_0002),
        (key("a", "load", at), (-0.0_f64).to_bits()),
        (key("b", "up", at - 60_000), 1),
        (key("b", "up", at), f64::NEG_INFINITY.to_bits()),
    ]);
    assert_eq!(stored(dir.path()), expected);
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn samples_refused_for_good_are_counted_and_the_rest_is_taken() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &["--retention=15d"]);
    let at = now();
    let day = 86_400_000;
    let request = vec![
        series("up", "a", &[(at - day, 1.0), (at, 2.0), (at + day, 3.0)]),
        series("", "a", &[(at, 4.0)]),
    ];
    assert_eq!(push(&server.address, vec![series("up", "a", &[(at - 1, 1.0)])]).unwrap().0, 204);
    let (status, answer) = push(&server.address, request).expect("an answer");
    assert_eq!(status, 400, "{answer}");
    let told = "stored 1 samples, refused 3 samples: 1 no_name, 1 too_far_ahead, 1 too_old\n";
    assert!(answer.ends_with(told), "{answer}");
    let expected = Stored::from([
        (key("a", "up", at - 1), 1.0_f64.to_bits()),
        (key("a", "up", at), 2.0_f64.to_bits()),
    ]);
    assert_eq!(stored(dir.path()), expected);
    let metrics = server.get("/metrics");
    let line = "heapster_remote_write_refused_samples_total{reason=\"too_old\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
}

fn push_2(address: &str, request: &WriteRequest2) -> Option<Answer> {
    let headers = format!(
        "Content-Type: {TYPE_2}\r\nContent-Encoding: snappy\r\n\
         X-Prometheus-Remote-Write-Version: 2.0.0\r\n"
    );
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec());
    send(address, "POST", &headers, &body.expect("it is small"))
}

#[test]
fn version_2_is_told_how_many_samples_were_written() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let (at, stale) = (now(), f64::from_bits(0x7ff0_0000_0000_0002));
    let sample = |at, value| Sample { value: Some(value), timestamp: at };
    let up = TimeSeries2 {
        labels_refs: vec![1, 2, 3, 4],
        samples: vec![sample(at - 1, 1.0), sample(at, stale)],
        histograms: Vec::new(),
    };
    let symbols = ["", "__name__", "up", "job", "a"].map(str::to_owned).to_vec();
    let mut request = WriteRequest2 { symbols, timeseries: vec![up] };
    let written = |answer: &str, what: &str| {
        let lines = answer.to_ascii_lowercase();
        let name = format!("x-prometheus-remote-write-{what}-written: ");
        let line = lines.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {answer}"))
    };
    for _ in 0..2 {
        let (status, answer) = push_2(&server.address, &request).expect("an answer");
        assert_eq!(status, 204, "{answer}");
        assert_eq!(written(&answer, "samples"), "2");
        assert_eq!(
            (written(&answer, "histograms"), written(&answer, "exemplars")),
            ("0".into(), "0".into())
        );
    }
    let expected = Stored::from([
        (key("a", "up", at - 1), 1.0_f64.to_bits()),
        (key("a", "up", at), 0x7ff0_0000_0000_0002),
    ]);
    assert_eq!(stored(dir.path()), expected);

    // A part that cannot be stored does not keep the rest out.
    request.timeseries[0].samples = vec![sample(at + 1, 2.0)];
    let histograms = vec![vec![8, 1]];
    request.timeseries.push(TimeSeries2 {
        labels_refs: vec![1, 2],
        samples: Vec::new(),
        histograms,
    });
    let (status, answer) = push_2(&server.address, &request).expect("an answer");
    assert_eq!((status, written(&answer, "samples")), (400, "1".into()), "{answer}");
    let told = "stored 1 samples, refused 1 samples: 1 native_histogram; native histograms are not \
                stored, the first is \"up\"\n";
    assert!(answer.ends_with(told), "{answer}");
    assert_eq!(stored(dir.path()).get(&key("a", "up", at + 1)), Some(&2.0_f64.to_bits()));
}

#[test]
fn a_store_that_keeps_everything_takes_samples_of_any_time() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &["--retention=forever"]);
    // The newest first, so that all others are late; the years 2001, 1970, 1969 and 1677.
    let times = [now(), 1_000_000_000_000, 1, 0, -1, -86_400_000, -9_223_372_036_854];
    let mut expected = Stored::new();
    for at in times {
        let (status, answer) =
            push(&server.address, vec![series("up", "a", &[(at, at as f64)])]).expect("an answer");
        assert_eq!(status, 204, "{at}: {answer}");
        expected.insert(key("a", "up", at), (at as f64).to_bits());
        // Whoever asks after the answer sees it.
        assert_eq!(stored(dir.path()), expected, "{at}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(stored(dir.path()), expected, "after a flush and a restart");
}

#[test]
fn what_is_no_remote_write_is_refused_with_its_status_and_stores_nothing() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let good = body(vec![series("up", "a", &[(now(), 1.0)])]);
    let snappy = format!("Content-Type: {TYPE}\r\nContent-Encoding: snappy\r\n");
    let v3 = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    // Five bytes of length, in which four gibibytes are declared.
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for (status, headers, body) in [
        (415, format!("Content-Type: {v3}\r\nContent-Encoding: snappy\r\n"), &good[..]),
        (400, format!("Content-Type: {TYPE_2}\r\nContent-Encoding: snappy\r\n"), &good[..]),
        (415, "Content-Encoding: snappy\r\n".to_owned(), &good[..]),
        (415, format!("Content-Type: {TYPE}\r\nContent-Encoding: gzip\r\n"), &good[..]),
        (415, format!("Content-Type: {TYPE}\r\n"), &good[..]),
        (400, snappy.clone(), b"nonsense"),
        (400, snappy.clone(), &good[..good.len() - 1]),
        (413, snappy.clone(), &bomb),
        (413, format!("{snappy}Content-Type: {TYPE}\r\n"), &vec![0; (16 << 20) + 1]),
    ] {
        let answer = send(&server.address, "POST", &headers, body);
        // A server that refuses without reading may be gone before its answer is read.
        let is_unread = body.len() > good.len().max(64) && answer.is_none();
        assert!(is_unread || answer.as_ref().is_some_and(|a| a.0 == status), "{status} {answer:?}");
    }
    let (status, answer) = send(&server.address, "GET", "", b"").expect("an answer");
    assert!(status == 405 && answer.contains("POST"), "{answer}");
    assert_eq!(stored(dir.path()), Stored::new());
}

#[test]
fn a_server_that_takes_no_pushes_has_no_such_path() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &["--remote-write-receiver=false"]);
    let answer = push(&server.address, vec![series("up", "a", &[(now(), 1.0)])]);
    assert_eq!(answer.expect("an answer").0, 404);
}

/// Samples of many series, whose values do not compress.
fn bulk(job: &str, at: i64) -> Vec<TimeSeries> {
    let value = |index: i64| {
        let mixed = (at ^ index.rotate_left(40)).wrapping_mul(0x5851_f42d_4c95_7f2d);
        f64::from_bits((mixed ^ (mixed >> 29)).cast_unsigned())
    };
    (0..50).map(|index| series(&format!("m{index}"), job, &[(at, value(index))])).collect()
}

fn expect(timeseries: &[TimeSeries], expected: &mut Stored) {
    for one in timeseries {
        let (name, job) = (&one.labels[0].value, &one.labels[1].value);
        for sample in &one.samples {
            let value = sample.value.expect("it was set");
            expected.insert(key(job, name, sample.timestamp), value.to_bits());
        }
    }
}

fn limit_files(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(server.pid()), Resource::Fsize, limit).expect("the limit can be set");
}

#[test]
fn a_full_disk_refuses_pushes_with_507_until_there_is_room_and_loses_none() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    // To the store, files that may not grow are a full disk.
    limit_files(&server, Some(40_000));
    let (mut expected, mut at) = (Stored::new(), now() - 600_000);
    let refused = loop {
        let request = bulk("a", at);
        let (status, answer) = push(&server.address, request.clone()).expect("an answer");
        if status != 204 {
            break (status, answer);
        }
        expect(&request, &mut expected);
        at += 1;
    };
    assert_eq!(refused.0, 507, "{}", refused.1);
    assert!(refused.1.contains("no space is left"), "{}", refused.1);
    assert!(refused.1.to_ascii_lowercase().contains("retry-after: 5"), "{}", refused.1);
    assert!(expected.len() > 1_000);
    assert_eq!(stored(dir.path()), expected, "nothing of the refused request is left");
    let readiness = server.get("/readyz");
    assert!(readiness.starts_with("HTTP/1.1 503"), "{readiness}");
    assert!(readiness.contains("no space is left"), "{readiness}");
    assert!(server.get("/api/v1/model/nodes/").starts_with("HTTP/1.1 200"), "reads go on");
    let metrics = server.get("/metrics");
    assert!(metrics.contains("heapster_store_refused_appends_total{reason=\"disk_full\"} 1\n"));
    assert!(metrics.contains("heapster_store_refusing 1\n"));
    server.wait_for_line("the store refuses samples");

    limit_files(&server, None);
    let request = bulk("a", at);
    assert_eq!(push(&server.address, request.clone()).expect("an answer").0, 204);
    expect(&request, &mut expected);
    server.wait_for_line("the store takes samples again");
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(stored(dir.path()), expected);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(stored(dir.path()), expected);
}

#[test]
fn a_failed_sync_ends_the_process_within_five_seconds_and_says_why() {
    let traces = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !traces.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: strace cannot trace here");
        return;
    }
    for ack in ["--ack=buffered", "--ack=durable"] {
        let dir = TempDir::new().expect("a directory");
        let mut strace = Command::new("strace");
        // Opening a new store syncs a few times; what comes after fails for ever.
        // The tracer is the grandchild, so that the child that is waited for and killed is the server.
        strace.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
        strace.args(["-e", "inject=fdatasync:error=EIO:when=12+", BINARY]);
        let server = Server::start_with(strace, dir.path(), &[ack]);
        let (mut expected, mut sent) = (Stored::new(), Stored::new());
        let mut at = now() - 600_000;
        let clock = SystemClock::new();
        let refused = loop {
            at += 1;
            let request = bulk("a", at);
            expect(&request, &mut sent);
            match push(&server.address, request.clone()) {
                Some((204, _)) => expect(&request, &mut expected),
                other => break other,
            }
            assert!(clock.monotonic() < PATIENCE, "the sync does not fail");
        };
        let failed = clock.monotonic();
        if let Some((status, answer)) = refused {
            assert!([500, 503].contains(&status), "{answer}");
        }
        let line = server.wait_for_line("\"level\":\"ERROR\"");
        assert!(line.contains("could not sync"), "it says what failed: {line}");
        assert!(line.contains("Input/output error"), "and why: {line}");
        assert!(line.contains("Check the disk, then start again"), "and what to do: {line}");
        assert_eq!(server.wait().code(), Some(1));
        let took = clock.monotonic() - failed;
        assert!(took < Duration::from_secs(5), "it ended after {took:?}");

        // The failed sync lost nothing here, as it was only made up.
        let found = stored(dir.path());
        assert!(expected.iter().all(|(key, bits)| found.get(key) == Some(bits)), "{ack}");
        assert!(found.iter().all(|(key, bits)| sent.get(key) == Some(bits)), "{ack}");
    }
}

/// What clients sent, and what of it was acknowledged.
#[derive(Default)]
struct Journal {
    sent: Stored,
    acknowledged: Stored,
}

/// The long version of this is the program `heapster-killer`.
#[test]
fn a_server_killed_ten_times_keeps_every_sample_it_acknowledged_and_invents_none() {
    let dir = TempDir::new().expect("a directory");
    let journal = Mutex::new(Journal::default());
    for cycle in 0..10_u64 {
        let server = Server::start(dir.path(), &["--head-size-max=1MiB"]);
        thread::scope(|scope| {
            for client in 0..3_i64 {
                let (address, journal) = (&server.address, &journal);
                scope.spawn(move || {
                    let job = format!("client-{client}");
                    let mut at = now();
                    loop {
                        at = now().max(at + 1);
                        let request = bulk(&job, at);
                        expect(&request, &mut journal.lock().unwrap().sent);
                        match push(address, request.clone()) {
                            Some((204, _)) => {
                                expect(&request, &mut journal.lock().unwrap().acknowledged);
                            }
                            Some((status, answer)) => panic!("{status}: {answer}"),
                            None => return,
                        }
                    }
                });
            }
            // Not a wait for something: the kill comes at any moment.
            thread::sleep(Duration::from_millis(40 + cycle * 53 % 200));
            server.signal(Signal::KILL);
        });
        assert_eq!(server.wait().code(), None);
        let server = Server::start(dir.path(), &[]);
        let found = stored(dir.path());
        let journal = journal.lock().unwrap();
        for (key, bits) in &journal.acknowledged {
            assert_eq!(found.get(key), Some(bits), "lost in cycle {cycle}: {key:?}");
        }
        for (key, bits) in &found {
            assert_eq!(journal.sent.get(key), Some(bits), "invented in cycle {cycle}: {key:?}");
        }
        server.signal(Signal::KILL);
        let _ = server.wait();
    }
    assert!(journal.into_inner().unwrap().acknowledged.len() > 1_000);
}
