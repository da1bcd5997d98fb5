//! Sessions that rest.
//!
//! A compressed file holds its compressor as long as it is open, whether frames come or not, and an
//! encoder cannot be put away and continued. With tens of thousands of sessions, most of which
//! rest, that is gigabytes. So files of sessions that rest are completed early where there are too
//! many.

use std::time::{Duration, Instant};

use super::part::Batch;
use crate::archive::FileNumber;

/// The time that a session has to be without a frame until its file may be completed for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that a session is waited for, whatever it did before: a few files an hour are not
/// many.
pub(super) const LONGEST: Duration = Duration::from_secs(600);

/// The rest of a session: the time since when it rests, and the time that it has to.
#[derive(Debug)]
pub(super) struct Rest {
    /// The file and its number of frames, as of the sweep that last found another number.
    seen: Option<(FileNumber, u64)>,
    since: Instant,
    /// The time of rest after which the session's file may be completed. It doubles, up to
    /// [`LONGEST`], with each file that is: a session that sends a frame now and then would else
    /// have a file for each.
    patience: Duration,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self { seen: None, since: Instant::now(), patience: PATIENCE }
    }

    /// Notes that a sweep finds file `number` with `given` frames, and `buffered` ones that it is
    /// to have. Returns the time since when the session rests, if that is long enough.
    ///
    /// No clock is read for each frame: the number of frames shows that something came.
    pub(super) fn look(&mut self, now: Instant, number: FileNumber, given: u64, buffered: Batch) -> Option<Instant> {
        let found = Some((number, given + buffered.frames));
        if self.seen != found {
            (self.seen, self.since) = (found, now);
        }
        (now.saturating_duration_since(self.since) >= self.patience).then_some(self.since)
    }

    /// Notes that the file is completed because its session rests.
    pub(super) fn heed(&mut self) {
        self.patience = self.patience.saturating_mul(2).min(LONGEST);
    }
}
