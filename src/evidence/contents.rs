//! A manifest tells of its directory, as a sensor needs it at its start.
//!
//! Whoever can write to the manifest can have the next start remove files, since that completes
//! removals that were put on record. So the start removes no more than the archive itself would
//! have: what an earlier line published, under a name as captures have it, with the hash of that
//! line. It removes nothing at all where one line does not follow from the one before, since all
//! that a manifest has behind a break, or before it, may be another's.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::sync::Arc;

use super::catalogue::{Catalogue, Fate, Reader, Standing, Wrong};
use super::digest::Digest;
use super::event::{Capture, Event, Line};
use super::file_hash::FileHash;
use super::lines::{Lines, NAME};
use super::names::is_removable_path;
use crate::record::Timestamp;

/// The number of captures pruned last of which one may be there still.
const PRUNED_LAST: usize = 1000;

/// The number of unreadable lines that are named one by one.
const NAMED: u64 = 10;

/// A published capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path of the file, relative to the directory of the manifest.
    pub path: Arc<str>,
    /// Bytes of the file.
    pub bytes: u64,
    /// The time by which it is old: that of its last frame, or of its line where it has no frames.
    pub last: Timestamp,
    /// Hash of its bytes; none where it was not hashed.
    pub hash: Option<FileHash>,
}

impl Entry {
    /// Makes the entry of a capture whose line was written at `published`.
    #[must_use]
    pub(crate) fn of(capture: &Capture, published: Timestamp) -> Self {
        Self::new(capture.path.as_str().into(), capture, published)
    }

    fn new(path: Arc<str>, capture: &Capture, published: Timestamp) -> Self {
        let last = if capture.frames == 0 { published } else { capture.last };
        Entry { path, bytes: capture.bytes, last, hash: capture.hash }
    }
}

/// The contents of a directory, as its manifest tells them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Captures that were published and not pruned since, in the order of their lines. Some may not
    /// have their name yet, some may be gone. Paths are those of complete captures, none twice.
    pub captures: Vec<Entry>,
    /// The number of captures, from the first, that have a line in front of any break in the chain.
    /// A file that a line behind a break names may be another's.
    pub chained: usize,
    /// The number of the first line that does not name the hash of the line before. What stood
    /// before line 1 is not known, and breaks nothing between lines.
    pub broken_at: Option<u64>,
    /// Paths of the captures that were pruned last, of which one may be there still.
    pub pruned: Vec<String>,
    /// Pruned captures that are to be removed if they are there, as their lines published them.
    pub unremoved: Vec<Entry>,
    /// True where a line does not follow from the one before, or cannot tell. Then nothing is to be
    /// removed for what a line says.
    pub is_broken: bool,
    /// The faults of the manifest, for people to read. None of them keeps a sensor from going on.
    pub complaints: Vec<String>,
}

/// A capture that was pruned, with what published it before, where that is known.
struct Pruned {
    path: Arc<str>,
    published: Option<Entry>,
}

/// The parts of the lines that a start keeps until all are read.
#[derive(Default)]
struct Start {
    contents: Contents,
    pruned: VecDeque<Pruned>,
    wrong: u64,
}

impl Reader for Start {
    type File = Entry;

    fn file(
        &mut self,
        _: u64,
        _: Fate,
        path: &Arc<str>,
        line: Line,
        before: Option<Entry>,
    ) -> Result<Option<Entry>, String> {
        match line.event {
            // A file whose bytes a loss of power took is salvaged under its old name.
            Event::Published(capture) | Event::Recovered(capture) => {
                Ok(Some(Entry::new(Arc::clone(path), &capture, line.time)))
            }
            Event::Pruned { hash, .. } => {
                let complaint = match &before {
                    None => Some(format!("prunes a capture that no line before it published, {path:?}")),
                    Some(entry) if entry.hash != hash => {
                        Some(format!("prunes another capture than was published as {path:?}"))
                    }
                    Some(_) => None,
                };
                let published = before.filter(|_| complaint.is_none() && is_removable_path(path));
                self.pruned.push_back(Pruned { path: Arc::clone(path), published });
                if self.pruned.len() > PRUNED_LAST {
                    self.pruned.pop_front();
                }
                complaint.map_or(Ok(None), Err)
            }
            Event::SetAside { .. } | Event::Lost { .. } => Ok(before),
        }
    }

    fn line(&mut self, standing: Standing) {
        let Standing { line: number, named, before, wrong, .. } = standing;
        if named != Some(before) {
            self.contents.is_broken = true;
            self.contents.broken_at = self.contents.broken_at.or((number > 1).then_some(number));
        }
        let complaint = match wrong {
            Some(Wrong::Unreadable(error)) => format!("cannot be read: {error}"),
            Some(Wrong::Path(Fate::Published, path)) => format!("names a file that is no capture, {path:?}"),
            Some(Wrong::Path(Fate::Pruned, path)) => format!("prunes what is no capture, {path:?}"),
            Some(Wrong::Other(complaint)) => complaint,
            _ if named.is_some_and(|named| named != before) => "does not follow from the one before".into(),
            _ => return,
        };
        self.wrong += 1;
        if self.wrong <= NAMED {
            self.contents.complaints.push(format!("line {number} of {NAME} {complaint}"));
        }
    }
}

impl Contents {
    /// Reads all lines and returns the hash of the last.
    pub(crate) fn read(&mut self, lines: &mut Lines<impl BufRead>) -> io::Result<Digest> {
        let mut start = Start { contents: std::mem::take(self), ..Start::default() };
        let mut catalogue = Catalogue::default();
        catalogue.read(lines, &mut start)?;
        *self = start.contents;
        let wrong = start.wrong;
        if wrong > NAMED {
            self.complaints.push(format!("{} more lines of {NAME} are wrong: see `vxtap verify`", wrong - NAMED));
        }
        // A name can come again, as when the clock was set back: the file that has it now was not
        // pruned.
        start.pruned.retain(|pruned| !catalogue.has(&pruned.path));
        let head = catalogue.head();
        let captures = catalogue.into_order();
        self.chained = captures.partition_point(|(number, _)| self.broken_at.is_none_or(|broken| *number < broken));
        self.captures = captures.into_iter().map(|(_, entry)| entry).collect();
        if !self.is_broken {
            self.unremoved = start.pruned.iter().filter_map(|pruned| pruned.published.clone()).collect();
        }
        self.pruned = start.pruned.into_iter().map(|pruned| pruned.path.to_string()).collect();
        Ok(head)
    }
}
