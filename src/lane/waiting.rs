//! Lanes count their chunks that wait for the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::chunk::CHUNK_MEMORY;

/// Chunks of one lane that are handed over, and that the sink has not taken. The lane adds and the
/// sink takes away, a chunk at a time.
#[derive(Debug)]
pub(super) struct Waiting {
    now: AtomicUsize,
    /// Chunks of the lane.
    of: usize,
    /// The lane hands nothing over any more.
    ended: AtomicBool,
}

impl Waiting {
    pub(super) fn new(of: usize) -> Self {
        Self { now: AtomicUsize::new(0), of, ended: AtomicBool::new(false) }
    }

    pub(super) fn handed_over(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Says whether half of the lane's chunks wait, or more.
    pub(super) fn is_half(&self) -> bool {
        self.share() >= 500
    }

    /// Returns the share of the lane's chunks that waits, in thousandths.
    pub(super) fn share(&self) -> u32 {
        let share = self.now.load(Ordering::Relaxed) * 1000 / self.of.max(1);
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}

/// The queue in front of an output: the chunks of all its lanes that wait for the sink.
#[derive(Debug, Clone)]
pub(crate) struct Queue(Arc<[Arc<Waiting>]>);

impl Queue {
    pub(super) fn new(lanes: Vec<Arc<Waiting>>) -> Self {
        Self(lanes.into())
    }

    pub(super) fn lane(&self, number: usize) -> Option<&Waiting> {
        self.0.get(number).map(|waiting| &**waiting)
    }

    /// Returns the share that waits of the lane of which most does, in thousandths.
    pub(super) fn behind(&self) -> u32 {
        self.0.iter().map(|waiting| waiting.share()).max().unwrap_or(0)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.iter().all(|waiting| waiting.has_ended())
    }

    /// Returns the memory of the chunks that wait, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let chunks: usize = self.0.iter().map(|waiting| waiting.now.load(Ordering::Relaxed)).sum();
        (chunks * CHUNK_MEMORY) as u64
    }

    /// Returns the memory of all chunks, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        let chunks: usize = self.0.iter().map(|waiting| waiting.of).sum();
        (chunks * CHUNK_MEMORY) as u64
    }
}
