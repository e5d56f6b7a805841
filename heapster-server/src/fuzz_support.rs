//! What the fuzz targets of `fuzz/` and the test of their corpora do with arbitrary bytes: one
//! function for each target. No part of the interface: it may change or go at any time.

use std::cell::Cell;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use heapster_core::pipeline::Scrape;
use heapster_core::series::rows_of;
use heapster_core::storage::{Samples, Values};
use heapster_core::{Labels, Matcher, NanoTime, Quantity, Timestamp};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};

use crate::access::front_proxy::{Headers as RequestHeaders, Named};
use crate::access::identity::Attributes;
use crate::access::static_users::StaticUsers;
use crate::api::metrics_k8s::selector::{FieldSelector, LabelSelector};
use crate::api::params;
use crate::api::remote_write::decode::{self, Version};
use crate::cli::{self, Command};
use crate::exposition::{Entry, Exposition, ExpositionError, Format as ExpositionFormat};
use crate::http::{Query, path};
use crate::intake::SeriesTable;
use crate::metadata::MetadataRegistry;
use crate::sources::kubelet::cadvisor::{self, Schedulable};
use crate::sources::kubelet::{NodeInfo, resource, summary};
use crate::sources::kubernetes::options::Options as KubernetesOptions;
use crate::sources::prometheus::config::{self, JobConfig};
use crate::sources::prometheus::relabel::{LabelMap, relabel};
use crate::sources::prometheus::target_memory::TargetMemory;
use crate::transfer::{Format, Input, ReadError, ReadOptions, Sample, Series, reader, writer};
use crate::uri::Uri;
use crate::verbs::parse_selector;

/// Samples of one file that are looked at: a few bytes may stand for very many.
const SAMPLES_MAX: usize = 20_000;

/// A kubelet's `/stats/summary`.
pub fn kubelet_summary(bytes: &[u8]) {
    if let Ok(scrape) = summary::decode(bytes, &node(), noon()) {
        check_scrape(&scrape);
    }
}

/// A kubelet's `/stats/container`.
pub fn kubelet_cadvisor(bytes: &[u8]) {
    if let Ok(scrape) = cadvisor::decode(bytes, &node(), Schedulable::Yes, noon()) {
        check_scrape(&scrape);
    }
}

/// A kubelet's `/metrics/resource`.
pub fn kubelet_resource(bytes: &[u8]) {
    if let Ok(scrape) = resource::decode(bytes, &node(), noon()) {
        check_scrape(&scrape);
    }
}

/// The label and the field selector of a request.
pub fn kubernetes_selector(bytes: &[u8]) {
    const ERROR_BYTES_MAX: usize = 2_000;
    let text = String::from_utf8_lossy(bytes);
    match LabelSelector::parse(&text) {
        Ok(selector) => {
            let printed = selector.to_string();
            assert_eq!(LabelSelector::parse(&printed).as_ref(), Ok(&selector), "{printed}");
        }
        Err(error) => assert!(error.to_string().len() <= ERROR_BYTES_MAX),
    }
    if let Err(error) = FieldSelector::parse(&text) {
        assert!(error.to_string().len() <= ERROR_BYTES_MAX);
    }
}

/// What of a request says who asks and for what: lines of a path, credentials, and headers that name
/// users.
pub fn request_access(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let (path, credentials) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    if let Attributes::Resource { group, resource, .. } = Attributes::of(&Method::GET, path, false)
    {
        let is_core = path.trim_start_matches('/').starts_with("api/");
        assert!(group.is_empty() == is_core && !resource.is_empty());
    }
    assert!(StaticUsers::default().with_basic(credentials).is_none());
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    let taken = RequestHeaders::default();
    taken.take(&mut headers);
    assert_eq!(taken.take(&mut headers), Named::default());
}

fn node() -> NodeInfo {
    NodeInfo { nodename: "n1".into(), hostname: "n1".into(), host_id: "h".into() }
}

/// 2018-07-26T12:00:00Z.
fn noon() -> NanoTime {
    NanoTime::from_nanos(1_532_606_400_000_000_000)
}

fn check_scrape(scrape: &Scrape) {
    let mut keys: Vec<_> = scrape.sets.iter().map(|(key, _)| key).collect();
    keys.sort();
    assert!(keys.windows(2).all(|two| two[0] != two[1]), "a key occurs twice");
    assert!(scrape.rejects.len() <= 100, "{} rejects", scrape.rejects.len());
    for reject in &scrape.rejects {
        assert!(reject.len() <= 4096, "a reject of {} bytes", reject.len());
    }
    for (_, set) in &scrape.sets {
        let rows = rows_of(set);
        assert!(rows.iter().all(|row| !row.cells.is_empty()), "a row without a cell");
    }
}

/// The body of a remote write. The first byte says whether the rest is to be compressed first, so
/// that mutations get behind the compression, and which version it is.
pub fn remote_write(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let compressed = match first & 1 {
        0 => rest.to_vec(),
        _ => snap::raw::Encoder::new().compress_vec(rest).expect("inputs are short"),
    };
    let version = if first & 2 == 0 { Version::One } else { Version::Two };
    let mut table = SeriesTable::new();
    let mut read = |now| {
        let body = decode::decompress(&compressed)?;
        decode::decode(&body, version, &mut table, now)
    };
    let (pushed, again) = (read(1), read(2));
    match (pushed, again) {
        (Ok(pushed), Ok(again)) => {
            // A series that is known is what it was when it was new.
            let bits = |pushed: &decode::Pushed| {
                let samples = pushed.samples.iter();
                samples.map(|(at, place, value)| (at, place, value.to_bits())).collect::<Vec<_>>()
            };
            assert_eq!(bits(&pushed), bits(&again));
            assert_eq!(pushed.refused, again.refused);
            check_pushed(&pushed, &table);
        }
        (Err(error), Err(_)) => {
            let status = error.into_response().status().as_u16();
            assert!(matches!(status, 400 | 413), "{status}");
        }
        (pushed, again) => panic!("{:?} and then {:?}", pushed.is_ok(), again.is_ok()),
    }
}

fn check_pushed(pushed: &decode::Pushed, table: &SeriesTable) {
    for (_, place, _) in pushed.samples.iter() {
        let labels = table.labels(place.set);
        assert!(labels.iter().all(|label| !label.name.is_empty() && !label.value.is_empty()));
        assert!(labels.iter().is_sorted_by(|a, b| a.name < b.name), "{labels}");
        assert!(!labels.contains("__name__") && !table.column(place).0.is_empty(), "{labels}");
    }
    let refused: u64 = pushed.refused.iter().map(|(_, samples)| samples).sum();
    assert_eq!(refused, pushed.refused.total(), "{}", pushed.refused);
}

/// What a target exposes. The first byte says in which format, and how the job is configured.
pub fn exposition(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let format =
        if first & 1 == 0 { ExpositionFormat::Text } else { ExpositionFormat::OpenMetrics };
    if let Err(error) = check_exposition(body, format) {
        let lines = body.split(|byte| *byte == b'\n').count();
        assert!((1..=lines + 1).contains(&error.line), "{error} of {lines} lines");
        assert!(error.what.len() < 4096, "an error of {} bytes", error.what.len());
    }
    let mut job = JobConfig::named("j");
    (job.honor_labels, job.honor_timestamps) = (first & 2 != 0, first & 4 != 0);
    let target = Labels::from_iter([("instance", "i"), ("job", "j")]);
    let (mut memory, metadata) = (TargetMemory::default(), MetadataRegistry::default());
    let mut absorb = |seconds: i64, answer: Result<(&[u8], ExpositionFormat), String>| {
        let at = Timestamp::from_millis(seconds * 1000);
        memory.absorb(&job, &target, answer, at, Duration::ZERO, &metadata)
    };
    let (once, again) = (absorb(1, Ok((body, format))), absorb(2, Ok((body, format))));
    assert_eq!(once.error, again.error, "what is known is read as what is new");
    assert_eq!(once.samples.len(), again.samples.len(), "nothing has ended");
    // What is about the scrape itself is always there.
    let failed = absorb(3, Err("gone".to_owned()));
    assert!(failed.samples.len() >= 5 && once.samples.len() >= 5);
    assert!(failed.samples.len() <= once.samples.len(), "more has ended than was there");
}

fn check_exposition(body: &[u8], format: ExpositionFormat) -> Result<(), ExpositionError> {
    let mut lines = Exposition::new(body, format)?;
    while let Some(entry) = lines.next_entry()? {
        let Entry::Sample(sample) = entry else { continue };
        assert!(sample.value.to_bits() != 0x7ff0_0000_0000_0002, "a target sends a marker");
        if let Ok((name, labels)) = sample.series.parse() {
            assert!(!name.is_empty() && labels.iter().all(|(label, _)| !label.is_empty()));
        }
    }
    Ok(())
}

/// A file with `scrape_configs`, and one with targets.
pub fn scrape_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match config::parse(text, Path::new("/etc")) {
        Ok(jobs) => {
            assert!(!jobs.is_empty(), "a file without a job is refused");
            for job in &jobs {
                assert!(!job.name.is_empty() && job.timeout <= job.interval, "{job:?}");
                let mut labels: LabelMap =
                    [("__name__", "up"), ("a", "b1"), ("job", "j")].into_iter().collect();
                relabel(&job.metric_relabel, &mut labels);
                relabel(&job.relabel, &mut labels);
                assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()));
            }
        }
        Err(error) => assert!(!error.is_empty() && !error.contains('\n'), "{error:?}"),
    }
    let _ = config::parse_groups(text).map_err(|error| assert!(!error.contains('\n'), "{error:?}"));
}

/// A csv file for import. What is read is written and read again.
pub fn import_csv(bytes: &[u8]) {
    if let Ok(samples) = read(Format::Csv, bytes, false) {
        let again = read(Format::Csv, &written(Format::Csv, &samples), false);
        assert_eq!(again.expect("what was written is read"), samples);
    }
    let _ = read(Format::Csv, bytes, true);
}

/// A file of Prometheus text for import.
pub fn import_prometheus(bytes: &[u8]) {
    for floats in [false, true] {
        let _ = read(Format::Prometheus, bytes, floats);
    }
}

/// A Parquet file for import. What is read is written and read again.
pub fn import_parquet(bytes: &[u8]) {
    if let Ok(samples) = read(Format::Parquet, bytes, false) {
        let again = read(Format::Parquet, &written(Format::Parquet, &samples), false);
        assert_eq!(again.expect("what was written is read"), samples);
    }
}

/// The samples of a file; an error that ends it is one of the import's own.
fn read(format: Format, bytes: &[u8], floats: bool) -> Result<Vec<Sample>, ReadError> {
    let options = ReadOptions { time: Timestamp::from_millis(7), floats };
    let mut reader = reader(format, Input::File(file_of(bytes)), &Rc::new(Cell::new(0)), options)?;
    let mut samples = Vec::new();
    while samples.len() < SAMPLES_MAX {
        match reader.next() {
            Ok(Some(sample)) => samples.push(sample),
            Ok(None) => break,
            Err(ReadError::BadLine { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(samples)
}

fn written(format: Format, samples: &[Sample]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = writer(format, &mut bytes).expect("memory has room");
    for sample in samples {
        let series = Series { labels: &sample.labels, metric: &sample.metric, kind: sample.kind };
        let one = Samples {
            timestamps: vec![sample.at].into(),
            values: Values::Mixed(vec![sample.value]),
        };
        writer.write(series, &one).expect("memory has room");
    }
    writer.finish().expect("memory has room");
    bytes
}

/// A file that lies in memory, since readers seek in it.
fn file_of(bytes: &[u8]) -> File {
    let memory = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = File::from(memory.expect("the system gives files in memory"));
    file.write_all(bytes).and_then(|()| file.rewind()).expect("memory has room");
    file
}

/// The value of `--source` or `--sink`.
pub fn uri_parse(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Uri::parse(text, environment) {
        Ok(uri) => {
            let printed = uri.to_string();
            let again = Uri::parse(&printed, |_| None);
            assert!(again.is_ok() || printed.contains('$'), "{printed:?} is not read back");
            assert!(!uri.redacted().is_empty() && !format!("{uri:?}").is_empty());
            let _ = (uri.bool_option("a").is_ok(), uri.int_option("a").is_ok());
            let _ = uri.accept_options(&["a"]).map_err(|error| error.to_string());
            let _ = KubernetesOptions::from_uri(&uri).map_err(|error| error.to_string());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn environment(name: &str) -> Option<String> {
    (name != "NONE").then(|| format!("x{name}"))
}

/// A command line, one argument a line.
pub fn command_line(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match cli::command(text.split('\n').map(str::to_owned), &environment) {
        Ok(Command::Serve(config, notes)) => {
            let _ = (format!("{config:?}"), notes.len());
        }
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A selector of the command line; its matchers are tried.
pub fn selector_parse(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse_selector(text) {
        Ok(selector) => selector.matchers.iter().for_each(|matcher| check_matcher(matcher, text)),
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.ends_with('^'), "an error without its mark: {shown:?}");
        }
    }
}

fn check_matcher(matcher: &Matcher, text: &str) {
    let matches = [matcher.matches(""), matcher.matches("web-1"), matcher.matches(text)];
    assert_eq!(matches[0], matcher.matches_absent(), "no label is an empty one");
    if let heapster_core::MatchOp::Equal(value) = matcher.op() {
        assert!(matcher.matches(value) && matches[2] == (value == text));
    }
}

/// Path and query of a request, and what handlers read of the query.
pub fn request_target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (raw_path, raw_query) = text.split_once('?').unwrap_or((text, ""));
    if let Some(decoded) = path::decode(raw_path) {
        let clean = path::clean(&decoded).into_owned();
        assert_eq!(path::clean(&clean), clean, "cleaning a clean path changes it");
        assert!(!clean.contains("/../") && clean.starts_with('/'));
        assert_eq!(path::decode(&path::encode(&clean)), Some(clean), "a redirect leads elsewhere");
    }
    let query = Query::parse(raw_query);
    let _ = (params::start(&query).is_ok(), params::end(&query).is_ok());
    let _ = params::required_range(&query, Timestamp::EPOCH).is_ok();
    let _ = (params::labels(&query).is_ok(), params::bucket(&query).is_ok());
    let _ = params::aggregations(query.first("aggregations")).is_ok();
    let _ = params::metric_name(query.first("metric")).len();
}

/// Texts that stand for numbers and times: a quantity of Kubernetes, a moment, a pattern.
pub fn small_texts(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(quantity) = Quantity::parse(text) {
        let (value, milli) = (quantity.value(), quantity.milli_value());
        assert!(value.signum() * milli.signum() >= 0, "{value} and {milli}");
    }
    if let Ok(at) = Timestamp::parse_rfc3339(text) {
        let printed = at.to_string();
        assert_eq!(Timestamp::parse_rfc3339(&printed).ok(), Some(at), "{printed}");
    }
    let _ = NanoTime::parse_rfc3339(text).is_ok();
    if let Ok(matcher) = Matcher::regex("label", text) {
        check_matcher(&matcher, text);
    }
}
