//! The shelf says which capture has to go next. It does no I/O: what is removed, and when, is up to
//! the caller.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::plan::BudgetPlan;
use crate::evidence::{Entry, PruneReason};
use crate::record::Timestamp;
use crate::storage::Space;

/// Place of an entry: by its last frame, and among equals in the order in which they came.
type Place = (Timestamp, u64);

/// The published captures, the oldest first. An operation takes time logarithmic in their number.
#[derive(Debug)]
pub(in crate::archive) struct Shelf {
    plan: BudgetPlan,
    entries: BTreeMap<Place, Entry>,
    places: HashMap<Arc<str>, Place>,
    bytes: u64,
    sequence: u64,
}

impl Shelf {
    /// Makes an empty shelf.
    #[must_use]
    pub(in crate::archive) fn new(plan: BudgetPlan) -> Self {
        Self { plan, entries: BTreeMap::new(), places: HashMap::new(), bytes: 0, sequence: 0 }
    }

    /// Keeps to another plan from now on.
    pub(super) fn replan(&mut self, plan: BudgetPlan) {
        self.plan = plan;
    }

    /// Puts a capture on the shelf; one of the same path makes way.
    pub(in crate::archive) fn add(&mut self, entry: Entry) {
        self.remove(&entry.path);
        let place = (entry.last, self.sequence);
        self.sequence += 1;
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.places.insert(Arc::clone(&entry.path), place);
        self.entries.insert(place, entry);
    }

    /// Takes a capture off the shelf, because it is gone.
    pub(in crate::archive) fn remove(&mut self, path: &str) -> Option<Entry> {
        let entry = self.entries.remove(&self.places.remove(path)?)?;
        // Adding up may have saturated, with sizes that a manifest made up.
        self.bytes = match self.bytes {
            u64::MAX => self.entries.values().fold(0, |sum, entry| sum.saturating_add(entry.bytes)),
            bytes => bytes - entry.bytes,
        };
        Some(entry)
    }

    /// Returns the capture that has to go first, and why: the oldest that is not held, as long as
    /// any limit is exceeded. The capture stays on the shelf until it is removed.
    ///
    /// `unpublished` are the bytes of captures that are written to or wait to be published, which
    /// never go. `space` is what the file system has left, none where that is not known, or does
    /// not matter. The file system may take a while to show what was removed: `free` includes what
    /// it has not given back yet.
    #[must_use]
    pub(in crate::archive) fn next(
        &self,
        now: Timestamp,
        unpublished: u64,
        space: Option<Space>,
        is_held: impl Fn(&str) -> bool,
    ) -> Option<(&Entry, PruneReason)> {
        let oldest = self.entries.values().find(|entry| !is_held(&entry.path))?;
        let bytes = self.bytes.saturating_add(unpublished);
        self.plan.exceeded(oldest, now, self.files(), bytes, space).map(|reason| (oldest, reason))
    }

    /// Returns all that would have to go now and is not held, one after the other, if each made as
    /// much room as it has bytes.
    pub(in crate::archive) fn due(
        &self,
        now: Timestamp,
        unpublished: u64,
        mut space: Option<Space>,
        is_held: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&Entry, PruneReason)> {
        let (mut files, mut bytes) = (self.files(), self.bytes.saturating_add(unpublished));
        self.entries.values().filter(move |entry| !is_held(&entry.path)).map_while(move |oldest| {
            let reason = self.plan.exceeded(oldest, now, files, bytes, space)?;
            files -= 1;
            bytes = bytes.saturating_sub(oldest.bytes);
            space.iter_mut().for_each(|space| space.free = space.free.saturating_add(oldest.bytes));
            Some((oldest, reason))
        })
    }

    /// Returns the captures on the shelf, the oldest first.
    pub(in crate::archive) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Returns the bytes of all captures on the shelf.
    #[must_use]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns how many captures are on the shelf.
    #[must_use]
    pub(in crate::archive) fn files(&self) -> u64 {
        self.entries.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::MinFree;
    use super::*;
    use crate::evidence::{Algorithm, FileHash};
    use proptest::{collection::vec, option, prelude::*};
    use std::time::Duration;

    fn entry(path: &str, bytes: u64, last: u64) -> Entry {
        Entry {
            path: path.into(),
            bytes,
            last: Timestamp::from_ns(last),
            hash: Some(FileHash::of(Algorithm::Sha256, path.as_bytes())),
        }
    }

    /// Returns what goes at time `now`, in this order, with its reason.
    fn pruned(shelf: &mut Shelf, now: u64, open: u64, mut space: Option<Space>) -> Vec<(String, PruneReason)> {
        let mut gone = Vec::new();
        while let Some((entry, reason)) = shelf.next(Timestamp::from_ns(now), open, space, |_| false) {
            let entry = entry.clone();
            shelf.remove(&entry.path);
            space.iter_mut().for_each(|space| space.free += entry.bytes);
            gone.push((entry.path.to_string(), reason));
        }
        gone
    }

    fn shelf(plan: BudgetPlan) -> Shelf {
        let mut shelf = Shelf::new(plan);
        // Published in another order than their frames came.
        for (path, bytes, last) in [("c", 30, 3), ("a", 10, 1), ("d", 40, 4), ("b", 20, 2)] {
            shelf.add(entry(path, bytes, last));
        }
        shelf
    }

    fn all(names: &[&str], reason: PruneReason) -> Vec<(String, PruneReason)> {
        names.iter().map(|name| ((*name).to_owned(), reason)).collect()
    }

    #[test]
    fn each_limit_takes_the_oldest_and_no_more_than_needed() {
        use PruneReason::{KeepAge, KeepBytes, KeepFiles};
        let none = BudgetPlan::default();
        assert_eq!(pruned(&mut shelf(none), 1000, 1000, Some(Space { free: 0, total: 9 })), []);
        let bytes = BudgetPlan { keep_bytes: Some(100), ..none };
        assert_eq!(pruned(&mut shelf(bytes), 9, 0, None), []);
        assert_eq!(pruned(&mut shelf(bytes), 9, 1, None), all(&["a"], KeepBytes));
        assert_eq!(pruned(&mut shelf(bytes), 9, 11, None), all(&["a", "b"], KeepBytes));
        assert_eq!(pruned(&mut shelf(bytes), 9, 101, None), all(&["a", "b", "c", "d"], KeepBytes));
        let files = BudgetPlan { keep_files: Some(3), ..none };
        assert_eq!(pruned(&mut shelf(files), 9, 0, None), all(&["a"], KeepFiles));
        let age = BudgetPlan { keep_age: Some(Duration::from_nanos(5)), ..none };
        assert_eq!(pruned(&mut shelf(age), 6, 0, None), []);
        assert_eq!(pruned(&mut shelf(age), 8, 0, None), all(&["a", "b"], KeepAge));
    }

    #[test]
    fn what_is_held_is_not_due() {
        let shelf = shelf(BudgetPlan { keep_files: Some(2), ..BudgetPlan::default() });
        let due = |held: &[&str]| -> Vec<String> {
            let is_held = |path: &str| held.contains(&path);
            shelf.due(Timestamp::from_ns(9), 0, None, is_held).map(|(entry, _)| entry.path.to_string()).collect()
        };
        assert_eq!(due(&[]), ["a", "b"]);
        assert_eq!(due(&["a", "c"]), ["b", "d"]);
        assert_eq!(due(&["a", "b", "c", "d"]), [""; 0]);
    }

    #[test]
    fn room_is_left_on_the_file_system() {
        let plan = |min_free| BudgetPlan { min_free: Some(min_free), ..BudgetPlan::default() };
        let space = Some(Space { free: 85, total: 2000 });
        assert_eq!(pruned(&mut shelf(plan(MinFree::Bytes(85))), 9, 0, space), []);
        assert_eq!(pruned(&mut shelf(plan(MinFree::Bytes(96))), 9, 0, space), all(&["a", "b"], PruneReason::MinFree));
        assert_eq!(pruned(&mut shelf(plan(MinFree::Permille(45))), 9, 0, space), all(&["a"], PruneReason::MinFree));
        assert_eq!(pruned(&mut shelf(plan(MinFree::Bytes(96))), 9, 0, None), []);
        assert_eq!(MinFree::Permille(999).of(u64::MAX), (u128::from(u64::MAX) * 999 / 1000) as u64);
    }

    #[test]
    fn the_host_keeps_some_room_where_no_limit_sees_to_it() {
        assert_eq!(MinFree::Usual.of(100 << 30), 5 << 30);
        assert_eq!(MinFree::Usual.of(10 << 40), 10 << 30, "of a large disk 10 GiB");
        let plan = BudgetPlan { reserve: Some(MinFree::Usual), ..BudgetPlan::default() };
        assert_eq!(plan.reserve_of(1000), Some(MinFree::Usual));
        for other in [
            BudgetPlan { keep_files: Some(1000), ..plan },
            BudgetPlan { keep_age: Some(Duration::from_secs(1)), ..plan },
            BudgetPlan { keep_bytes: Some(1001), ..plan },
        ] {
            assert_eq!(
                other.reserve_of(1000),
                Some(MinFree::Usual),
                "the disk is full before it is exceeded: {other:?}"
            );
        }
        for other in
            [BudgetPlan { keep_bytes: Some(1000), ..plan }, BudgetPlan { min_free: Some(MinFree::Bytes(1)), ..plan }]
        {
            assert_eq!(other.reserve_of(1000), None, "{other:?}");
        }
        // Nothing is removed for it.
        assert!(!plan.removes());
        assert_eq!(pruned(&mut shelf(plan), 9, 0, Some(Space { free: 0, total: 1000 })), []);
    }

    #[test]
    fn a_path_is_there_once_and_sizes_add_up() {
        let mut shelf = shelf(BudgetPlan::default());
        shelf.add(entry("a", 5, 9));
        assert_eq!((shelf.files(), shelf.bytes), (4, 95));
        assert_eq!(shelf.remove("nobody"), None);
        shelf.add(entry("huge", u64::MAX, 9));
        assert_eq!(shelf.bytes, u64::MAX);
        shelf.remove("huge");
        assert_eq!(shelf.bytes, 95);
    }

    #[test]
    fn reasons_are_written_as_labelled() {
        for reason in [PruneReason::KeepBytes, PruneReason::KeepFiles, PruneReason::KeepAge, PruneReason::MinFree] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.label());
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(u8, u64, u64),
        Remove(u8),
        Prune { now: u64, open: u64, free: Option<u64> },
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..20u8, 0..50u64, 0..20u64).prop_map(|(path, bytes, last)| Step::Add(path, bytes, last)),
            1 => (0..20u8).prop_map(Step::Remove),
            2 => (0..40u64, 0..60u64, option::of(0..100u64)).prop_map(|(now, open, free)| Step::Prune { now, open, free }),
        ]
    }

    prop_compose! {
        fn plans()(
            keep_bytes in option::of(0..300u64),
            keep_files in option::of(0..10u64),
            age in option::of(0..20u64),
            share in option::of(1..1000u16),
        ) -> BudgetPlan {
            BudgetPlan {
                keep_bytes,
                keep_files,
                keep_age: age.map(Duration::from_nanos),
                min_free: share.map(MinFree::Permille),
                reserve: None,
            }
        }
    }

    /// Finds what has to go first by looking at all.
    fn naive(
        plan: &BudgetPlan,
        entries: &[Entry],
        now: u64,
        open: u64,
        space: Option<Space>,
    ) -> Option<(Entry, PruneReason)> {
        // Of equals the first: they are in the order in which they came.
        let oldest = entries.iter().min_by_key(|entry| entry.last)?;
        let bytes: u64 = entries.iter().map(|entry| entry.bytes).sum();
        let reason = if plan.keep_age.is_some_and(|age| u128::from(now) > u128::from(oldest.last.ns()) + age.as_nanos())
        {
            PruneReason::KeepAge
        } else if plan.keep_files.is_some_and(|files| entries.len() as u64 > files) {
            PruneReason::KeepFiles
        } else if plan.keep_bytes.is_some_and(|keep| bytes + open > keep) {
            PruneReason::KeepBytes
        } else if let (Some(MinFree::Permille(share)), Some(space)) = (plan.min_free, space)
            && space.free < space.total * u64::from(share) / 1000
        {
            PruneReason::MinFree
        } else {
            return None;
        };
        Some((oldest.clone(), reason))
    }

    proptest! {
        #[test]
        fn does_as_a_plain_list_does(plan in plans(), steps in vec(steps(), 0..60)) {
            let (mut shelf, mut list) = (Shelf::new(plan), Vec::<Entry>::new());
            for step in steps {
                match step {
                    Step::Add(path, bytes, last) => {
                        let entry = entry(&path.to_string(), bytes, last);
                        list.retain(|other| other.path != entry.path);
                        list.push(entry.clone());
                        shelf.add(entry);
                    }
                    Step::Remove(path) => {
                        let path = path.to_string();
                        let there = list.iter().position(|entry| *entry.path == *path).map(|at| list.remove(at));
                        prop_assert_eq!(shelf.remove(&path), there);
                    }
                    Step::Prune { now, open, free } => {
                        let space = free.map(|free| Space { free, total: 100 });
                        let due: Vec<_> = shelf.due(Timestamp::from_ns(now), open, space, |_| false).map(|(e, r)| (e.path.to_string(), r)).collect();
                        let mut other = Shelf::new(plan);
                        shelf.iter().cloned().for_each(|entry| other.add(entry));
                        prop_assert_eq!(due, pruned(&mut other, now, open, space));
                        loop {
                            let next = shelf.next(Timestamp::from_ns(now), open, space, |_| false);
                            let next = next.map(|(entry, reason)| (entry.clone(), reason));
                            prop_assert_eq!(&next, &naive(&plan, &list, now, open, space));
                            let Some((entry, _)) = next else { break };
                            shelf.remove(&entry.path);
                            list.retain(|other| other.path != entry.path);
                        }
                    }
                }
                prop_assert_eq!(shelf.files(), list.len() as u64);
                prop_assert_eq!(shelf.bytes, list.iter().map(|entry| entry.bytes).sum::<u64>());
            }
        }
    }
}
