//! Locks say which process a directory belongs to.
//!
//! There are two locks. The lock on the manifest goes with the file wherever that is moved, so that
//! another sensor would find the name free while the first still writes its parts. The lock on the
//! directory goes with the directory. The system lets go of both with the process, however that
//! ends.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// The number of times that a lock is asked for, and the time between.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Another process writes to the directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{directory} is in use by another vxtap{holder}: stop that one, or name another directory with --write",
    directory = directory.display(), holder = pid.map(|pid| format!(", process {pid}")).unwrap_or_default()
)]
pub struct LockError {
    /// The directory.
    pub directory: PathBuf,
    /// The other process, where the system tells.
    pub pid: Option<i32>,
}

impl LockError {
    /// Tells that another process has the lock on `file`, and with it `directory`.
    pub(crate) fn of(directory: &Path, file: &File) -> Self {
        Self { directory: directory.to_owned(), pid: holder(file) }
    }
}

/// The lock on a directory, `flock(2)`. None is held where the file system cannot lock a directory;
/// there the lock on the manifest may do.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: Option<File>,
}

impl DirectoryLock {
    /// Takes `directory` for this process.
    ///
    /// # Errors
    /// Another process has the directory.
    pub(crate) fn take(directory: &Path) -> Result<Self, LockError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let locked =
            rustix::fs::open(directory, flags, Mode::empty()).map(File::from).and_then(|file| match try_lock(&file) {
                Err(Errno::WOULDBLOCK) => Ok(Err(LockError::of(directory, &file))),
                locked => locked.map(|()| Ok(file)),
            });
        match locked {
            Ok(result) => Ok(Self { _file: Some(result?) }),
            // A directory that is missing is said by whoever must have it to write there. NFS locks
            // only what can be written to.
            Err(error) => {
                if !matches!(error, Errno::NOENT | Errno::NOTDIR) {
                    tracing::warn!("{}", complaint(directory, error));
                }
                Ok(Self { _file: None })
            }
        }
    }
}

/// Returns what to say where `path` cannot be locked. Some network file systems have no locks,
/// which is no reason to go without captures.
pub(crate) fn complaint(path: &Path, error: Errno) -> String {
    format!(
        "{path} cannot be locked ({error}): make sure that no other vxtap writes to this directory",
        path = path.display()
    )
}

/// Takes the lock on `file`, if that is free. A process that is about to end, or about to become a
/// command that it runs, has the lock for a moment longer. So the lock is asked for several times.
///
/// # Errors
/// `WOULDBLOCK` where another process has the lock; otherwise the error of `flock(2)`.
pub(crate) fn try_lock(file: &File) -> Result<(), Errno> {
    for _ in 0..ATTEMPTS {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::WOULDBLOCK)
}

/// Returns the process that has the lock on `file`, where the system tells.
pub(crate) fn holder(file: &File) -> Option<i32> {
    let inode = file.metadata().ok()?.ino();
    // The device is not compared: some file systems show another one in /proc/locks than stat(2)
    // does.
    let locks = procfs::locks().ok()?;
    locks.into_iter().find(|lock| lock.inode == inode && lock.lock_type == procfs::LockType::FLock)?.pid
}
