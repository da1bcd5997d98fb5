//! Bursts: this says whether more comes than the disk takes, so that the page cache has to take it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many thousandths of the queue are too many to wait. The rest of the queue has to hold what
/// comes until the writes on their way are done.
const HALF: u32 = 500;

/// A burst is over when it has been calm for this long.
const CALM: Duration = Duration::from_secs(10);

/// The calm that is asked for grows to this where bursts follow each other: the disk is slower than
/// what comes for good, and each change of the way costs some of the queue.
const LONGEST: Duration = Duration::from_secs(320);

/// The state of an output's queue, as to bursts.
#[derive(Debug, Default)]
pub(super) struct Burst {
    waiting: AtomicU32,
    last: Mutex<Option<Last>>,
}

/// The last burst that the disk could not take.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// The time at which too many waited last.
    high: Instant,
    calm: Duration,
}

impl Last {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.high) >= self.calm
    }
}

impl Burst {
    /// Hears that so many thousandths of the queue wait at `now`.
    pub(super) fn hear(&self, waiting: u32, now: Instant) {
        self.waiting.store(waiting, Ordering::Relaxed);
        if waiting >= HALF {
            let mut last = self.last.lock();
            // A burst that is over does not begin again by itself: the disk need not be the reason.
            last.iter_mut().filter(|last| !last.is_over(now)).for_each(|last| last.high = now);
        }
    }

    /// Says whether too many wait.
    pub(super) fn is_high(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= HALF
    }

    /// Begins a burst: too many wait, and they wait for the disk.
    pub(super) fn begin(&self, now: Instant) {
        let mut last = self.last.lock();
        let calm = match *last {
            // The calm before this burst was not worth much more than it took.
            Some(last) if now.duration_since(last.high) < 2 * last.calm => LONGEST.min(2 * last.calm),
            Some(_) | None => CALM,
        };
        *last = Some(Last { high: now, calm });
    }

    /// Says whether it is calm at `now`, and has been for long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let last = self.last.lock();
        last.is_none_or(|last| last.is_over(now))
    }

    /// Acts as if too many had waited at `high` for the last time.
    #[cfg(test)]
    pub(super) fn calm_since(&self, high: Instant) {
        self.last.lock().iter_mut().for_each(|last| last.high = high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_over_after_a_calm_that_grows_where_it_comes_again() {
        let burst = Burst::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        burst.hear(HALF - 1, at(0));
        assert!(!burst.is_high());
        burst.hear(HALF, at(0));
        assert!(burst.is_high() && burst.is_over(at(0)), "the disk need not be the reason");
        burst.begin(at(0));
        burst.hear(0, at(1));
        assert!(!burst.is_high() && !burst.is_over(at(1)), "a moment is no calm");
        burst.hear(1000, at(5));
        assert!(!burst.is_over(at(14)) && burst.is_over(at(15)));
        burst.hear(1000, at(15));
        assert!(burst.is_over(at(15)), "it does not begin again by itself");
        // It is said each time at once again.
        for (begins, calm) in [(15, 20), (35, 40), (75, 80), (155, 160), (315, 320), (635, 320)] {
            burst.begin(at(begins));
            assert!(!burst.is_over(at(begins + calm - 1)) && burst.is_over(at(begins + calm)), "{calm}");
        }
        burst.begin(at(635 + 1000));
        assert!(burst.is_over(at(1645)), "after a long calm it begins anew");
    }
}
