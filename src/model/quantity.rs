//! Quantities as people write them: `512M`, `150%`, `250ms`, `2026-12-01T08:00:00Z`.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time in milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Reads an RFC 3339 time: `2026-12-01T08:00:00Z`, `2026-12-01T09:00:00.5+01:00`.
    ///
    /// # Errors
    /// The text has another form; the message shows the right one.
    pub fn parse(raw: &str) -> Result<Self, String> {
        let wrong = || format!("{raw:?} is not a time like 2026-12-01T08:00:00Z");
        let (local, east) =
            without_offset(raw).filter(|(local, _)| local.ends_with(|c: char| c.is_ascii_digit())).ok_or_else(wrong)?;
        let time = humantime::parse_rfc3339(&format!("{}Z", local.to_ascii_uppercase())).map_err(|_| wrong())?;
        let before = || format!("{raw:?} lies before 1970");
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| before())?;
        let local = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        local.checked_add_signed(-east).map(Self).ok_or_else(before)
    }

    /// Returns the time this much later.
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Returns the time since `earlier`; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The year 9999 is the last that RFC 3339 can write.
        let shown = UNIX_EPOCH + Duration::from_millis(self.0.min(253_402_300_799_000));
        humantime::format_rfc3339_millis(shown).fmt(f)
    }
}

/// Splits the offset off an RFC 3339 time: how many milliseconds its clock is ahead of UTC.
fn without_offset(raw: &str) -> Option<(&str, i64)> {
    if let Some(local) = raw.strip_suffix(['Z', 'z']) {
        return Some((local, 0));
    }
    let (local, offset) = raw.split_at_checked(raw.len().checked_sub(6)?)?;
    let sign = match offset.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let two = |digits: &str, most: i64| -> Option<i64> {
        let number = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
        (number <= most).then_some(number)
    };
    let (hours, minutes) = offset[1..].split_once(':')?;
    (hours.len() == 2).then_some(())?;
    Some((local, sign * (two(hours, 23)? * 60 + two(minutes, 59)?) * 60_000))
}

/// A duration in milliseconds; written `250ms`, `10s`, `5m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub u64);

impl Span {
    /// Creates a span of seconds.
    pub const fn seconds(n: u64) -> Self {
        Self(n * 1000)
    }

    /// Reads `250ms`, `10s`, `5m`, `1h 30m`; a day at most.
    ///
    /// # Errors
    /// The text has another form; the message shows the right one.
    pub fn parse(raw: &str) -> Result<Self, String> {
        let span =
            humantime::parse_duration(raw).map_err(|_| format!("{raw:?} is not a time span like 250ms, 10s or 5m"))?;
        match span.as_millis() {
            ms @ 0..=86_400_000 => Ok(Self(ms as u64)),
            _ => Err(format!("{raw:?} is longer than a day")),
        }
    }

    /// Converts it to the standard library's type.
    pub fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl std::ops::Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.as_duration()).fmt(f)
    }
}

/// An amount of memory in bytes; written `512M` (powers of 1024) or as a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Reads `64K`, `512M`, `2G` or a plain number of bytes.
    ///
    /// # Errors
    /// The text has another form; the message shows the right one.
    pub fn parse(raw: &str) -> Result<Self, String> {
        let wrong = || format!("{raw:?} is not an amount of memory like 512M or 2G");
        let (digits, unit) = raw.split_at(raw.find(|c: char| !c.is_ascii_digit()).unwrap_or(raw.len()));
        let factor: u64 = match unit {
            "" => 1,
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            "T" => 1 << 40,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        count.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
        match units.iter().find(|(factor, _)| self.0 > 0 && self.0.is_multiple_of(*factor)) {
            Some((factor, unit)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A share of processor time in percent of one core; written `150%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuShare(pub u32);

impl CpuShare {
    /// Reads `150%`.
    ///
    /// # Errors
    /// The text has another form; the message shows the right one.
    pub fn parse(raw: &str) -> Result<Self, String> {
        raw.strip_suffix('%')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|percent| (1..=100_000).contains(percent))
            .map(Self)
            .ok_or_else(|| format!("{raw:?} is not a share of processor time like 50% or 150%"))
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// Implements serde for a quantity as its text.
macro_rules! serde_as_text {
    ($($name:ident: $form:literal),* $(,)?) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($form)
                    }
                    fn visit_str<E: de::Error>(self, raw: &str) -> Result<$name, E> {
                        $name::parse(raw).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )*};
}
serde_as_text!(
    Timestamp: "a time like 2026-12-01T08:00:00Z",
    Span: "a time span like 250ms, 10s or 5m",
    Bytes: "an amount of memory like 512M or 2G",
    CpuShare: "a share of processor time like 50% or 150%",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_systemd_would_take_for_no_limit_are_refused() {
        for raw in ["12x", "-1", "1e999", "", "M", "infinity", "99999999999T", "1 G"] {
            assert!(Bytes::parse(raw).is_err(), "{raw:?}");
        }
        for raw in ["0%", "150", "-5%", "x%", "1.5%", "%"] {
            assert!(CpuShare::parse(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn quantities_read_back_as_they_are_shown() {
        for raw in ["512M", "2G", "1000", "64K"] {
            assert_eq!(Bytes::parse(raw).unwrap().to_string(), raw);
        }
        for raw in ["250ms", "10s", "5m", "1h 30m"] {
            assert_eq!(Span::parse(raw).unwrap().to_string(), raw);
        }
        let time = Timestamp::parse("2026-12-01T08:00:00Z").unwrap();
        assert_eq!(time.to_string(), "2026-12-01T08:00:00.000Z");
    }

    #[test]
    fn a_time_may_be_of_any_zone() {
        for (raw, utc) in [
            ("2026-11-26T11:00:00+01:00", "2026-11-26T10:00:00.000Z"),
            ("2026-11-26t11:00:00.25-05:30", "2026-11-26T16:30:00.250Z"),
            ("2026-11-26T00:00:00+14:00", "2026-11-25T10:00:00.000Z"),
            ("2026-11-26T11:00:00.123456789-00:00", "2026-11-26T11:00:00.123Z"),
            ("2026-11-26T11:00:00z", "2026-11-26T11:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::parse(raw).map(|time| time.to_string()).as_deref(), Ok(utc), "{raw}");
        }
        for raw in [
            "2026-11-26T11:00:00",
            "2026-11-26T11:00:00+24:00",
            "2026-11-26T11:00:00+01:60",
            "2026-11-26T11:00:00+1:000",
            "2026-11-26T11:00:00++1:00",
            "2026-11-26T11:00:00Z+01:00",
            "1970-01-01T00:00:00+01:00",
            "+01:00",
            "ä01:00",
            "",
        ] {
            assert!(Timestamp::parse(raw).is_err(), "{raw}");
        }
    }
}
