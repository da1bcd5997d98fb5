//! Bytes that are on the disk and not published yet: files that are handed over, that wait, or that are to be salvaged.
//!
//! Whoever has such a file has a [`Claim`] with it, so that its bytes count until it is done with, however that ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Pending(Arc<AtomicU64>);

impl Pending {
    /// Counts the bytes of a file as long as the claim is there. Who sees them sees what was stored before.
    pub(super) fn claim(&self, bytes: u64) -> Claim {
        self.0.fetch_add(bytes, Ordering::Release);
        Claim { bytes, pending: Arc::clone(&self.0) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Bytes of one file.
#[derive(Debug)]
pub struct Claim {
    bytes: u64,
    pending: Arc<AtomicU64>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pending.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
