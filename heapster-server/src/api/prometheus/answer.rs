//! [`Answer`]: a result in Prometheus' envelope, written while it is sent.

use std::fmt;
use std::vec::IntoIter;

use bytes::Bytes;
use heapster_core::{Label, Labels, Text, Timestamp};
use heapster_query::promql::{InstantSample, MatrixSeries, QueryValue};

use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Chunks, Response, json, stream};

/// Bytes of a piece at least.
const PIECE_BYTES: usize = 64 << 10;
/// Points that are written before it is looked whether a piece is full.
const POINTS_AT_ONCE: usize = 256;
/// Annotations of a kind that are shown, as in Prometheus.
const ANNOTATIONS_MAX: usize = 10;

/// What a request asked for.
#[derive(Debug)]
pub(super) enum Data {
    /// The result of a query, at that time if it is an instant one.
    Value(QueryValue, Timestamp),
    /// Label sets.
    Series(Vec<Labels>),
    /// Names or values.
    Texts(Vec<Text>),
}

/// An answer in its parts.
#[derive(Debug)]
pub(super) struct Answer {
    pub data: Data,
    /// JSON of the cost of a query, if that is asked for.
    pub stats: Option<Vec<u8>>,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

impl Answer {
    pub(super) fn new(data: Data) -> Self {
        Self { data, stats: None, warnings: Vec::new(), infos: Vec::new() }
    }

    /// Keeps so many elements at most, and says so.
    pub(super) fn limited(mut self, limit: Option<usize>) -> Self {
        let Some(limit) = limit else { return self };
        let before = self.data.len();
        match &mut self.data {
            Data::Value(QueryValue::Vector(elements), _) => elements.truncate(limit),
            Data::Value(QueryValue::Matrix(series), _) => series.truncate(limit),
            Data::Value(..) => {}
            Data::Series(series) => series.truncate(limit),
            Data::Texts(texts) => texts.truncate(limit),
        }
        if self.data.len() < before {
            self.warnings.push("results truncated due to limit".to_owned());
        }
        self
    }

    /// The answer for the client: a small one as a whole, of a large one the next piece when the
    /// one before is sent.
    pub(super) fn into_response(self) -> Response {
        let mut written = Written::new(self);
        let first = written.next().unwrap_or_default();
        if written.is_done() {
            return json(first);
        }
        let mut response = json(Bytes::new());
        written.first = Some(first);
        stream(&mut response, Box::new(written));
        response
    }

    /// The whole answer.
    pub(super) fn into_text(self) -> String {
        let mut written = Written::new(self);
        let mut text = String::new();
        while let Some(piece) = written.next() {
            // A piece ends between two values, so never within a character.
            text.push_str(&String::from_utf8_lossy(&piece));
        }
        text
    }
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::Value(QueryValue::Vector(elements), _) => elements.len(),
            Self::Value(QueryValue::Matrix(series), _) => series.len(),
            Self::Value(..) => 1,
            Self::Series(series) => series.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Bytes of memory, roughly.
    fn bytes(&self) -> usize {
        let labels = |labels: &Labels| labels.len() * size_of::<Label>();
        match self {
            Self::Value(QueryValue::Vector(elements), _) => {
                elements.iter().map(|one| size_of_val(one) + labels(&one.labels)).sum()
            }
            Self::Value(QueryValue::Matrix(series), _) => series
                .iter()
                .map(|one| {
                    let points = one.points.capacity() * size_of::<(Timestamp, f64)>();
                    size_of_val(one) + labels(&one.labels) + points
                })
                .sum(),
            Self::Value(QueryValue::Text(text), _) => text.len(),
            Self::Value(QueryValue::Scalar(_), _) => 0,
            Self::Series(series) => series.iter().map(|one| size_of_val(one) + labels(one)).sum(),
            Self::Texts(texts) => size_of_val(&texts[..]),
        }
    }
}

/// What is not written yet.
enum Rest {
    Vector(IntoIter<InstantSample>, Timestamp),
    Matrix(IntoIter<MatrixSeries>, IntoIter<(Timestamp, f64)>),
    Series(IntoIter<Labels>),
    Texts(IntoIter<Text>),
    /// The list is complete, what follows it is not.
    End,
    Done,
}

/// An answer that is being written.
struct Written {
    /// What was written to see whether there is more.
    first: Option<Bytes>,
    json: JsonWriter,
    rest: Rest,
    is_value: bool,
    stats: Option<Vec<u8>>,
    warnings: Vec<String>,
    infos: Vec<String>,
    held_bytes: usize,
}

impl Written {
    fn new(answer: Answer) -> Self {
        let Answer { data, stats, warnings, infos } = answer;
        let held_bytes = data.bytes() + 2 * PIECE_BYTES;
        let mut json = JsonWriter::new(Style::Plain);
        json.begin_object();
        json.key("status");
        json.string("success");
        json.key("data");
        let is_value = matches!(data, Data::Value(..));
        let rest = match data {
            Data::Value(value, at) => begin_value(&mut json, value, at),
            Data::Series(series) => {
                json.begin_array();
                Rest::Series(series.into_iter())
            }
            Data::Texts(texts) => {
                json.begin_array();
                Rest::Texts(texts.into_iter())
            }
        };
        Self { first: None, json, rest, is_value, stats, warnings, infos, held_bytes }
    }

    fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Done)
    }

    /// Writes a little of what is left.
    fn step(&mut self) {
        let json = &mut self.json;
        let is_list_done = match &mut self.rest {
            Rest::Vector(elements, at) => match elements.next() {
                Some(element) => {
                    write_element(json, &element, *at);
                    false
                }
                None => true,
            },
            Rest::Matrix(series, points) => write_some(json, series, points),
            Rest::Series(series) => match series.next() {
                Some(labels) => {
                    write_labels(json, &labels);
                    false
                }
                None => true,
            },
            Rest::Texts(texts) => match texts.next() {
                Some(text) => {
                    json.string(&text);
                    false
                }
                None => true,
            },
            Rest::End => {
                self.write_end();
                self.rest = Rest::Done;
                return;
            }
            Rest::Done => return,
        };
        if is_list_done {
            json.end_array();
            self.rest = Rest::End;
        }
    }

    fn write_end(&mut self) {
        let json = &mut self.json;
        if self.is_value {
            if let Some(stats) = self.stats.take() {
                json.key("stats");
                json.number(String::from_utf8_lossy(&stats));
            }
            json.end_object();
        }
        for (key, kind, texts) in
            [("warnings", "warning", &self.warnings), ("infos", "info", &self.infos)]
        {
            if !texts.is_empty() {
                json.key(key);
                write_annotations(json, kind, texts);
            }
        }
        json.end_object();
    }
}

impl Chunks for Written {
    fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while !self.is_done() && self.json.len() < PIECE_BYTES {
            self.step();
        }
        Some(self.json.take()).filter(|piece| !piece.is_empty()).map(Bytes::from)
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}

/// Writes a value up to where its list begins.
fn begin_value(json: &mut JsonWriter, value: QueryValue, at: Timestamp) -> Rest {
    let kind = match &value {
        QueryValue::Scalar(_) => "scalar",
        QueryValue::Text(_) => "string",
        QueryValue::Vector(_) => "vector",
        QueryValue::Matrix(_) => "matrix",
    };
    json.begin_object();
    json.key("resultType");
    json.string(kind);
    json.key("result");
    json.begin_array();
    match value {
        QueryValue::Scalar(value) => {
            json.number(at.as_millis() as f64 / 1000.0);
            json.plain_text(Plain(value));
            json.end_array();
            Rest::End
        }
        QueryValue::Text(text) => {
            json.number(at.as_millis() as f64 / 1000.0);
            json.string(&text);
            json.end_array();
            Rest::End
        }
        QueryValue::Vector(elements) => Rest::Vector(elements.into_iter(), at),
        QueryValue::Matrix(series) => Rest::Matrix(series.into_iter(), Vec::new().into_iter()),
    }
}

fn write_element(json: &mut JsonWriter, element: &InstantSample, at: Timestamp) {
    json.begin_object();
    json.key("metric");
    write_labels(json, &element.labels);
    json.key("value");
    write_point(json, at, element.value);
    json.end_object();
}

/// Writes some points of the series at hand, or begins the next one; says whether all is written.
fn write_some(
    json: &mut JsonWriter,
    series: &mut IntoIter<MatrixSeries>,
    points: &mut IntoIter<(Timestamp, f64)>,
) -> bool {
    if points.len() > 0 {
        for (at, value) in points.by_ref().take(POINTS_AT_ONCE) {
            write_point(json, at, value);
        }
        if points.len() == 0 {
            json.end_array();
            json.end_object();
        }
        return false;
    }
    let Some(MatrixSeries { labels, points: own }) = series.next() else { return true };
    json.begin_object();
    json.key("metric");
    write_labels(json, &labels);
    json.key("values");
    json.begin_array();
    if own.is_empty() {
        json.end_array();
        json.end_object();
    }
    *points = own.into_iter();
    false
}

fn write_point(json: &mut JsonWriter, at: Timestamp, value: f64) {
    json.begin_array();
    json.number(Seconds(at));
    json.plain_text(Exponential(value));
    json.end_array();
}

pub(super) fn write_labels(json: &mut JsonWriter, labels: &Labels) {
    json.begin_object();
    for label in labels {
        json.key(&label.name);
        json.string(&label.value);
    }
    json.end_object();
}

fn write_annotations(json: &mut JsonWriter, kind: &str, texts: &[String]) {
    json.begin_array();
    for text in texts.iter().take(ANNOTATIONS_MAX) {
        json.string(text);
    }
    if let Some(more) = texts.len().checked_sub(ANNOTATIONS_MAX).filter(|more| *more > 0) {
        json.string(&format!("{more} more {kind} annotations omitted"));
    }
    json.end_array();
}

/// Seconds as Prometheus writes the times of points: whole, or with three digits.
struct Seconds(Timestamp);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (size, sign) = (millis.unsigned_abs(), if millis < 0 { "-" } else { "" });
        match size % 1000 {
            0 => write!(f, "{sign}{}", size / 1000),
            rest => write!(f, "{sign}{}.{rest:03}", size / 1000),
        }
    }
}

/// A value as Prometheus writes those of points: very large and very small ones with an exponent of
/// at least two digits.
pub(super) struct Exponential(pub f64);

impl fmt::Display for Exponential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size == 0.0 || !size.is_finite() || (1e-6..1e21).contains(&size) {
            return Plain(self.0).fmt(f);
        }
        let text = format!("{:e}", self.0);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        match exponent.strip_prefix('-') {
            Some(exponent) => write!(f, "{digits}e-{exponent:0>2}"),
            None => write!(f, "{digits}e+{exponent:0>2}"),
        }
    }
}

/// A value as Prometheus writes scalars: never with an exponent.
pub(super) struct Plain(pub f64);

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Below it every integer is one float, and printing it is cheap.
        const INT_MAX: f64 = 1e15;
        let value = self.0;
        if value.is_nan() {
            f.write_str("NaN")
        } else if value.is_infinite() {
            f.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
        } else if value.fract() == 0.0 && value != 0.0 && value.abs() < INT_MAX {
            (value as i64).fmt(f)
        } else {
            value.fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| (Text::from(*name), *value)).collect()
    }

    fn text(answer: Answer) -> String {
        answer.into_text()
    }

    #[test]
    fn values_and_times_are_written_as_prometheus_writes_them() {
        for (value, of_point, of_scalar) in [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (1.0, "1", "1"),
            (-17.0, "-17", "-17"),
            (0.1, "0.1", "0.1"),
            (1e-6, "0.000001", "0.000001"),
            (1e-7, "1e-07", "0.0000001"),
            (-1.5e-7, "-1.5e-07", "-0.00000015"),
            (1e15, "1000000000000000", "1000000000000000"),
            (1e20, "100000000000000000000", "100000000000000000000"),
            (1e21, "1e+21", "1000000000000000000000"),
            (-2.5e130, "-2.5e+130", ""),
            (f64::NAN, "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
        ] {
            assert_eq!(Exponential(value).to_string(), of_point);
            if !of_scalar.is_empty() {
                assert_eq!(Plain(value).to_string(), of_scalar);
            }
        }
        for (millis, text) in
            [(0, "0"), (1_100, "1.100"), (1_001, "1.001"), (-1_500, "-1.500"), (-5, "-0.005")]
        {
            assert_eq!(Seconds(Timestamp::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn each_type_of_result_has_its_shape() {
        let at = Timestamp::from_millis(1_100);
        let up = labels(&[("__name__", "up"), ("job", "a<b")]);
        for (value, expected) in [
            (QueryValue::Scalar(1e-7), r#""scalar","result":[1.1,"0.0000001"]"#),
            (QueryValue::Text("a\"b".to_owned()), r#""string","result":[1.1,"a\"b"]"#),
            (QueryValue::Vector(Vec::new()), r#""vector","result":[]"#),
            (
                QueryValue::Vector(vec![InstantSample { labels: up.clone(), value: 1e-7 }]),
                concat!(
                    r#""vector","result":[{"metric":{"__name__":"up","job":"a\u003cb"},"#,
                    r#""value":[1.100,"1e-07"]}]"#
                ),
            ),
            (
                QueryValue::Matrix(vec![
                    MatrixSeries { labels: Labels::new(), points: vec![(at, 1.0), (at, 2.0)] },
                    MatrixSeries { labels: up, points: vec![(Timestamp::EPOCH, f64::NAN)] },
                ]),
                concat!(
                    r#""matrix","result":[{"metric":{},"values":[[1.100,"1"],[1.100,"2"]]},"#,
                    r#"{"metric":{"__name__":"up","job":"a\u003cb"},"values":[[0,"NaN"]]}]"#
                ),
            ),
        ] {
            let expected = format!(r#"{{"status":"success","data":{{"resultType":{expected}}}}}"#);
            assert_eq!(text(value_of(value, at)), expected);
        }
    }

    fn value_of(value: QueryValue, at: Timestamp) -> Answer {
        Answer::new(Data::Value(value, at))
    }

    #[test]
    fn annotations_and_stats_follow_the_result() {
        let mut answer = value_of(QueryValue::Vector(Vec::new()), Timestamp::EPOCH);
        answer.stats = Some(b"{\"samples\":{}}".to_vec());
        answer.warnings = (0..12).map(|number| format!("w{number}")).collect();
        answer.infos = vec!["i".to_owned()];
        let text = text(answer);
        let ending = concat!(
            r#""stats":{"samples":{}}},"warnings":["w0","w1","w2","w3","w4","w5","w6","w7","#,
            r#""w8","w9","2 more warning annotations omitted"],"infos":["i"]}"#
        );
        assert!(text.ends_with(ending), "{text}");
    }

    #[test]
    fn a_limit_cuts_and_says_so() {
        let texts = || Answer::new(Data::Texts(vec![Text::from("a"), Text::from("b")]));
        let cut =
            r#"{"status":"success","data":["a"],"warnings":["results truncated due to limit"]}"#;
        assert_eq!(text(texts().limited(Some(1))), cut);
        let whole = r#"{"status":"success","data":["a","b"]}"#;
        assert_eq!(text(texts().limited(Some(2))), whole);
        assert_eq!(text(texts().limited(None)), whole);
    }

    #[test]
    fn a_large_answer_is_made_piece_by_piece() {
        let series = |number: i64| MatrixSeries {
            labels: labels(&[("number", &number.to_string())]),
            points: (0..1_000).map(|at| (Timestamp::from_millis(at), number as f64)).collect(),
        };
        let matrix = QueryValue::Matrix((0..100).map(series).collect());
        let mut written = Written::new(value_of(matrix, Timestamp::EPOCH));
        assert!(written.held_bytes() > 100_000 * 16);
        let (mut pieces, mut whole) = (0, Vec::new());
        while let Some(piece) = written.next() {
            assert!(piece.len() < PIECE_BYTES + 16 * POINTS_AT_ONCE + 1_024, "{}", piece.len());
            pieces += 1;
            whole.extend_from_slice(&piece);
        }
        assert!(pieces > 10, "{pieces}");
        let json: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        let result = json["data"]["result"].as_array().unwrap();
        assert_eq!(result.len(), 100);
        assert!(result.iter().all(|one| one["values"].as_array().unwrap().len() == 1_000));
    }
}
