//! May frames be written? The room answers. It is the end of the thread that writes them.
//!
//! The last room of the file system is not for frames. Other files of the directory may use it: the
//! manifest, and what is salvaged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::claims::{Claim, Unpublished};
use super::keeper::Keeper;
use super::plan::{BudgetPlan, MinFree};
use crate::setting::Wording;
use crate::storage::{Space, Storage};

/// The time between two looks where there is nothing to keep: a file system can shrink.
const SELDOM: Duration = Duration::from_secs(1);

/// The reason for which frames are dropped with `--min-free`. What is above the half may be used
/// until the archive makes room, so that the two are not at odds. The archive does make room, but
/// not while it syncs, hashes or salvages a file.
const HALF: &str = "less than half of --min-free is free";

/// The reason for which frames are dropped with a budget that makes no room.
const LAST: &str = "the last 5 % of the file system (10 GiB at most) are left to this host: make room, or have the oldest captures removed \
                    in time, by --min-free 10% or --keep-bytes; with --min-free 0 captures may fill it";

/// The reason for which frames are dropped where the budget would make room and cannot.
const STUCK: &str = "the last 5 % of the file system (10 GiB at most) are left to this host, and no capture can be removed while the \
                     manifest cannot be written, or once somebody changed it; with --min-free 0 captures may fill it";

/// The room for frames. They leave free half of what the budget makes room for, or the reserve of a
/// budget that makes none.
#[derive(Debug)]
pub(crate) struct Room {
    plan: BudgetPlan,
    wording: Wording,
    directory: PathBuf,
    storage: Arc<dyn Storage>,
    pub(in crate::archive) unpublished: Arc<Unpublished>,
    /// The time at which the file system is asked again.
    next: Instant,
}

impl Room {
    /// Makes the room of `directory`: the writer's end, and that of the archive's thread.
    pub(in crate::archive) fn new(
        plan: BudgetPlan,
        wording: Wording,
        directory: &Path,
        storage: &Arc<dyn Storage>,
    ) -> (Self, Keeper) {
        let unpublished = Arc::new(Unpublished::default());
        let keeper = Keeper::new(plan, directory, Arc::clone(storage), Arc::clone(&unpublished));
        let (directory, storage) = (directory.to_path_buf(), Arc::clone(storage));
        (Self { plan, wording, directory, storage, unpublished, next: Instant::now() }, keeper)
    }

    /// Leaves as much as another plan says from now on.
    pub(in crate::archive) fn replan(&mut self, plan: BudgetPlan) {
        (self.plan, self.next) = (plan, Instant::now());
    }

    /// Looks whether frames may be written, if it is time to look.
    ///
    /// # Errors
    /// Some of the last room is used: [`io::ErrorKind::StorageFull`], with what to do.
    pub(crate) fn may_write(&mut self) -> io::Result<()> {
        if self.plan.min_free.or(self.plan.reserve).is_none() {
            return Ok(());
        }
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        // What cannot be known is not a reason to lose frames.
        let Ok(space) = self.storage.space(&self.directory) else { return Ok(()) };
        let Some((min, least, why)) = self.least(space) else {
            self.next = now + SELDOM;
            return Ok(());
        };
        self.next = now + min.look_after(space);
        if space.free >= least {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::StorageFull, self.wording.put(why)))
        }
    }

    /// Returns what is to be left free for others, how much of that frames have to leave, and why.
    fn least(&self, space: Space) -> Option<(MinFree, u64, &'static str)> {
        if let Some(min) = self.plan.min_free {
            return Some((min, min.of(space.total) / 2, HALF));
        }
        // No other limit sees to the room while nothing can be removed.
        let (reserve, why) = match self.unpublished.stuck.load(Ordering::Relaxed) {
            true => (self.plan.reserve?, STUCK),
            false => (self.plan.reserve_of(space.total)?, LAST),
        };
        Some((reserve, reserve.of(space.total), why))
    }

    /// Says whether there is less room than is to be left free, and nothing to remove.
    #[must_use]
    pub(crate) fn is_starved(&self) -> bool {
        self.unpublished.starved.load(Ordering::Relaxed)
    }

    /// Says whether files that are written to, with so many bytes, leave too little of the budget
    /// to published ones. Only those can be removed, so each gets half.
    #[must_use]
    pub(crate) fn is_crowded(&self, open_bytes: u64) -> bool {
        self.plan.keep_bytes.is_some_and(|keep| open_bytes > keep / 2)
    }

    /// Hears how many bytes the files have that are written to.
    pub(crate) fn set_open_bytes(&self, bytes: u64) {
        self.unpublished.open.set(bytes);
    }

    /// Says that from here on the bytes of a file are not those of an open one. The budget may miss
    /// them for a moment, which is made good for when it is looked at next. It never counts them
    /// twice, which would cost a capture.
    pub(in crate::archive) fn hand_over(&self, bytes: u64) -> Claim {
        self.unpublished.open.lower(bytes);
        self.unpublished.claim(bytes)
    }
}
