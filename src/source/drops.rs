//! The kernel counts what a socket has dropped.

/// A 32-bit counter of the kernel's that wraps, followed in 64 bits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DropCounter {
    last: u32,
    total: u64,
}

impl DropCounter {
    /// Makes a counter that has counted so many, which goes on from what the kernel's said then.
    pub(super) fn at(last: u32, total: u64) -> Self {
        Self { last, total }
    }

    /// Returns what the kernel's counter said last.
    pub(super) fn last(self) -> u32 {
        self.last
    }

    /// Takes what the kernel's counter says.
    pub(super) fn update(&mut self, now: u32) {
        let more = now.wrapping_sub(self.last);
        // A datagram that was queued earlier tells of an earlier count than one read directly.
        if more < u32::MAX / 2 {
            self.total += u64::from(more);
            self.last = now;
        }
    }

    /// Takes what the kernel's counter says, and counts nothing of it.
    pub(super) fn begin_at(&mut self, now: u32) {
        self.last = now;
    }

    /// Returns the drops that had been counted when the kernel's counter said this.
    pub(super) fn total_at(self, then: u32) -> u64 {
        self.total.saturating_add_signed(i64::from(then.wrapping_sub(self.last).cast_signed()))
    }

    /// Returns the drops that have been counted.
    pub(super) fn total(self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_counter_wraps_and_ignores_old_news() {
        let mut drops = DropCounter::default();
        for counter in [5, 3, 1 << 30, 1 << 31, 3 << 30, 4] {
            drops.update(counter);
        }
        assert_eq!(drops.total, (1 << 32) + 4);
        assert_eq!(
            (drops.total_at(6), drops.total_at(1), drops.total_at(u32::MAX)),
            ((1 << 32) + 6, (1 << 32) + 1, (1 << 32) - 1)
        );
    }
}
