//! Consumers get published captures.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::evidence::Capture;
use crate::ledger::OutputCounters;
use crate::storage::Changed;

/// Says what has the name of a capture of so many bytes in its place, if anything.
pub(super) type Replaced = Box<dyn Fn(&Path, u64) -> Option<Changed> + Send>;

/// A published capture that a consumer is to hear of.
pub(super) struct Job {
    /// The place of the file.
    pub(super) path: PathBuf,
    /// The content of its line.
    pub(super) capture: Capture,
    /// Says whether it is still there.
    pub(super) replaced: Replaced,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Somebody who hears of each published capture at least once.
///
/// ```text
/// take -> done, by the channel that it was made with
///      -> withdraw, where the capture is removed before
///      -> finish, which leaves it to the next start
/// ```
///
/// One thread calls all of these. None waits, but for `finish`.
pub(super) trait Consumer: fmt::Debug + Send {
    /// Takes a capture, or returns it where no more may wait. The consumer says that it is done
    /// with a capture whether it succeeded or failed. It says nothing where it never began or was
    /// interrupted.
    #[must_use]
    fn take(&self, job: Job) -> Option<Job>;

    /// Does what `command` says from now on, for what waits as well.
    fn change(&self, command: &str);

    /// Returns how many captures wait for their turn.
    fn waiting(&self) -> usize;

    /// Forgets a capture whose turn has not come, because it was removed or never gets its name.
    /// `was_taken` says that this consumer took it.
    fn withdraw(&self, path: &Path, was_taken: bool);

    /// Counts captures that it will not hear of in this run.
    fn skip(&self, captures: usize);

    /// Shows in the ledger how far the consumer is.
    fn count(&self, counters: &OutputCounters);

    /// Waits until the consumer is done with all captures, for `patience` at most, or not at all
    /// without. What is left by then is left to the next start, and so are `others` that it was not
    /// given.
    fn finish(&mut self, patience: Option<Duration>, others: usize);
}
