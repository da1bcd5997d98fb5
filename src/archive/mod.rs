//! What becomes of a capture once it is complete: it is put on record, published, and removed again when there are too many.
//!
//! An [`Archive`] has threads of its own, so that nothing here (a disk that takes its time to sync, a manifest that cannot be written, a
//! command that hangs) is in the way of frames.
//!
//! ## The order of things
//!
//! A file's line is in the manifest before the file has its name; the line that says it was pruned is there before it is removed. Whenever
//! the process dies in between, the next start sees what was announced and completes it.
//!
//! | | `sync` none | `sync` publish |
//! |---|---|---|
//! | process killed | published files are whole | the same |
//! | power lost | published files may lack what the kernel had not written; [verification](crate::verify) shows it | published files are whole: file, line and name were synced, in this order |

mod batch;
pub mod budget;
mod closed;
mod hashing;
pub mod hook;
mod leftover;
mod owed;
mod pending;
mod pruning;
mod publisher;
mod removed;
#[cfg(test)]
mod tests;
mod unlisted;
mod unremoved;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

pub use budget::{BudgetPlan, MinFree, Shelf};
pub use closed::{Broken, Closed, Gone, Losses};
pub use hashing::FileNumber;
pub use hook::{Hook, HookCounters, HookTotals, Unfinished};
pub use pending::Claim;

use self::hashing::Message;
use self::pending::Pending;
use self::publisher::{Publisher, Task};
use crate::evidence::lock::{DirectoryLock, LockError};
use crate::evidence::{Algorithm, Manifest, ManifestError};
use crate::ledger::{Counter, Output};
use crate::session::Session;
use crate::storage::Storage;

/// What is sure to survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// What the kernel has written by then: usually all that is older than half a minute.
    #[default]
    None,
    /// All of a file that has its final name: file, manifest and directory are synced around the renaming.
    Publish,
}

/// What becomes of complete files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivePlan {
    /// Whether files are synced before they are published.
    pub sync: Sync,
    /// By what they are hashed, so that they can be told from changed ones. None: by nothing but their size. What cannot be salvaged after a crash is
    /// rare, and is hashed all the same.
    pub hash: Option<Algorithm>,
    /// How much is kept.
    pub budget: BudgetPlan,
    /// Run for each published file.
    pub on_publish: Option<String>,
}

impl Default for ArchivePlan {
    fn default() -> Self {
        Self {
            sync: Sync::default(),
            hash: Some(Algorithm::default()),
            budget: BudgetPlan::default(),
            on_publish: None,
        }
    }
}

/// How the files of an archive are described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Their format, as `pcap`.
    pub format: String,
    /// How they are compressed, as `zstd:3`.
    pub compression: Option<String>,
}

/// Why a directory cannot be an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Another process has it.
    #[error(transparent)]
    Busy(#[from] LockError),
    /// Its manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// What the writer of captures and the archive's thread tell each other without a message.
#[derive(Debug, Default)]
struct Common {
    /// Bytes of the files that are written to.
    open_bytes: Counter,
    /// Bytes of those that are complete, or broken, and not published yet.
    pending: Pending,
    /// There is less room than is to be left free, and nothing to remove.
    starved: AtomicBool,
}

impl Common {
    /// Bytes of the files that are written to, and of those that are pending.
    fn unpublished(&self) -> (u64, u64) {
        // In the reverse of the order in which a file is handed over.
        let pending = self.pending.bytes();
        (self.open_bytes.get(), pending)
    }
}

/// Makes the manifest's name survive a loss of power, and those of `directory` and of what may have been created above it.
fn sync_names(storage: &dyn Storage, directory: &Path) {
    let synced = fs::canonicalize(directory).and_then(|path| {
        let device = fs::metadata(&path)?.dev();
        storage.sync_directory(&path)?;
        for above in path.ancestors().skip(1) {
            // What another file system holds, or this user cannot read, was there before.
            if fs::metadata(above)?.dev() != device {
                break;
            }
            match storage.sync_directory(above) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                synced => synced?,
            }
        }
        Ok(())
    });
    if let Err(error) = synced {
        tracing::error!(path = %directory.display(), %error, "cannot sync the directory: a loss of power may take it away");
    }
}

/// How the archive's thread is told what to do. The threads end when this end of it is dropped, and not before.
#[derive(Debug)]
enum Way {
    /// By the thread that hashes what is written before.
    Hashed(Sender<Message>),
    /// At once.
    Straight(Sender<Task>),
}

/// A directory of captures, which is this process's as long as this is there.
#[derive(Debug)]
pub struct Archive {
    way: Option<Way>,
    gone: Receiver<Gone>,
    common: Arc<Common>,
    threads: Vec<JoinHandle<()>>,
}

impl Archive {
    /// Takes `directory`, which must exist, and starts the threads: the archive completes what a crash interrupted, salvages what one left behind, and
    /// waits for files. It counts in `output`.
    ///
    /// # Errors
    /// Where another process has the directory, or its manifest cannot be used.
    pub fn open(
        directory: &Path,
        plan: ArchivePlan,
        labels: Labels,
        storage: &Arc<dyn Storage>,
        output: &mut Output,
    ) -> Result<Self, ArchiveError> {
        let lock = DirectoryLock::take(directory)?;
        let (manifest, contents) = Manifest::open(storage, directory)?;
        if plan.sync == Sync::Publish {
            sync_names(&**storage, directory);
        }
        let common = Arc::new(Common::default());
        let (tasks, receiver) = bounded(publisher::WAITING);
        let (gone_sender, gone) = unbounded();
        let hash = plan.hash;
        let mut publisher = Publisher::new(directory, lock, plan, labels, Arc::clone(storage), manifest, output)?;
        publisher.take_over(contents);
        let shared = Arc::clone(&common);
        let archive = thread::Builder::new()
            .name("vxtap-archive".into())
            .spawn(move || publisher.run(&receiver, &gone_sender, &shared))?;
        let mut threads = vec![archive];
        let way = match hash {
            Some(algorithm) => {
                let (messages, hashed) = bounded(hashing::WAITING);
                let thread = thread::Builder::new().name("vxtap-hash".into());
                threads.push(thread.spawn(move || hashing::run(algorithm, &hashed, &tasks))?);
                Way::Hashed(messages)
            }
            None => Way::Straight(tasks),
        };
        Ok(Self { way: Some(way), gone, common, threads })
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
    pub fn hash(&self, file: FileNumber, bytes: Bytes) {
        self.tell(Message::More(file, bytes));
    }

    /// Forgets what was hashed of a file that will not be published as it was written.
    pub fn forget(&self, file: FileNumber) {
        self.tell(Message::Forget(file));
    }

    /// From here on the bytes of a file are not those of an open one. The budget may miss them for a moment, which is made good for when it is
    /// looked at next, but never counts them twice, which would cost a capture.
    fn hand_over(&self, bytes: u64) -> Claim {
        self.common.open_bytes.take_back(bytes);
        self.common.pending.claim(bytes)
    }

    /// Publishes a file.
    pub fn publish(&self, mut closed: Closed) {
        closed.claim = Some(self.hand_over(closed.bytes));
        self.send(Task::Publish(Box::new(closed)));
    }

    /// Salvages a file that could not be completed.
    pub fn salvage(&self, mut broken: Broken) {
        broken.claim = Some(self.hand_over(broken.written));
        self.send(Task::Salvage(broken));
    }

    /// Puts on record what was lost and belongs to no file.
    pub fn lost(&self, session: Option<Session>, losses: Losses) {
        self.send(Task::Lost(session, losses));
    }

    /// Says how many bytes the files have that are written to.
    pub fn set_open_bytes(&self, bytes: u64) {
        self.common.open_bytes.set(bytes);
    }

    /// Whether there is less room than is to be left free, and nothing to remove.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.common.starved.load(Ordering::Relaxed)
    }

    /// What turned out to be gone since this was asked last.
    pub fn gone(&self) -> impl Iterator<Item = Gone> {
        self.gone.try_iter()
    }

    /// Waits until all files are published, or cannot be.
    pub fn finish(&mut self) {
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
