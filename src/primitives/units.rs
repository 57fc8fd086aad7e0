//! Quantities as an operator writes them: `"250ms"`, `"16KiB"`, `"100/s"`, `"5%"`. A bare number is never one of them.

use std::time::Duration;

/// A number of events in a period, as in `"100/s"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Events; never zero.
    pub count: u64,
    /// The period they are counted over.
    pub per: Duration,
}

impl Rate {
    /// Time between two events at exactly this rate.
    pub fn interval(self) -> Duration {
        let nanos = self.per.as_nanos() / u128::from(self.count);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
    }

    /// Events in one second, rounded up; at least 1.
    pub fn per_second(self) -> u64 {
        let n = (u128::from(self.count) * 1_000_000_000).div_ceil(self.per.as_nanos());
        u64::try_from(n).unwrap_or(u64::MAX).max(1)
    }
}

/// A share of a whole, 0 to 100 %, kept in thousandths of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Nothing.
    pub const ZERO: Percent = Percent(0);

    /// Whole percents, at most 100.
    pub const fn whole(percent: u32) -> Self {
        Self(if percent > 100 {
            100_000
        } else {
            percent * 1000
        })
    }

    /// Whether `part` of `whole` is at least this share.
    pub fn reached(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 100_000 >= u128::from(self.0) * u128::from(whole)
    }

    /// The share as a fraction of one.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 100_000.0
    }
}

/// Reads a duration: a decimal number and one of `ms s m h d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let nanos: u128 = match unit {
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        "" => {
            return Err(format!(
                "{text:?} has no unit; write for example \"10s\" or \"250ms\""
            ));
        }
        _ => {
            return Err(format!(
                "{text:?} is no duration; units are us, ms, s, m, h, d"
            ));
        }
    };
    let nanos = scaled(number, nanos)
        .ok_or_else(|| format!("{text:?} is no duration; write for example \"1.5s\""))?;
    let nanos = u64::try_from(nanos).map_err(|_| format!("{text:?} is too long"))?;
    Ok(Duration::from_nanos(nanos))
}

/// Reads a size in bytes: a decimal number and one of `B KiB MiB GiB KB MB GB`.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let bytes: u128 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "" => return Err(format!("{text:?} has no unit; write for example \"16KiB\"")),
        _ => return Err(format!("{text:?} is no size; units are B, KiB, MiB, GiB")),
    };
    let bytes = scaled(number, bytes)
        .ok_or_else(|| format!("{text:?} is no size; write for example \"16KiB\""))?;
    u64::try_from(bytes).map_err(|_| format!("{text:?} is too large"))
}

/// Reads a rate: a whole number, `/` and one of `s m h d`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let bad = || format!("{text:?} is no rate; write for example \"100/s\" or \"6000/m\"");
    let (count, unit) = text.split_once('/').ok_or_else(bad)?;
    let per = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = count.trim().parse().map_err(|_| bad())?;
    if count == 0 {
        return Err(format!(
            "{text:?} allows nothing; to close a route, answer it with `respond`"
        ));
    }
    if count > 1_000_000_000 {
        return Err(format!(
            "{text:?} is more than a billion; leave the limit out instead"
        ));
    }
    Ok(Rate {
        count,
        per: Duration::from_secs(per),
    })
}

/// Reads bytes a second: a size, `/` and `s`.
pub fn byte_rate(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no rate of bytes; write for example \"1MiB/s\"");
    let bytes = text.trim().strip_suffix("/s").ok_or_else(bad)?;
    match size(bytes.trim()) {
        Ok(0) => Err(format!("{text:?} lets nothing through")),
        read => read.map_err(|_| bad()),
    }
}

/// Reads a percentage, 0 to 100.
pub fn percent(text: &str) -> Result<Percent, String> {
    let bad = || format!("{text:?} is no percentage; write for example \"5%\"");
    let number = text.strip_suffix('%').ok_or_else(bad)?.trim();
    let thousandths = scaled(number, 1000).ok_or_else(bad)?;
    if thousandths > 100_000 {
        return Err(format!("{text:?} is more than 100%"));
    }
    Ok(Percent(thousandths as u32))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `number × unit` for a decimal number without sign or exponent.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 15 || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let mut value = whole.parse::<u128>().ok()? * unit;
    if !fraction.is_empty() {
        let scale = 10u128.pow(fraction.len() as u32);
        value += fraction.parse::<u128>().ok()? * unit / scale;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(size("16KiB"), Ok(16384));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(
            rate("6000/m").map(Rate::interval),
            Ok(Duration::from_millis(10))
        );
        assert_eq!(percent("5%").map(Percent::fraction), Ok(0.05));
    }

    #[test]
    fn refuses_what_has_no_unit_or_no_sense() {
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1e3s",
            "1.s",
            "10 fortnights",
            "99999999999999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "16", "KiB", "-1KiB", "1kib"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["100", "0/s", "/s", "1.5/s", "100/w"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        for bad in ["5", "101%", "-1%", "%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }
}
