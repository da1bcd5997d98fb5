//! What the workers counted by session, and of sessions that have expired.

use super::counters::Expired;
use super::sessions::SessionTotals;

/// What was counted by session.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// The sessions in the order of source and VNI.
    pub sessions: Vec<SessionTotals>,
    /// The frames of sessions that have expired.
    pub expired: Expired,
    /// Frames of sessions beyond the limit that outputs lost.
    pub lost_beyond: u64,
}

impl std::ops::Deref for Counted {
    type Target = [SessionTotals];

    fn deref(&self) -> &[SessionTotals] {
        &self.sessions
    }
}

impl From<Vec<SessionTotals>> for Counted {
    fn from(sessions: Vec<SessionTotals>) -> Self {
        Self { sessions, ..Self::default() }
    }
}
