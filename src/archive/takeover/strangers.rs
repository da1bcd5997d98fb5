//! Strangers are captures that the manifest lacks, under names as they are given here.
//!
//! A loss of power can keep a name and lose the line before it, which was only written. But
//! somebody may have put such files there too, or removed the manifest. So they are not put on
//! record without being told to. Nor are they put under the budget, which might remove them. The
//! start names them.

use std::collections::HashSet;
use std::path::Path;

use rustix::fs::FileType;

use crate::evidence::Contents;
use crate::evidence::names;
use crate::storage::Storage;

/// The number of strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::archive) struct Strangers {
    pub(in crate::archive) files: u64,
    pub(in crate::archive) bytes: u64,
}

/// Looks for strangers in the directories of sessions. A directory that cannot be looked at is
/// passed over.
pub(in crate::archive) fn count(storage: &dyn Storage, directory: &Path, contents: &Contents) -> Strangers {
    let captures = contents.captures.iter().map(|entry| &*entry.path);
    let listed: HashSet<&str> = captures.chain(contents.pruned.iter().map(String::as_str)).collect();
    let named = |directory: &Path, kind| {
        let found = storage.list(directory).unwrap_or_default().into_iter();
        found.filter(move |named| named.kind == kind).filter_map(|named| named.name.into_string().ok())
    };
    let mut strangers = Strangers::default();
    for session in named(directory, FileType::Directory).filter(|name| names::parse_session(name).is_some()) {
        let directory = directory.join(&session);
        for file in named(&directory, FileType::RegularFile) {
            if names::is_published(&session, &file)
                && !listed.contains(format!("{session}/{file}").as_str())
                && let Ok(Some(status)) = storage.status(&directory.join(&file))
            {
                strangers.files += 1;
                strangers.bytes += status.length;
            }
        }
    }
    strangers
}

/// Names the strangers in the log, and says what can be done.
pub(in crate::archive) fn warn(storage: &dyn Storage, directory: &Path, contents: &Contents) {
    let Strangers { files, bytes } = count(storage, directory, contents);
    if files > 0 {
        tracing::warn!(
            files,
            bytes,
            "captures are there that the manifest lacks, as after a loss of power; no budget counts them. `vxtap verify` lists them; the \
             next start checks those whose names end in .part, and puts them on record"
        );
    }
}
