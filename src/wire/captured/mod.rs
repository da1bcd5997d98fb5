//! A captured outer frame yields the frame that a mirror wrapped.
//!
//! The sensor gets payloads from a socket, and which encapsulation they have is said by the port.
//! A capture has whole outer frames, of any link type that captures have, among frames that no
//! mirror has sent. This module takes one wrap off such a frame, or says why there is none.
//!
//! - A frame is **of a mirror** where its protocol and port say so ([`Ports`]). All else is
//!   [`Refused::Other`], and so is what ends before it says.
//! - Where the capture kept only the beginning of an outer frame, the inner frame is what was kept
//!   of it. Its length on the wire is known by the lengths in the outer headers.
//! - A fragment is no datagram: see [`Refused::Outer`], and [`part`] for who puts them together.
//!
//! ```
//! use vxtap::wire::captured::{Framing, Other, Ports, Refused, unwrap};
//!
//! let arp = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 1, 0x08, 0x06];
//! let refused = unwrap(Framing::Ethernet, &arp, &Ports::default());
//! assert_eq!(refused, Err(Refused::Other(Other::NotIp)));
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::inner::{ETHERNET_LEN, ethertype_of_ip, u16_at};
use super::layers::{Fragment, Ip, Layers, protocol};
use super::outer::{self, OuterError};
use super::reason::reasons;
use super::tunnel::{Decapsulated, DropReason, Encapsulation};
use super::{address, gpe, vxlan};

/// The kind of header that a captured outer frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// An Ethernet header.
    Ethernet,
    /// An IP header, of the version that its first four bits say.
    Ip,
    /// The header of Linux for captures of any interface (`LINKTYPE_LINUX_SLL`).
    Cooked,
    /// The second version of it (`LINKTYPE_LINUX_SLL2`).
    Cooked2,
    /// Four bytes that name the protocol family, as captures of a loopback interface have them
    /// elsewhere than on Linux.
    Null,
}

impl Framing {
    /// Finds the framing of a link type, by its number in captures; none where frames of this type
    /// are not read here.
    #[must_use]
    pub const fn of(link_type: u16) -> Option<Framing> {
        match link_type {
            1 => Some(Framing::Ethernet),
            // LINKTYPE_RAW, the numbers that systems have used for it, and those of one version.
            12 | 14 | 101 | 228 | 229 => Some(Framing::Ip),
            113 => Some(Framing::Cooked),
            276 => Some(Framing::Cooked2),
            0 | 108 => Some(Framing::Null),
            _ => None,
        }
    }

    /// Returns the EtherType of what the header announces, and where that begins; none where the
    /// frame ends before.
    #[inline]
    fn announces(self, frame: &[u8]) -> Option<(u16, usize)> {
        let of_ip = |at: usize| Some((ethertype_of_ip(frame.get(at..).filter(|packet| !packet.is_empty())?), at));
        match self {
            Framing::Ethernet => Some((u16_at(frame, 12)?, 14)),
            Framing::Ip => of_ip(0),
            Framing::Cooked => Some((u16_at(frame, 14)?, 16)),
            Framing::Cooked2 => Some((u16_at(frame, 0)?, 20)),
            Framing::Null => of_ip(4),
        }
    }
}

/// Bytes of an IPv4 header without options.
const IPV4_LEN: usize = 20;
/// Bytes of the headers of a wrap as most are: Ethernet, IPv4, UDP, VXLAN.
const PLAIN_LEN: usize = ETHERNET_LEN + IPV4_LEN + UDP_LEN + vxlan::HEADER_LEN;
/// Bytes of a UDP header, and where in it its length is.
const UDP_LEN: usize = 8;
const UDP_LENGTH_AT: usize = 4;

/// The UDP ports that mirrors send to, and the encapsulation that each has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    udp: Vec<(u16, Encapsulation)>,
    /// True where mirrors send GRE over IP, which has no port.
    over_ip: bool,
}

/// The ports that are usual for each encapsulation, and GRE over IP.
impl Default for Ports {
    fn default() -> Self {
        let of = |encapsulation: Encapsulation| {
            let ports = encapsulation.over_udp().map_or(&[][..], |(_, ports)| ports);
            ports.iter().map(move |port| (*port, encapsulation))
        };
        Self { udp: Encapsulation::ALL.into_iter().flat_map(of).collect(), over_ip: true }
    }
}

impl Ports {
    /// Returns no port. GRE over IP is of a mirror where `over_ip` is true.
    #[must_use]
    pub const fn none(over_ip: bool) -> Self {
        Self { udp: Vec::new(), over_ip }
    }

    /// Adds a port, or gives it another encapsulation.
    pub fn add(&mut self, port: u16, encapsulation: Encapsulation) {
        self.udp.retain(|(other, _)| *other != port);
        self.udp.push((port, encapsulation));
    }

    /// Returns the encapsulation of what comes to this port.
    #[inline]
    #[must_use]
    pub fn encapsulation(&self, port: u16) -> Option<Encapsulation> {
        self.udp.iter().find(|(other, _)| *other == port).map(|(_, encapsulation)| *encapsulation)
    }
}

/// A datagram of a mirror, still wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried<'a> {
    /// The source address of the wrap, as [`address`] has it.
    pub source: Ipv6Addr,
    /// The UDP port that it went to; 0 where there is none.
    pub port: u16,
    /// The encapsulation that its port or its protocol says.
    pub encapsulation: Encapsulation,
    /// What was captured of the bytes behind the outer UDP header, or IP header where there is no
    /// other.
    pub payload: &'a [u8],
    /// Those bytes, as many as were on the wire.
    pub length: usize,
}

/// A frame with one wrap taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwrapped<'a> {
    /// The source address of the wrap, as [`address`] has it.
    pub source: Ipv6Addr,
    /// The UDP port that it went to; 0 where there is none.
    pub port: u16,
    /// Bytes behind the outer UDP header, or IP header where there is no other, as they were on the
    /// wire.
    pub length: usize,
    /// The frame.
    pub inner: Decapsulated<'a>,
}

reasons! {
    /// The reason why a captured frame is not known to be of a mirror.
    pub enum Other {
        /// Neither IPv4 nor IPv6 behind the link layer and its VLAN tags.
        NotIp = "not_ip",
        /// An IP packet of a protocol that no mirror uses: neither UDP nor GRE.
        NotUdp = "not_udp",
        /// A datagram to a port that is none of a mirror's.
        NoTunnel = "no_tunnel",
        /// An IP header that contradicts itself.
        BadIpHeader = "bad_ip_header",
        /// The capture kept so little of the frame that nothing tells what it was.
        CutShort = "cut_short",
        /// A frame of a link type that is not read here.
        LinkType = "link_type",
    }
}

/// The reason why a captured frame is no whole datagram of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncarried {
    /// It is not known to be of a mirror.
    Other(Other),
    /// It is of a mirror, or a fragment that may be, and is no whole datagram.
    Outer(OuterError),
}

/// The reason why a captured frame yields no inner frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is not known to be of a mirror.
    Other(Other),
    /// It is of a mirror, or a fragment that may be, and is no whole datagram.
    Outer(OuterError),
    /// It is a datagram of a mirror, and what it carries is no frame.
    Drop(Encapsulation, DropReason),
}

impl From<Uncarried> for Refused {
    fn from(reason: Uncarried) -> Refused {
        match reason {
            Uncarried::Other(reason) => Refused::Other(reason),
            Uncarried::Outer(reason) => Refused::Outer(reason),
        }
    }
}

/// Takes the outermost wrap off a captured frame, copying nothing.
///
/// # Errors
/// There is no wrap, or no frame in it.
#[inline(always)]
pub fn unwrap<'a>(framing: Framing, frame: &'a [u8], ports: &Ports) -> Result<Unwrapped<'a>, Refused> {
    match unwrap_plain(framing, frame, ports) {
        Some(unwrapped) => Ok(unwrapped),
        None => unwrap_any(framing, frame, ports),
    }
}

/// Takes off the wrap that most frames have: VXLAN in UDP and IPv4 behind an Ethernet header, all
/// of it captured, without VLAN tags, options of IP, fragments or reserved bits. What has another,
/// or contradicts itself, is [`unwrap_any`]'s.
#[inline(always)]
fn unwrap_plain<'a>(framing: Framing, frame: &'a [u8], ports: &Ports) -> Option<Unwrapped<'a>> {
    let header: &[u8; PLAIN_LEN] = frame.first_chunk()?;
    #[rustfmt::skip]
    let &[
        .., 0x08, 0x00,
        0x45, _, total_high, total_low, _, _, 0x00 | 0x40, 0x00, _, protocol::UDP, _, _, a, b, c, d, _, _, _, _,
        _, _, port_high, port_low, length_high, length_low, _, _,
        vxlan::I_FLAG, 0, 0, 0, _, _, _, 0,
    ] = header else { return None };
    let field = |high, low| u16::from_be_bytes([high, low]);
    let (total, length) = (usize::from(field(total_high, total_low)), usize::from(field(length_high, length_low)));
    let port = field(port_high, port_low);
    if framing != Framing::Ethernet
        || total != IPV4_LEN + length
        || ports.encapsulation(port) != Some(Encapsulation::Vxlan)
        || vxlan::tells_direction(port)
    {
        return None;
    }
    let length = length.checked_sub(UDP_LEN)?;
    let payload = frame.get(PLAIN_LEN - vxlan::HEADER_LEN..)?.get(..length)?;
    let inner = vxlan::decapsulate(payload, length).ok()?;
    Some(Unwrapped { source: Ipv4Addr::new(a, b, c, d).to_ipv6_mapped(), port, length, inner })
}

/// Takes off whatever wrap there is, as [`unwrap`] does.
#[inline(never)]
fn unwrap_any<'a>(framing: Framing, frame: &'a [u8], ports: &Ports) -> Result<Unwrapped<'a>, Refused> {
    wrap(&carried(framing, frame, ports)?)
}

/// Finds the datagram of a mirror that a captured frame is, copying nothing. What is in it nobody
/// has looked at.
///
/// # Errors
/// There is none, or the capture has no whole one.
pub fn carried<'a>(framing: Framing, frame: &'a [u8], ports: &Ports) -> Result<Carried<'a>, Uncarried> {
    match carried_plainly(framing, frame, ports) {
        Some(carried) => Ok(carried),
        None => carried_anyhow(framing, frame, ports),
    }
}

/// Finds the datagram where it is as most are: in IPv4 behind an Ethernet header, all of it
/// captured, without VLAN tags, options of IP or fragments. What is otherwise, or contradicts
/// itself, is [`carried_anyhow`]'s.
#[inline]
fn carried_plainly<'a>(framing: Framing, frame: &'a [u8], ports: &Ports) -> Option<Carried<'a>> {
    let header: &[u8; ETHERNET_LEN + IPV4_LEN] = frame.first_chunk()?;
    #[rustfmt::skip]
    let &[
        .., 0x08, 0x00,
        0x45, _, total_high, total_low, _, _, 0x00 | 0x40, 0x00, _, protocol, _, _, a, b, c, d, _, _, _, _,
    ] = header else { return None };
    if framing != Framing::Ethernet {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([total_high, total_low]));
    let segment = frame.get(ETHERNET_LEN + IPV4_LEN..ETHERNET_LEN + total)?;
    let source = Ipv4Addr::new(a, b, c, d);
    match protocol {
        protocol::GRE if ports.over_ip => Some(over_ip(source.into(), segment, segment.len())),
        protocol::UDP => {
            let (&[_, _, port_high, port_low, length_high, length_low, _, _], payload) = segment.split_first_chunk()?;
            let port = u16::from_be_bytes([port_high, port_low]);
            let encapsulation = ports.encapsulation(port)?;
            let is_all = usize::from(u16::from_be_bytes([length_high, length_low])) == segment.len();
            let (source, length) = (source.to_ipv6_mapped(), payload.len());
            is_all.then_some(Carried { source, port, encapsulation, payload, length })
        }
        _ => None,
    }
}

/// Finds the datagram of a mirror in whatever frame, as [`carried`] does.
#[inline(never)]
fn carried_anyhow<'a>(framing: Framing, frame: &'a [u8], ports: &Ports) -> Result<Carried<'a>, Uncarried> {
    let Some((ethertype, at)) = framing.announces(frame) else { return Err(Uncarried::Other(Other::CutShort)) };
    let layers = Layers::behind(frame, at, ethertype);
    if let Some(ip) = layers.ip
        && ip.fragment == Fragment::Whole
        && says_its_length(frame, layers.network, &ip)
    {
        if ip.protocol == protocol::GRE && ports.over_ip {
            let length = ip.end.saturating_sub(ip.transport);
            return Ok(over_ip(ip.source, ip.segment(frame), length));
        }
        let Some([_, port]) = ip.ports.filter(|_| ip.protocol == protocol::UDP) else {
            return carried_oddly((ethertype, at), layers.ip.as_ref(), frame, ports);
        };
        let Some(encapsulation) = ports.encapsulation(port) else { return Err(Uncarried::Other(Other::NoTunnel)) };
        if let Some(length) = u16_at(frame, ip.transport + UDP_LENGTH_AT).map(usize::from)
            && length >= UDP_LEN
            && ip.transport + length <= ip.end
        {
            let end = frame.len().min(ip.transport + length);
            let payload = frame.get(ip.payload..end).unwrap_or_default();
            let source = address::of(ip.source);
            return Ok(Carried { source, port, encapsulation, payload, length: length - UDP_LEN });
        }
    }
    carried_oddly((ethertype, at), layers.ip.as_ref(), frame, ports)
}

/// Says whether the packet's end is the one that its length field says, and not that of the frame.
#[inline]
fn says_its_length(frame: &[u8], network: usize, ip: &Ip) -> bool {
    match ip.source {
        IpAddr::V4(_) => u16_at(frame, network + 2).is_some_and(|total| network + usize::from(total) == ip.end),
        IpAddr::V6(_) => u16_at(frame, network + 4).is_some_and(|length| length > 0),
    }
}

/// Returns what a packet over IP carries, of which `payload` was captured.
#[inline]
fn over_ip(source: IpAddr, payload: &[u8], length: usize) -> Carried<'_> {
    Carried { source: address::of(source), port: 0, encapsulation: Encapsulation::Gre, payload, length }
}

/// Finds what a frame carries that is not as most are, or says what is wrong with it. What the
/// EtherType announces begins at `at`, where `ip` was found.
#[inline(never)]
fn carried_oddly<'a>(
    (ethertype, at): (u16, usize),
    ip: Option<&Ip>,
    frame: &'a [u8],
    ports: &Ports,
) -> Result<Carried<'a>, Uncarried> {
    let error = match outer::udp_behind(ethertype, frame.get(at..).unwrap_or_default()) {
        Ok(udp) => {
            let Some(encapsulation) = ports.encapsulation(udp.destination_port) else {
                return Err(Uncarried::Other(Other::NoTunnel));
            };
            let (source, port, payload) = (address::of(udp.source), udp.destination_port, udp.payload);
            return Ok(Carried { source, port, encapsulation, payload, length: payload.len() });
        }
        Err(error) => error,
    };
    // Only what goes to a port of a mirror, or may, is of interest as what it is.
    let is_gre = ports.over_ip && ip.is_some_and(|ip| ip.protocol == protocol::GRE && ip.fragment != Fragment::Whole);
    let port = ip.filter(|ip| ip.protocol == protocol::UDP).and_then(|ip| ip.ports).map(|[_, port]| port);
    let is_tunnel = port.map(|port| ports.encapsulation(port).is_some());
    Err(match (error, is_tunnel) {
        (OuterError::NotIp, _) => Uncarried::Other(Other::NotIp),
        (OuterError::NotUdp, _) if is_gre => Uncarried::Outer(OuterError::OuterFragment),
        (OuterError::NotUdp, _) => Uncarried::Other(Other::NotUdp),
        (OuterError::BadIpHeader, _) => Uncarried::Other(Other::BadIpHeader),
        (_, Some(false)) => Uncarried::Other(Other::NoTunnel),
        (OuterError::CutShort, None) => Uncarried::Other(Other::CutShort),
        (error, _) => Uncarried::Outer(error),
    })
}

/// Takes the wrap off what an outer packet carries.
#[inline]
fn wrap<'a>(carried: &Carried<'a>) -> Result<Unwrapped<'a>, Refused> {
    let Carried { source, port, encapsulation, payload, length } = *carried;
    let mut inner = encapsulation.decapsulate(payload, length);
    if encapsulation == Encapsulation::Vxlan && inner.is_ok_and(|inner| inner.reserved_bits) && gpe::is_bare(payload) {
        // VXLAN-GPE to the port of VXLAN, and no frame.
        inner = Encapsulation::Gpe.decapsulate(payload, length);
    }
    match inner {
        Ok(mut inner) => {
            if inner.encapsulation == Encapsulation::Vxlan {
                inner.direction = vxlan::direction(port, inner.vni);
            }
            Ok(Unwrapped { source, port, length, inner })
        }
        // What the capture cut off is not missing in the datagram.
        Err(_) if payload.len() < length => Err(Refused::Outer(OuterError::CutShort)),
        Err(reason) => Err(Refused::Drop(encapsulation.named_in(payload), reason)),
    }
}

/// A piece of an IP packet that was fragmented on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The address of the sender.
    pub source: IpAddr,
    /// The address of the receiver.
    pub destination: IpAddr,
    /// The number that all pieces of the packet have.
    pub id: u32,
    /// The protocol of layer 4.
    pub protocol: u8,
    /// The place of the bytes in what was fragmented.
    pub offset: usize,
    /// Says whether others come behind it.
    pub more: bool,
    /// The ports, in the first piece.
    pub ports: Option<[u16; 2]>,
    /// The bytes, as far as they were captured.
    pub bytes: &'a [u8],
    /// Says whether all of them were.
    pub is_whole: bool,
}

/// Returns the piece that a captured frame is; none where it is none, or the capture cut it.
#[must_use]
pub fn piece(framing: Framing, frame: &[u8]) -> Option<Piece<'_>> {
    part(framing, frame).filter(|piece| piece.is_whole)
}

/// Returns what the capture kept of the piece that a frame is; none where it is no piece.
#[must_use]
pub fn part(framing: Framing, frame: &[u8]) -> Option<Piece<'_>> {
    let (ethertype, at) = framing.announces(frame)?;
    let layers = Layers::behind(frame, at, ethertype);
    let ip = layers.ip?;
    let place = ip.place(frame, layers.network)?;
    Some(Piece {
        source: ip.source,
        destination: ip.destination,
        id: place.id,
        protocol: ip.protocol,
        offset: place.offset,
        more: !place.is_last,
        ports: ip.ports,
        bytes: frame.get(ip.transport..ip.end.min(frame.len()))?,
        is_whole: ip.end <= frame.len(),
    })
}

/// Takes the wrap off what was put together again: all that is behind the IP header, of this
/// protocol.
///
/// # Errors
/// As those of [`unwrap`].
pub fn unwrap_whole<'a>(of: (IpAddr, u8), datagram: &'a [u8], ports: &Ports) -> Result<Unwrapped<'a>, Refused> {
    wrap(&carried_whole(of, datagram, ports)?)
}

/// Finds the datagram of a mirror in what was put together again: all that is behind the IP header,
/// of this protocol.
///
/// # Errors
/// As those of [`carried`].
pub fn carried_whole<'a>(
    (source, protocol): (IpAddr, u8),
    datagram: &'a [u8],
    ports: &Ports,
) -> Result<Carried<'a>, Uncarried> {
    if protocol == protocol::GRE {
        return Ok(over_ip(source, datagram, datagram.len()));
    }
    let Some((header, rest)) = datagram.split_first_chunk::<UDP_LEN>() else {
        return Err(Uncarried::Outer(OuterError::BadUdpLength));
    };
    let [_, _, p, q, l, m, _, _] = *header;
    let (port, length) = (u16::from_be_bytes([p, q]), usize::from(u16::from_be_bytes([l, m])));
    let Some(encapsulation) = ports.encapsulation(port) else { return Err(Uncarried::Other(Other::NoTunnel)) };
    match length.checked_sub(UDP_LEN).and_then(|length| rest.get(..length)) {
        Some(payload) => {
            Ok(Carried { source: address::of(source), port, encapsulation, payload, length: payload.len() })
        }
        None => Err(Uncarried::Outer(OuterError::BadUdpLength)),
    }
}

#[cfg(test)]
mod tests;
