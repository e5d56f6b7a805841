//! What clients of Prometheus are told, by the real server over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use heapster_store::{Clock, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{BINARY, PATIENCE, Server};

/// The answer to a request: status, head and body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    fn has_header(&self, line: &str) -> bool {
        self.head.to_lowercase().lines().any(|own| own == line)
    }
}

pub(crate) fn request(
    address: &str,
    method: &str,
    target: &str,
    headers: &str,
    form: &str,
) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it answers");
    let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..split].to_vec()).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = bytes.split_off(split + 4);
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    Answer { status, head, body: if is_chunked { joined(&body) } else { body } }
}

/// The body of a chunked answer, which must be complete.
fn joined(mut chunks: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").expect("a length");
        let length = std::str::from_utf8(&chunks[..end]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&chunks[end + 2..end + 2 + length]);
        chunks = &chunks[end + 2 + length + 2..];
    }
}

fn get(server: &Server, target: &str) -> Answer {
    request(&server.address, "GET", target, "", "")
}

pub(crate) fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A form of pairs.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[track_caller]
fn data(server: &Server, target: &str) -> Value {
    let answer = get(server, target);
    let json = answer.json();
    assert_eq!((answer.status, &json["status"]), (200, &json!("success")), "{target}: {json}");
    json["data"].clone()
}

/// Puts samples of any time into a store that nobody has open.
pub(crate) fn import(dir: &Path, csv: &str) {
    let mut child = Command::new(BINARY)
        .args(["import", &dir.display().to_string(), "-", "--format=csv", "--no-progress"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(csv.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
}

/// Two counters with a sample every ten seconds from 0 to 600, and a metric of Heapster's.
const DATA_SECONDS: i64 = 600;

fn store() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let mut csv = "time,metric,value,kind,labels\n".to_owned();
    for at in (0..=DATA_SECONDS).step_by(10) {
        for (job, slope) in [("a", 1), ("b", 2)] {
            let value = at * slope;
            csv += &format!(
                "{at}000,requests_total,{value},cumulative,\"{{\"\"job\"\":\"\"{job}\"\"}}\"\n"
            );
        }
        let labels = concat!(
            "{\"\"type\"\":\"\"pod_container\"\",\"\"namespace_name\"\":\"\"shop\"\",",
            "\"\"pod_name\"\":\"\"web-1\"\",\"\"container_name\"\":\"\"app\"\"}"
        );
        csv += &format!("{at}000,memory/usage,{},gauge,\"{labels}\"\n", 1000 + at);
    }
    import(dir.path(), &csv);
    dir
}

#[test]
fn instant_and_range_queries_are_answered_by_get_and_by_form() {
    let dir = store();
    let server = Server::start(dir.path(), &[]);
    let query = "sum by (job) (rate(requests_total[1m]))";
    let target = format!("/api/v1/query?time=600&query={}", escaped(query));
    let expected = json!({"resultType": "vector", "result": [
        {"metric": {"job": "a"}, "value": [600, "1"]},
        {"metric": {"job": "b"}, "value": [600, "2"]},
    ]});
    assert_eq!(data(&server, &target), expected);
    let by_form = request(
        &server.address,
        "POST",
        "/api/v1/query?time=1",
        "",
        &form(&[("query", query), ("time", "600")]),
    );
    assert_eq!(by_form.json()["data"], expected, "the form counts before the URL");

    let range = data(&server, "/api/v1/query_range?query=requests_total&start=0&end=30.5&step=15");
    assert_eq!(
        range["result"][1],
        json!({"metric": {"__name__": "requests_total", "job": "b"},
               "values": [[0, "0"], [15, "20"], [30, "60"]]})
    );
    let scalar = data(&server, "/api/v1/query_range?query=1%2B1&start=0.5&end=1.5&step=1");
    let expected = json!({"resultType": "matrix", "result": [
        {"metric": {}, "values": [[0.5, "2"], [1.5, "2"]]}
    ]});
    assert_eq!(scalar, expected);
    // As Grafana asks to see whether anybody is there.
    let health = request(&server.address, "POST", "/api/v1/query", "", "query=1%2B1&time=4");
    let body = r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#;
    assert_eq!((health.status, health.text().as_str()), (200, body));
    assert!(health.has_header("content-type: application/json"), "{}", health.head);
    // Kubernetes' and the underscore form of a name are answered from one copy.
    for name in
        ["container_memory_usage_bytes{pod=\"web-1\"}", "memory_usage", "{\"memory/usage\"}"]
    {
        let target = format!("/api/v1/query?time=600&query={}", escaped(name));
        assert_eq!(data(&server, &target)["result"][0]["value"], json!([600, "1600"]), "{name}");
    }
}

#[test]
fn what_is_wrong_is_told_in_prometheus_words_and_statuses() {
    let dir = store();
    let server = Server::start(dir.path(), &[]);
    for (target, status, kind, text) in [
        (
            "query?query=sum(",
            400,
            "bad_data",
            "invalid parameter \"query\": 1:5: parse error: unclosed left parenthesis",
        ),
        (
            "query?query=1&time=x",
            400,
            "bad_data",
            "invalid parameter \"time\": cannot parse \"x\" to a valid timestamp",
        ),
        (
            "query?query=1&timeout=x",
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        (
            "query?query=1&lookback_delta=x",
            400,
            "bad_data",
            "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
        ),
        (
            "query?query=1&limit=-1",
            400,
            "bad_data",
            "invalid parameter \"limit\": limit must be non-negative",
        ),
        (
            "query_range?query=1&start=2&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "query_range?query=1&start=1&end=2&step=0",
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not \
             accepted. Try a positive integer",
        ),
        (
            "query_range?query=1&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
             resolution (?step=XX)",
        ),
        (
            "query_range?query=%22a%22&start=0&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"query\": invalid expression type \"string\" for range query, must \
             be Scalar or instant Vector",
        ),
        (
            "query_range?query=1&end=1&step=1",
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        (
            "series?match[]={}",
            400,
            "bad_data",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        ("query?time=600&query=requests_total%20%2B%20on()%20requests_total", 422, "execution", ""),
    ] {
        let answer = get(&server, &format!("/api/v1/{target}"));
        let json = answer.json();
        assert_eq!(answer.status, status, "{target}: {json}");
        assert_eq!(json["status"], "error", "{target}");
        assert_eq!(json["errorType"], kind, "{target}: {json}");
        if !text.is_empty() {
            assert_eq!(json["error"], text, "{target}");
        }
    }
    // The last whole step is allowed.
    let most = get(&server, "/api/v1/query_range?query=1&start=0&end=11000&step=1");
    assert_eq!(most.json()["data"]["result"][0]["values"].as_array().unwrap().len(), 11_001);
}

#[test]
fn limits_of_the_flags_hold_and_say_so() {
    let dir = store();
    let flags = ["--query.max-samples=50", "--query-lookback-delta=20s"];
    let server = Server::start(dir.path(), &flags);
    let answer = get(&server, "/api/v1/query_range?query=requests_total&start=0&end=600&step=5");
    let (status, json) = (answer.status, answer.json());
    assert_eq!((status, &json["errorType"]), (422, &json!("execution")), "{json}");
    let text = json["error"].as_str().unwrap();
    assert!(text.contains("would load too many samples into memory"), "{text}");
    let series = |parameters: &str| {
        let target = format!("/api/v1/query?query=requests_total&time=615{parameters}");
        data(&server, &target)["result"].as_array().unwrap().len()
    };
    assert_eq!((series(""), series("&lookback_delta=10s")), (2, 0));
    let flags = data(&server, "/api/v1/status/flags");
    assert_eq!(flags["query-max-samples"], "50", "{flags}");
    assert!(flags.get("source").is_none(), "an address may hold a password: {flags}");

    let small = Server::start(store().path(), &["--query-memory-max=1KiB"]);
    let answer = get(&small, "/api/v1/query_range?query=requests_total&start=0&end=600&step=5");
    let text = answer.json()["error"].to_string();
    assert_eq!(answer.status, 422);
    assert!(text.contains("query needs more than 1024 bytes of memory"), "{text}");
}

/// A query that works for many seconds unless it is ended: ten thousand medians of sixty thousand points.
fn long_query() -> String {
    let query = escaped("quantile_over_time(0.5, requests_total[10m:10ms])");
    format!("/api/v1/query_range?start=0&end=1000&step=0.1&query={query}")
}

#[test]
fn a_query_ends_with_its_time() {
    let dir = store();
    let server = Server::start(dir.path(), &[]);
    let answer = get(&server, &format!("{}&timeout=50ms", long_query()));
    let (status, json) = (answer.status, answer.json());
    assert_eq!((status, &json["errorType"]), (503, &json!("timeout")), "{json}");
    assert_eq!(json["error"], "query timed out in expression evaluation");
}

#[test]
fn long_queries_wait_for_each_other_and_short_ones_for_none() {
    let dir = store();
    let server = Server::start(dir.path(), &["--query-max-concurrency=1"]);
    let target = long_query();
    let begin = || {
        let mut long = TcpStream::connect(&server.address).expect("it listens");
        write!(long, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
        long
    };
    let first = begin();
    // Whether it has the turn of the long ones yet is told by another that gets none.
    let clock = SystemClock::new();
    loop {
        let answer = get(&server, &format!("{target}&timeout=1s"));
        let json = answer.json();
        assert_eq!((answer.status, &json["errorType"]), (503, &json!("timeout")), "{json}");
        if json["error"] == "query timed out in query queue" {
            break;
        }
        assert!(clock.monotonic() < PATIENCE, "the long query ends too early");
    }
    let others = [begin(), begin(), begin()];
    for _ in 0..5 {
        let answer = get(&server, "/api/v1/query?query=count(requests_total)&timeout=25s");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // With their clients gone they end, and a long one that comes later gets its turn.
    drop((first, others));
    let clock = SystemClock::new();
    loop {
        let json = get(&server, &format!("{target}&timeout=2s")).json();
        if json["error"] == "query timed out in expression evaluation" {
            break;
        }
        assert!(clock.monotonic() < PATIENCE, "{json}");
    }
}

#[test]
fn large_answers_are_streamed_and_compressed_whole() {
    let dir = TempDir::new().expect("a directory");
    let mut csv = "time,metric,value,number\n".to_owned();
    for number in 0..200 {
        csv += &format!("0,wide,{number}.5,{number:03}\n300000,wide,{number}.25,{number:03}\n");
    }
    import(dir.path(), &csv);
    let server = Server::start(dir.path(), &[]);
    let target = "/api/v1/query_range?query=wide&start=0&end=500&step=1";
    let plain = get(&server, target);
    assert!(plain.has_header("transfer-encoding: chunked"), "{}", plain.head);
    assert!(plain.body.len() > 1_000_000, "{}", plain.body.len());
    let result = plain.json()["data"]["result"].as_array().unwrap().clone();
    assert_eq!(result.len(), 200);
    for (number, series) in result.iter().enumerate() {
        assert_eq!(series["metric"]["number"], format!("{number:03}"));
        let values = series["values"].as_array().unwrap();
        assert_eq!(values.len(), 501);
        assert_eq!(values[500], json!([500, format!("{number}.25")]));
    }
    for (encoding, name) in [("gzip", "gzip"), ("deflate, gzip", "deflate")] {
        let header = format!("Accept-Encoding: {encoding}\r\n");
        let small = request(&server.address, "GET", target, &header, "");
        assert!(small.has_header(&format!("content-encoding: {name}")), "{}", small.head);
        assert!(small.body.len() < plain.body.len() / 5, "{}", small.body.len());
        let mut read = Vec::new();
        match name {
            "gzip" => flate2::read::GzDecoder::new(&small.body[..]).read_to_end(&mut read),
            _ => flate2::read::ZlibDecoder::new(&small.body[..]).read_to_end(&mut read),
        }
        .expect("whole");
        assert!(read == plain.body, "compressed is the same answer");
    }
    let one = data(&server, "/api/v1/query?query=wide&time=0&limit=1");
    assert_eq!(one["result"].as_array().unwrap().len(), 1);
    let answer = get(&server, "/api/v1/query?query=wide&time=0&limit=1").json();
    assert_eq!(answer["warnings"], json!(["results truncated due to limit"]));
}

#[test]
fn series_labels_and_values_are_listed() {
    let dir = store();
    let server = Server::start(dir.path(), &[]);
    let requests = json!([
        {"__name__": "requests_total", "job": "a"},
        {"__name__": "requests_total", "job": "b"},
    ]);
    assert_eq!(data(&server, "/api/v1/series?match[]=requests_total"), requests);
    let both = "/api/v1/series?match[]=requests_total&match[]=%7Bjob=%22a%22%7D";
    assert_eq!(data(&server, both), requests);
    let late = "/api/v1/series?match[]=requests_total&start=100000&end=100001";
    assert_eq!(data(&server, late), json!([]));
    let by_form = request(&server.address, "POST", "/api/v1/series", "", "match[]=requests_total");
    assert_eq!(by_form.json()["data"], requests);

    let names = data(&server, "/api/v1/labels");
    for name in ["__name__", "job", "namespace", "pod", "pod_name"] {
        assert!(names.as_array().unwrap().contains(&json!(name)), "{name} in {names}");
    }
    let own = data(&server, "/api/v1/labels?match[]=requests_total");
    assert_eq!(own, json!(["__name__", "job"]));
    let metrics = data(&server, "/api/v1/label/__name__/values");
    for name in ["requests_total", "memory/usage", "container_memory_usage_bytes"] {
        assert!(metrics.as_array().unwrap().contains(&json!(name)), "{name} in {metrics}");
    }
    for (target, expected) in [
        ("label/job/values", json!(["a", "b"])),
        ("label/U__job/values", json!(["a", "b"])),
        ("label/U______name____/values?match[]=requests_total", json!(["requests_total"])),
        ("label/job/values?match[]=requests_total%7Bjob!=%22a%22%7D", json!(["b"])),
        ("label/namespace/values?match[]=container_memory_usage_bytes", json!(["shop"])),
        ("label/none/values", json!([])),
        ("label/job/values?limit=1", json!(["a"])),
    ] {
        assert_eq!(data(&server, &format!("/api/v1/{target}")), expected, "{target}");
    }
}

#[test]
fn what_grafana_and_others_ask_first_is_answered() {
    let dir = store();
    let server = Server::start(dir.path(), &[]);
    let build = data(&server, "/api/v1/status/buildinfo");
    assert!(build["version"].as_str().unwrap().starts_with("3."), "{build}");
    assert!(build.get("features").is_none(), "Grafana would take it for Mimir: {build}");
    assert_eq!(data(&server, "/api/v1/rules"), json!({"groups": []}));
    assert_eq!(data(&server, "/api/v1/alerts"), json!({"alerts": []}));
    // Grafana puts milliseconds where seconds belong.
    let far = "/api/v1/query_exemplars?query=test&start=1700000000000&end=1700000300000";
    assert_eq!(data(&server, far), json!([]));
    let metadata = data(&server, "/api/v1/metadata?metric=cpu/usage");
    assert_eq!(metadata["cpu/usage"][0]["type"], "counter", "{metadata}");
    assert_eq!(metadata["cpu/usage"][0]["unit"], "ns", "{metadata}");
    let all = data(&server, "/api/v1/metadata?limit=3");
    assert_eq!(all.as_object().unwrap().len(), 3);
    let formatted = data(&server, "/api/v1/format_query?query=sum(up)by(job)");
    assert_eq!(formatted, json!("sum by (job) (up)"));
    let tree = data(&server, "/api/v1/parse_query?query=sum(up)by(job)");
    assert_eq!((&tree["op"], &tree["grouping"]), (&json!("sum"), &json!(["job"])), "{tree}");
    assert_eq!(tree["expr"]["name"], "up", "{tree}");
    let runtime = data(&server, "/api/v1/status/runtimeinfo");
    assert_eq!(runtime["storageRetention"], "forever", "{runtime}");
    assert!(data(&server, "/api/v1/status/config")["yaml"].is_string());
    let tsdb = data(&server, "/api/v1/status/tsdb?limit=1");
    assert_eq!(tsdb["headStats"]["numSeries"], 3, "{tsdb}");
    assert_eq!(tsdb["headStats"]["maxTime"], DATA_SECONDS * 1000, "{tsdb}");
    assert_eq!(
        tsdb["seriesCountByMetricName"],
        json!([{"name": "requests_total", "value": 2}]),
        "{tsdb}"
    );
    for (path, text) in [("healthy", "healthy"), ("ready", "ready")] {
        let answer = get(&server, &format!("/-/{path}"));
        assert_eq!(answer.text(), format!("heapster is {text}.\n"));
    }
    let stats = get(&server, "/api/v1/query?query=requests_total&time=600&stats=all").json();
    let samples = &stats["data"]["stats"]["samples"];
    assert!(samples["totalQueryableSamples"].as_u64().unwrap() > 0, "{stats}");
    assert!(stats["data"]["stats"]["timings"]["execTotalTime"].is_number(), "{stats}");
    let info = get(&server, "/api/v1/query?query=rate(memory_usage[1m])&time=600").json();
    let infos = info["infos"].to_string();
    assert!(infos.contains("might not be a counter"), "{info}");
}

#[test]
fn the_newest_samples_are_federated_with_their_times() {
    let dir = TempDir::new().expect("a directory");
    let now = SystemClock::new().now().as_millis() / 1000;
    let at = now - 60;
    let csv = format!(
        "time,metric,value,job\n{at}000,requests,7,a\"b\n{at}000,cpu/usage,1.5,x\n{}000,requests,3,old\n",
        now - 4_000
    );
    import(dir.path(), &csv.replace("a\"b", "\"a\"\"b\""));
    let server = Server::start(dir.path(), &[]);
    let target = "/federate?match[]=requests%20%23%20all&match[]=%7Bjob%3D~%22%5C%5Cw%2B.*%22%7D";
    let answer = get(&server, target);
    let expected = format!(
        "# TYPE cpu_usage untyped\ncpu_usage{{job=\"x\",instance=\"\"}} 1.5 {at}000\n\
         # TYPE requests untyped\nrequests{{job=\"a\\\"b\",instance=\"\"}} 7 {at}000\n"
    );
    assert_eq!(answer.text(), expected);
    let accept = "Accept: text/plain;version=1.0.0;escaping=allow-utf-8\r\n";
    let answer = request(&server.address, "GET", target, accept, "");
    let line = format!("{{\"cpu/usage\",job=\"x\",instance=\"\"}} 1.5 {at}000\n");
    assert!(answer.text().contains(&line), "{}", answer.text());
}
