//! Must something go? The keeper answers. It is the end of the archive's thread, which removes
//! captures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::claims::Unpublished;
use super::late::LateRoom;
use super::plan::{BudgetPlan, MinFree};
use super::shelf::Shelf;
use crate::evidence::{Entry, PruneReason};
use crate::record::Timestamp;
use crate::storage::{Space, Storage};

/// The published captures and the limits on them.
#[derive(Debug)]
pub(in crate::archive) struct Keeper {
    plan: BudgetPlan,
    directory: PathBuf,
    storage: Arc<dyn Storage>,
    unpublished: Arc<Unpublished>,
    /// The published captures.
    pub(in crate::archive) shelf: Shelf,
    /// Room that was made and does not show yet.
    late: LateRoom,
    /// The time of the next look, where that cannot wait for the next tick.
    look: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(
        plan: BudgetPlan,
        directory: &Path,
        storage: Arc<dyn Storage>,
        unpublished: Arc<Unpublished>,
    ) -> Self {
        let directory = directory.to_path_buf();
        Self { plan, directory, storage, unpublished, shelf: Shelf::new(plan), late: LateRoom::default(), look: None }
    }

    /// Keeps as much as another plan says from now on.
    pub(in crate::archive) fn replan(&mut self, plan: BudgetPlan) {
        self.plan = plan;
        self.shelf.replan(plan);
        self.look = None;
    }

    /// Returns the bytes of the files that are written to, and of those that are handed over and
    /// not published.
    pub(in crate::archive) fn unpublished(&self) -> (u64, u64) {
        // The two are read in the reverse of the order in which a file is handed over.
        let claimed = self.unpublished.claimed();
        (self.unpublished.open.get(), claimed)
    }

    /// Returns the bytes of all captures, published or not.
    pub(in crate::archive) fn bytes(&self) -> u64 {
        let (open, pending) = self.unpublished();
        self.shelf.bytes().saturating_add(open).saturating_add(pending)
    }

    /// Returns the room of the file system, with what it has not given back yet, where that is the
    /// budget's affair.
    pub(in crate::archive) fn space(&mut self) -> Option<Space> {
        self.plan.min_free?;
        let Space { free, total } = self.storage.space(&self.directory).ok()?;
        Some(Space { free: self.late.look(free, Instant::now()), total })
    }

    /// Hears that a file of so many bytes was removed.
    pub(in crate::archive) fn gave_back(&mut self, bytes: u64) {
        if self.plan.min_free.is_some() {
            self.late.add(bytes, Instant::now());
        }
    }

    /// Returns the capture that has to go first, and for which limit, where so much of the disk is
    /// not published and `space` is left. A capture that is held goes where room ends and no other
    /// can.
    pub(in crate::archive) fn must_go(
        &self,
        unpublished: u64,
        space: Option<Space>,
        is_held: impl Fn(&str) -> bool,
    ) -> Option<(Entry, PruneReason)> {
        let now = Timestamp::now();
        let (oldest, _) = self.shelf.next(now, unpublished, space, |_| false)?;
        let next = match is_held(&oldest.path) {
            true => match self.shelf.next(now, unpublished, space, is_held) {
                None if self.room_ends(space) => self.shelf.next(now, unpublished, space, |_| false),
                next => next,
            },
            false => self.shelf.next(now, unpublished, space, |_| false),
        };
        next.map(|(entry, reason)| (entry.clone(), reason))
    }

    /// Says whether less is free than is to be left. Where no limit says how much, that is twice
    /// what a host needs, so that captures go before frames have to.
    fn room_ends(&self, space: Option<Space>) -> bool {
        match self.plan.min_free {
            Some(_) => self.plan.is_short(space),
            None => self
                .storage
                .space(&self.directory)
                .is_ok_and(|space| space.free < MinFree::Usual.of(space.total).saturating_mul(2)),
        }
    }

    /// Returns all that has to go now, one after the other. What is held has to where room ends.
    pub(in crate::archive) fn due(
        &mut self,
        is_held: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&Entry, PruneReason)> {
        let space = self.space();
        let all = self.room_ends(space);
        self.shelf.due(Timestamp::now(), 0, space, move |path| !all && is_held(path))
    }

    /// Says whether `--keep-bytes` is exceeded by what cannot be removed, with so many bytes.
    pub(in crate::archive) fn is_crowded(&self, unpublished: u64) -> bool {
        self.plan.keep_bytes.is_some_and(|keep| unpublished > keep)
    }

    /// Hears that nothing more is removed now. Sees whether there is room for frames, which
    /// [`Room`] then knows, and when to look again. `stuck` says that a removal has to wait.
    /// Returns whether there is no room.
    ///
    /// [`Room`]: super::Room
    pub(in crate::archive) fn settle(&mut self, space: Option<Space>, stuck: bool) -> bool {
        let starved = self.plan.is_short(space);
        self.unpublished.starved.store(starved, Ordering::Relaxed);
        let next = self.plan.min_free.zip(space).map(|(min, space)| Instant::now() + min.look_after(space));
        self.look = next.filter(|_| !starved && !stuck);
        starved
    }

    /// Hears whether the manifest keeps captures from being removed. Then [`Room`] keeps the
    /// reserve, since no limit bounds what is written.
    ///
    /// [`Room`]: super::Room
    pub(in crate::archive) fn set_stuck(&self, stuck: bool) {
        self.unpublished.stuck.store(stuck, Ordering::Relaxed);
    }

    /// Returns when the next look is due, where that cannot wait for the next tick.
    pub(in crate::archive) fn look(&self) -> Option<Instant> {
        self.look
    }
}
