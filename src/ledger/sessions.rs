//! A worker counts by session in cells that any thread can read meanwhile.
//!
//! Sessions come as long as the sensor runs, and the cells of a session must not move under a
//! reader. So they are in blocks, each twice as large as the one before, which are made when they
//! are needed and stay until the end. Neither the worker nor a reader takes a lock.

use std::sync::OnceLock;

use serde::Serialize;

use super::counter::{Counter, Gauge};
use crate::record::Timestamp;
use crate::session::{Label, Session};

/// Cells at each end of a block that nobody uses: they fill a pair of cache lines, so that no line
/// is shared with what lies beside the block.
const EDGE: usize = 4;
/// Sessions of the first block.
const FIRST: usize = 64;
/// Blocks, which is enough for every number of 32 bits.
const BLOCKS: usize = 27;

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
    blocks: [OnceLock<Box<[SessionCells]>>; BLOCKS],
}

impl Default for SessionCounts {
    fn default() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS] }
    }
}

/// The place of the cells of a session. Whoever counts a train of its frames looks it up once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Seat {
    block: usize,
    /// Cells of the block.
    cells: usize,
}

impl Seat {
    /// The seat of the session of this number.
    #[inline]
    #[must_use]
    pub(crate) const fn of(number: usize) -> Self {
        let place = number + FIRST;
        let block = (place.ilog2() - FIRST.ilog2()) as usize;
        Self { block, cells: place - (FIRST << block) + EDGE }
    }
}

impl SessionCounts {
    /// Counts frames of the session in this seat, which came from `first` to `last`.
    #[inline]
    pub(crate) fn add(&self, seat: Seat, frames: u64, bytes: u64, [first, last]: [Timestamp; 2]) {
        let Some(block) = self.blocks.get(seat.block) else { return };
        let block = match block.get() {
            Some(block) => block,
            None => Self::make(block, seat.block),
        };
        let Some(cells) = block.get(seat.cells) else { return };
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

    /// Forgets what was counted of the session of this number, and returns it: frames and bytes.
    pub(crate) fn forget(&self, number: usize) -> (u64, u64) {
        let seat = Seat::of(number);
        let cells = self.blocks.get(seat.block).and_then(OnceLock::get).and_then(|block| block.get(seat.cells));
        let Some(cells) = cells else { return (0, 0) };
        let counted = (cells.frames.get(), cells.bytes.get());
        cells.frames.begin_anew();
        cells.bytes.begin_anew();
        cells.first.set(0);
        cells.last.set(0);
        counted
    }

    /// Returns the time of the last frame of the session of this number; none where there was none.
    pub(crate) fn last(&self, number: usize) -> Option<Timestamp> {
        let seat = Seat::of(number);
        let cells = self.blocks.get(seat.block)?.get()?.get(seat.cells)?;
        Some(Timestamp::from_ns(cells.last.get())).filter(|last| last.ns() > 0)
    }

    #[cold]
    fn make(block: &OnceLock<Box<[SessionCells]>>, number: usize) -> &[SessionCells] {
        block.get_or_init(|| (0..(FIRST << number) + 2 * EDGE).map(|_| SessionCells::default()).collect())
    }

    /// Returns what was counted of `session`, which has this number; none where nothing was.
    pub(super) fn totals(&self, number: usize, session: Session) -> Option<SessionTotals> {
        let seat = Seat::of(number);
        let cells = self.blocks.get(seat.block)?.get()?.get(seat.cells)?;
        let frames = Some(cells.frames.get()).filter(|frames| *frames > 0)?;
        let (first, last) = (Timestamp::from_ns(!cells.first.get()), Timestamp::from_ns(cells.last.get()));
        let label = Label::default();
        Some(SessionTotals { session, label, frames, bytes: cells.bytes.get(), first, last })
    }
}

impl SessionTotals {
    /// Adds what another worker counted of the session.
    pub(super) fn add(self, more: &Self) -> Self {
        Self {
            session: self.session,
            label: self.label,
            frames: self.frames + more.frames,
            bytes: self.bytes + more.bytes,
            first: self.first.min(more.first),
            last: self.last.max(more.last),
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
        let seats: BTreeSet<_> = (0..10_000).map(Seat::of).collect();
        assert_eq!(seats.len(), 10_000);
        for Seat { block, cells } in seats {
            assert!((EDGE..(FIRST << block) + EDGE).contains(&cells), "{block} {cells}");
        }
        let seat = |block, cells| Seat { block, cells };
        assert_eq!([0, 63, 64].map(Seat::of), [seat(0, 4), seat(0, 67), seat(1, 4)]);
        assert!(Seat::of(u32::MAX as usize).block < BLOCKS);
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
