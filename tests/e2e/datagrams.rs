//! Datagrams of our own making are sent from here, good and hostile.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use etherparse::PacketBuilder;
use pnet::datalink::{Channel, Config, channel};

use crate::netns::Namespace;
use crate::process::on_one_core;
use crate::replay::all_has_come_through;

/// Sends these payloads from a namespace, in order, and waits until they have come through.
pub(crate) fn send(namespace: &Namespace, to: SocketAddr, payloads: &[Vec<u8>]) {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = namespace.enter(|| UdpSocket::bind(any).unwrap());
    in_pieces(payloads, |payload| assert_eq!(socket.send_to(payload, to).unwrap(), payload.len()));
}

/// Sends each of these, in pieces that the queues between the hosts hold, from one core, so that
/// all arrive in this order. Waits until they have come through.
pub(crate) fn in_pieces(all: &[Vec<u8>], mut send: impl FnMut(&Vec<u8>) + Send) {
    on_one_core(|| {
        for piece in all.chunks(400) {
            piece.iter().for_each(&mut send);
            all_has_come_through();
        }
    });
}

/// A VXLAN header, these flags and reserved bytes included, and a frame.
pub(crate) fn vxlan(flags: u8, reserved: [u8; 3], vni: u32, last: u8, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let [x, y, z] = reserved;
    [&[flags, x, y, z, a, b, c, last], frame].concat()
}

/// An Ethernet frame with a UDP datagram without checksum from port `port` to 4789, and the tags
/// that are to be in it.
pub(crate) fn outer(ethernet: [u8; 6], tags: &[u8], [from, to]: [IpAddr; 2], port: u16, payload: &[u8]) -> Vec<u8> {
    let (kind, mut packet) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64).udp(port, 4789);
            ([8, 0], built(|bytes| builder.write(bytes, payload).unwrap()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let builder = PacketBuilder::ipv6(from.octets(), to.octets(), 64).udp(port, 4789);
            ([0x86, 0xdd], built(|bytes| builder.write(bytes, payload).unwrap()))
        }
        other => panic!("{other:?}"),
    };
    let checksum = packet.len() - payload.len() - 2;
    packet[checksum..checksum + 2].fill(0);
    [&ethernet, &[2, 0, 0, 0, 0x73, 1], tags, &kind, &packet].concat()
}

fn built(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

/// Splits an IPv4 packet on the cable into two fragments.
pub(crate) fn fragments(frame: &[u8], number: u16) -> [Vec<u8>; 2] {
    let at = 14 + 20 + 1480;
    let part = |payload: &[u8], offset: u16, more: u16| {
        let mut part = [&frame[..34], payload].concat();
        part[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        part[18..20].copy_from_slice(&number.to_be_bytes());
        part[20..22].copy_from_slice(&(more << 13 | offset).to_be_bytes());
        part[24..26].fill(0);
        let sum = part[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
        let folded = (sum & 0xffff) + (sum >> 16);
        part[24..26].copy_from_slice(&(!(((folded & 0xffff) + (folded >> 16)) as u16)).to_be_bytes());
        part
    };
    [part(&frame[34..at], 0, 1), part(&frame[at..], 1480 / 8, 0)]
}

/// Puts frames on the cable as they are, in order, and waits until they have come through.
pub(crate) fn send_frames(from: &Namespace, frames: &[Vec<u8>]) {
    let mut sender = from.enter(|| {
        let all = pnet::datalink::interfaces();
        let eth0 = all.iter().find(|interface| interface.name == "eth0").unwrap();
        let Ok(Channel::Ethernet(sender, _)) = channel(eth0, Config::default()) else { panic!("no socket") };
        sender
    });
    in_pieces(frames, |frame| sender.send_to(frame, None).unwrap().unwrap());
}
