//! The verbs for a store's directory, run as a user runs them: the binary, its output and its exit
//! code.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use heapster_core::series::Row;
use heapster_core::storage::{Columns, Selector, Snapshot, collect};
use heapster_core::{Labels, MetricKind, MetricValue, TimeRange, Timestamp, Value};
use heapster_server::cli::{self, VERBS};
use heapster_server::transfer::{Counter, ParquetReader, ReadError, ReadOptions, SampleReader};
use heapster_store::{Ack, LateWindow, ReaderOptions, Store, StoreOptions, StoreReader};

/// What a run of the binary gave.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// A directory of its own, and the binary run in it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, b"")
    }

    fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_heapster"))
            .args(arguments)
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The program may end without reading it.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("the program was killed");
        Ran { code, out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.out
    }

    #[track_caller]
    fn fail(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        ran.err
    }

    /// A store with everything that may get lost on the way.
    fn fill(&self, name: &str) {
        let store = self.store(name);
        let strange = [("a\"b", "c,d\ne\\f"), ("größe", "√ 𝄞"), ("empty", ""), (" x ", "\t'`{}")];
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let sets = [
            (Labels::from_iter([("type", "pod"), ("pod_name", "web-1")]), 0),
            (Labels::from_iter([("type", "pod"), ("pod_name", "web-2")]), 1),
            (Labels::from_iter(strange), 2),
            (Labels::new(), 3),
        ];
        let floats = [1.0, -0.0, 0.1, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, stale, 1e-300];
        for step in 0..8_usize {
            let at = Timestamp::from_millis(1_532_606_400_000 + 60_000 * step as i64 + 7);
            let rows: Vec<Row> = sets
                .iter()
                .map(|(labels, shift)| Row {
                    labels: labels.clone(),
                    cells: vec![
                        ("cpu/usage".into(), MetricValue::cumulative(i64::MAX - step as i64)),
                        ("load".into(), MetricValue::gauge(floats[(step + shift) % 8])),
                        ("mixed \"é\"\n".into(), MetricValue::gauge(mixed(step))),
                        ("__time__/scrape".into(), MetricValue::gauge(step as i64)),
                        (
                            "change".into(),
                            MetricValue { value: Value::Int(-5), kind: MetricKind::Delta },
                        ),
                    ],
                })
                .collect();
            let report = store.append_rows(at, &rows, Ack::Buffered).unwrap();
            assert_eq!(report.rejected.total(), 0);
            if step == 4 {
                store.flush().unwrap();
            }
        }
        store.close().unwrap();
    }

    fn store(&self, name: &str) -> Store {
        let options = StoreOptions {
            late_window: LateWindow::Any,
            future_max: None,
            ..StoreOptions::default()
        };
        Store::open(self.path(name), options).unwrap()
    }

    fn contents(&self, name: &str) -> Contents {
        let reader = StoreReader::open(self.path(name), ReaderOptions::default()).unwrap();
        let all = Selector { matchers: vec![], columns: Columns::All, range: TimeRange::ALL };
        let mut contents = Contents::new();
        for set in reader.snapshot().select(&all).unwrap() {
            for (index, column) in set.columns().iter().enumerate() {
                let series = (set.labels().clone(), column.name.to_string(), column.kind);
                let samples = collect(&*set, index).unwrap();
                let sample = |(at, value): (Timestamp, Value)| (at.as_millis(), value);
                contents.insert(series, samples.into_iter().map(sample).collect());
            }
        }
        contents
    }
}

/// Samples by labels, metric and kind.
type Contents = BTreeMap<(Labels, String, MetricKind), Vec<(i64, Value)>>;

fn mixed(step: usize) -> Value {
    if step.is_multiple_of(3) { Value::Int(7) } else { Value::Float(7.0) }
}

#[test]
fn csv_brings_back_every_label_kind_integer_and_bit() {
    let desk = Desk::new();
    desk.fill("a");
    desk.succeed(&["export", "a", "-o", "all.csv"]);
    desk.succeed(&["import", "b", "all.csv"]);
    let before = desk.contents("a");
    assert_eq!(before.len(), 20);
    assert_eq!(desk.contents("b"), before);
    // And through pipes.
    let text = desk.read("all.csv");
    let ran = desk.run_with_input(&["import", "c", "-", "--format=csv"], text.as_bytes());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(desk.succeed(&["export", "c", "--format", "csv"]), text);
}

#[test]
fn csv_looks_as_documented() {
    let desk = Desk::new();
    desk.fill("a");
    let text = desk.succeed(&[
        "export",
        "a",
        "--format=csv",
        "--match={pod_name=\"web-1\"}",
        "--start=2018-07-26T12:05:00Z",
        "--end=2018-07-26T12:06:00.007Z",
    ]);
    let labels = r#""{""pod_name"":""web-1"",""type"":""pod""}""#;
    let lines = [
        "12:05:00.007Z,__time__/scrape,gauge,5",
        "12:06:00.007Z,__time__/scrape,gauge,6",
        "12:05:00.007Z,change,delta,-5",
        "12:06:00.007Z,change,delta,-5",
        "12:05:00.007Z,cpu/usage,cumulative,9223372036854775802",
        "12:06:00.007Z,cpu/usage,cumulative,9223372036854775801",
        "12:05:00.007Z,load,gauge,NaN",
        "12:06:00.007Z,load,gauge,NaN(0x7ff0000000000002)",
        "12:05:00.007Z,\"mixed \"\"é\"\"\n\",gauge,7.0",
        "12:06:00.007Z,\"mixed \"\"é\"\"\n\",gauge,7",
    ];
    let mut expected = "time,metric,kind,value,labels\n".to_owned();
    expected.extend(lines.iter().map(|line| format!("2018-07-26T{line},{labels}\n")));
    assert_eq!(text, expected);
}

#[test]
fn parquet_brings_back_every_label_kind_integer_and_bit() {
    let desk = Desk::new();
    desk.fill("a");
    desk.succeed(&["export", "a", "-o", "all.parquet"]);
    desk.succeed(&["import", "b", "all.parquet"]);
    assert_eq!(desk.contents("b"), desk.contents("a"));
    // Through a pipe out, but not in.
    let piped = Command::new(env!("CARGO_BIN_EXE_heapster"))
        .args(["export", "a", "--format=parquet"])
        .current_dir(desk.0.path())
        .output()
        .unwrap();
    assert!(piped.stdout == fs::read(desk.path("all.parquet")).unwrap());
    let err = desk.fail(2, &["import", "c", "-", "--format=parquet"]);
    assert!(err.contains("parquet cannot be read from a pipe"), "{err}");
}

#[test]
fn parquet_without_samples_is_a_file_all_the_same() {
    let desk = Desk::new();
    desk.fill("a");
    desk.succeed(&["export", "a", "-o", "none.parquet", "--metric=none"]);
    let ran = desk.run(&["import", "b", "none.parquet"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("imported nothing"), "{ran:?}");
}

/// Each byte of a small file, turned over: an error, or samples, but no panic and no hang.
#[test]
fn damaged_parquet_is_told() {
    let desk = Desk::new();
    desk.fill("a");
    desk.succeed(&["export", "a", "-o", "all.parquet"]);
    let good = fs::read(desk.path("all.parquet")).unwrap();
    let options = ReadOptions { time: Timestamp::EPOCH, floats: false };
    let mut refused = 0;
    for index in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[index] ^= 0x55;
        desk.write("bad.parquet", bad);
        let file = fs::File::open(desk.path("bad.parquet")).unwrap();
        let Ok(mut reader) = ParquetReader::new(file, Counter::default(), options) else {
            refused += 1;
            continue;
        };
        loop {
            match reader.next() {
                Ok(Some(_)) | Err(ReadError::BadLine { .. }) => {}
                Ok(None) => break,
                Err(_) => {
                    refused += 1;
                    break;
                }
            }
        }
    }
    assert!(refused > good.len() / 10, "{refused} of {}", good.len());
    for text in [&b""[..], b"PAR1", b"time,metric,value\n", &good[..good.len() / 2]] {
        desk.write("bad.parquet", text);
        desk.fail(2, &["import", "b", "bad.parquet"]);
    }
}

#[test]
fn prometheus_text_brings_back_all_but_what_it_cannot_say() {
    let desk = Desk::new();
    desk.fill("a");
    desk.succeed(&["export", "a", "-o", "all.prom"]);
    desk.succeed(&["import", "b", "all.prom"]);
    let mut expected = Contents::new();
    for ((labels, metric, kind), samples) in desk.contents("a") {
        if metric.starts_with("__time__/") {
            continue;
        }
        let kind = if kind == MetricKind::Delta { MetricKind::Gauge } else { kind };
        let samples = samples.into_iter().map(|(at, value)| match value {
            Value::Float(float) if float.is_nan() => (at, Value::Float(f64::NAN)),
            value => (at, value),
        });
        expected.insert((labels, metric, kind), samples.collect());
    }
    assert_eq!(desk.contents("b"), expected);
}

#[test]
fn prometheus_text_looks_as_documented() {
    let desk = Desk::new();
    desk.fill("a");
    let text = desk.succeed(&[
        "export",
        "a",
        "--format=prometheus",
        "--metric=cpu/usage",
        "--metric=load",
        "--start=2018-07-26T12:07:00Z",
    ]);
    let expected = concat!(
        "# TYPE \"cpu/usage\" counter\n",
        "{\"cpu/usage\"} 9223372036854775800 1532606820007\n",
        "{\"cpu/usage\",\" x \"=\"\t'`{}\",\"a\\\"b\"=\"c,d\\ne\\\\f\",empty=\"\",\"größe\"=\"√ 𝄞\"} ",
        "9223372036854775800 1532606820007\n",
        "{\"cpu/usage\",pod_name=\"web-1\",type=\"pod\"} 9223372036854775800 1532606820007\n",
        "{\"cpu/usage\",pod_name=\"web-2\",type=\"pod\"} 9223372036854775800 1532606820007\n",
        "# TYPE load gauge\n",
        "load 0.1 1532606820007\n",
        "load{\" x \"=\"\t'`{}\",\"a\\\"b\"=\"c,d\\ne\\\\f\",empty=\"\",\"größe\"=\"√ 𝄞\"} ",
        "-0.0 1532606820007\n",
        "load{pod_name=\"web-1\",type=\"pod\"} 1e-300 1532606820007\n",
        "load{pod_name=\"web-2\",type=\"pod\"} 1.0 1532606820007\n",
    );
    assert_eq!(text, expected);
}

#[test]
fn prometheus_text_of_other_programs_is_imported() {
    let desk = Desk::new();
    let text = "\
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000
http_requests_total{ method = \"post\" , code=\"400\", }    3 1395066363000

# Escaping in label values, and a comment:
msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9

metric_without_timestamp_and_labels 12.47\r
something_weird{problem=\"division by zero\"} +Inf -3982045

# TYPE seconds histogram
seconds_bucket{le=\"+Inf\"} 144320
seconds_sum 53423
seconds_count 144320
# TYPE rpc summary
rpc{quantile=\"0.99\"} 76656
rpc_count 2693";
    desk.write("scrape.txt", text);
    desk.succeed(&["import", "a", "scrape.txt", "--time=2018-07-26T12:00:00Z", "--label=job=x"]);
    let given = 1_532_606_400_000;
    let mut expected = Contents::new();
    let mut add = |metric: &str, labels: &[(&str, &str)], kind, at: i64, value: Value| {
        let labels = Labels::from_iter(labels.iter().copied().chain([("job", "x")]));
        expected.insert((labels, metric.to_owned(), kind), vec![(at, value)]);
    };
    let (counter, gauge) = (MetricKind::Cumulative, MetricKind::Gauge);
    for (code, value) in [("200", 1027), ("400", 3)] {
        let labels = [("method", "post"), ("code", code)];
        add("http_requests_total", &labels, counter, 1_395_066_363_000, Value::Int(value));
    }
    let labels = [("path", "C:\\DIR\\FILE.TXT"), ("error", "Cannot find:\n\"FILE.TXT\"")];
    let at = Value::Float(1.458255915e9);
    add("msdos_file_access_time_seconds", &labels, gauge, given, at);
    add("metric_without_timestamp_and_labels", &[], gauge, given, Value::Float(12.47));
    let infinite = Value::Float(f64::INFINITY);
    add("something_weird", &[("problem", "division by zero")], gauge, -3_982_045, infinite);
    add("seconds_bucket", &[("le", "+Inf")], counter, given, Value::Int(144_320));
    add("seconds_sum", &[], counter, given, Value::Int(53_423));
    add("seconds_count", &[], counter, given, Value::Int(144_320));
    add("rpc", &[("quantile", "0.99")], gauge, given, Value::Int(76_656));
    add("rpc_count", &[], counter, given, Value::Int(2_693));
    assert_eq!(desk.contents("a"), expected);
    desk.succeed(&["import", "b", "scrape.txt", "--floats"]);
    let is_float = |(_, value): &(i64, Value)| matches!(value, Value::Float(_));
    assert!(desk.contents("b").values().flatten().all(is_float));
}

#[test]
fn a_bad_line_is_told_with_its_number_and_the_others_are_imported() {
    let desk = Desk::new();
    let text = "\
up 1 1
up{a=1} 1 2
up
2up 1 3
up one 4
up{a=\"b} 1 5
up{a=\"b\",a=\"c\"} 1 6
up 1 7.5
up 1 8 # {trace_id=\"x\"} 1
{a=\"b\"} 1 9
up{a=\"b\" c=\"d\"} 1 10
up 1 11
";
    desk.write("bad.prom", text);
    let ran = desk.run(&["import", "a", "bad.prom"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let told: Vec<&str> = ran.err.lines().filter(|line| line.starts_with("bad.prom:")).collect();
    assert_eq!(
        told,
        [
            r#"bad.prom:2: there is "1}" where a text in quotes should be"#,
            r#"bad.prom:3: there is no value behind "up""#,
            r#"bad.prom:4: "2up" is not a name of a metric"#,
            r#"bad.prom:5: the value "one" is not a number"#,
            "bad.prom:6: a quote is not closed",
            "bad.prom:7: a label is there twice",
            r#"bad.prom:8: the time "7.5" is not a number of milliseconds since the Unix epoch"#,
            "bad.prom:9: there is \"# {trace_id=\\\"x\\\"} 1\" behind value and time; OpenMetrics and \
             exemplars are not supported",
            "bad.prom:10: the series has no name",
            r#"bad.prom:11: there is "c=\"d\"}" where a comma or a brace should be"#,
        ]
    );
    assert!(ran.err.contains("imported 2 samples"), "{}", ran.err);
    let samples: Vec<_> = desk.contents("a").into_values().flatten().collect();
    assert_eq!(samples, [(1, Value::Int(1)), (11, Value::Int(1))]);
    // Nothing of it is a failure when that was asked for.
    assert_eq!(desk.run(&["import", "a", "bad.prom", "--skip-bad"]).code, 0);
}

#[test]
fn too_many_bad_lines_end_an_import_unless_they_are_to_be_skipped() {
    let desk = Desk::new();
    let mut text = "time,metric,value\n".to_owned();
    for line in 0..30 {
        text.push_str(if line % 2 == 0 { "never,up,1\n" } else { "5,up,1\n" });
    }
    text.push_str("6,up,1\n");
    desk.write("bad.csv", &text);
    let err = desk.fail(1, &["import", "a", "bad.csv", "--bad-lines=3"]);
    assert!(err.contains("stopped in bad.csv at line 8: 4 lines were bad"), "{err}");
    assert_eq!(desk.contents("a").into_values().flatten().count(), 1);
    let ran = desk.run(&["import", "a", "bad.csv", "--bad-lines=3", "--skip-bad"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("15 bad lines were left out"), "{}", ran.err);
    assert_eq!(desk.contents("a").into_values().flatten().count(), 2);
}

#[test]
fn csv_of_other_programs_has_labels_in_columns_of_their_own() {
    let desk = Desk::new();
    desk.write(
        "other.csv",
        "\u{feff}pod,value,name,timestamp,node\r\n\
         web,5,up,2018-07-26T12:00:00Z,\r\n\
         ,2.5,load,1532606400000,n1\r\n",
    );
    desk.succeed(&["import", "a", "other.csv"]);
    let at = 1_532_606_400_000;
    let series = |name: &str, value: &str, metric: &str| {
        (Labels::from_iter([(name, value)]), metric.to_owned(), MetricKind::Gauge)
    };
    let expected = [
        (series("node", "n1", "load"), vec![(at, Value::Float(2.5))]),
        (series("pod", "web", "up"), vec![(at, Value::Int(5))]),
    ];
    assert_eq!(desk.contents("a"), Contents::from(expected));
}

#[test]
fn hostile_csv_ends_with_an_error_that_says_what_is_wrong() {
    let desk = Desk::new();
    let header = "time,metric,kind,value,labels\n";
    for (line, reason) in [
        ("1,up,gauge,1", "4 fields instead of 5"),
        ("1,,gauge,1,", "the metric is empty"),
        ("1,up,rate,1,", "the kind \"rate\" is not one of cumulative, gauge and delta"),
        ("1,up,gauge,,", "the value \"\" is not a number"),
        ("999999999999999999,up,gauge,1,", "is neither RFC 3339"),
        ("1,up,gauge,1,[]", "the labels are not a JSON object of texts"),
        ("1,up,gauge,1,\"{\"\"a\"\":1}\"", "the labels are not a JSON object of texts"),
        (
            "1,up,gauge,1,\"{\"\"a\"\":\"\"1\"\",\"\"a\"\":\"\"2\"\"}\"",
            "the label \"a\" is there twice",
        ),
        ("1,up,gauge,1,\"{\"\"\"\":\"\"1\"\"}\"", "a label has no name"),
    ] {
        desk.write("bad.csv", format!("{header}{line}\n"));
        let err = desk.fail(1, &["import", "a", "bad.csv"]);
        assert!(err.starts_with("bad.csv:2: ") && err.contains(reason), "{line}: {err}");
    }
    for (text, reason) in [
        (String::new(), "no column is called \"time\""),
        ("time,value\n".to_owned(), "no column is called \"metric\""),
        ("time,time,metric,value\n".to_owned(), "more than one column is called \"time\""),
        ("time,metric,value,\n".to_owned(), "a column has no name"),
    ] {
        desk.write("bad.csv", text);
        let err = desk.fail(2, &["import", "a", "bad.csv"]);
        assert!(err.contains(reason), "{err}");
    }
    let endless = format!("{header}1,up,gauge,1,\"{}", "x".repeat(3 << 20));
    desk.write("bad.csv", endless);
    let err = desk.fail(2, &["import", "a", "bad.csv"]);
    assert!(err.contains("a record is longer than 1048576 bytes; is a quote not closed?"), "{err}");
}

#[test]
fn an_export_takes_what_any_selector_finds_once() {
    let desk = Desk::new();
    desk.fill("a");
    let series_of = |arguments: &[&str]| {
        let mut line = vec!["export", "a", "--format=csv", "--end=2018-07-26T12:00:01Z"];
        line.extend_from_slice(arguments);
        let text = desk.succeed(&line).replace("\"mixed \"\"é\"\"\n\"", "mixed");
        let lines = text.lines().skip(1).map(|line| {
            let fields: Vec<&str> = line.splitn(5, ',').collect();
            format!("{} {}", fields[1], fields[4].contains("web-1"))
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(series_of(&[]).len(), 20);
    assert_eq!(series_of(&["--match={pod_name=~\"web-.*\"}", "--match={type=\"pod\"}"]).len(), 10);
    assert_eq!(
        series_of(&["--match=load{pod_name=\"web-1\"}", "--match={pod_name=\"web-1\"}"]),
        ["__time__/scrape true", "change true", "cpu/usage true", "load true", "mixed true"]
    );
    assert_eq!(series_of(&["--match={type=\"pod\"}", "--metric=load", "--metric=none"]).len(), 2);
    assert_eq!(series_of(&["--match=load", "--metric=cpu/usage"]), [""; 0]);
    assert_eq!(series_of(&["--match={__name__!~\"c.*|load|mixed.*|__.*\"}"]), [""; 0]);
}

#[test]
fn an_export_replaces_no_file_unless_told_to_and_leaves_nothing_half() {
    let desk = Desk::new();
    desk.fill("a");
    desk.write("there.csv", "precious");
    let err = desk.fail(2, &["export", "a", "-o", "there.csv"]);
    assert_eq!(
        err,
        "heapster: there.csv is there already\nChoose another name, or give --force.\n"
    );
    assert_eq!(desk.read("there.csv"), "precious");
    desk.succeed(&["export", "a", "-o", "there.csv", "--force"]);
    assert!(desk.read("there.csv").starts_with("time,"));
    desk.fail(2, &["export", "a", "-o", "no/such/folder.csv"]);
    let mut names: Vec<_> =
        fs::read_dir(desk.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "there.csv"]);
}

#[test]
fn a_live_store_is_exported_and_counted_but_not_imported_into() {
    let desk = Desk::new();
    desk.fill("a");
    let live = desk.store("a");
    assert_eq!(desk.succeed(&["export", "a", "--format=csv"]).lines().count(), 1 + 160 + 32);
    desk.write("more.csv", "time,metric,value\n1,up,1\n");
    let err = desk.fail(3, &["import", "a", "more.csv"]);
    assert!(err.contains("could not lock"), "{err}");
    assert!(err.contains("Stop the process that has it open"), "{err}");
    let stats: serde_json::Value =
        serde_json::from_str(&desk.succeed(&["stats", "a", "-o", "json"])).unwrap();
    assert_eq!(stats["samples"], 160);
    drop(live);
}

#[test]
fn a_check_says_whether_a_store_is_sound_and_where_not() {
    let desk = Desk::new();
    desk.fill("a");
    assert!(desk.succeed(&["check", "a"]).starts_with("a: sound (100 samples in 1 segments"));
    let segment = fs::read_dir(desk.path("a/segments/raw")).unwrap().next().unwrap().unwrap();
    let mut bytes = fs::read(segment.path()).unwrap();
    bytes[330] ^= 1;
    fs::write(segment.path(), bytes).unwrap();
    let ran = desk.run(&["check", "a"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let name = segment.file_name().into_string().unwrap();
    assert!(ran.out.contains(&format!("damage: segments/raw/{name} at byte ")), "{}", ran.out);
    assert!(ran.out.contains("a: DAMAGED"), "{}", ran.out);
    let ran = desk.run(&["check", "a", "-o", "json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["sound"], false);
    assert_eq!(report["findings"][0]["severity"], "damage");
    assert_eq!(report["findings"][0]["file"], format!("segments/raw/{name}"));
    // What can be read is exported, and what not is said.
    let ran = desk.run(&["export", "a", "--format=csv", "--match={pod_name=~\"web.*\"}"]);
    assert!(ran.out.lines().count() > 60, "{ran:?}");
}

#[test]
fn a_backup_is_brought_up_to_date_and_restored() {
    let desk = Desk::new();
    desk.fill("a");
    let before = desk.contents("a");
    let live = desk.store("a");
    let ran = desk.run(&["backup", "a", "saved", "--dry-run"]);
    assert!(ran.out.contains("which is not there yet") && !desk.path("saved").exists(), "{ran:?}");
    desk.succeed(&["backup", "a", "saved"]);
    let row = Row {
        labels: Labels::from_iter([("type", "node")]),
        cells: vec![("up".into(), MetricValue::gauge(1))],
    };
    let at = Timestamp::from_millis(1_532_700_000_000);
    assert_eq!(live.append_rows(at, [&row], Ack::Buffered).unwrap().accepted, 1);
    live.flush().unwrap();
    desk.succeed(&["restore", "saved", "b"]);
    assert_eq!(desk.contents("b"), before);
    assert!(desk.succeed(&["check", "saved"]).contains("sound"));
    let ran = desk.run(&["backup", "a", "saved"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    desk.succeed(&["restore", "saved", "c"]);
    assert_eq!(desk.contents("c").len(), before.len() + 1);
    for arguments in [["restore", "saved", "b"], ["backup", "a", "b"], ["backup", "saved2", "x"]] {
        let err = desk.fail(2, &arguments);
        assert!(err.starts_with(&format!("heapster: could not {}", arguments[0])), "{err}");
    }
}

#[test]
fn a_deletion_takes_what_was_asked_for_and_asks_before() {
    let desk = Desk::new();
    desk.fill("a");
    let before = desk.contents("a");
    let web1 = "--match={pod_name=\"web-1\"}";
    let line = ["delete", "a", web1, "--start=2018-07-26T12:04:00Z", "--end=2018-07-26T12:06:00Z"];
    let what = "all samples of 1 sets (5 series) from 2018-07-26T12:04:00Z to 2018-07-26T12:06:00Z";
    let with = |flag: &'static str| [&line[..], &[flag]].concat();
    assert_eq!(desk.succeed(&with("--dry-run")), format!("would delete {what}\n"));
    let err = desk.fail(2, &line);
    assert!(err.contains(&format!("this deletes {what}; give --yes")), "{err}");
    assert_eq!(desk.contents("a"), before);
    desk.succeed(&[&line[..], &["-y", "--compact"]].concat());
    let mut expected = before;
    let gone = 1_532_606_640_000..=1_532_606_760_000;
    for ((labels, ..), samples) in &mut expected {
        if labels.value("pod_name") == "web-1" {
            samples.retain(|(at, _)| !gone.contains(at));
        }
    }
    assert_eq!(desk.contents("a"), expected);
    for (arguments, reason) in [
        (vec!["delete", "a"], "--match is needed"),
        (vec!["delete", "a", "--match=up{a=\"b\"}"], "--match must not name one"),
        (vec!["delete", "a", "--match={}"], "--match={} is everything"),
    ] {
        let err = desk.fail(2, &arguments);
        assert!(err.contains(reason), "{err}");
    }
    let ran = desk.run(&["delete", "a", "--match={pod_name=\"none\"}", "--yes"]);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (0, "there is nothing to delete: no set matches in that time\n")
    );
}

#[test]
fn stats_say_what_a_store_holds() {
    let desk = Desk::new();
    desk.fill("a");
    let text = desk.succeed(&["stats", "a", "--output=json", "--top=2"]);
    let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
    // The times of sets are stored, but no series of their own.
    assert_eq!((&stats["sets"], &stats["series"]), (&4.into(), &16.into()));
    assert_eq!((&stats["samples"], &stats["log_samples"]), (&160.into(), &60.into()));
    assert_eq!(stats["start"], "2018-07-26T12:00:00.007Z");
    assert_eq!(stats["end"], "2018-07-26T12:07:00.007Z");
    let raw = &stats["tiers"][0];
    assert_eq!((&raw["segments"], &raw["values"]), (&1.into(), &100.into()));
    let codecs = raw["codecs"].as_array().unwrap();
    let sum = |key: &str| codecs.iter().map(|codec| codec[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("chunks"), sum("values")), (20, 100));
    assert!(sum("bytes") < raw["bytes"].as_u64().unwrap());
    let kinds: Vec<_> = stats["files"].as_array().unwrap().iter().map(|f| &f["kind"]).collect();
    assert_eq!(kinds, ["manifest and lock", "segments/raw", "wal"]);
    assert_eq!(stats["labels"].as_array().unwrap().len(), 2);
    assert_eq!(stats["labels"][0], serde_json::json!({"label": "pod_name", "values": 2}));
    assert_eq!(stats["metrics"][0], serde_json::json!({"metric": "change", "sets": 4}));
    let table = desk.succeed(&["stats", "a"]);
    for line in
        ["series        16\n", "samples       160 (60 in the log)\n", "\npod_name       2\n"]
    {
        assert!(table.contains(line), "{line:?} is not in {table}");
    }
}

#[test]
fn what_is_no_store_is_named_and_left_alone() {
    let desk = Desk::new();
    desk.write("file", "");
    fs::create_dir(desk.path("empty")).unwrap();
    for dir in ["missing", "file", "empty"] {
        for arguments in [&["stats", dir][..], &["export", dir, "--format=csv"]] {
            let err = desk.fail(2, arguments);
            assert!(err.contains(&format!("could not open the store in {dir}")), "{err}");
        }
    }
    assert_eq!(fs::read_dir(desk.path("empty")).unwrap().count(), 0);
    assert!(!desk.path("missing").exists());
}

#[test]
fn a_command_line_that_cannot_be_is_refused_with_what_helps() {
    let desk = Desk::new();
    for (arguments, expected) in [
        (
            &["exprot", "a"][..],
            "heapster: unknown command \"exprot\"; did you mean export?\n\
             Run `heapster --help` for the flags.\n",
        ),
        (
            &["export"],
            "heapster: export: DIR is missing: the verb is used as heapster export DIR\n\
             Run `heapster help export` for the flags.\n",
        ),
        (
            &["import", "a"],
            "heapster: import: FILE is missing: the verb is used as heapster import DIR FILE…\n\
             Run `heapster help import` for the flags.\n",
        ),
        (
            &["stats", "a", "b"],
            "heapster: stats: \"b\" is one word too many: the verb is used as heapster stats DIR\n\
             Run `heapster help stats` for the flags.\n",
        ),
        (
            &["export", "a", "--metrik=x"],
            "heapster: export: unknown flag --metrik; did you mean --metric?\n\
             Run `heapster help export` for the flags.\n",
        ),
        (
            &["export", "a", "--format=csv", "--match={a=1}"],
            "heapster: export: --match: expected a value in quotes\n  {a=1}\n     ^\n\
             Run `heapster help export` for what is accepted.\n",
        ),
        (
            &["export", "a", "--format=csv", "--start=2018-07-27", "--end=2018-07-26"],
            "heapster: export: --end (2018-07-26T00:00:00Z) is before --start \
             (2018-07-27T00:00:00Z)\nRun `heapster help export` for what is accepted.\n",
        ),
        (
            &["import", "a", "x.csv", "--label=x"],
            "heapster: import: --label \"x\" is not NAME=VALUE\n\
             Run `heapster help import` for what is accepted.\n",
        ),
    ] {
        assert_eq!(desk.fail(2, arguments), expected, "{arguments:?}");
    }
    let err = desk.fail(2, &["export", "a", "--start=yesterday"]);
    assert!(err.contains("--start cannot be \"yesterday\": expected a time such as"), "{err}");
    let err = desk.fail(2, &["import", "a", "missing.csv", "unknown.xyz"]);
    assert!(err.contains("the name \"unknown.xyz\" does not say it"), "{err}");
    assert!(!desk.path("a").exists());
    let err = desk.fail(2, &["import", "a", "missing.csv"]);
    assert!(err.contains("could not open missing.csv: No such file"), "{err}");
    assert!(!desk.path("a").exists());
}

#[test]
fn every_verb_explains_itself() {
    let desk = Desk::new();
    for verb in VERBS {
        let help = desk.succeed(&["help", verb.name]);
        assert_eq!(desk.succeed(&[verb.name, "--help"]), help);
        assert_eq!(desk.succeed(&[verb.name, "x", "-h"]), help);
        for flag in verb.flags {
            assert!(help.contains(&format!("--{}", flag.name)), "{} {}", verb.name, flag.name);
        }
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
        assert!(cli::help().contains(&format!("  {:<9}{}\n", verb.name, verb.summary)));
    }
}

/// Run with `UPDATE_DOCS=1` to write the page anew.
#[test]
fn the_page_about_verbs_is_the_table_of_verbs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, cli::verbs_page()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    assert!(page == cli::verbs_page(), "docs/cli.md is out of date; run with UPDATE_DOCS=1");
}
