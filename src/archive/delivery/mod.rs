//! Consumers hear of published captures. The command of `--on-publish` is the first of them.
//!
//! A consumer hears of each capture at least once, whatever ends the process: [`Progress`] has what
//! it is owed. A capture is owed from before it gets its name. It is owed no longer once the
//! consumer is done with it, be it a success or a failure. A command that failed is counted and not
//! run again, or a capture that no command can read would be tried for good. What was skipped,
//! waited, ran, or could not be started when the process ended is taken up by the next start that
//! has this consumer, or by the reload that brings it.
//!
//! Captures of runs without a consumer are not owed to it. So the first run with `--on-publish` in
//! an old directory runs no command for what is there.
//!
//! ## What a consumer needs stays, within bounds
//!
//! A capture that a consumer is still to hear of is not removed for `--keep-files`, `--keep-age`
//! and `--keep-bytes`: a limit that is kept some minutes later costs nothing, and a capture that
//! was removed unseen is gone. Two things end that, because capturing goes on whatever a consumer
//! does:
//!
//! - more than a thousand captures are owed. Such a consumer hangs, or is slower than captures
//!   come. Then the oldest go as if there were none. Keeping them would remove the newest unseen.
//! - room ends: less is free than `--min-free`, or the last room that is the host's where that was
//!   not given. What no consumer needs goes first, then what one does. A disk that is full for the
//!   sake of an upload would lose frames that nobody has seen at all.
//!
//! Each such removal is counted, the log says so, and the capture's line in the manifest names the
//! consumers that had not heard of it: `"undelivered":["on-publish"]`.

mod backlog;
mod consumer;
mod hook;
mod job;
mod progress;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use self::backlog::{Backlog, Found};
use self::consumer::Consumer;
use self::hook::Hook;
pub use self::hook::{HelperPlan, Permitted, Started as StartedHelper, serve};
use self::job::new_job;
use self::progress::Progress;
use super::books::Books;
use crate::episode::Episode;
use crate::evidence::{Capture, Contents};
use crate::storage::{Identity, Storage};

/// The name of `--on-publish` among consumers.
const ON_PUBLISH: &str = "on-publish";

/// Captures that a consumer may be owed until it holds none of them any longer: as many as may wait
/// for a command.
const HELD: usize = 1000;

/// The number of waiting captures below which captures of the backlog are handed over. So there is
/// room for new ones.
const FEED: usize = 500;

/// The reason for which there are no consumers.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A thread cannot be created.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The captures that a consumer is owed cannot be read.
    #[error(
        "cannot read {consumer}.jsonl in the directory of captures: {source}; it has the captures that --{consumer} is still to be run for: \
         make it readable, or move it away to forget them"
    )]
    Progress {
        /// The consumer's name.
        consumer: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

/// Says that a consumer is done with the capture at this path.
#[derive(Debug)]
pub(super) struct Done {
    consumer: usize,
    path: String,
}

/// Tells the archive's thread that a consumer is done.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    consumer: usize,
    sender: Sender<Done>,
}

impl Reports {
    fn done(&self, path: &str) {
        // Nobody hears it where the archive has ended. Then the capture stays owed.
        let _ = self.sender.send(Done { consumer: self.consumer, path: path.to_owned() });
    }
}

/// A consumer, and how far it is.
#[derive(Debug)]
struct Delivery {
    name: &'static str,
    consumer: Box<dyn Consumer>,
    progress: Progress,
    /// Captures for which the consumer had no room yet.
    backlog: Backlog,
    /// Captures that are on record and have no name, or not yet.
    unnamed: BTreeSet<String>,
    /// Lasts while the consumer is slower than captures come.
    behind: Episode,
    /// Lasts while captures are removed before the consumer has heard of them.
    losing: Episode,
}

/// The consumers, and how far each is.
#[derive(Debug)]
pub(super) struct Deliveries {
    all: Vec<Delivery>,
    /// True where captures that come from now on are owed to nobody.
    idle: bool,
    reports: Sender<Done>,
    done: Receiver<Done>,
}

impl Deliveries {
    /// Starts the command of `--on-publish`, if there is one.
    ///
    /// # Errors
    /// A thread cannot be created, or what is owed cannot be read.
    pub(super) fn start(on_publish: Option<&str>, books: &Books) -> Result<Self, DeliveryError> {
        let (reports, done) = unbounded();
        let mut deliveries = Self { all: Vec::new(), idle: true, reports, done };
        deliveries.run(on_publish, books)?;
        Ok(deliveries)
    }

    /// Has the command of another plan run from now on, or none. What is owed already stays so, and
    /// a command that comes hears of what it is owed from earlier runs.
    ///
    /// # Errors
    /// As [`Deliveries::start`].
    pub(super) fn replan(&mut self, on_publish: Option<&str>, books: &Books) -> Result<(), DeliveryError> {
        let was_none = self.all.is_empty();
        self.run(on_publish, books)?;
        if was_none && self.all.iter().any(|delivery| !delivery.progress.owed().is_empty()) {
            match books.manifest.contents() {
                Ok(contents) => self.take_over(&contents, books),
                Err(error) => tracing::error!(
                    %error,
                    "cannot read the manifest: captures of earlier runs that a consumer was not done with wait for the next start"
                ),
            }
        }
        Ok(())
    }

    fn run(&mut self, on_publish: Option<&str>, books: &Books) -> Result<(), DeliveryError> {
        match (on_publish, self.all.first()) {
            (Some(command), Some(delivery)) => delivery.consumer.change(command),
            (Some(command), None) => {
                let reports = Reports { consumer: self.all.len(), sender: self.reports.clone() };
                let hook = Hook::start(command, books.wording, move |path| reports.done(path))
                    .map_err(DeliveryError::Thread)?;
                self.add(ON_PUBLISH, Box::new(hook), books)?;
            }
            (None, _) => {}
        }
        self.idle = on_publish.is_none();
        self.all.iter_mut().for_each(|delivery| delivery.progress.set_sync(books.syncs()));
        Ok(())
    }

    fn add(&mut self, name: &'static str, consumer: Box<dyn Consumer>, books: &Books) -> Result<(), DeliveryError> {
        let progress = Progress::open(name, &books.directory, &books.storage, books.syncs())
            .map_err(|source| DeliveryError::Progress { consumer: name, source })?;
        let (backlog, unnamed) = (Backlog::default(), BTreeSet::new());
        let (behind, losing) = (Episode::default(), Episode::default());
        self.all.push(Delivery { name, consumer, progress, backlog, unnamed, behind, losing });
        Ok(())
    }

    /// Takes over what consumers are owed from earlier runs.
    pub(super) fn take_over(&mut self, contents: &Contents, books: &Books) {
        self.all.iter_mut().for_each(|delivery| delivery.take_over(contents, books));
        self.feed();
    }

    /// Forgets the captures of earlier runs that have no name by now. What crashes left is
    /// salvaged, so they get none.
    pub(super) fn forget_unnamed(&mut self) {
        for delivery in &mut self.all {
            let gone = std::mem::take(&mut delivery.unnamed);
            delivery.forget(gone.into_iter().collect());
        }
    }

    /// Owes captures to all consumers from here on: they are about to get their names.
    pub(super) fn owe<'a>(&mut self, paths: impl Iterator<Item = &'a str> + Clone) {
        self.all.iter_mut().filter(|_| !self.idle).for_each(|delivery| delivery.progress.owe(paths.clone()));
    }

    /// Withdraws a capture that will not get its name.
    pub(super) fn withdraw(&mut self, path: &str) {
        for delivery in &mut self.all {
            delivery.unnamed.remove(path);
            delivery.progress.done(path);
        }
    }

    /// Has the consumers hear of a capture. None reads it where something else has its name by
    /// then.
    pub(super) fn offer(&mut self, path: &Path, capture: &Capture, file: Option<Identity>, storage: &Arc<dyn Storage>) {
        for delivery in &mut self.all {
            delivery.unnamed.remove(&capture.path);
            if self.idle && !delivery.progress.owes(&capture.path) {
                continue;
            }
            let job = new_job(path.to_path_buf(), capture.clone(), file, storage);
            let Some(refused) = delivery.consumer.take(job) else { continue };
            delivery.backlog.push(refused);
            if delivery.behind.begins() {
                tracing::warn!(
                    path = %path.display(), consumer = delivery.name,
                    "a consumer is slower than captures come: they wait for it, and the budget may remove them before it has heard of them"
                );
            }
        }
    }

    /// Says which consumers are still to hear of a capture.
    pub(super) fn needed_by(&self, path: &str) -> Vec<String> {
        let owing = self.all.iter().filter(|delivery| delivery.progress.owes(path));
        owing.map(|delivery| delivery.name.to_owned()).collect()
    }

    /// Says whether a consumer has a capture stay.
    pub(super) fn hold(&self, path: &str) -> bool {
        self.all.iter().any(|delivery| delivery.progress.owed().len() <= HELD && delivery.progress.owes(path))
    }

    /// Counts a capture that is removed, whoever needs it.
    pub(super) fn removed(&mut self, relative: &str, path: &Path) {
        for delivery in self.all.iter_mut().filter(|delivery| delivery.progress.owes(relative)) {
            delivery.progress.done(relative);
            delivery.unnamed.remove(relative);
            let was_taken = !delivery.backlog.remove(relative);
            delivery.consumer.withdraw(path, was_taken);
            if delivery.losing.begins() {
                tracing::warn!(
                    path = %path.display(), consumer = delivery.name,
                    "a capture is removed to keep the budget before a consumer was done with it, and so are others: the consumer is too \
                     slow, or the disk too full; their lines in the manifest say so (undelivered)"
                );
            }
        }
    }

    /// Returns the channel on which consumers say that they are done, for those who wait for that.
    pub(super) fn done(&self) -> Receiver<Done> {
        self.done.clone()
    }

    /// Hears that a consumer is done with a capture.
    pub(super) fn hear(&mut self, Done { consumer, path }: Done) {
        if let Some(delivery) = self.all.get_mut(consumer) {
            delivery.progress.done(&path);
            if delivery.progress.owed().is_empty() {
                delivery.losing.ends();
            }
        }
        self.feed();
    }

    /// Hears of all that consumers are done with.
    pub(super) fn catch_up(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.hear(done);
        }
    }

    /// Hands over captures of the backlog, as many as are no burden.
    fn feed(&mut self) {
        self.all.iter_mut().for_each(|delivery| delivery.feed(FEED));
    }

    /// Tries again what failed, and shows in the ledger how far consumers are. Called every second.
    pub(super) fn tick(&mut self, books: &Books) {
        self.catch_up();
        for delivery in &mut self.all {
            delivery.read_backlog(books);
            delivery.feed(FEED);
            // Another sensor may have the directory.
            if !books.is_edited() {
                delivery.progress.write_again();
            }
            delivery.consumer.count(&books.counters);
        }
    }

    /// Waits for the consumers, for `patience` at most, and leaves the rest to the next start.
    /// Without, all is left to that, which comes at once.
    pub(super) fn finish(&mut self, patience: Option<Duration>, books: &Books) {
        for delivery in &mut self.all {
            delivery.feed(usize::MAX);
            delivery.consumer.finish(patience, delivery.backlog.len());
            delivery.consumer.count(&books.counters);
        }
        while let Ok(Done { consumer, path }) = self.done.try_recv() {
            if let Some(delivery) = self.all.get_mut(consumer) {
                delivery.progress.done(&path);
            }
        }
        for delivery in self.all.iter_mut().filter(|_| !books.is_edited()) {
            delivery.progress.end();
            let left = delivery.progress.owed().len();
            if left > 0 && patience.is_some() {
                tracing::warn!(
                    captures = left,
                    consumer = delivery.name,
                    "the next start that has this consumer goes on with the captures that it is not done with"
                );
            }
        }
    }
}

impl Delivery {
    fn take_over(&mut self, contents: &Contents, books: &Books) {
        let owed = self.progress.owed();
        if owed.is_empty() {
            return;
        }
        // A line behind a break in the chain may name another's file.
        let on_record = contents.captures.iter().take(contents.chained).map(|entry| &*entry.path);
        let vouched: BTreeSet<&str> = on_record.filter(|path| owed.contains(*path)).collect();
        let (vouched, unknown): (Vec<_>, Vec<_>) = owed.iter().cloned().partition(|path| vouched.contains(&**path));
        self.backlog.add_paths(vouched);
        self.forget(unknown);
        self.read_backlog(books);
        if self.backlog.len() > 0 {
            tracing::info!(
                captures = self.backlog.len(),
                consumer = self.name,
                "going on with captures of earlier runs that this consumer was not done with"
            );
        }
    }

    /// Reads captures of the backlog, where that is due.
    fn read_backlog(&mut self, books: &Books) {
        let Found { missing, unknown } = self.backlog.read(self.name, books);
        // A capture without a file gets its name when it is salvaged, if it is there at all.
        self.unnamed.extend(missing);
        self.forget(unknown);
    }

    /// Forgets captures that were removed, or that the manifest does not vouch for. They count as
    /// skipped.
    fn forget(&mut self, paths: Vec<String>) {
        let Some(first) = paths.first() else { return };
        tracing::warn!(
            captures = paths.len(), %first, consumer = self.name,
            "a consumer was still to hear of captures that were removed, or that the manifest does not vouch for: it does not"
        );
        self.consumer.skip(paths.len());
        paths.iter().for_each(|path| self.progress.done(path));
    }

    /// Hands over captures of the backlog while fewer than `most` wait.
    fn feed(&mut self, most: usize) {
        while self.consumer.waiting() < most
            && let Some(job) = self.backlog.pop()
        {
            if let Some(refused) = self.consumer.take(job) {
                return self.backlog.put_back(refused);
            }
        }
        if self.backlog.len() == 0 {
            self.behind.ends();
        }
    }
}
