//! Files that cannot be salvaged are moved aside, and their lines say why.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::outcome::Salvaged;
use crate::archive::books::Books;
use crate::evidence::Event;
use crate::evidence::names::Names;

/// The directory that files are moved to which cannot be salvaged.
const ASIDE: &str = "unsalvageable";

/// Moves files aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// The places of files whose line says already that they are moved there, by their part names.
    announced: HashMap<PathBuf, PathBuf>,
}

impl Aside {
    /// Moves a file aside.
    ///
    /// # Errors
    /// The file cannot be moved, or the manifest cannot be written. The next attempt goes on from
    /// there.
    pub(super) fn set_aside(&mut self, names: &Names, why: &str, books: &mut Books) -> io::Result<Salvaged> {
        if let Some(to) = self.announced.get(&names.part) {
            // The line is written; then the move failed.
            match books.storage.rename(&names.part, to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                moved => moved?,
            }
            let moved = !books.storage.exists(&names.part)?;
            self.announced.remove(&names.part);
            if moved {
                return Ok(Salvaged::Aside);
            }
        }
        let to = free_place(names, books)?;
        let Some(path) = books.relative(&to) else { return Ok(Salvaged::Empty) };
        let bytes = length(&names.part, books)?;
        let hash = books.hash_in_any_case(&names.part)?;
        books.append(&Event::SetAside { path, bytes, hash, why: why.to_owned() })?;
        self.announced.insert(names.part.clone(), to.clone());
        books.storage.rename(&names.part, &to)?;
        self.announced.remove(&names.part);
        tracing::warn!(path = %to.display(), bytes, "moved a file aside: {why}");
        Ok(Salvaged::Aside)
    }
}

/// Finds a free name in the directory that files are moved to.
fn free_place(names: &Names, books: &Books) -> io::Result<PathBuf> {
    let directory = books.directory.join(ASIDE);
    books.storage.create_directory(&directory)?;
    if books.storage.status(&directory)?.is_none_or(|found| found.kind != FileType::Directory) {
        return Err(io::Error::other(format!("{} is no directory", directory.display())));
    }
    let name = names.part.file_name().unwrap_or_default().to_string_lossy();
    let mut to = directory.join(&*name);
    for attempt in 2.. {
        if !books.storage.exists(&to)? {
            break;
        }
        to = directory.join(format!("{name}-{attempt}"));
    }
    Ok(to)
}

/// Returns the length of a file.
///
/// # Errors
/// The file cannot be looked at; `NotFound` where it is missing.
pub(super) fn length(path: &Path, books: &Books) -> io::Result<u64> {
    Ok(books.storage.status(path)?.ok_or(io::ErrorKind::NotFound)?.length)
}
