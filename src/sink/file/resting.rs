//! The sweep that completes files of sessions that rest, for the memory of their compressors.

use std::time::Instant;

use super::session::SessionFiles;
use super::shared::Shared;
use crate::record::compress::Compressors;
use crate::sys::heap;

/// Up to so many files are left alone, however long their sessions rest: at half a MiB each they
/// have 128 MiB.
pub(super) const LEFT_ALONE: usize = 256;

/// So many files are completed in a sweep at most, for frames wait meanwhile. Each takes some ten
/// microseconds, and the archive publishes up to 1024 together.
pub(super) const AT_ONCE: usize = 512;

/// The findings of a sweep.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// Compressors in use.
    busy: usize,
    /// Sessions that rest: the time since when each does, and its place.
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
