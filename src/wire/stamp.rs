//! A switch tells when it mirrored a frame, as far as its header has room for that.
//!
//! ERSPAN III has 32 bits of a count, and some makers' subheaders 32 bits more. Those are the upper
//! half of the count, or the seconds that the lower half is the rest of: makers differ, and the
//! time of arrival says which it is. Without them the count begins anew after minutes or days, and
//! is that of the time next to the arrival.
//!
//! A count that begins when the switch does is no time. What is not next to the arrival either way
//! is taken for such a count.
//!
//! ```
//! use vxtap::wire::Stamp;
//!
//! let arrival = 1_795_490_309_000_000_000;
//! let at = |ns: u64| Stamp::new((ns / 100_000) as u32, None, 0).near(arrival);
//! assert_eq!(at(arrival - 300_000), Some(arrival - 300_000));
//! assert_eq!(at(arrival - 10_000_000_000), None);
//! ```

/// Nanoseconds between the time of a frame and its arrival, at the most.
const MOST: u64 = 1_000_000_000;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// What a header says of the time of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    count: u32,
    upper: Option<u32>,
    granularity: u8,
}

impl Stamp {
    /// Makes a stamp of a count, of what a subheader has above it, and of what the header says of
    /// its unit: 0 is 100 us, 1 is 100 ns, 2 is the nanosecond of IEEE 1588, and others are known
    /// to the switch alone.
    #[must_use]
    pub const fn new(count: u32, upper: Option<u32>, granularity: u8) -> Self {
        Self { count, upper, granularity }
    }

    /// Returns the time of the frame in nanoseconds since 1970, where it arrived at `arrival`; none
    /// where the stamp tells none that is within a second of that.
    #[must_use]
    pub fn near(self, arrival: u64) -> Option<u64> {
        let unit = match self.granularity {
            0 => 100_000,
            1 => 100,
            2 => 1,
            _ => return None,
        };
        let low = u64::from(self.count) * unit;
        let candidates = match self.upper.map(u64::from) {
            Some(upper) => {
                let seconds = (low < SECOND).then(|| upper * SECOND + low);
                [seconds, (upper << 32 | u64::from(self.count)).checked_mul(unit), None]
            }
            // Within seconds the nanoseconds say nothing without theirs.
            None if unit == 1 => return None,
            None => {
                let period = unit << 32;
                let now = (arrival - arrival % period).checked_add(low);
                [now, now.and_then(|now| now.checked_sub(period)), now.and_then(|now| now.checked_add(period))]
            }
        };
        candidates.into_iter().flatten().find(|time| time.abs_diff(arrival) <= MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_490_309_123_456_789;

    /// Returns the upper and the lower 32 bits of a number.
    fn halves(number: u64) -> [u32; 2] {
        [number >> 32, number & u64::from(u32::MAX)].map(|half| half.try_into().unwrap())
    }

    #[test]
    fn each_form_is_read() {
        for (unit, granularity) in [(100_000, 0), (100, 1)] {
            let count = NOW / unit;
            let [upper, lower] = halves(count);
            let short = Stamp::new(lower, None, granularity);
            assert_eq!(short.near(NOW + 5_000_000), Some(count * unit));
            let long = Stamp::new(lower, Some(upper), granularity);
            assert_eq!(long.near(NOW - 5_000_000), Some(count * unit));
            assert_eq!(long.near(NOW - unit * (1 << 32)), None, "another time with the same lower half");
            assert_eq!(Stamp::new(lower, Some(7), granularity).near(NOW), None, "since the switch began");
        }
        let [upper, lower] = halves(NOW);
        let [_, seconds] = halves(NOW / SECOND);
        let [_, rest] = halves(NOW % SECOND);
        assert_eq!(Stamp::new(rest, Some(seconds), 2).near(NOW + 9), Some(NOW));
        assert_eq!(Stamp::new(lower, Some(upper), 2).near(NOW + 9), Some(NOW));
        // International Atomic Time is 37 s ahead.
        assert_eq!(Stamp::new(5, Some(seconds + 37), 2).near(NOW), None);
        assert_eq!(Stamp::new(rest, None, 2).near(NOW), None, "of which second");
        assert_eq!(Stamp::new(1_000_000_000, Some(seconds), 2).near(NOW), None, "more than a second");
        assert_eq!(Stamp::new(lower, Some(seconds), 3).near(NOW), None, "a unit of the switch's own");
    }

    proptest! {
        /// What is told is near, and what was near is told, also where the count begins anew
        /// between the frame and its arrival.
        #[test]
        fn a_count_that_begins_anew_is_that_of_the_nearest_time(
            rounds in 1u64..4_000,
            off in -2_000_000_000i64..2_000_000_000,
            late in -2_000_000_000i64..2_000_000_000,
            granularity in 0u8..2,
        ) {
            let unit = [100_000, 100][usize::from(granularity)];
            let frame = ((unit << 32) * rounds).saturating_add_signed(off) / unit * unit;
            let arrival = frame.saturating_add_signed(late);
            let count = u32::try_from((frame / unit) & 0xffff_ffff).unwrap();
            let wanted = (late.unsigned_abs() <= MOST).then_some(frame);
            prop_assert_eq!(Stamp::new(count, None, granularity).near(arrival), wanted);
        }

        #[test]
        fn any_stamp_tells_a_time_near_the_arrival_or_none(
            count: u32, upper: Option<u32>, granularity: u8, arrival: u64,
        ) {
            let time = Stamp::new(count, upper, granularity).near(arrival);
            prop_assert!(time.is_none_or(|time| time.abs_diff(arrival) <= MOST));
        }
    }
}
