//! The frames of captures are counted by what they are.

use super::fragments::GivenUp;
use crate::wire::captured::Other;
use crate::wire::outer::OuterError;

/// The counts of frames before the ledger: what they are of.
///
/// ```text
/// read = received + joined + others + outer + unknown
/// ```
///
/// `received` is the ledger's, which goes on from there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Frames read.
    pub(crate) read: u64,
    /// Fragments that were put together with the last one of their datagram.
    pub(crate) joined: u64,
    /// Frames that are not of a mirror, by reason.
    pub(crate) others: [u64; Other::ALL.len()],
    /// Frames that are of a mirror and no whole datagram, by reason.
    pub(crate) outer: [u64; OuterError::ALL.len()],
    /// Fragments of datagrams whose first piece did not come. That one has the port, so nobody
    /// knows whether they are of a mirror.
    pub(crate) unknown: u64,
}

impl Counts {
    /// Counts a frame that is not of a mirror.
    pub(crate) fn other(&mut self, reason: Other) {
        self.others(reason, 1);
    }

    /// Counts frames that are not of a mirror.
    pub(super) fn others(&mut self, reason: Other, frames: u64) {
        if let Some(count) = self.others.get_mut(reason as usize) {
            *count += frames;
        }
    }

    /// Counts a frame that is of a mirror, and no whole datagram.
    pub(crate) fn outer(&mut self, reason: OuterError) {
        self.outers(reason, 1);
    }

    /// Counts fragments whose datagram is never whole.
    pub(super) fn give_up(&mut self, fragments: GivenUp) {
        self.outers(OuterError::OuterFragment, fragments.of_mirrors);
        self.unknown += fragments.unknown;
    }

    fn outers(&mut self, reason: OuterError, frames: u64) {
        if let Some(count) = self.outer.get_mut(reason as usize) {
            *count += frames;
        }
    }

    /// Returns the reasons for which frames are not of a mirror, and how many are.
    pub(crate) fn others_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Other::ALL.into_iter().map(Other::label).zip(self.others);
        all.filter(|(_, frames)| *frames > 0)
    }

    /// Returns the reasons for which frames of a mirror are no whole datagram, and how many are.
    pub(crate) fn outers_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = OuterError::ALL.into_iter().map(OuterError::label).zip(self.outer);
        all.filter(|(_, frames)| *frames > 0)
    }

    /// Returns the frames of which nothing came, or that came with another.
    pub(crate) fn not_received(&self) -> u64 {
        self.joined + self.unknown + self.others.iter().chain(&self.outer).sum::<u64>()
    }
}
