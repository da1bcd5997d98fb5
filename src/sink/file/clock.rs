//! The time by which files end.

use crate::record::Timestamp;

/// The clock that ends files whose interval is over, also where no frame comes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The time of day: frames are written when they come.
    #[default]
    Wall,
    /// The frames' own: the latest receive time of all of them so far. For frames of another day,
    /// which the time of day would find to be over at every look.
    Frames,
}

/// A clock that goes.
#[derive(Debug)]
pub(super) struct Time {
    clock: Clock,
    /// The latest receive time of all frames so far.
    latest: Timestamp,
}

impl Time {
    /// Begins at the epoch where the time is the frames' own.
    pub(super) fn by(clock: Clock) -> Self {
        Self { clock, latest: Timestamp::default() }
    }

    /// Frames are written of which the last is of this time.
    pub(super) fn hear(&mut self, latest: Timestamp) {
        self.latest = self.latest.max(latest);
    }

    /// Returns which time it is.
    pub(super) fn now(&self) -> Timestamp {
        match self.clock {
            Clock::Wall => Timestamp::now(),
            Clock::Frames => self.latest,
        }
    }
}
