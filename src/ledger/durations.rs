//! Durations are counted by how long they are.

use std::time::Duration;

use super::counter::Counter;

/// The longest durations of the buckets. All that last longer are in one more.
const BOUNDS: [Duration; 7] = [
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(2500),
];

/// Durations that one thread counts.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [Counter; BOUNDS.len() + 1],
    nanoseconds: Counter,
}

impl Durations {
    /// Counts one.
    pub(crate) fn add(&self, duration: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < duration);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.nanoseconds.add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts those that `other` has counted, which counts no more.
    pub(super) fn take_over(&self, other: &Self) {
        self.counts.iter().zip(&other.counts).for_each(|(count, other)| count.add(other.get()));
        self.nanoseconds.add(other.nanoseconds.get());
    }
}

/// Durations, added up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    /// The sum of all.
    pub sum: Duration,
}

impl Histogram {
    /// Adds up what several have counted.
    pub(crate) fn of<'a>(all: impl Iterator<Item = &'a Durations>) -> Self {
        let mut sums = Self::default();
        for durations in all {
            for (sum, count) in sums.counts.iter_mut().zip(&durations.counts) {
                *sum += count.get();
            }
            sums.sum += Duration::from_nanos(durations.nanoseconds.get());
        }
        sums
    }

    /// The number of all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bucket's longest duration in seconds, with how many are in it and in none before. The
    /// last has those that are longer than all bounds.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        bounds.zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let durations = [Durations::default(), Durations::default()];
        for (thread, microseconds) in [(0, 0), (1, 100), (0, 101), (0, 25_000), (1, 2_500_001), (0, 60_000_000)] {
            durations[thread].add(Duration::from_micros(microseconds));
        }
        let sums = Histogram::of(durations.iter());
        let counts: Vec<u64> = sums.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 1, 0, 1, 0, 0, 0, 2]);
        assert_eq!((sums.count(), sums.sum), (6, Duration::from_micros(62_525_202)));
        assert_eq!(sums.buckets().last().unwrap().0, f64::INFINITY);
    }
}
