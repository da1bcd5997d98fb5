//! Writes a capture of UDP frames for load tests: `cargo run --release --example make_load -- FILE
//! LENGTH FRAMES [vxlan]`.
//!
//! All frames have LENGTH bytes; with `imix` in its place 7 of 12 have 64, 4 have 594 and 1 has
//! 1514. With `vxlan` each is wrapped as a mirror would send it, in VXLAN over IPv4.
//!
//! 64 inner flows take turns in trains of 16 frames, so that a replay of the file uses about as
//! many outer source ports and sends in batches.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation, clippy::print_stderr)]

use std::io::BufWriter;
use std::time::Duration;

use etherparse::PacketBuilder;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use vxtap::wire::{Vni, vxlan};

const FLOWS: u32 = 64;
const TRAIN: u32 = 16;
/// Lengths of the simple IMIX, by their share.
const IMIX: [usize; 12] = [64, 594, 64, 64, 594, 64, 1514, 64, 594, 64, 64, 594];
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 42;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (file, length, frames, wraps) = match args.as_slice() {
        [_, file, length, frames] => (file, length, frames, false),
        [_, file, length, frames, wrap] if wrap == "vxlan" => (file, length, frames, true),
        _ => {
            eprintln!("usage: make_load FILE LENGTH|imix FRAMES [vxlan]");
            std::process::exit(2);
        }
    };
    let lengths: Vec<usize> = match length.as_str() {
        "imix" => IMIX.to_vec(),
        length => vec![length.parse().unwrap()],
    };
    let mut writer = PcapWriter::new(BufWriter::new(std::fs::File::create(file).unwrap())).unwrap();
    let (mut frame, mut outer) = (Vec::new(), Vec::new());
    for i in 0..frames.parse::<u32>().unwrap() {
        let flow = i / TRAIN % FLOWS;
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, (flow >> 3) as u8, flow as u8], [10, 1, 0, 1], 64)
            .udp(1024 + flow as u16, 53);
        let payload = vec![0x5a; lengths[i as usize % lengths.len()].checked_sub(HEADERS).expect("at least 42 bytes")];
        frame.clear();
        builder.write(&mut frame, &payload).unwrap();
        if wraps {
            let port = 50_000 + flow as u16;
            let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4])
                .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 255)
                .udp(port, 4789);
            outer.clear();
            builder.write(&mut outer, &[&vxlan::header(Vni::new(7).unwrap())[..], &frame].concat()).unwrap();
            std::mem::swap(&mut frame, &mut outer);
        }
        let time = Duration::from_nanos(u64::from(i));
        writer.write_packet(&PcapPacket::new(time, frame.len() as u32, &frame).unwrap()).unwrap();
    }
}
