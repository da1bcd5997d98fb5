//! A sensor takes over from the runs before it: captures that count in the budget, captures that
//! were to be removed when the process before this one ended, and a word about those that have no
//! line.
//!
//! The lines of captures that were to be removed are written before the removal. A line can be
//! forged, and what it names is removed for good. So each capture has to be what was published
//! ([`Contents::unremoved`]), and the file that is there has to have the length that was published.
//! Its hash is not looked at, since the start would wait until gigabytes are read. What stays is
//! named.
//!
//! The budget counts what was published in front of any break in the chain, under a name as
//! captures get it. Whatever else a line names stays out of it, and is never removed.

pub(super) mod strangers;

use std::collections::HashMap;

use rustix::fs::FileType;

use super::books::Books;
use super::stock::Stock;
use crate::evidence::names::{is_capture_path, is_removable_path};
use crate::evidence::{Contents, NAME};

/// Takes over what the manifest tells of the directory.
pub(super) fn take_over(contents: &Contents, books: &mut Books, stock: &mut Stock) {
    for complaint in &contents.complaints {
        tracing::warn!("{complaint}");
    }
    complete_removals(contents, books, stock);
    count_published(contents, books, stock);
    stock.pruning.announce(&stock.deliveries);
    strangers::warn(&*books.storage, &books.directory, contents);
}

/// Puts into the budget what is published, as far as it may be removed.
fn count_published(contents: &Contents, books: &mut Books, stock: &mut Stock) {
    for entry in contents.captures.iter().take(contents.chained) {
        let path = books.directory.join(&*entry.path);
        if is_removable_path(&entry.path) && books.is_ours(&path) && matches!(books.storage.exists(&path), Ok(true)) {
            stock.pruning.keeper.shelf.add(entry.clone());
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
fn complete_removals(contents: &Contents, books: &mut Books, stock: &mut Stock) {
    let published: HashMap<&str, u64> = contents.unremoved.iter().map(|entry| (&*entry.path, entry.bytes)).collect();
    let mut stay = Vec::new();
    for name in contents.pruned.iter().filter(|path| is_capture_path(path)) {
        let path = books.directory.join(name);
        if !books.is_ours(&path) {
            continue;
        }
        let Ok(Some(found)) = books.storage.status(&path) else { continue };
        if found.kind == FileType::RegularFile && published.get(name.as_str()) == Some(&found.length) {
            stock.pruning.remove_later(path);
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
