//! Packets are shown to the tables without an interface.

use super::seen::{MOST_ELSEWHERE, MOST_SESSIONS};
use super::*;
use crate::sys::packet::Packet;
use crate::wire::{Vni, VniMask, vxlan};

const HOST: [u8; 4] = [10, 0, 0, 2];

fn seen() -> Seen {
    let listen = vec!["[::]:4789".parse().unwrap()];
    Seen::new(Ours {
        listen,
        addresses: vec![HOST.into()],
        any_address: false,
        allowed: Allowed::default(),
        vni_mask: VniMask::ALL,
    })
}

fn show(seen: &mut Seen, bytes: &[u8], milliseconds: u64) {
    let packet = Packet { bytes, interface: 2, sent: false, to_others: false, timestamp: None };
    seen.packet(&packet, Duration::from_millis(milliseconds));
}

/// An IPv4 packet of UDP from this source to this port.
fn udp(source: u32, port: u16, payload: &[u8]) -> Vec<u8> {
    let total = (28 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(source.to_be_bytes());
    packet.extend(HOST);
    packet.extend(60_000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend((total - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// A frame of TCP between two hosts with an acknowledgement and 10 bytes of data.
fn tcp(from: u32, to: u32, id: u16, sequence: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0, 0, 50];
    frame.extend(id.to_be_bytes());
    frame.extend([0x40, 0, 64, 6, 0, 0]);
    frame.extend(from.to_be_bytes());
    frame.extend(to.to_be_bytes());
    frame.extend([0, 80, 0, 80]);
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
    frame.extend([7; 10]);
    frame
}

fn mirrored(source: u32, vni: u32, frame: &[u8]) -> Vec<u8> {
    udp(source, 4789, &[&vxlan::header(Vni::new(vni).unwrap()), frame].concat())
}

#[test]
fn tables_are_bounded_against_a_flood() {
    let mut seen = seen();
    for number in 0..70_000_u32 {
        let frame = tcp(number, 1, 1, 1);
        show(&mut seen, &mirrored(number % 5000, number % 5000, &frame), 0);
        let port = 10_000 + (number % 1000) as u16;
        show(&mut seen, &udp(number, port, &mirrored(1, 1, &frame)[28..]), 0);
        let mut first = mirrored(number, 1, &frame);
        first[4..8].copy_from_slice(&[(number >> 8) as u8, number as u8, 0x20, 0]);
        show(&mut seen, &first, 0);
    }
    for number in 0..70_000_u32 {
        show(&mut seen, &mirrored(0, 0, &tcp(number, 2, 1, 1)), 0);
    }
    assert_eq!((seen.sessions.len(), seen.elsewhere.len()), (MOST_SESSIONS, MOST_ELSEWHERE));
    assert_eq!((seen.flows.len(), seen.fragments.len()), (flows::MOST, fragments::MOST));
    assert!(seen.beyond > 0 && seen.packets == 280_000);
    seen.fragments.expire(Duration::from_secs(1));
    assert_eq!((seen.fragments.len(), seen.fragments.most().1.lost), (0, fragments::MOST as u64));
}

#[test]
fn any_bytes_are_looked_at() {
    let mut seen = seen();
    let whole = mirrored(1, 7, &tcp(1, 2, 3, 4));
    for length in 0..=whole.len() {
        show(&mut seen, &whole[..length], 0);
        let mut other = whole[..length].to_vec();
        for at in 0..length {
            other[at] ^= 0xff;
            show(&mut seen, &other, 0);
            other[at] ^= 0xff;
        }
    }
    assert!(seen.sessions.iter().any(|session| session.vni.get() == 7));
}

#[test]
fn what_is_for_others_is_ours_where_the_sensor_takes_it() {
    for any_address in [false, true] {
        let mut seen = seen();
        seen.ours.any_address = any_address;
        let mut datagram = mirrored(1, 7, &tcp(1, 2, 3, 4));
        datagram[19] = 99;
        show(&mut seen, &datagram, 0);
        let packet = Packet { bytes: &datagram, interface: 2, sent: false, to_others: true, timestamp: None };
        seen.packet(&packet, Duration::ZERO);
        let frames: u64 = seen.sessions.iter().map(|session| session.frames).sum();
        assert_eq!((frames, seen.of_others.len()), if any_address { (2, 0) } else { (0, 1) });
    }
}

#[test]
fn a_session_has_the_vni_that_the_mask_leaves() {
    let mut seen = seen();
    seen.ours.vni_mask = "0x0fffff".parse().unwrap();
    seen.ours.allowed = Allowed::new(Some([Vni::new(7).unwrap()].into_iter().collect()), None).unwrap();
    for (vni, id) in [(7, 1), (0x10_0007, 2), (0x80_0007, 3)] {
        show(&mut seen, &mirrored(1, vni, &tcp(1, 2, id, 1)), 0);
    }
    let sessions: Vec<_> = seen.sessions.iter().map(|one| (one.vni.get(), one.frames, one.let_in)).collect();
    assert_eq!(sessions, [(7, 3, true)]);
}

#[test]
fn what_drops_the_most_is_to_blame() {
    let mut seen = seen();
    for _ in 0..100 {
        show(&mut seen, &mirrored(1, 7, &tcp(1, 2, 3, 4)), 0);
    }
    let sockets = Sockets::default();
    let blamed = |reverse_path: u64| {
        let evidence = Evidence {
            seen: &seen,
            sessions: &[],
            counted: Counters { reverse_path, ..Counters::default() },
            sockets: [&sockets; 2],
            policy: &Policy::default(),
            interfaces: &HashMap::new(),
            missed: 0,
            seconds: 1.0,
        };
        judge(&evidence).iter().map(|finding| finding.name).find(|name| ["firewall", "rp_filter"].contains(name))
    };
    assert_eq!([0, 1, 50, 100].map(blamed), ["firewall", "firewall", "rp_filter", "rp_filter"].map(Some));
}

#[test]
fn order_is_told_from_sending_again_also_where_numbers_wrap() {
    let mut seen = seen();
    let numbers = [u32::MAX - 9, 0, 10, 20];
    let segment = |at: usize, id: u16| mirrored(1, 7, &tcp(1, 2, id, numbers[at]));
    // The identifications wrap too. One segment is overtaken, another is sent again.
    for packet in [segment(0, 65_534), segment(2, 1), segment(1, 65_535), segment(3, 2), segment(2, 3)] {
        show(&mut seen, &packet, 0);
    }
    let session = &seen.sessions[0];
    assert_eq!((session.segments, session.late, session.again), (5, 1, 0));
    // The same packet again is a copy, and soon after that alone.
    show(&mut seen, &segment(3, 2), 49);
    assert_eq!(seen.sessions[0].again, 1);
    show(&mut seen, &segment(3, 2), 500);
    assert_eq!(seen.sessions[0].again, 1);
    // A copy that comes late is none, and no disorder either.
    show(&mut seen, &segment(0, 65_534), 600);
    assert_eq!((seen.sessions[0].segments, seen.sessions[0].late, seen.sessions[0].again), (5, 1, 1));
}

#[test]
fn copies_are_told_by_all_of_a_packet_and_by_their_session() {
    let mut seen = seen();
    let long = |last: u8| {
        let mut frame = tcp(1, 2, 5, 1);
        frame[16..18].copy_from_slice(&560_u16.to_be_bytes());
        frame.extend([7; 510]);
        *frame.last_mut().unwrap() = last;
        frame
    };
    for (vni, last) in [(7, 1), (7, 2), (7, 1), (8, 1)] {
        show(&mut seen, &mirrored(1, vni, &long(last)), 0);
    }
    let again: Vec<_> = seen.sessions.iter().map(|session| (session.again, session.again_here)).collect();
    assert_eq!(again, [(1, 1), (1, 0)]);
}

#[test]
fn frames_that_are_cut_by_request_are_told_by_their_length() {
    let cut = |lengths: &[usize]| {
        let mut seen = seen();
        for (number, length) in lengths.iter().enumerate() {
            let mut frame = tcp(1, 2, number as u16, 1);
            frame[16..18].copy_from_slice(&1400_u16.to_be_bytes());
            frame.resize(*length, 7);
            show(&mut seen, &mirrored(1, 7, &frame), 0);
        }
        seen.sessions[0].is_cut_by_request()
    };
    assert!(cut(&[128; 10]));
    assert!(!cut(&[128; 9]) && !cut(&[1000; 10]) && !cut(&[[128; 10].as_slice(), &[129]].concat()));
}

#[test]
fn a_datagram_in_fragments_of_ipv6_is_whole_once_all_have_come() {
    let payload = [&vxlan::header(Vni::new(7).unwrap()), &tcp(1, 2, 3, 4)[..]].concat();
    let length = (8 + payload.len()) as u16;
    let datagram = [&60_000_u16.to_be_bytes()[..], &4789_u16.to_be_bytes(), &length.to_be_bytes(), &[0, 0], &payload];
    let datagram = datagram.concat();
    let fragment = |bytes: &[u8], offset: u16, more: bool| {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((8 + bytes.len() as u16).to_be_bytes());
        packet.extend([44, 64]);
        packet.extend([[0; 15].as_slice(), &[9], &[0; 15], &[1]].concat());
        packet.extend([17, 0]);
        packet.extend((offset | u16::from(more)).to_be_bytes());
        packet.extend([0, 0, 0, 5]);
        packet.extend(bytes);
        packet
    };
    let mut seen = seen();
    show(&mut seen, &fragment(&datagram[64..], 64, false), 0);
    assert_eq!((seen.fragments.most().1.whole, seen.sessions.len()), (0, 0));
    show(&mut seen, &fragment(&datagram[..64], 0, true), 1);
    assert_eq!((seen.fragments.most().1.whole, seen.fragments.len(), seen.sessions[0].fragmented), (1, 0, 1));
    assert_eq!(seen.sessions[0].frames, 1);
}
