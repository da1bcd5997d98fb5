//! The writer of captures and the archive's thread tell each other about bytes, without a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::ledger::Gauge;

/// Counts bytes that are on the disk and not published, and says whether there is room for more.
#[derive(Debug, Default)]
pub(in crate::archive) struct Unpublished {
    /// Bytes of the files that are written to.
    pub(super) open: Gauge,
    /// Bytes of the files that are handed over, that wait, or that are to be salvaged.
    claimed: Arc<AtomicU64>,
    /// True where there is less room than is to be left free, and nothing to remove.
    pub(super) starved: AtomicBool,
    /// True where no capture can be removed, whatever the budget says: the manifest cannot be
    /// written, or somebody changed it.
    pub(super) stuck: AtomicBool,
}

impl Unpublished {
    /// Counts the bytes of a file as long as the claim is there. A thread that sees them sees what
    /// was stored before.
    pub(super) fn claim(&self, bytes: u64) -> Claim {
        self.claimed.fetch_add(bytes, Ordering::Release);
        Claim { bytes, claimed: Arc::clone(&self.claimed) }
    }

    /// Returns the bytes of all claims.
    pub(in crate::archive) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Acquire)
    }
}

/// The bytes of one file, which count until whoever has the file is done with it, however that
/// ends.
#[derive(Debug)]
pub(crate) struct Claim {
    bytes: u64,
    claimed: Arc<AtomicU64>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claimed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
