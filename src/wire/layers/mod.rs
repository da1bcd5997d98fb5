//! One walk over a frame finds its layers: where each begins, who talks with whom, and how.
//!
//! The walk is bounded and total. A frame that was cut is read as far as it goes: what begins
//! behind its end still has a place, and what cannot be read is absent. The walk follows up to
//! [`MAX_TAGS`] VLAN tags and [`MAX_EXTENSIONS`] IPv6 extension headers.
//!
//! | part | read as |
//! |---|---|
//! | VLAN tags | 802.1Q, 802.1ad and 0x9100, in any order |
//! | IPv4 | options stepped over; an authentication header too |
//! | IPv6 | hop-by-hop (first only) and destination options, routing, fragment, authentication |
//! | layer 4 | TCP with its options, UDP, SCTP, ICMP and ICMPv6 have a header |
//! | other protocols, later fragments | have none: their payload begins where layer 3 ends |
//!
//! ```
//! use vxtap::wire::LinkType;
//! use vxtap::wire::layers::Layers;
//!
//! let mut frame = [0u8; 60];
//! frame[12..14].copy_from_slice(&[0x08, 0x00]); // IPv4
//! frame[14..18].copy_from_slice(&[0x45, 0, 0, 28]); // 28 bytes of it, the rest is padding
//! frame[23] = 17; // UDP
//! frame[34..38].copy_from_slice(&[0x00, 0x35, 0x30, 0x39]);
//! let layers = Layers::of(&frame, LinkType::Ethernet);
//! let ip = layers.ip.unwrap();
//! assert_eq!((layers.network, ip.transport, ip.payload, ip.end), (14, 34, 42, 42));
//! assert_eq!(ip.ports, Some([53, 12345]));
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LinkType;
use super::inner::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ethertype_of_ip, is_vlan, u16_at};

/// The VLAN tags that are stepped over; a frame with more is not read as IP.
pub const MAX_TAGS: usize = 3;
/// The IPv6 extension headers that are stepped over. A packet with more is read as one of the
/// protocol that the next would have.
pub const MAX_EXTENSIONS: usize = 16;

const VLAN_TAG_LEN: usize = 4;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// Numbers of protocols and extension headers (IANA, "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub(super) const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub(super) const ROUTING: u8 = 43;
    /// GRE.
    pub const GRE: u8 = 47;
    /// IPv6 fragment header.
    pub(super) const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub(super) const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// The layers of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// The EtherType behind all tags that were stepped over; 0 where there is none.
    pub ethertype: u16,
    /// The offset at which layer 3 begins. It lies behind the end of a frame that was cut before.
    pub network: usize,
    /// The IP packet, if there is one and its addresses can be read.
    pub ip: Option<Ip>,
}

/// An IP packet. Offsets count from the beginning of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// The address of the sender. It is of IPv4 exactly where the packet is.
    pub source: IpAddr,
    /// The address of the receiver.
    pub destination: IpAddr,
    /// The protocol of layer 4, behind the extension headers that were stepped over.
    pub protocol: u8,
    /// The part that the packet is of a datagram.
    pub fragment: Fragment,
    /// Source and destination port of TCP, UDP and SCTP, where they can be read; none in a later
    /// fragment.
    pub ports: Option<[u16; 2]>,
    /// The flags of TCP, see [`TcpFlags`]; none set where there is no TCP header or it is cut.
    pub flags: TcpFlags,
    /// The offset at which layer 4 begins, or the payload of a later fragment.
    pub transport: usize,
    /// The offset at which the payload of layer 4 begins; that of layer 3 where there is no layer 4
    /// header. It lies behind the end of a frame that was cut before.
    pub payload: usize,
    /// The offset at which the packet ends by its length field, never before its header's end. What
    /// follows is padding. It lies behind the end of a frame that was cut. Where the field says
    /// nothing (0 by segmentation offload or in a jumbogram), it is the end of the frame.
    pub end: usize,
}

/// The part that a packet is of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first fragment, which has the header of layer 4.
    First,
    /// A later fragment, which has none.
    Later,
}

/// The place of a fragment in its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number that all fragments of the datagram have.
    pub id: u32,
    /// The place of the fragment's bytes, from [`Ip::transport`] on, in what was fragmented.
    pub offset: usize,
    /// True where no other comes behind it.
    pub is_last: bool,
}

/// Flags of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender has no more.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// A connection begins.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// The connection is gone.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// The segment acknowledges what was received.
    pub const ACK: TcpFlags = TcpFlags(0x10);

    /// Returns these flags and others.
    #[must_use]
    pub const fn or(self, others: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | others.0)
    }

    /// Says whether one of `flags` is set.
    #[inline]
    #[must_use]
    pub const fn any(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 != 0
    }
}

impl Layers {
    /// Finds the layers of a frame that begins with a header of `link_type`.
    #[inline]
    #[must_use]
    pub fn of(frame: &[u8], link_type: LinkType) -> Layers {
        match link_type {
            LinkType::Ethernet => Layers::of_ethernet(frame),
            LinkType::Raw => Layers::of_ip(frame),
        }
    }

    /// Finds the layers of an IP packet without anything before it.
    #[inline]
    #[must_use]
    pub fn of_ip(packet: &[u8]) -> Layers {
        let ethertype = ethertype_of_ip(packet);
        Layers { ethertype, network: 0, ip: ip(packet, 0, ethertype) }
    }

    /// Finds the layers of a frame that begins with an Ethernet header.
    #[inline]
    fn of_ethernet(frame: &[u8]) -> Layers {
        Layers::behind(frame, ETHERNET_LEN, u16_at(frame, ETHERNET_LEN - 2).unwrap_or(0))
    }

    /// Finds the layers of a frame behind a header of any link layer, which ends at `network` and
    /// announces this EtherType.
    #[inline]
    #[must_use]
    pub(super) fn behind(frame: &[u8], mut network: usize, mut ethertype: u16) -> Layers {
        for _ in 0..MAX_TAGS {
            if !is_vlan(ethertype) {
                break;
            }
            network += VLAN_TAG_LEN;
            ethertype = u16_at(frame, network - 2).unwrap_or(0);
        }
        Layers { ethertype, network, ip: ip(frame, network, ethertype) }
    }
}

#[inline]
fn ip(frame: &[u8], network: usize, ethertype: u16) -> Option<Ip> {
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, network),
        ETHERTYPE_IPV6 => ipv6(frame, network),
        _ => None,
    }
}

#[inline]
fn ipv4(frame: &[u8], network: usize) -> Option<Ip> {
    let header: &[u8; IPV4_LEN] = frame.get(network..)?.first_chunk()?;
    let length = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || length < IPV4_LEN {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let start = network + length;
    let end = if total < length { frame.len().max(start) } else { network + total };
    // Bit 13 says that more fragments follow, the 13 bits below where this one begins.
    let fragment = match u16::from_be_bytes([header[6], header[7]]) {
        bits if bits & 0x1fff != 0 => Fragment::Later,
        bits if bits & 0x2000 != 0 => Fragment::First,
        _ => Fragment::Whole,
    };
    let &[.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    let ip = Ip {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol: header[9],
        fragment,
        ports: None,
        flags: TcpFlags::default(),
        transport: start,
        payload: start,
        end,
    };
    Some(if ip.protocol == protocol::AUTHENTICATION { ip.extended(frame) } else { ip.with_transport(frame) })
}

#[inline]
fn ipv6(frame: &[u8], network: usize) -> Option<Ip> {
    let header: &[u8; IPV6_LEN] = frame.get(network..)?.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let start = network + IPV6_LEN;
    let end = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
        0 => frame.len(),
        length => start + length,
    };
    let (addresses, _) = header[8..].as_chunks::<16>();
    let &[source, destination] = addresses else { return None };
    let ip = Ip {
        source: Ipv6Addr::from(source).into(),
        destination: Ipv6Addr::from(destination).into(),
        protocol: header[6],
        fragment: Fragment::Whole,
        ports: None,
        flags: TcpFlags::default(),
        transport: start,
        payload: start,
        end,
    };
    // Almost all packets have no extension header.
    Some(match ip.protocol {
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => ip.with_transport(frame),
        _ => ip.extended(frame),
    })
}

impl Ip {
    /// Returns the bytes of the frame that belong to the packet, without what pads the frame.
    #[inline]
    fn bytes<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(..self.end).unwrap_or(frame)
    }

    /// Returns the payload of layer 4, or of layer 3 where there is no header of layer 4, as far as
    /// the frame has it.
    #[inline]
    #[must_use]
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        self.bytes(frame).get(self.payload..).unwrap_or_default()
    }

    /// Returns what is behind the headers of layer 3, as far as the frame has it.
    #[inline]
    #[must_use]
    pub fn segment<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        self.bytes(frame).get(self.transport..).unwrap_or_default()
    }

    /// Returns the place that the packet has in its datagram; none where it is all of it, and where
    /// headers behind that of fragmentation hide the place. The IP header begins at `network`.
    #[must_use]
    pub fn place(&self, frame: &[u8], network: usize) -> Option<Place> {
        let (id, bits) = if self.source.is_ipv4() {
            // Identification; three flags, of which the last says that more follow; the offset.
            let bits = u16_at(frame, network + 6)?;
            (u32::from(u16_at(frame, network + 4)?), bits << 3 | bits >> 13 & 1)
        } else {
            // The fragment header is the last before the payload: next header, reserved, offset and
            // flags, identification.
            let &[_, _, a, b, ref id @ ..] = frame.get(self.transport.checked_sub(8)?..)?.first_chunk::<8>()?;
            (u32::from_be_bytes(*id), u16::from_be_bytes([a, b]))
        };
        let place = Place { id, offset: usize::from(bits & 0xfff8), is_last: bits & 1 == 0 };
        let is_it = match self.fragment {
            Fragment::Whole => false,
            // Options may stand behind the fragment header of the first.
            Fragment::First => place.offset == 0 && !place.is_last,
            Fragment::Later => place.offset > 0,
        };
        is_it.then_some(place)
    }

    /// Steps over extension headers, the first of which has the number `protocol`, then reads layer
    /// 4. It stops at a header that is cut and at a later fragment, behind whose header is payload.
    fn extended(mut self, frame: &[u8]) -> Ip {
        let first = self.transport;
        // IPv4 has no such header but that of authentication.
        let most = if self.source.is_ipv6() { MAX_EXTENSIONS } else { 1 };
        for _ in 0..most {
            let Some(&[next, length, a, b, ..]) = self.segment(frame).first_chunk::<8>() else { break };
            let length = match self.protocol {
                // These options are for routers and stand in front of everything else (RFC 8200
                // section 4.1).
                protocol::HOP_BY_HOP if self.transport != first => break,
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => usize::from(length) * 8 + 8,
                protocol::FRAGMENT => 8,
                // Fixed fields alone make 12 bytes (RFC 4302 section 2.2).
                protocol::AUTHENTICATION if length >= 1 => usize::from(length) * 4 + 8,
                _ => break,
            };
            if self.segment(frame).len() < length {
                break;
            }
            if self.protocol == protocol::FRAGMENT {
                // 13 bits of offset, 2 reserved, and the bit that says that more follow.
                match u16::from_be_bytes([a, b]) {
                    bits if bits & 0xfff8 != 0 => self.fragment = Fragment::Later,
                    bits if bits & 1 != 0 && self.fragment == Fragment::Whole => self.fragment = Fragment::First,
                    _ => {}
                }
            }
            self.protocol = next;
            self.transport += length;
            if self.fragment == Fragment::Later {
                break;
            }
        }
        self.payload = self.transport;
        self.with_transport(frame)
    }

    /// Reads the header of layer 4.
    #[inline]
    fn with_transport(mut self, frame: &[u8]) -> Ip {
        if self.fragment == Fragment::Later {
            return self;
        }
        let segment = self.segment(frame);
        let length = match self.protocol {
            protocol::TCP => {
                // A header that is cut, or shorter than any, counts as one without options.
                let words = segment.get(12).map_or(0, |byte| byte >> 4);
                self.flags = TcpFlags(segment.get(13).copied().unwrap_or(0));
                usize::from(words.max(5)) * 4
            }
            protocol::UDP => 8,
            protocol::SCTP => 12,
            protocol::ICMP | protocol::ICMPV6 => {
                self.payload += 8;
                return self;
            }
            _ => return self,
        };
        self.payload += length;
        self.ports =
            segment.first_chunk().map(|&[a, b, c, d]| [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
        self
    }
}

#[cfg(test)]
mod tests;
