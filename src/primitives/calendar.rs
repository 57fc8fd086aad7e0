//! Windows of the calendar: the hour, day, week or month that a moment lies in, at a fixed distance from UTC.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// What one window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// From minute 0.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
}

/// Windows of one kind, where the clock is so many seconds ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Calendar {
    /// What a window is.
    pub window: Window,
    /// Seconds ahead of UTC.
    pub offset: i32,
}

/// One window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Number of the period: later ones have higher numbers.
    pub number: u64,
    /// When it ends, seconds since 1970.
    pub ends: u64,
}

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

impl Calendar {
    /// The window that `unix_time`, seconds since 1970, lies in.
    pub fn period(self, unix_time: u64) -> Period {
        let offset = i64::from(self.offset);
        let local = i64::try_from(unix_time).unwrap_or(i64::MAX / 2) + offset;
        let (number, ends) = match self.window {
            Window::Hour => even(local, HOUR, 0),
            Window::Day => even(local, DAY, 0),
            // The first day of 1970 was a Thursday.
            Window::Week => even(local, 7 * DAY, 3 * DAY),
            Window::Month => month(local),
        };
        Period {
            number: u64::try_from(number).unwrap_or_default(),
            ends: u64::try_from(ends - offset).unwrap_or_default(),
        }
    }

    /// Seconds of a window; of a month that has 31 days.
    pub fn seconds(self) -> u64 {
        match self.window {
            Window::Hour => 3_600,
            Window::Day => 86_400,
            Window::Week => 604_800,
            Window::Month => 31 * 86_400,
        }
    }
}

/// Number and end of a window of so many seconds, of which one began `before` the start of time.
fn even(local: i64, length: i64, before: i64) -> (i64, i64) {
    let number = (local + before).div_euclid(length);
    (number, (number + 1) * length - before)
}

fn month(local: i64) -> (i64, i64) {
    let date = |second| {
        let moment = Timestamp::from_second(second).unwrap_or_default();
        Offset::UTC.to_datetime(moment).date()
    };
    let today = date(local);
    let number = i64::from(today.year()) * 12 + i64::from(today.month());
    let next = today.last_of_month().tomorrow().unwrap_or(Date::MAX);
    let ends = Offset::UTC.to_timestamp(next.to_datetime(jiff::civil::Time::midnight()));
    (number, ends.unwrap_or_default().as_second())
}

/// Reads a distance from UTC: `+08:00`, `-03:30` or `Z`.
pub fn utc_offset(text: &str) -> Result<i32, String> {
    let bad = || format!("{text:?} is no distance from UTC; write \"+08:00\", \"-05:00\" or \"Z\"");
    if matches!(text, "Z" | "z") {
        return Ok(0);
    }
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("+", rest)) => (1, rest),
        Some(("-", rest)) => (-1, rest),
        _ => return Err(bad()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(bad)?;
    let two = |digits: &str, most: i32| {
        let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        let number = digits.parse::<i32>().ok().filter(|n| plain && *n <= most);
        number.ok_or_else(bad)
    };
    Ok(sign * (two(hours, 14)? * 3_600 + two(minutes, 59)? * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> u64 {
        let moment: Timestamp = text.parse().unwrap();
        moment.as_second() as u64
    }

    fn ends(window: Window, offset: &str, now: &str) -> String {
        let calendar = Calendar {
            window,
            offset: utc_offset(offset).unwrap(),
        };
        let ends = calendar.period(at(now)).ends;
        Timestamp::from_second(ends as i64).unwrap().to_string()
    }

    #[test]
    fn windows_end_where_the_calendar_says() {
        for (window, offset, now, expected) in [
            (
                Window::Hour,
                "Z",
                "2026-02-28T23:59:59Z",
                "2026-03-01T00:00:00Z",
            ),
            (
                Window::Hour,
                "+05:30",
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:30:00Z",
            ),
            (
                Window::Day,
                "Z",
                "2026-01-01T00:00:00Z",
                "2026-01-02T00:00:00Z",
            ),
            (
                Window::Day,
                "+08:00",
                "2026-01-01T15:59:59Z",
                "2026-01-01T16:00:00Z",
            ),
            (
                Window::Day,
                "+08:00",
                "2026-01-01T16:00:00Z",
                "2026-01-02T16:00:00Z",
            ),
            (
                Window::Day,
                "-05:00",
                "2026-01-01T04:00:00Z",
                "2026-01-01T05:00:00Z",
            ),
            // 2026-11-23 is a Monday.
            (
                Window::Week,
                "Z",
                "2026-11-22T23:59:59Z",
                "2026-11-23T00:00:00Z",
            ),
            (
                Window::Week,
                "Z",
                "2026-11-23T00:00:00Z",
                "2026-11-30T00:00:00Z",
            ),
            (
                Window::Month,
                "Z",
                "2028-02-10T00:00:00Z",
                "2028-03-01T00:00:00Z",
            ),
            (
                Window::Month,
                "Z",
                "2026-12-31T23:59:59Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                Window::Month,
                "+08:00",
                "2026-12-31T16:00:00Z",
                "2027-01-31T16:00:00Z",
            ),
        ] {
            assert_eq!(
                ends(window, offset, now),
                expected,
                "{window:?} {offset} {now}"
            );
        }
    }

    #[test]
    fn a_distance_that_makes_no_sense_is_refused() {
        assert_eq!(utc_offset("-03:30"), Ok(-12_600));
        for wrong in [
            "", "8", "+8:00", "+08", "+08:60", "+15:00", "08:00", "+0a:00", "é",
        ] {
            assert!(utc_offset(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        /// A moment lies in one window; the next begins where it ends, and numbers only grow.
        #[test]
        fn windows_follow_one_another(
            now in 100_000u64..10_000_000_000,
            offset in -50_400i32..=50_400,
            kind in 0usize..4,
        ) {
            let window = [Window::Hour, Window::Day, Window::Week, Window::Month][kind];
            let calendar = Calendar { window, offset };
            let period = calendar.period(now);
            prop_assert!(period.ends > now && period.ends - now <= calendar.seconds());
            prop_assert_eq!(calendar.period(period.ends - 1), period);
            prop_assert_eq!(calendar.period(period.ends).number, period.number + 1);
            prop_assert!(period.number < 1 << 24);
        }
    }
}
