//! Which VNIs have the most frames that are not allowed: a list that lacks one is the usual reason
//! for a capture that lacks something.
//!
//! As many VNIs can come as a stranger likes, so only a few are counted: an unknown one takes the
//! place of the one with the fewest and goes on from its count (Metwally et al., "Efficient
//! Computation of Frequent and Top-k Elements in Data Streams", 2005). One that has more than a
//! sixteenth of all is among them for certain.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::wire::Vni;

/// VNIs that are counted.
const MOST: usize = 16;
/// Bits of a VNI, which is the lower part of an entry.
const VNI_BITS: u32 = 24;
const VNI_MASK: u64 = (1 << VNI_BITS) - 1;

/// Frames by VNI, as far as there are many. One thread adds, and any reads.
#[derive(Debug, Default)]
pub struct Busiest([Entry; MOST]);

#[derive(Debug, Default)]
struct Entry {
    /// Frames and VNI in one word, so that they are never read apart. Zero frames are an entry
    /// without a VNI.
    packed: AtomicU64,
    /// At most so many of these frames were of VNIs that had the entry before.
    others: AtomicU64,
}

/// A VNI, and frames that it had at least: a place in a ranking and no counter. The number falls
/// where another VNI takes the entry of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VniFrames {
    /// VNI.
    pub vni: u32,
    /// Frames at least.
    pub frames: u64,
}

impl Busiest {
    /// Counts a frame.
    pub(crate) fn add(&self, vni: Vni) {
        let vni = u64::from(vni.get());
        let mut least: Option<(&Entry, u64)> = None;
        for entry in &self.0 {
            let packed = entry.packed.load(Ordering::Relaxed);
            let frames = packed >> VNI_BITS;
            if frames > 0 && packed & VNI_MASK == vni {
                // At a million a second it is full after twelve days, and stays so.
                return entry.packed.store(packed.checked_add(1 << VNI_BITS).unwrap_or(packed), Ordering::Relaxed);
            }
            if least.is_none_or(|(_, fewest)| frames < fewest) {
                least = Some((entry, frames));
            }
        }
        if let Some((entry, frames)) = least {
            entry.others.store(frames, Ordering::Relaxed);
            entry.packed.store((frames + 1) << VNI_BITS | vni, Ordering::Relaxed);
        }
    }

    fn list(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().filter_map(|entry| {
            let packed = entry.packed.load(Ordering::Relaxed);
            let frames = (packed >> VNI_BITS).saturating_sub(entry.others.load(Ordering::Relaxed));
            (frames > 0).then_some((packed & VNI_MASK, frames))
        })
    }

    /// Adds up what several have counted; the VNI with the most frames is the first.
    pub(crate) fn of<'a>(all: impl Iterator<Item = &'a Busiest>) -> Vec<VniFrames> {
        let mut sums: Vec<VniFrames> = Vec::new();
        for (vni, frames) in all.flat_map(Busiest::list) {
            let vni = u32::try_from(vni).unwrap_or(u32::MAX);
            match sums.iter_mut().find(|sum| sum.vni == vni) {
                Some(sum) => sum.frames += frames,
                None => sums.push(VniFrames { vni, frames }),
            }
        }
        sums.sort_unstable_by_key(|sum| (std::cmp::Reverse(sum.frames), sum.vni));
        sums.truncate(MOST);
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(busiest: &Busiest, vni: u32, frames: u64) {
        (0..frames).for_each(|_| busiest.add(Vni::new(vni).unwrap()));
    }

    #[test]
    fn few_are_counted_exactly_and_workers_add_up() {
        let (one, other) = (Busiest::default(), Busiest::default());
        add(&one, 7, 5);
        add(&one, 0, 2);
        add(&one, Vni::MAX.get(), 1);
        add(&other, 0, 4);
        let sums = Busiest::of([&one, &other].into_iter());
        let sums: Vec<_> = sums.into_iter().map(|sum| (sum.vni, sum.frames)).collect();
        assert_eq!(sums, [(0, 6), (7, 5), (0xff_ffff, 1)]);
    }

    #[test]
    fn one_that_is_busy_shows_in_a_flood_of_others() {
        let busiest = Busiest::default();
        for n in 0..10_000 {
            add(&busiest, 1000 + n, 1);
            if n % 5 == 0 {
                add(&busiest, 7, 1);
            }
        }
        let sums = Busiest::of(std::iter::once(&busiest));
        assert_eq!(sums[0].vni, 7);
        assert!((1000..=2000).contains(&sums[0].frames), "at least, and never more than came: {sums:?}");
        assert!(sums[1..].iter().all(|sum| sum.frames == 1), "{sums:?}");
    }
}
