//! A capture is opened, whatever it is compressed with.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::record::compress;
use crate::record::read::{CaptureReader, ReadError};

/// The time between two looks at whether to wait on for a stream.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A capture to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Standard,
}

/// A capture that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {name}: {source}")]
pub struct OpenError {
    /// The capture.
    pub name: String,
    /// The error of the system.
    pub source: io::Error,
}

/// The frames of a capture.
pub(crate) type Frames = CaptureReader<compress::Reader<Counted>>;

/// A capture that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) name: String,
    file: File,
    /// Its size and its place on the disk, where it is a regular file.
    regular: Option<(u64, (u64, u64))>,
    /// Bytes of the file that were read.
    pub(crate) read: Arc<AtomicU64>,
}

impl Opened {
    /// Opens a capture.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(input: &Input) -> Result<Opened, OpenError> {
        let (name, file) = match input {
            Input::File(path) => (path.display().to_string(), File::open(path)),
            // Not by way of the buffer that lines go through.
            Input::Standard => ("standard input".to_owned(), io::stdin().as_fd().try_clone_to_owned().map(File::from)),
        };
        let file = file.and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = file.map_err(|source| OpenError { name: name.clone(), source })?;
        if metadata.is_dir() {
            let source = io::ErrorKind::IsADirectory.into();
            return Err(OpenError { name, source });
        }
        let regular = metadata.is_file().then(|| (metadata.len(), (metadata.dev(), metadata.ino())));
        if regular.is_some() {
            // Advice that is not taken costs nothing.
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        }
        Ok(Opened { name, file, regular, read: Arc::default() })
    }

    /// Returns the size of the file; none where it is a stream.
    pub(crate) fn size(&self) -> Option<u64> {
        self.regular.map(|(size, _)| size)
    }

    /// Says whether `path` leads to the file that is read.
    pub(crate) fn is_same(&self, path: &Path) -> bool {
        let Some((_, place)) = self.regular else { return false };
        path.metadata().is_ok_and(|other| (other.dev(), other.ino()) == place)
    }

    /// Returns a reader of the capture. Where that is a stream, reading it fails once `stop` is
    /// true: the next bytes may be long in coming.
    ///
    /// # Errors
    /// It is no capture, or cannot be decompressed.
    pub(crate) fn reader(self, stop: &Arc<AtomicBool>) -> Result<Frames, ReadError> {
        let Opened { name, file, read, regular } = self;
        let stop = regular.is_none().then(|| Arc::clone(stop));
        match compress::reader(Counted { file, read, stop }) {
            Ok(input) => CaptureReader::of_any_link_type(input, name),
            Err(source) => Err(ReadError::Io { name, source }),
        }
    }
}

/// Counts what is read of a file.
#[derive(Debug)]
pub(crate) struct Counted {
    file: File,
    read: Arc<AtomicU64>,
    /// Whether to wait no more for bytes; none where there are always some.
    stop: Option<Arc<AtomicBool>>,
}

impl Counted {
    /// Waits until there are bytes, or the end of them.
    ///
    /// # Errors
    /// It is not to wait any more.
    fn wait(&self) -> io::Result<()> {
        let Some(stop) = &self.stop else { return Ok(()) };
        let mut ready = [PollFd::new(&self.file, PollFlags::IN)];
        while !stop.load(Ordering::Relaxed) {
            // Whatever is ready, or wrong, is what reading tells.
            if !matches!(poll(&mut ready, Some(&LOOK)), Ok(0) | Err(rustix::io::Errno::INTR)) {
                return Ok(());
            }
        }
        // An error of the kind of an interrupted call would be tried again.
        Err(io::Error::other("interrupted"))
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
