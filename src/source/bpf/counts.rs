//! Reads what the program counts: `struct count` of `maps.h`.

use aya::maps::{MapData, MapError, PerCpuArray};

use crate::source::fast_path::Redirected;

/// `struct count`: see [`split`].
pub(super) type Count = [u64; 18];

/// Counts what became of packets: sums over all CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) ring_full: u64,
    pub(super) unselected: u64,
    pub(super) unselected_bytes: u64,
    pub(super) passed: u64,
    pub(super) martian: u64,
    pub(super) redirect: Redirected,
}

impl Counts {
    /// Reads what became of packets for this ring. What was left to the stack is with ring 0.
    pub(super) fn read(map: &PerCpuArray<MapData, Count>, ring: u32) -> Result<Self, MapError> {
        let mut sums = Count::default();
        for cpu in map.get(&ring, 0)?.iter() {
            for (sum, n) in sums.iter_mut().zip(cpu) {
                *sum += n;
            }
        }
        let ([taken, ring_full, unselected, unselected_bytes, passed, martian], redirect) = split(sums);
        Ok(Self { taken, ring_full, unselected, unselected_bytes, passed, martian, redirect: redirect.into() })
    }
}

/// Splits a count into the counters of all packets, and those of redirection.
fn split([a, b, c, d, e, f, redirect @ ..]: Count) -> ([u64; 6], [u64; 12]) {
    ([a, b, c, d, e, f], redirect)
}
