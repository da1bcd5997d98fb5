//! A place for files is what these traits describe.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::OFlags;

use super::mode::Direct;
use super::place::Named;
use super::status::{Identity, Status};

/// A place for files, which the threads of an output share.
///
/// Nothing is opened, created, renamed or removed through a symbolic link below the directory that
/// the user named: the link could lead to another's file. Where the name of a file is that of
/// something else, it is not opened, and the error is [`NotRegular`](super::NotRegular).
///
/// The way of a capture, and what each step leaves after a loss of power:
///
/// ```text
/// create_directory ─▶ create ─▶ write .. flush ─▶ rename ─▶ remove
///                        │         │        │         │
///                        │         │        │         └ sync_directory: the name survives
///                        │         │        └ sync, or sync_all for many files: the bytes survive
///                        │         └ append: opens the file again, where descriptors are few
///                        └ fails where the name is taken; so does `rename`, but not `replace`
/// ```
pub trait Storage: Debug + Send + Sync {
    /// Creates `directory` and what is missing above it.
    ///
    /// # Errors
    /// The error of `mkdir(2)`.
    fn create_directory(&self, directory: &Path) -> io::Result<()>;

    /// Creates a file to append to.
    ///
    /// # Errors
    /// The error of `open(2)`; `EEXIST` where the file exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// Opens a file that [`Storage::create`] made, to append to it.
    ///
    /// # Errors
    /// The error of `open(2)`; [`NotRegular`](super::NotRegular) within it where the name is not
    /// that of a file.
    fn append(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// Opens a file to append lines to, and creates it where it is missing. It is written through
    /// the page cache, as it is small.
    ///
    /// # Errors
    /// The error of `open(2)`; [`NotRegular`](super::NotRegular) within it where the name is not
    /// that of a file.
    fn log(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;

    /// Opens a file that is there, with these `flags`, to read or to lock it.
    ///
    /// # Errors
    /// The error of `open(2)`; [`NotRegular`](super::NotRegular) within it where the name is not
    /// that of a file.
    fn open(&self, path: &Path, flags: OFlags) -> io::Result<File>;

    /// Says what has this name, or none where nothing has it. A symbolic link is described itself.
    ///
    /// # Errors
    /// The error of `statx(2)`, but for `ENOENT`.
    fn status(&self, path: &Path) -> io::Result<Option<Status>>;

    /// Says whether there is something of this name; a dangling symbolic link counts.
    ///
    /// # Errors
    /// The errors are those of [`Storage::status`].
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.status(path)?.is_some())
    }

    /// Lists what is in `directory`.
    ///
    /// # Errors
    /// The errors are those of `open(2)` and `getdents(2)`.
    fn list(&self, directory: &Path) -> io::Result<Vec<Named>>;

    /// Renames a file, without replacing another.
    ///
    /// # Errors
    /// The error of `renameat2(2)`; `EEXIST` where `to` exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file, in place of whatever has the other name.
    ///
    /// # Errors
    /// The error of `rename(2)`.
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The error of `unlink(2)`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in `directory` survive a loss of power.
    ///
    /// # Errors
    /// The error of `fsync(2)`.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;

    /// Makes all that the file system of `directory` holds survive a loss of power: bytes, lengths
    /// and names. It does nothing, and returns false, where it is not certain that this is as good
    /// as syncing each file. Whether bytes of a file were lost before is to be asked of the file:
    /// [`StoredFile::check`].
    ///
    /// # Errors
    /// The error of `syncfs(2)`, which may be about a file of somebody else.
    fn sync_all(&self, directory: &Path) -> io::Result<bool>;

    /// Returns the room of the file system that holds `directory`.
    ///
    /// # Errors
    /// The error of `statvfs(3)`.
    fn space(&self, directory: &Path) -> io::Result<Space>;

    /// Hears how full the queue of what is to be written is, in thousandths. A storage that has
    /// several ways to write chooses by that.
    fn behind(&self, _thousandths: u32) {}

    /// Writes the files past the page cache that `direct` names, of those that are opened from now
    /// on, where it has that way.
    fn write_by(&self, _direct: Direct) {}
}

/// A file that is appended to.
///
/// ```text
///          write                     flush, or by itself          sync
/// bytes ────────▶ taken: they have ─────────────────────▶ settled ──────▶ survive a loss of power
///                 a place in the file     readers of the file see them
/// ```
///
/// `write` may take fewer bytes than it is given. `flush` returns when readers of the file can see
/// all that was taken. After an error nothing but `settled` is certain: `cut` makes the file that
/// long, or shorter, and appending goes on there.
pub trait StoredFile: io::Write + Debug + Send {
    /// Returns how many bytes from the beginning of the file are in it for certain: a later failure
    /// takes none of them back.
    fn settled(&self) -> u64;

    /// Says which file it is.
    ///
    /// # Errors
    /// The error of `statx(2)`.
    fn identity(&self) -> io::Result<Identity>;

    /// Cuts the file to `length` bytes. Later bytes are appended there.
    ///
    /// # Errors
    /// The error of `ftruncate(2)`.
    fn cut(&mut self, length: u64) -> io::Result<()>;

    /// Flushes, and makes the file's bytes survive a loss of power.
    ///
    /// # Errors
    /// The error of `fdatasync(2)`.
    fn sync(&mut self) -> io::Result<()>;

    /// Fails where bytes of the file could not be written to the disk since the last failure was
    /// reported. It does not wait for bytes that are still to be written.
    ///
    /// # Errors
    /// The error of `sync_file_range(2)`.
    fn check(&mut self) -> io::Result<()>;

    /// Reserves blocks for `more` bytes beyond the end of the file, so that appending them cannot
    /// find the disk full. The file's length stays.
    ///
    /// # Errors
    /// The error of `fallocate(2)`; `EOPNOTSUPP` where the file system cannot reserve.
    fn reserve(&mut self, more: u64) -> io::Result<()>;
}

/// Room of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that are free for this process.
    pub free: u64,
    /// Bytes that the file system has in all.
    pub total: u64,
}
