//! A plan says how much is kept, and how much room is left free.

use std::time::Duration;

use crate::evidence::{Entry, PruneReason};
use crate::record::Timestamp;
use crate::storage::Space;

/// The bytes below which what is above the room to leave free is near its end: twice what an output
/// writes in a second.
const NEAR: u64 = 4 << 30;

/// Room to leave free on the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// Bytes.
    Bytes(u64),
    /// Thousandths of its size, from 1 to 999.
    Permille(u16),
    /// 5 %, and 10 GiB at most. A host needs so much to go on, whoever did not say how much.
    Usual,
}

impl MinFree {
    /// Returns the bytes to leave free of `total`.
    #[must_use]
    pub(crate) fn of(self, total: u64) -> u64 {
        match self {
            MinFree::Bytes(bytes) => bytes,
            // In two parts, which cannot overflow.
            MinFree::Permille(share) => {
                let share = u64::from(share.min(1000));
                total / 1000 * share + total % 1000 * share / 1000
            }
            MinFree::Usual => (total / 20).min(10 << 30),
        }
    }

    /// Returns how long it takes at least until more of `space` is gone than may be. Then it has to
    /// be looked at again.
    #[must_use]
    pub(crate) fn look_after(self, space: Space) -> Duration {
        let is_near = space.free < self.of(space.total).saturating_add(NEAR);
        Duration::from_millis(if is_near { 20 } else { 1000 })
    }
}

/// Says how much is kept. Each limit stands by itself; without any, all is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BudgetPlan {
    /// Bytes of all captures, those that are still written to or wait to be published included.
    pub keep_bytes: Option<u64>,
    /// Published captures.
    pub keep_files: Option<u64>,
    /// The longest time since the last frame of a capture.
    pub keep_age: Option<Duration>,
    /// Room to leave free on the file system, whoever uses the rest.
    pub min_free: Option<MinFree>,
    /// Room that frames do not get, where no other limit sees to it, or no capture can be removed.
    /// Nothing is removed for this room.
    pub reserve: Option<MinFree>,
}

impl BudgetPlan {
    /// Says whether anything is ever removed.
    #[must_use]
    pub(crate) fn removes(&self) -> bool {
        self.keep_bytes.is_some() || self.keep_files.is_some() || self.keep_age.is_some() || self.min_free.is_some()
    }

    /// Returns the reserve, on a file system of `total` bytes, while captures can be removed. There
    /// is none where captures cannot grow as large, or room is made for others.
    #[must_use]
    pub(crate) fn reserve_of(&self, total: u64) -> Option<MinFree> {
        let is_bounded = self.min_free.is_some() || self.keep_bytes.is_some_and(|keep| keep <= total);
        self.reserve.filter(|_| !is_bounded)
    }

    /// Returns the bytes that are to be free on a file system of `total` bytes; none where all may
    /// be used.
    #[must_use]
    pub(crate) fn free_of(&self, total: u64) -> Option<u64> {
        self.min_free.or_else(|| self.reserve_of(total)).map(|free| free.of(total))
    }

    /// Returns the limit that is exceeded by so many captures with so many bytes, if any is.
    /// `oldest` is the capture that would go for it.
    pub(super) fn exceeded(
        &self,
        oldest: &Entry,
        now: Timestamp,
        files: u64,
        bytes: u64,
        space: Option<Space>,
    ) -> Option<PruneReason> {
        let too_old = self.keep_age.is_some_and(|age| oldest.last.saturating_add(age) < now);
        let too_many = self.keep_files.is_some_and(|keep| files > keep);
        let too_large = self.keep_bytes.is_some_and(|keep| bytes > keep);
        let too_full = self.is_short(space);
        let reasons = [
            (too_old, PruneReason::KeepAge),
            (too_many, PruneReason::KeepFiles),
            (too_large, PruneReason::KeepBytes),
            (too_full, PruneReason::MinFree),
        ];
        reasons.into_iter().find(|(exceeded, _)| *exceeded).map(|(_, reason)| reason)
    }

    /// Says whether `space` is less than is to be left free.
    pub(super) fn is_short(&self, space: Option<Space>) -> bool {
        self.min_free.zip(space).is_some_and(|(min, space)| space.free < min.of(space.total))
    }
}
