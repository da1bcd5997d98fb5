//! The schedule says when each frame is due.
//!
//! Due times come from an absolute schedule: a late frame does not make the next one later, so the
//! rate holds on average even though a sleep always lasts too long by some tens of microseconds.
//! Frames that are overdue are sent at once, as a burst. A program that was suspended for a minute
//! must not send a minute's traffic as one, so a schedule that is too late moves.

use std::time::{Duration, Instant};

/// The pace at which frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Frames go as fast as the kernel takes them.
    AsFast,
    /// So many frames go in a second, at least one.
    Rate(u64),
    /// Frames go with the time between them that the capture shows.
    Realtime,
}

/// A rate schedule that is late catches up with at most so many frames, or this much time's worth
/// where that is more.
const BURST_FRAMES: u64 = 64;
const BURST_TIME: Duration = Duration::from_millis(20);

/// A real-time schedule may be this late: a capture's own bursts can exceed what can be sent.
const REALTIME_LAG: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    /// The time at which the first frame was due, moved on by what was given up.
    base: Instant,
    /// Frames before the next one, for a rate.
    count: u64,
    /// Time of the capture's first frame, for real time.
    first: Option<u64>,
    /// The longest time after that frame that any frame so far was captured.
    latest: Duration,
}

impl Schedule {
    pub(super) fn new(pace: Pace, now: Instant) -> Schedule {
        Schedule { pace, base: now, count: 0, first: None, latest: Duration::ZERO }
    }

    /// Begins a capture: in real time, the first frame of each is due at once.
    pub(super) fn begin_capture(&mut self) {
        self.first = None;
        self.latest = Duration::ZERO;
    }

    /// Says when the next frame is due, or `None` if it is due already. `timestamp` is its time in
    /// the capture, in ns.
    pub(super) fn due(&mut self, timestamp: u64) -> Option<Instant> {
        if self.pace == Pace::AsFast { None } else { self.due_at(timestamp, Instant::now()) }
    }

    fn due_at(&mut self, timestamp: u64, now: Instant) -> Option<Instant> {
        let (since_base, slack) = match self.pace {
            Pace::AsFast => return None,
            Pace::Rate(rate) => {
                let since_base = frames_time(self.count, rate);
                self.count += 1;
                (since_base, frames_time(BURST_FRAMES, rate).max(BURST_TIME))
            }
            Pace::Realtime => {
                let Some(first) = self.first else {
                    self.first = Some(timestamp);
                    self.base = now;
                    return None;
                };
                // A frame older than the one before it is due with that one: at once.
                self.latest = self.latest.max(Duration::from_nanos(timestamp.saturating_sub(first)));
                (self.latest, REALTIME_LAG)
            }
        };
        // A time beyond what the clock can express is never reached; a year is as good.
        let due = self.base.checked_add(since_base).unwrap_or(now + Duration::from_secs(365 * 86_400));
        if due > now {
            return Some(due);
        }
        self.base += (now - due).saturating_sub(slack);
        None
    }
}

/// Says how long so many frames take at a rate, without the rounding of one frame's time.
fn frames_time(count: u64, rate: u64) -> Duration {
    let nanoseconds = u128::from(count) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_rate_has_no_drift() {
        let start = Instant::now();
        // A third of a second is not a whole number of nanoseconds.
        let mut schedule = Schedule::new(Pace::Rate(3), start);
        assert_eq!(schedule.due_at(0, start), None);
        for n in 1..=3_000u32 {
            let due = schedule.due_at(0, start).unwrap_or(start);
            // Waking up late each time changes nothing.
            let expected = start + Duration::from_secs(1000) * n / 3000;
            assert!(due.max(expected) - due.min(expected) <= Duration::from_nanos(1), "{n}");
        }
    }

    #[test]
    fn a_late_rate_catches_up_in_one_bounded_burst() {
        for (rate, burst) in [(1000, 64), (100_000, 2000)] {
            let start = Instant::now();
            let mut schedule = Schedule::new(Pace::Rate(rate), start);
            let late = start + Duration::from_secs(60);
            let sent = (0..1_000_000).take_while(|_| schedule.due_at(0, late).is_none()).count();
            assert!((burst..=burst + 1).contains(&sent), "{sent} frames at once at {rate}/s");
        }
    }

    #[test]
    fn real_time_is_relative_to_the_first_frame_of_each_capture() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::Realtime, start);
        for begin in [start, start + 500 * MS] {
            schedule.begin_capture();
            assert_eq!(schedule.due_at(100 * SECOND, begin), None);
            assert_eq!(schedule.due_at(100 * SECOND + 7_000_000, begin), Some(begin + 7 * MS));
            // A frame goes backwards, also beyond the first frame: it is due with the one before
            // it.
            assert_eq!(schedule.due_at(100 * SECOND + 1, begin), Some(begin + 7 * MS));
            assert_eq!(schedule.due_at(0, begin + 8 * MS), None);
            assert_eq!(schedule.due_at(100 * SECOND + 9_000_000, begin + 8 * MS), Some(begin + 9 * MS));
        }
    }

    #[test]
    fn real_time_moves_after_a_suspension() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::Realtime, start);
        assert_eq!(schedule.due_at(0, start), None);
        let woken = start + Duration::from_secs(60);
        assert_eq!(schedule.due_at(SECOND, woken), None);
        assert_eq!(schedule.due_at(2 * SECOND, woken), None, "a second of lag is kept");
        assert!(schedule.due_at(3 * SECOND, woken).is_some());
    }

    #[test]
    fn times_beyond_the_clock_are_survived() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::Realtime, start);
        assert_eq!(schedule.due_at(0, start), None);
        assert!(schedule.due_at(u64::MAX, start).is_some());
        assert_eq!(frames_time(u64::MAX, 0), Duration::from_nanos(u64::MAX));
    }
}
