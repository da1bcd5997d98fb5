//! Somebody may change, remove or replace a manifest while this process has it.
//!
//! The lock keeps no editor, `tee -a`, `truncate` or `rm` from the file. A line that is appended
//! behind such a change would vouch for it, or be torn from the line before; one in a file that has
//! lost its name would be read by nobody. So before each write, and once a second, the file has to
//! have its name, and the length and the last line that were written last. That takes two looks at
//! files, and a read of a few hundred bytes.
//!
//! A change of earlier lines that keeps the length is not looked for here. The time of the last
//! change would tell, but also after a `touch`, and differently on network file systems, and all
//! lines would have to be read to know. The chain shows such a change, to the next start and to
//! `vxtap verify`.

use std::io;
use std::os::unix::fs::FileExt;

use super::file::Manifest;
use crate::evidence::digest::Digest;

/// A difference between the manifest and what this process has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Edited {
    /// The name differs: another file has it, or none.
    #[error("it was removed or replaced, alone or with its directory")]
    Name,
    /// The length differs.
    #[error("the manifest has {found} bytes, and {written} were written")]
    Length {
        /// The length of the lines that were written.
        written: u64,
        /// The length of the file.
        found: u64,
    },
    /// The last line differs.
    #[error("the manifest's last line is another: its hash is {found}, and that of the one written was {written}")]
    LastLine {
        /// Hash of the line that was written.
        written: Digest,
        /// Hash of the line that is in its place.
        found: Digest,
    },
}

impl Manifest {
    /// Looks whether somebody changed the manifest, and how. Returns none also where the file
    /// cannot be looked at.
    #[must_use]
    pub(crate) fn edited(&self) -> Option<Edited> {
        if !self.has_its_name() {
            return Some(Edited::Name);
        }
        let found = self.lock.metadata().ok()?.len();
        // An append that failed has left bytes whose number is not known.
        if found < self.length || (found > self.length && !self.torn) {
            return Some(Edited::Length { written: self.length, found });
        }
        let length = usize::try_from(self.length.saturating_sub(self.last)).ok()?;
        let mut line = vec![0; length];
        self.lock.read_exact_at(&mut line, self.last).ok()?;
        let found = match line.split_last() {
            None => return None,
            Some((b'\n', line)) => Digest::of(line),
            Some(_) => Digest::of(&line),
        };
        (found != self.head).then_some(Edited::LastLine { written: self.head, found })
    }

    /// Fails where somebody changed the manifest.
    pub(super) fn check(&self) -> io::Result<()> {
        self.edited().map_or(Ok(()), |edited| Err(io::Error::other(edited)))
    }
}
