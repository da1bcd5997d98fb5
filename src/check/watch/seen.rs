//! What is seen of packets is gathered here, in tables that have a bound.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::duplicates::{Duplicates, Sight};
use super::flows::{Flows, Inner, Order};
use super::fragments::Fragments;
use crate::source::{Allowed, Listener};
use crate::sys::packet::Packet;
use crate::wire::layers::{Fragment, Ip, Layers, protocol};
use crate::wire::{Decapsulated, DropReason, Encapsulation, Vni, VniMask, address, vxlan};

/// The most sessions that are told apart.
pub(super) const MOST_SESSIONS: usize = 4096;
/// The most addresses and ports beside those of the sensor that are told apart.
pub(super) const MOST_ELSEWHERE: usize = 256;
/// Frames that are many of a kind.
const MANY: u64 = 10;
/// The smallest MTU that a link for IPv4 is to have (RFC 791), and the headers of VXLAN in it.
const SMALLEST_MTU: u32 = 576;
const OUTER: u32 = 50;
/// The port of GENEVE (RFC 8926).
const GENEVE_PORT: u16 = 6081;

/// What tells sessions apart here: the same datagram can pass a bond and the card below it.
type Key = (u32, Ipv6Addr, Vni);

/// A session, as far as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Its place among the sessions, in the order in which they came.
    pub(super) number: usize,
    /// The port that its first datagram came to.
    pub(super) port: u16,
    /// The number of the interface.
    pub(super) interface: u32,
    /// The outer source.
    pub(super) source: IpAddr,
    pub(super) vni: Vni,
    /// Says whether the list lets it in.
    pub(super) let_in: bool,
    pub(super) frames: u64,
    /// Bytes of the frames.
    pub(super) bytes: u64,
    /// Bytes of the largest frame.
    pub(super) largest: u32,
    /// Frames that are shorter than their packet was.
    pub(super) cut: u64,
    /// Bytes of the largest of these, and of the packet in it.
    pub(super) cut_at: (u32, u32),
    /// Bytes of the smallest of these.
    pub(super) cut_least: u32,
    /// Frames that came in fragments.
    pub(super) fragmented: u64,
    /// Frames that came before, and those of them that came in this session.
    pub(super) again: u64,
    pub(super) again_here: u64,
    /// Segments of TCP with data, and those of them that came late.
    pub(super) segments: u64,
    pub(super) late: u64,
}

impl Session {
    /// Says whether its frames are cut because somebody asked for that: many at one length for
    /// which no link is too small.
    pub(super) fn is_cut_by_request(&self) -> bool {
        self.cut >= MANY && self.cut_at.0 == self.cut_least && self.cut_at.0 < SMALLEST_MTU - OUTER
    }

    /// Returns the source, where IPv4 is IPv4-mapped IPv6.
    pub(super) fn mapped(&self) -> Ipv6Addr {
        mapped(self.source)
    }
}

fn mapped(source: IpAddr) -> Ipv6Addr {
    match source {
        IpAddr::V4(source) => source.to_ipv6_mapped(),
        IpAddr::V6(source) => source,
    }
}

/// The encapsulation of what comes where nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Vxlan,
    Geneve,
}

/// Datagrams for an address and port beside those of the sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Elsewhere {
    pub(super) datagrams: u64,
    /// The source of the first.
    pub(super) source: IpAddr,
    /// The VNI of the first; none where it is not VXLAN.
    pub(super) vni: Option<Vni>,
    /// The interface of the first.
    pub(super) interface: u32,
}

/// Datagrams for the sensor's addresses and ports that came over one interface.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Arrived {
    /// Those that came whole, or all of whose fragments came.
    pub(super) datagrams: u64,
    /// Those that came whole.
    pub(super) whole: u64,
    /// Those that yield no frame, and why the first does not.
    pub(super) no_frame: u64,
    pub(super) why: Option<DropReason>,
    /// The address and the port that the last is for.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    /// The source of the last.
    pub(super) source: Option<IpAddr>,
    /// The source of the last that yields no frame.
    pub(super) stranger: Option<IpAddr>,
}

/// Who is meant by packets.
#[derive(Debug)]
pub(super) struct Ours {
    /// The addresses that the sensor listens on.
    pub(super) listen: Vec<Listener>,
    /// The addresses of this host.
    pub(super) addresses: Vec<IpAddr>,
    /// True where the sensor takes datagrams for its ports whatever address they are for.
    pub(super) any_address: bool,
    pub(super) allowed: Allowed,
    /// The bits of a VNI that name the network.
    pub(super) vni_mask: VniMask,
}

impl Ours {
    /// Returns what the sensor listens for on this address and port; none where it does not.
    fn hears(&self, address: IpAddr, port: u16) -> Option<Encapsulation> {
        let hears = |Listener { address: listen, .. }: &&Listener| {
            let is_any = listen.ip().is_unspecified() && (listen.is_ipv6() || address.is_ipv4());
            listen.port() == port && (self.any_address || is_any || listen.ip() == address)
        };
        self.listen.iter().find(hears).map(|listener| listener.encapsulation)
    }

    /// Says whether an address is one of this host, or of a group.
    fn is_local(&self, address: IpAddr) -> bool {
        let is_group = match address {
            IpAddr::V4(address) => address.is_broadcast() || address.is_loopback(),
            IpAddr::V6(address) => address.is_loopback(),
        };
        is_group || address.is_multicast() || self.addresses.contains(&address)
    }
}

/// The datagram of a frame.
#[derive(Debug, Clone, Copy)]
struct Of {
    interface: u32,
    source: IpAddr,
    port: u16,
    /// False where it came in fragments.
    is_whole: bool,
}

/// All that is seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) ours: Ours,
    /// Packets, of whatever kind.
    pub(super) packets: u64,
    pub(super) arrived: HashMap<u32, Arrived>,
    pub(super) sessions: Vec<Session>,
    numbers: HashMap<Key, usize>,
    /// Frames of sessions beyond those that are told apart.
    pub(super) beyond: u64,
    /// Where nobody listens, as far as the configuration says.
    pub(super) elsewhere: HashMap<(Kind, IpAddr, u16), Elsewhere>,
    /// Datagrams for ports of the sensor and for addresses that are not of this host.
    pub(super) of_others: HashMap<(IpAddr, u16), Elsewhere>,
    /// Messages of this host that nobody listens on a port.
    pub(super) unreachable: u64,
    pub(super) fragments: Fragments,
    pub(super) flows: Flows,
    duplicates: Duplicates,
}

impl Seen {
    pub(super) fn new(ours: Ours) -> Self {
        Self {
            ours,
            packets: 0,
            arrived: HashMap::new(),
            sessions: Vec::new(),
            numbers: HashMap::new(),
            beyond: 0,
            elsewhere: HashMap::new(),
            of_others: HashMap::new(),
            unreachable: 0,
            fragments: Fragments::default(),
            flows: Flows::default(),
            duplicates: Duplicates::default(),
        }
    }

    /// Takes a packet that passed at this time.
    pub(super) fn packet(&mut self, packet: &Packet<'_>, now: Duration) {
        self.packets += 1;
        let Some(ip) = Layers::of_ip(packet.bytes).ip else { return };
        match ip.protocol {
            protocol::ICMP | protocol::ICMPV6 if packet.sent => {
                // Destination unreachable: port.
                let is = if ip.source.is_ipv4() { [3, 3] } else { [1, 4] };
                self.unreachable +=
                    u64::from(packet.bytes.get(ip.transport..).is_some_and(|icmp| icmp.starts_with(&is)));
            }
            protocol::UDP if !packet.sent && (!packet.to_others || self.ours.any_address) => self.udp(packet, &ip, now),
            _ => {}
        }
    }

    fn udp(&mut self, packet: &Packet<'_>, ip: &Ip, now: Duration) {
        let Some([_, port]) = ip.ports else {
            self.part(packet, ip, false, now);
            return;
        };
        let Some(length) = packet.bytes.get(ip.transport + 4..).and_then(|rest| rest.first_chunk()) else { return };
        let Some(arrived) = usize::from(u16::from_be_bytes(*length)).checked_sub(8) else { return };
        let payload = packet.bytes.get(ip.payload..).unwrap_or_default();
        let payload = payload.get(..arrived).unwrap_or(payload);
        let at = Elsewhere { datagrams: 1, source: ip.source, vni: None, interface: packet.interface };
        if !self.ours.any_address && !self.ours.is_local(ip.destination) {
            if self.ours.listen.iter().any(|listen| listen.address.port() == port) {
                count(&mut self.of_others, (ip.destination, port), at);
            }
            return;
        }
        let Some(listens_for) = self.ours.hears(ip.destination, port) else {
            if let Some((kind, vni)) = encapsulation(payload, arrived, port) {
                count(&mut self.elsewhere, (kind, ip.destination, port), Elsewhere { vni, ..at });
            }
            return;
        };
        let is_whole = ip.fragment == Fragment::Whole;
        if !is_whole {
            self.part(packet, ip, true, now);
        }
        let at = self.arrived.entry(packet.interface).or_default();
        at.datagrams += u64::from(is_whole);
        at.whole += u64::from(is_whole);
        (at.address, at.port, at.source) = (Some(ip.destination), port, Some(ip.source));
        match listens_for.decapsulate(payload, arrived) {
            Ok(inner) => {
                let source = inner.source.map_or(ip.source, address::in_packet);
                self.frame(&Of { interface: packet.interface, source, port, is_whole }, &inner, now)
            }
            // Messages of a sender that is there.
            Err(DropReason::KeepAlive | DropReason::ControlMessage) => {}
            Err(why) => {
                at.no_frame += 1;
                at.stranger = Some(ip.source);
                at.why.get_or_insert(why);
            }
        }
    }

    /// Takes a fragment, which may make a datagram whole.
    fn part(&mut self, packet: &Packet<'_>, ip: &Ip, ours: bool, now: Duration) {
        if ip.fragment != Fragment::Whole && self.fragments.take(packet, ip, ours, now) {
            self.arrived.entry(packet.interface).or_default().datagrams += 1;
        }
    }

    fn frame(&mut self, of: &Of, inner: &Decapsulated<'_>, now: Duration) {
        let &Of { interface, source, port, is_whole } = of;
        let Some(number) = self.number(interface, source, self.ours.vni_mask.of(inner.vni), port) else {
            self.beyond += 1;
            return;
        };
        let Some(session) = self.sessions.get_mut(number) else { return };
        let layers = match inner.bare {
            None => Layers::of(inner.frame, inner.link_type),
            Some(_) => Layers::of_ip(inner.frame),
        };
        session.frames += 1;
        session.bytes += u64::from(inner.arrived);
        session.largest = session.largest.max(inner.arrived);
        session.fragmented += u64::from(!is_whole);
        if inner.original > inner.arrived {
            session.cut_least = if session.cut == 0 { inner.arrived } else { session.cut_least.min(inner.arrived) };
            session.cut += 1;
            let network = u32::try_from(layers.network).unwrap_or(0);
            session.cut_at = session.cut_at.max((inner.arrived, inner.arrived.saturating_sub(network)));
        }
        let Some(ip) = layers.ip else { return };
        match self.duplicates.sight(number, interface, inner.frame, layers.network, &ip, now) {
            Sight::New => {}
            Sight::Again(first) => {
                session.again += 1;
                session.again_here += u64::from(first == number);
                return;
            }
            // It says nothing of the order: it is a copy that took its time, or was sent again.
            Sight::Old => return,
        }
        let of = Inner { session: number, interface, outer: source, frame: inner.frame, network: layers.network };
        match self.flows.take(&of, &ip) {
            Order::Unknown => {}
            Order::Right => session.segments += 1,
            Order::Late => {
                session.segments += 1;
                session.late += 1;
            }
        }
    }

    /// Returns the number of a session; none where there are too many.
    fn number(&mut self, interface: u32, source: IpAddr, vni: Vni, port: u16) -> Option<usize> {
        let key = (interface, mapped(source), vni);
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        let number = self.sessions.len();
        if number >= MOST_SESSIONS {
            return None;
        }
        self.numbers.insert(key, number);
        self.sessions.push(Session {
            number,
            port,
            interface,
            source,
            vni,
            let_in: self.ours.allowed.takes(mapped(source), vni),
            frames: 0,
            bytes: 0,
            largest: 0,
            cut: 0,
            cut_at: (0, 0),
            cut_least: 0,
            fragmented: 0,
            again: 0,
            again_here: 0,
            segments: 0,
            late: 0,
        });
        Some(number)
    }
}

/// Counts one more of a kind; where there are too many kinds, of those that are there alone.
fn count<K: std::hash::Hash + Eq>(table: &mut HashMap<K, Elsewhere>, key: K, first: Elsewhere) {
    let has_room = table.len() < MOST_ELSEWHERE;
    if let Some(found) = table.get_mut(&key) {
        found.datagrams += 1;
    } else if has_room {
        table.insert(key, first);
    }
}

/// Returns what a datagram for a port of nobody's looks like; none where it looks like nothing that
/// mirrors send.
fn encapsulation(payload: &[u8], arrived: usize, port: u16) -> Option<(Kind, Option<Vni>)> {
    if port == GENEVE_PORT {
        // Version 0, a protocol of Ethernet or IP, the last byte reserved.
        let [first, _, a, b, _, _, _, last] = *payload.first_chunk()?;
        let is = first >> 6 == 0 && last == 0 && matches!([a, b], [0x65, 0x58] | [0x08, 0x00] | [0x86, 0xdd]);
        return is.then_some((Kind::Geneve, None));
    }
    // The I flag alone, or with that of GPE (and then Ethernet behind it); all else is zero.
    let is = matches!(*payload.first_chunk()?, [0x08, 0, 0, 0, _, _, _, 0] | [0x0c, 0, 0, 3, _, _, _, 0]);
    let inner = vxlan::decapsulate(payload, arrived).ok().filter(|_| is)?;
    let layers = Layers::of(inner.frame, inner.link_type);
    let is_frame = match layers.ethertype {
        0x0800 | 0x86dd => layers.ip.is_some(),
        ethertype => ethertype == 0x0806,
    };
    is_frame.then_some((Kind::Vxlan, Some(inner.vni)))
}
