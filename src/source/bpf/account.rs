//! The account of what the program does in front of one worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shared::Shared;
use crate::source::fast_path::{Account, Counted, FastPath};

/// The account of what the program does with the datagrams of one source.
#[derive(Debug)]
pub(super) struct ProgramAccount {
    /// Numbers of the source's rings, and how many records it has read of each.
    rings: Vec<(u32, Arc<AtomicU64>)>,
    shared: Arc<Shared>,
}

impl ProgramAccount {
    pub(super) fn new(rings: Vec<(u32, Arc<AtomicU64>)>, shared: Arc<Shared>) -> Self {
        Self { rings, shared }
    }
}

impl Account for ProgramAccount {
    fn so_far(&mut self) -> io::Result<FastPath> {
        let mut sum = FastPath::default();
        for (ring, read) in &self.rings {
            let counts = self.shared.program.counts(*ring).map_err(io::Error::other)?;
            sum.taken += counts.taken;
            sum.read += read.load(Ordering::Relaxed);
            sum.ring_full += counts.ring_full;
            sum.unselected += counts.unselected;
            sum.unselected_bytes += counts.unselected_bytes;
            sum.passed += counts.passed;
            sum.martian += counts.martian;
            sum.redirect += counts.redirect;
        }
        Ok(sum)
    }

    fn uncopied_sessions(&mut self) -> io::Result<Vec<Counted>> {
        self.shared.uncopied_sessions().map_err(io::Error::other)
    }
}
