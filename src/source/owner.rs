//! Decides which worker a datagram is for. The filter on the group of sockets decides the same in
//! the kernel.
//!
//! The kernel gives a unicast datagram to the socket that the filter picks, and a broadcast or
//! multicast one to every socket of the group, without asking. No socket option refuses a
//! broadcast, a socket filter that did would count as drops, and asking for the destination costs
//! every datagram a control message. So each worker works out whom the filter would have picked.
//! For a unicast datagram that is the worker itself; the others' copies of the rest are counted and
//! go no further.

use std::net::Ipv6Addr;

use super::steering::Steering;
use crate::service::Steered;
use crate::sys::receive::Message;
use crate::wire::{Encapsulation, VniMask};

/// 2^32 divided by the golden ratio: Knuth's multiplicative hash.
const MIX: u32 = 0x9e37_79b1;
/// The place of the VNI in the headers of VXLAN, VXLAN-GPE and GENEVE.
const VNI: usize = 4;

/// Says whether every header of this encapsulation has the session's VNI where VXLAN has it.
pub(crate) fn has_vni_as_vxlan(encapsulation: Encapsulation) -> bool {
    matches!(encapsulation, Encapsulation::Vxlan | Encapsulation::Gpe | Encapsulation::Geneve)
}

/// What decides for all groups.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) steering: Steering,
    pub(super) vni_mask: VniMask,
}

impl Rule {
    /// Returns what the filter of a group goes by that has this encapsulation.
    pub(super) fn of(self, encapsulation: Encapsulation) -> Steered {
        match self.steering {
            Steering::Session if has_vni_as_vxlan(encapsulation) => Steered::Session { mask: self.vni_mask.bits() },
            Steering::Session => Steered::Source,
            Steering::Flow => Steered::Flow,
        }
    }
}

/// A worker's place among all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) number: u32,
    pub(super) workers: u32,
    pub(super) steering: Steering,
}

impl Owner {
    /// Says whether a datagram that came to this worker's socket is another's, where the filter of
    /// the group goes by this.
    #[inline]
    pub(super) fn is_copy(&self, message: &Message<'_>, steered: Steered) -> bool {
        if self.workers < 2 {
            return false;
        }
        let hash = match steered {
            Steered::Session { mask } => by_session(message, mask),
            Steered::Source => by_source(message, 0),
            // Where the ports are behind extension headers the filter does not know them, nor is it
            // asked: multicast over IPv6 comes to the first socket alone, and there is no
            // broadcast.
            Steered::Flow if message.over_ipv6 => return false,
            Steered::Flow => mix(u32::from(message.source_port).wrapping_mul(MIX) ^ v4(message.source)),
        };
        hash % self.workers != self.number
    }
}

/// Decides as `sys::socket::steer_by_session` has it, which ends with 0 where there is no VNI.
#[inline]
fn by_session(message: &Message<'_>, mask: u32) -> u32 {
    let Some(word) = message.payload.get(VNI..).and_then(|rest| rest.first_chunk()) else { return 0 };
    by_source(message, u32::from_be_bytes(*word) >> 8 & mask)
}

/// Decides as `sys::socket::steer_by_source` has it, where the VNI is 0.
#[inline]
fn by_source(message: &Message<'_>, vni: u32) -> u32 {
    let mut x = vni.wrapping_mul(MIX);
    if message.over_ipv6 {
        let [words @ .., _] = words(message.source);
        for word in words {
            x = (x ^ word).wrapping_mul(MIX);
        }
    }
    mix(x ^ v4(message.source))
}

#[inline]
fn mix(x: u32) -> u32 {
    x.wrapping_mul(MIX) >> 16
}

/// Returns the last word of an address: all of an IPv4 address.
#[inline]
fn v4(address: Ipv6Addr) -> u32 {
    let [.., last] = words(address);
    last
}

#[inline]
fn words(address: Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h] = address.segments();
    [[a, b], [c, d], [e, f], [g, h]].map(|[high, low]| u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Store;
    use crate::source::udp::{UdpPlan, listen};
    use crate::source::{LiveSource, Source};
    use std::net::UdpSocket;

    /// The answer about another's datagram must be that of the kernel's filter, or unicast
    /// datagrams would be taken for copies.
    #[test]
    fn no_unicast_datagram_is_taken_for_a_copy() {
        for (steering, address) in
            [Steering::Session, Steering::Flow].into_iter().flat_map(|s| [(s, "127.0.0.1"), (s, "::1")])
        {
            let socket = "[::]:0".parse().unwrap();
            let plan =
                UdpPlan { listen: vec![socket], workers: 5, steering, vni_mask: VniMask::ALL, receive_buffer: 1 << 20 };
            let mut listening = listen(&plan, &Store::default()).unwrap();
            listening.sources.iter_mut().for_each(|source| source.begin().unwrap());
            let port = listening.addresses[0].port();
            let mut sent = 0;
            for n in 0..200u32 {
                let sender = UdpSocket::bind((address, 0)).unwrap();
                // The payloads have all lengths around the VNI's, and all VNIs.
                for length in [0, 3, 7, 8, 9, 50] {
                    let payload: Vec<u8> = (0..length).map(|at| (n.wrapping_mul(at + 1) >> 3) as u8).collect();
                    sender.send_to(&payload, (address, port)).unwrap();
                    sent += 1;
                }
            }
            let mut received = Vec::new();
            for source in &mut listening.sources {
                let mut n = 0;
                while source.receive(64, &mut |_| n += 1).unwrap().datagrams() > 0 {}
                assert_eq!((source.copies(), source.kernel_dropped()), (0, 0), "{steering:?} {address}");
                received.push(n);
            }
            assert_eq!(received.iter().sum::<u64>(), sent, "{steering:?} {address}");
            assert!(received.iter().all(|n| *n > 50), "{steering:?} {address} spreads: {received:?}");
        }
    }
}
