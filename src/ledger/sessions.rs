//! A worker counts by session in cells that any thread can read meanwhile.
//!
//! Sessions come as long as the sensor runs, and the cells of a session must not move under a
//! reader. So they are in blocks, each twice as large as the one before, which are made when they
//! are needed and stay until the end. Neither the worker nor a reader takes a lock.

use std::sync::OnceLock;

use serde::Serialize;

use super::counter::{Counter, Gauge};
use crate::record::Timestamp;
use crate::session::Session;

/// Sessions in a cache line's pair, so that no line is shared with what lies beside a block.
const LINE: usize = 4;
/// Lines of the first block.
const FIRST: usize = 16;
/// Blocks, which is enough for every number of 32 bits.
const BLOCKS: usize = 27;

/// One mirror session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionTotals {
    /// Which session it is.
    #[serde(flatten)]
    pub session: Session,
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
struct SessionCells {
    frames: Counter,
    bytes: Counter,
    /// Nanoseconds, as in a [`Timestamp`].
    first: Gauge,
    last: Gauge,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([SessionCells; LINE]);

/// The cells of one worker for all sessions. One thread counts, and any reads.
#[derive(Debug)]
pub struct SessionCounts {
    blocks: [OnceLock<Box<[Line]>>; BLOCKS],
}

impl Default for SessionCounts {
    fn default() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS] }
    }
}

/// The block, the line within it and the cells within that of the session of this number.
#[inline]
const fn place(number: usize) -> (usize, usize, usize) {
    let line = number / LINE + FIRST;
    let block = (line.ilog2() - FIRST.ilog2()) as usize;
    (block, line - (FIRST << block), number % LINE)
}

impl SessionCounts {
    /// Counts frames of the session of this number, which came from `first` to `last`.
    #[inline]
    pub(crate) fn add(&self, number: usize, frames: u64, bytes: u64, [first, last]: [Timestamp; 2]) {
        let (block, line, cells) = place(number);
        let Some(lines) = self.blocks.get(block) else { return };
        let lines = match lines.get() {
            Some(lines) => lines,
            None => Self::make(lines, block),
        };
        let Some(cells) = lines.get(line).and_then(|line| line.0.get(cells)) else { return };
        // Outer packets may be reordered on their way through several receive queues.
        if cells.frames.get() == 0 || first.ns() < cells.first.get() {
            cells.first.set(first.ns());
        }
        if last.ns() > cells.last.get() {
            cells.last.set(last.ns());
        }
        cells.bytes.add(bytes);
        cells.frames.add(frames);
    }

    #[cold]
    fn make(lines: &OnceLock<Box<[Line]>>, block: usize) -> &[Line] {
        lines.get_or_init(|| (0..FIRST << block).map(|_| Line::default()).collect())
    }

    /// Returns what was counted of `session`, which has this number; none where nothing was.
    pub(super) fn totals(&self, number: usize, session: Session) -> Option<SessionTotals> {
        let (block, line, cells) = place(number);
        let cells = self.blocks.get(block)?.get()?.get(line)?.0.get(cells)?;
        let frames = Some(cells.frames.get()).filter(|frames| *frames > 0)?;
        let (first, last) = (Timestamp::from_ns(cells.first.get()), Timestamp::from_ns(cells.last.get()));
        Some(SessionTotals { session, frames, bytes: cells.bytes.get(), first, last })
    }
}

impl SessionTotals {
    /// Adds what another worker counted of the session.
    pub(super) fn add(self, more: &Self) -> Self {
        Self {
            session: self.session,
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
        let places: BTreeSet<_> = (0..10_000).map(place).collect();
        assert_eq!(places.len(), 10_000);
        for (block, line, cells) in places {
            assert!(line < FIRST << block && cells < LINE, "{block} {line} {cells}");
        }
        assert_eq!((place(0), place(63), place(64)), ((0, 0, 0), (0, 15, 3), (1, 0, 0)));
        assert!(place(u32::MAX as usize).0 < BLOCKS);
    }

    #[test]
    fn counts_stay_where_they_are_while_blocks_are_made() {
        let counts = SessionCounts::default();
        let session = Session::vxlan(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), Vni::MAX);
        let at = Timestamp::from_ns;
        for round in 1..=2 {
            for number in 0..5000 {
                counts.add(number, 1, number as u64, [at(10 * round), at(10 * round + 1)]);
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
