//! VNIs come in ranges, and in sets of them.

use std::fmt;

use super::vni::Vni;

/// The VNIs from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VniRange {
    /// The first VNI.
    pub first: Vni,
    /// The last VNI, not below the first.
    pub last: Vni,
}

impl From<Vni> for VniRange {
    fn from(vni: Vni) -> Self {
        Self { first: vni, last: vni }
    }
}

/// Shows a range as people write it: `7`, or `1-5`.
impl fmt::Display for VniRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A set of VNIs. Looking one up takes the same time whether it was listed alone or in a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VniSet {
    /// The ranges, sorted. Between two of them is at least one VNI that is not in the set.
    ranges: Box<[VniRange]>,
}

impl FromIterator<VniRange> for VniSet {
    fn from_iter<I: IntoIterator<Item = VniRange>>(ranges: I) -> Self {
        let mut ranges: Vec<VniRange> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut merged: Vec<VniRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(before) if range.first.get() <= before.last.get() + 1 => before.last = before.last.max(range.last),
                _ => merged.push(range),
            }
        }
        Self { ranges: merged.into() }
    }
}

impl FromIterator<Vni> for VniSet {
    fn from_iter<I: IntoIterator<Item = Vni>>(vnis: I) -> Self {
        vnis.into_iter().map(VniRange::from).collect()
    }
}

impl VniSet {
    /// Says whether a VNI is in the set.
    #[inline]
    #[must_use]
    pub(crate) fn contains(&self, vni: Vni) -> bool {
        let at = self.ranges.partition_point(|range| range.last < vni);
        self.ranges.get(at).is_some_and(|range| range.first <= vni)
    }

    /// Returns the fewest ranges that make up the set, sorted.
    #[must_use]
    pub(crate) fn ranges(&self) -> &[VniRange] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u32, u32)]) -> VniSet {
        let vni = |n| Vni::new(n).unwrap();
        ranges.iter().map(|(first, last)| VniRange { first: vni(*first), last: vni(*last) }).collect()
    }

    #[test]
    fn neighbours_and_overlaps_are_merged() {
        let text = |set: VniSet| set.ranges().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(text(set(&[(9, 9), (1, 5), (6, 7), (3, 4), (9, 9)])), "1-7 9");
        assert_eq!(text(set(&[(0, 0xff_ffff), (5, 5), (0xff_ffff, 0xff_ffff)])), "0-16777215");
        assert_eq!(text(set(&[])), "");
    }

    #[test]
    fn a_set_has_what_was_listed_and_nothing_else() {
        let set = set(&[(1, 5), (9, 9), (0xff_fff0, 0xff_ffff)]);
        let listed = |n: u32| (1..=5).contains(&n) || n == 9 || n >= 0xff_fff0;
        for n in (0..20).chain(0xff_ffe0..=0xff_ffff) {
            assert_eq!(set.contains(Vni::new(n).unwrap()), listed(n), "{n}");
        }
        assert!(!VniSet::default().contains(Vni::new(0).unwrap()), "nothing is not everything");
    }
}
