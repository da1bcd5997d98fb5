//! Frames: inner ones by etherparse, the encapsulation by pnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, PacketBuilderStep,
    ip_number,
};
use pnet::packet::{
    Packet,
    ethernet::{EtherType, MutableEthernetPacket},
    ip::IpNextHeaderProtocols,
    ipv4::{self, MutableIpv4Packet},
    ipv6::MutableIpv6Packet,
    udp::{self, MutableUdpPacket, UdpPacket},
    vlan::{ClassOfService, MutableVlanPacket},
    vxlan::MutableVxlanPacket,
};
use pnet::util::MacAddr;

/// One end of an inner conversation.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// Ethernet address.
    pub mac: [u8; 6],
    /// Address.
    pub ip: IpAddr,
    /// TCP or UDP port, or the identifier of an echo.
    pub port: u16,
}

/// Returns an endpoint on 10.0.0.0/16, or on fd00:10::/64 under the same host number.
pub fn v4(host: u8, port: u16) -> Endpoint {
    Endpoint { mac: mac(host), ip: Ipv4Addr::new(10, 0, 1, host).into(), port }
}

/// Makes an endpoint as [`v4`] does, over IPv6.
pub fn v6(host: u8, port: u16) -> Endpoint {
    let ip = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, host.into()).into();
    Endpoint { mac: mac(host), ip, port }
}

fn mac(host: u8) -> [u8; 6] {
    [0x02, 0x00, 0x0a, 0x00, 0x01, host]
}

/// Makes IP headers between two endpoints; `id` is the identification in IPv4.
pub fn ip(from: Endpoint, to: Endpoint, id: u16) -> IpHeaders {
    match (from.ip, to.ip) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => IpHeaders::Ipv4(
            Ipv4Header {
                identification: id,
                dont_fragment: true,
                fragment_offset: IpFragOffset::ZERO,
                ..Ipv4Header::new(0, 64, ip_number::UDP, source.octets(), destination.octets()).unwrap()
            },
            Default::default(),
        ),
        (IpAddr::V6(source), IpAddr::V6(destination)) => IpHeaders::Ipv6(
            Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: IpNumber(0),
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
            },
            Default::default(),
        ),
        _ => panic!("endpoints of two families"),
    }
}

/// Makes Ethernet and IP, ready for a transport.
pub fn packet(from: Endpoint, to: Endpoint, id: u16) -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2(from.mac, to.mac).ip(ip(from, to, id))
}

/// Returns a UDP frame.
pub fn udp_frame(from: Endpoint, to: Endpoint, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    packet(from, to, 0).udp(from.port, to.port).write(&mut frame, payload).unwrap();
    frame
}

/// Returns a TCP segment with ACK set, of a conversation that has been going on.
pub fn tcp_frame(from: Endpoint, to: Endpoint, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    packet(from, to, 1).tcp(from.port, to.port, 1000, 29200).ack(2000).psh().write(&mut frame, payload).unwrap();
    frame
}

/// Returns an echo request, of ICMP or ICMPv6; the port is the identifier.
pub fn echo_frame(from: Endpoint, to: Endpoint, request: bool, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = packet(from, to, sequence);
    let id = if request { from.port } else { to.port };
    match (from.ip, request) {
        (IpAddr::V4(_), true) => builder.icmpv4_echo_request(id, sequence).write(&mut frame, payload),
        (IpAddr::V4(_), false) => builder.icmpv4_echo_reply(id, sequence).write(&mut frame, payload),
        (IpAddr::V6(_), true) => builder.icmpv6_echo_request(id, sequence).write(&mut frame, payload),
        (IpAddr::V6(_), false) => builder.icmpv6_echo_reply(id, sequence).write(&mut frame, payload),
    }
    .unwrap();
    frame
}

/// Returns an ARP request as it leaves a host, without padding.
pub fn arp_frame(from: Endpoint, to: Endpoint) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(target)) = (from.ip, to.ip) else { panic!("ARP is for IPv4") };
    let mut frame = [[0xff; 6].as_slice(), &from.mac, &[0x08, 0x06]].concat();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([from.mac.as_slice(), &source.octets(), &[0; 6], &target.octets()].concat());
    frame
}

/// Inserts VLAN tags, outermost first, each an EtherType and a tag control field.
pub fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for (ethertype, control) in tags {
        // The type of a tag stands before it: pnet's VLAN packet is the control field and the type
        // that follows.
        out.extend(ethertype.to_be_bytes());
        let mut tag = [0; 4];
        let mut vlan = MutableVlanPacket::new(&mut tag).unwrap();
        vlan.set_priority_code_point(ClassOfService((control >> 13) as u8));
        vlan.set_drop_eligible_indicator((control >> 12 & 1) as u8);
        vlan.set_vlan_identifier(control & 0xfff);
        out.extend(&tag[..2]);
    }
    out.extend(&frame[12..]);
    out
}

/// Bytes that look like anything, the same ones for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Makes VXLAN with the I flag and nothing else, then the frame.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    vxlan_with(0x08, 0, vni, 0, frame)
}

/// Makes VXLAN with every field given.
pub fn vxlan_with(flags: u8, reserved1: u32, vni: u32, reserved2: u8, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 8 + frame.len()];
    let mut packet = MutableVxlanPacket::new(&mut bytes).unwrap();
    packet.set_flags(flags);
    packet.set_reserved1(reserved1);
    packet.set_vni(vni);
    packet.set_reserved2(reserved2);
    packet.set_payload(frame);
    bytes
}

/// How a mirror wraps a UDP payload. The defaults are those of AWS: checksum 0, TTL 255,
/// identification 0, DF.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Outer source address, the mirrored interface.
    pub source: IpAddr,
    /// Outer destination address, the mirror target.
    pub destination: IpAddr,
    /// Outer UDP source port.
    pub source_port: u16,
    /// Outer UDP destination port.
    pub destination_port: u16,
    /// Options of the IPv4 header, or a chain of IPv6 extension headers (whose last next-header
    /// byte must be 17).
    pub options: Vec<u8>,
    /// Number of the first IPv6 extension header.
    pub extension: u8,
    /// Compute the UDP checksum, otherwise leave 0.
    pub checksum: bool,
    /// UDP length if not the true one.
    pub udp_length: Option<u16>,
    /// Bytes between the datagram's end and the IP packet's.
    pub after_udp: Vec<u8>,
    /// Bytes after the IP packet.
    pub trailer: Vec<u8>,
    /// VLAN tags, outermost first.
    pub tags: Vec<(u16, u16)>,
}

impl Default for Mirror {
    fn default() -> Self {
        Mirror {
            source: Ipv4Addr::new(172, 31, 0, 238).into(),
            destination: Ipv4Addr::new(172, 31, 17, 188).into(),
            source_port: 65445,
            destination_port: 4789,
            options: Vec::new(),
            extension: 17,
            checksum: false,
            udp_length: None,
            after_udp: Vec::new(),
            trailer: Vec::new(),
            tags: Vec::new(),
        }
    }
}

/// Returns an outer address over IPv6.
pub fn outer_v6(host: u16) -> IpAddr {
    Ipv6Addr::new(0x2600, 0x1f14, 0x0ec1, 0x9d00, 0, 0, 0, host).into()
}

impl Mirror {
    /// Makes the default over IPv6.
    pub fn over_ipv6() -> Self {
        Mirror { source: outer_v6(0xee), destination: outer_v6(0xbc), ..Mirror::default() }
    }

    /// Returns the UDP datagram around this payload.
    pub fn datagram(&self, payload: &[u8]) -> Vec<u8> {
        let length = 8 + payload.len();
        let mut bytes = vec![0; length];
        let mut packet = MutableUdpPacket::new(&mut bytes).unwrap();
        packet.set_source(self.source_port);
        packet.set_destination(self.destination_port);
        packet.set_length(self.udp_length.unwrap_or(length as u16));
        packet.set_payload(payload);
        if self.checksum {
            let udp = UdpPacket::new(packet.packet()).unwrap();
            let checksum = match (&self.source, &self.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => udp::ipv4_checksum(&udp, source, destination),
                (IpAddr::V6(source), IpAddr::V6(destination)) => udp::ipv6_checksum(&udp, source, destination),
                _ => panic!("outer addresses of two families"),
            };
            packet.set_checksum(checksum);
        }
        bytes
    }

    /// Returns the frame around this UDP payload.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut ip_payload = self.datagram(payload);
        ip_payload.extend(&self.after_udp);
        match self.source {
            IpAddr::V4(_) => self.ethernet(0x0800, &self.ipv4(&ip_payload, 0, false)),
            IpAddr::V6(_) => self.ethernet(0x86dd, &self.ipv6(&ip_payload, self.extension, &self.options)),
        }
    }

    /// Returns the frames around this UDP payload when a router on the way splits it after this
    /// many bytes of IP payload.
    pub fn fragments(&self, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        assert!(size.is_multiple_of(8));
        let datagram = self.datagram(payload);
        let count = datagram.len().div_ceil(size);
        datagram
            .chunks(size)
            .enumerate()
            .map(|(index, chunk)| {
                let (offset, more) = (index * size / 8, index + 1 < count);
                match self.source {
                    IpAddr::V4(_) => self.ethernet(0x0800, &self.ipv4(chunk, offset as u16, more)),
                    IpAddr::V6(_) => {
                        let [high, low] = ((offset << 3) as u16 | u16::from(more)).to_be_bytes();
                        let header = [17, 0, high, low, 0, 0, 0x1d, 0x0f];
                        self.ethernet(0x86dd, &self.ipv6(chunk, 44, &header))
                    }
                }
            })
            .collect()
    }

    fn ipv4(&self, payload: &[u8], offset: u16, more: bool) -> Vec<u8> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.source, self.destination) else { panic!("not IPv4") };
        let header_length = 20 + self.options.len();
        let whole = offset == 0 && !more;
        let mut bytes = vec![0; header_length + payload.len()];
        bytes[20..header_length].copy_from_slice(&self.options);
        bytes[header_length..].copy_from_slice(payload);
        let mut packet = MutableIpv4Packet::new(&mut bytes).unwrap();
        packet.set_version(4);
        packet.set_header_length((header_length / 4) as u8);
        packet.set_total_length((header_length + payload.len()) as u16);
        packet.set_identification(if whole { 0 } else { 0x1d0f });
        packet.set_flags(if whole { 0b010 } else { u8::from(more) });
        packet.set_fragment_offset(offset);
        packet.set_ttl(255);
        packet.set_next_level_protocol(IpNextHeaderProtocols::Udp);
        packet.set_source(source);
        packet.set_destination(destination);
        let checksum = ipv4::checksum(&packet.to_immutable());
        packet.set_checksum(checksum);
        bytes
    }

    fn ipv6(&self, payload: &[u8], next_header: u8, extensions: &[u8]) -> Vec<u8> {
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (self.source, self.destination) else { panic!("not IPv6") };
        let length = extensions.len() + payload.len();
        let mut bytes = vec![0; 40 + length];
        let mut packet = MutableIpv6Packet::new(&mut bytes).unwrap();
        packet.set_version(6);
        packet.set_payload_length(length as u16);
        packet.set_next_header(pnet::packet::ip::IpNextHeaderProtocol(next_header));
        packet.set_hop_limit(255);
        packet.set_source(source);
        packet.set_destination(destination);
        packet.set_payload(&[extensions, payload].concat());
        bytes
    }

    /// Puts Ethernet, tags and trailer around this packet.
    pub fn ethernet(&self, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 14 + packet.len()];
        let mut ethernet = MutableEthernetPacket::new(&mut bytes).unwrap();
        ethernet.set_destination(MacAddr::new(0x06, 0xe2, 0x43, 0x9c, 0xff, 0x5e));
        ethernet.set_source(MacAddr::new(0x06, 0x1d, 0x3c, 0x34, 0xd0, 0x77));
        ethernet.set_ethertype(EtherType::new(ethertype));
        ethernet.set_payload(packet);
        let mut bytes = tagged(&bytes, &self.tags);
        bytes.extend(&self.trailer);
        bytes
    }
}
