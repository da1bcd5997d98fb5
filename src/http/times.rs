//! A connection has so much time for each of its parts, so that whoever dawdles is let go.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time for the head of a request.
pub(super) const HEAD: Duration = Duration::from_secs(5);
/// The time for a request, and the time for taking its answer.
pub(super) const WHOLE: Duration = Duration::from_secs(10);
/// The time between two looks at a connection that has no end of its own.
const LOOK: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// The client asks.
    Asking,
    /// The answer is being made.
    Answering,
    /// The client takes the answer.
    Writing,
    /// The client takes what comes, for as long as it likes. It may take nothing for so long.
    Streaming(Duration),
}

/// The times of one connection.
#[derive(Debug)]
pub(super) struct Times(Mutex<State>);

#[derive(Debug)]
struct State {
    doing: Doing,
    since: Instant,
    /// The time since which the client has taken nothing, where something waits for it.
    stalled: Option<Instant>,
}

impl Times {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State { doing: Doing::Asking, since: now, stalled: None }))
    }

    /// Notes what the connection does from now on.
    pub(super) fn does(&self, doing: Doing, now: Instant) {
        let mut state = self.0.lock();
        (state.doing, state.since) = (doing, now);
    }

    /// Notes whether the client took what was written.
    pub(super) fn took(&self, anything: bool, now: Instant) {
        let mut state = self.0.lock();
        if anything {
            state.stalled = None;
        } else {
            state.stalled.get_or_insert(now);
        }
    }

    /// Returns what the connection does.
    pub(super) fn doing(&self) -> Doing {
        self.0.lock().doing
    }

    /// Returns for how long the connection need not be looked at; none where its time is over.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let state = self.0.lock();
        let until = match (state.doing, state.stalled) {
            (Doing::Asking | Doing::Writing, _) => state.since + WHOLE,
            (Doing::Streaming(pause), Some(stalled)) => stalled + pause,
            (Doing::Answering | Doing::Streaming(_), _) => return Some(LOOK),
        };
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let times = Times::new(start);
        assert_eq!(times.left(after(9)), Some(Duration::from_secs(1)));
        assert_eq!(times.left(after(10)), None, "the request did not come");
        times.does(Doing::Answering, after(9));
        assert_eq!(times.left(after(1000)), Some(LOOK), "an answer takes what it takes");
        times.does(Doing::Writing, after(1000));
        times.took(false, after(1001));
        assert_eq!(times.left(after(1009)), Some(Duration::from_secs(1)));
        times.took(true, after(1009));
        assert_eq!(times.left(after(1010)), None, "a byte now and then is not enough");
        times.does(Doing::Streaming(WHOLE), after(1010));
        assert_eq!(times.left(after(5000)), Some(LOOK), "nothing waits");
        times.took(false, after(5000));
        times.took(false, after(5009));
        assert_eq!(times.left(after(5010)), None, "nothing is taken");
    }
}
