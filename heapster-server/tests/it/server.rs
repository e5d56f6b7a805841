//! The binary starts, serves and stops as it says; the app collects, survives restarts and gives up
//! when its store does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use heapster_core::{EntityKey, Timestamp, metric};
use heapster_server::app::{App, AppError, AppOptions};
use heapster_server::cli::{self, Config};
use heapster_server::collector;
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Clock, SystemClock};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::kubernetes::fake::{self, Cluster, Reply};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_heapster");
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// A server on a free port, with the lines of its log.
pub(crate) struct Server {
    child: Child,
    log: Receiver<String>,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Self {
        Self::start_with(Command::new(BINARY), dir, flags)
    }

    /// Starts the server with what comes before its arguments, such as a tracer.
    pub(crate) fn start_with(mut command: Command, dir: &Path, flags: &[&str]) -> Self {
        command.args(["serve", "--heapster-port=0", "--data-dir"]).arg(dir).args(flags);
        if !flags.iter().any(|flag| flag.starts_with("--source=")) {
            command.arg("--source=none");
        }
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (send, log) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, log, address: String::new() };
        let line = server.wait_for_line("serving on http://");
        let rest = line.split("http://").nth(1).expect("the line has an address");
        server.address = rest.split('/').next().unwrap_or_default().to_owned();
        server
    }

    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no line with {part:?}: {error}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    /// The JSON that is answered with status 200.
    fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error} in {body}"))
    }

    /// Asks until the answer is as wanted.
    fn json_once(
        &self,
        path: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let clock = SystemClock::new();
        loop {
            let answer = self.json(path);
            if wanted(&answer) {
                return answer;
            }
            assert!(clock.monotonic() < PATIENCE, "{path} stays {answer}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    pub(crate) fn wait(mut self) -> ExitStatus {
        let clock = SystemClock::new();
        while clock.monotonic() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("the process can be waited for") {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the process does not end");
    }
}

/// A test that fails leaves no process behind.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for flag in ["help", "--help"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(text(&output.stdout), cli::help());
    }
    for flag in ["version", "--version"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(
            text(&output.stdout),
            format!("version: {}\ncommit: {}\n", cli::VERSION, cli::COMMIT)
        );
    }
}

#[test]
fn a_bad_command_line_ends_with_code_two_and_one_clause() {
    for flags in [["--metric-resolution=1s"], ["--sorce=host"], ["--tls-cert=/x"], ["frobnicate"]] {
        let output = run(&flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stdout.is_empty());
        let error = text(&output.stderr);
        assert!(error.starts_with("heapster: "), "{error}");
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}

#[test]
fn what_cannot_be_opened_built_or_listened_on_has_its_exit_code_and_advice() {
    let dir = TempDir::new().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("file"), "x").expect("writable");
    std::fs::create_dir(path("foreign")).expect("writable");
    std::fs::write(path("foreign/letter"), "x").expect("writable");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    for (code, advice, flags) in [
        (2, "choose another --data-dir", vec![format!("--data-dir={}", path("file"))]),
        (2, "choose another --data-dir", vec![format!("--data-dir={}", path("foreign"))]),
        (2, "Check --source", vec!["--source=host:?root=/nowhere".to_owned()]),
        (2, "Check --source", vec!["--source=host:?colour=red".to_owned()]),
        (2, "Check --sink", vec!["--sink=influxdb:http://localhost".to_owned()]),
        (1, "Choose another --heapster-port", vec![format!("--heapster-port={port}")]),
    ] {
        let mut all = vec![format!("--data-dir={}", path("data")), "--source=none".to_owned()];
        all.retain(|flag| {
            let name = flag.split('=').next().unwrap_or_default();
            !flags.iter().any(|own| own.starts_with(name))
        });
        all.extend(flags);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let output = run(&all);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{all:?}: {error}");
        assert!(error.contains(advice), "{error}");
    }
}

#[test]
fn a_taken_port_leaves_the_directory_alone() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let port = server.address.rsplit(':').next().expect("an address has a port");
    let path = dir.path().join("other");
    let output = run(&[
        "--source=none",
        &format!("--heapster-port={port}"),
        &format!("--data-dir={}", path.display()),
    ]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(!path.exists());
    // A second server by mistake learns of the port, not of the lock.
    let data_dir = format!("--data-dir={}", dir.path().display());
    let output = run(&["--source=none", &format!("--heapster-port={port}"), &data_dir]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_server_answers_logs_json_and_stops_in_order() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &["--vmodule=x=1"]);
    let metrics = server.get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("\nheapster_build_info{"), "{metrics}");
    assert!(server.get("/api/v1/model/nodes/").starts_with("HTTP/1.1 200 OK\r\n"));
    let healthz = server.get("/healthz");
    assert!(healthz.starts_with("HTTP/1.1 200 OK\r\n"), "without a source none is late: {healthz}");
    server.signal(Signal::TERM);
    let line = server.wait_for_line("stopped; everything is stored");
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
    assert_eq!(line["level"], "INFO");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn sigint_stops_too_and_the_directory_is_free_again() {
    let dir = TempDir::new().expect("a directory");
    for _ in 0..2 {
        let server = Server::start(dir.path(), &["--log-format=text"]);
        server.signal(Signal::INT);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    // A request that never ends holds up the orderly end for three seconds.
    let mut stream = TcpStream::connect(&server.address).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").expect("it reads");
    assert!(server.get("/metrics").starts_with("HTTP/1.1 200"));
    server.signal(Signal::TERM);
    server.wait_for_line("\"stopping\"");
    server.signal(Signal::TERM);
    let at_once = server.wait_for_line("en");
    assert!(at_once.contains("got SIGTERM") || at_once.contains("ending at once"), "{at_once}");
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn a_directory_in_use_is_told_apart() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    let data_dir = format!("--data-dir={}", dir.path().display());
    let output = run(&["--source=none", "--heapster-port=0", &data_dir]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Stop the other process"));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// The checksum (CRC-32 as in zlib) that ends a manifest.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_directory_of_a_newer_version_is_told_apart_and_left_alone() {
    let dir = TempDir::new().expect("a directory");
    let server = Server::start(dir.path(), &[]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let copies = ["MANIFEST", "MANIFEST.copy"].map(|name| dir.path().join(name));
    for copy in &copies {
        let mut bytes = std::fs::read(copy).expect("there is a manifest");
        // The version follows eight bytes of magic.
        bytes[8] = 99;
        let content = bytes.len() - 4;
        let crc = crc32(&bytes[..content]);
        bytes[content..].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(copy, bytes).expect("writable");
    }
    let before = copies.each_ref().map(|copy| std::fs::read(copy).expect("readable"));
    let data_dir = format!("--data-dir={}", dir.path().display());
    let output = run(&["--source=none", "--heapster-port=0", &data_dir]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let after = copies.each_ref().map(|copy| std::fs::read(copy).expect("readable"));
    assert!(before == after);
}

/// Every point of the nodes' metrics in the last hour, by path.
fn served_points(server: &Server) -> BTreeMap<String, Vec<String>> {
    let start = SystemClock::new().now().saturating_sub(Duration::from_secs(3_600));
    let strings = |json: serde_json::Value| {
        serde_json::from_value::<Vec<String>>(json).expect("a list of names")
    };
    let mut points = BTreeMap::new();
    for node in strings(server.json("/api/v1/model/nodes/")) {
        let metrics = format!("/api/v1/model/nodes/{node}/metrics/");
        for metric in strings(server.json(&metrics)) {
            let path = format!("{metrics}{metric}");
            let answer = server.json(&format!("{path}?start={start}"));
            let own = answer["metrics"].as_array().expect("a list of points");
            points.insert(path, own.iter().map(ToString::to_string).collect());
        }
    }
    points
}

#[test]
fn a_killed_server_serves_again_what_it_served_before() {
    let dir = TempDir::new().expect("a directory");
    let flags = ["--source=host:?containers=0", "--metric-resolution=5s"];
    let server = Server::start(dir.path(), &flags);
    server.json_once("/api/v1/model/nodes/", |nodes| nodes != &serde_json::json!([]));
    let before = served_points(&server);
    server.signal(Signal::KILL);
    assert_eq!(server.wait().code(), None);
    assert!(before.len() > 5 && before.values().any(|points| !points.is_empty()), "{before:?}");

    let clock = SystemClock::new();
    let server = Server::start(dir.path(), &flags);
    let took = clock.monotonic();
    assert!(took < Duration::from_secs(5), "it was ready after {took:?} only");
    let after = served_points(&server);
    for (path, points) in &before {
        let again = after.get(path).unwrap_or_else(|| panic!("{path} is gone"));
        assert!(points.iter().all(|point| again.contains(point)), "{path}: {points:?}, {again:?}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// How old the newest value of a node was when it became visible.
fn age_of_next(server: &Server, node: &str, last: Option<Timestamp>) -> (Timestamp, Duration) {
    let path = format!("/api/v1/model/nodes/{node}/metrics/cpu/node_capacity");
    let latest = |answer: &serde_json::Value| {
        let text = answer["latestTimestamp"].as_str().expect("a time");
        Timestamp::parse_rfc3339(text).expect("a time")
    };
    let answer = server.json_once(&path, |answer| {
        answer["metrics"] != serde_json::json!([]) && Some(latest(answer)) > last
    });
    let at = latest(&answer);
    (at, SystemClock::new().now().saturating_since(at))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_hung_kubelet_the_other_nodes_are_served_on_time() {
    let cluster = Cluster::default();
    let first =
        fake::Server::start("127.1.0.1:0", |_| Reply::json(&fake::summary("n1", "a"))).await;
    let port = first.address.port();
    let second = |_: &fake::Received| Reply::json(&fake::summary("n2", "b"));
    let _second = fake::Server::start(&format!("127.1.0.2:{port}"), second).await;
    let _hung = fake::Server::start(&format!("127.1.0.3:{port}"), |_| Reply::Hang).await;
    for (name, ip) in [("n1", "127.1.0.1"), ("n2", "127.1.0.2"), ("n3", "127.1.0.3")] {
        cluster.add("nodes", fake::node(name, ip, "True"));
    }
    let api = fake::Server::start("127.0.0.1:0", move |request| cluster.reply(request)).await;
    let source = format!(
        "--source=kubernetes.summary_api:http://{}?inClusterConfig=false&kubeletPort={port}",
        api.address
    );
    let work = tokio::task::spawn_blocking(move || {
        let dir = TempDir::new().expect("a directory");
        let server = Server::start(dir.path(), &[&source, "--metric-resolution=5s"]);
        server.json_once("/api/v1/model/nodes/", |nodes| {
            nodes == &serde_json::json!(["n1.host", "n2.host"])
        });
        let (at, _) = age_of_next(&server, "n1", None);
        // A quarter of the resolution until the round starts, one second for the suspect. Waiting
        // for the deadline would take 5.75 s.
        let (at, age) = age_of_next(&server, "n1", Some(at));
        assert!(age < Duration::from_secs(4), "visible after {age:?}");
        assert_eq!(age_of_next(&server, "n2", None).0, at);
        assert!(server.get("/metrics").contains("heapster_watch_failing{resource=\"nodes\"} 0"));
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
    });
    work.await.expect("it ends");
}

fn config(flags: &[&str]) -> Config {
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    match cli::command(flags, &|_| None) {
        Ok(cli::Command::Serve(config, _)) => *config,
        other => panic!("not a configuration: {other:?}"),
    }
}

/// An app on this machine, with a pace that the command line does not allow.
fn options(dir: &Path, source: &str) -> AppOptions {
    let data_dir = format!("--data-dir={}", dir.display());
    let mut options = AppOptions::from(&config(&[&data_dir, &format!("--source={source}")]));
    options.collector = collector::Options::new(Duration::from_millis(500));
    options
}

/// Waits until the newest batch is one that `wanted` likes.
async fn wait_for_batch(app: &App, wanted: impl Fn(&heapster_core::DataBatch) -> bool) {
    let wait = async {
        while !app.live().latest().is_some_and(|batch| wanted(&batch)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("a batch comes");
}

fn a_node(batch: &heapster_core::DataBatch) -> Option<(&EntityKey, &heapster_core::MetricSet)> {
    batch.sets.iter().find(|(key, _)| matches!(key, EntityKey::Node(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_app_collects_this_host_and_knows_its_last_batch_after_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let app = App::start(options(dir.path(), "host")).await.expect("it starts");
    let has_rate = |batch: &heapster_core::DataBatch| {
        a_node(batch).is_some_and(|(_, set)| set.metrics.contains(metric::CPU_USAGE_RATE))
    };
    wait_for_batch(&app, has_rate).await;
    let live = Arc::clone(app.live());
    app.stop().await.expect("it stops in order");
    let last = live.latest().expect("there was a batch");

    let app = App::start(options(dir.path(), "none")).await.expect("it starts again");
    let restored = app.live().latest().expect("the newest batch is restored");
    assert_eq!(restored.timestamp, last.timestamp);
    let ((key, set), (last_key, last_set)) =
        (a_node(&restored).expect("a node"), a_node(&last).expect("a node"));
    assert_eq!((key, &set.labels), (last_key, &last_set.labels));
    assert_eq!(set.metrics, last_set.metrics);
    app.stop().await.expect("it stops in order");
}

fn faulty_options(vfs: &FaultyVfs) -> AppOptions {
    let mut options = options(Path::new("/data"), "host:?containers=0");
    options.store.vfs = Arc::new(vfs.clone());
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_batches_and_collection_goes_on_when_there_is_room() {
    let vfs = FaultyVfs::new();
    let app = App::start(faulty_options(&vfs)).await.expect("it starts");
    wait_for_batch(&app, |_| true).await;
    vfs.set_capacity(Some(0));
    let refused = "heapster_exporter_failures_total{exporter=\"Store Sink\"} ";
    let count = |app: &App| {
        let text = app.registry().render();
        let line = text.lines().find_map(|line| line.strip_prefix(refused).map(str::to_owned));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    let wait = async {
        while count(&app) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("a batch is refused");
    let before = app.live().latest().expect("a batch").timestamp;
    vfs.set_capacity(None);
    wait_for_batch(&app, |batch| batch.timestamp > before).await;
    app.stop().await.expect("it stops in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_sync_ends_the_app() {
    let vfs = FaultyVfs::new();
    let mut app = App::start(faulty_options(&vfs)).await.expect("it starts");
    wait_for_batch(&app, |_| true).await;
    vfs.crash_at(vfs.changes());
    let error = timeout(PATIENCE, app.failed()).await.expect("it gives up");
    assert!(matches!(error, AppError::Failed(_)), "{error:?}");
    assert_eq!(error.exit_code(), 1);
}
