//! The time by which files end.

use crate::record::Timestamp;

/// The clock that ends files whose interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// The time of day: frames are written when they come. A file ends also where no frame comes
    /// any more.
    #[default]
    Wall,
    /// The time of the frames: a file ends with the first frame of its session that is of another
    /// interval. This is for frames of another day, which the time of day would find to be over at
    /// every look. No frame ends the file of another session, for sessions can be of different
    /// days.
    Frames,
}

impl Clock {
    /// Returns the time by which files end where no frame comes, if there is one: it is `time`, the
    /// time of day.
    pub(super) fn of(self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Clock::Wall => Some(time),
            Clock::Frames => None,
        }
    }
}
