//! The archive's thread.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::fs::OFlags;

use super::batch::Ready;
use super::closed::{Broken, Closed, Gone, Losses};
use super::hook::{Hook, HookCounters};
use super::leftover::{self, Leftovers};
use super::owed::Owed;
use super::removed::Removed;
use super::{ArchivePlan, Common, Labels, Shelf, Sync};
use crate::evidence::lock::DirectoryLock;
use crate::evidence::names::Names;
use crate::evidence::{Algorithm, Capture, Contents, Edited, Event, FileHash, FileHasher, Manifest};
use crate::ledger::{Output, OutputCounters, OutputDrop};
use crate::session::Session;
use crate::storage::{Changed, Storage, explain};

/// How often the budget is looked at, and what failed is tried again.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// How often the end tries to publish what could not be published, and the time between: what is short, as descriptors, may come back.
const ATTEMPTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(250);
/// How long the end waits for commands that run.
const PATIENCE: Duration = Duration::from_secs(3);
/// Names that are tried for a file whose own something else has.
const NAMES: u32 = 1000;
/// Tasks, files, and lines that wait at most. Beyond, the writer of captures waits until a task is done, which fills the lanes as a slow
/// disk does; files are left to the next start; and nothing is pruned.
pub(super) const WAITING: usize = 10_000;

/// What the archive is asked to do.
#[derive(Debug)]
pub(super) enum Task {
    Publish(Box<Closed>),
    Salvage(Broken),
    Lost(Option<Session>, Losses),
}

/// Publishes files of a directory, and keeps its budget.
#[derive(Debug)]
pub(super) struct Publisher {
    pub(super) directory: PathBuf,
    _lock: DirectoryLock,
    pub(super) plan: ArchivePlan,
    labels: Labels,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) manifest: Manifest,
    /// What somebody did to the manifest. From then on nothing is published, removed or put on
    /// record.
    pub(super) edited: Option<Edited>,
    pub(super) shelf: Shelf,
    pub(super) leftovers: Leftovers,
    pub(super) hook: Option<(Hook, Arc<HookCounters>)>,
    pub(super) counters: Arc<OutputCounters>,
    /// Files whose line could not be written yet.
    pub(super) unpublished: VecDeque<Box<Closed>>,
    /// Lines that could not be written yet, about what has happened already.
    pub(super) unrecorded: VecDeque<Event>,
    /// Files that are pruned and could not be removed yet.
    pub(super) unremoved: Vec<PathBuf>,
    /// Room that was made and does not show yet.
    pub(super) owed: Owed,
    /// What went since the log told last.
    pub(super) removed: Removed,
    /// When it is looked again which captures are there.
    pub(super) next_stock: Option<Instant>,
    /// When the budget is looked at again, where it cannot wait for the next tick.
    pub(super) look: Option<Instant>,
    /// Whether the log says that something fails.
    pub(super) said: Said,
}

/// Failures that the log tells of, until they are over.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) manifest: bool,
    pub(super) waiting: bool,
    pub(super) left: bool,
    pub(super) removal: bool,
    pub(super) starved: bool,
    pub(super) pending: bool,
    /// Session directories that are symbolic links.
    pub(super) links: HashSet<PathBuf>,
}

/// Why a file cannot be published now.
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

impl Publisher {
    pub(super) fn new(
        directory: &Path,
        lock: DirectoryLock,
        plan: ArchivePlan,
        labels: Labels,
        storage: Arc<dyn Storage>,
        manifest: Manifest,
        output: &mut Output,
    ) -> io::Result<Self> {
        let hook = match &plan.on_publish {
            Some(command) => {
                let counters = Arc::new(HookCounters::default());
                Some((Hook::start(command, Arc::clone(&counters))?, counters))
            }
            None => None,
        };
        Ok(Self {
            directory: directory.to_path_buf(),
            _lock: lock,
            shelf: Shelf::new(plan.budget),
            plan,
            labels,
            storage,
            manifest,
            edited: None,
            leftovers: Leftovers::default(),
            hook,
            counters: output.end(),
            unpublished: VecDeque::new(),
            unrecorded: VecDeque::new(),
            unremoved: Vec::new(),
            owed: Owed::default(),
            removed: Removed::default(),
            next_stock: None,
            look: None,
            said: Said::default(),
        })
    }

    /// Takes over what the directory has: what is published counts in the budget, what was announced is completed, and what a crash
    /// left behind is listed, to be salvaged by and by.
    pub(super) fn take_over(&mut self, contents: Contents) {
        self.adopt(&contents);
        self.announce_removal();
        self.leftovers = leftover::list(&*self.storage, &self.directory, &contents, &self.manifest);
    }

    /// Counts what is published in the budget, and completes what was to be removed.
    pub(super) fn adopt(&mut self, contents: &Contents) {
        for complaint in &contents.complaints {
            tracing::warn!("{complaint}");
        }
        self.complete_removals(contents);
        self.count_published(contents);
    }

    /// Works until the last file is handed over, then completes what can be.
    pub(super) fn run(mut self, tasks: &Receiver<Task>, gone: &Sender<Gone>, common: &Common) {
        let mut next_tick = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.look_for_manifest();
                self.tick(gone, common);
            } else if self.look.is_some_and(|look| now >= look) {
                self.keep_budget(common);
            }
            let idle = self.look.map_or(next_tick, |look| look.min(next_tick));
            let due = if self.leftovers.is_empty() { idle } else { now };
            match tasks.recv_deadline(due) {
                Ok(task) => self.work_off(task, tasks, gone, common),
                Err(RecvTimeoutError::Timeout) if self.leftovers.is_empty() => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.salvage_one(gone);
                    self.keep_budget(common);
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.end(gone, common);
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

    /// Fails once somebody changed the manifest.
    pub(super) fn owns_directory(&self) -> io::Result<()> {
        self.edited.map_or(Ok(()), |edited| Err(io::Error::other(edited)))
    }

    fn tick(&mut self, gone: &Sender<Gone>, common: &Common) {
        self.retry(gone, common);
        self.leftovers.retry();
        self.remove_pruned();
        self.keep_budget(common);
        self.removed.say();
        self.count_hooks();
    }

    fn end(mut self, gone: &Sender<Gone>, common: &Common) {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            // What an earlier process left can wait for the next.
            self.leftovers.keep_own();
            while !self.leftovers.is_empty() {
                self.salvage_one(gone);
            }
            self.look_for_manifest();
            self.tick(gone, common);
            let is_done = self.unpublished.is_empty() && self.unrecorded.is_empty() && self.leftovers.own().len() == 0;
            // Trying again would not help.
            if is_done || self.edited.is_some() {
                break;
            }
        }
        let unpublished = std::mem::take(&mut self.unpublished);
        unpublished.iter().for_each(|closed| self.give_up(closed));
        self.counters.unpublished.add(self.leftovers.own().len() as u64);
        for path in unpublished.iter().map(|closed| &*closed.names.part).chain(self.leftovers.own()) {
            tracing::error!(
                path = %path.display(),
                "a capture file could not be published: it stays under this name, and the next start salvages it"
            );
        }
        for event in &self.unrecorded {
            let line = serde_json::to_string(event).unwrap_or_default();
            tracing::error!(
                line,
                "a line about what has happened could not be written to the manifest, and is missing there"
            );
        }
        if let Some((hook, counters)) = self.hook.take() {
            hook.finish(PATIENCE);
            self.set_hook_counters(&counters);
        }
        tracing::info!(
            files = self.shelf.files(),
            last_line = %self.manifest.head(),
            "captures on record; the hash of the manifest's last line, noted elsewhere, is for vxtap verify --head"
        );
    }

    /// Makes a file ready for its line. None where that has to wait, or cannot be. What is `synced` is safe already.
    pub(super) fn make_ready(&mut self, mut closed: Box<Closed>, synced: bool, gone: &Sender<Gone>) -> Option<Ready> {
        if let Some(changed) = closed.changed(&*self.storage, &closed.names.part) {
            self.miss(&closed, changed, gone);
            return None;
        }
        if let Err(error) = self.owns_directory() {
            self.wait(closed, "write the manifest", &error);
            return None;
        }
        if let Some(capture) = closed.announced.take() {
            return Some(Ready { closed, event: Event::Published(capture), announced: true });
        }
        if let Err(error) = self.find_free_name(&mut closed.names) {
            self.wait(closed, "name a capture file", &error);
            return None;
        }
        match self.prepare(&mut closed, synced) {
            Ok(capture) => return Some(Ready { closed, event: Event::Published(capture), announced: false }),
            Err(Unready::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.miss(&closed, Changed::Missing, gone);
            }
            Err(Unready::Read(error)) => self.wait(closed, "read a capture file", &error),
            // It may lack bytes, and syncing it again may not say so.
            Err(Unready::Sync(error)) => self.fail(&closed, &error),
        }
        None
    }

    /// Gives a file its name. Returns what has it in the file's place, where somebody exchanged the
    /// two just now: that gets its former name back.
    pub(super) fn name(&self, closed: &Closed) -> io::Result<Option<Changed>> {
        let Names { part, published } = &closed.names;
        self.storage.rename(part, published)?;
        let changed = closed.changed(&*self.storage, published);
        if changed.is_some()
            && let Err(error) = self.storage.rename(published, part)
        {
            tracing::error!(path = %published.display(), %error, "cannot take its name from what is not the capture file");
        }
        Ok(changed)
    }

    /// Where something has a file's name already, another is found.
    fn find_free_name(&self, names: &mut Names) -> io::Result<()> {
        if !self.storage.exists(&names.published)? {
            return Ok(());
        }
        for attempt in 2..=NAMES {
            let Some(another) = names.another(attempt) else { break };
            if !self.storage.exists(&another)? {
                tracing::warn!(
                    path = %names.published.display(), name = %another.display(),
                    "something has the name of a capture file already: it stays, and the file is published under another name"
                );
                names.published = another;
                return Ok(());
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Has a file wait that cannot be published yet.
    pub(super) fn wait(&mut self, closed: Box<Closed>, what: &str, error: &io::Error) {
        if self.edited.is_none() && !std::mem::replace(&mut self.said.waiting, true) {
            tracing::error!(
                error = explain(error),
                "cannot {what}; files keep their part names; trying again every second"
            );
        }
        if self.unpublished.len() < WAITING {
            return self.unpublished.push_back(closed);
        }
        self.give_up(&closed);
        if !std::mem::replace(&mut self.said.left, true) {
            tracing::error!(
                path = %closed.names.part.display(),
                "{WAITING} files wait to be published: this one and those after it are left to the next start, which salvages them"
            );
        }
    }

    /// Makes the file's bytes survive a loss of power, if that is asked for.
    pub(super) fn make_safe(&self, path: &Path) -> Result<(), Unready> {
        if self.syncs() {
            // Opened again: of a thousand that are cut at once, each would keep its descriptor from those that are written to.
            self.storage.append(path).map_err(Unready::Read)?.sync().map_err(Unready::Sync)?;
        }
        Ok(())
    }

    /// The hash of a file, read, if files are hashed.
    pub(super) fn hash_of(&self, path: &Path) -> io::Result<Option<FileHash>> {
        self.plan.hash.map(|algorithm| hash_file(&*self.storage, path, algorithm)).transpose()
    }

    /// Sees to it that the file's bytes are safe, and known, as far as that is asked for.
    fn prepare(&self, closed: &mut Closed, synced: bool) -> Result<Capture, Unready> {
        if synced {
            self.storage.append(&closed.names.part).map_err(Unready::Read)?.check().map_err(Unready::Sync)?;
        } else {
            self.make_safe(&closed.names.part)?;
        }
        if closed.hash.is_none() {
            closed.hash = self.hash_of(&closed.names.part).map_err(Unready::Read)?;
        }
        let path = self.relative(&closed.names.published);
        let (first, last) = closed.span;
        Ok(Capture {
            path: path.ok_or_else(|| Unready::Read(io::Error::other("the name of the directory is not text")))?,
            session: closed.session,
            first,
            last,
            frames: closed.frames,
            frame_bytes: closed.frame_bytes,
            bytes: closed.bytes,
            dropped: closed.losses.by_label(),
            kernel_dropped: closed.kernel_dropped,
            format: self.labels.format.clone(),
            compression: self.labels.compression.clone(),
            hash: closed.hash,
        })
    }

    /// Somebody removed the file before it was published, or changed it: its frames are lost. What
    /// has its name stays as it is.
    pub(super) fn miss(&mut self, closed: &Closed, changed: Changed, gone: &Sender<Gone>) {
        tell_changed(&closed.names.part, changed, closed.frames, "published");
        // The writer of captures may have ended; then it asks once more after this thread has.
        let (session, frames, frame_bytes) = (closed.session, closed.frames, closed.frame_bytes);
        let _ = gone.send(Gone { session, frames, frame_bytes });
        // Its line tells what was lost in its span, if it has one.
        let mut losses = if closed.announced.is_some() { Losses::default() } else { closed.losses };
        losses.add(OutputDrop::WriteError, closed.frames);
        self.record_loss(closed.session, losses);
    }

    fn fail(&mut self, closed: &Closed, error: &io::Error) {
        self.give_up(closed);
        tracing::error!(
            path = %closed.names.part.display(), error = explain(error),
            "cannot publish a capture file: it stays under this name, and the next start salvages it"
        );
    }

    /// Leaves a file to the next start, whose line for it can only tell what is in the file: what was lost meanwhile gets a line now.
    fn give_up(&mut self, closed: &Closed) {
        self.counters.unpublished.add(1);
        if closed.announced.is_none() {
            self.record_loss(closed.session, closed.losses);
        }
    }

    pub(super) fn record_loss(&mut self, session: Option<Session>, losses: Losses) {
        if losses.total() > 0 {
            self.record(Event::Lost { session, dropped: losses.by_label() });
        }
    }

    /// Writes a line about something that has happened: now, or as soon as it can be.
    pub(super) fn record(&mut self, event: Event) {
        if self.append(&event).is_err() {
            self.remember(event);
        }
    }

    /// Keeps a line until it can be written. What one session lost is one line: there are never more of these than sessions.
    pub(super) fn remember(&mut self, event: Event) {
        if let Event::Lost { session, dropped } = &event {
            let same = self.unrecorded.iter_mut().find_map(|earlier| match earlier {
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
        self.unrecorded.push_back(event);
    }

    /// Whether what is published is to survive a loss of power.
    pub(super) fn syncs(&self) -> bool {
        self.plan.sync == Sync::Publish
    }

    /// Writes a line.
    pub(super) fn append(&mut self, event: &Event) -> io::Result<()> {
        self.owns_directory()?;
        // What somebody did to it is said as that, whoever finds it.
        self.manifest.append(event, self.syncs()).inspect_err(|_| self.look_for_manifest())?;
        self.said.manifest = false;
        Ok(())
    }

    /// Tries again what failed.
    fn retry(&mut self, gone: &Sender<Gone>, common: &Common) {
        while let Some(event) = self.unrecorded.pop_front() {
            if self.append(&event).is_err() {
                self.unrecorded.push_front(event);
                break;
            }
        }
        let waiting = std::mem::take(&mut self.unpublished);
        self.publish_all(waiting, gone, common);
        if !self.unpublished.is_empty() {
            return;
        }
        self.said.left = false;
        if std::mem::take(&mut self.said.waiting) {
            tracing::info!("captures are published again");
        }
    }

    fn count_hooks(&self) {
        if let Some((_, counters)) = &self.hook {
            self.set_hook_counters(counters);
        }
    }

    fn set_hook_counters(&self, counters: &HookCounters) {
        let totals = counters.totals();
        self.counters.hooks.set(totals.run);
        self.counters.hooks_failed.set(totals.failed);
        self.counters.hooks_skipped.set(totals.skipped);
        self.counters.hooks_unfinished.set(totals.unfinished);
    }

    /// A path as the manifest has it.
    pub(super) fn relative(&self, path: &Path) -> Option<String> {
        path.strip_prefix(&self.directory).ok()?.to_str().map(str::to_owned)
    }
}

/// Says that a file's frames are lost since somebody removed or changed it.
pub(super) fn tell_changed(part: &Path, changed: Changed, frames: u64, before: &str) {
    let path = part.display();
    match changed {
        Changed::Missing => tracing::error!(
            %path, frames,
            "somebody removed a capture file before it was {before}: its frames are lost"
        ),
        found => tracing::error!(
            %path, %found, frames,
            "somebody changed a capture file before it was {before}: its frames are lost, and what is found stays as it is"
        ),
    }
}

/// The hash of a file, read.
pub(super) fn hash_file(storage: &dyn Storage, path: &Path, algorithm: Algorithm) -> io::Result<FileHash> {
    FileHasher::new(algorithm).read(storage.open(path, OFlags::RDONLY)?)
}
