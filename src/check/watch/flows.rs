//! Inner conversations of TCP show whether both directions are mirrored, and in which order.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::RandomState;

use crate::wire::layers::{Fragment, Ip, TcpFlags, protocol};

/// The most conversations that are followed.
pub(super) const MOST: usize = 1 << 16;
/// Acknowledgements in one direction that show that the other side answers.
const ANSWERED: u32 = 5;

/// A conversation.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    /// Segments with an acknowledgement, by direction.
    acks: [u32; 2],
    /// The sequence number behind the furthest segment, by direction.
    next: [Option<u32>; 2],
    /// The IP identification of that segment.
    id: [u16; 2],
    /// The session that brought it first, and what it was in that session.
    session: usize,
    /// Segments that the session's source sends, and those that it receives.
    of_source: [u32; 2],
}

/// The directions of a session's conversations that came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Directions {
    /// Conversations of which both came.
    pub(super) both: u32,
    /// Conversations of which one came, although the other side answers.
    pub(super) one: u32,
    /// Segments of the latter that the mirrored interface sends.
    pub(super) sent: u32,
    /// Segments of the latter that it receives.
    pub(super) received: u32,
}

/// What a segment tells about order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// It is no segment with data that can be placed.
    Unknown,
    /// It came after those before it, or was sent again.
    Right,
    /// It was sent before one that came earlier.
    Late,
}

/// An inner frame and where it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inner<'a> {
    /// The number of its session.
    pub(super) session: usize,
    /// The interface that it came over.
    pub(super) interface: u32,
    /// The outer source.
    pub(super) outer: IpAddr,
    /// The frame.
    pub(super) frame: &'a [u8],
    /// The offset at which its IP packet begins.
    pub(super) network: usize,
}

/// The conversations of all sessions.
#[derive(Debug, Default)]
pub(super) struct Flows {
    hash: RandomState,
    flows: HashMap<u64, Flow>,
}

impl Flows {
    /// Takes the IP packet of a frame.
    pub(super) fn take(&mut self, of: &Inner<'_>, ip: &Ip) -> Order {
        let &Inner { session, interface, outer, frame, network } = of;
        let Some([from, to]) = ip.ports.filter(|_| ip.protocol == protocol::TCP && ip.fragment == Fragment::Whole)
        else {
            return Order::Unknown;
        };
        let Some(sequence) = frame.get(ip.transport + 4..).and_then(|rest| rest.first_chunk()) else {
            return Order::Unknown;
        };
        let (a, b) = ((ip.source, from), (ip.destination, to));
        let direction = usize::from(a > b);
        let key = self.hash.hash_one((a.min(b), a.max(b), interface));
        if self.flows.len() >= MOST && !self.flows.contains_key(&key) {
            return Order::Unknown;
        }
        let flow = self.flows.entry(key).or_insert_with(|| Flow { session, ..Flow::default() });
        let (Some(acks), Some(next), Some(last)) =
            (flow.acks.get_mut(direction), flow.next.get_mut(direction), flow.id.get_mut(direction))
        else {
            return Order::Unknown;
        };
        *acks = acks.saturating_add(u32::from(ip.flags.any(TcpFlags::ACK) && !ip.flags.any(TcpFlags::RST)));
        let [sent, received] = &mut flow.of_source;
        *sent = sent.saturating_add(u32::from(ip.source == outer));
        *received = received.saturating_add(u32::from(ip.destination == outer));
        let length = u32::try_from(ip.end.saturating_sub(ip.payload)).unwrap_or(0);
        if length == 0 {
            return Order::Unknown;
        }
        let sequence = u32::from_be_bytes(*sequence);
        let end = sequence.wrapping_add(length);
        let id = identification(frame.get(network..).unwrap_or_default(), ip);
        let late = |next: u32| {
            sequence.wrapping_sub(next).cast_signed() < 0
                && id.is_some_and(|id| id.wrapping_sub(*last).cast_signed() < 0)
        };
        match *next {
            Some(before) if late(before) => Order::Late,
            Some(before) if end.wrapping_sub(before).cast_signed() <= 0 => Order::Right,
            _ => {
                (*next, *last) = (Some(end), id.unwrap_or(0));
                Order::Right
            }
        }
    }

    /// Returns how many conversations are followed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Returns what came of the conversations of each session that has any.
    pub(super) fn directions(&self) -> HashMap<usize, Directions> {
        let mut found: HashMap<usize, Directions> = HashMap::new();
        for flow in self.flows.values() {
            let directions = found.entry(flow.session).or_default();
            match flow.acks {
                [a, b] if a > 0 && b > 0 => directions.both += 1,
                [a, b] if a.max(b) >= ANSWERED => {
                    directions.one += 1;
                    directions.sent = directions.sent.saturating_add(flow.of_source[0]);
                    directions.received = directions.received.saturating_add(flow.of_source[1]);
                }
                _ => {}
            }
        }
        found
    }
}

/// Returns the identification of an IPv4 packet, which its sender counts up with each packet; none
/// where it does not count.
fn identification(packet: &[u8], ip: &Ip) -> Option<u16> {
    let id = u16::from_be_bytes(*packet.get(4..)?.first_chunk()?);
    (ip.source.is_ipv4() && id != 0).then_some(id)
}
