//! Parts of a moment in UTC, in the proleptic Gregorian calendar.

/// Which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum DatePart {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

impl DatePart {
    /// The function of that name.
    pub fn find(name: &str) -> Option<Self> {
        Some(match name {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day_of_week" => Self::DayOfWeek,
            "day_of_month" => Self::DayOfMonth,
            "day_of_year" => Self::DayOfYear,
            "days_in_month" => Self::DaysInMonth,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// The part of seconds since the epoch, of which the fraction is cut off; NaN for what is no
    /// moment within a hundred million years.
    pub fn of(self, seconds: f64) -> f64 {
        if seconds.is_nan() || seconds.abs() >= 3.2e15 {
            return f64::NAN;
        }
        let seconds = seconds as i64;
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400);
        let (year, month, day) = civil(days);
        let part = match self {
            Self::Minute => of_day / 60 % 60,
            Self::Hour => of_day / 3600,
            // The epoch was a Thursday.
            Self::DayOfWeek => (days + 4).rem_euclid(7),
            Self::DayOfMonth => day,
            Self::DayOfYear => days - days_before(year, 1) + 1,
            Self::DaysInMonth => {
                let next = if month == 12 {
                    days_before(year + 1, 1)
                } else {
                    days_before(year, month + 1)
                };
                next - days_before(year, month)
            }
            Self::Month => month,
            Self::Year => year,
        };
        part as f64
    }
}

/// Year, month and day of a day since the epoch. Years begin in March here, so that the day that
/// some of them have more comes last; 400 of them have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from the epoch to the first of a month.
fn days_before(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march_month + 2) / 5;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_the_calendar() {
        use DatePart::*;
        let parts = [Year, Month, DayOfMonth, DayOfWeek, DayOfYear, DaysInMonth, Hour, Minute];
        for (seconds, expected) in [
            (0.0, [1970, 1, 1, 4, 1, 31, 0, 0]),
            (-1.9, [1969, 12, 31, 3, 365, 31, 23, 59]),
            (1_136_239_445.0, [2006, 1, 2, 1, 2, 31, 22, 4]),
            // 2000-02-29T23:59:59Z and 2100-03-01T00:00:00Z
            (951_868_799.0, [2000, 2, 29, 2, 60, 29, 23, 59]),
            (4_107_542_400.0, [2100, 3, 1, 1, 60, 31, 0, 0]),
        ] {
            assert_eq!(parts.map(|part| part.of(seconds) as i64), expected, "{seconds}");
        }
        assert!(Year.of(f64::NAN).is_nan() && Year.of(1e300).is_nan());
    }

    #[test]
    fn days_of_civil_dates_are_where_they_came_from() {
        for days in (-1_000_000..1_000_000).step_by(97) {
            let (year, month, day) = civil(days);
            assert_eq!(days_before(year, month) + day - 1, days);
        }
    }
}
