//! A manifest is read here, whoever wrote it.

use std::io::{self, BufRead};

use serde::de::DeserializeOwned;

use super::digest::{Digest, Hasher};
use super::event::{Line, Link};

/// Name of the manifest in its directory.
pub const NAME: &str = "manifest.jsonl";

/// Bytes of a line that are kept. No line of ours comes near that length; more of a longer line
/// would be read into memory in vain.
const LONGEST: usize = 1 << 20;

/// A line of the file.
#[derive(Debug)]
pub struct Read {
    /// Its number, from 1.
    pub number: u64,
    /// Hash of its bytes.
    pub hash: Digest,
    /// The content of the line, or why that cannot be read.
    pub line: Result<Line, String>,
    /// The hash of the line before that it names, where at least that can be read.
    pub previous: Option<Digest>,
}

/// A line as it is in the file.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) number: u64,
    pub(super) hash: Digest,
    /// One more than [`LONGEST`] where there are more.
    bytes: &'a [u8],
}

impl Raw<'_> {
    /// Returns what the line says, or why that cannot be read.
    pub(super) fn parse<L: DeserializeOwned>(&self) -> Result<L, String> {
        if self.bytes.len() > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        serde_json::from_slice(self.bytes).map_err(|error| error.to_string())
    }

    /// Returns the hash of the line before that the line names, where at least that can be read.
    pub(super) fn previous(&self) -> Option<Digest> {
        self.parse::<Link>().ok().map(|link| link.previous)
    }
}

/// The lines of a manifest, one at a time, so that its length does not matter.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    /// The line read last.
    line: Vec<u8>,
    number: u64,
    end: u64,
    /// The place at which the line read last begins.
    begin: u64,
    /// Bytes behind the last newline that was found.
    torn: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads lines from the beginning of a manifest.
    pub fn new(source: R) -> Self {
        Self { source, line: Vec::new(), number: 0, end: 0, begin: 0, torn: 0 }
    }

    /// Returns the next whole line; none at the end of the file.
    ///
    /// # Errors
    /// The source cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Read>> {
        let Some(raw) = self.next_bytes()? else { return Ok(None) };
        let line = raw.parse::<Line>();
        let previous = line.as_ref().map_or_else(|_| raw.previous(), |line| Some(line.previous));
        Ok(Some(Read { number: raw.number, hash: raw.hash, line, previous }))
    }

    /// Returns the next whole line, before anybody looked at what it says.
    pub(super) fn next_bytes(&mut self) -> io::Result<Option<Raw<'_>>> {
        let (mut hasher, mut length) = (Hasher::default(), 0u64);
        self.line.clear();
        loop {
            let available = match self.source.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                self.torn = length;
                return Ok(None);
            }
            let newline = memchr::memchr(b'\n', available);
            let piece = &available[..newline.unwrap_or(available.len())];
            hasher.update(piece);
            self.line.extend_from_slice(&piece[..piece.len().min(LONGEST + 1 - self.line.len())]);
            length += piece.len() as u64;
            let used = piece.len() + usize::from(newline.is_some());
            self.source.consume(used);
            if newline.is_some() {
                break;
            }
        }
        self.number += 1;
        self.begin = self.end;
        self.end += length + 1;
        Ok(Some(Raw { number: self.number, hash: hasher.finish(), bytes: &self.line }))
    }

    /// Returns how many lines there were so far.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the place at which the last of the lines begins.
    #[must_use]
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// Returns how many bytes the whole lines had so far.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns how many bytes lie behind the last newline, once the end of the file was reached.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Goes on with another source, which begins where the whole lines of the last one ended.
    #[must_use]
    pub fn resume<S: BufRead>(self, source: S) -> Lines<S> {
        Lines { source, line: self.line, number: self.number, end: self.end, begin: self.begin, torn: 0 }
    }
}
