//! A directory is looked through for part files.

use std::path::Path;

use rustix::fs::FileType;

use crate::archive::books::Books;
use crate::evidence::names::{self, COPY, Names, is_capture};

/// Returns the names of the part files, in their order. Removes incomplete copies of those that are
/// there.
pub(super) fn part_files(books: &Books) -> Vec<Names> {
    let mut found = Vec::new();
    let storage = &*books.storage;
    let entries = |directory: &Path| {
        storage.list(directory).unwrap_or_else(|error| {
            tracing::warn!(path = %directory.display(), %error, "cannot look for what a crash left behind");
            Vec::new()
        })
    };
    for session in entries(&books.directory) {
        let name = session.name.to_string_lossy().into_owned();
        if names::parse_session(&name).is_none() || session.kind != FileType::Directory {
            continue;
        }
        let session = books.directory.join(session.name);
        for file in entries(&session) {
            let path = session.join(&file.name);
            // A file that is not named as our files are is not ours.
            let is_ours = |file: &str| file.starts_with(&name) && !file.contains(char::is_control);
            if !file.name.to_str().is_some_and(is_ours) {
                continue;
            }
            if let Some(names) = Names::of_part(&path).filter(|_| path.to_str().is_some_and(is_capture)) {
                found.push(names);
            } else if let Some(part) = path.to_str().and_then(|path| path.strip_suffix(COPY))
                && Names::of_part(Path::new(part)).is_some_and(|names| matches!(storage.exists(&names.part), Ok(true)))
            {
                // This is an incomplete copy of a file that is there still.
                let _ = storage.remove(&path);
            }
        }
    }
    found.sort_by(|a, b| a.part.cmp(&b.part));
    found
}
