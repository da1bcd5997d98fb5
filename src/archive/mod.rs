//! A complete capture is put on record, published, and removed again when there are too many.
//!
//! An [`Archive`] has threads of its own, so that nothing here (a disk that takes its time to sync,
//! a manifest that cannot be written, a command that hangs) is in the way of frames.
//!
//! ## The order of things
//!
//! A file's line is in the manifest before the file has its name. The line that says that it was
//! pruned is there before it is removed. Whenever the process dies in between, the next start sees
//! what was announced and completes it.
//!
//! | | `sync` none | `sync` publish |
//! |---|---|---|
//! | process killed | published files are whole | the same |
//! | power lost | published files may lack their end | published files are whole |
//!
//! Where the power was lost, a file lacks what the kernel had not written, and
//! [verification](crate::verify) shows it. With `sync` publish, file, line and name were synced, in
//! this order.

mod books;
mod clerk;
mod delivery;
mod handover;
mod hashing;
mod names;
mod plan;
mod prune;
mod queue;
mod recovery;
mod room;
mod stock;
mod takeover;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

pub(crate) use delivery::DeliveryError;
pub use delivery::{HelperPlan, Permitted, StartedHelper, serve};
pub(crate) use handover::{Broken, Closed, FileNumber, Gone, Losses};
pub use plan::ArchivePlan;
pub(crate) use plan::{Encoding, Sync};
pub use room::BudgetPlan;
pub(crate) use room::{MinFree, Room};

use self::books::Books;
use self::clerk::Clerk;
use self::delivery::Deliveries;
use self::handover::{Replan, Task};
use self::hashing::Message;
use self::prune::Pruning;
use self::stock::Stock;
use crate::evidence::lock::{DirectoryLock, LockError};
use crate::evidence::{Algorithm, Manifest, ManifestError};
use crate::ledger::Output;
use crate::session::Session;
use crate::storage::Storage;
use crate::whose;

/// Tasks that wait at most. Beyond, the writer of captures waits until one is done, which fills the
/// lanes as a slow disk does.
const WAITING: usize = 10_000;

/// The reason for which a directory cannot be an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Another process has the directory.
    #[error(transparent)]
    Busy(#[from] LockError),
    /// Its manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its consumers cannot be started.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// A thread cannot be created.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// The way by which the archive's thread is told what to do. The threads end when this end of the
/// way is dropped, and not before.
#[derive(Debug)]
enum Way {
    /// By the thread that first hashes what is written.
    Hashed(Sender<Message>),
    /// At once.
    Straight(Sender<Task>),
}

/// Starts the thread that hashes what is written, before the tasks.
fn hash_before(algorithm: Algorithm, tasks: Sender<Task>) -> io::Result<(Sender<Message>, JoinHandle<()>)> {
    let (messages, hashed) = bounded(hashing::WAITING);
    let thread = thread::Builder::new().name("vxtap-hash".into());
    Ok((messages, thread.spawn(whose::inherited(move || hashing::run(algorithm, &hashed, &tasks)))?))
}

/// A directory of captures, which is this process's as long as this value is there.
#[derive(Debug)]
pub(crate) struct Archive {
    way: Option<Way>,
    gone: Receiver<Gone>,
    room: Room,
    threads: Vec<JoinHandle<()>>,
}

impl Archive {
    /// Takes `directory`, which must exist, and starts the threads. The archive completes what a
    /// crash interrupted, salvages what a crash left behind, and waits for files. It counts in
    /// `output`.
    ///
    /// # Errors
    /// Another process has the directory, its manifest or its consumers' marks cannot be used, or a
    /// thread cannot be created.
    pub(crate) fn open(
        directory: &Path,
        plan: ArchivePlan,
        encoding: Encoding,
        storage: &Arc<dyn Storage>,
        output: &mut Output,
    ) -> Result<Self, ArchiveError> {
        let lock = DirectoryLock::take(directory)?;
        let (manifest, contents) = Manifest::open(storage, directory)?;
        if plan.sync == Sync::Publish {
            names::sync(&**storage, directory);
        }
        let (tasks, receiver) = bounded(WAITING);
        let (gone_sender, gone) = unbounded();
        let (room, keeper) = Room::new(plan.budget, plan.wording, directory, storage);
        let books = Books::new(directory, Arc::clone(storage), (lock, manifest), &plan, output.end(), gone_sender);
        let deliveries = Deliveries::start(plan.on_publish.as_deref(), &books)?;
        let clerk =
            Clerk::new(books, Stock { pruning: Pruning::new(keeper, plan.wording), deliveries }, encoding, &contents);
        let clerk = clerk.waits(plan.patience);
        let hash = plan.hash;
        let run = whose::inherited(move || clerk.run(&receiver));
        let archive = thread::Builder::new().name("vxtap-archive".into()).spawn(run)?;
        let mut threads = vec![archive];
        let way = match hash {
            Some(algorithm) => {
                let (messages, thread) = hash_before(algorithm, tasks)?;
                threads.push(thread);
                Way::Hashed(messages)
            }
            None => Way::Straight(tasks),
        };
        Ok(Self { way: Some(way), gone, room, threads })
    }

    fn send(&self, task: Task) {
        match &self.way {
            Some(Way::Hashed(messages)) => drop(messages.send(Message::Pass(task))),
            Some(Way::Straight(tasks)) => drop(tasks.send(task)),
            None => {}
        }
    }

    /// Tells the thread that hashes, if there is one.
    fn tell(&self, message: Message) {
        if let Some(Way::Hashed(messages)) = &self.way {
            let _ = messages.send(message);
        }
    }

    /// Hashes what was written to a file, if files are hashed. Waits where much is waiting already.
    pub(crate) fn hash(&self, file: FileNumber, bytes: Bytes) {
        self.tell(Message::More(file, bytes));
    }

    /// Forgets what was hashed of a file that will not be published as it was written.
    pub(crate) fn forget(&self, file: FileNumber) {
        self.tell(Message::Forget(file));
    }

    /// Publishes a file.
    pub(crate) fn publish(&self, mut closed: Closed) {
        closed.claim = Some(self.room.hand_over(closed.bytes));
        self.send(Task::Publish(Box::new(closed)));
    }

    /// Salvages a file that could not be completed.
    pub(crate) fn salvage(&self, mut broken: Broken) {
        broken.claim = Some(self.room.hand_over(broken.written));
        self.send(Task::Salvage(broken));
    }

    /// Puts on record what was lost and belongs to no file.
    pub(crate) fn lost(&self, session: Option<Session>, losses: Losses) {
        self.send(Task::Lost(session, losses));
    }

    /// Goes by another plan from here on. The files that were handed over before are published as
    /// the plan before said.
    pub(crate) fn replan(&mut self, plan: ArchivePlan, encoding: Encoding) {
        self.room.replan(plan.budget);
        if let (Some(Way::Straight(tasks)), Some(algorithm)) = (&self.way, plan.hash) {
            // Where there is no thread, files are read again to hash them.
            match hash_before(algorithm, tasks.clone()) {
                Ok((messages, thread)) => {
                    self.threads.push(thread);
                    self.way = Some(Way::Hashed(messages));
                }
                Err(error) => tracing::warn!(%error, "no thread to hash what is written: files are read again for it"),
            }
        }
        self.send(Task::Replan(Box::new(Replan { plan, encoding })));
    }

    /// Returns the room for frames.
    #[must_use]
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// Returns the room for frames, to look at it.
    pub(crate) fn room_mut(&mut self) -> &mut Room {
        &mut self.room
    }

    /// Returns what turned out to be gone since this was asked last.
    pub(crate) fn gone(&self) -> impl Iterator<Item = Gone> {
        self.gone.try_iter()
    }

    /// Waits until all files are published, or cannot be.
    pub(crate) fn finish(&mut self) {
        self.way = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("the archive panicked: please report this");
            }
        }
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.finish();
    }
}
