//! Points and ranges in time: [`Timestamp`] (milliseconds, what is stored and queried),
//! [`NanoTime`] (nanoseconds, what kubelets report) and [`TimeRange`].
//!
//! Nothing here reads a clock; "now" is always an argument.

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

use crate::error::ParseError;

const NANOS_PER_MILLI: i64 = 1_000_000;
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Milliseconds since the Unix epoch, UTC, signed.
///
/// The store keeps any value from [`Timestamp::MIN`] to [`Timestamp::MAX`], the years 1 to 9999, so
/// that dates before 1970 are as good as any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z, which is also Go's zero time.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// A timestamp from milliseconds since the epoch, clamped to [`Timestamp::MIN`]..=[`Timestamp::MAX`].
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// A timestamp from milliseconds since the epoch, or `None` outside the years 1 to 9999.
    pub const fn checked_from_millis(millis: i64) -> Option<Self> {
        if millis < Self::MIN.0 || millis > Self::MAX.0 { None } else { Some(Self(millis)) }
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment plus `duration` (whole milliseconds), clamped to the supported years.
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This moment minus `duration` (whole milliseconds), clamped to the supported years.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// Time elapsed since `earlier`, zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The latest multiple of `step` since year 1 that is not after this moment (Go's `Truncate`).
    ///
    /// A zero `step` returns the moment unchanged.
    pub fn truncate(self, step: Duration) -> Self {
        let Ok(step) = i64::try_from(step.as_millis()) else { return Self::MIN };
        if step == 0 {
            return self;
        }
        Self(self.0 - (self.0 - Self::MIN.0).rem_euclid(step))
    }

    /// Parses RFC 3339 with a mandatory zone; digits below the millisecond are cut off.
    ///
    /// # Errors
    /// [`ParseError`] when the text is not an RFC 3339 moment of the years 1 to 9999.
    pub fn parse_rfc3339(text: &str) -> Result<Self, ParseError> {
        let millis = parse_moment(text)?.div_euclid(NANOS_PER_MILLI as i128);
        i64::try_from(millis)
            .ok()
            .and_then(Self::checked_from_millis)
            .ok_or_else(|| ParseError::new("time", text, "a moment of the years 1 to 9999"))
    }
}

/// RFC 3339 in UTC with as many fractional digits as needed (`2018-07-26T12:00:00Z`).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_moment(i128::from(self.0) * NANOS_PER_MILLI as i128, f)
    }
}

/// Nanoseconds since the Unix epoch, UTC, signed: the precision of a kubelet's sample times.
///
/// Covers the years 1678 to 2261. A time outside, Go's zero time included, is "unknown" and is
/// represented as `Option::None` wherever a `NanoTime` is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoTime(i64);

impl NanoTime {
    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch; `None` outside the representable years.
    pub const fn from_seconds(seconds: i64) -> Option<Self> {
        match seconds.checked_mul(1_000_000_000) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The timestamp of the millisecond this moment lies in.
    pub const fn to_timestamp(self) -> Timestamp {
        Timestamp::from_millis(self.0.div_euclid(NANOS_PER_MILLI))
    }

    /// Parses RFC 3339. Go's zero time and everything outside 1678..2261 is `Ok(None)`.
    ///
    /// # Errors
    /// [`ParseError`] when the text is not RFC 3339.
    pub fn parse_rfc3339(text: &str) -> Result<Option<Self>, ParseError> {
        Ok(i64::try_from(parse_moment(text)?).ok().map(Self))
    }
}

impl From<Timestamp> for Option<NanoTime> {
    fn from(at: Timestamp) -> Self {
        at.as_millis().checked_mul(NANOS_PER_MILLI).map(NanoTime)
    }
}

/// RFC 3339 in UTC with as many fractional digits as needed.
impl fmt::Display for NanoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_moment(i128::from(self.0), f)
    }
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// Nanoseconds since the epoch of an RFC 3339 text (section 5.6: a `T`, seconds and a zone).
///
/// Goes by civil time rather than `jiff::Timestamp`, which ends a day before the year 9999 does.
fn parse_moment(text: &str) -> Result<i128, ParseError> {
    let error = || ParseError::new("time", text, "RFC 3339 such as 2018-07-26T12:00:00Z");
    let has_shape = text.is_ascii() && text.len() >= 20 && text.as_bytes()[10] == b'T';
    let pieces = has_shape.then(|| Pieces::parse(text).ok()).flatten().ok_or_else(error)?;
    let (Some(time), Some(offset), None) =
        (pieces.time(), pieces.to_numeric_offset(), pieces.time_zone_annotation())
    else {
        return Err(error());
    };
    let local = pieces.date().to_datetime(time).duration_since(EPOCH);
    Ok(local.as_nanos() - i128::from(offset.seconds()) * NANOS_PER_SECOND)
}

fn fmt_moment(nanos: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let since_epoch = SignedDuration::from_nanos_i128(nanos);
    match EPOCH.checked_add(since_epoch) {
        Ok(moment) => write!(f, "{moment}Z"),
        Err(_) => write!(f, "{nanos}ns since the epoch"),
    }
}

/// A range of time; **both bounds are included**.
///
/// Half-open ranges of other vocabularies are turned into this one at the edge where they enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First millisecond that belongs to the range.
    pub start: Timestamp,
    /// Last millisecond that belongs to the range. An `end` before `start` is an empty range.
    pub end: Timestamp,
}

impl TimeRange {
    /// Everything the store can hold.
    pub const ALL: Self = Self { start: Timestamp::MIN, end: Timestamp::MAX };

    /// The range `start..=end`.
    pub const fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// Whether the moment lies in the range.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at <= self.end
    }

    /// Whether the two ranges share a millisecond.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end && !self.is_empty() && !other.is_empty()
    }

    /// Whether no millisecond lies in the range.
    pub fn is_empty(&self) -> bool {
        self.end < self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_print_as_go_prints_them() {
        for (millis, text) in [
            (1_532_606_400_000, "2018-07-26T12:00:00Z"),
            (1_532_606_400_120, "2018-07-26T12:00:00.12Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (Timestamp::MIN.as_millis(), "0001-01-01T00:00:00Z"),
            (Timestamp::MAX.as_millis(), "9999-12-31T23:59:59.999Z"),
        ] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(at.to_string(), text);
            assert_eq!(Timestamp::parse_rfc3339(text).unwrap(), at);
        }
    }

    #[test]
    fn a_time_without_a_zone_is_refused() {
        assert!(Timestamp::parse_rfc3339("2018-07-26T12:00:00").is_err());
        assert!(Timestamp::parse_rfc3339("yesterday").is_err());
    }

    #[test]
    fn gos_zero_time_is_an_unknown_nano_time() {
        assert_eq!(NanoTime::parse_rfc3339("0001-01-01T00:00:00Z").unwrap(), None);
        assert_eq!(
            NanoTime::parse_rfc3339("2018-07-26T12:00:00.5Z").unwrap().unwrap().to_string(),
            "2018-07-26T12:00:00.5Z"
        );
    }

    #[test]
    fn truncation_counts_from_year_one_as_go_does() {
        let at = Timestamp::parse_rfc3339("2018-07-26T12:00:59.9Z").unwrap();
        assert_eq!(at.truncate(Duration::from_secs(60)).to_string(), "2018-07-26T12:00:00Z");
        // Seven days do not divide the Unix epoch evenly; year 1 began on a Monday.
        let week = at.truncate(Duration::from_secs(7 * 86_400));
        assert_eq!(week.to_string(), "2018-07-23T00:00:00Z");
        assert_eq!(at.truncate(Duration::ZERO), at);
    }
}
