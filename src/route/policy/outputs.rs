//! Outputs have numbers, and a plan names the outputs that it is for by a set of these.

/// The most outputs that there can be at a time.
const MOST: usize = 256;
/// Bits of a word of a set.
const BITS: usize = u64::BITS as usize;

/// The number of an output, by which plans and workers know it. It stays the same as long as the
/// output is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OutputNumber(u8);

impl OutputNumber {
    /// Makes the number `number`; none where there cannot be as many outputs.
    #[must_use]
    pub fn new(number: usize) -> Option<Self> {
        u8::try_from(number).ok().map(Self)
    }
}

/// A set of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSet([u64; MOST / BITS]);

impl OutputSet {
    /// All outputs, also those that are added later.
    pub const ALL: OutputSet = OutputSet([u64::MAX; MOST / BITS]);

    /// Says whether the output is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, OutputNumber(number): OutputNumber) -> bool {
        let number = usize::from(number);
        self.0[number / BITS] >> (number % BITS) & 1 != 0
    }
}

impl FromIterator<OutputNumber> for OutputSet {
    fn from_iter<I: IntoIterator<Item = OutputNumber>>(outputs: I) -> Self {
        let mut words = [0; MOST / BITS];
        for OutputNumber(number) in outputs {
            words[usize::from(number) / BITS] |= 1 << (usize::from(number) % BITS);
        }
        Self(words)
    }
}

/// A plan that names no outputs is for all.
impl Default for OutputSet {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_named() {
        let named = [0, 63, 64, 255];
        let set: OutputSet = named.into_iter().filter_map(OutputNumber::new).collect();
        for number in 0..MOST {
            let output = OutputNumber::new(number).unwrap();
            assert_eq!(set.contains(output), named.contains(&number), "{number}");
            assert!(OutputSet::ALL.contains(output));
            assert!(!OutputSet::from_iter([]).contains(output));
        }
        assert_eq!(OutputNumber::new(MOST), None);
    }
}
