//! What a place for files has to do.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::OFlags;

use super::place::Named;
use super::status::{Identity, Status};

/// A place for files. Shared by the threads of an output.
///
/// Nothing is opened, created, renamed or removed through a symbolic link below the directory that
/// the user named: it would be another's file. What has the name of a file and is no regular one is
/// not opened: [`super::NotRegular`].
pub trait Storage: Debug + Send + Sync {
    /// Creates `directory` and what is missing above it.
    ///
    /// # Errors
    /// What `mkdir(2)` returns.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Creates a file to append to.
    ///
    /// # Errors
    /// What `open(2)` returns; `EEXIST` where the file exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// Opens a file that [`Storage::create`] made, to append to it.
    ///
    /// # Errors
    /// What `open(2)` returns.
    fn append(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// Opens a file to append lines to, and creates it where it is missing. It is written through
    /// the page cache, as it is small.
    ///
    /// # Errors
    /// What `open(2)` returns.
    fn log(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// Opens a file that is there, as `flags` have it: to read it, or to lock it.
    ///
    /// # Errors
    /// What `open(2)` returns.
    fn open(&self, path: &Path, flags: OFlags) -> io::Result<File>;

    /// What has this name, a symbolic link being one itself; none where nothing has it.
    ///
    /// # Errors
    /// What `statx(2)` returns, but for `ENOENT`.
    fn status(&self, path: &Path) -> io::Result<Option<Status>>;

    /// Whether there is something of this name; a dangling symbolic link counts.
    ///
    /// # Errors
    /// As [`Storage::status`].
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.status(path)?.is_some())
    }

    /// What is in `directory`.
    ///
    /// # Errors
    /// What `open(2)` and `getdents(2)` return.
    fn list(&self, directory: &Path) -> io::Result<Vec<Named>>;

    /// Renames a file, without replacing another.
    ///
    /// # Errors
    /// What `renameat2(2)` returns; `EEXIST` where `to` exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, in place of what has the other name.
    ///
    /// # Errors
    /// What `rename(2)` returns.
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What `unlink(2)` returns.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `directory` survive a loss of power.
    ///
    /// # Errors
    /// What `fsync(2)` returns.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Makes all that the file system of `directory` holds survive a loss of power: bytes, lengths and names. False, and nothing is done, where it
    /// is not certain that this is as good as syncing each file. Whether bytes of a file were lost before is to be asked of the file:
    /// [`StoredFile::check`].
    ///
    /// # Errors
    /// What `syncfs(2)` returns. It may be about a file of somebody else.
    fn sync_all(&self, directory: &Path) -> io::Result<bool>;

    /// The room of the file system that holds `directory`.
    ///
    /// # Errors
    /// What `statvfs(3)` returns.
    fn space(&self, directory: &Path) -> io::Result<Space>;

    /// Hears how full the queue is of what is to be written, in thousandths. A storage that has
    /// several ways to write chooses by that.
    fn behind(&self, _thousandths: u32) {}
}

/// A file that is appended to. `write` may take less than it is given; what it takes has a place in the file but need not be there
/// yet. `flush` returns when readers of the file can see all of it.
pub trait StoredFile: io::Write + Debug + Send {
    /// Bytes from the beginning of the file that are in it for certain: a later failure takes none of them back.
    fn settled(&self) -> u64;

    /// Which file it is.
    ///
    /// # Errors
    /// What `statx(2)` returns.
    fn identity(&self) -> io::Result<Identity>;

    /// Cuts the file to `length` bytes. What comes later is appended there.
    ///
    /// # Errors
    /// What `ftruncate(2)` returns.
    fn cut(&mut self, length: u64) -> io::Result<()>;

    /// Flushes, and makes the file's bytes survive a loss of power.
    ///
    /// # Errors
    /// What `fdatasync(2)` returns.
    fn sync(&mut self) -> io::Result<()>;

    /// Fails where bytes of the file could not be written to the disk since that was said last. What is still to be written is not waited for.
    ///
    /// # Errors
    /// What `sync_file_range(2)` returns.
    fn check(&mut self) -> io::Result<()>;

    /// Reserves blocks for `more` bytes beyond the end of the file, whose length stays, so that appending them cannot find the disk full.
    ///
    /// # Errors
    /// What `fallocate(2)` returns; `EOPNOTSUPP` where the file system cannot.
    fn reserve(&mut self, more: u64) -> io::Result<()>;
}

/// Room of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free for this process.
    pub free: u64,
    /// In all.
    pub total: u64,
}
