//! A worker counts by session in cells that any thread can read meanwhile.
//!
//! Sessions come as long as the sensor runs, and the cells of a session must not move under a
//! reader. So they are in blocks, each twice as large as the one before, which are made when they
//! are needed and stay until the end. The first one is there from the beginning: where its cells
//! are does not hang on what is read from memory, which is felt where sessions mix. Neither the
//! worker nor a reader takes a lock.

use std::sync::OnceLock;

use serde::Serialize;

use super::counter::{Counter, Gauge};
use super::rare::Rare;
use super::seat::{FIRST, LATER, Seat};
use crate::record::Timestamp;
use crate::session::{Label, Session};

/// Cells at each end of a block that nobody uses: they fill a pair of cache lines, so that no line
/// is shared with what lies beside the block.
const EDGE: usize = 4;

/// One mirror session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionTotals {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// What people call it.
    #[serde(flatten)]
    pub label: Label,
    /// Frames.
    pub frames: u64,
    /// Bytes of the frames as they arrived.
    pub bytes: u64,
    /// Receive time of the first frame.
    pub first: Timestamp,
    /// Receive time of the last frame.
    pub last: Timestamp,
    /// Frames that outputs lost; one that two of them lost counts twice.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Frames whose packet another session of the group had delivered before.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicates: u64,
    /// What the numbers of its sender tell.
    #[serde(flatten)]
    pub upstream: Upstream,
}

/// The frames of a session that its sender has numbered and that were missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Numbers that had not come when later ones did.
    #[serde(rename = "upstream_missed", skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// Of these, numbers that came late.
    #[serde(rename = "upstream_late", skip_serializing_if = "is_zero")]
    pub late: u64,
}

impl Upstream {
    /// Returns the frames that were lost before the sensor had them.
    #[must_use]
    pub(super) fn lost(self) -> u64 {
        self.missed.saturating_sub(self.late)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The cells of one worker for one session.
///
/// `frames` is written last and read first. So a reader finds in the others at least what belongs
/// to the frames that it saw, and perhaps what belongs to a few that came meanwhile.
#[derive(Debug, Default)]
#[repr(align(32))]
struct SessionCells {
    frames: Counter,
    bytes: Counter,
    /// Nanoseconds, as in a [`Timestamp`], with every bit turned: so the largest number is the
    /// earliest time, and zero is none.
    first: Gauge,
    /// Nanoseconds, as in a [`Timestamp`].
    last: Gauge,
}

/// The cells of one worker for all sessions. One thread counts, and any reads.
#[derive(Debug)]
pub struct SessionCounts {
    first: Box<[SessionCells; FIRST + 2 * EDGE]>,
    later: [OnceLock<Box<[SessionCells]>>; LATER],
    /// Frames that another session of the group had delivered before.
    pub(super) duplicates: Rare,
    /// Frames that were missing, and that came late, by the numbers of their senders.
    pub(super) missed: Rare,
    pub(super) late: Rare,
}

/// What was counted of a session that is forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Frames.
    pub(crate) frames: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// Of these frames, duplicates.
    pub(crate) duplicates: u64,
}

impl Default for SessionCounts {
    fn default() -> Self {
        let first = Box::new(std::array::from_fn(|_| SessionCells::default()));
        Self {
            first,
            later: [const { OnceLock::new() }; LATER],
            duplicates: Rare::default(),
            missed: Rare::default(),
            late: Rare::default(),
        }
    }
}

/// Returns the later block of a seat that is not in the first one, and the cells there.
const fn later(seat: Seat) -> (usize, usize) {
    let (block, place) = seat.later();
    (block, place + EDGE)
}

impl SessionCounts {
    /// Counts frames of the session in this seat, which came from `first` to `last`.
    #[inline]
    pub(crate) fn add(&self, seat: Seat, frames: u64, bytes: u64, [first, last]: [Timestamp; 2]) {
        let number = seat.number();
        let cells = if number < FIRST { self.first.get(number + EDGE) } else { self.later_cells(seat) };
        let Some(cells) = cells else { return };
        // Outer packets may be reordered on their way through several receive queues.
        if !first.ns() > cells.first.get() {
            cells.first.set(!first.ns());
        }
        if last.ns() > cells.last.get() {
            cells.last.set(last.ns());
        }
        cells.bytes.add(bytes);
        cells.frames.add(frames);
    }

    fn later_cells(&self, seat: Seat) -> Option<&SessionCells> {
        let (number, cells) = later(seat);
        let block = self.later.get(number)?;
        let block = match block.get() {
            Some(block) => block,
            None => Self::make(block, number),
        };
        block.get(cells)
    }

    /// Returns the cells of the session of this number, if they were needed so far.
    fn cells(&self, number: usize) -> Option<&SessionCells> {
        if number < FIRST {
            return self.first.get(number + EDGE);
        }
        let (block, cells) = later(Seat::of(number));
        self.later.get(block)?.get()?.get(cells)
    }

    /// Counts a frame of the session in this seat as one that another session of the group had
    /// delivered before.
    pub(crate) fn duplicate(&self, seat: Seat) {
        self.duplicates.add(seat, 1);
    }

    /// Counts frames of the session in this seat that were missing, and such that came late.
    pub(crate) fn upstream(&self, seat: Seat, missed: u64, late: u64) {
        self.missed.add(seat, missed);
        self.late.add(seat, late);
    }

    /// Forgets what was counted of the session of this number, and returns it. What was missing
    /// of it stays in the sum of all sessions.
    pub(crate) fn forget(&self, number: usize) -> Forgotten {
        let Some(cells) = self.cells(number) else { return Forgotten::default() };
        let duplicates = self.duplicates.forget(Seat::of(number));
        self.missed.forget(Seat::of(number));
        self.late.forget(Seat::of(number));
        let counted = Forgotten { frames: cells.frames.get(), bytes: cells.bytes.get(), duplicates };
        cells.frames.begin_anew();
        cells.bytes.begin_anew();
        cells.first.set(0);
        cells.last.set(0);
        counted
    }

    /// Returns the time of the last frame of the session of this number; none where there was none.
    pub(crate) fn last(&self, number: usize) -> Option<Timestamp> {
        let last = Timestamp::from_ns(self.cells(number)?.last.get());
        Some(last).filter(|last| last.ns() > 0)
    }

    #[cold]
    fn make(block: &OnceLock<Box<[SessionCells]>>, number: usize) -> &[SessionCells] {
        block.get_or_init(|| (0..(FIRST << number) + 2 * EDGE).map(|_| SessionCells::default()).collect())
    }

    /// Returns what was counted of `session`, which has this number; none where nothing was.
    pub(super) fn totals(&self, number: usize, session: Session) -> Option<SessionTotals> {
        let cells = self.cells(number)?;
        let frames = Some(cells.frames.get()).filter(|frames| *frames > 0)?;
        let (first, last) = (Timestamp::from_ns(!cells.first.get()), Timestamp::from_ns(cells.last.get()));
        let (label, upstream) = Default::default();
        let bytes = cells.bytes.get();
        Some(SessionTotals { session, label, frames, bytes, first, last, lost: 0, duplicates: 0, upstream })
    }
}

impl SessionTotals {
    /// Adds what another worker counted in its cells of the session. The rest is summed elsewhere.
    pub(super) fn add(self, more: &Self) -> Self {
        Self {
            frames: self.frames + more.frames,
            bytes: self.bytes + more.bytes,
            first: self.first.min(more.first),
            last: self.last.max(more.last),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Vni;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    #[test]
    fn every_number_has_cells_of_its_own_in_blocks_that_double() {
        let seats: BTreeSet<_> = (FIRST..10_000).map(|number| later(Seat::of(number))).collect();
        assert_eq!(seats.len(), 10_000 - FIRST);
        for (block, cells) in seats {
            assert!((EDGE..(FIRST << block) + EDGE).contains(&cells), "{block} {cells}");
        }
        assert_eq!([1024, 2047, 2048].map(|number| later(Seat::of(number))), [(0, 4), (0, 1027), (1, 4)]);
        assert_eq!(later(Seat::of(u32::MAX as usize)).0, LATER - 1);
    }

    #[test]
    fn counts_stay_where_they_are_while_blocks_are_made() {
        let counts = SessionCounts::default();
        let session = Session::vxlan(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), Vni::MAX);
        let at = Timestamp::from_ns;
        for round in 1..=2 {
            for number in 0..5000 {
                counts.add(Seat::of(number), 1, number as u64, [at(10 * round), at(10 * round + 1)]);
            }
        }
        for number in 0..5000 {
            let totals = counts.totals(number, session).unwrap();
            assert_eq!((totals.frames, totals.bytes), (2, 2 * number as u64));
            assert_eq!((totals.first, totals.last), (at(10), at(21)));
        }
        assert_eq!(counts.totals(100_000, session), None);
    }
}
