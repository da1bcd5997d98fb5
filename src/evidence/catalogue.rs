//! The catalogue says what became of each file of a directory, by the lines of its manifest in
//! order.
//!
//! A manifest is folded here and nowhere else. The last line about a path says what became of the
//! file there, whatever earlier lines said. Whoever reads a manifest is a [`Reader`], which decides
//! what it keeps of a file and hears what is wrong with a line:
//!
//! | reader | keeps |
//! |---|---|
//! | [`Contents`](super::Contents), for a start | what the budget needs of captures |
//! | [`Manifest::captures`](super::Manifest::captures) | whole descriptions of a few captures |
//! | [`crate::verify`] | what to compare of all files, pruned ones included |
//!
//! For each line the reader is asked once what it keeps ([`Reader::file`]), where the line is about
//! a file, and is then told once how the line stands ([`Reader::line`]).

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::digest::Digest;
use super::event::{Event, Line};
use super::lines::Lines;
use super::names::{is_complete_path, is_inside};

/// The fate of a file, by a line about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The file is a capture, and there.
    Published,
    /// The file was a capture, and was removed.
    Pruned,
    /// The file is no capture, and was moved aside.
    SetAside,
}

/// The fault of a line, beside its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// The line cannot be read, for this reason.
    Unreadable(String),
    /// The line is about a path that no line of ours has.
    Path(Fate, String),
    /// The reader found the line wrong, in its own words.
    Other(String),
}

/// The standing of a line, beside what it says of files.
#[derive(Debug)]
pub struct Standing {
    /// Its number, from 1.
    pub line: u64,
    /// Hash of its bytes.
    pub hash: Digest,
    /// The hash that it names as that of the line before, where at least that can be read.
    pub named: Option<Digest>,
    /// The hash of the line before.
    pub before: Digest,
    /// Another fault that it has.
    pub wrong: Option<Wrong>,
}

/// A reader folds a manifest.
pub trait Reader {
    /// The facts that are kept of a file.
    type File;

    /// Returns what to keep of the file at `path`, of which `line` says that it met `fate`; none
    /// where it is to be forgotten. `before` is what was kept of it so far.
    ///
    /// # Errors
    /// The line is wrong, as the text says. The file is forgotten then.
    fn file(
        &mut self,
        number: u64,
        fate: Fate,
        path: &Arc<str>,
        line: Line,
        before: Option<Self::File>,
    ) -> Result<Option<Self::File>, String>;

    /// Hears how a line stands, after what it says of files was taken over.
    fn line(&mut self, standing: Standing) {
        drop(standing);
    }
}

/// The facts that are kept of each file, with the number of the line that said them.
#[derive(Debug)]
pub struct Catalogue<F> {
    /// The hash has a key of its own in each process: whoever can write lines cannot choose paths
    /// that collide.
    files: HashMap<Arc<str>, (u64, F), RandomState>,
    head: Digest,
}

impl<F> Default for Catalogue<F> {
    fn default() -> Self {
        Self { files: HashMap::default(), head: Digest::ZERO }
    }
}

impl<F> Catalogue<F> {
    /// Takes over the lines that were not read yet.
    ///
    /// # Errors
    /// The lines cannot be read.
    pub fn read(&mut self, lines: &mut Lines<impl BufRead>, reader: &mut impl Reader<File = F>) -> io::Result<()> {
        while let Some(read) = lines.next_line()? {
            let taken = match read.line {
                Ok(line) => self.take(read.number, line, reader),
                Err(error) => Err(Wrong::Unreadable(error)),
            };
            reader.line(Standing {
                line: read.number,
                hash: read.hash,
                named: read.previous,
                before: self.head,
                wrong: taken.err(),
            });
            self.head = read.hash;
        }
        Ok(())
    }

    fn take(&mut self, number: u64, line: Line, reader: &mut impl Reader<File = F>) -> Result<(), Wrong> {
        let (fate, path) = match &line.event {
            Event::Published(capture) | Event::Recovered(capture) => (Fate::Published, &*capture.path),
            Event::Pruned { path, .. } => (Fate::Pruned, &**path),
            Event::SetAside { path, .. } => (Fate::SetAside, &**path),
            Event::Lost { .. } => return Ok(()),
        };
        let is_ours = match fate {
            Fate::Published | Fate::Pruned => is_complete_path(path),
            Fate::SetAside => is_inside(path),
        };
        if !is_ours {
            return Err(Wrong::Path(fate, path.to_owned()));
        }
        let path: Arc<str> = path.into();
        let before = self.files.remove(&path).map(|(_, file)| file);
        if let Some(file) = reader.file(number, fate, &path, line, before).map_err(Wrong::Other)? {
            self.files.insert(path, (number, file));
        }
        Ok(())
    }

    /// Returns the hash of the last line; zeros where there is none.
    #[must_use]
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Returns what is kept of the file at `path`, and the number of the line that said it.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&(u64, F)> {
        self.files.get(path)
    }

    /// Says whether anything is kept of the file at `path`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Returns what is kept of all files, in the order of their lines.
    #[must_use]
    pub fn in_order(&self) -> Vec<(u64, &F)> {
        let mut files: Vec<_> = self.files.values().map(|(line, file)| (*line, file)).collect();
        files.sort_unstable_by_key(|(line, _)| *line);
        files
    }

    /// Returns what is kept of all files, in the order of their lines, for good.
    #[must_use]
    pub fn into_order(self) -> Vec<(u64, F)> {
        let mut files: Vec<_> = self.files.into_values().collect();
        files.sort_unstable_by_key(|(line, _)| *line);
        files
    }
}
