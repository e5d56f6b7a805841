//! What targets say is stored as they say it, at their own pace, and what goes away has an end: over
//! real sockets, with the binary.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use heapster_store::{Clock, SystemClock};
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::remote_write::{Stored, stored};
use crate::server::{PATIENCE, Server};

const STALE: u64 = 0x7ff0_0000_0000_0002;
const TEXT: &str = "text/plain; version=0.0.4";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a target answers from now on.
#[derive(Clone)]
struct Script {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

/// Something that exposes metrics.
struct Target {
    address: String,
    script: Arc<Mutex<Script>>,
    /// The requests so far.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Target {
    fn start(content_type: &'static str, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let script = Script { status: "200 OK", content_type, body: body.to_owned() };
        let script = Arc::new(Mutex::new(script));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (own_script, own_requests) = (Arc::clone(&script), Arc::clone(&requests));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut request = String::new();
                while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
                let takes_gzip = request.to_ascii_lowercase().contains("accept-encoding: gzip");
                own_requests.lock().push(request);
                let Script { status, content_type, body } = own_script.lock().clone();
                let (body, encoding) = if takes_gzip {
                    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                    encoder.write_all(body.as_bytes()).expect("memory has room");
                    (encoder.finish().expect("memory has room"), "Content-Encoding: gzip\r\n")
                } else {
                    (body.into_bytes(), "")
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{encoding}\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // The server may be gone.
                let _ = reader.get_mut().write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self { address, script, requests }
    }

    fn answer(&self, body: &str) {
        self.script.lock().body = body.to_owned();
    }
}

/// The values of a series in the order of time, as bits.
fn values(stored: &Stored, name: &str, part_of_labels: &str) -> Vec<u64> {
    let of_series = stored
        .iter()
        .filter(|((labels, own, _), _)| own == name && labels.contains(part_of_labels));
    of_series.map(|(_, bits)| *bits).collect()
}

/// Waits until what is stored is as wanted.
fn wait_for(dir: &Path, what: &str, wanted: impl Fn(&Stored) -> bool) -> Stored {
    let clock = SystemClock::new();
    loop {
        let now = stored(dir);
        if wanted(&now) {
            return now;
        }
        assert!(clock.monotonic() < PATIENCE, "{what} does not come: {now:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn targets(server: &Server) -> Value {
    let answer = server.get("/api/v1/targets");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{answer}");
    serde_json::from_str(body).expect("it is JSON")
}

#[test]
fn a_target_is_asked_at_its_pace_and_a_series_that_goes_has_an_end() {
    let target = Target::start(TEXT, "# TYPE a counter\na{x=\"y\"} 1.5\nb 2\n");
    let dir = TempDir::new().expect("a directory");
    let source = format!("--source=prometheus:http://{}?job=t&interval=200ms", target.address);
    let server = Server::start(dir.path(), &[&source]);
    let one = 1.0_f64.to_bits();
    wait_for(dir.path(), "a second scrape", |stored| values(stored, "b", "job=\"t\"").len() >= 2);
    target.answer("a{x=\"y\"} 1.5\n");
    let now = wait_for(dir.path(), "the end of b", |stored| {
        values(stored, "b", "").last() == Some(&STALE)
    });
    let labels = format!("{{instance={:?}, job=\"t\", x=\"y\"}}", target.address);
    assert!(values(&now, "a", &labels).iter().all(|bits| *bits == 1.5_f64.to_bits()), "{now:?}");
    assert!(values(&now, "up", "").iter().all(|bits| *bits == one), "{now:?}");
    assert_eq!(values(&now, "scrape_series_added", "")[0], 2.0_f64.to_bits());
    // Every 200 ms, but for what a busy machine leaves out.
    let times: Vec<i64> =
        now.keys().filter(|(_, name, _)| name == "up").map(|(_, _, at)| *at).collect();
    let steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| *step > 100), "{steps:?}");

    target.script.lock().status = "503 Busy";
    let now = wait_for(dir.path(), "the end of a", |stored| {
        values(stored, "a", "").last() == Some(&STALE)
    });
    assert_eq!(values(&now, "up", "").last(), Some(&0.0_f64.to_bits()));
    let told = targets(&server);
    let active = &told["data"]["activeTargets"][0];
    assert_eq!(active["health"], "down", "{told}");
    assert_eq!(active["lastError"], "server returned HTTP status 503 Service Unavailable");
    server.wait_for_line("is down: server returned HTTP status 503");

    target.script.lock().status = "200 OK";
    wait_for(dir.path(), "a again", |stored| values(stored, "a", "").last() != Some(&STALE));
    let asked = target.requests.lock()[0].to_ascii_lowercase();
    for line in [
        "get /metrics http/1.1",
        "accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,",
        "x-prometheus-scrape-timeout-seconds: 0.2",
    ] {
        assert!(asked.contains(line), "{line} is not in {asked}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    // A restart is no end.
    let last = stored(dir.path());
    assert_ne!(values(&last, "a", "").last(), Some(&STALE));
}

#[test]
fn a_file_of_prometheus_says_what_is_scraped_and_how() {
    let openmetrics =
        "# TYPE c counter\n# HELP c Cs.\nc_total{job=\"own\"} 3 1520879607.789\n# EOF\n";
    let (one, two) = (Target::start(OPENMETRICS, openmetrics), Target::start("text/html", "a 1\n"));
    let dir = TempDir::new().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("password"), "secret\n").expect("it is written");
    let file_of = |targets: &[&str]| format!("- targets: {targets:?}\n  labels: {{rack: r1}}\n");
    fs::write(path("targets.yml"), file_of(&[&one.address, &two.address])).expect("it is written");
    let config = "
global: {scrape_interval: 200ms}
scrape_configs:
- job_name: files
  params: {p: [v]}
  basic_auth: {username: me, password_file: password}
  file_sd_configs: [{files: [targets.yml], refresh_interval: 1s}]
  metric_relabel_configs:
  - {source_labels: [exported_job], target_label: who, replacement: 'was_$1'}
  - {action: labeldrop, regex: exported_job}
";
    fs::write(path("config.yml"), config).expect("it is written");
    let source = format!("--source=prometheus:?config={}", path("config.yml").display());
    let data = path("data");
    let server = Server::start(&data, &[&source, "--retention=forever"]);
    let now = wait_for(&data, "both targets", |stored| {
        !values(stored, "c_total", "").is_empty() && values(stored, "up", &two.address).len() > 1
    });
    let labels =
        format!("{{instance={:?}, job=\"files\", rack=\"r1\", who=\"was_own\"}}", one.address);
    let key = (labels, "c_total".to_owned(), 1_520_879_607_789);
    assert_eq!(now.get(&key), Some(&3.0_f64.to_bits()), "{now:?}");
    assert_eq!(values(&now, "up", &two.address)[0], 0);
    let told = targets(&server);
    let active = told["data"]["activeTargets"].as_array().expect("a list");
    let broken = active.iter().find(|one| one["health"] == "down").expect("one is down");
    let error = broken["lastError"].as_str().expect("a text");
    assert!(error.contains("the content type \"text/html\""), "{error}");
    let asked = one.requests.lock()[0].to_ascii_lowercase();
    assert!(asked.contains("get /metrics?p=v http/1.1"), "{asked}");
    assert!(asked.contains("authorization: basic bwu6c2vjcmv0"), "{asked}");
    let metadata = server.get("/api/v1/metadata?metric=c");
    assert!(metadata.contains(r#""c":[{"type":"counter","help":"Cs.","unit":""}]"#), "{metadata}");

    fs::write(path("targets.yml"), file_of(&[&one.address])).expect("it is written");
    wait_for(&data, "the end of the target that is gone", |stored| {
        values(stored, "up", &two.address).last() == Some(&STALE)
    });
    assert_eq!(targets(&server)["data"]["activeTargets"].as_array().map(Vec::len), Some(1));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_target_that_hangs_or_never_ends_costs_only_itself() {
    let endless = format!("a 1\n{}", "# x\n".repeat(100_000));
    let (good, large) = (Target::start(TEXT, "g 1\n"), Target::start(TEXT, &endless));
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let hanging = silent.local_addr().expect("it is bound").to_string();
    let dir = TempDir::new().expect("a directory");
    let config = format!(
        "
scrape_configs:
- job_name: t
  scrape_interval: 300ms
  scrape_timeout: 200ms
  body_size_limit: 1KB
  enable_compression: false
  static_configs: [{{targets: ['{}', '{}', '{hanging}']}}]
",
        good.address, large.address
    );
    let path = dir.path().join("config.yml");
    fs::write(&path, config).expect("it is written");
    let data = dir.path().join("data");
    let server =
        Server::start(&data, &[&format!("--source=prometheus:?config={}", path.display())]);
    let now = wait_for(&data, "all targets", |stored| {
        values(stored, "g", "").len() > 2
            && [&large.address, &hanging].iter().all(|own| !values(stored, "up", own).is_empty())
    });
    for own in [&large.address, &hanging] {
        assert!(values(&now, "up", own).iter().all(|bits| *bits == 0), "{now:?}");
    }
    let told = targets(&server).to_string();
    assert!(told.contains("the answer is larger than 1024 bytes"), "{told}");
    assert!(told.contains("no complete answer within 0.2 s"), "{told}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}
