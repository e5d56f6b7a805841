//! [`Form`]: parameters of requests, read as Prometheus reads them, with its error texts.

use std::time::Duration;

use heapster_core::{MatchOp, Matcher, TimeRange, Timestamp};
use heapster_query::promql::{self, PATTERNS_MAX};
use http::Method;

use super::error::Failure;
use crate::http::{Query, Request};

/// The earliest and the latest time as clients of Prometheus write them.
const EARLIEST: &str = "-292273086-05-16T16:47:06Z";
const LATEST: &str = "292277025-08-18T07:12:54.999999999Z";

/// How much of a bad value an error repeats.
const SHOWN_CHARS_MAX: usize = 200;

/// Parameters of the body, if it is a form, and of the URL.
#[derive(Debug)]
pub(super) struct Form(Query);

impl Form {
    pub(super) fn of(request: &Request) -> Self {
        // Whatever the content type says: what is no form has no parameters either.
        let body = match request.method {
            Method::POST => Query::parse(&String::from_utf8_lossy(&request.body)),
            _ => Query::default(),
        };
        Self(body.followed_by(&request.query))
    }

    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Self {
        Self(Query::parse(text))
    }

    /// A parameter; empty when it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.first(name)
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.all(name)
    }

    /// A moment: seconds since the epoch with a fraction, or RFC 3339; `None` when it is absent. One
    /// beyond what is stored is moved to the nearest that is: Grafana asks for the year 50,000.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Failure> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        let bad = || {
            let shown = shown(text);
            Failure::parameter(name, format!("cannot parse {shown:?} to a valid timestamp"))
        };
        match text.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => {
                let (whole, fraction) = (seconds.trunc(), seconds.fract());
                let millis = whole * 1000.0 + (fraction * 1000.0).round();
                // A conversion of floats stops at the ends.
                Ok(Some(Timestamp::from_millis(millis as i64)))
            }
            _ if text == EARLIEST => Ok(Some(Timestamp::MIN)),
            _ if text == LATEST => Ok(Some(Timestamp::MAX)),
            _ => Timestamp::parse_rfc3339(text).map(Some).map_err(|_| bad()),
        }
    }

    /// As [`Form::time`], of a parameter that must be there.
    pub(super) fn required_time(&self, name: &str) -> Result<Timestamp, Failure> {
        let absent = "cannot parse \"\" to a valid timestamp";
        self.time(name)?.ok_or_else(|| Failure::parameter(name, absent))
    }

    /// A duration: seconds with a fraction, or as PromQL writes one; `None` when it is absent. One that
    /// is negative is zero, which no parameter takes.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, String> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        read_duration(text).map(Some)
    }

    /// As [`Form::duration`], with the name in the error.
    pub(super) fn named_duration(&self, name: &str) -> Result<Option<Duration>, Failure> {
        self.duration(name).map_err(|why| Failure::parameter(name, why))
    }

    /// The most elements the client wants; `None` for all.
    pub(super) fn limit(&self, name: &str) -> Result<Option<usize>, Failure> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        let number: i64 = text.parse().map_err(|_| {
            let shown = shown(text);
            Failure::parameter(name, format!("strconv.Atoi: parsing {shown:?}: invalid syntax"))
        })?;
        let limit = usize::try_from(number)
            .map_err(|_| Failure::parameter(name, "limit must be non-negative"))?;
        Ok(Some(limit).filter(|limit| *limit > 0))
    }

    /// The range that `start` and `end` give, all times where they do not.
    pub(super) fn range(&self) -> Result<TimeRange, Failure> {
        let start = self.time("start")?.unwrap_or(Timestamp::MIN);
        Ok(TimeRange::new(start, self.time("end")?.unwrap_or(Timestamp::MAX)))
    }

    /// The selectors of `match[]`.
    pub(super) fn selectors(&self) -> Result<Vec<Vec<Matcher>>, Failure> {
        let (mut selectors, mut patterns) = (Vec::new(), 0);
        for text in self.all("match[]") {
            let selector = promql::parse_selector(text).map_err(|error| {
                if error.message().contains("at least one non-empty matcher") {
                    let why = "match[] must contain at least one non-empty matcher";
                    return Failure::parameter("match[]", why);
                }
                Failure::parameter("match[]", error)
            })?;
            let is_pattern =
                |one: &&Matcher| matches!(one.op(), MatchOp::Regex(_) | MatchOp::NotRegex(_));
            patterns += selector.iter().filter(is_pattern).count();
            if patterns > PATTERNS_MAX {
                let why = format!("more than {PATTERNS_MAX} regular expressions");
                return Err(Failure::parameter("match[]", why));
            }
            selectors.push(selector);
        }
        Ok(selectors)
    }
}

fn read_duration(text: &str) -> Result<Duration, String> {
    let shown = || shown(text);
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.abs() > i64::MAX as f64 / 1e9 || seconds.is_nan() {
            let shown = shown();
            return Err(format!("cannot parse {shown:?} to a valid duration. It overflows int64"));
        }
        return Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    }
    promql::duration(text).ok_or_else(|| format!("cannot parse {:?} to a valid duration", shown()))
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        Form::parse(text)
    }

    #[test]
    fn times_are_unix_seconds_or_rfc_3339_and_far_ones_are_moved() {
        for (text, millis) in [
            ("1532606400", 1_532_606_400_000),
            ("1532606400.1234", 1_532_606_400_123),
            ("-1.5", -1_500),
            ("1e3", 1_000_000),
            ("2018-07-26T12:00:00.5Z", 1_532_606_400_500),
            (EARLIEST, Timestamp::MIN.as_millis()),
            (LATEST, Timestamp::MAX.as_millis()),
            ("1700000000000", Timestamp::MAX.as_millis()),
        ] {
            let time = form(&format!("time={text}")).time("time").unwrap().unwrap();
            assert_eq!(time.as_millis(), millis, "{text}");
        }
        assert!(form("time=").time("time").unwrap().is_none());
        for bad in ["now", "NaN", "inf", "2018-07-26", "1 2"] {
            let error = form(&format!("time={bad}")).time("time").unwrap_err();
            let text =
                format!("invalid parameter \"time\": cannot parse \"{bad}\" to a valid timestamp");
            assert_eq!(format!("{error:?}"), format!("{:?}", Failure::bad_data(text)));
        }
    }

    #[test]
    fn durations_are_seconds_or_as_promql_writes_them() {
        for (text, millis) in [("15", 15_000), ("0.25", 250), ("1h30m", 5_400_000), ("-5", 0)] {
            assert_eq!(read_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["1x", "m", "NaN", "1e300", "-1m"] {
            assert!(read_duration(bad).unwrap_err().contains("to a valid duration"), "{bad}");
        }
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limit = |text: &str| form(&format!("limit={text}")).limit("limit").ok();
        assert_eq!(limit(""), Some(None));
        assert_eq!(limit("0"), Some(None));
        assert_eq!(limit("7"), Some(Some(7)));
        assert_eq!((limit("-1"), limit("x")), (None, None));
    }
}
