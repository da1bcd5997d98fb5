//! A watchdog of the service manager ends a sensor that hangs: `WatchdogSec=`.
//!
//! The sensor says that it is alive only where every worker has turned since it said so last. A
//! worker turns at least each 50 ms, whatever comes. Outputs are not asked: a file system that does
//! not answer is no reason to end a sensor that feeds an interface.

use std::time::{Duration, Instant};

use super::notify::Notify;

/// The part of the watchdog's time after which it is told again.
const PART: u32 = 4;

/// Says that the sensor is alive while it is.
#[derive(Debug)]
pub(crate) struct Watchdog {
    every: Option<Duration>,
    next: Instant,
    /// Turns of each worker when that was last said.
    turns: Vec<u64>,
}

impl Watchdog {
    /// Makes the watchdog that the service manager asks for, if it does.
    pub(crate) fn asked() -> Self {
        Self::new(sd_notify::watchdog_enabled())
    }

    fn new(time: Option<Duration>) -> Self {
        Self { every: time.map(|time| time / PART), next: Instant::now(), turns: Vec::new() }
    }

    /// Returns when it is to be fed next; none where there is none.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.every.map(|_| self.next)
    }

    /// Says that the sensor is alive where each worker has made more turns than when that was said
    /// last. Does so at the time that [`Watchdog::next`] returns at the earliest.
    pub(crate) fn feed(&mut self, turns: impl Iterator<Item = u64>, now: Instant, notify: &Notify) {
        if self.every.is_some_and(|_| now >= self.next) && self.is_alive(turns, now) {
            notify.alive();
        }
    }

    fn is_alive(&mut self, turns: impl Iterator<Item = u64>, now: Instant) -> bool {
        self.next = now + self.every.unwrap_or_default();
        let turns: Vec<u64> = turns.collect();
        let moved = turns.len() != self.turns.len() || turns.iter().zip(&self.turns).all(|(now, then)| now > then);
        if moved {
            self.turns = turns;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_to_turn() {
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(20)));
        let now = Instant::now();
        let mut alive = |turns: [u64; 2]| watchdog.is_alive(turns.into_iter(), now);
        assert!(alive([0, 0]), "nothing is known yet");
        assert!(alive([3, 4]));
        assert!(!alive([3, 9]), "one has not turned");
        assert!(!alive([3, 12]));
        assert!(alive([4, 13]));
        assert_eq!(watchdog.next(), Some(now + Duration::from_secs(5)));
        assert_eq!(Watchdog::new(None).next(), None);
    }
}
