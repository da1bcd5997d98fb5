//! What a manifest tells of its directory, as a sensor needs it at its start.
//!
//! Whoever can write to the manifest can have the next start remove files, since that completes
//! removals that were put on record. So it removes no more than the archive itself would have: what
//! an earlier line published, under a name as captures have it, with the hash of that line. And
//! nothing at all where one line does not follow from the one before, since all that a manifest has
//! behind a break, or before it, may be another's.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead};
use std::sync::Arc;

use serde::Deserialize;

use super::digest::Digest;
use super::event::Capture;
use super::file_hash::{Blake3, Fields, FileHash};
use super::lines::{Lines, NAME};
use super::names::{is_complete_path, is_removable_path};
use crate::record::Timestamp;

/// Captures that were pruned last, of which one may be there still.
const PRUNED_LAST: usize = 1000;

/// Unreadable lines that are named one by one.
const NAMED: u64 = 10;

/// A published capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, relative to the directory of the manifest.
    pub path: Arc<str>,
    /// Bytes of the file.
    pub bytes: u64,
    /// By which it is old: the time of its last frame, or of its line where it has no frames.
    pub last: Timestamp,
    /// Hash of its bytes; none where it was not hashed.
    pub hash: Option<FileHash>,
}

impl Entry {
    /// That of a capture whose line was written at `published`.
    #[must_use]
    pub fn of(capture: &Capture, published: Timestamp) -> Self {
        let last = if capture.frames == 0 { published } else { capture.last };
        Entry { path: capture.path.as_str().into(), bytes: capture.bytes, last, hash: capture.hash }
    }
}

/// What a manifest tells of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Captures that were published and not pruned since, in the order of their lines. Some may not have their name yet, some may be
    /// gone. Paths are those of complete captures, none twice.
    pub captures: Vec<Entry>,
    /// How many of these, from the first, have a line in front of any break in the chain: what a line
    /// behind one names may be another's file.
    pub chained: usize,
    /// The first line behind another that does not name its hash. What stood before the first line is
    /// not known, and breaks nothing between lines.
    pub broken_at: Option<u64>,
    /// Paths of the captures that were pruned last, of which one may be there still.
    pub pruned: Vec<String>,
    /// Those of them that are to be removed if they are there, as their lines published them.
    pub unremoved: Vec<Entry>,
    /// Whether a line does not follow from the one before, or cannot tell. Then nothing is to be
    /// removed for what a line says.
    pub is_broken: bool,
    /// What is wrong with the manifest, for people to read; nothing of it keeps a sensor from going on.
    pub complaints: Vec<String>,
}

/// A line with the fields that matter here: there may be a million, and who starts waits for them.
#[derive(Debug, Deserialize)]
struct Brief {
    time: Timestamp,
    event: Kind,
    path: Option<String>,
    frames: Option<u64>,
    bytes: Option<u64>,
    last: Option<Timestamp>,
    sha256: Option<Digest>,
    blake3: Option<Blake3>,
    previous: Digest,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Published,
    Recovered,
    Pruned,
    SetAside,
    Lost,
}

/// What became of a file.
enum Change {
    Published(Entry),
    Pruned(String, Option<FileHash>),
    Nothing,
}

/// A capture that was pruned, with what published it before, where that is known.
struct Pruned {
    path: String,
    published: Option<Entry>,
}

impl Brief {
    /// What it means, or what is wrong with its fields.
    fn change(self) -> Result<Change, &'static str> {
        let missing = "a field is missing";
        Ok(match self.event {
            Kind::Published | Kind::Recovered => {
                let last = if self.frames.ok_or(missing)? == 0 { self.time } else { self.last.ok_or(missing)? };
                let hash = Fields { sha256: self.sha256, blake3: self.blake3 }.hash()?;
                let (path, bytes) = (self.path.ok_or(missing)?.into(), self.bytes.ok_or(missing)?);
                Change::Published(Entry { path, bytes, last, hash })
            }
            Kind::Pruned => {
                let hash = Fields { sha256: self.sha256, blake3: self.blake3 }.hash()?;
                Change::Pruned(self.path.ok_or(missing)?, hash)
            }
            Kind::SetAside | Kind::Lost => Change::Nothing,
        })
    }
}

impl Contents {
    /// Reads all lines and returns the hash of the last.
    pub(super) fn read(&mut self, lines: &mut Lines<impl BufRead>) -> io::Result<Digest> {
        let mut head = Digest::ZERO;
        let mut captures: HashMap<Arc<str>, (u64, Entry)> = HashMap::new();
        let mut pruned = VecDeque::new();
        let mut wrong = 0;
        while let Some(line) = lines.next_bytes()? {
            let (number, hash) = (line.number, line.hash);
            let brief = line.parse::<Brief>();
            let previous = brief.as_ref().map_or_else(|_| line.previous(), |brief| Some(brief.previous));
            let follows = previous.is_none_or(|previous| previous == head);
            if previous != Some(head) {
                self.is_broken = true;
                self.broken_at = self.broken_at.or((number > 1).then_some(number));
            }
            head = hash;
            let change = brief.and_then(|brief| brief.change().map_err(str::to_owned));
            let complaint = match change {
                Ok(Change::Published(entry)) if !is_complete_path(&entry.path) => {
                    Some(format!("names a file that is no capture, {:?}", entry.path))
                }
                Ok(Change::Published(entry)) => {
                    // A file whose bytes a loss of power took is salvaged under its old name.
                    captures.insert(Arc::clone(&entry.path), (number, entry));
                    None
                }
                Ok(Change::Pruned(path, hash)) => {
                    let published = captures.remove(&*path).map(|(_, entry)| entry);
                    let complaint = match &published {
                        _ if !is_complete_path(&path) => Some(format!("prunes what is no capture, {path:?}")),
                        None => Some(format!("prunes a capture that no line before it published, {path:?}")),
                        Some(entry) if entry.hash != hash => {
                            Some(format!("prunes another capture than was published as {path:?}"))
                        }
                        Some(_) => None,
                    };
                    let published = published.filter(|_| complaint.is_none() && is_removable_path(&path));
                    pruned.push_back(Pruned { path, published });
                    if pruned.len() > PRUNED_LAST {
                        pruned.pop_front();
                    }
                    complaint
                }
                Ok(Change::Nothing) => None,
                Err(error) => Some(format!("cannot be read: {error}")),
            };
            let complaint = complaint.or_else(|| (!follows).then(|| "does not follow from the one before".into()));
            if let Some(complaint) = complaint {
                wrong += 1;
                if wrong <= NAMED {
                    self.complaints.push(format!("line {number} of {NAME} {complaint}"));
                }
            }
        }
        if wrong > NAMED {
            self.complaints.push(format!("{} more lines of {NAME} are wrong: see `vxtap verify`", wrong - NAMED));
        }
        // A name can come again, as when the clock was set back: the file that has it now was not pruned.
        pruned.retain(|pruned: &Pruned| !captures.contains_key(&*pruned.path));
        let mut captures: Vec<_> = captures.into_values().collect();
        captures.sort_unstable_by_key(|(number, _)| *number);
        self.chained = captures.partition_point(|(number, _)| self.broken_at.is_none_or(|broken| *number < broken));
        self.captures = captures.into_iter().map(|(_, entry)| entry).collect();
        if !self.is_broken {
            self.unremoved = pruned.iter().filter_map(|pruned| pruned.published.clone()).collect();
        }
        self.pruned = pruned.into_iter().map(|pruned| pruned.path).collect();
        Ok(head)
    }
}
