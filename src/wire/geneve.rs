//! GENEVE has eight bytes and options between a UDP header and a frame or packet (RFC 8926 section
//! 3.4).
//!
//! ```text
//!  byte 0          1                2 .. 3         4 .. 6          7
//! +-------------+----------------+--------------+---------------+----------+-------------
//! | VV LLLLLL   | O C RRRRRR     | EtherType    | VNI, 24 bits  | reserved | options ...
//! +-------------+----------------+--------------+---------------+----------+-------------
//! an option:  class, 2 bytes | C and type, 1 byte | RRR LLLLL | data, L words of 4 bytes
//! ```
//!
//! Options may come in any order and number. Two classes tell what a mirror session is:
//!
//! - **0x0108, AWS Gateway Load Balancer**: type 1 has the id of the endpoint, which is the scope.
//!   A mirror through such an endpoint is wrapped twice: behind the options is an IP packet to UDP
//!   port 4789, which carries VXLAN. Both are taken off. The session has the source of the inner
//!   packet, which is the mirrored interface, and the VNI of VXLAN. Any other packet is one that
//!   the balancer sends as it is, and comes as such.
//! - **0x0132, Google Cloud**: type 1 has the id of the network in the upper 28 bits, which is the
//!   scope, and in the lowest whether the packet left the machine. Its VNI is always 0.
//!
//! Options of other classes and types are passed over: see [`Options`]. The O bit says that the
//! datagram has a message to the receiver and no frame.

use super::address;
use super::layers::{Fragment, Layers, protocol};
use super::tunnel::{Decapsulated, Direction, DropReason, Encapsulation, Options, Scope, Unread};
use super::vni::Vni;
use super::vxlan;

/// Length of the header without options, in bytes.
pub const HEADER_LEN: usize = 8;

/// The two bits of the version, which is 0.
const VERSION: u8 = 0xc0;
/// The length of all options, in words of four bytes.
const OPTIONS_LEN: u8 = 0x3f;
/// The bit that says that there is no frame.
const CONTROL: u8 = 0x80;
/// The bit that says that there is a critical option.
const HAS_CRITICAL: u8 = 0x40;
/// The bit of an option's type that says that it is critical.
const CRITICAL: u8 = 0x80;
/// The length of an option's data, in words of four bytes.
const DATA_LEN: u8 = 0x1f;

/// The class of AWS Gateway Load Balancer's options.
pub const CLASS_AWS: u16 = 0x0108;
/// The class of Google Cloud's options.
pub const CLASS_GOOGLE: u16 = 0x0132;

/// The port of the VXLAN that a Gateway Load Balancer's endpoint passes on.
const VXLAN_PORT: u16 = 4789;

/// The facts that the options tell.
#[derive(Debug, Default)]
struct Told {
    scope: Option<Scope>,
    direction: Option<Direction>,
    options: Options,
    /// True where the scope is an endpoint of a Gateway Load Balancer.
    is_endpoint: bool,
}

/// Takes GENEVE off a UDP payload that arrived with so many bytes; where it carries a mirror's
/// VXLAN through a Gateway Load Balancer, that too.
///
/// # Errors
/// - [`DropReason::ShortTunnelHeader`]: the payload ends within the header or its options;
/// - [`DropReason::UnknownTunnelVersion`], [`DropReason::BadGeneveOptions`],
///   [`DropReason::ControlMessage`];
/// - those of a frame or a packet, and of VXLAN where that is taken off.
pub fn decapsulate(payload: &[u8], arrived: usize) -> Result<Decapsulated<'_>, DropReason> {
    let mut rest = Unread::new(payload, arrived);
    let &[first, flags, a, b, high, middle, low, last] = rest.header::<HEADER_LEN>()?;
    if first & VERSION != 0 {
        return Err(DropReason::UnknownTunnelVersion);
    }
    let told = read_options(rest.header_of(usize::from(first & OPTIONS_LEN) * 4)?)?;
    if flags & CONTROL != 0 {
        return Err(DropReason::ControlMessage);
    }
    let inner = Decapsulated {
        vni: Vni::from_be_bytes([high, middle, low]),
        reserved_bits: flags & !(CONTROL | HAS_CRITICAL) != 0 || last != 0,
        ..Decapsulated::announced(Encapsulation::Geneve, u16::from_be_bytes([a, b]), rest)?
    };
    let inner = match inner.bare {
        Some(_) if told.is_endpoint => mirrored(inner)?,
        _ => inner,
    };
    Ok(Decapsulated { scope: told.scope, direction: told.direction, options: told.options, ..inner })
}

/// Reads the options, which fill these bytes.
fn read_options(mut bytes: &[u8]) -> Result<Told, DropReason> {
    let mut told = Told::default();
    while let Some((&[a, b, kind, length], rest)) = bytes.split_first_chunk::<4>() {
        let Some((data, rest)) = rest.split_at_checked(usize::from(length & DATA_LEN) * 4) else {
            return Err(DropReason::BadGeneveOptions);
        };
        bytes = rest;
        match (u16::from_be_bytes([a, b]), kind & !CRITICAL) {
            (CLASS_AWS, 1) => {
                told.scope = Some(Scope(number(data)));
                told.is_endpoint = true;
            }
            (CLASS_GOOGLE, 1) if data.len() == 4 => {
                let word = number(data);
                told.scope = Some(Scope(word >> 4));
                told.direction = Some(if word & 1 == 1 { Direction::Outbound } else { Direction::Inbound });
            }
            // The attachment and the cookie of a flow; the endpoint and the profile.
            (CLASS_AWS | CLASS_GOOGLE, 2 | 3) => {}
            _ => {
                let unknown = if kind & CRITICAL == 0 { Options::Unknown } else { Options::Critical };
                told.options = told.options.max(unknown);
            }
        }
    }
    Ok(told)
}

/// Reads up to eight bytes as a big-endian number.
fn number(data: &[u8]) -> u64 {
    data.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Takes VXLAN off a packet that a mirror sent through an endpoint. Any other packet is returned as
/// it is.
fn mirrored(inner: Decapsulated<'_>) -> Result<Decapsulated<'_>, DropReason> {
    let packet = inner.frame;
    // Whether a packet is a mirror's nobody knows that was cut before it says so.
    let untold = if inner.arrived as usize > packet.len() { Err(DropReason::ShortTunnelHeader) } else { Ok(inner) };
    let Some(ip) = Layers::of_ip(packet).ip else { return untold };
    if ip.protocol != protocol::UDP || ip.fragment != Fragment::Whole {
        return Ok(inner);
    }
    // The length of the UDP datagram, which must fit into the packet.
    let length = match (ip.ports, ip.segment(packet)) {
        (Some([_, port]), _) if port != VXLAN_PORT => return Ok(inner),
        (_, &[_, _, _, _, high, low, ..]) => usize::from(u16::from_be_bytes([high, low])),
        _ => return untold,
    };
    if length < 8 || ip.transport + length > ip.end {
        return Ok(inner);
    }
    let payload = ip.payload(packet);
    let payload = payload.get(..length - 8).unwrap_or(payload);
    // Of a packet that was cut, no more arrived than that.
    let arrived = (length - 8).min((inner.arrived as usize).saturating_sub(ip.payload));
    let mirrored = vxlan::decapsulate(payload, arrived)?;
    Ok(Decapsulated {
        encapsulation: inner.encapsulation,
        source: Some(address::of(ip.source)),
        reserved_bits: inner.reserved_bits || mirrored.reserved_bits,
        ..mirrored
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Makes a header of these options, which carries this protocol.
    fn header(options: &[&[u8]], protocol: u16) -> Vec<u8> {
        let options = options.concat();
        let [high, low] = protocol.to_be_bytes();
        [&[(options.len() / 4) as u8, 0, high, low, 0, 0, 7, 0], &*options].concat()
    }

    fn option(class: u16, kind: u8, data: &[u8]) -> Vec<u8> {
        let [high, low] = class.to_be_bytes();
        [&[high, low, kind, (data.len() / 4) as u8], data].concat()
    }

    /// Makes an IPv4 packet with UDP to this port.
    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        builder.udp(65_410, port).write(&mut packet, payload).unwrap();
        packet
    }

    fn read(payload: &[u8]) -> Result<Decapsulated<'_>, DropReason> {
        decapsulate(payload, payload.len())
    }

    const FRAME: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    const ETHERNET: u16 = 0x6558;

    #[test]
    fn frames_and_packets_of_both_versions() {
        let payload = [header(&[], ETHERNET), FRAME.to_vec()].concat();
        let inner = read(&payload).unwrap();
        assert_eq!((inner.encapsulation, inner.vni.get(), inner.scope), (Encapsulation::Geneve, 7, None));
        assert_eq!((inner.frame, inner.bare, inner.arrived), (&FRAME[..], None, 14));
        let packet = udp(53, &[7; 100]);
        let payload = [header(&[], 0x0800), packet.clone()].concat();
        let inner = read(&payload).unwrap();
        assert_eq!((inner.frame, inner.bare, inner.original), (&*packet, Some(0x0800), 128));
        let cut = decapsulate(&payload[..40], payload.len()).unwrap();
        assert_eq!((cut.frame.len(), cut.arrived, cut.original), (32, 128, 128));
        let six = [header(&[], 0x86dd), vec![0x60; 40]].concat();
        assert_eq!(read(&six).unwrap().bare, Some(0x86dd));
        for (protocol, packet, why) in [
            (0x0800, &packet[..19], DropReason::RuntInnerFrame),
            (0x86dd, &packet[..39], DropReason::RuntInnerFrame),
            (0x86dd, &packet[..40], DropReason::UnknownInnerProtocol),
            (0x894f, &packet[..], DropReason::UnknownInnerProtocol),
            (ETHERNET, &packet[..13], DropReason::RuntInnerFrame),
        ] {
            assert_eq!(read(&[header(&[], protocol), packet.to_vec()].concat()), Err(why), "{protocol:#x}");
        }
    }

    #[test]
    fn options_are_walked_within_their_bounds() {
        let fine = [&*option(0x0108, 2, &[0; 8]), &option(0x1234, 9, &[1; 124]), &option(0x0132, 3, &[])].concat();
        let payload = [header(&[&fine], ETHERNET), FRAME.to_vec()].concat();
        assert_eq!(read(&payload).unwrap().options, Options::Unknown);
        for length in 0..payload.len() - FRAME.len() {
            assert_eq!(read(&payload[..length]), Err(DropReason::ShortTunnelHeader), "{length}");
        }
        let mut long = payload.clone();
        long[8 + 12 + 128 + 3] = 1;
        assert_eq!(read(&long), Err(DropReason::BadGeneveOptions));
        let critical = option(0x1234, 0x89, &[]);
        for options in [[&*critical, &fine], [&fine, &critical]] {
            let payload = [header(&options, ETHERNET), FRAME.to_vec()].concat();
            assert_eq!(read(&payload).unwrap().options, Options::Critical);
        }
        let known = [header(&[&option(0x0132, 0x82, &[0; 16])], ETHERNET), FRAME.to_vec()].concat();
        assert_eq!(read(&known).unwrap().options, Options::Known);
    }

    #[test]
    fn flags_and_versions() {
        let payload = [header(&[], ETHERNET), FRAME.to_vec()].concat();
        let with = |at: usize, byte| {
            let mut payload = payload.clone();
            payload[at] |= byte;
            read(&payload).map(|inner| inner.reserved_bits)
        };
        assert_eq!(with(0, 0x40), Err(DropReason::UnknownTunnelVersion));
        assert_eq!(with(1, 0x80), Err(DropReason::ControlMessage));
        for (at, byte, reserved) in [(1, 0, false), (1, 0x40, false), (1, 0x01, true), (1, 0x20, true), (7, 1, true)] {
            assert_eq!(with(at, byte), Ok(reserved), "{at} {byte:#x}");
        }
    }

    #[test]
    fn the_network_and_the_direction_of_google() {
        for (last, direction) in [(0xd1, Direction::Outbound), (0xd0, Direction::Inbound)] {
            let options = [option(0x0132, 3, &[0; 8]), option(0x0132, 1, &[0x80, 0, 0, last])].concat();
            let payload = [header(&[&options], 0x0800), udp(53, &[])].concat();
            let inner = read(&payload).unwrap();
            assert_eq!((inner.scope, inner.direction), (Some(Scope(0x0800_000d)), Some(direction)));
        }
    }

    /// Wraps a frame as a mirror through an endpoint does.
    fn through_endpoint(packet: &[u8]) -> Vec<u8> {
        let options = [
            option(0x0108, 2, &[9; 8]),
            option(0x0108, 1, &[0x07, 0x6b, 0xc4, 0x93, 0xb8, 0x22, 0xcd, 0x32]),
            option(0x0108, 3, &[9; 4]),
        ];
        [header(&[&options.concat()], 0x0800), packet.to_vec()].concat()
    }

    #[test]
    fn a_mirror_through_an_endpoint_is_wrapped_twice() {
        let vni = Vni::new(5_569_041).unwrap();
        let mut vxlan = [vxlan::header(vni).as_slice(), &FRAME].concat();
        let payload = through_endpoint(&udp(4789, &vxlan));
        let inner = read(&payload).unwrap();
        assert_eq!(inner.encapsulation, Encapsulation::Geneve);
        assert_eq!(inner.source, Some(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped()));
        assert_eq!((inner.vni, inner.scope), (vni, Some(Scope(0x076b_c493_b822_cd32))));
        assert_eq!((inner.frame, inner.bare, inner.arrived, inner.original), (&FRAME[..], None, 14, 14));
        assert!(!inner.reserved_bits);
        // What the capture cut arrived all the same.
        vxlan.extend([7; 50]);
        let payload = through_endpoint(&udp(4789, &vxlan));
        let cut = decapsulate(&payload[..payload.len() - 50], payload.len()).unwrap();
        assert_eq!((cut.frame.len(), cut.arrived), (14, 64));
        vxlan[0] = 0;
        assert_eq!(read(&through_endpoint(&udp(4789, &vxlan))), Err(DropReason::VniFlagClear));
    }

    #[test]
    fn a_mirror_through_an_endpoint_that_was_cut_is_a_mirror_or_nothing() {
        let vxlan = [vxlan::header(Vni::MAX).as_slice(), &FRAME, &[7; 50]].concat();
        let mut six = Vec::new();
        etherparse::PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(65_410, 4789).write(&mut six, &vxlan).unwrap();
        for (packet, protocol) in [(udp(4789, &vxlan), 0x0800u16), (six, 0x86dd)] {
            let mut payload = through_endpoint(&packet);
            payload[2..4].copy_from_slice(&protocol.to_be_bytes());
            let headers = payload.len() - FRAME.len() - 50;
            for kept in 0..payload.len() {
                let inner = decapsulate(&payload[..kept], payload.len());
                if kept < headers + FRAME.len() {
                    assert!(inner.is_err(), "{kept} bytes: {inner:?}");
                } else {
                    let inner = inner.unwrap();
                    let found = (inner.bare, inner.frame.len(), inner.arrived as usize);
                    assert_eq!(found, (None, kept - headers, FRAME.len() + 50), "{kept} bytes");
                }
            }
        }
        // A packet to elsewhere says so by its port.
        let payload = through_endpoint(&udp(53, &[7; 50]));
        let cut = payload.len() - 50;
        for (kept, known) in [(cut, true), (cut - 4, true), (cut - 5, false)] {
            let inner = decapsulate(&payload[..kept], payload.len()).map(|inner| inner.bare);
            assert_eq!(inner, if known { Ok(Some(0x0800)) } else { Err(DropReason::ShortTunnelHeader) });
        }
    }

    #[test]
    fn any_other_packet_through_an_endpoint_comes_as_it_is() {
        let vxlan = [vxlan::header(Vni::MAX).as_slice(), &FRAME].concat();
        let other = udp(53, &vxlan);
        let mut fragment = udp(4789, &vxlan);
        fragment[6] = 0x20;
        let mut long = udp(4789, &vxlan);
        long[24..26].copy_from_slice(&1000u16.to_be_bytes());
        for packet in [other, fragment, long] {
            let payload = through_endpoint(&packet);
            let inner = read(&payload).unwrap();
            assert_eq!((inner.frame, inner.bare, inner.source), (&*packet, Some(0x0800), None));
            assert_eq!(inner.scope, Some(Scope(0x076b_c493_b822_cd32)));
        }
        // Without an endpoint it is nobody's mirror.
        let payload = [header(&[], 0x0800), udp(4789, &vxlan)].concat();
        assert_eq!(read(&payload).unwrap().bare, Some(0x0800));
    }
}
