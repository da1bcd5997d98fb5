//! Where a session is counted: its place in blocks of cells, each twice as large as the one before.

/// Sessions of the first block, and of the first of the later ones.
pub(super) const FIRST: usize = 1024;
/// Later blocks, which is enough for every number of 32 bits.
pub(super) const LATER: usize = 22;

/// The place of the cells of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Seat(usize);

impl Seat {
    /// The seat of the session of this number.
    #[inline]
    #[must_use]
    pub(crate) const fn of(number: usize) -> Self {
        Self(number)
    }

    /// The number of the session.
    #[inline]
    pub(super) const fn number(self) -> usize {
        self.0
    }

    /// Returns the later block of a seat that is not in the first one, and the place there.
    #[inline]
    pub(super) const fn later(self) -> (usize, usize) {
        let block = (self.0.ilog2() - FIRST.ilog2()) as usize;
        (block, self.0 - (FIRST << block))
    }
}
