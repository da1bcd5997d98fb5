//! A packet that is no whole datagram of a mirror is counted, or is a piece of one.

use std::net::IpAddr;

use super::counts::Counts;
use super::fragments::{Fragments, GivenUp, Outcome};
use crate::record::read::Frame;
use crate::wire::captured::{Framing, Other, part};
use crate::wire::outer::OuterError;

/// The packets of captures that are no datagrams of a mirror by themselves, and the counts of all.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    fragments: Fragments,
    pub(crate) counts: Counts,
}

/// What comes of a packet that is no whole datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing. It is counted, or waits for others.
    Nothing,
    /// It is not of a mirror, as is known by the first piece of its datagram.
    Other,
    /// It is the piece that its datagram waited for.
    Whole {
        /// The address of the sender, and the protocol.
        of: (IpAddr, u8),
        /// The bytes behind the IP header.
        bytes: Vec<u8>,
    },
}

impl Packets {
    /// Notes that a packet is not of a mirror for this reason, so that the other pieces of its
    /// datagram are known to be none. Those that came before are counted here: they are gone.
    pub(crate) fn other(&mut self, framing: Framing, frame: &Frame<'_>, reason: Other) {
        if reason == Other::NoTunnel
            && let Some(first) = part(framing, frame.data)
        {
            let mut given_up = GivenUp::default();
            let waited = self.fragments.is_other(&first, frame.timestamp, &mut given_up);
            self.counts.give_up(given_up);
            self.counts.others(reason, waited);
        }
    }

    /// Takes a packet that is no whole datagram for this reason.
    pub(crate) fn outer(&mut self, framing: Framing, frame: &Frame<'_>, reason: OuterError) -> Came {
        let part = if reason == OuterError::OuterFragment { part(framing, frame.data) } else { None };
        let Some(piece) = part else {
            self.counts.outer(reason);
            return Came::Nothing;
        };
        let mut given_up = GivenUp::default();
        let outcome = self.fragments.add(&piece, frame.timestamp, &mut given_up);
        self.counts.give_up(given_up);
        match outcome {
            Outcome::Waits => Came::Nothing,
            Outcome::Lost(frames) => {
                self.counts.give_up(GivenUp { of_mirrors: frames, unknown: 0 });
                Came::Nothing
            }
            Outcome::Other => Came::Other,
            Outcome::Whole { bytes, others } => {
                self.counts.joined += others;
                Came::Whole { of: (piece.source, piece.protocol), bytes }
            }
        }
    }

    /// Gives up the fragments that wait for others. No frame comes after this.
    pub(crate) fn end(&mut self) {
        self.counts.give_up(self.fragments.give_up());
    }
}
