//! A point in time as captures keep it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, UTC. Lasts until the year 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `ns` nanoseconds after the epoch.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Timestamp(ns)
    }

    /// Now, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, and the nanoseconds beyond.
    #[must_use]
    pub const fn split(self) -> (u64, u32) {
        // The remainder is below 10^9, which fits.
        #[allow(clippy::cast_possible_truncation)]
        (self.0 / 1_000_000_000, (self.0 % 1_000_000_000) as u32)
    }

    /// The first multiple of `interval` since the epoch that is later than this time.
    #[must_use]
    pub fn next_multiple(self, interval: Duration) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        Timestamp((self.0 / interval).saturating_add(1).saturating_mul(interval))
    }

    /// This time plus `duration`.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// `YYYYMMDDThhmmssZ`, for file names.
    #[must_use]
    pub fn compact(self) -> String {
        self.civil().strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    fn civil(self) -> jiff::Timestamp {
        let (seconds, nanoseconds) = self.split();
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        jiff::Timestamp::new(seconds, nanoseconds.cast_signed()).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// RFC 3339 in UTC with nine decimals, as `2026-11-24T03:18:29.000000001Z`.
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
    fn intervals_are_aligned_to_the_epoch() {
        let minute = Duration::from_secs(60);
        let at = |s: u64| Timestamp::from_ns(s * 1_000_000_000);
        assert_eq!(at(0).next_multiple(minute), at(60));
        assert_eq!(at(59).next_multiple(minute), at(60));
        assert_eq!(at(60).next_multiple(minute), at(120));
        assert_eq!(Timestamp::from_ns(u64::MAX).next_multiple(minute).ns(), u64::MAX);
    }
}
