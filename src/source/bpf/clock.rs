//! Tells the time of day from the clock that a BPF program reads.
//!
//! The program stamps records with CLOCK_MONOTONIC. The kernel keeps CLOCK_REALTIME as that plus an
//! offset which changes only when the clock is set, never while it is being disciplined, because
//! that speeds up or slows down both. So the offset is measured well once, and again only replaced
//! where a measurement contradicts it: a new one each time would have times go back by the error of
//! measuring.

use rustix::time::{ClockId, clock_gettime};

use crate::record::Timestamp;

/// So many measurements are made at the beginning, of which the best counts.
const MEASUREMENTS: usize = 16;
/// A measurement contradicts the offset where it differs by this much, in ns, beyond what it can be
/// wrong by.
const STEP: u64 = 10_000;

/// The two clocks at one time.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// CLOCK_MONOTONIC before CLOCK_REALTIME was read.
    before: u64,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, modulo 2^64.
    offset: u64,
    /// The offset can be wrong by so much.
    error: u64,
}

impl Measured {
    fn now() -> Self {
        let before = read(ClockId::Monotonic);
        let real = read(ClockId::Realtime);
        let width = read(ClockId::Monotonic).saturating_sub(before);
        Self { before, offset: real.wrapping_sub(before + width / 2), error: width / 2 }
    }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is negative.
    time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
}

/// Maps CLOCK_MONOTONIC to the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    offset: u64,
}

impl Clock {
    /// Makes a clock that tells the time of day.
    pub(super) fn new() -> Self {
        let all = std::iter::repeat_with(Measured::now).take(MEASUREMENTS);
        Self { offset: all.min_by_key(|m| m.error).map_or(0, |m| m.offset) }
    }

    /// Returns the time of day, and notices that the clock was set.
    pub(super) fn now(&mut self) -> Timestamp {
        let measured = Measured::now();
        self.correct(measured);
        self.time_of_day(measured.before)
    }

    fn correct(&mut self, measured: Measured) {
        let difference = measured.offset.wrapping_sub(self.offset).cast_signed().unsigned_abs();
        if difference > STEP + measured.error {
            self.offset = measured.offset;
        }
    }

    /// Returns the time of day at this time by CLOCK_MONOTONIC.
    #[inline]
    pub(super) fn time_of_day(self, monotonic: u64) -> Timestamp {
        Timestamp::from_ns(monotonic.wrapping_add(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_time_of_day() {
        let mut clock = Clock::new();
        let (told, now) = (clock.now(), Timestamp::now());
        assert!(now.ns().abs_diff(told.ns()) < 1_000_000_000, "{told} is not {now}");
    }

    #[test]
    fn follows_the_clock_when_it_is_set_and_no_noise() {
        let at = |offset: u64, error| Measured { before: 0, offset, error };
        for (measured, followed) in [
            (at(1_000_009_000, 100), false),
            (at(999_991_000, 100), false),
            (at(1_000_050_000, 45_000), false),
            (at(1_000_050_000, 1_000), true),
            (at(0, 100), true),
            (at(1_000_000_000u64.wrapping_sub(3_600_000_000_000), 100), true),
        ] {
            let mut clock = Clock { offset: 1_000_000_000 };
            clock.correct(measured);
            assert_eq!(clock.offset == measured.offset, followed, "{measured:?}");
        }
    }
}
