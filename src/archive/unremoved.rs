//! What the manifest gives a sensor to remove: captures that were to be removed when the process
//! before this one ended, and those that count in the budget.
//!
//! The lines of the former are written before they are removed. A line can be forged, and what it names
//! is removed for good: so each has to be what was published ([`Contents::unremoved`]), and the file
//! that is there has to have the length that was published. Its hash is not looked at, since the
//! start would wait until gigabytes are read. What stays is named.
//!
//! The budget counts what was published in front of any break in the chain, under a name as captures
//! get it. Whatever else a line names stays out of it, and is never removed.

use std::collections::HashMap;

use rustix::fs::FileType;

use super::publisher::Publisher;
use crate::evidence::names::{is_capture_path, is_removable_path};
use crate::evidence::{Contents, NAME};

impl Publisher {
    /// Puts into the budget what is published, as far as it may be removed.
    pub(super) fn count_published(&mut self, contents: &Contents) {
        for entry in contents.captures.iter().take(contents.chained) {
            let path = self.directory.join(&*entry.path);
            if is_removable_path(&entry.path) && self.is_ours(&path) && matches!(self.storage.exists(&path), Ok(true)) {
                self.shelf.add(entry.clone());
            }
        }
        if let Some(line) = contents.broken_at {
            tracing::warn!(
                line,
                captures = contents.captures.len() - contents.chained,
                "the chain of {NAME} is broken at this line: no budget counts the captures that it and later lines name, and none of \
                 them is removed; `vxtap verify` tells what differs"
            );
        }
    }

    /// Has what was pruned and is there still removed, where it is what was published.
    pub(super) fn complete_removals(&mut self, contents: &Contents) {
        let published: HashMap<&str, u64> =
            contents.unremoved.iter().map(|entry| (&*entry.path, entry.bytes)).collect();
        let mut stay = Vec::new();
        for name in contents.pruned.iter().filter(|path| is_capture_path(path)) {
            let path = self.directory.join(name);
            if !self.is_ours(&path) {
                continue;
            }
            let Ok(Some(found)) = self.storage.status(&path) else { continue };
            if found.kind == FileType::RegularFile && published.get(name.as_str()) == Some(&found.length) {
                self.unremoved.push(path);
            } else {
                stay.push(name);
            }
        }
        let Some(first) = stay.first() else { return };
        let why = match contents.is_broken {
            true => "the chain of the manifest's lines is broken, so none of them removes anything",
            false => "they are not what a line before published",
        };
        tracing::warn!(
            files = stay.len(), %first,
            "the manifest says of captures that are there that they were removed; they stay, and no budget counts them: {why}; \
             `vxtap verify` names each line and file"
        );
    }
}
