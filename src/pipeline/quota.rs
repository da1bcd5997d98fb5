//! A sensor ends by itself after its quota of datagrams.

use std::sync::atomic::{AtomicU64, Ordering};

/// Datagrams that may still be received, by all workers together.
#[derive(Debug)]
pub struct Quota {
    /// Datagrams not received yet, and not taken by a worker that is about to receive them.
    free: AtomicU64,
    /// Datagrams not received yet.
    open: AtomicU64,
}

impl Quota {
    /// Makes a quota of `n` datagrams.
    #[must_use]
    pub(crate) fn new(n: u64) -> Self {
        Self { free: AtomicU64::new(n), open: AtomicU64::new(n) }
    }

    /// Takes up to `n` from the quota, to be settled once it is known how many came.
    pub(super) fn take(&self, n: usize) -> usize {
        let mut taken = 0;
        let _ = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            taken = left.min(n as u64);
            Some(left - taken)
        });
        usize::try_from(taken).unwrap_or(n)
    }

    /// Gives back what was `taken` but not `used`.
    pub(super) fn settle(&self, taken: usize, used: usize) {
        self.free.fetch_add(taken.saturating_sub(used) as u64, Ordering::Relaxed);
        self.open.fetch_sub(used as u64, Ordering::Relaxed);
    }

    /// Says whether all of its datagrams have been received. Datagrams that another worker has
    /// taken may still come back.
    #[must_use]
    pub(crate) fn is_spent(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_not_spent_while_it_may_come_back() {
        let quota = Quota::new(100);
        assert_eq!((quota.take(1024), quota.take(1024)), (100, 0));
        assert!(!quota.is_spent());
        quota.settle(100, 60);
        assert_eq!(quota.take(1024), 40);
        quota.settle(40, 40);
        assert!(quota.is_spent());
    }
}
