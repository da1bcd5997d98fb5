//! How much is kept: the oldest captures are removed, each when its line is written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Common;
use super::publisher::{Publisher, TICK, WAITING};
use super::removed::Removed;
use crate::evidence::{Entry, Event, PruneReason};
use crate::record::Timestamp;
use crate::storage::Space;

/// It is looked which captures are there for one part in so many of the time, at most.
const STOCK: u32 = 50;

impl Publisher {
    /// Removes what is pruned already and could not be removed.
    pub(super) fn remove_pruned(&mut self) {
        for path in std::mem::take(&mut self.unremoved) {
            self.remove(path);
        }
        self.said.removal &= !self.unremoved.is_empty();
    }

    /// Says which captures are about to go, before the first does.
    pub(super) fn announce_removal(&mut self) {
        let space = self.room();
        let mut due = Removed::default();
        self.shelf.due(Timestamp::now(), 0, space).for_each(|(entry, reason)| due.add(entry, reason));
        due.announce();
    }

    /// Removes files until the budget is kept.
    pub(super) fn keep_budget(&mut self, common: &Common) {
        let mut stuck = false;
        let mut space = self.room();
        let (open, pending) = common.unpublished();
        let unpublished = open.saturating_add(pending);
        loop {
            // More that cannot be removed makes no room either.
            let to_keep = space.filter(|_| self.unremoved.is_empty());
            let Some((entry, reason)) = self.shelf.next(Timestamp::now(), unpublished, to_keep) else { break };
            let entry = entry.clone();
            if self.take_stock() {
                continue;
            }
            let path = self.directory.join(&*entry.path);
            // What somebody else removed stays missing.
            if !self.is_ours(&path) || matches!(self.storage.exists(&path), Ok(false)) {
                self.shelf.remove(&entry.path);
                continue;
            }
            if !self.prune(&entry, reason) {
                stuck = true;
                break;
            }
            space = self.room();
        }
        if self.shelf.files() > 0 {
            self.said.pending = false;
        } else if pending > 0
            && self.plan.budget.keep_bytes.is_some_and(|keep| unpublished > keep)
            && !std::mem::replace(&mut self.said.pending, true)
        {
            tracing::warn!(
                pending,
                "files that wait to be published have more bytes than --keep-bytes leaves them, and there is no capture left to remove"
            );
        }
        // Nothing is left that can be removed, or recorded.
        let starved = self.is_short(space);
        common.starved.store(starved, Ordering::Relaxed);
        let next = self.plan.budget.min_free.zip(space).map(|(min, space)| Instant::now() + min.look_after(space));
        self.look = next.filter(|_| !starved && !stuck);
        if starved != std::mem::replace(&mut self.said.starved, starved) {
            if starved {
                tracing::error!(
                    "the file system has less room than --min-free and there is no capture left that can be removed; dropping frames"
                );
            } else {
                tracing::info!("the file system has room again; writing captures");
            }
        }
    }

    /// The room of the file system, with what it has not given back yet, where that is the budget's affair.
    fn room(&mut self) -> Option<Space> {
        self.plan.budget.min_free?;
        let Space { free, total } = self.storage.space(&self.directory).ok()?;
        Some(Space { free: self.owed.look(free, Instant::now()), total })
    }

    fn is_short(&self, space: Option<Space>) -> bool {
        self.plan.budget.min_free.zip(space).is_some_and(|(min, space)| space.free < min.of(space.total))
    }

    /// Whether a capture's directory is one, and not a symbolic link: what that leads to is not the budget's to remove.
    pub(super) fn is_ours(&mut self, path: &Path) -> bool {
        let Some(directory) = path.parent().filter(|directory| directory.is_symlink()) else { return true };
        if self.said.links.insert(directory.to_path_buf()) {
            tracing::warn!(
                path = %directory.display(),
                "a session's directory is a symbolic link: what it leads to is neither counted in the budget nor removed"
            );
        }
        false
    }

    /// Before something is removed: forgets captures that somebody else removed, which take no room, and were not pruned. Says whether there
    /// were any. Not every time, since each file is looked at.
    fn take_stock(&mut self) -> bool {
        let begin = Instant::now();
        if self.next_stock.is_some_and(|next| begin < next) {
            return false;
        }
        let missing = |entry: &&Entry| matches!(self.storage.exists(&self.directory.join(&*entry.path)), Ok(false));
        let missing: Vec<_> = self.shelf.iter().filter(missing).map(|entry| Arc::clone(&entry.path)).collect();
        self.next_stock = Some(Instant::now() + TICK + begin.elapsed() * STOCK);
        if let Some(path) = missing.first() {
            tracing::warn!(%path, files = missing.len(), "somebody removed captures: they are on record, and missing");
        }
        missing.iter().for_each(|path| drop(self.shelf.remove(path)));
        !missing.is_empty()
    }

    /// Removes a file for the budget. False where that has to wait.
    fn prune(&mut self, entry: &Entry, reason: PruneReason) -> bool {
        let event = Event::Pruned { path: entry.path.to_string(), hash: entry.hash, reason };
        if let Err(error) = self.append(&event) {
            // On a full disk it is the removal that makes room for the line, even if a crash now would leave a file missing without one.
            let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if !is_full || self.unrecorded.len() >= WAITING {
                if self.edited.is_none() && !std::mem::replace(&mut self.said.manifest, true) {
                    tracing::error!(%error, "cannot write the manifest; captures are not removed until it can be written");
                }
                return false;
            }
            self.remember(event);
        }
        self.shelf.remove(&entry.path);
        tracing::debug!(path = %entry.path, reason = reason.label(), "capture file removed to keep the budget");
        self.removed.add(entry, reason);
        self.remove(self.directory.join(&*entry.path));
        true
    }

    fn remove(&mut self, path: PathBuf) {
        let bytes = self.storage.status(&path).ok().flatten().map_or(0, |file| file.length);
        // Looked at before, so that what rises from here on is what this removal gives back.
        let room = self.room();
        match self.storage.remove(&path) {
            Ok(()) => {
                self.counters.pruned.add(1);
                if room.is_some() {
                    self.owed.add(bytes, Instant::now());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It became one just now.
            Err(_) if !self.is_ours(&path) => {}
            Err(error) => {
                if !std::mem::replace(&mut self.said.removal, true) {
                    tracing::error!(path = %path.display(), %error, "cannot remove a capture; trying again every second");
                }
                self.unremoved.push(path);
            }
        }
    }
}
