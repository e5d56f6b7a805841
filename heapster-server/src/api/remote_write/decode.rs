//! From the body of a remote write to rows: snappy, protobuf, and which samples go together.
//!
//! A series is a set (its labels without the name) and a column (its name). Samples of one moment
//! and one set become one row. The body says nothing of what it needs in memory before it is
//! counted, so every size is checked before it is believed, and series are decoded one at a time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bytes::{Buf, Bytes};
use heapster_core::series::{Row, TIME_COLUMN_PREFIX};
use heapster_core::{Label, Labels, MetricValue, Text, Timestamp, key};
use prost::Message;

use super::super::error::ApiError;

/// Bytes of a body at most. Prometheus sends about a tenth of a MiB, agents up to 8 MiB.
pub(super) const ENCODED_BYTES_MAX: usize = 16 << 20;
/// Bytes of a decompressed body at most.
const DECODED_BYTES_MAX: usize = 32 << 20;
/// Bytes of one series with its samples at most: what its labels need in memory is many times that
/// in the worst case.
const SERIES_BYTES_MAX: usize = 2 << 20;
/// Series of a request at most.
const SERIES_MAX: usize = 250_000;
/// Samples of a request at most.
const SAMPLES_MAX: usize = 1_000_000;

const NAME: &[u8] = b"__name__";

/// A series on the wire. Exemplars (3) are skipped.
#[derive(Clone, PartialEq, Message)]
struct WireSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<WireLabel>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<WireSample>,
    /// Native histograms, which are counted and refused.
    #[prost(bytes = "bytes", repeated, tag = "4")]
    histograms: Vec<Bytes>,
}

/// A label on the wire. Whether it is UTF-8 costs its own series at most, so it is looked at later.
#[derive(Clone, PartialEq, Message)]
struct WireLabel {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// A sample on the wire; the time is in milliseconds.
#[derive(Clone, PartialEq, Message)]
struct WireSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    at: i64,
}

/// What a request asks to be stored.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// The rows of each moment, in the order of time.
    pub(crate) moments: Vec<(Timestamp, Vec<Row>)>,
    /// What cannot be stored whatever the store says.
    pub(crate) refused: Refused,
}

/// Samples that were refused, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused(BTreeMap<&'static str, u64>);

impl Refused {
    pub(super) fn add(&mut self, reason: &'static str, samples: u64) {
        if samples > 0 {
            *self.0.entry(reason).or_default() += samples;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(reason, samples)| (*reason, *samples))
    }
}

/// `3 samples: 1 bad_label, 2 too_old`.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples", self.total())?;
        for (index, (reason, samples)) in self.iter().enumerate() {
            write!(f, "{} {samples} {reason}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// Reads a body.
///
/// # Errors
/// [`ApiError::BadRequest`]: it is not what the headers promise. [`ApiError::TooLarge`]: it is
/// beyond a limit.
pub(crate) fn decode(body: &[u8]) -> Result<Pushed, ApiError> {
    let mut series = SeriesOf(decompress(body)?);
    let mut gathered = Gathered::default();
    while let Some(encoded) = series.next()? {
        let bytes = encoded.len();
        if bytes > SERIES_BYTES_MAX {
            return too_large(format_args!("{bytes} bytes of one series"), SERIES_BYTES_MAX);
        }
        let one = WireSeries::decode(encoded)
            .map_err(|error| bad(format_args!("a series cannot be decoded: {error}")))?;
        gathered.add(&one)?;
    }
    Ok(gathered.into_pushed())
}

fn bad(what: fmt::Arguments<'_>) -> ApiError {
    ApiError::BadRequest(format!("not a remote write: {what}\n"))
}

fn too_large<T>(what: fmt::Arguments<'_>, max: usize) -> Result<T, ApiError> {
    Err(ApiError::TooLarge(format!("the remote write is too large: {what}, at most {max}\n")))
}

fn decompress(body: &[u8]) -> Result<Bytes, ApiError> {
    let corrupt = |error| bad(format_args!("the body is not a block of snappy: {error}"));
    let declared = snap::raw::decompress_len(body).map_err(corrupt)?;
    if declared > DECODED_BYTES_MAX {
        return too_large(format_args!("{declared} bytes decompressed"), DECODED_BYTES_MAX);
    }
    Ok(snap::raw::Decoder::new().decompress_vec(body).map_err(corrupt)?.into())
}

/// The series of a `WriteRequest`, still encoded; its other fields (metadata) are skipped.
struct SeriesOf(Bytes);

impl SeriesOf {
    const SERIES: usize = 1;

    fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let cut_off = || bad(format_args!("it ends in the middle of a field"));
        while self.0.has_remaining() {
            let field = self.varint()?;
            let len = match field & 7 {
                0 => {
                    self.varint()?;
                    0
                }
                1 => 8,
                2 => self.varint()?,
                5 => 4,
                other => return Err(bad(format_args!("unknown wire type {other}"))),
            };
            if len > self.0.len() {
                return Err(cut_off());
            }
            let value = self.0.split_to(len);
            if field & 7 == 2 && field >> 3 == Self::SERIES {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Lengths and the keys of fields are the same on the wire.
    fn varint(&mut self) -> Result<usize, ApiError> {
        let broken = |error| bad(format_args!("it ends in the middle of a number: {error}"));
        prost::decode_length_delimiter(&mut self.0).map_err(broken)
    }
}

/// Samples by the number of their set and the number of their name.
#[derive(Default)]
struct Gathered {
    sets: HashMap<Labels, u32>,
    names: HashMap<Text, u32>,
    samples: Vec<Gathering>,
    series: usize,
    refused: Refused,
}

struct Gathering {
    at: i64,
    set: u32,
    name: u32,
    value: f64,
}

impl Gathered {
    fn add(&mut self, one: &WireSeries) -> Result<(), ApiError> {
        self.series += 1;
        if self.series > SERIES_MAX {
            return too_large(format_args!("more series than are taken"), SERIES_MAX);
        }
        if self.samples.len() + one.samples.len() > SAMPLES_MAX {
            return too_large(format_args!("more samples than are taken"), SAMPLES_MAX);
        }
        self.refused.add("histogram", one.histograms.len() as u64);
        if one.samples.is_empty() {
            return Ok(());
        }
        let (labels, name) = match identify(&one.labels) {
            Ok(identity) => identity,
            Err(reason) => {
                self.refused.add(reason, one.samples.len() as u64);
                return Ok(());
            }
        };
        let next = self.sets.len() as u32;
        let set = *self.sets.entry(labels).or_insert(next);
        let next = self.names.len() as u32;
        let name = *self.names.entry(name).or_insert(next);
        for sample in &one.samples {
            match Timestamp::checked_from_millis(sample.at) {
                Some(_) => {
                    let WireSample { at, value } = *sample;
                    self.samples.push(Gathering { at, set, name, value });
                }
                None => self.refused.add("time_out_of_range", 1),
            }
        }
        Ok(())
    }

    fn into_pushed(mut self) -> Pushed {
        let mut sets = vec![Labels::new(); self.sets.len()];
        for (labels, set) in self.sets {
            sets[set as usize] = labels;
        }
        let mut names = vec![Text::default(); self.names.len()];
        for (name, number) in self.names {
            names[number as usize] = name;
        }
        let place = |sample: &Gathering| (sample.at, sample.set, sample.name);
        // Stable: of two samples of one series and moment the later one stays the later one.
        self.samples.sort_by_key(place);
        let mut moments = Vec::new();
        for of_moment in self.samples.chunk_by(|a, b| a.at == b.at) {
            let rows = of_moment.chunk_by(|a, b| a.set == b.set).map(|of_set| {
                let cells = of_set.chunk_by(|a, b| a.name == b.name).filter_map(<[_]>::last);
                let cells = cells.map(|sample| {
                    // What it means is in the metadata, which remote write 1.0 sends apart.
                    let value = MetricValue::gauge(sample.value);
                    (names[sample.name as usize].clone(), value)
                });
                Row { labels: sets[of_set[0].set as usize].clone(), cells: cells.collect() }
            });
            moments.push((Timestamp::from_millis(of_moment[0].at), rows.collect()));
        }
        Pushed { moments, refused: self.refused }
    }
}

/// The labels of a series' set, and its name; else why it cannot be stored.
fn identify(labels: &[WireLabel]) -> Result<(Labels, Text), &'static str> {
    fn utf8(bytes: &Bytes) -> Result<&str, &'static str> {
        std::str::from_utf8(bytes).map_err(|_| "label_not_utf8")
    }
    let mut name = None;
    let mut pairs = Vec::with_capacity(labels.len());
    for label in labels {
        let (is_name, value) = (label.name == NAME, utf8(&label.value)?);
        match utf8(&label.name)? {
            "" => return Err("label_name"),
            key::LABELED => return Err("reserved_name"),
            _ if is_name && name.replace(Text::from(value)).is_some() => {
                return Err("duplicate_label");
            }
            _ if is_name => {}
            own => pairs.push(Label { name: own.into(), value: value.into() }),
        }
    }
    pairs.sort_unstable();
    if pairs.windows(2).any(|pair| pair[0].name == pair[1].name) {
        return Err("duplicate_label");
    }
    let name = name.filter(|name| !name.is_empty()).ok_or("no_name")?;
    if name.starts_with(TIME_COLUMN_PREFIX) {
        return Err("reserved_name");
    }
    // To Prometheus a label with an empty value is none.
    let pairs = pairs.into_iter().filter(|label| !label.value.is_empty());
    Ok((pairs.map(|label| (label.name, label.value)).collect(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: &str, value: &str) -> WireLabel {
        let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        WireLabel { name: copy(name), value: copy(value) }
    }

    fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> WireSeries {
        WireSeries {
            labels: labels.iter().map(|(name, value)| label(name, value)).collect(),
            samples: samples
                .iter()
                .map(|(at, value)| WireSample { at: *at, value: *value })
                .collect(),
            histograms: Vec::new(),
        }
    }

    /// The whole message, as a sender declares it.
    #[derive(Clone, PartialEq, Message)]
    struct WireRequest {
        #[prost(message, repeated, tag = "1")]
        series: Vec<WireSeries>,
        #[prost(bytes = "vec", repeated, tag = "3")]
        metadata: Vec<Vec<u8>>,
        #[prost(fixed64, tag = "9")]
        unknown: u64,
    }

    fn body(series: Vec<WireSeries>) -> Vec<u8> {
        let request = WireRequest { series, metadata: vec![vec![8, 1]], unknown: 7 };
        compress(&request.encode_to_vec())
    }

    fn compress(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    /// The rows as text, values by their bits.
    fn shown(pushed: &Pushed) -> Vec<String> {
        let rows =
            pushed.moments.iter().flat_map(|(at, rows)| rows.iter().map(move |row| (at, row)));
        let shown = rows.map(|(at, row)| {
            let cells = row
                .cells
                .iter()
                .map(|(name, metric)| format!("{name}={:016x}", metric.value.as_f64().to_bits()));
            format!("{} {} {}", at.as_millis(), row.labels, cells.collect::<Vec<_>>().join(" "))
        });
        shown.collect()
    }

    fn status(outcome: Result<Pushed, ApiError>) -> u16 {
        outcome.expect_err("this should be refused").into_response().status().as_u16()
    }

    #[test]
    fn samples_of_one_moment_and_set_are_one_row_with_every_bit_of_their_values() {
        let (stale, tiny) = (f64::from_bits(0x7ff0_0000_0000_0002), f64::from_bits(1));
        let pushed = decode(&body(vec![
            series(&[("__name__", "b"), ("job", "x"), ("empty", "")], &[(2, stale), (1, tiny)]),
            series(&[("job", "x"), ("__name__", "a")], &[(1, 1.5), (2, 1.0), (2, 2.0)]),
            series(&[("__name__", "a")], &[(-1, f64::NEG_INFINITY)]),
            series(&[("__name__", "a"), ("job", "y")], &[]),
        ]))
        .unwrap();
        assert_eq!(
            shown(&pushed),
            [
                "-1 {} a=fff0000000000000",
                "1 {job=\"x\"} b=0000000000000001 a=3ff8000000000000",
                "2 {job=\"x\"} b=7ff0000000000002 a=4000000000000000",
            ]
        );
        assert_eq!(pushed.refused.total(), 0);
    }

    #[test]
    fn a_negative_zero_keeps_its_sign() {
        // Encoders leave out what equals zero, so the bytes are given: value 1, time 2.
        let sample = [0x09, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x10, 5];
        let mut one = series(&[("__name__", "m")], &[]).encode_to_vec();
        one.extend([0x12, sample.len() as u8]);
        one.extend(sample);
        let request = [&[0x0a, one.len() as u8], &one[..]].concat();
        assert_eq!(shown(&decode(&compress(&request)).unwrap()), ["5 {} m=8000000000000000"]);
    }

    #[test]
    fn a_bad_series_costs_itself_and_is_counted() {
        let mut bytes = series(&[("__name__", "m"), ("x", "?")], &[(1, 1.0)]);
        bytes.labels[1].value = Bytes::from_static(b"\xff");
        let mut histogram = series(&[("__name__", "h")], &[]);
        histogram.histograms.push(Bytes::new());
        let good = series(&[("__name__", "m")], &[(1, 1.0), (i64::MAX, 1.0)]);
        let pushed = decode(&body(vec![
            bytes,
            histogram,
            series(&[("job", "x")], &[(1, 1.0), (2, 1.0)]),
            series(&[("__name__", ""), ("a", "1")], &[(1, 1.0)]),
            series(&[("__name__", "m"), ("", "1")], &[(1, 1.0)]),
            series(&[("__name__", "m"), ("a", "1"), ("a", "2")], &[(1, 1.0)]),
            series(&[("__name__", "m"), ("__name__", "m")], &[(1, 1.0)]),
            series(&[("__name__", "m"), (key::LABELED, "a")], &[(1, 1.0)]),
            series(&[("__name__", "__time__/scrape")], &[(1, 1.0)]),
            good,
        ]))
        .unwrap();
        assert_eq!(shown(&pushed), ["1 {} m=3ff0000000000000"]);
        assert_eq!(
            pushed.refused.to_string(),
            "11 samples: 2 duplicate_label, 1 histogram, 1 label_name, 1 label_not_utf8, \
             3 no_name, 2 reserved_name, 1 time_out_of_range"
        );
    }

    #[test]
    fn what_is_declared_too_large_is_refused_before_it_is_allocated() {
        // A block of snappy that declares 4 GiB, in six bytes.
        assert_eq!(status(decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0])), 413);
        let zeros = compress(&vec![0; DECODED_BYTES_MAX + 1]);
        assert!(zeros.len() < ENCODED_BYTES_MAX);
        assert_eq!(status(decode(&zeros)), 413);
    }

    #[test]
    fn limits_on_series_and_samples_hold() {
        let many: Vec<(i64, f64)> = (0..100_000).map(|at| (at, 1.0)).collect();
        let one = series(&[("__name__", "m")], &many);
        assert_eq!(status(decode(&body(vec![one.clone(); 11]))), 413);
        assert!(decode(&body(vec![one; 10])).is_ok());
        let long = series(&[("__name__", &"m".repeat(SERIES_BYTES_MAX))], &[]);
        assert_eq!(status(decode(&body(vec![long]))), 413);
        assert_eq!(status(decode(&body(vec![WireSeries::default(); SERIES_MAX + 1]))), 413);
    }

    #[test]
    fn a_body_that_is_cut_or_garbled_is_never_half_taken() {
        let one = series(&[("__name__", "metric"), ("job", "x")], &[(1, 1.0), (2, 2.0)]);
        let whole = WireRequest { series: vec![one.clone(), one], ..WireRequest::default() };
        let whole = whole.encode_to_vec();
        let half = whole.len() / 2;
        for len in 1..whole.len() {
            // Cut between two series it is a shorter request.
            let outcome = decode(&compress(&whole[..len]));
            assert_eq!(outcome.is_ok(), len == half, "{len}");
        }
        let block = compress(&whole);
        for len in 0..block.len() {
            assert_eq!(status(decode(&block[..len])), 400, "{len}");
        }
        for garbage in [&[0x0b_u8][..], &[0x80], &[0x0a, 5, 1], &[0x0a, 2, 0x0a, 9]] {
            assert_eq!(status(decode(&compress(garbage))), 400, "{garbage:?}");
        }
    }
}
