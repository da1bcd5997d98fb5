//! Removed files make room that the file system does not show yet: some file systems take seconds
//! to give it back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time for which room is waited for. Room that has not come by then may never come: a snapshot
/// or a reader holds on to it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that the file system owes, for each file that was removed.
#[derive(Debug, Default)]
pub(super) struct LateRoom {
    /// For each file the bytes still to come, and until when these are waited for.
    files: VecDeque<(u64, Instant)>,
    /// The bytes that were free at the last look.
    free: u64,
}

impl LateRoom {
    /// Hears that a file of so many bytes was removed.
    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        self.files.push_back((bytes, now + PATIENCE));
    }

    /// Returns what can be counted on where so much is `free`.
    pub(super) fn look(&mut self, free: u64, now: Instant) -> u64 {
        let mut risen = free.saturating_sub(std::mem::replace(&mut self.free, free));
        while let Some((bytes, until)) = self.files.front_mut() {
            // Some of what comes back is written to before it is seen: where half of it shows, the
            // rest was there too.
            if now < *until && risen < bytes.div_ceil(2) {
                *bytes -= risen;
                break;
            }
            risen = risen.saturating_sub(*bytes);
            self.files.pop_front();
        }
        self.files.iter().fold(free, |sum, (bytes, _)| sum.saturating_add(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_counts_once_whenever_it_shows() {
        let now = Instant::now();
        let mut late = LateRoom::default();
        assert_eq!(late.look(1000, now), 1000);
        late.add(100, now);
        late.add(100, now);
        assert_eq!(late.look(1000, now), 1200);
        // A little at a time.
        assert_eq!(late.look(1040, now), 1200);
        // What others write is gone, and what is late is not.
        assert_eq!(late.look(900, now), 1060);
        // Most of the first file's, into which was written meanwhile.
        assert_eq!(late.look(950, now), 1050);
        assert_eq!(late.look(1060, now), 1060);
        assert_eq!(late.look(5000, now), 5000);
    }

    #[test]
    fn what_does_not_come_is_given_up() {
        let now = Instant::now();
        let mut late = LateRoom::default();
        late.look(1000, now);
        late.add(100, now);
        late.add(10, now + Duration::from_secs(1));
        assert_eq!(late.look(1000, now + PATIENCE / 2), 1110);
        assert_eq!(late.look(1000, now + PATIENCE), 1010);
        assert_eq!(late.look(1000, now + PATIENCE + Duration::from_secs(1)), 1000);
    }
}
