//! The oldest captures are removed, each when its line is written.

mod report;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::report::Report;
use super::books::{Books, is_full};
use super::delivery::Deliveries;
use super::room::Keeper;
use crate::episode::Episode;
use crate::evidence::{Entry, Event, PruneReason};
use crate::ledger::OutputDrop;
use crate::setting::Wording;

/// The look which captures are there takes at most one part in so many of the time.
const STOCK: u32 = 50;
/// The shortest time between two such looks.
const AGAIN: Duration = Duration::from_secs(1);
/// Lines that may wait to be written where captures are removed all the same.
const WAITING: usize = 10_000;

/// What the log says of files that cannot be published as fast as they come.
const CROWDED: &str = "files that wait to be published have more bytes than --keep-bytes leaves them, and there is no capture left to remove";
/// What the log says where nothing makes room.
const STARVED: &str =
    "the file system has less room than --min-free and there is no capture left that can be removed; dropping frames";

/// Removes captures until the budget is kept.
#[derive(Debug)]
pub(super) struct Pruning {
    pub(super) keeper: Keeper,
    /// The names by which the log calls settings.
    wording: Wording,
    /// Files that are pruned and could not be removed yet.
    unremoved: Vec<PathBuf>,
    /// The captures that went since the log told last.
    report: Report,
    /// The time of the next look which captures are there.
    next_stock: Option<Instant>,
    /// Lasts while a capture cannot be removed.
    stuck: Episode,
    /// Lasts while there is no room, and nothing that can be removed.
    starved: Episode,
    /// Lasts while the captures that are not published have more bytes than are kept.
    crowded: Episode,
    /// Lasts while captures stay beyond the budget for consumers.
    held: Episode,
}

impl Pruning {
    pub(super) fn new(keeper: Keeper, wording: Wording) -> Self {
        Self {
            keeper,
            wording,
            unremoved: Vec::new(),
            report: Report::default(),
            next_stock: None,
            stuck: Episode::default(),
            starved: Episode::default(),
            crowded: Episode::default(),
            held: Episode::default(),
        }
    }

    /// Has a file removed that is pruned already.
    pub(super) fn remove_later(&mut self, path: PathBuf) {
        self.unremoved.push(path);
    }

    /// Removes what is pruned already and could not be removed. Nothing is removed once somebody
    /// changed the manifest.
    pub(super) fn remove_pruned(&mut self, books: &mut Books) {
        if books.is_edited() {
            return;
        }
        for path in std::mem::take(&mut self.unremoved) {
            self.remove(path, books);
        }
        if self.unremoved.is_empty() {
            self.stuck.ends();
        }
    }

    /// Says which captures are about to go, before the first does.
    pub(super) fn announce(&mut self, deliveries: &Deliveries) {
        let mut due = Report::default();
        self.keeper.due(|path| deliveries.hold(path)).for_each(|(entry, reason)| due.add(entry, reason));
        due.announce(self.wording);
    }

    /// Says what went since this was called last.
    pub(super) fn report(&mut self) {
        self.report.say(self.wording);
    }

    /// Removes files until the budget is kept.
    pub(super) fn keep_budget(&mut self, books: &mut Books, deliveries: &mut Deliveries) {
        deliveries.catch_up();
        let mut waits = false;
        let mut space = self.keeper.space();
        let (open, pending) = self.keeper.unpublished();
        let unpublished = open.saturating_add(pending);
        loop {
            // Where a file cannot be removed, another is not removed for want of room: it may be no
            // different.
            let to_keep = space.filter(|_| self.unremoved.is_empty());
            let hold = |path: &str| deliveries.hold(path);
            let Some((entry, reason)) = self.keeper.must_go(unpublished, to_keep, hold) else { break };
            if self.take_stock(books) {
                continue;
            }
            let path = books.directory.join(&*entry.path);
            // A file that somebody else removed stays missing.
            if !books.is_ours(&path) || matches!(books.storage.exists(&path), Ok(false)) {
                self.keeper.shelf.remove(&entry.path);
                continue;
            }
            if !self.prune(&entry, reason, books, deliveries) {
                waits = true;
                break;
            }
            space = self.keeper.space();
        }
        if !waits && self.unremoved.is_empty() && self.keeper.must_go(unpublished, space, |_| false).is_some() {
            if self.held.begins() {
                tracing::info!("captures stay beyond the budget, since consumers are not done with them");
            }
        } else {
            self.held.ends();
        }
        if self.keeper.shelf.files() > 0 {
            self.crowded.ends();
        } else if pending > 0 && self.keeper.is_crowded(unpublished) && self.crowded.begins() {
            tracing::warn!(pending, "{}", self.wording.put(CROWDED));
        }
        books.counters.archive_bytes.set(self.keeper.bytes());
        self.keeper.set_stuck(waits || books.is_edited() || books.is_failing());
        if self.keeper.settle(space, waits) {
            if self.starved.begins() {
                tracing::error!(reason = OutputDrop::DiskFull.label(), "{}", self.wording.put(STARVED));
            }
        } else if self.starved.ends() {
            tracing::info!("the file system has room again; writing captures");
        }
    }

    /// Forgets captures that somebody else removed, before something is removed: they take no room,
    /// and were not pruned. Says whether there were any. This is not done every time, since each
    /// file is looked at.
    fn take_stock(&mut self, books: &Books) -> bool {
        let begin = Instant::now();
        if self.next_stock.is_some_and(|next| begin < next) {
            return false;
        }
        let missing = |entry: &&Entry| matches!(books.storage.exists(&books.directory.join(&*entry.path)), Ok(false));
        let missing: Vec<_> = self.keeper.shelf.iter().filter(missing).map(|entry| Arc::clone(&entry.path)).collect();
        self.next_stock = Some(Instant::now() + AGAIN + begin.elapsed() * STOCK);
        if let Some(path) = missing.first() {
            tracing::warn!(%path, files = missing.len(), "somebody removed captures: they are on record, and missing");
        }
        missing.iter().for_each(|path| drop(self.keeper.shelf.remove(path)));
        !missing.is_empty()
    }

    /// Removes a file for the budget. Returns false where that has to wait.
    fn prune(&mut self, entry: &Entry, reason: PruneReason, books: &mut Books, deliveries: &mut Deliveries) -> bool {
        let undelivered = deliveries.needed_by(&entry.path);
        let event = Event::Pruned { path: entry.path.to_string(), hash: entry.hash, reason, undelivered };
        if let Err(error) = books.append(&event) {
            // On a full disk it is the removal that makes room for the line, even if a crash now
            // would leave a file missing without one.
            if !is_full(&error) || books.is_edited() || books.unwritten().len() >= WAITING {
                books.keeps_captures_for(&error);
                return false;
            }
            books.remember(event);
        }
        self.keeper.shelf.remove(&entry.path);
        tracing::debug!(path = %entry.path, limit = reason.label(), "capture file removed to keep the budget");
        self.report.add(entry, reason);
        let path = books.directory.join(&*entry.path);
        deliveries.removed(&entry.path, &path);
        self.remove(path, books);
        true
    }

    fn remove(&mut self, path: PathBuf, books: &mut Books) {
        let bytes = books.storage.status(&path).ok().flatten().map_or(0, |file| file.length);
        // The room is looked at before, so that what rises from here on is what this removal gives
        // back.
        let room = self.keeper.space();
        match books.storage.remove(&path) {
            Ok(()) => {
                books.counters.pruned.add(1);
                if room.is_some() {
                    self.keeper.gave_back(bytes);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The directory became a symbolic link just now.
            Err(_) if !books.is_ours(&path) => {}
            Err(error) => {
                if self.stuck.begins() {
                    tracing::error!(path = %path.display(), %error, "cannot remove a capture; trying again every second");
                }
                self.unremoved.push(path);
            }
        }
    }
}
