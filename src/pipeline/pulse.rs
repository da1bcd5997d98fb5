//! A worker's pulse shows from outside that its loop turns.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The pulse of one worker. The worker stores it once per turn of its loop, never per frame.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Pulse {
    /// Times are told from here on, in nanoseconds.
    epoch: Instant,
    turns: AtomicU64,
    turned: AtomicU64,
    busy: AtomicU64,
}

/// What the pulse of a worker tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Turns of the worker's loop. This never falls.
    pub turns: u64,
    /// The time since the last of them.
    pub idle: Duration,
    /// The time that the worker did not spend waiting, up to its last turn. This never falls.
    pub busy: Duration,
}

impl Default for Pulse {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { epoch: Instant::now(), turns: zero(), turned: zero(), busy: zero() }
    }
}

impl Pulse {
    /// Notes a turn at the time `now` by a worker that has rested so long. The worker alone calls
    /// this.
    #[inline]
    pub(super) fn turn(&self, now: Instant, rested: Duration) {
        let turned = now.duration_since(self.epoch);
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.turned.store(nanoseconds(turned), Ordering::Relaxed);
        self.busy.store(nanoseconds(turned.saturating_sub(rested)), Ordering::Relaxed);
    }

    /// Returns what it tells at the time `now`.
    pub(crate) fn beat(&self, now: Instant) -> Beat {
        let turned = Duration::from_nanos(self.turned.load(Ordering::Relaxed));
        Beat {
            turns: self.turns.load(Ordering::Relaxed),
            idle: now.duration_since(self.epoch).saturating_sub(turned),
            busy: Duration::from_nanos(self.busy.load(Ordering::Relaxed)),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_tells_of_the_last_turn_and_of_the_time_that_was_not_spent_waiting() {
        let pulse = Pulse::default();
        let at = |seconds| pulse.epoch + Duration::from_secs(seconds);
        let beat = |now| {
            let Beat { turns, idle, busy } = pulse.beat(now);
            (turns, idle.as_secs(), busy.as_secs())
        };
        assert_eq!(beat(at(7)), (0, 7, 0), "a worker that never turned stalls from the start");
        pulse.turn(at(10), Duration::from_secs(4));
        assert_eq!(beat(at(10)), (1, 0, 6));
        pulse.turn(at(11), Duration::from_secs(5));
        assert_eq!(beat(at(14)), (2, 3, 6), "it waited all the time");
    }
}
