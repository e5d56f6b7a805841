//! [`Kind`]: what a flag accepts, and the readers of each kind.
//!
//! Numbers, truth values and durations are read as Go reads them, since the flags are Heapster's.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use heapster_core::Timestamp;
use heapster_store::{Retention, TierOptions};

/// What a flag accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false; `--flag` alone is true.
    Bool,
    /// A whole number between the bounds, both included.
    Int(i64, i64),
    /// A Go duration of at least this many seconds.
    Duration(u64),
    /// A duration with days and weeks, or `forever`.
    Retention,
    /// A number of bytes, or `unlimited`.
    Size,
    /// `RESOLUTION:RETENTION,…`, or `none`, from the finest to the coarsest.
    Tiers,
    /// Any text.
    Text,
    /// Texts, separated by commas; the flag may be repeated.
    List,
    /// A path.
    Path,
    /// `KEY[:URL]`; the flag may be repeated.
    Uri,
    /// An IP address; empty for all interfaces.
    Ip,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text that the help calls by this name; the flag may be repeated.
    Each(&'static str),
    /// A moment: RFC 3339, a date, seconds since the epoch, or a duration before now.
    Moment,
}

impl Kind {
    /// How the value is called in the help.
    pub fn placeholder(self) -> String {
        match self {
            Self::Bool => "true|false".to_owned(),
            Self::Int(..) => "NUMBER".to_owned(),
            Self::Duration(_) => "DURATION".to_owned(),
            Self::Retention => "DURATION|forever".to_owned(),
            Self::Size => "a number of bytes such as 800MB or 20GiB, or unlimited".to_owned(),
            Self::Tiers => "RESOLUTION:RETENTION,…|none".to_owned(),
            Self::Text => "TEXT".to_owned(),
            Self::List => "A,B,…".to_owned(),
            Self::Path => "PATH".to_owned(),
            Self::Uri => "KEY[:URL]".to_owned(),
            Self::Ip => "ADDRESS".to_owned(),
            Self::Choice(words) => words.join("|"),
            Self::Each(name) => name.to_owned(),
            Self::Moment => "TIME".to_owned(),
        }
    }

    /// What is accepted, for an error.
    pub fn expected(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int(min, i64::MAX) => format!("a whole number from {min} on"),
            Self::Int(min, max) => format!("a whole number from {min} to {max}"),
            Self::Duration(0) => "a duration such as 20s, 1m30s or 1h".to_owned(),
            Self::Duration(min) => {
                format!("a duration of at least {min} seconds, such as 20s, 1m30s or 1h")
            }
            Self::Size => "a number of bytes such as 800MB or 20GiB, or unlimited".to_owned(),
            Self::Retention => "a duration such as 36h, 15d, 8w or 2y, or forever".to_owned(),
            Self::Tiers => "tiers such as 5m:90d,1h:2y, each resolution a multiple of the one \
                            before and a part of a day, or none"
                .to_owned(),
            Self::Text | Self::List | Self::Path | Self::Each(_) => "text".to_owned(),
            Self::Uri => "KEY or KEY:URL".to_owned(),
            Self::Ip => "an IP address such as 127.0.0.1, or nothing for all interfaces".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Moment => "a time such as 2018-07-26T12:00:00Z, 2018-07-26, 1532606400 (Unix \
                             seconds), -36h or now"
                .to_owned(),
        }
    }

    /// Whether the text is of this kind.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Bool => read_bool(text).is_some(),
            Self::Int(min, max) => read_int(text).is_some_and(|int| (min..=max).contains(&int)),
            Self::Duration(min) => {
                read_duration(text).is_some_and(|duration| duration >= Duration::from_secs(min))
            }
            Self::Retention => read_retention(text).is_some(),
            Self::Size => read_size(text).is_some(),
            Self::Tiers => read_tiers(text).is_some(),
            Self::Text | Self::List | Self::Each(_) => true,
            Self::Path => !text.contains('\0'),
            Self::Uri => !text.is_empty() && !text.starts_with(':'),
            Self::Ip => read_ip(text).is_some(),
            Self::Choice(words) => words.contains(&text),
            Self::Moment => read_moment(text, Timestamp::EPOCH).is_some(),
        }
    }

    /// Whether values of a repeated flag add up; otherwise the last one counts.
    pub const fn is_repeatable(self) -> bool {
        matches!(self, Self::List | Self::Uri | Self::Each(_))
    }
}

/// Go's `ParseBool`.
pub fn read_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A decimal integer.
pub fn read_int(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// An address; the empty text stands for all of them, as in Go.
pub fn read_ip(text: &str) -> Option<IpAddr> {
    if text.is_empty() {
        return Some(Ipv4Addr::UNSPECIFIED.into());
    }
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Nanoseconds of Go's units of duration.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const DAY: (&str, u64) = ("d", 86_400_000_000_000);
const WEEK: (&str, u64) = ("w", 604_800_000_000_000);
/// 365 days.
const YEAR: (&str, u64) = ("y", 31_536_000_000_000_000);

/// Go's `ParseDuration` for durations that are not negative: numbers with units, such as `1h30m`
/// or `1.5s`, or `0`. At most the 292 years Go knows.
pub fn read_duration(text: &str) -> Option<Duration> {
    read_with_units(text, &UNITS)
}

/// A retention: a duration with days, weeks and years as well, more than zero; `Some(None)` for
/// `forever`.
pub fn read_retention(text: &str) -> Option<Option<Duration>> {
    if text == "forever" {
        return Some(None);
    }
    let units: Vec<_> = UNITS.into_iter().chain([DAY, WEEK, YEAR]).collect();
    read_with_units(text, &units).filter(|duration| !duration.is_zero()).map(Some)
}

/// A number of bytes, more than zero, whole and with a unit if need be; `Some(None)` for `unlimited`.
pub fn read_size(text: &str) -> Option<Option<u64>> {
    const UNITS: [(&str, u64); 11] = [
        ("", 1),
        ("B", 1),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KB", 1_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    if text == "unlimited" {
        return Some(None);
    }
    let (number, unit) = split_while(text, |char| char.is_ascii_digit());
    let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (bytes > 0).then_some(Some(bytes))
}

/// The tiers of a store, from the finest to the coarsest: for each its resolution, a colon and how
/// long it is kept. `none` for no tier.
pub fn read_tiers(text: &str) -> Option<Vec<TierOptions>> {
    if text == "none" {
        return Some(Vec::new());
    }
    let tier = |text: &str| {
        let (resolution, retention) = text.split_once(':')?;
        let retention = read_retention(retention)?.map_or(Retention::Forever, Retention::Age);
        let resolution = read_retention(resolution)??;
        Some(TierOptions { resolution, retention, retention_bytes: None })
    };
    let tiers: Vec<TierOptions> = text.split(',').map(tier).collect::<Option<_>>()?;
    TierOptions::check(&tiers).is_ok().then_some(tiers)
}

/// A moment: RFC 3339, a date (its first moment in UTC), seconds since the Unix epoch with up to
/// three decimals, `now`, or a duration before now such as `-36h` or `-7d`.
pub fn read_moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if text == "now" {
        return Some(now);
    }
    if let Some(ago) = text.strip_prefix('-').and_then(read_retention).flatten() {
        return Some(now.saturating_sub(ago));
    }
    let date = || Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")).ok();
    let is_date = || text.len() == 10 && text.contains('-');
    Timestamp::parse_rfc3339(text)
        .ok()
        .or_else(|| is_date().then(date).flatten())
        .or_else(|| read_unix_seconds(text))
}

fn read_unix_seconds(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if digits.is_empty() || !is_number(digits) || !is_number(fraction) || fraction.len() > 3 {
        return None;
    }
    // "1.5" is 1500 ms: the point moves three places.
    let millis = format!("{whole}{fraction:0<3}").parse().ok()?;
    Timestamp::checked_from_millis(millis)
}

fn read_with_units(text: &str, units: &[(&str, u64)]) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = split_while(rest, |char| char.is_ascii_digit() || char == '.');
        let (unit, tail) = split_while(tail, |char| !char.is_ascii_digit() && char != '.');
        let unit = units.iter().find(|(name, _)| *name == unit)?.1;
        nanos = nanos.checked_add(read_number(number, unit)?)?;
        rest = tail;
    }
    i64::try_from(nanos).is_ok().then(|| Duration::from_nanos(nanos))
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|char| !belongs(char)).unwrap_or(text.len());
    text.split_at(end)
}

/// A decimal number times a unit, cut off below a nanosecond.
fn read_number(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut nanos = whole.checked_mul(unit)?;
    let mut scale = u128::from(unit);
    for digit in fraction.chars() {
        let digit = u128::from(digit.to_digit(10)?);
        // Each digit is cut off by itself; below a nanosecond nothing is left to add.
        nanos = nanos.checked_add(u64::try_from(digit * scale / 10).ok()?)?;
        scale /= 10;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, millis) in [
            ("0", Some(0)),
            ("1m0s", Some(60_000)),
            ("1.5h", Some(5_400_000)),
            ("300ms", Some(300)),
            (".5s", Some(500)),
            ("+1s", Some(1_000)),
            ("1h2m3s4ms", Some(3_723_004)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("1s1", None),
            ("99999999999h", None),
            ("1.2.3s", None),
        ] {
            assert_eq!(read_duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn tiers_are_resolutions_that_divide_each_other_with_their_retentions() {
        let read = |text: &str| -> Option<Vec<(u64, Retention)>> {
            let tiers = read_tiers(text)?.into_iter();
            Some(tiers.map(|tier| (tier.resolution.as_secs(), tier.retention)).collect())
        };
        let days = |days: u64| Retention::Age(Duration::from_secs(days * 86_400));
        assert_eq!(read("none"), Some(vec![]));
        assert_eq!(read("5m:90d,1h:2y"), Some(vec![(300, days(90)), (3600, days(730))]));
        assert_eq!(read("1d:forever"), Some(vec![(86_400, Retention::Forever)]));
        for wrong in ["", "5m", "5m:", ":90d", "7m:90d", "1h:2y,5m:90d", "forever:1d", "5m:90d,"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn retentions_know_days_weeks_years_and_forever() {
        let days = |days: u64| Some(Some(Duration::from_secs(days * 86_400)));
        assert_eq!(read_retention("15d"), days(15));
        assert_eq!(read_retention("2w1d"), days(15));
        assert_eq!(read_retention("2y"), days(730));
        assert_eq!(read_retention("forever"), Some(None));
        for text in ["0", "0d", "d", "1x", "-1d", ""] {
            assert_eq!(read_retention(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_know_decimal_and_binary_units_and_unlimited() {
        assert_eq!(read_size("unlimited"), Some(None));
        for (text, bytes) in [("1", 1), ("20GiB", 20 << 30), ("800MB", 800_000_000), ("7kB", 7_000)]
        {
            assert_eq!(read_size(text), Some(Some(bytes)), "{text}");
        }
        for text in ["", "0", "-1", "1.5GB", "GB", "5 GB", "5gb", "99999999999TiB"] {
            assert_eq!(read_size(text), None, "{text}");
        }
    }

    #[test]
    fn moments_are_given_as_dates_as_unix_seconds_or_as_time_ago() {
        let now = Timestamp::from_millis(1_532_606_400_000);
        for (text, expected) in [
            ("2018-07-26T12:00:00Z", Some(0)),
            ("2018-07-26T14:00:00.5+02:00", Some(500)),
            ("2018-07-26", Some(-12 * 3_600_000)),
            ("1532606400", Some(0)),
            ("1532606400.25", Some(250)),
            ("now", Some(0)),
            ("-90m", Some(-90 * 60_000)),
            ("-1d", Some(-86_400_000)),
            ("-1.5", Some(-1_500 - 1_532_606_400_000)),
            ("1532606400000000", None),
            ("2018-07-26T12:00:00", None),
            ("2018-13-26", None),
            ("yesterday", None),
            ("1.2345", None),
            ("1e9", None),
            (".5", None),
            ("-", None),
            ("", None),
        ] {
            let moment = read_moment(text, now).map(|at| at.as_millis() - now.as_millis());
            assert_eq!(moment, expected, "{text}");
        }
    }

    #[test]
    fn an_empty_address_means_all_interfaces() {
        assert_eq!(read_ip(""), Some(Ipv4Addr::UNSPECIFIED.into()));
        assert!(read_ip("[::1]").unwrap().is_loopback());
        assert_eq!(read_ip("localhost"), None);
    }
}
