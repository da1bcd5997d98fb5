//! Packets are read by `wire`, which lends views of them and never fails otherwise than with a
//! reason.

use std::net::{IpAddr, Ipv6Addr};

use clap::ValueEnum;

use crate::replay::Wrap;
use crate::route::slice::{Layer, Slice};
use crate::wire::captured::{Framing, Other, Ports, Refused, piece, unwrap, unwrap_whole};
use crate::wire::layers::{Fragment, Ip, Layers, protocol};
use crate::wire::{Decapsulated, DropReason, Encapsulation, LinkType, Vni, bare, flow, inner, outer, vxlan};

/// The framings, by the first byte of an input.
pub(super) const FRAMINGS: [Framing; 5] =
    [Framing::Ethernet, Framing::Ip, Framing::Cooked, Framing::Cooked2, Framing::Null];

/// Returns where `part` begins within `whole`.
fn place(part: &[u8], whole: &[u8]) -> usize {
    let range = whole.as_ptr_range();
    let part = part.as_ptr_range();
    assert!(range.start <= part.start && part.end <= range.end, "a view lies within what it is of");
    part.start as usize - range.start as usize
}

/// What was taken out of a payload is a view of it with lengths that make sense, and a bare packet
/// gets a header.
fn is_sound(payload: &[u8], found: &Decapsulated<'_>) {
    place(found.frame, payload);
    assert!(found.arrived as usize >= found.frame.len() && found.original >= found.arrived);
    assert!(found.frame.len() >= if found.bare.is_some() { 4 } else { 14 });
    let mut room = vec![0; 14 + found.frame.len()];
    let dressed = bare::dress(found, Ipv6Addr::LOCALHOST, &mut room);
    assert!(dressed.frame.ends_with(found.frame) && dressed.bare.is_none());
}

/// A byte that chooses the framing, and a captured outer frame.
pub(super) fn frames(data: &[u8]) {
    let Some((kind, frame)) = data.split_first() else { return };
    let (framing, ports) = (FRAMINGS[usize::from(*kind) % FRAMINGS.len()], Ports::default());
    if let Some(piece) = piece(framing, frame) {
        place(piece.bytes, frame);
        if let Ok(whole) = unwrap_whole((piece.source, piece.protocol), piece.bytes, &ports) {
            is_sound(piece.bytes, &whole.inner);
        }
    }
    if framing == Framing::Ethernet {
        the_other_way_agrees(frame, &ports);
    }
    let (mut framing, mut frame) = (framing, frame);
    while let Ok(found) = unwrap(framing, frame, &ports) {
        is_sound(frame, &found.inner);
        assert!(found.inner.frame.len() < frame.len(), "it ends");
        framing = if found.inner.bare.is_some() { Framing::Ip } else { Framing::Ethernet };
        frame = found.inner.frame;
    }
}

/// A datagram that is whole is read by two walks, one of which is made for the usual frame.
fn the_other_way_agrees(frame: &[u8], ports: &Ports) {
    let Ok(udp) = outer::udp(frame) else { return };
    place(udp.payload, frame);
    let found = unwrap(Framing::Ethernet, frame, ports);
    let Some(encapsulation) = ports.encapsulation(udp.destination_port) else {
        assert_eq!(found, Err(Refused::Other(Other::NoTunnel)));
        return;
    };
    let wanted = encapsulation.decapsulate(udp.payload, udp.payload.len());
    if encapsulation == Encapsulation::Vxlan && wanted.is_ok_and(|inner| inner.reserved_bits) {
        // It may be VXLAN-GPE.
        return;
    }
    let encapsulation = encapsulation.named_in(udp.payload);
    let found = found.map(|found| (found.port, found.length, found.inner));
    let wanted = wanted.map(|inner| (udp.destination_port, udp.payload.len(), inner));
    assert_eq!(found, wanted.map_err(|reason| Refused::Drop(encapsulation, reason)));
}

/// A byte that chooses the encapsulation, two with how many bytes were not kept, and a payload.
pub(super) fn tunnels(data: &[u8]) {
    let Some(([kind, more @ ..], payload)) = data.split_first_chunk::<3>() else { return };
    let encapsulation = Encapsulation::ALL[usize::from(*kind) % Encapsulation::ALL.len()];
    let more = usize::from(u16::from_le_bytes(*more));
    let found = encapsulation.decapsulate(payload, payload.len());
    let longer = encapsulation.decapsulate(payload, payload.len() + more);
    if !(found.is_ok_and(|found| may_be_mirrored(&found)) && longer == Err(DropReason::ShortTunnelHeader)) {
        assert_eq!(found.map(|inner| inner.frame), longer.map(|inner| inner.frame), "what was kept decides");
    }
    if let (Ok(found), Ok(longer)) = (found, longer) {
        is_sound(payload, &found);
        is_sound(payload, &longer);
        let end = place(found.frame, payload) + found.frame.len();
        assert!(end == payload.len() || found.source.is_some(), "but in two wraps, the frame is all of the rest");
        assert!(longer.arrived >= found.arrived && longer.original >= longer.arrived);
        if found.encapsulation == Encapsulation::Vxlan && !found.reserved_bits && found.source.is_none() {
            assert_eq!([&vxlan::header(found.vni), found.frame].concat(), payload, "the header is the only one");
        }
    }
    wrapping_is_undone(payload);
}

/// Says whether a packet through an endpoint ends before it tells whether it is a mirror's. Where
/// more of it was on the wire, nobody knows.
fn may_be_mirrored(found: &Decapsulated<'_>) -> bool {
    let ip = Layers::of_ip(found.frame).ip;
    let ends = ip.is_none_or(|ip| ip.protocol == protocol::UDP && ip.segment(found.frame).len() < 6);
    found.encapsulation == Encapsulation::Geneve && found.bare.is_some() && found.scope.is_some() && ends
}

/// What this program sends is taken off again.
fn wrapping_is_undone(frame: &[u8]) {
    // A sender gets whole frames, and no longer ones than fit into a datagram.
    if !(14..60_000).contains(&frame.len()) {
        return;
    }
    let vni = Vni::new(0x01_02_03).expect("24 bits");
    for wrap in Wrap::value_variants() {
        let Some((header, wrapped)) = wrap.wrap(vni, 7, frame) else { continue };
        let payload = [header.as_ref(), wrapped].concat();
        let encapsulation = Encapsulation::of_port(wrap.port()).expect("a port of a mirror");
        let found = encapsulation.decapsulate(&payload, payload.len());
        // Of a bare packet, Google's mirror says what it is, and so it is looked at.
        let Ok(found) = found else {
            assert!(matches!(wrap, Wrap::Gcp), "{wrap:?}: {found:?}");
            continue;
        };
        assert_eq!(found.frame, wrapped, "{wrap:?}");
    }
}

/// An inner frame.
pub(super) fn layers(frame: &[u8]) {
    let layers = Layers::of(frame, LinkType::Ethernet);
    for (frame, layers) in [(frame, layers), (frame, Layers::of_ip(frame))] {
        if let Some(ip) = layers.ip {
            assert!(layers.network < ip.transport && ip.transport <= ip.payload && ip.transport <= ip.end);
            assert!(ip.segment(frame).len() <= frame.len());
            if let Some(place) = ip.place(frame, layers.network) {
                assert_eq!(place.offset == 0 && place.is_last, ip.fragment == Fragment::Whole);
            }
        }
    }
    let slices = [Layer::L2, Layer::L3, Layer::L4].map(|layer| Slice { layer, more: 0 }.keep(&layers));
    assert!(slices.is_sorted());
    let length = inner::original_length(frame) as usize;
    assert!(length >= frame.len());
    if let Some(packet) = inner::ip_packet(frame) {
        place(packet, frame);
    }
    let _ = (inner::is_runt_tagged(frame), inner::addresses(frame));
    if let Some(ip) = layers.ip {
        both_directions_are_one_flow(frame, layers.network, &ip);
    }
}

/// The answer of a packet has the hash of the packet.
fn both_directions_are_one_flow(frame: &[u8], network: usize, ip: &Ip) {
    let mut answer = frame.to_vec();
    let (addresses, length) = if ip.source.is_ipv4() { (network + 12, 4) } else { (network + 8, 16) };
    let mut swap = |at: usize, length: usize| {
        let (first, second) = answer[at..at + 2 * length].split_at_mut(length);
        first.swap_with_slice(second);
    };
    swap(addresses, length);
    if ip.ports.is_some() {
        swap(ip.transport, 2);
    }
    let layers = Layers::of(&answer, LinkType::Ethernet);
    let back = layers.ip.expect("a packet still");
    assert_eq!((back.source, back.destination), (ip.destination, ip.source));
    assert_eq!(back.ports, ip.ports.map(|[source, destination]| [destination, source]));
    assert_eq!(flow::symmetric_hash(&answer), flow::symmetric_hash(frame));
    let hosts = |frame: &[u8], layers: &Layers| flow::hosts_hash(frame, layers);
    let about = hosts(frame, &Layers::of(frame, LinkType::Ethernet));
    assert_eq!(hosts(&answer, &layers), about);
    let is_v4 = |address: IpAddr| address.is_ipv4();
    assert_eq!(is_v4(ip.source), is_v4(ip.destination));
}
