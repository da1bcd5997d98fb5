//! Sessions that rest, and what their compressors keep in memory.
//!
//! A compressed file holds its compressor as long as it is open, whether frames come or not, and an
//! encoder cannot be put away and continued. With tens of thousands of sessions, most of which
//! rest, that is gigabytes. So files of sessions that rest are completed early where there are too
//! many.

use std::time::{Duration, Instant};

use super::Shared;
use super::part::Batch;
use super::session::SessionFiles;
use crate::archive::FileNumber;
use crate::record::compress::Compressors;
use crate::sys::heap;

/// Up to so many files are left alone, however long their sessions rest: at half a MiB each they
/// have 128 MiB.
pub(super) const LEFT_ALONE: usize = 256;

/// How long a session has to be without a frame until its file may be completed for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that a session is waited for, whatever it did before: a few files an hour are not
/// many.
pub(super) const LONGEST: Duration = Duration::from_secs(600);

/// So many files are completed in a sweep at most, for frames wait meanwhile. Each takes some ten
/// microseconds, and the archive publishes up to 1024 together.
pub(super) const AT_ONCE: usize = 512;

/// Since when a session rests.
#[derive(Debug)]
pub(super) struct Rest {
    /// The file, and how many frames it had, when a sweep last found another number.
    seen: Option<(FileNumber, u64)>,
    since: Instant,
    /// After how long its file may be completed. It doubles, up to [`LONGEST`], with each file that
    /// is: a session that sends a frame now and then would else have a file for each.
    patience: Duration,
}

impl Rest {
    pub(super) fn new() -> Self {
        Self { seen: None, since: Instant::now(), patience: PATIENCE }
    }

    /// A sweep finds file `number` with `given` frames, and `buffered` ones that it is to have.
    /// Returns since when the session rests, if that is long enough.
    ///
    /// No clock is read for each frame: that something came is seen by the number of frames.
    pub(super) fn look(&mut self, now: Instant, number: FileNumber, given: u64, buffered: Batch) -> Option<Instant> {
        let found = Some((number, given + buffered.frames));
        if self.seen != found {
            (self.seen, self.since) = (found, now);
        }
        (now.saturating_duration_since(self.since) >= self.patience).then_some(self.since)
    }

    /// The file is completed because of it.
    pub(super) fn heed(&mut self) {
        self.patience = self.patience.saturating_mul(2).min(LONGEST);
    }
}

/// What a sweep finds.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// Compressors in use.
    busy: usize,
    /// Sessions that rest: since when, and their places.
    found: Vec<(Instant, usize)>,
}

impl Resting {
    /// Looks at the session at `place`.
    pub(super) fn look(&mut self, place: usize, files: &mut SessionFiles, now: Instant) {
        if files.compresses() {
            self.busy += 1;
            self.found.extend(files.rests(now).map(|since| (since, place)));
        }
    }

    /// Completes the files of those that rest longest, where more are open than are left alone, and
    /// gives back the memory of compressors that are not used any more. Returns how many bytes
    /// these files had.
    pub(super) fn complete(mut self, sessions: &mut [Option<SessionFiles>], shared: &mut Shared) -> u64 {
        let number = self.busy.saturating_sub(LEFT_ALONE).min(AT_ONCE).min(self.found.len());
        if (1..self.found.len()).contains(&number) {
            self.found.select_nth_unstable(number);
        }
        let mut bytes = 0;
        for (_, place) in self.found.iter().take(number) {
            if let Some(files) = sessions.get_mut(*place).and_then(Option::as_mut) {
                bytes += files.open_bytes();
                files.complete_for_rest(shared);
            }
        }
        if number > 0 {
            tracing::debug!(files = number, "completed files of sessions that rest, for their memory");
        }
        if shared.compressors.as_mut().is_some_and(Compressors::have_freed) {
            heap::trim();
        }
        bytes
    }
}
