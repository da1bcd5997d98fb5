//! An episode lasts a while and is worth a line in the log when it begins, not each time it is
//! seen.

use std::time::{Duration, Instant};

/// A trouble that is said once until it is over, or once in a while for as long as it lasts.
#[derive(Debug, Default)]
pub(crate) struct Episode {
    said: Option<Instant>,
}

impl Episode {
    /// Notes that the trouble is there. Returns true where that was not said since it began.
    #[must_use]
    pub(crate) fn begins(&mut self) -> bool {
        let is_new = self.said.is_none();
        self.said.get_or_insert_with(Instant::now);
        is_new
    }

    /// Notes that the trouble is there. Returns true where that was not said within `interval`.
    #[must_use]
    pub(crate) fn every(&mut self, interval: Duration) -> bool {
        let now = Instant::now();
        let is_due = self.said.is_none_or(|said| now.duration_since(said) >= interval);
        if is_due {
            self.said = Some(now);
        }
        is_due
    }

    /// Notes that the trouble is over. Returns true where it was said, so that a line may take it
    /// back.
    pub(crate) fn ends(&mut self) -> bool {
        self.said.take().is_some()
    }

    /// Says whether the trouble was said and is not over.
    #[must_use]
    pub(crate) fn lasts(&self) -> bool {
        self.said.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_until_it_is_over() {
        let mut episode = Episode::default();
        assert!(!episode.ends() && !episode.lasts());
        let said: Vec<bool> = (0..3).map(|_| episode.begins()).collect();
        assert_eq!(said, [true, false, false]);
        assert!(episode.lasts());
        assert!(episode.ends());
        assert!(!episode.ends());
        assert!(episode.begins());
    }

    #[test]
    fn it_is_said_once_in_a_while() {
        let mut episode = Episode::default();
        let long = Duration::from_hours(1);
        assert!(episode.every(long));
        assert!(!episode.every(long));
        assert!(!episode.begins(), "it was said");
        assert!(episode.every(Duration::ZERO), "that time is over");
        assert!(episode.ends());
        assert!(episode.every(long), "the next one is news");
    }
}
