//! A directory has files, and they are looked at.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use indicatif::ProgressBar;
use parking_lot::Mutex;
use rustix::fs::{FileType, OFlags};

use super::error::VerifyError;
use crate::evidence::catalogue::Fate;
use crate::evidence::names::{self, is_capture, is_inside};
use crate::evidence::{FileHash, FileHasher};
use crate::storage::Storage;

/// Files that are read at the same time. More would only make a disk seek.
const AT_ONCE: usize = 2;

/// Directories in directories that are looked into; ours are one deep.
const DEEPEST: usize = 16;

/// A file to look at, as a line tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) fate: Fate,
    /// Number of the line.
    pub(super) line: u64,
    /// The path of the file, relative to the directory.
    pub(super) path: Arc<str>,
    /// Length of the file, where the line says.
    pub(super) bytes: Option<u64>,
    /// Hash of the file, where the line has one.
    pub(super) hash: Option<FileHash>,
}

/// The outcome of a look at a file.
#[derive(Debug)]
pub(super) enum Look {
    Missing,
    /// The file cannot be read, or is none.
    Unreadable(io::Error),
    /// The file has another length than it should; its hash was not computed.
    Length(u64),
    /// The file has the length that it should, and this hash.
    Hash {
        said: FileHash,
        found: FileHash,
    },
    /// The file has the length that it should; there is no hash to compare with.
    Unhashed,
    /// Under its name the file is missing; this is the name that it had before, and what there is
    /// under that.
    Part(String, Box<Look>),
}

/// The captures and links that a directory has, by paths relative to it, sorted.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Captures and parts. Symbolic links are not followed.
    pub(super) captures: Vec<String>,
    /// Symbolic links in place of sessions' directories.
    pub(super) links: Vec<String>,
}

/// Looks for what there is below `directory`.
///
/// # Errors
/// The directory, or one in it, cannot be listed.
pub(super) fn find(storage: &dyn Storage, directory: &Path) -> Result<Found, VerifyError> {
    let mut found = Found::default();
    list(storage, directory, "", DEEPEST, &mut found)?;
    found.captures.sort_unstable();
    found.links.sort_unstable();
    Ok(found)
}

fn list(
    storage: &dyn Storage,
    directory: &Path,
    below: &str,
    depth: usize,
    found: &mut Found,
) -> Result<(), VerifyError> {
    let entries = match storage.list(directory) {
        // A session's directory may go with its last capture.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !below.is_empty() => return Ok(()),
        entries => entries.map_err(|source| VerifyError::Directory { path: directory.to_owned(), source })?,
    };
    for entry in entries {
        // No line has such a name, so that the file is never taken for another's.
        let name = entry.name.to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        match entry.kind == FileType::Directory {
            true if depth > 0 => list(storage, &directory.join(&entry.name), &path, depth - 1, found)?,
            true => {}
            false if is_capture(&name) => found.captures.push(path),
            false if entry.kind == FileType::Symlink && below.is_empty() && names::parse_session(&name).is_some() => {
                found.links.push(path);
            }
            false => {}
        }
    }
    Ok(())
}

/// Looks at the file of each job. Returns none for those not looked at because `stop` became true.
pub(super) fn look_at(
    storage: &dyn Storage,
    directory: &Path,
    jobs: &[Job],
    stop: &AtomicBool,
    bar: &ProgressBar,
) -> Vec<Option<Look>> {
    let looks = Mutex::new(jobs.iter().map(|_| None).collect::<Vec<_>>());
    let next = AtomicUsize::new(0);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(number) else { break };
            let look = Reading { storage, stop, bar }.look(directory, job);
            if let Some(place) = looks.lock().get_mut(number) {
                *place = look;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    looks.into_inner()
}

/// A thread that reads files.
struct Reading<'a> {
    storage: &'a dyn Storage,
    stop: &'a AtomicBool,
    bar: &'a ProgressBar,
}

impl Reading<'_> {
    /// Looks at the file of a job. Returns none where it was stopped.
    fn look(&self, directory: &Path, job: &Job) -> Option<Look> {
        // The manifest may have been tampered with: nothing outside is read for it.
        if !is_inside(&job.path) {
            return Some(Look::Missing);
        }
        let path = directory.join(&*job.path);
        let look = self.file(&path, job)?;
        if !matches!(look, Look::Missing) || job.fate != Fate::Published {
            return Some(look);
        }
        let mut part = Look::Missing;
        for before in names::before(&job.path) {
            part = self.file(&directory.join(&before), job)?;
            if !matches!(part, Look::Missing) {
                part = Look::Part(before, Box::new(part));
                break;
            }
        }
        // The file may have got its name between the two looks. A file from which a copy was made
        // has the other name still.
        Some(match self.file(&path, job)? {
            Look::Missing => part,
            named => named,
        })
    }

    fn file(&self, path: &Path, job: &Job) -> Option<Look> {
        match self.read(path, job) {
            Ok(look) => look,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Some(Look::Missing)
            }
            Err(error) => Some(Look::Unreadable(error)),
        }
    }

    fn read(&self, path: &Path, job: &Job) -> io::Result<Option<Look>> {
        let file = open(self.storage, path)?;
        let metadata = file.metadata()?;
        if job.bytes.is_some_and(|length| length != metadata.len()) {
            self.bar.inc(job.bytes.unwrap_or_default());
            return Ok(Some(Look::Length(metadata.len())));
        }
        let Some(said) = job.hash else {
            self.bar.inc(job.bytes.unwrap_or_default());
            return Ok(Some(Look::Unhashed));
        };
        let bar = Some(self.bar).filter(|_| job.bytes.is_some());
        let mut watched = Watched { file, stop: self.stop, bar, stopped: false };
        let found = FileHasher::new(said.algorithm()).read(&mut watched)?;
        Ok((!watched.stopped).then_some(Look::Hash { said, found }))
    }
}

/// A file that is read while the bar moves on. Reading ends early when it is told to stop.
struct Watched<'a> {
    file: File,
    stop: &'a AtomicBool,
    bar: Option<&'a ProgressBar>,
    stopped: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            self.stopped = true;
            return Ok(0);
        }
        let n = self.file.read(buffer)?;
        self.bar.inspect(|bar| bar.inc(n as u64));
        Ok(n)
    }
}

/// Opens a file and nothing else. A symbolic link in its place or its directory's is not followed,
/// a pipe is not waited for.
fn open(storage: &dyn Storage, path: &Path) -> io::Result<File> {
    storage.open(path, OFlags::RDONLY).map_err(|error| match error.kind() {
        // This error is not the system's word, and does not say that nothing is there.
        io::ErrorKind::NotADirectory if error.raw_os_error().is_none() => {
            io::Error::other("its directory is a symbolic link")
        }
        _ => error,
    })
}
