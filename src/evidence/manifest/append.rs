//! Lines are appended, many at a time where many things have happened.

use std::io;

use super::file::{Manifest, RESERVE_LEFT};
use crate::evidence::digest::Digest;
use crate::evidence::event::{Event, Line};
use crate::record::Timestamp;

/// Whole lines that are not in the manifest yet.
struct Piece {
    bytes: Vec<u8>,
    lines: usize,
    /// The place at which the last of them begins.
    last: usize,
    /// The hash of the last of them.
    head: Digest,
}

impl Manifest {
    /// Appends lines in their order, and has them survive a loss of power if `sync`. Returns how
    /// many are in the manifest now, and why not all are.
    ///
    /// Lines go out in pieces that fit into what is reserved for them, so that a disk is never too
    /// full for many where it is not for one.
    pub(crate) fn append_all<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a Event>,
        sync: bool,
    ) -> (usize, io::Result<()>) {
        if let Err(error) = self.check() {
            return (0, Err(error));
        }
        let (length, last, head) = (self.length, self.last, self.head);
        let mut events = events.into_iter().peekable();
        let mut lines = 0;
        let mut result = self.unshare().and_then(|()| self.mend());
        while result.is_ok() && events.peek().is_some() {
            result = self.piece(&mut events).and_then(|piece| self.write(&piece).map(|()| lines += piece.lines));
        }
        if lines > 0
            && sync
            && let Err(error) = self.file.sync()
        {
            (self.length, self.last, self.head, self.torn) = (length, last, head, true);
            (lines, result) = (0, Err(error));
        }
        if result.is_err() {
            // Where mending fails, it is tried again before the next line.
            let _ = self.mend();
        }
        if self.reserved < RESERVE_LEFT {
            self.reserve();
        }
        (lines, result)
    }

    /// Takes the next lines, as many as fit into what is reserved, but one in any case.
    fn piece<'a>(&self, events: &mut impl Iterator<Item = &'a Event>) -> io::Result<Piece> {
        let mut piece = Piece { bytes: Vec::new(), lines: 0, last: 0, head: self.head };
        // A line is a few hundred bytes, and the last may be the first beyond the half.
        while piece.bytes.len() as u64 <= RESERVE_LEFT / 2
            && let Some(event) = events.next()
        {
            let line = serde_json::to_vec(&Line { time: Timestamp::now(), event, previous: piece.head })?;
            (piece.head, piece.last) = (Digest::of(&line), piece.bytes.len());
            piece.bytes.extend_from_slice(&line);
            piece.bytes.push(b'\n');
            piece.lines += 1;
        }
        Ok(piece)
    }

    /// Writes whole lines, in one piece unless the storage takes less. The rest is then written by
    /// itself, which tells why.
    fn write(&mut self, piece: &Piece) -> io::Result<()> {
        if self.reserved < RESERVE_LEFT {
            self.reserve();
        }
        self.torn = true;
        self.file.write_all(&piece.bytes)?;
        self.file.flush()?;
        self.torn = false;
        let bytes = piece.bytes.len() as u64;
        self.last = self.length + piece.last as u64;
        self.length += bytes;
        self.reserved = self.reserved.saturating_sub(bytes);
        self.head = piece.head;
        Ok(())
    }
}
