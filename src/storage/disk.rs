//! Files as the kernel has them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FallocateFlags, RenameFlags, fallocate, renameat_with, statvfs};
use rustix::io::Errno;

use super::direct::{self, Adaptive, Direct, Pool};
use super::{Space, Storage, StoredFile};

/// Captures hold what people said and typed: nothing for everybody. The umask can only take more away.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

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

    fn adaptive(&self, file: File, length: u64) -> Box<dyn StoredFile> {
        Box::new(Adaptive::new(file, length, self.direct, Arc::clone(&self.pool)))
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
        if self.direct != Direct::Off {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(FILE_MODE).open(path)?;
            return Ok(self.adaptive(file, 0));
        }
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(Cached { file, length: 0 }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        if self.direct != Direct::Off {
            let file = OpenOptions::new().write(true).open(path)?;
            let length = file.metadata()?.len();
            return Ok(self.adaptive(file, length));
        }
        let file = OpenOptions::new().append(true).open(path)?;
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
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // The file system cannot promise it: then it is looked up first.
            Err(Errno::INVAL | Errno::NOSYS) if !self.exists(to)? => fs::rename(from, to),
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            result => Ok(result?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(CWD, path, AtFlags::empty())?)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
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
}
