//! An axis finds the entries of a policy that a number lies in, as a VNI or an address.

use hashbrown::HashMap;

/// Bits of a word of [`Entries`].
pub(super) const BITS: usize = u64::BITS as usize;

/// The entries that a value lies in, by their places: a bit for each.
pub(super) type Entries = Box<[u64]>;

/// All values of one kind, cut into the intervals between which other entries match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axis<T> {
    /// The first value of each interval but the lowest, sorted.
    begins: Box<[T]>,
    /// The number of intervals that begin before each page of values, and of all. Most pages have
    /// few, so that little is searched.
    pages: Box<[u32]>,
    /// The place in `entries` for each interval.
    at: Box<[u32]>,
    /// Sets of entries, each of them once: many intervals lie in no entry that others do not.
    entries: Box<[Entries]>,
}

/// A number that an axis can be of.
pub(super) trait Value: Copy + Ord {
    /// The number of pages that values are in.
    const PAGES: usize;

    /// Returns the page of the value, which does not fall from one value to the next.
    fn page(self) -> usize;

    /// Returns the next value; none behind the last.
    fn next(self) -> Option<Self>;
}

/// VNIs, which have 24 bits.
impl Value for u32 {
    const PAGES: usize = 1 << 12;

    fn page(self) -> usize {
        (self as usize >> 12).min(Self::PAGES - 1)
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Addresses.
impl Value for u128 {
    const PAGES: usize = 1;

    fn page(self) -> usize {
        0
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl<T: Value> Axis<T> {
    /// Makes an axis of entries, each of which has values from a first to a last. No two ranges of
    /// one entry may meet. An entry without ranges has all values.
    pub(super) fn new<'a, R>(ranges: impl ExactSizeIterator<Item = Option<R>>) -> Self
    where
        R: Iterator<Item = (T, T)> + 'a,
    {
        let mut now: Entries = vec![0; ranges.len().div_ceil(BITS)].into();
        // At which values an entry begins or ends.
        let mut turns: Vec<(T, usize)> = Vec::new();
        for (entry, ranges) in ranges.enumerate() {
            match ranges {
                None => now[entry / BITS] |= 1 << (entry % BITS),
                Some(ranges) => {
                    for (first, last) in ranges {
                        turns.push((first, entry));
                        turns.extend(last.next().map(|behind| (behind, entry)));
                    }
                }
            }
        }
        turns.sort_unstable();
        let mut known: HashMap<Entries, u32> = HashMap::new();
        let (mut begins, mut at, mut entries) = (Vec::<T>::new(), Vec::new(), Vec::new());
        let mut place = |now: &Entries| {
            *known.entry(now.clone()).or_insert_with(|| {
                entries.push(now.clone());
                u32::try_from(entries.len() - 1).unwrap_or(u32::MAX)
            })
        };
        at.push(place(&now));
        for turns in turns.chunk_by(|(a, _), (b, _)| a == b) {
            turns.iter().for_each(|(_, entry)| now[entry / BITS] ^= 1 << (entry % BITS));
            begins.extend(turns.first().map(|(value, _)| *value));
            at.push(place(&now));
        }
        let begun = |page| begins.partition_point(|begin| begin.page() < page);
        let pages = (0..=T::PAGES).map(|page| u32::try_from(begun(page)).unwrap_or(u32::MAX));
        Self { pages: pages.collect(), begins: begins.into(), at: at.into(), entries: entries.into() }
    }

    /// Returns the place of the set of entries that `value` lies in. Equal places are equal sets.
    #[inline]
    pub(super) fn place(&self, value: T) -> usize {
        let page = value.page();
        let Some([first, last]) = self.pages.get(page..page + 2) else { return 0 };
        let (first, last) = (*first as usize, *last as usize);
        let begins = self.begins.get(first..last).unwrap_or_default();
        let interval = first + begins.partition_point(|begin| *begin <= value);
        self.at.get(interval).map_or(0, |at| *at as usize)
    }

    /// Returns the sets of entries, by their places.
    pub(super) fn entries(&self) -> &[Entries] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(axis: &Axis<u32>, value: u32) -> Vec<usize> {
        let entries = &axis.entries()[axis.place(value)];
        (0..entries.len() * BITS).filter(|entry| entries[entry / BITS] >> (entry % BITS) & 1 != 0).collect()
    }

    #[test]
    fn a_value_lies_in_the_entries_that_have_it() {
        let entries: [Option<&[(u32, u32)]>; 4] =
            [Some(&[(5, 7), (9, 9)]), None, Some(&[(0, 6), (u32::MAX, u32::MAX)]), Some(&[])];
        let axis = Axis::new(entries.iter().map(|ranges| ranges.map(|ranges| ranges.iter().copied())));
        for (value, wanted) in [
            (0, &[1, 2][..]),
            (4, &[1, 2]),
            (5, &[0, 1, 2]),
            (7, &[0, 1]),
            (8, &[1]),
            (9, &[0, 1]),
            (10, &[1]),
            (u32::MAX, &[1, 2]),
        ] {
            assert_eq!(of(&axis, value), wanted, "{value}");
        }
        assert_eq!(axis.entries().len(), 4, "each set once");
    }

    #[test]
    fn an_axis_of_no_entries_has_one_empty_set() {
        let axis = Axis::<u32>::new(std::iter::empty::<Option<std::iter::Empty<(u32, u32)>>>());
        assert_eq!((axis.place(7), axis.entries().len(), of(&axis, 7).len()), (0, 1, 0));
    }
}
