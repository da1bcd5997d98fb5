//! What came in the last hour.
//!
//! A thread notes each minute what was counted by then. What came in the last hour is what is
//! counted now, less the note of an hour ago.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::status::LastHour;

/// The time that is looked back.
const HOUR: Duration = Duration::from_secs(3600);
/// The time between two notes.
const EVERY: Duration = Duration::from_secs(60);

/// Datagrams that were received, and their bytes.
pub(super) type Received = (u64, u64);

/// The notes of the last hour, the oldest first.
#[derive(Debug)]
pub(super) struct Pace(VecDeque<(Instant, Received)>);

impl Pace {
    /// Begins where nothing was received yet.
    pub(super) fn new(begun: Instant) -> Self {
        Self([(begun, (0, 0))].into())
    }

    /// Notes what was received by now, if it is time to. There are never more than 62 notes.
    pub(super) fn note(&mut self, now: Instant, received: impl FnOnce() -> Received) {
        if self.0.back().is_some_and(|(at, _)| now.duration_since(*at) < EVERY) {
            return;
        }
        self.0.push_back((now, received()));
        // The oldest is the last one that is an hour old.
        while self.0.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= HOUR) {
            self.0.pop_front();
        }
    }

    /// Says what came since the oldest note.
    pub(super) fn lately(&self, now: Instant, (received, bytes): Received) -> LastHour {
        let (at, (before, bytes_before)) = self.0.front().copied().unwrap_or((now, (received, bytes)));
        LastHour {
            seconds: now.duration_since(at).as_secs_f64(),
            received: received.saturating_sub(before),
            received_bytes: bytes.saturating_sub(bytes_before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_more_than_an_hour_ago_is_forgotten() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut pace = Pace::new(begun);
        assert_eq!(pace.lately(at(2), (8, 800)), LastHour { seconds: 2.0, received: 8, received_bytes: 800 });
        // A thousand each second for an hour, then one. A look comes four times a second.
        let counted = |second: u64| 1000 * second.min(3600) + second.saturating_sub(3600);
        for quarter in 0..4 * 9000 {
            let second = quarter / 4;
            pace.note(begun + Duration::from_millis(250 * quarter), || (counted(second), 100 * counted(second)));
            assert!(pace.0.len() <= 62, "{} at {second}", pace.0.len());
        }
        let lately = pace.lately(at(9000), (counted(9000), 100 * counted(9000)));
        assert!((3600.0..=3660.0).contains(&lately.seconds), "{lately:?}");
        let rate = lately.received as f64 / lately.seconds;
        assert!((0.99..1.01).contains(&rate) && lately.received_bytes == 100 * lately.received, "{lately:?}");
    }

    #[test]
    fn before_an_hour_is_over_all_counts_also_where_no_look_came_for_long() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut pace = Pace::new(begun);
        pace.note(at(600), || (5, 50));
        pace.note(at(601), || panic!("it is too early"));
        let lately =
            |pace: &Pace, second| (pace.lately(at(second), (9, 90)).received, pace.lately(at(second), (9, 90)).seconds);
        assert_eq!(lately(&pace, 3000), (9, 3000.0));
        pace.note(at(4300), || (9, 90));
        assert_eq!(lately(&pace, 4300), (4, 3700.0), "of what is between the notes nothing is known");
    }
}
