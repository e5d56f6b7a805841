//! [`Exposition`]: samples as Prometheus' text formats write them, read line by line and in place:
//! what a target answers, and files that are imported.
//!
//! Both text formats are read: that of Prometheus (0.0.4, and 1.0.0 with names in quotes) and
//! OpenMetrics 1.0. A sample is given with its series as it stands in the text, name and labels in
//! one piece, since that is how a series that was scraped before is found again; only of a new one
//! are the labels taken apart ([`SeriesText::parse`]).

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::metadata::MetricType;
use crate::shown::Shown;

/// The NaN of Prometheus, so that a target cannot send the bits that mean a series has ended.
const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

/// The format of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus; times in milliseconds.
    Text,
    /// OpenMetrics; times in seconds, and an end that is marked.
    OpenMetrics,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A sample.
    Sample(SampleLine<'a>),
    /// The type of a family.
    Type(Cow<'a, str>, MetricType),
    /// What a family is, in words.
    Help(Cow<'a, str>, Cow<'a, str>),
    /// The unit of a family.
    Unit(Cow<'a, str>, &'a str),
}

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleLine<'a> {
    /// Its series.
    pub series: SeriesText<'a>,
    /// Its value; a NaN is always the one of Prometheus.
    pub value: f64,
    /// Its time in milliseconds since the epoch, if the target says one.
    pub at_ms: Option<i64>,
}

/// The name and the labels of a series, as they stand in an exposition: `up{job="x"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesText<'a>(&'a str);

/// Why an exposition cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ExpositionError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

/// The lines of an exposition that are not read yet.
#[derive(Clone, Debug)]
pub struct Exposition<'a> {
    rest: &'a str,
    format: Format,
    line: usize,
    has_ended: bool,
}

impl<'a> Exposition<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// It is not UTF-8; the line is told.
    pub fn new(bytes: &'a [u8], format: Format) -> Result<Self, ExpositionError> {
        let rest = std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            ExpositionError { line, what: "it is not UTF-8".to_owned() }
        })?;
        Ok(Self { rest, format, line: 0, has_ended: false })
    }

    /// Number of the line that was read last.
    pub fn line(&self) -> usize {
        self.line
    }

    /// What the next line says, comments left out; `None` at the end.
    ///
    /// # Errors
    /// The line makes no sense, or the end comes where it must not. Who does without that line asks
    /// again: the next one follows.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, ExpositionError> {
        while !self.rest.is_empty() {
            self.line += 1;
            let (line, rest) = match memchr(b'\n', self.rest.as_bytes()) {
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, ""),
            };
            self.rest = rest;
            match self.entry(line) {
                Ok(None) => {}
                Ok(entry) => return Ok(entry),
                Err(what) => return Err(ExpositionError { line: self.line, what }),
            }
        }
        if self.format == Format::OpenMetrics && !self.has_ended {
            self.has_ended = true;
            let what = "the text ends without # EOF: it is not whole".to_owned();
            return Err(ExpositionError { line: self.line + 1, what });
        }
        Ok(None)
    }

    fn entry(&mut self, line: &'a str) -> Result<Option<Entry<'a>>, String> {
        if self.has_ended {
            return Err("there is something behind # EOF".to_owned());
        }
        let is_strict = self.format == Format::OpenMetrics;
        let trimmed = if is_strict { line } else { line.trim_start_matches([' ', '\t']) };
        if let Some(comment) = trimmed.strip_prefix('#') {
            if is_strict && comment == " EOF" {
                self.has_ended = true;
                return Ok(None);
            }
            return comment_entry(comment, self.format);
        }
        if trimmed.is_empty() {
            return if is_strict { Err("it is empty".to_owned()) } else { Ok(None) };
        }
        sample(trimmed, self.format).map(|sample| Some(Entry::Sample(sample)))
    }
}

/// A TYPE, HELP or UNIT, given what follows the `#`; any other comment says nothing.
pub(crate) fn comment_entry(comment: &str, format: Format) -> Result<Option<Entry<'_>>, String> {
    let mut cursor = Cursor { rest: comment };
    let word = cursor.word();
    let is_unit = word == "UNIT" && format == Format::OpenMetrics;
    if !is_unit && !matches!(word, "TYPE" | "HELP") {
        return match format {
            Format::Text => Ok(None),
            Format::OpenMetrics => Err(format!("it begins with {}", Shown(comment))),
        };
    }
    cursor.skip_blanks();
    let family = match cursor.rest.starts_with('"') {
        true => cursor.quoted()?,
        false => Cow::Borrowed(cursor.word()),
    };
    if family.is_empty() {
        return Err(format!("{word} of no family"));
    }
    cursor.skip_blanks();
    let said = cursor.rest;
    Ok(Some(match word {
        "TYPE" => {
            let word = said.trim_end_matches([' ', '\t']);
            let metric_type = MetricType::from_word(word)
                .ok_or_else(|| format!("there is no type {}", Shown(word)))?;
            Entry::Type(family, metric_type)
        }
        "HELP" => Entry::Help(family, unescaped(said, format)),
        _ => Entry::Unit(family, said.trim_end_matches([' ', '\t'])),
    }))
}

/// A help text without escapes, of which OpenMetrics has one more.
fn unescaped(text: &str, format: Format) -> Cow<'_, str> {
    if memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            plain.push(char);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('\\') => plain.push('\\'),
            Some('"') if format == Format::OpenMetrics => plain.push('"'),
            other => plain.extend(['\\'].into_iter().chain(other)),
        }
    }
    Cow::Owned(plain)
}

/// A sample whose parts are not read yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawSample<'a> {
    pub(crate) series: SeriesText<'a>,
    /// The value; never empty.
    pub(crate) value: &'a str,
    /// The time; empty where there is none.
    pub(crate) time: &'a str,
    /// What follows; an exemplar in OpenMetrics.
    pub(crate) behind: &'a str,
}

impl<'a> RawSample<'a> {
    /// Takes a line apart that is no comment and begins with no blank.
    pub(crate) fn of(line: &'a str) -> Result<Self, String> {
        let (series, rest) = line.split_at(series_end(line)?);
        let mut cursor = Cursor { rest };
        let is_apart = series.ends_with('}') || rest.starts_with([' ', '\t']);
        let value = if is_apart { cursor.word() } else { "" };
        if value.is_empty() {
            return Err(format!("there is no value behind {}", Shown(series)));
        }
        cursor.skip_blanks();
        let has_time = !cursor.rest.starts_with('#');
        let time = if has_time { cursor.word() } else { "" };
        cursor.skip_blanks();
        Ok(Self { series: SeriesText(series), value, time, behind: cursor.rest })
    }

    /// That something is there which should not be.
    pub(crate) fn too_much(self) -> String {
        format!("there is {} behind value and time", Shown(self.behind))
    }
}

fn sample(line: &str, format: Format) -> Result<SampleLine<'_>, String> {
    let raw = RawSample::of(line)?;
    let value = number(raw.value)
        .ok_or_else(|| format!("the value {} is not a number", Shown(raw.value)))?;
    let at_ms = (!raw.time.is_empty()).then(|| time_ms(raw.time, format)).transpose()?;
    if raw.behind.starts_with('#') && format == Format::OpenMetrics {
        check_exemplar(raw.behind)?;
    } else if !raw.behind.is_empty() {
        return Err(raw.too_much());
    }
    Ok(SampleLine { series: raw.series, value, at_ms })
}

/// Where name and labels end.
fn series_end(line: &str) -> Result<usize, String> {
    let bytes = line.as_bytes();
    let is_name = |byte: &u8| !matches!(byte, b'{' | b' ' | b'\t' | b'"' | b'}' | b'#');
    let name_end = bytes.iter().position(|byte| !is_name(byte)).unwrap_or(bytes.len());
    let blanks = bytes[name_end..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if bytes.get(name_end + blanks) != Some(&b'{') {
        return match name_end {
            0 => Err(format!("there is {} where a name should be", Shown(line))),
            end => Ok(end),
        };
    }
    let mut at = name_end + blanks + 1;
    loop {
        let Some(found) = memchr2(b'"', b'}', &bytes[at..]) else {
            return Err("the braces are not closed".to_owned());
        };
        at += found + 1;
        if bytes[at - 1] == b'}' {
            return Ok(at);
        }
        at = quote_end(bytes, at).ok_or("a quote is not closed")?;
    }
}

/// The place behind the quote that closes what begins at `at`.
fn quote_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// A value as Go reads one, but for its hexadecimal numbers and underscores, which Prometheus refuses.
fn number(word: &str) -> Option<f64> {
    let bytes = word.as_bytes();
    // Up to 2^53 whole numbers are exact, and most values are small ones.
    if bytes.len() <= 15 && bytes.iter().all(u8::is_ascii_digit) {
        let int = bytes.iter().fold(0_u64, |int, byte| int * 10 + u64::from(byte - b'0'));
        return (!bytes.is_empty()).then_some(int as f64);
    }
    let value: f64 = word.parse().ok()?;
    Some(if value.is_nan() { f64::from_bits(NORMAL_NAN) } else { value })
}

fn time_ms(word: &str, format: Format) -> Result<i64, String> {
    match format {
        Format::Text => word.parse().map_err(|_| {
            format!("the time {} is not a number of milliseconds since the epoch", Shown(word))
        }),
        Format::OpenMetrics => {
            let seconds = number(word).filter(|seconds| seconds.is_finite());
            let seconds = seconds.ok_or_else(|| {
                format!("the time {} is not a number of seconds since the epoch", Shown(word))
            })?;
            Ok((seconds * 1000.0) as i64)
        }
    }
}

/// Exemplars are not stored, but one that cannot be read spoils the text as it does for Prometheus.
fn check_exemplar(text: &str) -> Result<(), String> {
    let broken = || format!("the exemplar {} cannot be read", Shown(text));
    let rest = text.strip_prefix('#').map(|rest| rest.trim_start_matches([' ', '\t']));
    let labels = rest.filter(|rest| rest.starts_with('{')).ok_or_else(broken)?;
    let (series, rest) = labels.split_at(series_end(labels)?);
    SeriesText(series).for_each_label(|_, _| Ok(()))?;
    let mut cursor = Cursor { rest };
    let (value, time) = (cursor.word(), cursor.word());
    let is_sound = number(value).is_some() && (time.is_empty() || number(time).is_some());
    cursor.skip_blanks();
    if is_sound && cursor.rest.is_empty() { Ok(()) } else { Err(broken()) }
}

/// The name of a series, and its labels in the order of the text.
pub type SeriesParts<'a> = (Cow<'a, str>, Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> SeriesText<'a> {
    /// The text: the same for the same series of the same target, as a rule.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The name as it stands before the labels; empty when it stands among them.
    pub fn name(self) -> &'a str {
        let end = memchr2(b'{', b' ', self.0.as_bytes()).unwrap_or(self.0.len());
        &self.0[..end]
    }

    /// The name and the labels.
    ///
    /// # Errors
    /// What is wrong: a clause.
    pub fn parse(self) -> Result<SeriesParts<'a>, String> {
        let mut labels = Vec::new();
        let mut name = self.for_each_label(|name, value| {
            labels.push((name, value));
            Ok(())
        })?;
        let name = name.take().ok_or("the series has no name")?;
        Ok((name, labels))
    }

    /// Shows each label to `visit`; gives the name of the metric, if there is one.
    fn for_each_label(
        self,
        mut visit: impl FnMut(Cow<'a, str>, Cow<'a, str>) -> Result<(), String>,
    ) -> Result<Option<Cow<'a, str>>, String> {
        let open = memchr(b'{', self.0.as_bytes()).unwrap_or(self.0.len());
        let bare = self.0[..open].trim_end_matches([' ', '\t']);
        if !bare.is_empty() && !is_metric_name(bare) {
            return Err(format!("{} is not a name of a metric", Shown(bare)));
        }
        let mut name = (!bare.is_empty()).then_some(Cow::Borrowed(bare));
        if open == self.0.len() {
            return Ok(name);
        }
        let mut cursor = Cursor { rest: &self.0[open + 1..] };
        while !cursor.sign('}') {
            let is_quoted = cursor.rest.starts_with('"');
            let label = if is_quoted { cursor.quoted()? } else { Cow::Borrowed(cursor.name()) };
            if cursor.sign('=') {
                if label.is_empty() || !is_quoted && !is_label_name(&label) {
                    return Err(format!("{} is not a name of a label", Shown(&label)));
                }
                cursor.skip_blanks();
                visit(label, cursor.quoted()?)?;
            } else if is_quoted && name.is_none() && !label.is_empty() {
                name = Some(label);
            } else {
                return Err(format!("there is no = behind the label {}", Shown(&label)));
            }
            if !cursor.sign(',') && !cursor.rest.starts_with('}') {
                let rest = Shown(cursor.rest);
                return Err(format!("there is {rest} where a comma or a brace should be"));
            }
        }
        Ok(name)
    }
}

/// Whether a metric may have that name without quotes.
pub(crate) fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_' || byte == b':')
}

/// Whether a label may have that name without quotes.
pub(crate) fn is_label_name(name: &str) -> bool {
    is_name(name, |byte| byte == b'_')
}

fn is_name(name: &str, is_sign: fn(u8) -> bool) -> bool {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || is_sign(byte);
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(belongs)
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
        let end = memchr2(b' ', b'\t', self.rest.as_bytes()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// Takes a sign and the blanks around it, if it comes next.
    fn sign(&mut self, sign: char) -> bool {
        self.skip_blanks();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        if rest.is_some() {
            self.skip_blanks();
        }
        rest.is_some()
    }

    /// Takes what can be a name without quotes, which may be nothing.
    fn name(&mut self) -> &'a str {
        let end = self.rest.find([' ', '\t', '{', '}', '=', ',', '"']).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name
    }

    /// Takes a text in quotes.
    fn quoted(&mut self) -> Result<Cow<'a, str>, String> {
        let Some(inside) = self.rest.strip_prefix('"') else {
            return Err(format!("there is {} where a text in quotes should be", Shown(self.rest)));
        };
        let end = quote_end(inside.as_bytes(), 0).ok_or("a quote is not closed")?;
        let text = &inside[..end - 1];
        self.rest = &inside[end..];
        // The escapes of texts in quotes are those of OpenMetrics in both formats.
        Ok(unescaped(text, Format::OpenMetrics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples as text, or the error.
    fn read(text: &str, format: Format) -> Result<Vec<String>, String> {
        let mut lines = Exposition::new(text.as_bytes(), format).map_err(|e| e.to_string())?;
        let mut read = Vec::new();
        while let Some(entry) = lines.next_entry().map_err(|error| error.to_string())? {
            read.push(match entry {
                Entry::Sample(sample) => {
                    let (name, labels) = sample
                        .series
                        .parse()
                        .map_err(|what| ExpositionError { line: lines.line(), what }.to_string())?;
                    let labels: Vec<String> =
                        labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
                    let at = sample.at_ms.map_or(String::new(), |at| format!(" @{at}"));
                    format!("{name}{{{}}} {}{at}", labels.join(","), sample.value)
                }
                Entry::Type(family, metric_type) => format!("{family} is a {metric_type}"),
                Entry::Help(family, help) => format!("{family}: {help:?}"),
                Entry::Unit(family, unit) => format!("{family} in {unit}"),
            });
        }
        Ok(read)
    }

    #[test]
    fn the_text_format_is_read_as_prometheus_reads_it() {
        let text = "\
# HELP go_goroutines Number of \\\\ \\n goroutines.
# TYPE go_goroutines gauge
  # a comment
go_goroutines 33 123123

wind_speed{A=\"2\",c=\"3\"} 12345
nohelp1{a=\"1\", b = \"\\\"x\\n\\\\y}\" , } -1e-3\t-17
{\"my.metric\",\"la.bel\"=\"é\"} +Inf
metric {a=\"\"} NaN
some:aggregate:rate5m{}\t0x
";
        let mut expected = vec![
            "go_goroutines: \"Number of \\\\ \\n goroutines.\"".to_owned(),
            "go_goroutines is a gauge".to_owned(),
            "go_goroutines{} 33 @123123".to_owned(),
            "wind_speed{A=\"2\",c=\"3\"} 12345".to_owned(),
            "nohelp1{a=\"1\",b=\"\\\"x\\n\\\\y}\"} -0.001 @-17".to_owned(),
            "my.metric{la.bel=\"é\"} inf".to_owned(),
            "metric{a=\"\"} NaN".to_owned(),
        ];
        let error = read(text, Format::Text).unwrap_err();
        assert_eq!(error, "line 10: the value \"0x\" is not a number");
        let text = text.replace("0x\n", "0");
        expected.push("some:aggregate:rate5m{} 0".to_owned());
        assert_eq!(read(&text, Format::Text), Ok(expected));
    }

    #[test]
    fn openmetrics_has_seconds_units_exemplars_and_a_marked_end() {
        let text = "\
# TYPE foo_seconds counter
# HELP foo_seconds help with \\\"quotes\\\"
# UNIT foo_seconds seconds
foo_seconds_total{a=\"b\"} 17.0 1520879607.789 # {id=\"counter-test\"} 5 1520879606.1
foo_seconds_created{a=\"b\"} 1520872607.123
bucket{le=\"+Inf\"} 4 # {} 0.5
# EOF
";
        let expected = [
            "foo_seconds is a counter",
            "foo_seconds: \"help with \\\"quotes\\\"\"",
            "foo_seconds in seconds",
            "foo_seconds_total{a=\"b\"} 17 @1520879607789",
            "foo_seconds_created{a=\"b\"} 1520872607.123",
            "bucket{le=\"+Inf\"} 4",
        ];
        assert_eq!(read(text, Format::OpenMetrics).unwrap(), expected);
        assert_eq!(read(text.trim_end(), Format::OpenMetrics).unwrap(), expected);
        for (text, error) in [
            ("a 1\n", "line 2: the text ends without # EOF: it is not whole"),
            ("a 1\n\n# EOF\n", "line 2: it is empty"),
            ("# EOF\na 1\n", "line 2: there is something behind # EOF"),
            ("# EOF\n\n", "line 2: there is something behind # EOF"),
            ("a 1 # {x} 5\n# EOF\n", "line 1: there is no = behind the label \"x\""),
            ("a 1 # 5\n# EOF\n", "line 1: the exemplar \"# 5\" cannot be read"),
            (
                "a 1 NaN\n# EOF\n",
                "line 1: the time \"NaN\" is not a number of seconds since the epoch",
            ),
            ("# a comment\n# EOF\n", "line 1: it begins with \" a comment\""),
        ] {
            assert_eq!(read(text, Format::OpenMetrics), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        for (line, error) in [
            ("a", "there is no value behind \"a\""),
            ("a{b=\"c\"}", "there is no value behind \"a{b=\\\"c\\\"}\""),
            ("a{b=\"c\" 1", "the braces are not closed"),
            ("a{b=\"c} 1", "a quote is not closed"),
            ("a{b=\"c\\\"} 1", "a quote is not closed"),
            ("a{b=c} 1", "there is \"c}\" where a text in quotes should be"),
            ("a{1b=\"c\"} 1", "\"1b\" is not a name of a label"),
            ("a{b=\"c\"d=\"e\"} 1", "there is \"d=\\\"e\\\"}\" where a comma or a brace should be"),
            ("a-b 1", "\"a-b\" is not a name of a metric"),
            ("{b=\"c\"} 1", "the series has no name"),
            ("{\"a\",\"b\"} 1", "there is no = behind the label \"b\""),
            ("= 1", "\"=\" is not a name of a metric"),
            ("\"a\" 1", "there is \"\\\"a\\\" 1\" where a name should be"),
            ("a 1 2 3", "there is \"3\" behind value and time"),
            ("a 1 1.5", "the time \"1.5\" is not a number of milliseconds since the epoch"),
            ("a 1_000", "the value \"1_000\" is not a number"),
            ("# TYPE a curve", "there is no type \"curve\""),
            ("# TYPE", "TYPE of no family"),
        ] {
            let text = format!("good 1\n{line}\n");
            assert_eq!(read(&text, Format::Text), Err(format!("line 2: {error}")), "{line}");
        }
        let lines = Exposition::new(b"a 1\n\xff 1\n", Format::Text);
        assert_eq!(lines.unwrap_err().to_string(), "line 2: it is not UTF-8");
    }

    #[test]
    fn no_target_can_send_the_marker_of_a_series_that_ended() {
        for word in ["NaN", "nan", "-NaN"] {
            assert_eq!(number(word).unwrap().to_bits(), NORMAL_NAN, "{word}");
        }
        assert_eq!(number("9007199254740993"), Some(9_007_199_254_740_992.0));
        assert_eq!(number("999999999999999"), Some(999_999_999_999_999.0));
        assert_eq!((number(""), number("1_0"), number("0x1p3")), (None, None, None));
    }

    #[test]
    fn the_series_is_the_text_before_the_value() {
        let mut lines = Exposition::new(b"up{a=\"}\"} 1\n", Format::Text).unwrap();
        let Some(Entry::Sample(sample)) = lines.next_entry().unwrap() else { panic!("no sample") };
        assert_eq!(sample.series.as_str(), "up{a=\"}\"}");
    }
}
