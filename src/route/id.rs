//! A session has a number.

use crate::ledger::Seat;

/// The number of a session, in the order of first sight. The number 0 stands for all sessions
/// beyond the limit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(super) u32);

impl SessionId {
    /// The session that stands for all beyond the limit.
    pub const OVERFLOW: SessionId = SessionId(0);

    /// Returns the number as an index from 0.
    #[must_use]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Returns the place where it is counted by session.
    #[must_use]
    pub(crate) const fn seat(self) -> Seat {
        Seat::of(self.index())
    }
}
