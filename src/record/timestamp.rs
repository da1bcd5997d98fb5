//! A timestamp is a point in time as captures keep it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, UTC. They last until the year 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Makes the time `ns` nanoseconds after the epoch.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Timestamp(ns)
    }

    /// Returns the present time, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Returns nanoseconds since the epoch.
    #[must_use]
    pub(crate) const fn ns(self) -> u64 {
        self.0
    }

    /// Returns seconds since the epoch, as fine as such a number can be.
    #[must_use]
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Returns whole seconds since the epoch, and the nanoseconds beyond.
    #[must_use]
    pub(crate) const fn split(self) -> (u64, u32) {
        // The remainder is below 10^9, which fits.
        #[allow(clippy::cast_possible_truncation)]
        (self.0 / 1_000_000_000, (self.0 % 1_000_000_000) as u32)
    }

    /// Returns the first multiple of `interval` since the epoch that is later than this time.
    #[must_use]
    pub(crate) fn next_multiple(self, interval: Duration) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        Timestamp((self.0 / interval).saturating_add(1).saturating_mul(interval))
    }

    /// Returns this time plus `duration`.
    #[must_use]
    pub(crate) fn saturating_add(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Returns this time minus `duration`.
    #[must_use]
    pub(crate) fn saturating_sub(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Writes `YYYYMMDDThhmmssZ`, for file names.
    #[must_use]
    pub(crate) fn compact(self) -> String {
        self.civil().strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    fn civil(self) -> jiff::Timestamp {
        let (seconds, nanoseconds) = self.split();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        jiff::Timestamp::new(seconds, nanoseconds.cast_signed()).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// Writes RFC 3339 in UTC with nine decimals, as `2026-11-24T03:18:29.000000001Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.civil().strftime("%Y-%m-%dT%H:%M:%S.%9fZ").fmt(f)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a time of RFC 3339, to the nanosecond. None before the epoch or after the year 2554.
impl FromStr for Timestamp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(time) = own(text) {
            return Ok(time);
        }
        let civil: jiff::Timestamp = text.parse().map_err(|_| "not a time of RFC 3339")?;
        u64::try_from(civil.as_nanosecond()).map(Timestamp).map_err(|_| "a time before 1970 or after 2554")
    }
}

/// Reads a time in the one form that [`Timestamp`] writes; none where it is another, or no time.
///
/// Whoever starts reads three times a line of a manifest of perhaps a million lines, and a parser
/// of all forms takes several times as long.
fn own(text: &str) -> Option<Timestamp> {
    const MARKS: [(usize, u8); 7] = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (29, b'Z')];
    /// Days from the first of March of the year 0 to the epoch.
    const EPOCH: u64 = 719_468;
    let bytes: &[u8; 30] = text.as_bytes().try_into().ok()?;
    if MARKS.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let number = |digits: Range<usize>| {
        bytes[digits]
            .iter()
            .try_fold(0, |number: u64, digit| digit.is_ascii_digit().then(|| 10 * number + u64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, fraction) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..29)?);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if year < 1970 || !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years that begin with March have the odd day at their end.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day - 1;
    let seconds = (((days - EPOCH) * 24 + hour) * 60 + minute) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction).map(Timestamp)
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let t = Timestamp::from_ns(1_795_490_309_000_000_001);
        assert_eq!(t.to_string(), "2026-11-24T03:18:29.000000001Z");
        assert_eq!(t.compact(), "20261124T031829Z");
        assert_eq!(Timestamp::from_ns(u64::MAX).compact(), "25540721T233433Z");
    }

    #[test]
    fn what_is_written_is_read_again() {
        for ns in [0, 1, 999_999_999, 1_795_490_309_000_000_001, u64::MAX - 1, u64::MAX] {
            let t = Timestamp::from_ns(ns);
            assert_eq!(t.to_string().parse(), Ok(t));
            let json = serde_json::to_string(&t).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), t);
        }
        assert_eq!("2026-11-24T04:18:29.000000001+01:00".parse(), Ok(Timestamp::from_ns(1_795_490_309_000_000_001)));
        for wrong in ["", "yesterday", "2026-11-24", "1969-12-31T23:59:59Z", "2554-07-21T23:34:34Z"] {
            assert!(wrong.parse::<Timestamp>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_own_form_is_read_as_any_other_is() {
        let general = |text: &str| {
            let civil: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(civil.as_nanosecond()).ok().map(Timestamp)
        };
        let mut read = 0;
        for year in [1968, 1969, 1970, 1971, 1972, 1999, 2000, 2001, 2026, 2100, 2400, 2554, 2555, 9999] {
            for (month, day) in (0..=13).flat_map(|month| (0..=32).map(move |day| (month, day))) {
                for time in ["00:00:00.000000000", "23:59:59.999999999", "24:00:00.000000000", "09:60:08.100000000"] {
                    let text = format!("{year}-{month:02}-{day:02}T{time}Z");
                    // A leap second is the general parser's.
                    assert_eq!(own(&text), general(&text), "{text}");
                    read += usize::from(own(&text).is_some());
                }
            }
        }
        assert!(read > 5000, "{read}");
        for other in
            ["2026-11-24T03:18:29.00000000xZ", "2026-11-24T03:18:29.000000001z", "2026-11-24T03:18:60.000000001Z"]
        {
            assert_eq!(own(other), None, "{other}");
        }
    }

    #[test]
    fn intervals_are_aligned_to_the_epoch() {
        let minute = Duration::from_secs(60);
        let at = |s: u64| Timestamp::from_ns(s * 1_000_000_000);
        assert_eq!(at(0).next_multiple(minute), at(60));
        assert_eq!(at(59).next_multiple(minute), at(60));
        assert_eq!(at(60).next_multiple(minute), at(120));
        assert_eq!(Timestamp::from_ns(u64::MAX).next_multiple(minute).ns(), u64::MAX);
    }
}
