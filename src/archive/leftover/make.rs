//! Of what a salvaged capture is made: of the part file itself, or of a copy.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Stop, with_ending};
use crate::archive::publisher::{Publisher, Unready};
use crate::evidence::Capture;
use crate::evidence::names::{COPY, Names};
use crate::record::salvage::{self, Whole};
use crate::storage::StoredFile;

/// A copy of a part file, which is being written.
type Copying = BufWriter<Box<dyn StoredFile>>;

/// Why a file is not published itself, but a copy of what is whole.
pub(super) fn flaw(whole: &Whole) -> Option<String> {
    let damaged = whole.damaged.then(|| format!("damaged behind its first {} frames", whole.frames));
    let mended = whole.mended.map(|field| format!("damaged in its header, in the {field}"));
    match (mended, damaged) {
        (Some(mended), Some(damaged)) => Some(format!("{mended}, and {damaged}")),
        (mended, damaged) => mended.or(damaged),
    }
}

impl Publisher {
    /// Makes a file of what is whole, and its bytes safe: of the part file itself, or as a copy
    /// where that must not be cut, has another name, or could not be synced.
    /// Returns its name and length.
    pub(super) fn make(&mut self, names: &Names, whole: &Whole) -> Result<(PathBuf, u64), Stop> {
        // A compressed stream cannot be cut: its end says that it is complete.
        let flaw = flaw(whole);
        let in_place =
            flaw.is_none() && (whole.intact || whole.compression.is_none()) && !self.has_other_names(&names.part)?;
        if in_place && let Some(bytes) = self.make_in_place(&names.part, whole)? {
            return Ok((names.part.clone(), bytes));
        }
        let copied = self.copy(names, |from, to| salvage::extract(from, whole, to));
        copied.map_err(|error| match (error.kind(), flaw) {
            // Trying again would not make room. The file itself needs none where it is moved to.
            (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, Some(flaw)) => {
                Stop::Unsalvageable(format!("{flaw}; no room for a copy: {error}"))
            }
            _ => Stop::Io(error),
        })
    }

    /// Whether a file is another's too, as that of a snapshot made of hard links: that stays as it
    /// is.
    fn has_other_names(&self, path: &Path) -> io::Result<bool> {
        Ok(self.storage.status(path)?.is_some_and(|file| file.links > 1))
    }

    /// Cuts a file after its last whole record, where it is not intact. None where it cannot be
    /// synced, now or before.
    fn make_in_place(&mut self, part: &Path, whole: &Whole) -> io::Result<Option<u64>> {
        let safe = self.is_synced(part, |archive| {
            if whole.intact {
                return archive.make_safe(part);
            }
            let mut file = archive.storage.append(part).map_err(Unready::Read)?;
            file.cut(whole.length).map_err(Unready::Read)?;
            file.sync().map_err(Unready::Sync)
        })?;
        safe.then(|| self.length(part)).transpose()
    }

    /// Makes the bytes of a part file safe that are what was announced. Returns its name, or that
    /// of a copy.
    pub(super) fn make_announced_safe(&mut self, names: &Names, capture: &Capture) -> io::Result<PathBuf> {
        if !self.has_other_names(&names.part)?
            && self.is_synced(&names.part, |archive| archive.make_safe(&names.part))?
        {
            return Ok(names.part.clone());
        }
        let bytes = capture.bytes;
        let copied = self.copy(names, |from, to| match io::copy(&mut from.take(bytes), to)? {
            copied if copied < bytes => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        });
        Ok(copied?.0)
    }

    /// Whether a part file could be synced, by `sync`, which is not tried again once it failed.
    fn is_synced(&mut self, part: &Path, sync: impl FnOnce(&Self) -> Result<(), Unready>) -> io::Result<bool> {
        if self.leftovers.unsynced.contains(part) {
            return Ok(false);
        }
        match sync(self) {
            Ok(()) => Ok(true),
            Err(Unready::Read(error)) => Err(error),
            Err(Unready::Sync(error)) => {
                tracing::error!(path = %part.display(), %error, "cannot sync a capture file: it is copied");
                self.leftovers.unsynced.insert(part.to_path_buf());
                Ok(false)
            }
        }
    }

    /// Makes a copy of a part file, which `write` writes.
    fn copy(
        &self,
        names: &Names,
        write: impl FnOnce(File, &mut Copying) -> io::Result<()>,
    ) -> io::Result<(PathBuf, u64)> {
        let copy = with_ending(&names.part, COPY);
        let result = self.copy_to(&copy, &names.part, write);
        if result.is_err() {
            let _ = self.storage.remove(&copy);
        }
        result
    }

    fn copy_to(
        &self,
        copy: &Path,
        part: &Path,
        write: impl FnOnce(File, &mut Copying) -> io::Result<()>,
    ) -> io::Result<(PathBuf, u64)> {
        // One that is there is of an attempt before this, whose line could not be written.
        if self.storage.exists(copy)? {
            self.storage.remove(copy)?;
        }
        let mut file = BufWriter::with_capacity(256 * 1024, self.storage.create(copy)?);
        write(self.storage.open(part, OFlags::RDONLY)?, &mut file)?;
        file.flush()?;
        file.get_mut().sync()?;
        Ok((copy.to_path_buf(), file.get_ref().settled()))
    }
}
