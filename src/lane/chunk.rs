//! A chunk is a fixed buffer of many records.

use std::sync::Arc;

use crate::record::{Timestamp, pcap};
use crate::route::SessionId;
use crate::wire::Direction;

/// Bytes of records in a chunk: large enough that handing one over costs nothing per frame, small
/// enough to stay in the second-level cache between the worker and the sink.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
/// The most runs in a chunk. With small frames of many sessions a chunk is full by this before it
/// is by bytes.
pub(crate) const CHUNK_RUNS: usize = 4096;
/// Memory of a chunk, its index included.
pub(crate) const CHUNK_MEMORY: usize = CHUNK_BYTES + CHUNK_RUNS * size_of::<Run>();

// A run counts its frames in 16 bits.
const _: () = assert!(CHUNK_BYTES / pcap::RECORD_HEADER_LEN <= u16::MAX as usize);

/// Frames of a session that were dropped for want of an empty chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The session.
    pub session: SessionId,
    /// The number of these frames.
    pub frames: u64,
}

/// Consecutive records of one session, and of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The session.
    pub session: SessionId,
    /// True where each of its frames is an IP packet behind an Ethernet header that was made up.
    pub is_bare_ip: bool,
    /// The offset in the chunk at which its records begin, in bytes.
    pub start: u32,
    /// The offset at which its records end.
    pub end: u32,
    /// The number of its frames: a chunk has room for 16,384 at most.
    pub frames: u16,
    /// The earliest receive time of its frames.
    pub earliest: Timestamp,
    /// The latest receive time of its frames.
    pub latest: Timestamp,
}

/// Records as pcap keeps them, and an index of runs. A chunk belongs to one lane for life, and
/// comes back to it when the sink is done.
#[derive(Debug, Default)]
pub struct Chunk {
    lane: u16,
    records: Vec<u8>,
    runs: Vec<Run>,
    frames: u32,
    losses: Vec<Loss>,
    notes: Vec<Note>,
    ways: Vec<Way>,
    forget: Option<Arc<Forget>>,
}

/// The way that a record's frame went, where the mirror said it: twice the offset in the chunk at
/// which the record ends, and one more where the frame went out. There can be one for each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way(u32);

impl Way {
    fn end(self) -> usize {
        self.0 as usize / 2
    }

    fn direction(self) -> Direction {
        if self.0.is_multiple_of(2) { Direction::Inbound } else { Direction::Outbound }
    }
}

/// What goes with a record besides, where its source had more to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// The offset in the chunk at which the record ends.
    pub end: u32,
    /// Options of pcapng, as they are written.
    pub options: Box<[u8]>,
}

/// Sessions that are forgotten: after this no frame comes that has one of these numbers, from the
/// lane that says so. When all have let go of it, the numbers are free.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forget {
    /// The numbers.
    pub sessions: Box<[SessionId]>,
}

impl Chunk {
    /// Makes an empty chunk of lane number `lane`.
    #[must_use]
    pub fn new(lane: u16) -> Self {
        Self {
            lane,
            records: Vec::with_capacity(CHUNK_BYTES),
            runs: Vec::with_capacity(CHUNK_RUNS),
            frames: 0,
            losses: Vec::new(),
            notes: Vec::new(),
            ways: Vec::new(),
            forget: None,
        }
    }

    /// Makes a chunk without room, that tells which sessions are forgotten, and of losses.
    pub(super) fn only_forgets(lane: u16, losses: Vec<Loss>, forget: Arc<Forget>) -> Self {
        Self { forget: Some(forget), ..Self::only_losses(lane, losses) }
    }

    /// Returns the sessions that are forgotten.
    #[must_use]
    pub(crate) fn forget(&self) -> Option<&Arc<Forget>> {
        self.forget.as_ref()
    }

    /// Makes a chunk without room, that only tells of losses.
    pub(super) fn only_losses(lane: u16, losses: Vec<Loss>) -> Self {
        Self { lane, losses, ..Self::default() }
    }

    /// Says what was lost before the first record of this chunk.
    pub(super) fn tell(&mut self, losses: Vec<Loss>) {
        self.losses = losses;
    }

    /// Returns what was lost between the last record of the lane's chunk before and the first of
    /// this one.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Says whether a frame of `length` bytes still fits.
    #[inline]
    #[must_use]
    pub fn fits(&self, length: usize) -> bool {
        self.records.len() + pcap::RECORD_HEADER_LEN + length <= CHUNK_BYTES && self.runs.len() < CHUNK_RUNS
    }

    /// Appends a frame that [`Chunk::fits`].
    #[inline(always)]
    pub fn push(&mut self, session: SessionId, timestamp: Timestamp, frame: &[u8], orig_len: u32) {
        self.push_kind((session, false), timestamp, frame, orig_len);
    }

    /// Appends a frame that [`Chunk::fits`], and says whether it is an IP packet behind an Ethernet
    /// header that was made up.
    #[inline(always)]
    pub(crate) fn push_kind(&mut self, of: (SessionId, bool), timestamp: Timestamp, frame: &[u8], orig_len: u32) {
        // A chunk is below 4 GiB, so its offsets fit.
        #[allow(clippy::cast_possible_truncation)]
        let start = self.records.len() as u32;
        pcap::push(&mut self.records, timestamp, frame, orig_len);
        #[allow(clippy::cast_possible_truncation)]
        let end = self.records.len() as u32;
        self.frames += 1;
        match self.runs.last_mut() {
            Some(run) if (run.session, run.is_bare_ip) == of => {
                run.end = end;
                run.frames += 1;
                run.earliest = run.earliest.min(timestamp);
                run.latest = run.latest.max(timestamp);
            }
            _ => {
                let (session, is_bare_ip) = of;
                let (earliest, latest) = (timestamp, timestamp);
                self.runs.push(Run { session, is_bare_ip, start, end, frames: 1, earliest, latest });
            }
        }
    }

    /// Adds options to the last record.
    pub(super) fn note(&mut self, options: &[u8]) {
        // A chunk is below 4 GiB, so its offsets fit.
        let end = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        self.notes.push(Note { end, options: options.into() });
    }

    /// Returns what goes with records besides, in their order.
    #[must_use]
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Says which way the last record's frame went.
    pub(super) fn went(&mut self, direction: Direction) {
        // A chunk is below 2 GiB, so twice an offset fits.
        let end = u32::try_from(2 * self.records.len()).unwrap_or(u32::MAX);
        self.ways.push(Way(end | u32::from(direction == Direction::Outbound)));
    }

    /// Returns which way the frame of the record went that ends at this offset, where the mirror
    /// said it.
    #[must_use]
    pub(crate) fn way(&self, end: usize) -> Option<Direction> {
        let place = self.ways.binary_search_by_key(&end, |way| way.end()).ok()?;
        self.ways.get(place).map(|way| way.direction())
    }

    /// Returns the lane that the chunk belongs to.
    #[must_use]
    pub(crate) fn lane(&self) -> u16 {
        self.lane
    }

    /// Returns how many frames are in it.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Says whether it has no frames.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Returns all records.
    #[must_use]
    pub(crate) fn records(&self) -> &[u8] {
        &self.records
    }

    /// Returns the runs with their records, in the order of receipt.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&Run, &[u8])> {
        self.runs.iter().map(|run| (run, self.records.get(run.start as usize..run.end as usize).unwrap_or_default()))
    }

    /// Empties the chunk; the memory stays.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.runs.clear();
        self.frames = 0;
        self.losses.clear();
        self.notes.clear();
        self.ways.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_frame_has_its_own_direction() {
        let mut chunk = Chunk::new(0);
        let ways = [None, Some(Direction::Outbound), Some(Direction::Inbound), None];
        for way in ways {
            chunk.push(SessionId::OVERFLOW, Timestamp::from_ns(1), &[1; 84], 84);
            way.into_iter().for_each(|way| chunk.went(way));
        }
        assert_eq!([100, 200, 300, 400].map(|end| chunk.way(end)), ways);
        assert_eq!([0, 16, 500].map(|end| chunk.way(end)), [None; 3]);
        chunk.clear();
        assert_eq!(chunk.way(200), None);
    }
}
