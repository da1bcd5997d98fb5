//! The history of what was read again while the sensor ran.

use super::status::Reload;
use crate::record::Timestamp;

/// How often a file was read again, and what came of it the last time.
#[derive(Debug, Default, Clone)]
pub(super) struct Reloads {
    pub(super) applied: u64,
    pub(super) refused: u64,
    pub(super) last: Option<Reload>,
    /// The time at which one was last applied.
    pub(super) succeeded: Option<Timestamp>,
}

impl Reloads {
    /// Notes another: the error for which it is not in force, or none.
    pub(super) fn note(&mut self, error: Option<String>) {
        let at = Timestamp::now();
        match error {
            None => (self.applied, self.succeeded) = (self.applied + 1, Some(at)),
            Some(_) => self.refused += 1,
        }
        self.last = Some(Reload { at, ok: error.is_none(), error });
    }
}
