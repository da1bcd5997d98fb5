//! Captures that the manifest lacks, under names as they are given here.
//!
//! A loss of power can keep a name and lose the line before it, which was only written. But somebody may have put such files there too, or removed the
//! manifest. So they are not put on record, nor under the budget, which might remove them, without being told to: the start names them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::manifest::Contents;
use super::name;

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Unlisted {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Looks for them in the directories of sessions. What cannot be looked at is passed over.
pub(super) fn count(directory: &Path, contents: &Contents) -> Unlisted {
    let captures = contents.captures.iter().map(|entry| &*entry.path);
    let listed: HashSet<&str> = captures.chain(contents.pruned.iter().map(String::as_str)).collect();
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    let mut unlisted = Unlisted::default();
    for directory in entries(directory).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let Some(session) = directory.file_name().to_str().map(str::to_owned) else { continue };
        if name::parse_session(&session).is_none() {
            continue;
        }
        for file in entries(&directory.path()) {
            let is_unlisted = |name: &str| {
                name::is_published(&session, name) && !listed.contains(format!("{session}/{name}").as_str())
            };
            if file.file_name().to_str().is_some_and(is_unlisted)
                && let Ok(metadata) = file.metadata()
                && metadata.is_file()
            {
                unlisted.files += 1;
                unlisted.bytes += metadata.len();
            }
        }
    }
    unlisted
}

/// Says so in the log, and what can be done.
pub(super) fn warn(directory: &Path, contents: &Contents) {
    let Unlisted { files, bytes } = count(directory, contents);
    if files > 0 {
        tracing::warn!(
            files,
            bytes,
            "captures are there that the manifest lacks, as after a loss of power; no budget counts them. `vxtap verify` lists them; the \
             next start checks those whose names end in .part, and puts them on record"
        );
    }
}
