//! Outputs have numbers, and a plan names the outputs that it is for by a set of these.

/// The numbers that there are.
const NUMBERS: usize = 256;
/// Bits of a word of a set.
const BITS: usize = u64::BITS as usize;

/// The number of an output in a policy: its place among the outputs that the policy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputNumber(u8);

impl OutputNumber {
    /// The number of an output that a policy does not know. It gets what goes to all outputs.
    pub const UNKNOWN: OutputNumber = OutputNumber(u8::MAX);

    /// The outputs that have numbers.
    pub const MOST: usize = NUMBERS - 1;

    /// Makes the number of the output at this place; none from the 256th on.
    #[must_use]
    pub fn new(place: usize) -> Option<Self> {
        u8::try_from(place).ok().map(Self).filter(|number| *number != Self::UNKNOWN)
    }
}

/// A set of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSet([u64; NUMBERS / BITS]);

impl OutputSet {
    /// All outputs, also those that a policy does not know.
    pub const ALL: OutputSet = OutputSet([u64::MAX; NUMBERS / BITS]);

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
        let mut words = [0; NUMBERS / BITS];
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
        let named = [0, 63, 64, 254];
        let set: OutputSet = named.into_iter().filter_map(OutputNumber::new).collect();
        for number in 0..NUMBERS - 1 {
            let output = OutputNumber::new(number).unwrap();
            assert_eq!(set.contains(output), named.contains(&number), "{number}");
            assert!(OutputSet::ALL.contains(output));
            assert!(!OutputSet::from_iter([]).contains(output));
        }
        assert_eq!(OutputNumber::new(NUMBERS - 1), None);
        assert!(OutputSet::ALL.contains(OutputNumber::UNKNOWN) && !set.contains(OutputNumber::UNKNOWN));
    }
}
