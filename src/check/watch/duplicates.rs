//! A packet that comes twice within a short time is mirrored twice.

use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::wire::layers::{Fragment, Ip, protocol};

/// Packets that are remembered.
const PLACES: usize = 1 << 15;
/// The time within which the same packet is a copy: two ways through a cloud's mirroring differ by
/// some milliseconds, and TCP sends again after 200 ms at the earliest.
const WINDOW: Duration = Duration::from_millis(50);
/// Bytes from the IP header on that are compared, beside the length.
const COMPARED: usize = 128;

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
    /// lately.
    pub(super) fn is_again(&mut self, interface: u32, frame: &[u8], network: usize, ip: &Ip, now: Duration) -> bool {
        let Some(packet) = frame.get(network..) else { return false };
        let mut head = [0; COMPARED];
        for (to, from) in head.iter_mut().zip(packet) {
            *to = *from;
        }
        let checksum = match ip.protocol {
            protocol::TCP if ip.fragment != Fragment::Later => Some(ip.transport + 16),
            protocol::UDP if ip.fragment != Fragment::Later => Some(ip.transport + 6),
            _ => None,
        };
        // What routers and network cards change: TTL or hop limit, and checksums.
        let of_ip = if ip.source.is_ipv4() { [8, 10, 11] } else { [7; 3] };
        let of_transport = checksum.map(|at| at.saturating_sub(network)).map(|at| [at, at + 1]);
        for at in of_ip.into_iter().chain(of_transport.into_iter().flatten()) {
            if let Some(byte) = head.get_mut(at) {
                *byte = 0;
            }
        }
        let hash = self.hash.hash_one((head, ip.end - network.min(ip.end), interface));
        let Some(place) = usize::try_from(hash).ok().and_then(|hash| self.places.get_mut(hash % PLACES)) else {
            return false;
        };
        let is_again = place.0 == hash && now.saturating_sub(place.1) < WINDOW;
        *place = (hash, now);
        is_again
    }
}
