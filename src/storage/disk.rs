//! Files are here as the kernel has them.

use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, fallocate, fstatfs, mkdirat, open, openat, renameat,
    renameat_with, statvfs, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::direct::{self, Adaptive, Pool};
use super::files::{Space, Storage, StoredFile};
use super::mode::Direct;
use super::place::{self, Named, place};
use super::regular::open_regular_at;
use super::status::{self, Identity, Status};
use crate::sys::written;

/// Captures hold what people said and typed, so nothing is for everybody. The umask can only take
/// more away.
const FILE_MODE: Mode = Mode::from_bits_retain(0o640);
const DIRECTORY_MODE: u32 = 0o750;

/// On these file systems, syncfs(2) waits for bytes and journal and has the disk write its cache,
/// as fsync(2) does: ext4, XFS, Btrfs (statfs(2)). Others may leave it at handing over the bytes,
/// as FUSE does.
const SYNCED_AS_A_WHOLE: [rustix::fs::FsWord; 3] = [0xef53, 0x5846_5342, 0x9123_683e];

/// The file systems of the host. Files go through the page cache unless [`Direct`] says otherwise.
/// Clones share which files are direct, and what bounds these.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The directory that the user named.
    root: Option<PathBuf>,
    direct: Arc<Mutex<Direct>>,
    pool: Arc<Pool>,
}

impl Disk {
    /// Makes a storage that writes those files past the page cache that `direct` names.
    #[must_use]
    pub fn new(direct: Direct) -> Self {
        Self { root: None, direct: Arc::new(Mutex::new(direct)), pool: Arc::new(Pool::new(direct::FILES)) }
    }

    /// Makes a storage for what is below `root`: links that lead to `root` are followed, and none
    /// from there on.
    #[must_use]
    pub(crate) fn below(root: &Path, direct: Direct) -> Self {
        Self { root: Some(root.to_path_buf()), ..Self::new(direct) }
    }

    fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Opens a file to append to.
    fn open_to_write(&self, path: &Path, how: OFlags) -> io::Result<Box<dyn StoredFile>> {
        let (directory, name) = place(self.root(), path)?;
        let file = open_regular_at(directory, name, how | OFlags::WRONLY | OFlags::APPEND, FILE_MODE)?;
        let length = file.metadata()?.len();
        Ok(match *self.direct.lock() {
            Direct::Off => Box::new(Cached { file, length }),
            direct => Box::new(Adaptive::new(file, length, direct, Arc::clone(&self.pool))),
        })
    }
}

/// Proves that files can be created in `directory`, and leaves nothing there.
///
/// # Errors
/// The error of `open(2)`.
pub(crate) fn probe(directory: &Path) -> io::Result<()> {
    let directory = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let write = OFlags::WRONLY | OFlags::CLOEXEC;
    if openat(&directory, c".", write | OFlags::TMPFILE, FILE_MODE).is_ok() {
        return Ok(());
    }
    // The file system has no files without a name, or something is wrong. A file with a name tells
    // which.
    let number = RandomState::new().build_hasher().finish();
    probe_by_name(&directory, &format!(".vxtap-{number:016x}"))
}

/// Proves that a file with a name can be created. Whatever has the name already is left alone.
fn probe_by_name(directory: impl AsFd, name: &str) -> io::Result<()> {
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    openat(&directory, name, OFlags::WRONLY | OFlags::CLOEXEC | new, FILE_MODE)?;
    Ok(unlinkat(directory, name, AtFlags::empty())?)
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(Direct::default())
    }
}

impl Storage for Disk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        let all = |directory: &Path| DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
        let Some(root) = self.root().filter(|root| directory != *root && directory.starts_with(root)) else {
            return all(directory);
        };
        all(root)?;
        let (parent, name) = place(Some(root), directory)?;
        match mkdirat(&parent, name, Mode::from_bits_retain(DIRECTORY_MODE)) {
            Err(Errno::EXIST) if status::status(&parent, name)?.kind == FileType::Directory => Ok(()),
            made => Ok(made?),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open_to_write(path, OFlags::CREATE | OFlags::EXCL)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open_to_write(path, OFlags::empty())
    }

    fn log(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let (directory, name) = place(self.root(), path)?;
        let flags = OFlags::WRONLY | OFlags::APPEND;
        let file = match open_regular_at(&directory, name, flags, FILE_MODE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                open_regular_at(&directory, name, flags | OFlags::CREATE | OFlags::EXCL, FILE_MODE)
            }
            file => file,
        }?;
        let length = file.metadata()?.len();
        Ok(Box::new(Cached { file, length }))
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let (directory, name) = place(self.root(), path)?;
        open_regular_at(directory, name, flags, Mode::empty())
    }

    fn status(&self, path: &Path) -> io::Result<Option<Status>> {
        match place(self.root(), path).and_then(|(directory, name)| status::status(directory, name)) {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Named>> {
        place::list(place::directory(self.root(), directory)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_directory, from_name) = place(self.root(), from)?;
        let (to_directory, to_name) = place(self.root(), to)?;
        match renameat_with(&from_directory, from_name, &to_directory, to_name, RenameFlags::NOREPLACE) {
            // The file system cannot promise not to replace: then the name is looked up first.
            Err(Errno::INVAL | Errno::NOSYS) if !self.exists(to)? => {
                Ok(renameat(&from_directory, from_name, &to_directory, to_name)?)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            result => Ok(result?),
        }
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_directory, from_name) = place(self.root(), from)?;
        let (to_directory, to_name) = place(self.root(), to)?;
        Ok(renameat(from_directory, from_name, to_directory, to_name)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = place(self.root(), path)?;
        Ok(unlinkat(directory, name, AtFlags::empty())?)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let directory = place::directory(self.root(), directory)?;
        // The directory is opened again, as one that is open for finding names only cannot be
        // synced.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        File::from(openat(directory, c".", flags, Mode::empty())?).sync_all()
    }

    fn sync_all(&self, directory: &Path) -> io::Result<bool> {
        let directory = File::open(directory)?;
        let certain = SYNCED_AS_A_WHOLE.contains(&fstatfs(&directory)?.f_type);
        if certain {
            syncfs(&directory)?;
        }
        Ok(certain)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let room = statvfs(directory)?;
        Ok(Space { free: room.f_bavail * room.f_frsize, total: room.f_blocks * room.f_frsize })
    }

    fn behind(&self, thousandths: u32) {
        self.pool.behind(thousandths);
    }

    fn write_by(&self, direct: Direct) {
        *self.direct.lock() = direct;
    }
}

/// A file written through the page cache: what `write(2)` took is in it.
#[derive(Debug)]
struct Cached {
    file: File,
    length: u64,
}

impl Write for Cached {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.length += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StoredFile for Cached {
    fn settled(&self) -> u64 {
        self.length
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(status::status(&self.file, c"")?.identity)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.length = length;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn check(&mut self) -> io::Result<()> {
        written::check(&self.file)
    }

    fn reserve(&mut self, more: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, more)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, mknodat};
    use std::fs;

    #[test]
    fn files_are_appended_to_cut_and_never_replaced() {
        let disk = Disk::default();
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut file = disk.create(&a).unwrap();
        file.write_all(b"one two").unwrap();
        file.cut(4).unwrap();
        assert_eq!(file.settled(), 4);
        drop(file);
        let mut file = disk.append(&a).unwrap();
        assert_eq!(file.settled(), 4);
        file.reserve(100_000).unwrap();
        file.write_all(b"three").unwrap();
        file.sync().unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"one three");
        assert_eq!(disk.create(&a).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::write(&b, b"b").unwrap();
        assert_eq!(disk.rename(&a, &b).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.remove(&b).unwrap();
        disk.rename(&a, &b).unwrap();
        assert!(!disk.exists(&a).unwrap() && disk.exists(&b).unwrap());
        disk.sync_directory(dir.path()).unwrap();
        let space = disk.space(dir.path()).unwrap();
        assert!(space.free > 0 && space.free <= space.total);
    }

    #[test]
    fn a_log_takes_no_buffers_of_files_written_directly() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(Direct::On);
        let log = dir.path().join("log");
        for _ in 0..2 {
            let mut file = disk.log(&log).unwrap();
            file.write_all(b"line").unwrap();
            assert_eq!(disk.pool.lent(), 0);
            file.sync().unwrap();
        }
        assert_eq!(fs::read(&log).unwrap(), b"lineline");
    }

    #[test]
    fn files_are_written_as_was_said_last() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::default();
        let is_direct = |name: &str| {
            let file = disk.clone().create(&dir.path().join(name)).unwrap();
            format!("{file:?}").starts_with("Adaptive")
        };
        assert!(!is_direct("a"));
        disk.write_by(Direct::On);
        assert!(is_direct("b"), "a clone is the same storage");
        disk.write_by(Direct::Off);
        assert!(!is_direct("c"));
    }

    #[test]
    fn a_probe_leaves_nothing_and_touches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::write(&outside, "text").unwrap();
        let directory = dir.path().join("directory");
        fs::create_dir(&directory).unwrap();
        probe(&directory).unwrap();
        let open = File::open(&directory).unwrap();
        probe_by_name(&open, "free").unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        std::os::unix::fs::symlink(&outside, directory.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.join("dangling")).unwrap();
        mknodat(CWD, directory.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        for name in ["link", "dangling", "pipe"] {
            assert_eq!(probe_by_name(&open, name).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(fs::read(&outside).unwrap(), b"text");
        assert!(!directory.join("nowhere").exists());
        assert!(probe(&outside).is_err());
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_not_followed() {
        let disk = Disk::default();
        let dir = tempfile::tempdir().unwrap();
        let (outside, inside, link) = (dir.path().join("outside"), dir.path().join("inside"), dir.path().join("link"));
        for directory in [&outside, &inside] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("a"), "a").unwrap();
        }
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        let file = link.join("a");
        for refused in [
            disk.create(&link.join("b")).map(drop),
            disk.append(&file).map(drop),
            disk.rename(&file, &inside.join("b")),
            disk.rename(&inside.join("a"), &link.join("b")),
            disk.remove(&file),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
            assert_eq!(error.to_string(), "its directory is a symbolic link, which is not followed");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        // A file that is a link is removed itself, and not written to.
        std::os::unix::fs::symlink(outside.join("a"), inside.join("c")).unwrap();
        assert!(disk.append(&inside.join("c")).is_err());
        disk.remove(&inside.join("c")).unwrap();
        assert!(outside.join("a").exists());
        // Above a file's own directory links are the user's.
        fs::create_dir(outside.join("deep")).unwrap();
        disk.create(&link.join("deep/b")).unwrap();
        disk.remove(&outside.join("deep/b")).unwrap();
    }
}
