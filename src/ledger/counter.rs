//! The cells that threads count in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::catalogue::{Cell, Reading, Weighed};

/// A counter that one thread writes and any thread reads. It never falls.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. With a single writer a load and a store do, which costs no locked instruction.
    ///
    /// The store is a release and [`Counter::get`] an acquire: whoever reads the new value finds
    /// all that the writer counted before. On x86 both are plain moves.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Release);
    }

    /// Takes over a count that is kept elsewhere, as in the kernel. A smaller one than before
    /// changes nothing.
    #[inline]
    pub(crate) fn raise(&self, n: u64) {
        self.add(n.saturating_sub(self.0.load(Ordering::Relaxed)));
    }

    /// Begins anew at zero. Only what is counted elsewhere from then on does so.
    pub(super) fn begin_anew(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// The value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A number that rises and falls: one thread writes it, and any thread reads it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Release);
    }

    /// Takes `n` from the value, which does not fall below zero.
    pub(crate) fn lower(&self, n: u64) {
        self.set(self.0.load(Ordering::Relaxed).saturating_sub(n));
    }

    /// The value.
    #[must_use]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A counter for each reason of `R`, of which there are `N`.
#[derive(Debug)]
pub struct ByReason<R, const N: usize> {
    counters: [Counter; N],
    reasons: std::marker::PhantomData<R>,
}

impl<R, const N: usize> Default for ByReason<R, N> {
    fn default() -> Self {
        Self { counters: std::array::from_fn(|_| Counter::default()), reasons: std::marker::PhantomData }
    }
}

impl<R: Weighed, const N: usize> ByReason<R, N> {
    /// The counter of `reason`.
    #[inline]
    #[must_use]
    pub(crate) fn of(&self, reason: R) -> &Counter {
        &self.counters[reason.number()]
    }
}

/// A number of the catalogue that is counted elsewhere. Who adds up fills it in.
#[derive(Debug, Default)]
pub struct Elsewhere;

impl Cell for Elsewhere {
    type Total = u64;

    fn sum(_: &[&Self]) -> u64 {
        0
    }

    fn take_over(&self, _: &Self) {}

    fn readings(total: &u64, declared: Reading) -> Vec<Reading> {
        Counter::readings(total, declared)
    }
}

impl Cell for Counter {
    type Total = u64;

    fn sum(cells: &[&Self]) -> u64 {
        cells.iter().map(|counter| counter.get()).sum()
    }

    fn take_over(&self, other: &Self) {
        self.add(other.get());
    }

    fn readings(total: &u64, declared: Reading) -> Vec<Reading> {
        vec![Reading { value: *total, ..declared }]
    }
}

impl<R: Weighed, const N: usize> Cell for ByReason<R, N> {
    /// By label, in its order.
    type Total = BTreeMap<&'static str, u64>;

    fn sum(cells: &[&Self]) -> Self::Total {
        let mut sums: Self::Total = R::EVERY.iter().map(|reason| (reason.name(), 0)).collect();
        for cell in cells {
            for reason in R::EVERY {
                *sums.entry(reason.name()).or_default() += cell.of(*reason).get();
            }
        }
        sums
    }

    fn take_over(&self, other: &Self) {
        self.counters.iter().zip(&other.counters).for_each(|(counter, other)| counter.take_over(other));
    }

    fn readings(total: &Self::Total, declared: Reading) -> Vec<Reading> {
        let mut readings: Vec<_> = R::EVERY
            .iter()
            .map(|reason| Reading {
                reason: Some(reason.name()),
                help: reason.help().trim().to_owned(),
                value: total.get(reason.name()).copied().unwrap_or(0),
                facts: reason.facts(declared.facts),
                whole: declared.whole.clone(),
                ..declared
            })
            .collect();
        readings.sort_by_key(|reading| reading.reason);
        readings
    }
}
