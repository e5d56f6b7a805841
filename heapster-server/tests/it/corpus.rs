//! The corpora of the fuzz targets: what a fuzzer once found interesting, and every input that once
//! broke something, are read to an end. See docs/fuzzing.md.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use heapster_core::storage::{Samples, Values};
use heapster_core::{Labels, MetricKind, Text, Timestamp, Value};
use heapster_server::fuzz_support;
use heapster_server::transfer::{Format, Input, ReadError, ReadOptions, Series, reader, writer};

use crate::mutation::run_corpus;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn no_summary_of_a_kubelet_makes_the_decoder_panic() {
    run_corpus(CRATE, "kubelet_summary", fuzz_support::kubelet_summary);
}

#[test]
fn no_statistics_of_cadvisor_make_the_decoder_panic() {
    run_corpus(CRATE, "kubelet_cadvisor", fuzz_support::kubelet_cadvisor);
}

#[test]
fn no_resource_metrics_of_a_kubelet_make_the_decoder_panic() {
    run_corpus(CRATE, "kubelet_resource", fuzz_support::kubelet_resource);
}

#[test]
fn any_kubernetes_selector_is_refused_or_read_and_printed() {
    run_corpus(CRATE, "kubernetes_selector", fuzz_support::kubernetes_selector);
}

#[test]
fn whatever_names_a_user_is_taken_out_of_a_request() {
    run_corpus(CRATE, "request_access", fuzz_support::request_access);
}

#[test]
fn any_remote_write_is_refused_or_read_into_rows_that_the_store_takes() {
    run_corpus(CRATE, "remote_write", fuzz_support::remote_write);
}

#[test]
fn any_exposition_is_refused_with_its_line_or_read_the_same_again() {
    run_corpus(CRATE, "exposition", fuzz_support::exposition);
}

#[test]
fn any_scrape_config_is_refused_or_read() {
    run_corpus(CRATE, "scrape_config", fuzz_support::scrape_config);
}

#[test]
fn any_csv_is_refused_or_read_and_what_was_read_can_be_written() {
    run_corpus(CRATE, "import_csv", fuzz_support::import_csv);
}

#[test]
fn any_prometheus_text_is_refused_or_read() {
    run_corpus(CRATE, "import_prometheus", fuzz_support::import_prometheus);
}

#[test]
fn any_parquet_is_refused_or_read_and_what_was_read_can_be_written() {
    run_corpus(CRATE, "import_parquet", fuzz_support::import_parquet);
}

#[test]
fn any_source_or_sink_is_refused_or_read() {
    run_corpus(CRATE, "uri_parse", fuzz_support::uri_parse);
}

#[test]
fn any_command_line_is_refused_or_read() {
    run_corpus(CRATE, "command_line", fuzz_support::command_line);
}

#[test]
fn any_selector_is_refused_with_its_place_or_read() {
    run_corpus(CRATE, "selector_parse", fuzz_support::selector_parse);
}

#[test]
fn any_target_of_a_request_is_refused_or_read() {
    run_corpus(CRATE, "request_target", fuzz_support::request_target);
}

#[test]
fn any_quantity_moment_or_pattern_is_refused_or_read() {
    run_corpus(CRATE, "small_texts", fuzz_support::small_texts);
}

/// Writes the seeds that the corpora grew from. Run it where the recordings in `../shared` are at
/// hand, then `make fuzz` and `scripts/fuzz --minimise`.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn make_seeds() {
    let seed = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(CRATE).join("fuzz/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    let fixtures = Path::new(CRATE).join("../../shared/fixtures/heapster");
    for entry in fs::read_dir(fixtures).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&path).unwrap_or_default();
        if name.starts_with("summary_decode") && name.ends_with("input.json") && bytes.len() < 9000
        {
            seed("kubelet_summary", &name, &bytes);
        }
        if name == "cadvisor_decode.input.json" && bytes.len() < 40_000 {
            seed("kubelet_cadvisor", &name, &bytes);
        }
    }
    let stats = r#"{"timestamp":"2018-07-26T12:00:00Z","cpu":{"usage":{"total":7}},"memory":{"usage":1,"working_set":2,"pgfault":3},"network":{"interfaces":[{"name":"eth0","rx_bytes":1}]},"filesystem":[{"device":"/dev/sda1","capacity":5,"usage":2}]}"#;
    let container = |name: &str| {
        format!(
            r#""{name}":{{"name":"{name}","aliases":["k8s_POD_web_shop_uid_0"],"spec":{{"creation_time":"2018-07-26T11:00:00Z","labels":{{"io.kubernetes.container.name":"web","io.kubernetes.pod.name":"web-1","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u"}},"has_cpu":true,"has_memory":true,"cpu":{{"limit":100}},"memory":{{"limit":-1}}}},"stats":[{stats}]}}"#
        )
    };
    seed(
        "kubelet_cadvisor",
        "made",
        format!("{{{},{}}}", container("/"), container("/docker/1")).as_bytes(),
    );
    let summary = r#"{"node":{"nodeName":"n1","startTime":"2018-07-26T11:00:00Z","systemContainers":[{"name":"kubelet","startTime":"2018-07-26T11:00:00Z","cpu":{"time":"2018-07-26T12:00:00Z","usageCoreNanoSeconds":18446744073709551615}}],"cpu":{"time":"2018-07-26T12:00:00Z","usageNanoCores":1}},"pods":[{"podRef":{"name":"web-1","namespace":"shop","uid":"u"},"containers":[{"name":"web","memory":{"usageBytes":1.5e3,"workingSetBytes":"x"},"userDefinedMetrics":[{"name":"m","type":"gauge","time":null,"value":2.5}],"accelerators":[{"make":"nvidia","id":"g","memoryTotal":7}]}],"network":{"rxBytes":1,"interfaces":[]},"volume":[{"name":"v","capacityBytes":9}]}]}"#;
    seed("kubelet_summary", "made", summary.as_bytes());
    for entry in fs::read_dir(Path::new(CRATE).join("testdata/kubelet-resource")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|own| own == "prom") && !name.contains("scrape0") {
            seed("kubelet_resource", &name, &fs::read(&path).unwrap());
        }
    }
    seed(
        "request_access",
        "made",
        b"/apis/g/v1/namespaces/d/pods/p\nYTpi\nx-remote-user: a\nX-Remote-Extra-b%2Fc: d\naccept: e",
    );
    for (name, selector) in [
        ("labels", r"a.b/c=d, e!=f,g in (h, ,i),j notin (k),!l,m>1,n<2,o"),
        ("fields", r"metadata.name=a\,b,metadata.namespace!=c"),
    ] {
        seed("kubernetes_selector", name, selector.as_bytes());
    }
    for (format, target) in [
        (Format::Csv, "import_csv"),
        (Format::Prometheus, "import_prometheus"),
        (Format::Parquet, "import_parquet"),
    ] {
        seed(target, "made", &made(format));
    }
    for (name, body) in remote_writes() {
        seed("remote_write", &format!("plain_{name}"), &[&[1], &body[..]].concat());
        let block = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        seed("remote_write", &format!("block_{name}"), &[&[0], &block[..]].concat());
    }
    for (name, body) in remote_writes_2() {
        seed("remote_write", &format!("plain_2_{name}"), &[&[3], &body[..]].concat());
    }
    for (name, first, text) in EXPOSITIONS {
        seed("exposition", name, &[&[*first], text.as_bytes()].concat());
    }
    for (name, text) in SCRAPE_CONFIGS {
        seed("scrape_config", name, text.as_bytes());
    }
    let csv = "time,metric,kind,value,pod\n2018-07-26T12:00:00Z,cpu/usage,cumulative,7,web\n1532606400000,a,gauge,0x1p3,\n,\"q\"\"\",delta,NaN,x\n";
    seed("import_csv", "columns", csv.as_bytes());
    let text = "# HELP a b\n# TYPE a counter\na{pod=\"w\\\"\\n\"} 7 1532606400000\na_total 1e3\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_sum -Inf 1.5\n# EOF\n";
    seed("import_prometheus", "types", text.as_bytes());
    let lines = [
        (
            "uri_parse",
            "kubernetes:https://user:pass@10.0.0.1:6443/x?inClusterConfig=false&kubeletPort=10250&auth=$HOME",
        ),
        (
            "uri_parse",
            "kubernetes.summary_api:''?useServiceAccount=true&kubeletHttps=true&insecure=true",
        ),
        ("uri_parse", "influxdb:http://[::1]:8086?user=%41&withfields=true"),
        ("uri_parse", "log"),
        ("uri_parse", "host:?root=${NONE}/x&interval=5s"),
        (
            "command_line",
            "--source=kubernetes:https://k?inClusterConfig=false\n--sink\nlog\n--metric-resolution=30s\n--retention=15d\n--retention-size=5GiB\n--tiers=5m:30d,1h:1y",
        ),
        ("command_line", "export\n--format=csv\n--match={pod=\"x\"}\n--start=-1h\ndata"),
        ("command_line", "backup\na\nb"),
        ("command_line", "help\nimport"),
        ("selector_parse", "memory/usage{pod_name=~\"web-.*\",type!=\"node\",x!~'a|b'}"),
        ("selector_parse", "{\"cpu/usage\",__name__=\"x\", a=\"\\u00e9\\x41\\101\\n\"}"),
        (
            "request_target",
            "/api/v1/model/namespaces/de%20fault/../pods/%2e%2e/?start=2018-07-26T12:00:00.5%2B02:00&end=&labels=a:b,c:d&bucket=5m",
        ),
        (
            "request_target",
            "//a/./b?start=0001-01-01T00:00:00Z&bucket=10ms&aggregations=average,max,50-perc&metric=cpu-usage",
        ),
        ("small_texts", "1.5Gi"),
        ("small_texts", "-12345678901234567890m"),
        ("small_texts", "1e-9"),
        ("small_texts", "2018-07-26T12:00:00.123456789+02:00"),
        ("small_texts", "web-(a|b).*[^x]{2,3}"),
    ];
    for (number, (target, line)) in lines.into_iter().enumerate() {
        seed(target, &format!("line_{number}"), line.as_bytes());
    }
}

/// Requests of remote write 1.0, by what is in them.
fn remote_writes() -> Vec<(&'static str, Vec<u8>)> {
    let sample = |at: i64, value: f64| {
        [field_fixed64(1, value.to_bits()), field_varint(2, at as u64)].concat()
    };
    let series = |labels: &[(&str, &str)], samples: &[(i64, f64)]| {
        let labels = labels.iter().map(|(name, value)| {
            field_bytes(
                1,
                &[field_bytes(1, name.as_bytes()), field_bytes(2, value.as_bytes())].concat(),
            )
        });
        let samples = samples.iter().map(|(at, value)| field_bytes(2, &sample(*at, *value)));
        field_bytes(1, &labels.chain(samples).collect::<Vec<_>>().concat())
    };
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let metadata =
        [field_varint(1, 1), field_bytes(2, b"a_total"), field_bytes(4, b"help")].concat();
    vec![
        (
            "two_series",
            [
                series(&[("__name__", "a"), ("job", "x")], &[(1, 1.5), (2, stale)]),
                series(&[("__name__", "b"), ("job", "x"), ("e", "")], &[(-1, -0.0), (1, 7.0)]),
            ]
            .concat(),
        ),
        (
            "metadata",
            [series(&[("__name__", "a")], &[(1, 1.0)]), field_bytes(3, &metadata)].concat(),
        ),
        (
            "refused",
            [
                series(&[("job", "x")], &[(1, 1.0)]),
                series(&[("__name__", "a"), ("b", "1"), ("b", "2")], &[(1, 1.0)]),
                series(&[("__name__", "a")], &[(i64::MAX, 1.0)]),
                field_bytes(1, &[field_bytes(4, &[8, 1]), field_bytes(3, &[])].concat()),
            ]
            .concat(),
        ),
        ("empty", Vec::new()),
    ]
}

/// Requests of remote write 2.0, by what is in them.
fn remote_writes_2() -> Vec<(&'static str, Vec<u8>)> {
    let symbols = ["", "__name__", "a_total", "job", "x", "Help.", "bytes"];
    let symbols: Vec<u8> =
        symbols.iter().flat_map(|symbol| field_bytes(4, symbol.as_bytes())).collect();
    let sample = [field_fixed64(1, 1.5_f64.to_bits()), field_varint(2, 7)].concat();
    let metadata = [field_varint(1, 1), field_varint(3, 5), field_varint(4, 6)].concat();
    let good = [
        field_bytes(1, &[1, 2, 3, 4]),
        field_bytes(2, &sample),
        field_bytes(5, &metadata),
        field_varint(6, 3),
    ];
    let refused = [field_bytes(1, &[1, 2, 3]), field_bytes(2, &sample), field_bytes(3, &[8, 1])];
    vec![
        ("series", [symbols.clone(), field_bytes(5, &good.concat())].concat()),
        ("refused", [field_bytes(5, &refused.concat()), symbols].concat()),
    ]
}

/// Expositions by name, with the byte that says how they are read.
const EXPOSITIONS: &[(&str, u8, &str)] = &[
    (
        "text",
        4,
        "# HELP a B \\\\ \\n c.\n# TYPE a counter\na{job=\"x\",b=\"\\\"}\"} 1.5e3 123\n\nup 1\n{\"u.8\",\"l.1\"=\"é\"} NaN\n",
    ),
    ("honored", 2, "h_bucket{le=\"+Inf\",instance=\"o\",} 3\nh_sum -Inf\nh_count 3 \n"),
    (
        "openmetrics",
        5,
        "# TYPE a counter\n# UNIT a_seconds seconds\na_total{x=\"1\"} 1 15.5 # {id=\"z\"} 0.5 1.25\na_created 1\n# EOF\n",
    ),
    ("broken", 1, "a{b=\"c\"} 1\n"),
];

/// Files of jobs and of targets.
const SCRAPE_CONFIGS: &[(&str, &str)] = &[
    (
        "jobs",
        "global: {scrape_interval: 15s}\nscrape_configs:\n- job_name: a\n  params: {p: [v]}\n  static_configs: [{targets: ['h:1'], labels: {x: y}}]\n  relabel_configs:\n  - {source_labels: [__address__], regex: '(.*):(.*)', target_label: host, replacement: '$1'}\n  - {action: labelmap, regex: 'a(.*)'}\n  metric_relabel_configs:\n  - {action: hashmod, source_labels: [a], modulus: 4, target_label: h}\n  - {action: labeldrop, regex: b}\n  sample_limit: 10\n  body_size_limit: 1MB\n",
    ),
    (
        "secrets",
        "scrape_configs: [{job_name: a, scheme: https, authorization: {credentials_file: x}, tls_config: {ca_file: c, insecure_skip_verify: true}, file_sd_configs: [{files: ['t/*.json']}]}]",
    ),
    ("unknown", "scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n"),
    ("groups", "- targets: [a:1, 'b:2']\n  labels: {x: y}\n"),
    ("json", "[{\"targets\": [\"a:1\"], \"labels\": {\"x\": \"y\"}}]"),
];

fn field_bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(bytes.len() as u64), bytes].concat()
}

fn field_varint(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3][..], &varint(value)].concat()
}

fn field_fixed64(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn made(format: Format) -> Vec<u8> {
    let labels = Labels::from_iter([("pod_name", "web-1"), ("type", "pod,\"x\"")]);
    let mut bytes = Vec::new();
    let mut to = writer(format, &mut bytes).unwrap();
    for (metric, values) in [
        ("cpu/usage", Values::Ints((0..9).collect())),
        ("load", Values::Floats((0..9).map(|at| f64::from(at) / 3.0).collect())),
        ("mixed", Values::Mixed((0..9).map(Value::Int).collect())),
    ] {
        let times = (0..9).map(|at| Timestamp::from_millis(1_532_606_400_000 + at * 60_000));
        let samples = Samples { timestamps: times.collect(), values };
        let metric = Text::from(metric);
        let series = Series { labels: &labels, metric: &metric, kind: MetricKind::Gauge };
        to.write(series, &samples).unwrap();
    }
    to.finish().unwrap();
    bytes
}

/// The `parquet` crate panics on some damaged files; whoever imports one gets an error.
#[test]
fn a_damaged_byte_of_parquet_is_an_error_or_goes_unnoticed_but_never_panics() {
    let sound = made(Format::Parquet);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged.parquet");
    let told = Rc::new(Cell::new(0_u64));
    let mut refused = 0;
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x55;
        fs::write(&path, &bytes).unwrap();
        let options = ReadOptions { time: Timestamp::EPOCH, floats: false };
        let input = Input::File(fs::File::open(&path).unwrap());
        let read = reader(Format::Parquet, input, &told, options).and_then(|mut reader| {
            while reader.next()?.is_some() {}
            Ok(())
        });
        refused += u64::from(matches!(read, Err(ReadError::Unusable(_))));
    }
    assert!(refused > 100, "{refused} damaged files were refused");
}
