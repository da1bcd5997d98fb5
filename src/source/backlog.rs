//! What waits for a worker, which other threads can look at.

use crate::sys::ring::Level;

/// Where the datagrams of one worker wait.
#[derive(Debug, Default)]
pub struct Backlog {
    /// The numbers (inodes) by which the kernel lists its sockets.
    pub(crate) sockets: Vec<u64>,
    /// Its rings.
    pub(super) rings: Vec<Level>,
}

impl Backlog {
    /// Returns the bytes in its rings.
    #[must_use]
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.rings.iter().map(Level::used).sum()
    }
}
