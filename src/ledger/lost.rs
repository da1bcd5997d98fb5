//! The ends of outputs count by session what they lose.

use super::counter::Counter;
use super::rare::{Rare, Sums};
use super::seat::Seat;

/// The frames that an end of an output has lost, by session, as far as their sessions are known.
/// One thread counts, and any reads. What was counted of a session that is forgotten is taken away
/// when nobody has a frame of it any more, and before another gets its number.
#[derive(Debug, Default)]
pub struct Lost {
    sessions: Rare,
    /// Frames of sessions that were forgotten before it was known that these are lost.
    late: Counter,
}

/// What outputs have lost, added up.
#[derive(Debug, Default)]
pub(super) struct LostBy {
    /// Frames of sessions that have expired.
    pub(super) expired: u64,
    /// Frames by the number of the session; 0 has those beyond the limit.
    pub(super) sessions: Sums,
}

impl Lost {
    /// Counts frames of the session in this seat.
    pub(crate) fn add(&self, seat: Seat, frames: u64) {
        self.sessions.add(seat, frames);
    }

    /// Counts frames of a session that is forgotten.
    pub(crate) fn add_late(&self, frames: u64) {
        self.late.add(frames);
    }

    /// Forgets what was counted of the session in this seat, and returns it.
    pub(crate) fn forget(&self, seat: Seat) -> u64 {
        self.sessions.forget(seat)
    }

    /// Counts what `ended` has counted, which counts no more.
    pub(super) fn take_over(&self, ended: &Self) {
        self.sessions.take_over(&ended.sessions);
        self.late.add(ended.late.get());
    }

    /// Adds up what several have counted, with `forgotten` of sessions that are no more.
    pub(super) fn of<'a>(forgotten: &Counter, all: impl Iterator<Item = &'a Self> + Clone) -> LostBy {
        // What is counted of a session that expires goes from its cells to the other: it is not
        // read twice.
        let expired = forgotten.get() + all.clone().map(|lost| lost.late.get()).sum::<u64>();
        LostBy { expired, sessions: Sums::of(all.map(|lost| &lost.sessions)) }
    }
}
