//! A worker counts duplicates by the two sessions that delivered them.
//!
//! Which pairs there are is known by what comes, and there can be as many as sessions squared. So a
//! worker has room for some, and what is beyond is in the sum of all duplicates alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};

use super::counter::Counter;
use crate::session::Session;

/// Pairs that a worker has room for.
const MOST: usize = 1024;
/// The number of a pair that stands for none any more.
const GONE: u64 = u64::MAX;

/// Two sessions of a group, of which one delivered packets that the other had delivered before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pair {
    /// The group.
    #[serde(serialize_with = "text")]
    pub group: Arc<str>,
    /// The session that delivered them first.
    pub first: Session,
    /// The session that delivered them again.
    pub second: Session,
}

/// Duplicates of a pair of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PairFrames {
    /// The pair.
    #[serde(flatten)]
    pub pair: Pair,
    /// Frames.
    pub frames: u64,
}

/// Duplicates by pair. One thread adds, and any reads.
#[derive(Debug, Default)]
pub struct Pairs {
    /// Made with the first duplicate.
    slots: OnceLock<Box<[Slot]>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// What the one thread knows the pair by; 0 where the slot is free.
    key: AtomicU64,
    pair: OnceLock<Pair>,
    frames: Counter,
}

fn text<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Pairs {
    /// Counts a frame of two sessions of this group, which the number other than 0 stands for, as
    /// long as there is room. `pair` is asked for them when the number comes first.
    pub(crate) fn add(&self, group: &Arc<str>, key: u64, pair: impl FnOnce() -> Option<[Session; 2]>) {
        let slots = self.slots.get_or_init(|| (0..MOST).map(|_| Slot::default()).collect());
        // Numbers that differ little go far apart.
        #[allow(clippy::cast_possible_truncation)]
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % MOST;
        let Some((front, back)) = slots.split_at_checked(start) else { return };
        for slot in back.iter().chain(front) {
            let known = slot.key.load(Ordering::Relaxed);
            if known == 0 {
                let Some([first, second]) = pair() else { return };
                slot.key.store(key, Ordering::Relaxed);
                let _ = slot.pair.set(Pair { group: Arc::clone(group), first, second });
            } else if known != key || slot.pair.get().is_none_or(|pair| pair.group != *group) {
                continue;
            }
            return slot.frames.add(1);
        }
    }

    /// Forgets the numbers of which this is true, so that they can stand for other pairs. What was
    /// counted stays. The thread that adds calls this.
    pub(crate) fn forget(&self, is_gone: impl Fn(u64) -> bool) {
        for slot in self.slots.get().into_iter().flatten() {
            let key = slot.key.load(Ordering::Relaxed);
            if key != 0 && is_gone(key) {
                slot.key.store(GONE, Ordering::Relaxed);
            }
        }
    }

    /// Adds up what several have counted, in the order of the pairs.
    pub(crate) fn of<'a>(all: impl Iterator<Item = &'a Pairs>) -> Vec<PairFrames> {
        let slots = all.filter_map(|pairs| pairs.slots.get()).flatten();
        let mut sums: Vec<PairFrames> = Vec::new();
        for slot in slots {
            let Some(pair) = slot.pair.get() else { continue };
            match sums.iter_mut().find(|sum| sum.pair == *pair) {
                Some(sum) => sum.frames += slot.frames.get(),
                None => sums.push(PairFrames { pair: pair.clone(), frames: slot.frames.get() }),
            }
        }
        sums.sort_unstable_by(|a, b| a.pair.cmp(&b.pair));
        sums
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::wire::Vni;

    fn pair(first: u32, second: u32) -> Option<[Session; 2]> {
        Some([first, second].map(|vni| Session::vxlan(Ipv6Addr::LOCALHOST, Vni::new(vni).unwrap())))
    }

    #[test]
    fn workers_add_up_by_pair() {
        let (one, other, group) = (Pairs::default(), Pairs::default(), "tenant".into());
        for (pairs, key, vnis, frames) in
            [(&one, 9, (1, 2), 3), (&one, 7, (2, 1), 1), (&other, 1, (1, 2), 2), (&other, 9, (1, 3), 1)]
        {
            (0..frames).for_each(|_| pairs.add(&group, key, || pair(vnis.0, vnis.1)));
        }
        let sums: Vec<_> = Pairs::of([&one, &other, &Pairs::default()].into_iter())
            .into_iter()
            .map(|sum| (sum.pair.first.vni.get(), sum.pair.second.vni.get(), sum.frames))
            .collect();
        assert_eq!(sums, [(1, 2, 5), (1, 3, 1), (2, 1, 1)]);
        // The same sessions in another group are another pair.
        one.add(&"other".into(), 9, || pair(1, 2));
        let sums = Pairs::of(std::iter::once(&one));
        assert_eq!(
            sums.iter().map(|sum| (&*sum.pair.group, sum.frames)).collect::<Vec<_>>(),
            [("other", 1), ("tenant", 3), ("tenant", 1)]
        );
    }

    #[test]
    fn a_number_that_is_forgotten_stands_for_another_pair() {
        let (pairs, group) = (Pairs::default(), "tenant".into());
        pairs.add(&group, 9, || pair(1, 2));
        pairs.add(&group, 7, || pair(1, 3));
        pairs.forget(|number| number == 9);
        pairs.add(&group, 9, || pair(4, 5));
        pairs.add(&group, 7, || pair(6, 7));
        let sums = Pairs::of(std::iter::once(&pairs));
        let sums: Vec<_> =
            sums.iter().map(|sum| (sum.pair.first.vni.get(), sum.pair.second.vni.get(), sum.frames)).collect();
        assert_eq!(sums, [(1, 2, 1), (1, 3, 2), (4, 5, 1)]);
    }

    #[test]
    fn there_is_room_for_so_many_pairs() {
        let pairs = Pairs::default();
        for _ in 0..2 {
            (1..=2 * MOST as u64).for_each(|key| pairs.add(&"tenant".into(), key, || pair(1, key as u32)));
        }
        let sums = Pairs::of(std::iter::once(&pairs));
        assert_eq!((sums.len(), sums.iter().map(|sum| sum.frames).sum::<u64>()), (MOST, 2 * MOST as u64));
    }
}
