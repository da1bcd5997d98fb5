use proptest::collection::vec;
use proptest::prelude::*;

use super::super::vxlan;
use super::*;

const FRAME: [u8; 20] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x06, 1, 2, 3, 4, 5, 6];

/// Makes an outer frame without its link layer: IP, UDP to 4789, VXLAN with VNI 7, a frame.
fn packet(v6: bool) -> Vec<u8> {
    let vxlan = [&vxlan::header(super::super::Vni::new(7).unwrap())[..], &FRAME].concat();
    let length = (8 + vxlan.len()) as u16;
    let udp = [&[0xff, 0x80, 0x12, 0xb5][..], &length.to_be_bytes(), &[0, 0], &vxlan].concat();
    let ip = if v6 {
        let [a, b] = length.to_be_bytes();
        [&[0x60, 0, 0, 0, a, b, 17, 64][..], &[0xfd; 16], &[0xfe; 16]].concat()
    } else {
        let [a, b] = (20 + length).to_be_bytes();
        vec![0x45, 0, a, b, 0, 9, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]
    };
    [ip, udp].concat()
}

fn ethernet(v6: bool) -> Vec<u8> {
    let ethertype: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
    [&[2; 12][..], &ethertype, &packet(v6)].concat()
}

#[test]
fn each_framing_leads_to_the_same_frame() {
    let ports = Ports::default();
    for v6 in [false, true] {
        let ethertype = if v6 { [0x86, 0xdd] } else { [8, 0] };
        let cooked = [&[0; 14][..], &ethertype, &packet(v6)].concat();
        let cooked2 = [&ethertype[..], &[0; 18], &packet(v6)].concat();
        let null = [&[2, 0, 0, 0][..], &packet(v6)].concat();
        let tagged = [&[2; 12][..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2], &ethertype, &packet(v6)].concat();
        for (number, bytes) in
            [(1, ethernet(v6)), (1, tagged), (101, packet(v6)), (113, cooked), (276, cooked2), (0, null)]
        {
            let found = unwrap(Framing::of(number).unwrap(), &bytes, &ports).unwrap();
            assert_eq!((found.inner.frame, found.inner.vni.get(), found.port), (&FRAME[..], 7, 4789), "{number}");
            let source = if v6 { Ipv6Addr::from([0xfd; 16]) } else { "::ffff:192.0.2.1".parse().unwrap() };
            assert_eq!((found.source, found.length), (source, 28));
            assert_eq!(
                unwrap(Framing::of(number).unwrap(), &bytes[..9], &ports).unwrap_err(),
                Refused::Other(Other::CutShort)
            );
        }
    }
    assert_eq!(Framing::of(105), None, "802.11");
}

#[test]
fn a_port_decides_and_can_be_added() {
    let mut frame = ethernet(false);
    frame[36..38].copy_from_slice(&5000u16.to_be_bytes());
    let mut ports = Ports::default();
    assert_eq!(unwrap(Framing::Ethernet, &frame, &ports), Err(Refused::Other(Other::NoTunnel)));
    ports.add(5000, Encapsulation::Vxlan);
    assert_eq!(unwrap(Framing::Ethernet, &frame, &ports).unwrap().port, 5000);
}

#[test]
fn what_the_capture_kept_of_a_frame_is_a_frame() {
    let ports = Ports::default();
    for v6 in [false, true] {
        let whole = ethernet(v6);
        let headers = whole.len() - FRAME.len();
        for length in 0..whole.len() {
            match unwrap(Framing::Ethernet, &whole[..length], &ports) {
                Ok(found) => {
                    assert!(length >= headers + 14);
                    assert_eq!((found.inner.frame, found.inner.arrived), (&FRAME[..length - headers], 20));
                }
                Err(Refused::Outer(OuterError::CutShort)) => assert!(length < headers + 14),
                Err(other) => {
                    assert_eq!(other, Refused::Other(Other::CutShort));
                    assert!(length < headers - 8, "{length}");
                }
            }
        }
    }
}

#[test]
fn fragments_are_pieces_and_those_of_others_are_none_of_ours() {
    let ports = Ports::default();
    let mut first = ethernet(false);
    first[20] = 0x20;
    assert_eq!(unwrap(Framing::Ethernet, &first, &ports), Err(Refused::Outer(OuterError::OuterFragment)));
    let found = piece(Framing::Ethernet, &first).unwrap();
    assert_eq!((found.id, found.offset, found.more, found.ports), (9, 0, true, Some([0xff80, 4789])));
    assert_eq!(found.bytes, &first[34..]);
    assert_eq!(piece(Framing::Ethernet, &first[..40]), None, "cut");
    assert_eq!(piece(Framing::Ethernet, &ethernet(false)), None, "whole");
    let mut later = first.clone();
    later[20..22].copy_from_slice(&[0, 0xb9]);
    assert_eq!(unwrap(Framing::Ethernet, &later, &ports), Err(Refused::Outer(OuterError::OuterFragment)));
    let found = piece(Framing::Ethernet, &later).unwrap();
    assert_eq!((found.offset, found.more, found.ports), (185 * 8, false, None));
    first[36..38].copy_from_slice(&53u16.to_be_bytes());
    assert_eq!(unwrap(Framing::Ethernet, &first, &ports), Err(Refused::Other(Other::NoTunnel)));

    let mut v6 = ethernet(true);
    v6.splice(54..54, [17, 0, 0x05, 0xc9, 0, 0, 1, 2]);
    v6[20] = 44;
    v6[19] += 8;
    let found = piece(Framing::Ethernet, &v6).unwrap();
    assert_eq!((found.id, found.offset, found.more, found.protocol), (258, 185 * 8, true, 17));
    assert_eq!(found.bytes, &v6[62..]);
    // Options behind the fragment header of the first: its place is not where it is looked for.
    v6[54..62].copy_from_slice(&[60, 0, 0, 1, 0, 0, 1, 2]);
    v6.splice(62..62, [17, 0, 1, 4, 0, 0, 0, 0]);
    v6[19] += 8;
    assert_eq!(unwrap(Framing::Ethernet, &v6, &ports), Err(Refused::Outer(OuterError::OuterFragment)));
    assert_eq!(piece(Framing::Ethernet, &v6), None);
}

#[test]
fn tags_are_stepped_over_behind_any_link_layer() {
    let ports = Ports::default();
    let tagged = |packet: &[u8]| [&[0; 14][..], &[0x81, 0, 0, 5, 8, 0], packet].concat();
    let gre = [0x45, 0, 0, 44, 0, 9, 0, 0, 64, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 0, 0, 0x65, 0x58];
    for packet in [packet(false), [&gre[..], &FRAME].concat()] {
        let found = tagged(&packet);
        assert_eq!(unwrap(Framing::Cooked, &found, &ports).unwrap().inner.frame, FRAME);
        let mut first = packet;
        first[6] = 0x20;
        let first = tagged(&first);
        assert_eq!(unwrap(Framing::Cooked, &first, &ports), Err(Refused::Outer(OuterError::OuterFragment)));
        assert_eq!(piece(Framing::Cooked, &first).unwrap().bytes, &first[40..]);
    }
}

#[test]
fn gre_needs_no_port() {
    let ports = Ports::default();
    let gre = [&[0, 0, 0x65, 0x58][..], &FRAME].concat();
    let length = 20 + gre.len() as u8;
    let ip = [0x45, 0, 0, length, 0, 9, 0, 0, 64, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    let mut packet = [&ip[..], &gre, &[0xaa; 9]].concat();
    let found = unwrap(Framing::Ip, &packet, &ports).unwrap();
    assert_eq!((found.inner.frame, found.port, found.length), (&FRAME[..], 0, gre.len()));
    assert_eq!(found.inner.encapsulation, Encapsulation::Gre);
    let found = unwrap(Framing::Ip, &packet[..40], &ports).unwrap();
    assert_eq!((found.inner.frame, found.inner.arrived), (&FRAME[..16], 20), "as far as it was kept");
    assert_eq!(unwrap(Framing::Ip, &packet[..30], &ports), Err(Refused::Outer(OuterError::CutShort)));
    packet[6] = 0x20;
    assert_eq!(unwrap(Framing::Ip, &packet, &ports), Err(Refused::Outer(OuterError::OuterFragment)));
    let piece = piece(Framing::Ip, &packet).unwrap();
    assert_eq!((piece.protocol, piece.bytes), (47, &gre[..]));
    let whole = unwrap_whole((piece.source, piece.protocol), piece.bytes, &ports).unwrap();
    assert_eq!(whole.inner.frame, FRAME);
}

#[test]
fn a_datagram_put_together_is_one() {
    let source = IpAddr::from([192, 0, 2, 1]);
    let datagram = packet(false).split_off(20);
    let found = unwrap_whole((source, 17), &datagram, &Ports::default()).unwrap();
    assert_eq!((found.inner.frame, found.length), (&FRAME[..], 28));
    for length in 0..datagram.len() {
        assert!(unwrap_whole((source, 17), &datagram[..length], &Ports::default()).is_err());
    }
}

#[test]
fn what_is_not_of_a_mirror_is_told_from_what_is_broken() {
    let ports = Ports::default();
    let refused = |change: fn(&mut Vec<u8>)| {
        let mut frame = ethernet(false);
        change(&mut frame);
        unwrap(Framing::Ethernet, &frame, &ports).unwrap_err()
    };
    assert_eq!(refused(|f| f[13] = 6), Refused::Other(Other::NotIp));
    assert_eq!(refused(|f| f[23] = 6), Refused::Other(Other::NotUdp));
    assert_eq!(refused(|f| f[14] = 0x44), Refused::Other(Other::BadIpHeader));
    assert_eq!(refused(|f| f[39] = 7), Refused::Outer(OuterError::BadUdpLength));
    assert_eq!(refused(|f| f[39] = 200), Refused::Outer(OuterError::BadUdpLength));
    assert_eq!(refused(|f| f[42] = 0), Refused::Drop(Encapsulation::Vxlan, DropReason::VniFlagClear));
}

proptest! {
    /// Whatever the bytes, the same is found as by the strict parser of whole frames.
    #[test]
    fn the_short_way_and_the_long_way_agree(
        v6: bool, cut in 0usize..120, changes in vec((0usize..70, any::<u8>()), 0..4), tags in 0usize..3, noise in vec(any::<u8>(), 0..120), led: bool,
        is_gre: bool,
    ) {
        let mut frame = if led { ethernet(v6) } else { noise };
        let protocol = if is_gre && led && !v6 { Some((23, protocol::GRE)) } else { None };
        for (at, value) in changes.into_iter().chain(protocol) {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        for _ in 0..tags.min(frame.len() / 12) {
            frame.splice(12..12, [0x81, 0, 0, 1]);
        }
        frame.truncate(frame.len().saturating_sub(cut / 2).max(1));
        let ports = Ports::default();
        let found = unwrap(Framing::Ethernet, &frame, &ports);
        match outer::udp(&frame) {
            Ok(udp) if ports.encapsulation(udp.destination_port).is_none() => {
                prop_assert_eq!(found, Err(Refused::Other(Other::NoTunnel)));
            }
            Ok(udp) => {
                let encapsulation = ports.encapsulation(udp.destination_port).unwrap();
                let is_gpe = udp.payload.first().is_some_and(|flags| encapsulation == Encapsulation::Vxlan && flags & 0x04 != 0);
                match (encapsulation.decapsulate(udp.payload, udp.payload.len()), found) {
                    (Ok(_), _) if is_gpe => {}
                    (Ok(inner), Ok(found)) => {
                        prop_assert_eq!((inner, address::of(udp.source)), (found.inner, found.source));
                    }
                    (Err(reason), found) => {
                        prop_assert_eq!(found, Err(Refused::Drop(encapsulation.named_in(udp.payload), reason)));
                    }
                    (Ok(_), found) => prop_assert!(false, "{:?}", found),
                }
            }
            // What was kept of a frame can be enough.
            Err(OuterError::CutShort | OuterError::NotUdp) => {}
            Err(_) => prop_assert!(found.is_err()),
        }
        let carried = carried(Framing::Ethernet, &frame, &ports);
        prop_assert_eq!(carried, carried_anyhow(Framing::Ethernet, &frame, &ports));
        prop_assert_eq!(found, unwrap_any(Framing::Ethernet, &frame, &ports), "what most frames are has a way of its own");
        for framing in [Framing::Ip, Framing::Cooked, Framing::Cooked2, Framing::Null] {
            let _ = (unwrap(framing, &frame, &ports), piece(framing, &frame));
        }
        let _ = (piece(Framing::Ethernet, &frame), unwrap_whole((IpAddr::from([0; 4]), v6.into()), &frame, &ports));
    }
}
