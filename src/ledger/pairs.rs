//! A worker counts duplicates by the two sessions that delivered them.
//!
//! Which pairs there are is known by what comes, and there can be as many as sessions squared. So a
//! worker has room for some, and what is beyond is in the sum of all duplicates alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};

use super::counter::Counter;
use crate::session::Session;

/// Pairs that a worker has room for.
const MOST: usize = 1024;
/// Places in which a pair is looked for: so many more than pairs that one that is not there is
/// missed after a step or two.
const PLACES: usize = 4 * MOST;
/// The most steps of looking for a pair.
const STEPS: usize = 64;
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
    table: OnceLock<Table>,
}

/// The pairs, and where they are found.
#[derive(Debug)]
struct Table {
    /// A slot's place in `slots`, from 1 on; 0 where there is none.
    places: Box<[AtomicU16]>,
    /// Filled from the front.
    slots: Box<[Slot]>,
    used: AtomicU16,
}

#[derive(Debug, Default)]
struct Slot {
    /// What the one thread knows the pair by.
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
        let table = self.table.get_or_init(Table::new);
        for place in table.search(key) {
            let number = place.load(Ordering::Relaxed);
            if number == 0 {
                let used = table.used.load(Ordering::Relaxed);
                // None where all are used.
                let Some(slot) = table.slots.get(usize::from(used)) else { return };
                let Some([first, second]) = pair() else { return };
                slot.key.store(key, Ordering::Relaxed);
                let _ = slot.pair.set(Pair { group: Arc::clone(group), first, second });
                table.used.store(used + 1, Ordering::Relaxed);
                place.store(used + 1, Ordering::Relaxed);
                return slot.frames.add(1);
            }
            let slot = table.slots.get(usize::from(number) - 1);
            if let Some(slot) = slot.filter(|slot| slot.is_of(group, key)) {
                return slot.frames.add(1);
            }
        }
    }

    /// Forgets the numbers of which this is true, so that they can stand for other pairs. What was
    /// counted stays. The thread that adds calls this.
    pub(crate) fn forget(&self, is_gone: impl Fn(u64) -> bool) {
        for slot in self.table.get().into_iter().flat_map(Table::used) {
            let key = slot.key.load(Ordering::Relaxed);
            if key != GONE && is_gone(key) {
                slot.key.store(GONE, Ordering::Relaxed);
            }
        }
    }

    /// Adds up what several have counted, in the order of the pairs.
    pub(crate) fn of<'a>(all: impl Iterator<Item = &'a Pairs>) -> Vec<PairFrames> {
        let mut sums: BTreeMap<&Pair, u64> = BTreeMap::new();
        for slot in all.filter_map(|pairs| pairs.table.get()).flat_map(|table| &table.slots) {
            if let Some(pair) = slot.pair.get() {
                *sums.entry(pair).or_default() += slot.frames.get();
            }
        }
        sums.into_iter().map(|(pair, frames)| PairFrames { pair: pair.clone(), frames }).collect()
    }
}

impl Table {
    fn new() -> Self {
        Self {
            places: (0..PLACES).map(|_| AtomicU16::new(0)).collect(),
            slots: (0..MOST).map(|_| Slot::default()).collect(),
            used: AtomicU16::new(0),
        }
    }

    /// Returns the places in which a pair may be, one after another.
    fn search(&self, key: u64) -> impl Iterator<Item = &AtomicU16> {
        // Numbers that differ little go far apart.
        let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % PLACES;
        let (front, back) = self.places.split_at_checked(start).unwrap_or((&self.places, &[]));
        back.iter().chain(front).take(STEPS)
    }

    /// Returns the slots that are used.
    fn used(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().take(self.used.load(Ordering::Relaxed).into())
    }
}

impl Slot {
    fn is_of(&self, group: &Arc<str>, key: u64) -> bool {
        self.key.load(Ordering::Relaxed) == key && self.pair.get().is_some_and(|pair| pair.group == *group)
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

    #[test]
    fn a_pair_that_has_no_room_is_missed_after_few_steps() {
        let pairs = Pairs::default();
        // Numbers as sessions give them.
        let key = |first: u64, second: u64| first << 32 | second;
        let keys = |from: u64| (from..from + 40).flat_map(move |first| (1..=40).map(move |second| key(first, second)));
        keys(1).for_each(|key| pairs.add(&"tenant".into(), key, || pair(1, key as u32 & 0xff)));
        let table = pairs.table.get().unwrap();
        assert_eq!(table.used().count(), MOST);
        let steps = |key| table.search(key).take_while(|place| place.load(Ordering::Relaxed) != 0).count();
        let all: Vec<usize> = keys(100).map(steps).collect();
        assert!(all.iter().sum::<usize>() <= 2 * all.len(), "{}", all.iter().sum::<usize>());
        assert!(all.iter().all(|steps| *steps <= STEPS));
    }
}
