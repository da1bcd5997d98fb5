//! A lane counts its chunks that wait for the sink.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

    /// Returns the share of the lane's chunks that waits, in thousandths.
    pub(super) fn share(&self) -> u32 {
        let share = self.now.load(Ordering::Relaxed) * 1000 / self.of.max(1);
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}
