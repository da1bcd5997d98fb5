//! Reading a manifest, whoever wrote it.

use std::io::{self, BufRead};

use super::event::{Line, Link};
use super::{Digest, Hasher};

/// Bytes of a line that are kept. No line of ours comes near it; more of it would be read into memory in vain.
const LONGEST: usize = 1 << 20;

/// A line of the file.
#[derive(Debug)]
pub struct Read {
    /// Its number, from 1.
    pub number: u64,
    /// Hash of its bytes.
    pub hash: Digest,
    /// What it says, or why that cannot be read.
    pub line: Result<Line, String>,
    /// The hash of the line before that it names, where at least that can be read.
    pub previous: Option<Digest>,
}

/// The lines of a manifest, one at a time, so that its length does not matter.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    number: u64,
    end: u64,
    /// Bytes behind the last newline that was found.
    torn: u64,
}

impl<R: BufRead> Lines<R> {
    /// Lines from the beginning of a manifest.
    pub fn new(source: R) -> Self {
        Self { source, number: 0, end: 0, torn: 0 }
    }

    /// The next whole line; none at the end of the file.
    ///
    /// # Errors
    /// What reading the source returns.
    pub fn next_line(&mut self) -> io::Result<Option<Read>> {
        let (mut kept, mut hasher, mut length) = (Vec::new(), Hasher::default(), 0u64);
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
            let newline = available.iter().position(|byte| *byte == b'\n');
            let piece = &available[..newline.unwrap_or(available.len())];
            hasher.update(piece);
            // One more than allowed tells that there were more.
            kept.extend_from_slice(&piece[..piece.len().min(LONGEST + 1 - kept.len())]);
            length += piece.len() as u64;
            let used = piece.len() + usize::from(newline.is_some());
            self.source.consume(used);
            if newline.is_some() {
                break;
            }
        }
        self.number += 1;
        self.end += length + 1;
        let line = if kept.len() > LONGEST {
            Err(format!("it is longer than {LONGEST} bytes"))
        } else {
            serde_json::from_slice::<Line>(&kept).map_err(|error| error.to_string())
        };
        let previous = match &line {
            Ok(line) => Some(line.previous),
            Err(_) => serde_json::from_slice::<Link>(&kept).ok().map(|link| link.previous),
        };
        Ok(Some(Read { number: self.number, hash: hasher.finish(), line, previous }))
    }

    /// Lines so far.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of whole lines so far.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes behind the last newline, once the end of the file was reached.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Goes on with another source, which begins where the whole lines of the last one ended.
    #[must_use]
    pub fn resume<S: BufRead>(self, source: S) -> Lines<S> {
        Lines { source, number: self.number, end: self.end, torn: 0 }
    }
}
