//! The text format 0.0.4 of Prometheus, one line per sample with its time in milliseconds.
//!
//! Names that Prometheus did not allow before version 3 stand in quotes inside the braces:
//! `{"cpu/usage",type="pod"} 7 1532606400000`. Other programs' files have HELP and TYPE lines, may
//! leave the time out, and are read as they are.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};

use heapster_core::series::UNKNOWN_KIND;
use heapster_core::storage::Samples;
use heapster_core::{Labels, MetricKind, Text, Timestamp};

use super::input::{Line, RECORD_BYTES_MAX, read_line};
use super::number::{self, Spelling};
use super::{ReadError, ReadOptions, Sample, SampleReader, SampleWriter, Series};
use crate::exposition::{Entry, Format, RawSample, comment_entry, is_label_name, is_metric_name};
use crate::metadata::MetricType;
use crate::shown::Shown;

/// Metrics whose TYPE is remembered; a file with more of them is not believed.
const TYPES_MAX: usize = 100_000;

/// Writes Prometheus text. All series of a metric must come one after the other.
#[derive(Debug)]
pub struct PrometheusWriter<W> {
    to: W,
    /// The metric whose TYPE line was written last.
    family: Option<Text>,
    /// What stands in front of the value.
    front: Vec<u8>,
}

impl<W: Write> PrometheusWriter<W> {
    /// Writes to `to`, which should be buffered.
    pub fn new(to: W) -> Self {
        Self { to, family: None, front: Vec::new() }
    }
}

impl<W: Write> SampleWriter for PrometheusWriter<W> {
    fn write(&mut self, series: Series<'_>, samples: &Samples) -> io::Result<()> {
        if self.family.as_ref() != Some(series.metric) {
            self.front.clear();
            self.front.extend_from_slice(b"# TYPE ");
            put_name(series.metric, is_metric_name(series.metric), &mut self.front);
            self.front.extend_from_slice(match series.kind {
                MetricKind::Cumulative => b" counter\n",
                MetricKind::Gauge | MetricKind::Delta => b" gauge\n",
            });
            self.to.write_all(&self.front)?;
            self.family = Some(series.metric.clone());
        }
        self.front.clear();
        let is_bare = is_metric_name(series.metric);
        if is_bare {
            self.front.extend_from_slice(series.metric.as_bytes());
        }
        let mut separator = b'{';
        if !is_bare {
            self.front.push(separator);
            put_name(series.metric, false, &mut self.front);
            separator = b',';
        }
        for label in series.labels {
            self.front.push(separator);
            put_name(&label.name, is_label_name(&label.name), &mut self.front);
            self.front.push(b'=');
            put_name(&label.value, false, &mut self.front);
            separator = b',';
        }
        if separator == b',' {
            self.front.push(b'}');
        }
        self.front.push(b' ');
        for (at, value) in samples.iter() {
            self.to.write_all(&self.front)?;
            number::put(value, Spelling::Prometheus, &mut self.to)?;
            writeln!(self.to, " {}", at.as_millis())?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.to.flush()
    }
}

fn put_name(text: &str, is_bare: bool, to: &mut Vec<u8>) {
    if is_bare {
        return to.extend_from_slice(text.as_bytes());
    }
    to.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\\' => to.extend_from_slice(br"\\"),
            b'"' => to.extend_from_slice(b"\\\""),
            b'\n' => to.extend_from_slice(br"\n"),
            byte => to.push(byte),
        }
    }
    to.push(b'"');
}

/// Reads Prometheus text.
#[derive(Debug)]
pub struct PrometheusReader<R> {
    from: BufReader<R>,
    options: ReadOptions,
    types: HashMap<Text, MetricType>,
    buffer: Vec<u8>,
    line: u64,
}

impl<R: Read> PrometheusReader<R> {
    /// Reads from `from`.
    pub fn new(from: R, options: ReadOptions) -> Self {
        let from = BufReader::with_capacity(1 << 16, from);
        Self { from, options, types: HashMap::new(), buffer: Vec::new(), line: 0 }
    }

    /// Reads a line: a sample, or something else. The text says what is wrong.
    fn sample(&mut self) -> Result<Option<Sample>, String> {
        let text = std::str::from_utf8(&self.buffer).map_err(|_| "it is not UTF-8".to_owned())?;
        let text = text.trim_start_matches([' ', '\t']);
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(comment) = text.strip_prefix('#') {
            if let Some(Entry::Type(family, metric_type)) = comment_entry(comment, Format::Text)? {
                let family = Text::from(&*family);
                if self.types.len() >= TYPES_MAX && !self.types.contains_key(&family) {
                    return Err(format!("more than {TYPES_MAX} metrics have a TYPE"));
                }
                self.types.insert(family, metric_type);
            }
            return Ok(None);
        }
        let raw = RawSample::of(text)?;
        let (metric, labels) = raw.series.parse()?;
        let count = labels.len();
        let labels =
            Labels::from_iter(labels.iter().map(|(name, value)| (Text::from(&**name), &**value)));
        if labels.len() != count {
            return Err("a label is there twice".to_owned());
        }
        let value = number::read(raw.value, self.options.floats)
            .ok_or_else(|| format!("the value {} is not a number", Shown(raw.value)))?;
        let at = if raw.time.is_empty() { self.options.time } else { parse_time(raw.time)? };
        if !raw.behind.is_empty() {
            let what = raw.too_much();
            return Err(format!("{what}; OpenMetrics and exemplars are not supported"));
        }
        let metric = Text::from(&*metric);
        let kind = self.kind(&metric);
        Ok(Some(Sample { labels, metric, kind, at, value }))
    }

    /// The kind of a metric by the TYPE lines so far.
    fn kind(&self, metric: &Text) -> MetricKind {
        let typed = |family: &str| self.types.get(family).copied();
        let of_family = |suffix: &&str| {
            let family = metric.strip_suffix(suffix)?;
            // OpenMetrics names a counter without its end.
            let is_counter = |typed: &MetricType| {
                *typed == MetricType::Counter && *suffix == "_total"
                    || typed.family_of(metric) == family
            };
            typed(family).filter(is_counter)
        };
        let found = typed(metric)
            .or_else(|| ["_total", "_bucket", "_sum", "_count"].iter().find_map(of_family))
            .filter(|typed| *typed != MetricType::Unknown);
        found.map_or(UNKNOWN_KIND, |typed| typed.kind_of(metric))
    }
}

impl<R: Read> SampleReader for PrometheusReader<R> {
    fn next(&mut self) -> Result<Option<Sample>, ReadError> {
        loop {
            self.line += 1;
            match read_line(&mut self.from, &mut self.buffer)? {
                Line::End => return Ok(None),
                Line::TooLong => {
                    let reason = format!("it is longer than {RECORD_BYTES_MAX} bytes");
                    return Err(ReadError::bad_line(self.line, reason));
                }
                Line::Whole => {}
            }
            match self.sample() {
                Ok(None) => {}
                Ok(sample) => return Ok(sample),
                Err(reason) => return Err(ReadError::bad_line(self.line, reason)),
            }
        }
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().ok().and_then(Timestamp::checked_from_millis).ok_or_else(|| {
        let text = Shown(text);
        format!("the time {text} is not a number of milliseconds since the Unix epoch")
    })
}
