//! A storage for tests does here what disks do on bad days.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::place::Named;
use super::status::Status;
use super::{Disk, Identity, Space, Storage, StoredFile};

/// The faults that happen from now on; none by default.
#[derive(Debug, Default, Clone)]
pub(crate) struct Faults {
    /// A write takes at most so many bytes.
    pub(crate) short: Option<usize>,
    /// So many bytes may still be written before writes fail with this error number. The write that
    /// hits the limit is torn.
    pub(crate) write: Option<(u64, i32)>,
    /// Files whose names end so find the disk full; others do for the room that is reserved for
    /// them.
    pub(crate) full: Option<&'static str>,
    /// Files cannot be created.
    pub(crate) create: Option<i32>,
    /// Files that are there cannot be opened to append to them.
    pub(crate) append: Option<i32>,
    /// Files cannot be cut.
    pub(crate) cut: Option<i32>,
    /// Files cannot be renamed.
    pub(crate) rename: Option<i32>,
    /// Files are exchanged for others just before they are renamed.
    pub(crate) exchange: bool,
    /// Files cannot be removed.
    pub(crate) remove: Option<i32>,
    /// Files cannot be synced.
    pub(crate) sync: Option<i32>,
    /// The file system cannot be synced.
    pub(crate) sync_all: Option<i32>,
    /// Files whose names contain this have lost bytes, as they say when they are synced or checked.
    pub(crate) lost: Option<&'static str>,
    /// Blocks cannot be reserved.
    pub(crate) reserve: Option<i32>,
    /// Lengths of files at which blocks were reserved.
    pub(crate) reserved: Vec<u64>,
    /// Each write takes this long.
    pub(crate) stall: Duration,
    /// Syncing a file takes this long, or until this is less.
    pub(crate) sync_stall: Duration,
    /// The room that the storage says is there.
    pub(crate) space: Option<Space>,
    /// The room grows by so much with each file that is removed.
    pub(crate) block: u64,
    /// So often the room was asked for.
    pub(crate) looks: u64,
    /// The fullness of the queue, as it was told last.
    pub(crate) behind: u32,
    /// Everything that was done, for tests that ask for the order.
    pub(crate) done: Vec<String>,
}

/// Files of the host, with faults.
#[derive(Debug, Default, Clone)]
pub(crate) struct Faulty(Arc<Mutex<Faults>>);

fn fails(fault: Option<i32>) -> io::Result<()> {
    fault.map_or(Ok(()), |number| Err(io::Error::from_raw_os_error(number)))
}

impl Faulty {
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap()
    }

    fn done(&self, what: &str, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.faults().done.push(format!("{what} {name}"));
    }

    fn file(&self, file: Box<dyn StoredFile>, path: &Path) -> Box<dyn StoredFile> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Box::new(FaultyFile { file, name, storage: self.clone() })
    }
}

impl Storage for Faulty {
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        fails(self.faults().create)?;
        Disk::default().create_directory(directory)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        fails(self.faults().create)?;
        let file = Disk::default().create(path)?;
        self.done("create", path);
        Ok(self.file(file, path))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        fails(self.faults().append)?;
        Ok(self.file(Disk::default().append(path)?, path))
    }

    fn log(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        fails(self.faults().create)?;
        Ok(self.file(Disk::default().log(path)?, path))
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        Disk::default().open(path, flags)
    }

    fn status(&self, path: &Path) -> io::Result<Option<Status>> {
        Disk::default().status(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Named>> {
        Disk::default().list(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fails(self.faults().rename)?;
        self.done("rename", to);
        if self.faults().exchange {
            // Somebody exchanges the file between the last look and the new name.
            std::fs::remove_file(from)?;
            std::fs::write(from, "another")?;
        }
        Disk::default().rename(from, to)
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        fails(self.faults().rename)?;
        Disk::default().replace(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fails(self.faults().remove)?;
        self.done("remove", path);
        let mut faults = self.faults();
        let block = faults.block;
        faults.space.iter_mut().for_each(|space| space.free += block);
        drop(faults);
        Disk::default().remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        fails(self.faults().sync)?;
        self.done("sync", directory);
        Disk::default().sync_directory(directory)
    }

    fn sync_all(&self, directory: &Path) -> io::Result<bool> {
        fails(self.faults().sync_all)?;
        self.done("sync all", directory);
        Ok(true)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        self.faults().looks += 1;
        let said = self.faults().space;
        said.map_or_else(|| Disk::default().space(directory), Ok)
    }

    fn behind(&self, thousandths: u32) {
        self.faults().behind = thousandths;
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn StoredFile>,
    name: String,
    storage: Faulty,
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stall = self.storage.faults().stall;
        std::thread::sleep(stall);
        let length = {
            // This is one piece: else a fault that the test takes back meanwhile would come again.
            let mut faults = self.storage.faults();
            fails(faults.full.filter(|ending| self.name.ends_with(ending)).map(|_| libc::ENOSPC))?;
            let mut length = bytes.len().min(faults.short.unwrap_or(usize::MAX));
            if let Some((left, number)) = &mut faults.write {
                fails((*left == 0).then_some(*number))?;
                length = length.min(*left as usize);
                *left -= length as u64;
            }
            faults.done.push(format!("write {}", self.name));
            length
        };
        self.file.write(&bytes[..length])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StoredFile for FaultyFile {
    fn settled(&self) -> u64 {
        self.file.settled()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.file.identity()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        fails(self.storage.faults().cut)?;
        self.file.cut(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < self.storage.faults().sync_stall {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.check()?;
        fails(self.storage.faults().sync)?;
        self.storage.faults().done.push(format!("sync {}", self.name));
        self.file.sync()
    }

    fn check(&mut self) -> io::Result<()> {
        fails(self.storage.faults().lost.filter(|part| self.name.contains(part)).map(|_| libc::EIO))?;
        self.file.check()
    }

    fn reserve(&mut self, more: u64) -> io::Result<()> {
        self.storage.faults().reserved.push(self.file.settled());
        fails(self.storage.faults().reserve)?;
        self.file.reserve(more)
    }
}
