//! The manifest of a directory is open, and kept in a file.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::ManifestError;
use super::unshare;
use crate::evidence::catalogue::{Catalogue, Fate, Reader};
use crate::evidence::contents::Contents;
use crate::evidence::digest::Digest;
use crate::evidence::event::{Capture, Event, Line};
use crate::evidence::lines::{Lines, NAME};
use crate::evidence::lock::{self, LockError};
use crate::storage::{Storage, StoredFile};

/// The bytes of the manifest that are reserved ahead, so that a disk full of captures has room for
/// the lines that remove some.
pub(super) const RESERVE: u64 = 64 * 1024;
/// The bytes of the reserve below which more is reserved.
pub(super) const RESERVE_LEFT: u64 = 16 * 1024;

/// Bytes read at a time.
const READ: usize = 256 * 1024;

/// A manifest to append to. The directory is this process's until the value is dropped.
#[derive(Debug)]
pub struct Manifest {
    pub(super) file: Box<dyn StoredFile>,
    /// Bytes of whole lines.
    pub(super) length: u64,
    /// The place at which the last whole line begins.
    pub(super) last: u64,
    pub(super) head: Digest,
    /// True where bytes may lie behind the whole lines, which an append that failed left there and
    /// which could not be cut off.
    pub(super) torn: bool,
    /// Bytes reserved behind the end.
    pub(super) reserved: u64,
    path: PathBuf,
    storage: Arc<dyn Storage>,
    /// The file that holds the lock. The system lets go of the lock with the process, however that
    /// ends.
    pub(super) lock: File,
}

impl Manifest {
    /// Opens the manifest of `directory`, creating it where it is missing, and reads what the
    /// directory has. The directory must exist.
    ///
    /// Takes the directory for this process (`flock(2)` on the manifest), and cuts a torn last
    /// line.
    ///
    /// # Errors
    /// Another process has the directory, or the manifest cannot be opened, read or cut.
    pub fn open(storage: &Arc<dyn Storage>, directory: &Path) -> Result<(Manifest, Contents), ManifestError> {
        let path = directory.join(NAME);
        let fail = |action| {
            let path = path.clone();
            move |source: io::Error| match source.get_ref().and_then(|source| source.downcast_ref()) {
                Some(&what) => ManifestError::NotRegular { path, what },
                None => ManifestError::Io { action, path, source },
            }
        };
        let mut file = storage.log(&path).map_err(fail("open"))?;
        // The file is opened for writing, because NFS locks only such files exclusively.
        let mut lock = storage.open(&path, OFlags::RDWR).map_err(fail("open"))?;
        let mut contents = Contents::default();
        match lock::try_lock(&lock) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::of(directory, &lock).into()),
            Err(error) => contents.complaints.push(lock::complaint(&path, error)),
        }
        if unshare::names(&lock).map_err(fail("read"))? > 1 {
            let content = lock.try_clone().map_err(fail("read"))?;
            (file, lock) = unshare::copy(&**storage, &path, &lock, content).map_err(fail("write to"))?;
            lock.rewind().map_err(fail("read"))?;
            contents.complaints.push(format!(
                "{path} had another name, as in a snapshot made of hard links: it was copied, and the snapshot stays as it is",
                path = path.display()
            ));
        }
        let source = lock.try_clone().map_err(fail("read"))?;
        let mut lines = Lines::new(BufReader::with_capacity(READ, source));
        let head = contents.read(&mut lines).map_err(fail("read"))?;
        if lines.torn() > 0 {
            file.cut(lines.end()).map_err(fail("cut the torn last line of"))?;
            contents.complaints.push(format!(
                "the last line of {path} was torn, {torn} bytes, and is cut off",
                path = path.display(),
                torn = lines.torn()
            ));
        }
        let (length, last) = (lines.end(), lines.begin());
        let storage = Arc::clone(storage);
        let mut manifest = Manifest { file, length, last, head, torn: false, reserved: 0, path, storage, lock };
        manifest.reserve();
        Ok((manifest, contents))
    }

    /// Appends a line, and has it survive a loss of power if `sync`. Once this returns, readers of
    /// the file see the line.
    ///
    /// # Errors
    /// Writing or syncing fails, with [`Edited`](super::Edited) within the error where somebody
    /// changed the file. The line is not in the manifest then. The next append makes sure of that
    /// where the file could not be cut at once.
    pub fn append(&mut self, event: &Event, sync: bool) -> io::Result<()> {
        self.append_all(std::iter::once(event), sync).1
    }

    /// Returns the hash of the last line; zeros where there is none.
    #[must_use]
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Says whether this file still has the name under which it was opened. Where that cannot be
    /// told, it does.
    pub(super) fn has_its_name(&self) -> bool {
        match (fs::symlink_metadata(&self.path), self.lock.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            (Err(error), _) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            _ => true,
        }
    }

    /// Returns the captures at paths that are `wanted` which were published and not pruned since,
    /// in the order of their lines. Lines that cannot be read are passed over.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub(crate) fn captures(&self, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<Capture>> {
        let mut lines = Lines::new(BufReader::with_capacity(READ, self.read()?));
        let mut catalogue = Catalogue::default();
        catalogue.read(&mut lines, &mut Wanted(wanted))?;
        Ok(catalogue.into_order().into_iter().map(|(_, capture)| capture).collect())
    }

    /// Returns what the directory has by now, as a start would read it.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub(crate) fn contents(&self) -> io::Result<Contents> {
        let mut contents = Contents::default();
        contents.read(&mut Lines::new(BufReader::with_capacity(READ, self.read()?)))?;
        Ok(contents)
    }

    /// Reads the bytes of the whole lines.
    fn read(&self) -> io::Result<impl io::Read + use<>> {
        let mut file = self.lock.try_clone()?;
        file.rewind()?;
        Ok(file.take(self.length))
    }

    /// Makes sure that the file has no other name, which a snapshot may have given it a moment ago.
    pub(super) fn unshare(&mut self) -> io::Result<()> {
        if unshare::names(&self.lock)? <= 1 {
            return Ok(());
        }
        let content = self.read()?;
        (self.file, self.lock) = unshare::copy(&*self.storage, &self.path, &self.lock, content)?;
        self.torn = false;
        self.reserve();
        tracing::info!(
            path = %self.path.display(),
            "the manifest has another name, as in a snapshot made of hard links: it was copied, and the snapshot stays as it is"
        );
        Ok(())
    }

    /// Cuts off what an append that failed may have left.
    pub(super) fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.cut(self.length)?;
            self.torn = false;
            // Cutting a file gives back what was reserved behind its end.
            self.reserve();
        }
        Ok(())
    }

    /// Reserves room. Where that fails, as the file system cannot or is full, lines are written
    /// without.
    pub(super) fn reserve(&mut self) {
        self.reserved = if self.file.reserve(RESERVE).is_ok() { RESERVE } else { 0 };
    }
}

/// Keeps the captures at paths for which it returns true.
struct Wanted<W>(W);

impl<W: Fn(&str) -> bool> Reader for Wanted<W> {
    type File = Capture;

    fn file(
        &mut self,
        _: u64,
        _: Fate,
        path: &Arc<str>,
        line: Line,
        before: Option<Capture>,
    ) -> Result<Option<Capture>, String> {
        Ok(match line.event {
            Event::Published(capture) | Event::Recovered(capture) => Some(capture).filter(|_| (self.0)(path)),
            Event::Pruned { .. } => None,
            Event::SetAside { .. } | Event::Lost { .. } => before,
        })
    }
}
