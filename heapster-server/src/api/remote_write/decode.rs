//! From the body of a remote write to samples and their series: snappy, protobuf, labels.
//!
//! The body is read in place: nothing is copied of a series that was pushed before. Its *key* is the
//! encoded labels as version 1.0 sends them, one field after the other; those of version 2.0 are
//! spelled the same way. What a key means is made out when it is new.
//!
//! The body says nothing of what it needs in memory before it is counted, so every size is checked
//! before it is believed.

use std::collections::BTreeMap;
use std::fmt;

use heapster_core::series::TIME_COLUMN_PREFIX;
use heapster_core::{Label, Text, Timestamp, key};

use super::super::error::ApiError;
use super::wire::{FieldValue, Fields, Malformed};
use crate::intake::{Gathered, Meaning, Refusal, SeriesTable};
use crate::metadata::{Metadata, MetricType};

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
/// Symbols of a request of version 2.0 at most.
const SYMBOLS_MAX: usize = 1_000_000;
/// Families of a request of which metadata is remembered.
const FAMILIES_MAX: usize = 10_000;

const NAME: &str = "__name__";

/// The version of the protocol that a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// `prometheus.WriteRequest`: each series with its labels.
    One,
    /// `io.prometheus.write.v2.Request`: labels refer to a table of symbols.
    Two,
}

/// What a request asks to be stored.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// The samples that may be stored.
    pub(crate) samples: Gathered,
    /// What is said of families, by their names. Version 2.0 says it with every series; it is
    /// listened to when the series is new.
    pub(crate) metadata: Vec<(String, Metadata)>,
    /// What cannot be stored whatever the store says.
    pub(crate) refused: Refused,
}

/// Samples that were refused, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    reasons: BTreeMap<Refusal, u64>,
    /// Name of the first native histogram.
    histogram: Option<String>,
}

impl Refused {
    pub(super) fn add(&mut self, reason: Refusal, samples: u64) {
        if samples > 0 {
            *self.reasons.entry(reason).or_default() += samples;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.reasons.values().sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        self.reasons.iter().map(|(reason, samples)| (*reason, *samples))
    }
}

/// `3 samples: 1 bad_label, 2 too_old`.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples", self.total())?;
        for (index, (reason, samples)) in self.iter().enumerate() {
            write!(f, "{} {samples} {reason}", if index == 0 { ":" } else { "," })?;
        }
        match &self.histogram {
            Some(name) => write!(f, "; native histograms are not stored, the first is {name:?}"),
            None => Ok(()),
        }
    }
}

pub(super) fn bad(what: fmt::Arguments<'_>) -> ApiError {
    ApiError::BadRequest(format!("not a remote write: {what}\n"))
}

fn too_large<T>(what: fmt::Arguments<'_>, max: usize) -> Result<T, ApiError> {
    Err(ApiError::TooLarge(format!("the remote write is too large: {what}, at most {max}\n")))
}

/// Decompresses a body.
///
/// # Errors
/// [`ApiError::BadRequest`]: it is no block of snappy. [`ApiError::TooLarge`]: it is beyond a limit.
pub(crate) fn decompress(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let corrupt = |error| bad(format_args!("the body is not a block of snappy: {error}"));
    let declared = snap::raw::decompress_len(body).map_err(corrupt)?;
    if declared > DECODED_BYTES_MAX {
        return too_large(format_args!("{declared} bytes decompressed"), DECODED_BYTES_MAX);
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(corrupt)
}

/// Reads a decompressed body. Its series count as named at `now` in `table`.
///
/// # Errors
/// [`ApiError::BadRequest`]: it is not what the headers promise. [`ApiError::TooLarge`]: it is
/// beyond a limit.
pub(crate) fn decode(
    body: &[u8],
    version: Version,
    table: &mut SeriesTable,
    now: u32,
) -> Result<Pushed, ApiError> {
    let symbols = match version {
        Version::One => Vec::new(),
        Version::Two => symbols_of(body)?,
    };
    let mut request = Request {
        version,
        symbols,
        table,
        now,
        pushed: Pushed::default(),
        series: 0,
        key: Vec::new(),
        samples: Vec::new(),
        references: Vec::new(),
        spelled: Spelled::default(),
    };
    let mut fields = Fields::of(body);
    while let Some(field) = fields.next()? {
        let FieldValue::Bytes(bytes) = field.value else { continue };
        match (version, field.number) {
            (Version::One, 1) => request.add_series(bytes, Request::read_series_of_1)?,
            (Version::One, 3) => request.add_metadata(bytes)?,
            (Version::Two, 5) => request.add_series(bytes, Request::read_series_of_2)?,
            // Read as what it is not, a body would be acknowledged and lost.
            (Version::One, 5) => return Err(bad(format_args!("it is one of version 2.0"))),
            (Version::Two, 1) => return Err(bad(format_args!("it is one of version 1.0"))),
            _ => {}
        }
    }
    Ok(request.pushed)
}

/// The table of symbols, which may stand before or behind those who refer to it.
fn symbols_of(body: &[u8]) -> Result<Vec<&[u8]>, ApiError> {
    let (mut fields, mut symbols) = (Fields::of(body), Vec::new());
    while let Some(field) = fields.next()? {
        if let (4, FieldValue::Bytes(symbol)) = (field.number, field.value) {
            if symbols.len() == SYMBOLS_MAX {
                return too_large(format_args!("more symbols than are taken"), SYMBOLS_MAX);
            }
            symbols.push(symbol);
        }
    }
    Ok(symbols)
}

/// A request that is being read.
struct Request<'a, 't> {
    version: Version,
    symbols: Vec<&'a [u8]>,
    table: &'t mut SeriesTable,
    now: u32,
    pushed: Pushed,
    series: usize,
    /// Key and samples of the series that is being read.
    key: Vec<u8>,
    samples: Vec<(i64, f64)>,
    /// Its references, in version 2.0.
    references: Vec<u64>,
    spelled: Spelled,
}

/// How the series of version 2.0 that was read before was spelled; its key is that of the request.
#[derive(Default)]
struct Spelled {
    references: Vec<u64>,
    /// Where the first label ends in the key.
    first_end: usize,
    /// Room for the next key.
    spare: Vec<u8>,
}

/// What a series has besides its key and its samples.
#[derive(Default)]
struct SeriesRest<'a> {
    histograms: u64,
    /// Where the key is, if it stands in the series as it is.
    key: Option<&'a [u8]>,
    metric_type: MetricType,
    help: &'a [u8],
    unit: &'a [u8],
    /// Why it cannot be stored whatever its labels are.
    refusal: Option<Refusal>,
}

impl<'a> Request<'a, '_> {
    fn add_series(
        &mut self,
        bytes: &'a [u8],
        read: fn(&mut Self, &'a [u8]) -> Result<SeriesRest<'a>, ApiError>,
    ) -> Result<(), ApiError> {
        if bytes.len() > SERIES_BYTES_MAX {
            return too_large(
                format_args!("{} bytes of one series", bytes.len()),
                SERIES_BYTES_MAX,
            );
        }
        self.series += 1;
        if self.series > SERIES_MAX {
            return too_large(format_args!("more series than are taken"), SERIES_MAX);
        }
        self.samples.clear();
        let rest = read(self, bytes)?;
        if self.pushed.samples.len() + self.samples.len() > SAMPLES_MAX {
            return too_large(format_args!("more samples than are taken"), SAMPLES_MAX);
        }
        let key = rest.key.unwrap_or(&self.key);
        let refused = &mut self.pushed.refused;
        if rest.histograms > 0 {
            refused.add("native_histogram", rest.histograms);
            if refused.histogram.is_none() {
                refused.histogram = Some(name_of(key));
            }
        }
        let count = self.samples.len() as u64;
        if count == 0 {
            if self.version == Version::Two && rest.histograms == 0 {
                refused.add("no_samples", 1);
            }
            // What the labels of nothing are does not matter, but they must be readable.
            return meaning(key, rest.metric_type).map(drop);
        }
        if let Some(refusal) = rest.refusal {
            refused.add(refusal, count);
            return Ok(());
        }
        let metadata = &mut self.pushed.metadata;
        let place = self.table.place(key, self.now, || {
            let meaning = meaning(key, rest.metric_type)?;
            if let Ok((_, name, _)) = &meaning
                && metadata.len() < FAMILIES_MAX
            {
                metadata.extend(rest.metadata_of(name));
            }
            Ok::<_, ApiError>(meaning)
        })?;
        match place {
            Ok(place) => {
                for (at, value) in self.samples.drain(..) {
                    match Timestamp::checked_from_millis(at) {
                        Some(at) => self.pushed.samples.push(at, place, value),
                        None => refused.add("time_out_of_range", 1),
                    }
                }
            }
            Err(refusal) => refused.add(refusal, count),
        }
        Ok(())
    }

    /// Labels are the fields 1, samples 2, exemplars 3, which are skipped, histograms 4.
    fn read_series_of_1(&mut self, bytes: &'a [u8]) -> Result<SeriesRest<'a>, ApiError> {
        let mut rest = SeriesRest::default();
        self.key.clear();
        // Labels stand together as a rule; then they are the key where they are.
        let mut labels = 0..0;
        let mut fields = Fields::of(bytes);
        while let Some(field) = fields.next()? {
            let FieldValue::Bytes(value) = field.value else { continue };
            match field.number {
                1 if labels.end == field.start || labels.is_empty() => {
                    labels.start = if labels.is_empty() { field.start } else { labels.start };
                    labels.end = field.end;
                }
                1 => {
                    self.key.extend_from_slice(&bytes[labels]);
                    labels = field.start..field.end;
                }
                2 => self.samples.push(sample(value)?),
                4 => rest.histograms += 1,
                _ => {}
            }
        }
        if self.key.is_empty() {
            rest.key = Some(&bytes[labels]);
        } else {
            self.key.extend_from_slice(&bytes[labels]);
        }
        Ok(rest)
    }

    /// References to labels are the field 1, samples 2, histograms 3, exemplars 4, metadata 5.
    fn read_series_of_2(&mut self, bytes: &'a [u8]) -> Result<SeriesRest<'a>, ApiError> {
        let mut rest = SeriesRest::default();
        self.references.clear();
        let mut fields = Fields::of(bytes);
        while let Some(field) = fields.next()? {
            match (field.number, field.value) {
                (1, FieldValue::Bytes(packed)) => {
                    for reference in Fields::of(packed).packed() {
                        self.references.push(reference?);
                    }
                }
                (1, FieldValue::Varint(reference)) => self.references.push(reference),
                (2, FieldValue::Bytes(value)) => self.samples.push(sample(value)?),
                (3, FieldValue::Bytes(_)) => rest.histograms += 1,
                (5, FieldValue::Bytes(metadata)) => self.read_metadata_of_2(metadata, &mut rest)?,
                _ => {}
            }
        }
        if self.spell().is_none() {
            self.key.clear();
            rest.refusal = Some("label_reference");
        }
        Ok(rest)
    }

    /// Makes the key of the labels that the references mean; `None` when one leads nowhere or is
    /// alone.
    fn spell(&mut self) -> Option<()> {
        let Spelled { references: mut before, first_end, spare: mut key } =
            std::mem::take(&mut self.spelled);
        let own = &self.references;
        // Series of one set come one after another as a rule, and only their names differ, which are
        // the first label.
        let is_same_set = own.len() > 2 && own.get(2..) == before.get(2..);
        let symbol = |reference: u64| self.symbols.get(usize::try_from(reference).ok()?).copied();
        let mut end = 0;
        key.clear();
        for pair in (if is_same_set { &own[..2] } else { own }).chunks(2) {
            let [name, value] = *pair else { return None };
            put_label(symbol(name)?, symbol(value)?, &mut key);
            end = if end == 0 { key.len() } else { end };
        }
        if is_same_set {
            key.extend_from_slice(&self.key[first_end..]);
        }
        before.clone_from(own);
        let spare = std::mem::replace(&mut self.key, key);
        self.spelled = Spelled { references: before, first_end: end, spare };
        Some(())
    }

    fn read_metadata_of_2(
        &self,
        bytes: &'a [u8],
        rest: &mut SeriesRest<'a>,
    ) -> Result<(), ApiError> {
        let mut fields = Fields::of(bytes);
        while let Some(field) = fields.next()? {
            let FieldValue::Varint(number) = field.value else { continue };
            let symbol = || {
                let at = usize::try_from(number).ok();
                at.and_then(|at| self.symbols.get(at)).copied().unwrap_or_default()
            };
            match field.number {
                1 => rest.metric_type = MetricType::from_number(number),
                3 => rest.help = symbol(),
                4 => rest.unit = symbol(),
                _ => {}
            }
        }
        Ok(())
    }

    /// What version 1.0 says of a family: type 1, name 2, help 4, unit 5.
    fn add_metadata(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let (mut metric_type, mut texts) = (MetricType::Unknown, [""; 3]);
        let mut fields = Fields::of(bytes);
        while let Some(field) = fields.next()? {
            let place = match field.number {
                2 => 0,
                4 => 1,
                5 => 2,
                _ => {
                    if let (1, FieldValue::Varint(number)) = (field.number, field.value) {
                        metric_type = MetricType::from_number(number);
                    }
                    continue;
                }
            };
            if let FieldValue::Bytes(text) = field.value {
                texts[place] = std::str::from_utf8(text).unwrap_or_default();
            }
        }
        let [family, help, unit] = texts;
        if !family.is_empty() && self.pushed.metadata.len() < FAMILIES_MAX {
            let metadata = Metadata::new(metric_type, help, unit);
            self.pushed.metadata.push((family.to_owned(), metadata));
        }
        Ok(())
    }
}

impl SeriesRest<'_> {
    /// What the series says of its family, if it says something.
    fn metadata_of(&self, name: &str) -> Option<(String, Metadata)> {
        let is_silent = self.metric_type == MetricType::Unknown && self.help.is_empty();
        if is_silent && self.unit.is_empty() {
            return None;
        }
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let metadata = Metadata::new(self.metric_type, text(self.help), text(self.unit));
        Some((self.metric_type.family_of(name).to_owned(), metadata))
    }
}

/// Time in milliseconds and value of a sample, both zero unless they are there.
fn sample(bytes: &[u8]) -> Result<(i64, f64), ApiError> {
    let (mut at, mut value) = (0, 0.0);
    let mut fields = Fields::of(bytes);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, FieldValue::Fixed64(bits)) => value = f64::from_bits(bits),
            (2, FieldValue::Varint(millis)) => at = millis.cast_signed(),
            (1 | 2, _) => return Err(bad(format_args!("a sample has a field of another type"))),
            _ => {}
        }
    }
    Ok((at, value))
}

/// Appends a label as version 1.0 encodes it.
fn put_label(name: &[u8], value: &[u8], to: &mut Vec<u8>) {
    let len = |text: &[u8]| 1 + varint_len(text.len()) + text.len();
    to.push(0x0a);
    put_varint(len(name) + len(value), to);
    for (field, text) in [(0x0a, name), (0x12, value)] {
        to.push(field);
        put_varint(text.len(), to);
        to.extend_from_slice(text);
    }
}

fn varint_len(number: usize) -> usize {
    (number.max(1).ilog2() as usize) / 7 + 1
}

fn put_varint(mut number: usize, to: &mut Vec<u8>) {
    while number > 0x7f {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// The labels of a key: names and values that need not be UTF-8.
fn labels_of(key: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Malformed>> {
    let mut labels = Fields::of(key);
    std::iter::from_fn(move || {
        let label = match labels.next() {
            Ok(field) => field?,
            Err(error) => return Some(Err(error)),
        };
        let FieldValue::Bytes(bytes) = label.value else { return None };
        let (mut fields, mut texts) = (Fields::of(bytes), [&[][..]; 2]);
        loop {
            match fields.next() {
                Ok(Some(field)) => {
                    if let (number @ (1 | 2), FieldValue::Bytes(text)) = (field.number, field.value)
                    {
                        texts[number as usize - 1] = text;
                    }
                }
                Ok(None) => return Some(Ok((texts[0], texts[1]))),
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// The name of a series, for messages.
fn name_of(key: &[u8]) -> String {
    let mut labels = labels_of(key).map_while(Result::ok);
    let name = labels.find(|(name, _)| *name == NAME.as_bytes()).map(|(_, value)| value);
    String::from_utf8_lossy(name.unwrap_or_default()).chars().take(200).collect()
}

/// What a key means: the labels of a series' set, its name and its kind; else why it cannot be
/// stored.
fn meaning(key: &[u8], metric_type: MetricType) -> Result<Result<Meaning, Refusal>, ApiError> {
    let labels: Vec<(&[u8], &[u8])> = labels_of(key).collect::<Result<_, Malformed>>()?;
    Ok(identify(&labels).map(|(labels, name)| {
        let kind = metric_type.kind_of(&name);
        (labels.into_iter().map(|label| (label.name, label.value)).collect(), name, kind)
    }))
}

/// The labels of a series' set, and its name; else why it cannot be stored.
fn identify(labels: &[(&[u8], &[u8])]) -> Result<(Vec<Label>, Text), Refusal> {
    let utf8 = |bytes| std::str::from_utf8(bytes).map_err(|_| "label_not_utf8");
    let mut pairs: Vec<Label> = Vec::with_capacity(labels.len());
    let mut name: Option<Text> = None;
    for (label, value) in labels {
        let value = utf8(value)?;
        match utf8(label)? {
            "" => return Err("label_name"),
            key::LABELED => return Err("reserved_name"),
            NAME if name.replace(Text::from(value)).is_some() => return Err("duplicate_label"),
            NAME => {}
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
    pairs.retain(|label| !label.value.is_empty());
    Ok((pairs, name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct WireSeries {
        #[prost(message, repeated, tag = "1")]
        labels: Vec<WireLabel>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<WireSample>,
        #[prost(bytes = "vec", repeated, tag = "4")]
        histograms: Vec<Vec<u8>>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct WireLabel {
        #[prost(bytes = "vec", tag = "1")]
        name: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct WireSample {
        #[prost(double, tag = "1")]
        value: f64,
        #[prost(int64, tag = "2")]
        at: i64,
    }

    /// The whole message, as a sender declares it.
    #[derive(Clone, PartialEq, Message)]
    struct WireRequest {
        #[prost(message, repeated, tag = "1")]
        series: Vec<WireSeries>,
        #[prost(message, repeated, tag = "3")]
        metadata: Vec<WireMetadata>,
        #[prost(fixed64, tag = "9")]
        unknown: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct WireMetadata {
        #[prost(uint64, tag = "1")]
        metric_type: u64,
        #[prost(string, tag = "2")]
        family: String,
        #[prost(string, tag = "4")]
        help: String,
        #[prost(string, tag = "5")]
        unit: String,
    }

    #[derive(Clone, PartialEq, Message)]
    struct WireRequest2 {
        #[prost(string, repeated, tag = "4")]
        symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        series: Vec<WireSeries2>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct WireSeries2 {
        #[prost(uint32, repeated, tag = "1")]
        references: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        samples: Vec<WireSample>,
        #[prost(bytes = "vec", repeated, tag = "3")]
        histograms: Vec<Vec<u8>>,
        #[prost(message, optional, tag = "5")]
        metadata: Option<WireMetadata2>,
        #[prost(int64, tag = "6")]
        created: i64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct WireMetadata2 {
        #[prost(uint64, tag = "1")]
        metric_type: u64,
        #[prost(uint32, tag = "3")]
        help: u32,
        #[prost(uint32, tag = "4")]
        unit: u32,
    }

    fn label(name: &str, value: &str) -> WireLabel {
        WireLabel { name: name.into(), value: value.into() }
    }

    fn wire_samples(samples: &[(i64, f64)]) -> Vec<WireSample> {
        samples.iter().map(|(at, value)| WireSample { at: *at, value: *value }).collect()
    }

    fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> WireSeries {
        WireSeries {
            labels: labels.iter().map(|(name, value)| label(name, value)).collect(),
            samples: wire_samples(samples),
            histograms: Vec::new(),
        }
    }

    fn series_2(references: &[u32], samples: &[(i64, f64)]) -> WireSeries2 {
        let (references, samples) = (references.to_vec(), wire_samples(samples));
        WireSeries2 { references, samples, created: 7, ..WireSeries2::default() }
    }

    fn body(series: Vec<WireSeries>) -> Vec<u8> {
        let metadata = vec![WireMetadata { metric_type: 1, ..WireMetadata::default() }];
        compress(&WireRequest { series, metadata, unknown: 7 }.encode_to_vec())
    }

    fn compress(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    fn read(block: &[u8], version: Version) -> Result<(Pushed, SeriesTable), ApiError> {
        let mut table = SeriesTable::new();
        let pushed = super::decode(&decompress(block)?, version, &mut table, 1)?;
        Ok((pushed, table))
    }

    fn decode(block: &[u8]) -> Result<(Pushed, SeriesTable), ApiError> {
        read(block, Version::One)
    }

    fn decode_2(request: &WireRequest2) -> Result<(Pushed, SeriesTable), ApiError> {
        read(&compress(&request.encode_to_vec()), Version::Two)
    }

    /// The rows as text, values by their bits.
    fn shown((pushed, table): &(Pushed, SeriesTable)) -> Vec<String> {
        let mut rows: BTreeMap<(i64, u32), BTreeMap<u16, String>> = BTreeMap::new();
        for (at, place, value) in pushed.samples.iter() {
            let cell = format!("{}={:016x}", table.column(place).0, value.to_bits());
            rows.entry((at.as_millis(), place.set)).or_default().insert(place.column, cell);
        }
        let shown = rows.iter().map(|((at, set), cells)| {
            let cells: Vec<&str> = cells.values().map(String::as_str).collect();
            format!("{at} {} {}", table.labels(*set), cells.join(" "))
        });
        shown.collect()
    }

    fn status<T>(outcome: Result<T, ApiError>) -> u16 {
        let refused = outcome.err().expect("this should be refused");
        refused.into_response().status().as_u16()
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
        assert_eq!(pushed.0.refused.total(), 0);
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
        bytes.labels[1].value = vec![0xff];
        let mut histogram = series(&[("__name__", "h")], &[]);
        histogram.histograms.push(Vec::new());
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
            pushed.0.refused.to_string(),
            "11 samples: 2 duplicate_label, 1 label_name, 1 label_not_utf8, 1 native_histogram, \
             3 no_name, 2 reserved_name, 1 time_out_of_range; native histograms are not stored, \
             the first is \"h\""
        );
    }

    #[test]
    fn a_series_that_was_pushed_before_is_known_in_both_versions() {
        let mut table = SeriesTable::new();
        let labels = [("__name__", "up"), ("job", "x")];
        let one =
            WireRequest { series: vec![series(&labels, &[(1, 1.0)])], ..WireRequest::default() };
        let two = WireRequest2 {
            symbols: ["", "job", "x", "up", "__name__"].map(str::to_owned).to_vec(),
            series: vec![series_2(&[4, 3, 1, 2], &[(2, 2.0)])],
        };
        for (encoded, version) in
            [(one.encode_to_vec(), Version::One), (two.encode_to_vec(), Version::Two)]
        {
            let pushed = super::decode(&encoded, version, &mut table, 1).unwrap();
            assert_eq!((pushed.samples.len(), table.len()), (1, 1), "{version:?}");
        }
    }

    #[test]
    fn a_body_of_the_other_version_is_refused_rather_than_lost() {
        let one = body(vec![series(&[("__name__", "m")], &[(1, 1.0)])]);
        assert_eq!(status(read(&one, Version::Two)), 400);
        let symbols = ["", "__name__", "m"].map(str::to_owned).to_vec();
        let two = WireRequest2 { symbols, series: vec![series_2(&[1, 2], &[(1, 1.0)])] };
        assert_eq!(status(read(&compress(&two.encode_to_vec()), Version::One)), 400);
    }

    #[test]
    fn labels_that_do_not_stand_together_are_those_of_one_series() {
        let apart = |parts: &[WireSeries]| {
            let one: Vec<u8> = parts.iter().flat_map(Message::encode_to_vec).collect();
            [&[0x0a, one.len() as u8], &one[..]].concat()
        };
        let parts = [
            series(&[("__name__", "m")], &[(1, 1.0)]),
            series(&[("a", "1"), ("b", "2")], &[(2, 2.0)]),
            series(&[("c", "3")], &[]),
        ];
        let read = decode(&compress(&apart(&parts))).unwrap();
        let labels = r#"{a="1", b="2", c="3"}"#;
        assert_eq!(
            shown(&read),
            [format!("1 {labels} m=3ff0000000000000"), format!("2 {labels} m=4000000000000000")]
        );
    }

    #[test]
    fn symbols_of_version_2_become_labels_and_metadata_gives_the_kind() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let mut counter = series_2(&[1, 2, 3, 4], &[(1, 1.0), (2, stale)]);
        counter.metadata = Some(WireMetadata2 { metric_type: 1, help: 5, unit: 6 });
        let request = WireRequest2 {
            symbols: ["", "__name__", "a_total", "job", "x", "All of it.", "bytes"]
                .map(str::to_owned)
                .to_vec(),
            series: vec![counter, series_2(&[3, 0, 1, 6], &[(1, -0.5)])],
        };
        let read = decode_2(&request).unwrap();
        assert_eq!(
            shown(&read),
            [
                r#"1 {job="x"} a_total=3ff0000000000000"#,
                "1 {} bytes=bfe0000000000000",
                r#"2 {job="x"} a_total=7ff0000000000002"#,
            ]
        );
        let (pushed, table) = read;
        let kinds: Vec<_> =
            pushed.samples.iter().map(|(_, place, _)| table.column(place).1.as_str()).collect();
        assert_eq!(kinds, ["cumulative", "cumulative", "gauge"]);
        let metadata = Metadata::new(MetricType::Counter, "All of it.", "bytes");
        assert_eq!(pushed.metadata, [("a_total".to_owned(), metadata)]);
        assert_eq!(pushed.refused.total(), 0);
    }

    #[test]
    fn series_of_version_2_are_the_same_whatever_series_come_before_them() {
        let symbols = ["", "__name__", "m", "n", "job", "x", "y"].map(str::to_owned).to_vec();
        let read = |series: Vec<WireSeries2>| {
            shown(&decode_2(&WireRequest2 { symbols: symbols.clone(), series }).unwrap())
        };
        let all: [&[u32]; 8] = [
            &[1, 2, 4, 5],
            &[1, 3, 4, 5],
            &[1, 3, 4, 6],
            &[1, 2],
            &[1, 3],
            &[4, 5, 1, 2],
            &[4, 6, 1, 2],
            &[1, 9, 4, 5],
        ];
        for first in all {
            for second in all {
                let (one, two) = (series_2(first, &[(1, 1.0)]), series_2(second, &[(2, 2.0)]));
                let apart = [read(vec![one.clone()]), read(vec![two.clone()])].concat();
                assert_eq!(read(vec![one, two]), apart, "{first:?} {second:?}");
            }
        }
    }

    #[test]
    fn references_of_version_2_that_lead_nowhere_cost_their_series() {
        let mut histogram = series_2(&[1, 2], &[]);
        histogram.histograms.push(vec![8, 1]);
        let request = WireRequest2 {
            symbols: ["", "__name__", "m", "job", "x"].map(str::to_owned).to_vec(),
            series: vec![
                series_2(&[1, 2, 3, 4], &[(1, 1.0)]),
                series_2(&[1, 2, 3], &[(1, 1.0)]),
                series_2(&[1, 5], &[(1, 1.0), (2, 1.0)]),
                series_2(&[1, u32::MAX], &[(1, 1.0)]),
                series_2(&[1, 2], &[]),
                histogram,
            ],
        };
        let read = decode_2(&request).unwrap();
        assert_eq!(shown(&read), [r#"1 {job="x"} m=3ff0000000000000"#]);
        assert_eq!(
            read.0.refused.to_string(),
            "6 samples: 4 label_reference, 1 native_histogram, 1 no_samples; native histograms are \
             not stored, the first is \"m\""
        );
    }

    #[test]
    fn metadata_of_version_1_is_that_of_families() {
        let metadata = WireMetadata {
            metric_type: 3,
            family: "h".to_owned(),
            help: "How long.".to_owned(),
            unit: "seconds".to_owned(),
        };
        let request = WireRequest { metadata: vec![metadata], ..WireRequest::default() };
        let (pushed, _) = decode(&compress(&request.encode_to_vec())).unwrap();
        let expected = Metadata::new(MetricType::Histogram, "How long.", "seconds");
        assert_eq!(pushed.metadata, [("h".to_owned(), expected)]);
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
