//! Datagrams that come in fragments are whole once all fragments have come.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::sys::packet::Packet;
use crate::wire::layers::{Fragment, Ip};

/// The most datagrams of which fragments are waited for.
pub(super) const MOST: usize = 4096;
/// The time after which a fragment that has not come is lost. On one path they follow each other
/// within milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// The interface and the fields by which fragments of a datagram are told from others: the same
/// fragment can pass a bond and the card below it.
type Key = (u32, IpAddr, IpAddr, u32);

/// A datagram of which something has come.
#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    since: Duration,
    /// Bytes that have come.
    bytes: usize,
    /// Bytes that there are, once the last fragment has come.
    total: Option<usize>,
    /// True once the first fragment has come and is for a port of ours.
    ours: bool,
}

/// Datagrams that came in fragments over one interface.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fragmented {
    /// Datagrams for ports of ours of which all fragments have come.
    pub(super) whole: u64,
    /// Datagrams for ports of ours that lack a fragment.
    pub(super) lost: u64,
    /// Bytes of the largest IP packet that was a fragment, which is what the path carries.
    pub(super) largest: usize,
    /// True where that is one of IPv6.
    pub(super) ipv6: bool,
}

impl Fragmented {
    /// Returns how many of all there are.
    pub(super) fn all(&self) -> u64 {
        self.whole + self.lost
    }
}

/// The fragments of datagrams.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    pending: HashMap<Key, Pending>,
    came: HashMap<u32, Fragmented>,
}

impl Fragments {
    /// Takes a fragment, `ours` where it is a first one for a port of ours. It returns true where
    /// the datagram is ours and whole by it.
    pub(super) fn take(&mut self, packet: &Packet<'_>, ip: &Ip, ours: bool, now: Duration) -> bool {
        let Some((place, length)) = ip.place(packet.bytes, 0).zip(ip.end.checked_sub(ip.transport)) else {
            return false;
        };
        let key = (packet.interface, ip.source, ip.destination, place.id);
        if self.pending.len() >= MOST && !self.pending.contains_key(&key) {
            return false;
        }
        let pending = self.pending.entry(key).or_insert(Pending { since: now, ..Pending::default() });
        pending.bytes += length;
        if place.is_last {
            pending.total = Some(place.offset + length);
        }
        if ip.fragment == Fragment::First {
            pending.ours = ours;
            if ours {
                let came = self.came.entry(packet.interface).or_default();
                came.ipv6 = ip.source.is_ipv6();
                came.largest = came.largest.max(ip.end);
            }
        }
        let is_whole = pending.total == Some(pending.bytes);
        let ours = pending.ours;
        if is_whole {
            self.pending.remove(&key);
            if ours {
                self.came.entry(packet.interface).or_default().whole += 1;
            }
        }
        is_whole && ours
    }

    /// Returns how many datagrams are waited for.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns what came over the interface that brought the most of it, with its number.
    pub(super) fn most(&self) -> (u32, Fragmented) {
        let most = self.came.iter().max_by_key(|(_, came)| came.all());
        most.map(|(interface, came)| (*interface, *came)).unwrap_or_default()
    }

    /// Gives up datagrams that have waited too long.
    pub(super) fn expire(&mut self, now: Duration) {
        let came = &mut self.came;
        self.pending.retain(|(interface, ..), pending| {
            let waits = now.saturating_sub(pending.since) < PATIENCE;
            if !waits && pending.ours {
                came.entry(*interface).or_default().lost += 1;
            }
            waits
        });
    }
}
