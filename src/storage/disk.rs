//! Files as the kernel has them.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, fallocate, fstatfs, open, renameat, renameat_with,
    statvfs, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::direct::{self, Adaptive, Direct, Pool};
use super::regular::open_regular_at;
use super::{Space, Storage, StoredFile};
use crate::sys::written;

/// Captures hold what people said and typed: nothing for everybody. The umask can only take more away.
const FILE_MODE: Mode = Mode::from_bits_retain(0o640);
const DIRECTORY_MODE: u32 = 0o750;

/// File systems whose syncfs(2) waits for bytes and journal and has the disk write its cache, as fsync(2) does: ext4, XFS, Btrfs (statfs(2)). Others
/// may leave it at handing over the bytes, as FUSE does.
const SYNCED_AS_A_WHOLE: [rustix::fs::FsWord; 3] = [0xef53, 0x5846_5342, 0x9123_683e];

/// The file systems of the host. Through the page cache, unless it is told otherwise. Clones share what bounds their direct files.
#[derive(Debug, Clone)]
pub struct Disk {
    direct: Direct,
    pool: Arc<Pool>,
}

impl Disk {
    /// Files of which some are written past the page cache.
    #[must_use]
    pub fn new(direct: Direct) -> Self {
        Self { direct, pool: Arc::new(Pool::new(direct::FILES)) }
    }

    /// Opens a file to append to. Where it may be written directly that is by offsets, of which `O_APPEND` would take no heed.
    fn open(&self, path: &Path, how: OFlags) -> io::Result<Box<dyn StoredFile>> {
        let (directory, name) = place(path)?;
        let direct = self.direct != Direct::Off;
        let mut flags = how | OFlags::WRONLY;
        flags.set(OFlags::APPEND, !direct);
        let file = open_regular_at(directory, name, flags, FILE_MODE)?;
        let length = file.metadata()?.len();
        Ok(match direct {
            true => Box::new(Adaptive::new(file, length, self.direct, Arc::clone(&self.pool))),
            false => Box::new(Cached { file, length }),
        })
    }
}

/// The directory of a file, opened, and the file's name in it.
///
/// A symbolic link in place of that directory is not followed, as it leads to where files are another's. What is above may be one.
fn place(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match open(parent, flags, Mode::empty()) {
        Err(Errno::NOTDIR) if parent.is_symlink() => {
            Err(io::Error::new(io::ErrorKind::NotADirectory, "its directory is a symbolic link, which is not followed"))
        }
        directory => Ok((directory?, name)),
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(Direct::default())
    }
}

impl Storage for Disk {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open(path, OFlags::CREATE | OFlags::EXCL)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        self.open(path, OFlags::empty())
    }

    fn log(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let file = open_regular_at(CWD, path, OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND, FILE_MODE)?;
        let length = file.metadata()?.len();
        Ok(Box::new(Cached { file, length }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_directory, from_name), (to_directory, to_name)) = (place(from)?, place(to)?);
        match renameat_with(&from_directory, from_name, &to_directory, to_name, RenameFlags::NOREPLACE) {
            // The file system cannot promise it: then it is looked up first.
            Err(Errno::INVAL | Errno::NOSYS) if !self.exists(to)? => {
                Ok(renameat(&from_directory, from_name, &to_directory, to_name)?)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            result => Ok(result?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (directory, name) = place(path)?;
        Ok(unlinkat(directory, name, AtFlags::empty())?)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
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
        // A file that is one is removed itself, and not written to.
        std::os::unix::fs::symlink(outside.join("a"), inside.join("c")).unwrap();
        assert!(disk.append(&inside.join("c")).is_err());
        disk.remove(&inside.join("c")).unwrap();
        assert!(outside.join("a").exists());
        // Above a file's own directory links are the user's.
        fs::create_dir(outside.join("deep")).unwrap();
        disk.create(&link.join("deep/b")).unwrap();
        disk.log(&link.join("log")).unwrap();
        disk.remove(&outside.join("deep/b")).unwrap();
    }
}
