//! Parameters of requests, read as the original read them, with its error texts.

use std::time::Duration;

use heapster_core::{Labels, TimeRange, Timestamp, metric};
use heapster_query::historical::Aggregation;

use super::error::ApiError;
use super::go_time::GoTime;
use crate::http::Query;

/// A moment in a request; `None` when the parameter is absent or empty.
pub(crate) fn start(query: &Query) -> Result<Option<Timestamp>, ApiError> {
    Ok(moment(query.first("start"))?.map(GoTime::ceil))
}

/// As [`start`], but rounded down to the millisecond, so that the range stays inside what was asked.
pub(crate) fn end(query: &Query) -> Result<Option<Timestamp>, ApiError> {
    Ok(moment(query.first("end"))?.map(GoTime::floor))
}

/// The range of a historical request, whose start must be given.
pub(crate) fn required_range(query: &Query, now: Timestamp) -> Result<TimeRange, ApiError> {
    // Go's zero time means "no time", also when it is spelled out.
    let start = start(query)?.filter(|start| *start != Timestamp::MIN).ok_or_else(|| {
        ApiError::BadRequest("no start time (or a start time of zero) provided".to_owned())
    })?;
    Ok(TimeRange::new(start, end(query)?.unwrap_or(now)))
}

fn moment(text: &str) -> Result<Option<GoTime>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    GoTime::parse(text).map(Some).map_err(|error| {
        ApiError::BadRequest(format!("timestamp argument cannot be parsed: {error}"))
    })
}

/// The labels of a labelled lookup; `None` when there are none. Of two with one name the last wins.
pub(crate) fn labels(query: &Query) -> Result<Option<Labels>, ApiError> {
    let text = query.first("labels");
    if text.is_empty() {
        return Ok(None);
    }
    let pairs: Result<Labels, ApiError> = text
        .split(',')
        .map(|pair| match pair.split_once(':') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name, value)),
            _ => Err(ApiError::BadRequest(format!("invalid label pair {}", quoted(pair)))),
        })
        .collect();
    pairs.map(Some)
}

/// The bucket of an aggregation; `None` is one bucket over the whole range.
pub(crate) fn bucket(query: &Query) -> Result<Option<Duration>, ApiError> {
    let text = query.first("bucket");
    if text.is_empty() {
        return Ok(None);
    }
    let refuse = |why: &str| {
        ApiError::BadRequest(format!("unable to parse bucket size: {} {why}", quoted(text)))
    };
    let mut chars = text.chars();
    let Some(unit) = chars.next_back() else { return Ok(None) };
    if chars.as_str().is_empty() {
        return Err(refuse("is too short to be a duration"));
    }
    // `ms` counts only after at least one other character, as in the original.
    let (number, unit_ms) = match unit {
        's' => match chars.as_str().strip_suffix('m') {
            Some(number) if !number.is_empty() => (number, 1),
            _ => (chars.as_str(), 1_000),
        },
        'm' => (chars.as_str(), 60_000),
        'h' => (chars.as_str(), 3_600_000),
        'd' => (chars.as_str(), 86_400_000),
        _ => return Err(refuse("has no known duration suffix")),
    };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let go_error = |why: &str| {
        ApiError::BadRequest(format!("strconv.ParseUint: parsing {}: {why}", quoted(number)))
    };
    if !is_number {
        return Err(go_error("invalid syntax"));
    }
    let number: u64 = number.parse().map_err(|_| go_error("value out of range"))?;
    // Nanoseconds must fit Go's durations, in which the answer gives the size back.
    let size_ms = number.checked_mul(unit_ms).filter(|ms| *ms <= i64::MAX as u64 / 1_000_000);
    let size = size_ms.map(Duration::from_millis).ok_or_else(|| refuse("is too long"))?;
    Ok(Some(size).filter(|size| !size.is_zero()))
}

/// The aggregations of a path, in its order, each once: a path has room for thousands.
pub(crate) fn aggregations(text: &str) -> Result<Vec<Aggregation>, ApiError> {
    let mut aggregations = Vec::new();
    for name in text.split(',') {
        let aggregation = Aggregation::from_name(name)
            .ok_or_else(|| ApiError::BadRequest(format!("Unknown aggregation {}", quoted(name))))?;
        if !aggregations.contains(&aggregation) {
            aggregations.push(aggregation);
        }
    }
    Ok(aggregations)
}

/// The metric that a name in a path means; some old names mean another one.
pub(crate) fn metric_name(name: &str) -> &str {
    match name {
        "cpu-usage" => metric::CPU_USAGE_RATE,
        "cpu-limit" => metric::CPU_LIMIT,
        "memory-limit" => metric::MEMORY_LIMIT,
        "memory-usage" => metric::MEMORY_USAGE,
        "memory-working" => metric::MEMORY_WORKING_SET,
        name => name,
    }
}

/// A text of the request in quotes, shortened; it is the caller's and could be anything.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::super::go_time::LAYOUT;
    use super::*;

    fn message<T: fmt::Debug>(result: Result<T, ApiError>) -> String {
        match result {
            Err(ApiError::BadRequest(message)) => message,
            other => panic!("expected a bad request, got {other:?}"),
        }
    }

    fn query(text: &str) -> Query {
        Query::parse(text)
    }

    #[test]
    fn times_are_rfc_3339_with_a_zone() {
        for (text, expected) in [
            ("2018-07-26T12:00:00Z", "2018-07-26T12:00:00Z"),
            ("2018-07-26T12:00:00.5Z", "2018-07-26T12:00:00.5Z"),
            ("2018-07-26T14:30:00%2B02:30", "2018-07-26T12:00:00Z"),
            ("2018-07-26T02:00:00-10:00", "2018-07-26T12:00:00Z"),
            ("2020-02-29T1:00:00Z", "2020-02-29T01:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            let start = start(&query(&format!("start={text}"))).unwrap().unwrap();
            assert_eq!(start.to_string(), expected);
            if text.len() == 20 && !text.contains("T1:") {
                assert_eq!(Timestamp::parse_rfc3339(text).unwrap(), start);
            }
        }
        assert_eq!(start(&query("start=")).unwrap(), None);
        assert_eq!(end(&query("")).unwrap(), None);
    }

    #[test]
    fn a_bad_time_is_reported_in_gos_words() {
        let as_layout = |text: &str, found: &str, wanted: &str| {
            format!(
                "timestamp argument cannot be parsed: parsing time {text:?} as {LAYOUT:?}: \
                 cannot parse {found:?} as {wanted:?}"
            )
        };
        for (text, expected) in [
            ("yesterday", as_layout("yesterday", "yesterday", "2006")),
            ("42", as_layout("42", "42", "2006")),
            ("2018-07-26", as_layout("2018-07-26", "", "T")),
            (
                "2018-07-26T12:00:00+02:00",
                as_layout("2018-07-26T12:00:00 02:00", " 02:00", "Z07:00"),
            ),
        ] {
            assert_eq!(message(start(&query(&format!("start={text}")))), expected);
        }
        for (text, expected) in [
            ("2018-13-26T12:00:00Z", "month out of range"),
            ("2018-02-29T12:00:00Z", "day out of range"),
            ("2018-07-26T24:00:00Z", "hour out of range"),
            ("2018-07-26T12:00:00Zx", "extra text: x"),
        ] {
            let message = message(end(&query(&format!("end={text}"))));
            assert!(message.ends_with(&format!("parsing time {text:?}: {expected}")), "{message}");
        }
    }

    #[test]
    fn a_range_never_reaches_beyond_what_was_asked() {
        let both = query("start=2018-07-26T12:00:00.0000001Z&end=2018-07-26T12:00:00.0019Z");
        assert_eq!(start(&both).unwrap().unwrap().to_string(), "2018-07-26T12:00:00.001Z");
        assert_eq!(end(&both).unwrap().unwrap().to_string(), "2018-07-26T12:00:00.001Z");
    }

    #[test]
    fn labels_are_pairs_with_a_colon() {
        let parsed = labels(&query("labels=k1:v1,k2:v2.3:4%2B5,k1:last")).unwrap().unwrap();
        assert_eq!(parsed, Labels::from_iter([("k1", "last"), ("k2", "v2.3:4+5")]));
        assert_eq!(labels(&query("labels=")).unwrap(), None);
        for (text, pair) in [("broken", "broken"), ("a:b,c", "c"), (":v", ":v"), ("k:", "k:")] {
            let message = message(labels(&query(&format!("labels={text}"))));
            assert_eq!(message, format!("invalid label pair {pair:?}"));
        }
    }

    #[test]
    fn buckets_have_a_number_and_a_unit() {
        for (text, millis) in [
            ("5ms", 5),
            ("10s", 10_000),
            ("15m", 900_000),
            ("20h", 72_000_000),
            ("25d", 2_160_000_000),
        ] {
            let size = bucket(&query(&format!("bucket={text}"))).unwrap();
            assert_eq!(size, Some(Duration::from_millis(millis)));
        }
        assert_eq!(bucket(&query("bucket=")).unwrap(), None);
        assert_eq!(bucket(&query("bucket=0s")).unwrap(), None);
        for (text, expected) in [
            ("1", "unable to parse bucket size: \"1\" is too short to be a duration"),
            ("1g", "unable to parse bucket size: \"1g\" has no known duration suffix"),
            ("10gs", "strconv.ParseUint: parsing \"10g\": invalid syntax"),
            ("abch", "strconv.ParseUint: parsing \"abc\": invalid syntax"),
            ("ms", "strconv.ParseUint: parsing \"m\": invalid syntax"),
            ("-1s", "strconv.ParseUint: parsing \"-1\": invalid syntax"),
            (
                "99999999999999999999s",
                "strconv.ParseUint: parsing \"99999999999999999999\": value out of range",
            ),
            ("999999999999d", "unable to parse bucket size: \"999999999999d\" is too long"),
        ] {
            assert_eq!(message(bucket(&query(&format!("bucket={text}")))), expected);
        }
    }

    #[test]
    fn aggregations_are_taken_once_each_in_their_order() {
        let parsed = aggregations("max,count,max,95-perc,count").unwrap();
        let expected = [Aggregation::Max, Aggregation::Count, Aggregation::Percentile(95)];
        assert_eq!(parsed, expected);
        assert_eq!(message(aggregations("max,mean")), "Unknown aggregation \"mean\"");
    }

    #[test]
    fn a_historical_request_needs_a_start() {
        let now = Timestamp::from_millis(5);
        for text in ["", "start=", "start=0001-01-01T00:00:00Z"] {
            let message = message(required_range(&query(text), now));
            assert_eq!(message, "no start time (or a start time of zero) provided");
        }
        let range = required_range(&query("start=1970-01-01T00:00:00Z"), now).unwrap();
        assert_eq!(range, TimeRange::new(Timestamp::EPOCH, now));
    }
}
