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
use super::{ReadError, ReadOptions, Sample, SampleReader, SampleWriter, Series, Shown};

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

/// Whether Prometheus took the name of a metric before version 3.
fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_' || byte == b':')
}

/// Whether Prometheus took the name of a label before version 3.
fn is_label_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_')
}

fn is_name(name: &str, is_sign: fn(u8) -> bool) -> bool {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || is_sign(byte);
    !name.is_empty()
        && !name.starts_with(|char: char| char.is_ascii_digit())
        && name.bytes().all(belongs)
}

/// What a TYPE line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

/// Reads Prometheus text.
#[derive(Debug)]
pub struct PrometheusReader<R> {
    from: BufReader<R>,
    options: ReadOptions,
    types: HashMap<Text, Type>,
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
        let mut cursor = Cursor { rest: text };
        cursor.skip_blanks();
        if cursor.rest.is_empty() {
            return Ok(None);
        }
        if let Some(comment) = cursor.rest.strip_prefix('#') {
            if let Some((name, kind)) = parse_type(comment)? {
                if self.types.len() >= TYPES_MAX && !self.types.contains_key(&name) {
                    return Err(format!("more than {TYPES_MAX} metrics have a TYPE"));
                }
                match kind {
                    Some(kind) => self.types.insert(name, kind),
                    None => self.types.remove(&name),
                };
            }
            return Ok(None);
        }
        let (metric, labels) = cursor.series()?;
        let value = cursor.word();
        if value.is_empty() {
            return Err("there is no value behind the name and labels".to_owned());
        }
        let value = number::read(value, self.options.floats)
            .ok_or_else(|| format!("the value {} is not a number", Shown(value)))?;
        let at = match cursor.word() {
            "" => self.options.time,
            time => parse_time(time)?,
        };
        cursor.skip_blanks();
        if !cursor.rest.is_empty() {
            return Err(format!(
                "there is {} behind value and time; OpenMetrics and exemplars are not supported",
                Shown(cursor.rest)
            ));
        }
        let kind = self.kind(&metric);
        Ok(Some(Sample { labels, metric, kind, at, value }))
    }

    /// The kind of a metric by the TYPE lines so far.
    fn kind(&self, metric: &Text) -> MetricKind {
        let typed = |suffix: &str| self.types.get(metric.strip_suffix(suffix)?).copied();
        match typed("") {
            Some(Type::Counter) => return MetricKind::Cumulative,
            Some(_) => return MetricKind::Gauge,
            None => {}
        }
        let is_counter = typed("_total") == Some(Type::Counter)
            || typed("_bucket") == Some(Type::Histogram)
            || ["_sum", "_count"]
                .into_iter()
                .any(|suffix| matches!(typed(suffix), Some(Type::Histogram | Type::Summary)));
        if is_counter { MetricKind::Cumulative } else { UNKNOWN_KIND }
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

/// The metric and type of a TYPE line, given what follows the `#`. An unknown type is none.
fn parse_type(comment: &str) -> Result<Option<(Text, Option<Type>)>, String> {
    let mut cursor = Cursor { rest: comment };
    if cursor.word() != "TYPE" {
        return Ok(None);
    }
    cursor.skip_blanks();
    let name =
        if cursor.rest.starts_with('"') { cursor.quoted()? } else { cursor.word().to_owned() };
    let kind = match cursor.word() {
        "counter" => Some(Type::Counter),
        "gauge" => Some(Type::Gauge),
        "histogram" => Some(Type::Histogram),
        "summary" => Some(Type::Summary),
        _ => None,
    };
    Ok(Some((name.into(), kind)))
}

/// What is left of a line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Takes what precedes the next blank; nothing at the end.
    fn word(&mut self) -> &'a str {
        self.skip_blanks();
        let end = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Takes a sign and the blanks before it, if it comes next.
    fn sign(&mut self, sign: char) -> bool {
        self.skip_blanks();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Takes a text in quotes.
    fn quoted(&mut self) -> Result<String, String> {
        let inside = self.rest.strip_prefix('"').ok_or_else(|| {
            format!("there is {} where a text in double quotes should be", Shown(self.rest))
        })?;
        let mut text = String::new();
        let mut chars = inside.char_indices();
        while let Some((index, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = &inside[index + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, escaped @ ('\\' | '"'))) => text.push(escaped),
                    // Prometheus leaves what is no escape as it is.
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                },
                char => text.push(char),
            }
        }
        Err("a quote is not closed".to_owned())
    }

    /// Takes a name without quotes.
    fn name(&mut self, is_name: fn(&str) -> bool) -> Result<&'a str, String> {
        let end = self.rest.find([' ', '\t', '{', '}', '=', ',', '"']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if !is_name(name) {
            return Err(format!("there is {} where a name should be", Shown(self.rest)));
        }
        self.rest = rest;
        Ok(name)
    }

    /// Takes the name of a metric and its labels.
    fn series(&mut self) -> Result<(Text, Labels), String> {
        let mut metric: Option<Text> = None;
        if !self.rest.starts_with('{') {
            metric = Some(self.name(is_metric_name)?.into());
        }
        let mut labels: Vec<(Text, Text)> = Vec::new();
        if self.sign('{') {
            while !self.sign('}') {
                self.label(&mut metric, &mut labels)?;
                if !self.sign(',') && !self.rest.starts_with('}') {
                    return Err(format!(
                        "there is {} where a comma or a closing brace should be",
                        Shown(self.rest)
                    ));
                }
            }
        }
        let metric = metric.ok_or("the metric has no name")?;
        let count = labels.len();
        let labels = Labels::from_iter(labels);
        if labels.len() != count {
            return Err("a label is there twice".to_owned());
        }
        Ok((metric, labels))
    }

    /// Takes a label, or the name of the metric in quotes.
    fn label(
        &mut self,
        metric: &mut Option<Text>,
        labels: &mut Vec<(Text, Text)>,
    ) -> Result<(), String> {
        self.skip_blanks();
        let name: Text = if self.rest.starts_with('"') {
            let name = self.quoted()?;
            if name.is_empty() {
                return Err("a name is empty".to_owned());
            }
            if !self.sign('=') {
                return match metric.replace(name.into()) {
                    None => Ok(()),
                    Some(_) => Err("the metric has two names".to_owned()),
                };
            }
            name.into()
        } else {
            let name = self.name(is_label_name)?;
            if !self.sign('=') {
                return Err(format!("there is no = behind the label {}", Shown(name)));
            }
            name.into()
        };
        self.skip_blanks();
        labels.push((name, self.quoted()?.into()));
        Ok(())
    }
}
