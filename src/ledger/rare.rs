//! What few sessions have is counted by session in cells that are made when the first has it.
//!
//! The cells are where those of all sessions are (`sessions.rs`), by the same seats, but none is
//! there from the beginning: to count here costs more than there, and nothing where nothing is to
//! be counted.

use std::sync::OnceLock;

use super::counter::Counter;
use super::seat::{FIRST, LATER, Seat};

/// A counter for each session that needs one. One thread counts, and any reads.
#[derive(Debug, Default)]
pub(crate) struct Rare([OnceLock<Box<[Counter]>>; LATER + 1]);

/// The block of a seat, and the counter there.
const fn place(seat: Seat) -> (usize, usize) {
    let number = seat.number();
    if number < FIRST {
        return (0, number);
    }
    let (later, counter) = seat.later();
    (later + 1, counter)
}

/// The number of the first seat of a block, and how many it has.
const fn extent(block: usize) -> (usize, usize) {
    match block.checked_sub(1) {
        None => (0, FIRST),
        Some(later) => (FIRST << later, FIRST << later),
    }
}

impl Rare {
    /// Counts so many of the session in this seat.
    pub(crate) fn add(&self, seat: Seat, n: u64) {
        if n == 0 {
            return;
        }
        let (block, counter) = place(seat);
        let Some(cell) = self.0.get(block) else { return };
        let counters = cell.get_or_init(|| (0..extent(block).1).map(|_| Counter::default()).collect());
        if let Some(counter) = counters.get(counter) {
            counter.add(n);
        }
    }

    /// Forgets what was counted of the session in this seat, and returns it.
    pub(super) fn forget(&self, seat: Seat) -> u64 {
        let (block, counter) = place(seat);
        let counter = self.0.get(block).and_then(OnceLock::get).and_then(|counters| counters.get(counter));
        let Some(counter) = counter else { return 0 };
        let counted = counter.get();
        counter.begin_anew();
        counted
    }

    /// Counts what `other` has counted, which counts no more.
    pub(super) fn take_over(&self, other: &Self) {
        for (number, n) in other.counted() {
            self.add(Seat::of(number), n);
        }
    }

    /// Returns what was counted, by the numbers of the sessions that have some.
    fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        let blocks = self.0.iter().enumerate().filter_map(|(block, cell)| Some((extent(block).0, cell.get()?)));
        let all = blocks.flat_map(|(first, counters)| (first..).zip(counters.iter().map(Counter::get)));
        all.filter(|(_, n)| *n > 0)
    }
}

/// What several have counted, by the number of the session.
#[derive(Debug, Default)]
pub(super) struct Sums(Vec<u64>);

impl Sums {
    /// Adds up what several have counted.
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a Rare>) -> Self {
        let mut sums = Vec::new();
        for (number, n) in all.flat_map(Rare::counted) {
            if sums.len() <= number {
                sums.resize(number + 1, 0);
            }
            sums[number] += n;
        }
        Self(sums)
    }

    /// Returns what was counted of the session of this number.
    pub(super) fn get(&self, number: usize) -> u64 {
        self.0.get(number).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_has_a_counter_of_its_own_which_is_made_when_it_is_needed() {
        let (one, other) = (Rare::default(), Rare::default());
        let numbers = [0, 1, FIRST - 1, FIRST, 2 * FIRST - 1, 2 * FIRST, 9 * FIRST];
        for (n, number) in (1..).zip(numbers) {
            one.add(Seat::of(number), n);
            other.add(Seat::of(number), 10 * n);
            assert_eq!(other.forget(Seat::of(number)), 10 * n);
            other.add(Seat::of(number), 100 * n);
        }
        one.add(Seat::of(100 * FIRST), 0);
        assert_eq!(one.0.iter().filter(|block| block.get().is_some()).count(), 4);
        let sums = Sums::of([&one, &other, &Rare::default()].into_iter());
        assert_eq!(numbers.map(|number| sums.get(number)), [101, 202, 303, 404, 505, 606, 707]);
        assert_eq!(sums.0.iter().sum::<u64>(), 28 * 101, "and nobody else has any");
        assert_eq!(sums.get(usize::MAX), 0);
        one.take_over(&other);
        assert_eq!(one.counted().map(|(_, n)| n).collect::<Vec<_>>(), [101, 202, 303, 404, 505, 606, 707]);
        assert_eq!(one.forget(Seat::of(50 * FIRST)), 0);
    }
}
