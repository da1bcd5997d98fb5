//! A salvaged capture is made of the part file itself, or of a copy.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::aside::length;
use super::outcome::Stop;
use crate::archive::books::{Books, Unready};
use crate::evidence::Capture;
use crate::evidence::names::{COPY, Names};
use crate::record::salvage::{self, Whole};
use crate::storage::StoredFile;

/// A copy of a part file, which is being written.
type Copying = BufWriter<Box<dyn StoredFile>>;

/// Says why a file is not published itself, but a copy of what is whole.
pub(super) fn flaw(whole: &Whole) -> Option<String> {
    let damaged = whole.damaged.then(|| format!("damaged behind its first {} frames", whole.frames));
    let mended = whole.mended.map(|field| format!("damaged in its header, in the {field}"));
    match (mended, damaged) {
        (Some(mended), Some(damaged)) => Some(format!("{mended}, and {damaged}")),
        (mended, damaged) => mended.or(damaged),
    }
}

/// Makes salvaged captures.
#[derive(Debug, Default)]
pub(super) struct Maker {
    /// Files that a sync failed for, by their part names. The system tells of lost bytes once: the
    /// next sync of the same file may succeed without them. So such a file is never published
    /// itself, but copied, as far as it can be read, into new pages that are synced.
    unsynced: HashSet<PathBuf>,
}

impl Maker {
    /// Makes a file of what is whole, and its bytes safe: of the part file itself, or as a copy
    /// where that must not be cut, has another name, or could not be synced.
    /// Returns its name and length.
    pub(super) fn make(&mut self, names: &Names, whole: &Whole, books: &Books) -> Result<(PathBuf, u64), Stop> {
        // A compressed stream cannot be cut: its end says that it is complete.
        let flaw = flaw(whole);
        let in_place =
            flaw.is_none() && (whole.intact || whole.compression.is_none()) && !has_other_names(&names.part, books)?;
        if in_place && let Some(bytes) = self.make_in_place(&names.part, whole, books)? {
            return Ok((names.part.clone(), bytes));
        }
        let copied = copy(names, books, |from, to| salvage::extract(from, whole, to));
        copied.map_err(|error| match (error.kind(), flaw) {
            // Trying again would not make room. The file itself needs none where it is moved to.
            (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, Some(flaw)) => {
                Stop::Unsalvageable(format!("{flaw}; no room for a copy: {error}"))
            }
            _ => Stop::Io(error),
        })
    }

    /// Cuts a file after its last whole record, where it is not intact. Returns none where it
    /// cannot be synced, now or before.
    fn make_in_place(&mut self, part: &Path, whole: &Whole, books: &Books) -> io::Result<Option<u64>> {
        let safe = self.is_synced(part, || {
            if whole.intact {
                return books.make_safe(part);
            }
            let mut file = books.storage.append(part).map_err(Unready::Read)?;
            file.cut(whole.length).map_err(Unready::Read)?;
            file.sync().map_err(Unready::Sync)
        })?;
        safe.then(|| length(part, books)).transpose()
    }

    /// Makes the bytes of a part file safe that are what was announced. Returns its name, or that
    /// of a copy.
    pub(super) fn make_announced_safe(
        &mut self,
        names: &Names,
        capture: &Capture,
        books: &Books,
    ) -> io::Result<PathBuf> {
        if !has_other_names(&names.part, books)? && self.is_synced(&names.part, || books.make_safe(&names.part))? {
            return Ok(names.part.clone());
        }
        let bytes = capture.bytes;
        let copied = copy(names, books, |from, to| match io::copy(&mut from.take(bytes), to)? {
            copied if copied < bytes => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        });
        Ok(copied?.0)
    }

    /// Says whether a part file could be synced, by `sync`, which is not tried again once it
    /// failed.
    fn is_synced(&mut self, part: &Path, sync: impl FnOnce() -> Result<(), Unready>) -> io::Result<bool> {
        if self.unsynced.contains(part) {
            return Ok(false);
        }
        match sync() {
            Ok(()) => Ok(true),
            Err(Unready::Read(error)) => Err(error),
            Err(Unready::Sync(error)) => {
                tracing::error!(path = %part.display(), %error, "cannot sync a capture file: it is copied");
                self.unsynced.insert(part.to_path_buf());
                Ok(false)
            }
        }
    }

    /// Forgets a file that is done with.
    pub(super) fn forget(&mut self, part: &Path) {
        self.unsynced.remove(part);
    }
}

/// Says whether a file is another's too, as that of a snapshot made of hard links. Such a file
/// stays as it is.
fn has_other_names(path: &Path, books: &Books) -> io::Result<bool> {
    Ok(books.storage.status(path)?.is_some_and(|file| file.links > 1))
}

/// Returns the name of the copy that is made of a part file.
pub(super) fn copy_of(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(COPY);
    name.into()
}

/// Makes a copy of a part file, which `write` writes.
fn copy(
    names: &Names,
    books: &Books,
    write: impl FnOnce(File, &mut Copying) -> io::Result<()>,
) -> io::Result<(PathBuf, u64)> {
    let copy = copy_of(&names.part);
    let result = copy_to(&copy, &names.part, books, write);
    if result.is_err() {
        let _ = books.storage.remove(&copy);
    }
    result
}

fn copy_to(
    copy: &Path,
    part: &Path,
    books: &Books,
    write: impl FnOnce(File, &mut Copying) -> io::Result<()>,
) -> io::Result<(PathBuf, u64)> {
    // A copy that is there is of an attempt before this, whose line could not be written.
    if books.storage.exists(copy)? {
        books.storage.remove(copy)?;
    }
    let mut file = BufWriter::with_capacity(256 * 1024, books.storage.create(copy)?);
    write(books.storage.open(part, OFlags::RDONLY)?, &mut file)?;
    file.flush()?;
    file.get_mut().sync()?;
    Ok((copy.to_path_buf(), file.get_ref().settled()))
}
