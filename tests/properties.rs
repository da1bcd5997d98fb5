//! The wire layer keeps its promises for all bytes, whoever sent them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder};
use proptest::{collection::vec, prelude::*, sample::Index};
use vxtap::wire::{
    DropReason, Encapsulation, Vni, bare,
    inner::original_length,
    outer::{self, OuterError},
    vxlan::{self, HEADER_LEN, I_FLAG},
};

/// Returns any VNI.
fn vnis() -> impl Strategy<Value = Vni> {
    (0..=Vni::MAX.get()).prop_map(|number| Vni::new(number).unwrap())
}

/// Frames that are noise, and frames whose first bytes lead a parser on: Ethernet, up to ten tags,
/// the start of an IP header. Noise alone has an EtherType of interest once in 13000 times.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop_oneof![Just(0x8100u16), Just(0x88a8), Just(0x9100)];
    let ip = prop_oneof![
        (5..=15u8).prop_map(|words| (0x0800u16, 0x40 | words)),
        Just((0x86dd, 0x60)),
        any::<u8>().prop_map(|byte| (0x0800, byte)),
        any::<u8>().prop_map(|byte| (0x86dd, byte)),
    ];
    let transport = prop_oneof![Just(17u8), Just(44), Just(0), Just(60), Just(51), any::<u8>()];
    let led = (vec((tag, any::<u16>()), 0..10), ip, transport, vec(any::<u8>(), 0..200)).prop_map(
        |(tags, (ethertype, first), transport, rest)| {
            let mut frame = vec![2; 12];
            for (tag, control) in tags {
                frame.extend(tag.to_be_bytes());
                frame.extend(control.to_be_bytes());
            }
            frame.extend(ethertype.to_be_bytes());
            let ip = frame.len();
            frame.push(first);
            frame.extend(rest);
            let protocol = ip + if ethertype == 0x0800 { 9 } else { 6 };
            if let Some(byte) = frame.get_mut(protocol) {
                *byte = transport;
            }
            frame
        },
    );
    prop_oneof![1 => vec(any::<u8>(), 0..300), 3 => led]
}

/// A UDP datagram over IP in Ethernet as etherparse builds it, and what it was built from.
#[derive(Debug, Clone)]
struct Built {
    source: IpAddr,
    destination: IpAddr,
    ports: (u16, u16),
    payload: Vec<u8>,
    frame: Vec<u8>,
}

fn datagrams() -> impl Strategy<Value = Built> {
    (any::<bool>(), any::<[u8; 16]>(), any::<[u8; 16]>(), any::<(u16, u16)>(), vec(any::<u8>(), 0..400)).prop_map(
        |(v4, source, destination, ports, payload)| {
            let short = |address: [u8; 16]| <[u8; 4]>::try_from(&address[..4]).unwrap();
            let (ip, source, destination): (_, IpAddr, IpAddr) = if v4 {
                let (source, destination) = (short(source), short(destination));
                let header = Ipv4Header::new(0, 64, IpNumber::UDP, source, destination).unwrap();
                (IpHeaders::Ipv4(header, Default::default()), source.into(), destination.into())
            } else {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber::UDP,
                    hop_limit: 64,
                    source,
                    destination,
                };
                (IpHeaders::Ipv6(header, Default::default()), source.into(), destination.into())
            };
            let mut frame = Vec::new();
            PacketBuilder::ethernet2([2; 6], [4; 6]).ip(ip).udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
            Built { source, destination, ports, payload, frame }
        },
    )
}

/// Returns datagrams over IPv4.
fn over_ipv4() -> impl Strategy<Value = Built> {
    datagrams().prop_filter("over IPv4", |built| built.source.is_ipv4())
}

/// Makes UDP payloads: noise, and headers with at most one byte that is not as a sender leaves it.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let almost_clean =
        (vnis(), any::<Index>(), any::<u8>(), vec(any::<u8>(), 0..64)).prop_map(|(vni, at, byte, rest)| {
            let mut payload = [&vxlan::header(vni), rest.as_slice()].concat();
            *at.get_mut(&mut payload[..HEADER_LEN]) = byte;
            payload
        });
    prop_oneof![vec(any::<u8>(), 0..64), almost_clean]
}

/// Makes payloads of any encapsulation: noise, and headers of each with noise behind and at most
/// one byte changed.
fn wrapped() -> impl Strategy<Value = Vec<u8>> {
    let headers: Vec<&'static [u8]> = vec![
        &[],
        // GENEVE: Ethernet; IPv4 with an endpoint and a packet to port 4789; a network of Google.
        &[0, 0, 0x65, 0x58, 0, 0, 7, 0],
        &[
            3, 0, 8, 0, 0, 0, 0, 0, 1, 8, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8, 0x45, 0, 0, 64, 0, 0, 0, 0, 64, 17, 0, 0, 10,
            0, 0, 1, 10, 0, 0, 2, 0xff, 0xff, 0x12, 0xb5, 0, 44, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0,
        ],
        &[2, 0, 8, 0, 0, 0, 0, 0, 1, 0x32, 1, 1, 0x80, 0, 0, 0xd1, 0x45, 0, 0, 20],
        // VXLAN-GPE with a service header.
        &[0x0c, 0, 0, 4, 0, 0, 7, 0, 0x0f, 0xc2, 1, 3, 0, 0, 1, 0xff],
        // GRE with all fields; ERSPAN of types II and III.
        &[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5, 0x45],
        &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 9, 0x10, 0x64, 0xfc, 0x64, 0, 0, 0, 1],
        &[0x10, 0, 0x22, 0xeb, 0, 0, 0, 9, 0x20, 0x64, 0xff, 0xff, 1, 2, 3, 4, 0, 0, 0, 1],
        // TZSP with tags.
        &[1, 0, 0, 1, 10, 1, 0xc8, 0, 41, 2, 0x05, 0xea, 1],
    ];
    let header = proptest::sample::select(headers);
    (header, vec(any::<u8>(), 0..100), proptest::option::of((any::<Index>(), any::<u8>()))).prop_map(
        |(header, rest, change)| {
            let mut payload = [header, rest.as_slice()].concat();
            if let (Some((at, byte)), false) = (change, payload.is_empty()) {
                *at.get_mut(&mut payload) = byte;
            }
            payload
        },
    )
}

/// Says where `part` lies within `whole`: start and end, or `None` if it is not a view of it.
fn place(part: &[u8], whole: &[u8]) -> Option<(usize, usize)> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (start + part.len() <= whole.len()).then_some((start, start + part.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A receiver gets what a sender wraps: the same frame under the same VNI.
    #[test]
    fn decapsulation_undoes_encapsulation(vni in vnis(), frame in frames()) {
        prop_assume!(frame.len() >= 14);
        let payload = [&vxlan::header(vni), frame.as_slice()].concat();
        let inner = vxlan::decapsulate(&payload, payload.len()).unwrap();
        prop_assert_eq!(inner.vni, vni);
        prop_assert_eq!(inner.frame, frame.as_slice());
        prop_assert!(!inner.reserved_bits);
        prop_assert_eq!(inner.original, original_length(&frame));
    }

    /// Every payload has one verdict, which follows from its length and first bytes, and a frame is
    /// the whole rest.
    #[test]
    fn a_payload_is_a_frame_or_one_reason(payload in payloads()) {
        match vxlan::decapsulate(&payload, payload.len()) {
            Err(DropReason::ShortVxlanHeader) => prop_assert!(payload.len() < HEADER_LEN),
            Err(DropReason::VniFlagClear) => prop_assert_eq!(payload[0] & I_FLAG, 0),
            Err(DropReason::RuntInnerFrame) => prop_assert!((8..22).contains(&payload.len())),
            Err(other) => prop_assert!(false, "{other:?} is not for this layer"),
            Ok(inner) => {
                prop_assert!(payload[0] & I_FLAG != 0);
                prop_assert_eq!(place(inner.frame, &payload), Some((8, payload.len())));
                prop_assert!(inner.frame.len() >= 14);
                prop_assert!(inner.vni.to_be_bytes() == payload[4..7]);
                let clean = payload[0] == I_FLAG && payload[1..4] == [0; 3] && payload[7] == 0;
                prop_assert_eq!(inner.reserved_bits, !clean);
            }
        }
    }

    /// Every payload of every encapsulation has one verdict, and a frame is a part of it that
    /// reaches to its end; only the frame in two wraps may end before. What arrived and was not
    /// kept changes lengths alone.
    #[test]
    fn any_encapsulation_yields_a_view_or_one_reason(payload in wrapped(), more in 0..2000usize) {
        for encapsulation in Encapsulation::ALL {
            let found = encapsulation.decapsulate(&payload, payload.len());
            let longer = encapsulation.decapsulate(&payload, payload.len() + more);
            prop_assert_eq!(found.map(|inner| inner.frame), longer.map(|inner| inner.frame));
            let (Ok(inner), Ok(longer)) = (found, longer) else { continue };
            let (_, end) = place(inner.frame, &payload).expect("a view");
            prop_assert!(end == payload.len() || inner.source.is_some());
            prop_assert!(inner.arrived as usize >= inner.frame.len() && inner.original >= inner.arrived);
            prop_assert!(longer.arrived >= inner.arrived && longer.original >= longer.arrived);
            let shortest = if inner.bare.is_some() { 4 } else { 14 };
            prop_assert!(inner.frame.len() >= shortest);
            let mut room = [0; bare::ROOM];
            let dressed = bare::dress(&inner, Ipv6Addr::LOCALHOST, &mut room);
            prop_assert!(dressed.frame.ends_with(inner.frame) && dressed.bare.is_none());
        }
    }

    /// The original length is at least what is there, and bounded by what an IP header can say.
    #[test]
    fn original_length_never_shrinks_a_frame(frame in frames()) {
        let length = original_length(&frame) as usize;
        prop_assert!(length >= frame.len());
        prop_assert!(length == frame.len() || length <= 14 + 8 * 4 + 40 + 65535);
    }

    /// A frame cut anywhere after its IP length has the length it had whole; cut before, that of
    /// what is left.
    #[test]
    fn original_length_survives_the_cut(built in datagrams(), tags in vec(any::<u16>(), 0..=8), cut in any::<Index>()) {
        let mut frame = built.frame;
        for control in &tags {
            let [high, low] = control.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        let cut = cut.index(frame.len() + 1);
        let known = 14 + 4 * tags.len() + if built.source.is_ipv4() { 4 } else { 6 };
        let expected = if cut >= known { frame.len() } else { cut };
        prop_assert_eq!(original_length(&frame[..cut]) as usize, expected);
    }

    /// Whatever the frame, a datagram found in it is a view of it that starts after Ethernet, IP
    /// and UDP.
    #[test]
    fn a_datagram_is_a_view_of_its_frame(frame in frames()) {
        match outer::udp(&frame) {
            Ok(udp) => {
                let (start, _) = place(udp.payload, &frame).expect("a view");
                prop_assert!(start >= 14 + 20 + 8);
                let length = u16::from_be_bytes([frame[start - 4], frame[start - 3]]);
                prop_assert_eq!(usize::from(length), 8 + udp.payload.len());
            }
            Err(error) => prop_assert!(OuterError::ALL.contains(&error)),
        }
    }

    /// A datagram that another encoder built is found, with or without tags before it and bytes
    /// after it.
    #[test]
    fn a_datagram_is_found(built in datagrams(), tags in 0..=8usize, trailer in vec(any::<u8>(), 0..80)) {
        let mut frame = [built.frame, trailer].concat();
        for _ in 0..tags {
            frame.splice(12..12, [0x81, 0x00, 0x00, 0x64]);
        }
        let udp = outer::udp(&frame).unwrap();
        prop_assert_eq!((udp.source, udp.destination), (built.source, built.destination));
        prop_assert_eq!((udp.source_port, udp.destination_port), built.ports);
        prop_assert_eq!(udp.payload, built.payload.as_slice());
    }

    /// A datagram without its end is not a datagram.
    #[test]
    fn a_cut_datagram_is_cut_short(built in datagrams(), cut in any::<Index>()) {
        let cut = cut.index(built.frame.len());
        prop_assert_eq!(outer::udp(&built.frame[..cut]), Err(OuterError::CutShort));
    }

    /// A fragment is never a datagram, whichever part it is; an IPv4 packet is one if more follow
    /// or some went before.
    #[test]
    fn a_fragment_is_not_a_datagram(built in over_ipv4(), bits in any::<u16>()) {
        let mut frame = built.frame;
        frame[20..22].copy_from_slice(&bits.to_be_bytes()); // reserved, DF, MF, 13 bits of offset
        let fragment = bits & 0x3fff != 0;
        prop_assert_eq!(outer::udp(&frame).err(), fragment.then_some(OuterError::OuterFragment));
    }

    /// Any UDP length but those within the IP payload is malformed, and those within it end the
    /// payload.
    #[test]
    fn the_udp_length_rules(built in datagrams(), length in prop_oneof![0..500u16, any::<u16>()],
                            trailer in vec(any::<u8>(), 0..80)) {
        let at = built.frame.len() - built.payload.len() - 4;
        let mut frame = [built.frame, trailer].concat();
        frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
        match usize::from(length).checked_sub(8).and_then(|length| built.payload.get(..length)) {
            Some(payload) => prop_assert_eq!(outer::udp(&frame).unwrap().payload, payload),
            None => prop_assert_eq!(outer::udp(&frame), Err(OuterError::BadUdpLength)),
        }
    }
}
