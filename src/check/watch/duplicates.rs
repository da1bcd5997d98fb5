//! A packet that comes twice within a short time is mirrored twice.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::route::dedup::{HEAD, blank};
use crate::wire::layers::Ip;

/// Packets that are remembered.
const PLACES: usize = 1 << 15;
/// The time within which the same packet is a copy: two ways through a cloud's mirroring differ by
/// some milliseconds, and TCP sends again after 200 ms at the earliest.
const WINDOW: Duration = Duration::from_millis(50);

/// The packets that came lately.
#[derive(Debug)]
pub(super) struct Duplicates {
    hash: RandomState,
    places: Box<[(u64, Duration)]>,
}

impl Default for Duplicates {
    fn default() -> Self {
        Self { hash: RandomState::default(), places: vec![(0, Duration::ZERO); PLACES].into() }
    }
}

impl Duplicates {
    /// Says whether this IP packet, at offset `network` of a frame, came over this interface
    /// lately. Its beginning is compared, beside the length.
    pub(super) fn is_again(&mut self, interface: u32, frame: &[u8], network: usize, ip: &Ip, now: Duration) -> bool {
        let Some(packet) = frame.get(network..) else { return false };
        let mut head = [0; HEAD];
        for (to, from) in head.iter_mut().zip(packet) {
            *to = *from;
        }
        blank(&mut head, network, ip);
        let hash = self.hash.hash_one((head, ip.end - network.min(ip.end), interface));
        let Some(place) = usize::try_from(hash).ok().and_then(|hash| self.places.get_mut(hash % PLACES)) else {
            return false;
        };
        let is_again = place.0 == hash && now.saturating_sub(place.1) < WINDOW;
        *place = (hash, now);
        is_again
    }
}
