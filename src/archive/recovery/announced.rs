//! A line announced these captures, and they have no name yet.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::archive::books::{Books, hash_file};
use crate::evidence::names::Names;
use crate::evidence::{Capture, Contents};
use crate::record::salvage::{self, Unsalvageable, Whole};
use crate::storage::Storage;

/// The captures of the manifest, by path, that may not have their name yet, or have it beside what
/// they were made from.
#[derive(Debug, Default)]
pub(super) struct Announced(HashMap<String, Capture>);

impl Announced {
    /// Finds the captures that the manifest announced and that do not have their name yet, or have
    /// it as a copy of a file that waits. Finds none where no file waits: the manifest is read once
    /// more for this.
    pub(super) fn find<'a>(
        books: &Books,
        contents: &Contents,
        waiting: impl ExactSizeIterator<Item = &'a Names>,
    ) -> Self {
        if waiting.len() == 0 {
            return Self::default();
        }
        let copies: HashSet<PathBuf> = waiting.filter_map(|names| names.recovered(1)).collect();
        let unnamed = |path: &Path| matches!(books.storage.exists(path), Ok(false)) || copies.contains(path);
        // What a line behind a break announces is salvaged as if it were not announced.
        let on_record = contents.captures.iter().take(contents.chained).map(|entry| &*entry.path);
        let paths: HashSet<&str> = on_record.filter(|path| unnamed(&books.directory.join(path))).collect();
        if paths.is_empty() {
            return Self::default();
        }
        let captures = books.manifest.captures(|path| paths.contains(path)).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read what the manifest announced");
            Vec::new()
        });
        Self(captures.into_iter().map(|capture| (capture.path.clone(), capture)).collect())
    }

    /// Returns the capture that was announced at this path.
    pub(super) fn get(&self, path: &str) -> Option<Capture> {
        self.0.get(path).cloned()
    }

    /// Adds a capture that a line announced.
    pub(super) fn add(&mut self, capture: &Capture) {
        self.0.insert(capture.path.clone(), capture.clone());
    }

    /// Forgets the capture at this path: it has its name, or gets none.
    pub(super) fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// Returns the names that may have been announced for a part file, and the same as the manifest
    /// has them.
    ///
    /// # Errors
    /// The system does not say whether a name is there.
    pub(super) fn names(&self, names: &Names, books: &Books) -> io::Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        found.extend(books.relative(&names.published).map(|path| (names.published.clone(), path)));
        // Of these, one that is neither there nor announced is the last.
        for (first, name) in [(2, Names::another as fn(&Names, u32) -> Option<PathBuf>), (1, Names::recovered)] {
            for attempt in first.. {
                let Some((to, path)) = name(names, attempt).and_then(|to| Some((to.clone(), books.relative(&to)?)))
                else {
                    break;
                };
                if !self.0.contains_key(&path) && !books.storage.exists(&to)? {
                    break;
                }
                found.push((to, path));
            }
        }
        Ok(found)
    }
}

/// Says whether a file is the one that a line announced: by its hash, or else by its size and the
/// frames that it holds.
pub(super) fn is_what_was_announced(storage: &dyn Storage, path: &Path, capture: &Capture) -> bool {
    if let Some(said) = capture.hash {
        return hash_file(storage, path, said.algorithm()).is_ok_and(|found| found == said);
    }
    let Ok(file) = storage.open(path, OFlags::RDONLY) else { return false };
    file.metadata().is_ok_and(|file| file.len() == capture.bytes)
        && salvage::scan(file).is_ok_and(|whole| {
            whole.intact
                && whole.mended.is_none()
                && (whole.frames, whole.frame_bytes) == (capture.frames, capture.frame_bytes)
        })
}

/// Finds what is whole of `part`, where a capture that was announced holds that. Returns none where
/// the capture holds something else.
///
/// # Errors
/// One of the files cannot be opened or read.
pub(super) fn is_copy_of(storage: &dyn Storage, capture: &Capture, part: &Path) -> io::Result<Option<Whole>> {
    let whole = match salvage::scan(storage.open(part, OFlags::RDONLY)?) {
        Ok(whole) => whole,
        Err(Unsalvageable::Io(error)) => return Err(error),
        Err(_) => return Ok(None),
    };
    let holds = (whole.frames, whole.frame_bytes, whole.first, whole.last);
    let same = holds == (capture.frames, capture.frame_bytes, Some(capture.first), Some(capture.last));
    Ok(same.then_some(whole))
}
