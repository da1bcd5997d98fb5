//! The writer of captures hands files over to the archive, and hears back what is gone.

use std::collections::BTreeMap;
use std::path::Path;

use super::plan::{ArchivePlan, Encoding};
use super::room::Claim;
use crate::evidence::names::Names;
use crate::evidence::{Capture, FileHash};
use crate::ledger::OutputDrop;
use crate::record::Timestamp;
use crate::session::{Session, Tag};
use crate::storage::{Changed, Identity, Storage, changed};

/// Number of a file among those that this process writes.
pub(crate) type FileNumber = u64;

/// A task for the archive.
#[derive(Debug)]
pub(super) enum Task {
    /// Publish a complete file.
    Publish(Box<Closed>),
    /// Salvage a file that could not be completed.
    Salvage(Broken),
    /// Put on record what was lost and belongs to no file.
    Lost(Option<Session>, Losses),
    /// Go by another plan from here on. What was handed over before is done by then.
    Replan(Box<Replan>),
}

/// Another plan for the files that come from now on.
#[derive(Debug)]
pub(super) struct Replan {
    pub(super) plan: ArchivePlan,
    pub(super) encoding: Encoding,
}

/// Frames of a session that were lost, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Losses([u64; OutputDrop::ALL.len()]);

impl Losses {
    /// Adds frames.
    pub(crate) fn add(&mut self, reason: OutputDrop, frames: u64) {
        self.0[reason as usize] += frames;
    }

    /// Returns the sum of all.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns those that are not zero, by the labels of the ledger.
    #[must_use]
    pub(crate) fn by_label(&self) -> BTreeMap<String, u64> {
        let all = OutputDrop::ALL.iter().zip(self.0);
        all.filter(|(_, frames)| *frames > 0).map(|(reason, frames)| (reason.label().to_owned(), frames)).collect()
    }
}

/// A file that is complete and still has its part name.
#[derive(Debug)]
pub(crate) struct Closed {
    /// Its names.
    pub names: Names,
    /// The file's identity, whatever has its name.
    pub file: Identity,
    /// The session whose frames it has; none for the sessions beyond the limit.
    pub session: Option<Session>,
    /// The tag that the session has on interfaces.
    pub tag: Option<Tag>,
    /// The earliest and the latest receive time of a frame.
    pub span: (Timestamp, Timestamp),
    /// Frames in it.
    pub frames: u64,
    /// Bytes of these frames.
    pub frame_bytes: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Frames of the session lost since the file before.
    pub losses: Losses,
    /// Datagrams of all sessions that the kernel dropped in the span of the file.
    pub kernel_dropped: u64,
    /// The number under which its bytes were hashed, if they were; none where the file holds
    /// others.
    pub number: Option<FileNumber>,
    /// Hash of its bytes, once it is known.
    pub hash: Option<FileHash>,
    /// The content of its line, once that is in the manifest.
    pub announced: Option<Capture>,
    /// The way in which it is encoded, where that of now is for later files.
    pub encoding: Option<Encoding>,
    /// Its bytes in the budget, since it was handed over.
    pub claim: Option<Claim>,
}

impl Closed {
    /// Looks what has the name `path` in place of the file as it was written, if anything.
    pub(super) fn changed(&self, storage: &dyn Storage, path: &Path) -> Option<Changed> {
        changed(storage, path, &self.file, self.bytes..=self.bytes)
    }

    /// Returns the frames that the file holds.
    pub(super) fn holds(&self) -> Gone {
        Gone { session: self.session, frames: self.frames, frame_bytes: self.frame_bytes }
    }
}

/// Frames that were written to a file which somebody removed, or changed, before it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Their session; none for the sessions beyond the limit.
    pub session: Option<Session>,
    /// Frames.
    pub frames: u64,
    /// Bytes of them.
    pub frame_bytes: u64,
}

impl Gone {
    /// Returns the source and the VNI of the session, as log lines have them.
    pub(super) fn whose(&self) -> (Option<String>, Option<u32>) {
        let session = self.session.as_ref();
        (session.map(|session| session.address().to_string()), session.map(|session| session.vni.get()))
    }
}

/// A file that could not be completed.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Its names.
    pub names: Names,
    /// The file's identity, whatever has its name.
    pub file: Identity,
    /// Bytes of the file that count as written.
    pub written: u64,
    /// The frames that these bytes hold.
    pub holds: Gone,
    /// Its bytes in the budget, since it was handed over.
    pub claim: Option<Claim>,
}

impl Broken {
    /// Looks what has the file's name in its place, if anything. Where `length` is to be looked at,
    /// a file that is shorter than what counts as written is another, too.
    pub(super) fn changed(&self, storage: &dyn Storage, length: bool) -> Option<Changed> {
        let least = if length { self.written } else { 0 };
        changed(storage, &self.names.part, &self.file, least..=u64::MAX)
    }
}
