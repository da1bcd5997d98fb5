//! Whoever takes the frames may be slow, stop, or go.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;

/// The bytes that a pipe which has room takes without a wait (`PIPE_BUF`).
const PIECE: usize = 4096;

/// The place where frames are written: a pipe, a file, standard output.
#[derive(Debug)]
pub(super) struct Taker {
    file: File,
    /// The bytes that are written at once at most.
    most: usize,
    /// Bytes that are to be written, from `at` on.
    waiting: Vec<u8>,
    at: usize,
}

impl Taker {
    /// Writes to standard output.
    ///
    /// # Errors
    /// The kernel returns one.
    pub(super) fn standard() -> io::Result<Self> {
        Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// Writes to a file, which is made anew, or to a named pipe.
    ///
    /// # Errors
    /// The kernel returns one.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Self::new(File::options().write(true).create(true).truncate(true).open(path)?)
    }

    fn new(file: File) -> io::Result<Self> {
        let is_file = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::RegularFile;
        let most = if is_file { usize::MAX } else { PIECE };
        Ok(Self { file, most, waiting: Vec::new(), at: 0 })
    }

    /// Returns what to wait for: to be told that it is gone, and of room where something waits.
    pub(super) fn awaited(&self) -> PollFd<'_> {
        let flags = if self.is_idle() { PollFlags::empty() } else { PollFlags::OUT };
        PollFd::from_borrowed_fd(self.fd(), flags)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Says whether all that was put there is written.
    pub(super) fn is_idle(&self) -> bool {
        self.at == self.waiting.len()
    }

    /// Lends the place where bytes are put that are to be written next. Called when it is idle.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        self.waiting.clear();
        self.at = 0;
        &mut self.waiting
    }

    /// Writes some of what waits, which is not waited for where there is room. Returns what was
    /// written.
    ///
    /// # Errors
    /// The kernel returns one: [`is_gone`] says which of them tells that nobody takes it any more.
    pub(super) fn write(&mut self) -> io::Result<&[u8]> {
        let rest = self.waiting.get(self.at..).unwrap_or_default();
        let piece = rest.get(..self.most).unwrap_or(rest);
        let written = match self.file.write(piece) {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => 0,
            written => written?,
        };
        let from = self.at;
        self.at += written;
        Ok(self.waiting.get(from..self.at).unwrap_or_default())
    }
}

/// Says whether these events tell that nobody takes anything any more.
pub(super) fn is_gone(events: PollFlags) -> bool {
    events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
}
