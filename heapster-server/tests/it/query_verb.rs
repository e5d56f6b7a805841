//! `heapster query` asks a server and a directory alike, and says clearly what is wrong.

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::prometheus_api::import;
use crate::server::{BINARY, Server};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("query").args(arguments).env("COLUMNS", "60").stdin(Stdio::null());
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

#[track_caller]
fn answered(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A counter of two jobs from 0 to 600 seconds.
fn store() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let mut csv = "time,metric,value,job\n".to_owned();
    for at in (0..=600).step_by(10) {
        csv += &format!("{at}000,requests_total,{at},a\n{at}000,requests_total,{},b\n", 2 * at);
    }
    import(dir.path(), &csv);
    dir
}

#[test]
fn a_server_and_its_directory_give_the_same_answers_at_the_same_time() {
    let dir = store();
    let server = Server::start(dir.path(), &[]);
    let data_dir = format!("--data-dir={}", dir.path().display());
    let url = format!("--url=http://{}/", server.address);
    for place in [&data_dir, &url] {
        let query = "sum by (job) (rate(requests_total[1m]))";
        let table = answered(&[query, "--at=600", place]);
        assert_eq!(table, "{job=\"a\"}  1\n{job=\"b\"}  2\n", "{place}");
        let csv = answered(&["requests_total", "--at=600", "-o", "csv", place]);
        let expected = "time,value,__name__,job\n1970-01-01T00:10:00Z,600,requests_total,a\n\
                        1970-01-01T00:10:00Z,1200,requests_total,b\n";
        assert_eq!(csv, expected, "{place}");
        let range = ["requests_total", "--start=0", "--end=600", "--step=5m"];
        let json = answered(&[&range[..], &["-o", "json", place]].concat());
        let json: Value = serde_json::from_str(&json).expect("JSON");
        let expected = serde_json::json!([[0, "0"], [300, "600"], [600, "1200"]]);
        assert_eq!(json["data"]["result"][1]["values"], expected, "{place}");
        let table = answered(&[&range[..], &[place]].concat());
        let line =
            "requests_total{job=\"b\"}\n  1970-01-01T00:00:00Z  0\n  1970-01-01T00:05:00Z  600\n";
        assert!(table.contains(line), "{place}: {table}");
        let chart = answered(&[&range[..], &["-o", "chart", place]].concat());
        assert!(chart.contains("1.2k") || chart.contains("1.5k"), "{chart}");
        assert!(chart.contains("a requests_total{job=\"a\"}  600"), "{chart}");
        assert!(chart.lines().all(|line| line.chars().count() <= 60), "{chart}");
        assert!(!chart.contains('\u{1b}'), "a pipe gets no colours");
    }
}

#[test]
fn the_place_of_what_is_wrong_is_marked() {
    let dir = store();
    let server = Server::start(dir.path(), &[]);
    let data_dir = format!("--data-dir={}", dir.path().display());
    let url = format!("--url=http://{}", server.address);
    for place in [&data_dir, &url] {
        let output = run(&["rate(requests_total[5m)", place]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].starts_with("heapster: 1:"), "{error}");
        assert_eq!(lines[1], "rate(requests_total[5m)", "{error}");
        let caret = lines[2].chars().count();
        assert!(lines[2].trim() == "^" && (20..=24).contains(&caret), "{error}");
        let output = run(&["requests_total + on() requests_total", "--at=600", place]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("many-to-many") || error.contains("duplicate"), "{error}");
    }
}

#[test]
fn what_cannot_be_asked_has_its_exit_code_and_advice() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let free = format!("--url=http://{}", taken.local_addr().expect("bound"));
    drop(taken);
    for (code, advice, arguments) in [
        (1, "Check --url", vec!["up", &free]),
        (1, "Check --url", vec!["up", "--url=not an address"]),
        (2, "Give the directory", vec!["up", "--data-dir=/nowhere/at/all"]),
        (2, "--url and --data-dir", vec!["up", "--url=http://x", "--data-dir=/x"]),
        (2, "--end needs --start", vec!["up", "--end=now"]),
        (2, "--at is for one moment", vec!["up", "--at=now", "--start=-1h"]),
        (2, "EXPR is missing", vec![]),
    ] {
        let output = run(&arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(advice), "{arguments:?}: {error}");
    }
    let dir = store();
    let data_dir = format!("--data-dir={}", dir.path().display());
    let output = run(&["requests_total", &data_dir, "-o", "chart"]);
    assert_eq!(output.status.code(), Some(2), "a chart needs a range");
}
