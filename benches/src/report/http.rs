//! Queries of PromQL, asked of the server over HTTP; each answer is compared with the data itself.
//!
//! A request has a connection of its own, which is part of what it takes.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use form_urlencoded::Serializer;
use heapster_core::{TimeRange, Timestamp, key, metric};
use heapster_store::{Clock, SystemClock};
use http::Method;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::REPEATS;
use super::direct::Direct;
use super::lab::Lab;
use super::row::Row;
use crate::fetch;
use crate::load::process::{Server, ServerCommand};
use crate::measure::Durations;
use crate::workload::GENERATED_COLUMNS;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How far back the newest sample of a series may be.
const LOOKBACK_MS: i64 = 5 * MINUTE_MS;
/// Numbers of the columns in the data set.
const CPU: usize = 0;
const MEMORY: usize = 1;
const PATIENCE: Duration = Duration::from_secs(60);
/// Sums of floats differ with the order of their terms.
const TOLERANCE: f64 = 1e-9;

/// Values by group, the empty one if there is no other, and moment.
type Points = BTreeMap<(String, i64), f64>;

pub(super) fn run(lab: &mut Lab) -> io::Result<Vec<Row>> {
    let (filled, data) = (lab.filled()?, lab.generated()?);
    let folder = lab.copy_of(&filled.folder)?;
    let direct = Direct { data: &data };
    let (_, end) = direct.bounds();
    // Midnight, so that all windows of a day are whole.
    let day_end = super::START.as_millis() + DAY_MS;
    let mut asked = Asked::start(lab, &folder)?;
    let mut rows = Vec::new();

    let (cpu, memory) = (metric::CPU_USAGE, metric::MEMORY_WORKING_SET);
    let rate = format!("sum(rate({{\"{cpu}\"}}[5m]))");
    let day = Steps { start: day_end - DAY_MS + 5 * MINUTE_MS, end: day_end, step: 5 * MINUTE_MS };
    let ms = asked.median(&rate, day, "", || rates(direct, day))?;
    let what = format!("sum(rate(cpu[5m])), {} containers, 24 h by 5 min", data.slots());
    rows.push(Row::new(what, ms, "ms").at_most(30.0).stretch(12.0).peers(627.0, 151.0));

    let hours = Steps { start: day_end - DAY_MS + HOUR_MS, end: day_end, step: HOUR_MS };
    let query = format!("sum by (namespace_name) (max_over_time({{\"{memory}\"}}[1h]))");
    let ms = asked.median(&query, hours, key::NAMESPACE_NAME, || maxima(direct, hours))?;
    let what = "sum by (namespace) (max_over_time(mem[1h])), 24 h by 1 h";
    rows.push(Row::new(what, ms, "ms").at_most(8.0).stretch(2.0).peers(519.0, 161.0));

    let hour = Steps { start: day_end - HOUR_MS, end: day_end, step: MINUTE_MS };
    let ms = asked.median(&rate, hour, "", || rates(direct, hour))?;
    let what = "sum(rate(cpu[5m])), last hour by 1 min";
    rows.push(Row::new(what, ms, "ms").at_most(12.0).peers(86.0, 107.0));

    let labels = &data.instances(data.slots() / 2)[0].labels;
    let of_one = [key::NAMESPACE_NAME, key::POD_NAME, key::CONTAINER_NAME]
        .map(|name| format!("{name}={:?}", labels.value(name)));
    let query = format!("{{\"{cpu}\",{}}}", of_one.join(","));
    let minutes = Steps { start: day_end - DAY_MS + MINUTE_MS, end: day_end, step: MINUTE_MS };
    let ms = asked.median(&query, minutes, "", || one_series(direct, minutes))?;
    rows.push(Row::new("one series, 24 h by 1 min", ms, "ms").at_most(0.4).peers(0.78, 1.4));

    let now = Steps { start: end.as_millis(), end: end.as_millis(), step: 1 };
    let lookback = TimeRange::new(Timestamp::from_millis(now.start - LOOKBACK_MS + 1), end);
    // Only the values: series of the same value are in any order.
    let query = format!("topk(10, {{\"{memory}\"}})");
    let ms = asked.median_of_values(&query, now, || {
        let mut values = direct.last_values(MEMORY, lookback);
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.iter().take(10).map(|value| *value as f64).collect()
    })?;
    rows.push(Row::new("topk(10, mem), now", ms, "ms").at_most(4.0).peers(26.0, 113.0));

    let node = labels.value(key::NODENAME);
    let query = format!("count({{{}={node:?}}})", key::NODENAME);
    let ms = asked
        .median_of_values(&query, now, || vec![direct.series_of_node(node, lookback) as f64])?;
    rows.push(Row::new("count({node=…}), now", ms, "ms").at_most(0.4).peers(1.4, 5.5));

    let counts =
        GENERATED_COLUMNS.map(|one| format!("sum(count_over_time({{{:?}}}[25h]))", one.metric));
    let query = counts.join(" + ");
    let ms = asked.median_of_values(&query, now, || vec![data.samples() as f64])?;
    let what = format!("count of all {:.1} M samples", data.samples() as f64 / 1e6);
    rows.push(Row::new(what, ms, "ms").at_most(10.0).peer_victoria_metrics(723.0));

    drop(asked);
    std::fs::remove_dir_all(&folder)?;
    Ok(rows)
}

/// Moments of a query, all included; of one moment when `start` and `end` are the same.
#[derive(Clone, Copy)]
struct Steps {
    start: i64,
    end: i64,
    step: i64,
}

impl Steps {
    fn moments(self) -> impl Iterator<Item = i64> {
        (0..=(self.end - self.start) / self.step).map(move |index| self.start + index * self.step)
    }

    fn path(self, query: &str) -> String {
        let seconds = |millis: i64| (millis as f64 / 1000.0).to_string();
        let mut form = Serializer::new(String::new());
        form.append_pair("query", query);
        if self.start == self.end {
            form.append_pair("time", &seconds(self.start));
            return format!("/api/v1/query?{}", form.finish());
        }
        form.append_pair("start", &seconds(self.start));
        form.append_pair("end", &seconds(self.end));
        form.append_pair("step", &seconds(self.step));
        format!("/api/v1/query_range?{}", form.finish())
    }
}

/// A server with the data set, and who asks it.
struct Asked<'a> {
    lab: &'a mut Lab,
    server: Server,
    runtime: Runtime,
}

impl<'a> Asked<'a> {
    fn start(lab: &'a mut Lab, data_dir: &Path) -> io::Result<Self> {
        let command = ServerCommand {
            binary: lab.options.heapster.clone(),
            arguments: ["--source=none", "--retention=forever"].map(str::to_owned).into(),
            data_dir: data_dir.to_owned(),
            log: data_dir.with_extension("log"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = command.start()?;
        let clock = SystemClock::new();
        while runtime.block_on(get(server.address(), "/-/ready")).is_err() {
            if clock.monotonic() > PATIENCE {
                return Err(io::Error::other(std::fs::read_to_string(&command.log)?));
            }
        }
        Ok(Self { lab, server, runtime })
    }

    /// Milliseconds that a query takes, the median of several; fails the report when the answer,
    /// by the label `group`, is not `expected`.
    fn median(
        &mut self,
        query: &str,
        steps: Steps,
        group: &str,
        expected: impl FnOnce() -> Points,
    ) -> io::Result<f64> {
        let (answer, ms) = self.ask(query, steps)?;
        let points = points(&answer, group).ok_or_else(|| unreadable(&answer))?;
        let expected = expected();
        let is_right = points.len() == expected.len()
            && points
                .iter()
                .zip(&expected)
                .all(|((place, a), (wanted, b))| place == wanted && is_close(*a, *b));
        self.judge(query, is_right);
        Ok(ms)
    }

    /// As [`Asked::median`], for one moment: the values in the order in which they come.
    fn median_of_values(
        &mut self,
        query: &str,
        steps: Steps,
        expected: impl FnOnce() -> Vec<f64>,
    ) -> io::Result<f64> {
        let (answer, ms) = self.ask(query, steps)?;
        let series = answer["data"]["result"].as_array().ok_or_else(|| unreadable(&answer))?;
        let values =
            series.iter().map(|one| number(&one["value"][1])).collect::<Option<Vec<f64>>>();
        let values = values.ok_or_else(|| unreadable(&answer))?;
        let expected = expected();
        let is_right = values.len() == expected.len()
            && values.iter().zip(&expected).all(|(a, b)| is_close(*a, *b));
        self.judge(query, is_right);
        Ok(ms)
    }

    fn judge(&mut self, query: &str, is_right: bool) {
        if !is_right {
            self.lab.failures.push(format!("{query}: the answer is not that of the data"));
        }
    }

    fn ask(&mut self, query: &str, steps: Steps) -> io::Result<(Value, f64)> {
        self.lab.progress(query);
        let path = steps.path(query);
        // The first one also reads the files.
        let body = self.runtime.block_on(get(self.server.address(), &path))?;
        let mut durations = Durations::default();
        for _ in 0..REPEATS {
            let clock = SystemClock::new();
            self.runtime.block_on(get(self.server.address(), &path))?;
            durations.push(clock.monotonic());
        }
        Ok((serde_json::from_slice(&body)?, durations.median().as_secs_f64() * 1000.0))
    }
}

async fn get(address: SocketAddr, path: &str) -> io::Result<bytes::Bytes> {
    let answer = fetch(Method::GET, address, path, PATIENCE).await?;
    match answer.status {
        200 => Ok(answer.body),
        _ => Err(io::Error::other(String::from_utf8_lossy(&answer.body))),
    }
}

fn unreadable(answer: &Value) -> io::Error {
    io::Error::other(format!("an answer is in no known form: {answer}"))
}

fn number(text: &Value) -> Option<f64> {
    text.as_str()?.parse().ok()
}

fn points(answer: &Value, group: &str) -> Option<Points> {
    let mut points = Points::new();
    for series in answer["data"]["result"].as_array()? {
        let group = series["metric"][group].as_str().unwrap_or_default();
        for pair in series["values"].as_array()? {
            let at = (pair[0].as_f64()? * 1000.0).round() as i64;
            points.insert((group.to_owned(), at), number(&pair[1])?);
        }
    }
    Some(points)
}

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

fn rates(direct: Direct<'_>, steps: Steps) -> Points {
    let window_ms = 5 * MINUTE_MS;
    let mut sums = Points::new();
    direct.for_each_series(CPU, TimeRange::ALL, |_, samples| {
        for end in steps.moments() {
            if let Some(rate) = rate(within(samples, end - window_ms, end), end - window_ms, end) {
                *sums.entry((String::new(), end)).or_default() += rate;
            }
        }
    });
    sums
}

/// The samples in `(start, end]`.
fn within(samples: &[(i64, i64)], start: i64, end: i64) -> &[(i64, i64)] {
    let from = samples.partition_point(|(at, _)| *at <= start);
    let to = samples.partition_point(|(at, _)| *at <= end);
    &samples[from..to.max(from)]
}

/// The increase per second, carried on to the ends of the window as Prometheus does.
fn rate(samples: &[(i64, i64)], start: i64, end: i64) -> Option<f64> {
    let ([(first_at, first), .., (last_at, last)], pairs) = (samples, samples.windows(2)) else {
        return None;
    };
    let resets: i64 = pairs.filter(|two| two[1].1 < two[0].1).map(|two| two[0].1).sum();
    let increase = (last - first + resets) as f64;
    let sampled = (last_at - first_at) as f64;
    let distance = sampled / (samples.len() - 1) as f64;
    let reach = |gap: f64| if gap >= distance * 1.1 { distance / 2.0 } else { gap };
    let mut before = reach((first_at - start) as f64);
    if increase > 0.0 && *first >= 0 {
        before = before.min(sampled * (*first as f64 / increase));
    }
    let after = reach((end - last_at) as f64);
    let seconds = (end - start) as f64 / 1000.0;
    Some(increase * ((sampled + before + after) / sampled) / seconds)
}

fn maxima(direct: Direct<'_>, steps: Steps) -> Points {
    let mut sums = Points::new();
    direct.for_each_series(MEMORY, TimeRange::ALL, |labels, samples| {
        let namespace = labels.value(key::NAMESPACE_NAME);
        for end in steps.moments() {
            let values = within(samples, end - steps.step, end).iter().map(|(_, value)| *value);
            if let Some(max) = values.max() {
                *sums.entry((namespace.to_owned(), end)).or_default() += max as f64;
            }
        }
    });
    sums
}

fn one_series(direct: Direct<'_>, steps: Steps) -> Points {
    let samples = direct.one_series(direct.data.slots() / 2, 0, CPU);
    let samples: Vec<(i64, i64)> =
        samples.into_iter().map(|(at, value)| (at.as_millis(), value)).collect();
    let newest = |at: i64| within(&samples, at - LOOKBACK_MS, at).last();
    let found = steps.moments().filter_map(|at| Some((at, newest(at)?.1)));
    found.map(|(at, value)| ((String::new(), at), value as f64)).collect()
}
