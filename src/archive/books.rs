//! The books of a directory are its manifest, the lines that could not be written yet, and the
//! files that lines are about. Publishing, recovery, takeover and pruning borrow them.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::Sender;
use rustix::fs::OFlags;

use super::handover::{Gone, Losses};
use super::plan::{ArchivePlan, Sync};
use crate::episode::Episode;
use crate::evidence::lock::DirectoryLock;
use crate::evidence::{Algorithm, Edited, Event, FileHash, FileHasher, Manifest};
use crate::ledger::{OutputCounters, OutputDrop};
use crate::session::Session;
use crate::setting::Wording;
use crate::storage::{Changed, Storage};

/// The reason for which a file cannot be published now.
#[derive(Debug)]
pub(super) enum Unready {
    /// It cannot be opened or read, which may change.
    Read(io::Error),
    /// It could not be synced.
    Sync(io::Error),
}

impl From<Unready> for io::Error {
    fn from(unready: Unready) -> Self {
        match unready {
            Unready::Read(error) | Unready::Sync(error) => error,
        }
    }
}

/// Says whether something failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The books of a directory. The directory is this process's as long as they are there.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) directory: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) counters: Arc<OutputCounters>,
    /// The names by which the log calls settings.
    pub(super) wording: Wording,
    sync: Sync,
    hash: Option<Algorithm>,
    pub(super) manifest: Manifest,
    _lock: DirectoryLock,
    /// The deed of somebody who changed the manifest. From then on nothing is published, removed or
    /// put on record.
    edited: Option<Edited>,
    /// Lines about what has happened already, which could not be written yet.
    unwritten: VecDeque<Event>,
    /// The manifest cannot be written, and captures are not removed until it can.
    failing: Episode,
    /// True where the last attempt to write a line failed, and not for want of room.
    is_failing: bool,
    /// Session directories that are symbolic links, of which the log tells.
    links: HashSet<PathBuf>,
    /// The channel by which the writer of captures hears what is gone.
    gone: Sender<Gone>,
}

impl Books {
    pub(super) fn new(
        directory: &Path,
        storage: Arc<dyn Storage>,
        (lock, manifest): (DirectoryLock, Manifest),
        plan: &ArchivePlan,
        counters: Arc<OutputCounters>,
        gone: Sender<Gone>,
    ) -> Self {
        Self {
            directory: directory.to_path_buf(),
            storage,
            counters,
            wording: plan.wording,
            sync: plan.sync,
            hash: plan.hash,
            manifest,
            _lock: lock,
            edited: None,
            unwritten: VecDeque::new(),
            failing: Episode::default(),
            is_failing: false,
            links: HashSet::new(),
            gone,
        }
    }

    /// Syncs and hashes as another plan says from now on.
    pub(super) fn replan(&mut self, plan: &ArchivePlan) {
        (self.sync, self.hash) = (plan.sync, plan.hash);
    }

    /// Says whether what is published is to survive a loss of power.
    pub(super) fn syncs(&self) -> bool {
        self.sync == Sync::Publish
    }

    /// Makes sure that the manifest is as it was written, and has its name.
    ///
    /// The locks are on a file and a directory, not on their names. Once others have the names, or
    /// none has, another sensor may have the directory; and what somebody changed is evidence of
    /// that. So this process puts nothing more on record there: files keep their part names, none
    /// is removed, and the next start takes up what is there. It is a failure of the sensor's task
    /// also where no file is left to be published.
    pub(super) fn look_for_manifest(&mut self) {
        if self.edited.is_some() {
            return;
        }
        self.edited = self.manifest.edited();
        let Some(edited) = self.edited else { return };
        self.counters.manifest_changed.add(1);
        tracing::error!(
            directory = %self.directory.display(), last_line = %self.manifest.head(),
            "somebody changed the manifest: {edited}. Nothing is appended to it, captures keep their part names and none is removed \
             from here on; `vxtap verify` tells what differs, and the next start puts these captures on record"
        );
    }

    /// Says whether somebody changed the manifest.
    pub(super) fn is_edited(&self) -> bool {
        self.edited.is_some()
    }

    /// Fails once somebody changed the manifest.
    pub(super) fn owns_directory(&self) -> io::Result<()> {
        self.edited.map_or(Ok(()), |edited| Err(io::Error::other(edited)))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// Writing or syncing the manifest fails, or somebody changed it.
    pub(super) fn append(&mut self, event: &Event) -> io::Result<()> {
        self.append_all(std::iter::once(event)).1
    }

    /// Writes lines in their order. Returns how many are in the manifest now, and why not all are.
    pub(super) fn append_all<'a>(&mut self, events: impl Iterator<Item = &'a Event>) -> (usize, io::Result<()>) {
        if let Err(error) = self.owns_directory() {
            return (0, Err(error));
        }
        let sync = self.syncs();
        let (written, result) = self.manifest.append_all(events, sync);
        match &result {
            Ok(()) => {
                // Nothing is known where there was no line.
                self.is_failing &= written == 0;
                self.failing.ends();
            }
            Err(error) => {
                self.is_failing = !is_full(error);
                // What somebody did to it is said as that, whoever finds it.
                self.look_for_manifest();
            }
        }
        (written, result)
    }

    /// Says whether lines cannot be written, so that no capture can be removed, for another reason
    /// than want of room. Where room is short, captures are removed all the same.
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// Says once that captures are not removed since the manifest cannot be written.
    pub(super) fn keeps_captures_for(&mut self, error: &io::Error) {
        if !self.is_edited() && self.failing.begins() {
            tracing::error!(%error, "cannot write the manifest; captures are not removed until it can be written");
        }
    }

    /// Writes a line about something that has happened: now, or as soon as it can be.
    pub(super) fn record(&mut self, event: Event) {
        if self.append(&event).is_err() {
            self.remember(event);
        }
    }

    /// Writes what a session lost, as [`Books::record`] does.
    pub(super) fn record_loss(&mut self, session: Option<Session>, losses: Losses) {
        if losses.total() > 0 {
            self.record(Event::Lost { session, dropped: losses.by_label() });
        }
    }

    /// Keeps a line until it can be written. What one session lost is one line: there are never
    /// more of these than sessions.
    pub(super) fn remember(&mut self, event: Event) {
        if let Event::Lost { session, dropped } = &event {
            let same = self.unwritten.iter_mut().find_map(|earlier| match earlier {
                Event::Lost { session: other, dropped } if other == session => Some(dropped),
                _ => None,
            });
            if let Some(earlier) = same {
                for (reason, frames) in dropped {
                    *earlier.entry(reason.clone()).or_default() += frames;
                }
                return;
            }
        }
        self.unwritten.push_back(event);
    }

    /// Writes the lines that could not be written, as far as they can be now.
    pub(super) fn write_again(&mut self) {
        while let Some(event) = self.unwritten.pop_front() {
            if self.append(&event).is_err() {
                self.unwritten.push_front(event);
                break;
            }
        }
    }

    /// Returns the lines that could not be written yet.
    pub(super) fn unwritten(&self) -> impl ExactSizeIterator<Item = &Event> {
        self.unwritten.iter()
    }

    /// Records that somebody removed or changed a file before it was `before`. Its frames are lost,
    /// with what was lost earlier and has no line. Whatever has the file's name stays as it is.
    pub(super) fn miss(&mut self, part: &Path, changed: Changed, holds: Gone, losses: Losses, before: &str) {
        let (path, frames, reason) = (part.display(), holds.frames, OutputDrop::WriteError.label());
        let (source, vni) = holds.whose();
        match changed {
            Changed::Missing => tracing::error!(
                %path, frames, source, vni, reason,
                "somebody removed a capture file before it was {before}: its frames are lost"
            ),
            found => tracing::error!(
                %path, %found, frames, source, vni, reason,
                "somebody changed a capture file before it was {before}: its frames are lost, and what is found stays as it is"
            ),
        }
        self.take_back(holds, losses);
    }

    /// Records that frames which count as written are in no capture, with what was lost earlier and
    /// has no line.
    pub(super) fn take_back(&mut self, gone: Gone, mut losses: Losses) {
        // The writer of captures may have ended; then it asks once more after this thread has.
        let _ = self.gone.send(gone);
        losses.add(OutputDrop::WriteError, gone.frames);
        self.record_loss(gone.session, losses);
    }

    /// Makes the file's bytes survive a loss of power, if that is asked for.
    pub(super) fn make_safe(&self, path: &Path) -> Result<(), Unready> {
        if self.syncs() {
            // Opened again: of a thousand that are cut at once, each would keep its descriptor from
            // those that are written to.
            self.storage.append(path).map_err(Unready::Read)?.sync().map_err(Unready::Sync)?;
        }
        Ok(())
    }

    /// Makes the names of these files survive a loss of power, one directory after the other.
    ///
    /// # Errors
    /// A directory cannot be synced.
    pub(super) fn sync_names<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> io::Result<()> {
        let directories: BTreeSet<_> = paths.filter_map(Path::parent).collect();
        let mut all = directories.into_iter().chain([&*self.directory]);
        all.try_for_each(|directory| self.storage.sync_directory(directory))
    }

    /// Reads a file and returns its hash, if files are hashed.
    pub(super) fn hash_of(&self, path: &Path) -> io::Result<Option<FileHash>> {
        self.hash.map(|algorithm| hash_file(&*self.storage, path, algorithm)).transpose()
    }

    /// Reads a file and returns its hash, by the algorithm of this run, or by the usual one where
    /// the run has none.
    pub(super) fn hash_in_any_case(&self, path: &Path) -> io::Result<FileHash> {
        hash_file(&*self.storage, path, self.hash.unwrap_or_default())
    }

    /// Returns a path as the manifest has it.
    pub(super) fn relative(&self, path: &Path) -> Option<String> {
        path.strip_prefix(&self.directory).ok()?.to_str().map(str::to_owned)
    }

    /// Says whether a capture's directory is one, and not a symbolic link. What a link leads to is
    /// not the budget's to remove.
    pub(super) fn is_ours(&mut self, path: &Path) -> bool {
        let Some(directory) = path.parent().filter(|directory| directory.is_symlink()) else { return true };
        if self.links.insert(directory.to_path_buf()) {
            tracing::warn!(
                path = %directory.display(),
                "a session's directory is a symbolic link: what it leads to is neither counted in the budget nor removed"
            );
        }
        false
    }
}

/// Reads a file and returns its hash.
pub(super) fn hash_file(storage: &dyn Storage, path: &Path, algorithm: Algorithm) -> io::Result<FileHash> {
    FileHasher::new(algorithm).read(storage.open(path, OFlags::RDONLY)?)
}
