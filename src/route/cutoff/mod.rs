//! A cut-off keeps the start of each flow and sheds the rest.
//!
//! Most bytes of a network are in few flows: backups, video, what is encrypted. What an
//! investigation needs of them is how they began. A flow is both directions of a conversation
//! together, within one mirror session: two addresses, two ports, and the protocol. Protocols
//! without ports are a flow for each two hosts, and so are the fragments of a protocol, for only
//! the first of a datagram has its ports.
//!
//! Kept whatever their flow has had:
//!
//! - what is not IP, and ICMP, which is small and says what went wrong;
//! - segments of TCP with SYN, FIN or RST: who reads the capture sees each flow begin and end;
//! - packets of flows for which the table has no room. They are counted.
//!
//! A SYN without ACK begins its flow anew, whether or not the end of the connection before was
//! seen: the worst that a forged one does is that more is kept.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::SessionId;
use crate::record::Timestamp;
use crate::wire::layers::{Fragment, Ip, Layers, TcpFlags, protocol};

/// Flows that a table has room for, unless the plan says otherwise.
pub const FLOWS: usize = 65_536;

/// Flows of a set. Their tags fill a cache line.
const WAYS: usize = 8;

/// Seconds after which a connection that says nothing loses its place: twice the interval at which
/// most applications and load balancers have keep-alives sent, or more.
const TCP_IDLE: u16 = 300;
/// Seconds after which a connection that was ended loses its place. Its last segments come within
/// that time; were it [`TCP_IDLE`], a server with 250 connections a second would fill the table.
const ENDED_IDLE: u16 = 10;
/// Seconds after which a connection that has had nothing but a SYN loses its place. A SYN that is
/// sent again begins it anew, so nothing is lost by it; were it [`TCP_IDLE`], a scan with 220 SYNs
/// a second would fill the table.
const BEGUN_IDLE: u16 = 10;
/// Seconds after which a flow of another protocol is over. Connection tracking and NAT have it at
/// 30 s to 120 s.
const OTHER_IDLE: u16 = 60;

/// Bytes of payload in which a TLS handshake is done, whatever its certificates. What begins with a
/// handshake and shows no application data by then cannot be followed.
const HANDSHAKE_MOST: u64 = 64 * 1024;

/// The type of TLS records of what is said behind the handshake.
const APPLICATION_DATA: u8 = 23;

/// How much is kept of the flows of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cutoff {
    /// Bytes of frames at the start of a flow that are kept; all where there is none. The frame in
    /// which they end is kept.
    pub flow_limit: Option<u64>,
    /// Bytes of payload that are kept of a TLS flow from its first application data on; all where
    /// there is none. The segment in which they end is kept.
    pub tls: Option<u64>,
}

/// What becomes of a packet by its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It is kept.
    Kept,
    /// It is kept because the table had no room for its flow.
    Untold,
    /// It is beyond what is kept.
    Beyond,
}

/// How far the flow has come as TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// It has had no payload.
    #[default]
    Silent,
    /// It is something else, or TLS that had begun before.
    Other,
    /// It is TLS and has shown no application data.
    Handshake,
    /// It is TLS and has.
    Encrypted,
}

/// A flow.
#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    /// Bytes of its frames so far, kept or not.
    bytes: u64,
    /// Bytes of its payload in this stage.
    payload: u64,
    /// The second in which its last packet came.
    seen: u32,
    /// Seconds after which it has lost its place.
    idle: u16,
    /// True for a connection that was ended.
    ended: bool,
    stage: Stage,
}

/// The flows of one worker.
///
/// A flow is known by a hash of 64 bits with a key that nobody outside knows: of the flows of a
/// full table two have the same in one case of 10^10. A flow may lie in two sets, in places of
/// these that are free or have been idle for long; so the table fills up before flows find no
/// place. There is no thread or turn that clears it.
#[derive(Debug)]
pub struct Flows {
    hash: RandomState,
    sets: usize,
    /// The hash of the flow at each place; 0 where there never was one. Made when a flow is seen.
    tags: Vec<[u64; WAYS]>,
    /// How often sessions of each number were forgotten.
    forgotten: Vec<u32>,
    flows: Vec<[Flow; WAYS]>,
}

impl Default for Flows {
    fn default() -> Self {
        Self::new(FLOWS)
    }
}

impl Flows {
    /// Makes a table for about `flows` flows: rounded up to a power of two.
    #[must_use]
    pub fn new(flows: usize) -> Self {
        let sets = flows.div_ceil(WAYS).max(1).next_power_of_two();
        Self { hash: RandomState::default(), sets, tags: Vec::new(), forgotten: Vec::new(), flows: Vec::new() }
    }

    /// Forgets the flows of these sessions. Another session that has such a number has flows of its
    /// own, and the places are free when the flows were idle.
    pub(crate) fn forget(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            if self.forgotten.len() <= session.index() {
                self.forgotten.resize(session.index() + 1, 0);
            }
            if let Some(times) = self.forgotten.get_mut(session.index()) {
                *times = times.wrapping_add(1);
            }
        }
    }

    /// Says what becomes of a packet of this session, and counts it to its flow. `length` is that
    /// of the frame before it was cut.
    #[inline]
    pub fn part(
        &mut self,
        cutoff: &Cutoff,
        session: SessionId,
        (frame, length): (&[u8], u32),
        layers: &Layers,
        time: Timestamp,
    ) -> Part {
        let Some(ip) = &layers.ip else { return Part::Kept };
        if matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6) {
            return Part::Kept;
        }
        // 136 years of seconds.
        let now = u32::try_from(time.ns() / 1_000_000_000).unwrap_or(u32::MAX);
        let tag = self.tag(session, ip);
        let Some(flow) = self.flow(tag, now) else { return Part::Untold };
        let tcp = ip.protocol == protocol::TCP;
        let begins = tcp && ip.flags.any(TcpFlags::SYN) && !ip.flags.any(TcpFlags::ACK);
        let idle = now.saturating_sub(flow.seen) > flow.idle.into();
        // A connection that was idle is still the same.
        if begins || (idle && !tcp) {
            *flow = Flow::default();
        }
        flow.seen = now;
        let ends = tcp && ip.flags.any(TcpFlags::FIN.or(TcpFlags::RST));
        flow.ended |= ends;
        flow.idle = match tcp {
            true if flow.ended => ENDED_IDLE,
            true if begins => BEGUN_IDLE,
            true => TCP_IDLE,
            false => OTHER_IDLE,
        };
        let mut beyond = cutoff.flow_limit.is_some_and(|limit| flow.bytes >= limit);
        flow.bytes += u64::from(length);
        if let Some(limit) = cutoff.tls
            && tcp
        {
            beyond |= flow.is_beyond(limit, ip.payload(frame), ip.end.saturating_sub(ip.payload));
        }
        if beyond && !ends && !ip.flags.any(TcpFlags::SYN) { Part::Beyond } else { Part::Kept }
    }

    /// Returns the hash of a packet's flow: the same for both directions, and never 0.
    #[inline]
    fn tag(&self, session: SessionId, ip: &Ip) -> u64 {
        // A fragment with ports would part from those without.
        let whole = ip.fragment == Fragment::Whole;
        let [from, to] = ip.ports.filter(|_| whole).unwrap_or_default();
        let mut hasher = self.hash.build_hasher();
        let forgotten = self.forgotten.get(session.index()).map_or(0, |times| u64::from(*times));
        let words = (u64::from(session.0) << 32 | u64::from(ip.protocol) << 1 | u64::from(whole)) ^ forgotten << 9;
        match (ip.source, ip.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let a = u64::from(u32::from(source)) << 16 | u64::from(from);
                let b = u64::from(u32::from(destination)) << 16 | u64::from(to);
                hasher.write_u64(words);
                hasher.write_u64(a.min(b));
                hasher.write_u64(a.max(b));
            }
            (source, destination) => {
                let (a, b) = ((number(source), from), (number(destination), to));
                let (low, high) = if a <= b { (a, b) } else { (b, a) };
                hasher.write_u64(words);
                hasher.write_u128(low.0);
                hasher.write_u128(high.0);
                hasher.write_u64(u64::from(low.1) << 16 | u64::from(high.1));
            }
        }
        hasher.finish().max(1)
    }

    /// Returns the flow of this hash, a new one where it is not known; none where there is no room.
    #[inline]
    fn flow(&mut self, tag: u64, now: u32) -> Option<&mut Flow> {
        if self.tags.is_empty() {
            self.make();
        }
        let homes = self.homes(tag);
        for set in homes {
            let place = self.tags.get(set)?.iter().position(|known| *known == tag);
            if let Some(way) = place {
                return self.flows.get_mut(set)?.get_mut(way);
            }
        }
        self.begin(tag, homes, now)
    }

    /// Returns the sets in which a flow may lie.
    #[inline]
    fn homes(&self, tag: u64) -> [usize; 2] {
        let mask = self.sets - 1;
        // Each half of the hash chooses one.
        [(tag & 0xffff_ffff) as usize & mask, (tag >> 32) as usize & mask]
    }

    #[cold]
    fn make(&mut self) {
        self.tags = vec![[0; WAYS]; self.sets];
        self.flows = vec![[Flow::default(); WAYS]; self.sets];
    }

    /// Gives a new flow a place, in the set that has more of them.
    fn begin(&mut self, tag: u64, homes: [usize; 2], now: u32) -> Option<&mut Flow> {
        let (room, set, way) = homes.map(|set| self.room(set, now)).into_iter().max_by_key(|(room, ..)| *room)?;
        if room == 0 {
            return None;
        }
        *self.tags.get_mut(set)?.get_mut(way)? = tag;
        let flow = self.flows.get_mut(set)?.get_mut(way)?;
        *flow = Flow { seen: now, ..Flow::default() };
        Some(flow)
    }

    /// Returns how many places of the set can be given to a new flow, the set, and one of these.
    fn room(&self, set: usize, now: u32) -> (usize, usize, usize) {
        let (Some(tags), Some(flows)) = (self.tags.get(set), self.flows.get(set)) else { return (0, set, 0) };
        let free = tags
            .iter()
            .zip(flows)
            .enumerate()
            .filter(|(_, (tag, flow))| **tag == 0 || now.saturating_sub(flow.seen) > flow.idle.into());
        free.fold((0, set, 0), |(room, set, _), (way, _)| (room + 1, set, way))
    }
}

impl Flow {
    /// Says whether a segment is beyond `limit` bytes of the encrypted part of a TLS flow, and
    /// counts it. `length` is that of the payload before it was cut.
    fn is_beyond(&mut self, limit: u64, payload: &[u8], length: usize) -> bool {
        let length = length as u64;
        if self.stage == Stage::Silent && length > 0 {
            self.stage = if is_handshake(payload) { Stage::Handshake } else { Stage::Other };
        }
        if self.stage == Stage::Handshake {
            let encrypted = matches!(record(payload), Some((APPLICATION_DATA, _)));
            if !encrypted && !has_application_data(payload) && self.payload + length <= HANDSHAKE_MOST {
                self.payload += length;
                return false;
            }
            (self.stage, self.payload) = (Stage::Encrypted, 0);
            if !encrypted {
                // The handshake ends in this segment.
                self.payload = length;
                return false;
            }
        }
        let before = self.payload;
        self.payload += length;
        self.stage == Stage::Encrypted && before >= limit
    }
}

/// Reads the header of a TLS record (RFC 8446 section 5.1): its type and the length of what
/// follows.
fn record(payload: &[u8]) -> Option<(u8, usize)> {
    let &[kind, 3, 0..=4, high, low] = payload.first_chunk()? else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // At most 2^14 bytes, and 2^11 of expansion in old versions; none but an alert is empty.
    ((20..=24).contains(&kind) && (1..=16_384 + 2_048).contains(&length)).then_some((kind, length))
}

/// Says whether a segment begins with a record of a ClientHello or a ServerHello.
fn is_handshake(payload: &[u8]) -> bool {
    matches!(record(payload), Some((22, 4..))) && matches!(payload.get(5), Some(1 | 2))
}

/// Says whether records that begin with the segment lead to one of application data. A segment in
/// the middle of a record leads nowhere; the next that begins with a record does.
fn has_application_data(mut payload: &[u8]) -> bool {
    while let Some((kind, length)) = record(payload) {
        if kind == APPLICATION_DATA {
            return true;
        }
        payload = payload.get(5 + length..).unwrap_or_default();
    }
    false
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests;
