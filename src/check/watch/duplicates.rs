//! A packet that comes twice within a short time is mirrored twice.

use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::route::dedup::write_alike;
use crate::wire::layers::Ip;

/// Packets that are remembered.
const PLACES: usize = 1 << 15;
/// The time within which the same packet is a copy: two ways through a cloud's mirroring differ by
/// some milliseconds, and TCP sends again after 200 ms at the earliest.
const WINDOW: Duration = Duration::from_millis(50);

/// Says whether a packet has come before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// As far as is remembered, it has not.
    New,
    /// It came lately, in the session of this number.
    Again(usize),
    /// It came longer ago.
    Old,
}

/// A packet that came.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    hash: u64,
    at: Duration,
    session: usize,
}

/// The packets that came lately.
#[derive(Debug)]
pub(super) struct Duplicates {
    hash: RandomState,
    places: Box<[Place]>,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self { hash: RandomState::default(), places: vec![Place::default(); PLACES].into() }
    }
}

impl Duplicates {
    /// Says whether this IP packet of a session, at offset `network` of a frame, came over this
    /// interface before. All of it is compared that came, beside the length.
    pub(super) fn sight(
        &mut self,
        session: usize,
        interface: u32,
        frame: &[u8],
        network: usize,
        ip: &Ip,
        now: Duration,
    ) -> Sight {
        let Some(packet) = frame.get(network..) else { return Sight::New };
        let length = ip.end - network.min(ip.end);
        let packet = packet.get(..length).unwrap_or(packet);
        let mut hasher = self.hash.build_hasher();
        write_alike(&mut hasher, packet, network, ip);
        (length, interface).hash(&mut hasher);
        let hash = hasher.finish();
        let Some(place) = usize::try_from(hash).ok().and_then(|hash| self.places.get_mut(hash % PLACES)) else {
            return Sight::New;
        };
        let before = std::mem::replace(place, Place { hash, at: now, session });
        match before {
            Place { hash: known, .. } if known != hash => Sight::New,
            Place { at, session, .. } if now.saturating_sub(at) < WINDOW => Sight::Again(session),
            _ => Sight::Old,
        }
    }
}
