//! The last room of the file system, which frames do not get. What else is in the directory may use
//! it: the manifest, and what is salvaged.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::archive::{BudgetPlan, MinFree};
use crate::storage::{Space, Storage};

/// What frames leave free: half of what the budget makes room for, or the reserve of a budget that
/// makes none.
#[derive(Debug)]
pub(super) struct Reserve {
    plan: BudgetPlan,
    next: Instant,
}

/// How often it is looked where there is nothing to keep: a file system can shrink.
const SELDOM: Duration = Duration::from_secs(1);

/// Of `--min-free`. What is above it may be used until the archive makes room, so that the two are
/// not at odds: it does, but not while it syncs, hashes or salvages a file.
const HALF: &str = "less than half of --min-free is free";

/// Of a budget without it.
const LAST: &str = "the last 5 % of the file system (10 GiB at most) are left to this host: make room, or have the oldest captures removed \
                    in time, by --min-free 10% or --keep-bytes; with --min-free 0 captures may fill it";

impl Reserve {
    pub(super) fn new(plan: BudgetPlan) -> Self {
        Self { plan, next: Instant::now() }
    }

    /// Looks at it, if it is time to.
    ///
    /// # Errors
    /// Where some of it is used.
    pub(super) fn look(&mut self, storage: &dyn Storage, directory: &Path) -> io::Result<()> {
        if self.plan.min_free.or(self.plan.reserve).is_none() {
            return Ok(());
        }
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        // What cannot be known is not a reason to lose frames.
        let Ok(space) = storage.space(directory) else { return Ok(()) };
        let Some((min, least, why)) = self.least(space) else {
            self.next = now + SELDOM;
            return Ok(());
        };
        self.next = now + min.look_after(space);
        if space.free >= least { Ok(()) } else { Err(io::Error::new(io::ErrorKind::StorageFull, why)) }
    }

    /// What is to be left free for others, of that how much frames have to leave, and why.
    fn least(&self, space: Space) -> Option<(MinFree, u64, &'static str)> {
        if let Some(min) = self.plan.min_free {
            return Some((min, min.of(space.total) / 2, HALF));
        }
        let reserve = self.plan.reserve_of(space.total)?;
        Some((reserve, reserve.of(space.total), LAST))
    }
}
