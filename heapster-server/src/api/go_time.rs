//! [`GoTime`]: a moment of a request, with the words of Go's `time.Parse` for a bad one.

use std::fmt;
use std::time::Duration;

use heapster_core::Timestamp;

use super::params::quoted;

/// RFC 3339 as Go names it.
pub(super) const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

const NANOS_PER_MILLI: u32 = 1_000_000;

/// A moment as Go parses it, down to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoTime {
    /// The millisecond it lies in.
    floor: Timestamp,
    /// Whether it lies after the beginning of that millisecond.
    has_rest: bool,
}

impl GoTime {
    /// The millisecond it lies in.
    pub(super) fn floor(self) -> Timestamp {
        self.floor
    }

    /// The first millisecond that is not before it.
    pub(super) fn ceil(self) -> Timestamp {
        let extra = Duration::from_millis(u64::from(self.has_rest));
        self.floor.saturating_add(extra)
    }

    /// Parses RFC 3339 with Go's leniency: hours may have one digit, fractions any number.
    pub(super) fn parse(text: &str) -> Result<Self, GoTimeError<'_>> {
        let mut rest = Cursor { text, rest: text };
        let year = rest.digits(4, "2006")?;
        rest.literal("-")?;
        let month = rest.digits(2, "01")?;
        if !(1..=12).contains(&month) {
            return Err(rest.out_of_range("month"));
        }
        rest.literal("-")?;
        let day = rest.digits(2, "02")?;
        rest.literal("T")?;
        let hour = rest.hour()?;
        if hour > 23 {
            return Err(rest.out_of_range("hour"));
        }
        rest.literal(":")?;
        let minute = rest.digits(2, "04")?;
        if minute > 59 {
            return Err(rest.out_of_range("minute"));
        }
        rest.literal(":")?;
        let second = rest.digits(2, "05")?;
        if second > 59 {
            return Err(rest.out_of_range("second"));
        }
        let (nanos, finer) = rest.fraction();
        let zone = rest.zone()?;
        if !rest.rest.is_empty() {
            return Err(GoTimeError { text, problem: Problem::Extra(rest.rest) });
        }
        if year == 0 {
            return Ok(Self { floor: Timestamp::MIN, has_rest: false });
        }
        // All that can still be wrong is a day that the month does not have, or the zone.
        let strict = format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}{zone}"
        );
        let floor = Timestamp::parse_rfc3339(&strict).map_err(|_| rest.out_of_range("day"))?;
        Ok(Self { floor, has_rest: nanos % NANOS_PER_MILLI != 0 || finer })
    }
}

/// What Go's `time.Parse` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoTimeError<'a> {
    text: &'a str,
    problem: Problem<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem<'a> {
    Element { found: &'a str, wanted: &'static str },
    OutOfRange(&'static str),
    Extra(&'a str),
}

impl fmt::Display for GoTimeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = quoted(self.text);
        match self.problem {
            Problem::Element { found, wanted } => {
                let found = quoted(found);
                write!(f, "parsing time {text} as {LAYOUT:?}: cannot parse {found} as {wanted:?}")
            }
            Problem::OutOfRange(what) => write!(f, "parsing time {text}: {what} out of range"),
            Problem::Extra(extra) => {
                // Go does not quote what is left over.
                let extra: String = extra.chars().take(200).collect();
                write!(f, "parsing time {text}: extra text: {extra}")
            }
        }
    }
}

/// What is left of a text that is being parsed.
struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn missing(&self, wanted: &'static str) -> GoTimeError<'a> {
        GoTimeError { text: self.text, problem: Problem::Element { found: self.rest, wanted } }
    }

    fn out_of_range(&self, what: &'static str) -> GoTimeError<'a> {
        GoTimeError { text: self.text, problem: Problem::OutOfRange(what) }
    }

    fn literal(&mut self, wanted: &'static str) -> Result<(), GoTimeError<'a>> {
        self.rest = self.rest.strip_prefix(wanted).ok_or_else(|| self.missing(wanted))?;
        Ok(())
    }

    fn digits(&mut self, count: usize, wanted: &'static str) -> Result<i64, GoTimeError<'a>> {
        let digits = self.rest.get(..count).ok_or_else(|| self.missing(wanted))?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.missing(wanted));
        }
        let number = digits.parse().map_err(|_| self.missing(wanted))?;
        self.rest = &self.rest[count..];
        Ok(number)
    }

    fn hour(&mut self) -> Result<i64, GoTimeError<'a>> {
        let digits = self.rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        self.digits(digits.max(1), "15")
    }

    /// Nanoseconds, and whether there were digits below them that are not zero.
    fn fraction(&mut self) -> (u32, bool) {
        let Some(after) = self.rest.strip_prefix('.') else { return (0, false) };
        let count = after.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return (0, false);
        }
        let (digits, rest) = after.split_at(count);
        self.rest = rest;
        let digit = |index: usize| digits.as_bytes().get(index).map_or(0, |byte| byte - b'0');
        let nanos = (0..9).fold(0, |nanos, index| nanos * 10 + u32::from(digit(index)));
        let finer = digits.bytes().skip(9).any(|byte| byte != b'0');
        (nanos, finer)
    }

    /// `Z` or the distance from UTC.
    fn zone(&mut self) -> Result<&'a str, GoTimeError<'a>> {
        const WANTED: &str = "Z07:00";
        let (zone, rest) = match self.rest.as_bytes() {
            [b'Z', ..] => self.rest.split_at(1),
            [b'+' | b'-', h1, h2, b':', m1, m2, ..]
                if [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) =>
            {
                self.rest.split_at(6)
            }
            _ => return Err(self.missing(WANTED)),
        };
        self.rest = rest;
        Ok(zone)
    }
}
